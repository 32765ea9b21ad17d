"""The page's drawing in headless Chromium, with mouse, fingers and keyboard: against NumPy and MNIST."""

import assignment
import numpy as np
import pytest
from browser import draw, find, mouse, open_page, touch
from conftest import needs_mnist
from page import (
    ONE,
    SEVEN,
    centre_of_mass,
    errors,
    image,
    is_enabled,
    needs_browser,
    next_frame,
    set_strokes,
    shown_pixels,
    stroke_count,
    text,
)

pytest_plugins = ["page"]
pytestmark = needs_browser


def sampled(strokes, n=16):
    """Strokes as 28 x 28 pixels, each the share of n x n points that are within 1.2 pixels of a line; then centred."""

    def render(strokes):
        grid = (np.arange(28 * n) + 0.5) / n
        points = np.stack(np.meshgrid(grid, grid), axis=-1)
        inked = np.zeros(points.shape[:2], bool)
        for stroke in strokes:
            for a, b in zip(stroke, np.concatenate([stroke[1:], stroke[-1:]])):
                along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-9), 0, 1)
                inked |= np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1) < 1.2
        return inked.reshape(28, n, 28, n).mean(axis=(1, 3))

    strokes = [np.array(stroke, float) for stroke in strokes]
    low, high = np.min(np.concatenate(strokes), axis=0), np.max(np.concatenate(strokes), axis=0)
    scale = min(17.6 / max(high - low), 1) if (high > low).any() else 1
    strokes = [(stroke - (low + high) / 2) * scale + 14 for stroke in strokes]
    return render([stroke + 14 - np.array(centre_of_mass(render(strokes))) for stroke in strokes])


def test_strokes_become_the_pixels_that_numpy_samples(browser):
    ell = [[[84, 56], [84, 224], [196, 224]]]  # most of it is below and to the left
    for strokes in (ONE, SEVEN, ell, [[[20, 140], [260, 150]]], [*ONE, [[150, 90]]], [[[200, 40]]]):
        set_strokes(browser, strokes)
        pixels, expected = shown_pixels(browser)[0, 0], sampled(strokes)
        assert np.abs(pixels - expected).mean() < 0.004 and np.abs(pixels - expected).max() < 0.3
        np.testing.assert_allclose(centre_of_mass(pixels), 14, atol=0.1)
        np.testing.assert_allclose(image(browser, "#view-cvae .input"), pixels, atol=0.6 / 255)


@needs_mnist
def test_a_drawn_one_is_as_high_as_wide_and_as_centred_as_mnist_s(browser):
    """Against MNIST's upright ones: height, ink by height, which is the width of the stroke, and centre of mass."""
    data = assignment.load_data()
    set_strokes(browser, ONE)

    def statistics(image):
        rows, columns = (np.flatnonzero(image.max(axis=axis) > 0.5) for axis in (1, 0))
        height = np.ptp(rows) + 1
        return np.ptp(columns) + 1, (height, image.sum() / height, *centre_of_mass(image))

    ones = [statistics(image) for image in data.x_test[data.y_test == 1] / 255]
    low, high = np.quantile([values for width, values in ones if width <= 6], [0.1, 0.9], axis=0)
    _, drawn = statistics(shown_pixels(browser)[0, 0])
    row = np.array([1, 0, 0, 0])  # the drawing may stand between two rows
    assert ((low - row <= drawn) & (drawn <= high + row)).all(), (low, drawn, high)


def test_a_one_is_read_as_a_one_where_a_canvas_is_answered_with_noise(chromium, page):
    noise = (
        "CanvasRenderingContext2D.prototype.getImageData = (x, y, width, height) => new ImageData("
        "Uint8ClampedArray.from({length: 4 * width * height}, () => 256 * Math.random()), width, height)"
    )
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": noise})
    open_page(chromium, page[0])
    chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert image(chromium, "#view-cvae .input").std() > 0.2  # the noise is there
    draw(chromium, [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7)])
    assert text(chromium, "#drawn").startswith("It looks like a 1.")


# --------------------------------------------------------------------------------------------------- pointers and keys


def test_a_second_finger_does_not_join_the_stroke(phone):
    touch(phone, "touchStart", (0.3, 0.3))
    touch(phone, "touchMove", (0.3, 0.4))
    touch(phone, "touchStart", (0.3, 0.4), (0.9, 0.9))
    touch(phone, "touchMove", (0.3, 0.5), (0.9, 0.8))
    touch(phone, "touchMove", (0.3, 0.6), (0.8, 0.8))
    touch(phone, "touchEnd")
    strokes = phone.execute_script("return strokes")
    assert len(strokes) == 1 and len(strokes[0]) >= 3
    assert all(abs(x - 0.3 * 280) < 3 and y < 0.65 * 280 for x, y in strokes[0])
    touch(phone, "touchStart", (0.7, 0.3))  # the next stroke is a new one
    touch(phone, "touchEnd")
    assert stroke_count(phone) == 2


def test_a_finger_at_rest_opens_no_menu_and_keeps_its_stroke(phone):
    """A headless Chromium sends no menu event for a long press, so the test does; others then cancel the pointer."""
    touch(phone, "touchStart", (0.3, 0.3))
    touch(phone, "touchMove", (0.3, 0.5))
    for element in ("drawing", "pad"):
        opened, style = phone.execute_script(
            "const element = document.getElementById(arguments[0]), style = getComputedStyle(element); return ["
            "element.dispatchEvent(new MouseEvent('contextmenu', {bubbles: true, cancelable: true})), "
            "[style.userSelect, style.touchAction]]",
            element,
        )
        assert not opened and style == ["none", "none"]
    touch(phone, "touchMove", (0.3, 0.7))
    touch(phone, "touchEnd")
    (stroke,) = phone.execute_script("return strokes")
    np.testing.assert_allclose(np.array(stroke)[[0, -1]], [[84, 84], [84, 196]], atol=3)


def test_a_cancelled_stroke_is_taken_back(phone):
    find(phone, "#clear")[0].click()
    touch(phone, "touchStart", (0.3, 0.3))
    touch(phone, "touchMove", (0.3, 0.6))
    assert stroke_count(phone) == 1
    touch(phone, "touchCancel")
    assert stroke_count(phone) == 0
    assert text(phone, "#drawn") == "Nothing drawn."


def test_the_primary_button_alone_draws(browser):
    for button in ("right", "middle"):
        for kind in ("mousePressed", "mouseMoved", "mouseReleased"):
            mouse(browser, kind, 0.2, 0.3, button)
    assert text(browser, "#drawn").startswith("An example.")


@pytest.mark.parametrize("coalesced", [True, False])
def test_several_movements_are_shown_once_with_all_their_points(browser, coalesced):
    """Three events at once, made by the test; each says that the pointer was at two places, where the browser tells."""
    mouse(browser, "mousePressed", 0.5, 0.2)
    next_frame(browser)
    browser.execute_script(
        "window.updates = 0; const update = toPixels; toPixels = strokes => { updates++; return update(strokes); };"
        "const box = drawing.getBoundingClientRect();"
        "for (const y of [0.4, 0.6, 0.8]) {"
        "  const clientX = box.x + box.width / 2;"
        "  const at = y => ({pointerId: 1, buttons: 1, clientX, clientY: box.y + y * box.height});"
        "  const coalescedEvents = [y - 0.1, y].map(y => new PointerEvent('pointermove', at(y)));"
        "  const event = new PointerEvent('pointermove', {...at(y), coalescedEvents});"
        "  if (!arguments[0]) event.getCoalescedEvents = undefined;"
        "  drawing.dispatchEvent(event);"
        "}",
        coalesced,
    )
    next_frame(browser)
    (stroke,) = browser.execute_script("return strokes")
    expected = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] if coalesced else [0.2, 0.4, 0.6, 0.8]
    np.testing.assert_allclose(stroke, [[140, 280 * y] for y in expected], atol=1)
    assert browser.execute_script("return updates") == 1
    mouse(browser, "mouseReleased", 0.5, 0.8)


def test_keys_draw(browser):
    """A step is 10 of 280 pixels: 12 steps down and 6 to the right are an L twice as high as wide."""
    from selenium.webdriver.common.keys import Keys

    find(browser, "#drawing")[0].send_keys(
        " ", *[Keys.ARROW_DOWN] * 12, *[Keys.ARROW_RIGHT] * 6, " ", *[Keys.ARROW_UP] * 3
    )
    (stroke,) = browser.execute_script("return strokes")
    assert stroke[0] == [140, 140] and stroke[-1] == [200, 260] and len(stroke) == 1 + 12 + 6
    find(browser, "#styles button")[0].click()
    find(browser, "#drawing")[0].send_keys(Keys.ARROW_UP)  # the pen is lifted: nothing is drawn, and z stays
    next_frame(browser)
    assert text(browser, "#source").startswith("A random style") and browser.execute_script("return pen") == [200, 220]


@pytest.mark.parametrize("modifier", ["CONTROL", "META"])
def test_ctrl_z_and_cmd_z_take_back_a_stroke_but_not_a_slider_s(browser, modifier):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def undo():
        key = getattr(Keys, modifier)
        ActionChains(browser, duration=10).key_down(key).send_keys("z").key_up(key).perform()

    set_strokes(browser, [*ONE, *SEVEN])
    browser.execute_script("sliders[0].focus()")
    undo()
    assert stroke_count(browser) == 2
    browser.execute_script("document.activeElement.blur()")
    undo()
    assert browser.execute_script("return strokes") == ONE
    find(browser, "#drawing")[0].send_keys("z")
    assert stroke_count(browser) == 1


FIRE = """
const fire = (type, x, y, more) => {
  const box = drawing.getBoundingClientRect();
  const at = {clientX: box.x + x * box.width, clientY: box.y + y * box.height};
  drawing.dispatchEvent(new PointerEvent(type, {pointerId: 99, isPrimary: true, buttons: 1, ...at, ...more}));
};
"""


def test_whatever_the_events_of_a_pointer_leave_out_the_next_strokes_draw(browser):
    faults = [
        "fire('pointerdown', 0.2, 0.2); fire('pointerup', 0.2, 0.2)",  # the browser knows no such pointer
        "fire('pointerdown', 0.2, 0.2); fire('pointermove', 0.2, 0.8)",  # and no end
        "fire('pointerdown', 0.2, 0.2, {isPrimary: false, pointerType: 'touch'})",
        "drawing.setPointerCapture = () => { throw new DOMException('gone', 'NotFoundError'); }",
    ]
    for fault in faults:
        browser.execute_script(FIRE + fault)
        before = stroke_count(browser)
        for x in (0.5, 0.7):
            draw(browser, [(x, 0.2), (x, 0.8)])
        strokes = browser.execute_script("return strokes")
        assert len(strokes) == before + 2, fault
        for stroke, x in zip(strokes[-2:], (140, 196)):
            np.testing.assert_allclose(np.array(stroke)[[0, -1]], [[x, 56], [x, 224]], atol=2)
    assert errors(browser) == []


def test_a_stroke_whose_end_is_never_told_is_followed_by_a_new_one_of_the_same_mouse(browser):
    find(browser, "#clear")[0].click()
    for x in (0.3, 0.7):
        mouse(browser, "mousePressed", x, 0.2)
        mouse(browser, "mouseMoved", x, 0.8)
        next_frame(browser)
        browser.execute_script("drawing.addEventListener('pointerup', event => event.stopImmediatePropagation(), true)")
        mouse(browser, "mouseReleased", x, 0.8)
    strokes = browser.execute_script("return strokes")
    np.testing.assert_allclose(strokes, [[[84, 56], [84, 224]], [[196, 56], [196, 224]]], atol=1)


def test_what_is_outside_the_box_is_not_drawn_and_not_read(browser):
    """A stroke that leaves the box ends at its edge, and begins there anew where it comes back."""
    mouse(browser, "mousePressed", 0.5, 0.5)
    mouse(browser, "mouseMoved", 0.7, 0.9)
    mouse(browser, "mouseMoved", 0.9, 1.3)  # it leaves at 0.75, 1
    mouse(browser, "mouseMoved", 0.9, 1.2)
    mouse(browser, "mouseMoved", 1.2, 0.5)
    mouse(browser, "mouseMoved", 0.8, 0.5)  # it comes back at 1, 0.5
    mouse(browser, "mouseReleased", 0.8, 0.5)
    out, back = browser.execute_script("return strokes")
    np.testing.assert_allclose(out, [[140, 140], [196, 252], [210, 280]], atol=1)
    np.testing.assert_allclose(back, [[280, 140], [224, 140]], atol=1)
    set_strokes(browser, [[*SEVEN[0], [112, 900]]])
    far = shown_pixels(browser)
    set_strokes(browser, [[*SEVEN[0], [112, 280]]])
    np.testing.assert_array_equal(far, shown_pixels(browser))
    find(browser, "#undo")[0].click()
    assert stroke_count(browser) == 0


def test_a_long_scribble_keeps_the_points_that_add_something_and_is_read(browser):
    browser.execute_script(
        "const at = i => [140 + 90 * Math.cos(i / 500), 140 + 90 * Math.sin(i / 500)];"
        "startStroke(at(0)); for (let i = 1; i < 130000; i++) extendStroke(at(i)); finishDrawing();"
    )
    points = np.array(browser.execute_script("return strokes[0]"))
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert len(points) < 130_000 * 90 / 500 + 2 and steps.min() >= 1
    assert np.abs(np.linalg.norm(points - 140, axis=1) - 90).max() < 1e-6
    seconds = browser.execute_script(
        "strokes = [Array.from({length: 130000}, (_, i) => [140 + 90 * Math.cos(i), 140 + 90 * Math.sin(i / 7)])];"
        "const start = performance.now(); toPixels(strokes); return (performance.now() - start) / 1000"
    )
    assert seconds < 5


def test_the_pen_of_the_keyboard_is_seen_before_its_first_key(browser):
    from selenium.webdriver.common.keys import Keys

    pen = find(browser, "#pen")[0]
    assert not pen.is_displayed()
    find(browser, "#kinds input")[0].send_keys(Keys.TAB)
    assert browser.execute_script("return document.activeElement === drawing") and pen.is_displayed()


def test_undo_and_redo_are_the_letters_z_and_y_or_their_places_on_other_alphabets_keyboards(browser):
    press = (
        "const options = {ctrlKey: true, bubbles: true, cancelable: true, ...arguments[0]};"
        "const event = new KeyboardEvent('keydown', options);"
        "document.body.dispatchEvent(event); return [strokes.length, event.defaultPrevented]"
    )
    set_strokes(browser, [*ONE, *SEVEN, *ONE])
    assert browser.execute_script(press, {"key": "y", "code": "KeyZ"}) == [3, True]  # a German keyboard's redo
    assert browser.execute_script(press, {"key": "я", "code": "KeyZ"}) == [2, True]  # Russian
    assert browser.execute_script(press, {"key": "z", "code": "KeyW"}) == [1, True]  # French
    assert browser.execute_script(press, {"key": "я", "code": "KeyZ", "shiftKey": True}) == [2, True]  # redo
    assert browser.execute_script(press, {"key": "н", "code": "KeyY"}) == [3, True]  # redo
    assert browser.execute_script(press, {"key": "y", "code": "KeyY", "shiftKey": True}) == [3, False]


def test_redo_brings_back_what_undo_took_until_something_else_is_drawn(browser):
    set_strokes(browser, [*ONE, *SEVEN])
    for _ in range(2):
        find(browser, "#undo")[0].click()
    assert stroke_count(browser) == 0 and is_enabled(browser, "#redo")
    find(browser, "#redo")[0].click()
    assert browser.execute_script("return strokes") == ONE
    find(browser, "#redo")[0].click()
    assert browser.execute_script("return strokes") == [*ONE, *SEVEN] and not is_enabled(browser, "#redo")
    find(browser, "#undo")[0].click()
    draw(browser, [(0.2, 0.2), (0.2, 0.8)])
    assert stroke_count(browser) == 2 and not is_enabled(browser, "#redo")


def test_the_pen_of_the_keyboard_and_the_focus_are_shown_after_a_key_and_not_after_a_stroke_of_the_mouse(browser):
    from selenium.webdriver.common.keys import Keys

    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    drawing, pen = find(browser, "#drawing")[0], find(browser, "#pen")[0]
    assert browser.execute_script("return document.activeElement === drawing") and not pen.is_displayed()
    assert drawing.value_of_css_property("outline-style") == "none"
    drawing.send_keys(Keys.ARROW_UP)
    assert pen.is_displayed() and drawing.value_of_css_property("outline-style") == "solid"

"""The page for screen readers, at every size, in every scheme of colours, and on paper, in headless Chromium."""

import base64
import re
import zlib

import numpy as np
import pytest
from browser import draw, find, mouse, resize
from page import (
    SEVEN,
    USABLE,
    WATCH_LIVE_REGIONS,
    WATCH_TABS,
    a,
    emulate,
    is_enabled,
    needs_browser,
    next_frame,
    nodes,
    screenshot,
    set_strokes,
    text,
)

pytest_plugins = ["page"]
pytestmark = needs_browser


# ------------------------------------------------------------------------------------------------------ screen readers


def test_a_screen_reader_passes_keys_to_the_drawing_and_everything_has_a_name(browser):
    find(browser, "#zero")[0].click()
    next_frame(browser)
    found = [node for node in nodes(browser) if node[0] in USABLE]
    assert len(found) > 40 and [node for node in found if not node[1]] == []
    described = {name: description for role, name, description in found if role == "application"}
    assert described.keys() == {"Your digit", "Map of handwriting styles"}
    assert "Pen up, 50 across, 50 down." in described["Your digit"] and "arrow keys" in described["Your digit"]
    assert "0.0 right, 0.0 up." in described["Map of handwriting styles"]


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser, duration=0).send_keys(*keys).perform()


def said(browser):
    """What was put into live regions since the last call."""
    next_frame(browser)
    return browser.execute_script("return said.splice(0)")


def test_a_screen_reader_says_the_answer_once_after_a_stroke_undo_redo_and_clear(browser):
    browser.execute_script(WATCH_LIVE_REGIONS)
    mouse(browser, "mousePressed", 0.5, 0.2)
    for y in (0.4, 0.6, 0.8):
        mouse(browser, "mouseMoved", 0.5, y)
        next_frame(browser)
    assert said(browser) == []
    mouse(browser, "mouseReleased", 0.5, 0.8)
    (answer,) = said(browser)
    assert answer.startswith(("It looks like ", "This does not")) and answer == text(browser, "#drawn")
    for button in ("undo", "redo", "clear"):
        find(browser, f"#{button}")[0].click()
        assert said(browser) == [text(browser, "#drawn")]
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])  # the same answer is said again
    assert said(browser) == [answer, answer]


def test_arrow_keys_on_a_slider_say_nothing_more_than_its_value_and_on_the_map_both_coordinates(browser):
    from selenium.webdriver.common.keys import Keys

    find(browser, "#zero")[0].click()
    next_frame(browser)
    browser.execute_script(WATCH_LIVE_REGIONS)
    slider = "sliders[0].focus()"
    browser.execute_script(slider)
    press(browser, Keys.ARROW_RIGHT)
    assert said(browser) == []
    assert browser.execute_script("return sliders.slice(0, 2).map(s => s.getAttribute('aria-valuetext'))") == [
        "0.1",
        "0.0",
    ]
    browser.execute_script("byId('unused').open = true")  # in so short a training any latent may stay inactive
    assert {"z 1", "z 2"} < {name for role, name, _ in nodes(browser) if role == "slider"}
    find(browser, "#zero")[0].click()
    browser.execute_script("byId('pad').focus()")
    for key, sentence in ((Keys.ARROW_UP, "0.0 right, 0.2 up."), (Keys.ARROW_LEFT, "0.2 left, 0.2 up.")):
        press(browser, key)
        assert said(browser) == [sentence]


def test_two_seconds_of_play_say_nothing(browser):
    browser.execute_script(WATCH_LIVE_REGIONS)
    find(browser, "#play")[0].click()
    before = browser.execute_script("return byId('mix').value")
    browser.execute_async_script("setTimeout(arguments[0], 2000)")
    assert browser.execute_script("return byId('mix').value") != before
    assert said(browser) == []


def test_nothing_is_written_that_has_not_changed(browser):
    next_frame(browser)
    count = browser.execute_async_script(
        "const done = arguments[0]; let count = 0;"
        "new MutationObserver(records => { count += records.length; })"
        "  .observe(document.body, {childList: true, characterData: true, attributes: true, subtree: true});"
        "showDrawing(); showDrawing(); setTimeout(() => done(count))"
    )
    assert count == 0


def test_the_drawing_says_whether_the_pen_is_down_and_where(browser):
    from selenium.webdriver.common.keys import Keys

    browser.execute_script(WATCH_LIVE_REGIONS + "drawing.focus()")
    for key, sentence in (
        (Keys.ARROW_LEFT, "Pen up, 46 across, 50 down."),
        (" ", "Pen down, 46 across, 50 down."),
        (Keys.ARROW_DOWN, "Pen down, 46 across, 54 down."),
    ):
        press(browser, key)
        assert said(browser) == [sentence]
        assert sentence in next(found[2] for found in nodes(browser) if found[1] == "Your digit")
    press(browser, " ")
    assert said(browser) == [text(browser, "#drawn")]


def test_the_radios_of_the_digits_say_what_they_are_for_and_how_well_their_digit_fits(browser):
    set_strokes(browser, SEVEN)
    names = [name for role, name, _ in nodes(browser) if role == "radio"][2:]
    fits = [number.text for number in find(browser, "#digits .reading")]
    assert names[:10] == [f"{d}, fit {fit} of 100: encode as {a(d)}" for d, fit in enumerate(fits)]
    assert names[10] == "best fit: encode as the digit that fits best"


def test_the_focus_stays_on_a_button_that_disables_itself(browser):
    from selenium.webdriver.common.keys import Keys

    set_strokes(browser, SEVEN)
    browser.execute_script("earlier = [[]]; showStrokes()")
    for button in ("undo", "redo", "clear"):
        browser.execute_script("byId(arguments[0]).focus()", button)
        press(browser, Keys.ENTER)
        assert not is_enabled(browser, f"#{button}")
        assert browser.execute_script("return document.activeElement.id") == button
    press(browser, Keys.ENTER)  # does nothing
    assert browser.execute_script("return earlier.length") == 2
    set_strokes(browser, SEVEN)
    find(browser, "#zero")[0].click()
    next_frame(browser)
    browser.execute_script("byId('back').focus()")
    press(browser, Keys.ENTER)
    next_frame(browser)
    assert not is_enabled(browser, "#back") and browser.execute_script("return document.activeElement.id") == "back"


def test_a_slider_that_is_dragged_keeps_its_range_until_it_is_let_go(browser):
    browser.execute_script("setZ(withLatent(0, 4)); sliders[0].scrollIntoView({block: 'center'})")
    next_frame(browser)
    x, y, width = browser.execute_script(
        "const box = sliders[0].getBoundingClientRect(); return [box.x, box.y + box.height / 2, box.width]"
    )

    def mouse(kind, x):
        event = {"type": kind, "button": "left", "buttons": 1, "clickCount": 1, "x": x, "y": y}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        next_frame(browser)

    mouse("mousePressed", x + width - 8)
    for share in (0.1, 0.2, 0.3):
        mouse("mouseMoved", x + width - 8 - share * (width - 16))
        assert browser.execute_script("return z[0]") == pytest.approx(4 - 8 * share, abs=0.1)
    mouse("mouseReleased", x + width - 8 - 0.3 * (width - 16))
    browser.execute_script("showZ()")
    assert browser.execute_script("return Number(sliders[0].max)") == 3


# -------------------------------------------------------------------------------------------------- widths and colours


@pytest.mark.parametrize("width", [360, 320])
def test_a_small_screen_shows_the_whole_width_and_bars_that_can_be_seen(browser, width):
    resize(browser, width, 780)
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')]"
        ".filter(e => e.getBoundingClientRect().right > arguments[0] + 0.5).map(e => e.outerHTML)",
        width,
    )
    assert outside == [] and browser.execute_script("return document.documentElement.scrollWidth") == width
    assert browser.execute_script("return Math.min(...bars.map(bar => bar.parentElement.offsetWidth))") >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_person_s_scheme(browser, scheme):
    emulate(browser, prefers_color_scheme=scheme)
    colours = browser.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    text, ground = (np.mean([int(part) for part in colour[4:-1].split(",")]) for colour in colours)
    assert (text > 200 > 60 > ground) if scheme == "dark" else (text < 60 < 200 < ground)
    emulate(browser)


def luminance(colour):
    """The relative luminance of "#rrggbb", as WCAG 2 defines it."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_seen_on_page_and_cards(browser, scheme):
    """A contrast of 3 for the border of a radio and for bars, 4.5 for text: WCAG 2.2."""
    emulate(browser, prefers_color_scheme=scheme)
    names = ["--page", "--card", "--grey", "--accent", "--text", "--soft"]
    colours = browser.execute_script(
        "const style = getComputedStyle(document.documentElement);"
        "return arguments[0].map(name => style.getPropertyValue(name).trim())",
        names,
    )
    emulate(browser)
    full = [f"#{''.join(2 * c for c in colour[1:])}" if len(colour) == 4 else colour for colour in colours]
    page, card, *marks = [luminance(colour) for colour in full]
    for ground in (page, card):
        contrasts = [(max(ground, mark) + 0.05) / (min(ground, mark) + 0.05) for mark in marks]
        assert min(contrasts[:2]) >= 3 and min(contrasts[2:]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_leave_bars_pad_drawing_and_chosen_images_to_be_seen(browser, scheme):
    emulate(browser, forced_colors="active", prefers_color_scheme=scheme)
    find(browser, "#zero")[0].click()  # the dot is in the middle
    find(browser, "#images button")[3].click()
    next_frame(browser)

    def differ(a, b):
        return np.abs(a - b).max() > 60

    find(browser, "#show-points")[0].click()  # nothing but the dot on the map
    pad = screenshot(browser, "#pad")
    middle = len(pad) // 2
    ground, dot = pad[20, 20], pad[middle + 3, middle + 3]
    across = pad[middle - 2 : middle + 3, 20]  # one pixel of it is the line
    down = pad[20, middle - 2 : middle + 3]
    assert differ(across, ground) and differ(down, ground) and differ(dot, ground)
    browser.execute_script("bars.forEach((bar, d) => { bar.style.width = `${50 * (d === 0)}%`; })")
    bar = screenshot(browser, ".bar")
    row = len(bar) // 2
    assert differ(bar[row, 10], bar[row, -10]) and differ(bar[0, -20], bar[row, -10])  # half full; its border
    drawing = screenshot(browser, "#drawing").min(axis=2)
    assert 0.05 < np.mean(drawing > 200) < 0.3 and np.mean(drawing < 60) > 0.6
    images = screenshot(browser, "#shown")
    left, top = browser.execute_script(
        "const [card, image] = ['#shown', '#images'].map(s => document.querySelector(s).getBoundingClientRect());"
        "return [image.x - card.x, image.y - card.y]"
    )
    width = find(browser, "#images button")[0].size["width"] + 6
    frames = [images[int(top) - 4 : int(top), int(left + i * width) :][:, : int(width) - 6] for i in (3, 4)]
    assert [np.ptp(frame) > 60 for frame in frames] == [True, False]
    emulate(browser)


def test_what_is_pressed_on_a_phone_is_24_pixels_high_and_wide(phone):
    phone.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    small = phone.execute_script(
        "return [...document.querySelectorAll('main button, main input, main summary, #drawing, #pad')]"
        ".map(e => [e.outerHTML, e.getBoundingClientRect()]).filter(([_, b]) => b.width || b.height)"
        ".filter(([_, b]) => b.width < 24 || b.height < 24)"
    )
    assert small == []


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_the_drawing_comes_first_with_its_answer_and_the_ten_images_in_sight(browser, size):
    resize(browser, *size)
    order = ["#drawing", "#drawn", "#images"]
    boxes = [find(browser, selector)[0].rect for selector in order]
    ends = [box["y"] + box["height"] for box in boxes]
    assert max(ends) <= size[1]
    drawing, drawn, images = boxes
    beside = drawn["x"] >= drawing["x"] + drawing["width"] and drawn["y"] < ends[0]
    assert beside == (size[0] > 640) and ends[1] <= images["y"] and ends[0] <= images["y"]
    assert all(find(browser, selector)[0].is_displayed() for selector in ("#marked", "#source", "#save"))


@pytest.mark.parametrize("size", [(360, 780), (1280, 720)])
@pytest.mark.parametrize("selector", ["#drawing", "#pad", "#styles", "#latents"])
def test_the_images_stay_in_sight_while_one_draws_or_moves_z(browser, size, selector):
    """Below the drawing, and above map, random styles and sliders."""
    resize(browser, *size)
    element = find(browser, selector)[0]
    if selector == "#drawing":
        browser.execute_script("scrollTo(0, 0)")
    else:
        browser.execute_script("scrollBy(0, arguments[0].getBoundingClientRect().bottom - innerHeight)", element)
    boxes = browser.execute_script(
        "return ['images', arguments[0]].map(i => document.getElementById(i).getBoundingClientRect())"
        ".map(b => [b.top, b.bottom])",
        selector[1:],
    )
    upper, lower = sorted(boxes)
    # Scrolling is by whole pixels
    assert upper[0] >= 0 and upper[1] <= lower[0] and lower[1] < size[1] + 1, boxes
    visible = browser.execute_script(
        "const b = document.querySelector('#images canvas').getBoundingClientRect(); "
        "return document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2).closest('#images') !== null"
    )
    assert visible


@pytest.mark.parametrize("size", [(341, 152), (320, 256), (568, 320), (390, 844), (1280, 720)])
def test_what_has_the_focus_is_seen_at_every_size(browser, size):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    resize(browser, *size)
    browser.execute_script(WATCH_TABS)
    actions = ActionChains(browser, duration=0).send_keys(*[Keys.TAB] * 60)
    actions.key_down(Keys.SHIFT).send_keys(*[Keys.TAB] * 60).key_up(Keys.SHIFT).perform()
    hidden, count = browser.execute_script("return [hiddenStops, stops.size]")
    assert hidden == [] and count > 40  # the exact count depends on the active latents


def printed_colours(browser, selector):
    """The colours (red, green, blue), from 0 to 255, that a printed page of some elements is filled with.

    Backgrounds are left out, as is usual in print.
    """
    rule = f"body * {{ visibility: hidden; }} :is({selector}) {{ visibility: visible; }}"
    browser.execute_script("style.textContent = arguments[0]", rule)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    streams = re.findall(rb"stream\r?\n(x.*?)endstream", pdf, re.S)
    contents = b"".join(zlib.decompressobj().decompress(stream) for stream in streams)
    return {tuple(round(255 * float(part)) for part in fill.split()) for fill in re.findall(rb"([\d. ]+) rg", contents)}


def test_on_paper_the_drawing_the_bars_and_the_dot_are_seen_in_the_colours_for_white(browser):
    accent, grey, line = (0x0B, 0x62, 0xD6), (0x6E, 0x77, 0x81), (0xD0, 0xD7, 0xDE)
    browser.execute_script("window.style = document.createElement('style'); document.head.append(style)")
    emulate(browser, prefers_color_scheme="dark")
    assert {accent, grey, line} <= printed_colours(browser, ".bar, .bar *")
    emulate(browser)
    assert {accent, grey, line} <= printed_colours(browser, ".bar, .bar *")
    assert (0, 0, 0) in printed_colours(browser, "#drawing")
    assert accent in printed_colours(browser, "#dot") and accent in printed_colours(browser, ".predicted span")

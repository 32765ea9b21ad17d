"""The page in headless Firefox, in what differs between browsers: forced colours, saved pictures, sliders, focus."""

import io
import time

import numpy as np
import pytest
from firefox import FIREFOX, Firefox
from page import WATCH_LIVE_REGIONS, WATCH_TABS

pytest_plugins = ["page"]
pytestmark = pytest.mark.skipif(not FIREFOX, reason="there is no Firefox")
TAB, SHIFT, ENTER, RIGHT = "\ue004", "\ue008", "\ue007", "\ue014"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """The folder of what Firefox saves."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def firefox(tmp_path_factory, downloads):
    """A Firefox whose person has chosen black on white, and answers of noise to pages that read a canvas."""
    browser = Firefox(
        tmp_path_factory.mktemp("firefox"),
        **{
            "browser.display.document_color_use": 2,
            "ui.useAccessibilityTheme": 1,
            "ui.systemUsesDarkTheme": 0,
            "privacy.resistFingerprinting": True,
            "browser.download.folderList": 2,
            "browser.download.dir": str(downloads),
            "browser.download.start_downloads_in_tmp_dir": False,
        },
    )
    yield browser
    browser.quit()


def wait_for_previews(firefox):
    """Waits until all is painted."""
    deadline = time.monotonic() + 30
    while not firefox.run("return groups.every(group => group.drawn === group.key())"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def opened(firefox, page):
    """The page, freshly opened, 1000 pixels wide."""
    firefox.open(page[0])
    return firefox


def picture(png):
    from PIL import Image  # matplotlib's

    return np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)


def test_forced_colours_leave_the_ink_the_bars_and_the_dot_to_be_seen(opened):
    assert opened.run("return matchMedia('(forced-colors: active)').matches")
    opened.run("finishDrawing(); byId('pad').classList.remove('with-points'); setZ(z.map(() => 0))")
    opened.next_frame()

    def shown(selector):
        box = opened.run(
            "const element = document.querySelector(arguments[0]); element.scrollIntoView({block: 'center'});"
            "const {x, y, width, height} = element.getBoundingClientRect(); return [x, y, x + width, y + height]",
            selector,
        )
        left, top, right, bottom = np.round(box).astype(int)
        return picture(opened.screenshot())[top:bottom, left:right]

    drawing = shown("#drawing")
    assert 0.05 < np.mean(drawing > 200) < 0.3 and np.mean(drawing < 60) > 0.6  # white ink on black
    bar = shown(".predicted .bar")
    assert np.ptp(bar[len(bar) // 2, 10:-10]) > 60
    pad = shown("#pad")
    middle = len(pad) // 2
    assert abs(pad[middle + 3, middle + 3] - pad[20, 20]) > 60
    assert np.ptp(shown(".images .predicted span")) > 60 and np.ptp(shown(".terms")[5, 5:-5]) > 60


def test_the_answer_alone_is_spoken_after_a_stroke(opened):
    opened.run(WATCH_LIVE_REGIONS)
    x, y, size = opened.run("const box = drawing.getBoundingClientRect(); return [box.x, box.y, box.width]")
    opened.mouse((x + 0.5 * size, y + 0.2 * size), "down", (x + 0.5 * size, y + 0.8 * size), "up")
    opened.next_frame()
    assert opened.run("return said") == [opened.run("return byId('drawn').textContent")]
    opened.run("byId('undo').focus()")
    opened.keys(ENTER)
    said, focused = opened.run("return [said, document.activeElement.id]")
    assert len(said) == 2 and said[1].startswith("An example.") and focused == "undo"


def test_a_slider_that_is_dragged_keeps_its_range(opened):
    opened.run("setZ(withLatent(0, 4)); sliders[0].scrollIntoView({block: 'center'})")
    opened.next_frame()
    x, y, width = opened.run(
        "const box = sliders[0].getBoundingClientRect(); return [box.x, box.y + box.height / 2, box.width]"
    )
    right = x + width - 8
    opened.mouse((right, y), "down")
    for share in (0.1, 0.2, 0.3):
        opened.mouse((right - share * (width - 16), y))
        opened.next_frame()
        assert opened.run("return z[0]") == pytest.approx(4 - 8 * share, abs=0.25)
    opened.mouse("up")
    opened.run("sliders[0].focus()")
    opened.keys(RIGHT)
    assert opened.run("return sliders[0].getAttribute('aria-valuetext').length") == 3


def test_strokes_after_the_page_was_left_in_the_middle_of_one_are_drawn(opened, tmp_path):
    """Firefox keeps the page in memory: it comes back as it was left."""
    (tmp_path / "other.html").write_text("another page")
    opened.run("clearDrawing()")
    left, top, size = opened.run("const box = drawing.getBoundingClientRect(); return [box.x, box.y, box.width]")

    def at(x, y):
        return left + x * size, top + y * size

    opened.mouse(at(0.2, 0.2), "down", at(0.2, 0.6))
    opened("WebDriver:Navigate", url=(tmp_path / "other.html").as_uri())
    opened("WebDriver:Back")
    opened.mouse("up")
    for x in (0.5, 0.8):
        opened.mouse(at(x, 0.2), "down", at(x, 0.5), at(x, 0.8), "up")
        opened.next_frame()
    strokes = opened.run("return strokes.map(stroke => [stroke[0], stroke[stroke.length - 1]])")
    expected = [[at(x, y) for y in ends] for x, ends in ((0.2, (0.2, 0.6)), (0.5, (0.2, 0.8)), (0.8, (0.2, 0.8)))]
    np.testing.assert_allclose(strokes, 280 * (np.array(expected) - [left, top]) / size, atol=1.5)


@pytest.mark.parametrize("size", [(568, 320), (500, 844), (1280, 720)])  # no window of Firefox is narrower
def test_what_has_the_focus_is_seen(opened, page, size):
    opened.open(page[0], *size)
    wait_for_previews(opened)
    opened.run(WATCH_TABS)
    hidden = []
    for held in ((), (SHIFT,)):
        for _ in range(60):
            opened.keys(TAB, held=held)
            if opened.run("return isHidden(document.activeElement)"):
                opened.next_frame()  # Firefox may put scrolling off to the next frame
                hidden += opened.run(
                    "return isHidden(document.activeElement) ? [document.activeElement.outerHTML] : []"
                )
    assert not any(hidden) and opened.run("return stops.size") > 40  # the exact count depends on the active latents


def test_a_saved_picture_is_the_drawing_and_the_number_where_a_canvas_is_answered_with_noise(opened, downloads):
    expected = np.reshape(opened.run("return Array.from(picture().pixels)"), (28, -1))
    read = opened.run(
        "const line = byId('line'); return Array.from(line.getContext('2d').getImageData(0, 0, line.width, 28).data)"
    )
    answered = np.reshape(read, (28, -1, 4))[..., 0] / 255
    assert np.abs(answered - expected[:, -answered.shape[1] :]).max() > 0.5  # the noise is there
    opened.run("byId('save').click()")
    path = downloads / "handwriting.png"
    deadline = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    saved = picture(path.read_bytes()) / 255
    np.testing.assert_allclose(saved[2::4, 2::4], expected, atol=1.1 / 255)

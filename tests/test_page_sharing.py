"""What a person can send of the page, in headless Chromium: a number in a handwriting, its picture, and a link."""

import numpy as np
import pytest
from browser import draw, find, resize, wait_until
from page import (
    ONE,
    SEVEN,
    WATCH_LIVE_REGIONS,
    decoded,
    digits,
    errors,
    image,
    needs_browser,
    next_frame,
    set_slider,
    set_strokes,
    stroke_count,
    text,
)

pytest_plugins = ["page"]
pytestmark = needs_browser


# --------------------------------------------------------------------------------------------- the number, and the link


def write_number(browser, number):
    browser.execute_script("const n = byId('number'); n.value = arguments[0]; n.oninput()", number)


def line(browser):
    """The pixels (28, width) of the number."""
    data, width = browser.execute_script(
        "const line = byId('line'); "
        "return [Array.from(line.getContext('2d').getImageData(0, 0, line.width, 28).data), line.width]"
    )
    return np.reshape(data, (28, width, 4))[..., 0] / 255


def inked(pixels):
    """An image without the empty columns at its sides, and two empty ones after it."""
    columns = np.flatnonzero(pixels.max(axis=0) > 0.2)
    return np.pad(pixels[:, columns[0] : columns[-1] + 1], ((0, 0), (0, 2)))


def test_a_number_is_written_in_the_handwriting_that_is_shown(browser):
    images = digits(browser)
    write_number(browser, "70x 7")
    gap = np.zeros((28, 2))
    space = np.zeros((28, 8))
    expected = np.concatenate([gap, inked(images[7]), inked(images[0]), space, inked(images[7])], axis=1)
    np.testing.assert_allclose(line(browser), expected, atol=1.1 / 255)
    set_strokes(browser, ONE)
    assert line(browser).shape != expected.shape or np.abs(line(browser) - expected).max() > 0.1
    write_number(browser, ".")
    rows, columns = np.nonzero(line(browser) > 0.5)
    assert rows.min() >= 20 and np.ptp(columns) < 4
    write_number(browser, " ")
    assert not find(browser, "#line")[0].is_displayed()
    find(browser, "#kinds input")[1].click()
    assert not find(browser, "#number")[0].is_displayed()


def test_what_cannot_be_written_of_a_number_is_said_once(browser):
    browser.execute_script(WATCH_LIVE_REGIONS)
    left_out = "Left out: x % (only digits, spaces and . , : - + / = ( ) can be written)."
    too_long = "Only the first 24 characters are written."
    for number, note in (("12", ""), ("12x%", left_out), ("12x%3", left_out), ("7" * 25, too_long), ("7" * 24, "")):
        write_number(browser, number)
        assert text(browser, "#number-note") == note
    assert browser.execute_script("return said.filter(text => text)") == [left_out, too_long]
    widths = []
    for number in ("7" * 24, "7" * 30, "x" + "7" * 24):
        write_number(browser, number)
        widths.append(line(browser).shape[1])
    assert widths[0] == widths[1] == widths[2] > 24 * 5


def test_what_was_said_of_a_number_goes_with_it(browser):
    find(browser, "#save")[0].click()
    find(browser, "#copy")[0].click()
    wait_until(browser, lambda: text(browser, "#copied"))
    assert find(browser, "#saved")[0].is_displayed()
    find(browser, "#number")[0].send_keys("0")
    assert not find(browser, "#saved")[0].is_displayed() and text(browser, "#copied") == ""


@pytest.mark.parametrize("number", ["12", ""])
def test_drawing_and_number_or_else_the_ten_images_can_be_saved_as_a_png(browser, tmp_path, number):
    from PIL import Image

    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    write_number(browser, number)
    written = line(browser) if number else np.concatenate(list(digits(browser)), axis=1)
    drawing = image(browser, "#view-cvae .input")
    find(browser, "#save")[0].click()
    path = tmp_path / "handwriting.png"
    wait_until(browser, path.exists)
    saved = np.asarray(Image.open(path).convert("L")) / 255
    assert saved.shape == (112, 4 * (28 + 5 + written.shape[1]))
    np.testing.assert_allclose(saved[2::4, 2::4][:, :28], drawing, atol=1.1 / 255)
    np.testing.assert_allclose(saved[2::4, 2::4][:, 33:], written, atol=1.1 / 255)
    assert find(browser, "#saved img")[0].size["width"] > 100  # where a download is forbidden, it can be copied
    browser.execute_script("strokes = []; finishDrawing()")
    assert browser.execute_script("return picture().width") == (line(browser).shape[1] if number else 280)


def test_in_a_frame_without_downloads_the_picture_and_the_link_are_shown(browser, page):
    (page[0].parent / "frame.html").write_text(
        '<iframe sandbox="allow-scripts" src="explore.html" width="900"></iframe>'
    )
    browser.get((page[0].parent / "frame.html").as_uri())
    browser.switch_to.frame(find(browser, "iframe")[0])
    wait_until(browser, lambda: find(browser, "#images button"))
    browser.execute_script("byId('save').click(); byId('copy').click()")
    wait_until(browser, lambda: "explore.html#model=cvae" in text(browser, "#copied"))
    assert browser.execute_script("return document.querySelector('#saved img').naturalHeight") == 112
    browser.switch_to.default_content()
    browser.get_log("browser")


def test_a_link_shows_model_digit_z_and_number_again(browser, page):
    set_slider(browser, "sliders[0]", 1.25)
    write_number(browser, "24.12.")
    set_strokes(browser, SEVEN)
    find(browser, "#styles button")[2].click()
    next_frame(browser)
    find(browser, "#copy")[0].click()
    wait_until(browser, lambda: text(browser, "#copied"))
    z, digit, link = browser.execute_script("return [z, digit, location.href]")
    browser.get("about:blank")
    browser.get(link)
    next_frame(browser)
    np.testing.assert_allclose(browser.execute_script("return z"), z, atol=0.001)
    assert browser.execute_script("return [kind, digit, byId('number').value]") == ["cvae", digit, "24.12."]
    np.testing.assert_allclose(digits(browser), decoded(page[1]["cvae"], z), atol=25 / 255)
    assert text(browser, "#source") == "The style of the link." and stroke_count(browser) == 0
    find(browser, "#reset")[0].click()
    assert text(browser, "#drawn").startswith("An example.") and "#" not in browser.current_url
    assert browser.execute_script("return byId('number').value") == "3.14159"
    assert errors(browser) == []


def test_a_link_says_that_it_holds_no_drawing_and_goes_with_the_first_stroke(browser):
    z = "_".join(["0.5"] * 15)
    browser.execute_script(f"location.hash = 'model=cvae&digit=3&z={z}&number='")
    said = "This link holds a style, not a drawing. Draw a digit to see your own."
    wait_until(browser, lambda: text(browser, "#drawn") == said)
    hidden = [find(browser, selector)[0] for selector in ("#made", "#digits", "#wrong")]
    assert not any(element.is_displayed() for element in hidden) and "#model" in browser.current_url
    resize(browser, 390, 844)
    browser.execute_script("scrollTo(0, 0)")
    drawn, images = (find(browser, selector)[0].rect for selector in ("#drawn", "#images"))
    assert drawn["y"] + drawn["height"] <= images["y"] <= 844 - images["height"]  # the images are not on the sentence
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    assert all(element.is_displayed() for element in hidden) and "#" not in browser.current_url
    browser.refresh()
    assert text(browser, "#drawn").startswith("An example.")


def test_a_link_that_does_not_fit_shows_the_example(browser, page):
    zeros = "_".join(["0"] * 15)
    for link in (
        "#",
        "#model=cvae&digit=3&z=1_2",
        "#model=toString&digit=3&z=1",
        "#model=vae&digit=0&z=" + zeros.replace("0", "x"),
        "#model=vae&digit=0&z=" + zeros.replace("0", "1e9"),
        "#model=cvae&digit=12&z=" + zeros,
    ):
        browser.execute_script("history.replaceState(null, '', arguments[0])", link)
        assert browser.execute_script("return readLink()") is None
    browser.refresh()
    assert text(browser, "#drawn").startswith("An example.") and errors(browser) == []


def test_a_link_opens_in_the_page_that_is_open(browser):
    z = "_".join(["0.5"] * 15)
    browser.execute_script(f"location.hash = 'model=vae&digit=0&z={z}&number='")
    wait_until(browser, lambda: browser.execute_script("return kind") == "vae")
    next_frame(browser)
    assert browser.execute_script("return z") == [0.5] * 15 and not find(browser, "#digits")[0].is_displayed()

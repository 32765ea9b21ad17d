"""The page for screen readers, at every size, in every scheme of colours, and on paper, in headless Chromium."""

import base64
import re
import zlib

import numpy as np
import pytest
from browser import find, mouse, resize
from page import USABLE, emulate, needs_browser, next_frame, nodes, screenshot, text

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


def test_a_screen_reader_speaks_after_a_stroke_and_not_during_it(browser):
    assert find(browser, "#status")[0].get_attribute("role") == "status"
    assert browser.execute_script("return byId('drawn').closest('[role=status], [aria-live]')") is None
    before = find(browser, "#status")[0].get_attribute("textContent")
    mouse(browser, "mousePressed", 0.5, 0.2)
    for y in (0.4, 0.6, 0.8):
        mouse(browser, "mouseMoved", 0.5, y)
        next_frame(browser)
    assert find(browser, "#status")[0].get_attribute("textContent") == before
    mouse(browser, "mouseReleased", 0.5, 0.8)
    said = find(browser, "#status")[0].get_attribute("textContent")
    assert said.startswith(("It looks like ", "This does not")) and said == text(browser, "#drawn")


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


def test_what_is_pressed_on_a_telephone_is_24_pixels_high_and_wide(telephone):
    telephone.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    small = telephone.execute_script(
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


@pytest.mark.parametrize("selector", ["#drawing", "#latents"])
def test_on_a_telephone_the_images_stay_in_sight_while_one_draws_or_moves_a_slider(telephone, selector):
    """Below the drawing, and above the sliders."""
    element = find(telephone, selector)[0]
    if selector == "#drawing":
        telephone.execute_script("scrollTo(0, 0)")
    else:
        telephone.execute_script("scrollBy(0, arguments[0].getBoundingClientRect().bottom - innerHeight)", element)
    boxes = telephone.execute_script(
        "return ['images', arguments[0]].map(i => document.getElementById(i).getBoundingClientRect())"
        ".map(b => [b.top, b.bottom])",
        selector[1:],
    )
    upper, lower = sorted(boxes)
    assert upper[0] >= 0 and upper[1] <= lower[0] and lower[1] <= 780.5, boxes
    visible = telephone.execute_script(
        "const b = document.querySelector('#images canvas').getBoundingClientRect(); "
        "return document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2).closest('#images') !== null"
    )
    assert visible


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

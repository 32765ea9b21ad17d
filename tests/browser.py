"""A headless Chromium for the tests of the page.

By hand, `python tests/browser.py` prints how long the page takes to show a movement of the pointer, draws a 5
on `outputs/explore.html` and writes what is then seen to `outputs/explore.png`. With pages as arguments, it times those
alone.
"""

import math
import pathlib
import shutil

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"
FIVE = [
    (0.68, 0.18),
    (0.42, 0.21),
    (0.37, 0.46),
    *((0.48 + 0.2 * math.cos(t), 0.61 + 0.2 * math.sin(t)) for t in (-2.1 + 0.175 * i for i in range(27))),
]


def open_chromium(profile):
    """A browser with an empty profile in the folder `profile`, which asks nobody for anything by itself."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def open_page(browser, page):
    """Opens `explore.html` afresh, 1000 pixels wide, and waits until it is drawn: a busy machine takes its time."""
    resize(browser, 1000)
    browser.get(page.as_uri())
    wait_until(browser, lambda: find(browser, "#images button"))


def wait_until(browser, condition):
    """Waits for condition() to be true."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 60, poll_frequency=0.02).until(lambda _: condition())


def wait_for_previews(browser):
    """Waits until the map and all other previews are drawn."""
    wait_until(browser, lambda: browser.execute_script("return groups.every(group => group.drawn === group.key())"))


def resize(browser, width, height=800):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def draw(browser, *strokes):
    """Draws strokes of points (x, y) in [0, 1] with the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = find(browser, "#drawing")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    width, height = canvas.size["width"], canvas.size["height"]
    for stroke in strokes:
        actions = ActionChains(browser, duration=10)
        for i, (x, y) in enumerate(stroke):
            actions.move_to_element_with_offset(canvas, round((x - 0.5) * width), round((y - 0.5) * height))
            if i == 0:
                actions.click_and_hold()
        actions.release().perform()


def box_of_drawing(browser):
    """left, top, width and height of the drawing, scrolled into view."""
    return browser.execute_script(
        "const drawing = document.getElementById('drawing'); drawing.scrollIntoView({block: 'center'}); "
        "const box = drawing.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]"
    )


def mouse(browser, kind, x, y, button="left"):
    """One event of the browser's own protocol, "mousePressed", "mouseMoved" or "mouseReleased", at (x, y) in [0, 1]."""
    left, top, width, height = box_of_drawing(browser)
    place = {"x": left + x * width, "y": top + y * height}
    event = {"type": kind, "button": button, "buttons": int(button == "left"), "clickCount": 1, **place}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def touch(browser, kind, *points):
    """One event of the browser's own protocol: "touchStart", "touchMove", "touchEnd" or "touchCancel".

    Points are (x, y) in [0, 1] of the drawing; a finger keeps its place in the list.
    """
    left, top, width, height = box_of_drawing(browser)
    at = [{"x": left + x * width, "y": top + y * height, "id": i} for i, (x, y) in enumerate(points)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})


# For each movement of the pointer, the time of its handlers and of the callbacks of the frames until the next movement.
TIMER = """
window.updates = [];
let start = 0;
const add = () => { updates[updates.length - 1] += performance.now() - start; };
addEventListener("pointermove", () => { updates.push(0); start = performance.now(); }, true);
addEventListener("pointermove", add);
const request = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = callback => request(time => {
  start = performance.now();
  callback(time);
  add();
});
"""


def time_updates(browser, page, slowdown, n=20):
    """Milliseconds that each of n updates after a movement takes, with the processor slowed down so many times.

    That is the time of the page's script from the movement to the frame that shows it, with the pixels, the reading and
    the ten images. The browser's own layout and painting, and the waiting for the frame, are left out.
    """
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TIMER})
    open_page(browser, page)
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    draw(browser, FIVE)  # the script is compiled by then
    browser.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    mouse(browser, "mousePressed", 0.3, 0.9)
    for i in range(n + 6):
        mouse(browser, "mouseMoved", 0.31 + 0.01 * i, 0.9)
    updates = browser.execute_async_script(
        "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0](updates)))"
    )
    browser.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": 1})
    mouse(browser, "mouseReleased", 0.5, 0.9)
    return updates[-n:]


def main():
    """Prints the size of the pages and the time of an update; without arguments, takes the picture as well."""
    import argparse
    import io
    import statistics
    import tempfile

    from PIL import Image  # matplotlib's

    parser = argparse.ArgumentParser(description="Time the page, and write outputs/explore.png.")
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="pages to time (default: outputs/explore.html)")
    pages = [page.resolve() for page in parser.parse_args().pages]
    with tempfile.TemporaryDirectory() as profile:
        browser = open_chromium(profile)
        for page in pages or [OUTPUTS / "explore.html"]:
            normal, slow = (statistics.median(time_updates(browser, page, slowdown)) for slowdown in (1, 6))
            print(
                f"{page}, {page.stat().st_size / 1e6:.2f} MB: an update after a movement takes {normal:.1f} ms, "
                f"{slow:.1f} ms with the processor slowed 6 times (medians of 20)"
            )
        if not pages:
            open_page(browser, OUTPUTS / "explore.html")
            draw(browser, FIVE)
            wait_for_previews(browser)
            resize(browser, 1000, browser.execute_script("return document.documentElement.scrollHeight"))
            browser.execute_async_script(
                "scrollTo(0, 0); requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
            )
            picture = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
            picture.convert("P", palette=Image.Palette.ADAPTIVE).save(OUTPUTS / "explore.png", optimize=True)
        browser.quit()


if __name__ == "__main__":
    main()

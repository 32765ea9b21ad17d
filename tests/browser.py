"""A headless Chromium for the tests of the page.

By hand, `python tests/browser.py` draws a 5 on `outputs/explore.html`, writes what is then seen to
`outputs/explore.png`, and prints how long a redraw and a classification take and how large the page is.
"""

import pathlib
import shutil

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"
FIVE = [
    (0.66, 0.2),
    (0.4, 0.22),
    (0.38, 0.46),
    (0.5, 0.41),
    (0.63, 0.47),
    (0.66, 0.6),
    (0.6, 0.74),
    (0.46, 0.78),
    (0.34, 0.7),
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
    from selenium.webdriver.support.wait import WebDriverWait

    resize(browser, 1000)
    browser.get("about:blank")
    browser.get(page.as_uri())
    WebDriverWait(browser, 60, poll_frequency=0.02).until(lambda _: find(browser, "#images button"))


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


def touch(browser, kind, *points):
    """One event of the browser's own protocol: "touchStart", "touchMove", "touchEnd" or "touchCancel".

    Points are (x, y) in [0, 1] of the drawing; a finger keeps its place in the list.
    """
    canvas = find(browser, "#drawing")[0]
    box = browser.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width, b.height]", canvas
    )
    at = [{"x": box[0] + x * box[2], "y": box[1] + y * box[3], "id": i} for i, (x, y) in enumerate(points)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})


def main():
    import io
    import tempfile

    from PIL import Image  # matplotlib's

    page = OUTPUTS / "explore.html"
    with tempfile.TemporaryDirectory() as profile:
        browser = open_chromium(profile)
        open_page(browser, page)
        draw(browser, FIVE)
        for i in (5, 8):
            find(browser, "#images button")[i].click()
        timing = (
            "const pixels = toPixels(), times = []; for (let i = 0; i < 200; i++) { const start = performance.now(); "
            "CALL; times.push(performance.now() - start); } return times.sort((a, b) => a - b)[100]"
        )
        calls = "explorer.redraw()", "explorer.classify(pixels)"
        redraw, classify = (browser.execute_script(timing.replace("CALL", call)) for call in calls)
        resize(browser, 1000, browser.execute_script("return document.documentElement.scrollHeight"))
        browser.execute_async_script("scrollTo(0, 0); requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("P", palette=Image.Palette.ADAPTIVE)
        picture.save(OUTPUTS / "explore.png", optimize=True)
        browser.quit()
    print(
        f"ten digits redrawn in {redraw:.1f} ms, a drawing classified in {classify:.1f} ms (medians of 200); "
        f"{page.name} is {page.stat().st_size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()

"""What the tests of the page share: the page of two small models, the browsers that show it, and what is seen there."""

import io
import types

import assignment
import explore
import numpy as np
import pytest
import tensorflow as tf
import vae
from browser import BROWSER, DRIVER, box_of_drawing, find, open_chromium, open_page, resize
from extras import evaluation
from extras.rendered_digits import rendered_digits

needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="there is no chromium with its chromedriver")
DATA = "some <data>"
LOW = 690
ONE = [[[84, 84], [84, 140], [84, 196]]]  # strokes on the drawing, which is 280 pixels high and wide
SEVEN = [[[84, 56], [196, 56], [112, 224]]]


@pytest.fixture(scope="session")
def data():
    """Rendered digits."""
    return assignment.new_data(DATA, *rendered_digits(0, 6_400, 1_000))


@pytest.fixture(scope="session")
def learned(data):
    """A VAE and a CVAE after 300 batches of rendered digits, by their names on the page."""
    tf.keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "load_data", lambda: data)
        train_loader = assignment.load_mnist(64)
    models = {"vae": vae.VAE(784), "cvae": vae.CVAE(784)}
    for kind, model in models.items():
        for _ in range(3):
            assignment.train_vae(model, train_loader, None, kind == "cvae")
    return models


@pytest.fixture(scope="session")
def page(data, learned, tmp_path_factory):
    """The page of both models: its path, and the models by their names on the page."""
    folder = tmp_path_factory.mktemp("page")

    def evaluate(model, data):
        """As if the model did not use two of its latents, and with a round loss."""
        mu = np.array(evaluation.evaluate(model, data).mu)
        mu[:, [2, 7]] *= 1e-4
        return evaluation.Evaluation(80.0, 20.5, mu)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "OUTPUTS", folder)
        patch.setattr(explore, "load_data", lambda: data)
        patch.setattr(explore, "evaluate", evaluate)
        for model in learned.values():
            losses = {"train_loss": 150.0, "test_reconstruction": 80.0, "test_kl": 20.5}
            model.run = types.SimpleNamespace(data=DATA, history=[losses, losses])
            assignment.save_model_weights(model, None)
        explore.main([])
    return folder / "explore.html", learned


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    browser = open_chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium, page):
    """The page, freshly opened, 1000 pixels wide and so low that its images do not stay in sight.

    There they would cover what WebDriver scrolls to.
    """
    chromium.get_log("browser")
    open_page(chromium, page[0])
    resize(chromium, 1000, LOW)
    return chromium


@pytest.fixture
def phone(browser):
    """The page on a phone, the drawing in view."""
    resize(browser, 360, 780)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 5})
    box_of_drawing(browser)
    yield browser
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def next_frame(browser):
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def image(browser, selector):
    """The pixels (28, 28) in [0, 1] of a canvas, after what is under way is shown."""
    next_frame(browser)
    data = browser.execute_script(
        "return Array.from(document.querySelector(arguments[0]).getContext('2d').getImageData(0, 0, 28, 28).data)",
        selector,
    )
    return np.reshape(data, (28, 28, 4))[..., 0] / 255


def digits(browser):
    """The ten images (10, 28, 28) that are shown."""
    next_frame(browser)
    data = browser.execute_script(
        "return [...document.querySelectorAll('#images canvas')]"
        ".map(canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data))"
    )
    return np.reshape(data, (10, 28, 28, 4))[..., 0] / 255


def pixels_of(browser, selector):
    """The images (N, 28, 28) in [0, 1] of several canvases."""
    data = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map(canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data))",
        selector,
    )
    return np.reshape(data, (-1, 28, 28, 4))[..., 0] / 255


def screenshot(browser, selector):
    """What is seen of an element, (height, width, 3), from 0 to 255."""
    from PIL import Image  # matplotlib's

    element = find(browser, selector)[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def set_slider(browser, slider, value):
    """`slider` is the expression of an element in the page."""
    browser.execute_script(f"{slider}.value = {value}; {slider}.dispatchEvent(new Event('input'))")


def set_strokes(browser, strokes):
    """As if they, and nothing else, had been drawn."""
    browser.execute_script(
        "strokes = []; for (const [first, ...others] of arguments[0]) {"
        "  startStroke(first); others.forEach(extendStroke);"
        "}"
        "finishDrawing()",
        strokes,
    )


def stroke_count(browser):
    return browser.execute_script("return strokes.length")


def shown_pixels(browser):
    """The drawing as the encoder sees it, unrounded: float32 (1, 1, 28, 28)."""
    return np.reshape(browser.execute_script("return Array.from(toPixels(strokes))"), (1, 1, 28, 28)).astype(np.float32)


def is_enabled(browser, selector):
    return find(browser, selector)[0].get_attribute("aria-disabled") != "true"


def text(browser, selector):
    return find(browser, selector)[0].text


def bars(browser):
    """The widths of the ten bars, from 0 to 1."""
    return np.array(browser.execute_script("return bars.map(bar => parseFloat(bar.style.width))")) / 100


def a(digit):
    """The digit with its article."""
    return f"an {digit}" if digit == 8 else f"a {digit}"


def pressed(browser):
    """The places of the images with a frame."""
    states = [button.get_attribute("aria-pressed") for button in find(browser, "#images button")]
    return [place for place, state in enumerate(states) if state == "true"]


def losses_in_python(model, x):
    """The losses (N, C) of images (N, 1, 28, 28) with z = mu as each class, or (N, 1) by a VAE, in NumPy."""
    classes = np.eye(getattr(model, "num_classes", 0)) if hasattr(model, "num_classes") else [None]
    losses = []
    for c in classes:
        second = () if c is None else (np.tile(c, (len(x), 1)).astype(np.float32),)
        mu, logvar = (np.asarray(value, float) for value in model(x, *second)[1:])
        z = np.concatenate([mu, *second], axis=1).astype(np.float32)
        x_hat = np.asarray(model.decoder(z), float)
        reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3))
        losses.append(reconstruction + np.sum(np.exp(logvar) + mu**2 - 1 - logvar, axis=1) / 2)
    return np.stack(losses, axis=1)


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def centre_of_mass(pixels):
    return [pixels.sum(axis=axis) @ np.arange(28) / pixels.sum() for axis in (0, 1)]


def decoded(model, z, classes=range(10)):
    """Keras' images (C, 28, 28) of one z (Z,) as each of the classes."""
    z = np.concatenate([np.tile(z, (len(classes), 1)), np.eye(10)[classes]], axis=1).astype(np.float32)
    return np.asarray(model.decoder(z))[:, 0]


def nodes(browser):
    """What a screen reader is told: (role, name, description) of everything."""
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        tuple(node.get(key, {}).get("value") for key in ("role", "name", "description"))
        for node in tree
        if not node["ignored"]
    ]


# Which elements that get the focus by the Tab key are hidden then: none of 25 points of them is seen.
WATCH_TABS = """
window.hiddenStops = [];
window.stops = new Set();
window.isHidden = stop => {
  if (stop === document.body) return false;
  const box = stop.getBoundingClientRect();
  const shares = [0.1, 0.3, 0.5, 0.7, 0.9];
  return !shares.some(x => shares.some(y => {
    const top = document.elementFromPoint(box.x + x * box.width, box.y + y * box.height);
    return top !== null && stop.contains(top);
  }));
};
addEventListener("keyup", event => {
  const stop = document.activeElement;
  if (event.key !== "Tab" || stop === document.body) return;
  stops.add(stop);
  if (isHidden(stop)) hiddenStops.push(stop.outerHTML.slice(0, 80));
});
"""

# What a screen reader is given to say: each text that is put into a live region.
WATCH_LIVE_REGIONS = """
window.said = [];
new MutationObserver(records => records.forEach(({target, addedNodes, type}) => {
  const live = (target.nodeType === 1 ? target : target.parentElement)
    .closest("output, [role=status], [role=alert], [role=log], [aria-live]");
  if (live && (type === "characterData" || addedNodes.length)) said.push(live.textContent);
})).observe(document.body, {childList: true, characterData: true, subtree: true});
"""

USABLE = {"button", "slider", "radio", "application", "img", "image", "Canvas"}


def scores_in_python(model, x):
    return np.asarray(evaluation.classify(model, x))


def emulate(browser, **features):
    """Media features, such as prefers_color_scheme="dark"."""
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

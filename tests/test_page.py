"""The page in headless Chromium, with mouse, fingers and keyboard: against Keras, NumPy and MNIST."""

import base64
import io
import json
import re
import zlib

import assignment
import evaluation
import explore
import files
import mnist_images
import numpy as np
import pytest
import tensorflow as tf
import vae
from browser import (
    BROWSER,
    DRIVER,
    box_of_drawing,
    draw,
    find,
    mouse,
    open_chromium,
    open_page,
    resize,
    touch,
    wait_for_previews,
    wait_until,
)
from conftest import arguments, needs_mnist, second_input
from rendered_digits import rendered_digits

needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="there is no chromium with its chromedriver")
DATA = "some <data>"
ONE = [[[84, 84], [84, 140], [84, 196]]]  # strokes on the drawing, which is 280 pixels high and wide
SEVEN = [[[84, 56], [196, 56], [112, 224]]]


# --------------------------------------------------------------------------------- what the tests take from the project


@pytest.fixture(scope="module")
def data():
    """Rendered digits."""
    (x_train, y_train), (x_test, y_test) = rendered_digits(0, 6_400, 1_000)
    return mnist_images.new_data(DATA, x_train, y_train, x_test, y_test)


@pytest.fixture(scope="module")
def learned(data):
    """A VAE and a CVAE after 300 batches of rendered digits, by their names on the page."""
    tf.keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "load_data", lambda: data)
        train_loader = assignment.load_mnist(64)
    models = {"vae": vae.VAE(784), "cvae": vae.CVAE(784)}
    for kind, model in models.items():
        for _ in range(3):
            assignment.train_vae(model, train_loader, arguments(2.4e-3), kind == "cvae")
    return models


@pytest.fixture(scope="module")
def page(data, learned, tmp_path_factory):
    """The page of both models: its path, and the models by their names on the page."""
    folder = tmp_path_factory.mktemp("page")

    def evaluate(model, data):
        """As if the model did not use two of its latents, and with a round loss."""
        mu = np.array(evaluation.evaluate(model, data).mu)
        mu[:, [2, 7]] *= 1e-4
        return evaluation.Evaluation(80.0, 20.5, mu)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "OUTPUTS", folder)
        patch.setattr(explore, "load_data", lambda: data)
        patch.setattr(explore, "evaluate", evaluate)
        for model in learned.values():
            losses = {"train_loss": 150.0, "test_reconstruction": 80.0, "test_kl": 20.5}
            assignment.save_model_weights(model, arguments(), {"data": DATA, "history": [losses, losses]})
        explore.main([])
    return folder / "explore.html", learned


def scores_in_python(model, x):
    return np.asarray(evaluation.classify(model, x))


def test_300_batches_of_rendered_digits_teach_both_models(learned, data):
    """Enough to beat the mean image, and to draw the digit that was asked for."""
    x = data.x_test.numpy()[:, None] / np.float32(255)
    y = data.y_test.numpy()
    mean = np.clip(data.x_train.numpy().mean(axis=0) / 255, 1e-7, 1 - 1e-7)
    of_mean = -np.sum(x * np.log(mean) + (1 - x) * np.log(1 - mean)) / len(x)
    for model in learned.values():
        assert evaluation.evaluate(model, data).loss < 0.8 * of_mean
    drawn = learned["cvae"].decode(tf.random.normal((200, 15)), tf.repeat(tf.eye(10), 20, axis=0)).numpy()
    of_digit = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])  # each digit's mean image
    nearest = ((drawn[:, None] - of_digit[None]) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(nearest == np.repeat(np.arange(10), 20)) > 0.8


# ---------------------------------------------------------------------------------------------- what the tests look at


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A headless Chromium."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    browser = open_chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium, page):
    """The page, freshly opened, 1000 pixels wide."""
    for log in ("browser", "performance"):
        chromium.get_log(log)
    open_page(chromium, page[0])
    return chromium


@pytest.fixture
def telephone(browser):
    """The page on a telephone, the drawing in view."""
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
    return np.reshape(browser.execute_script("return Array.from(toPixels())"), (1, 1, 28, 28)).astype(np.float32)


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


USABLE = {"button", "slider", "radio", "application", "img", "image", "Canvas"}

# ------------------------------------------------------------------------------------------------------ the numbers


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_the_page_decodes_and_encodes_as_keras_does(browser, page, data, kind):
    rng, model = np.random.default_rng(1), page[1][kind]
    z = rng.normal(size=(50, 15)).astype(np.float32)
    asked = list(range(10)) if kind == "cvae" else [None]
    ours = browser.execute_script(
        "return arguments[1].flatMap(z => arguments[2].map(d => explorer.decode(arguments[0], z, d)))",
        kind,
        z.tolist(),
        asked,
    )
    theirs = [decoded(model, row) for row in z] if kind == "cvae" else model.decoder(z)
    theirs = np.reshape(theirs, (len(z) * len(asked), 784))
    error = np.abs(np.array(ours) - theirs)
    assert error.mean() < 0.6 / 255 and error.max() < 20 / 255
    assert np.ptp(theirs, axis=0).max() > 0.5  # the images differ, or the comparison would say little

    x, y = data.x_test.numpy()[:50], data.y_test.numpy()[:50]
    pixels = x.reshape(50, 784) / np.float32(255)
    codes = browser.execute_script(
        "return arguments[1].map((x, i) => explorer.encode(arguments[0], x, arguments[2][i]))",
        kind,
        pixels.tolist(),
        [int(d) if kind == "cvae" else None for d in y],
    )
    _, mu, logvar = model(pixels.reshape(50, 1, 28, 28), *second_input(model, y))
    np.testing.assert_allclose([code["mu"] for code in codes], mu, atol=0.1)
    np.testing.assert_allclose([code["logvar"] for code in codes], logvar, atol=0.5)
    assert np.asarray(mu).std() > 0.2


@needs_browser
def test_a_linear_layer_is_exact_to_the_rounding_of_its_inputs(browser):
    """Also for the largest weights of one sign, which come nearest to mixing up two outputs that share a number."""
    rng = np.random.default_rng(0)
    for size, outputs in ((794, 7), (15, 384)):
        steps = np.concatenate([np.full((size, 2), 127), rng.integers(-127, 128, (size, outputs - 2))], axis=1)
        scales, bias = rng.uniform(0.5, 2, size), rng.normal(size=outputs)
        for x in (np.ones(size), -rng.random(size), rng.normal(size=size), np.zeros(size)):
            ours = browser.execute_script(
                "const [input, scales, bias, steps] = arguments; "
                "const sums = new Float64Array(Math.ceil(bias.length / 2)).fill(2 ** 40);  // left by the call before\n"
                "return Array.from(linear(input, {scales, bias, kernel: steps.map(pairs), sums}))",
                *(array.tolist() for array in (x, scales, bias, steps)),
            )
            rounding = 127 * size * np.abs(x * scales).sum() / (2**18 - 1000) / 2
            np.testing.assert_allclose(ours, (x * scales) @ steps + bias, atol=rounding + 1e-4, rtol=1e-6)


@needs_browser
def test_the_page_reads_digits_as_python_does(browser, page, data):
    x, y = mnist_images.to_pixels(data.x_test[:300]), data.y_test[:300]
    ours = np.array(
        browser.execute_script("return arguments[0].map(x => explorer.classify(x))", np.reshape(x, (300, 784)).tolist())
    )
    theirs = scores_in_python(page[1]["cvae"], x)
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-6)
    assert abs(np.mean(ours.argmax(axis=1) == y) - np.mean(theirs.argmax(axis=1) == y)) <= 0.0034  # one image
    assert np.mean(theirs.argmax(axis=1) == y) > 0.9
    assert np.median(np.abs(ours - theirs).max(axis=1)) < 0.01


@needs_browser
def test_random_is_a_standard_normal(browser):
    values = np.array(browser.execute_script("return Array.from({length: 4000}, normal)"))
    assert abs(values.mean()) < 0.07 and abs(values.std() - 1) < 0.05
    assert 0.65 < np.mean(np.abs(values) < 1) < 0.72 and 0.035 < np.mean(np.abs(values) > 2) < 0.057
    find(browser, "#random")[0].click()
    assert len(set(browser.execute_script("return z"))) == 15


# --------------------------------------------------------------------------------------------- strokes and their pixels


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


@needs_browser
def test_strokes_become_the_pixels_that_numpy_samples(browser):
    ell = [[[84, 56], [84, 224], [196, 224]]]  # most of it is below and to the left
    for strokes in (ONE, SEVEN, ell, [[[20, 140], [260, 150]]], [*ONE, [[150, 90]]], [[[200, 40]]]):
        set_strokes(browser, strokes)
        pixels, expected = shown_pixels(browser)[0, 0], sampled(strokes)
        assert np.abs(pixels - expected).mean() < 0.004 and np.abs(pixels - expected).max() < 0.3
        np.testing.assert_allclose(centre_of_mass(pixels), 14, atol=0.1)
        np.testing.assert_allclose(image(browser, "#seen"), pixels, atol=0.6 / 255)


@needs_mnist
@needs_browser
def test_a_drawn_one_is_as_high_as_wide_and_as_centred_as_mnist_s(browser):
    """Against MNIST's upright ones: height, ink by height, which is the width of the stroke, and centre of mass."""
    data = mnist_images.load_data()
    set_strokes(browser, ONE)

    def statistics(image):
        rows, columns = (np.flatnonzero(image.max(axis=axis) > 0.5) for axis in (1, 0))
        height = np.ptp(rows) + 1
        return np.ptp(columns) + 1, (height, image.sum() / height, *centre_of_mass(image))

    ones = [statistics(image) for image in data.x_test.numpy()[data.y_test.numpy() == 1] / 255]
    low, high = np.quantile([values for width, values in ones if width <= 6], [0.1, 0.9], axis=0)
    _, drawn = statistics(shown_pixels(browser)[0, 0])
    row = np.array([1, 0, 0, 0])  # the drawing may stand between two rows
    assert ((low - row <= drawn) & (drawn <= high + row)).all(), (low, drawn, high)


@needs_browser
def test_a_one_is_read_as_a_one_where_a_canvas_is_answered_with_noise(chromium, page):
    noise = (
        "CanvasRenderingContext2D.prototype.getImageData = (x, y, width, height) => new ImageData("
        "Uint8ClampedArray.from({length: 4 * width * height}, () => 256 * Math.random()), width, height)"
    )
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": noise})
    open_page(chromium, page[0])
    chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert image(chromium, "#seen").std() > 0.2  # the noise is there
    draw(chromium, [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7)])
    assert text(chromium, "#drawn").startswith("Read as a 1.")


# ------------------------------------------------------------------------------------------------- what the page shows


@needs_browser
def test_the_page_opens_with_a_drawn_digit_its_reading_and_its_ten_images(browser, page):
    assert text(browser, "#run") == (
        "CVAE with 15 latents, trained on some <data> for 2 epochs; test loss 100.50 nats per image."
    )
    model, x = page[1]["cvae"], shown_pixels(browser)
    assert x.sum() > 50
    read = scores_in_python(model, x)[0].argmax()
    assert text(browser, "#drawn") == f"An example. Read as {a(read)}."
    _, mu, _ = model(x, np.eye(10, dtype=np.float32)[[read]])
    np.testing.assert_allclose(digits(browser), decoded(model, mu[0]), atol=21 / 255)


@needs_browser
@pytest.mark.parametrize("how", ["pointer", "key", "clear"])
def test_the_example_goes_at_the_first_touch_and_undo_brings_it_back(browser, how):
    assert text(browser, "#drawn").startswith("An example.")
    if how == "pointer":
        draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    elif how == "key":
        find(browser, "#drawing")[0].send_keys(" ", "\ue015", " ")  # arrow down
    else:
        find(browser, "#clear")[0].click()
    assert stroke_count(browser) == (how != "clear") and "example" not in text(browser, "#drawn")
    find(browser, "#undo")[0].click()
    assert text(browser, "#drawn").startswith("An example.") and not find(browser, "#undo")[0].is_enabled()


@needs_browser
def test_the_page_loads_nothing_and_logs_no_error(browser, page):
    for button in ("#random", "#zero"):
        find(browser, button)[0].click()
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    for label in find(browser, "#kinds input"):
        label.click()
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} <= {"about:blank", page[0].as_uri()}
    source = page[0].read_text("utf-8")
    assert page[0].stat().st_size < 4e6 and "http://" not in source and "https://" not in source


@needs_browser
def test_the_template_names_the_command_that_makes_the_page(chromium):
    chromium.get_log("browser")
    chromium.get(explore.TEMPLATE.as_uri())
    assert "python code/explore.py" in text(chromium, "body")
    assert not USABLE & {role for role, _, _ in nodes(chromium)}
    assert chromium.get_log("browser") == []


@needs_browser
def test_without_scripts_the_page_says_what_it_needs_and_shows_nothing_that_does_nothing(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page[0].as_uri())
    found = nodes(chromium)
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert not USABLE & {role for role, _, _ in found}
    assert "needs JavaScript" in " ".join(name for role, name, _ in found if role == "StaticText")


@needs_browser
def test_a_saved_copy_of_a_saved_copy_works_as_the_page_does(browser, tmp_path):
    """As "Save page as, complete" writes it: what the script has put into the page is in the file already."""
    for i in range(2):
        find(browser, "#kinds input")[1].click()
        find(browser, "#random")[0].click()
        markup = browser.execute_script("return document.documentElement.outerHTML")
        copy = tmp_path / f"copy_{i}.html"
        copy.write_text(f"<!DOCTYPE html>\n{markup}", "utf-8")
        open_page(browser, copy)
    filled = ("#kinds input", "#images button", "#digits input", "#digits .bar", "main section")
    assert [len(find(browser, selector)) for selector in filled] == [2, 10, 11, 10, 5]
    draw(browser, [(0.3, 0.3), (0.3, 0.7)])
    find(browser, "#digits input")[7].click()
    assert "Encoded as a 7" in text(browser, "#drawn") and errors(browser) == []


@needs_browser
@pytest.mark.parametrize("cut", ["nothing", "in the markup", "in the models", "in the script", "old browser"])
def test_a_page_that_cannot_start_is_one_line_that_says_what_is_wrong(chromium, page, tmp_path, cut):
    source = page[0].read_text("utf-8")
    marks = {"in the markup": 'id="pad"', "in the models": '"weights"', "in the script": "function rasterise"}
    broken = tmp_path / "page.html"
    broken.write_text(source[: source.index(marks[cut])] if cut in marks else source, "utf-8")
    old = "delete Element.prototype.replaceChildren" if cut == "old browser" else ""
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": old})
    chromium.get(broken.as_uri())
    chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert find(chromium, "#failed")[0].is_displayed() == (cut != "nothing")
    assert (text(chromium, "main") == "") == (cut != "nothing")
    assert "download it again" in find(chromium, "#failed")[0].get_attribute("textContent")
    chromium.get_log("browser")


@needs_browser
def test_nonsense_does_not_look_like_a_digit_and_nearly_all_test_images_do(browser, page, data):
    """The limits are those of the test images: 99 % of them are below that of the loss, none beyond those of ink."""
    x = mnist_images.to_pixels(data.x_test[:300]).numpy()
    doubts = browser.execute_script(
        "return arguments[0].map(x => doubtAbout(x, Math.min(...reconstruct('cvae', x).map(({loss}) => loss))))",
        x.reshape(300, 784).tolist(),
    )
    assert np.mean([doubt is None for doubt in doubts]) > 0.95
    circle = [[140 + 80 * np.cos(t), 140 + 80 * np.sin(t)] for t in np.linspace(0, 2 * np.pi, 30)]
    smiley = [circle, [[110, 115]], [[170, 115]], [[105, 165], [140, 185], [175, 165]]]
    rows = [[[x, y] for y in range(20, 270, 12) for x in (20, 260)]]
    for strokes, reason in (([[[140, 140]]], "less ink"), (rows, "more ink"), (smiley, "loss is above that of 99 %")):
        set_strokes(browser, strokes)
        assert text(browser, "#drawn").startswith("This does not look like a digit: ")
        assert reason in text(browser, "#drawn") and " The nearest is a" in text(browser, "#drawn")
        assert find(browser, ".read") == []
    find(browser, "#kinds input")[1].click()
    assert text(browser, "#drawn").startswith("This does not look like a digit: ")
    assert "nearest" not in text(browser, "#drawn")


@needs_browser
def test_a_slider_changes_the_ten_images_which_are_those_of_keras(browser, page):
    find(browser, "#zero")[0].click()
    before = digits(browser)
    set_slider(browser, "sliders[0]", 2)
    after = digits(browser)
    model = page[1]["cvae"]
    np.testing.assert_allclose(before, decoded(model, np.zeros(15)), atol=21 / 255)
    np.testing.assert_allclose(after, decoded(model, 2 * np.eye(15)[0]), atol=21 / 255)
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.01).all()


@needs_browser
def test_the_pad_follows_mouse_and_keys(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    def on_axes():
        next_frame(browser)
        z, axes, deviations = browser.execute_script("return [z, models.cvae.axes, models.cvae.deviations]")
        return np.array(axes) @ z / deviations

    find(browser, "#zero")[0].click()
    pad = find(browser, "#pad")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    actions = ActionChains(browser, duration=10).move_to_element(pad).click_and_hold()
    actions.move_by_offset(pad.size["width"] // 6, -pad.size["height"] // 3).release().perform()
    np.testing.assert_allclose(on_axes(), [1, 2], atol=0.1)  # of -3 to 3
    dot = browser.execute_script("const s = document.getElementById('dot').style; return [s.left, s.top]")
    np.testing.assert_allclose([float(value.rstrip("%")) for value in dot], [100 * 4 / 6, 100 * 1 / 6], atol=2)
    before = on_axes()
    pad.send_keys("\ue014", "\ue014", "\ue015")  # right, right, down
    np.testing.assert_allclose(on_axes() - before, [0.4, -0.2], atol=1e-6)


@needs_browser
def test_a_one_drawn_with_the_mouse_comes_back_as_a_one_and_changes_the_ten_digits(browser):
    find(browser, "#zero")[0].click()
    before = digits(browser)
    find(browser, "#digits input")[1].click()
    draw(browser, [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7)])  # not in the middle
    seen, back, after = image(browser, "#seen"), image(browser, "#reconstruction"), digits(browser)
    near = np.zeros((28, 28), bool)
    near[2:26, 8:20] = True  # where the strokes were, and a few pixels around
    assert back[near].sum() > 0.9 * back.sum() > 10
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.05).all()
    np.testing.assert_allclose(after[1], back, atol=1e-6)  # the same z, as a 1

    draw(browser, [(0.6, 0.2), (0.6, 0.8)])
    assert not np.array_equal(image(browser, "#seen"), seen)
    find(browser, "#undo")[0].click()
    np.testing.assert_array_equal(image(browser, "#seen"), seen)


@needs_browser
def test_auto_takes_the_digit_with_the_least_loss_and_a_choice_stays_until_auto(browser, page):
    set_strokes(browser, ONE)
    read = int(np.argmin(losses_in_python(page[1]["cvae"], shown_pixels(browser))))
    other = (read + 3) % 10
    assert text(browser, "#drawn") == f"Read as {a(read)}."
    np.testing.assert_allclose(image(browser, "#reconstruction"), digits(browser)[read], atol=1e-6)
    find(browser, "#digits input")[other].click()
    assert text(browser, "#drawn") == f"Read as {a(read)}. Encoded as {a(other)}, as chosen."
    np.testing.assert_allclose(image(browser, "#reconstruction"), digits(browser)[other], atol=1e-6)
    set_strokes(browser, SEVEN)
    assert f"Encoded as {a(other)}" in text(browser, "#drawn")
    find(browser, "#digits input")[10].click()
    assert "Encoded" not in text(browser, "#drawn")


@needs_browser
def test_the_loss_as_each_digit_is_a_bar_and_a_number(browser, page):
    """A bar is full at twice the loss that 99 % of the test images stay below."""
    set_strokes(browser, SEVEN)
    (expected,) = losses_in_python(page[1]["cvae"], shown_pixels(browser))
    usual = browser.execute_script("return models.cvae.usual.loss")
    np.testing.assert_allclose(bars(browser), np.minimum(expected / usual / 2, 1), atol=0.02)
    assert np.ptp(bars(browser)) > 0.1
    shown = [int(output.text) for output in find(browser, "#digits output")]
    np.testing.assert_allclose(shown, expected, rtol=0.03, atol=0.5)
    rows, images = find(browser, "#digits label"), find(browser, "#images button")
    marked = [[i for i, row in enumerate(some) if "read" in row.get_attribute("class")] for some in (rows, images)]
    assert marked == [[np.argmin(expected)]] * 2
    assert "which was read" in images[np.argmin(expected)].get_attribute("aria-label")


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_the_loss_of_the_drawing_is_shown_with_its_terms(browser, page, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    if kind == "cvae":
        find(browser, "#digits input")[7].click()
    set_strokes(browser, SEVEN)
    numbers = [float(number) for number in re.findall(r"\d+\.\d", text(browser, "#loss"))]
    x, model = shown_pixels(browser).astype(float), page[1][kind]
    _, mu, logvar = (np.asarray(value) for value in model(x, *second_input(model, [7])))
    z = np.concatenate([mu, np.eye(10)[[7]]], axis=1) if kind == "cvae" else mu
    x_hat = np.asarray(model.decoder(z.astype(np.float32)), float)
    reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar))
    np.testing.assert_allclose(numbers[:2], [reconstruction, kl], rtol=0.03, atol=0.5)
    assert numbers[2] == pytest.approx(sum(numbers[:2]), abs=0.11) and numbers[3] == 100.5
    assert numbers[4] == pytest.approx(browser.execute_script(f"return models.{kind}.usual.loss"), abs=0.06)


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_sliders_are_in_the_order_of_use_and_unused_latents_are_folded_away(browser, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    variances = np.array(browser.execute_script(f"return models.{kind}.variances"))

    def numbers(selector):
        labels = browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(l => l.textContent)", selector
        )
        return [int(label.split()[1]) for label in labels]

    used = [i + 1 for i in np.argsort(-variances) if variances[i] >= 0.01]
    unused = [i + 1 for i in np.argsort(-variances) if variances[i] < 0.01]
    assert numbers("#latents label") == used and numbers("#unused label") == unused and {3, 8} <= set(unused)
    assert text(browser, "#unused summary").startswith(f"{len(unused)} latents are not used")
    assert not find(browser, "#unused input")[0].is_displayed()
    set_slider(browser, "sliders[2]", 2)
    assert browser.execute_script("return z")[2] == 2


@needs_browser
def test_the_vae_shows_one_image_and_draws_without_a_class(browser, page):
    find(browser, "#kinds input")[1].click()
    assert len(find(browser, "#images button")) == 1 and not find(browser, "#digits")[0].is_displayed()
    set_strokes(browser, ONE)
    np.testing.assert_allclose(image(browser, "#images canvas"), image(browser, "#reconstruction"), atol=1e-6)
    find(browser, "#zero")[0].click()
    zero = page[1]["vae"].decoder(np.zeros((1, 15), np.float32))
    np.testing.assert_allclose(image(browser, "#images canvas"), zero[0, 0], atol=21 / 255)


@needs_browser
def test_what_is_said_of_the_vae_is_of_one_image_and_no_reading(browser):
    find(browser, "#kinds input")[1].click()
    assert text(browser, "#title-images") == "The image of this z"
    assert text(browser, "#drawn") == "An example. Encoded. The VAE reads no digit."
    browser.execute_script("document.querySelector('#result details').open = true")
    assert "Bayes" not in text(browser, "main") and "two" not in text(browser, "#shown")
    find(browser, "#images button")[0].click()
    assert text(browser, "#marked") == "Move z, then choose the image again."
    browser.execute_script("models.vae.variances = models.vae.variances.map((_, i) => Number(i !== 3)); choose('vae')")
    said = text(browser, "#unused summary")
    assert said.startswith("1 latent is not used by this model: its mu") and said.endswith("ignores it.")


def map_cells(browser):
    """The images (7, 7, 28, 28) behind the dot."""
    data = browser.execute_script("return Array.from(byId('map').getContext('2d').getImageData(0, 0, 196, 196).data)")
    return np.reshape(data, (7, 28, 7, 28, 4))[..., 0].swapaxes(1, 2) / 255


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_the_map_and_the_ends_of_the_sliders_are_keras_images_of_the_digit_drawn(browser, page, kind):
    """The cells' middles are 6/7 of a standard deviation apart along each axis; what z has besides stays."""
    find(browser, "#kinds input")[kind == "vae"].click()
    set_strokes(browser, SEVEN)
    wait_for_previews(browser)
    z, digit, axes, deviations, latents = browser.execute_script(
        "const {axes, deviations} = models[kind]; return [z, digit, axes, deviations, ends.map(({latent}) => latent)]"
    )
    z, axes, deviations = np.array(z), np.array(axes), np.array(deviations)
    one_hot = np.eye(10)[digit] if kind == "cvae" else []

    def decode(zs):
        return np.asarray(page[1][kind].decoder(np.array([[*z, *one_hot] for z in zs], np.float32)))[:, 0]

    base = z - axes.T @ (axes @ z)
    steps = 6 / 7 * np.arange(-3, 4)
    expected = decode([base + axes.T @ (deviations * [x, -y]) for y in steps for x in steps])
    np.testing.assert_allclose(map_cells(browser).reshape(49, 28, 28), expected, atol=21 / 255)
    assert np.ptp(expected, axis=0).max() > 0.2

    shown = browser.execute_script(
        "return ends.map(({canvas}) => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data))"
    )
    moved = [np.where(np.arange(15) == latent, (-2.5, 2.5)[i % 2], z) for i, latent in enumerate(latents)]
    np.testing.assert_allclose(np.reshape(shown, (-1, 28, 28, 4))[..., 0] / 255, decode(moved), atol=21 / 255)
    assert len(latents) == 2 * len(find(browser, "#latents label")) > 0


@needs_browser
def test_the_map_is_drawn_anew_for_another_digit_but_not_for_the_dot_nor_during_a_stroke(browser):
    wait_for_previews(browser)
    browser.execute_script("window.counted = 0; const jobs = mapJobs; mapJobs = () => { counted++; return jobs(); }")
    find(browser, "#pad")[0].send_keys("\ue014", "\ue015")  # right, down
    next_frame(browser)
    wait_for_previews(browser)
    before = map_cells(browser)
    mouse(browser, "mousePressed", 0.3, 0.2)
    mouse(browser, "mouseMoved", 0.3, 0.8)
    next_frame(browser)
    assert browser.execute_script("return [counted, byId('map').matches('.stale')]") == [0, True]
    browser.execute_async_script("setTimeout(arguments[0], 300)")  # twice as long as a rest
    assert browser.execute_script("return counted") == 0
    np.testing.assert_array_equal(map_cells(browser), before)
    mouse(browser, "mouseReleased", 0.3, 0.8)
    wait_for_previews(browser)
    assert browser.execute_script("return counted") == 1 and np.abs(map_cells(browser) - before).max() > 0.1


@needs_browser
def test_a_map_whose_drawing_was_broken_off_is_drawn_to_its_end_before_it_is_shown(browser):
    wait_for_previews(browser)
    before = map_cells(browser)
    browser.execute_script(
        "z = withLatent(0, 2); showZ(); clearTimeout(previews); showPreviews(); clearTimeout(previews)"
    )
    assert np.abs(map_cells(browser) - before).max() > 0.01  # the first images of another map
    browser.execute_script("setZ(drawnZ)")
    wait_for_previews(browser)
    np.testing.assert_array_equal(map_cells(browser), before)


# -------------------------------------------------------------------------------------- pointers, keys, screen readers


@needs_browser
def test_a_second_finger_does_not_join_the_stroke(telephone):
    touch(telephone, "touchStart", (0.3, 0.3))
    touch(telephone, "touchMove", (0.3, 0.4))
    touch(telephone, "touchStart", (0.3, 0.4), (0.9, 0.9))
    touch(telephone, "touchMove", (0.3, 0.5), (0.9, 0.8))
    touch(telephone, "touchMove", (0.3, 0.6), (0.8, 0.8))
    touch(telephone, "touchEnd")
    strokes = telephone.execute_script("return strokes")
    assert len(strokes) == 1 and len(strokes[0]) >= 3
    assert all(abs(x - 0.3 * 280) < 3 and y < 0.65 * 280 for x, y in strokes[0])
    touch(telephone, "touchStart", (0.7, 0.3))  # the next stroke is a new one
    touch(telephone, "touchEnd")
    assert stroke_count(telephone) == 2


@needs_browser
def test_a_finger_at_rest_opens_no_menu_and_keeps_its_stroke(telephone):
    """A headless Chromium sends no menu event for a long press, so the test does; others then cancel the pointer."""
    touch(telephone, "touchStart", (0.3, 0.3))
    touch(telephone, "touchMove", (0.3, 0.5))
    for element in ("drawing", "pad"):
        opened, style = telephone.execute_script(
            "const element = document.getElementById(arguments[0]), style = getComputedStyle(element); return ["
            "element.dispatchEvent(new MouseEvent('contextmenu', {bubbles: true, cancelable: true})), "
            "[style.userSelect, style.touchAction]]",
            element,
        )
        assert not opened and style == ["none", "none"]
    touch(telephone, "touchMove", (0.3, 0.7))
    touch(telephone, "touchEnd")
    (stroke,) = telephone.execute_script("return strokes")
    np.testing.assert_allclose(np.array(stroke)[[0, -1]], [[84, 84], [84, 196]], atol=3)


@needs_browser
def test_a_cancelled_stroke_is_taken_back(telephone):
    find(telephone, "#clear")[0].click()
    touch(telephone, "touchStart", (0.3, 0.3))
    touch(telephone, "touchMove", (0.3, 0.6))
    assert stroke_count(telephone) == 1
    touch(telephone, "touchCancel")
    assert stroke_count(telephone) == 0
    assert image(telephone, "#seen").max() == 0


@needs_browser
def test_the_primary_button_alone_draws(browser):
    for button in ("right", "middle"):
        for kind in ("mousePressed", "mouseMoved", "mouseReleased"):
            mouse(browser, kind, 0.2, 0.3, button)
    assert text(browser, "#drawn").startswith("An example.")


@needs_browser
@pytest.mark.parametrize("coalesced", [True, False])
def test_several_movements_are_shown_once_with_all_their_points(browser, coalesced):
    """Three events at once, made by the test; each says that the pointer was at two places, where the browser tells."""
    mouse(browser, "mousePressed", 0.5, 0.2)
    next_frame(browser)
    browser.execute_script(
        "window.updates = 0; const update = toPixels; toPixels = () => { updates++; return update(); };"
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


@needs_browser
def test_keys_draw(browser):
    """A step is 10 of 280 pixels: 12 steps down and 6 to the right are an L twice as high as wide."""
    from selenium.webdriver.common.keys import Keys

    find(browser, "#drawing")[0].send_keys(
        " ", *[Keys.ARROW_DOWN] * 12, *[Keys.ARROW_RIGHT] * 6, " ", *[Keys.ARROW_UP] * 3
    )
    (stroke,) = browser.execute_script("return strokes")
    assert stroke[0] == [140, 140] and stroke[-1] == [200, 260] and len(stroke) == 1 + 12 + 6
    find(browser, "#random")[0].click()
    find(browser, "#drawing")[0].send_keys(Keys.ARROW_UP)  # the pen is lifted: nothing is drawn, and z stays
    next_frame(browser)
    assert "no longer the z" in text(browser, "#source") and browser.execute_script("return pen") == [200, 220]


@needs_browser
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


@needs_browser
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


@needs_browser
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


@needs_browser
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


@needs_browser
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
        "const start = performance.now(); toPixels(); return (performance.now() - start) / 1000"
    )
    assert seconds < 5


@needs_browser
def test_the_pen_of_the_keyboard_is_seen_before_its_first_key(browser):
    from selenium.webdriver.common.keys import Keys

    pen = find(browser, "#pen")[0]
    assert not pen.is_displayed()
    find(browser, "#kinds input")[0].send_keys(Keys.TAB)
    assert browser.execute_script("return document.activeElement === drawing") and pen.is_displayed()


@needs_browser
def test_undo_is_the_letter_z_or_its_place_on_other_alphabets_keyboards(browser):
    press = (
        "const options = {ctrlKey: true, bubbles: true, cancelable: true, ...arguments[0]};"
        "const event = new KeyboardEvent('keydown', options);"
        "document.body.dispatchEvent(event); return [strokes.length, event.defaultPrevented]"
    )
    set_strokes(browser, [*ONE, *SEVEN, *ONE])
    assert browser.execute_script(press, {"key": "y", "code": "KeyZ"}) == [3, False]  # a German keyboard's redo
    assert browser.execute_script(press, {"key": "я", "code": "KeyZ"}) == [2, True]  # Russian
    assert browser.execute_script(press, {"key": "z", "code": "KeyW"}) == [1, True]  # French
    assert browser.execute_script(press, {"key": "я", "code": "KeyZ", "shiftKey": True}) == [1, False]


@needs_browser
def test_a_screen_reader_passes_keys_to_the_drawing_and_everything_has_a_name(browser):
    found = [node for node in nodes(browser) if node[0] in USABLE]
    assert len(found) > 40 and [node for node in found if not node[1]] == []
    ((_, name, description),) = [node for node in found if node[0] == "application"]
    assert "digit" in name and "arrow keys" in description


@needs_browser
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
    assert said.startswith(("Read as ", "This does not")) and said == text(browser, "#drawn")


# ----------------------------------------------------------------------------------------- what an action leaves behind


@needs_browser
@pytest.mark.parametrize("action", ["clear", "undo", "model"])
def test_nothing_of_an_earlier_drawing_or_model_is_left(browser, action):
    find(browser, "#clear")[0].click()
    draw(browser, [(0.3, 0.3), (0.3, 0.7)])
    find(browser, "#digits input")[8].click()
    find(browser, "#images button")[3].click()
    if action == "model":
        find(browser, "#kinds input")[1].click()
        assert text(browser, "#drawn") == "Encoded. The VAE reads no digit."
        find(browser, "#images button")[0].click()
    else:
        find(browser, f"#{action}")[0].click()
        assert not bars(browser).any() and text(browser, "#digits output") == ""
        assert image(browser, "#seen").max() == image(browser, "#reconstruction").max() == 0
        assert find(browser, ".read") == []
        assert text(browser, "#drawn") == "Nothing is drawn."
        assert text(browser, "#source") == "Nothing is drawn: this z is of no drawing."
        assert text(browser, "#loss").startswith("Test images: 100.5 on average, 99 % below ")
        assert browser.execute_script("return z") == [0] * 15
        find(browser, "#random")[0].click()
        next_frame(browser)
        assert text(browser, "#source").startswith("Nothing is drawn") and not find(browser, "#back")[0].is_displayed()
        find(browser, "#images button")[0].click()
    size = browser.execute_script("return [z.length, z.every(Number.isFinite), marks.every(m => m.z.length === 15)]")
    assert size == [15, True, True] and np.isfinite(image(browser, "#between")).all()
    assert errors(browser) == []


@needs_browser
def test_with_nothing_drawn_the_other_model_shows_its_image_of_zeros(browser, page):
    find(browser, "#clear")[0].click()
    find(browser, "#kinds input")[1].click()
    zero = page[1]["vae"].decoder(np.zeros((1, 15), np.float32))
    np.testing.assert_allclose(image(browser, "#images canvas"), zero[0, 0], atol=21 / 255)
    assert text(browser, "#about").startswith("A VAE ") and text(browser, "#drawn") == "Nothing is drawn."
    np.testing.assert_array_equal(image(browser, "#mark-0"), image(browser, "#images canvas"))
    assert errors(browser) == []
    find(browser, "#kinds input")[0].click()
    np.testing.assert_allclose(digits(browser), decoded(page[1]["cvae"], np.zeros(15)), atol=21 / 255)
    assert text(browser, "#about").startswith("A CVAE ")


@needs_browser
def test_clear_can_be_undone_and_the_next_digit_is_read_for_itself(browser):
    assert not find(browser, "#undo")[0].is_enabled()
    set_strokes(browser, SEVEN)
    find(browser, "#digits input")[8].click()
    find(browser, "#clear")[0].click()
    assert stroke_count(browser) == 0 and not find(browser, "#clear")[0].is_enabled()
    find(browser, "#undo")[0].click()
    assert browser.execute_script("return strokes") == SEVEN
    assert "Encoded" not in text(browser, "#drawn") and find(browser, "#digits input")[10].is_selected()


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_a_moved_z_is_not_called_the_drawing_s_and_goes_back_to_it(browser, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    set_strokes(browser, SEVEN)
    before, back = image(browser, "#images canvas"), find(browser, "#back")[0]
    moves = {
        "random": lambda: find(browser, "#random")[0].click(),
        "slider": lambda: set_slider(browser, "sliders[0]", 2.9),
        "map": lambda: find(browser, "#pad")[0].send_keys("\ue014"),  # right
    }
    for move in moves.values():
        assert text(browser, "#source").startswith("The z of the drawing") and not back.is_displayed()
        move()
        next_frame(browser)
        assert "no longer the z of the drawing" in text(browser, "#source")
        back.click()
        np.testing.assert_array_equal(image(browser, "#images canvas"), before)


@needs_browser
def test_a_frame_is_on_a_chosen_image_only_while_it_is_that_image(browser):
    find(browser, "#zero")[0].click()
    next_frame(browser)
    find(browser, "#images button")[2].click()
    assert pressed(browser) == [2]
    set_slider(browser, "sliders[0]", 2)
    next_frame(browser)
    assert pressed(browser) == []
    find(browser, "#images button")[7].click()
    assert pressed(browser) == [7]
    find(browser, "#zero")[0].click()
    next_frame(browser)
    assert pressed(browser) == [2]


@needs_browser
def test_a_slider_reaches_a_z_that_is_drawn_far_out(browser):
    for value, end in ((4.2, 5), (-1, 3)):
        browser.execute_script("setZ(withLatent(0, arguments[0]))", value)
        next_frame(browser)
        shown = browser.execute_script("return [sliders[0].value, sliders[0].min, sliders[0].max].map(Number)")
        assert shown == [pytest.approx(value), -end, end]


@needs_browser
def test_between_goes_from_one_marked_image_to_the_other(browser):
    find(browser, "#zero")[0].click()
    next_frame(browser)
    find(browser, "#images button")[2].click()
    two = image(browser, "#mark-0")
    assert text(browser, "#marked") == "Choose another image." and not find(browser, "#mix")[0].is_enabled()
    set_slider(browser, "sliders[0]", 2)
    seven = digits(browser)[7]
    find(browser, "#images button")[7].click()
    mix = "document.getElementById('mix')"
    assert browser.execute_script(f"return {mix}.value") == "0.5"
    for t, expected in ((0, two), (1, seven)):
        set_slider(browser, mix, t)
        np.testing.assert_allclose(image(browser, "#between"), expected, atol=1e-6)
    np.testing.assert_allclose(digits(browser)[7], seven, atol=1e-6)
    set_slider(browser, mix, 0.5)
    next_frame(browser)
    assert browser.execute_script("return z[0]") == pytest.approx(1)


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_between_starts_in_the_middle_of_two_images(browser, page, kind):
    """Of the drawing's z, as the digit read and as another; by the VAE, on the map's other side. z is not moved."""
    find(browser, "#kinds input")[kind == "vae"].click()
    set_strokes(browser, SEVEN)
    z, digit, axes, deviations = browser.execute_script(
        "return [z, digit, models[kind].axes[0], models[kind].deviations[0]]"
    )
    decoder = page[1][kind].decoder
    if kind == "cvae":
        ends = np.eye(10)[[digit, (digit + 3) % 10]]
        inputs = [[*z, *one_hot] for one_hot in (*ends, ends.mean(axis=0))]
        assert pressed(browser) == sorted([digit, (digit + 3) % 10])
    else:
        along = np.dot(axes, z)
        other = z + (-2 * np.sign(along) * deviations - along) * np.array(axes)
        inputs = [z, other, (z + other) / 2]
        assert "before and after" in text(browser, "#marked")
    expected = np.asarray(decoder(np.array(inputs, np.float32)))[:, 0]
    for selector, pixels in zip(("#mark-0", "#mark-1", "#between"), expected):
        np.testing.assert_allclose(image(browser, selector), pixels, atol=21 / 255)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    assert text(browser, "#source").startswith("The z of the drawing")


@needs_browser
def test_a_button_plays_between_until_it_or_something_else_is_used(browser):
    mix, button = find(browser, "#mix")[0], find(browser, "#play")[0]
    value = "return Number(document.getElementById('mix').value)"
    before = image(browser, "#between")
    for stop in (button, find(browser, "#random")[0]):
        button.click()
        first = browser.execute_script(value)
        wait_until(browser, lambda: browser.execute_script(value) != first)
        assert text(browser, "#play") == "Stop"
        stop.click()
        assert text(browser, "#play") == "Play"
        stopped = browser.execute_script(value)
        next_frame(browser)
        next_frame(browser)
        assert browser.execute_script(value) == stopped and mix.is_enabled()
    assert np.abs(image(browser, "#between") - before).max() > 0.01


@needs_browser
def test_the_ten_images_can_be_saved_as_a_png(browser, tmp_path):
    from PIL import Image

    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    expected = digits(browser)
    find(browser, "#save")[0].click()
    path = tmp_path / "handwriting.png"
    wait_until(browser, path.exists)
    saved = np.asarray(Image.open(path).convert("L")) / 255
    assert saved.shape == (112, 1120)
    np.testing.assert_allclose(saved[2::4, 2::4], np.concatenate(list(expected), axis=1), atol=1e-6)


# ------------------------------------------------------------------------------------------------- widths and colours


def emulate(browser, **features):
    """Media features, such as prefers_color_scheme="dark"."""
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@needs_browser
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


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_person_s_scheme(browser, scheme):
    emulate(browser, prefers_color_scheme=scheme)
    colours = browser.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    text, ground = (np.mean([int(part) for part in colour[4:-1].split(",")]) for colour in colours)
    assert (text > 200 > 60 > ground) if scheme == "dark" else (text < 60 < 200 < ground)
    emulate(browser)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_leave_bars_pad_drawing_and_chosen_images_to_be_seen(browser, scheme):
    emulate(browser, forced_colors="active", prefers_color_scheme=scheme)
    find(browser, "#zero")[0].click()  # the dot is in the middle
    find(browser, "#images button")[3].click()
    next_frame(browser)

    def differ(a, b):
        return np.abs(a - b).max() > 60

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
    chosen, other = (screenshot(browser, f"#images button:nth-child({i})")[:2, 40] for i in (4, 5))
    assert differ(chosen, other)
    emulate(browser)


@needs_browser
def test_what_is_pressed_on_a_telephone_is_24_pixels_high_and_wide(telephone):
    telephone.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    small = telephone.execute_script(
        "return [...document.querySelectorAll('main button, main input, main summary, #drawing, #pad')]"
        ".map(e => [e.outerHTML, e.getBoundingClientRect()]).filter(([_, b]) => b.width || b.height)"
        ".filter(([_, b]) => b.width < 24 || b.height < 24)"
    )
    assert small == []


@needs_browser
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


@needs_browser
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


@needs_browser
def test_on_paper_the_drawing_the_bars_and_the_dot_are_seen_in_the_colours_for_white(browser):
    accent, grey, line = (0x0B, 0x62, 0xD6), (0x8C, 0x95, 0x9F), (0xD0, 0xD7, 0xDE)
    browser.execute_script("window.style = document.createElement('style'); document.head.append(style)")
    emulate(browser, prefers_color_scheme="dark")
    assert {accent, grey, line} <= printed_colours(browser, ".bar, .bar *")
    emulate(browser)
    assert {accent, grey, line} <= printed_colours(browser, ".bar, .bar *")
    assert (0, 0, 0) in printed_colours(browser, "#drawing")
    assert accent in printed_colours(browser, "#dot") and accent in printed_colours(browser, ".read span")

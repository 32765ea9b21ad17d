"""The page in headless Chromium: its numbers against Keras and NumPy, and what it shows."""

import json
import re

import assignment
import explore
import numpy as np
import pytest
import tensorflow as tf
from browser import draw, find, mouse, open_page, resize, wait_for_previews, wait_until
from conftest import second_input
from extras import evaluation
from page import (
    LOW,
    ONE,
    SEVEN,
    USABLE,
    a,
    bars,
    decoded,
    digits,
    errors,
    image,
    is_enabled,
    losses_in_python,
    needs_browser,
    next_frame,
    nodes,
    pressed,
    scores_in_python,
    set_slider,
    set_strokes,
    shown_pixels,
    stroke_count,
    text,
)

pytest_plugins = ["page"]
pytestmark = needs_browser


def test_300_batches_of_rendered_digits_teach_both_models(learned, data):
    """Enough to beat the mean image, and to draw the requested digit."""
    x = data.x_test[:, None] / np.float32(255)
    y = data.y_test
    mean = np.clip(data.x_train.mean(axis=0) / 255, 1e-7, 1 - 1e-7)
    of_mean = -np.sum(x * np.log(mean) + (1 - x) * np.log(1 - mean)) / len(x)
    for model in learned.values():
        assert evaluation.evaluate(model, data).loss < 0.8 * of_mean
    drawn = learned["cvae"].decode(tf.random.normal((200, 15)), tf.repeat(tf.eye(10), 20, axis=0)).numpy()
    of_digit = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])  # each digit's mean image
    nearest = ((drawn[:, None] - of_digit[None]) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(nearest == np.repeat(np.arange(10), 20)) > 0.8


# --------------------------------------------------------------------------------------------------------- the numbers


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

    x, y = data.x_test[:50], data.y_test[:50]
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


def test_a_linear_layer_is_exact_to_the_rounding_of_its_inputs(browser):
    """Also for the largest weights of one sign, which come nearest to mixing up two outputs that share a number."""
    rng = np.random.default_rng(0)
    for size, outputs in ((794, 7), (15, 352)):
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


def test_the_page_reads_digits_as_python_does(browser, page, data):
    x, y = assignment.to_pixels(data.x_test[:300]), data.y_test[:300]
    ours = np.array(
        browser.execute_script("return arguments[0].map(x => explorer.classify(x))", np.reshape(x, (300, 784)).tolist())
    )
    theirs = scores_in_python(page[1]["cvae"], x)
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-6)
    assert abs(np.mean(ours.argmax(axis=1) == y) - np.mean(theirs.argmax(axis=1) == y)) <= 0.0034  # one image
    assert np.mean(theirs.argmax(axis=1) == y) > 0.9
    assert np.median(np.abs(ours - theirs).max(axis=1)) < 0.01


def test_random_is_a_standard_normal(browser):
    values = np.array(browser.execute_script("return Array.from({length: 4000}, normal)"))
    assert abs(values.mean()) < 0.07 and abs(values.std() - 1) < 0.05
    assert 0.65 < np.mean(np.abs(values) < 1) < 0.72 and 0.035 < np.mean(np.abs(values) > 2) < 0.057
    find(browser, "#styles button")[0].click()
    assert len(set(browser.execute_script("return z"))) == 15


# ------------------------------------------------------------------------------------------------- what the page shows


def test_the_page_opens_with_a_drawn_digit_its_reading_and_its_ten_images(browser, page):
    assert text(browser, "#run") == (
        "CVAE with 15 latents, trained on some <data> for 2 epochs; test loss 100.50 nats per image."
    )
    model, x = page[1]["cvae"], shown_pixels(browser)
    assert x.sum() > 50
    read = scores_in_python(model, x)[0].argmax()
    assert text(browser, "#drawn") == f"An example. It looks like {a(read)}."
    _, mu, _ = model(x, np.eye(10, dtype=np.float32)[[read]])
    np.testing.assert_allclose(digits(browser), decoded(model, mu[0]), atol=21 / 255)


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
    assert text(browser, "#drawn").startswith("An example.") and not is_enabled(browser, "#undo")


def test_the_page_loads_nothing_and_logs_no_error(browser, page):
    browser.get_log("performance")
    open_page(browser, page[0])
    resize(browser, 1000, LOW)
    for button in ("#random", "#styles button", "#zero", "#sample", "#save"):
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


def test_the_template_names_the_command_that_makes_the_page(chromium):
    chromium.get_log("browser")
    chromium.get(explore.TEMPLATE.as_uri())
    assert "python code/explore.py" in text(chromium, "body")
    assert not USABLE & {role for role, _, _ in nodes(chromium)}
    assert chromium.get_log("browser") == []


def test_without_scripts_the_page_says_what_it_needs_and_shows_nothing_that_does_nothing(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page[0].as_uri())
    found = nodes(chromium)
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert not USABLE & {role for role, _, _ in found}
    assert "needs JavaScript" in " ".join(name for role, name, _ in found if role == "StaticText")


def test_a_saved_copy_of_a_saved_copy_works_as_the_page_does(browser, tmp_path):
    """As "Save page as, complete" writes it: what the script has put into the page is in the file already."""
    for i in range(2):
        find(browser, "#kinds input")[1].click()
        find(browser, "#styles button")[0].click()
        markup = browser.execute_script("return document.documentElement.outerHTML")
        copy = tmp_path / f"copy_{i}.html"
        copy.write_text(f"<!DOCTYPE html>\n{markup}", "utf-8")
        open_page(browser, copy)
    filled = ("#kinds input", "#images button", "#digits input", "#digits .bar", "main section")
    assert [len(find(browser, selector)) for selector in filled] == [2, 10, 11, 10, 8]
    draw(browser, [(0.3, 0.3), (0.3, 0.7)])
    find(browser, "#digits input")[7].click()
    assert "the drawing is encoded as a 7." in text(browser, "#drawn") and errors(browser) == []


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


def test_nonsense_does_not_look_like_a_digit_and_nearly_all_test_images_do(browser, page, data):
    """The limits are those of the test images: 99 % of them are below that of the loss, none beyond those of ink."""
    x = assignment.to_pixels(data.x_test[:300]).numpy()
    doubts = browser.execute_script(
        "return arguments[0].map(x => doubtAbout(x, Math.min(...reconstruct('cvae', x).map(({loss}) => loss))))",
        x.reshape(300, 784).tolist(),
    )
    assert np.mean([doubt is None for doubt in doubts]) > 0.95
    circle = [[140 + 80 * np.cos(t), 140 + 80 * np.sin(t)] for t in np.linspace(0, 2 * np.pi, 30)]
    smiley = [circle, [[110, 115]], [[170, 115]], [[105, 165], [140, 185], [175, 165]]]
    rows = [[[x, y] for y in range(20, 270, 12) for x in (20, 260)]]
    for strokes, reason in (([[[140, 140]]], "less ink"), (rows, "more ink"), (smiley, "fits worse than 99 %")):
        set_strokes(browser, strokes)
        assert text(browser, "#drawn").startswith("This does not look like a digit: ")
        assert reason in text(browser, "#drawn") and " The nearest is a" in text(browser, "#drawn")
        assert find(browser, ".predicted") == []
    find(browser, "#kinds input")[1].click()
    assert text(browser, "#drawn").startswith("This does not look like a digit: ")
    assert "nearest" not in text(browser, "#drawn")


@pytest.mark.parametrize("fit, answer", [(35, "It looks like {}."), (25, "Perhaps {}, but it fits badly.")])
def test_a_prediction_of_a_bad_fit_is_put_as_a_guess(browser, page, fit, answer):
    set_strokes(browser, SEVEN)
    losses = losses_in_python(page[1]["cvae"], shown_pixels(browser))[0]
    usual = losses.min() / (1 - fit / 100)
    browser.execute_script("models.cvae.usual.loss = arguments[0]; finishDrawing()", usual)
    assert text(browser, "#drawn") == answer.format(a(losses.argmin()))


def test_a_slider_changes_the_ten_images_which_are_those_of_keras(browser, page):
    find(browser, "#zero")[0].click()
    before = digits(browser)
    set_slider(browser, "sliders[0]", 2)
    after = digits(browser)
    model = page[1]["cvae"]
    np.testing.assert_allclose(before, decoded(model, np.zeros(15)), atol=21 / 255)
    np.testing.assert_allclose(after, decoded(model, 2 * np.eye(15)[0]), atol=21 / 255)
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.01).all()


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


def test_a_one_drawn_with_the_mouse_comes_back_as_a_one_and_changes_the_ten_digits(browser):
    find(browser, "#zero")[0].click()
    before = digits(browser)
    find(browser, "#digits input")[1].click()
    draw(browser, [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7)])  # not in the middle
    seen, back, after = (
        image(browser, "#view-cvae .input"),
        image(browser, "#view-cvae .reconstruction"),
        digits(browser),
    )
    near = np.zeros((28, 28), bool)
    near[2:26, 8:20] = True  # where the strokes were, and a few pixels around
    assert back[near].sum() > 0.9 * back.sum() > 10
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.05).all()
    np.testing.assert_allclose(after[1], back, atol=1e-6)  # the same z, as a 1

    draw(browser, [(0.6, 0.2), (0.6, 0.8)])
    assert not np.array_equal(image(browser, "#view-cvae .input"), seen)
    find(browser, "#undo")[0].click()
    np.testing.assert_array_equal(image(browser, "#view-cvae .input"), seen)


def test_auto_takes_the_digit_with_the_least_loss_and_a_choice_stays_until_auto(browser, page):
    set_strokes(browser, ONE)
    read = int(np.argmin(losses_in_python(page[1]["cvae"], shown_pixels(browser))))
    other = (read + 3) % 10
    assert text(browser, "#drawn") == f"It looks like {a(read)}."
    np.testing.assert_allclose(image(browser, "#view-cvae .reconstruction"), digits(browser)[read], atol=1e-6)
    find(browser, "#digits input")[other].click()
    chosen = f"You chose {other}: the drawing is encoded as {a(other)}."
    assert text(browser, "#drawn") == f"It looks like {a(read)}. {chosen}"
    np.testing.assert_allclose(image(browser, "#view-cvae .reconstruction"), digits(browser)[other], atol=1e-6)
    set_strokes(browser, SEVEN)
    assert f"You chose {other}: " in text(browser, "#drawn")
    find(browser, "#digits input")[10].click()
    assert "You chose" not in text(browser, "#drawn")


def test_how_well_each_digit_fits_is_a_bar_and_a_number(browser, page):
    """100 for a loss of 0, and 0 from the loss on that 99 % of the test images stay below."""
    set_strokes(browser, SEVEN)
    (expected,) = losses_in_python(page[1]["cvae"], shown_pixels(browser))
    usual = browser.execute_script("return models.cvae.usual.loss")
    fits = np.maximum(1 - expected / usual, 0)
    np.testing.assert_allclose(bars(browser), fits, atol=0.03)
    assert np.ptp(bars(browser)) > 0.3
    shown = [int(number.text) for number in find(browser, "#digits .reading")]
    np.testing.assert_allclose(shown, 100 * fits, atol=3)
    rows, images = find(browser, "#digits label"), find(browser, "#images button")
    marked = [[i for i, row in enumerate(some) if "predicted" in row.get_attribute("class")] for some in (rows, images)]
    assert marked == [[np.argmin(expected)]] * 2
    assert "the predicted one" in images[np.argmin(expected)].get_attribute("aria-label")


@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_the_loss_of_the_drawing_is_shown_with_its_terms(browser, page, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    if kind == "cvae":
        find(browser, "#digits input")[7].click()
    set_strokes(browser, SEVEN)
    shown = text(browser, f"#view-{kind} .loss") + text(browser, f"#view-{kind} .average")
    numbers = [float(number) for number in re.findall(r"\d+\.\d", shown)]
    x, model = shown_pixels(browser).astype(float), page[1][kind]
    _, mu, logvar = (np.asarray(value) for value in model(x, *second_input(model, [7])))
    z = np.concatenate([mu, np.eye(10)[[7]]], axis=1) if kind == "cvae" else mu
    x_hat = np.asarray(model.decoder(z.astype(np.float32)), float)
    reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar))
    np.testing.assert_allclose(numbers[:2], [reconstruction, kl], rtol=0.03, atol=0.5)
    assert numbers[2] == pytest.approx(sum(numbers[:2]), abs=0.11) and numbers[3] == 100.5
    assert numbers[4] == pytest.approx(browser.execute_script(f"return models.{kind}.usual.loss"), abs=0.06)


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
    assert text(browser, "#unused summary").startswith(f"{len(unused)} latents are inactive")
    assert not find(browser, "#unused input")[0].is_displayed()
    set_slider(browser, "sliders[2]", 2)
    assert browser.execute_script("return z")[2] == 2


def test_the_vae_shows_one_image_and_draws_without_a_class(browser, page):
    find(browser, "#kinds input")[1].click()
    assert len(find(browser, "#images button")) == 1 and not find(browser, "#digits")[0].is_displayed()
    set_strokes(browser, ONE)
    np.testing.assert_allclose(image(browser, "#images canvas"), image(browser, "#view-vae .reconstruction"), atol=1e-6)
    find(browser, "#zero")[0].click()
    zero = page[1]["vae"].decoder(np.zeros((1, 15), np.float32))
    np.testing.assert_allclose(image(browser, "#images canvas"), zero[0, 0], atol=21 / 255)


def test_what_is_said_of_the_vae_is_of_one_image_and_no_reading(browser):
    find(browser, "#kinds input")[1].click()
    assert text(browser, "#title-images") == "The image of this z"
    assert text(browser, "#drawn") == "An example. The VAE does not predict digits: it was never told the labels."
    browser.execute_script("document.querySelector('#result details').open = true")
    words = text(browser, "main")
    assert "Bayes" not in words and "handwriting" not in words.lower() and "two" not in text(browser, "#shown")
    assert [text(browser, f"#title-{card}") for card in ("map", "styles")] == ["Map of z", "Random images"]
    assert not find(browser, "#wrong")[0].is_displayed()
    find(browser, "#images button")[0].click()
    assert text(browser, "#marked") == "Now move z, then click the image again."
    browser.execute_script("models.vae.variances = models.vae.variances.map((_, i) => Number(i !== 3)); choose('vae')")
    said = text(browser, "#unused summary")
    assert said.startswith("1 latent is inactive: its mu") and said.endswith("ignores it.")


def map_cells(browser):
    """The images (7, 7, 28, 28) behind the dot."""
    data = browser.execute_script("return Array.from(byId('map').getContext('2d').getImageData(0, 0, 196, 196).data)")
    return np.reshape(data, (7, 28, 7, 28, 4))[..., 0].swapaxes(1, 2) / 255


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


def test_the_map_is_drawn_again_for_another_digit_but_not_for_the_dot_nor_during_a_stroke(browser):
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


# ---------------------------------------------------------------------------------------- what an action leaves behind


@pytest.mark.parametrize("action", ["clear", "undo", "model"])
def test_nothing_of_an_earlier_drawing_or_model_is_left(browser, action):
    find(browser, "#clear")[0].click()
    draw(browser, [(0.3, 0.3), (0.3, 0.7)])
    find(browser, "#digits input")[8].click()
    find(browser, "#images button")[3].click()
    if action == "model":
        find(browser, "#kinds input")[1].click()
        assert text(browser, "#drawn") == "The VAE does not predict digits: it was never told the labels."
        find(browser, "#images button")[0].click()
    else:
        find(browser, f"#{action}")[0].click()
        assert not bars(browser).any() and text(browser, "#digits .reading") == ""
        assert find(browser, ".predicted") == []
        assert text(browser, "#drawn") == "Nothing drawn."
        assert text(browser, "#source") == "Nothing drawn: z does not come from a drawing."
        assert not find(browser, "#made")[0].is_displayed() and not find(browser, "#wrong")[0].is_displayed()
        assert browser.execute_script("return z") == [0] * 15
        find(browser, "#styles button")[0].click()
        next_frame(browser)
        assert text(browser, "#source").startswith("A random style") and not is_enabled(browser, "#back")
        find(browser, "#images button")[0].click()
    size = browser.execute_script("return [z.length, z.every(Number.isFinite), marks.every(m => m.z.length === 15)]")
    assert size == [15, True, True] and np.isfinite(image(browser, "#between")).all()
    assert errors(browser) == []


def test_with_nothing_drawn_the_other_model_shows_its_image_of_zeros(browser, page):
    find(browser, "#clear")[0].click()
    find(browser, "#kinds input")[1].click()
    zero = page[1]["vae"].decoder(np.zeros((1, 15), np.float32))
    np.testing.assert_allclose(image(browser, "#images canvas"), zero[0, 0], atol=21 / 255)
    assert "a few numbers" in text(browser, "#about") and text(browser, "#drawn") == "Nothing drawn."
    np.testing.assert_array_equal(image(browser, "#mark-0"), image(browser, "#images canvas"))
    assert errors(browser) == []
    find(browser, "#kinds input")[0].click()
    np.testing.assert_allclose(digits(browser), decoded(page[1]["cvae"], np.zeros(15)), atol=21 / 255)
    assert "all ten digits" in text(browser, "#about")


def test_clear_can_be_undone_and_the_next_digit_is_read_for_itself(browser):
    assert not is_enabled(browser, "#undo")
    set_strokes(browser, SEVEN)
    find(browser, "#digits input")[8].click()
    find(browser, "#clear")[0].click()
    assert stroke_count(browser) == 0 and not is_enabled(browser, "#clear")
    find(browser, "#undo")[0].click()
    assert browser.execute_script("return strokes") == SEVEN
    assert "You chose" not in text(browser, "#drawn") and find(browser, "#digits input")[10].is_selected()


@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_a_moved_z_is_not_called_the_drawing_s_and_goes_back_to_it(browser, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    set_strokes(browser, SEVEN)
    before, back = image(browser, "#images canvas"), find(browser, "#back")[0]
    moves = {
        "random": lambda: find(browser, "#styles button")[0].click(),
        "slider": lambda: set_slider(browser, "sliders[0]", 2.9),
        "map": lambda: find(browser, "#pad")[0].send_keys("\ue014"),  # right
    }
    for move in moves.values():
        assert text(browser, "#source").startswith("The ") and not is_enabled(browser, "#back")
        move()
        next_frame(browser)
        source = text(browser, "#source")
        assert is_enabled(browser, "#back")
        assert source.startswith(("z has been moved: this is no longer the ", "A random "))
        assert ("style" in source) == (kind == "cvae")
        back.click()
        np.testing.assert_array_equal(image(browser, "#images canvas"), before)


def tags(browser):
    """What is written on the frames of the images, by their places."""
    words = [tag.text for tag in find(browser, "#images .tag")]
    return {place: word for place, word in enumerate(words) if word}


def test_a_frame_is_on_a_chosen_image_only_while_it_is_that_image(browser):
    find(browser, "#zero")[0].click()
    next_frame(browser)
    find(browser, "#images button")[2].click()
    assert pressed(browser) == [2]
    set_slider(browser, "sliders[0]", 2)
    next_frame(browser)
    assert pressed(browser) == []
    find(browser, "#images button")[7].click()
    assert pressed(browser) == [7] and tags(browser) == {7: "second"}
    find(browser, "#zero")[0].click()
    next_frame(browser)
    assert pressed(browser) == [2] and tags(browser) == {2: "first"}
    find(browser, "#reset")[0].click()
    assert sorted(tags(browser).values()) == ["first", "second"]
    assert text(browser, "#marked") == "Click two digits above to morph one into the other."


def test_a_slider_reaches_a_z_that_is_drawn_far_out(browser):
    for value, end in ((4.2, 5), (-1, 3)):
        browser.execute_script("setZ(withLatent(0, arguments[0]))", value)
        next_frame(browser)
        shown = browser.execute_script("return [sliders[0].value, sliders[0].min, sliders[0].max].map(Number)")
        assert shown == [pytest.approx(value), -end, end]


def test_between_goes_from_one_marked_image_to_the_other(browser):
    find(browser, "#zero")[0].click()
    next_frame(browser)
    find(browser, "#images button")[2].click()
    two = image(browser, "#mark-0")
    assert text(browser, "#marked") == "Now click the second digit." and not find(browser, "#mix")[0].is_enabled()
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
        assert text(browser, "#marked").startswith("Click the image above, move z, then click it again to morph")
    expected = np.asarray(decoder(np.array(inputs, np.float32)))[:, 0]
    for selector, pixels in zip(("#mark-0", "#mark-1", "#between"), expected):
        np.testing.assert_allclose(image(browser, selector), pixels, atol=21 / 255)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    assert "z of your drawing" in text(browser, "#source") and not is_enabled(browser, "#back")


def test_a_button_plays_between_until_it_or_something_else_is_used(browser):
    mix, button = find(browser, "#mix")[0], find(browser, "#play")[0]
    value = "return Number(document.getElementById('mix').value)"
    before = image(browser, "#between")
    for stop in (button, find(browser, "#styles button")[0]):
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

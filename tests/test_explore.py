"""The page, in headless Chromium, against Keras, with mouse, fingers and keyboard; and its models' learning."""

import functools
import json
import re

import assignment
import explore
import numpy as np
import pytest
import tensorflow as tf
import vae
from browser import BROWSER, DRIVER, draw, find, open_chromium, open_page, resize, touch
from conftest import arguments, needs_mnist, second_input, small_arrays

needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="there is no chromium with its chromedriver")
RECORD = {"data": "some <data>", "seed": 0, "history": [[200.0, 90.0, 30.0], [150.0, 80.0, 20.5]]}


def save(model, folder):
    """Saves a model in a folder as a run would have."""
    assignment.save_model_weights(model, arguments(is_cvae=isinstance(model, vae.CVAE)))
    (folder / f"{type(model).__name__.lower()}.run.json").write_text(json.dumps(RECORD))


@pytest.fixture(scope="module")
def learned(rendered):
    """A VAE and a CVAE after 240 batches of rendered digits, by their kind."""
    data = assignment.new_data("rendered", *rendered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "load_data", lambda: data)
        tf.keras.utils.set_random_seed(0)
        models = {kind: kind(784) for kind in (vae.VAE, vae.CVAE)}
        for kind, model in models.items():
            assignment.train_vae(
                model, assignment.load_mnist(128).take(240), arguments(1.2e-3, num_epochs=1), kind is vae.CVAE
            )
    return models


@pytest.fixture(scope="module")
def page(rendered, learned, tmp_path_factory):
    """The page of both models after 240 batches of rendered digits: its path, and the models."""
    folder = tmp_path_factory.mktemp("page")
    data = assignment.new_data(RECORD["data"], *rendered)

    def mu_of(model):
        """The test images' mu as if the model did not use two of its latents."""
        mu = np.array(assignment.forward(model, assignment.to_pixels(data.x_test[:1000]), data.y_test[:1000])[1])
        mu[:, [2, 7]] *= 1e-4
        return 80.0, 20.5, mu

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "OUTPUTS", folder)
        patch.setattr(assignment, "load_data", lambda: data)
        patch.setattr(assignment, "evaluate", mu_of)
        for model in learned.values():
            save(model, folder)
        explore.main([])
    return folder / "explore.html", {kind.__name__.lower(): model for kind, model in learned.items()}


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


def image(browser, selector):
    """The pixels (28, 28) in [0, 1] of a canvas, after what is under way is shown."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    data = browser.execute_script(
        "return Array.from(document.querySelector(arguments[0]).getContext('2d').getImageData(0, 0, 28, 28).data)",
        selector,
    )
    return np.reshape(data, (28, 28, 4))[..., 0] / 255


def digits(browser):
    """The ten images (10, 28, 28) that are shown."""
    return np.array([image(browser, f"#images button:nth-child({i}) canvas") for i in range(1, 11)])


def set_slider(browser, slider, value):
    """`slider` is the expression of an element in the page."""
    browser.execute_script(f"{slider}.value = {value}; {slider}.dispatchEvent(new Event('input'))")


def shown_pixels(browser):
    """The drawing as the encoder sees it, unrounded: float32 (1, 1, 28, 28)."""
    return np.reshape(browser.execute_script("return toPixels()"), (1, 1, 28, 28)).astype(np.float32)


def text(browser, selector):
    return find(browser, selector)[0].text


def bars(browser):
    """The widths of the ten bars, from 0 to 1."""
    return np.array(browser.execute_script("return bars.map(bar => parseFloat(bar.style.width))")) / 100


# ------------------------------------------------------------------------------------------- the models behind the page


def test_240_batches_of_rendered_digits_teach_both_models(learned, rendered_mnist):
    """Enough to beat the mean image, and to draw the digit that was asked for."""
    x = rendered_mnist.x_test.numpy()[:, None] / np.float32(255)
    y = rendered_mnist.y_test.numpy()
    mean = np.clip(rendered_mnist.x_train.numpy().mean(axis=0) / 255, 1e-7, 1 - 1e-7)
    of_mean = -np.sum(x * np.log(mean) + (1 - x) * np.log(1 - mean)) / len(x)
    for model in learned.values():
        reconstruction, kl, _ = assignment.evaluate(model)
        assert reconstruction + kl < 0.8 * of_mean
    drawn = (
        learned[vae.CVAE]
        .decoder(tf.concat([tf.random.normal((200, 15)), tf.repeat(tf.eye(10), 20, axis=0)], axis=-1))
        .numpy()
    )
    of_digit = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])  # each digit's mean image
    nearest = ((drawn[:, None] - of_digit[None]) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(nearest == np.repeat(np.arange(10), 20)) > 0.8


# ------------------------------------------------------------------------------------------------------ the numbers


def test_weights_in_8_bits_are_off_by_half_a_step_at_most():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    kernel[2] = 0
    kernel[3] *= 100
    data = explore.quantise(kernel, bias)
    assert len(data) == 4 * 5 + 4 * 7 + 5 * 7
    scales, read_bias = np.frombuffer(data, "<f4", 5), np.frombuffer(data, "<f4", 7, 20)
    read = np.frombuffer(data, "i1", 35, 48).reshape(5, 7) * scales[:, None]
    np.testing.assert_array_equal(read_bias, bias)
    assert (np.abs(read - kernel).max(axis=1) <= np.abs(kernel).max(axis=1) / 127 * 0.501 + 1e-12).all()


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_the_page_decodes_and_encodes_as_keras_does(browser, page, rendered, kind):
    rng, model = np.random.default_rng(1), page[1][kind]
    z = rng.normal(size=(50, 15)).astype(np.float32)
    asked = range(10) if kind == "cvae" else [None]
    ours = browser.execute_script(
        "return arguments[1].flatMap(z => arguments[2].map(d => explorer.decode(arguments[0], z, d)))",
        kind,
        z.tolist(),
        list(asked),
    )
    inputs = [
        np.concatenate([row, np.eye(10, dtype=np.float32)[d]]) if d is not None else row for row in z for d in asked
    ]
    theirs = np.reshape(model.decoder(np.array(inputs)), (len(inputs), 784))
    error = np.abs(np.array(ours) - theirs)
    assert error.mean() < 0.6 / 255 and error.max() < 20 / 255
    assert np.ptp(theirs, axis=0).max() > 0.5  # the images differ, or the comparison would say little

    x, y = rendered[2][:50], rendered[3][:50]
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


# --------------------------------------------------------------------------------------------------------- the page


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
    text = page[0].read_text("utf-8")
    assert page[0].stat().st_size < 4e6 and "http://" not in text and "https://" not in text


@needs_browser
def test_a_slider_changes_the_ten_images_which_are_those_of_keras(browser, page):
    before = digits(browser)
    set_slider(browser, "sliders[0]", 2)
    after = digits(browser)
    z = np.zeros((10, 15), np.float32)
    z[:, 0] = 2
    decoder = page[1]["cvae"].decoder
    np.testing.assert_allclose(
        after[:, None], decoder(np.concatenate([z, np.eye(10, dtype=np.float32)], axis=1)), atol=21 / 255
    )
    z[:, 0] = 0
    np.testing.assert_allclose(
        before[:, None], decoder(np.concatenate([z, np.eye(10, dtype=np.float32)], axis=1)), atol=21 / 255
    )
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.01).all()
    find(browser, "#zero")[0].click()
    np.testing.assert_array_equal(digits(browser), before)
    find(browser, "#random")[0].click()
    assert not np.array_equal(digits(browser), before)


@needs_browser
def test_keys_move_a_slider_and_the_pad(browser):
    from selenium.webdriver.common.keys import Keys

    def values():
        return browser.execute_script("return sliders.map(slider => Number(slider.value))")

    browser.execute_script("return sliders[3]").send_keys(Keys.ARROW_RIGHT)
    assert values()[3] == pytest.approx(0.05) and np.count_nonzero(values()) == 1
    find(browser, "#zero")[0].click()
    find(browser, "#pad")[0].send_keys(Keys.ARROW_RIGHT)
    axis, spread = browser.execute_script("return [models.cvae.axes[0], models.cvae.deviations[0]]")
    digits(browser)
    np.testing.assert_allclose(values(), 0.2 * spread * np.array(axis), atol=0.026)  # the sliders' steps are 0.05


@needs_browser
def test_the_pad_follows_the_mouse(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    pad = find(browser, "#pad")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    actions = ActionChains(browser, duration=10).move_to_element(pad).click_and_hold()
    actions.move_by_offset(pad.size["width"] // 6, -pad.size["height"] // 3).release().perform()
    digits(browser)
    z, axes, spreads = browser.execute_script("return [z, models.cvae.axes, models.cvae.deviations]")
    np.testing.assert_allclose(np.array(axes) @ z / spreads, [1, 2], atol=0.1)  # of -3 to 3
    dot = browser.execute_script("const s = document.getElementById('dot').style; return [s.left, s.top]")
    np.testing.assert_allclose([float(value.rstrip("%")) for value in dot], [100 * 4 / 6, 100 * 1 / 6], atol=2)


@needs_browser
def test_a_one_drawn_with_the_mouse_comes_back_as_a_one_and_changes_the_ten_digits(browser):
    before = digits(browser)
    find(browser, "#digits input")[1].click()
    draw(browser, [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7)])  # not in the middle
    seen = image(browser, "#seen")
    rows, columns = np.nonzero(seen > 0.5)
    assert 18 <= np.ptp(rows) + 1 <= 20 and np.ptp(columns) + 1 <= 4  # 20 pixels high, as MNIST's
    total = seen.sum()
    assert seen.sum(axis=0) @ np.arange(28) / total == pytest.approx(14, abs=0.1)  # the centre of mass
    assert seen.sum(axis=1) @ np.arange(28) / total == pytest.approx(14, abs=0.1)
    assert len(np.unique(seen)) > 3  # anti-aliased
    back = image(browser, "#reconstruction canvas")
    near = np.zeros((28, 28), bool)
    near[2:26, 8:20] = True  # where the strokes were, and a few pixels around
    assert back[near].sum() > 0.9 * back.sum() > 10
    after = digits(browser)
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.05).all()
    np.testing.assert_allclose(after[1], back, atol=1e-6)  # the same z, as a 1

    draw(browser, [(0.6, 0.2), (0.6, 0.8)])
    assert not np.array_equal(image(browser, "#seen"), seen)
    find(browser, "#undo")[0].click()
    np.testing.assert_array_equal(image(browser, "#seen"), seen)
    find(browser, "#clear")[0].click()
    assert image(browser, "#seen").max() == 0


@needs_browser
def test_keys_draw(browser):
    """A step is 10 of 280 pixels: 12 steps down and 6 to the right are an L twice as high as wide."""
    from selenium.webdriver.common.keys import Keys

    find(browser, "#drawing")[0].send_keys(
        " ", *[Keys.ARROW_DOWN] * 12, *[Keys.ARROW_RIGHT] * 6, " ", *[Keys.ARROW_UP] * 3
    )
    strokes = browser.execute_script("return strokes")
    assert len(strokes) == 1 and strokes[0][0] == [140, 140] and strokes[0][-1] == [200, 260]
    assert len(strokes[0]) == 1 + 12 + 6


@needs_browser
def test_a_drawing_s_centre_of_mass_is_in_the_middle_not_its_box(browser):
    draw(browser, [(0.3, 0.2), (0.3, 0.8), (0.7, 0.8)])  # an L: most ink is below and to the left
    pixels = shown_pixels(browser)[0, 0]
    rows, columns = np.nonzero(pixels > 0.5)
    assert abs((rows.min() + rows.max()) / 2 - 14) > 1
    for axis in (0, 1):
        assert pixels.sum(axis=axis) @ np.arange(28) / pixels.sum() == pytest.approx(14, abs=0.1)


@needs_mnist
@needs_browser
def test_a_drawn_one_is_as_high_as_wide_and_as_centred_as_mnist_s(browser):
    """Against MNIST's upright ones: height, ink by height, which is the width of the stroke, and centre of mass."""
    data, low, high = assignment.load_data(), [], []
    draw(browser, [(0.6, 0.3), (0.6, 0.5), (0.6, 0.7)])

    def statistics(image):
        rows, columns = (np.flatnonzero(image.max(axis=axis) > 0.5) for axis in (1, 0))
        height = np.ptp(rows) + 1
        centre = [image.sum(axis=axis) @ np.arange(28) / image.sum() for axis in (0, 1)]
        return np.ptp(columns) + 1, (height, image.sum() / height, *centre)

    ones = [statistics(image) for image in data.x_test.numpy()[data.y_test.numpy() == 1] / 255]
    low, high = np.quantile([values for width, values in ones if width <= 6], [0.1, 0.9], axis=0)
    _, drawn = statistics(shown_pixels(browser)[0, 0])
    row = np.array([1, 0, 0, 0])  # the drawing may stand between two rows
    assert ((low - row <= drawn) & (drawn <= high + row)).all(), (low, drawn, high)


@needs_browser
def test_random_is_a_standard_normal(browser):
    values = np.array(browser.execute_script("return Array.from({length: 4000}, normal)"))
    assert abs(values.mean()) < 0.07 and abs(values.std() - 1) < 0.05
    assert 0.65 < np.mean(np.abs(values) < 1) < 0.72 and 0.035 < np.mean(np.abs(values) > 2) < 0.057
    find(browser, "#random")[0].click()
    digits(browser)
    assert len(set(browser.execute_script("return z"))) == 15


# ------------------------------------------------------------------------------------------------ reading, and the loss


@needs_browser
def test_the_page_reads_digits_as_python_does(browser, page, rendered):
    model, x, y = page[1]["cvae"], assignment.to_pixels(rendered[2][:300]), rendered[3][:300]
    ours = np.array(
        browser.execute_script("return arguments[0].map(x => explorer.classify(x))", np.reshape(x, (300, 784)).tolist())
    )
    theirs = np.asarray(assignment.classify(model, x))
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-6)
    assert abs(np.mean(ours.argmax(axis=1) == y) - np.mean(theirs.argmax(axis=1) == y)) <= 0.0034  # one image
    assert np.mean(theirs.argmax(axis=1) == y) > 0.9
    assert np.median(np.abs(ours - theirs).max(axis=1)) < 0.01


@needs_browser
def test_auto_takes_the_digit_that_is_read_and_a_choice_stays_until_auto(browser):
    assert not bars(browser).any()
    draw(browser, [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)])
    expected = browser.execute_script("return explorer.classify(toPixels())")
    np.testing.assert_allclose(bars(browser), expected, atol=1e-4)
    read = int(np.argmax(expected))
    other = (read + 3) % 10
    assert f"reads a {read} " in text(browser, "#drawn") and f"Encoded as a {read}." in text(browser, "#drawn")
    np.testing.assert_allclose(image(browser, "#reconstruction canvas"), digits(browser)[read], atol=1e-6)
    find(browser, "#digits input")[other].click()
    assert f"reads a {read} " in text(browser, "#drawn") and f"Encoded as a {other}." in text(browser, "#drawn")
    np.testing.assert_allclose(image(browser, "#reconstruction canvas"), digits(browser)[other], atol=1e-6)
    draw(browser, [(0.45, 0.2), (0.5, 0.2)])
    assert f"Encoded as a {other}." in text(browser, "#drawn")
    find(browser, "#digits input")[10].click()
    assert f"Encoded as a {np.argmax(bars(browser))}." in text(browser, "#drawn")


@needs_browser
@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_the_loss_of_the_drawing_is_shown_with_its_terms(browser, page, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    assert text(browser, "#loss") == "Loss of the test images, on average: 100.5 nats."
    if kind == "cvae":
        find(browser, "#digits input")[7].click()
    draw(browser, [(0.3, 0.2), (0.7, 0.2), (0.4, 0.8)])
    numbers = [float(number) for number in re.findall(r"\d+\.\d", text(browser, "#loss"))]
    x, model = shown_pixels(browser).astype(float), page[1][kind]
    _, mu, logvar = (np.asarray(value) for value in model(x, *second_input(model, [7])))
    z = np.concatenate([mu, np.eye(10)[[7]]], axis=1) if kind == "cvae" else mu
    x_hat = np.asarray(model.decoder(z.astype(np.float32)), float)
    reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar))
    np.testing.assert_allclose(numbers[:2], [reconstruction, kl], rtol=0.03, atol=0.5)
    assert numbers[2] == pytest.approx(sum(numbers[:2]), abs=0.11) and numbers[3] == 100.5


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
    digits(browser) if kind == "cvae" else image(browser, "#images canvas")
    assert browser.execute_script("return z")[2] == 2


# ----------------------------------------------------------------------------------------------------------- pointers


@pytest.fixture
def telephone(browser):
    """The page on a telephone, the drawing in view."""
    resize(browser, 360, 780)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 5})
    browser.execute_script("document.getElementById('drawing').scrollIntoView({block: 'center'})")
    yield browser
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


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
    assert len(telephone.execute_script("return strokes")) == 2


@needs_browser
def test_a_cancelled_stroke_is_taken_back(telephone):
    touch(telephone, "touchStart", (0.3, 0.3))
    touch(telephone, "touchMove", (0.3, 0.6))
    assert len(telephone.execute_script("return strokes")) == 1
    touch(telephone, "touchCancel")
    assert telephone.execute_script("return strokes") == []
    assert image(telephone, "#seen").max() == 0


@needs_browser
def test_the_primary_button_alone_draws(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = find(browser, "#drawing")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser, duration=10).context_click(canvas).perform()
    box = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.x, b.y]", canvas)
    for button in ("right", "middle"):
        for kind in ("mousePressed", "mouseMoved", "mouseReleased"):
            browser.execute_cdp_cmd(
                "Input.dispatchMouseEvent",
                {"type": kind, "x": box[0] + 50, "y": box[1] + 60, "button": button, "clickCount": 1},
            )
    assert browser.execute_script("return strokes") == []


# ----------------------------------------------------------------------------------------- what an action leaves behind


@needs_browser
@pytest.mark.parametrize("action", ["clear", "undo", "model", "clear, then model", "mark, then draw"])
def test_nothing_of_an_earlier_drawing_or_model_can_be_pressed(browser, action):
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    button = find(browser, "#reconstruction")[0]
    button.click()
    assert button.get_attribute("aria-pressed") == "true" and image(browser, "#mark-0").max() > 0
    for part in action.split(", then "):
        if part in ("clear", "undo"):
            find(browser, f"#{part}")[0].click()
        elif part == "draw":
            draw(browser, [(0.3, 0.5), (0.7, 0.5)])
        elif part == "model":
            find(browser, "#kinds input")[1].click()
    assert button.get_attribute("aria-pressed") == "false"
    drawn = bool(browser.execute_script("return strokes.length"))
    assert button.is_enabled() == drawn and bars(browser).any() == (drawn and "model" not in action)
    if not drawn:
        assert image(browser, "#seen").max() == image(browser, "#reconstruction canvas").max() == 0
        assert "Encoded" not in text(browser, "#drawn") and "Reconstruction" not in text(browser, "#loss")
    if "model" in action:
        assert image(browser, "#mark-0").max() == 0 and not find(browser, "#mix")[0].is_enabled()
        assert text(browser, "#marked") == "Choose two images."
    browser.execute_script("arguments[0].click()", button)
    find(browser, "#images button")[0].click()
    if drawn:
        find(browser, "#images button")[0].click()
    size = browser.execute_script("return [z.length, z.every(Number.isFinite), marks.every(m => m.z.length === 15)]")
    assert size == [15, True, True] and np.isfinite(image(browser, "#between")).all()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@needs_browser
def test_between_goes_from_one_marked_image_to_the_other(browser):
    find(browser, "#images button")[2].click()
    two = image(browser, "#mark-0")
    set_slider(browser, "sliders[0]", 2)
    seven = digits(browser)[7]
    find(browser, "#images button")[7].click()
    assert [button.get_attribute("aria-pressed") for button in find(browser, "#images button")].count("true") == 2
    np.testing.assert_allclose(image(browser, "#between"), two, atol=1e-6)
    set_slider(browser, "document.getElementById('mix')", 1)
    np.testing.assert_allclose(image(browser, "#between"), seven, atol=1e-6)
    np.testing.assert_allclose(digits(browser)[7], seven, atol=1e-6)
    set_slider(browser, "document.getElementById('mix')", 0.5)
    digits(browser)
    assert browser.execute_script("return z[0]") == pytest.approx(1)


@needs_browser
def test_the_vae_shows_one_image_and_draws_without_a_class(browser, page):
    find(browser, "#kinds input")[1].click()
    assert len(find(browser, "#images button")) == 1 and not find(browser, "#digits")[0].is_displayed()
    zero = page[1]["vae"].decoder(np.zeros((1, 15), np.float32))
    np.testing.assert_allclose(image(browser, "#images canvas"), zero[0, 0], atol=21 / 255)
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    np.testing.assert_allclose(image(browser, "#images canvas"), image(browser, "#reconstruction canvas"), atol=1e-6)


@needs_browser
def test_the_page_names_the_run_of_its_weights(browser):
    text = find(browser, "#run")[0].text
    assert text == "CVAE with 15 latents, trained on some <data> for 2 epochs; test loss 100.50 nats per image."


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_360_pixels_show_the_whole_width_in_light_and_dark(browser, scheme):
    resize(browser, 360, 780)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')]"
        ".filter(e => e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML)"
    )
    assert outside == [] and browser.execute_script("return document.documentElement.scrollWidth") == 360
    colours = browser.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    text, ground = (np.mean([int(part) for part in colour[4:-1].split(",")]) for colour in colours)
    assert (text > 200 > 60 > ground) if scheme == "dark" else (text < 60 < 200 < ground)


@needs_browser
@pytest.mark.parametrize("selector", ["#drawing", "#latents"])
def test_on_a_telephone_the_images_stay_in_sight_while_one_draws_or_moves_a_slider(telephone, selector):
    element = find(telephone, selector)[0]
    telephone.execute_script("scrollBy(0, arguments[0].getBoundingClientRect().bottom - innerHeight)", element)
    boxes = telephone.execute_script(
        "return ['images', arguments[0]].map(i => document.getElementById(i).getBoundingClientRect())"
        ".map(b => [b.top, b.bottom])",
        selector[1:],
    )
    (top, images_end), (start, end) = boxes
    assert 0 <= top and images_end <= start and end <= 780.5, boxes
    visible = telephone.execute_script(
        "const b = document.querySelector('#images canvas').getBoundingClientRect(); "
        "return document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2).closest('#images') !== null"
    )
    assert visible


@needs_browser
def test_everything_that_can_be_used_has_a_name(browser):
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    usable = [
        node
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in ("button", "slider", "radio", "img", "Canvas")
    ]
    assert len(usable) > 40
    assert [node for node in usable if not node.get("name", {}).get("value")] == []


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def small_data(monkeypatch):
    """The data that `RECORD` names."""
    data = assignment.new_data(RECORD["data"], *small_arrays().values())
    monkeypatch.setattr(assignment, "load_data", functools.lru_cache(lambda: data))
    return data


def test_a_page_of_one_model_is_written_with_its_latents_statistics(outputs, small_data, capsys):
    outputs.mkdir()
    model = vae.VAE(784)
    model.mu_layer.bias.assign(tf.range(15.0))  # means, which are not to count
    save(model, outputs)
    assert assignment.run(lambda: explore.main([])) == 0
    assert "explore.html, 1.7 MB, shows the VAE" in capsys.readouterr().out
    page = (outputs / "explore.html").read_text("utf-8")
    (models,) = re.findall(r'<script [^>]*id="models"[^>]*>(.*?)</script>', page, re.S)
    described = json.loads(models)["vae"]
    assert described["run"] == {"data": "some <data>", "epochs": 2, "test_loss": 100.5}
    mu = np.asarray(model(small_data.x_test[:, None] / 255)[1], float)
    np.testing.assert_allclose(described["variances"], mu.var(axis=0), rtol=1e-3)
    _, s, v = np.linalg.svd(mu - mu.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(described["deviations"], s[:2] / np.sqrt(49), rtol=1e-3)  # of 50 images
    np.testing.assert_allclose(np.abs(described["axes"] @ v[:2].T), np.eye(2), atol=1e-3)


@pytest.mark.parametrize(
    "case, message",
    [
        ("nothing", "train first"),
        ("other latents", "does not fit this VAE"),
        ("no record", "vae.run.json does not say that the weights are of a run on some <data>: train again"),
        ("other data", "vae.run.json does not say that the weights are of a run on some <data>: train again"),
    ],
)
def test_no_usable_weights_are_one_line(outputs, small_data, capsys, case, message):
    if case != "nothing":
        outputs.mkdir()
        save(vae.VAE(784, latent_size=3 if case == "other latents" else 15), outputs)
    if case == "no record":
        (outputs / "vae.run.json").unlink()
    if case == "other data":
        (outputs / "vae.run.json").write_text(json.dumps({**RECORD, "data": "other"}))
    assert assignment.run(lambda: explore.main([])) == 1
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and message in stderr

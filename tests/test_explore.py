"""The page to play with, in headless Chromium, against Keras, with the mouse and the keyboard; and its models' learning."""

import json

import numpy as np
import pytest
import tensorflow as tf

import assignment
import explore
import vae
from browser import BROWSER, DRIVER, draw, find, open_chromium, open_page, resize
from conftest import arguments

needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="there is no chromium with its chromedriver")
RECORD = {"data": "some <data>", "seed": 0, "history": [[200.0, 90.0, 30.0], [150.0, 80.0, 20.5]],
          "axes": np.eye(15)[[1, 0]].tolist(), "variances": [0.1] * 15, "deviations": [1.0, 2.0]}


def save(model, folder, record=RECORD):
    """Saves a model in a folder as a run would have."""
    assignment.save_model_weights(model, arguments(is_cvae=isinstance(model, vae.CVAE)))
    (folder / f"{type(model).__name__.lower()}.run.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def learned(rendered):
    """A VAE and a CVAE after 240 batches of rendered digits, by their kind."""
    data = assignment.new_data("rendered", *rendered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "load_data", lambda: data)
        tf.keras.utils.set_random_seed(0)
        models = {kind: kind(784) for kind in (vae.VAE, vae.CVAE)}
        for kind, model in models.items():
            assignment.train_vae(model, assignment.load_mnist(128).take(240), arguments(1.2e-3, num_epochs=1), kind is vae.CVAE)
    return models


@pytest.fixture(scope="module")
def page(rendered, learned, tmp_path_factory):
    """The page of both models after 240 batches of rendered digits: its path, and the models."""
    folder = tmp_path_factory.mktemp("page")
    images, labels = assignment.to_pixels(rendered[2][:1000]), rendered[3][:1000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "OUTPUTS", folder)
        for model in learned.values():
            axes, variances = assignment.principal_axes(assignment.forward(model, images, labels)[1])
            save(model, folder, {**RECORD, "axes": axes[:2].tolist(), "deviations": np.sqrt(variances[:2]).tolist()})
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
        "return Array.from(document.querySelector(arguments[0]).getContext('2d').getImageData(0, 0, 28, 28).data)", selector)
    return np.reshape(data, (28, 28, 4))[..., 0] / 255


def digits(browser):
    """The ten images (10, 28, 28) that are shown."""
    return np.array([image(browser, f"#images button:nth-child({i}) canvas") for i in range(1, 11)])


def set_slider(browser, selector, value):
    browser.execute_script("const slider = document.querySelector(arguments[0]); slider.value = arguments[1]; "
                           "slider.dispatchEvent(new Event('input'))", selector, value)


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
    drawn = learned[vae.CVAE].decoder(tf.concat([tf.random.normal((200, 15)), tf.repeat(tf.eye(10), 20, axis=0)], axis=-1)).numpy()
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
    ours = browser.execute_script("return arguments[1].flatMap(z => arguments[2].map(d => explorer.decode(arguments[0], z, d)))",
                                  kind, z.tolist(), list(asked))
    inputs = [np.concatenate([row, np.eye(10, dtype=np.float32)[d]]) if d is not None else row for row in z for d in asked]
    theirs = np.reshape(model.decoder(np.array(inputs)), (len(inputs), 784))
    error = np.abs(np.array(ours) - theirs)
    assert error.mean() < 0.6 / 255 and error.max() < 20 / 255
    assert np.ptp(theirs, axis=0).max() > 0.5  # the images differ, or the comparison would say little

    x, y = rendered[2][:50], rendered[3][:50]
    pixels = x.reshape(50, 784) / np.float32(255)
    codes = browser.execute_script("return arguments[1].map((x, i) => explorer.encode(arguments[0], x, arguments[2][i]))",
                                   kind, pixels.tolist(), [int(d) if kind == "cvae" else None for d in y])
    _, mu, logvar = model(pixels.reshape(50, 1, 28, 28), *([np.eye(10)[y]] if kind == "cvae" else []))
    np.testing.assert_allclose([code["mu"] for code in codes], mu, atol=0.1)
    np.testing.assert_allclose([code["logvar"] for code in codes], logvar, atol=0.5)
    assert np.asarray(mu).std() > 0.2


# --------------------------------------------------------------------------------------------------------- the page


@needs_browser
def test_it_asks_the_network_for_nothing_and_logs_no_error(browser, page):
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
    set_slider(browser, "#latents label:nth-child(1) input", 2)
    after = digits(browser)
    z = np.zeros((10, 15), np.float32)
    z[:, 0] = 2
    decoder = page[1]["cvae"].decoder
    np.testing.assert_allclose(after[:, None], decoder(np.concatenate([z, np.eye(10, dtype=np.float32)], axis=1)), atol=21 / 255)
    z[:, 0] = 0
    np.testing.assert_allclose(before[:, None], decoder(np.concatenate([z, np.eye(10, dtype=np.float32)], axis=1)), atol=21 / 255)
    assert (np.abs(after - before).max(axis=(1, 2)) > 0.01).all()
    find(browser, "#zero")[0].click()
    np.testing.assert_array_equal(digits(browser), before)
    find(browser, "#random")[0].click()
    assert not np.array_equal(digits(browser), before)


@needs_browser
def test_keys_move_a_slider_and_the_pad(browser):
    from selenium.webdriver.common.keys import Keys

    def values():
        return [float(slider.get_attribute("value")) for slider in find(browser, "#latents input")]

    find(browser, "#latents input")[3].send_keys(Keys.ARROW_RIGHT)
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


@needs_browser
def test_a_one_drawn_with_the_mouse_comes_back_as_a_one_and_changes_the_ten_digits(browser):
    before = digits(browser)
    find(browser, "#digits input")[1].click()
    draw(browser, [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7)])  # not in the middle
    seen = image(browser, "#seen")
    rows, columns = np.nonzero(seen > 0.5)
    assert 18 <= np.ptp(rows) + 1 <= 20 and np.ptp(columns) + 1 <= 4  # 20 pixels high, as MNIST's
    total = seen.sum()
    assert seen.sum(axis=0) @ (np.arange(28) + 0.5) / total == pytest.approx(14, abs=0.1)  # the centre of mass
    assert seen.sum(axis=1) @ (np.arange(28) + 0.5) / total == pytest.approx(14, abs=0.1)
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
    from selenium.webdriver.common.keys import Keys

    find(browser, "#drawing")[0].send_keys(" ", *[Keys.ARROW_DOWN] * 6, " ")
    seen = image(browser, "#seen")
    rows, columns = np.nonzero(seen > 0.5)
    assert np.ptp(rows) >= 17 and np.ptp(columns) <= 3


@needs_browser
def test_between_goes_from_one_marked_image_to_the_other(browser):
    find(browser, "#images button")[2].click()
    two = image(browser, "#mark-0")
    set_slider(browser, "#latents label:nth-child(1) input", 2)
    seven = digits(browser)[7]
    find(browser, "#images button")[7].click()
    assert [button.get_attribute("aria-pressed") for button in find(browser, "#images button")].count("true") == 2
    np.testing.assert_allclose(image(browser, "#between"), two, atol=1e-6)
    set_slider(browser, "#mix", 1)
    np.testing.assert_allclose(image(browser, "#between"), seven, atol=1e-6)
    np.testing.assert_allclose(digits(browser)[7], seven, atol=1e-6)
    set_slider(browser, "#mix", 0.5)
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
def test_it_says_what_the_weights_are_of(browser):
    text = find(browser, "#run")[0].text
    assert text == "CVAE of 15 latents, trained on some <data> for 2 epochs; test loss 100.50 nats per image."


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it_in_light_and_dark(browser, scheme):
    resize(browser, 360)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML)")
    assert outside == [] and browser.execute_script("return document.documentElement.scrollWidth") == 360
    colours = browser.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    text, ground = (np.mean([int(part) for part in colour[4:-1].split(",")]) for colour in colours)
    assert (text > 200 > 60 > ground) if scheme == "dark" else (text < 60 < 200 < ground)


@needs_browser
def test_everything_that_can_be_used_has_a_name(browser):
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    usable = [node for node in nodes if not node["ignored"]
              and node["role"]["value"] in ("button", "slider", "radio", "img", "Canvas")]
    assert len(usable) > 40
    assert [node for node in usable if not node.get("name", {}).get("value")] == []


# ------------------------------------------------------------------------------------------------------ the command


def test_the_page_of_one_model_is_written_and_said(outputs, capsys):
    outputs.mkdir()
    save(vae.VAE(784), outputs)
    assert assignment.run(lambda: explore.main([])) == 0
    assert "explore.html, 1.7 MB, shows the VAE" in capsys.readouterr().out
    assert '{"vae": ' in (outputs / "explore.html").read_text("utf-8")


@pytest.mark.parametrize("case, message", [
    ("nothing", "train first"), ("other latents", "does not fit a VAE with 15 latents"), ("no record", "no record of a run")])
def test_no_usable_weights_are_one_line(outputs, capsys, case, message):
    if case != "nothing":
        outputs.mkdir()
        save(vae.VAE(784, latent_size=3 if case == "other latents" else 15), outputs)
    if case == "no record":
        (outputs / "vae.run.json").unlink()
    assert assignment.run(lambda: explore.main([])) == 1
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and message in stderr

"""The posterior, random styles and the map of the page, in headless Chromium: against Keras and NumPy."""

import re

import assignment
import explore
import numpy as np
import pytest
from browser import find, mouse, resize, wait_for_previews, wait_until
from conftest import second_input
from page import (
    SEVEN,
    a,
    decoded,
    image,
    losses_in_python,
    needs_browser,
    next_frame,
    nodes,
    pixels_of,
    set_strokes,
    shown_pixels,
    text,
)

pytest_plugins = ["page"]
pytestmark = needs_browser


# ------------------------------------------------------------------------------------------------------ the posterior


def posterior(model, kind, x, digit):
    """mu and sigma (Z,) of an image (1, 1, 28, 28), by Keras."""
    second = (np.eye(10, dtype=np.float32)[[digit]],) if kind == "cvae" else ()
    _, mu, logvar = (np.asarray(value, float) for value in model(x, *second))
    return mu[0], np.exp(logvar[0] / 2)


@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_a_line_on_each_slider_is_mu_minus_sigma_to_mu_plus_sigma(browser, page, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    set_strokes(browser, SEVEN)
    mu, sigma = posterior(page[1][kind], kind, shown_pixels(browser), browser.execute_script("return digit"))
    shares, ends = browser.execute_script(
        "const share = (band, name) => Number(getComputedStyle(band).getPropertyValue(name));"
        "return [bands.map(band => [share(band, '--left'), share(band, '--right')]), sliders.map(s => Number(s.max))]"
    )
    shown = (2 * np.array(shares) - 1) * np.array(ends)[:, None]
    np.testing.assert_allclose(shown, np.stack([mu - sigma, mu + sigma], axis=1), atol=0.15)
    assert np.ptp(sigma) > 0.2
    find(browser, "#clear")[0].click()
    assert browser.execute_script("return bands.every(band => band.hidden)")


def test_a_sample_is_mu_plus_sigma_times_noise_by_both_models(browser, page):
    set_strokes(browser, SEVEN)
    wait_for_previews(browser)
    browser.execute_script("let n = 0; normal = () => [0.5, -1, 2][n++ % 3]")
    find(browser, "#sample")[0].click()
    wait_for_previews(browser)
    noise = np.resize([0.5, -1, 2], (4, 15))
    digit, z = browser.execute_script("return [digit, z]")
    for kind, model in page[1].items():
        mu, sigma = posterior(model, kind, shown_pixels(browser), digit)
        samples = mu + sigma * noise
        images = [decoded(model, z, [digit])[0] if kind == "cvae" else model.decoder(z[None])[0, 0] for z in samples]
        shown = pixels_of(browser, f"#view-{kind} .samples canvas")
        assert np.abs(shown - images).mean() < 0.01
        if kind == "cvae":
            np.testing.assert_allclose(z, samples[0], atol=0.2)
    assert text(browser, "#source").startswith("A sample of q(z|x)")


def test_mu_sigma_and_kl_of_a_latent_are_its_slider_s_description_and_seen_with_the_focus_or_the_pointer(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains

    set_strokes(browser, SEVEN)
    mu, sigma = posterior(page[1]["cvae"], "cvae", shown_pixels(browser), browser.execute_script("return digit"))
    kl = (sigma**2 + mu**2 - 1) / 2 - np.log(sigma)
    descriptions = {name: description for role, name, description in nodes(browser) if role == "slider"}
    latents = [int(name.split()[1]) - 1 for name in descriptions if name.startswith("z ")]
    said = [re.fullmatch(r"mu (\S+), sigma (\S+), KL (\S+) nats", descriptions[f"z {i + 1}"]) for i in latents]
    numbers = np.array([[float(number) for number in match.groups()] for match in said])
    np.testing.assert_allclose(numbers, np.stack([mu, sigma, kl], axis=1)[latents], atol=0.15)
    assert len(latents) > 5 and np.ptp(numbers, axis=0).min() > 0.3

    first, second = find(browser, "#latents label")[:2]
    notes = find(browser, "#latents .note")
    browser.execute_script("arguments[0].querySelector('input').focus()", first)
    assert [note.is_displayed() for note in notes[:3]] == [True, False, False]
    ActionChains(browser).move_to_element(second).perform()
    assert [note.is_displayed() for note in notes[:3]] == [True, True, False]
    find(browser, "#clear")[0].click()
    assert not any(note.text for note in notes)


@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_both_models_show_what_they_make_of_the_drawing(browser, page, kind):
    """Whichever is in use: the reconstruction and the loss of each, with z = mu and, for the CVAE, as the digit."""
    find(browser, "#kinds input")[kind == "vae"].click()
    set_strokes(browser, SEVEN)
    wait_for_previews(browser)
    x = shown_pixels(browser)
    digit = int(np.argmin(losses_in_python(page[1]["cvae"], x)))
    for name, model in page[1].items():
        mu, _ = posterior(model, name, x, digit)
        x_hat = decoded(model, mu, [digit])[0] if name == "cvae" else model.decoder(np.float32(mu[None]))[0, 0]
        np.testing.assert_allclose(image(browser, f"#view-{name} .reconstruction"), x_hat, atol=25 / 255)
        shown = float(re.search(r"loss (\S+) nats", text(browser, f"#view-{name} .loss"))[1])
        assert shown == pytest.approx(losses_in_python(model, x).min(), rel=0.03)
    assert text(browser, "#view-cvae h3") == f"CVAE, told that this is {a(digit)}: z holds the style"
    assert "samples of q(z|x)" in text(browser, "#views")


def test_after_clear_a_first_stroke_shows_nothing_of_the_earlier_drawing(browser):
    """The model that is not in use waits until the stroke has ended."""
    wait_for_previews(browser)
    find(browser, "#clear")[0].click()
    mouse(browser, "mousePressed", 0.5, 0.2)
    mouse(browser, "mouseMoved", 0.5, 0.8)
    next_frame(browser)
    views = [find(browser, f"#view-{kind} .input")[0] for kind in ("cvae", "vae")]
    assert [view.is_displayed() for view in views] == [True, False]
    mouse(browser, "mouseReleased", 0.5, 0.8)
    wait_for_previews(browser)
    assert all(view.is_displayed() for view in views)


def test_the_loss_bars_of_both_models_have_one_scale_whose_end_is_named(browser, page):
    set_strokes(browser, SEVEN)
    wait_for_previews(browser)
    usual = browser.execute_script("return [models.cvae.usual.loss, models.vae.usual.loss]")
    whole = float(re.search(r"The whole bar is (\d+) nats", text(browser, "#made"))[1])
    assert whole % 10 == 0 and 0 <= whole - max(usual) < 10 and usual[0] != usual[1]
    for name, model in page[1].items():
        shares = browser.execute_script(
            "return [...document.querySelectorAll(`#view-${arguments[0]} .terms span`)]"
            ".map(term => term.offsetWidth / term.parentElement.offsetWidth)",
            name,
        )
        loss = losses_in_python(model, shown_pixels(browser)).min()
        assert sum(shares) == pytest.approx(loss / whole, rel=0.03)


def test_the_difference_is_red_for_ink_that_was_added_and_blue_for_ink_that_is_missing(browser):
    set_strokes(browser, SEVEN)
    next_frame(browser)
    difference = image(browser, "#view-cvae .reconstruction") - image(browser, "#view-cvae .input")
    data = browser.execute_script(
        "return Array.from("
        "document.querySelector('#view-cvae .difference').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    red, _, blue, _ = np.moveaxis(np.reshape(data, (28, 28, 4)) / 255, -1, 0)
    expected = np.clip(3 * np.abs(difference), 0, 1)
    np.testing.assert_allclose(np.where(difference > 0, red, blue), expected, atol=3.1 / 255)
    assert (red > blue)[difference > 0.1].all() and (blue > red)[difference < -0.1].all()
    assert np.ptp(difference) > 0.5


# ------------------------------------------------------------------------------------------- other styles, test images


def test_random_styles_are_images_of_the_prior_and_a_click_takes_their_z(browser, page):
    set_strokes(browser, SEVEN)
    wait_for_previews(browser)
    before, digit = browser.execute_script("return [styles.map(style => style.z), digit]")
    np.testing.assert_allclose(
        pixels_of(browser, "#styles canvas"), [decoded(page[1]["cvae"], z, [digit])[0] for z in before], atol=21 / 255
    )
    find(browser, "#styles button")[3].click()
    assert browser.execute_script("return z") == before[3]
    find(browser, "#random")[0].click()
    assert not np.isin(browser.execute_script("return styles.map(style => style.z)"), before).any()


@pytest.mark.parametrize("kind", ["cvae", "vae"])
def test_test_images_are_on_the_map_where_keras_encodes_them(browser, page, data, kind):
    find(browser, "#kinds input")[kind == "vae"].click()
    count = explore.POINTS
    x, y = assignment.to_pixels(data.x_test[:count]), data.y_test[:count]
    mu = np.array(page[1][kind](x, *second_input(page[1][kind], y))[1])
    mu[:, [2, 7]] = 0
    axes, deviations = browser.execute_script("return [models[kind].axes, models[kind].deviations]")
    places = mu @ np.transpose(axes) / deviations
    seen = np.abs(places).max(axis=1)
    points = browser.execute_script(
        "return [...document.querySelectorAll('#points text')].map(p => [p.textContent, p.getAttribute('x'), "
        "p.getAttribute('y')].map(Number))"
    )
    sure = [(label, *place) for label, place, far in zip(y, places, seen) if far < 2.8]
    shown = np.array(points) * [1, 1, -1]
    for label, *place in sure[:50]:
        same = shown[shown[:, 0] == label]
        assert np.abs(same[:, 1:] - place).max(axis=1).min() < 0.05
    assert (seen < 2.8).sum() <= len(points) <= (seen < 3).sum() and len(points) > 100


def test_the_test_image_next_to_the_dot_or_the_pointer_is_shown(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains

    def shown():
        wait_for_previews(browser)
        return text(browser, "#near-name"), image(browser, "#near")

    points, dot = browser.execute_script("return [points, onAxes()]")
    distances = [np.hypot(point["x"] - dot[0], point["y"] - dot[1]) for point in points]
    near, far = points[np.argmin(distances)], points[np.argmax(distances)]
    pad = find(browser, "#pad")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    at = [round(value * pad.size["width"] / 6) for value in (far["x"], -far["y"])]
    for point in (near, far):
        name, pixels = shown()
        assert name == f"nearest test image, {a(point['label'])}"
        np.testing.assert_allclose(pixels, decoded(page[1]["cvae"], point["z"], [point["label"]])[0], atol=21 / 255)
        ActionChains(browser, duration=10).move_to_element_with_offset(pad, *at).perform()
        z, digit = browser.execute_script("return [z, digit]")
        np.testing.assert_allclose(image(browser, "#at-dot"), decoded(page[1]["cvae"], z, [digit])[0], atol=21 / 255)
    find(browser, "#show-points")[0].click()
    assert not find(browser, "#points")[0].is_displayed() and not find(browser, "#near-shot")[0].is_displayed()


def test_the_map_of_a_phone_has_no_test_images_at_first(browser):
    resize(browser, 390, 844)
    browser.refresh()
    wait_until(browser, lambda: find(browser, "#images button"))
    assert not find(browser, "#points")[0].is_displayed() and not find(browser, "#near-shot")[0].is_displayed()
    browser.execute_script("byId('show-points').click()")
    assert find(browser, "#points")[0].is_displayed() and find(browser, "#near-shot")[0].is_displayed()

"""The command that writes the page: the models in it and their statistics, and what cannot be shown."""

import base64
import json
import re
import types

import assignment
import explore
import numpy as np
import pytest
import vae
from conftest import second_input


def save(model, data_name="small.npz"):
    """Saves a model as a run of two epochs would have."""
    epoch = {"train_loss": 200.0, "test_reconstruction": 90.0, "test_kl": 30.0}
    model.run = types.SimpleNamespace(data=data_name, seed=0, history=[epoch, epoch])
    assignment.save_model_weights(model, None)


def random_model(kind, latent_size):
    """A model that uses its latents."""
    rng = np.random.default_rng(0)
    model = kind(784, latent_size=latent_size)
    model.set_weights([rng.normal(0, 0.1, weights.shape) for weights in model.get_weights()])
    return model


def models_of(outputs):
    """What the page knows of its models."""
    page = (outputs / "explore.html").read_text("utf-8")
    (models,) = re.findall(r'<script [^>]*id="models"[^>]*>(.*?)</script>', page, re.S)
    return json.loads(models)


def read_kernel(data, inputs, outputs):
    """Kernel and bias of a layer in 8 bits, and the bytes after it."""
    scales = np.frombuffer(data, "<f4", inputs)
    bias = np.frombuffer(data, "<f4", outputs, 4 * inputs)
    steps = np.frombuffer(data, "i1", inputs * outputs, 4 * (inputs + outputs)).reshape(inputs, outputs)
    return steps * scales[:, None], bias, data[4 * (inputs + outputs) + inputs * outputs :]


def test_weights_in_8_bits_are_off_by_half_a_step_at_most():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    kernel[2] = 0
    kernel[3] *= 100
    read, read_bias, rest = read_kernel(explore.quantize(kernel, bias), 5, 7)
    np.testing.assert_array_equal(read_bias, bias)
    assert (np.abs(read - kernel).max(axis=1) <= np.abs(kernel).max(axis=1) / 127 * 0.501 + 1e-12).all()
    assert rest == b""


def test_a_page_of_one_model_has_its_weights_and_the_statistics_of_its_latents(outputs, small_mnist, capsys):
    model = random_model(vae.VAE, 4)
    model.mu_layer.bias.assign([0.0, 1.0, 2.0, 3.0])  # means, which are not to count
    model.decoder.get_layer("pixels").kernel.assign(np.zeros((352, 784)))  # grey images, whatever z is
    save(model)
    explore.main([])
    assert "explore.html, 1.5 MB, shows the VAE\n" in capsys.readouterr().out
    models = models_of(outputs)
    page = (outputs / "explore.html").read_text("utf-8")
    assert page.count("<script") == page.count("</script>") == 3 and "file is the template" not in page
    assert models.keys() == {"vae"}
    described = models["vae"]
    assert (described["latent_size"], described["num_classes"]) == (4, 0)
    h = 352
    hidden = [[784, h], [h, h], [h, h], [h, 4], [h, 4], [4, h], [h, h], [h, h], [h, 784]]
    assert described["layers"] == hidden
    data = base64.b64decode(described["weights"])
    saved = model.encoder.get_weights() + model.mu_layer.get_weights() + model.logvar_layer.get_weights()
    saved += model.decoder.get_weights()
    for shape, kernel, bias in zip(hidden, saved[::2], saved[1::2]):
        read, read_bias, data = read_kernel(data, *shape)
        np.testing.assert_allclose(read, kernel, atol=np.abs(kernel).max() / 127)
        np.testing.assert_array_equal(read_bias, bias)
    assert data == b""

    x = small_mnist.x_test[:, None] / 255
    x_hat, mu, logvar = (np.asarray(array, float) for array in model(x))
    loss = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat)) + np.sum(np.exp(logvar) + mu**2 - 1 - logvar) / 2
    assert described["run"] == {"data": "small.npz", "epochs": 2, "test_loss": pytest.approx(loss / 50, rel=1e-5)}
    np.testing.assert_allclose(described["variances"], mu.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(described["usual"]["ink"], [x.sum(axis=(1, 2, 3)).min(), x.sum(axis=(1, 2, 3)).max()])
    points = described["points"]
    assert points["labels"] == "".join(map(str, small_mnist.y_test))
    means = np.frombuffer(base64.b64decode(points["means"]), "i1").reshape(50, 4) * points["scale"]
    assert np.abs(means - mu).max() <= np.abs(mu).max() / 127 * 0.501
    _, deviations, axes = np.linalg.svd(mu - mu.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(described["deviations"], deviations[:2] / np.sqrt(49), rtol=1e-3)  # of 50 images
    np.testing.assert_allclose(np.abs(described["axes"] @ axes[:2].T), np.eye(2), atol=1e-3)


def test_a_page_has_as_many_points_as_the_map_can_show(small_mnist, monkeypatch):
    monkeypatch.setattr(explore, "POINTS", 7)
    points = explore.describe(random_model(vae.VAE, 4), small_mnist)["points"]
    assert points["labels"] == "0123456" and len(base64.b64decode(points["means"])) == 7 * 4


def test_models_of_different_latent_sizes_are_both_on_the_page(outputs, small_mnist, capsys):
    saved = {"cvae": random_model(vae.CVAE, 15), "vae": random_model(vae.VAE, 2)}
    for model in saved.values():
        save(model)
    explore.main([])
    assert "shows the CVAE and the VAE\n" in capsys.readouterr().out
    models = models_of(outputs)
    assert list(models) == ["cvae", "vae"]
    for kind, model in saved.items():
        mu = model(small_mnist.x_test[:, None] / 255, *second_input(model, small_mnist.y_test))[1]
        np.testing.assert_allclose(models[kind]["variances"], np.var(mu, axis=0), rtol=1e-3)
    assert models["cvae"]["layers"][0] == [794, 352] and models["cvae"]["layers"][5] == [25, 352]
    assert (models["cvae"]["latent_size"], models["cvae"]["num_classes"]) == (15, 10)
    assert models["vae"]["latent_size"] == 2


def test_a_name_of_data_cannot_end_the_script(outputs, tmp_path, small_mnist, monkeypatch):
    name = "<script>.npz"
    (tmp_path / name).write_bytes((tmp_path / "small.npz").read_bytes())
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / name))
    save(random_model(vae.VAE, 2), name)
    explore.main([])
    assert models_of(outputs)["vae"]["run"]["data"] == name
    assert "<script>.npz" not in (outputs / "explore.html").read_text("utf-8")


def test_without_run_metadata_there_is_a_page_that_does_not_know_the_run(outputs, small_mnist):
    save(random_model(vae.VAE, 15))
    (outputs / "vae.run.json").unlink()
    with pytest.warns(UserWarning, match="vae.run.json is missing"):
        explore.main([])
    run = models_of(outputs)["vae"]["run"]
    assert (run["data"], run["epochs"]) == (None, 0)


@pytest.mark.parametrize("kind", [vae.CVAE, vae.VAE])
def test_the_usual_loss_is_above_that_of_99_percent_of_the_test_images(outputs, small_mnist, kind):
    """With z = mu; a CVAE's as the class that has the least."""
    model = kind(784, latent_size=4)
    kernel = model.decoder.get_layer("pixels").kernel  # zeros at first: all images would be one
    kernel.assign(np.random.default_rng(0).normal(0, 0.1 * kernel.shape[0] ** -0.5, kernel.shape))
    x = small_mnist.x_test[:, None] / 255
    losses = []
    for label in range(10):
        second = second_input(model, [label] * len(x))
        mu, logvar = (np.asarray(array, float) for array in model(x, *second)[1:])
        z = np.concatenate([mu, *second], axis=1).astype(np.float32)
        x_hat = np.asarray(model.decoder(z), float)
        bce = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3))
        losses.append(bce + np.sum(np.exp(logvar) + mu**2 - 1 - logvar, axis=1) / 2)
    least = np.sort(np.min(losses, axis=0))
    assert np.ptp(losses, axis=0).max() > 1 or kind is vae.VAE  # the classes differ
    usual = explore.describe(model, small_mnist)["usual"]["loss"]
    assert usual == pytest.approx(least[48] + 0.51 * (least[49] - least[48]), rel=1e-4)  # of 50 images


@pytest.mark.parametrize(
    "latent_size, data_name, message",
    [
        (15, "other data", "the saved VAE was trained on other data, not on small.npz: train it again"),
        (1, "small.npz", "the saved VAE has one latent, the page needs two or more: train with --latent_size 2"),
    ],
)
def test_a_model_that_cannot_be_shown_is_one_line(outputs, small_mnist, latent_size, data_name, message):
    save(random_model(vae.VAE, latent_size), data_name)
    with pytest.raises(assignment.InputError) as error:
        explore.main([])
    assert str(error.value) == message
    assert not (outputs / "explore.html").exists()


def test_no_weights_is_one_line(small_mnist):
    with pytest.raises(FileNotFoundError, match="train first"):
        explore.main([])

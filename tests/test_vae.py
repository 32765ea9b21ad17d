"""The models and their loss against NumPy, closed forms and Monte Carlo."""

import copy
import math
import warnings

import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import keras_setting, second_input

KINDS = [vae.VAE, vae.CVAE]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def layer_outputs(network, inputs):
    """What NumPy makes of the network's weights as the handout has it: linear layers, ReLU between, sigmoid last."""
    weights = network.get_weights()
    h = np.asarray(inputs).reshape(len(inputs), -1)
    for i in range(0, 6, 2):
        h = np.maximum(h @ weights[i] + weights[i + 1], 0)
    return h if len(weights) == 6 else 1 / (1 + np.exp(-(h @ weights[6] + weights[7])))


# ------------------------------------------------------------------------------------------------------------ loss


def test_bce_is_the_sum_over_all_pixels(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 5, 1, 4, 6)).astype(np.float32)
    expected = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    np.testing.assert_allclose(vae.bce_function(x_hat, x), expected, rtol=1e-5)
    for shape in ((5, 24), (5, 4, 6, 1)):  # whatever the shape
        np.testing.assert_allclose(vae.bce_function(x_hat.reshape(shape), x.reshape(shape)), expected, rtol=1e-5)


def test_terms_of_the_loss_are_given_by_image(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 5, 1, 4, 6)).astype(np.float32)
    mu, logvar = rng.standard_normal((2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        vae.reconstruction_loss(x_hat, x),
        -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        vae.kl_divergence(mu, logvar), np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar), axis=1), rtol=1e-5
    )


def test_kl_is_zero_for_the_prior():
    zeros = tf.zeros((3, 4))
    assert not vae.kl_divergence(zeros, zeros).numpy().any()


def test_kl_agrees_with_monte_carlo(rng):
    mu, logvar = np.float32([[0.5, -1.0]]), np.float32([[-1.0, 0.4]])
    z = mu + np.exp(logvar / 2) * rng.standard_normal((400_000, 2))
    log_q = -0.5 * (logvar + (z - mu) ** 2 / np.exp(logvar))
    monte_carlo = (log_q + 0.5 * z**2).sum(axis=1).mean()
    np.testing.assert_allclose(vae.kl_divergence(mu, logvar), [monte_carlo], rtol=0.02)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_loss_is_the_average_over_images(rng, dtype):
    x_hat, x = rng.uniform(0.1, 0.9, (2, 7, 1, 4, 4)).astype(dtype)
    mu, logvar = rng.standard_normal((2, 7, 3)).astype(dtype)
    bce = -np.sum(x * np.log(x_hat.astype(float)) + (1 - x) * np.log(1 - x_hat.astype(float)))
    kl = np.sum(0.5 * (np.exp(logvar.astype(float)) + mu.astype(float) ** 2 - 1 - logvar))
    loss = vae.loss_function(x_hat, x, mu, logvar)
    np.testing.assert_allclose(loss, (bce + kl) / 7, rtol=1e-3 if dtype == np.float16 else 1e-5)
    assert loss.dtype == tf.float32 and loss.shape == ()


def test_loss_is_finite_for_saturated_pixels():
    x, mu = tf.zeros((1, 1, 2, 2)), tf.zeros((1, 3))
    assert np.isfinite(vae.loss_function(tf.ones_like(x), x, mu, mu))


@pytest.mark.parametrize(
    "x_hat, x, mu, logvar, offending",
    [
        ((2, 1, 4, 4), (2, 1, 4, 1), (2, 3), (2, 3), r"\(2, 1, 4, 1\)"),
        ((2, 1, 4, 4), (1, 1, 4, 4), (2, 3), (2, 3), r"\(1,\)"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (2, 3), (2, 1), r"\(2, 1\)"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (1, 3), (1, 3), r"\(1,\)"),
    ],
)
def test_loss_refuses_shapes_that_would_broadcast(x_hat, x, mu, logvar, offending):
    with pytest.raises(ValueError, match=offending):
        vae.loss_function(*(tf.zeros(shape) for shape in (x_hat, x, mu, logvar)))


# ------------------------------------------------------------------------------------------------ reparameterisation


def test_reparametrize_samples_the_posterior():
    mu, logvar = tf.fill((200_000, 1), 2.0), tf.fill((200_000, 1), float(np.log(0.25)))
    z = vae.reparametrize(mu, logvar).numpy()
    assert abs(z.mean() - 2.0) < 0.01
    assert abs(z.std() - 0.5) < 0.01


def test_reparametrize_is_differentiable_in_a_graph_of_any_batch_size():
    @tf.function(input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None, 3))])
    def gradients(mu, logvar):
        with tf.GradientTape() as tape:
            tape.watch((mu, logvar))
            z = vae.reparameterization(mu, logvar)  # the handout's spelling
        return z, *tape.gradient(z, (mu, logvar))

    for n in (2, 5):
        mu = tf.ones((n, 3))
        z, by_mu, by_logvar = gradients(mu, tf.fill((n, 3), -1.0))
        np.testing.assert_array_equal(by_mu, np.ones((n, 3)))
        np.testing.assert_allclose(by_logvar, (z - mu) / 2, rtol=1e-4, atol=1e-6)  # d sigma / d logvar = sigma / 2


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_three_relu_layers_of_one_width_and_a_sigmoid(kind, rng):
    model = kind(64, latent_size=3)
    shapes = [w.shape for w in model.encoder.get_weights()[::2] + model.decoder.get_weights()[::2]]
    h, c = model.hidden_dim, 10 if kind is vae.CVAE else 0
    assert shapes == [(64 + c, h), (h, h), (h, h), (3 + c, h), (h, h), (h, h), (h, 64)]
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    x = rng.uniform(size=(5, 64 + c)) if c else rng.uniform(size=(5, 1, 8, 8))
    np.testing.assert_allclose(model.encoder(np.float32(x)), layer_outputs(model.encoder, x), rtol=1e-3, atol=1e-4)
    z = np.float32(rng.normal(size=(5, 3 + c)))
    assert model.decoder(z).shape == (5, 1, 8, 8)
    np.testing.assert_allclose(
        np.reshape(model.decoder(z), (5, 64)), layer_outputs(model.decoder, z), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_forward_pass_encodes_samples_and_decodes(kind, rng, dtype):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    x, c = rng.uniform(size=(5, 1, 8, 8)).astype(dtype), second_input(model, [0, 3, 9, 3, 1])
    flat = np.concatenate([x.reshape(5, 64), *c], axis=1)
    h = layer_outputs(model.encoder, flat)
    (w_mu, b_mu), (w_logvar, b_logvar) = model.mu_layer.get_weights(), model.logvar_layer.get_weights()
    b_logvar -= 50  # sigma is nearly 0, and z is mu
    model.logvar_layer.set_weights([w_logvar, b_logvar])
    x_hat, mu, logvar = model(x, *c)
    np.testing.assert_allclose(mu, h @ w_mu + b_mu, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logvar, h @ w_logvar + b_logvar, rtol=1e-3)
    expected = layer_outputs(model.decoder, np.concatenate([mu, *c], axis=1))
    np.testing.assert_allclose(np.reshape(x_hat, (5, 64)), expected, rtol=1e-3, atol=1e-4)
    assert x_hat.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_z_has_noise_that_follows_the_global_seed(kind):
    def forward(seed):
        tf.keras.utils.set_random_seed(seed)
        model = kind(784)
        model.set_weights([np.full(w.shape, 0.01) for w in model.get_weights()])  # what differs is the noise alone
        x = tf.ones((2, 1, 28, 28))
        return [model(x, *second_input(model, [1, 2]))[0].numpy() for _ in range(2)]

    (first, second), again, other = forward(3), forward(3), forward(4)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal([first, second], again)
    assert not np.array_equal(first, other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_draws_one_image_near_the_mean_pixel(kind, rng):
    model = kind(784)
    images = model.decoder(np.float32(rng.normal(size=(5, model.decoder.input_shape[1]))))
    np.testing.assert_allclose(images, np.full((5, 1, 28, 28), 1 / (1 + math.exp(2))), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mu_and_logvar_start_with_small_weights(kind):
    model = kind(784)
    for layer in (model.mu_layer, model.logvar_layer):
        kernel, bias = layer.get_weights()
        assert kernel.std() == pytest.approx(0.02, rel=0.05) and abs(kernel.mean()) < 0.002 and not bias.any()


def test_class_weights_start_scaled_by_the_image_s_side():
    tf.keras.utils.set_random_seed(0)
    model = vae.CVAE(784)
    for network, inputs in ((model.encoder, 784 + 10), (model.decoder, 15 + 10)):
        kernel = network.get_weights()[0]
        he = math.sqrt(2 / inputs)
        assert kernel[:-10].std() == pytest.approx(he, rel=0.05)
        assert kernel[-10:].std() == pytest.approx(28 * he, rel=0.05)


def test_the_class_changes_what_encoder_and_decoder_put_out(rng):
    model = vae.CVAE(784)
    x, c = rng.uniform(size=(10, 784)).astype(np.float32), np.eye(10, dtype=np.float32)
    h = model.encoder(np.concatenate([np.repeat(x[:1], 10, axis=0), c], axis=1)).numpy()
    model.decoder.set_weights([rng.normal(0, 0.1, w.shape) for w in model.decoder.get_weights()])
    images = model.decoder(np.concatenate([np.zeros((10, 15), np.float32), c], axis=1)).numpy()
    for outputs in (h, images):
        for i in range(1, 10):
            assert np.abs(outputs[i] - outputs[0]).max() > 0.05


def test_cvae_takes_one_hots_of_any_type_a_pair_and_no_other_shape():
    model, x = vae.CVAE(784), tf.zeros((2, 1, 28, 28))
    for c in (np.eye(10)[:2], np.eye(10, dtype=np.int64)[:2], tf.eye(10)[:2]):
        assert model(x, c)[0].shape == model((x, c))[0].shape == (2, 1, 28, 28)
    for c in (np.eye(9)[:2], np.eye(10)[:1]):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model(x, c)


def test_models_refuse_images_of_another_size():
    for model in (vae.VAE(784), vae.CVAE(784)):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model(tf.zeros((4, 1, 14, 14)), *second_input(model, [1, 2, 3, 4]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, -1, -4, 783])
def test_input_size_must_be_a_square(kind, size):
    with pytest.raises(ValueError, match=f"input_size must be .* got {size}"):
        kind(size)


def test_sizes_are_attributes():
    assert vae.VAE(1).image_size == 1
    model = vae.CVAE(784, num_classes=3, latent_size=4)
    assert (model.input_size, model.num_classes, model.latent_size) == (784, 3, 4)
    assert vae.CVAE(784).latent_size == vae.VAE(784).latent_size == 15 and vae.CVAE(784).num_classes == 10
    assert model.decoder(tf.zeros((2, 7))).shape == (2, 1, 28, 28)


# ------------------------------------------------------------------------------------------------- a model of Keras


@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_loop_of_this_homework_trains_a_new_model(kind, rng):
    model = kind(64)
    x = np.float32(rng.uniform(size=(20, 1, 8, 8)) > 0.5)
    losses = []
    for _ in range(15):
        with tf.GradientTape() as tape:
            x_hat, mu, logvar = model(x, *second_input(model, np.arange(20) % 10))
            loss = vae.loss_function(x_hat, x, mu, logvar)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.5
    assert int(tf.convert_to_tensor(model.optimizer.iterations)) == 15


def step(optimizer, layer, gradient):
    """One update of a layer, with this gradient of its kernel: what the kernel was less what it is."""
    before = layer.kernel.numpy()
    optimizer.apply_gradients([(tf.constant(gradient, tf.float32), layer.kernel), (tf.ones(7), layer.bias)])
    return before - layer.kernel.numpy()


@pytest.fixture
def layer():
    layer = tf.keras.layers.Dense(7)
    layer.build((None, 5))
    return layer


@pytest.mark.parametrize("muon_kernels", ["none", "off"])
def test_the_optimizer_is_adam_unless_muon_is_switched_on(muon_kernels, layer, rng):
    """Kingma & Ba, algorithm 1, without weight decay."""
    optimizer = vae.MuonAdam(layer.trainable_variables, [layer.kernel] if muon_kernels == "off" else [])
    optimizer.use_muon = muon_kernels == "none"
    optimizer.learning_rate = 0.1
    m = v = 0
    for t in range(1, 6):
        gradient = rng.normal(size=(5, 7))
        m, v = 0.9 * m + 0.1 * gradient, 0.97 * v + 0.03 * gradient**2
        expected = 0.1 * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.97**t))
        np.testing.assert_allclose(step(optimizer, layer, gradient), expected, atol=1e-5)


def test_muon_is_the_orthogonalised_momentum_of_nesterov(layer, rng):
    """By the coefficients and the momentum of https://kellerjordan.github.io/posts/muon/, in NumPy."""
    optimizer, momentum = vae.MuonAdam(layer.trainable_variables, [layer.kernel]), 0
    optimizer.use_muon = True
    for learning_rate in (0.1, 0.01, 0.1):
        optimizer.learning_rate = learning_rate
        gradient = rng.normal(size=(5, 7))
        momentum = 0.95 * momentum + gradient
        x = gradient + 0.95 * momentum
        x /= np.linalg.norm(x)
        for _ in range(4):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        np.testing.assert_allclose(
            step(optimizer, layer, gradient), learning_rate * 0.2 * np.sqrt(7) * x, rtol=1e-3, atol=1e-6
        )
    optimizer = vae.MuonAdam(layer.trainable_variables, [layer.kernel])
    optimizer.use_muon = True
    assert not step(optimizer, layer, np.zeros((5, 7))).any()  # no weight decay


def test_large_singular_values_come_near_1_and_singular_vectors_stay(rng):
    u, v = (np.linalg.qr(rng.normal(size=(n, 6)))[0] for n in (20, 9))
    s = np.array([3.0, 2.0, 1.5, 1.0, 0.7, 0.5])
    result = vae.orthogonalise(tf.constant(u * s @ v.T, tf.float32)).numpy()
    diagonal = u.T @ result @ v
    np.testing.assert_allclose(diagonal, np.diag(np.diag(diagonal)), atol=1e-4)
    assert 0.65 < np.diag(diagonal).min() and np.diag(diagonal).max() < 1.25
    assert not vae.orthogonalise(tf.zeros((3, 4))).numpy().any()


@pytest.mark.parametrize(
    "kind, names",
    [
        (vae.VAE, {f"{network}/hidden_{i}" for network in ("encoder", "decoder") for i in (2, 3)}),
        (vae.CVAE, {"decoder/hidden_2", "decoder/hidden_3", "decoder/pixels"}),
    ],
)
def test_muon_is_for_kernels_between_hidden_layers(kind, names, rng):
    """An orthogonal matrix has singular values of 1, and Muon scales it by 0.2 sqrt(its larger side).

    Adam's first update is the rate times a matrix of -1 and 1: its largest singular value is 20 or more.
    """
    model, found = kind(784), set()
    model.optimizer.use_muon, model.optimizer.learning_rate = True, 1e-3
    variables = model.trainable_variables
    before = [v.numpy() for v in variables]
    model.optimizer.apply_gradients([(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in variables])
    updates = {id(v): old - v.numpy() for v, old in zip(variables, before)}
    for network in (model.encoder, model.decoder):
        for layer in network.layers:
            if isinstance(layer, tf.keras.layers.Dense):
                largest = np.linalg.norm(updates[id(layer.kernel)], 2) / 1e-3
                if 0.6 < largest / (0.2 * max(layer.kernel.shape) ** 0.5) < 1.3:
                    found.add(f"{network.name}/{layer.name}")
    assert found == names
    assert int(tf.convert_to_tensor(model.optimizer.iterations)) == 1


def test_gradients_of_none_and_a_part_of_the_variables_are_fine(rng):
    model = vae.CVAE(64)
    model.optimizer.use_muon = True
    before = model.get_weights()
    model.optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.decoder.trainable_variables])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says which have none
        model.optimizer.apply_gradients(
            [(None if "kernel" in v.name else tf.ones_like(v), v) for v in model.trainable_variables]
        )
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert sum(moved) == 8 + 5  # the decoder's weights, and the other biases


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [False, True])
def test_copies_and_files_give_back_the_model(kind, trained, tmp_path, rng, recwarn):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    if trained:
        x = tf.ones((2, 1, 8, 8))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, *second_input(model, [1, 2]))[0])
        variables = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    model.save(tmp_path / "m.keras")
    z = np.float32(rng.normal(size=(4, model.decoder.input_shape[1])))
    for other in (copy.deepcopy(model), tf.keras.models.load_model(tmp_path / "m.keras")):
        np.testing.assert_allclose(other.decoder(z), model.decoder(z), atol=1e-6)
        assert type(other) is kind and other.latent_size == 3
        assert int(tf.convert_to_tensor(other.optimizer.iterations)) == 0
    assert not [w for w in recwarn if "optimizer" in str(w.message)]


@pytest.mark.skipif(not hasattr(tf.keras.Model, "export"), reason="Keras 2.12 has no export")
@pytest.mark.parametrize("kind", KINDS)
def test_keras_exports_the_decoder(kind, tmp_path, rng):
    model = kind(64, latent_size=3)
    model.decoder.set_weights([rng.normal(0, 0.1, w.shape) for w in model.decoder.get_weights()])
    model.decoder.export(str(tmp_path / "decoder"))
    z = np.float32(rng.normal(size=(4, model.decoder.input_shape[1])))
    exported = tf.saved_model.load(str(tmp_path / "decoder"))
    np.testing.assert_allclose(exported.serve(z), model.decoder(z), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_files_hold_the_weights_alone(kind, tmp_path):
    sizes = []
    model = kind(784)
    for name in ("before", "after"):
        model.save_weights(str(tmp_path / f"{name}.weights.h5"))
        sizes.append((tmp_path / f"{name}.weights.h5").stat().st_size)
        model.optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.trainable_variables])
    assert sizes[0] == sizes[1] < 1.1 * 4 * model.count_params()


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_names_the_layers_and_counts_their_weights(kind):
    lines, c, h = [], 10 * (kind is vae.CVAE), 384
    kind(784).summary(print_fn=lambda line, **_: lines.append(line))
    hidden = 2 * (h + 1) * h
    for name, count in (
        ("encoder", (784 + c + 1) * h + hidden),
        ("mu", (h + 1) * 15),
        ("logvar", (h + 1) * 15),
        ("decoder", (15 + c + 1) * h + hidden + (h + 1) * 784),
    ):
        rows = [line for line in "\n".join(lines).splitlines() if name in line]
        assert any(str(count) in row.replace(",", "") for row in rows), (name, count, rows)


def test_a_frozen_encoder_is_not_among_what_is_trained():
    model = vae.CVAE(64)
    model.encoder.trainable = False
    assert len(model.trainable_variables) == 2 + 2 + 8
    assert isinstance(model.mu_layer, tf.keras.layers.Dense) and model.mu_layer.units == 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", [{"policy": "mixed_float16"}, {"policy": "mixed_bfloat16"}, {"floatx": "float64"}])
def test_models_work_under_every_policy_of_keras(kind, setting, rng):
    with keras_setting(**setting):
        model = kind(64)
        x = rng.uniform(size=(20, 1, 8, 8))
        x_hat, mu, logvar = model(x, *(c.astype(int) for c in second_input(model, np.arange(20) % 10)))
        loss = vae.loss_function(x_hat, x, mu, logvar)
        assert x_hat.dtype == loss.dtype == tf.float32 and mu.dtype == model.compute_dtype and np.isfinite(loss)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_near_1_keep_their_gradient_under_mixed_precision(kind):
    """In float16 sigmoid(9) is 1 exactly, and the gradient of a pixel that should be 0 is lost."""
    with keras_setting(policy="mixed_float16"):
        decoder = kind(64).decoder
    decoder.get_layer("pixels").bias.assign(tf.fill((64,), 9.0))
    with tf.GradientTape() as tape:
        x_hat = decoder(tf.zeros((1, decoder.input_shape[1])))
        loss = vae.bce_function(x_hat, tf.zeros_like(x_hat))
    gradient = tape.gradient(loss, decoder.get_layer("pixels").bias)
    np.testing.assert_allclose(gradient, np.full(64, 1 / (1 + np.exp(-9.0))), rtol=1e-3)  # d loss / d logit = x_hat - x

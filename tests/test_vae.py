"""The models and their loss against NumPy, closed forms and Monte Carlo."""

import math

import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import second_input

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


def test_bce_of_plain_vectors():
    """-(log 0.9 + log 0.8 + log 0.9)."""
    expected = -(2 * math.log(0.9) + math.log(0.8))
    assert float(vae.bce_function([0.9, 0.2, 0.1], [1.0, 0.0, 0.0])) == pytest.approx(expected, rel=1e-5)


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


@pytest.mark.parametrize("epsilon", [1e-7, 1e-8])
def test_loss_is_finite_for_saturated_pixels(epsilon):
    """Four pixels that are wrong by 1: each counts -log 1e-7, whatever Keras' own epsilon is."""
    before = tf.keras.backend.epsilon()
    tf.keras.backend.set_epsilon(epsilon)
    zeros, mu = tf.zeros((1, 1, 2, 2)), tf.zeros((1, 3))
    losses = [vae.loss_function(1 - x, x, mu, mu) for x in (zeros, 1 - zeros)]
    tf.keras.backend.set_epsilon(before)
    np.testing.assert_allclose(losses, 4 * 7 * math.log(10), rtol=0.02)  # 1 - 1e-7 is rounded in float32


@pytest.mark.parametrize("shape", [(2, 1, 4, 1), (1, 1, 4, 4), (2, 1, 5, 5)])
def test_bce_refuses_images_of_another_size_which_might_broadcast(shape):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        vae.bce_function(tf.zeros((2, 1, 4, 4)), tf.zeros(shape))


def test_the_loss_takes_images_in_any_layout_of_as_many_pixels(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 5, 1, 4, 4)).astype(np.float32)
    expected = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat)) / 5
    for shape in ((5, 16), (5, 4, 4), (5, 4, 4, 1)):
        loss = vae.loss_function(x_hat, x.reshape(shape), tf.zeros((5, 2)), tf.zeros((5, 2)))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ reparametrization


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
    names = [layer.name for layer in model.encoder.layers + model.decoder.layers if layer.weights]
    assert names == ["encoder_1", "encoder_2", "encoder_3", "decoder_1", "decoder_2", "decoder_3", "pixels"]
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
        model = kind(64)
        model.set_weights([np.full(w.shape, 0.1) for w in model.get_weights()])  # what differs is the noise alone
        x = tf.ones((2, 1, 8, 8))
        return [model(x, *second_input(model, [1, 2]))[0].numpy() for _ in range(2)]

    (first, second), again, other = forward(3), forward(3), forward(4)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal([first, second], again)
    assert not np.array_equal(first, other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_encode_and_decode_are_what_the_forward_pass_is_made_of(kind, rng):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    x, c = rng.uniform(size=(5, 1, 8, 8)), second_input(model, [0, 3, 9, 3, 1])
    _, mu, logvar = model(x, *c)
    for ours, theirs in zip(model.encode(x, *c), (mu, logvar)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    z = rng.normal(size=(5, 3))
    expected = layer_outputs(model.decoder, np.concatenate([z, *c], axis=1))
    np.testing.assert_allclose(np.reshape(model.decode(z, *c), (5, 64)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_draws_images_near_the_mean_pixel_which_differ(kind, rng):
    """Near the grey of 1 / (1 + e^2), but other images for other z, other classes and other noise."""
    model = kind(784)
    z, c = np.float32(rng.normal(size=(2, 15))), second_input(model, [3, 3])
    images = model.decode(z, *c).numpy()
    np.testing.assert_allclose(images, np.full((2, 1, 28, 28), 1 / (1 + math.exp(2))), atol=0.1)
    assert np.abs(images[0] - images[1]).max() > 1e-4
    x = rng.uniform(size=(2, 1, 28, 28))
    first, second = (model(x, *c)[0].numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-4
    if kind is vae.CVAE:
        threes, fours = (model.decode(z, np.eye(10)[[d, d]]).numpy() for d in (3, 4))
        assert np.abs(threes - fours).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_at_first_mu_depends_on_the_image_and_sigma_does_not(kind, rng):
    model = kind(784)
    _, mu, logvar = model(rng.uniform(size=(4, 1, 28, 28)), *second_input(model, [0, 1, 2, 3]))
    np.testing.assert_array_equal(logvar, np.full((4, 15), -3.0 if kind is vae.CVAE else -2.0))
    assert np.std(mu, axis=0).min() > 1e-3
    kernel, bias = model.mu_layer.get_weights()
    limit = math.sqrt(6 / (352 + 15))  # Glorot & Bengio 2010, equation 16
    assert 0.95 * limit < np.abs(kernel).max() <= limit and not bias.any()


def test_the_class_initializer_can_be_saved_with_a_layer():
    initializer = vae.HeNormalWithClass(2, 5.0)
    layer = tf.keras.layers.Dense(4000, kernel_initializer=initializer)
    copied = tf.keras.layers.Dense.from_config(layer.get_config())
    copied.build((None, 10))
    kernel = copied.get_weights()[0]
    np.testing.assert_allclose(kernel.std(axis=1), math.sqrt(2 / 10) * np.repeat([1, 5], [8, 2]), rtol=0.05)


def test_the_class_weights_are_initialized_larger():
    tf.keras.utils.set_random_seed(0)
    model = vae.CVAE(784)
    for network, inputs, scale in ((model.encoder, 784 + 10, 50), (model.decoder, 15 + 10, 10.5)):
        kernel = network.get_weights()[0]
        he = math.sqrt(2 / inputs)
        assert kernel[:-10].std() == pytest.approx(he, rel=0.05)
        assert kernel[-10:].std() == pytest.approx(scale * he, rel=0.05)


def test_the_class_changes_what_encoder_and_decoder_put_out(rng):
    model = vae.CVAE(64)
    x, c = rng.uniform(size=(10, 64)).astype(np.float32), np.eye(10, dtype=np.float32)
    h = model.encoder(np.concatenate([np.repeat(x[:1], 10, axis=0), c], axis=1)).numpy()
    model.decoder.set_weights([rng.normal(0, 0.3, w.shape) for w in model.decoder.get_weights()])
    images = model.decoder(np.concatenate([np.zeros((10, 15), np.float32), c], axis=1)).numpy()
    for outputs in (h, images):
        for i in range(1, 10):
            assert np.abs(outputs[i] - outputs[0]).max() > 0.05


def test_cvae_takes_one_hots_of_any_type_a_pair_and_no_other_shape():
    model, x = vae.CVAE(64), tf.zeros((2, 1, 8, 8))
    for c in (np.eye(10)[:2], np.eye(10, dtype=np.int64)[:2], tf.eye(10)[:2]):
        assert model(x, c)[0].shape == model((x, c))[0].shape == (2, 1, 8, 8)
    for c in (np.eye(9)[:2], np.eye(10)[:1]):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model(x, c)
    with pytest.raises(ValueError, match="one-hot classes"):
        model(x)


@pytest.mark.parametrize("kind", KINDS)
def test_models_refuse_images_of_another_size(kind):
    model = kind(64)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        model(tf.zeros((4, 1, 4, 4)), *second_input(model, [1, 2, 3, 4]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, -1, -4, 783])
def test_input_size_must_be_a_square(kind, size):
    with pytest.raises(ValueError, match=f"input_size must be .* got {size}"):
        kind(size)


@pytest.mark.parametrize("kind", KINDS)
def test_images_may_come_in_any_layout(kind, rng):
    model = kind(64)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
    x, c = rng.uniform(size=(2, 1, 8, 8)), second_input(model, [1, 2])
    x_hat, mu, _ = model(x, *c)
    for shape in ((2, 64), (2, 8, 8), (2, 8, 8, 1)):
        others = model(x.reshape(shape), *c)
        assert others[0].shape == (2, 1, 8, 8)
        np.testing.assert_allclose(others[1], mu, atol=1e-6)


def test_sizes_may_be_numbers_of_numpy():
    assert all(type(size) is int for size in vae.CVAE(np.prod((8, 8)), latent_size=np.int64(3)).get_config().values())


def test_sizes_are_attributes():
    assert vae.VAE(1).image_size == 1
    model = vae.CVAE(784, num_classes=3, latent_size=4)
    assert (model.input_size, model.num_classes, model.latent_size) == (784, 3, 4)
    assert vae.CVAE(64).latent_size == vae.VAE(64).latent_size == 15 and vae.CVAE(64).num_classes == 10
    assert vae.CVAE(64).hidden_dim == vae.VAE(64).hidden_dim == 352
    assert model.decoder(tf.zeros((2, 7))).shape == (2, 1, 28, 28)

"""The models and their loss against NumPy, closed forms and Monte Carlo."""

import numpy as np
import pytest
import tensorflow as tf

import vae


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_bce_is_the_sum_over_all_pixels(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 5, 1, 4, 4)).astype(np.float32)
    expected = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    np.testing.assert_allclose(vae.bce_function(x_hat, x), expected, rtol=1e-5)


def test_kl_is_zero_for_the_prior():
    zeros = tf.zeros((3, 4))
    assert float(vae.kl_divergence(zeros, zeros)) == 0.0


def test_kl_agrees_with_monte_carlo(rng):
    mu, logvar = np.float32([[0.5, -1.0]]), np.float32([[-1.0, 0.4]])
    z = mu + np.exp(logvar / 2) * rng.standard_normal((400_000, 2))
    log_q = -0.5 * (logvar + (z - mu) ** 2 / np.exp(logvar))
    monte_carlo = (log_q + 0.5 * z**2).sum(axis=1).mean()
    np.testing.assert_allclose(vae.kl_divergence(mu, logvar), monte_carlo, rtol=0.02)


def test_loss_is_the_average_over_images(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 7, 1, 4, 4)).astype(np.float32)
    mu, logvar = rng.standard_normal((2, 7, 3)).astype(np.float32)
    bce = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar))
    np.testing.assert_allclose(vae.loss_function(x_hat, x, mu, logvar), (bce + kl) / 7, rtol=1e-5)


def test_loss_is_finite_for_saturated_pixels():
    x, mu = tf.zeros((1, 1, 2, 2)), tf.zeros((1, 3))
    assert np.isfinite(vae.loss_function(tf.ones_like(x), x, mu, mu))


@pytest.mark.parametrize("x_hat, x, mu, logvar, offending", [
    ((2, 1, 4, 4), (2, 1, 4, 1), (2, 3), (2, 3), r"\(2, 1, 4, 1\)"),
    ((2, 1, 4, 4), (1, 1, 4, 4), (2, 3), (2, 3), r"\(1, 1, 4, 4\)"),
    ((2, 1, 4, 4), (2, 1, 4, 4), (2, 3), (2, 1), r"\(2, 1\)"),
    ((2, 1, 4, 4), (2, 1, 4, 4), (1, 3), (1, 3), r"\(1, 3\)")])
def test_loss_refuses_shapes_that_would_broadcast(x_hat, x, mu, logvar, offending):
    with pytest.raises(ValueError, match=offending):
        vae.loss_function(*(tf.zeros(shape) for shape in (x_hat, x, mu, logvar)))


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
        np.testing.assert_allclose(by_logvar, (z - mu) / 2, rtol=1e-5)  # d sigma / d logvar = sigma / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vae_shapes(rng, dtype):
    model = vae.VAE(64, latent_size=3)
    x_hat, mu, logvar = model(rng.uniform(size=(5, 1, 8, 8)).astype(dtype))
    assert x_hat.shape == (5, 1, 8, 8) and mu.shape == logvar.shape == (5, 3)
    assert model.encoder(np.zeros((5, 1, 8, 8), np.float32)).shape == (5, model.hidden_dim)


def test_cvae_decoder_works_on_a_model_never_called():
    model = vae.CVAE(784)
    assert model.decoder(tf.zeros((2, 25))).shape == (2, 1, 28, 28)
    assert model.encoder(tf.zeros((2, 794))).shape == (2, model.hidden_dim)


def test_cvae_takes_one_hots_of_any_type_and_no_other_shape():
    model, x = vae.CVAE(784), tf.zeros((2, 1, 28, 28))
    for c in (np.eye(10)[:2], np.eye(10, dtype=np.int64)[:2]):
        assert model(x, c)[0].shape == (2, 1, 28, 28)
    for c, offending in ((np.eye(9)[:2], r"got \(2, 9\)"), (np.eye(10)[:1], r"got \(1, 10\)")):
        with pytest.raises(ValueError, match=offending):
            model(x, c)


def test_models_refuse_images_of_another_size():
    x = tf.zeros((4, 1, 14, 14))  # as many pixels in all as one image
    with pytest.raises(ValueError, match="14"):
        vae.VAE(784)(x)
    with pytest.raises(ValueError, match=r"784 pixels, got \(4, 1, 14, 14\)"):
        vae.CVAE(784)(x, np.eye(10)[:1])


@pytest.mark.parametrize("size", [0, -1, 783])
def test_input_size_must_be_a_square(size):
    with pytest.raises(ValueError, match="input_size"):
        vae.VAE(size)

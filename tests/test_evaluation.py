"""Measuring a model: its loss, the classes that it predicts, axes, distances and accuracies, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import keras_setting, second_input, small_arrays
from extras import evaluation


def numpy_loss(x, x_hat, mu, logvar):
    """Reconstruction and KL of each image, by the formulas: (N,) each."""
    x, x_hat, mu, logvar = (np.asarray(array, float) for array in (x, x_hat, mu, logvar))
    reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3))
    return reconstruction, np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar), axis=1)


@pytest.mark.parametrize("kind", [vae.VAE, vae.CVAE])
@pytest.mark.parametrize("chunk", [20, 2500])
def test_evaluate_is_the_average_loss_of_the_test_images(small_mnist, monkeypatch, kind, chunk):
    monkeypatch.setattr(evaluation, "CHUNK", chunk)  # of 50 images: the last is smaller, and the only one
    model = kind(784)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))  # no noise
    x = small_arrays()["x_test"][:, None] / np.float32(255)
    x_hat, mu, logvar = model(x, *second_input(model, small_arrays()["y_test"]))
    reconstruction, kl = numpy_loss(x, x_hat, mu, logvar)
    test = evaluation.evaluate(model, small_mnist)
    assert test.reconstruction == pytest.approx(reconstruction.mean(), rel=1e-6)
    assert test.kl == pytest.approx(kl.mean(), rel=1e-5)
    assert test.loss == pytest.approx(reconstruction.mean() + kl.mean(), rel=1e-6)
    np.testing.assert_allclose(test.mu, mu, rtol=1e-4, atol=1e-5)


@pytest.fixture
def three_classes(narrow):
    """A CVAE of three classes and 8 x 8 pixels with random weights, and images."""
    rng = np.random.default_rng(0)
    model = vae.CVAE(64, num_classes=3, latent_size=2)
    model.set_weights([rng.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
    return model, rng.uniform(size=(20, 1, 8, 8)).astype(np.float32)


def test_the_class_of_an_image_is_by_bayes_rule(three_classes):
    """exp(-loss(x, c)) over its sum, with NumPy's loss and z = mu."""
    model, x = three_classes
    losses = []
    for c in np.eye(3, dtype=np.float32)[:, None].repeat(len(x), axis=1):
        h = model.encoder(np.concatenate([x.reshape(len(x), 64), c], axis=1))
        mu, logvar = model.mu_layer(h), model.logvar_layer(h)
        losses.append(sum(numpy_loss(x, model.decoder(np.concatenate([mu, c], axis=1)), mu, logvar)))
    likelihood = np.exp(np.min(losses, axis=0) - np.array(losses)).T
    expected = likelihood / likelihood.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(evaluation.classify(model, x), expected, atol=1e-3)
    assert len(set(expected.argmax(axis=1))) > 1 and 0.1 < expected.max(axis=1).min() < 0.9  # not all is clear


def test_classes_are_predicted_under_mixed_precision(three_classes):
    model, x = three_classes
    with keras_setting(policy="mixed_float16"):
        half = vae.CVAE(64, num_classes=3, latent_size=2)
        half.set_weights(model.get_weights())
        scores = evaluation.classify(half, x)
    assert scores.dtype == tf.float32
    np.testing.assert_allclose(scores, evaluation.classify(model, x), atol=0.05)


def test_the_one_class_of_a_vae_is_certain(narrow):
    x = np.random.default_rng(0).uniform(size=(4, 1, 8, 8))
    np.testing.assert_array_equal(evaluation.classify(vae.VAE(64), x), np.ones((4, 1)))


def test_images_in_another_layout_are_classified_alike(three_classes):
    model, x = three_classes
    expected = evaluation.classify(model, x)
    for shape in ((20, 64), (20, 8, 8), (20, 8, 8, 1)):
        np.testing.assert_array_equal(evaluation.classify(model, x.reshape(shape).astype(np.float64)), expected)


def test_principal_axes_are_those_of_the_singular_value_decomposition():
    mu = np.random.default_rng(0).normal(size=(200, 5)) * [1, 5, 0.1, 3, 2] + [9, 0, 0, 0, 0]
    mu = mu @ np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    axes, shares = evaluation.principal_axes(mu)
    _, deviations, expected = np.linalg.svd(mu - mu.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(axes @ expected[:2].T), np.eye(2), atol=1e-9)
    np.testing.assert_allclose(shares, deviations**2 / np.sum(deviations**2), atol=1e-9)


def gaussian(rng, mean, deviations, n=1000):
    """n points whose mean and covariance are exactly these."""
    points = rng.normal(size=(n, len(mean)))
    points -= points.mean(axis=0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return points * deviations + mean


def test_the_distance_of_two_gaussians_is_the_closed_form():
    """For covariances that commute: |m1 - m2|^2 + sum (s1 - s2)^2; and it does not change when both are turned."""
    rng = np.random.default_rng(0)
    a = gaussian(rng, [1.0, 0.0, 2.0], [1.0, 2.0, 0.5])
    b = gaussian(rng, [0.0, 2.0, 2.0], [3.0, 1.0, 0.5])
    expected = (1 + 4) + (4 + 1)
    assert evaluation.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert evaluation.frechet_distance(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-9)
    assert evaluation.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_covariances_that_do_not_commute():
    """In two dimensions tr (C1 C2)^(1/2) = sqrt(tr(C1 C2) + 2 sqrt(det(C1 C2)))."""
    rng = np.random.default_rng(1)
    a, b = (gaussian(rng, [0, 0], [1, 1]) @ rng.normal(size=(2, 2)) for _ in range(2))
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1 @ c2)))
    means = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    assert evaluation.frechet_distance(a, b) == pytest.approx(means + np.trace(c1) + np.trace(c2) - 2 * root, rel=1e-6)


def test_the_distance_is_finite_where_a_feature_is_constant():
    a = np.random.default_rng(0).normal(size=(50, 4))
    a[:, 2] = 0
    assert evaluation.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_accuracy_counts_by_digit():
    condition = np.repeat(np.arange(10), 4)
    predicted = condition.copy()
    predicted[36:38] = 4  # two of the four nines are classified as fours
    predicted[0] = 6
    matrix = evaluation.confusion_matrix(condition, predicted)
    assert (matrix[9, 4], matrix[4, 9], matrix[0, 6], matrix[9, 9], matrix.sum()) == (2, 0, 1, 2, 40)
    assert evaluation.accuracy(matrix) == (92.5, 50.0, 9)

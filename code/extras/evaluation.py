"""Measures trained models: loss on the test images, predicted classes, latents, and the quality of samples."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import vae
from assignment import bce_function, forward, is_conditional, loss_function, to_pixels

CHUNK = 2500  # test images at a time, to save memory


class Evaluation(NamedTuple):
    """The two terms of the loss, averaged over the test images, in nats per image; and the posterior means."""

    reconstruction: float
    kl: float
    mu: np.ndarray  # (N, Z)

    @property
    def loss(self):
        """The negative ELBO, nats per image."""
        return self.reconstruction + self.kl


def evaluate(model, data):
    """Returns the `Evaluation` of a model on the test images of `data`, with one sample of z for each image."""
    reconstruction = 0.0
    loss = 0.0
    means = []
    for start in range(0, len(data.x_test), CHUNK):
        images = to_pixels(data.x_test[start : start + CHUNK])
        labels = data.y_test[start : start + CHUNK]
        x_hat, mu, logvar = forward(model, images, labels, is_conditional(model))
        reconstruction += float(bce_function(x_hat, images))
        loss += float(loss_function(x_hat, images, mu, logvar)) * len(images)
        means.append(tf.cast(mu, tf.float32))
    count = len(data.x_test)
    return Evaluation(reconstruction / count, (loss - reconstruction) / count, np.concatenate(means))


def classify(model, images):
    """Returns a `CVAE`'s score of each class for images (N, 1, H, W) in [0, 1]: (N, C), rows that add up to 1.

    By Bayes' rule with equal priors, p(c|x) is proportional to p(x|c), here replaced by exp(-loss(x, c)): the loss is
    the handout's, of which -loss is a lower bound of log p(x|c) (Kingma & Welling, equation 3), but with z = mu.

    It is a score and no calibrated probability: for grey pixels the cross-entropy is no normalized likelihood, since
    its missing constant depends on x_hat (Loaiza-Ganem & Cunningham 2019, https://arxiv.org/abs/1907.06845).
    """
    return tf.nn.softmax(-losses_by_class(model, images))


def losses_by_class(model, images):
    """Returns the losses in nats of images (N, 1, H, W) with z = mu, as each class: (N, C); of a `VAE` (N, 1)."""
    images = tf.cast(images, tf.float32)
    if not is_conditional(model):
        mu, logvar = model.encode(images)
        return losses_of(model.decode(mu), images, mu, logvar)[:, tf.newaxis]
    losses = []
    for class_ in range(model.num_classes):
        c = tf.one_hot(tf.fill(tf.shape(images)[:1], class_), model.num_classes)  # (N, C)
        mu, logvar = model.encode(images, c)
        losses.append(losses_of(model.decode(mu, c), images, mu, logvar))
    return tf.stack(losses, axis=1)


def losses_of(x_hat, images, mu, logvar):
    """Returns the loss of each image in nats, (N,)."""
    return vae.reconstruction_loss(x_hat, images) + vae.kl_divergence(mu, logvar)


def principal_axes(mu):
    """Returns the two directions in which points (N, Z) vary most, and the shares of the variance in all directions.

    The directions (2, Z) are unit vectors. The shares (Z,) begin with the largest and add up to 1.
    """
    variances, vectors = np.linalg.eigh(np.cov(mu, rowvar=False))  # the last are the largest
    return vectors.T[[-1, -2]], variances[::-1] / variances.sum()


def frechet_distance(a, b):
    """Returns the Fréchet distance of two Gaussians with the means m and covariances C of features a (N, F), b (M, F).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as Heusel et al. 2017, https://arxiv.org/abs/1706.08500. It is zero
    for equal distributions and grows if samples are blurred or alike. Its scale is that of the features.
    """
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    # C1 C2 is not symmetric, but root C2 root is, and has the same eigenvalues
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(c1) + np.trace(c2) - 2 * trace_of_root


def confusion_matrix(requested, predicted):
    """Returns counts (10, 10): rows are requested digits, columns predicted ones."""
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (requested, predicted), 1)
    return matrix


class Accuracy(NamedTuple):
    """The percentage of samples classified as the requested digit: of all, of the worst digit, and which that is."""

    all: float
    worst: float
    worst_digit: int


def accuracy(matrix):
    """Returns the `Accuracy` of a confusion matrix."""
    by_digit = 100 * np.diag(matrix) / matrix.sum(axis=1)
    worst_digit = int(by_digit.argmin())
    return Accuracy(100 * np.trace(matrix) / matrix.sum(), by_digit[worst_digit], worst_digit)

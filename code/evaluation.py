"""What a trained model is worth: the terms of its loss on the test images, the classes that it reads, its latents."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import vae
from mnist import check_images, to_pixels

CHUNK = 2500  # test images at a time: all at once would take more memory


class Evaluation(NamedTuple):
    """Averages over the test images in nats per image, whose sum is the loss; and the posterior means."""

    reconstruction: float
    kl: float
    mu: np.ndarray  # (N, Z)

    @property
    def loss(self):
        """The negative ELBO, nats per image."""
        return self.reconstruction + self.kl


def forward(model, images, labels):
    """x_hat, mu and logvar of images (N, 1, H, W) in [0, 1]; a CVAE is given their labels (N,) too."""
    if isinstance(model, vae.CVAE):
        return model(images, tf.one_hot(labels, model.num_classes))
    return model(images)


def evaluate(model, data):
    """The `Evaluation` of a model on the test images of `data`, with one sample of z for each image."""
    reconstruction = 0.0
    loss = 0.0
    means = []
    for start in range(0, len(data.x_test), CHUNK):
        images = to_pixels(data.x_test[start : start + CHUNK])
        labels = data.y_test[start : start + CHUNK]
        x_hat, mu, logvar = forward(model, images, labels)
        reconstruction += float(vae.bce_function(x_hat, images))
        loss += float(vae.loss_function(x_hat, images, mu, logvar)) * len(images)
        means.append(mu)
    count = len(data.x_test)
    return Evaluation(reconstruction / count, (loss - reconstruction) / count, np.concatenate(means))


def classify(model, images):
    """A score of each class for images (N, 1, H, W) in [0, 1], by a `CVAE`: (N, C) float32, rows that add up to 1.

    By Bayes' rule with equal priors, p(c|x) is proportional to p(x|c), here replaced by exp(-loss(x, c)): the loss is
    the handout's, of which -loss is a lower bound of log p(x|c) (Kingma & Welling, equation 3), but with z = mu.

    It is a score and no calibrated probability: for grey pixels the cross-entropy is no normalised likelihood, since
    its missing constant depends on x_hat (Loaiza-Ganem & Cunningham 2019, https://arxiv.org/abs/1907.06845).
    InputError if a pixel is not in [0, 1].
    """
    images = check_images(images, model.input_size)
    losses = []
    for class_ in np.eye(model.num_classes):
        c = np.tile(class_, (len(images), 1))  # (N, C)
        mu, logvar = model.encode(images, c)
        x_hat = model.decode(mu, c)
        losses.append(vae.reconstruction_loss(x_hat, images) + vae.kl_divergence(mu, logvar))
    return tf.nn.softmax(-tf.stack(losses, axis=1))


def principal_axes(mu):
    """Of points (N, Z): the two directions in which they vary most, and the shares of the variance in all directions.

    The directions (2, Z) are unit vectors. The shares (Z,) begin with the largest and add up to 1.
    """
    variances, vectors = np.linalg.eigh(np.cov(mu, rowvar=False))  # the last are the largest
    return vectors.T[[-1, -2]], variances[::-1] / variances.sum()

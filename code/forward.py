"""How a model of the homework is called: with images alone, or if it is conditional with their classes too."""

import tensorflow as tf
import vae


def is_conditional(model):
    """Whether a model is a `CVAE`, which is given classes beside the images."""
    return isinstance(model, vae.CVAE)


def num_classes_of(model):
    """C of a conditional model; ten digits if it does not say."""
    return getattr(model, "num_classes", 10)


def forward(model, images, labels, is_cvae):
    """x_hat, mu and logvar of images (N, 1, H, W) in [0, 1]; if `is_cvae`, the model is given the labels (N,) too."""
    if is_cvae:
        return model(images, tf.one_hot(labels, num_classes_of(model)))
    return model(images)

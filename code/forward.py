"""How a model of the homework is called: with images alone, or if it is conditional with their classes too."""

import tensorflow as tf
import vae


def is_conditional(model):
    """Whether a model is a `CVAE`, which is given classes beside the images."""
    return isinstance(model, vae.CVAE)


def num_classes_of(model):
    """C of a conditional model; ten digits if it does not say."""
    return getattr(model, "num_classes", 10)


def classes_for(model, labels):
    """The one-hot classes (N, C) of labels (N,), if the model is conditional; otherwise None."""
    return tf.one_hot(labels, num_classes_of(model)) if is_conditional(model) else None


def forward(model, images, c, training=False):
    """x_hat, mu and logvar of images (N, 1, H, W) in [0, 1] and one-hot classes c (N, C), or None for a `VAE`.

    `training` tells layers such as dropout, which an encoder of the caller's may have, whether the model is trained.
    """
    inputs = [images] if c is None else [images, c]
    options = {"training": training} if isinstance(model, tf.keras.Model) else {}  # a tf.Module does not know it
    return model(*inputs, **options)

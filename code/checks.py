"""What is checked of images, labels and batches before a model is given them."""

import numpy as np
import tensorflow as tf
from errors import InputError
from forward import is_conditional, num_classes_of
from vae import CVAE, VAE


def checked_batches(train_loader, model, is_cvae):
    """The batches of a loader, one after the other: tensors of images, float32 (B, 1, H, W), and labels, int32 (B,).

    Further elements of a batch are left out. InputError if there are no batches, or if a data set repeats for ever, or
    if the model cannot be trained on a batch. TypeError if `is_cvae` does not suit a `VAE` or `CVAE`.
    """
    if isinstance(model, (VAE, CVAE)) and is_conditional(model) != is_cvae:
        raise TypeError(f"a {type(model).__name__} is trained with is_cvae={not is_cvae}")
    if isinstance(train_loader, tf.data.Dataset) and train_loader.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the loader repeats without end: leave out .repeat()")
    batch = None
    for batch in train_loader:
        if not isinstance(batch, (tuple, list)):
            raise InputError(f"a batch must be images and labels, got a {type(batch).__name__}")
        if len(batch) < 2:
            raise InputError(f"a batch must be images and labels, got {len(batch)} of the two")
        images = check_images(batch[0], getattr(model, "input_size", None))
        labels = np.asarray(batch[1])
        count = len(images)
        if not count:
            raise InputError("a batch has no images")
        if labels.shape != (count,) and labels.shape != (count, 1):
            raise InputError(f"labels must be ({count},), got {labels.shape}")
        if is_cvae:
            labels = check_labels(labels, num_classes_of(model)).reshape(count)
        else:
            labels = np.zeros(count, np.int32)  # they are not used
        yield images, tf.constant(labels)
    if batch is None:
        raise InputError("the loader has no batches: it is empty, or was used up and must be made anew for each epoch")


def check_images(images, input_size=None):
    """Images as a float32 tensor. InputError if a pixel is not in [0, 1].

    With an `input_size`, D, also if they are not (N, 1, H, W) of D pixels.
    """
    images = tf.convert_to_tensor(images)
    if input_size is not None:
        image_size = round(input_size**0.5)
        if images.shape[1:] != (1, image_size, image_size):
            raise InputError(f"images must be (N, 1, {image_size}, {image_size}), got {tuple(images.shape)}")
    check_range("pixels", images, 0, 1)
    return tf.cast(images, tf.float32)


def check_labels(labels, num_classes):
    """Labels, numbers or strings of them, as an int32 array. InputError if one is not from 0 to C - 1."""
    labels = np.asarray(labels)
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"labels must be whole numbers: {error}") from error
    check_range("labels", numbers, 0, num_classes - 1)
    if (numbers % 1).any():
        raise InputError(f"labels must be whole numbers, got {numbers[numbers % 1 > 0][0]}")
    return numbers.astype(np.int32)


def check_range(name, values, low, high):
    """InputError if one of the values is not from `low` to `high`."""
    if not np.size(values):
        return
    smallest = float(np.min(values))
    largest = float(np.max(values))
    if not low <= smallest <= largest <= high:  # NaN fails this too
        raise InputError(f"{name} must be from {low} to {high}, got {in_full(smallest)} to {in_full(largest)}")


def in_full(number):
    """A number in few digits, or in all where few would show another number: 1 + 2e-16 is not 1."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)

"""Where the images come from: MNIST, or digits drawn from fonts where there is none."""

import functools
import os
import pathlib
import sys
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from checks import check_labels
from errors import InputError

MNIST_CHECKSUM = 0x1939F699  # CRC-32 of the bytes of x_train, y_train, x_test and y_test
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Data(NamedTuple):
    """A data set in MNIST's format."""

    name: str
    x_train: tf.Tensor  # uint8 images (N, 28, 28), 0 is background
    y_train: tf.Tensor  # int32 labels (N,), 0 to 9
    x_test: tf.Tensor
    y_test: tf.Tensor


def load_data():
    """MNIST from the file `$MNIST_NPZ`, else through Keras (its cache or its download), else digits drawn from fonts.

    Returns `Data`, which is kept until one of these is another. InputError if `$MNIST_NPZ` is not a valid file.
    """
    path = os.environ.get("MNIST_NPZ")
    if not path:
        return load_data_by(tf.keras.datasets.mnist.load_data)
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        raise invalid_file(path, error) from error
    return read_file(path, changed)


@functools.lru_cache(maxsize=1)
def load_data_by(load):
    """The data that a function such as Keras' returns, or digits drawn from fonts if it fails."""
    try:
        train, test = load()
    except Exception as error:  # Keras raises a bare Exception where the download fails
        return draw_digits(error)
    return new_data("Keras' mnist.npz", *train, *test)


@functools.lru_cache(maxsize=1)
def read_file(path, changed):
    """The data of a file in the format of Keras' mnist.npz, `changed` at that time. InputError if it is not valid."""
    try:
        with np.load(path) as archive:
            arrays = [archive[name] for name in ARRAYS]
        return new_data(pathlib.Path(path).name, *arrays)
    except Exception as error:  # NumPy, zip and deflate raise many kinds
        raise invalid_file(path, error) from error


def invalid_file(path, error):
    """What to raise for a file that cannot be used."""
    return InputError(f"MNIST_NPZ={path} is not a valid mnist.npz ({error}): unset it, or use another")


def draw_digits(reason):
    """Digits drawn from fonts, with a warning that says why."""
    from rendered_digits import rendered_digits  # not needed by those who have MNIST

    stars = "*" * 88
    missing = f"MNIST could not be loaded ({reason}). To use it, set MNIST_NPZ to the path of an mnist.npz."
    instead = "Using digits RENDERED FROM FONTS instead: losses and pictures are NOT MNIST's."
    print(f"\n{stars}\nWARNING: {missing}\n{instead}\n{stars}\n", file=sys.stderr, flush=True)
    train, test = rendered_digits()
    return new_data("rendered digits, not MNIST", *train, *test)


def new_data(name, x_train, y_train, x_test, y_test):
    """`Data` of four arrays; labels may be strings. Its name is "MNIST" if they are MNIST's to the last byte.

    InputError if they are not uint8 (N, 28, 28) and (N,) from 0 to 9.
    """
    y_train = check_arrays(x_train, y_train)
    y_test = check_arrays(x_test, y_test)
    everything = b"".join(array.astype(np.uint8).tobytes() for array in (x_train, y_train, x_test, y_test))
    if zlib.crc32(everything) == MNIST_CHECKSUM:
        name = "MNIST"
    return Data(name, tf.constant(x_train), tf.constant(y_train), tf.constant(x_test), tf.constant(y_test))


def check_arrays(x, y):
    """The labels y as int32. InputError if images x and labels y are not as `Data` has them."""
    if x.dtype != np.uint8 or x.shape != (len(y), 28, 28) or y.ndim != 1 or not x.size:
        got = f"{x.dtype} {x.shape} and {y.dtype} {y.shape}"
        raise InputError(f"images must be uint8 (N, 28, 28) and labels (N,) from 0 to 9, got {got}")
    return check_labels(y, 10)


def to_pixels(images):
    """uint8 images (N, H, W) to float32 (N, 1, H, W) in [0, 1]."""
    return tf.cast(images[:, tf.newaxis], tf.float32) / 255.0

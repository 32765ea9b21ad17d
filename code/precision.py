"""What numbers a network computes with: float32, or bfloat16 where the machine is much faster with it.

bfloat16 is Keras' policy `mixed_bfloat16`: the weights stay float32, so saved weights are the same in both.
"""

import contextlib
import time

import numpy as np
import tensorflow as tf

PRECISIONS = ("auto", "float32", "bfloat16")
MIN_SPEED_UP = 1.5  # of products of matrices: the rest of a step is no faster in bfloat16
ROUNDS = 10


def choose_precision(wanted):
    """ "float32" or "bfloat16", as wanted; for "auto" that which suits the machine, measured in some milliseconds."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if speed_up() >= MIN_SPEED_UP else "float32"


def speed_up():
    """How many times as fast a product of matrices of the network's size is in bfloat16 as in float32.

    Of the fastest of some calls of each, in turns: other programs make a call slower, and none makes it faster.
    """
    products = [product(dtype) for dtype in (tf.float32, tf.bfloat16)]
    times = [[seconds(multiply) for multiply in products] for _ in range(ROUNDS)]
    in_float32, in_bfloat16 = np.min(times, axis=0)
    return in_float32 / in_bfloat16


def product(dtype):
    """A function that multiplies what a hidden layer multiplies in a batch of 1024: (1024, 784) and (784, 384)."""
    a = tf.cast(tf.random.stateless_normal((1024, 784), seed=(0, 0)), dtype)
    b = tf.cast(tf.random.stateless_normal((784, 384), seed=(0, 1)), dtype)
    multiply = tf.function(lambda: tf.matmul(a, b))
    multiply()  # compiles it
    return multiply


def seconds(multiply):
    """The seconds that one call takes."""
    start = time.perf_counter()
    multiply().numpy()
    return time.perf_counter() - start


@contextlib.contextmanager
def computing_in(precision):
    """Models that are made in this block compute with that precision, "float32" or "bfloat16"."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision])
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def in_float32(model):
    """A model of the same weights that computes in float32; the model itself if it does."""
    if model.compute_dtype == "float32":
        return model
    with computing_in("float32"):
        copied = type(model).from_config(model.get_config())
    copied.set_weights(model.get_weights())
    return copied

"""What the tests share: the project's modules on the path, outputs of their own, data, and MNIST where there is one."""

import contextlib
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

needs_mnist = pytest.mark.skipif("MNIST_NPZ" not in os.environ, reason="MNIST_NPZ is not set: no real MNIST")


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """A folder of the test's own in place of the project's `outputs/`."""
    import assignment

    monkeypatch.setattr(assignment, "OUTPUTS", tmp_path / "outputs")
    return tmp_path / "outputs"


@pytest.fixture(scope="session", autouse=True)
def graphs_as_they_are():
    """TensorFlow does not optimise graphs, which takes time and is not what is tested."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture
def narrow(monkeypatch):
    """Models with hidden layers of 32 units, which are fast: what is tested does not depend on their width."""
    import vae

    monkeypatch.setattr(vae.ElboModel, "hidden_dim", 32)


def small_arrays(n=600):
    """Arrays of an `mnist.npz` with n random images: for tests of everything but the digits."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n, 28, 28), np.uint8),
        "y_train": np.arange(n) % 10,
        "x_test": rng.integers(0, 256, (50, 28, 28), np.uint8),
        "y_test": np.arange(50) % 10,
    }


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """`MNIST_NPZ` names a file of `small_arrays`. Its data."""
    import assignment

    np.savez(tmp_path / "small.npz", **small_arrays())
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "small.npz"))
    return assignment.load_data()


@pytest.fixture(scope="session")
def digits():
    """2,000 rendered training images and 500 test images."""
    import assignment
    from extras.rendered_digits import rendered_digits

    return assignment.new_data("digits", *rendered_digits(0, 2000, 500))


@contextlib.contextmanager
def full_disk(free):
    """No file can grow to more than `free` bytes, as on a full disk, until the end of the block."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def second_input(model, labels):
    """The one-hot classes of a `CVAE`, as the only element of a tuple; () for a `VAE`."""
    return (np.eye(model.num_classes, dtype=np.float32)[labels],) if hasattr(model, "num_classes") else ()


def steps_of(model):
    """The number of steps that the model's optimizer has taken."""
    return int(tf.convert_to_tensor(model.optimizer.iterations))


def same_weights(a, b):
    """Whether two lists of arrays are equal."""
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


@contextlib.contextmanager
def keras_setting(policy=None, floatx=None, image_data_format=None):
    """Sets Keras' global settings for a while."""
    backend, before = tf.keras.backend, tf.keras.mixed_precision.global_policy()
    kept = backend.floatx(), backend.image_data_format()
    try:
        if floatx:
            backend.set_floatx(floatx)
            tf.keras.mixed_precision.set_global_policy(floatx)
        if policy:
            tf.keras.mixed_precision.set_global_policy(policy)
        if image_data_format:
            backend.set_image_data_format(image_data_format)
        yield
    finally:
        backend.set_floatx(kept[0])
        backend.set_image_data_format(kept[1])
        tf.keras.mixed_precision.set_global_policy(before)

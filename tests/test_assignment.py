"""Training, weights and pictures on small batches; one real run where MNIST is at hand."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import assignment
import vae
from conftest import CODE, needs_mnist


def loader(n=40, batch=16):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(n, 1, 28, 28))  # float64, with a smaller last batch
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, n))).batch(batch)


def test_one_hot():
    for labels in ([3, 0], np.array([[3], [0]])):
        np.testing.assert_array_equal(assignment.one_hot(labels, 4), [[0, 0, 0, 1], [1, 0, 0, 0]])
    assert assignment.one_hot([1], 4).dtype == tf.float32


@pytest.mark.parametrize("is_cvae", [False, True])
def test_training_goes_on_and_lowers_the_loss(is_cvae):
    model = vae.CVAE(784) if is_cvae else vae.VAE(784)
    args = SimpleNamespace(learning_rate=1e-3)
    totals = [float(assignment.train_vae(model, loader(), args, is_cvae)) for _ in range(5)]
    assert totals[-1] < totals[0]


def test_weights_return_and_leave_no_litter(outputs):
    args = SimpleNamespace(is_cvae=True)
    saved, loaded = vae.CVAE(784), vae.CVAE(784)
    assignment.save_model_weights(saved, args)
    assignment.load_weights(loaded)
    z = tf.random.normal((2, 25))
    np.testing.assert_array_equal(saved.decoder(z), loaded.decoder(z))
    assert [f.name for f in outputs.iterdir()] == ["cvae.weights.h5"]


def test_pictures_are_drawn(outputs):
    assignment.show_vae_images(vae.VAE(784), 15)
    assignment.show_vae_interpolation(vae.VAE(784), 15)
    assignment.show_cvae_images(vae.CVAE(784), 15)
    assert sorted(f.name for f in outputs.iterdir()) == [
        "show_cvae_images.png", "show_vae_images.png", "show_vae_interpolation.png"]


@needs_mnist
def test_command_line_trains_on_mnist(tmp_path):
    (tmp_path / "code").mkdir()
    for name in ("vae.py", "assignment.py"):
        shutil.copy(CODE / name, tmp_path / "code")
    command = [sys.executable, str(tmp_path / "code" / "assignment.py"), "--is_cvae", "--num_epochs", "1", "--seed", "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.split("Loss:")[1].split()[0]) < 280
    assert (tmp_path / "outputs" / "show_cvae_images.png").exists()
    assert (tmp_path / "outputs" / "cvae.weights.h5").exists()

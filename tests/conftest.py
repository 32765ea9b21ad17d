"""What the tests share: the project's modules on the path, outputs of their own, and MNIST where there is one."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

needs_mnist = pytest.mark.skipif("MNIST_NPZ" not in os.environ, reason="MNIST_NPZ is not set: no real MNIST")


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """A folder of the test's own in place of the project's `outputs/`."""
    import assignment

    monkeypatch.setattr(assignment, "OUTPUTS", tmp_path / "outputs")
    assignment.load_data.cache_clear()
    yield tmp_path / "outputs"
    assignment.load_data.cache_clear()


def small_arrays(n=600):
    """Arrays of an `mnist.npz` with n random images: for tests of everything but the digits."""
    rng = np.random.default_rng(0)
    return {"x_train": rng.integers(0, 256, (n, 28, 28), np.uint8), "y_train": np.arange(n) % 10,
            "x_test": rng.integers(0, 256, (50, 28, 28), np.uint8), "y_test": np.arange(50) % 10}


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    np.savez(tmp_path / "small.npz", **small_arrays())
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "small.npz"))


class Project:
    """A copy of the two files that a grader takes, to run as a user does."""

    def __init__(self, folder):
        self.outputs = folder / "outputs"
        self.code = folder / "code"
        self.code.mkdir(parents=True)
        for name in ("vae.py", "assignment.py"):
            shutil.copy(CODE / name, self.code)
        self.mnist = folder / "small.npz"
        np.savez(self.mnist, **small_arrays())

    def start(self, *arguments, mnist=None, terminal=subprocess.PIPE, **options):
        command = [sys.executable, str(self.code / "assignment.py"), *arguments]
        env = {**os.environ, "MNIST_NPZ": str(mnist or self.mnist)}
        return subprocess.Popen(command, stdout=terminal, stderr=subprocess.PIPE, text=True, env=env, **options)

    def save(self, model, is_cvae=False):
        """Saves weights as a run would have."""
        import assignment

        assignment.save_model_weights(model, argparse.Namespace(is_cvae=is_cvae))
        shutil.copytree(assignment.OUTPUTS, self.outputs, dirs_exist_ok=True)

    def run(self, *arguments, **options):
        """Returns (exit status, stdout, stderr)."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=300)
        return process.returncode, stdout, stderr


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")

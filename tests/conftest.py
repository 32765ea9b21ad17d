"""What the tests share: the project's modules on the path, outputs of their own, and MNIST where there is one."""

import os
import pathlib
import sys

import pytest

CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

needs_mnist = pytest.mark.skipif("MNIST_NPZ" not in os.environ, reason="MNIST_NPZ is not set: no real MNIST")


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """A folder of the test's own in place of the project's `outputs/`."""
    import assignment

    monkeypatch.setattr(assignment, "OUTPUTS", tmp_path / "outputs")
    return tmp_path / "outputs"

"""What the README says can be done is done as it stands there."""

import os
import re
import shutil
import subprocess
import sys
import types
import zipfile

import assignment
import numpy as np
import pytest
import vae
from conftest import CODE, small_arrays

PROJECT = CODE.parent
README = (PROJECT / "README.md").read_text("utf-8")


def blocks(language):
    """The contents of the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


@pytest.fixture
def copy(tmp_path):
    """A copy of the project, without weights and caches."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "hw6*", "*.h5", "*.run.json")
    return shutil.copytree(PROJECT, tmp_path / "project", ignore=ignored)


def test_every_code_block_is_in_a_language_that_is_tested_here():
    assert set(re.findall(r"^```(.*)\n(?:.|\n)*?^```", README, re.M)) <= {"python", "sh"}


def test_every_python_block_runs_in_order(copy, tmp_path, monkeypatch):
    """After a training of both models, in one namespace, in the project's folder."""
    monkeypatch.setattr(assignment, "OUTPUTS", copy / "outputs")
    for model in (vae.VAE(784), vae.CVAE(784)):
        model.run = types.SimpleNamespace(data="small.npz")
        assignment.save_model_weights(model, None)
    np.savez(tmp_path / "small.npz", **small_arrays(1200))
    environment = {**os.environ, "MNIST_NPZ": str(tmp_path / "small.npz")}
    command = [sys.executable, "-c", "\n".join(blocks("python"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=copy, env=environment)
    assert done.returncode == 0, done.stderr


def test_every_file_that_a_shell_block_names_exists():
    """Or is made by a block itself: the virtual environment and what is packed."""
    words = {word for block in blocks("sh") for line in block.splitlines() for word in line.partition(" #")[0].split()}
    named = {word for word in words if re.search(r"\w\.\w+$|/", word) and not word.startswith((".venv", "hw6", "-"))}
    assert [word for word in sorted(named) if not any(PROJECT.glob(word))] == []
    assert {"code/assignment.py", "requirements.txt"} <= named  # it says how to train


def test_every_file_that_a_link_or_a_code_span_names_exists():
    links = re.findall(r"\]\(([^)#]+)", README)
    spans = re.findall(r"`((?:code|tests|outputs)/[\w./]*)`", README)
    files = [name for name in links + spans if not name.startswith("http")]
    assert files and [name for name in files if not (PROJECT / name).exists()] == []


def test_the_archive_to_hand_in_has_all_the_code_and_no_weights_and_caches(copy):
    """Without git, with a README that is edited, weights next to the pictures and caches next to the code."""
    (copy / "README.md").write_text("My accuracy and my bugs.")
    (copy / "outputs" / "cvae.weights.h5").write_bytes(b"weights")
    for folder in (copy / "code", copy / "code" / "extras"):
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "vae.cpython-311.pyc").write_bytes(b"cache")
    (commands,) = [block for block in blocks("sh") if "zip" in block]
    for _ in range(2):  # again, after a change
        subprocess.run(["sh", "-ec", commands], cwd=copy, check=True)
    with zipfile.ZipFile(copy / "hw6.zip") as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        assert archive.read("hw6/README.md") == b"My accuracy and my bugs."
    files = [path for path in CODE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {f"hw6/code/{path.relative_to(CODE).as_posix()}" for path in files} <= sizes.keys()
    assert sizes["hw6/outputs/show_cvae_images.png"] > 0
    assert sizes["hw6/code/2470student"] == sizes["hw6/2470student"] == 0  # blank
    assert not [name for name in sizes if name.endswith((".h5", ".json", ".pyc"))]

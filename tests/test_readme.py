"""What the README says can be done is done as it stands there."""

import re
import shutil
import subprocess
import zipfile

from conftest import CODE

PROJECT = CODE.parent
README = (PROJECT / "README.md").read_text("utf-8")


def test_the_archive_to_hand_in_has_what_lies_here_and_no_weights_and_caches(tmp_path):
    """Without git, with a README that is edited, weights beside the pictures and a cache beside the code."""
    copy = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns(".*", "hw6*", "*.h5"))
    (copy / "README.md").write_text("My accuracy and my bugs.")
    (copy / "outputs" / "cvae.weights.h5").write_bytes(b"weights")
    (copy / "code" / "__pycache__").mkdir(exist_ok=True)
    (copy / "code" / "__pycache__" / "vae.cpython-311.pyc").write_bytes(b"cache")
    (commands,) = re.findall(r"```sh\n(mkdir .*?)```", README, re.S)
    for _ in range(2):  # again, after a change
        subprocess.run(["sh", "-ec", commands], cwd=copy, check=True)
    with zipfile.ZipFile(copy / "hw6.zip") as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        assert archive.read("hw6/README.md") == b"My accuracy and my bugs."
    handed_in = {f"hw6/code/{path.name}" for path in CODE.iterdir() if path.name != "__pycache__"}
    assert handed_in <= sizes.keys() and sizes["hw6/outputs/show_cvae_images.png"] > 0
    assert sizes["hw6/code/2470student"] == sizes["hw6/2470student"] == 0  # blank
    assert not [name for name in sizes if name.endswith((".h5", ".json", ".pyc"))]


def test_the_readme_is_brief():
    assert len(README.splitlines()) <= 90

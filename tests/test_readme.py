"""What the README says can be done is done as it stands there."""

import re
import shutil
import subprocess
import zipfile

import pytest
from conftest import CODE

PROJECT = CODE.parent
README = (PROJECT / "README.md").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git")
def test_the_archive_to_hand_in_has_what_the_course_asks_for_and_no_weights(tmp_path):
    """In a repository of its own, with weights beside the pictures."""
    copy = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns(".git", ".venv", "*.h5"))
    (copy / "outputs" / "cvae.weights.h5").write_bytes(b"weights")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    (command,) = re.findall(r"`(git archive [^`]*)`", README)
    subprocess.run(command.split(), cwd=copy, check=True)
    with zipfile.ZipFile(copy / "hw6.zip") as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    for name in ("hw6/code/vae.py", "hw6/code/assignment.py", "hw6/README.md", "hw6/outputs/show_cvae_images.png"):
        assert sizes[name] > 0
    assert sizes["hw6/code/2470student"] == sizes["hw6/2470student"] == 0  # blank
    assert not [name for name in sizes if "weights" in name and name.endswith(".h5")]

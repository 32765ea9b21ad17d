"""How files are written, and what becomes of an error: one line, or a traceback where it is a bug."""

import io
import os
import sys

import pytest
from conftest import full_disk
from errors import InputError, exit_status
from files import new_file


@pytest.fixture
def target(outputs):
    """A file that is there already."""
    outputs.mkdir()
    path = outputs / "target.txt"
    path.write_text("old")
    return path


def only_file(path):
    """The content of a file, and that there is nothing beside it."""
    assert list(path.parent.iterdir()) == [path]
    return path.read_text()


def test_a_file_is_there_only_when_it_is_whole(target):
    with new_file(target) as written:
        assert target.parent in written.parents  # on one file system, or it could not be moved at once
        written.write_text("ne")
        assert target.read_text() == "old"
        written.write_text("new")
    assert only_file(target) == "new"


def test_the_folder_is_made_if_it_is_missing(outputs):
    with new_file(outputs / "target.txt") as written:
        written.write_text("new")
    assert only_file(outputs / "target.txt") == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_nothing_else(target, error):
    with pytest.raises(error):
        with new_file(target) as written:
            written.write_text("half")
            raise error
    assert only_file(target) == "old"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(target):
    with full_disk(10_000), pytest.raises(OSError):
        with new_file(target) as written:
            written.write_text("x" * 20_000)
    assert only_file(target) == "old"


def test_two_writers_do_not_meet(target):
    with new_file(target) as first, new_file(target) as second:
        first.write_text("first")
        second.write_text("second")
        assert (first.read_text(), second.read_text()) == ("first", "second")
    assert only_file(target) == "first"  # the block of the second ends before that of the first


def test_a_new_file_has_the_permissions_of_any_other(target):
    (target.parent / "other").touch()
    with new_file(target) as written:
        written.write_text("new")
    assert target.stat().st_mode == (target.parent / "other").stat().st_mode


# -------------------------------------------------------------------------------------------------------------- errors


def failing(error):
    """A program that raises an error."""

    def program():
        raise error

    return program


@pytest.mark.parametrize("returned, status", [(None, 0), (0, 0), (7, 7)])
def test_a_program_s_status_is_passed_on(returned, status, capsys):
    assert exit_status(lambda: returned) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [InputError, OSError, FileNotFoundError, PermissionError])
def test_what_a_user_can_mend_is_one_line(error, capsys):
    assert exit_status(failing(error("a\n  b"))) == 1
    assert capsys.readouterr() == ("", "Error: a b\n")


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TypeError, KeyError, AttributeError])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(error):
        exit_status(failing(error("a bug")))


def test_ctrl_c_is_one_line_and_status_130(capsys):
    assert exit_status(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "Interrupted\n")


def test_streams_may_be_missing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert exit_status(lambda: print("hello")) == 0
    assert exit_status(failing(OSError("a"))) == 1


def test_streams_may_be_a_caller_s_own(monkeypatch):
    class Tee:
        text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Tee())
    monkeypatch.setattr(sys, "stderr", Tee())
    assert exit_status(lambda: print("hello")) == 0
    assert exit_status(failing(OSError("a"))) == 1
    assert (sys.stdout.text, sys.stderr.text) == ("hello\n", "Error: a\n")


def test_an_ascii_terminal_shows_a_path_with_an_umlaut(monkeypatch):
    printed = io.BytesIO(), io.BytesIO()
    for name, stream in zip(("stdout", "stderr"), printed):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, "ascii", write_through=True))
    assert exit_status(lambda: print("pröject")) == 0
    assert exit_status(failing(OSError("no pröject"))) == 1
    assert [stream.getvalue() for stream in printed] == [
        rb"pr\xf6ject" + os.linesep.encode(),
        rb"Error: no pr\xf6ject" + os.linesep.encode(),
    ]

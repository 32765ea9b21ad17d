"""Where the files of the project go, and how they are written: whole, or not at all."""

import contextlib
import os
import pathlib
import tempfile

OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"


@contextlib.contextmanager
def new_file(path):
    """Gives the path at which to write a file that shall stand at `path`, and moves it there at the end.

    That path is in a folder of its own beside `path`, so that two programs never write the same file. After an error,
    as on a full disk, or Ctrl-C, the old file is unchanged. The folder of `path` is made if it is missing.
    """
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        written = pathlib.Path(folder) / path.name
        yield written
        os.replace(written, path)

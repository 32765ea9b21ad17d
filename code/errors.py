"""`InputError`, and how the programs end: what a user can mend is one line, anything else keeps its traceback."""

import sys


class InputError(ValueError):
    """Arguments, data or files that are not valid. The message says what was found, and what to do."""


def exit_status(program):
    """Runs a program, a function without arguments, and turns what it raises on purpose into one line on stderr.

    Returns its exit status: what it returned, or 0 if that was None; 1 after an `InputError`, or an OSError, with which
    Python reports a full disk, a locked file or a missing permission; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # they may be missing, or a caller's own
            stream.reconfigure(errors="backslashreplace")  # a terminal of ASCII prints a path with an umlaut
    try:
        return program() or 0
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    except (InputError, OSError) as error:
        one_line = " ".join(str(error).split())
        print(f"Error: {one_line}", file=sys.stderr)
        return 1

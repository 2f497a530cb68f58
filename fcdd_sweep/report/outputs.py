"""What to tell when a report's file cannot be written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcdd_sweep.config.errors import InputError, Problem

_ASIDE = re.compile(r"^\.[0-9a-f]{8}-")
"""How `results.files.write_aside` marks a file that is not yet in its place."""


@contextmanager
def told_when_unwritable(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into words; files that can be written by then are kept.

    Raises:
        InputError: a file below `folder` cannot be written; names it.
    """
    try:
        yield
    except OSError as error:
        path = Path(str(error.filename2 or error.filename or folder))
        path = path.with_name(_ASIDE.sub("", path.name))
        what = f"the report cannot be written there ({error.strerror or error})"
        step = "Move away what lies there, or make the folder writable, and run the command again"
        raise InputError(Problem(str(path), what, next_step=step)) from error

"""A folder of this process for Ray and Tune; what killed processes left of theirs on this machine goes away."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fcdd_sweep.sweep.stopping import undisturbed

_PREFIX = "fcdd-ray-"
_HELD = "held"
"""Locked as long as the folder's process lives, however it ends."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder but for its lock; short, since Ray puts sockets into it."""
    _remove_left_behind()
    scratch = Path(tempfile.mkdtemp(prefix=_PREFIX))
    made = scratch / "new"
    with made.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made.rename(scratch / _HELD)  # nobody finds it unlocked
        try:
            yield scratch
        finally:
            with undisturbed():
                shutil.rmtree(scratch, ignore_errors=True)


def _remove_left_behind() -> None:
    for held in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_HELD}"):
        with contextlib.suppress(OSError), held.open("rb") as file:  # another user's, or one in use: neither is ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(held.parent, ignore_errors=True)

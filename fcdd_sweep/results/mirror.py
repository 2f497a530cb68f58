"""A run of an object store as a folder of this machine, so that a report is made there like that of any other run.

The folder stays below the cache folder: the next time only what is new or has changed is fetched.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from fcdd_sweep.config.locations import RemotePath, cache_root
from fcdd_sweep.results import storage, tree
from fcdd_sweep.results.files import write_text
from fcdd_sweep.results.storage import Location, Stamp

_NOT_NEEDED_FILES = (tree.SNAPSHOT, tree.LOG, tree.REPORT, tree.JOURNAL, tree.PROGRESS)
_NOT_NEEDED_FOLDERS = (tree.ATTEMPTS, tree.SOURCE, tree.TRACKERS)
_FETCHED = "fetched.json"
"""Beside the mirror: by name, size and time of writing of the object that was fetched; null when it may yet change."""
_SETTLED_NS = 60_000_000_000
"""An object written less than this before it was fetched is fetched again the next time: stores tell whole seconds, so
that it may be replaced by another of its size and time."""


@contextmanager
def mirrored(run_dir: Location, *, redrawn: tuple[str, ...] = ()) -> Iterator[Path]:
    """The run as a folder of this machine. What is written into it goes to the run when all went well.

    Args:
        run_dir: a run; one on this machine is given as it is.
        redrawn: names of files outside of leaves that are removed from the run where they are no longer in the folder.
    Raises:
        InputError: the store cannot be used.
        StorageError: it was out of reach for too long.
    """
    if isinstance(run_dir, Path):
        yield run_dir
        return
    storage.check_reachable(run_dir)
    home = cache_root() / "mirrors" / hashlib.sha256(str(run_dir).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        local = home / run_dir.name  # a report is titled by its folder's name
        there = _bring(run_dir, local, home / _FETCHED)
        before = storage.files_below(local)
        yield local
        after = storage.files_below(local)
        storage.send_tree(local, run_dir, names=[name for name in after if after[name] != before.get(name)])
        gone = [name for name in there if PurePosixPath(name).name in redrawn and name not in after]
        storage.in_parallel(lambda name: storage.remove(run_dir / name), gone)


def _bring(run_dir: RemotePath, local: Path, record: Path) -> dict[str, Stamp]:
    """Make the folder hold what the run holds; gives the run's files."""
    now = time.time_ns()
    there = storage.files_below(run_dir)
    wanted = {name: stamp for name, stamp in there.items() if _needed(name)}
    known = _read_record(record)
    here = storage.files_below(local)
    for name in here.keys() - wanted.keys():
        (local / name).unlink()
    local.mkdir(parents=True, exist_ok=True)
    changed = [name for name, stamp in wanted.items() if name not in here or known.get(name) != _mark(stamp)]
    storage.in_parallel(lambda name: storage.download_file(run_dir / name, local / name), changed)
    marks = {name: _mark(stamp) for name, stamp in wanted.items() if now - stamp.written_ns > _SETTLED_NS}
    write_text(record, json.dumps(marks))
    return there


def _needed(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name not in _NOT_NEEDED_FILES and not set(path.parts).intersection(_NOT_NEEDED_FOLDERS)


def _mark(stamp: Stamp) -> list[int]:
    return [stamp.size, stamp.written_ns]


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # everything is fetched again

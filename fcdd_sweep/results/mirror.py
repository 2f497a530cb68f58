"""Keep a local copy of a run in an object store, so that a report is made of it as of a run in a folder.

The copy stays below the cache folder: the next time only new and changed files are downloaded.
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
from fcdd_sweep.results.files import check_run_version, write_text
from fcdd_sweep.results.storage import Location, Stamp

_NOT_NEEDED_FILES = (tree.SNAPSHOT, tree.LOG, tree.REPORT, tree.JOURNAL, tree.PROGRESS)
_NOT_NEEDED_FOLDERS = (tree.ATTEMPTS, tree.SOURCE, tree.TRACKERS)
_DOWNLOADED = "downloaded.json"
"""Beside the copy: by name, size and modification time of each downloaded object; objects that may still change are not
in it."""
_SETTLED_NS = 60_000_000_000
"""An object that was younger than this when it was downloaded is downloaded again the next time: stores round times to
seconds, so that another object of the same size and time may have replaced it."""


@contextmanager
def mirrored(run_dir: Location, *, redrawn: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the run as a local folder; new and changed files in the folder are uploaded at the end, unless it raises.

    Args:
        run_dir: a run; a run on this machine is yielded as it is.
        redrawn: names of files outside of leaves that are removed from the run when the folder no longer has them.
    Raises:
        InputError: the store cannot be used, or another version of fcdd_sweep made the run.
        StorageError: the store was unreachable for too long.
    """
    storage.check_reachable(run_dir)
    check_run_version(run_dir)
    if isinstance(run_dir, Path):
        yield run_dir
        return
    home = cache_root() / "mirrors" / hashlib.sha256(str(run_dir).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        local = home / run_dir.name  # the name of the folder is the title of the report
        remote = _download(run_dir, local, home / _DOWNLOADED)
        before = storage.files_below(local)
        yield local
        after = storage.files_below(local)
        sent = [name for name in after if after[name] != before.get(name)]
        storage.send_tree(local, run_dir, names=[name for name in sent if not _ends_pictures(name)])
        storage.send_tree(local, run_dir, names=[name for name in sent if _ends_pictures(name)])
        _record_sent(run_dir, sent, home / _DOWNLOADED)
        removed = [name for name in remote if PurePosixPath(name).name in redrawn and name not in after]
        storage.in_parallel(lambda name: storage.remove(run_dir / name), removed)


def _download(run_dir: RemotePath, local: Path, record: Path) -> dict[str, Stamp]:
    """Make the folder hold the needed files of the run; return all files of the run."""
    now = time.time_ns()
    remote = storage.files_below(run_dir)
    needed = {name: stamp for name, stamp in remote.items() if _needed(name)}
    known = _read_record(record)
    present = storage.files_below(local)
    for name in present.keys() - needed.keys():
        (local / name).unlink()
    local.mkdir(parents=True, exist_ok=True)
    changed = [name for name, stamp in needed.items() if name not in present or known.get(name) != _mark(stamp)]
    storage.in_parallel(lambda name: storage.download_file(run_dir / name, local / name), changed)
    marks = {name: _mark(stamp) for name, stamp in needed.items() if now - stamp.written_ns > _SETTLED_NS}
    write_text(record, json.dumps(marks))
    return remote


def _ends_pictures(name: str) -> bool:
    return PurePosixPath(name).name == tree.LAST_PICTURE


def _record_sent(run_dir: RemotePath, names: list[str], record: Path) -> None:
    """Record that the folder has what was just uploaded from it, pictures mostly, or it would be downloaded again."""
    if names:
        remote = storage.files_below(run_dir)
        marks = {name: _mark(remote[name]) for name in names if name in remote and _needed(name)}
        write_text(record, json.dumps(_read_record(record) | marks))


def _needed(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name not in _NOT_NEEDED_FILES and not set(path.parts).intersection(_NOT_NEEDED_FOLDERS)


def _mark(stamp: Stamp) -> list[int]:
    return [stamp.size, stamp.written_ns]


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # everything is downloaded again

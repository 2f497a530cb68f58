"""Folders of files that are built once per machine, by one of the processes that need them.

An entry is either complete or absent: it is built under a temporary name, sealed with the size and checksum of every
file, and renamed. One process holds the lock and builds while the others wait; the lock of a process that dies is
released. Old entries are never removed: deleting the cache folder is always safe and costs decoding again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fcdd_sweep.config.errors import DataError, Problem

SEAL = "seal.json"
_BLOCK = 1 << 16
_BLOCKS = 256
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT})


def cached(root: Path, name: str, size_bytes: int, build: Callable[[Path], None]) -> Path:
    """Return the folder `root`/`name` with the files that `build` writes; build it when it is missing or damaged.

    Args:
        root: the cache folder; made if missing.
        name: the name of the entry; it must change whenever `build` would write something else.
        size_bytes: about how many bytes `build` writes.
        build: called with an empty folder, which it fills.
    Raises:
        DataError: the disk is full, or the folder cannot be written. No partial entry remains.
    """
    entry = root / name
    if is_intact(entry):
        return entry
    with _explained(root, size_bytes):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not is_intact(entry):
                _replace(entry, size_bytes, build)
    return entry


def is_intact(entry: Path) -> bool:
    """Return whether all files of an entry are unchanged since it was sealed."""
    try:
        seal = json.loads((entry / SEAL).read_text(encoding="utf-8"))
        return bool(seal) and all(_mark(entry / name) == tuple(mark) for name, mark in seal.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False  # whatever is wrong, building it again repairs it


def _replace(entry: Path, size_bytes: int, build: Callable[[Path], None]) -> None:
    partial = entry.with_name(f"{entry.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if shutil.disk_usage(entry.parent).free < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        partial.mkdir()
        build(partial)
        _seal(partial)
        shutil.rmtree(entry, ignore_errors=True)
        partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _seal(folder: Path) -> None:
    files = sorted(folder.iterdir())
    for file in files:
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
    marks = {file.name: _mark(file) for file in files}
    (folder / SEAL).write_text(json.dumps(marks), encoding="utf-8")


def _mark(path: Path) -> tuple[int, int]:
    """Return size and checksum; of a large file 256 blocks are read, so that a start does not read all images."""
    size = path.stat().st_size
    blocks = -(-size // _BLOCK)
    chosen = range(blocks) if blocks <= _BLOCKS else [i * (blocks - 1) // (_BLOCKS - 1) for i in range(_BLOCKS)]
    checksum = 0
    with path.open("rb") as file:
        for block in chosen:
            file.seek(block * _BLOCK)
            checksum = zlib.crc32(file.read(_BLOCK), checksum)
    return size, checksum


@contextmanager
def _explained(root: Path, size_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        elsewhere = "set FCDD_SWEEP_CACHE to a folder"
        if error.errno in _FULL:
            what = f"the disk is full: the decoded images take {size_bytes / 1e6:.1f} MB"
            raise DataError(Problem(str(root), what, next_step=f"Free some space, or {elsewhere} elsewhere")) from error
        if error.errno in _UNWRITABLE:
            what = f"the folder for decoded images cannot be written ({error.strerror})"
            next_step = f"Make it writable, or {elsewhere} that you may write to"
            raise DataError(Problem(str(root), what, next_step=next_step)) from error
        raise

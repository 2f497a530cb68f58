"""Reading, writing, listing and removing files of a run, on this machine or in an object store.

What the store refuses for a moment (it cannot be reached, it is busy) is tried again for `PATIENCE_S`; what will not
change by waiting (no such bucket, no permission) is told at once. An object is whole or absent, never half.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.locations import RemotePath, StorageError

Location = Path | RemotePath
"""Where a file or a folder of a run lies."""
PATIENCE_S = 120.0
"""For so long an object store may be out of reach before a read or write gives up."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_THREADS = 8
"""Objects that travel at the same time: a request takes tens of milliseconds, whatever its size."""
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""Stores without folders: there are none to be made."""
PASSING = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EPIPE}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EAGAIN, errno.EINTR, errno.ESTALE}
)
"""What a store or a file system says that is out of reach for a moment."""
LASTING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOTCONN})
"""What they say when the same request fails a moment later, too: another machine, or room made, may help."""
_LASTING = re.compile(
    "ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_|SIGNATURE_DOES_NOT_MATCH|EXPIRED|MISSING_AUTHENTICATION|UNRECOGNIZED_CLIENT"
    "|VALIDATION|PERMISSION_DENIED|UNAUTHENTICATED|QUOTA|FAILED_PRECONDITION|[Cc]redentials|not found"
    "|HTTP status 4(?!08|29)"
)
"""What the stores' own words contain when waiting does not help; pyarrow gives them no error number."""
logger = logging.getLogger("fcdd_sweep.storage")
T = TypeVar("T")


@dataclass(frozen=True)
class Stamp:
    """By which a change of a file is seen: its size in bytes, and when it was written, in ns since 1970."""

    size: int
    written_ns: int


def is_transient(error: OSError) -> bool:
    """Whether the same request may succeed a little later."""
    if error.errno is not None:
        return error.errno in PASSING
    return not isinstance(error, StorageError) and not _LASTING.search(str(error))


def is_of_storage(error: BaseException) -> bool:
    """Whether the place for the results is full or away, so that nothing is wrong with what was to be written."""
    return isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in PASSING | LASTING)


def check_reachable(place: Location) -> None:
    """Raises an InputError when an object store cannot be used as it was named; asks it once."""
    if not isinstance(place, RemotePath):
        return
    bucket = RemotePath(place.root, "", place.query)
    try:
        store, path = _opened(bucket)
        there = not path or store.get_file_info(path).type != fs.FileType.NotFound
    except pa.ArrowException as error:
        problem = Problem(str(place), f"the address is not understood ({short_error(error)})", "", _READ_ON)
        raise InputError(problem) from error
    except OSError as error:
        what = "cannot be reached" if is_transient(error) else "cannot be used"
        raise InputError(Problem(str(place), f"the storage {what} ({short_error(error)})", "", _READ_ON)) from error
    if not there:
        step = "Make it with the tools of its provider: buckets are not made here"
        raise InputError(Problem(str(place), f"there is no bucket {place.root}", next_step=step))


_READ_ON = "docs/storage.md says how addresses and credentials are given"


@lru_cache(maxsize=16)
def _open_root(root: str, query: str) -> tuple[Any, str]:
    if root.startswith("s3://"):  # a small object in one request instead of three; older pyarrow does not know it
        try:
            return tuple(fs.FileSystem.from_uri(f"{root}?{query}{'&' if query else ''}allow_delayed_open=true"))
        except pa.ArrowInvalid:
            pass
    return tuple(fs.FileSystem.from_uri(f"{root}?{query}" if query else root))


def _opened(place: RemotePath) -> tuple[Any, str]:
    """The store and the path in it, `bucket/key`."""
    store, base = _open_root(place.root, place.query)
    return store, "/".join(filter(None, [base.rstrip("/"), place.key]))


def _patiently(place: RemotePath, action: Callable[[Any, str], T], patience_s: float | None = None) -> T:
    """`action` on the store and path of `place`, again and again while the store is out of reach.

    Raises:
        FileNotFoundError: there is no such object.
        StorageError: the store refuses, or was out of reach for `patience_s` (`PATIENCE_S` when None).
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    began, wait = time.monotonic(), _FIRST_WAIT_S
    while True:
        try:
            return action(*_opened(place))
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(place)) from error
        except pa.ArrowInvalid as error:
            raise StorageError(f"{place}: {short_error(error)}") from error
        except OSError as error:
            spent = time.monotonic() - began
            if not is_transient(error):
                raise StorageError(f"{place}: {short_error(error)}") from error
            if spent + wait > patience_s:
                raise StorageError(f"{place}: {short_error(error)}; tried for {spent:.0f} s") from error
            if wait == _FIRST_WAIT_S:
                logger.warning(
                    "%s is out of reach and tried again for %.0f s: %s", place, patience_s, short_error(error)
                )
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


def is_file(place: Location) -> bool:
    if isinstance(place, Path):
        return place.is_file()
    return bool(_patiently(place, lambda store, path: store.get_file_info(path).type) == fs.FileType.File)


def written_ns(place: RemotePath) -> int:
    """When an object was written, by the store's own clock."""
    info = _patiently(place, lambda store, path: store.get_file_info(path))
    if info.type != fs.FileType.File:
        raise FileNotFoundError(errno.ENOENT, "No such object", str(place))
    return int(info.mtime_ns)


def read_bytes(place: Location, patience_s: float | None = None) -> bytes:
    if isinstance(place, Path):
        return place.read_bytes()

    def read(store: Any, path: str) -> bytes:
        with store.open_input_stream(path) as stream:
            return bytes(stream.read())

    return _patiently(place, read, patience_s)


def write_bytes(place: Location, content: bytes, patience_s: float | None = None) -> None:
    """Write a file whole; see `files.write_aside` for what is too large to hold, or written by others' code."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "content"
        local.write_bytes(content)
        send(local, place, patience_s)


def send(local: Path, place: Location, patience_s: float | None = None) -> None:
    """Bring a file of this machine to its place; what is there is replaced."""
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{uuid.uuid4().hex[:8]}-{place.name}")
        shutil.copyfile(local, aside)
        aside.replace(place)
        return

    def write(store: Any, path: str) -> None:
        _make_folder(store, path.rpartition("/")[0])
        # one call into C++: an interruption between opening and writing would leave an empty object
        fs.copy_files(str(local), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=store)

    _patiently(place, write, patience_s)


def _make_folder(store: Any, path: str) -> None:
    if store.type_name not in _OBJECT_STORES and path:
        store.create_dir(path, recursive=True)


def download_file(place: Location, local: Path) -> None:
    """Bring a file onto this machine; what is there is replaced only by the whole of it."""
    if isinstance(place, Path):
        send(place, local)
        return
    local.parent.mkdir(parents=True, exist_ok=True)
    aside = local.with_name(f".{uuid.uuid4().hex[:8]}-{local.name}")

    def read(store: Any, path: str) -> None:
        with store.open_input_stream(path) as stream, aside.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)

    try:
        _patiently(place, read)
        aside.replace(local)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def local_copy(place: Location) -> Iterator[Path]:
    """The file itself if it lies on this machine, else a copy of it that is gone afterwards."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="fcdd-copy-") as folder:
        local = Path(folder) / place.name
        download_file(place, local)
        yield local


def children(place: Location) -> list[str]:
    """Names of the files and folders in a folder, sorted; none when it is not there."""
    if isinstance(place, Path):
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    return sorted({info.base_name for info in _listed(place, recursive=False)} - {""})


def files_below(place: Location) -> dict[str, Stamp]:
    """Every file below a folder by its name from there, `leaf/metrics.parquet`; none when it is not there."""
    if isinstance(place, Path):
        found = [path for path in place.rglob("*") if path.is_file()]
        return {path.relative_to(place).as_posix(): _stamp_of(path) for path in found}
    above = len(_opened(place)[1]) + 1
    listed = [info for info in _listed(place, recursive=True) if info.type == fs.FileType.File]
    return {info.path[above:]: Stamp(info.size, info.mtime_ns) for info in listed}


def _stamp_of(path: Path) -> Stamp:
    facts = path.stat()
    return Stamp(facts.st_size, facts.st_mtime_ns)


def _listed(place: RemotePath, *, recursive: bool) -> list[Any]:
    def listing(store: Any, path: str) -> list[Any]:
        return list(store.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive)))

    return _patiently(place, listing)


def remove(place: Location) -> None:
    """Remove a file, if it is there."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
        return
    try:
        _patiently(place, lambda store, path: store.delete_file(path))
    except FileNotFoundError:
        pass


def remove_tree(place: Location) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
        return
    try:
        _patiently(place, lambda store, path: store.delete_dir(path))
    except FileNotFoundError:
        pass


def send_tree(folder: Path, place: Location, last: str = "", names: Collection[str] | None = None) -> None:
    """Bring a folder of this machine to its place.

    Args:
        folder: holds the files.
        place: gets them.
        last: the file that is written when all others are there; it makes the folder whole.
        names: only these files, named from `folder`; all of them when None.
    """
    chosen = list(files_below(folder)) if names is None else list(names)
    _in_order(lambda name: send(folder / name, place / name), chosen, last)


def copy_tree(source: RemotePath, target: RemotePath, last: str = "") -> None:
    """Copy a folder inside a store, without bringing it here; see `send_tree` for `last`."""

    def copy(name: str) -> None:
        def within(store: Any, path: str) -> None:
            destination = _opened(target / name)[1]
            _make_folder(store, destination.rpartition("/")[0])
            store.copy_file(path, destination)

        _patiently(source / name, within)

    _in_order(copy, list(files_below(source)), last)


def _in_order(action: Callable[[str], None], names: Iterable[str], last: str) -> None:
    """Act on every name, several at a time, and on `last` when all others are done."""
    names = list(names)
    in_parallel(action, [name for name in names if name != last])
    if last in names:
        action(last)


def in_parallel(action: Callable[[str], T], names: Collection[str]) -> list[T]:
    """What `action` gives for every name, in their order; the first error ends it."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(action, names))

"""Read, write, list and remove files of a run, in a folder or in an object store.

Transient errors of a store (unreachable, busy) are retried for `PATIENCE_S`; errors that waiting does not change (no
such bucket, no permission) are raised at once. An object is written whole or not at all.
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
"""Path of a file or folder of a run: on this machine, or in an object store."""
PATIENCE_S = 120.0
"""Seconds for which a read or write retries while an object store is unreachable."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_THREADS = 8
"""Objects that are transferred at the same time: a request takes tens of milliseconds whatever its size."""
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""Stores without folders, in which none need to be created."""
TRANSIENT_ERRNOS = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EPIPE}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EAGAIN, errno.EINTR, errno.ESTALE}
)
"""Error numbers of a store or file system that is unreachable for a moment."""
LASTING_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOTCONN})
"""Error numbers that a retry on the same machine does not change; another machine, or free space, may help."""
_LASTING_MESSAGES = re.compile(
    "ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_|SIGNATURE_DOES_NOT_MATCH|EXPIRED|MISSING_AUTHENTICATION|UNRECOGNIZED_CLIENT"
    "|VALIDATION|PERMISSION_DENIED|UNAUTHENTICATED|QUOTA|FAILED_PRECONDITION|[Cc]redentials|not found"
    "|HTTP status 4(?!08|29)"
)
"""Parts of the messages of errors that a retry does not change; pyarrow gives them no error number."""
logger = logging.getLogger("fcdd_sweep.storage")
T = TypeVar("T")


@dataclass(frozen=True)
class Stamp:
    """Size of a file in bytes and its modification time in ns since 1970, by which a change of it is recognized."""

    size: int
    written_ns: int


def is_transient(error: OSError) -> bool:
    """Return whether a retry of the same request may succeed."""
    if error.errno is not None:
        return error.errno in TRANSIENT_ERRNOS
    return not isinstance(error, StorageError) and not _LASTING_MESSAGES.search(str(error))


def is_storage_error(error: BaseException) -> bool:
    """Return whether an error says that the storage of the results is full or unreachable."""
    return isinstance(error, StorageError) or (
        isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS | LASTING_ERRNOS
    )


def check_reachable(place: Location) -> None:
    """Check with one request that the object store of `place` can be used; folders pass.

    Raises:
        InputError: the address is not understood, the store cannot be reached or used, or the bucket does not exist.
    """
    if not isinstance(place, RemotePath):
        return
    bucket = RemotePath(place.root, "", place.query)
    try:
        store, path = _open(bucket)
        exists = not path or store.get_file_info(path).type != fs.FileType.NotFound
    except pa.ArrowException as error:
        problem = Problem(str(place), f"the address is not understood ({short_error(error)})", "", _SEE_DOCS)
        raise InputError(problem) from error
    except OSError as error:
        what = "cannot be reached" if is_transient(error) else "cannot be used"
        raise InputError(Problem(str(place), f"the storage {what} ({short_error(error)})", "", _SEE_DOCS)) from error
    if not exists:
        step = "Create it with the tools of its provider: fcdd_sweep creates no buckets"
        raise InputError(Problem(str(place), f"there is no bucket {place.root}", next_step=step))


_SEE_DOCS = "See docs/storage.md for addresses and credentials"


@lru_cache(maxsize=16)
def _open_root(root: str, query: str) -> tuple[Any, str]:
    if root.startswith("s3://"):  # a small object in one request instead of three; older pyarrow does not know it
        try:
            return tuple(fs.FileSystem.from_uri(f"{root}?{query}{'&' if query else ''}allow_delayed_open=true"))
        except pa.ArrowInvalid:
            pass
    return tuple(fs.FileSystem.from_uri(f"{root}?{query}" if query else root))


def _open(place: RemotePath) -> tuple[Any, str]:
    """Return the store and the path in it, `bucket/key`."""
    store, base = _open_root(place.root, place.query)
    return store, "/".join(filter(None, [base.rstrip("/"), place.key]))


def _with_retries(place: RemotePath, action: Callable[[Any, str], T], patience_s: float | None = None) -> T:
    """Return the result of `action` on the store and path of `place`; retry while the store is unreachable.

    Raises:
        FileNotFoundError: there is no such object.
        StorageError: the store refuses, or was unreachable for `patience_s` (`PATIENCE_S` when None).
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    started, wait = time.monotonic(), _FIRST_WAIT_S
    while True:
        try:
            return action(*_open(place))
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(place)) from error
        except pa.ArrowInvalid as error:
            raise StorageError(f"{place}: {short_error(error)}") from error
        except OSError as error:
            spent = time.monotonic() - started
            if not is_transient(error):
                raise StorageError(f"{place}: {short_error(error)}") from error
            if spent + wait > patience_s:
                raise StorageError(f"{place}: {short_error(error)}; tried for {spent:.0f} s") from error
            if wait == _FIRST_WAIT_S:
                logger.warning("%s is unreachable, retrying for %.0f s: %s", place, patience_s, short_error(error))
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


def is_file(place: Location) -> bool:
    if isinstance(place, Path):
        return place.is_file()
    return bool(_with_retries(place, lambda store, path: store.get_file_info(path).type) == fs.FileType.File)


def written_ns(place: RemotePath) -> int:
    """Return the modification time of an object by the clock of the store, in ns since 1970.

    Raises:
        FileNotFoundError: there is no such object.
    """
    info = _with_retries(place, lambda store, path: store.get_file_info(path))
    if info.type != fs.FileType.File:
        raise FileNotFoundError(errno.ENOENT, "No such object", str(place))
    return int(info.mtime_ns)


def read_bytes(place: Location, patience_s: float | None = None) -> bytes:
    if isinstance(place, Path):
        return place.read_bytes()

    def read(store: Any, path: str) -> bytes:
        with store.open_input_stream(path) as stream:
            return bytes(stream.read())

    return _with_retries(place, read, patience_s)


def write_bytes(place: Location, content: bytes, patience_s: float | None = None) -> None:
    """Write a file whole; see `files.write_atomically` for large files and for files that a library writes."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "content"
        local.write_bytes(content)
        send(local, place, patience_s)


def send(local: Path, place: Location, patience_s: float | None = None) -> None:
    """Copy a local file to `place`, replacing what is there."""
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f".{uuid.uuid4().hex[:8]}-{place.name}")
        shutil.copyfile(local, unfinished)
        unfinished.replace(place)
        return

    def write(store: Any, path: str) -> None:
        _make_folder(store, path.rpartition("/")[0])
        # one call into C++: an interruption between opening and writing would leave an empty object
        fs.copy_files(str(local), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=store)

    _with_retries(place, write, patience_s)


def _make_folder(store: Any, path: str) -> None:
    if store.type_name not in _OBJECT_STORES and path:
        store.create_dir(path, recursive=True)


def download_file(place: Location, local: Path) -> None:
    """Copy a file to the local path `local`, which is replaced only by the whole file."""
    if isinstance(place, Path):
        send(place, local)
        return
    local.parent.mkdir(parents=True, exist_ok=True)
    unfinished = local.with_name(f".{uuid.uuid4().hex[:8]}-{local.name}")

    def read(store: Any, path: str) -> None:
        with store.open_input_stream(path) as stream, unfinished.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)

    try:
        _with_retries(place, read)
        unfinished.replace(local)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def local_copy(place: Location) -> Iterator[Path]:
    """Yield the path of a local file, or of a temporary copy of a remote one."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="fcdd-copy-") as folder:
        local = Path(folder) / place.name
        download_file(place, local)
        yield local


def children(place: Location) -> list[str]:
    """Return the sorted names of the files and folders in a folder; none when it does not exist."""
    if isinstance(place, Path):
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    return sorted({info.base_name for info in _listed(place, recursive=False)} - {""})


def files_below(place: Location) -> dict[str, Stamp]:
    """Return size and time of every file below a folder, by path relative to it; none when it does not exist."""
    if isinstance(place, Path):
        found = [path for path in place.rglob("*") if path.is_file()]
        return {path.relative_to(place).as_posix(): _stamp_of(path) for path in found}
    prefix = len(_open(place)[1]) + 1
    listed = [info for info in _listed(place, recursive=True) if info.type == fs.FileType.File]
    return {info.path[prefix:]: Stamp(info.size, info.mtime_ns) for info in listed}


def _stamp_of(path: Path) -> Stamp:
    facts = path.stat()
    return Stamp(facts.st_size, facts.st_mtime_ns)


def _listed(place: RemotePath, *, recursive: bool) -> list[Any]:
    def listing(store: Any, path: str) -> list[Any]:
        return list(store.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive)))

    return _with_retries(place, listing)


def remove(place: Location) -> None:
    """Remove a file, if it exists."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
        return
    try:
        _with_retries(place, lambda store, path: store.delete_file(path))
    except FileNotFoundError:
        pass


def remove_tree(place: Location) -> None:
    """Remove a folder with its content, if it exists."""
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
        return
    try:
        _with_retries(place, lambda store, path: store.delete_dir(path))
    except FileNotFoundError:
        pass


def send_tree(folder: Path, place: Location, last: str = "", names: Collection[str] | None = None) -> None:
    """Copy the files of a local folder to `place`.

    Args:
        folder: the local folder.
        place: the folder to copy to.
        last: the file that is copied after all others, which marks the folder as complete.
        names: only these files, by path relative to `folder`; all when None.
    """
    chosen = list(files_below(folder)) if names is None else list(names)
    _in_order(lambda name: send(folder / name, place / name), chosen, last)


def copy_tree(source: RemotePath, target: RemotePath, last: str = "") -> None:
    """Copy a folder inside a store, without downloading it; see `send_tree` for `last`."""

    def copy(name: str) -> None:
        def within(store: Any, path: str) -> None:
            destination = _open(target / name)[1]
            _make_folder(store, destination.rpartition("/")[0])
            store.copy_file(path, destination)

        _with_retries(source / name, within)

    _in_order(copy, list(files_below(source)), last)


def _in_order(action: Callable[[str], None], names: Iterable[str], last: str) -> None:
    """Call `action` with every name, several at a time, and with `last` after all others."""
    names = list(names)
    in_parallel(action, [name for name in names if name != last])
    if last in names:
        action(last)


def in_parallel(action: Callable[[str], T], names: Collection[str]) -> list[T]:
    """Return the results of `action` for all names, in their order; the first error is raised."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(action, names))

"""Image files: their names, records of them, and a cache of file contents; `folders` finds them."""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.names import printable
from fcdd_sweep.data.decoding.pixels import read_picture
from fcdd_sweep.data.records import Record

SUFFIXES = frozenset(
    ".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split(),
)
"""Suffixes of image files, in lower case; files with other suffixes are ignored."""


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def file_stamp(path: Path) -> str:
    """Return size and modification time, which change when the content may have changed."""
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}"


def file_record(
    root: Path,
    path: Path,
    *,
    class_name: str,
    is_test: bool,
    defect: str = "",
    masks: tuple[Path, ...] = (),
) -> Record:
    """Return a record of an image file below `root`; it is anomalous within its class when it has a defect."""
    stamp = "+".join(map(file_stamp, (path, *masks)))
    name = printable(path.relative_to(root).as_posix())
    load = partial(read_picture, path, masks)
    return Record(name, class_name, is_test, bool(defect), defect, stamp, load, file=path, masks=masks)


_KINDS_OF_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind_of_file(mode: int) -> str:
    """Return what the mode of an entry that is no regular file means: `a named pipe`."""
    return _KINDS_OF_FILES.get(stat.S_IFMT(mode), "unknown")


Content = TypeVar("Content")


class FileCache(Generic[Content]):
    """A cache of what `read` returns for a file, for the last `keep` files until they change.

    The error of an unreadable file is kept, too: thousands of records must not try it again. Threads that need the same
    file wait for the first one.
    """

    def __init__(self, read: Callable[[Path], Content], keep: int) -> None:
        self.read = read
        self.keep = keep
        self._lock = Lock()
        self._found: OrderedDict[tuple[Path, str], Content | DataError] = OrderedDict()

    def __call__(self, path: Path) -> Content:
        """Return the content of `path`; raise the `DataError` of `read`."""
        key = (path, file_stamp(path))
        with self._lock:
            if key not in self._found:
                self._found[key] = self._read_or_error(path)
            self._found.move_to_end(key)
            while len(self._found) > self.keep:
                self._found.popitem(last=False)
            content = self._found[key]
        if isinstance(content, DataError):
            raise DataError(content.problems)
        return content

    def _read_or_error(self, path: Path) -> Content | DataError:
        try:
            return self.read(path)
        except DataError as error:
            return error

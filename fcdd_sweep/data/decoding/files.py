"""Image files: finding them, naming them, records of them, and a cache of file contents."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.locations import name_problem
from fcdd_sweep.data.decoding.pixels import read_picture
from fcdd_sweep.data.records import Record

SUFFIXES = frozenset(
    ".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split(),
)
"""Suffixes of image files, in lower case; files with other suffixes are ignored."""


def image_files(path: Path) -> list[Path]:
    """Return all images below a folder, or the file itself, sorted by path in the same way on every machine.

    Hidden files and folders and files without the suffix of an image are ignored. Links are followed.

    Raises:
        DataError: `path` does not exist, or names that are not text.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(Problem(str(path), "there is no such file or folder"))
    return _sorted(_walk(path), path)


def visible_folders(path: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones; empty when `path` is not a folder."""
    if not path.is_dir():
        return []
    found = [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    return _sorted(found, path)


def images_directly_in(path: Path) -> list[Path]:
    """Return the images directly in a folder, sorted."""
    found = [child for child in path.iterdir() if is_image(child.name) and child.is_file()]
    return _sorted(found, path)


def _sorted(paths: Iterable[Path], top: Path) -> list[Path]:
    """Return paths below `top`, sorted by their names.

    Raises:
        DataError: names that are not text; results could not name them.
    """
    found = list(paths)
    problems = [Problem(str(top), problem) for problem in map(name_problem, found) if problem]
    if problems:
        raise DataError(problems)
    return sorted(found, key=lambda path: normal_form(path.relative_to(top).as_posix()))


def normal_form(name: str) -> str:
    """Return `name` in NFC: some systems store an ä as two characters, and names must be equal on all of them."""
    return unicodedata.normalize("NFC", name)


def name_share(name: str) -> float:
    """Return a number in [0, 1) that depends on the name only, for splits that do not depend on other files."""
    head = hashlib.sha256(normal_form(name).encode()).digest()[:8]
    return int.from_bytes(head, "big") / 2**64


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
    mask: Path | None = None,
) -> Record:
    """Return a record of an image file below `root`; it is anomalous within its class when it has a defect."""
    both = file_stamp(path) if mask is None else f"{file_stamp(path)}+{file_stamp(mask)}"
    name = path.relative_to(root).as_posix()
    return Record(name, class_name, is_test, bool(defect), defect, both, partial(read_picture, path, mask))


def _walk(top: Path) -> Iterator[Path]:
    seen = set()  # a link to a parent folder would otherwise be followed forever
    for folder, below, names in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if is_image(name))


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

"""Finding image files, and records of them."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.data.decoding.pixels import read_picture
from fcdd_sweep.data.records import Record

SUFFIXES = frozenset(
    ".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split(),
)
"""Endings of image files, in lower case; files with other endings are passed over."""


def image_files(path: Path) -> list[Path]:
    """All images below a folder, or the file itself, sorted by path in the same way on every machine.

    Hidden files and folders are passed over, and so are files without the ending of an image, in either case. Links
    are followed.

    Raises:
        DataError: there is nothing at `path`.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(Problem(str(path), "there is no such file or folder"))
    return sorted(_walk(path), key=lambda file: normal_form(file.relative_to(path).as_posix()))


def visible_folders(path: Path) -> list[Path]:
    """The folders in a folder, sorted by name, without hidden ones; empty when `path` is no folder."""
    if not path.is_dir():
        return []
    found = [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    return sorted(found, key=lambda folder: normal_form(folder.name))


def images_directly_in(path: Path) -> list[Path]:
    """The images in a folder that lie in no folder below it, sorted."""
    found = [child for child in path.iterdir() if is_image(child.name) and child.is_file()]
    return sorted(found, key=lambda file: normal_form(file.name))


def normal_form(name: str) -> str:
    """`name` with composed letters: some systems store an ä in two pieces, and names must be equal everywhere."""
    return unicodedata.normalize("NFC", name)


def name_share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: a split that no other file and no machine can change."""
    head = hashlib.sha256(normal_form(name).encode()).digest()[:8]
    return int.from_bytes(head, "big") / 2**64


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def file_stamp(path: Path) -> str:
    """Changes when the file's content may have changed."""
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
    """A record of an image file below `root`; it is anomalous within its class when it has a defect."""
    both = file_stamp(path) if mask is None else f"{file_stamp(path)}+{file_stamp(mask)}"
    name = path.relative_to(root).as_posix()
    return Record(name, class_name, is_test, bool(defect), defect, both, partial(read_picture, path, mask))


def _walk(top: Path) -> Iterator[Path]:
    seen = set()  # a link to a folder above would otherwise go round and round
    for folder, below, names in os.walk(top, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            below.clear()
            continue
        seen.add(place)
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if is_image(name))


Content = TypeVar("Content")


class FileCache(Generic[Content]):
    """What `read` makes of a file, kept for the last few files until they change.

    A file that cannot be read is kept as its error: thousands of records must not try it again. Threads that ask for
    the same file wait for the first.
    """

    def __init__(self, read: Callable[[Path], Content], keep: int) -> None:
        self.read = read
        self.keep = keep
        self._lock = Lock()
        self._found: OrderedDict[tuple[Path, str], Content | DataError] = OrderedDict()

    def __call__(self, path: Path) -> Content:
        """The content of `path`; raises the `DataError` of `read`."""
        key = (path, file_stamp(path))
        with self._lock:
            if key not in self._found:
                self._found[key] = self._tried(path)
            self._found.move_to_end(key)
            while len(self._found) > self.keep:
                self._found.popitem(last=False)
            content = self._found[key]
        if isinstance(content, DataError):
            raise DataError(content.problems)
        return content

    def _tried(self, path: Path) -> Content | DataError:
        try:
            return self.read(path)
        except DataError as error:
            return error

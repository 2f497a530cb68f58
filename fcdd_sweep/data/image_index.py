"""Millions of image files by number, in folders or in tars: columns on disk instead of an object an image.

The table is made once and kept in the cache, 40 bytes an image or so; opening it reads nothing but a few names.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.decoding.cache import cached
from fcdd_sweep.data.decoding.files import is_image
from fcdd_sweep.data.decoding.store import mapped
from fcdd_sweep.data.records import Say

_VERSION = 1
"""Raised by hand when the files of a table change."""
_NAMES, _ENDS, _OFFSETS, _SIZES, _META = "names.bin", "ends.bin", "offsets.bin", "sizes.bin", "table.json"
_BYTES_PER_IMAGE = 64
Int64s = npt.NDArray[np.int64]


class GroupFiles(NamedTuple):
    """The images of one group.

    Attributes:
        group: its name; the WordNet id for ImageNet.
        holder: the folder or tar that holds all of them, below the table's root.
        members: the files; images are taken, others passed over.
        words: what the group shows, if that is known.
    """

    group: str
    holder: str
    members: Iterable[Member]
    words: str = ""


@dataclass(frozen=True)
class ImageIndex:
    """Image files in the order of their groups, in each group by name.

    Attributes:
        root: the folder that holds all.
        groups: the groups' names, in order.
        holders: for each group, the folder or tar below `root`.
        words: for each group what it shows; empty where that is not known.
        begin: (groups + 1,) int64, the first image of each group, and the number of all images.
        names: all file names, one after the other.
        ends: (N,) int64, where each name ends in `names`.
        offsets: (N,) int64, where each file begins in its tar.
        sizes: (N,) int64, bytes in the tar; -1 for a file of its own.
        fingerprint: a digest of all groups and names, and in tars of the files' sizes; it does not depend on the place.
    """

    root: Path
    groups: tuple[str, ...]
    holders: tuple[str, ...]
    words: tuple[str, ...]
    begin: Int64s
    names: npt.NDArray[np.uint8]
    ends: Int64s
    offsets: Int64s
    sizes: Int64s
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ends)

    def group_of(self, row: int) -> int:
        return int(np.searchsorted(self.begin, row, side="right")) - 1

    def name(self, row: int) -> str:
        """The file's name without folders."""
        start = self.ends[row - 1] if row else 0
        return os.fsdecode(self.names[start : self.ends[row]].tobytes())

    def label(self, row: int) -> str:
        """GROUP/NAME."""
        return f"{self.groups[self.group_of(row)]}/{self.name(row)}"

    def holder(self, row: int) -> Path:
        return self.root / self.holders[self.group_of(row)]

    def content(self, row: int) -> bytes:
        """The bytes of image `row`; OSError when they cannot be read."""
        holder, size = self.holder(row), int(self.sizes[row])
        if size < 0:
            return (holder / self.name(row)).read_bytes()
        with holder.open("rb") as file:
            file.seek(int(self.offsets[row]))
            return file.read(size)


def open_index(
    root: Path,
    cache: Path,
    kind: str,
    stamps: object,
    images: int,
    listings: Callable[[], Iterable[GroupFiles]],
    say: Say | None = None,
) -> ImageIndex:
    """The table of what `listings` gives; that is called only when the cache has no table yet.

    Args:
        root: the folder that holds all.
        cache: where tables are kept; see `cache.cache_root`.
        kind: which images below `root` these are.
        stamps: plain values that change when the listings may have changed.
        images: about how many there are.
        listings: every group with its files, in order; one group is in memory at a time.
        say: hears of it when the table is made, which may take minutes.
    Raises:
        DataError: what `listings` raises, or a cache that cannot be kept.
    """
    key = digest({"version": _VERSION, "root": str(root.absolute()), "kind": kind, "stamps": stamps})

    def build(folder: Path) -> None:
        if say is not None:
            say(f"listing the images in {root}; the list is kept")
        _write(folder, listings())

    return _read(cached(cache, f"index-{kind}-{key}", images * _BYTES_PER_IMAGE, build), root)


def folder_members(folder: Path) -> list[Member]:
    """The files in a folder, not those in folders below it.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [Member(entry.name, 0, -1) for entry in entries]
    except OSError as error:
        raise DataError(Problem(str(folder), f"cannot be read ({error.strerror or error})")) from error


def _write(folder: Path, listings: Iterable[GroupFiles]) -> None:
    rows: list[tuple[str, str, str, int]] = []
    done, fingerprint = 0, hashlib.sha256()
    with ExitStack() as stack:
        names, *numbers = [
            stack.enter_context((folder / name).open("wb")) for name in (_NAMES, _ENDS, _OFFSETS, _SIZES)
        ]
        for group, holder, members, words in listings:
            named = ((os.fsencode(m.name.rsplit("/", 1)[-1]), m.offset, m.size) for m in members)
            found = sorted(each for each in named if is_image(os.fsdecode(each[0])))
            blob = b"".join(name for name, _, _ in found)
            ends = done + np.cumsum([len(name) for name, _, _ in found], dtype=np.int64)
            offsets, sizes = (np.array([each[column] for each in found], np.int64) for column in (1, 2))
            names.write(blob)
            for file, column in zip(numbers, (ends, offsets, sizes), strict=True):
                file.write(column.tobytes())
            fingerprint.update(repr((group, len(found))).encode() + blob + (ends - done).tobytes() + sizes.tobytes())
            rows.append((group, holder, words, len(found)))
            done += len(blob)
    meta = {"groups": rows, "fingerprint": fingerprint.hexdigest()[:12]}
    (folder / _META).write_text(json.dumps(meta), encoding="utf-8")


def _read(folder: Path, root: Path) -> ImageIndex:
    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    rows = meta["groups"]
    return ImageIndex(
        root=root,
        groups=tuple(row[0] for row in rows),
        holders=tuple(row[1] for row in rows),
        words=tuple(row[2] for row in rows),
        begin=np.cumsum([0, *(row[3] for row in rows)], dtype=np.int64),
        names=mapped(folder / _NAMES, np.uint8),
        ends=mapped(folder / _ENDS, np.int64),
        offsets=mapped(folder / _OFFSETS, np.int64),
        sizes=mapped(folder / _SIZES, np.int64),
        fingerprint=meta["fingerprint"],
    )


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        name: its name in the tar.
        offset: where its content begins, in bytes from the beginning of the outermost tar.
        size: bytes; -1 for a file that lies in a folder by itself.
    """

    name: str
    offset: int
    size: int


def members(path: Path) -> list[Member]:
    """All regular files in a tar, in its order.

    Raises:
        DataError: the tar cannot be read, or is damaged or cut off.
    """
    with _explained(path), path.open("rb") as file:
        return _members(file)


def nested_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[Member]]]:
    """The files in those tars of a tar whose names are `wanted`, with offsets into the outer one.

    Raises:
        DataError: as `members`.
    """
    with _explained(path), tarfile.open(path, "r:") as outer:
        for info in outer:
            if info.isfile() and wanted(info.name):
                inner = cast(IO[bytes], outer.extractfile(info))
                yield info.name, [m._replace(offset=info.offset_data + m.offset) for m in _members(inner)]
        _check_end(cast(IO[bytes], outer.fileobj), outer.offset)


def _members(file: IO[bytes]) -> list[Member]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        found = [Member(info.name, info.offset_data, info.size) for info in tar if info.isfile()]
        _check_end(file, tar.offset)
    return found


def _check_end(file: IO[bytes], offset: int) -> None:
    """tarfile takes a damaged header for the end of the tar; at a true end are zeros, or nothing."""
    file.seek(offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"bad header at byte {offset}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(Problem(str(path), f"cannot be read ({error.strerror or error})")) from error
    except tarfile.TarError as error:
        what = f"is damaged or incomplete ({error})"
        raise DataError(Problem(str(path), what, next_step="Copy it there again")) from error

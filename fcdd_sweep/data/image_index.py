"""Millions of image files by number, in folders or in tars: one Arrow file instead of an object per image.

The index is written once and kept in the cache, about 40 bytes per image. It is memory-mapped: opening it reads the
columns of the groups, and an image's name and position are read when they are asked for.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.decoding.cache import cached
from fcdd_sweep.data.decoding.files import is_image
from fcdd_sweep.data.decoding.reading import check_regular
from fcdd_sweep.data.records import Say

_VERSION = 2
"""Raised by hand when the file of an index changes."""
_FILE = "index.arrow"
_IMAGE = pa.struct([("name", pa.binary()), ("offset", pa.int64()), ("size", pa.int64())])
_SCHEMA = pa.schema(
    [("group", pa.string()), ("holder", pa.string()), ("words", pa.string()), ("images", pa.list_(_IMAGE))]
)
"""One row per group."""
_IMAGES_PER_BATCH = 1 << 16
"""Groups are written together until they have this many images: the memory that writing takes does not grow."""
_BYTES_PER_IMAGE = 64
Int64s = npt.NDArray[np.int64]
_Image = tuple[bytes, int, int]
"""Name, offset and size."""


class GroupFiles(NamedTuple):
    """The files of one group.

    Attributes:
        group: its name; the WordNet id for ImageNet.
        holder: the folder or tar with all of them, below the root of the index.
        members: the files; images enter the index, others are passed over.
        words: what the group shows, if that is known.
    """

    group: str
    holder: str
    members: Iterable[Member]
    words: str = ""


@dataclass(frozen=True)
class ImageIndex:
    """Image files in the order of their groups, sorted by name within each group.

    Attributes:
        root: the folder with all files.
        groups: the groups' names, in order.
        holders: for each group, the folder or tar below `root`.
        words: for each group what it shows; empty where that is not known.
        begin: (groups + 1,) int64, the first image of each group, and the number of all images.
        names: (N,) `pyarrow.ChunkedArray` of binary, memory-mapped: file names without folders.
        offsets: (N,) int64, memory-mapped: where each file begins in its tar.
        sizes: (N,) int64, memory-mapped: bytes in the tar; -1 for a file in a folder.
        fingerprint: a digest of all groups and names, and in tars of the files' sizes; independent of `root`.
    """

    root: Path
    groups: tuple[str, ...]
    holders: tuple[str, ...]
    words: tuple[str, ...]
    begin: Int64s
    names: pa.ChunkedArray
    offsets: pa.ChunkedArray
    sizes: pa.ChunkedArray
    fingerprint: str

    def __len__(self) -> int:
        return int(self.begin[-1])

    def group_of(self, row: int) -> int:
        """Return the number of the group that image `row` belongs to."""
        return int(np.searchsorted(self.begin, row, side="right")) - 1

    def name(self, row: int) -> str:
        """Return the file's name without folders."""
        return os.fsdecode(self.names[row].as_py())

    def label(self, row: int) -> str:
        """Return GROUP/NAME as one line of text."""
        return printable(f"{self.groups[self.group_of(row)]}/{self.name(row)}")

    def holder(self, row: int) -> Path:
        """Return the folder or tar of image `row`."""
        return self.root / self.holders[self.group_of(row)]

    def position(self, row: int) -> tuple[int, int]:
        """Return where the file begins in its tar and its size, in bytes; the size is -1 for a file in a folder."""
        return self.offsets[row].as_py(), self.sizes[row].as_py()

    def content(self, row: int) -> bytes:
        """Return the bytes of image `row`; raise `OSError` when they cannot be read."""
        holder, (offset, size) = self.holder(row), self.position(row)
        if size < 0:
            path = holder / self.name(row)
            check_regular(path)
            return path.read_bytes()
        with holder.open("rb") as file:
            file.seek(offset)
            return file.read(size)


class ImagesToIndex(NamedTuple):
    """Images below a root that are to be indexed.

    Attributes:
        kind: which images these are.
        stamps: plain values that change when the groups may have changed.
        images: about how many there are.
        groups: returns every group with its files, in order; one group is in memory at a time.
    """

    kind: str
    stamps: object
    images: int
    groups: Callable[[], Iterable[GroupFiles]]


def open_index(root: Path, cache: Path, listing: ImagesToIndex, say: Say | None = None) -> ImageIndex:
    """Return the index of the files that a listing returns; it is asked only when the cache has no index yet.

    Args:
        root: the folder with all files.
        cache: where indexes are kept; see `config.locations.cache_root`.
        listing: the files.
        say: called when the index is made, which may take minutes.
    Raises:
        DataError: what `listing` raises, or a cache that cannot be written.
    """
    key = digest({"version": _VERSION, "root": str(root.absolute()), "kind": listing.kind, "stamps": listing.stamps})

    def build(folder: Path) -> None:
        if say is not None:
            say(f"listing the images in {root}; the list is kept")
        _write(folder / _FILE, listing.groups())

    size = listing.images * _BYTES_PER_IMAGE
    return _read(cached(cache, f"index-{listing.kind}-{key}", size, build) / _FILE, root)


def folder_members(folder: Path) -> list[Member]:
    """Return the files directly in a folder.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [Member(entry.name, 0, -1) for entry in entries]
    except OSError as error:
        raise DataError(Problem(str(folder), f"cannot be read ({error.strerror or error})")) from error


def _write(path: Path, listings: Iterable[GroupFiles]) -> None:
    """Write groups in batches; the last batch has no rows and carries the fingerprint, which is known at the end."""
    waiting: list[tuple[GroupFiles, list[_Image]]] = []
    images, fingerprint = 0, hashlib.sha256()
    # Python's file, not Arrow's: the errors of a full disk keep their number.
    with path.open("wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for each in listings:
            found = _images_of(each.members)
            fingerprint.update(_fingerprint_of(each.group, found))
            waiting.append((each._replace(members=()), found))
            images += len(found)
            if images >= _IMAGES_PER_BATCH:
                writer.write_batch(_batch(waiting))
                waiting, images = [], 0
        writer.write_batch(_batch(waiting))
        writer.write_batch(_batch([]), custom_metadata={"fingerprint": fingerprint.hexdigest()[:12]})


def _images_of(members: Iterable[Member]) -> list[_Image]:
    """Return name, offset and size of the images among files, sorted by the bytes of their names."""
    named = ((os.fsencode(m.name.rsplit("/", 1)[-1]), m.offset, m.size) for m in members)
    return sorted(each for each in named if is_image(os.fsdecode(each[0])))


def _fingerprint_of(group: str, images: list[_Image]) -> bytes:
    """Return what a group adds to the fingerprint; positions in a tar do not enter."""
    ends = np.cumsum([len(name) for name, _, _ in images], dtype=np.int64)
    sizes = np.array([size for _, _, size in images], np.int64)
    names = b"".join(name for name, _, _ in images)
    return repr((group, len(images))).encode() + names + ends.tobytes() + sizes.tobytes()


def _batch(groups: list[tuple[GroupFiles, list[_Image]]]) -> pa.RecordBatch:
    flat = list(chain.from_iterable(images for _, images in groups))
    columns = [pa.array([image[i] for image in flat], _IMAGE.field(i).type) for i in range(3)]
    ends = np.cumsum([0, *(len(images) for _, images in groups)], dtype=np.int32)
    listed = pa.ListArray.from_arrays(pa.array(ends), pa.StructArray.from_arrays(columns, fields=list(_IMAGE)))
    texts = [pa.array([text(each) for each, _ in groups], pa.string()) for text in _TEXTS]
    return pa.record_batch([*texts, listed], schema=_SCHEMA)


_TEXTS: list[Callable[[GroupFiles], str]] = [lambda g: g.group, lambda g: g.holder, lambda g: g.words]


def _read(path: Path, root: Path) -> ImageIndex:
    """Open an index; the columns of images stay in the file, nothing of them is copied."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        _, metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        table = reader.read_all()
    groups, holders, words = (tuple(table[name].to_pylist()) for name in ("group", "holder", "words"))
    chunks = [chunk.values for chunk in table["images"].chunks]
    counts = [np.diff(chunk.offsets.to_numpy()) for chunk in table["images"].chunks]
    return ImageIndex(
        root=root,
        groups=groups,
        holders=holders,
        words=words,
        begin=np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts), dtype=np.int64)]),
        names=pa.chunked_array([chunk.field("name") for chunk in chunks]),
        offsets=pa.chunked_array([chunk.field("offset") for chunk in chunks]),
        sizes=pa.chunked_array([chunk.field("size") for chunk in chunks]),
        fingerprint=metadata[b"fingerprint"].decode(),
    )


class Member(NamedTuple):
    """A file in a tar or folder.

    Attributes:
        name: its name, in a tar with folders.
        offset: where its content begins, in bytes from the beginning of the outermost tar.
        size: in bytes; -1 for a file in a folder.
    """

    name: str
    offset: int
    size: int


def members(path: Path) -> list[Member]:
    """Return all regular files in a tar, in its order.

    Raises:
        DataError: the tar cannot be read, or is damaged or cut off.
    """
    with _explained(path), path.open("rb") as file:
        return _members(file)


def nested_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[Member]]]:
    """Yield the name and the files of each inner tar whose name is `wanted`, with offsets into the outer tar.

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
    """Raise `ReadError` unless zeros or nothing follow: tarfile takes a damaged header for the end of the tar."""
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

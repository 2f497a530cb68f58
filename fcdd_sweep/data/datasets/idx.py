"""MNIST, Fashion-MNIST and EMNIST letters in their idx files, plain or with `.gz`.

    ROOT/{MNIST,FashionMNIST}/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
    ROOT/EMNIST/raw/emnist-letters-{train,test}-{images-idx3,labels-idx1}-ubyte

ROOT may also be the folder `raw` or the one above it. An idx file is a magic number (two zero bytes, the type 8 for
uint8, the number of axes), the length of each axis, and the values; numbers are big-endian 32 bits. EMNIST stores its
images with rows and columns exchanged; they are returned upright.

Sources: http://yann.lecun.com/exdb/mnist, Xiao et al., arXiv:1708.07747, Cohen et al., arXiv:1702.05373.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.files import FileCache, file_stamp
from fcdd_sweep.data.fetching import files_missing, through_torchvision
from fcdd_sweep.data.records import DatasetScan, DecodedImage, Record, Say, one_vs_rest_record
from fcdd_sweep.data.registry import info

IDX_SIDE = 28
_AGAIN = "Delete the file and place it again, or set dataset.download: true once it is gone"


@dataclass(frozen=True)
class _Set:
    """The names and contents of a data set's files.

    Attributes:
        folder: below the root; also the name of the data set in torchvision.
        stems: how the names of training and test files begin.
        first_label: the number of the first class.
        transposed: whether rows and columns are exchanged.
        split: torchvision's argument for the part of the data set; empty for data sets with a single part.
    """

    folder: str
    stems: tuple[str, str]
    first_label: int = 0
    transposed: bool = False
    split: str = ""


_SETS = {
    "mnist": _Set("MNIST", ("train", "t10k")),
    "fmnist": _Set("FashionMNIST", ("train", "t10k")),
    "emnist": _Set("EMNIST", ("emnist-letters-train", "emnist-letters-test"), 1, transposed=True, split="letters"),
}
_FAMILY = {"MNIST", "FashionMNIST", "EMNIST", "KMNIST", "QMNIST"}


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return training images, then test images, in the order of the files; read only labels and headers."""
    kind = _SETS[dataset.name]
    assert dataset.root is not None  # the loader has checked it
    folder = _folder(dataset.root, kind)
    names = [name for stem in kind.stems for name in _names(stem)]
    if missing := [name for name in names if _find(folder, name) is None]:
        return files_missing(dataset, folder, [f"{name}[.gz]" for name in missing])
    records: list[Record] = []
    problems: list[Problem] = []
    for stem, is_test in zip(kind.stems, (False, True), strict=True):
        try:
            records += _records(dataset.name, folder, stem, is_test=is_test)
        except DataError as error:
            problems += error.problems
    return DatasetScan(tuple(records), tuple(problems))


def fetch(dataset: Dataset, say: Say) -> None:
    """Let torchvision download and unpack the files."""
    kind = _SETS[dataset.name]

    part = {"split": kind.split} if kind.split else {}

    def download(datasets: object, root: str) -> None:
        for train in (True, False):
            getattr(datasets, kind.folder)(root, train=train, download=True, **part)

    through_torchvision(dataset, say, download)


def _folder(root: Path, kind: _Set) -> Path:
    """Return the folder with the files, or the one where they belong; never the folder of a sister data set."""
    usual = root / kind.folder / "raw"
    inner = [] if {root.name, root.parent.name} & (_FAMILY - {kind.folder}) else [root / "raw", root]
    names = [name for stem in kind.stems for name in _names(stem)]
    return next((place for place in (usual, *inner) if any(_find(place, name) for name in names)), usual)


def _names(stem: str) -> tuple[str, str]:
    return f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _records(name: str, folder: Path, stem: str, *, is_test: bool) -> Iterator[Record]:
    """Yield the records of a half; raise `DataError` before the first one if the files are wrong."""
    kind, classes = _SETS[name], info(name).classes or ()
    pictures, labels = (path for each in _names(stem) if (path := _find(folder, each)))
    count, *size = _shape(pictures, axes=3)
    numbers = _values(labels, axes=1).astype(np.int64) - kind.first_label
    if size != [IDX_SIDE, IDX_SIDE]:
        raise _wrong(pictures, f"holds images of {size[1]}x{size[0]} pixels", f"{IDX_SIDE}x{IDX_SIDE}")
    if count != len(numbers):
        raise _wrong(labels, f"holds {len(numbers)} labels, but {pictures.name} {count} images", "one label per image")
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(classes)):
        found = f"holds labels from {numbers.min() + kind.first_label} to {numbers.max() + kind.first_label}"
        raise _wrong(labels, found, f"{kind.first_label} to {kind.first_label + len(classes) - 1}")
    mark, split = f"{file_stamp(pictures)}+{file_stamp(labels)}", "test" if is_test else "train"
    return (
        one_vs_rest_record(
            f"{name}/{split}/{i}", classes[number], is_test=is_test, stamp=mark, load=partial(_load, pictures, i, kind)
        )
        for i, number in enumerate(numbers.tolist())
    )


def _load(path: Path, index: int, kind: _Set) -> DecodedImage:
    image = _PICTURES(path)[index]
    return DecodedImage(np.ascontiguousarray(image.T if kind.transposed else image))


def _shape(path: Path, axes: int) -> tuple[int, ...]:
    """Return the lengths of the axes after checking the magic number and the file length."""
    size = 4 * (axes + 1)
    try:
        with _open(path) as file:
            header = file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(path, f"cannot be read ({error})") from error
    expected, magic = 0x0800 | axes, int.from_bytes(header[:4], "big")
    if len(header) >= 4 and magic != expected:
        what = f"is not an idx file of {axes} axes: it begins with the magic number {magic:#010x}"
        raise _wrong(path, what, f"{expected:#010x}")
    if len(header) < size:
        raise _wrong(path, f"is not an idx file of {axes} axes: it is too short")
    shape = struct.unpack(f">{axes}I", header[4:])
    needed, found_bytes = size + math.prod(shape), _length(path)
    if needed % 2**32 != found_bytes % 2**32:
        what = f"is {found_bytes} bytes long, but its header {' x '.join(map(str, shape))} needs {needed}"
        raise _wrong(path, what)
    return shape


def _values(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """Return the content of an idx file: a memory map of a plain file, an array of a compressed one."""
    shape, offset = _shape(path, axes), 4 * (axes + 1)
    if path.suffix != ".gz" and 0 not in shape:  # an empty array cannot be mapped
        return np.memmap(path, np.uint8, mode="r", offset=offset, shape=shape)
    try:
        with _open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(path, f"cannot be read ({error})") from error
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


_PICTURES = FileCache(partial(_values, axes=3), keep=2)


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _length(path: Path) -> int:
    """Return the bytes of the content; a compressed file stores them in its last four bytes, modulo 2^32."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _wrong(path: Path, what: str, allowed: str = "") -> DataError:
    return DataError(Problem(str(path), what, allowed, _AGAIN))

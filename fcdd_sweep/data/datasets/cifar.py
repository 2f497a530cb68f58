"""CIFAR-10 and CIFAR-100 in their "python version".

    ROOT/cifar-10-batches-py/{data_batch_1,...,data_batch_5,test_batch}
    ROOT/cifar-100-python/{train,test}

ROOT may also be that folder itself. Each file is a pickled dictionary: `data`, (n, 3072) uint8, each row the red, then
the green, then the blue values of a 32x32 image; `labels` or, in CIFAR-100, `fine_labels`, n whole numbers. A pickle
can call any function: the unpickler here accepts only the functions that rebuild an array.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.files import FileCache, file_stamp
from fcdd_sweep.data.fetching import files_missing, through_torchvision
from fcdd_sweep.data.records import DatasetScan, DecodedImage, Record, Say, one_vs_rest_record
from fcdd_sweep.data.registry import info

CIFAR_SIDE = 32
_AGAIN = "Delete the file and place it again, or set dataset.download: true once it is gone"


class _Set(NamedTuple):
    """The folder of a data set, its training and test files, the key of its labels, and its name in torchvision."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    torchvision: str


_SETS = {
    "cifar10": _Set(
        "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",), "labels", "CIFAR10"
    ),
    "cifar100": _Set("cifar-100-python", ("train",), ("test",), "fine_labels", "CIFAR100"),
}


class CifarBatch(NamedTuple):
    """The content of a file: (n, 3072) uint8, and the labels by key."""

    data: npt.NDArray[np.uint8]
    labels: dict[str, list[Any]]


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return training images, then test images, in the order of the files."""
    kind = _SETS[dataset.name]
    assert dataset.root is not None  # the loader has checked it
    folder = _folder(dataset.root, kind)
    if missing := [name for name in kind.train + kind.test if not (folder / name).is_file()]:
        return files_missing(dataset, folder, missing)
    records: list[Record] = []
    problems: list[Problem] = []
    for file in kind.train + kind.test:
        try:
            records += _records(dataset.name, folder / file, is_test=file in kind.test)
        except DataError as error:
            problems += error.problems
    return DatasetScan(tuple(records), tuple(problems))


def fetch(dataset: Dataset, say: Say) -> None:
    """Let torchvision download, check and unpack the archive."""
    name = _SETS[dataset.name].torchvision
    through_torchvision(dataset, say, lambda datasets, root: getattr(datasets, name)(root, download=True))


def _folder(root: Path, kind: _Set) -> Path:
    """Return the folder with the files, or the one where they belong if none exist."""
    usual = root / kind.folder
    return root if not usual.is_dir() and any((root / name).is_file() for name in kind.train + kind.test) else usual


def _records(name: str, path: Path, *, is_test: bool) -> Iterator[Record]:
    """Yield the records of a file; raise `DataError` before the first one if the file is wrong."""
    classes = info(name).classes or ()
    numbers = _numbers(path, _LABELS(path), _SETS[name].labels, len(classes))
    mark = file_stamp(path)
    return (
        one_vs_rest_record(
            f"{name}/{path.name}/{i}", classes[number], is_test=is_test, stamp=mark, load=partial(_load, path, i)
        )
        for i, number in enumerate(numbers)
    )


def _numbers(path: Path, batch: CifarBatch, key: str, classes: int) -> list[int]:
    """Return the labels under `key`, one per image, each the number of a class."""
    labels = batch.labels.get(key)
    if labels is None:
        raise _wrong(path, f"holds no '{key}'", f"the keys data and {key}")
    if len(labels) != len(batch.data):
        raise _wrong(path, f"holds {len(labels)} labels for {len(batch.data)} images", "one label per image")
    if strange := [label for label in labels if type(label) is not int or not 0 <= label < classes]:
        raise _wrong(path, f"holds the label {strange[0]!r}", f"whole numbers from 0 to {classes - 1}")
    return labels


def _load(path: Path, index: int) -> DecodedImage:
    channels = _PIXELS(path)[index].reshape(3, CIFAR_SIDE, CIFAR_SIDE)
    return DecodedImage(np.ascontiguousarray(channels.transpose(1, 2, 0)))


def read_batch(path: Path) -> CifarBatch:
    """Return the images and labels in a file.

    Raises:
        DataError: the file is not such a pickle, asks for more than arrays, or has images of another shape.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except Exception as error:  # damaged pickles raise many types; in each case the file must be replaced
        raise _wrong(path, f"is not a batch of CIFAR ({type(error).__name__}: {error})") from error
    found = {_text(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    data = found.get("data")
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3 * CIFAR_SIDE**2,)):
        what = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _wrong(path, f"its data is {what}", f"uint8 (images, {3 * CIFAR_SIDE**2})")
    return CifarBatch(data, {key: value for key, value in found.items() if isinstance(value, list)})


def _only_labels(path: Path) -> CifarBatch:
    """Return a batch whose images take no memory: only their number is needed."""
    batch = read_batch(path)
    return CifarBatch(np.broadcast_to(np.uint8(0), batch.data.shape), batch.labels)


_LABELS = FileCache(_only_labels, keep=12)
_PIXELS = FileCache(lambda path: read_batch(path).data, keep=2)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of dictionaries, lists, numbers, texts and arrays that refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        rebuild = np.empty(0).__reduce__()[0]
        known = {
            ("numpy.core.multiarray", "_reconstruct"): rebuild,  # written by NumPy 1
            ("numpy._core.multiarray", "_reconstruct"): rebuild,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch holds")
        return known[module, name]


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _wrong(path: Path, what: str, allowed: str = "") -> DataError:
    return DataError(Problem(str(path), what, allowed, _AGAIN))

"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels with 17 gray levels, 10 classes.

Split: within each class, images are ordered by the SHA-256 of their label (`digits/17`), and the first third is the
test set. Images are enlarged by bicubic interpolation. The source is the test set of UCI's "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998): 13 people wrote all of it, and each of them is in both splits.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.records import DatasetScan, DecodedImage, Record

_STAMP = "1"
_NOTE = "Digits: the same 13 people wrote the training and the test images; a third of each class is the test set."


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return all digits in scikit-learn's order; there are never problems."""
    digits = _digits()
    test = _test_indices(digits.target)
    records = [
        Record(
            path=f"digits/{i}",
            class_name=str(label),
            is_test=i in test,
            is_anomalous=False,
            defect="",
            stamp=_STAMP,
            load=partial(_load, i, images.load_size),
        )
        for i, label in enumerate(digits.target)
    ]
    return DatasetScan(tuple(records), notes=(_NOTE,))


def _test_indices(target: Any) -> frozenset[int]:
    order = sorted(range(len(target)), key=lambda i: hashlib.sha256(f"digits/{i}".encode()).digest())
    by_class = ([i for i in order if target[i] == label] for label in range(10))
    return frozenset(i for members in by_class for i in members[: len(members) // 3])


def _load(index: int, side: int) -> DecodedImage:
    levels = np.rint(_digits().images[index] * (255 / 16)).astype(np.uint8)
    return DecodedImage(np.asarray(Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)))


class _Digits(NamedTuple):
    """The file of scikit-learn.

    Attributes:
        images: (1797, 8, 8) float64 levels from 0 to 16.
        target: (1797,) the digit of each.
    """

    images: npt.NDArray[np.float64]
    target: npt.NDArray[np.int64]


@cache
def _digits() -> _Digits:
    found = find_spec("sklearn")  # does not import it, which takes two seconds and changes no value
    assert found is not None and found.origin is not None
    with gzip.open(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        rows = np.loadtxt(file, delimiter=",")
    return _Digits(rows[:, :64].reshape(-1, 8, 8), rows[:, 64].astype(int))

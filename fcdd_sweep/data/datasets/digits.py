"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels with 17 gray levels, 10 classes.

Split: within each class, images are ordered by the SHA-256 of their label (`digits/17`), and the first third is the
test set. Images are enlarged by bicubic interpolation. The source is the test set of UCI's "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998): 13 people wrote all of it, and each of them is in both splits.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial
from typing import Any

import numpy as np
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


@cache
def _digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()

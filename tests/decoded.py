"""Data sets of a folder, decoded as a trial reads them, at 16 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.loading import load_corpus

SIDE = 16


def images(**settings: object) -> Images:
    return Images.model_validate({"load_size": SIDE, "size": SIDE, "color": "gray", **settings})


def read(root: Path, tmp_path: Path, classes: object = "all", **settings: object) -> Corpus:
    return load_corpus(Dataset(name="folder", root=root, classes=classes), images(**settings), tmp_path / "cache")


def nominal(corpus: Corpus) -> npt.NDArray[np.uint8]:
    return corpus.images[~corpus.is_test]


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def masks(corpus: Corpus) -> list[npt.NDArray[np.bool_]]:
    return [mask for i in np.flatnonzero(corpus.mask_index >= 0) if (mask := corpus.mask(int(i))) is not None]

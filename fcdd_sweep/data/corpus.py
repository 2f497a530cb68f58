"""A decoded data set: images with labels and maps, and their split for a normal class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fcdd_sweep.data.decoding.depth import ValueRange


@dataclass(frozen=True)
class Corpus:
    """All images of a data set at `images.load_size`.

    Attributes:
        name: the data set.
        protocol: `one_vs_rest` (every other class is anomalous) or `defects` (each class has its own anomalies).
        classes: the classes' names, in order.
        images: (N, C, H, W) uint8, usually memory-mapped and read-only.
        class_index: (N,) int64 into `classes`.
        is_test: (N,) bool.
        is_anomalous: (N,) bool, within the image's own class; all False in `one_vs_rest`.
        defect: N names: the defect's type, empty for nominal images.
        path: N texts: path below the root, or a stable label such as `digits/17`.
        original_size: (N, 2) int64, height and width before `images.load_size` was applied.
        mask_index: (N,) int64, the number of the image's mask, -1 for none.
        mask_bits: flat uint8, all masks at their original size, each packed by `numpy.packbits`; after a mask those of
            its single defects, where `saturation` has some.
        mask_offset: (M + 1,) int64, where each mask starts in `mask_bits`, in bytes.
        fingerprints: by class name, a digest of the class's decoded pixels, maps, labels and split; in `one_vs_rest`
            also of the other classes, which are its anomalies: of their test split and, where mode `other` may train
            on them, of their training split.
        notes: sentences for the report, such as the number of independent regions that the images come from.
        membership: (N, classes) bool, where images may belong to several classes; `class_index` then names the first.
        saturation: (N, K) float64, for each single defect of an image the pixels of it that count as all of it, NaN
            beyond its defects; None where the data set does not say.
        value_range: what images of more than 8 bits were brought to 8 bits by; None where there are none.
    """

    name: str
    protocol: str
    classes: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    class_index: npt.NDArray[np.int64]
    is_test: npt.NDArray[np.bool_]
    is_anomalous: npt.NDArray[np.bool_]
    defect: tuple[str, ...]
    path: tuple[str, ...]
    original_size: npt.NDArray[np.int64]
    mask_index: npt.NDArray[np.int64]
    mask_bits: npt.NDArray[np.uint8]
    mask_offset: npt.NDArray[np.int64]
    fingerprints: dict[str, str]
    notes: tuple[str, ...] = ()
    membership: npt.NDArray[np.bool_] | None = None
    saturation: npt.NDArray[np.float64] | None = None
    value_range: ValueRange | None = None

    @property
    def has_maps(self) -> bool:
        return bool((self.mask_index >= 0).any())

    def mask(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Return the ground-truth map of image `index`, (H0, W0) bool at its original size; None without a map."""
        which = self.mask_index[index]
        if which < 0:
            return None
        height, width = self.original_size[index]
        bits = self.mask_bits[self.mask_offset[which] : self.mask_offset[which + 1]]
        return np.unpackbits(bits, count=int(height * width)).astype(bool).reshape(height, width)

    def single_defects(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None:
        """Return the defects of image `index`; None where the data set does not say from which area on one is found.

        The first array is (H0, W0), the number of each pixel's defect from 1, 0 where there is none; the second is
        (defects,), the pixels of each that count as all of it.

        A pixel of several defects belongs to the first.
        """
        which = self.mask_index[index]
        known = np.empty(0) if self.saturation is None else self.saturation[index][~np.isnan(self.saturation[index])]
        if which < 0 or not len(known):
            return None
        height, width = self.original_size[index]
        bits = self.mask_bits[self.mask_offset[which] : self.mask_offset[which + 1]].reshape(1 + len(known), -1)
        planes = np.unpackbits(bits[1:], axis=1, count=int(height * width)).astype(bool)
        labels = np.where(planes.any(axis=0), 1 + planes.argmax(axis=0), 0)
        return labels.reshape(height, width), known


def held_out_of(count: int, fraction: float) -> int:
    """Return how many of `count` nominal training images are held out: at least one stays for training."""
    return min(round(count * fraction), max(count - 1, 0))


@dataclass(frozen=True)
class Split:
    """The training and test images of a normal class: indices into a corpus.

    Attributes:
        train_nominal: (n,) int64.
        train_anomalous: (m,) int64, real anomalies of the training split (used by mode `other` only).
        test: (t,) int64.
        test_label: (t,) int8, 0 nominal, 1 anomalous.
        test_defect: t names: the defect's type, or in `one_vs_rest` the other class; empty for nominal images.
    """

    train_nominal: npt.NDArray[np.int64]
    train_anomalous: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    test_label: npt.NDArray[np.int8]
    test_defect: tuple[str, ...]


def split_for(corpus: Corpus, normal_class: str) -> Split:
    """Return the split of a corpus for one normal class, by the protocol of the data set."""
    number = corpus.classes.index(normal_class)
    own = corpus.class_index == number if corpus.membership is None else corpus.membership[:, number]
    if corpus.protocol == "one_vs_rest":
        anomalous, relevant = ~own, np.ones_like(own)
        kind = tuple(corpus.classes[i] for i in corpus.class_index)
    else:
        anomalous, relevant, kind = corpus.is_anomalous, own, corpus.defect
    train, test = relevant & ~corpus.is_test, np.flatnonzero(relevant & corpus.is_test)
    return Split(
        train_nominal=np.flatnonzero(train & ~anomalous),
        train_anomalous=np.flatnonzero(train & anomalous),
        test=test,
        test_label=anomalous[test].astype(np.int8),
        test_defect=tuple(kind[i] if anomalous[i] else "" for i in test),
    )

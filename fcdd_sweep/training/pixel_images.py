"""The test images of pixel metrics with their ground truth, prepared once a test set and process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.metrics.pixel_truth import FullTruth, MaskedImage, PixelTruth

_KEPT = 2
"""Ground truths that a process keeps: those of the classes that its trials alternate between."""


@dataclass(frozen=True)
class PixelImages:
    """The test images that pixel metrics use, and their ground truth.

    Nominal images count, whose maps are empty, and anomalous images that have a map. In one-vs-rest an image of the
    normal class is defect-free, whatever map it has.

    Attributes:
        corpus, split: where they come from.
        image: (P,) int64, positions in the test set.
        defects: names of the defect types; the group of the i-th is i + 1.
        side: of the network's input.
    """

    corpus: Corpus
    split: Split
    image: npt.NDArray[np.int64]
    defects: tuple[str, ...]
    side: int

    @cached_property
    def truth(self) -> PixelTruth:
        return PixelTruth.of(self._masked(), self.side)

    @cached_property
    def full(self) -> FullTruth:
        return FullTruth.of(self._masked())

    @property
    def is_full(self) -> bool:
        """Whether the ground-truth maps have the size of the network's input."""
        return bool((self.truth.size == self.side).all())

    def _masked(self) -> Iterator[MaskedImage]:
        groups = {name: number for number, name in enumerate(self.defects, 1)}
        for i in self.image:
            row = self.split.test[i]
            height, width = (int(length) for length in self.corpus.original_size[row])
            if not self.split.test_label[i]:
                yield MaskedImage(0, (height, width), None)
                continue
            group, single = groups[self.split.test_defect[i]], self.corpus.single_defects(row)
            mask, saturation = (self.corpus.mask(row), None) if single is None else single
            yield MaskedImage(group, (height, width), mask, saturation)


_prepared: list[PixelImages] = []
"""Those of the last test sets, the newest first."""


def forget_pixel_images() -> None:
    """Let go of the ground truth of all test sets, and of the data sets that it comes from."""
    _prepared.clear()


def pixel_images(corpus: Corpus, split: Split, side: int) -> PixelImages | None:
    """Return the images of the pixel metrics; the same object again for the same test set.

    Args:
        corpus: with ground-truth maps.
        split: of a normal class.
        side: of the network's input.
    Returns:
        None when there are no such images.
    """
    for known in _prepared:
        if known.corpus is corpus and known.side == side and _is_same_test_set(known.split, split):
            return known
    image = np.flatnonzero((corpus.mask_index[split.test] >= 0) | (split.test_label == 0))
    if not len(image):
        return None
    pixels = PixelImages(corpus, split, image, tuple(sorted(set(split.test_defect) - {""})), side)
    _prepared.insert(0, pixels)
    del _prepared[_KEPT:]
    return pixels


def _is_same_test_set(one: Split, other: Split) -> bool:
    return (
        np.array_equal(one.test, other.test)
        and np.array_equal(one.test_label, other.test_label)
        and one.test_defect == other.test_defect
    )

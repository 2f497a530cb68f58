"""Ground truth for pixel metrics, counted once a data set: pixels a heatmap's cells stand for, and connected regions.

A region is a set of anomalous pixels of one image that touch at sides or corners, as in MVTec-AD's own evaluation; or,
where the data set tells single defects apart and says from which area on each counts as found, the pixels of a defect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.ranking import FloatArray, Numbers, cell_counts

Indices = npt.NDArray[np.int64]
AreaCounts = npt.NDArray[np.int32]
_TOUCHING = np.ones((3, 3), dtype=int)
_CODE_BITS = 32


class MaskedImage(NamedTuple):
    """A test image of the pixel metrics.

    Attributes:
        group: 0 for a nominal image, else the number of its defect type, from 1.
        size: height and width of its ground-truth map.
        mask: (H, W), non-zero where anomalous; None for a nominal image. With `saturation`, the number of the defect
            that a pixel belongs to, from 1.
        saturation: (defects,) pixels of each defect that count as all of it; None where the data set says nothing.
    """

    group: int
    size: tuple[int, int]
    mask: Numbers | None
    saturation: FloatArray | None = None


@dataclass(frozen=True)
class DefectRegions:
    """The regions of a set of images, as counts of pixels by element (a cell of a heatmap, or a pixel).

    Attributes:
        element: (E,) which element, as the user of the regions numbers them.
        region: (E,) which region, from 0.
        count: (E,) float64, how many of the element's pixels belong to the region.
        area: (R,) float64, pixels of each region.
        saturation: (R,) float64, pixels that count as all of it; equal to `area` where the data set says nothing.
    """

    element: Indices
    region: Indices
    count: FloatArray
    area: FloatArray
    saturation: FloatArray


@dataclass(frozen=True)
class PixelTruth:
    """The ground truth of P images on cells of square heatmaps.

    Attributes:
        side: of the heatmaps, in cells.
        group: (P,) 0 for nominal images, else the number of the defect type.
        size: (P, 2) height and width of the ground-truth maps.
        positive, negative: (P, side * side) int32, anomalous and defect-free pixels that each cell stands for.
        regions: their elements are cells, numbered through all images.
        has_saturation: whether the data set says from which area on a defect counts as found.
    """

    side: int
    group: Indices
    size: Indices
    positive: AreaCounts
    negative: AreaCounts
    regions: DefectRegions
    has_saturation: bool = False
    _rows: Indices = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", np.flatnonzero(self.positive.ravel()))

    @classmethod
    def of(cls, images: Iterable[MaskedImage], side: int) -> PixelTruth:
        """Count the pixels and find the regions of some images; at least one.

        Args:
            images: one after the other, so that all masks need never be in memory together.
            side: of the heatmaps, in cells.
        """
        given, sizes, positives, negatives, found = [], [], [], [], RegionCollector()
        clean: dict[tuple[int, int], AreaCounts] = {}
        for number, image in enumerate(images):
            if image.mask is None:
                if image.size not in clean:
                    clean[image.size] = cell_counts(np.zeros(image.size, bool), side)[1].ravel().astype(np.int32)
                positive, total = np.zeros(side * side, np.int32), clean[image.size]
            else:
                counted = cell_counts(image.mask, side)
                positive, total = (each.ravel().astype(np.int32) for each in counted)
                found.add(image, _cells(image.size, side), number * side * side)
            given.append(image.group)
            sizes.append(image.size)
            positives.append(positive)
            negatives.append(total - positive)
        return cls(
            side,
            np.array(given, np.int64),
            np.array(sizes, np.int64),
            np.stack(positives),
            np.stack(negatives),
            found.regions(),
            found.has_saturation,
        )

    @property
    def positive_cells(self) -> Indices:
        """Cells with anomalous pixels, numbered through all images, in order."""
        return self._rows

    @cached_property
    def parts(self) -> tuple[Indices, Indices]:
        """A part of the images for each defect type, and one for each size of nominal images: (P,) the image's part;
        (parts,) the part's group."""
        pixels = np.where(self.group == 0, self.size.prod(1), 0)
        kinds, part = np.unique(np.stack([self.group, pixels], 1), axis=0, return_inverse=True)
        return part.reshape(-1), kinds[:, 0]

    @cached_property
    def rate_weight(self) -> FloatArray:
        """(parts,) what one pixel of a nominal image adds to the mean over nominal images of their false-positive
        rate; 0 for parts of anomalous images."""
        part, groups = self.parts
        nominal = max(int(np.count_nonzero(self.group == 0)), 1)
        pixels = np.zeros(len(groups))
        pixels[part] = self.size.prod(1)
        return np.where(groups == 0, 1 / (pixels * nominal), 0.0)

    @cached_property
    def code_bits(self) -> tuple[int, int]:
        """Bits of a cell's negative and positive pixels in `codes`."""
        return int(self.negative.max()).bit_length(), int(self.positive.max()).bit_length()

    @cached_property
    def codes(self) -> npt.NDArray[np.uint32] | None:
        """(P * cells,) a cell's negatives, positives and part in one number; None where 32 bits do not suffice."""
        part, groups = self.parts
        low, middle = self.code_bits
        if low + middle + (len(groups) - 1).bit_length() > _CODE_BITS:
            return None
        codes = self.negative.astype(np.uint32)
        codes |= self.positive.astype(np.uint32) << np.uint32(low)
        codes |= (part.astype(np.uint32) << np.uint32(low + middle))[:, None]
        return codes.ravel()


@dataclass(frozen=True)
class FullTruth:
    """The ground truth of P images pixel by pixel, at the size of their maps.

    Attributes:
        group, size: as in `PixelTruth`.
        inside: by image, where its anomalous pixels are in the flat map, increasing.
        regions: their elements are anomalous pixels, numbered through all images in this order.
        has_saturation: as in `PixelTruth`.
    """

    group: Indices
    size: Indices
    inside: tuple[AreaCounts, ...]
    regions: DefectRegions
    has_saturation: bool = False

    @classmethod
    def of(cls, images: Iterable[MaskedImage]) -> FullTruth:
        """Find the anomalous pixels and the regions of some images; at least one, read one after the other."""
        given, sizes, inside, found = [], [], [], RegionCollector()
        first = 0
        for image in images:
            given.append(image.group)
            sizes.append(image.size)
            mask = np.zeros(0, bool) if image.mask is None else np.asarray(image.mask) != 0
            inside.append(np.flatnonzero(mask).astype(np.int32))
            if image.mask is not None:
                found.add(image, np.cumsum(mask).reshape(mask.shape) - 1, first)
            first += len(inside[-1])
        return cls(
            np.array(given, np.int64), np.array(sizes, np.int64), tuple(inside), found.regions(), found.has_saturation
        )


class RegionCollector:
    """DefectRegions, image by image."""

    def __init__(self) -> None:
        self._entries: list[tuple[Indices, Indices, FloatArray]] = []
        self._areas: list[FloatArray] = []
        self._saturations: list[FloatArray] = []
        self._count = 0
        self.has_saturation = False

    def add(self, image: MaskedImage, elements: Indices, first: int) -> None:
        """Find the regions of an image.

        Args:
            image: with a mask.
            elements: (H, W) the element of each pixel, from 0.
            first: number of the image's first element.
        """
        assert image.mask is not None
        if image.saturation is None:
            from scipy import ndimage  # slow to import, and only training and recomputing need it

            labelled, found = ndimage.label(image.mask, _TOUCHING)
            labels, count = np.asarray(labelled), int(found)
        else:
            labels, count, self.has_saturation = np.asarray(image.mask), len(image.saturation), True
        inside = np.flatnonzero(labels)
        region = labels.ravel()[inside].astype(np.int64) - 1
        pairs, counted = np.unique(elements.ravel()[inside] * max(count, 1) + region, return_counts=True)
        area = np.bincount(region, minlength=count).astype(np.float64)
        known = np.flatnonzero(area)  # a defect of the data set's table may have no pixel in this image
        number = np.cumsum(area > 0) - 1 + self._count
        self._entries.append((pairs // max(count, 1) + first, number[pairs % max(count, 1)], counted.astype(float)))
        self._areas.append(area[known])
        limit = area if image.saturation is None else np.minimum(image.saturation, area)
        self._saturations.append(limit[known])
        self._count += len(known)

    def regions(self) -> DefectRegions:
        """Return all regions that were added."""
        nothing = np.empty(0, np.int64)
        element, region = (np.concatenate([nothing, *(entry[i] for entry in self._entries)]) for i in (0, 1))
        count = np.concatenate([np.empty(0), *(entry[2] for entry in self._entries)])
        area, saturation = (np.concatenate([np.empty(0), *each]) for each in (self._areas, self._saturations))
        return DefectRegions(element, region, count, area, saturation)


def _cells(size: tuple[int, int], side: int) -> Indices:
    """Return the cell that each pixel reads, (H, W), as `ranking.cell_counts` assigns them."""
    rows, columns = (np.arange(length) * side // length for length in size)
    return np.asarray(rows[:, None] * side + columns)

"""Pixel metrics at the images' original size, without enlarging a single heatmap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CellCounts = npt.NDArray[np.int64]


def cell_counts(mask: npt.NDArray[Any], size: int) -> tuple[CellCounts, CellCounts]:
    """How many pixels of a ground-truth map, and how many defective ones, fall on each cell of a heatmap.

    Enlarging a heatmap to the map's size by nearest neighbor repeats each cell; these are the numbers of
    repetitions. Scoring cells with them gives exactly the pixel metrics of the enlarged heatmap. Pixel row y reads
    cell row `floor(y * size / H)`, columns likewise. When the map is smaller than the heatmap, some cells are read
    by no pixel: their total is 0, and they do not count.

    Args:
        mask: (H, W), non-zero where defective; a nominal image has a map of zeros.
        size: side of the square heatmap.
    Returns:
        positive, total: (size, size) int64 each; the negatives are `total - positive`.
    """
    height, width = mask.shape
    row, column = np.arange(height) * size // height, np.arange(width) * size // width
    y, x = np.nonzero(mask)
    positive = np.bincount(row[y] * size + column[x], minlength=size * size).reshape(size, size)
    total = np.outer(np.bincount(row, minlength=size), np.bincount(column, minlength=size))
    return positive.astype(np.int64), total.astype(np.int64)

"""Slow, plain versions of what the package does quickly, written from the paper's description alone."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def seen_pixels(network: nn.Module, in_shape: tuple[int, int, int], row: int, column: int) -> tuple[range, range]:
    """Rows and columns of the input that carry gradient for one output cell.

    The network is changed such that no gradient can cancel or be dropped: weights are positive, batch norms use fixed
    statistics, and windows are averaged, since a maximum would let gradient through to one of its pixels alone.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    for parameter in network.double().eval().parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    image = torch.rand(1, *in_shape, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, row, column].backward()
    seen = (image.grad[0] != 0).any(dim=0)
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    return range(int(rows.min()), int(rows.max()) + 1), range(int(columns.min()), int(columns.max()) + 1)


def slow_gaussian(size: int, std: float) -> list[float]:
    odd = size if size % 2 else size - 1
    values = [math.exp(-((i - odd // 2) ** 2) / (2 * std**2)) for i in range(odd)]
    if size % 2:
        return values
    middle = odd // 2
    return [v / 2 for v in (*values[:middle], values[middle], values[middle], *values[middle + 1 :])]


def slow_upsample(
    cells: np.ndarray, size: int, jump: int, shift: float, out_size: tuple[int, int], std: float
) -> np.ndarray:
    """One (U, V) map: every cell's Gaussian is placed on a large sheet, from which the image is cut."""
    kernel = np.outer(slow_gaussian(size, std), slow_gaussian(size, std))
    sheet = np.zeros(tuple((n - 1) * jump + size for n in cells.shape))
    for u in range(cells.shape[0]):
        for v in range(cells.shape[1]):
            sheet[u * jump : u * jump + size, v * jump : v * jump + size] += cells[u, v] * kernel
    image = np.zeros(out_size)
    start = (size - 1) // 2 - int(shift)
    for y in range(out_size[0]):
        for x in range(out_size[1]):
            if 0 <= y + start < sheet.shape[0] and 0 <= x + start < sheet.shape[1]:
                image[y, x] = sheet[y + start, x + start]
    return image

"""Heatmaps from anomaly maps, and their values as 0..1 for coloring.

The range is set by quantiles, so that a few extreme pixels do not darken the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.ranking import Numbers

STEPS = 1000
"""Number of steps between the minimum and the maximum in `reference_quantiles`."""
MOST_WEIGHTS = 2**18
"""Pixels times cells of an axis up to which `upsample` holds all weights: 512 pixels where cells are a pixel apart."""
_BAND = 256
"""Least pixels a side of the parts in which larger heatmaps are made."""


def reference_quantiles(values: Numbers) -> npt.NDArray[np.float32]:
    """Return the k-th smallest values for k = int(q * n), q = 0, 0.001, ..., 1; for q = 0 the minimum.

    Args:
        values: heatmaps of any shape with n finite values in total.
    Returns:
        (1001,) float32, in increasing order.
    """
    flat = np.sort(np.asarray(values, np.float32), axis=None)
    # whole numbers: 0.29 * 100 is 28.999... as a float
    k = np.arange(STEPS + 1) * flat.size // STEPS
    quantiles: npt.NDArray[np.float32] = flat[np.maximum(k, 1) - 1]
    return quantiles


def local_range(heatmap: Numbers, quantile: float) -> tuple[float, float]:
    """Return minimum and `quantile` of one heatmap: the values that become 0 and 1."""
    k = max(int(quantile * heatmap.size), 1)
    return float(heatmap.min()), float(np.partition(heatmap, k - 1, axis=None)[k - 1])


def global_range(reference: Numbers, quantile: float) -> tuple[float, float]:
    """Return minimum and `quantile` of the reference set, from its `reference_quantiles`."""
    return float(reference[0]), float(reference[round(quantile * STEPS)])


def normalize(heatmaps: Numbers, low: float, high: float) -> Numbers:
    """Subtract `low`, divide by `high - low` and clamp to 0..1; return float32.

    Without a range (`high` equals `low`), values above `low` become 1, as in the limit of a small range.
    """
    if high <= low:
        return (heatmaps > low).astype(np.float32)
    return np.clip((heatmaps - low) / (high - low), 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class MapGeometry:
    """The geometry that turns anomaly maps into heatmaps.

    Attributes:
        receptive_field: size, jump and shift of a map's cells in input pixels; (1, 1, 0) where cells are pixels.
        out_size: height and width of the heatmaps, those of the network's input.
        std: standard deviation in pixels of the Gaussian that upsamples, and of the one that blurs.
        blur_size: side in pixels of the Gaussian that blurs: the network's receptive field.
    """

    receptive_field: tuple[int, int, float]
    out_size: tuple[int, int]
    std: float
    blur_size: int

    def heatmaps(self, maps: npt.ArrayLike, *, blurred: bool = False) -> Numbers:
        """Return the heatmaps of anomaly maps: (..., U, V) to (..., H, W) float32."""
        heatmaps = upsample(maps, self.receptive_field, self.out_size, self.std)
        return blur(heatmaps, self.blur_size, self.std) if blurred else heatmaps


def blur(heatmaps: Numbers, size: int, std: float) -> Numbers:
    """Blur with a normalized Gaussian of `size` pixels (an even size counts as one less) and mirrored borders.

    Args:
        heatmaps: (..., H, W).
        size: side of the kernel in pixels.
        std: standard deviation in pixels.
    Returns:
        (..., H, W) float32.
    """
    radius = min((size - 1) // 2, min(heatmaps.shape[-2:]) - 1)
    from scipy import ndimage  # slow to import, and rarely needed

    blurred: Numbers = ndimage.gaussian_filter(
        heatmaps, std, mode="mirror", radius=radius, axes=(-2, -1), output=np.float32
    )
    return blurred


def default_std(size: int) -> float:
    """Return the default standard deviation, in pixels, of the Gaussian for a receptive field of `size` pixels.

    Source: the program of Liznerski et al., ICLR 2021.
    """
    return float(np.log10(0.45 * size + 1) + 0.25) if size < 32 else 10.0


def gaussian_kernel(size: int, std: float) -> npt.NDArray[np.float64]:
    """Return the 1-D Gaussian, (size,), not normalized: its peak is 1 for odd sizes.

    An even size has no middle: the kernel of `size - 1` gets its middle twice and is halved (peak 0.5).
    Source: Liznerski et al., ICLR 2021, Sec. 3, and their program.
    """
    odd = size - 1 + size % 2
    offsets = np.arange(odd) - odd // 2
    kernel: npt.NDArray[np.float64] = np.exp(-0.5 * (offsets / std) ** 2)
    return kernel if size % 2 else np.insert(kernel, odd // 2, 1.0) / 2


@lru_cache(maxsize=16)
def upsampling_weights(
    receptive_field: tuple[int, int, float], cells: int, out_size: int, std: float | None
) -> npt.NDArray[np.float64]:
    """Return the weight of each map cell in each pixel along one axis, (out_size, cells), read-only.

    The 2-D Gaussian is the product of two 1-D ones, so the whole upsampling is `rows @ map @ columns.T`. The
    weights equal a transposed convolution with stride `jump`, cropped such that each Gaussian sits on the center of
    its cell's receptive field; pixels beyond the outermost receptive fields get 0.

    Source: Liznerski et al., ICLR 2021, Sec. 3 (Alg. 1).
    """
    size, jump, shift = receptive_field
    kernel = gaussian_kernel(size, default_std(size) if std is None else std)
    pixel = np.arange(out_size)[:, None] + (size - 1) // 2 - int(shift)
    tap = pixel - jump * np.arange(cells)
    weights: npt.NDArray[np.float64] = np.where((tap >= 0) & (tap < size), kernel[tap.clip(0, size - 1)], 0.0)
    weights.flags.writeable = False
    return weights


def upsample(
    maps: npt.ArrayLike,
    receptive_field: tuple[int, int, float],
    out_size: tuple[int, int],
    std: float | None = None,
) -> Numbers:
    """Return heatmaps of anomaly maps; each cell is replaced by a Gaussian. Source: see `upsampling_weights`.

    The memory that it needs besides the heatmaps does not grow with them.

    Args:
        maps: (..., U, V), raw distances.
        receptive_field: size, jump and shift in input pixels, as in `maps.npz`.
        out_size: height and width of the heatmaps in pixels, those of the network's input.
        std: standard deviation of the Gaussian in pixels; None: `default_std` of the receptive field.

    Returns:
        (..., H, W) float32.
    """
    given = np.asarray(maps, dtype=np.float32)
    size, jump, shift = receptive_field
    field, width = (int(size), int(jump), float(shift)), None if std is None else float(std)  # arrays of a file, too
    if max(side * cells for side, cells in zip(out_size, given.shape[-2:], strict=True)) > MOST_WEIGHTS:
        return _upsample_by_parts(given, field, out_size, width)
    rows = upsampling_weights(field, given.shape[-2], out_size[0], width)
    columns = upsampling_weights(field, given.shape[-1], out_size[1], width)
    heatmaps: Numbers = rows.astype(np.float32) @ (given @ columns.T.astype(np.float32))
    return heatmaps


def _upsample_by_parts(
    given: Numbers, field: tuple[int, int, float], out_size: tuple[int, int], std: float | None
) -> Numbers:
    """Return `upsample` of float32 maps, part by part, each from the cells whose Gaussians reach it alone."""
    size, jump, shift = field
    side, start = -(-_BAND // jump) * jump, (size - 1) // 2 - int(shift)
    # parts begin at multiples of the cells' distance, so that the weights of the first are those of all
    first = -((size - 1 - start) // jump)
    reached = (side - 1 + start) // jump + 1 - first
    shared = upsampling_weights((size, jump, float(int(shift) + first * jump)), reached, side, std).astype(np.float32)

    def parts(pixels: int, cells: int) -> Iterator[tuple[slice, slice, Numbers]]:
        for begin in range(0, pixels, side):
            stop, offset = min(begin + side, pixels), begin // jump + first
            low = min(max(offset, 0), cells)
            high = max(min(offset + reached, cells), low)
            yield slice(begin, stop), slice(low, high), shared[: stop - begin, low - offset : high - offset]

    heatmaps = np.empty((*given.shape[:-2], *out_size), np.float32)
    for rows, row_cells, of_rows in parts(out_size[0], given.shape[-2]):
        for columns, column_cells, of_columns in parts(out_size[1], given.shape[-1]):
            cells = given[..., row_cells, column_cells]
            heatmaps[..., rows, columns] = of_rows @ (cells @ of_columns.T)
    return heatmaps

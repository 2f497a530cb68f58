"""From heatmap values to 0..1 for coloring, by quantiles, so that a few extreme pixels do not darken the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[Any]
STEPS = 1000


def reference_quantiles(values: FloatArray) -> npt.NDArray[np.float32]:
    """The k-th smallest values for k = int(q * n), q = 0, 0.001, ..., 1; q = 0 gives the minimum.

    Args:
        values: heatmaps of any shape, n finite values together.
    Returns:
        (1001,) float32, not decreasing.
    """
    flat = np.sort(np.asarray(values, np.float32), axis=None)
    # whole numbers: 0.29 * 100 is 28.999... as a float
    k = np.arange(STEPS + 1) * flat.size // STEPS
    quantiles: npt.NDArray[np.float32] = flat[np.maximum(k, 1) - 1]
    return quantiles


def local_range(heatmap: FloatArray, quantile: float) -> tuple[float, float]:
    """Minimum and `quantile` of one heatmap: the values that become 0 and 1."""
    k = max(int(quantile * heatmap.size), 1)
    return float(heatmap.min()), float(np.partition(heatmap, k - 1, axis=None)[k - 1])


def global_range(reference: FloatArray, quantile: float) -> tuple[float, float]:
    """Minimum and `quantile` of the reference set, from its `reference_quantiles`."""
    return float(reference[0]), float(reference[round(quantile * STEPS)])


def normalize(heatmaps: FloatArray, low: float, high: float) -> FloatArray:
    """Subtract `low`, divide by `high - low`, clamp to 0..1.

    Without a range (`high` is `low`), values above `low` are 1, as in the limit of a small range.
    """
    if high <= low:
        return (heatmaps > low).astype(np.float32)
    return np.clip((heatmaps - low) / (high - low), 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class MapGeometry:
    """How anomaly maps become heatmaps.

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

    def heatmaps(self, maps: npt.ArrayLike, *, blurred: bool = False) -> FloatArray:
        """(..., U, V) maps to (..., H, W) float32."""
        heatmaps = upsample(maps, self.receptive_field, self.out_size, self.std)
        return blur(heatmaps, self.blur_size, self.std) if blurred else heatmaps


def blur(heatmaps: FloatArray, size: int, std: float) -> FloatArray:
    """Gaussian blur with a normalized kernel of `size` pixels (an even size counts as one less), borders mirrored.

    Args:
        heatmaps: (..., H, W).
    """
    radius = min((size - 1) // 2, min(heatmaps.shape[-2:]) - 1)
    blurred: FloatArray = ndimage.gaussian_filter(
        heatmaps, std, mode="mirror", radius=radius, axes=(-2, -1), output=np.float32
    )
    return blurred


def default_std(size: int) -> float:
    """Standard deviation in pixels of the Gaussian for a receptive field of `size` pixels, when none is asked for."""
    return float(np.log10(0.45 * size + 1) + 0.25) if size < 32 else 10.0


def gaussian_kernel(size: int, std: float) -> npt.NDArray[np.float64]:
    """The 1-D Gaussian, (size,), not normalized: peak 1 for odd sizes.

    An even size has no middle: the kernel of `size - 1` gets its middle twice and is halved (peak 0.5).
    Source: Liznerski et al., ICLR 2021, Sec. 3, as their program has it.
    """
    odd = size - 1 + size % 2
    offsets = np.arange(odd) - odd // 2
    kernel: npt.NDArray[np.float64] = np.exp(-0.5 * (offsets / std) ** 2)
    return kernel if size % 2 else np.insert(kernel, odd // 2, 1.0) / 2


@lru_cache(maxsize=64)
def upsampling_weights(
    receptive_field: tuple[int, int, float], cells: int, out_size: int, std: float | None
) -> npt.NDArray[np.float64]:
    """What each of `cells` map cells gives to each pixel along one axis, (out_size, cells), read-only.

    The 2-D Gaussian is the product of two 1-D ones, so that the whole upsampling is `rows @ map @ columns.T`. The
    weights equal a transposed convolution with stride `jump`, cropped such that each Gaussian sits on the center of
    its cell's receptive field; pixels beyond the outermost receptive fields get 0.
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
) -> FloatArray:
    """Heatmaps from anomaly maps.

    Args:
        maps: (..., U, V), raw distances.
        receptive_field: size, jump and shift in input pixels, as in `maps.npz`.
        out_size: height and width of the heatmaps in pixels, those of the network's input.
        std: standard deviation of the Gaussian in pixels; None: by the receptive field's size.

    Returns:
        (..., H, W) float32.
    """
    given = np.asarray(maps, dtype=np.float32)
    size, jump, shift = receptive_field
    field, width = (int(size), int(jump), float(shift)), None if std is None else float(std)  # arrays of a file, too
    rows = upsampling_weights(field, given.shape[-2], out_size[0], width)
    columns = upsampling_weights(field, given.shape[-1], out_size[1], width)
    heatmaps: FloatArray = rows.astype(np.float32) @ (given @ columns.T.astype(np.float32))
    return heatmaps

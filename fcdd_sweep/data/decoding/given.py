"""Images given in Python, Pillow's and arrays instead of files, brought to the pixels that their files have.

8 bits are taken as they are. Values of more bits need the range of the training images, as files do. Without such a
range, numbers with a point are taken as 0 (black) to 1 (white), the convention of torch, scikit-image and matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.data.decoding.pixels import (
    Decoding,
    PixelArray,
    deep_pixels,
    over_white,
    plain_pixels,
    read_picture,
    shallow_problem,
)
from fcdd_sweep.data.records import DecodedImage

GivenImage = Path | Image.Image | npt.NDArray[Any]
_CHANNELS = (1, 3, 4)
_TYPES = "uint8, bool (False is black, True white), or floating point from 0 to 1"
_SHAPES = "(H, W) gray, (H, W, 3) RGB or (H, W, 4) RGB with transparency"


def read_given(image: GivenImage, name: str, decoding: Decoding) -> DecodedImage:
    """Return a file, a Pillow image or an array as (H, W) gray or (H, W, 3) RGB uint8, upright.

    Args:
        image: a path; an image of Pillow in any mode, turned as its EXIF says; or an array (H, W), (H, W, 1), (H, W, 3)
            or (H, W, 4) of type uint8, bool, or any other in the range of the training images.
        name: what errors call it.
        decoding: of the training images.
    Raises:
        DataError: the file does not decode, the array has other axes, or its values have no range.
    """
    if isinstance(image, Path):
        return read_picture(image, decoding=decoding)
    if not isinstance(image, Image.Image):
        return _from_array(image, name, decoding)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return _from_array(np.asarray(upright), name, decoding)
    return DecodedImage(_eight_bits(plain_pixels(upright, name), name, decoding))


def _from_array(array: npt.NDArray[Any], name: str, decoding: Decoding) -> DecodedImage:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)) or 0 in array.shape:
        raise DataError(Problem(name, f"found an array with the axes {array.shape}", _SHAPES))
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8 and decoding.value_range is not None:
        pixels, clipped = deep_pixels(array, decoding.value_range)
        return DecodedImage(pixels, clipped=clipped)
    pixels = array if array.dtype == np.uint8 else _from_shares(array, name)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = np.asarray(over_white(Image.fromarray(pixels)))
    return DecodedImage(_eight_bits(pixels, name, decoding))


def _eight_bits(pixels: PixelArray, name: str, decoding: Decoding) -> PixelArray:
    if decoding.value_range is not None and not decoding.value_range.mixes:
        raise DataError(shallow_problem(name, decoding.value_range))
    return pixels


def _from_shares(array: npt.NDArray[Any], name: str) -> PixelArray:
    """Return numbers from 0 to 1 as uint8."""
    step = "Bring the values to 8 bits as those of the training images, and give them as uint8"
    if array.dtype.kind != "f":
        what = f"has values of type {array.dtype}, and no range says which become black and white"
        raise DataError(Problem(name, what, _TYPES, step))
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN, too
        what = f"has floating-point values from {low:g} to {high:g}, and no range says which become black and white"
        raise DataError(Problem(name, what, _TYPES, step))
    return np.rint(array * 255).astype(np.uint8)

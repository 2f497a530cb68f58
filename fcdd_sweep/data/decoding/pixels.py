"""Image files as arrays: every file becomes 8-bit gray or RGB, then one size and one color.

Files that are not plain 8-bit RGB:
- EXIF orientation is applied, for images and maps alike.
- Transparent images are drawn over white.
- 16-bit gray is scaled by its full range (65535 becomes 255), so that images stay comparable; 32-bit whole numbers
  are treated as 16-bit ones. Floating-point images have no known range and are refused.
- CMYK, palette, black-and-white and other modes are converted by Pillow; of several frames the first counts.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.records import DecodedImage

DECODER_VERSION = 2
"""Raised by hand when this module returns other pixels for the same file."""
_WITH_PAGES = frozenset({".gif", ".tif", ".tiff", ".webp"})
"""Suffixes of formats that hold several images; a phone's JPEG may too, but those are previews."""
_NAMED = 3
Resize = Literal["nearest", "bilinear", "area"]
Color = Literal["gray", "rgb"]
Aspect = Literal["stretch", "crop"]
PixelArray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def read_image(path: Path) -> PixelArray:
    """Return the image in a file: (H, W) gray or (H, W, 3) RGB uint8, upright.

    Raises:
        DataError: the file is missing, truncated or not an image; the problem names the path.
    """
    return _pixels_of(_open(path, path))


def decode_image(content: bytes, name: str) -> PixelArray:
    """Return the image in a file's content, as `read_image` does; errors call the file `name`.

    Raises:
        DataError: as `read_image`.
    """
    return _pixels_of(_open(io.BytesIO(content), name))


def read_mask(path: Path) -> Mask:
    """Return the ground-truth map in a file: (H, W) bool, True above half of the file's maximum (0/255, 0/1, JPEG).

    Raises:
        DataError: as `read_image`.
    """
    image = _open(path, path)
    values = np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    return np.asarray(values > values.max() / 2)


def read_picture(path: Path, mask_path: Path | None = None) -> DecodedImage:
    """Return an image with its map, if it has one.

    Raises:
        DataError: one of them does not decode, or their sizes differ.
    """
    image = read_image(path)
    mask = None if mask_path is None else read_mask(mask_path)
    if mask is not None and mask.shape != image.shape[:2]:
        what = f"the map has {_size(mask)} pixels, but its image {path} has {_size(image)}"
        raise DataError(Problem(str(mask_path), what, next_step="Save the map at the size of its image"))
    return DecodedImage(image, mask)


def may_have_pages(path: Path) -> bool:
    """Return whether the format of a file, as its name says, may hold several images."""
    return path.suffix.lower() in _WITH_PAGES


def count_pages(path: Path) -> int:
    """Return the number of images in a file, without decoding them; 1 where that cannot be found out."""
    try:
        check_regular(path)
        with Image.open(path) as file:
            return int(getattr(file, "n_frames", 1))
    except Exception:  # Pillow's readers raise many types; decoding reports the file
        return 1


def pages_note(paths: Sequence[Path]) -> str:
    """Return a sentence on files with several pages, of which the first is read; empty when there is none."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        counts = dict(zip(paths, threads.map(count_pages, paths), strict=True))
    if not (several := {path: count for path, count in counts.items() if count > 1}):
        return ""
    shown = [f"{printable(str(path))} ({count} pages)" for path, count in list(several.items())[:_NAMED]]
    more = ", ..." if len(several) > _NAMED else ""
    left = sum(several.values()) - len(several)
    counts_text = f"{count_noun(left, 'page')} of {count_noun(len(several), 'file')} {'is' if left == 1 else 'are'}"
    return f"Only the first page of a file is read: {counts_text} not read, of {', '.join(shown)}{more}."


def fit_image(
    image: PixelArray, load_size: int, resize: Resize, color: Color, aspect: Aspect = "stretch"
) -> PixelArray:
    """Return `image`, (H, W) or (H, W, 3) uint8, as (C, load_size, load_size) uint8.

    `stretch` keeps all of the image and changes its proportions; `crop` keeps the proportions and takes the largest
    square in the middle. Nearest neighbor reads pixel floor(i * side / load_size), as maps do. Bilinear widens its
    filter when it shrinks, as Pillow does. Area is the mean of the covered pixels, or bilinear when the image grows.
    """
    if aspect == "crop":
        image = _middle(image)
    picture = Image.fromarray(image).convert("L" if color == "gray" else "RGB")
    if picture.size != (load_size, load_size) and resize != "nearest":
        picture = picture.resize((load_size, load_size), _filter(resize, picture.size, load_size))
    array = np.asarray(picture)
    if resize == "nearest":
        rows, columns = (np.arange(load_size) * side // load_size for side in array.shape[:2])
        array = array[rows][:, columns]
    return np.ascontiguousarray(array[None] if color == "gray" else array.transpose(2, 0, 1))


def _middle(image: PixelArray) -> PixelArray:
    """Return the largest square in the middle."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _filter(resize: Resize, size: tuple[int, int], load_size: int) -> Image.Resampling:
    shrinks = min(size) >= load_size
    return Image.Resampling.BOX if resize == "area" and shrinks else Image.Resampling.BILINEAR


def _pixels_of(image: Image.Image) -> PixelArray:
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image))
    if _is_transparent(image):
        image = _over_white(image)
    return np.asarray(image if image.mode == "L" else image.convert("L" if image.mode == "1" else "RGB"))


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file: reading a named pipe would never end.

    Raises:
        OSError: it does not.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def _open(source: Path | io.BytesIO, name: object) -> Image.Image:
    try:
        if isinstance(source, Path):
            check_regular(source)
        with Image.open(source) as file:
            image = ImageOps.exif_transpose(file)
    except Exception as error:  # Pillow's readers raise many types; whichever it is, the file must be repaired
        raise DataError(_problem_of(error, str(name))) from error
    if image.mode == "F":
        what = "is a floating-point image, whose range is unknown"
        raise DataError(Problem(str(name), what, allowed="8 or 16 bits a channel", next_step="Convert the file"))
    return image


def _problem_of(error: Exception, name: str) -> Problem:
    if isinstance(error, OSError) and error.errno is not None:  # of the system; Pillow's own have no number
        return Problem(name, f"cannot be read ({error.strerror})", next_step="Make it readable, or remove it")
    what = f"does not decode as an image ({type(error).__name__}: {error})"
    return Problem(name, what, next_step="Replace the file or remove it")


def _from_16_bit(values: npt.NDArray[np.integer]) -> PixelArray:
    scaled: PixelArray = np.rint(np.clip(values, 0, 65535) / 257).astype(np.uint8)
    return scaled


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def _over_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _size(array: npt.NDArray[np.generic]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"

"""Image files as arrays: every file becomes 8-bit gray or RGB, then one size and one color.

Files that are not plain 8-bit RGB:
- EXIF orientation is applied to images, and to maps that are drawn on the image as it is stored.
- Transparent images are drawn over white.
- Values of more than 8 bits are brought to 8 by the data set's range; see `data.decoding.depth`.
- CMYK, palette, black-and-white and other modes are converted by Pillow; of several frames the first counts.

`data.decoding.maps` says what maps mark as anomalous.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.schema import Images
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.depth import DeepHeader, ValueRange, deep_header
from fcdd_sweep.data.decoding.maps import MapFile, MapRule, Mask, from_picture, from_values
from fcdd_sweep.data.decoding.reading import (
    LARGE_PIXELS,
    ONE_LARGE,
    DeepValues,
    check_regular,
    is_transparent,
    open_image,
    orientation_of,
    read_values,
    upright,
)
from fcdd_sweep.data.records import DecodedImage

DECODER_VERSION = 3
"""Raised by hand when this package returns other pixels for the same file."""
_WITH_PAGES = frozenset({".gif", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of formats that hold several images (PNG: animations); a phone's JPEG may too, but those are previews."""
_NAMED = 3
Resize = Literal["nearest", "bilinear", "area"]
Color = Literal["gray", "rgb"]
Aspect = Literal["stretch", "crop"]
PixelArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Decoding:
    """How all files of a data set are decoded.

    Attributes:
        value_range: of files of more than 8 bits; None where the data set has none.
        maps: what ground-truth maps mark.
        max_megapixels: larger files are refused.
    """

    value_range: ValueRange | None = None
    maps: MapRule = field(default_factory=MapRule)
    max_megapixels: float = float(Images.model_fields["max_megapixels"].default)


PLAIN = Decoding()


def read_image(path: Path, decoding: Decoding = PLAIN) -> PixelArray:
    """Return the image in a file: (H, W) gray or (H, W, 3) RGB uint8, upright.

    Raises:
        DataError: the file is missing, truncated, too large or not an image, or has more than 8 bits and the data set
            has no range for it; the problem names the path.
    """
    return read_picture(path, (), decoding).image


def decode_image(content: bytes, name: str, max_megapixels: float = PLAIN.max_megapixels) -> PixelArray:
    """Return the 8-bit image in a file's content, as `read_image` does; errors call the file `name`.

    Raises:
        DataError: as `read_image`.
    """
    return plain_pixels(_decoded(io.BytesIO(content), name, max_megapixels), name)


def read_picture(path: Path, mask_paths: Sequence[Path] = (), decoding: Decoding = PLAIN) -> DecodedImage:
    """Return an image with its map, if it has one; several maps are united.

    Raises:
        DataError: one of them does not decode, or their sizes differ.
    """
    header = _header(path)
    if header is None:
        image, clipped = plain_pixels(_decoded(path, path, decoding.max_megapixels), path), 0.0
        if decoding.value_range is not None and not decoding.value_range.mixes:
            raise DataError(shallow_problem(path, decoding.value_range))
    else:
        image, clipped = _from_deep(path, header, decoding)
    if not mask_paths:
        return DecodedImage(image, clipped=clipped)
    united = np.zeros(image.shape[:2], np.bool_)
    for mask_path in mask_paths:
        mask = read_mask(mask_path, decoding, stored_orientation(path), image.shape[:2])
        if mask.shape != image.shape[:2]:
            what = f"the map has {_size(mask)} pixels, but its image {path} has {_size(image)}"
            raise DataError(Problem(str(mask_path), what, next_step="Save the map at the size of its image"))
        united |= mask
    return DecodedImage(image, united, clipped)


def read_mask(
    path: Path, decoding: Decoding = PLAIN, orientation: int = 1, shape: tuple[int, ...] | None = None
) -> Mask:
    """Return the ground-truth map in a file: (H, W) bool, True where anomalous, upright as its image.

    Args:
        path: the map.
        decoding: of the data set.
        orientation: how EXIF turns the image, 1 to 8.
        shape: height and width of the upright image; None: unknown.
    Raises:
        DataError: as `read_image`.
    """
    content, turned = read_map(path, decoding.max_megapixels)
    mask = decoding.maps.mask(content)
    if turned or orientation == 1 or shape is None:
        return mask
    on_stored = drawn_on(mask.shape, shape, orientation)
    return upright(mask, orientation) if on_stored == "stored" or (on_stored and decoding.maps.stored) else mask


def read_map(path: Path, max_megapixels: float = PLAIN.max_megapixels) -> tuple[MapFile, bool]:
    """Return the values in a map's file, upright, and whether EXIF has turned them.

    Raises:
        DataError: as `read_image`.
    """
    header = _header(path)
    if header is not None:
        return from_values(deep_values(path, header, max_megapixels)), stored_orientation(path) != 1
    image = _decoded(path, path, max_megapixels)
    return from_picture(image, image.info["format"]), image.info["orientation"] != 1


def drawn_on(mask: tuple[int, ...], image: tuple[int, ...], orientation: int) -> str:
    """Return what a map that has no orientation of its own is drawn on, by its size.

    Args:
        mask: height and width of the map.
        image: of the upright image.
        orientation: how EXIF turns the image, 2 to 8.
    Returns:
        `upright`, `stored`, `unknown` where both have one size, or an empty text where the map has another one.
    """
    stored = image[::-1] if orientation >= 5 else image
    if mask == image:
        return "unknown" if stored == image else "upright"
    return "stored" if mask == stored else ""


def stored_orientation(path: Path) -> int:
    """Return how EXIF turns an image, 1 to 8; 1 where that cannot be read."""
    try:
        with Image.open(path) as image:
            return orientation_of(image)
    except Exception:  # a form that Pillow does not know, or a damaged file that decoding names
        return 1


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


def _header(path: Path) -> DeepHeader | None:
    try:
        check_regular(path)
        return deep_header(path)
    except OSError as error:
        raise _undecoded(path, error) from error


def _from_deep(path: Path, header: DeepHeader, decoding: Decoding) -> tuple[PixelArray, float]:
    """Return an image of more than 8 bits as uint8, and the share of its values outside of the range."""
    value_range = decoding.value_range
    if value_range is None:
        what = f"has {header.bits} bits per channel, and no range says which values become black and white"
        step = "Save it as the training images are, or set images.bit_depth or images.range and train with it"
        raise DataError(Problem(str(path), what, "8 bits, as the training images have", step))
    return deep_pixels(deep_values(path, header, decoding.max_megapixels), value_range)


def deep_pixels(values: DeepValues, value_range: ValueRange) -> tuple[PixelArray, float]:
    """Return values of more than 8 bits, (H, W) or (H, W, C) with C 2 to 4, as uint8, and the share that is clipped."""
    if values.ndim == 2 or values.shape[2] == 3:
        return value_range.to_8_bits(values)
    colors, clipped = value_range.to_8_bits(values[..., :-1])
    whole = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
    alpha = np.rint(values[..., -1:] * (255 / whole)).astype(np.uint8)
    layer = Image.fromarray(np.concatenate([colors.repeat(3, 2) if colors.shape[2] == 1 else colors, alpha], axis=2))
    return np.asarray(over_white(layer)), clipped


def deep_values(path: Path, header: DeepHeader, max_megapixels: float = PLAIN.max_megapixels) -> DeepValues:
    """Return the values of a file of more than 8 bits as `read_values` does.

    Raises:
        DataError: as `read_image`.
    """
    try:
        pixels = _count_pixels(path, max_megapixels)
        with ONE_LARGE if pixels > LARGE_PIXELS else nullcontext():
            return read_values(path, header)
    except DataError:
        raise
    except Exception as error:  # readers raise many types; whichever it is, the file must be repaired
        raise _undecoded(path, error) from error


def _count_pixels(path: Path, max_megapixels: float) -> int:
    """Return the number of pixels of a file; 0 where Pillow does not know its form."""
    try:
        with open_image(path, path, max_megapixels) as image:
            return image.width * image.height
    except UnidentifiedImageError:
        return 0


def plain_pixels(image: Image.Image, name: object) -> PixelArray:
    """Return an upright 8-bit image of any mode as (H, W) gray or (H, W, 3) RGB uint8.

    Raises:
        DataError: it has more than 8 bits.
    """
    if image.mode.startswith(("I", "F")):
        what = f"has pixels of the kind {image.mode}, more than 8 bits, in a form that is not read with all of them"
        raise DataError(Problem(str(name), what, "PNG, TIFF, PNM or JPEG 2000 of more than 8 bits", "Convert the file"))
    if is_transparent(image):
        image = over_white(image)
    return np.asarray(image if image.mode == "L" else image.convert("L" if image.mode == "1" else "RGB"))


def _decoded(source: Path | io.BytesIO, name: object, max_megapixels: float) -> Image.Image:
    """Return an upright image; its `info` holds `format` and `orientation` of the file."""
    try:
        with open_image(source, name, max_megapixels) as file:
            kind, turn = file.format, orientation_of(file)
            with ONE_LARGE if file.width * file.height > LARGE_PIXELS else nullcontext():
                image = ImageOps.exif_transpose(file)
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise many types; whichever it is, the file must be repaired
        raise _undecoded(name, error) from error
    image.info |= {"format": kind, "orientation": turn}
    return image


def _undecoded(name: object, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.errno is not None:  # of the system; Pillow's own have no number
        what, step = f"cannot be read ({error.strerror})", "Make it readable, or remove it"
    else:
        what, step = f"does not decode as an image ({type(error).__name__}: {error})", "Replace the file or remove it"
    return DataError(Problem(str(name), what, next_step=step))


def shallow_problem(name: object, value_range: ValueRange) -> Problem:
    """Return what is wrong with an 8-bit image beside training images of more bits."""
    what = f"has 8 bits, but the training images have more: {value_range}"
    step = "Save it as the training images are, or set images.bit_depth or images.range and train with it"
    return Problem(str(name), what, next_step=step)


def over_white(image: Image.Image) -> Image.Image:
    """Return a transparent image drawn over white, as RGB."""
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _size(array: npt.NDArray[np.generic]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"

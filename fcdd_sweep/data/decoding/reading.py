"""Image files before their values are changed: opening, size, orientation, and values of more than 8 bits.

Pillow reads gray PNG, TIFF and JPEG 2000 of more than 8 bits whole, and cuts or scales the values of all others. Of
color and transparent PNG it is therefore asked for high and low bytes apart; TIFF is read by tifffile, PNM here.
"""

from __future__ import annotations

import errno
import io
import stat
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.data.decoding.depth import DeepHeader, pnm_facts

Image.MAX_IMAGE_PIXELS = None  # `images.max_megapixels` takes its place; Pillow refuses scans of 179 megapixels
DeepValues = npt.NDArray[Any]
LARGE_PIXELS = 1 << 26
"""Images from this size on are decoded one at a time: eight of them at once may not fit in memory."""
ONE_LARGE = Lock()
_COLORS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file: reading a named pipe would never end.

    Raises:
        OSError: it does not.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def open_image(source: Path | io.BytesIO, name: object, max_megapixels: float) -> Image.Image:
    """Return an image whose pixels are not read yet.

    Raises:
        DataError: it is larger than allowed.
        Exception: of many types, where the file is missing or is not an image.
    """
    if isinstance(source, Path):
        check_regular(source)
    image = Image.open(source)
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        image.close()
        what = f"has {width}x{height} pixels, {width * height / 1e6:.4g} megapixels"
        step = "Raise images.max_megapixels if the file is sound"
        raise DataError(Problem(str(name), what, f"at most {max_megapixels:g} (images.max_megapixels)", step))
    return image


def read_values(path: Path, header: DeepHeader) -> DeepValues:
    """Return the values in a file, upright: (H, W) gray or (H, W, C) where C is 3, or 2 or 4 with transparency.

    Raises:
        Exception: of many types, where the file is damaged or in a form that no reader knows.
    """
    if header.kind == "PNM":
        return _pnm(path.read_bytes())
    if header.kind == "TIFF":
        return _tiff(path)
    with Image.open(path) as image:
        turn = orientation_of(image)
        if image.mode.startswith("I"):
            return upright(np.asarray(image), turn)
    return upright(_color_png(path), turn)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where the file names none."""
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return int(found) if found in range(1, 9) else 1


def is_transparent(image: Image.Image) -> bool:
    """Return whether pixels may be transparent, by a channel or by a color that counts as such."""
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def upright(values: DeepValues, orientation: int) -> DeepValues:
    """Return stored pixels, (H, W) or (H, W, C), turned and mirrored as their EXIF orientation says."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(values[::rows, ::columns])


def _color_png(path: Path) -> DeepValues:
    """Return the values of a PNG of 16 bits and 2 to 4 channels; Pillow's names of layouts choose the bytes."""
    with Image.open(path) as image:
        (tile,) = image.tile
    layout = str(tile[3])
    if layout == "LA;16B":  # as many bytes per pixel as four channels of 8 bits
        return np.ascontiguousarray(_bytes_of(path, "RGBA")).view(">u2").astype(np.uint16)
    high, low = (_bytes_of(path, f"{layout.removesuffix('B')}{end}") for end in "BL")
    return (high.astype(np.uint16) << 8) | low


def _bytes_of(path: Path, layout: str) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        (tile,) = image.tile
        make: Any = getattr(tile, "_make", tuple)  # Pillow 10 has plain tuples
        image.tile = [make((*tile[:3], layout))]
        return np.asarray(image)


def _pnm(content: bytes) -> DeepValues:
    width, height, _, begin = pnm_facts(content)
    channels = (3,) if content[1:2] in b"36" else ()
    shape = (height, width, *channels)
    if content[1:2] in b"23":
        return np.array(content[begin:].split()[: int(np.prod(shape))], np.uint16).reshape(shape)
    return np.frombuffer(content, ">u2", int(np.prod(shape)), begin).astype(np.uint16).reshape(shape)


def _tiff(path: Path) -> DeepValues:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert isinstance(page, tifffile.TiffPage)
        if page.photometric not in _COLORS:
            raise ValueError(f"colors of the kind {page.photometric!s} are read with 8 bits only")
        try:
            values = page.asarray()
        except (KeyError, ValueError, NotImplementedError):  # a compression for which tifffile needs imagecodecs
            with Image.open(path) as image:  # turns the image itself
                if image.mode.startswith(("I", "F")):
                    return np.asarray(image)
            raise
        tag = page.tags.get("Orientation")
        turn = 1 if tag is None or tag.value not in range(1, 9) else int(tag.value)
        return upright(np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values, turn)

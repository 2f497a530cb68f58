"""How many bits images have, and which of their values become black and white.

Files of 8 bits are taken as they are. Those of more (PNG, TIFF, PNM and JPEG 2000 of 9 to 32 bits, floating-point TIFF)
share one range per data set: its lower end becomes 0, its upper end 255, values outside are clipped and counted. The
range comes from the first of these that exists:

1. `images.range` or `images.bit_depth`
2. what all nominal training images declare: TIFF's BitsPerSample below 16 or its MinSampleValue and MaxSampleValue,
   PNM's largest value, PNG's sBIT. Files follow two conventions for sBIT: where no nominal training value exceeds
   2^sBIT - 1 that is the upper end, else 65535. A declaration of all that the format holds says nothing.
3. the values of the nominal training images: from their 0.1% to their 99.9% quantile, widened by half of that at either
   end, so that anomalies may be darker and brighter, and rounded outwards to whole numbers of the format

Test images never take part.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

RangeOrigin = Literal["images.bit_depth", "images.range", "declared", "measured"]
ValueCounts = npt.NDArray[np.int64]
LARGEST = 65535
"""Values above it are not measured: their number is not known to be counts of light."""
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_TAILS = 0.001
"""Share of the values at either end that may be dead or hot pixels."""


@dataclass(frozen=True)
class ValueRange:
    """The values of a data set's images of more than 8 bits that become 0 and 255.

    Attributes:
        low, high: in the files' own values; `low` is below `high`.
        origin: where they come from.
    """

    low: float
    high: float
    origin: RangeOrigin

    @property
    def mixes(self) -> bool:
        """Whether images of 8 bits may stand beside: not where the range is that of one camera's values."""
        return self.origin != "measured"

    def __str__(self) -> str:
        return f"values {self.low:g} to {self.high:g} become 0 to 255 ({self.origin})"

    def to_8_bits(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], float]:
        """Return values of any type as uint8, and the share of them that was outside of the range or not a number."""
        wide: npt.NDArray[np.floating] = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
        inside = (wide >= self.low) & (wide <= self.high)
        shares = (np.clip(wide, self.low, self.high) - self.low) / (self.high - self.low)
        return np.rint(np.nan_to_num(shares) * 255).astype(np.uint8), 1 - float(inside.mean())


@dataclass(frozen=True)
class DeepHeader:
    """What a file of more than 8 bits per channel says of its values.

    Attributes:
        kind: the format, for messages.
        bits: per channel.
        whole: whether the values are whole numbers from 0 to at most 65535.
        declared: the lowest and highest value, or None where the file does not say.
        significant: bits that PNG's sBIT names, or None.
    """

    kind: str
    bits: int
    whole: bool
    declared: tuple[float, float] | None = None
    significant: int | None = None

    @property
    def declares(self) -> bool:
        return self.declared is not None or self.significant is not None


def deep_header(path: Path) -> DeepHeader | None:
    """Return the header of a file of more than 8 bits per channel; None for all other files, readable or not.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        try:
            if head.startswith(_PNG):
                return _png_header(file) if head[24:25] == b"\x10" else None
            if head.startswith(_TIFF):
                return _tiff_header(file)
            if head[:2] in (b"P2", b"P3", b"P5", b"P6"):
                return _pnm_header(file)
            if head.startswith(_JPEG2000):
                with Image.open(file) as image:
                    return DeepHeader("JPEG 2000", 16, whole=True) if image.mode.startswith("I") else None
        except Exception:  # whatever is wrong with the file, decoding says so and names it
            return None
    return None


def _png_header(file: BinaryIO) -> DeepHeader:
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"sBIT":
            significant = max(file.read(length)[:3])  # of color; a fourth would be of transparency
            return DeepHeader("PNG", 16, whole=True, significant=significant if 8 <= significant < 16 else None)
        if kind in (b"IDAT", b"IEND"):
            break
        file.seek(length + 4, io.SEEK_CUR)
    return DeepHeader("PNG", 16, whole=True)


def _tiff_header(file: BinaryIO) -> DeepHeader | None:
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        bits = page.bitspersample
        bits = max(bits) if isinstance(bits, tuple) else bits
        if bits <= 8:
            return None
        whole = page.sampleformat in (1, 4) and bits <= 16  # whole numbers without a sign, or of unknown kind
        low, high = (_tag(page, f"{end}SampleValue", f"S{end}SampleValue") for end in ("Min", "Max"))
        declared = None
        if high is not None and high > (low or 0.0) and not (whole and high >= LARGEST):
            declared = (low or 0.0, high)
        elif whole and bits < 16:
            declared = (0.0, 2.0**bits - 1)
        return DeepHeader("TIFF", bits, whole, declared)


def _tag(page: tifffile.TiffPage | tifffile.TiffFrame, *names: str) -> float | None:
    assert isinstance(page, tifffile.TiffPage)
    for name in names:
        if (tag := page.tags.get(name)) is not None:
            return float(max(tag.value) if isinstance(tag.value, tuple) else tag.value)
    return None


def _pnm_header(file: BinaryIO) -> DeepHeader | None:
    largest = pnm_facts(file.read(1 << 16))[2]
    declared = (0.0, float(largest)) if largest < LARGEST else None
    return DeepHeader("PNM", 16, whole=True, declared=declared) if largest > 255 else None


def pnm_facts(content: bytes) -> tuple[int, int, int, int]:
    """Return width, height and largest value of a PNM file, and where its pixels begin."""
    words: list[int] = []
    at = 2
    while len(words) < 3:
        if content[at : at + 1] == b"#":
            at = content.index(b"\n", at)
        elif content[at : at + 1].isspace():
            at += 1
        else:
            end = at
            while content[end : end + 1].isdigit():
                end += 1
            words.append(int(content[at:end]))
            at = end
    return words[0], words[1], words[2], at + 1


def measured(counts: ValueCounts) -> ValueRange:
    """Return the range of nominal training values; `counts` is (65536,), how often each value occurs."""
    total = np.cumsum(counts)
    low = int(np.searchsorted(total, _TAILS * total[-1], side="right"))
    high = int(np.searchsorted(total, (1 - _TAILS) * total[-1], side="left"))
    margin = max(-(-(high - low) // 2), 1)
    return ValueRange(max(low - margin, 0), min(high + margin, LARGEST), "measured")


def declared_range(headers: Iterator[DeepHeader], counts: ValueCounts | None) -> ValueRange:
    """Return the range that files declare together.

    Args:
        headers: of the nominal training images; all of them declare a range.
        counts: (65536,), how often each of their values occurs; needed only where one of them has an sBIT.
    """
    lows, highs = [], []
    largest = 0 if counts is None else int(np.flatnonzero(counts).max(initial=0))
    for header in headers:
        if header.declared is not None:
            lows.append(header.declared[0])
            highs.append(header.declared[1])
        else:
            limit = 2 ** (header.significant or 16) - 1
            lows.append(0.0)
            highs.append(float(limit if largest <= limit else LARGEST))
    return ValueRange(min(lows), max(highs), "declared")

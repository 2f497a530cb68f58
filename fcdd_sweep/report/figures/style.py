"""The look of figures, and how they are saved as files or embedded in a page.

Figures are made by matplotlib's object interface alone: workers draw in threads, and pyplot keeps global state.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from fcdd_sweep.report.figures.fonts import families, make_drawable
from fcdd_sweep.results.files import write_atomically

# Outlines of the characters in use: embedding a part of a TrueType font takes as long as the rest of a figure.
matplotlib.rcParams["pdf.fonttype"] = 3
# Names inside an SVG are random otherwise, and the same files would give different pages.
matplotlib.rcParams["svg.hashsalt"] = "fcdd_sweep"
matplotlib.rcParams["font.family"] = families()
DPI = 200
TITLE_PT, TEXT_PT, SMALL_PT = 10.5, 9.0, 7.5
INK, FAINT_INK, GRID = "#1b1f24", "#6a737d", "#e3e6ea"
LINE_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#7F3C8D",
    "#8C564B",
    "#7A8B00",
    "#5F6B7A",
)
"""Most color-blind readers can distinguish them; the first six are those of Okabe and Ito."""
_PNG_LEVEL = 1
"""A higher level takes several times as long and saves a few percent."""
_OPTIONS: dict[str, dict[str, Any]] = {
    ".pdf": {"metadata": {"CreationDate": None}},
    ".png": {"dpi": DPI, "pil_kwargs": {"compress_level": _PNG_LEVEL}},
}


@dataclass(frozen=True)
class Look:
    """Sizes of a plot.

    Attributes:
        width_in: of its axes with their names, in inches; a legend beside them comes on top.
        height_in: of the same.
        title: whether it has one inside.
        text_pt, small_pt: sizes of names, and of numbers and legends.
        line: factor on widths of lines.
    """

    width_in: float = 4.6
    height_in: float = 4.9
    title: bool = True
    text_pt: float = TEXT_PT
    small_pt: float = SMALL_PT
    line: float = 1.0


SCREEN = Look()
PAPER = Look(width_in=3.3, height_in=3.1, title=False, text_pt=8.0, small_pt=8.0, line=0.8)
"""A column of a paper is 3.3 in wide; its caption says what a title would."""
LOOKS = {"screen": SCREEN, "paper": PAPER}


def use_look(name: str) -> Look:
    """Return a look by its name, and embed the fonts of PDFs as it needs them: publishers ask for TrueType text.

    This holds for the whole process, so call it before figures are drawn, not among threads that draw.
    """
    matplotlib.rcParams["pdf.fonttype"] = 42 if name == "paper" else 3
    return LOOKS[name]


DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))


def line_style(index: int) -> dict[str, Any]:
    """Return color and dashes of the index-th line; the first 30 differ."""
    return {
        "color": LINE_COLORS[index % len(LINE_COLORS)],
        "linestyle": DASHES[index // len(LINE_COLORS) % len(DASHES)],
    }


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure of this size in inches, whose axes are laid out without overlaps."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    # laid out at the resolution of the PNG: widths of text depend on it, and labels would be clipped
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout, facecolor="white")


def dress(ax: Any, *, title: str, x: str, y: str, look: Look = SCREEN) -> None:
    """Set title, axis names, a light grid and the left and bottom frame lines."""
    if look.title:
        ax.set_title(title, fontsize=TITLE_PT, color=INK, loc="left")
    ax.set_xlabel(x, fontsize=look.text_pt, color=INK)
    ax.set_ylabel(y, fontsize=look.text_pt, color=INK)
    ax.tick_params(labelsize=look.small_pt, colors=INK, length=3)
    ax.grid(color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def lay_out(figure: Figure) -> Figure:
    """Fix the margins of a figure that is saved twice: finding them takes as long as drawing."""
    make_drawable(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, without a date: the same files give the same figure."""
    make_drawable(figure)
    return write_atomically(path, lambda temporary: figure.savefig(temporary, **_OPTIONS[path.suffix]))


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Write an RGB image as a PNG of `DPI` dots per inch."""
    return write_atomically(path, lambda temporary: temporary.write_bytes(png_bytes(np.asarray(picture))))


_DOTS_PER_METER = round(DPI / 0.0254)


def png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return (H, W, 3) pixels as a PNG.

    Each row is stored as its difference to the row above (filter 2): Pillow tries five filters on each row, which takes
    twice as long as all else and saves nothing where pixels are repeated.
    """
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, -1)
    rows = np.full((height, 1 + flat.shape[1]), 2, np.uint8)
    rows[:1, 1:] = flat[:1]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    density = struct.pack(">IIB", _DOTS_PER_METER, _DOTS_PER_METER, 1)
    data = zlib.compress(rows, _PNG_LEVEL)
    parts = {b"IHDR": header, b"pHYs": density, b"IDAT": data, b"IEND": b""}
    chunks = [len(part).to_bytes(4) + name + part + zlib.crc32(name + part).to_bytes(4) for name, part in parts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def as_svg_uri(figure: Figure) -> str:
    """Return a figure as a `data:` address for a page."""
    make_drawable(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def plain_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure whose axes are placed by `place_axes`: laying one out takes as long as drawing it."""
    return Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")


def place_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Any:
    """Return new axes at a place in inches from the lower left corner."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def as_jpeg_uri(path: Path, width_px: int = 1500) -> str:
    """Return a PNG on disk as the `data:` address of a smaller JPEG: a page with many must stay easy to send."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((width_px, 20 * width_px))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=85, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

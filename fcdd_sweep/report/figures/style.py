"""How figures look, and how they become files or parts of a page.

Figures are made by matplotlib's object interface alone: workers draw in threads, and pyplot keeps global state.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from fcdd_sweep.results.files import write_atomically

# TrueType text is what publishers ask for. Set once here: switching it around each file is not safe among threads.
matplotlib.rcParams["pdf.fonttype"] = 42
# Names inside an SVG are drawn by chance otherwise, and the same files would not give the same page.
matplotlib.rcParams["svg.hashsalt"] = "fcdd_sweep"
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
"""Told apart by most color-blind readers."""
_OPTIONS: dict[str, dict[str, Any]] = {
    ".pdf": {"metadata": {"CreationDate": None}},
    # higher levels of compression take several times as long for a few percent of size
    ".png": {"dpi": DPI, "pil_kwargs": {"compress_level": 1}},
}
DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))


def line_style(index: int) -> dict[str, Any]:
    """Color and dashes of the index-th line: 30 that differ."""
    return {
        "color": LINE_COLORS[index % len(LINE_COLORS)],
        "linestyle": DASHES[index // len(LINE_COLORS) % len(DASHES)],
    }


def new_figure(width_in: float, height_in: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    # laid out at the resolution of the PNG: widths of text depend on it, and labels would be cut
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout=layout, facecolor="white")


def dress(ax: Any, *, title: str, x: str, y: str) -> None:
    """Title, axis names, a quiet grid and frame."""
    ax.set_title(title, fontsize=TITLE_PT, color=INK, loc="left")
    ax.set_xlabel(x, fontsize=TEXT_PT, color=INK)
    ax.set_ylabel(y, fontsize=TEXT_PT, color=INK)
    ax.tick_params(labelsize=SMALL_PT, colors=INK, length=3)
    ax.grid(color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def settle(figure: Figure) -> Figure:
    """Lay the figure out once: it is saved twice, and finding its margins costs as much as drawing it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as its ending says, without a date in it: the same files give the same picture."""
    return write_atomically(path, lambda aside: figure.savefig(aside, **_OPTIONS[path.suffix]))


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Write a picture that is no figure as a PNG."""
    return write_atomically(path, lambda aside: picture.save(aside, **_OPTIONS[".png"]["pil_kwargs"]))


def as_svg_uri(figure: Figure) -> str:
    """The figure as a `data:` address for a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def as_jpeg_uri(path: Path, width_px: int = 1500) -> str:
    """A PNG on disk as a `data:` address of a smaller JPEG: a page with many of them must stay easy to send."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((width_px, 20 * width_px))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=85, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Where the texts of a figure are, in inches."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fcdd_sweep.report.figures.lettering import text_width
from fcdd_sweep.report.figures.plot_frame import Lettering
from fcdd_sweep.report.figures.style import DPI


def placed_texts(figure: Figure) -> dict[str, Bbox]:
    """Return the place of each text of frames in a figure by its words; of equal ones that of the last."""
    lines = [line for artist in figure.artists if isinstance(artist, Lettering) for line in artist.lines]
    found = {}
    for line in lines:
        width = text_width(line.text, round(line.size * DPI / 72)) / DPI
        across, up = (line.size / 72, width) if line.is_upright else (width, line.size / 72)
        found[line.text] = Bbox.from_bounds(line.x - (across if line.is_upright else 0), line.y, across, up)
    return found

"""Frames of plots: everything is drawn where it is said to be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.report.figures.plot_frame import FrameAxis, LegendEntry, PlotFrame, WrittenLine, legend_size
from fcdd_sweep.report.figures.style import DPI, SCREEN, plain_figure
from tests.report.figures.placed import placed_texts

X = FrameAxis("across", 0.0, 10.0, (0.0, 5.0, 10.0), ("0", "5", "10"))
Y = FrameAxis("up", 0.1, 1000.0, (1.0, 100.0), ("1", "100"), is_log=True)


def frame():
    return PlotFrame(plain_figure(4.0, 3.0), 1.0, 0.75, 2.5, 2.0, X, Y, SCREEN)


def ink(figure):
    """Return left, bottom, right and top of everything that is dark, in inches."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    dark = np.asarray(Image.open(buffer).convert("L")) < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    height = dark.shape[0]
    return np.array([columns[0], height - 1 - rows[-1], columns[-1] + 1, height - rows[0]]) / DPI


def test_places_follow_linear_and_logarithmic_axes():
    np.testing.assert_allclose(frame().places([0, 5, 10], [0.1, 10, 1000]), [[1, 0.75], [2.25, 1.75], [3.5, 2.75]])


def test_a_line_and_a_band_are_drawn_at_their_places():
    plot = frame()
    plot.line([2.0, 8.0], [1.0, 100.0], color="black", linewidth=1, solid_capstyle="butt")
    np.testing.assert_allclose(ink(plot.figure), [1.5, 1.25, 3.0, 2.25], atol=0.01)
    plot = frame()
    plot.band([0.0, 5.0], [1.0, 1.0], [10.0, 100.0], facecolor="black", linewidth=0)
    np.testing.assert_allclose(ink(plot.figure), [1.0, 1.25, 2.25, 2.25], atol=0.01)


@pytest.mark.parametrize("is_upright", [False, True])
def test_a_text_stands_on_its_base_line_as_wide_as_it_is_measured(is_upright):
    plot = frame()
    plot.write([WrittenLine("HEIGHT", 2.0, 1.0, 20.0, is_upright=is_upright)])
    box = placed_texts(plot.figure)["HEIGHT"]
    left, bottom, right, top = ink(plot.figure)
    if is_upright:
        assert (right, bottom, top) == pytest.approx((2.0, 1.0, box.y1), abs=0.05)
    else:
        assert (left, bottom, right) == pytest.approx((2.0, 1.0, box.x1), abs=0.05)
        assert top - bottom == pytest.approx(0.73 * 20 / 72, abs=0.02)  # DejaVu's capitals


def test_numbers_are_centered_at_their_ticks_and_names_at_their_axes():
    plot = frame()
    plot.draw("a title")
    texts = placed_texts(plot.figure)
    middles = {text: ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for text, box in texts.items()}
    assert [middles[text][0] for text in ("0", "5", "10", "across")] == pytest.approx([1.0, 2.25, 3.5, 2.25], abs=0.01)
    assert [middles[text][1] for text in ("1", "100")] == pytest.approx([1.25, 2.25], abs=0.03)
    assert middles["up"][1] == pytest.approx(1.75, abs=0.01)
    assert texts["up"].x1 <= texts["100"].x0 and texts["100"].x1 < 1.0
    assert texts["across"].y1 <= texts["5"].y0 and texts["a title"].y0 > 2.75


def test_a_legend_is_as_large_as_it_says_and_has_the_styles_of_its_lines():
    plot = frame()
    entries = [
        LegendEntry("first", {"color": "#ff0000"}),
        LegendEntry("the second one", {"facecolor": "#0000ff"}, is_area=True),
    ]
    labels = [entry.label for entry in entries]
    plot.legend(entries, plot.corner(labels))
    width, height = legend_size(labels, SCREEN)
    left, top = plot.corner(labels)
    assert 3.4 < left + width < 3.5 and 0.75 < top - height < 0.85
    texts = placed_texts(plot.figure)
    assert all(left < texts[label].x0 and texts[label].x1 < left + width for label in labels)
    assert top - height < texts["the second one"].y0 < texts["first"].y0 < top
    buffer = io.BytesIO()
    plot.figure.savefig(buffer, format="png", dpi=DPI)
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    red = np.argwhere((pixels[..., 0] > 200) & (pixels[..., 2] < 80))
    blue = np.argwhere((pixels[..., 2] > 200) & (pixels[..., 0] < 80))
    assert len(red) and len(blue) and red[:, 0].max() < blue[:, 0].min()
    assert left < blue[:, 1].min() / DPI and blue[:, 1].max() / DPI < texts["the second one"].x0

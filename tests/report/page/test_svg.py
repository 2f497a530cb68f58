"""Plots within a page: paths of few characters, at the places of their points."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fcdd_sweep.report.page.cells import span_of
from fcdd_sweep.report.page.svg import Line, PlotScale, fitted, histogram, line_plot, path_data


def points_of(path):
    """Return the points of a path by the rules of SVG: M and l with pairs, h, v; numbers may follow without a space."""
    number = r"-?(?:\d+\.\d+|\.\d+|\d+)"
    place, found = np.zeros(2), []
    for letter, rest in re.findall(r"([Mlhv])([^Mlhv]*)", path):
        values = [float(value) for value in re.findall(number, rest)]
        step = {"h": lambda v: (v[0], 0.0), "v": lambda v: (0.0, v[0])}.get(letter, lambda v: tuple(v))(values)
        place = np.array(step) if letter == "M" else place + step
        found.append(place)
    return np.array(found)


@pytest.mark.parametrize(
    ("values", "fit", "column"),
    [
        ([1.0], (0.5, 1.0), (0.98, 1.0)),
        ([0.0], (0.0, 0.5), (0.0, 0.02)),
        ([0.5, 1.0], (0.48, 1.0), (0.5, 1.0)),
        ([3.0], (2.5, 3.5), (2.98, 3.02)),
        ([-1.0, 1.0], (-1.08, 1.08), (-1.0, 1.0)),
    ],
)
def test_scales_of_shares_end_at_0_and_1(values, fit, column):
    scale, span = fitted("AUROC", values), span_of(values)
    assert (scale.low, scale.high) == pytest.approx(fit) and (span.low, span.high) == pytest.approx(column)


def test_a_path_goes_through_its_points_to_a_tenth_without_adding_up_what_is_rounded():
    rng = np.random.default_rng(0)
    xs, ys = np.cumsum(rng.normal(0, 3, 300)), np.cumsum(rng.normal(0, 3, 300))
    path = path_data(xs, ys)
    found = points_of(path)
    assert len(found) == 300
    np.testing.assert_allclose(found, np.stack([xs, ys], 1), atol=0.0501)
    assert len(path) < 0.8 * len("L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)))


@pytest.mark.parametrize(
    ("points", "path"),
    [
        ([], ""),
        ([(1.0, 20.0)], "M1 20h.1"),
        ([(0.5, 1.0), (0.5, 0.7), (10.5, 0.7), (11.0, 2.7), (10.96, 2.7)], "M.5 1v-.3h10l.5 2"),
        ([(0.0, 0.0), (1.0, -0.1)], "M0 0l1-.1"),
    ],
)
def test_steps_along_an_axis_and_zeros_are_short_and_a_single_point_is_a_dot(points, path):
    xs, ys = np.array(points, float).reshape(-1, 2).T
    assert path_data(xs, ys) == path


def test_a_line_leaves_out_gaps_and_a_band_is_closed():
    x, y = np.array([0.0, 0.25, 0.5, 1.0]), np.array([0.0, np.nan, 0.5, 1.0])
    band = (np.zeros(4), np.ones(4))
    drawn = str(line_plot("alt", [Line("a", x, y, True, band)], PlotScale("x", 0, 1), PlotScale("y", 0, 1)))
    area, line = re.findall(r'<path d="([^"]*)"', drawn)
    np.testing.assert_allclose(points_of(line), [[48, 212], [186, 111], [324, 10]], atol=0.06)
    assert area.endswith("Z")
    np.testing.assert_allclose(points_of(area[:-1])[[0, 3, 4, 7]], [[48, 212], [324, 212], [324, 10], [48, 10]])
    assert drawn.count("alt") == 1


def test_a_histogram_starts_and_ends_on_the_floor_and_is_as_high_as_its_shares():
    drawn = str(histogram("alt", [("nominal", np.array([0.0, 0.0, 0.0, 1.0]))], "score", None))
    (outline,) = re.findall(r'<path d="([^"]*)Z"', drawn)
    found = points_of(outline)
    assert found[0, 1] == pytest.approx(212) and found[-1, 1] == pytest.approx(212)
    assert found[:, 1].min() == pytest.approx(212 - 202 / 1.08, abs=0.06)  # three quarters, the largest share

"""Thinned curves keep their area, mean curves their end points."""

from __future__ import annotations

import numpy as np
import pytest

from fcdd_sweep.metrics import curves, ranking


def roc(n, seed=0, shift=1.0, levels=None):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    score = rng.normal(size=n) + shift * label
    return ranking.rank(score if levels is None else np.round(score * levels), label).roc


@pytest.mark.parametrize("full", [roc(200_000), roc(200_000, shift=4), roc(5000, levels=2), roc(30)])
def test_thinning_keeps_area_and_end_points(full):
    thin = curves.thin_curve(*full)
    assert len(thin.x) <= 1000
    assert abs(ranking.area(thin.x, thin.y) - ranking.area(full.x, full.y)) <= curves.AREA_TOLERANCE
    assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1]) == (0, 0, 1, 1)
    assert thin.threshold[0] == np.inf and thin.threshold[-1] == full.threshold[-1]


def test_thinning_twice_gives_the_same_points():
    full = roc(50_000)
    np.testing.assert_array_equal(np.stack(curves.thin_curve(*full)), np.stack(curves.thin_curve(*full)))


def test_points_in_the_middle_of_straight_lines_go_and_corners_stay():
    x, y = np.array([0, 0, 0, 0.5, 1.0]), np.array([0, 0.4, 0.8, 0.8, 1.0])
    thin = curves.thin_curve(x, y, np.array([np.inf, 4, 3, 2, 1]))
    assert thin.x.tolist() == [0, 0, 0.5, 1]
    assert thin.threshold.tolist() == [np.inf, 3, 2, 1]


def test_long_steps_keep_both_corners():
    small = np.linspace(0, 0.2, 4001)
    x, y = np.concatenate([small, [0.9, 0.95, 1.0]]), np.concatenate([small, [0.3, 0.9, 1.0]])
    thin = curves.thin_curve(x, y, -np.arange(len(x), dtype=float), points=100)
    assert {(0.2, 0.2), (0.9, 0.3), (0.95, 0.9)} <= set(zip(thin.x, thin.y, strict=True))


def test_a_curve_for_which_the_points_are_too_few_keeps_more():
    # A long staircase whose kept points would all be on its lower side.
    x = np.repeat(np.linspace(0, 1, 31), 2)[1:]
    y = np.repeat(np.linspace(0, 1, 31), 2)[:-1]
    thin = curves.thin_curve(x, y, -np.arange(len(x), dtype=float), points=4)
    assert len(thin.x) > 4
    assert abs(ranking.area(thin.x, thin.y) - ranking.area(x, y)) <= curves.AREA_TOLERANCE


def test_undefined_curves_shrink_to_their_end_points():
    thin = curves.thin_curve(*ranking.rank(np.arange(9.0), np.zeros(9, int)).roc)
    assert len(thin.x) == 2 and np.isnan(thin.y).all()


def test_vertical_jumps_count_with_their_upper_value():
    x, y = np.array([0, 0, 0.5, 0.5, 1]), np.array([0, 0.2, 0.4, 0.8, 1])
    np.testing.assert_allclose(
        curves.true_positive_rate_at(x, y, np.array([0, 0.25, 0.5, 0.75, 1])), [0.2, 0.3, 0.8, 0.9, 1]
    )


def test_mean_roc_keeps_both_end_points():
    mean = curves.mean_curve([roc(40, seed)[:2] for seed in range(3)])
    assert (mean.x[0], mean.mean[0], mean.x[-1], mean.mean[-1]) == (0, 0, 1, 1)
    assert mean.n == 3
    assert (np.diff(mean.mean) >= 0).all()


def test_mean_is_taken_at_equal_false_positive_rate():
    low, high = (np.array([0.0, 1.0]), np.array([0.0, 1.0])), (np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    mean = curves.mean_curve([low, high], np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(mean.mean, [0, 0.5, 0.75, 1])
    np.testing.assert_allclose(mean.std[1:3], [np.sqrt(0.5), np.sqrt(0.125)])


def test_curves_of_unlike_length_average_to_their_areas_mean():
    given = [roc(n, n) for n in (50, 400, 3000)]
    mean = curves.mean_curve([(curve.x, curve.y) for curve in given])
    expected = np.mean([ranking.area(curve.x, curve.y) for curve in given])
    assert ranking.area(mean.x, mean.mean) == pytest.approx(expected, abs=2e-3)


def test_one_curve_has_no_spread_and_none_is_an_error():
    assert np.isnan(curves.mean_curve([roc(30)[:2]]).std).all()
    with pytest.raises(ValueError, match="at least one"):
        curves.mean_curve([])

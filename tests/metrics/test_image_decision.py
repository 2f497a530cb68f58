"""Decisions about one image, and votes of several."""

import math

import numpy as np
import pytest

from fcdd_sweep.metrics.image_decision import closed, decide, vote


def heatmap(spots):
    values = np.zeros((10, 10), np.float32)
    for top, left in spots:
        values[top : top + 2, left : left + 2] = 9
    return values


def test_label_and_mask_follow_their_thresholds():
    found = decide(0.6, heatmap([(0, 0), (5, 5)]), 0.5, 4.0)
    assert found[:8] == (1, 0.5, 9.0, 4.0, True, 2, 0.08, True)
    np.testing.assert_array_equal(found.mask, heatmap([(0, 0), (5, 5)]) == 9)
    assert decide(0.5, heatmap([]), 0.5, 4.0)[:8] == (0, 0.5, 0.0, 4.0, False, 0, 0.0, True)


def test_bumps_of_neighboring_cells_are_one_region():
    """Cells of 4 px whose bumps are 2 px wide: dots of one defect, and another one two cells away."""
    dots = heatmap([(0, 0), (0, 4), (4, 0), (4, 4)])
    apart, together = decide(0.6, dots, 0.5, 4.0), decide(0.6, dots, 0.5, 4.0, cell_px=4)
    assert (apart.n_regions, apart.region_area) == (4, 0.16)
    assert (together.n_regions, together.region_area) == (1, 0.36)
    np.testing.assert_array_equal(together.mask, np.pad(np.ones((6, 6), bool), (0, 4)))
    assert decide(0.6, heatmap([(0, 0), (0, 8)]), 0.5, 4.0, cell_px=4).n_regions == 2


@pytest.mark.parametrize("cell_px", [1, 2, 3, 8])
def test_closing_takes_no_pixel_away_and_adds_none_to_nothing(cell_px):
    masks = np.random.default_rng(0).random((3, 1, 20, 20)) < 0.05
    masks[1] = False
    found = closed(masks, cell_px)
    assert found.shape == masks.shape and found[masks].all() and not found[1].any()
    np.testing.assert_array_equal(closed(found, cell_px), found)
    np.testing.assert_array_equal(found[0], closed(masks[0], cell_px))
    assert (found == masks).all() == (cell_px == 1)


@pytest.mark.parametrize(("threshold", "pixel_threshold"), [(math.nan, 4.0), (0.5, math.nan), (math.nan, math.nan)])
def test_without_a_threshold_nothing_is_decided_by_it(threshold, pixel_threshold):
    found = decide(0.6, heatmap([(0, 0)]), threshold, pixel_threshold)
    assert (found.label is None) == (found.threshold is None) == math.isnan(threshold)
    assert (
        (found.mask is None) == (found.has_region is None) == (found.n_regions is None) == math.isnan(pixel_threshold)
    )
    assert found.agrees is None


def test_at_least_half_of_the_votes_decide_label_and_each_pixel():
    spots = [[(0, 0), (5, 5)], [(0, 0)], [], [(0, 0), (5, 5), (8, 0)]]
    decisions = [decide(s, heatmap(at), 0.5, 4.0) for s, at in zip((0.9, 0.1, 0.2, 0.8), spots, strict=True)]
    found = vote(decisions, 7.0)
    assert (found.label, found.agreement, found.n_regions, found.region_area) == (1, 0.5, 2, 0.08)
    assert (found.threshold, found.pixel_threshold, found.heatmap_max) == (None, None, 7.0)
    found = vote(decisions[:3], 7.0)
    assert (found.label, found.n_regions, found.agrees) == (0, 1, False)
    assert found.agreement == pytest.approx(2 / 3)


def test_a_detector_without_a_threshold_leaves_all_without_a_decision():
    decisions = [decide(0.9, heatmap([]), 0.5, 4.0), decide(0.9, heatmap([]), math.nan, 4.0)]
    found = vote(decisions, 0.0)
    assert (found.label, found.agreement, found.agrees) == (None, None, None) and found.has_region is False

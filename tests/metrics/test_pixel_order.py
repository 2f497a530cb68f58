"""Cells and pixels in order of their scores: the same counts as `ranking.rank`, whatever the scores are."""

import numpy as np
import pytest

from fcdd_sweep.metrics import pixel_truth
from fcdd_sweep.metrics.pixel_columns import PixelResult
from fcdd_sweep.metrics.pixel_order import SortedCells, counts_above, descending_keys, order_of, rank_pixels, scores_of
from fcdd_sweep.metrics.pixel_truth import FullTruth, MaskedImage, PixelTruth
from fcdd_sweep.metrics.ranking import rank
from tests.metrics.test_pixel_figures import SIDE, SIZES, made


@pytest.mark.parametrize("shift", [0.0, -0.5], ids=["positive", "negative, too"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "too many counts to pack"])
def test_the_ranking_of_cells_is_bit_for_bit_that_of_their_counts(monkeypatch, packed, shift):
    if not packed:
        monkeypatch.setattr(pixel_truth, "_CODE_BITS", 4)
    heat, given = made(SIZES["mixed"], 7)
    heat += np.float32(shift)
    truth = PixelTruth.of(given, SIDE)
    assert (truth.codes is not None) == packed
    cells = SortedCells(heat.reshape(len(heat), -1), truth)
    expected = rank(heat.ravel(), truth.positive.ravel(), truth.negative.ravel())
    for name in ("true_positives", "false_positives", "threshold"):
        assert np.array_equal(getattr(cells.ranking, name), getattr(expected, name)), name
    for threshold in (-1.0, 0.0, 0.3, float(heat.max()), 9.0):
        above = heat.reshape(len(heat), -1) > threshold
        assert cells.passed(threshold) == (truth.positive[above].sum(), truth.negative[above].sum())
    for group in (None, 1, 2):
        ranked = cells.ranked(group)
        part = np.flatnonzero(np.isin(truth.group, (0, group))) if group else np.arange(len(heat))
        free, score = truth.negative[part].ravel(), heat[part].ravel()
        highest = score[np.flatnonzero(truth.positive[part].ravel())].max()
        assert ranked.above[0] == free[score > highest].sum() and ranked.upto[0] == free[score >= highest].sum()
        assert ranked.negatives == free.sum()


def test_a_defect_type_without_ground_truth_has_no_figures():
    heat, given = made(SIZES["mixed"], 7)
    result = PixelResult.of(heat.reshape(len(heat), -1), PixelTruth.of(given, SIDE)).defect(9)
    assert result and all(np.isnan(value) for value in result.values())


def test_a_defect_type_in_the_first_images_has_their_regions_alone():
    """Its cells are numbered like those of a whole data set."""
    whole = np.ones((SIDE, SIDE), np.uint8)
    corner = np.zeros((SIDE, SIDE), np.uint8)
    corner[:2, :2] = 1
    truth = PixelTruth.of([MaskedImage(1, (SIDE, SIDE), whole), MaskedImage(2, (SIDE, SIDE), corner)], SIDE)
    cells = SortedCells(np.linspace(0, 1, 2 * SIDE * SIDE, dtype=np.float32).reshape(2, -1), truth)
    assert cells.ranked(1).regions.area.tolist() == [SIDE * SIDE] and cells.ranked(2).regions.area.tolist() == [4]


def test_keys_order_scores_from_the_highest_to_the_lowest_and_give_them_back():
    scores = np.array([0.5, -0.0, 3e38, -2.0, 0.0, 1e-45, -1e-45], np.float32)
    keys = descending_keys(scores)
    assert scores[order_of(keys)].tolist() == sorted(scores.tolist(), reverse=True)
    assert np.array_equal(scores_of(keys), scores) and keys[1] == keys[4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    heat, given = made(SIZES["odd"], 7)
    heat[4, 2, 2] = value
    with pytest.raises(ValueError, match="scores must be finite, but 1 of 324 are not"):
        SortedCells(heat.reshape(len(heat), -1), PixelTruth.of(given, SIDE))
    one = MaskedImage(0, (SIDE, SIDE), None)
    with pytest.raises(ValueError, match="scores must be finite, but 1 of 36 are not"):
        rank_pixels([heat[4]], FullTruth.of([one]))


def test_heatmaps_of_another_size_than_the_ground_truth_are_refused():
    _, given = made(SIZES["odd"], 7)
    with pytest.raises(ValueError, match=r"heatmaps are \(9, 25\), but the ground truth is \(9, 36\)"):
        SortedCells(np.zeros((9, 25), np.float32), PixelTruth.of(given, SIDE))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_places_are_those_of_a_plain_search(count):
    rng = np.random.default_rng(count)
    values = np.sort(rng.integers(0, 40, count)).astype(np.float32)
    sought = np.arange(45, -3, -0.5, np.float32)
    at_least, higher = counts_above(values, sought)
    assert at_least.tolist() == [np.sum(values >= score) for score in sought]
    assert higher.tolist() == [np.sum(values > score) for score in sought]

"""Pixel counts, pictured images, colors and statistics over seeds."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from fcdd_sweep.metrics import cell_counts, heatmap_values, ranking, shown_images, statistics


def brute_counts(mask, size):
    height, width = mask.shape
    positive, total = np.zeros((size, size), int), np.zeros((size, size), int)
    for y in range(height):
        for x in range(width):
            cell = y * size // height, x * size // width
            total[cell] += 1
            positive[cell] += bool(mask[y, x])
    return positive, total


@pytest.mark.parametrize("shape", [(30, 30), (7, 41), (64, 20), (5, 5), (28, 28), (61, 33)])
def test_cell_counts_are_those_of_counting_pixel_by_pixel(shape):
    mask = np.random.default_rng(sum(shape)).random(shape) < 0.3
    positive, total = cell_counts.cell_counts(mask, 14)
    expected = brute_counts(mask, 14)
    np.testing.assert_array_equal(positive, expected[0])
    np.testing.assert_array_equal(total, expected[1])
    assert total.sum() == mask.size and positive.sum() == mask.sum()


def test_counts_give_the_pixel_figures_of_the_enlarged_heatmap():
    rng = np.random.default_rng(1)
    heatmap, mask = rng.random((14, 14), np.float32), rng.random((50, 33)) < 0.2
    positive, total = cell_counts.cell_counts(mask, 14)
    enlarged = heatmap[np.arange(50)[:, None] * 14 // 50, np.arange(33) * 14 // 33]
    counted = ranking.rank(heatmap.ravel(), positive.ravel(), (total - positive).ravel())
    direct = ranking.rank(enlarged.ravel(), mask.ravel().astype(int))
    assert counted.auroc() == pytest.approx(direct.auroc(), abs=1e-12)
    assert counted.average_precision() == pytest.approx(direct.average_precision(), abs=1e-12)


def test_a_map_smaller_than_the_heatmap_leaves_cells_unread():
    _, total = cell_counts.cell_counts(np.ones((3, 3), bool), 5)
    assert (total == 0).any() and total.sum() == 9


def test_whole_multiples_enlarge_as_pillow_does():
    heatmap = np.random.default_rng(2).random((8, 8)).astype(np.float32)
    mask = np.random.default_rng(3).random((24, 16)) < 0.4
    enlarged = np.asarray(Image.fromarray(heatmap).resize((16, 24), Image.Resampling.NEAREST))
    positive, _ = cell_counts.cell_counts(mask, 8)
    assert (positive * heatmap).sum() == pytest.approx(enlarged[mask].sum(), rel=1e-5)


def test_equidistant_images_run_from_most_nominal_to_most_anomalous():
    label = np.array([0, 1] * 20)
    score = np.random.default_rng(0).permutation(40).astype(float)
    chosen = shown_images.equidistant(label, score, 1)
    own = np.sort(score[label == 1])
    assert (label[chosen] == 1).all()
    np.testing.assert_array_equal(score[chosen], own[[0, 4, 8, 11, 15, 19]])
    assert len(shown_images.equidistant(label[:6], score[:6], 1)) == 3
    assert len(shown_images.equidistant(np.zeros(5), np.arange(5.0), 1)) == 0


def test_pictured_holds_every_image_of_the_pictures_once():
    rng = np.random.default_rng(4)
    label, score = rng.integers(0, 2, 300), rng.normal(size=300)
    chosen = shown_images.shown_images(label, score)
    assert (np.diff(chosen) > 0).all()
    for value in (0, 1):
        own = np.flatnonzero(label == value)
        by_score = own[np.argsort(score[own])]
        for part in (shown_images.equidistant(label, score, value), own[:20], by_score[:10], by_score[-10:]):
            assert set(part) <= set(chosen)


def test_extremes_of_few_images_name_none_twice():
    chosen = shown_images.extremes(np.zeros(13), np.arange(13.0), 0)
    assert sorted(chosen) == list(range(13))


def test_reference_quantiles_are_kth_smallest_values():
    values = np.random.default_rng(5).normal(size=(3, 7, 11)).astype(np.float32)
    quantiles, flat = heatmap_values.reference_quantiles(values), np.sort(values.ravel())
    assert quantiles.shape == (1001,) and quantiles.dtype == np.float32
    assert quantiles[0] == flat[0] and quantiles[1000] == flat[-1]
    assert quantiles[850] == flat[850 * flat.size // 1000 - 1]


def test_local_and_global_ranges_agree_on_a_single_heatmap():
    heatmap = np.random.default_rng(6).random((1, 20, 50))
    local = heatmap_values.local_range(heatmap, 0.97)
    assert local == pytest.approx(
        heatmap_values.global_range(heatmap_values.reference_quantiles(heatmap), 0.97), rel=1e-6
    )
    assert local[1] == np.sort(heatmap.ravel())[969]


def test_normalized_values_are_clamped_and_flat_maps_are_dark():
    scaled = heatmap_values.normalize(np.array([0.0, 1.0, 2.0, 3.0]), 1.0, 2.0)
    assert scaled.tolist() == [0, 0, 1, 1]
    assert heatmap_values.normalize(np.full(3, 0.7), 0.7, 0.7).tolist() == [0, 0, 0]
    assert heatmap_values.normalize(np.array([0.7, 0.9]), 0.7, 0.7).tolist() == [0, 1]


def test_summary_is_scipys_t_interval():
    values = [0.9, 0.95, 0.85, 0.99]
    found = statistics.summarize(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((np.mean(values), np.std(values, ddof=1), 4, low, high))


def test_one_value_has_no_interval_and_undefined_values_are_not_counted():
    single = statistics.summarize([0.8, np.nan, None])
    assert (single.mean, single.n) == (0.8, 1)
    assert np.isnan([single.std, single.low, single.high]).all()
    assert statistics.summarize([]).n == 0 and np.isnan(statistics.summarize([np.nan]).mean)

"""Ground truth on the cells of heatmaps, and its regions."""

import numpy as np
import pytest

from fcdd_sweep.metrics.pixel_truth import MaskedImage, PixelTruth
from tests.pixel_oracles import slow_regions


def test_regions_are_pixels_that_touch_at_sides_or_corners():
    rng = np.random.default_rng(3)
    masks = [rng.random((23, 31)) < 0.2 for _ in range(5)]
    truth = PixelTruth.of([MaskedImage(1, mask.shape, mask) for mask in masks], 8)
    expected = [region for mask in masks for region in slow_regions(mask)]
    assert sorted(truth.regions.area) == sorted(region.sum() for region in expected)
    assert truth.regions.saturation.tolist() == truth.regions.area.tolist() and not truth.has_saturation
    by_cell = np.bincount(truth.regions.element, truth.regions.count, minlength=truth.positive.size)
    assert np.array_equal(by_cell, truth.positive.ravel())
    by_region = np.bincount(truth.regions.region, truth.regions.count)
    assert np.array_equal(by_region, truth.regions.area)


def test_defects_of_a_data_set_that_numbers_them_are_regions_even_in_pieces():
    mask = np.zeros((10, 10), int)
    mask[1:3, 1:3], mask[7:9, 7:9], mask[5, 0:6] = 1, 1, 3
    image = MaskedImage(2, mask.shape, mask, np.array([5.0, 4.0, 100.0]))  # the second has no pixel
    regions = PixelTruth.of([MaskedImage(0, (10, 10), None), image], 5).regions
    assert regions.area.tolist() == [8, 6] and regions.saturation.tolist() == [5, 6]


def test_nominal_images_of_several_sizes_weigh_the_same_in_the_rate():
    images = [MaskedImage(0, size, None) for size in ((10, 10), (20, 20), (10, 10))]
    truth = PixelTruth.of([*images, MaskedImage(1, (10, 10), np.eye(10))], 5)
    part, groups = truth.parts
    assert groups.tolist() == [0, 0, 1] and part.tolist() == [0, 1, 0, 2]
    assert truth.rate_weight * [100, 400, 1] == pytest.approx([1 / 3, 1 / 3, 0])
    assert truth.negative.sum(1).tolist() == [100, 400, 100, 90]

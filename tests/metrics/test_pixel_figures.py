"""Pixel metrics against slow versions that walk over pixels and thresholds, and AUROC and AP against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fcdd_sweep.metrics import pixel_figures as figures
from fcdd_sweep.metrics.pixel_order import SortedCells, pair_share, rank_pixels
from fcdd_sweep.metrics.pixel_truth import FullTruth, MaskedImage, PixelTruth
from tests import pixel_oracles as slow
from tests.pixel_oracles import Picture

SIDE = 6
SIZES = {
    "one pixel a cell": [(6, 6)],
    "odd": [(13, 17)],
    "smaller than the heatmap": [(4, 5)],
    "mixed": [(9, 8), (6, 7)],
}
RATES = (0.02, 0.4)


def made(sizes, values, *, seed=0, images=9, saturation=False):
    """Heatmaps and images: every third nominal, the others of two defect types with one to three boxes.

    `values` distinct values a heatmap may have: few values are many ties, most of them across the border of a mask.
    """
    rng = np.random.default_rng(seed)
    heat = rng.integers(0, values, (images, SIDE, SIDE)).astype(np.float32) / values
    given = []
    for i in range(images):
        height, width = sizes[i % len(sizes)]
        if i % 3 == 0:
            given.append(MaskedImage(0, (height, width), None))
            continue
        boxes = np.zeros((height, width), int)
        for number in range(1, 2 + i % 3):
            top, left = rng.integers(0, height - 1), rng.integers(0, width - 1)
            boxes[top : top + rng.integers(1, 4), left : left + rng.integers(1, 4)] = number
        heat[i] += (boxes[np.ix_(*(np.arange(SIDE) * n // SIDE for n in boxes.shape))] > 0) * rng.integers(0, 2)
        most = tuple(float(v) for v in rng.integers(1, 5, 1 + i % 3)) if saturation else None
        mask = boxes if saturation else boxes > 0
        given.append(MaskedImage(i % 3, (height, width), mask, None if most is None else np.array(most)))
    return heat, given


def pictures_of(heat, given):
    return [
        Picture(
            slow.enlarged(values, image.size),
            np.zeros(image.size, int) if image.mask is None else np.asarray(image.mask).astype(int),
            image.group,
            None if image.saturation is None else tuple(image.saturation),
        )
        for values, image in zip(heat, given, strict=True)
    ]


def sorted_cells(heat, given):
    return SortedCells(heat.reshape(len(heat), -1), PixelTruth.of(given, SIDE))


def in_both_ways(heat, given, pictures):
    """By cells that stand for several pixels, and by the pixels themselves."""
    yield sorted_cells(heat, given).ranked()
    yield rank_pixels((p.heat for p in pictures), FullTruth.of(given))


@pytest.mark.parametrize("values", [3, 1000], ids=["heavy ties", "few ties"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_figure_is_that_of_walking_over_pixels_and_thresholds(sizes, values):
    heat, given = made(sizes, values)
    pictures = pictures_of(heat, given)
    flat = np.concatenate([p.heat.ravel() for p in pictures])
    truth = np.concatenate([p.mask.ravel() > 0 for p in pictures])
    expected = {
        pair_share: roc_auc_score(truth, flat),
        figures.average_precision: average_precision_score(truth, flat),
        figures.f1_max: slow.slow_f1_max(pictures),
        figures.precision_at_recall: slow.slow_precision_at_recall(pictures, 0.95),
        (lambda ranked: figures.precision_at_recall(ranked, 0.3)): slow.slow_precision_at_recall(pictures, 0.3),
    }
    for limit in (0.3, 0.05, 1.0):
        overlap = slow.slow_region_overlap(pictures, limit)
        expected[lambda ranked, limit=limit: figures.region_overlap(ranked, limit)] = overlap
    aupimo = slow.slow_aupimo(pictures, RATES)
    for ranked in in_both_ways(heat, given, pictures):
        assert [figure(ranked) for figure in expected] == pytest.approx(list(expected.values()), abs=1e-12)
        if ranked.least_rate > RATES[0]:
            assert values == 3 and np.isnan(figures.image_overlap(ranked, len(heat), RATES)).all()
            continue
        found = figures.image_overlap(ranked, len(heat), RATES)
        assert [None if np.isnan(v) else v for v in found] == pytest.approx(aupimo, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_aupimo_is_the_area_over_the_logarithm_of_the_rate_also_with_ties_across_its_bounds(seed):
    """Two nominal images have single pixels above all others, so that the lower bound is reached, and then ties."""
    heat, given = made(SIZES["odd"], 4, seed=seed)
    heat[0, 0, 0], heat[3, 2, 2] = 3.0, 2.5
    pictures = pictures_of(heat, given)
    expected = slow.slow_aupimo(pictures, (0.03, 0.4))
    for ranked in in_both_ways(heat, given, pictures):
        found = figures.image_overlap(ranked, len(heat), (0.03, 0.4))
        assert [None if np.isnan(v) else v for v in found] == pytest.approx(expected, abs=1e-12)
        assert 0 < np.nanmax(found) <= 1


@pytest.mark.parametrize("values", [3, 1000], ids=["heavy ties", "few ties"])
def test_a_defect_counts_as_found_from_its_saturation_area_on(values):
    heat, given = made(SIZES["odd"], values, saturation=True)
    pictures = pictures_of(heat, given)
    for limit in (0.05, 0.3):
        expected = slow.slow_region_overlap(pictures, limit, saturated=True)
        assert expected != pytest.approx(slow.slow_region_overlap(pictures, limit), abs=1e-3)
        for ranked in in_both_ways(heat, given, pictures):
            assert figures.region_overlap(ranked, limit, saturated=True) == pytest.approx(expected, abs=1e-12)


def test_one_defect_type_is_measured_among_its_images_and_the_nominal_ones():
    heat, given = made(SIZES["mixed"], 5)
    cells = sorted_cells(heat, given)
    for group in (1, 2):
        part = [i for i, image in enumerate(given) if image.group in (0, group)]
        pictures = pictures_of(heat[part], [given[i] for i in part])
        truth = np.concatenate([p.mask.ravel() > 0 for p in pictures])
        flat = np.concatenate([p.heat.ravel() for p in pictures])
        ranked = cells.ranked(group)
        assert pair_share(ranked) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
        assert figures.average_precision(ranked) == pytest.approx(average_precision_score(truth, flat), abs=1e-12)
        expected = slow.slow_region_overlap(pictures, 0.3)
        assert figures.region_overlap(ranked, 0.3) == pytest.approx(expected, abs=1e-12)


def test_heat_and_its_peak_are_where_each_picture_has_them():
    heat, given = made(SIZES["mixed"], 4)
    heat[1] -= 0.4  # some values are negative
    found = figures.image_figures(heat.reshape(len(heat), -1), PixelTruth.of(given, SIDE))
    for i, picture in enumerate(pictures_of(heat, given)):
        measured = [values[i] for values in found]
        if given[i].mask is None:
            assert np.isnan(measured).all()
        else:
            assert measured == pytest.approx(slow.slow_image_figures(picture), rel=1e-6)


def test_sizes_of_defects_begin_at_their_shares():
    assert [figures.size_of(share) for share in (0.0001, 0.0099, 0.01, 0.049, 0.05, 0.9)] == [
        *("small", "small", "medium", "medium", "large", "large")
    ]


@pytest.mark.parametrize("kept", ["nominal", "anomalous", "wholly anomalous"])
def test_figures_without_one_kind_of_pixel_are_undefined(kept):
    heat, given = made(SIZES["odd"], 9)
    chosen = [i for i, image in enumerate(given) if (image.group == 0) == (kept == "nominal")]
    images = [given[i] for i in chosen]
    if kept == "wholly anomalous":
        images = [image._replace(mask=np.ones(image.size, bool)) for image in images]
    heat = heat[chosen]
    for ranked in in_both_ways(heat, images, pictures_of(heat, images)):
        measured = [pair_share(ranked), figures.average_precision(ranked), figures.f1_max(ranked)]
        measured += [figures.region_overlap(ranked, 0.3), figures.precision_at_recall(ranked)]
        assert np.isnan(measured).all() == (kept != "anomalous")
        assert np.isnan(figures.image_overlap(ranked, len(heat))).all()


def test_a_perfect_heatmap_has_every_figure_at_one_and_a_constant_one_none_of_its_own():
    given = [MaskedImage(0, (400, 400), None), MaskedImage(1, (400, 400), np.eye(400, dtype=bool))]
    perfect = np.stack(
        [np.linspace(0, 0.5, 160_000, dtype=np.float32).reshape(400, 400), np.eye(400, dtype=np.float32)]
    )
    ranked = SortedCells(perfect.reshape(2, -1), PixelTruth.of(given, 400)).ranked()
    assert figures.image_overlap(ranked, 2)[1] == pytest.approx(1.0, abs=1e-12)
    assert figures.region_overlap(ranked, 0.05) == pytest.approx(1.0, abs=1e-12)
    assert figures.f1_max(ranked) == pair_share(ranked) == figures.precision_at_recall(ranked) == 1.0
    constant = SortedCells(np.ones((2, 160_000), np.float32), PixelTruth.of(given, 400)).ranked()
    assert pair_share(constant) == 0.5 and figures.region_overlap(constant, 0.3) == pytest.approx(0.15)
    assert np.isnan(figures.image_overlap(constant, 2)[1])

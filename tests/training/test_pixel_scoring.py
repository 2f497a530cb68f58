"""Heatmaps of a trained detector as explanations, from its kept maps by slow versions; ground truth is found once."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.metrics.heatmap_values import upsample
from fcdd_sweep.metrics.pixel_truth import PixelTruth
from fcdd_sweep.results import schemas
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.pixel_images import forget_pixel_images
from fcdd_sweep.training.pixel_images import pixel_images as pixels_of
from fcdd_sweep.training.trainer import train
from tests import pixel_oracles as slow
from tests.pixel_oracles import Picture
from tests.specs import defects_corpus, spec
from tests.training.test_scoring import with_masks_of

SIZE = (34, 25)


def two_types(corpus):
    names = tuple("odd" if i % 4 == 1 and name else name for i, name in enumerate(corpus.defect))
    return dataclasses.replace(corpus, defect=names)


def bilinear(heat, size):
    """Enlarge by bilinear interpolation between the centers of pixels."""
    (height, width), side = size, len(heat)
    found = np.zeros(size)
    for y in range(height):
        for x in range(width):
            v, u = (max((i + 0.5) * side / n - 0.5, 0) for i, n in ((y, height), (x, width)))
            a, b = int(v), int(u)
            c, d = min(a + 1, side - 1), min(b + 1, side - 1)
            top = heat[a, b] * (1 - (u - b)) + heat[a, d] * (u - b)
            bottom = heat[c, b] * (1 - (u - b)) + heat[c, d] * (u - b)
            found[y, x] = top * (1 - (v - a)) + bottom * (v - a)
    return found


@pytest.fixture(scope="module")
def trial():
    corpus, masks = with_masks_of(two_types(defects_corpus(test=12)), *SIZE)
    held_out = {"validation": {"nominal_fraction": 0.25}, "false_alarm_rate": 0.1}
    result = train(spec(keep={"maps": "all"}, evaluation=held_out), TrialData(corpus))
    maps = result.maps
    heat = upsample(maps["anomaly_maps"], tuple(maps["receptive_field"]), (28, 28), float(maps["kernel_std_px"]))
    truth = np.zeros((12, *SIZE), int)
    truth[maps["label"] == 1] = masks
    return result, heat, truth


def pictures_of(heat, truth, enlarge):
    return [Picture(enlarge(h, SIZE), mask, int(mask.any())) for h, mask in zip(heat, truth, strict=True)]


def test_a_trial_s_figures_are_those_of_its_kept_heatmaps(trial):
    result, heat, truth = trial
    metrics, pictures = result.metrics, pictures_of(heat, truth, slow.enlarged)
    near = {"abs": 1e-3}  # heatmaps made without torch differ in their last digits, and few pixels are ranked
    for name, limit in (("30", 0.3), ("05", 0.05)):
        assert metrics[f"pixel_aupro_{name}"] == pytest.approx(slow.slow_region_overlap(pictures, limit), **near)
    assert metrics["pixel_f1_max_oracle"] == pytest.approx(slow.slow_f1_max(pictures), **near)
    assert metrics["pixel_precision_at_95_recall"] == pytest.approx(
        slow.slow_precision_at_recall(pictures, 0.95), **near
    )
    counts, positives = slow.slow_counts(pictures)
    above = np.concatenate([p.heat.ravel() for p in pictures]) > metrics["pixel_threshold"]
    true = np.sum(above & (truth.ravel() > 0))
    assert positives == truth.sum() and len(counts)
    assert metrics["pixel_f1"] == pytest.approx(2 * true / (above.sum() + truth.sum()), abs=0.01)
    shares, hits, heats = np.transpose([slow.slow_image_figures(p) for p in pictures if p.group])
    assert metrics["pointing_game"] == hits.mean() and metrics["heat_in_mask"] == pytest.approx(heats.mean(), rel=1e-4)
    assert metrics["pointing_game_large"] == hits.mean() and np.isnan(metrics["pointing_game_small"])
    assert metrics["n_test_regions"] == 6 and np.isnan(metrics["pixel_spro_05"])
    assert (metrics["pixel_resolution"], metrics["full_resolution"]) == ("28x28", "34x25")
    assert np.isnan(metrics["pixel_aupimo"])  # far too few pixels of nominal images for rates of 1e-5
    assert [v for v in result.scores["defect_share"] if v is not None] == pytest.approx(shares)
    rows = len(result.scores["split"])
    assert all(len(result.scores[name]) == rows for name in ("aupimo", "pointing_hit", "heat_in_mask")) and rows > 12
    assert {"trial_id", *result.scores} == set(schemas.SCORES.names)
    assert {"trial_id", *result.defects[0]} == set(schemas.DEFECTS.names)


def test_figures_at_full_resolution_are_those_of_interpolated_heatmaps(trial):
    result, heat, truth = trial
    pictures, near = pictures_of(heat, truth, bilinear), {"abs": 1e-3}
    flat, metrics = np.concatenate([p.heat.ravel() for p in pictures]), result.metrics
    assert metrics["pixel_auroc_full"] == pytest.approx(roc_auc_score(truth.ravel(), flat), **near)
    assert metrics["pixel_ap_full"] == pytest.approx(average_precision_score(truth.ravel(), flat), **near)
    assert metrics["pixel_aupro_05_full"] == pytest.approx(slow.slow_region_overlap(pictures, 0.05), **near)
    assert abs(metrics["pixel_auroc_full"] - metrics["pixel_auroc"]) > 1e-5


def test_maps_of_the_network_s_size_have_the_same_figures_at_full_resolution():
    corpus, _ = with_masks_of(defects_corpus(test=12), 28, 28)
    metrics = train(spec(training={"epochs": 1}), TrialData(corpus)).metrics
    assert metrics["pixel_auroc_full"] == metrics["pixel_auroc"]
    assert metrics["pixel_aupro_30_full"] == metrics["pixel_aupro_30"] > 0
    assert metrics["pixel_resolution"] == metrics["full_resolution"] == "28x28"


def test_the_ground_truth_of_a_test_set_is_prepared_once(monkeypatch):
    made = []
    plain = PixelTruth.of.__func__
    monkeypatch.setattr(PixelTruth, "of", classmethod(lambda cls, *given: made.append(1) or plain(cls, *given)))
    corpus = defects_corpus()
    split = split_for(corpus, "plain")
    first = pixels_of(corpus, split, 28)
    assert pixels_of(corpus, split_for(corpus, "plain"), 28) is first and first.truth is first.truth and made == [1]
    assert pixels_of(corpus, split, 14) is not first
    fewer = dataclasses.replace(split, test=split.test[2:], test_label=split.test_label[2:])
    fewer = dataclasses.replace(fewer, test_defect=split.test_defect[2:])
    assert len(pixels_of(corpus, fewer, 28).image) == 22
    assert pixels_of(defects_corpus(), split, 28) is not first
    again = pixels_of(corpus, split, 28)
    assert again is not first  # the last two are kept
    forget_pixel_images()
    assert pixels_of(corpus, split, 28) is not again

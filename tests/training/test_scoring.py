"""Metrics of a trial against scikit-learn on heatmaps that are really enlarged, and training samples as pictures."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from fcdd_sweep.metrics.heatmap_values import reference_quantiles, upsample
from fcdd_sweep.metrics.score_choice import CANDIDATES
from fcdd_sweep.metrics.shown_images import shown_images
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.scoring import _displayed, _marked_maps
from fcdd_sweep.training.trainer import train
from tests.specs import defects_corpus, spec


def with_masks_of(corpus, height, width):
    """The corpus with maps of another original size: a box of its own for each anomalous image."""
    rng = np.random.default_rng(1)
    masks = []
    for _ in range(int(corpus.is_anomalous.sum())):
        mask = np.zeros((height, width), dtype=bool)
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        mask[top : top + height // 3, left : left + width // 4] = True
        masks.append(mask)
    packed = [np.packbits(mask) for mask in masks]
    changed = dataclasses.replace(
        corpus,
        original_size=np.tile([height, width], (len(corpus.images), 1)),
        mask_bits=np.concatenate(packed),
        mask_offset=np.arange(len(packed) + 1) * len(packed[0]),
    )
    return changed, masks


@pytest.mark.parametrize(("height", "width"), [(28, 28), (45, 61), (20, 17)])
def test_pixel_metrics_are_those_of_heatmaps_enlarged_to_the_maps_size(height, width):
    corpus, masks = with_masks_of(defects_corpus(), height, width)
    result = train(spec(keep={"maps": "all"}, images={"load_size": 32, "size": 28}), TrialData(corpus))
    maps = result.maps
    field = tuple(maps["receptive_field"])
    heat = upsample(maps["anomaly_maps"], field, (28, 28), float(maps["kernel_std_px"]))
    rows, columns = np.arange(height) * 28 // height, np.arange(width) * 28 // width
    enlarged = heat[:, rows][:, :, columns]
    truth = np.zeros(enlarged.shape, dtype=bool)
    truth[maps["label"] == 1] = masks
    assert result.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(truth.ravel(), enlarged.ravel()), abs=1e-4)
    expected = average_precision_score(truth.ravel(), enlarged.ravel())
    assert result.metrics["pixel_ap"] == pytest.approx(expected, abs=1e-3)


def test_image_metrics_are_scikit_learn_s():
    result = train(spec(), TrialData(defects_corpus()))
    label, score = result.scores["label"], result.scores["score"]
    assert result.metrics["image_auroc"] == pytest.approx(roc_auc_score(label, score))
    assert result.metrics["image_ap"] == pytest.approx(average_precision_score(label, score))


def test_scores_are_means_of_the_kept_maps():
    maps = train(spec(keep={"maps": "all"}), TrialData(defects_corpus())).maps
    assert maps["score"] == pytest.approx(maps["anomaly_maps"].mean((1, 2)), rel=1e-5)


@pytest.mark.parametrize("image_score", ["mean", "max", {"top": 0.01}, {"top": 0.1}])
def test_the_score_of_an_image_decides_metrics_and_all_scores_are_kept(image_score):
    """Oracles from the kept maps; a small bright square is lost in the mean of a map."""
    corpus = defects_corpus()
    plain = train(spec(keep={"maps": "all"}), TrialData(corpus))
    evaluation = {"validation": {"nominal_fraction": 0.25}, "image_score": image_score, "false_alarm_rate": 0.1}
    result = train(spec(keep={"maps": "all"}, evaluation=evaluation), TrialData(corpus))
    maps, scores = result.maps, {name: np.array(values[:24]) for name, values in result.scores.items()}
    heat = upsample(maps["anomaly_maps"], maps["receptive_field"], (28, 28), float(maps["kernel_std_px"]))
    ordered = np.sort(heat.reshape(24, -1))[:, ::-1]
    expected = {
        "score_mean": maps["anomaly_maps"].mean((1, 2)),
        "score_max": ordered[:, 0],
        "score_top_0_1": ordered[:, :1].mean(1),
        "score_top_1": ordered[:, :8].mean(1),
        "score_top_3": ordered[:, :24].mean(1),
        "score_top_10": ordered[:, :78].mean(1),
    }
    for name, values in expected.items():
        assert scores[name] == pytest.approx(values, rel=1e-4), name
    column = {"mean": "score_mean", "max": "score_max"}.get(str(image_score)) or f"score_top_{image_score['top']:.0%}"
    column = column.removesuffix("%")
    assert result.metrics["image_score"] == column and scores["score"].tolist() == scores[column].tolist()
    assert result.metrics["image_auroc"] == pytest.approx(roc_auc_score(scores["label"], scores[column]))
    assert result.defects[0]["image_auroc"] == pytest.approx(result.metrics["image_auroc"])
    assert result.metrics["threshold"] == max(result.scores[column][24:34])  # held-out images
    if image_score == "max":
        assert result.metrics["test_agreement"] == 1.0
        assert result.metrics["image_auroc"] > plain.metrics["image_auroc"]


def test_reference_quantiles_come_from_as_many_nominal_as_anomalous_images():
    maps = train(spec(keep={"maps": "all"}), TrialData(defects_corpus())).maps
    heat = upsample(maps["anomaly_maps"], maps["receptive_field"], (28, 28), maps["kernel_std_px"])
    assert maps["reference_quantiles"] == pytest.approx(reference_quantiles(heat), rel=1e-4, abs=1e-6)


def test_leaves_keep_the_shown_images_unless_all_are_asked_for():
    corpus = defects_corpus(test=240)
    some, every = (train(spec(keep={"maps": which}), TrialData(corpus)).maps for which in ("shown", "all"))
    assert len(every["label"]) == 240 and len(some["label"]) < 120
    chosen = np.isin(every["image_index"], some["image_index"])
    assert np.array_equal(every["anomaly_maps"][chosen], some["anomaly_maps"])


def test_each_defect_type_is_measured_against_all_nominal_images():
    corpus = defects_corpus()
    names = tuple("odd" if i % 4 == 1 and name else name for i, name in enumerate(corpus.defect))
    result = train(spec(), TrialData(dataclasses.replace(corpus, defect=names)))
    label, score = np.array(result.scores["label"]), np.array(result.scores["score"])
    kind = np.array(result.scores["defect"])
    rows = {row["defect"]: row for row in result.defects}
    assert set(rows) == {"odd", "square"}
    for name, row in rows.items():
        part = (label == 0) | (kind == name)
        assert row["image_auroc"] == pytest.approx(roc_auc_score(label[part], score[part]))
        assert row["n_images"] == (kind == name).sum()


def test_a_test_set_without_nominal_images_or_maps_has_undefined_metrics():
    corpus = defects_corpus()
    anomalous = dataclasses.replace(
        corpus, is_test=corpus.is_test & corpus.is_anomalous, mask_index=np.full(64, -1, dtype=np.int64)
    )
    anomalous.mask_index[0] = 0  # another image has a map, so the data set has maps
    result = train(spec(), TrialData(anomalous))
    assert np.isnan([result.metrics["image_auroc"], result.metrics["pixel_auroc"]]).all()
    assert np.isnan([result.defects[0]["image_auroc"], result.defects[0]["pixel_auroc"]]).all()


def test_pictures_tell_an_anomaly_without_a_map_from_one_with_an_empty_map():
    corpus = defects_corpus()
    first = int(np.flatnonzero(corpus.is_test & corpus.is_anomalous)[0])
    index = corpus.mask_index.copy()
    index[first] = -1
    maps = train(spec(keep={"maps": "all"}), TrialData(dataclasses.replace(corpus, mask_index=index))).maps
    found = {
        number: set(np.unique(gt)) for number, gt in zip(maps["image_index"].tolist(), maps["gt_maps"], strict=True)
    }
    assert found[first] == {2} and all(values <= {0, 1} for number, values in found.items() if number != first)


# Training samples as pictures


def raw_images(n=6, channels=3):
    values = np.random.default_rng(0).integers(40, 160, (n, channels, 12, 12))
    return torch.from_numpy(values.astype(np.uint8))


@pytest.mark.parametrize("kind", ["small", "imagenet"])
def test_an_affine_normalization_is_undone_to_the_images_own_values(kind):
    raw = raw_images()
    fitted = Preprocessor.fit(Recipe("none", kind, 12, 12, maps=False), raw)
    found = _displayed(fitted.test(raw), np.zeros(6, np.int8), fitted)
    assert np.abs(found["images"].astype(int) - raw.numpy()).max() <= 1 and not found["shared_range"]


@pytest.mark.parametrize("kind", ["small", "texture"])
def test_samples_without_their_own_contrast_share_the_range_of_the_nominal_ones(kind):
    raw = raw_images()
    fitted = Preprocessor.fit(Recipe("lcn", kind, 12, 12, maps=False), raw)
    flat = torch.full((1, 3, 12, 12), 90, dtype=torch.uint8)
    spot = flat.clone()
    spot[..., 5, 5] = 250
    inputs = fitted.test(torch.cat([raw, flat, spot]))
    found = _displayed(inputs, np.array([0] * 6 + [1, 1], np.int8), fitted)
    assert found["shared_range"]
    nominal, flat, spot = found["images"][:6], found["images"][6], found["images"][7]
    assert (nominal.min(), nominal.max()) == (0, 255)
    # a flat image has no contrast: the same gray in all channels, neither black nor white
    assert len(np.unique(flat)) == 1 and 50 < flat[0, 0, 0] < 200
    assert (spot[:, 5, 5] == 255).all()
    assert (spot[:, 0, 0] < flat[:, 0, 0]).all()


def test_maps_of_wholly_anomalous_samples_are_marked_and_drawn_ones_kept():
    drawn = np.zeros((4, 4), np.uint8)
    drawn[1, 2] = 1
    found = _marked_maps(np.stack([np.zeros_like(drawn), drawn, np.ones_like(drawn)]))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.stack([np.zeros_like(drawn), drawn, np.full_like(drawn, 2)]))


def test_maps_are_kept_of_all_images_that_figures_show_by_a_score_that_auto_can_take():
    corpus = defects_corpus(train=24, test=160)

    def kept_and_shown(image_score):
        evaluation = {"validation": {"nominal_fraction": 0.5}, "image_score": image_score}
        result = train(spec(evaluation=evaluation, training={"supervision": "labels"}), TrialData(corpus))
        tested = np.array(result.scores["split"]) == "test"
        path, label = (np.array(result.scores[name])[tested] for name in ("path", "label"))
        by = {name: np.array(result.scores[name], float)[tested] for name in CANDIDATES}
        return set(result.maps["path"]), {name: set(path[shown_images(label, each)]) for name, each in by.items()}

    kept, shown = kept_and_shown("auto")
    assert kept == set().union(*shown.values()) and len(kept) > len(shown["score_mean"])
    kept, shown = kept_and_shown("max")
    assert kept == shown["score_max"]

"""Thresholds that keep a false-alarm rate, and how often decisions are right, against slow oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta
from sklearn import metrics as oracle

from fcdd_sweep.metrics.cross_conformal import false_alarm_bound
from fcdd_sweep.metrics.decision import (
    calibrating_paths,
    calibration_text,
    conformal_threshold,
    decision_metrics,
    fewest_images,
)


@pytest.mark.parametrize(("rate", "fewest"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.07, 14), (0.3, 3)])
def test_there_is_a_threshold_from_the_least_number_of_images_on_and_never_below(rate, fewest):
    assert fewest_images(rate) == fewest
    assert math.isnan(conformal_threshold(np.arange(fewest - 1.0), rate))
    assert conformal_threshold(np.arange(float(fewest)), rate) == fewest - 1


@pytest.mark.parametrize(
    ("n", "rate", "place"), [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (100, 0.05, 96), (99, 0.1, 90)]
)
def test_the_threshold_is_the_conformal_order_statistic(n, rate, place):
    scores = np.random.default_rng(0).permutation(n) + 1.0
    assert conformal_threshold(scores, rate) == place


def test_the_share_of_false_alarms_is_kept_on_average_over_calibrations():
    """Of any continuous scores the rate over calibrations is (n + 1 - place) / (n + 1): here 1 in 23."""
    rng = np.random.default_rng(3)
    draws = rng.lognormal(size=(20_000, 23))
    above = [draw[22] > conformal_threshold(draw[:22], 0.05) for draw in draws]
    assert np.mean(above) == pytest.approx(1 / 23, abs=4 * math.sqrt(0.05 / 20_000))


def test_the_documented_range_of_true_rates_is_that_of_order_statistics():
    """docs/experiments.md: with 19 held-out images 0.1% to 18%, with 200 2.4% to 8%."""
    for n, place, expected in ((19, 19, (0.001, 0.18)), (200, 191, (0.024, 0.084))):
        assert conformal_threshold(np.arange(1.0, n + 1), 0.05) == place
        assert beta.ppf([0.025, 0.975], n + 1 - place, place) == pytest.approx(expected, rel=0.03, abs=5e-4)


@pytest.mark.parametrize(
    ("count", "rate", "text"),
    [
        (2, 0.05, "no decision: hold out at least 19 nominal images for a false-alarm rate of 5%; 2 are held out"),
        (1, 0.1, "no decision: hold out at least 9 nominal images for a false-alarm rate of 10%; 1 is held out"),
        (
            *(22, 0.05),
            "with 22 held-out images at most 1 in 20 of new nominal images is called anomalous, on average over "
            "calibrations; 19 images are the fewest for which that can be said",
        ),
        (
            *(200, 0.075),
            "with 200 held-out images at most 7.5% of new nominal images is called anomalous, on average over "
            "calibrations; 13 images are the fewest for which that can be said",
        ),
        (
            *(1, 0.5),
            "with 1 held-out image at most 1 in 2 of new nominal images is called anomalous, on average over "
            "calibrations; 1 image is the fewest for which that can be said",
        ),
    ],
)
def test_what_can_be_said_of_a_threshold_is_spelled_out(count, rate, text):
    assert calibration_text(count, rate) == text


def score_columns(nominal_label=0, held_out=30, tested=40, seed=0):
    """Columns of `scores.parquet`: test images, held-out images, rendered anomalies and a reserved one."""
    rng = np.random.default_rng(seed)
    label = [*rng.integers(0, 2, tested), *[nominal_label] * held_out, *[1 - nominal_label] * 5, 1]
    score = rng.normal(size=len(label)) + np.array(label)
    heatmap_max = score + rng.normal(size=len(label))
    return {
        "split": ["test"] * tested + ["validation"] * (held_out + 5) + ["reserved"],
        "label": [int(each) for each in label],
        "defect": ["scratch" if each else "" for each in label[:tested]] + [""] * held_out + ["blob"] * 5 + ["scratch"],
        "score": [*score[:-1].tolist(), None],
        "score_max": [*heatmap_max[:-1].tolist(), None],
    }


def test_counts_and_shares_are_scikit_learn_s_at_the_stored_threshold():
    columns = score_columns()
    found = decision_metrics(columns, "score", 0.1)
    label, score = np.array(columns["label"][:40]), np.array(columns["score"][:40])
    assert found["threshold"] == sorted(columns["score"][40:70])[27]  # the 28th of 30
    assert found["pixel_threshold"] == sorted(columns["score_max"][40:70])[27]
    assert (found["n_calibration"], found["false_alarm_rate"]) == (30, 0.1)
    called = score > found["threshold"]
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [found[name] for name in names] == oracle.confusion_matrix(label, called).ravel().tolist()
    assert found["accuracy"] == oracle.accuracy_score(label, called)
    assert found["precision"] == pytest.approx(oracle.precision_score(label, called))
    assert found["recall"] == pytest.approx(oracle.recall_score(label, called))
    assert found["f1"] == pytest.approx(oracle.f1_score(label, called))
    assert found["test_false_alarm_rate"] == called[label == 0].mean()
    has_region = np.array(columns["score_max"][:40]) > found["pixel_threshold"]
    assert found["test_region_rate"] == has_region[label == 0].mean()
    assert found["test_agreement"] == (called == has_region).mean()
    assert found["test_false_alarm_low"] < found["test_false_alarm_rate"] < found["test_false_alarm_high"]
    x, y, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    assert found["fpr_at_95_recall"] == pytest.approx(min(x[y >= 0.95]))


def test_too_few_held_out_images_decide_nothing_and_the_sentence_says_what_is_missing():
    found = decision_metrics(score_columns(held_out=2), "score", 0.05)
    assert found["threshold_source"].startswith("no decision: hold out at least 19 nominal images")
    undefined = {name for name, value in found.items() if value is None or value != value}
    assert undefined == found.keys() - {
        *("calibration", "threshold_source", "n_calibration", "false_alarm_rate", "fpr_at_95_recall")
    }


def test_labels_of_test_images_change_no_threshold():
    columns = score_columns()
    shuffled = columns | {"label": [1 - each for each in columns["label"][:40]] + columns["label"][40:]}
    before, after = decision_metrics(columns, "score", 0.1), decision_metrics(shuffled, "score", 0.1)
    names = ("threshold", "pixel_threshold", "threshold_source", "n_calibration")
    assert [before[name] for name in names] == [after[name] for name in names]
    assert before["accuracy"] != after["accuracy"]


def test_held_out_images_that_count_as_anomalous_are_no_calibration():
    found = decision_metrics(score_columns(nominal_label=1), "score", 0.1)
    assert math.isnan(found["threshold"]) and found["n_calibration"] == 0
    assert "images.nominal_label 1" in found["threshold_source"]


def test_without_test_images_thresholds_stay():
    columns = {name: values[40:] for name, values in score_columns().items()}
    found = decision_metrics(columns, "score", 0.1)
    assert not math.isnan(found["threshold"]) and math.isnan(found["f1"]) and found["true_positives"] is None
    assert math.isnan(found["fpr_at_95_recall"]) and math.isnan(found["test_region_rate"])


def test_precision_is_undefined_where_nothing_is_called_anomalous():
    columns = score_columns()
    columns["score"] = [-9.0] * 40 + columns["score"][40:]
    found = decision_metrics(columns, "score", 0.1)
    assert math.isnan(found["precision"]) and found["recall"] == found["f1"] == 0.0


def crossed_columns(models=5, per_model=20, tested=60, seed=0):
    """Columns of a trial whose training images were scored by the models that had not seen them."""
    rng = np.random.default_rng(seed)
    images = models * per_model
    label = [*rng.integers(0, 2, tested), *[0] * images]
    fold = [*[None] * tested, *np.repeat(np.arange(models), per_model).tolist()]
    p_values = [*((1 + rng.integers(0, images, tested)) / (images + 1) * (0.1 + 0.9 * (rng.random(tested) > 0.4)))]
    return {
        "split": ["test"] * tested + ["out_of_fold"] * images,
        "label": label,
        "defect": ["scratch" if each else "" for each in label],
        "fold": fold,
        "score_mean": rng.random(tested + images).tolist(),
        "score_max": rng.random(tested + images).tolist(),
        "p_value_mean": [*p_values, *[None] * images],
        "p_value_max": [*rng.permutation(p_values), *[None] * images],
    }


def test_out_of_fold_scores_decide_by_p_values_and_state_the_bound():
    columns = crossed_columns()
    found = decision_metrics(columns, "score_mean", 0.2)
    label, p_value = np.array(columns["label"][:60]), np.array(columns["p_value_mean"][:60])
    limit = max(limit for limit in range(50) if false_alarm_bound(limit, 5, 20) <= 0.2)
    assert (found["calibration"], found["n_calibration"], found["folds"]) == ("cross", 100, 5)
    assert found["p_value_level"] == (1 + limit) / 101
    called, marked = p_value <= found["p_value_level"], np.array(columns["p_value_max"][:60]) <= found["p_value_level"]
    assert 0 < called.sum() < 60
    assert found["recall"] == called[label == 1].mean() and found["accuracy"] == (called == label).mean()
    assert found["test_false_alarm_rate"] == called[label == 0].mean()
    assert found["test_region_rate"] == marked[label == 0].mean()
    assert found["test_agreement"] == (called == marked).mean()
    assert math.isnan(found["threshold"]) and math.isnan(found["pixel_threshold"])
    text = found["threshold_source"]
    assert "with 5 models, each without 20 of 100 nominal training images, at most 1 in 5 of new nominal images" in text
    bound = f"proven bound {100 * float(false_alarm_bound(limit, 5, 20)):.4g}%"
    assert bound in text and f"when at most {limit} of these" in text


def test_models_that_keep_no_such_rate_decide_nothing_and_the_sentence_says_what_would():
    columns = crossed_columns(per_model=4)
    found = decision_metrics(columns, "score_mean", 0.05)
    assert found["threshold_source"] == (
        "no decision: 5 models of 20 images keep no false-alarm rate below 16.67%; set evaluation.folds to 19"
    )
    assert math.isnan(found["p_value_level"]) and found["true_positives"] is None
    few = decision_metrics(columns, "score_mean", 0.01)["threshold_source"]
    assert few.endswith("a false-alarm rate of 1% needs at least 99 nominal training images, found 20")
    assert decision_metrics(columns, "score_mean", 0.2)["p_value_level"] == 1 / 21  # the same files, another rate


def test_calibration_none_decides_nothing_whatever_is_held_out():
    columns = score_columns()
    assert decision_metrics(columns, "score", 0.1)["calibration"] == "split"
    found = decision_metrics(columns, "score", 0.1, "none")
    assert found["calibration"] == "none" and math.isnan(found["threshold"]) and found["accuracy"] != found["accuracy"]
    assert found["threshold_source"] == (
        "no decision: evaluation.calibration is none; to decide set it to split and hold out at least 9 nominal images "
        "for a false-alarm rate of 10%"
    )


def test_where_out_of_fold_scores_decide_held_out_images_calibrate_nothing_and_may_choose_the_score():
    held_out = score_columns(held_out=30)
    held_out["path"] = [f"good/{number}.png" for number in range(len(held_out["split"]))]
    assert calibrating_paths(held_out, 0.1)
    held_out["split"] = [*held_out["split"][:-1], "out_of_fold"]
    assert calibrating_paths(held_out, 0.1) == set()

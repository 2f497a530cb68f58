"""The images that settings are selected on: apart from training and test set, and blind to the test set."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from fcdd_sweep.anomalies.limits import MOST_IN_VALIDATION, drawn_by_type, reserved_of
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.metrics.decision import calibrating_paths
from fcdd_sweep.metrics.ranking import auroc
from fcdd_sweep.metrics.score_choice import SelectionScores, is_for_selection
from fcdd_sweep.metrics.statistics import auroc_standard_error
from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.methods import Detection
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import train
from fcdd_sweep.training.validation import validation_auroc
from tests.prepared import Patchy, anomalies_of, pixels, typed
from tests.specs import defects_corpus, spec
from tests.training.test_state import plain

CORPUS = defects_corpus()
LABELS = {"training": {"supervision": "labels"}}
METRICS = (
    "validation_image_auroc",
    "validation_image_ap",
    "validation_pixel_auroc",
    "validation_image_auroc_std_error",
    "validation_image_auroc_max",
    "validation_image_auroc_max_std_error",
)


def one_vs_rest(n=60):
    """Three classes of noise that differ in brightness; the last third of the images is the test set."""
    corpus = defects_corpus(train=n - n // 3, test=n // 3, maps=False)
    kind = np.arange(n) % 3
    shift = (kind * 40).astype(np.uint8)[:, None, None, None]
    return dataclasses.replace(
        corpus,
        name="digits",
        protocol="one_vs_rest",
        classes=("plain", "light", "bright"),
        images=np.minimum(corpus.images, 150) + shift,
        class_index=kind,
        is_anomalous=np.zeros(n, dtype=bool),
        defect=("",) * n,
        fingerprints={name: name for name in ("plain", "light", "bright")},
    )


def with_training_anomalies(count=8):
    """The last test images, every second of which is anomalous, moved to the training split."""
    return dataclasses.replace(CORPUS, is_test=CORPUS.is_test & (np.arange(64) < 64 - 2 * count))


def evaluation(anomalies, fraction=0.25, **more):
    rest = {key: more.pop(key) for key in [*more] if key != "epochs"}
    return {"validation": {"nominal_fraction": fraction, "anomalies": anomalies, **more}, **rest}


def prepared(corpus, selecting, exposure=None, pool=None, seed=0, fraction=0.25, reserved=0, **sections):
    chosen = evaluation(selecting, fraction, reserved_anomalies=reserved)
    trial = spec(seed=seed, evaluation=chosen, **{**LABELS, **sections})
    return prepare(trial, TrialData(corpus, exposure, pool), Streams(seed, "plain"), torch.device("cpu"))


OTHER = {"mode": "other", "source": None}
FOLDER = {"mode": "noise", "source": {"folder": "x"}}
MODES = {
    "rendered": (CORPUS, "blob", {}),
    "other classes": (one_vs_rest(), "training", {"anomalies": OTHER}),
    "other classes, unused": (one_vs_rest(), "training", {}),
    "training anomalies": (with_training_anomalies(), "training", {"anomalies": OTHER}),
    "set aside": (typed(), {"from_test": 2}, {}),
    "folder": (CORPUS, {"folder": "v"}, {}),
}


def pool_of(anomalies):
    return ArrayPool(pixels(30), fingerprint="pool") if anomalies == {"folder": "v"} else None


def trial_of(name, seed=0, **more):
    corpus, anomalies, sections = MODES[name]
    return corpus, spec(seed=seed, evaluation=evaluation(anomalies, **more), **{**LABELS, **sections})


# Apart from training and test


@pytest.mark.parametrize("name", MODES)
def test_validation_training_and_test_share_no_image(name):
    corpus, anomalies, sections = MODES[name]
    found = prepared(corpus, anomalies, pool=pool_of(anomalies), **sections)
    split, validation = found.split, found.validation
    rendered = validation.anomalies.gt_maps is not None
    taken = [] if rendered else [i for i in validation.anomalies.index if i is not None]
    groups = [*(split.train_nominal, split.train_anomalous, split.test, validation.nominal), taken]
    flat = np.concatenate(groups).astype(int).tolist()
    assert len(flat) == len(set(flat))
    assert len(validation.anomalies) and len(validation.nominal)
    whole = split_for(corpus, "plain")
    assert set(flat) == {*whole.train_nominal, *whole.train_anomalous, *whole.test}
    if not name.startswith("set"):
        np.testing.assert_array_equal(split.test, whole.test)


@pytest.mark.parametrize("name", ["other classes", "training anomalies"])
def test_limits_stay_nested_and_never_reach_validation_images(name):
    corpus, anomalies, _ = MODES[name]
    whole = prepared(corpus, anomalies, anomalies=OTHER)
    parts = [prepared(corpus, anomalies, anomalies={**OTHER, "limit": n}) for n in (1, 3)]
    images = [{image.numpy().tobytes() for image in found.batches.pool.images} for found in (*parts, whole)]
    assert [len(each) for each in images[:2]] == [1, 3] and images[0] < images[1] < images[2]
    for found in (*parts, prepared(corpus, anomalies)):
        np.testing.assert_array_equal(found.validation.anomalies.images, whole.validation.anomalies.images)
        assert found.validation.anomalies.index == whole.validation.anomalies.index
    assert images[2].isdisjoint(image.tobytes() for image in whole.validation.anomalies.images)
    assert len(images[2]) + len(whole.validation.anomalies) == len(split_for(corpus, "plain").train_anomalous)


def test_half_of_a_pool_validates_and_no_more_than_an_auroc_needs():
    assert [reserved_of(n) for n in (0, 1, 2, 9, 5000)] == [0, 0, 1, 4, MOST_IN_VALIDATION]


@pytest.mark.parametrize("resident", [True, False])
def test_exposure_is_divided_between_training_and_validation(resident, monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 2**30 if resident else 1000)
    pool = Patchy(np.maximum(pixels(40), 1))
    sets = []
    for limit in (2, 9, "all"):
        found = prepared(CORPUS, {"folder": "x"}, pool, pool, anomalies={**FOLDER, "limit": limit, "probability": 1.0})
        validation = {image.tobytes() for image in found.validation.anomalies.images}
        rows = [found.batches.planner.row(np.arange(30), epoch, 0) for epoch in range(12)]
        trained = {image.tobytes() for row in rows for image in anomalies_of(found, row)}
        assert len(validation) == 20 and validation.isdisjoint(trained)
        assert found.validation.anomalies.path == pool.names(
            [
                int(np.flatnonzero((pool.images == image).all((1, 2, 3)))[0])
                for image in found.validation.anomalies.images
            ]
        )
        sets.append(trained)
    assert [len(each) for each in sets[:2]] == [2, 9] and sets[0] < sets[1] < sets[2]


def test_exposure_from_another_pool_is_left_alone():
    pool, exposure = ArrayPool(pixels(40), fingerprint="a"), ArrayPool(pixels(30, seed=1), fingerprint="b")
    found = prepared(CORPUS, {"folder": "v"}, exposure, pool, anomalies=FOLDER)
    assert len(found.batches.pool) == 30 and len(found.validation.anomalies) == 20


def test_unreadable_validation_images_are_left_out_and_noted():
    found = prepared(CORPUS, {"folder": "v"}, pool=Patchy(np.maximum(pixels(40), 1), broken=range(0, 40, 2)))
    count = len(found.validation.anomalies)
    assert 0 < count < 20 and len(found.validation.anomalies.path) == count
    assert (found.validation.anomalies.images > 0).all()
    assert found.notes[0].startswith(
        f"{20 - count} of 20 validation anomalies cannot be read and were left out: image "
    )


def test_set_aside_anomalies_are_others_than_those_that_training_may_use():
    some = prepared(typed(), {"from_test": 1}, reserved=2)
    more = prepared(typed(), {"from_test": 1}, reserved=4)
    assert set(some.reserved_anomalies.validation).isdisjoint(more.reserved_anomalies.reserved)
    np.testing.assert_array_equal(some.reserved_anomalies.validation, more.reserved_anomalies.validation)
    assert sorted(some.validation.anomalies.defect) == ["bent", "cut", "rust"]
    assert {"bent", "cut", "rust"} == set(more.split.test_defect) - {""}
    assert set(some.reserved_anomalies.validation) < set(
        prepared(typed(), {"from_test": 2}).reserved_anomalies.validation
    )


def test_without_validation_the_same_images_are_set_aside_as_ever():
    kinds = ["a"] * 7 + ["b"] * 2 + ["c"]

    def rngs():
        return [np.random.default_rng(i) for i in range(3)]

    plain, reserving = drawn_by_type(kinds, 3, rngs()), drawn_by_type(kinds, 3, rngs(), 2)
    assert [len(each.training) for each in plain] == [3, 1, 0] and not any(len(each.validation) for each in plain)
    assert [(len(each.training), len(each.validation)) for each in reserving] == [(3, 2), (0, 1), (0, 0)]
    np.testing.assert_array_equal(plain[0].training, reserving[0].training)
    for each in reserving:
        assert set(each.training).isdisjoint(each.validation)


def test_rendered_anomalies_are_the_same_under_every_config_and_others_under_another_seed():
    first = prepared(CORPUS, "blob").validation.anomalies
    other = prepared(CORPUS, "blob", anomalies={"mode": "unsupervised", "source": None}).validation.anomalies
    np.testing.assert_array_equal(first.images, other.images)
    again = prepared(CORPUS, "blob", seed=1).validation.anomalies
    assert not np.array_equal(first.images, again.images)
    clean = CORPUS.images[first.index]
    np.testing.assert_array_equal((first.images != clean).any(axis=1), first.gt_maps)
    assert first.gt_maps.any((1, 2)).all() and not first.gt_maps.all((1, 2)).any()
    assert first.index == prepared(CORPUS, "blob").validation.nominal.tolist()


def test_rendered_anomalies_take_turns_in_strength():
    """White squares on dark ground: 255 gray levels and each time half of that."""
    found = prepared(dataclasses.replace(CORPUS, images=np.zeros_like(CORPUS.images)), "blob", fraction=0.35)
    levels = [int(image.max()) for image in found.validation.anomalies.images]
    assert levels == ([255, 127, 63, 31, 15, 7] * 3)[: len(levels)] and len(levels) == 14


# Blind to the test set


def poisoned(corpus, seed=3):
    """The test set with other pixels and, where they are no part of the split, random labels."""
    rng = np.random.default_rng(seed)
    images = corpus.images.copy()
    images[corpus.is_test] = rng.integers(0, 255, images[corpus.is_test].shape)
    anomalous, kind = corpus.is_anomalous.copy(), corpus.class_index.copy()
    if corpus.protocol == "defects":
        anomalous[corpus.is_test] = rng.random(corpus.is_test.sum()) < 0.5
    else:
        kind[corpus.is_test] = rng.integers(0, 3, corpus.is_test.sum())
    return dataclasses.replace(
        corpus,
        images=images,
        is_anomalous=anomalous,
        class_index=kind,
        defect=tuple("x" if flag else "" for flag in anomalous),
        mask_index=np.full(len(images), -1),
    )


def validation_values(result):
    rows = zip(*(result.scores[name] for name in ("split", "label", "path", "score")), strict=True)
    by_epoch = [record.validation_image_auroc for record in result.history]
    metrics = [result.metrics[name] for name in (*METRICS, "threshold", "selection_source", "n_validation_anomalous")]
    return repr(([row for row in rows if row[0] == "validation"], by_epoch, metrics))


@pytest.mark.parametrize("name", [name for name in MODES if name != "set aside"])
@pytest.mark.parametrize("test", [True, False])
def test_a_poisoned_test_set_changes_no_bit_of_what_configs_are_selected_by(name, test):
    corpus, trial = trial_of(name, epochs=[1, 2], test=test)
    pool = pool_of(trial.settings.evaluation.validation.anomalies) or (
        ArrayPool(pixels(30), fingerprint="pool") if name == "folder" else None
    )
    clean = train(trial, TrialData(corpus, validation_pool=pool))
    dirty = train(trial, TrialData(poisoned(corpus), validation_pool=pool))
    assert validation_values(clean) == validation_values(dirty)
    assert not math.isnan(clean.metrics["validation_image_auroc"])
    if test:
        assert clean.metrics["image_auroc"] != dirty.metrics["image_auroc"]


@pytest.mark.parametrize(("source", "other"), [("confetti", "spots"), ("spots", "chips")])
def test_an_image_score_is_chosen_on_another_generator_and_on_nothing_of_the_test_set(source, other):
    """Anomalies of all strengths on each held-out image that no threshold is calibrated on; training knows none."""
    sections = {"anomalies": {"mode": "malformed_normal", "source": source}, **LABELS}
    rate, half = 0.1, {"validation": {"nominal_fraction": 0.5}, "false_alarm_rate": 0.1}
    trial = spec(evaluation={**half, "image_score": "auto"}, **sections)
    clean, dirty = (train(trial, TrialData(corpus)) for corpus in (CORPUS, poisoned(CORPUS)))
    named = train(spec(evaluation=half, **sections), TrialData(CORPUS))
    found, changed, by_name = (
        SelectionScores.of(result.scores, calibrating_paths(result.scores, rate)) for result in (clean, dirty, named)
    )
    np.testing.assert_array_equal(found.nominal, changed.nominal)
    np.testing.assert_array_equal(found.anomalous, changed.anomalous)
    np.testing.assert_array_equal(found.anomalous, by_name.anomalous)
    assert found.sources == {f"rendered {other}"} and len(found.nominal) >= 2
    assert sorted(found.anomalous_path) == sorted([*found.nominal_path] * 6)
    strongest, faintest = found.anomalous[::6, 1].mean(), found.anomalous[5::6, 1].mean()
    assert strongest > faintest
    rows = zip(*(clean.scores[name] for name in ("split", "path", "label")), strict=True)
    held_out = {path for split, path, label in rows if (split, label) == ("validation", 0)}
    assert set(found.nominal_path) == {path for path in held_out if is_for_selection(path)}
    assert clean.metrics["n_calibration"] == len(held_out) - len(found.nominal)
    assert named.metrics["n_calibration"] == len(held_out)
    assert clean.metrics["image_score_source"].startswith("auto: mean of the anomaly map until")


def test_images_that_stay_in_the_test_set_do_not_matter_to_those_that_were_set_aside():
    corpus, trial = trial_of("set aside")
    clean = train(trial, TrialData(corpus))
    taken = set(prepared(corpus, {"from_test": 2}).reserved_anomalies.validation.tolist())
    images = corpus.images.copy()
    images[[i for i in np.flatnonzero(corpus.is_test) if i not in taken]] = 7
    assert validation_values(clean) == validation_values(
        train(trial, TrialData(dataclasses.replace(corpus, images=images)))
    )


def test_a_trial_without_a_test_counts_its_images_and_scores_none():
    corpus, trial = trial_of("rendered", test=False)
    untested, tested = train(trial, TrialData(corpus)), train(trial_of("rendered")[1], TrialData(corpus))
    metrics = untested.metrics
    assert "test" not in untested.scores["split"] and untested.curves == {} and untested.defects == []
    assert all(math.isnan(metrics[name]) for name in ("image_auroc", "image_ap", "f1_max_oracle", "pixel_auroc"))
    assert (metrics["n_test_nominal"], metrics["n_test_anomalous"], metrics["n_test_maps"]) == (12, 12, 0)
    assert len(untested.maps["label"]) == 0 and len(untested.maps["train_label"]) > 0
    assert validation_values(untested) == validation_values(tested)


# Metrics


def test_metrics_are_those_of_the_validation_scores():
    corpus, trial = trial_of("other classes")
    result = train(trial, TrialData(corpus))
    rows = np.array(result.scores["split"]) == "validation"
    label, score, largest = (np.array(result.scores[name])[rows] for name in ("label", "score", "score_max"))
    by_max = result.metrics["validation_image_auroc_max"]
    assert by_max == auroc(largest.astype(float), label) != result.metrics["validation_image_auroc"]
    error = auroc_standard_error(largest.astype(float), label)
    assert result.metrics["validation_image_auroc_max_std_error"] == error
    assert result.metrics["validation_image_auroc"] == auroc(score.astype(float), label)
    assert result.metrics["validation_image_auroc_std_error"] == auroc_standard_error(score.astype(float), label)
    assert (result.metrics["n_validation"], result.metrics["n_validation_anomalous"]) == (sum(label == 0), sum(label))
    held_out = f"validation: {sum(label == 0)} held-out nominal training images"
    assert (
        result.metrics["selection_source"] == f"{held_out}, {sum(label)} images of other classes of the training split"
    )
    assert math.isnan(result.metrics["validation_pixel_auroc"])
    assert set(np.array(result.scores["defect"])[rows]) == {"", "light", "bright"}


def test_rendered_anomalies_have_pixel_metrics_and_are_named():
    result = train(trial_of("rendered")[1], TrialData(CORPUS))
    assert 0 < result.metrics["validation_pixel_auroc"] < 1
    assert result.metrics["selection_source"].endswith(
        "10 held-out nominal training images, 10 of them with rendered blob"
    )
    assert set(result.scores["defect"]) == {"", "square", "blob"}


def test_without_validation_anomalies_a_row_says_so():
    result = train(spec(evaluation={"validation": {"nominal_fraction": 0.25}}), TrialData(CORPUS))
    assert result.metrics["selection_source"] == "none: fixed epochs"
    assert all(math.isnan(result.metrics[name]) for name in METRICS) and result.metrics["n_validation_anomalous"] == 0


def test_roles_are_swapped_in_validation_too():
    corpus, anomalies, sections = MODES["other classes"]
    swapped = {**LABELS, **sections, "images": {"nominal_label": 1}, "evaluation": evaluation(anomalies)}
    result = train(spec(**swapped), TrialData(corpus))
    rows = [i for i, split in enumerate(result.scores["split"]) if split == "validation"]
    assert {(result.scores["label"][i], result.scores["defect"][i] == "") for i in rows} == {(1, True), (0, False)}


# Validation during training


VALIDATED = {
    "fcdd": {},
    "hsc": {"method": "hsc", "network": {"name": "CNN28"}},
    "dropped layers": {
        "network": {"name": None, "backbone": "efficientnet_b0", "node": "features.2", "weights": "none"}
    },
    "half precision": {"training": {"precision": "bf16", "supervision": "labels"}},
    "augmented noise": {"anomalies": {"mode": "noise", "source": "uniform"}},
}


@pytest.mark.parametrize("sections", VALIDATED.values(), ids=VALIDATED)
def test_validation_during_training_changes_no_bit_of_what_is_trained(sections):
    def trained(epochs):
        chosen = evaluation("blob", epochs=epochs)
        return train(spec(evaluation=chosen, **{**LABELS, **sections}), TrialData(CORPUS))

    without, validated = trained([]), trained([1, 2])
    aurocs = [record.validation_image_auroc for record in validated.history]
    assert all(math.isnan(record.validation_image_auroc) for record in without.history)
    assert aurocs[-1] == validated.metrics["validation_image_auroc"] == without.metrics["validation_image_auroc"]
    history = [dataclasses.replace(record, validation_image_auroc=math.nan) for record in validated.history]
    validated = dataclasses.replace(validated, history=history)
    for result in (without, validated):
        del result.snapshot["settings"], result.snapshot["trial_id"]
    assert plain(without) == plain(validated)


def test_only_the_named_epochs_are_validated():
    trial = spec(evaluation=evaluation("blob", epochs=[2]), **LABELS)
    first, second = (record.validation_image_auroc for record in train(trial, TrialData(CORPUS)).history)
    assert math.isnan(first) and 0 <= second <= 1
    assert trial.trial_id == spec(evaluation=evaluation("blob"), **LABELS).trial_id


def test_validation_scores_that_are_not_finite_end_no_training():
    class Broken:
        settings = spec().settings
        network = torch.nn.Identity()

        def detect(self, raw, rows=None):
            count = len(raw if rows is None else rows)
            return Detection(torch.empty(0), torch.full((count,), math.inf, dtype=torch.float64))

    assert math.isnan(validation_auroc(Broken(), CORPUS, prepared(CORPUS, "blob").validation))

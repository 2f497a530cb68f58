"""Preparation of a trial's data: the order of its steps, and the notes that it leaves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fcdd_sweep.anomalies.malform import malform_once
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import train
from tests.prepared import CORPUS, FOLDER, Patchy, batches_of, drawn_of, made, pixels, typed
from tests.specs import spec
from tests.training.test_trainer import numbers


def prepared(data, **sections):
    return prepare(spec(**sections), data, Streams(0, "plain"), torch.device("cpu"))


def test_nominal_images_are_those_of_the_split_in_its_order():
    found = prepared(TrialData(CORPUS), evaluation={"validation": {"nominal_fraction": 0.25}})
    np.testing.assert_array_equal(found.batches.nominal.numpy(), CORPUS.images[found.split.train_nominal])
    assert set(found.validation.nominal).isdisjoint(found.split.train_nominal)


def test_statistics_are_fitted_without_validation_images():
    sections = {"preprocessing": "none", "evaluation": {"validation": {"nominal_fraction": 0.25, "anomalies": "blob"}}}
    found = prepared(TrialData(CORPUS), **sections)
    images = CORPUS.images.copy()
    images[found.validation.nominal] = 255
    again = prepared(TrialData(dataclasses.replace(CORPUS, images=images)), **sections)
    assert torch.equal(found.batches.preprocessor.shift, again.batches.preprocessor.shift)
    assert torch.equal(found.batches.preprocessor.scale, again.batches.preprocessor.scale)


def test_training_draws_nothing_of_a_pool_that_validation_took():
    rng = np.random.default_rng(0)
    pool = ArrayPool(rng.integers(0, 255, (40, 1, 32, 32)).astype(np.uint8), fingerprint="p")
    validation = {"nominal_fraction": 0.25, "anomalies": {"folder": "x"}}
    found = prepared(
        TrialData(CORPUS, pool, pool),
        anomalies=FOLDER,
        evaluation={"validation": validation},
        training={"supervision": "labels"},
    )
    trained = {image.numpy().tobytes() for image in found.batches.pool.images}
    taken = {image.tobytes() for image in found.validation.anomalies.images}
    assert (len(trained), len(taken)) == (20, 20) and trained.isdisjoint(taken)


def test_a_limit_beyond_the_pool_is_noted():
    pool = ArrayPool(np.zeros((3, 1, 32, 32), np.uint8))
    found = prepared(TrialData(CORPUS, pool), anomalies={**FOLDER, "limit": 8})
    assert found.notes == ["anomalies.limit asks for 8 images, but there are 3: all are used"]


def test_a_class_without_nominal_training_images_is_an_error():
    untrained = dataclasses.replace(CORPUS, is_test=np.ones(64, dtype=bool))
    with pytest.raises(TrainingError, match="class 'plain' of 'textures' has no nominal training images"):
        prepared(TrialData(untrained))


def with_training_anomalies(count=3):
    """The last test images, every second of which is anomalous, moved to the training split."""
    return dataclasses.replace(CORPUS, is_test=CORPUS.is_test & (np.arange(64) < 64 - 2 * count))


# Offline


OFFLINE = {
    "noise": {"mode": "noise", "source": "blob"},
    "malformed_normal": {"mode": "malformed_normal", "source": "confetti"},
    "malformed_normal_gt": {"mode": "malformed_normal_gt", "source": "confetti"},
    "exposure": FOLDER,
}


@pytest.mark.parametrize("anomalies", OFFLINE.values(), ids=OFFLINE.keys())
def test_offline_every_epoch_sees_each_nominal_image_and_one_anomaly_for_each(anomalies):
    exposure = ArrayPool(pixels())
    found = made(exposure=exposure, anomalies={**anomalies, "online": False}, training={"passes_per_epoch": 2})
    assert (np.bincount(found.batches.planner.order(1)) == 2).all() and len(found.batches.planner.order(1)) == 2 * 80
    labels = torch.cat([batch.labels for batch in batches_of(found)])
    assert (labels == 0).sum() == (labels == 1).sum() == 80
    assert found.batches.distinct_anomalies == (40 if anomalies is FOLDER else None)


@pytest.mark.parametrize(("min_steps", "passes"), [(0, 1), (2, 1), (3, 2), (30, 12)])
def test_few_images_are_passed_over_until_an_epoch_has_its_steps(min_steps, passes):
    """40 images in batches of 16: 2.5 steps a pass."""
    found = made(training={"min_steps": min_steps, "batch_size": 16})
    assert (np.bincount(found.batches.planner.order(1)) == passes).all()
    assert len(batches_of(found)) == -(-40 * passes // 16) >= min_steps


def test_offline_anomalies_are_made_once():
    found = made(anomalies={"mode": "noise", "source": "uniform", "online": False}, preprocessing="none")
    again = made(anomalies={"mode": "noise", "source": "uniform", "online": False}, preprocessing="none")
    index = np.arange(40, 80)
    first, later = (found.batches.batch(index, epoch, 3).inputs for epoch in (1, 2))
    assert torch.equal(first, later) and torch.equal(first, again.batches.batch(index, 1, 0).inputs)
    assert len({image.numpy().tobytes() for image in first}) == 40


def test_offline_anomalies_do_not_depend_on_how_many_are_made_together(monkeypatch):
    """Sources that draw image by image give the same pictures in any chunks; confetti is drawn in chunks anyway."""
    anomalies = {"mode": "malformed_normal", "source": "uniform", "online": False}
    whole = made(anomalies=anomalies).batches.pool.images
    monkeypatch.setattr("fcdd_sweep.training.prepare._CHUNK", 16)
    assert torch.equal(made(anomalies=anomalies).batches.pool.images, whole)


def test_offline_malformed_images_are_their_nominal_images_with_maps_of_what_changed():
    found = made(anomalies={**OFFLINE["malformed_normal_gt"], "online": False}, preprocessing="none")
    pool, nominal = found.batches.pool, found.batches.nominal
    assert torch.equal(pool.gt_maps.bool(), (pool.images != nominal).any(dim=1, keepdim=True))
    assert (pool.images >= nominal).all()  # the images are brighter than 0.11 * 255: confetti is negated
    batch = found.batches.batch(np.array([0, 40, 79]), 1, 0)
    assert batch.labels.tolist() == [0, 1, 1] and not batch.gt_maps[0].any()
    assert torch.equal(batch.gt_maps[1], pool.gt_maps[0][:, np.arange(28) * 32 // 28][:, :, np.arange(28) * 32 // 28])


def test_offline_noise_is_negated_pixel_by_pixel_on_bright_ground():
    """Pixel by pixel: where the mean of the channels is above 0.11 * 255 = 28.05."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 60, (4, 3, 5, 6)).astype(np.uint8))
    noise = torch.from_numpy(rng.integers(-80, 80, (4, 3, 5, 6)).astype(np.int16))
    malformed, changed = malform_once(images, noise)
    assert malformed.dtype == torch.uint8 and changed.shape == (4, 1, 5, 6)
    for n, row, column in np.ndindex(4, 5, 6):
        clean, added = images[n, :, row, column].int(), noise[n, :, row, column].int()
        wanted = (clean - added if clean.float().mean() > 0.11 * 255 else clean + added).clamp(0, 255)
        assert torch.equal(malformed[n, :, row, column].int(), wanted)
        assert bool(changed[n, 0, row, column]) == bool((wanted != clean).any())


def test_offline_anomalies_that_changed_nothing_are_counted():
    white = dataclasses.replace(CORPUS, images=np.full_like(CORPUS.images, 255))
    notes = made(white, anomalies={**OFFLINE["malformed_normal"], "online": False}).notes
    assert notes == [
        "40 of 40 anomalies made before training equal their nominal image, which 'confetti' did not change"
    ]


def test_offline_real_anomalies_follow_as_they_are_and_only_once():
    anomalies = {"mode": "other", "source": None, "online": False}
    found = made(with_training_anomalies(3), anomalies=anomalies)
    n = len(found.batches.nominal)
    assert sorted(found.batches.planner.order(1)) == list(range(n + 3))
    limited = made(with_training_anomalies(3), anomalies={**anomalies, "limit": 2})
    assert sorted(limited.batches.planner.order(1)) == list(range(n + 2)) and limited.batches.distinct_anomalies == 2


def test_offline_a_few_exposure_images_come_in_turn_and_no_more_are_read_than_needed():
    few = made(exposure=ArrayPool(pixels()), anomalies={**FOLDER, "limit": 8, "online": False})
    drawn = drawn_of(few.batches.planner.row(np.arange(80), 1, 0))
    assert np.bincount(drawn).tolist() == [5] * 8
    many = Patchy(pixels(500))
    assert len(made(exposure=many, anomalies={**FOLDER, "online": False}).batches.pool) == 40
    assert len(many.asked) == 40


def test_offline_the_preview_shows_nominal_images_and_their_anomalies():
    found = made(anomalies={**OFFLINE["malformed_normal_gt"], "online": False})
    assert found.batches.preview(5).labels.tolist() == [0] * 5 + [1] * 5
    assert found.batches.preview(5).gt_maps[5:].any()


@pytest.mark.parametrize("anomalies", OFFLINE.values(), ids=OFFLINE.keys())
def test_offline_trials_repeat_their_bits(anomalies):
    trial = spec(anomalies={**anomalies, "online": False})
    assert numbers(train(trial, TrialData(CORPUS, ArrayPool(pixels())))) == numbers(
        train(trial, TrialData(CORPUS, ArrayPool(pixels())))
    )


# Real anomalies out of the test set


def real(limit, reserved=None, source="mvtec_gt", seed=0, corpus=None, **sections):
    reserved = limit if reserved is None else reserved
    anomalies = {"mode": "noise", "source": source, "limit": limit}
    evaluation = {"reserved_anomalies": reserved}
    return made(corpus or typed(), None, seed, anomalies=anomalies, evaluation=evaluation, **sections)


def test_real_anomalies_leave_the_test_set_some_of_each_defect_type():
    found = real(2)
    split, corpus = found.split, typed()
    assert sorted(corpus.defect[i] for i in found.reserved_anomalies.reserved) == ["bent", "bent", "cut", "cut", "rust"]
    assert set(found.reserved_anomalies.reserved).isdisjoint(split.test)
    whole = split_for(corpus, "plain")
    assert sorted([*found.reserved_anomalies.reserved, *split.test]) == whole.test.tolist()
    assert split.test_label.tolist() == [int(corpus.is_anomalous[i]) for i in split.test]
    assert split.test_defect == tuple(corpus.defect[i] for i in split.test)
    assert {kind: split.test_defect.count(kind) for kind in ("bent", "cut", "rust")} == {"bent": 4, "cut": 2, "rust": 1}


def test_configs_with_other_limits_are_tested_on_the_same_images_and_train_on_nested_parts():
    most, some, one = real(4), real(2, reserved=4), real(1, reserved=4)
    none = made(typed(), evaluation={"reserved_anomalies": 4})
    for found in (some, one, none):
        np.testing.assert_array_equal(found.split.test, most.split.test)
        np.testing.assert_array_equal(found.reserved_anomalies.reserved, most.reserved_anomalies.reserved)
    parts = [set(found.reserved_anomalies.used) for found in (none, one, some, most)]
    assert [len(part) for part in parts] == [0, 3, 5, 8]
    assert parts[0] < parts[1] < parts[2] < parts[3] == set(most.reserved_anomalies.reserved)


def test_one_image_of_each_type_stays_however_many_are_asked_for():
    found = real(100)
    assert {kind: found.split.test_defect.count(kind) for kind in ("bent", "cut", "rust")} == dict.fromkeys(
        ("bent", "cut", "rust"), 1
    )


def test_another_seed_sets_other_images_aside():
    assert set(real(1).reserved_anomalies.reserved) != set(real(1, seed=1).reserved_anomalies.reserved)


def test_real_anomalies_train_with_their_maps_or_with_maps_of_ones():
    with_maps, without = real(2).batches, real(2, source="mvtec").batches
    assert torch.equal(with_maps.pool.images == 250, with_maps.pool.gt_maps == 1)
    assert torch.equal(with_maps.pool.images, without.pool.images) and without.pool.gt_maps is None
    batch = without.batch(np.arange(40), 1, 0)
    anomalous = batch.gt_maps[batch.labels == 1]
    assert 0 < len(anomalous) < 40 and anomalous.all()


def test_an_anomaly_that_trains_is_never_scored():
    evaluation = {"reserved_anomalies": 2}
    anomalies = {"mode": "noise", "source": "mvtec_gt", "limit": 1}
    result = train(spec(anomalies=anomalies, evaluation=evaluation), TrialData(typed()))
    reserved = real(1, reserved=2).reserved_anomalies.reserved
    rows = list(zip(result.scores["split"], result.scores["image_index"], result.scores["score"], strict=True))
    tested = {index for split, index, _ in rows if split == "test"}
    assert len(tested) == 24 - len(reserved) and tested.isdisjoint(reserved)
    left = {index: (split, score) for split, index, score in rows if split != "test"}
    assert left.keys() == set(reserved.tolist())
    assert {split for split, _ in left.values()} == {"used_in_training", "reserved"}
    assert all(score is None for _, score in left.values())
    assert result.metrics["n_train_anomalous"] == 3


def test_real_anomalies_work_offline_too():
    anomalies = {"mode": "noise", "source": "mvtec_gt", "limit": 1, "online": False}
    found = made(typed(), anomalies=anomalies, evaluation={"reserved_anomalies": 1})
    assert len(found.batches.planner.order(1)) == 80
    drawn = drawn_of(found.batches.planner.row(np.arange(40, 80), 1, 0))
    assert np.bincount(drawn).tolist() == [14, 13, 13]


def test_a_class_without_two_anomalies_of_a_type_says_so():
    lone = dataclasses.replace(
        CORPUS, defect=tuple(f"d{i}" if flag else "" for i, flag in enumerate(CORPUS.is_anomalous))
    )
    with pytest.raises(TrainingError, match="no defect type has two test anomalies"):
        real(1, corpus=lone)

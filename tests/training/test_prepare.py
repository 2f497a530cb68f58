"""Preparation of a trial's data: the order of its steps, and the notes that it leaves."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch

from fcdd_sweep.anomalies.malform import malform_once
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.anomaly_pools import ResidentPool, StreamedPool, read_ahead
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import train
from tests.specs import defects_corpus, spec
from tests.training.test_trainer import numbers

CORPUS = defects_corpus()
FOLDER = {"mode": "noise", "source": {"folder": "x"}}


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


CORPUS = defects_corpus()
"""40 nominal training images, and a test set of 12 nominal and 12 anomalous ones of the type `square`."""
FOLDER = {"mode": "noise", "source": {"folder": "x"}}


def made(corpus=CORPUS, exposure=None, seed=0, **sections):
    trial = spec(seed=seed, **sections)
    return prepare(trial, TrialData(corpus, exposure), Streams(seed, trial.normal_class), torch.device("cpu"))


def batches_of(found, epoch=1):
    return list(found.batches.epoch(epoch))


def typed(names=("bent", "cut", "rust")):
    """The corpus with its 12 test anomalies divided into types: 6 bent, 4 cut, 2 rust or as many of other names."""
    kinds = iter([names[0]] * 6 + [names[1]] * 4 + [names[2]] * 2)
    return dataclasses.replace(CORPUS, defect=tuple(next(kinds) if flag else "" for flag in CORPUS.is_anomalous))


def with_training_anomalies(count=3):
    """The last test images, every second of which is anomalous, moved to the training split."""
    return dataclasses.replace(CORPUS, is_test=CORPUS.is_test & (np.arange(64) < 64 - 2 * count))


def pixels(n=50, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, 1, 32, 32)).astype(np.uint8)


class Patchy:
    """A pool some of whose images cannot be read; it knows which it was asked for, and by which threads."""

    fingerprint = "f"

    def __init__(self, images, broken=()):
        self.images, self.broken, self.asked, self.threads = images, set(broken), [], set()

    def __len__(self):
        return len(self.images)

    def names(self, index):
        return [f"image {i}" for i in index]

    def read(self, index):
        self.asked += index.tolist()
        self.threads.add(threading.current_thread().name)
        readable = np.array([i not in self.broken for i in index.tolist()], dtype=bool)
        return np.where(readable[:, None, None, None], self.images[index], 0).astype(np.uint8), readable


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
    assert (np.bincount(found.batches.order(1)) == 2).all() and len(found.batches.order(1)) == 2 * 80
    labels = torch.cat([batch.labels for batch in batches_of(found)])
    assert (labels == 0).sum() == (labels == 1).sum() == 80
    assert found.batches.distinct_anomalies == (40 if anomalies is FOLDER else None)


@pytest.mark.parametrize(("min_steps", "passes"), [(0, 1), (2, 1), (3, 2), (30, 12)])
def test_few_images_are_passed_over_until_an_epoch_has_its_steps(min_steps, passes):
    """40 images in batches of 16: 2.5 steps a pass."""
    found = made(training={"min_steps": min_steps, "batch_size": 16})
    assert (np.bincount(found.batches.order(1)) == passes).all()
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
    assert sorted(found.batches.order(1)) == list(range(n + 3))
    limited = made(with_training_anomalies(3), anomalies={**anomalies, "limit": 2})
    assert sorted(limited.batches.order(1)) == list(range(n + 2)) and limited.batches.distinct_anomalies == 2


def test_offline_a_few_exposure_images_come_in_turn_and_no_more_are_read_than_needed():
    few = made(exposure=ArrayPool(pixels()), anomalies={**FOLDER, "limit": 8, "online": False})
    drawn = few.batches._decide(np.arange(80), 1, 0).drawn
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
    assert len(found.batches.order(1)) == 80
    drawn = found.batches._decide(np.arange(40, 80), 1, 0).drawn
    assert np.bincount(drawn).tolist() == [14, 13, 13]


def test_a_class_without_two_anomalies_of_a_type_says_so():
    lone = dataclasses.replace(
        CORPUS, defect=tuple(f"d{i}" if flag else "" for i, flag in enumerate(CORPUS.is_anomalous))
    )
    with pytest.raises(TrainingError, match="no defect type has two test anomalies"):
        real(1, corpus=lone)


# Outlier exposure that is read while training


@pytest.fixture
def small_budget(monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)


def test_streamed_images_give_the_same_numbers_as_resident_ones(monkeypatch):
    trial = spec(anomalies={**FOLDER, "limit": 20}, training={"batch_size": 8})
    resident = train(trial, TrialData(CORPUS, ArrayPool(pixels())))
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    source = Patchy(pixels())
    streamed = train(trial, TrialData(CORPUS, source))
    assert numbers(streamed) == numbers(resident)
    assert len(set(source.asked)) <= 20
    assert all(name.startswith("read_ahead") for name in source.threads - {"MainThread"})
    assert len(source.threads) > 1


@pytest.mark.usefixtures("small_budget")
def test_the_batches_of_an_epoch_are_those_that_are_made_one_by_one():
    found = made(exposure=Patchy(pixels(), broken=range(0, 50, 2)), anomalies=FOLDER, training={"batch_size": 8})
    assert isinstance(found.batches.pool, StreamedPool)
    order = found.batches.order(2)
    for step, batch in enumerate(found.batches.epoch(2)):
        alone = found.batches.batch(order[8 * step : 8 * step + 8], 2, step)
        assert torch.equal(batch.inputs, alone.inputs) and torch.equal(batch.labels, alone.labels)


@pytest.mark.usefixtures("small_budget")
def test_unreadable_images_are_replaced_by_further_draws_and_counted():
    images = np.maximum(pixels(), 1)
    broken = set(range(0, 50, 3))
    source = Patchy(images, broken)
    found = made(exposure=source, anomalies={**FOLDER, "probability": 1.0}, preprocessing="none")
    assert found.notes == []
    drawn = np.concatenate([found.batches._decide(np.arange(40), epoch, 0).drawn for epoch in range(4)])
    assert drawn.shape == (160, 1, 32, 32) and (drawn > 0).all()
    seen = {image.tobytes() for image in drawn}
    assert seen <= {images[i].tobytes() for i in range(50) if i not in broken}
    (note,) = found.notes
    count = len(set(source.asked) & broken)
    assert (
        f"{count} outlier-exposure images of 50 were drawn and cannot be read" in note
        and "image 0, image 3, image 6, ..." in note
    )


@pytest.mark.usefixtures("small_budget")
def test_what_could_not_be_read_is_in_the_trial_s_notes():
    (note,) = train(spec(anomalies=FOLDER), TrialData(CORPUS, Patchy(pixels(), broken=range(10)))).notes
    assert "outlier-exposure images of 50 were drawn and cannot be read; others took their places" in note


@pytest.mark.usefixtures("small_budget")
def test_a_limit_keeps_its_number_of_distinct_images_when_some_cannot_be_read():
    source = Patchy(np.maximum(pixels(), 1), broken=set(range(0, 50, 2)))
    found = made(exposure=source, anomalies={**FOLDER, "limit": 8, "probability": 1.0})
    assert isinstance(found.batches.pool, StreamedPool) and len(found.batches.pool) == 8
    drawn = np.concatenate([found.batches._decide(np.arange(40), epoch, 0).drawn for epoch in range(6)])
    assert len({image.tobytes() for image in drawn}) == 8


@pytest.mark.usefixtures("small_budget")
def test_a_pool_that_cannot_be_read_at_all_is_an_error():
    found = made(exposure=Patchy(pixels(), broken=range(50)), anomalies=FOLDER)
    with pytest.raises(TrainingError, match=r"outlier-exposure images of 50 were drawn and cannot be read.*source"):
        batches_of(found)


def test_resident_pools_have_as_many_readable_images_as_the_limit_says():
    broken = set(range(0, 50, 4))
    source = Patchy(np.maximum(pixels(), 1), broken)
    found = made(exposure=source, anomalies={**FOLDER, "limit": 30})
    pool = found.batches.pool
    assert isinstance(pool, ResidentPool) and len(pool) == 30 and (pool.images > 0).all()
    assert len({image.numpy().tobytes() for image in pool.images}) == 30
    whole = made(exposure=Patchy(np.maximum(pixels(), 1)), anomalies={**FOLDER, "limit": 50}).batches.pool.images
    kept = [image for image in whole if image.numpy().tobytes() not in {source.images[i].tobytes() for i in broken}]
    assert torch.equal(pool.images, torch.stack(kept[:30]))
    assert (
        len(found.notes) == 1
        and "cannot be read and were passed over: image 0, image 4, image 8, ..." in found.notes[0]
    )


def test_a_limit_that_readable_images_do_not_reach_is_noted_with_both_numbers():
    found = made(exposure=Patchy(pixels(9), broken=[1, 2, 5, 7]), anomalies={**FOLDER, "limit": 8})
    assert len(found.batches.pool) == 5
    assert found.notes == [
        "4 outlier-exposure images cannot be read and were passed over: image 1, image 2, image 5, ...",
        "8 outlier-exposure images were to be used, but only 5 of 9 can be read",
    ]
    beyond = made(exposure=Patchy(pixels(9)), anomalies={**FOLDER, "limit": 12})
    assert beyond.notes == ["anomalies.limit asks for 12 images, but there are 9: all are used"]


def test_no_exposure_image_that_can_be_read_is_an_error():
    with pytest.raises(TrainingError, match="none of the 9 outlier-exposure images can be read"):
        made(exposure=Patchy(pixels(9), broken=range(9)), anomalies=FOLDER)
    with pytest.raises(TrainingError, match="no training anomalies.*the source of outlier exposure is empty"):
        made(exposure=Patchy(pixels(0)), anomalies=FOLDER)


def test_results_come_in_order_and_only_some_are_worked_out_ahead():
    begun = []

    def task(number):
        return lambda: begun.append(number) or number

    results = read_ahead(task(number) for number in range(40))
    assert next(results) == 0
    assert len(begun) <= anomaly_pools.AHEAD + 1
    assert list(results) == list(range(1, 40))


def test_a_reader_s_error_reaches_training_and_leaves_no_thread_behind():
    def broken():
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="on fire"):
        list(read_ahead([lambda: 1, broken, lambda: 2]))
    stopped = read_ahead((lambda: 1) for _ in range(50))
    next(stopped)
    stopped.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]

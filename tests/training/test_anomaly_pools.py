"""Outlier exposure that is read while training: the same numbers, and images that cannot be read."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.anomaly_pools import ResidentPool, StreamedPool, read_ahead
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.trainer import train
from tests.prepared import CORPUS, FOLDER, Patchy, anomalies_of, batches_of, made, pixels
from tests.specs import spec
from tests.training.test_trainer import numbers


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
    order = found.batches.planner.order(2)
    for step, batch in enumerate(batches_of(found, 2)):
        alone = found.batches.batch(order[8 * step : 8 * step + 8], 2, step)
        assert torch.equal(batch.inputs, alone.inputs) and torch.equal(batch.labels, alone.labels)


@pytest.mark.usefixtures("small_budget")
def test_unreadable_images_are_replaced_by_further_draws_and_counted():
    images = np.maximum(pixels(), 1)
    broken = set(range(0, 50, 3))
    source = Patchy(images, broken)
    found = made(exposure=source, anomalies={**FOLDER, "probability": 1.0}, preprocessing="none")
    assert found.notes == []
    drawn = np.concatenate(
        [anomalies_of(found, found.batches.planner.row(np.arange(40), epoch, 0)) for epoch in range(4)]
    )
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
    drawn = np.concatenate(
        [anomalies_of(found, found.batches.planner.row(np.arange(40), epoch, 0)) for epoch in range(6)]
    )
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

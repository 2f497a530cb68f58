"""Preparation of a trial's data: the order of its steps, and the notes that it leaves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams
from tests.specs import defects_corpus, spec

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

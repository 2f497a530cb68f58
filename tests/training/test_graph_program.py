"""Repeated steps on a GPU against steps that run operation by operation; `tests/nullcuda` has what needs no GPU."""

import math

import pytest
import torch

from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.compose import Composer
from fcdd_sweep.training.engine import EagerProgram, ProgramMember
from fcdd_sweep.training.graph_program import GraphProgram, make_program
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.prepared import CORPUS, made
from tests.specs import spec
from tests.training.test_engine import started
from tests.training.test_trainer import numbers


def test_on_a_cpu_every_operation_runs_when_it_is_asked_to():
    _, member = started(0)
    assert isinstance(make_program([member], 16), EagerProgram)


@pytest.mark.parametrize(("training", "samples"), [({"batch_size": 16}, 16), ({"batch_size": 39}, 40), ({}, 16)])
def test_the_usual_batch_is_the_first_of_an_epoch(training, samples):
    planner = made(training=training).batches.planner
    assert planner.samples == next(planner.rows(1)).layout.samples == samples


@pytest.mark.slow
def test_training_with_the_draws_and_shapes_of_a_gpu_finds_bright_squares(monkeypatch):
    def composer(batches):
        return Composer(batches.settings, batches.nominal, None, batches.preprocessor, fixed=True)

    monkeypatch.setattr(BatchMaker, "composer", property(composer))
    result = train(spec(training={"epochs": 15, "learning_rate": 0.05}), TrialData(CORPUS))
    assert result.history[-1].loss < result.history[0].loss
    assert result.metrics["image_auroc"] > 0.9 and result.metrics["pixel_auroc"] > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_repeated_steps_give_the_bits_of_single_ones(optimizer, monkeypatch):
    trial = spec(training={"optimizer": optimizer, "epochs": 4, "batch_size": 16}, resources={"device": "cuda"})
    programs = []

    def remembered(members: list[ProgramMember], samples: int) -> GraphProgram:
        programs.append(GraphProgram(members, samples))
        return programs[-1]

    monkeypatch.setattr("fcdd_sweep.training.trainer.make_program", remembered)
    repeated = train(trial, TrialData(CORPUS))
    assert programs[0].captures and programs[0]._graph is not None
    monkeypatch.setattr("fcdd_sweep.training.trainer.make_program", lambda members, samples: EagerProgram(members))
    single = train(trial, TrialData(CORPUS))
    assert numbers(repeated) == numbers(single) and math.isfinite(repeated.history[-1].loss)

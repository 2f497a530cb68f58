"""Trials that share a program: their numbers are those of trials alone, whatever becomes of the others."""

from __future__ import annotations

import pytest
import torch

from fcdd_sweep.training import pack as pack_module
from fcdd_sweep.training.pack import current_pack
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import DivergedError, NullObserver, TrainingError
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train
from tests.specs import defects_corpus, spec
from tests.together import train_together

DATA = TrialData(defects_corpus(train=40, test=8))
"""32 of 40 nominal images are trained on, in two steps an epoch."""


def member(seed, rate=0.01, factor=0.9, **sections):
    """Trials of one shape that differ in seed, learning rate and schedule."""
    training = {"learning_rate": rate, "schedule": {"type": "exponential", "factor": factor}}
    return spec(seed=seed, training=training, evaluation={"validation": {"nominal_fraction": 0.2}}, **sections)


def together(specs, hooks=None):
    return train_together(specs, DATA, hooks)


ALONE = {}


def alone(each):
    if each.trial_id not in ALONE:
        ALONE[each.trial_id] = train(each, DATA)
    return ALONE[each.trial_id]


def assert_equal(found, expected):
    """Bit for bit."""
    losses = [[record.loss for record in result.history] for result in (found, expected)]
    assert losses[0] == losses[1] and found.scores == expected.scores
    weights, others = found.snapshot["network"], expected.snapshot["network"]
    assert all(torch.equal(weights[name], others[name]) for name in others)


@pytest.fixture(params=["one after another", "one program"])
def shared(request, monkeypatch):
    """Steps as on a CPU, and made by one program as on a GPU."""
    monkeypatch.setattr(pack_module, "_on_gpu", lambda rows: request.param == "one program")
    return request.param == "one program"


@pytest.mark.parametrize("count", [1, 4, pytest.param(16, marks=pytest.mark.long)])
@pytest.mark.slow
def test_a_pack_has_the_bits_of_its_trials_alone(count, shared):
    specs = [member(seed, rate=0.01 / (1 + seed % 3), factor=0.9 - seed / 50) for seed in range(count)]
    threads = torch.get_num_threads()
    outcomes, pack = together(specs)
    for each, found in zip(specs, outcomes, strict=True):
        assert_equal(found, alone(each))
    assert pack.shared_steps == (4 if shared and count > 1 else 0)
    assert current_pack() is None and torch.get_num_threads() == threads


class Stopping(NullObserver):
    """Asks to stop before the step after the first epoch."""

    epochs = 0

    def epoch_done(self, record, epochs):
        self.epochs += 1

    def stop_asked(self):
        return self.epochs == 1


@pytest.mark.slow
def test_a_trial_that_stops_diverges_or_cannot_begin_costs_the_others_nothing(shared):
    good, stopped, diverging = member(0), member(1), member(2, rate=1e30)
    empty = spec(seed=3, normal_class="plain", anomalies={"mode": "other", "source": None})
    outcomes, _ = together([good, stopped, diverging, empty], {1: TrainingHooks(observer=Stopping())})
    assert_equal(outcomes[0], alone(good))
    assert [type(outcome) for outcome in outcomes[1:]] == [Stopped, DivergedError, TrainingError]


class Keeping:
    """Keeps the state after the first step of the second epoch."""

    def __init__(self):
        self.states = []

    def due(self, epoch, step):
        return (epoch, step) == (2, 1)

    def keep(self, state):
        self.states.append(state)


@pytest.mark.slow
def test_a_checkpoint_from_a_pack_resumes_alone_with_the_same_bits(shared):
    specs, kept = [member(0), member(1)], Keeping()
    together(specs, {0: TrainingHooks(checkpoints=kept)})
    (state,) = kept.states
    assert_equal(train(specs[0], DATA, resume=state), alone(specs[0]))


def test_an_error_of_a_step_ends_the_trials_that_share_it(monkeypatch):
    """Such as a GPU that runs out of memory: each trial decides what follows, as it would alone."""
    monkeypatch.setattr(pack_module, "_on_gpu", lambda rows: True)

    def broken(program, rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("fcdd_sweep.training.engine.EagerProgram.step", broken)
    outcomes, _ = together([member(0), member(1)])
    assert [type(outcome) for outcome in outcomes] == [torch.OutOfMemoryError] * 2

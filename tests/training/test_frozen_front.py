"""Frozen layers that are computed once for several trials: the numbers of each are those that it has alone."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.training import pack as pack_module
from fcdd_sweep.training import trainer
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.compose import Composer
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import DivergedError, NullObserver
from fcdd_sweep.training.step_plan import StepPlanner, in_batches
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train
from tests.prepared import FOLDER, Patchy, pixels
from tests.specs import defects_corpus, spec
from tests.together import train_together

CORPUS = defects_corpus(train=8, test=8)
"""One of 8 nominal images is held out: there are two steps an epoch, the second of them with 3 images in place of 4."""
DATA = TrialData(CORPUS)
STEPS = 4
"""Of a trial of two epochs."""
FROZEN = 4
"""A convolution, its batch norm, its activation and a pool of the small networks."""


@pytest.fixture
def frozen(monkeypatch):
    """Freezes the first layers of small networks and puts a dropout behind them; calls of the front are counted."""
    calls = []

    def made(settings, *arguments, **keywords):
        network = make_network(settings, *arguments, **keywords)
        of_encoder = network.encoder if settings.method == "ae" else network
        of_encoder.frozen = network.frozen = FROZEN
        network.front.requires_grad_(requires_grad=False)
        layers = network.layers if settings.method == "fcdd" else of_encoder.features
        layers.insert(FROZEN, nn.Dropout(0.25))
        network.front[0].register_forward_hook(lambda module, *_: calls.append(module) if module.training else None)
        return network

    monkeypatch.setattr(trainer, "make_network", made)
    return calls


@pytest.fixture
def device(request, monkeypatch):
    """Steps with the draws and shapes of a CPU, or with those of a GPU and by one program."""
    if request.param == "gpu":
        monkeypatch.setattr(pack_module, "_on_gpu", lambda rows: True)
        monkeypatch.setattr(BatchMaker, "composer", property(fixed_composer))


def fixed_composer(batches):
    return Composer(batches.settings, batches.nominal, None, batches.preprocessor, fixed=True)


def config(rate=0.01, seed=0, **sections):
    training = {"learning_rate": rate, "batch_size": 4, **sections.pop("training", {})}
    return spec(seed=seed, training=training, evaluation={"validation": {"nominal_fraction": 0.1}}, **sections)


def plain(result):
    """All numbers of a trial but times: losses, scores and metrics, and every tensor of its snapshot as bytes."""
    times = {"train_time_s", "test_time_s"}
    metrics = {name: value for name, value in result.metrics.items() if name not in times}
    return [record.loss for record in result.history], result.scores, str(metrics), tensors(result.snapshot)


def tensors(tree):
    if isinstance(tree, torch.Tensor):
        return tree.numpy().tobytes()
    return {name: tensors(each) for name, each in tree.items()} if isinstance(tree, dict) else str(tree)


class Watching(NullObserver):
    """Keeps the states after each step, and asks to stop after some steps."""

    def __init__(self, steps=math.inf):
        self.steps, self.done, self.states = steps, -1, {}

    def stop_asked(self):
        self.done += 1
        return self.done >= self.steps

    def due(self, epoch, step):
        return True

    def keep(self, state):
        self.states[state["epoch"], state["step"]] = state

    @property
    def hooks(self):
        return TrainingHooks(self, self)

    @property
    def networks(self):
        return {moment: tensors([state["network"], state["sums"]]) for moment, state in self.states.items()}


def assert_as_alone(specs, outcomes, data=DATA):
    for each, outcome in zip(specs, outcomes, strict=True):
        assert plain(outcome) == plain(train(each, data)), each.trial_id


METHODS = {
    "fcdd": {},
    "bf16": {"training": {"precision": "bf16"}},
    "hsc": {"method": "hsc", "network": {"name": "CNN28"}, "training": {"supervision": "labels"}},
    "ae": {"method": "ae", "network": {"name": "AE28"}, "anomalies": {"mode": "unsupervised", "source": None}}
    | {"training": {"supervision": "labels"}},
}


QUICK = {(4, "fcdd", "cpu"), (2, "hsc", "gpu"), (2, "bf16", "cpu")}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.long)
    for case in itertools.product((2, 4), METHODS, ("cpu", "gpu"))
]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "method", "device"), CASES, indirect=["device"])
def test_configs_of_one_seed_compute_their_frozen_front_once_and_have_the_bits_of_each_alone(
    count, method, frozen, device
):
    specs = [config(0.02 / (1 + number), **METHODS[method]) for number in range(count)]
    watched = [Watching() for _ in specs]
    hooks = {each.trial_id: watching.hooks for each, watching in zip(specs, watched, strict=True)}
    outcomes, pack = train_together(specs, DATA, hooks)
    assert (pack.shared_steps, pack.shared_fronts) == (STEPS, STEPS * (count - 1))
    assert len(frozen) == STEPS  # of all trials together
    for each, watching, outcome in zip(specs, watched, outcomes, strict=True):
        alone = Watching()
        assert plain(outcome) == plain(train(each, DATA, alone.hooks))
        assert watching.networks == alone.networks and len(alone.networks) == 1 + STEPS
    assert len({str(plain(outcome)[3]["network"]) for outcome in outcomes}) == count


@pytest.mark.long
def test_the_published_network_with_frozen_layers_shares_them():
    images = {"load_size": 32, "size": 16, "color": "rgb"}
    sections = {"network": {"name": "FCDD_CNN224_VGG_F", "weights": "none"}, "images": images}
    specs = [config(rate, training={"epochs": 1}, **sections) for rate in (0.01, 0.001)]
    data = TrialData(defects_corpus(train=8, test=4, channels=3))
    outcomes, pack = train_together(specs, data)
    assert pack.shared_fronts == 2
    assert_as_alone(specs, outcomes, data)


def test_one_that_stops_or_diverges_leaves_the_others_right_and_is_resumed_beside_them(frozen):
    good, stopped, fresh, diverging = (config(rate) for rate in (0.01, 0.02, 0.03, 1e30))
    watching, kept = Watching(3), Watching()
    hooks = {stopped.trial_id: watching.hooks, good.trial_id: kept.hooks}
    outcomes, pack = train_together([good, stopped, diverging], DATA, hooks)
    assert [type(outcome) for outcome in outcomes[1:]] == [Stopped, DivergedError]
    assert pack.shared_fronts == 2 * 2 + 1  # two steps of three trials, one of two, and one of one
    assert_as_alone([good], outcomes[:1])
    states = {stopped.trial_id: watching.states[2, 1], good.trial_id: kept.states[2, 1]}
    again, pack = train_together([good, fresh, stopped], DATA, states=states)
    assert pack.shared_fronts == 1  # both in the last of their steps, and the fresh one in the first of its
    assert_as_alone([good, fresh, stopped], again)


def test_fronts_are_not_shared_across_seeds_limits_and_probabilities_nor_by_trials_that_train_them(frozen):
    data = TrialData(CORPUS, Patchy(pixels()))
    exposure = {"anomalies": FOLDER, "training": {"supervision": "labels"}}
    apart = [
        config(**exposure),
        config(seed=1, **exposure),
        config(**{**exposure, "anomalies": {**FOLDER, "limit": 3}}),
        config(**{**exposure, "anomalies": {**FOLDER, "probability": 0.4}}),
    ]
    outcomes, pack = train_together([*apart, config(0.1, **exposure)], data)
    assert (pack.shared_steps, pack.shared_fronts) == (STEPS, STEPS)  # the first and the last alone
    assert_as_alone(apart, outcomes[:-1], data)


def test_trials_whose_first_layers_are_trained_share_nothing():
    assert NETWORKS["FCDD_CNN28"].frozen == 0
    _, pack = train_together([config(0.01), config(0.02)], DATA)
    assert (pack.shared_steps, pack.shared_fronts) == (0, 0)


@pytest.mark.parametrize("device", ["gpu"], indirect=True)
def test_trials_whose_rows_begin_to_differ_go_on_apart(frozen, device, monkeypatch):
    """Which no trials of one seed do; what is compared at each step decides all the same."""
    rows = StepPlanner.rows

    def other_at_last(planner, epoch, done=0, **keywords):
        batches = in_batches(planner.order(epoch), planner.settings.training.batch_size)
        for step, row in enumerate(rows(planner, epoch, done, **keywords), start=done):
            differs = planner.settings.training.learning_rate == 0.02 and (epoch, step) == (2, 0)
            yield planner.row(batches[step], 9, step, **keywords) if differs else row

    monkeypatch.setattr(StepPlanner, "rows", other_at_last)
    specs = [config(rate) for rate in (0.01, 0.02, 0.03)]
    outcomes, pack = train_together(specs, DATA)
    assert pack.shared_fronts == 2 * 2 + 2 * 1
    assert_as_alone(specs, outcomes)


def test_fronts_that_differ_in_a_sign_of_zero_are_not_equal(frozen, monkeypatch):
    made = trainer.make_network

    def signed(settings, *arguments, **keywords):
        network = made(settings, *arguments, **keywords)
        network.front[1].running_mean.mul_(-1 if settings.training.learning_rate == 0.02 else 1)
        return network

    monkeypatch.setattr(trainer, "make_network", signed)
    _, pack = train_together([config(0.01), config(0.02)], DATA)
    assert pack.shared_fronts == 0

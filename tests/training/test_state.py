"""A training that was interrupted and resumed gives the bits of one that was not."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch

from fcdd_sweep.training import anomaly_pools, state, trainer
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.result import NullObserver
from fcdd_sweep.training.state import StateError, read_plain, write_plain
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus()
STEPS = 3
"""Of an epoch: batches of 16, 16 and 8."""


class Exposure:
    """Images of noise, a third of which cannot be read."""

    fingerprint, notes = "noise", ()

    def __init__(self):
        self.images = np.random.default_rng(1).integers(0, 255, (60, 1, 32, 32)).astype(np.uint8)
        self.read_rows = []

    def __len__(self):
        return len(self.images)

    def names(self, index):
        return [f"image {i}" for i in index]

    def read(self, index):
        self.read_rows.append(index.copy())
        readable = index % 3 > 0
        return np.where(readable[:, None, None, None], self.images[index], 0).astype(np.uint8), readable


class Interrupting(NullObserver):
    """An observer that asks for a stop the n-th time that it is asked, and a sink that keeps the states it receives."""

    def __init__(self, stop_at):
        self.left, self.states, self.epochs = stop_at, [], []

    def stop_asked(self):
        self.left -= 1
        return self.left == 0

    def epoch_done(self, record, epochs):
        self.epochs.append(record.epoch)

    def due(self, epoch, step):
        return False

    def keep(self, state):
        self.states.append(state)


def plain(value):
    """Everything as values that compare by their bits."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not str(key).endswith(("_time_s", "_per_second"))}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else repr(value)


SGD = {"momentum": 0.9, "weight_decay": 0.01}
MILESTONES = {"schedule": {"type": "milestones", "milestones": [1], "factor": 0.1}}
TRIALS = {
    "fcdd on maps": {"training": SGD, "evaluation": {"validation": {"nominal_fraction": 0.1}}},
    "validation during training": {
        "training": {"supervision": "labels"},
        "evaluation": {"validation": {"nominal_fraction": 0.1, "anomalies": "blob", "epochs": [1, 2]}},
    },
    "fcdd, adam, milestones": {"training": {**MILESTONES, "optimizer": "adam", "supervision": "labels"}},
    "fcdd, no momentum, milestones": {"training": {**MILESTONES, "momentum": 0.0}},
    "hsc": {"method": "hsc", "network": {"name": "CNN28"}, "training": {"supervision": "labels"}},
    "ae": {
        "method": "ae",
        "network": {"name": "AE28"},
        "anomalies": {"mode": "unsupervised", "source": None},
        "training": {"supervision": "labels", "optimizer": "adam", "learning_rate": 0.001},
    },
    "dropped layers": {
        "network": {"name": None, "backbone": "efficientnet_b0", "node": "features.2", "weights": "none"},
        "training": {"supervision": "labels"},
    },
    "half precision": {"training": {"precision": "bf16"}},
    "offline": {"anomalies": {"online": False}},
    "exposure": {"anomalies": {"mode": "noise", "source": {"folder": "x"}}, "training": {"supervision": "labels"}},
    "exposure, a few": {
        "anomalies": {"mode": "noise", "source": {"folder": "x"}, "limit": 9},
        "training": {"supervision": "labels"},
    },
}


@pytest.fixture(autouse=True)
def streams_exposure(monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 0)


def trial_of(name):
    return spec(**TRIALS[name])


@functools.cache
def undisturbed(name):
    return train(trial_of(name), TrialData(CORPUS, Exposure()))


def stopped_at(name, stop_at, state=None):
    """What is left of a training that is stopped, through a file; and its observer."""
    hooks = Interrupting(stop_at)
    with pytest.raises(Stopped):
        train(trial_of(name), TrialData(CORPUS, Exposure()), TrainingHooks(hooks, hooks), resume=state)
    (kept,) = hooks.states
    return kept, hooks


STOPS = {
    "before the first step": lambda steps: [1],
    "within the first epoch": lambda steps: [2],
    "after an epoch": lambda steps: [steps + 1],
    "before the last step": lambda steps: [2 * steps],
    "before scoring": lambda steps: [2 * steps + 1],
    "again and again": lambda steps: [2, 2, 1, steps],
}
"""At which of its questions a training is stopped, one number an attempt, by the steps of an epoch."""


def cases():
    """Each trial stopped again and again, and one stopped at each moment; `make test-long` stops all at each."""
    for name, (moment, stops) in itertools.product(TRIALS, STOPS.items()):
        is_short = moment == "again and again" or name == "fcdd on maps"
        yield pytest.param(name, stops, id=f"{name}-{moment}", marks=() if is_short else pytest.mark.long)


@pytest.mark.parametrize(("name", "stops"), list(cases()))
@pytest.mark.slow
def test_it_gives_the_bits_of_an_undisturbed_one(name, stops, tmp_path):
    state = None
    for stop_at in stops(5 if name == "offline" else STEPS):  # offline there are twice as many samples
        state, _ = stopped_at(name, stop_at, state)
        with (tmp_path / "state.pt").open("wb") as file:
            write_plain(file, state)
        torch.manual_seed(stop_at)  # what others do to torch's generator must not matter
        state = read_plain(tmp_path / "state.pt")
    result = train(trial_of(name), TrialData(CORPUS, Exposure()), resume=state)
    assert plain(result) == plain(undisturbed(name))


def test_the_trials_above_are_what_they_are_called():
    assert make_network(trial_of("dropped layers").settings, torch.device("cpu"), 0).draws
    assert "cannot be read" in undisturbed("exposure").notes[0]
    assert all(record.validation_image_auroc > 0 for record in undisturbed("validation during training").history)
    assert undisturbed("exposure, a few").metrics["n_train_anomalous"] == 9
    assert undisturbed("fcdd on maps").snapshot["optimizer"]["state"][0]["momentum_buffer"].abs().sum() > 0
    rates = [record.learning_rate for record in undisturbed("fcdd, adam, milestones").history]
    assert rates == pytest.approx([0.01, 0.001])


def test_a_stop_is_asked_before_every_step_and_before_scoring_and_says_where_it_was():
    places = [
        "before the first step",
        "after step 1 of epoch 1",
        "after step 2 of epoch 1",
        "after epoch 1",
        "after step 1 of epoch 2",
        "after step 2 of epoch 2",
        "after epoch 2",
    ]
    for number, place in enumerate(places, 1):
        with pytest.raises(Stopped, match=f"^stopped {place}$"):
            train(spec(), TrialData(CORPUS), TrainingHooks(Interrupting(number)))
    never = Interrupting(0)
    train(spec(), TrialData(CORPUS), TrainingHooks(never))
    assert -never.left == len(places)


def test_epochs_that_were_reported_are_not_reported_again():
    state, hooks = stopped_at("fcdd on maps", STEPS + 2)
    assert hooks.epochs == [1]
    rest = Interrupting(0)
    train(trial_of("fcdd on maps"), TrialData(CORPUS), TrainingHooks(rest), resume=state)
    assert rest.epochs == [2]


def test_a_state_is_its_own_and_is_left_as_it_was():
    kept, _ = stopped_at("fcdd, adam, milestones", 3)
    before = plain(kept)
    first = train(trial_of("fcdd, adam, milestones"), TrialData(CORPUS), resume=kept)
    assert plain(kept) == before
    assert plain(train(trial_of("fcdd, adam, milestones"), TrialData(CORPUS), resume=kept)) == plain(first)

    class Keeping(Interrupting):
        def due(self, epoch, step):
            return (epoch, step) == (1, 2)

    keeping = Keeping(0)
    train(trial_of("fcdd, adam, milestones"), TrialData(CORPUS), TrainingHooks(checkpoints=keeping))
    assert [plain(state) for state in keeping.states] == [before]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_state_has_no_layout_and_training_resumes_in_its_own(layout, tmp_path):
    def settled(name):
        return spec(training={"layout": layout, "learning_rate": 0.001, "optimizer": name, "supervision": "labels"})

    for optimizer in ("sgd", "adam"):
        undisturbed, stopped = train(settled(optimizer), TrialData(CORPUS)), Interrupting(3)
        with pytest.raises(Stopped):
            train(settled(optimizer), TrialData(CORPUS), TrainingHooks(stopped, stopped))
        with (tmp_path / "state.pt").open("wb") as file:
            write_plain(file, stopped.states[-1])
        read = read_plain(tmp_path / "state.pt")
        moments = [moment for kept in read["optimizer"]["state"].values() for moment in kept.values()]
        assert all(tensor.is_contiguous() for tensor in [*read["network"].values(), *moments])
        resumed = train(settled(optimizer), TrialData(CORPUS), resume=read)
        assert plain(resumed) == plain(undisturbed)


def test_times_are_those_of_all_attempts():
    state, _ = stopped_at("hsc", STEPS + 2)
    assert 0 < state["epoch_time_s"] < state["train_time_s"]
    longer = {**state, "train_time_s": 5000.0, "epoch_time_s": 100.0}
    result = train(trial_of("hsc"), TrialData(CORPUS), resume=longer)
    assert 5000 < result.metrics["train_time_s"] < 5100
    assert result.history[1].images_per_second == pytest.approx(40 / 100, rel=0.1)


def test_the_batches_before_the_first_wanted_one_are_not_made():
    exposure = Exposure()
    trial = trial_of("exposure")
    batches = prepare(trial, TrialData(CORPUS, exposure), Streams(0, "plain"), torch.device("cpu")).batches
    whole = [batches.compose(row) for row in batches.planner.rows(2)]
    exposure.read_rows.clear()
    (last,) = (batches.compose(row) for row in batches.planner.rows(2, 2))
    assert sum(len(rows) for rows in exposure.read_rows) < 40  # those of 8 samples, and others in place of unreadable
    assert torch.equal(last.inputs, whole[2].inputs) and torch.equal(last.labels, whole[2].labels)
    assert list(batches.planner.rows(2, 3)) == []


def test_nothing_is_trained_again_after_the_last_epoch(monkeypatch):
    state, _ = stopped_at("hsc", 2 * STEPS + 1)
    whole = plain(undisturbed("hsc"))

    def never(*_):
        raise AssertionError("a training step")

    monkeypatch.setattr(trainer, "sample_losses", never)
    assert plain(train(trial_of("hsc"), TrialData(CORPUS), resume=state)) == whole


def test_a_state_of_another_network_or_optimizer_is_refused():
    state, _ = stopped_at("fcdd on maps", 2)
    with pytest.raises(StateError, match="does not fit this network"):
        train(trial_of("hsc"), TrialData(CORPUS), resume=state)
    with pytest.raises(StateError, match="does not fit this network"):
        train(
            trial_of("fcdd on maps"),
            TrialData(CORPUS),
            resume={**state, "optimizer": {"state": {}, "param_groups": []}},
        )
    with pytest.raises(StateError, match="does not fit this network"):
        train(trial_of("fcdd on maps"), TrialData(CORPUS), resume={key: state[key] for key in state if key != "sums"})


def test_every_key_of_a_state_is_required():
    kept, _ = stopped_at("fcdd on maps", 2)
    assert kept.keys() == state._KEYS
    assert state.checked_state(kept) is kept
    for key in kept:
        with pytest.raises(StateError, match=f"^it lacks {key}$"):
            state.checked_state({other: kept[other] for other in kept if other != key})


def test_a_state_of_another_version_is_refused_with_what_to_do():
    kept, _ = stopped_at("fcdd on maps", 2)
    message = "^it has state version 99, and this program reads version 1; to resume from it, use the version of fcdd"
    with pytest.raises(StateError, match=message):
        state.checked_state({**kept, "state_version": 99})


def test_an_error_of_the_gpu_while_a_state_is_loaded_says_nothing_about_the_state(monkeypatch):
    """A checkpoint that did not fit in memory would be passed over, and training would begin anew."""
    kept, _ = stopped_at("fcdd on maps", 2)

    def full(network, state_dict):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(trial_of("fcdd on maps"), TrialData(CORPUS), resume=kept)

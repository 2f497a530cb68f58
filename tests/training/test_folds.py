"""Trials of several models: which images each leaves out, progress over all of them, and resuming bit for bit."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch

from fcdd_sweep.config.schema import Evaluation
from fcdd_sweep.metrics.decision import decision_metrics
from fcdd_sweep.training.folds import folds_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import NullObserver, TrainingError
from fcdd_sweep.training.state import StateError, read_plain, write_plain
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train
from tests.specs import defects_corpus, spec
from tests.training.test_state import plain

CORPUS = defects_corpus(train=26)
FOLDS, STEPS, EPOCHS = 4, 2, 2
"""26 images: four folds of 6 and two images that are in all trainings; 20 train a model, in batches of 16."""
SPEC = spec(evaluation={"calibration": "cross", "folds": FOLDS, "false_alarm_rate": 0.25})


def folds(corpus=CORPUS, rows=range(26), count=FOLDS):
    return folds_of(Evaluation(calibration="cross", folds=count), corpus, np.array(rows))


def test_folds_are_equal_disjoint_and_the_same_in_any_order_of_the_images():
    found = folds()
    assert [len(fold) for fold in found] == [6] * FOLDS and len(np.unique(np.concatenate(found))) == 24
    shuffled = np.random.default_rng(0).permutation(26)
    assert [fold.tolist() for fold in folds(rows=shuffled)] == [fold.tolist() for fold in found]
    renamed = dataclasses.replace(CORPUS, path=tuple(f"other/{path}" for path in CORPUS.path))
    assert [fold.tolist() for fold in folds(renamed)] != [fold.tolist() for fold in found]
    assert len(folds(count="auto")) == 19  # as many as decisions at 5% need
    with pytest.raises(TrainingError, match="3 nominal training images cannot be divided into 4 folds"):
        folds(rows=range(3))


@functools.cache
def undisturbed():
    return train(SPEC, TrialData(CORPUS))


def test_each_image_is_scored_by_the_model_that_has_not_seen_it():
    scores, found = undisturbed().scores, folds()
    part = [number for number, each in enumerate(scores["split"]) if each == "out_of_fold"]
    assert [scores["image_index"][n] for n in part] == np.concatenate(found).tolist()
    assert [scores["fold"][n] for n in part] == np.repeat(np.arange(FOLDS), 6).tolist()
    assert all(scores["p_value_mean"][n] is None for n in part) and None not in scores["p_value_mean"][: part[0]]
    changed = dataclasses.replace(CORPUS, images=CORPUS.images.copy())
    changed.images[found[1]] = 255 - changed.images[found[1]]
    again = train(SPEC, TrialData(changed))
    ours, theirs = ([result.snapshot, *result.snapshot["further_models"]] for result in (undisturbed(), again))
    assert len(ours) == FOLDS
    equal = [plain(a["network"]) == plain(b["network"]) for a, b in zip(ours, theirs, strict=True)]
    assert equal == [False, True, False, False]
    assert plain(ours[1]["preprocessing"]) == plain(theirs[1]["preprocessing"])


def test_a_result_counts_the_epochs_of_all_models_and_states_what_decides():
    result = undisturbed()
    assert [record.epoch for record in result.history] == list(range(1, FOLDS * EPOCHS + 1))
    rates = [record.learning_rate for record in result.history]
    assert rates == pytest.approx([0.01, 0.009] * FOLDS)  # each model begins anew
    metrics = result.metrics
    assert (metrics["epochs"], metrics["n_train"], metrics["n_calibration"], metrics["folds"]) == (8, 26, 24, 4)
    assert metrics["calibration"] == "cross" and metrics["p_value_level"] == 2 / 25
    again = decision_metrics(result.scores, "score_mean", 0.25)
    assert {name: metrics[name] for name in again} == pytest.approx(again, nan_ok=True)
    p_value, label = np.array(result.scores["p_value_mean"][:24]), np.array(result.scores["label"][:24])
    assert metrics["recall"] == (p_value <= 2 / 25)[label == 1].mean()
    assert result.snapshot["epoch"] == 8 and result.snapshot["threshold_source"] == metrics["threshold_source"]


class Interrupting(NullObserver):
    """Asks for a stop the n-th time that it is asked, and keeps epochs and the state of the stop."""

    def __init__(self, stop_at):
        self.left, self.epochs, self.states = stop_at, [], []

    def epoch_done(self, record, epochs):
        self.epochs.append((record.epoch, epochs))

    def stop_asked(self):
        self.left -= 1
        return self.left == 0

    def due(self, epoch, step):
        return False

    def keep(self, state):
        self.states.append(state)


ASKED = STEPS * EPOCHS + 1
"""How often a model asks whether to stop: before each step, and after its last epoch."""


def stopped_at(number, state, folder):
    """What is left of a training that is stopped, through a file; its observer; and where it was."""
    hooks = Interrupting(number)
    with pytest.raises(Stopped) as stopped:
        train(SPEC, TrialData(CORPUS), TrainingHooks(hooks, hooks), resume=state)
    (kept,) = hooks.states
    with (folder / "state.pt").open("wb") as file:
        write_plain(file, kept)
    return read_plain(folder / "state.pt"), hooks, str(stopped.value)


@pytest.mark.parametrize(
    ("stops", "places", "epoch"),
    [
        ([1], ["before the first step of model 1 of 4"], 1),
        ([ASKED], ["after epoch 2 of model 1 of 4"], 3),
        ([ASKED + 2], ["after step 1 of epoch 1 of model 2 of 4"], 3),
        ([2 * ASKED + 4, 2], ["after step 1 of epoch 2 of model 3 of 4", "after epoch 2 of model 3 of 4"], 7),
        ([4 * ASKED], ["after epoch 2 of model 4 of 4"], 9),
    ],
)
@pytest.mark.slow
def test_an_interrupted_trial_gives_the_bits_of_an_undisturbed_one(stops, places, epoch, tmp_path):
    state, reported = None, []
    for number, place in zip(stops, places, strict=True):
        state, hooks, message = stopped_at(number, state, tmp_path)
        assert message == f"stopped {place}"
        reported += hooks.epochs
        torch.manual_seed(number)  # what others do to torch's generator must not matter
    assert state["epoch"] == epoch
    rest = Interrupting(0)
    result = train(SPEC, TrialData(CORPUS), TrainingHooks(rest), resume=state)
    assert reported + rest.epochs == [(number, 8) for number in range(1, 9)]
    assert plain(result) == plain(undisturbed())


def test_the_state_of_another_kind_of_trial_is_refused(tmp_path):
    state, _, _ = stopped_at(3, None, tmp_path)
    for wrong in (
        {name: value for name, value in state.items() if name != "finished"},
        {**state, "finished": [{}] * 4},
    ):
        with pytest.raises(StateError, match="does not hold the models of a trial"):
            train(SPEC, TrialData(CORPUS), resume=wrong)

"""The trainer as a whole: the same numbers every time, honest splits, and errors that say what to do."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.metrics.heatmap_values import upsample
from fcdd_sweep.training.detector import load_detector
from fcdd_sweep.training.optimizers import RateSchedule
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.result import NullObserver, TrainingError
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, _final_state, begin, run_epoch, train
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus()


def numbers(result):
    """Everything in a result that must repeat bit for bit: all but times."""
    history = [dataclasses.replace(record, images_per_second=0.0) for record in result.history]
    metrics = {key: value for key, value in result.metrics.items() if not key.endswith("_time_s")}
    weights = {name: value.numpy().tobytes() for name, value in result.snapshot["network"].items()}
    maps = {name: array.tobytes() for name, array in result.maps.items()}
    return repr((history, result.scores, result.defects, metrics)), weights, maps


MODES = {
    "malformed_normal": {"anomalies": {"mode": "malformed_normal", "source": "confetti"}},
    "malformed_normal_gt": {"anomalies": {"mode": "malformed_normal_gt", "source": "confetti"}},
    "noise": {"anomalies": {"mode": "noise", "source": "uniform"}},
    "unsupervised": {"anomalies": {"mode": "unsupervised", "source": None}},
    "hsc": {"method": "hsc", "network": {"name": "CNN28"}, "training": {"supervision": "labels"}},
    "ae": {
        "method": "ae",
        "network": {"name": "AE28"},
        "anomalies": {"mode": "unsupervised", "source": None},
        "training": {"supervision": "labels", "learning_rate": 0.001},
    },
    "adam on labels": {
        "training": {
            "optimizer": "adam",
            "supervision": "labels",
            "schedule": {"type": "milestones", "milestones": [1], "factor": 0.1},
        }
    },
}


@pytest.mark.parametrize("sections", MODES.values(), ids=MODES.keys())
def test_the_same_trial_twice_gives_the_same_bits_whatever_ran_between(sections):
    first = numbers(train(spec(**sections), TrialData(CORPUS)))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  (the global generator is what must not matter)
    train(spec(seed=7, preprocessing="none"), TrialData(CORPUS))
    assert numbers(train(spec(**sections), TrialData(CORPUS))) == first


def test_a_trial_leaves_the_process_as_it_found_it():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(spec(training={"threads": 1}), TrialData(CORPUS))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_another_seed_or_class_gives_other_numbers():
    other_name = dataclasses.replace(CORPUS, classes=("other",), fingerprints={"other": "f"})
    losses = {
        train(spec(seed=0), TrialData(CORPUS)).history[0].loss,
        train(spec(seed=1), TrialData(CORPUS)).history[0].loss,
        train(spec(normal_class="other"), TrialData(other_name)).history[0].loss,
    }
    assert len(losses) == 3


def test_configs_are_compared_on_the_same_draws():
    slow = prepare(spec(training={"learning_rate": 0.001}), TrialData(CORPUS), Streams(0, "plain"), torch.device("cpu"))
    fast = prepare(spec(training={"learning_rate": 0.1}), TrialData(CORPUS), Streams(0, "plain"), torch.device("cpu"))
    chosen = slow.batches.planner.order(1)[:8]
    assert torch.equal(slow.batches.batch(chosen, 1, 0).inputs, fast.batches.batch(chosen, 1, 0).inputs)


def test_training_lowers_the_loss_and_finds_bright_squares():
    result = train(spec(training={"epochs": 15, "learning_rate": 0.05}), TrialData(CORPUS))
    assert result.history[-1].loss < result.history[0].loss
    assert result.metrics["image_auroc"] > 0.9
    assert result.metrics["pixel_auroc"] > 0.9


def test_a_result_holds_what_the_files_need():
    result = train(spec(), TrialData(CORPUS))
    assert [record.epoch for record in result.history] == [1, 2]
    assert result.history[1].learning_rate == pytest.approx(0.009)
    assert result.scores["label"] == split_for(CORPUS, "plain").test_label.tolist()
    assert set(result.curves) == {"image_roc", "image_pr", "pixel_roc", "pixel_pr"}
    assert result.metrics["n_test_maps"] == 24
    assert [row["defect"] for row in result.defects] == ["square"]
    trained = result.maps["train_label"]
    assert [(trained == label).sum() >= 20 for label in (0, 1)] == [True, True]
    assert result.maps["train_images"].shape == (len(trained), 1, 28, 28)
    assert result.maps["anomaly_maps"].shape[1:] == (7, 7)
    assert result.maps["gt_maps"].max() == 1


def test_held_out_images_leave_training_before_anything_is_fitted_to_them():
    result = train(spec(evaluation={"validation": {"nominal_fraction": 0.25}}), TrialData(CORPUS))
    assert (result.metrics["n_train"], result.metrics["n_validation"]) == (30, 10)
    held_out = {
        path for path, part in zip(result.scores["path"], result.scores["split"], strict=True) if part != "test"
    }
    assert len(held_out) == 10
    bright = dataclasses.replace(CORPUS, images=CORPUS.images.copy())
    for i, path in enumerate(bright.path):
        if path in held_out:
            bright.images[i] = 255
    again = train(spec(evaluation={"validation": {"nominal_fraction": 0.25}}), TrialData(bright))
    assert [record.loss for record in again.history] == [record.loss for record in result.history]


def test_thresholds_are_conformal_ones_of_the_held_out_images_and_go_into_the_snapshot():
    evaluation = {"validation": {"nominal_fraction": 0.25}, "false_alarm_rate": 0.1}
    result = train(spec(evaluation=evaluation, keep={"maps": "all"}), TrialData(CORPUS))
    held_out = {name: values[24:34] for name, values in result.scores.items()}  # 10, of which the 10th decides
    assert result.metrics["threshold"] == max(held_out["score"])
    assert result.metrics["pixel_threshold"] == max(held_out["score_max"])
    for name in ("threshold", "pixel_threshold", "threshold_source", "n_calibration"):
        assert result.snapshot[name] == result.metrics[name]
    maps = result.maps
    heat = upsample(maps["anomaly_maps"], maps["receptive_field"], (28, 28), float(maps["kernel_std_px"]))
    assert result.scores["score_max"][:24] == pytest.approx(heat.max((1, 2)).tolist(), rel=1e-4)


def test_the_snapshot_says_how_often_its_decisions_are_right_in_plain_values(tmp_path):
    evaluation = {"validation": {"nominal_fraction": 0.25}, "false_alarm_rate": 0.1}
    result = train(spec(evaluation=evaluation), TrialData(CORPUS))
    torch.save(result.snapshot, tmp_path / "snapshot.pt")
    found = torch.load(tmp_path / "snapshot.pt", weights_only=True)["test_decisions"]
    names = [f"test_{what}_{part}" for what in ("false_alarm", "region") for part in ("rate", "low", "high")]
    names += ["accuracy", "precision", "recall", "f1", "test_agreement", "fpr_at_95_recall"]
    counts = ["true_positives", "false_positives", "true_negatives", "false_negatives"]
    assert sorted(found) == sorted([*names, *counts]) and sum(found[name] for name in counts) == 24
    assert all(found[name] == result.metrics[name] for name in found if found[name] is not None)
    assert {type(value) for value in found.values()} <= {int, float, type(None)}
    without = {name: value for name, value in result.snapshot.items() if name != "test_decisions"}
    torch.save(without, tmp_path / "snapshot.pt")
    assert load_detector(tmp_path / "snapshot.pt", "cpu").threshold == result.metrics["threshold"]


@pytest.mark.parametrize("fraction", [0.0, 0.05])
def test_too_few_held_out_images_give_no_threshold(fraction):
    metrics = train(spec(evaluation={"validation": {"nominal_fraction": fraction}}), TrialData(CORPUS)).metrics
    assert math.isnan(metrics["threshold"]) and math.isnan(metrics["pixel_threshold"])
    wanted = "no decision: hold out at least 19 nominal images for a false-alarm rate of 5%"
    assert metrics["threshold_source"] == f"{wanted}; {round(40 * fraction)} are held out"


def test_limits_are_nested_and_drawn_once_a_seed():
    exposure = ArrayPool(np.random.default_rng(0).integers(0, 255, (50, 1, 32, 32)).astype(np.uint8))

    def pool(limit, seed=0):
        trial = spec(seed=seed, anomalies={"mode": "noise", "source": {"folder": "x"}, "limit": limit})
        prepared = prepare(trial, TrialData(CORPUS, exposure), Streams(seed, "plain"), torch.device("cpu"))
        return prepared.batches.pool.images

    assert torch.equal(pool(4), pool(16)[:4])
    assert not torch.equal(pool(4), pool(4, seed=1))
    assert len(pool("all")) == 50


def test_real_anomalies_of_the_training_split_bring_their_maps():
    marked = dataclasses.replace(CORPUS, is_test=CORPUS.is_test & (np.arange(64) < 60))
    trial = spec(anomalies={"mode": "other", "source": None, "limit": "all"})
    prepared = prepare(trial, TrialData(marked), Streams(0, "plain"), torch.device("cpu"))
    pool = prepared.batches.pool
    assert len(pool.images) == 2
    assert torch.equal(pool.images == 250, pool.gt_maps == 1)


def test_nominal_label_one_swaps_the_roles():
    plain = train(spec(), TrialData(CORPUS))
    swapped = train(spec(images={"nominal_label": 1}), TrialData(CORPUS))
    assert swapped.scores["label"] == [1 - label for label in plain.scores["label"]]
    counts = [[int((run.maps["train_label"] == label).sum()) for label in (0, 1)] for run in (plain, swapped)]
    assert min(counts[0]) >= 20 and min(counts[1]) >= 20


def test_a_test_set_without_anomalies_gives_scores_and_undefined_metrics():
    nominal = dataclasses.replace(CORPUS, is_test=CORPUS.is_test & ~CORPUS.is_anomalous)
    result = train(spec(), TrialData(nominal))
    assert len(result.scores["score"]) == 12
    assert math.isnan(result.metrics["image_auroc"]) and math.isnan(result.metrics["pixel_auroc"])
    assert result.curves == {} and result.defects == []


def test_an_empty_test_set_still_trains():
    result = train(spec(), TrialData(dataclasses.replace(CORPUS, is_test=np.zeros(64, dtype=bool))))
    assert result.scores["score"] == [] and math.isnan(result.metrics["image_auroc"])


def test_maps_for_some_images_only_count_those_images():
    some = dataclasses.replace(CORPUS, mask_index=np.where(CORPUS.mask_index < 4, CORPUS.mask_index, -1))
    assert train(spec(), TrialData(some)).metrics["n_test_maps"] == 12 + 4


def test_divergence_says_what_to_lower():
    message = r"diverged at training.learning_rate 1e\+20 .* lower it: --set training.learning_rate=1e\+19$"
    with pytest.raises(TrainingError, match=message):
        train(spec(training={"learning_rate": 1e20, "epochs": 20}), TrialData(CORPUS))


def test_divergence_of_a_baseline_names_the_key_of_the_command_that_runs_it():
    training = {"learning_rate": 1e20, "epochs": 20, "supervision": "labels"}
    with pytest.raises(TrainingError, match=r"as a baseline of a run --set ae.training.learning_rate=1e\+19$"):
        train(
            spec(
                method="ae",
                network={"name": "AE28"},
                anomalies={"mode": "unsupervised", "source": None},
                training=training,
            ),
            TrialData(CORPUS),
        )


def test_no_nominal_images_is_an_error_by_name():
    with pytest.raises(TrainingError, match="class 'plain' of 'textures' has no nominal training images"):
        train(spec(), TrialData(dataclasses.replace(CORPUS, is_test=np.ones(64, dtype=bool))))


def test_the_observer_receives_every_epoch_and_may_stop():
    class Counting(NullObserver):
        received = 0

        def epoch_done(self, record, epochs):
            self.received += 1

        def stop_asked(self):
            return self.received == 1

    observer = Counting()
    with pytest.raises(Stopped, match="stopped after epoch 1"):
        train(spec(), TrialData(CORPUS), TrainingHooks(observer))
    assert observer.received == 1


def test_one_image_left_over_joins_the_batch_before_it():
    result = train(spec(training={"batch_size": 13}), TrialData(CORPUS))  # 40 = 3 * 13 + 1
    assert math.isfinite(result.history[-1].loss)


class Dropping(torch.nn.Module):
    """A network that draws from torch's global generator while it trains."""

    layout = torch.contiguous_format
    draws = True

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 3)
        torch.nn.init.ones_(self.conv.weight)
        torch.nn.init.ones_(self.conv.bias)

    def forward(self, images):
        return self.conv(torch.nn.functional.dropout(images, 0.5, self.training))


def dropped(epochs, seed=0, before=0):
    """Losses of an untrained network's epochs, after somebody else used the global generator."""
    trial = spec(seed=seed, training={"supervision": "labels", "learning_rate": 1e-9})
    batches = prepare(trial, TrialData(CORPUS), Streams(seed, "plain"), torch.device("cpu")).batches
    network = Dropping()
    torch.manual_seed(before)
    before_training = torch.get_rng_state()
    losses = []
    for epoch in epochs:
        state = begin(network, batches, 0.0)
        state.epoch = epoch
        run_epoch(state, batches)
        losses.append(state.member.sums.tolist())
    assert torch.equal(torch.get_rng_state(), before_training)
    return losses


def test_dropout_draws_from_the_trial_s_streams_by_epoch_and_step():
    first = dropped([1, 2])
    assert dropped([1, 2], before=9) == first
    assert dropped([2])[0] == pytest.approx(first[1], rel=1e-6)
    assert first[0] != first[1] and dropped([1], seed=1)[0] != first[0]


def test_what_a_snapshot_holds_of_an_optimizer_on_a_gpu_is_on_the_cpu():
    with FakeTensorMode():  # tensors without values, on any device
        moments = {"state": {0: {"momentum_buffer": torch.zeros(3, device="cuda")}}}
        optimizer = SimpleNamespace(state_dict=lambda: moments, learning_rate=0.1)
        schedule = RateSchedule(optimizer, spec().settings.training.schedule)
        state = SimpleNamespace(member=SimpleNamespace(optimizer=optimizer), schedule=schedule, history=[])
        (kept,) = _final_state(state)["optimizer"]["state"].values()
        assert kept["momentum_buffer"].device.type == "cpu"

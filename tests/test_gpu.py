"""Training on a CUDA device; skipped where there is none."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.prediction.targets import HowToPredict
from fcdd_sweep.results import files
from fcdd_sweep.sweep import trial as trial_module
from fcdd_sweep.training import anomaly_pools, trainer
from fcdd_sweep.training.detector import load_detector
from fcdd_sweep.training.engine import EagerProgram
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import NullObserver
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train
from tests.specs import defects_corpus, spec
from tests.together import train_together

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


DEVICE = "cuda"


def on_gpu(**sections):
    return spec(resources={"device": DEVICE}, **sections)


@pytest.mark.parametrize("mode", ["malformed_normal", "malformed_normal_gt"])
def test_the_same_trial_twice_gives_the_same_bits(mode):
    anomalies = {"mode": mode, "source": "confetti"}
    first, second = (train(on_gpu(anomalies=anomalies), TrialData(defects_corpus())) for _ in range(2))
    assert first.scores == second.scores
    assert [record.loss for record in first.history] == [record.loss for record in second.history]


def test_a_graph_and_single_kernels_give_the_same_bits(monkeypatch):
    data = TrialData(defects_corpus(train=80))  # five steps an epoch: captured in the first
    captured = train(on_gpu(), data)
    monkeypatch.setattr(trainer, "make_program", lambda members, samples: EagerProgram(members))
    eager = train(on_gpu(), data)
    assert captured.scores == eager.scores
    assert [record.loss for record in captured.history] == [record.loss for record in eager.history]


def test_a_pack_gives_the_bits_of_its_trials_alone():
    data = TrialData(defects_corpus(train=80))
    specs = [
        TrialSpec(on_gpu(training={"learning_rate": 0.01 / (1 + seed)}).settings, "plain", seed) for seed in range(3)
    ]
    outcomes, pack = train_together(specs, data)
    assert pack.shared_steps == 10
    for each, found in zip(specs, outcomes, strict=True):
        alone = train(each, data)
        assert found.scores == alone.scores
        assert [record.loss for record in found.history] == [record.loss for record in alone.history]


def test_a_pack_of_one_seed_shares_its_frozen_front_and_gives_the_bits_of_its_trials_alone():
    images = {"load_size": 64, "size": 64, "color": "rgb"}
    network = {"name": "FCDD_CNN224_VGG_F", "weights": "none"}
    rates = (0.01, 0.001, 0.0001)
    specs = [on_gpu(images=images, network=network, training={"learning_rate": rate}) for rate in rates]
    data = TrialData(defects_corpus(train=80, raw=64, channels=3))
    outcomes, pack = train_together(specs, data)
    assert (pack.shared_steps, pack.shared_fronts) == (10, 20)
    for each, found in zip(specs, outcomes, strict=True):
        alone = train(each, data)
        assert found.scores == alone.scores
        assert [record.loss for record in found.history] == [record.loss for record in alone.history]
        weights, expected = found.snapshot["network"], alone.snapshot["network"]
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "anomalies",
    [
        {"mode": "malformed_normal_gt", "source": "confetti", "online": False},
        {"mode": "noise", "source": "mixed_blob", "online": False},
        {"mode": "noise", "source": {"folder": "x"}},
        {"mode": "noise", "source": "mvtec_gt", "limit": 2},
    ],
)
def test_anomalies_made_read_or_taken_give_the_same_bits(anomalies, monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    exposure = ArrayPool(np.random.default_rng(0).integers(0, 255, (50, 1, 32, 32)).astype(np.uint8))
    trial = on_gpu(anomalies=anomalies, evaluation={"reserved_anomalies": 2})
    first, second = (train(trial, TrialData(defects_corpus(), exposure)) for _ in range(2))
    assert first.scores == second.scores


METHODS = {
    "hsc": {"method": "hsc", "network": {"name": "CNN28"}},
    "hsc with dropout and frozen layers": {
        "method": "hsc",
        "network": {"name": "CNN224_VGG_F", "weights": "none"},
        "images": {"load_size": 64, "size": 64, "color": "rgb"},
    },
    "ae": {"method": "ae", "network": {"name": "AE28"}, "anomalies": {"mode": "unsupervised", "source": None}},
    "a backbone": {
        "network": {"name": None, "backbone": "resnet18", "node": "layer1", "weights": "none"},
        "images": {"load_size": 64, "size": 64, "color": "rgb"},
    },
    "bf16": {"training": {"precision": "bf16"}},
}


@pytest.mark.parametrize("sections", METHODS.values(), ids=METHODS.keys())
def test_every_method_gives_the_same_bits_twice(sections):
    training = {"supervision": "labels", "learning_rate": 0.001, **sections.get("training", {})}
    trial = on_gpu(**{**sections, "training": training})
    images = trial.settings.images
    corpus = defects_corpus(raw=images.load_size, channels=images.channels, maps=False)
    first, second = (train(trial, TrialData(corpus)) for _ in range(2))
    assert first.scores == second.scores


PREPROCESSED = {
    "aug1": {"preprocessing": "aug1"},
    "aug1 of color images": {
        "preprocessing": "aug1",
        "images": {"color": "rgb"},
        "network": {"name": "FCDD_CNN28_W"},
    },
    "adam": {"training": {"optimizer": "adam", "learning_rate": 0.001}},
}


@pytest.mark.parametrize("sections", PREPROCESSED.values(), ids=PREPROCESSED.keys())
def test_augmentation_and_optimizers_give_the_same_bits_twice(sections):
    trial = on_gpu(**sections)
    corpus = defects_corpus(channels=trial.settings.images.channels)
    first, second = (train(trial, TrialData(corpus)) for _ in range(2))
    assert first.scores == second.scores
    assert [record.loss for record in first.history] == [record.loss for record in second.history]


class StoppedAt(NullObserver):
    """Asks to stop before a step, and keeps the state that training saves then."""

    def __init__(self, step):
        self.before, self.state = step, None

    def stop_asked(self):
        self.before -= 1
        return self.before < 0

    def due(self, epoch, step):
        return False

    def keep(self, state):
        self.state = state


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_trial_gives_the_bits_of_an_undisturbed_one(optimizer):
    trial = on_gpu(preprocessing="aug1", training={"optimizer": optimizer, "learning_rate": 0.001})
    undisturbed = train(trial, TrialData(defects_corpus()))
    stopped = StoppedAt(4)
    with pytest.raises(Stopped):
        train(trial, TrialData(defects_corpus()), TrainingHooks(stopped, stopped))
    resumed = train(trial, TrialData(defects_corpus()), resume=stopped.state)
    assert resumed.scores == undisturbed.scores
    assert [record.loss for record in resumed.history] == [record.loss for record in undisturbed.history]


def test_a_trial_that_ran_out_of_memory_leaves_the_gpu_to_others(tmp_path, monkeypatch):
    def too_large(*arguments):
        held = torch.empty(2**26, device=DEVICE)  # 256 MiB
        torch.empty(2**50, device=DEVICE)
        return held

    monkeypatch.setattr(trial_module, "fingerprint_of", lambda made: "f" * 12)
    monkeypatch.setattr(trial_module, "_train", too_large)
    torch.empty(1, device=DEVICE)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    result = trial_module.run_trial(on_gpu(), tmp_path, NullObserver())
    assert result.kind == "out_of_memory"
    assert torch.cuda.memory_reserved() <= before


def test_predictions_are_the_scores_of_the_trial(tmp_path):
    corpus = defects_corpus()
    outcome = train(on_gpu(evaluation={"validation": {"nominal_fraction": 0.25}}), TrialData(corpus))
    torch.save(outcome.snapshot, tmp_path / "snapshot.pt")
    tested = [each for each in zip(*map(outcome.scores.get, ("image_index", "score", "split")), strict=True)]
    expected = {f"{row:03}.png": score for row, score, split in tested if split == "test"}
    for name in expected:
        Image.fromarray(corpus.images[int(name[:3]), 0]).save(tmp_path / name)
    made = predict(
        tmp_path / "snapshot.pt", [tmp_path / name for name in expected], tmp_path / "out", HowToPredict(DEVICE)
    )
    rows = files.read_table(made.scores).to_pylist()
    assert [row["score"] for row in rows] == pytest.approx(list(expected.values()), rel=1e-5)  # TF32 is 1e-3 off
    assert {row["threshold"] for row in rows} == {outcome.metrics["threshold"]}
    decided = [score > outcome.metrics["threshold"] for score in expected.values()]
    assert [row["label"] for row in rows] == decided


def test_a_snapshot_loads_without_a_gpu(tmp_path):
    torch.save(train(on_gpu(), TrialData(defects_corpus())).snapshot, tmp_path / "snapshot.pt")
    code = "import sys, torch; print(len(torch.load(sys.argv[1], weights_only=True)['optimizer']['state']))"
    command = [sys.executable, "-c", code, tmp_path / "snapshot.pt"]
    without = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    loaded = subprocess.run(command, env=without, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert int(loaded.stdout) > 0


def test_a_snapshot_made_on_a_gpu_scores_the_same_on_a_cpu(tmp_path):
    corpus = defects_corpus()
    outcome = train(on_gpu(), TrialData(corpus))
    torch.save(outcome.snapshot, tmp_path / "snapshot.pt")
    detector = load_detector(tmp_path / "snapshot.pt", "cpu")
    scores = detector.detect(corpus.images[corpus.is_test]).scores.numpy()
    assert scores.tolist() == pytest.approx(outcome.scores["score"], rel=1e-3)

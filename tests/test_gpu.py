"""Training on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch

from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.detector import load_detector
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.specs import defects_corpus, spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def on_gpu(**sections):
    return spec(resources={"device": "cuda"}, **sections)


@pytest.mark.parametrize("mode", ["malformed_normal", "malformed_normal_gt"])
def test_the_same_trial_twice_gives_the_same_bits(mode):
    anomalies = {"mode": mode, "source": "confetti"}
    first, second = (train(on_gpu(anomalies=anomalies), TrialData(defects_corpus())) for _ in range(2))
    assert first.scores == second.scores
    assert [record.loss for record in first.history] == [record.loss for record in second.history]


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


def test_a_snapshot_made_on_a_gpu_scores_the_same_on_a_cpu(tmp_path):
    corpus = defects_corpus()
    outcome = train(on_gpu(), TrialData(corpus))
    torch.save(outcome.snapshot, tmp_path / "snapshot.pt")
    detector = load_detector(tmp_path / "snapshot.pt", "cpu")
    scores = detector.detect(corpus.images[corpus.is_test]).scores.numpy()
    assert scores.tolist() == pytest.approx(outcome.scores["score"], rel=1e-3)

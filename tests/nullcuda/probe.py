"""Trains on the null device and prints as JSON what `test_null_device.py` checks; see there.

python -m tests.nullcuda.probe
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.networks.execution import CONTEXT_MIB
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.sweep import trial
from fcdd_sweep.training import trainer
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.device import limit_memory
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.result import NullObserver
from tests.events import Recorder
from tests.nullcuda import device
from tests.specs import defects_corpus, settings, spec

torch.backends.cudnn.enabled = False  # the null device has no engines; torch's own convolutions are launched instead
CUDA = {"device": "cuda"}
LIMIT_MIB = 200
TRIALS = {
    "small": {"anomalies": {"mode": "malformed_normal_gt", "source": "confetti"}, "preprocessing": "aug1"},
    "large": {
        "network": {"name": "FCDD_CNN224"},
        "images": {"load_size": 240, "size": 224, "color": "gray"},
        "training": {"batch_size": 128},
    },
    "outlier exposure": {
        "anomalies": {"mode": "noise", "source": "mvtec_gt", "limit": 2},
        "evaluation": {"reserved_anomalies": 2},
    },
    "adam": {"training": {"optimizer": "adam"}},
}


def data_of(made):
    images = made.settings.images
    train = 130 if images.size > 100 else 40
    return TrialData(defects_corpus(raw=images.load_size, channels=images.channels, train=train))


class LaterEpoch(NullObserver):
    """An observer that logs the calls of an epoch: the third of three, before which the usual step was captured."""

    def __init__(self):
        self.log, self.calls = device.logged(), None

    def epoch_done(self, record, epochs):
        if record.epoch == epochs - 1:
            self.calls = self.log.__enter__()
        elif record.epoch == epochs:
            self.log.__exit__(None, None, None)


def counted(calls):
    kernels = [call.name for call in calls if call.kind == "KERNEL"]
    return {
        "kernels": len(kernels),
        "fills": sum("FillFunctor" in name for name in kernels),
        "sorts": sum("sort" in name.lower() for name in kernels),
        "waits": sum(call.kind == "WAIT" for call in calls),
        "largest_pageable": max((call.number for call in calls if call.name == "from pageable"), default=0),
        "largest_pinned": max((call.number for call in calls if call.name == "from pinned"), default=0),
    }


def on_cuda(value, path=""):
    """The paths of the CUDA tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return [path] if value.is_cuda else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [found for key, item in items for found in on_cuda(item, f"{path}/{key}")]


def trained(sections):
    """Train a trial; return what was counted in its third epoch, and the CUDA tensors in its snapshot."""
    made = spec(**sections | {"training": {**sections.get("training", {}), "epochs": 3}}, resources=CUDA)
    epoch = LaterEpoch()
    result = trainer.train(made, data_of(made), trainer.TrainingHooks(epoch))
    return counted(epoch.calls) | {"on_cuda": on_cuda(result.snapshot)}


def trained_without_determinism(sections):
    with mock.patch("torch.use_deterministic_algorithms"):
        return trained(sections)


def detection_peak(n):
    """Bytes that the device holds at most while n images are scored 8 at a time, beyond what it held before."""
    sections = {"network": {"name": "CNN28"}, "training": {"supervision": "labels"}}
    made = settings(method="hsc", resources=CUDA, **sections)
    raw = np.zeros((n, 1, 32, 32), dtype=np.uint8)
    where = torch.device("cuda")
    nominal = torch.zeros(4, 1, 32, 32, dtype=torch.uint8, device=where)
    detector = Detector(made, "plain", make_network(made, where, 0), Preprocessor.fit(Recipe.of(made), nominal))
    detector.detect(raw[:8], batch_size=8)
    gc.collect()  # what is left of trials before
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    detector.detect(raw, batch_size=8)
    return torch.cuda.max_memory_allocated() - before


def trial_of(**sections):
    """Make a trial whose data need not be loaded."""
    made = spec(resources=CUDA, keep={"pictures": "none"}, **sections)
    data = data_of(made)
    trial.corpus_of = lambda settings: data.corpus
    trial.exposure_of = trial.validation_pool_of = lambda settings: None
    trial.fingerprint_of = lambda made: "f" * 12
    return made


def in_packs(size, **sections):
    """Run four trials in packs; return the kinds of their failures in order, how they ended, and their attempts."""
    recorder = Recorder()
    specs = [trial_of(seed=seed, **sections) for seed in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        LocalRunner(Faults(retries=0), pack=size)(specs, Path(folder), recorder, trial.run_trial, StopSignal())
    ended = {each.seed: recorder.ended.get(each.trial_id) for each in specs}
    return {
        "failures": [result.kind for _, result, _ in recorder.retried],
        "ended": [result and (result.kind or result.status) for result in ended.values()],
        "attempts": [result and result.attempt for result in ended.values()],
        "messages": recorder.messages,
    }


def attempt(**sections):
    """Run a trial; return how it ended, and the MiB that a collection of garbage and another release give back."""
    made = trial_of(**sections)
    with tempfile.TemporaryDirectory() as folder:
        result = trial.run_trial(made, Path(folder), NullObserver())
    kept = torch.cuda.memory_reserved()
    gc.collect()
    with contextlib.suppress(RuntimeError):  # of a device that is broken
        torch.cuda.empty_cache()
    left = (kept - torch.cuda.memory_reserved()) / device.MIB
    return {"status": result.status, "kind": result.kind, "error": result.error, "left_mib": left}


BIG = {
    "network": {"name": "FCDD_CNN224_VGG_NOPT", "weights": "none"},
    "images": {"load_size": 100, "size": 96, "color": "rgb"},
    "training": {"batch_size": 32, "supervision": "labels"},
}


def limited(share):
    """Run a trial in a process that holds a share of the card; return how it ended, and the most that it reserved."""
    torch.cuda.set_per_process_memory_fraction(1.0)
    limit_memory(share)
    found = attempt(**BIG)
    reserved = torch.cuda.max_memory_reserved()
    torch.cuda.set_per_process_memory_fraction(1.0)
    return found | {"reserved_mib": reserved / device.MIB}


def measure():
    found = {"training": {name: trained(sections) for name, sections in TRIALS.items()}}
    found["not deterministic"] = {
        name: trained_without_determinism(TRIALS[name]) for name in ("small", "outlier exposure")
    }
    found["detection"] = [detection_peak(32), detection_peak(64)]
    found["finished"] = attempt(**BIG)
    torch.cuda.reset_peak_memory_stats()
    context = CONTEXT_MIB * device.MIB / torch.cuda.get_device_properties(0).total_memory
    found["limited"] = [limited(context + LIMIT_MIB * device.MIB / torch.cuda.mem_get_info()[1]), limited(1.0)]
    device.leave_free(800)  # enough for two such trials
    found["short of memory"] = in_packs(4, **BIG)
    device.leave_free(150)
    found["out of memory"] = attempt(**BIG)
    device.library.null_set_total(80 << 30)
    device.break_after(2000, 700)
    found["broken pack"] = in_packs(4)
    found["broken"] = [attempt(seed=seed) for seed in range(2)]
    return found


if __name__ == "__main__":
    print(json.dumps(measure()), flush=True)
    os._exit(0)  # torch's threads do not end on a device that finishes nothing

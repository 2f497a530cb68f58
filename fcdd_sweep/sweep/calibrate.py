"""A short training on this machine that tells what a sweep will cost; in this process, with nothing left in the run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.attempts import LEAF
from fcdd_sweep.sweep.cost import PROBED_EPOCHS, Probe, cost_class
from fcdd_sweep.sweep.monitor import Progress
from fcdd_sweep.sweep.plan import Plan
from fcdd_sweep.sweep.sweep import prepare_data
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.outcome import Silent


def calibrate(planned: Plan, tell: Callable[[str], object]) -> dict[str, Probe]:
    """A probe of the first class for every class of cost among the configs; nothing is written into the run.

    Raises:
        InputError: data that cannot be read, or a probe that fails; the sweep's trials would, too.
    """
    firsts: dict[str, TrialSpec] = {}
    for spec in planned.specs:
        firsts.setdefault(cost_class(spec.settings), spec)
    prepare_data(list(firsts.values()), _Telling(tell))
    return {key: _probe(spec) for key, spec in firsts.items()}


def _probe(spec: TrialSpec) -> Probe:
    short = spec.settings.training.model_copy(update={"epochs": PROBED_EPOCHS, "passes_per_epoch": 1})
    probed = TrialSpec(spec.settings.model_copy(update={"training": short}), spec.normal_class, spec.seed)
    with tempfile.TemporaryDirectory(prefix="fcdd-probe-") as folder:
        began = time.perf_counter()
        result = run_trial(probed, Path(folder), Silent())
        whole = time.perf_counter() - began
        if result.status != "done":
            raise InputError(_failed(spec, result.error))
        leaf = tree.attempts_of(Path(folder), probed.trial_id) / str(result.attempt) / LEAF
        size = sum(path.stat().st_size for path in leaf.iterdir())
        (row,) = files.read_table(leaf / tree.METRICS).to_pylist()
        speeds = files.read_table(leaf / tree.HISTORY)["images_per_second"].to_pylist()
    step_s = spec.settings.training.batch_size / speeds[-1]
    pass_s = _samples(spec.settings, row) / speeds[-1]
    tested = row["n_test_nominal"] + row["n_test_anomalous"]
    setup_s = max(0.0, whole - PROBED_EPOCHS * pass_s - row["test_time_s"])
    return Probe(setup_s, pass_s, step_s, row["test_time_s"], tested, size, row["device"])


def _samples(settings: Settings, row: Mapping[str, Any]) -> int:
    """Training samples of a pass: anomalies that are made before training stand beside the nominal ones."""
    appended = settings.anomalies.mode != "unsupervised" and not settings.anomalies.online
    return int(row["n_train"] + (row["n_train_anomalous"] or row["n_train"]) * appended)


def _failed(spec: TrialSpec, error: str) -> Problem:
    name = f"config {spec.config_name}, class {spec.normal_class}" if spec.config_name else f"class {spec.normal_class}"
    step = "The sweep's trials would fail, too: correct the experiment and probe again"
    return Problem(name, f"the probe failed ({error})", next_step=step)


class _Telling(Progress):
    """Passes on what is said of the data."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def said(self, sentence: str) -> None:
        self._tell(sentence)

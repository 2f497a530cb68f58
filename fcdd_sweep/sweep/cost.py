"""The cost of a plan, estimated from finished trials of the run, or from a short probe on this machine.

Finished trials were measured on their machine, beside the trials that ran with them; a probe runs alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.text import count_noun, duration_text, hours_text
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.checks import this_machine
from fcdd_sweep.planning.gpu_memory import card_memory, sharing_of
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.report.run_files import UNREADABLE, index_or_problem
from fcdd_sweep.report.status import status_by_trial
from fcdd_sweep.report.trial_costs import (
    Estimate,
    TrialTimes,
    TrialWork,
    cost_class,
    on_gpu,
    share_of,
    timed,
    work_of_settings,
)
from fcdd_sweep.results import files
from fcdd_sweep.results.attempts import LEAF
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.storage import Location, check_reachable
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import Report
from fcdd_sweep.training.result import NullObserver

PROBED_EPOCHS = 2
"""Passes through the data that a probe trains: the first includes the start-up, the second is timed."""


@dataclass(frozen=True)
class Probe:
    """What a short training of one config on this machine measured.

    Attributes:
        setup_s: seconds of all but training passes and scoring: preparation, figures, files.
        pass_s: seconds of one pass through the training images.
        step_s: seconds of a training step.
        test_s, test_images: seconds of scoring with its metrics, and images that were scored.
        leaf_bytes: size of the files of the finished trial.
        model_bytes: size of its `snapshot.pt`, of one model.
        device: name of the device.
        samples: training samples of a pass.
    """

    setup_s: float
    pass_s: float
    step_s: float
    test_s: float
    test_images: int
    leaf_bytes: int
    device: str
    samples: int
    model_bytes: int = 0

    def trial_s(self, settings: Settings) -> float:
        """Return the seconds of a whole trial."""
        passes = settings.total_epochs * settings.training.passes_over(self.samples)
        return self.setup_s + passes * self.pass_s + settings.models * self.test_s

    def leaf_size(self, settings: Settings) -> int:
        """Return the bytes of the files of a whole trial."""
        return self.leaf_bytes + (settings.models - 1) * self.model_bytes


def measured_lines(planned: Plan, experiment: Experiment) -> list[str]:
    """Return the lines of the estimate from the run's finished trials; none when there are no finished trials."""
    run_dir = experiment.run_dir
    check_reachable(run_dir)
    files.check_run_version(run_dir)
    index = index_or_problem(run_dir, [])
    rows = timed(index.values())
    if not rows:
        return []
    times = TrialTimes(run_dir, rows, _WorkOf(run_dir, planned))
    status = status_by_trial(run_dir, planned.rows(), index)
    missing = [spec for spec in planned.specs if status[spec.trial_id] != TrialStatus.DONE]
    if planned.experiment.search is not None and not missing:
        return [f"no estimate: it covers {_ONE_CONFIG}, which is done, and no others that the budget may still allow"]
    estimates = [(spec, times.estimate(work_of_settings(spec.config_id, spec.settings))) for spec in missing]
    known = [(spec, estimate) for spec, estimate in estimates if estimate is not None]
    if missing and not known:
        return [f"no estimate: none of {count_noun(len(rows), 'finished trial')} of this run is comparable. {_PROBE}"]
    what = "" if planned.experiment.search is None else f" for {_ONE_CONFIG}"
    head = f"estimate from finished trials of this run{what}{_how(known)}:"
    lines = [head, *_totals([(spec, estimate.seconds) for spec, estimate in known], rows[0]["device"])]
    others = len(missing) - len(known)
    return [
        *lines,
        *([f"  {count_noun(others, 'trial')} more, like none that has finished. {_PROBE}"] if others else []),
    ]


_ONE_CONFIG = "the search's first config alone, that of the file"
_PROBE = "Measure one with --dry-run --probe-cost"


def _how(known: Sequence[tuple[TrialSpec, Estimate]]) -> str:
    """Return what the estimate of each trial is."""
    if not known:
        return ""
    median = statistics.median(estimate.seconds for _, estimate in known)
    scaled = any(estimate.scaled for _, estimate in known)
    also = "training time scaled to the number of epochs, " if scaled else ""
    return f" ({also}median {median:.1f} s per trial)"


class _WorkOf:
    """Returns the work of a finished trial, by the settings in the plan, or in its leaf if an earlier plan had it."""

    def __init__(self, run_dir: Location, planned: Plan) -> None:
        self._run_dir = run_dir
        self._known: dict[str, TrialWork | None] = {
            spec.config_id: work_of_settings(spec.config_id, spec.settings) for spec in planned.specs
        }
        self._left = _MOST_LEAVES

    def __call__(self, row: files.TableRow) -> TrialWork | None:
        config_id = row["config_id"]
        if config_id not in self._known and self._left:
            self._left -= 1
            self._known[config_id] = self._read(config_id, row["leaf"])
        return self._known.get(config_id)

    def _read(self, config_id: str, leaf: str) -> TrialWork | None:
        try:
            return work_of_settings(config_id, files.read_spec(self._run_dir / leaf).settings)
        except UNREADABLE:
            return None


_MOST_LEAVES = 20
"""Configs of earlier settings whose leaves are read."""


def probed_lines(planned: Plan, probes: Mapping[str, Probe]) -> list[str]:
    """Return the lines of the estimate from probes, and what they measured."""
    counts = Counter(cost_class(spec.settings) for spec in planned.specs)
    first = {cost_class(spec.settings): spec for spec in reversed(planned.specs)}
    what = f"{PROBED_EPOCHS} passes through the data of class {planned.classes[0]}"
    lines = [f"measured on this machine, one trial alone, {what}:"]
    for key, probe in probes.items():
        spec = first[key]
        name = f"{spec.config_name}: " if spec.config_name else ""
        lines.append(
            f"  {name}{probe.step_s * 1000:.1f} ms per step, {probe.pass_s:.2f} s per pass, "
            f"scoring {1000 * probe.test_s / max(probe.test_images, 1):.2f} ms per image, "
            f"{probe.setup_s:.1f} s for the rest (preparation, figures, files): {count_noun(counts[key], 'trial')}"
            f" of about {duration_text(probe.trial_s(spec.settings))} each"
        )
    each = [(spec, probes[cost_class(spec.settings)].trial_s(spec.settings)) for spec in planned.specs]
    size = sum(probes[cost_class(spec.settings)].leaf_size(spec.settings) for spec in planned.specs)
    what = "all trials" if planned.experiment.search is None else _ONE_CONFIG
    lines.append(f"estimate for {what}, if classes are equally large and trials do not slow each other down:")
    lines += _totals(each, next(iter(probes.values())).device)
    return [*lines, f"  results: about {size / 2**20:,.0f} MiB, without checkpoints of running trials"]


def _totals(each: Sequence[tuple[TrialSpec, float]], device: str) -> list[str]:
    """Return the lines on device-hours, and on the time on this machine with all its slots in use."""
    if not each:
        return ["  no trials are left to run"]
    settings = each[0][0].settings
    gpu = on_gpu(device)
    configs = {spec.config_id: spec.settings for spec, _ in each}.values()
    sharing = sharing_of(configs, card_memory()).trials if gpu else 1
    share = share_of(device, settings.resources, settings.training.threads, sharing)
    slots = sharing if gpu else max(1, int(this_machine().cores // share))
    whole = sum(seconds for _, seconds in each)
    wall = max(whole / slots, max(seconds for _, seconds in each))
    where = f"on one GPU, {slots} at once" if gpu else f"on this machine, {slots} at once"
    hours = f"{hours_text(whole * share)} {'GPU' if gpu else 'CPU'}-hours"
    return [f"  {count_noun(len(each), 'trial')}: {hours}, about {duration_text(wall)} {where}"]


def probe_cost(planned: Plan, report: Report) -> dict[str, Probe]:
    """Return a probe by each cost class among the configs, trained on the first class; write nothing into the run.

    Raises:
        InputError: data that cannot be read, or a probe that fails, as the sweep's trials would.
    """
    from fcdd_sweep.sweep.preparation import prepare_data

    firsts: dict[str, TrialSpec] = {}
    for spec in planned.specs:
        firsts.setdefault(cost_class(spec.settings), spec)
    prepare_data(list(firsts.values()), report)
    return {key: _probe(spec) for key, spec in firsts.items()}


def _probe(spec: TrialSpec) -> Probe:
    from fcdd_sweep.sweep.trial import run_trial  # imports torch, as does the next
    from fcdd_sweep.training.step_plan import in_batches

    short = spec.settings.training.model_copy(update={"epochs": PROBED_EPOCHS, "passes_per_epoch": 1, "min_steps": 0})
    one_model = spec.settings.evaluation.model_copy(update={"calibration": "split"})
    changes = {"training": short, "evaluation": one_model}
    probed = TrialSpec(spec.settings.model_copy(update=changes), spec.normal_class, spec.seed)
    with tempfile.TemporaryDirectory(prefix="fcdd-probe-") as folder:
        began = time.perf_counter()
        result = run_trial(probed, Path(folder), NullObserver())
        whole = time.perf_counter() - began
        if result.status != TrialStatus.DONE:
            raise InputError(_failed(spec, result.error))
        leaf = RunPaths(Path(folder)).attempts_dir(probed.trial_id) / str(result.attempt) / LEAF
        sizes = {path: path.stat().st_size for path in leaf.iterdir()}
        (row,) = files.read_table(TrialPaths(leaf).metrics).to_pylist()
        speeds = files.read_table(TrialPaths(leaf).history)["images_per_second"].to_pylist()
    model = sizes.get(TrialPaths(leaf).snapshot, 0)
    samples = _samples(spec.settings, row)
    pass_s = samples / speeds[-1]
    step_s = pass_s / len(in_batches(np.arange(samples), spec.settings.training.batch_size))
    tested = row["n_test_nominal"] + row["n_test_anomalous"]
    setup_s = max(0.0, whole - PROBED_EPOCHS * pass_s - row["test_time_s"])
    leaf_bytes = sum(sizes.values())
    return Probe(setup_s, pass_s, step_s, row["test_time_s"], tested, leaf_bytes, row["device"], samples, model)


def _samples(settings: Settings, row: Mapping[str, Any]) -> int:
    """Return the training samples of a pass; anomalies that are made before training add to the nominal ones."""
    appended = settings.anomalies.mode != "unsupervised" and not settings.anomalies.online
    return int(row["n_train"] + (row["n_train_anomalous"] or row["n_train"]) * appended)


def _failed(spec: TrialSpec, error: str) -> Problem:
    name = f"config {spec.config_name}, class {spec.normal_class}" if spec.config_name else f"class {spec.normal_class}"
    step = "The sweep's trials would fail, too: correct the experiment and rerun the probe"
    return Problem(name, f"the probe failed ({error})", next_step=step)

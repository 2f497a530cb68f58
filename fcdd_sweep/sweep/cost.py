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

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.config.trial_spec import TrialSpec, canonical, identity
from fcdd_sweep.planning.checks import this_machine
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.report.run_files import index_or_problem
from fcdd_sweep.report.trial_costs import on_gpu, seconds_of, share_of, trial_costs
from fcdd_sweep.results import files
from fcdd_sweep.results.attempts import LEAF
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.storage import check_reachable
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import Report
from fcdd_sweep.training.result import NullObserver

PROBED_EPOCHS = 2
"""Passes through the data that a probe trains: the first includes the start-up, the second is timed."""
_NO_COST = ("learning_rate", "momentum", "weight_decay", "schedule", "epochs", "passes_per_epoch")
"""Keys of `training` that do not change the time of a pass through the data."""


@dataclass(frozen=True)
class Probe:
    """What a short training of one config on this machine measured.

    Attributes:
        setup_s: seconds of all but training passes and scoring: preparation, figures, files.
        pass_s: seconds of one pass through the training images.
        step_s: seconds of a training step.
        test_s, test_images: seconds of scoring with its metrics, and images that were scored.
        leaf_bytes: size of the files of the finished trial.
        device: name of the device.
    """

    setup_s: float
    pass_s: float
    step_s: float
    test_s: float
    test_images: int
    leaf_bytes: int
    device: str

    def trial_s(self, settings: Settings) -> float:
        """Return the seconds of a whole trial."""
        training = settings.training
        return self.setup_s + training.epochs * training.passes_per_epoch * self.pass_s + self.test_s


def cost_class(settings: Settings) -> str:
    """Return a key that is equal for configs whose passes through the data take equally long."""
    plain: dict[str, Any] = identity(settings)
    training = {key: value for key, value in plain.get("training", {}).items() if key not in _NO_COST}
    return canonical(plain | {"training": training})


def measured_lines(planned: Plan, experiment: Experiment) -> list[str]:
    """Return the lines of the estimate from the run's finished trials; none when there are no finished trials."""
    check_reachable(experiment.run_dir)
    files.check_run_version(experiment.run_dir)
    index = index_or_problem(experiment.run_dir, [])
    costs = trial_costs(index.values())
    if not costs:
        return []
    missing = [spec for spec in planned.specs if index.get(spec.trial_id, {}).get("status") != TrialStatus.DONE]
    device = next(row["device"] for row in index.values() if row["wall_time_s"] is not None)
    count = count_noun(len(costs[""]), "finished trial")
    return [
        f"estimate from {count} of this run (median {statistics.median(costs['']):.1f} s per trial):",
        *_totals([(spec, seconds_of(spec.config_id, costs)) for spec in missing], device),
    ]


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
    size = sum(probes[cost_class(spec.settings)].leaf_bytes for spec in planned.specs)
    lines.append("estimate for all trials, if classes are equally large and trials do not slow each other down:")
    lines += _totals(each, next(iter(probes.values())).device)
    return [*lines, f"  results: about {size / 2**20:,.0f} MiB, without checkpoints of running trials"]


def _totals(each: Sequence[tuple[TrialSpec, float]], device: str) -> list[str]:
    """Return the lines on device-hours, and on the time on this machine with all its slots in use."""
    if not each:
        return ["  no trials are left to run"]
    settings = each[0][0].settings
    share = share_of(device, settings.resources, settings.training.threads)
    gpu = on_gpu(device)
    slots = settings.resources.trials_per_gpu if gpu else max(1, int(this_machine().cores // share))
    whole = sum(seconds for _, seconds in each)
    wall = max(whole / slots, max(seconds for _, seconds in each))
    where = f"on one GPU, {slots} at once" if gpu else f"on this machine, {slots} at once"
    hours = f"{whole * share / 3600:.2f} {'GPU' if gpu else 'CPU'}-hours"
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
    from fcdd_sweep.sweep.trial import run_trial  # imports torch, see `probe_cost`

    short = spec.settings.training.model_copy(update={"epochs": PROBED_EPOCHS, "passes_per_epoch": 1})
    probed = TrialSpec(spec.settings.model_copy(update={"training": short}), spec.normal_class, spec.seed)
    with tempfile.TemporaryDirectory(prefix="fcdd-probe-") as folder:
        began = time.perf_counter()
        result = run_trial(probed, Path(folder), NullObserver())
        whole = time.perf_counter() - began
        if result.status != TrialStatus.DONE:
            raise InputError(_failed(spec, result.error))
        leaf = RunPaths(Path(folder)).attempts_dir(probed.trial_id) / str(result.attempt) / LEAF
        size = sum(path.stat().st_size for path in leaf.iterdir())
        (row,) = files.read_table(TrialPaths(leaf).metrics).to_pylist()
        speeds = files.read_table(TrialPaths(leaf).history)["images_per_second"].to_pylist()
    step_s = spec.settings.training.batch_size / speeds[-1]
    pass_s = _samples(spec.settings, row) / speeds[-1]
    tested = row["n_test_nominal"] + row["n_test_anomalous"]
    setup_s = max(0.0, whole - PROBED_EPOCHS * pass_s - row["test_time_s"])
    return Probe(setup_s, pass_s, step_s, row["test_time_s"], tested, size, row["device"])


def _samples(settings: Settings, row: Mapping[str, Any]) -> int:
    """Return the training samples of a pass; anomalies that are made before training add to the nominal ones."""
    appended = settings.anomalies.mode != "unsupervised" and not settings.anomalies.online
    return int(row["n_train"] + (row["n_train_anomalous"] or row["n_train"]) * appended)


def _failed(spec: TrialSpec, error: str) -> Problem:
    name = f"config {spec.config_name}, class {spec.normal_class}" if spec.config_name else f"class {spec.normal_class}"
    step = "The sweep's trials would fail, too: correct the experiment and rerun the probe"
    return Problem(name, f"the probe failed ({error})", next_step=step)

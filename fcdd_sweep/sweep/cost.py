"""What a plan costs: from trials of the run that are finished, or from a short probe on this machine.

Both are estimates. Finished trials are measured where and beside what they ran; a probe (`sweep.cost`) runs alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.config.trial_spec import TrialSpec, canonical, identity
from fcdd_sweep.planning.checks import this_machine
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.report.run_files import read_index
from fcdd_sweep.report.trial_costs import on_gpu, seconds_of, share_of, trial_costs
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.attempts import LEAF
from fcdd_sweep.results.storage import check_reachable
from fcdd_sweep.runners.events import Progress
from fcdd_sweep.sweep.session import prepare_data
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.result import NullObserver

PROBED_EPOCHS = 2
"""Passes through the data that a probe trains: the first pays for the start, the second is timed."""
_FREE = ("learning_rate", "momentum", "weight_decay", "schedule", "epochs", "passes_per_epoch")
"""Keys of `training` that do not decide what a pass through the data takes."""


@dataclass(frozen=True)
class Probe:
    """What a short training of one config on this machine told.

    Attributes:
        setup_s: all but training passes and scoring: preparing, pictures, files.
        pass_s: once through the training images.
        step_s: a training step.
        test_s, test_images: scoring with its metrics.
        leaf_bytes: files of the finished trial.
        device: its name.
    """

    setup_s: float
    pass_s: float
    step_s: float
    test_s: float
    test_images: int
    leaf_bytes: int
    device: str

    def trial_s(self, settings: Settings) -> float:
        """Seconds of a whole trial."""
        training = settings.training
        return self.setup_s + training.epochs * training.passes_per_epoch * self.pass_s + self.test_s


def cost_class(settings: Settings) -> str:
    """Equal for configs whose passes through the data take equally long."""
    plain: dict[str, Any] = identity(settings)
    training = {key: value for key, value in plain.get("training", {}).items() if key not in _FREE}
    return canonical(plain | {"training": training})


def measured_lines(planned: Plan, experiment: Experiment) -> list[str]:
    """The estimate from the run's own finished trials; none where there are no such."""
    check_reachable(experiment.run_dir)
    files.check_run_version(experiment.run_dir)
    index = read_index(experiment.run_dir, [])
    costs = trial_costs(index.values())
    if not costs:
        return []
    missing = [spec for spec in planned.specs if index.get(spec.trial_id, {}).get("status") != "done"]
    device = next(row["device"] for row in index.values() if row["wall_time_s"] is not None)
    count = count_noun(len(costs[""]), "finished trial")
    return [
        f"estimate from {count} of this run (median {statistics.median(costs['']):.1f} s a trial):",
        *_totals([(spec, seconds_of(spec.config_id, costs)) for spec in missing], device),
    ]


def probed_lines(planned: Plan, probes: Mapping[str, Probe]) -> list[str]:
    """The estimate from probes, and what they measured."""
    counts = Counter(cost_class(spec.settings) for spec in planned.specs)
    first = {cost_class(spec.settings): spec for spec in reversed(planned.specs)}
    what = f"{PROBED_EPOCHS} passes through the data of class {planned.classes[0]}"
    lines = [f"measured on this machine, one trial by itself, {what}:"]
    for key, probe in probes.items():
        spec = first[key]
        name = f"{spec.config_name}: " if spec.config_name else ""
        lines.append(
            f"  {name}{probe.step_s * 1000:.1f} ms a step, {probe.pass_s:.2f} s a pass, "
            f"scoring {1000 * probe.test_s / max(probe.test_images, 1):.2f} ms an image, {probe.setup_s:.1f} s beside "
            f"(pictures and files among them); so {count_noun(counts[key], 'trial')}"
            f" of about {duration_text(probe.trial_s(spec.settings))} each"
        )
    each = [(spec, probes[cost_class(spec.settings)].trial_s(spec.settings)) for spec in planned.specs]
    size = sum(probes[cost_class(spec.settings)].leaf_bytes for spec in planned.specs)
    lines.append("estimate for all trials, as if classes were equally large and trials did not slow each other down:")
    lines += _totals(each, next(iter(probes.values())).device)
    return [*lines, f"  results: about {size / 2**20:,.0f} MiB, without checkpoints of running trials"]


def _totals(each: Sequence[tuple[TrialSpec, float]], device: str) -> list[str]:
    """Device-hours, and the time on this machine when all its slots are used."""
    if not each:
        return ["  nothing is left to run"]
    settings = each[0][0].settings
    share = share_of(device, settings.resources, settings.training.threads)
    gpu = on_gpu(device)
    slots = settings.resources.trials_per_gpu if gpu else max(1, int(this_machine().cores // share))
    whole = sum(seconds for _, seconds in each)
    wall = max(whole / slots, max(seconds for _, seconds in each))
    where = f"on one GPU, {slots} at once" if gpu else f"on this machine, {slots} at once"
    hours = f"{whole * share / 3600:.2f} {'GPU' if gpu else 'CPU'}-hours"
    return [f"  {count_noun(len(each), 'trial')}: {hours}, about {duration_text(wall)} {where}"]


def probe_cost(planned: Plan, tell: Callable[[str], object]) -> dict[str, Probe]:
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
        result = run_trial(probed, Path(folder), NullObserver())
        whole = time.perf_counter() - began
        if result.status != "done":
            raise InputError(_failed(spec, result.error))
        leaf = tree.attempts_dir(Path(folder), probed.trial_id) / str(result.attempt) / LEAF
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

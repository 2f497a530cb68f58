"""What finished trials cost in device-hours, and what others will cost at that rate.

Times are compared only where the work is comparable: trials of the same config, or of configs that differ in nothing
but rates and numbers of passes through the data. For another number of passes the time of training is scaled, while the
rest of a trial, such as scoring and figures, is not. Trials that were resumed or retried are left out: their time is
that of the last attempt.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fcdd_sweep.config.layers import value_at_key
from fcdd_sweep.config.schema import Resources, Settings
from fcdd_sweep.config.text import count_noun, hours_text
from fcdd_sweep.config.trial_spec import canonical, identity
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.run_files import UNREADABLE
from fcdd_sweep.results import schemas
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import TableRow, read_rows
from fcdd_sweep.results.search_schemas import NUMBER
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths

_GPU_NAMES = ("nvidia", "tesla", "geforce", "quadro", "radeon", "instinct")
_NO_COST = ("learning_rate", "momentum", "weight_decay", "schedule", "epochs", "passes_per_epoch")
"""Keys of `training` that do not change the time of a pass through the data."""
_NAMES = ("variant", NUMBER)
"""Parameters that name a config and set nothing."""
_MOST_READ = 5
"""Finished trials of which `metrics.parquet` is read to scale their times; each is a request to an object store."""


_USUAL_SHARING = 4
"""What `resources.trials_per_gpu` was by default before rows said how many trials shared a GPU."""


def on_gpu(device: str | None) -> bool:
    """Return whether a device is a GPU, by the name that its driver reports; no processor has such a name."""
    return any(name in (device or "").lower() for name in _GPU_NAMES)


def numerics_of(row: Mapping[str, Any]) -> str:
    """Return `device_numerics` of a trial's row; of one that was written before, by the name of its device."""
    return str(row.get("device_numerics") or ("cuda 0" if on_gpu(row.get("device")) else "cpu"))


def share_of(device: str | None, resources: Resources, threads: int, sharing: int | None = None) -> float:
    """Return what a trial holds: a share of a GPU, or a number of CPU cores.

    Args:
        device: name of its device.
        resources: of the experiment.
        threads: of the trial.
        sharing: trials that shared its GPU, by its row; None where the row says nothing, as those of earlier versions.
    """
    if on_gpu(device):
        asked = resources.trials_per_gpu
        return 1 / (sharing or (_USUAL_SHARING if asked == "auto" else asked))
    return float(threads if resources.cpus == "auto" else resources.cpus)


class TrialWork(NamedTuple):
    """What a trial's time depends on.

    Attributes:
        config_id: of its config.
        kind: equal for configs whose passes through the data take equally long.
        passes: through the training images, over all epochs.
    """

    config_id: str
    kind: str
    passes: int


def cost_class(settings: Settings) -> str:
    """Return a key that is equal for configs whose passes through the data take equally long."""
    plain: dict[str, Any] = identity(settings)
    training = {key: value for key, value in plain.get("training", {}).items() if key not in _NO_COST}
    return canonical(plain | {"training": training})


def work_of_settings(config_id: str, settings: Settings) -> TrialWork:
    """Return the work of a trial with these settings."""
    return TrialWork(config_id, cost_class(settings), settings.total_passes)


def work_of_plan(row: TableRow, experiment: ExperimentFile) -> TrialWork:
    """Return the work of a planned trial, comparable with others of the same plan alone: parameters tell them apart."""
    parameters: dict[str, Any] = json.loads(row["parameters"] or "{}")
    free = tuple(f"training.{key}" for key in _NO_COST)
    kind = {
        key: value
        for key, value in parameters.items()
        if key not in _NAMES and key not in free and not key.startswith("training.schedule.")
    }
    if value_at_key(experiment.tree, ("evaluation", "calibration")) in ("cross", "auto"):
        kind["models"] = row["config_id"]  # how many there are differs from class to class
    epochs, per_epoch = (_number(key, parameters, experiment) for key in ("epochs", "passes_per_epoch"))
    return TrialWork(row["config_id"], canonical(kind), epochs * per_epoch)


def _number(key: str, parameters: Mapping[str, Any], experiment: ExperimentFile) -> int:
    value = parameters.get(f"training.{key}", value_at_key(experiment.tree, ("training", key)))
    return value if isinstance(value, int) else 1


class Estimate(NamedTuple):
    """The seconds of a trial, and whether they were scaled from trials with another number of passes."""

    seconds: float
    scaled: bool


class TrialTimes:
    """The times of a run's finished trials, and what they say about others."""

    def __init__(
        self, run_dir: Location, index: Iterable[TableRow], work_of: Callable[[TableRow], TrialWork | None]
    ) -> None:
        """
        Args:
            run_dir: the run, whose leaves are read to scale times.
            index: rows of `index.parquet`.
            work_of: returns the work of a finished trial; None where its settings are not known.
        """
        self._run_dir = run_dir
        self._finished: list[tuple[TrialWork, TableRow]] = []
        seconds: dict[Hashable, list[float]] = {}
        for row in timed(index):
            work = work_of(row) if row["attempt"] == 1 else None
            if work is not None:
                self._finished.append((work, row))
                for key in (work.config_id, (work.kind, work.passes)):
                    seconds.setdefault(key, []).append(row["wall_time_s"])
        self._found: dict[Hashable, Estimate | None] = {
            key: Estimate(statistics.median(each), scaled=False) for key, each in seconds.items()
        }

    def estimate(self, work: TrialWork) -> Estimate | None:
        """Return the seconds of a trial, or None where no comparable trial has finished.

        They are those of its config, else of configs with the same work, else scaled from other numbers of passes.
        """
        key = (work.kind, work.passes)
        if work.config_id not in self._found and key not in self._found:
            self._found[key] = self._scaled(work)
        return self._found.get(work.config_id, self._found.get(key))

    def _scaled(self, work: TrialWork) -> Estimate | None:
        like = [(other.passes, row) for other, row in self._finished if other.kind == work.kind]
        like.sort(key=lambda each: abs(each[0] - work.passes))
        found = []
        for passes, row in like[:_MOST_READ]:
            train_s = self._train_s(row)
            if train_s is not None:
                found.append(row["wall_time_s"] + train_s * (work.passes / passes - 1))
        return Estimate(statistics.median(found), scaled=True) if found else None

    def _train_s(self, row: TableRow) -> float | None:
        try:
            (metrics,) = read_rows(RunPaths(self._run_dir).leaf(row["leaf"]).metrics, schemas.METRICS)
        except UNREADABLE:
            return None
        seconds: float | None = metrics["train_time_s"]
        return seconds


def timed(index: Iterable[TableRow]) -> list[TableRow]:
    """Return the rows of finished trials with a time."""
    return [row for row in index if row["status"] == TrialStatus.DONE and row["wall_time_s"] is not None]


def hours_lines(
    run_dir: Location,
    index: Mapping[str, TableRow],
    plan: Sequence[TableRow],
    unfinished: Mapping[str, float],
    experiment: ExperimentFile,
) -> list[str]:
    """Return the device-hours of finished trials and an estimate for the others; nothing before a trial finished.

    Args:
        run_dir: the run.
        index: rows of `index.parquet` by trial id.
        plan: rows of `plan.parquet`.
        unfinished: by id of each planned trial that is not done, the share that is still to do, from 0 to 1.
        experiment: of the run.
    """
    rows = timed(index.values())
    if not rows:
        return []
    kind = "GPU" if sum(on_gpu(row["device"]) for row in rows) * 2 > len(rows) else "CPU"
    used = sum(row["wall_time_s"] * _share(row, experiment) for row in rows)
    share = _share(max(rows, key=lambda row: row["published_at"]), experiment)
    work = {row["trial_id"]: work_of_plan(row, experiment) for row in plan}
    times = TrialTimes(run_dir, rows, lambda row: work.get(row["trial_id"]))
    found = {trial_id: times.estimate(work[trial_id]) for trial_id in unfinished}
    known = {trial_id: estimate for trial_id, estimate in found.items() if estimate is not None}
    left = sum(estimate.seconds * unfinished[trial_id] for trial_id, estimate in known.items()) * share
    line = f"{hours_text(used)} {kind}-hours used by {count_noun(len(rows), 'finished trial')}"
    scaled = any(estimate.scaled for estimate in known.values())
    return [line + _left_text(hours_text(left), len(known), len(unfinished)), _basis_text(scaled=scaled)]


def _share(row: TableRow, experiment: ExperimentFile) -> float:
    return share_of(row["device"], experiment.resources, experiment.threads, row.get("trials_per_gpu"))


def _left_text(hours: str, known: int, unfinished: int) -> str:
    if not unfinished:
        return ""
    if not known:
        return f"; no comparable trial has finished, so the time of {unfinished} unfinished is unknown"
    if known < unfinished:
        return f", about {hours} left for {known} of {unfinished} unfinished, the others have no comparable trial"
    return f", about {hours} left for {unfinished} unfinished"


def _basis_text(*, scaled: bool) -> str:
    basis = "unfinished trials at the median of comparable finished ones"
    also = ", training scaled to their number of epochs" if scaled else ""
    return f"(failed and interrupted attempts are not counted; {basis}{also})"

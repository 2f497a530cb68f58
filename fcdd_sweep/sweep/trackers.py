"""Trackers: TensorBoard, MLflow and W&B, each behind one protocol and fed by the events of a sweep."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Experiment, MlflowTracker, WandbTracker
from fcdd_sweep.config.trial_spec import TrialSpec, identity
from fcdd_sweep.planning.checks import switched_on
from fcdd_sweep.results import files
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import AttemptRetried, EpochDone, Event, Report, TrialEnded, TrialStarted

TRACKED_METRICS = (
    *("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "f1_max_oracle", "threshold", "final_loss"),
    *("train_time_s", "test_time_s", "wall_time_s"),
)
"""Columns of `metrics.parquet` that trackers get."""
_LAST_CALLS_S = 60.0
"""How long the end of a sweep waits for trackers to take the remaining events."""
MetricValues = Mapping[str, float]


class TrackedRun(Protocol):
    """A trial's run in a tracker."""

    def epoch(self, epoch: int, loss: float) -> None: ...

    def end(self, status: TrialStatus, metrics: MetricValues) -> None: ...


class Tracker(Protocol):
    """Starts a run for each trial; `parameters` are the trial's settings by dotted keys."""

    def begin(self, spec: TrialSpec, parameters: Mapping[str, Any]) -> TrackedRun: ...


def trackers_of(experiment: Experiment, leaf_of: Callable[[str], str], report: Report) -> Iterator[TrackerSink]:
    """Yield a sink for every tracker that is switched on, to be entered for the time of the sweep.

    Args:
        experiment: its `trackers`, name and run directory.
        leaf_of: returns the folder of a finished trial below the run directory, by its id.
        report: gets messages, such as on a tracker that failed.
    """
    run_dir, trackers = experiment.run_dir, experiment.trackers
    home = tracker_folder(run_dir)
    made: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(home / "tensorboard"),
        "mlflow": lambda: Mlflow(trackers.mlflow or MlflowTracker(), experiment.name),
        "wandb": lambda: Wandb(trackers.wandb or WandbTracker(), experiment.name, home),
    }
    for name in switched_on(trackers):
        if name == "tensorboard":
            report(f"TensorBoard: tensorboard --logdir {home / 'tensorboard'}")
        yield TrackerSink(name, made[name], run_dir, leaf_of, report)


def tracker_folder(run_dir: Location) -> Path:
    """Return where trackers keep files: in the run, or on this machine if the run is in an object store."""
    return RunPaths(run_dir).trackers if isinstance(run_dir, Path) else cache_root() / "trackers" / run_dir.name


class TrackerSink:
    """A sink that passes events on to one tracker, in a thread, so that a slow server delays no trial.

    Attributes:
        failed: the tracker raised and gets no further events.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        run_dir: Location,
        leaf_of: Callable[[str], str],
        report: Report,
    ) -> None:
        self._name, self._make, self._run_dir, self._leaf_of, self._report = name, make, run_dir, leaf_of, report
        self._runs: dict[str, TrackedRun] = {}
        self._calls: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self.failed = False

    def __enter__(self) -> TrackerSink:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._calls.put(lambda tracker: self._end_all())
        self._calls.put(None)
        self._thread.join(_LAST_CALLS_S)
        if self._thread.is_alive():
            self._report(
                f"{self._name} did not take all events within {_LAST_CALLS_S:.0f} s after the end of the sweep"
            )

    def handle(self, event: Event) -> None:
        if self.failed:
            return
        match event:
            case TrialStarted(spec):
                self._calls.put(lambda tracker: self._begin(tracker, spec))
            case EpochDone(spec, epoch, _, loss):
                self._calls.put(lambda tracker: self._runs[spec.trial_id].epoch(epoch, loss))
            case AttemptRetried(spec):
                self._calls.put(lambda tracker: self._end(spec, TrialStatus.FAILED, {}))
            case TrialEnded(spec, result):
                leaf = self._leaf_of(spec.trial_id) if result.status == TrialStatus.DONE else ""
                self._calls.put(lambda tracker: self._end(spec, result.status, self._metrics(leaf)))

    def _metrics(self, leaf: str) -> MetricValues:
        return metrics_of(self._run_dir, leaf) if leaf else {}

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (call := self._calls.get()) is not None:
                call(tracker)
        except Exception as error:  # a view of the sweep is not worth the sweep
            self.failed = True
            self._report(f"{self._name} failed and gets no further events: {type(error).__name__}: {error}")

    def _begin(self, tracker: Tracker, spec: TrialSpec) -> None:
        self._runs[spec.trial_id] = tracker.begin(spec, parameters_of(spec))

    def _end(self, spec: TrialSpec, status: TrialStatus, metrics: MetricValues) -> None:
        run = self._runs.pop(spec.trial_id, None)
        if run is not None:
            run.end(status, metrics)

    def _end_all(self) -> None:
        """End the runs of trials that an interrupted sweep left behind."""
        for trial_id in list(self._runs):
            self._runs.pop(trial_id).end(TrialStatus.STOPPED, {})


def metrics_of(run_dir: Location, leaf: str) -> dict[str, float]:
    """Return the metrics of a finished trial but undefined ones; none when its file cannot be read."""
    try:
        (row,) = files.read_table(TrialPaths(run_dir / leaf).metrics).to_pylist()
    except (OSError, pa.ArrowException, ValueError):
        return {}
    return {name: float(row[name]) for name in TRACKED_METRICS if row.get(name) is not None}


def parameters_of(spec: TrialSpec) -> dict[str, Any]:
    """Return what identifies a trial, by dotted keys: class, seed, and the settings that differ from their defaults."""
    own = {"trial_id": spec.trial_id, "config": spec.config_name, "normal_class": spec.normal_class, "seed": spec.seed}
    return own | flat(identity(spec.settings)) | spec.parameters


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a": {"b": 1}}` as `{"a.b": 1}`; values other than text, numbers and booleans become text."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


class TensorBoard:
    """Writes event files into one folder per trial, named as its leaf, with hyperparameters for the HParams page."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, spec: TrialSpec, parameters: Mapping[str, Any]) -> TrackedRun:
        return _TensorBoardRun(self._folder / spec.leaf, parameters)


class _TensorBoardRun:
    def __init__(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self._writer, self._parameters = SummaryWriter(str(folder)), flat(parameters)

    def epoch(self, epoch: int, loss: float) -> None:
        self._writer.add_scalar("loss", loss, epoch)

    def end(self, status: TrialStatus, metrics: MetricValues) -> None:
        from tensorboardX.summary import hparams

        for name, value in metrics.items():
            self._writer.add_scalar(name, value)
        for summary in hparams(self._parameters, dict(metrics)) if metrics else ():
            self._writer.file_writer.add_summary(summary)
        self._writer.close()


class Mlflow:
    """Makes one run per trial in an experiment of an MLflow server; the process's own run is untouched."""

    def __init__(self, options: MlflowTracker, name: str) -> None:
        from mlflow import MlflowClient

        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it would print two lines per trial
        self._client, self._group = MlflowClient(tracking_uri=options.tracking_uri), options.experiment or name
        found = self._client.get_experiment_by_name(self._group)
        self._experiment = found.experiment_id if found else self._client.create_experiment(self._group)

    def begin(self, spec: TrialSpec, parameters: Mapping[str, Any]) -> TrackedRun:
        from mlflow.entities import Param

        run_id = self._client.create_run(self._experiment, run_name=spec.leaf).info.run_id
        params = [Param(key, str(value)[:500]) for key, value in flat(parameters).items()]
        self._client.log_batch(run_id, params=params)
        return _MlflowRun(self._client, run_id)


_MLFLOW_STATUS = {TrialStatus.DONE: "FINISHED", TrialStatus.FAILED: "FAILED", TrialStatus.STOPPED: "KILLED"}


class _MlflowRun:
    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def epoch(self, epoch: int, loss: float) -> None:
        self._client.log_metric(self._run_id, "loss", loss, step=epoch)

    def end(self, status: TrialStatus, metrics: MetricValues) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._client.log_batch(self._run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        self._client.set_terminated(self._run_id, _MLFLOW_STATUS[status])


class Wandb:
    """Makes one run per trial, grouped by experiment; offline runs stay in the folder for `wandb sync`."""

    def __init__(self, options: WandbTracker, name: str, folder: Path) -> None:
        import wandb

        self._wandb, self._options, self._group, self._folder = wandb, options, name, folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, spec: TrialSpec, parameters: Mapping[str, Any]) -> TrackedRun:
        run = self._wandb.init(
            project=self._options.project,
            mode=self._options.mode,
            group=self._group,
            name=spec.leaf,
            config=flat(parameters),
            dir=str(self._folder),
            reinit="create_new",  # several trials run at once
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        return _WandbRun(run)


class _WandbRun:
    def __init__(self, run: Any) -> None:
        self._run = run

    def epoch(self, epoch: int, loss: float) -> None:
        self._run.log({"loss": loss}, step=epoch)

    def end(self, status: TrialStatus, metrics: MetricValues) -> None:
        self._run.summary.update({name: value for name, value in metrics.items() if math.isfinite(value)})
        self._run.finish(exit_code=0 if status == TrialStatus.DONE else 1)

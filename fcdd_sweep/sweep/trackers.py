"""Which trackers an experiment wants, and whether their packages are there; planning needs no more of them."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Experiment, MlflowTracker, WandbTracker
from fcdd_sweep.config.trial_spec import TrialSpec, identity
from fcdd_sweep.planning.checks import switched_on
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Progress
from fcdd_sweep.runners.trial_result import TrialResult

TRACKED_METRICS = (
    *("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "f1_max_oracle", "threshold", "final_loss"),
    *("train_time_s", "test_time_s", "wall_time_s"),
)
"""Columns of `metrics.parquet` that a tracker is told."""
_LAST_WORDS_S = 60.0
"""How long the end of a sweep waits for what trackers have not heard yet."""
Ending = Literal["done", "failed", "stopped"]
MetricValues = Mapping[str, float]


class TrackedRun(Protocol):
    """A trial as a tracker sees it."""

    def epoch(self, epoch: int, loss: float) -> None: ...

    def end(self, ending: Ending, figures: MetricValues) -> None: ...


class Tracker(Protocol):
    """Begins a run for a trial; `parameters` are its settings by dotted keys."""

    def begin(self, spec: TrialSpec, parameters: Mapping[str, Any]) -> TrackedRun: ...


def trackers_of(
    experiment: Experiment, leaf_of: Callable[[str], str], say: Callable[[str], None]
) -> Iterator[Tracking]:
    """What tells the trackers that are switched on; to be entered for the time of the sweep.

    Args:
        experiment: its `trackers`, name and place.
        leaf_of: where a finished trial's files lie below the run, by its id.
        say: hears what is worth knowing, such as a tracker that failed.
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
            say(f"TensorBoard: tensorboard --logdir {home / 'tensorboard'}")
        yield Tracking(name, made[name], run_dir, leaf_of, say)


def tracker_folder(run_dir: Location) -> Path:
    """Where trackers keep files: in the run, and for one in an object store on this machine."""
    return run_dir / tree.TRACKERS if isinstance(run_dir, Path) else cache_root() / "trackers" / run_dir.name


class Tracking(Progress):
    """Tells one tracker, in a thread, what the driver hears.

    Attributes:
        failed: nothing is told any more.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        run_dir: Location,
        leaf_of: Callable[[str], str],
        say: Callable[[str], None],
    ) -> None:
        self._name, self._make, self._run_dir, self._leaf_of, self._say = name, make, run_dir, leaf_of, say
        self._runs: dict[str, TrackedRun] = {}
        self._events: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self.failed = False

    def __enter__(self) -> Tracking:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._events.put(lambda tracker: self._end_all())
        self._events.put(None)
        self._thread.join(_LAST_WORDS_S)
        if self._thread.is_alive():
            self._say(f"{self._name} did not take all in: it was given {_LAST_WORDS_S:.0f} s at the end")

    def started(self, spec: TrialSpec) -> None:
        self._tell(lambda tracker: self._begin(tracker, spec))

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None:
        self._tell(lambda tracker: self._runs[spec.trial_id].epoch(epoch, loss))

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        self._tell(lambda tracker: self._end(spec, "failed", {}))

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        leaf = self._leaf_of(spec.trial_id) if result.status == "done" else ""
        self._tell(lambda tracker: self._end(spec, result.status, figures_of(self._run_dir, leaf) if leaf else {}))

    def _tell(self, event: Callable[[Tracker], None]) -> None:
        if not self.failed:
            self._events.put(event)

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (event := self._events.get()) is not None:
                event(tracker)
        except Exception as error:  # to be seen elsewhere is not worth a sweep
            self.failed = True
            self._say(f"{self._name} failed and hears no more of this start: {type(error).__name__}: {error}")

    def _begin(self, tracker: Tracker, spec: TrialSpec) -> None:
        self._runs[spec.trial_id] = tracker.begin(spec, parameters_of(spec))

    def _end(self, spec: TrialSpec, ending: Ending, figures: MetricValues) -> None:
        run = self._runs.pop(spec.trial_id, None)
        if run is not None:
            run.end(ending, figures)

    def _end_all(self) -> None:
        """Trials that an interrupted sweep left behind."""
        for trial_id in list(self._runs):
            self._runs.pop(trial_id).end("stopped", {})


def figures_of(run_dir: Location, leaf: str) -> dict[str, float]:
    """Figures of a finished trial; undefined ones are left out, and all of them where its file cannot be read."""
    try:
        (row,) = files.read_table(run_dir / leaf / tree.METRICS).to_pylist()
    except (OSError, pa.ArrowException, ValueError):
        return {}
    return {name: float(row[name]) for name in TRACKED_METRICS if row.get(name) is not None}


def parameters_of(spec: TrialSpec) -> dict[str, Any]:
    """What identifies a trial, by dotted keys: class, seed, and the settings that are not at their default."""
    own = {"trial_id": spec.trial_id, "config": spec.config_name, "normal_class": spec.normal_class, "seed": spec.seed}
    return own | flat(identity(spec.settings)) | spec.parameters


def flat(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; values that are no plain value become text."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


class TensorBoard:
    """Event files, a folder for each trial, named as its leaf; hyperparameters for the HParams page."""

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

    def end(self, ending: Ending, figures: MetricValues) -> None:
        from tensorboardX.summary import hparams

        for name, value in figures.items():
            self._writer.add_scalar(name, value)
        for summary in hparams(self._parameters, dict(figures)) if figures else ():
            self._writer.file_writer.add_summary(summary)
        self._writer.close()


class Mlflow:
    """A run for each trial in an experiment of an MLflow server, by its client; the process's own run is left alone."""

    def __init__(self, options: MlflowTracker, name: str) -> None:
        from mlflow import MlflowClient

        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a trial among ours
        self._client, self._group = MlflowClient(tracking_uri=options.tracking_uri), options.experiment or name
        found = self._client.get_experiment_by_name(self._group)
        self._experiment = found.experiment_id if found else self._client.create_experiment(self._group)

    def begin(self, spec: TrialSpec, parameters: Mapping[str, Any]) -> TrackedRun:
        from mlflow.entities import Param

        run_id = self._client.create_run(self._experiment, run_name=spec.leaf).info.run_id
        told = [Param(key, str(value)[:500]) for key, value in flat(parameters).items()]
        self._client.log_batch(run_id, params=told)
        return _MlflowRun(self._client, run_id)


class _MlflowRun:
    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def epoch(self, epoch: int, loss: float) -> None:
        self._client.log_metric(self._run_id, "loss", loss, step=epoch)

    def end(self, ending: Ending, figures: MetricValues) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._client.log_batch(self._run_id, metrics=[Metric(name, value, now, 0) for name, value in figures.items()])
        states = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
        self._client.set_terminated(self._run_id, states[ending])


class Wandb:
    """A run for each trial, grouped by the experiment; offline runs wait in the folder for `wandb sync`."""

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

    def end(self, ending: Ending, figures: MetricValues) -> None:
        self._run.summary.update({name: value for name, value in figures.items() if math.isfinite(value)})
        self._run.finish(exit_code=0 if ending == "done" else 1)

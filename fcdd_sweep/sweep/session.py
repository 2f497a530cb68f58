"""What sweeps and searches share: options, opening a run, running trials in it, and publishing their results."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypedDict

from fcdd_sweep.config.loading import dump_experiment
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.schema import Experiment, Faults
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import check_run_version, keep_source
from fcdd_sweep.results.lease import Held, lease
from fcdd_sweep.results.storage import Location, check_reachable, is_storage_error
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import (
    AttemptRetried,
    Event,
    EventFanout,
    EventSink,
    Message,
    NullSink,
    Report,
    Runner,
    TrialEnded,
    Work,
    reporter,
)
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.queue import Trials
from fcdd_sweep.runners.ray_session import parent_for_sockets
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_data import versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.ledger import FailureLog, Ledger
from fcdd_sweep.sweep.preparation import prepare_data
from fcdd_sweep.sweep.progress_file import ProgressFile
from fcdd_sweep.sweep.trackers import trackers_of
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.device import choose_device, device_name, no_gpu_reason

_STOP_NOTICE = "stopping: running trials save themselves; interrupt again to end at once"
OnChangedData = Literal["stop", "keep", "redo"]


class RunKeywords(TypedDict, total=False):
    """Keyword arguments of the public functions; see `RunOptions`."""

    local: bool
    address: str | None
    changed_data: OnChangedData
    progress: EventSink | None
    work: Work | None


@dataclass(frozen=True)
class RunOptions:
    """How a sweep or a search runs.

    Attributes:
        local: run in this process, one trial after the other, instead of on Ray Tune.
        address: of a Ray cluster, `auto` or HOST:PORT; None starts a Ray on this machine.
        changed_data: what happens to finished trials whose data has changed since: `stop` raises an error, `keep` keeps
            their results, `redo` runs them again (not in a search, whose study cannot take them back).
        progress: takes all events, such as a display.
        work: what a worker does with a trial; None stands for `run_trial`, others are for tests and benchmarks.
    """

    local: bool = False
    address: str | None = None
    changed_data: OnChangedData = "stop"
    progress: EventSink | None = None
    work: Work | None = None


@dataclass(frozen=True, repr=False)
class SweepResult:
    """How a sweep ended.

    Attributes:
        run_dir: the run's directory.
        report: the page to open; after an interruption it may be missing or outdated.
        planned, done, failed: numbers of trials, over all starts.
        kept: trials that earlier starts finished.
        interrupted: a signal ended it.
        hung_up: its terminal was closed, which is one of these signals.
        failures: trial id and last attempt of each failed trial; attempt 0 where a worker was lost with its number.
    """

    run_dir: Location
    report: Location
    planned: int
    done: int
    failed: int
    kept: int
    interrupted: bool = False
    hung_up: bool = False
    failures: tuple[tuple[str, int], ...] = ()

    def __repr__(self) -> str:
        ended = "interrupted, " if self.interrupted else ""
        counts = (
            f"{self.done} of {count_noun(self.planned, 'trial')} done, {self.failed} failed, {self.missing} missing"
        )
        return f"SweepResult({str(self.run_dir)!r}: {ended}{counts})"

    @property
    def missing(self) -> int:
        return self.planned - self.done - self.failed


@dataclass(frozen=True)
class Session:
    """A run that this driver has opened and no other driver can write to.

    Attributes:
        experiment: what runs.
        options: how it runs.
        ledger: the run's trials.
        failures: the run's failed attempts.
        held: whether the run is still this driver's.
        stop: the request to stop, by a signal.
        fingerprints: of the data that the trials read, by trial id.
        data_notes: notes on the data, for the report.
    """

    experiment: Experiment
    options: RunOptions
    ledger: Ledger
    failures: FailureLog
    held: Held
    stop: StopSignal
    fingerprints: Mapping[str, str]
    data_notes: list[str]

    def report(self, text: str) -> None:
        """Show a sentence to the user."""
        _display(self.options).handle(Message(text))

    @contextlib.contextmanager
    def publishing(self) -> Iterator[Publisher]:
        """Keep `progress.json` and the trackers open, and yield what enters results and passes events on."""
        display = _display(self.options)
        with ExitStack() as opened:
            leaf_of = partial(_leaf_of, self.ledger)
            others: list[EventSink] = [opened.enter_context(ProgressFile(self.ledger.run_dir, self.report))]
            for tracker in trackers_of(self.experiment, leaf_of, self.report):
                others.append(opened.enter_context(tracker))
            yield Publisher(self.ledger, EventFanout(display, others), self.failures, self.held)

    def run(self, trials: Trials, publisher: Publisher) -> bool:
        """Run trials; return whether a signal ended them."""
        work = self.options.work or partial(run_trial, checkpoint_every=self.experiment.faults.checkpoint_every)
        try:
            self._runner()(trials, self.ledger.run_dir, publisher, work, self.stop)
        except KeyboardInterrupt:
            return True
        finally:
            publisher.save()
        return self.stop.asked

    def _runner(self) -> Runner:
        faults = self.experiment.faults
        failures_left = partial(self.ledger.failures_left, faults=faults)
        if self.options.local:
            return LocalRunner(faults, failures_left)
        from fcdd_sweep.runners.ray_runner import RayRunner  # a run in this process needs no Ray

        resources = self.experiment.resources
        if self.options.address is None and choose_device(resources.device).type == "cpu":
            resources = resources.model_copy(update={"device": "cpu"})  # Ray may list a GPU that torch cannot use
        return RayRunner(resources, faults, self.options.address, failures_left=failures_left)

    def result(self, specs: Sequence[TrialSpec], report: Location, kept: int, *, interrupted: bool) -> SweepResult:
        """Return how the session ended for these trials."""
        done = sum(self.ledger.done(spec.trial_id) for spec in specs)
        failed = [spec.trial_id for spec in specs if self.ledger.failed(spec.trial_id)]
        failures = tuple((trial_id, self.ledger.rows[trial_id]["attempt"]) for trial_id in failed)
        return SweepResult(
            self.ledger.run_dir,
            report,
            len(specs),
            done,
            len(failed),
            kept,
            interrupted=interrupted,
            hung_up=interrupted and self.stop.hung_up,
            failures=failures,
        )


@contextlib.contextmanager
def open_session(
    experiment: Experiment,
    specs: Sequence[TrialSpec],
    notes: Sequence[str],
    options: RunOptions,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Session]:
    """Check storage and device, prepare the data, and keep other drivers out of the run while entered.

    Args:
        experiment: what runs.
        specs: trials that together read all data that any trial will read.
        notes: notes of the plan, shown first.
        options: how it runs.
        check: raises an error for what else in the run cannot be used; called before data is decoded.
    Raises:
        InputError: storage, device, data or temporary folder that cannot be used, a run of another version of
            fcdd_sweep, or one that another driver works on.
        StorageError: at any time, a store that is unreachable or a disk that is full.
    """
    report = reporter(_display(options))
    for note in notes:
        report(note)
    run_dir = experiment.run_dir
    check_reachable(run_dir)
    check_run_version(run_dir)
    check()
    if options.address is None:  # a cluster's head need not have what its workers have
        device = choose_device(experiment.resources.device)
        if not options.local:
            parent_for_sockets()
        if experiment.resources.device == "auto" and device.type == "cpu":
            report(f"trials run on the CPU: torch sees no GPU ({no_gpu_reason()})")
        elif experiment.resources.device == "auto" and options.local:
            report(f"trials run on a GPU: {device_name(device)}")
    fingerprints, data_notes = prepare_data(specs, report)
    with storage_errors(), lease(run_dir) as held:
        failures = FailureLog(run_dir)
        if failures.problem:
            report(failures.problem)
        ledger = Ledger(run_dir, failures.counts())
        stop = StopSignal(partial(report, _STOP_NOTICE))
        yield Session(experiment, options, ledger, failures, held, stop, fingerprints, data_notes)


def _display(options: RunOptions) -> EventSink:
    return options.progress or NullSink()


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the error of a full disk into the `StorageError` that an unreachable store raises, too."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError | BrokenPipeError) or not is_storage_error(error):
            raise  # a broken pipe is the terminal's
        raise StorageError(str(error)) from error


def write_plan(experiment: Experiment, planned: Plan, notes: list[str]) -> None:
    """Write the run's files that no trial makes; `notes` are sentences on the data."""
    run_dir = experiment.run_dir
    keep_source(run_dir)
    files.write_text(RunPaths(run_dir).experiment, dump_experiment(experiment))
    files.write_rows(RunPaths(run_dir).plan, planned.rows(), schemas.PLAN)
    environment = {
        "versions": versions(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "notes": [*planned.result_notes, *notes],
    }
    files.write_text(RunPaths(run_dir).environment, json.dumps(environment, indent=2) + "\n")


def _leaf_of(ledger: Ledger, trial_id: str) -> str:
    return str(ledger.rows.get(trial_id, {}).get("leaf", ""))


def trials_to_run(specs: Sequence[TrialSpec], ledger: Ledger, faults: Faults, report: Report) -> list[TrialSpec]:
    """Return the trials that this start runs: not done, and not left alone because they failed before."""
    missing = [spec for spec in specs if not ledger.done(spec.trial_id)]
    if not faults.retry_failed:
        missing = [spec for spec in missing if not ledger.failed(spec.trial_id)]
    spent = {spec.trial_id for spec in missing if ledger.failures_left(spec.trial_id, faults) <= 0}
    if spent:
        trials, have, are = count_noun(len(spent), "trial"), *(("has", "is") if len(spent) == 1 else ("have", "are"))
        report(
            f"{trials} {have} failed {faults.max_failures} times or more and {are} not run again; "
            "to retry, raise faults.max_failures or rerun with --set faults.max_failures=null"
        )
    return [spec for spec in missing if spec.trial_id not in spent]


def trials_with_changed_data(
    specs: Sequence[TrialSpec], ledger: Ledger, fingerprint: Callable[[TrialSpec], str]
) -> list[TrialSpec]:
    """Return finished trials whose data has changed since."""
    done = [spec for spec in specs if ledger.done(spec.trial_id)]
    return [spec for spec in done if ledger.rows[spec.trial_id]["data_fingerprint"] != fingerprint(spec)]


def class_list(specs: Sequence[TrialSpec]) -> str:
    return ", ".join(sorted({spec.normal_class for spec in specs}))


@dataclass(frozen=True)
class Publisher:
    """The sink of a runner: enters results into the ledger, then passes each event on.

    Once another driver has taken the run over, nothing is written any more: the run is the other's.

    Attributes:
        ledger, failures: where results and failed attempts are entered.
        display: gets the events first: the display, `progress.json` and the trackers.
        held: whether the run is still this driver's.
        evaluator: gets the events last; the search, whose next trials depend on them.
    """

    ledger: Ledger
    display: EventSink
    failures: FailureLog
    held: Held = field(default_factory=Held)
    evaluator: EventSink = field(default_factory=NullSink)

    def handle(self, event: Event) -> None:
        shown = True
        match event:
            case AttemptRetried(spec, result, decision):
                self._log(spec, result, decision)
                self.ledger.failures[spec.trial_id] += POLICIES[result.kind or "error"].counts
            case TrialEnded(spec, result):
                # a worker that was lost after its trial was published changes nothing
                shown = not self.held.lost and not self.ledger.done(spec.trial_id)
                if shown:
                    self._enter(spec, result)
        if shown:
            self.display.handle(event)
        self.evaluator.handle(event)

    def _enter(self, spec: TrialSpec, result: TrialResult) -> None:
        try:
            if result.status == TrialStatus.DONE:
                self.ledger.publish(spec, result)
            elif result.status == TrialStatus.FAILED:
                self.ledger.fail(spec, result)
                self._log(spec, result, "not retried in this start")
        except OSError as error:  # a full disk, say: the attempt stays, and the next start publishes it
            self._report(f"could not enter {spec.leaf} into the run: {error}")

    def _log(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        if self.held.lost:
            return
        try:
            self.failures.add(spec, result, decision)
        except OSError as error:
            self._report(f"could not record the failure of {spec.leaf}: {error}")

    def _report(self, text: str) -> None:
        self.display.handle(Message(text))

    def save(self) -> None:
        """Write the ledger's index, if the run is still this driver's."""
        if not self.held.lost:
            self.ledger.save()

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
from pathlib import Path
from typing import Literal, TypedDict

from fcdd_sweep.config.loading import dump_experiment
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.schema import Experiment, Faults
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.packs import pack_size
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.report.leaf_drawing import PictureStyle
from fcdd_sweep.report.leaf_pictures import LeafPictures, without_pictures
from fcdd_sweep.report.report_state import sentences_of_current_report
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import check_run_version, keep_source
from fcdd_sweep.results.lease import Held, lease
from fcdd_sweep.results.storage import Location, check_reachable, is_storage_error
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import (
    EventFanout,
    EventSink,
    Message,
    NullSink,
    Report,
    Runner,
    Work,
    reporter,
)
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.process_runner import ProcessRunner
from fcdd_sweep.runners.queue import Trials
from fcdd_sweep.runners.ray_session import check_address, parent_for_sockets
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_data import versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.early_start import EarlyStart, count_to_run, early_start
from fcdd_sweep.sweep.ledger import FailureLog, Ledger
from fcdd_sweep.sweep.preparation import image_list_rows, prepare_data
from fcdd_sweep.sweep.progress_file import ProgressFile
from fcdd_sweep.sweep.publisher import Publisher
from fcdd_sweep.sweep.trackers import trackers_of
from fcdd_sweep.sweep.trial_device import auto_device_note, check_device, runs_on_cpu, visible_gpus
from fcdd_sweep.training.result import Observer

_STOP_NOTICE = "stopping: running trials save themselves; interrupt again to end at once"
OnChangedData = Literal["stop", "keep", "redo"]


class RunKeywords(TypedDict, total=False):
    """Keyword arguments of the public functions; see `RunOptions`."""

    local: bool | int
    address: str | None
    changed_data: OnChangedData
    progress: EventSink | None
    work: Work | None


@dataclass(frozen=True)
class RunOptions:
    """How a sweep or a search runs.

    Attributes:
        local: run without Ray Tune: True or 1 in this process, one trial after the other, a larger number in as many
            processes of this machine.
        address: of a Ray cluster, `auto` or HOST:PORT; None starts a Ray on this machine.
        changed_data: what happens to finished trials whose data has changed since: `stop` raises an error, `keep` keeps
            their results, `redo` runs them again (not in a search, whose study cannot take them back).
        progress: takes all events, such as a display.
        work: what a worker does with a trial; None stands for `run_trial`, others are for tests and benchmarks.
    """

    local: bool | int = False
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
        pictures: draws leaves beside the trials; None where leaves get no pictures, and for a run in an object store,
            whose leaves are drawn with its report.
        early: what has started already to run the trials.
    """

    experiment: Experiment
    options: RunOptions
    ledger: Ledger
    failures: FailureLog
    held: Held
    stop: StopSignal
    fingerprints: Mapping[str, str]
    data_notes: list[str]
    pictures: LeafPictures | None = None
    early: EarlyStart = field(default_factory=EarlyStart)

    def report(self, text: str) -> None:
        """Show a sentence to the user."""
        _display(self.options).handle(Message(text))

    def note_device(self) -> None:
        """Say what `resources.device: auto` means on this machine."""
        if self.options.address is None and self.experiment.resources.device == "auto":
            if note := auto_device_note(one_process=bool(self.options.local)):
                self.report(note)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[Publisher]:
        """Keep `progress.json` and the trackers open, and yield what enters results and passes events on."""
        display = _display(self.options)
        with ExitStack() as opened:
            leaf_of = partial(_leaf_of, self.ledger)
            others: list[EventSink] = [opened.enter_context(ProgressFile(self.ledger.run_dir, self.report))]
            for tracker in trackers_of(self.experiment, leaf_of, self.report):
                others.append(opened.enter_context(tracker))
            yield Publisher(self.ledger, EventFanout(display, others), self.failures, self.held, pictures=self.pictures)

    def run(self, trials: Trials, publisher: Publisher) -> bool:
        """Run trials; return whether a signal ended them."""
        self._draw_what_is_missing()
        work = self.options.work or partial(attempt_trial, checkpoint_every=self.experiment.faults.checkpoint_every)
        try:
            self._runner()(trials, self.ledger.run_dir, publisher, work, self.stop)
        except KeyboardInterrupt:
            return True
        finally:
            publisher.save()
        return self.stop.asked

    def _draw_what_is_missing(self) -> None:
        """Have leaves drawn that a killed driver left without pictures."""
        if self.pictures is not None:
            done = [row["leaf"] for row in self.ledger.rows.values() if row["status"] == TrialStatus.DONE]
            self.pictures.add(without_pictures(self.pictures.run_dir, done))

    def make_report(self) -> Location:
        """Draw what is not drawn yet, build the report, and return where it is."""
        run_dir = self.ledger.run_dir
        self.early.close()
        if isinstance(run_dir, Path) and (told := sentences_of_current_report(run_dir)) is not None:
            for sentence in told:
                self.report(sentence)
            return RunPaths(run_dir).report
        from fcdd_sweep.report.aggregate import aggregate  # imports matplotlib, which is not needed before

        self.report("building the report")
        problems: list[str] = []
        page = aggregate(self.ledger.run_dir, warn=problems.append, tell=self.report, pictures=self.pictures)
        if problems:
            more = f" (and {len(problems) - 1} more, see the report)" if len(problems) > 1 else ""
            self.report(f"{problems[0]}{more}; to try again: fcdd-sweep aggregate {self.ledger.run_dir} --redraw")
        return page

    def _runner(self) -> Runner:
        faults = self.experiment.faults
        failures_left = partial(self.ledger.failures_left, faults=faults)
        pack = pack_size(self.experiment.resources)
        if self.options.local > 1:
            gpus = visible_gpus(self.experiment.resources.device)
            return ProcessRunner(faults, failures_left, int(self.options.local), self.early.template, pack, gpus)
        if self.options.local:
            return LocalRunner(faults, failures_left, pack)
        from fcdd_sweep.runners.ray_runner import RayRunner  # a run in this process needs no Ray

        resources = self.experiment.resources
        if self.options.address is None and runs_on_cpu(resources.device):
            resources = resources.model_copy(update={"device": "cpu"})  # Ray may list a GPU that torch cannot use
        address, scratch = self.options.address, self.early.scratch
        return RayRunner(resources, faults, address, failures_left=failures_left, scratch=scratch)

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
    *,
    all_known: bool = False,
) -> Iterator[Session]:
    """Check storage and device, prepare the data, and keep other drivers out of the run while entered.

    Args:
        experiment: what runs.
        specs: trials that together read all data that any trial will read.
        notes: notes of the plan, shown first.
        options: how it runs.
        check: raises an error for what else in the run cannot be used; called before data is decoded.
        all_known: `specs` are all trials of the run, so Ray starts at once if any is missing.
    Raises:
        InputError: storage, device, cluster, data or temporary folder that cannot be used, a run of another version of
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
        check_device(experiment.resources.device)
        if not options.local:
            parent_for_sockets()
    elif not options.local and count_to_run(run_dir, specs):  # a report needs no cluster
        check_address(options.address)
    with ExitStack() as opened:
        start = EarlyStart()
        if all_known and options.work is None and options.address is None:
            start = opened.enter_context(early_start(experiment, specs, report, local=int(options.local)))
        fingerprints, data_notes = prepare_data(specs, report)
        opened.enter_context(storage_errors())
        held = opened.enter_context(lease(run_dir))
        failures = FailureLog(run_dir)
        if failures.problem:
            report(failures.problem)
        ledger = Ledger(run_dir, failures.counts())
        stop = StopSignal(partial(report, _STOP_NOTICE))
        pictures = None
        if isinstance(run_dir, Path) and experiment.keep.pictures == "leaf":
            pictures = opened.enter_context(LeafPictures(run_dir, PictureStyle.of(experiment)))
        yield Session(experiment, options, ledger, failures, held, stop, fingerprints, data_notes, pictures, start)


def attempt_trial(spec: TrialSpec, run_dir: Location, observer: Observer, checkpoint_every: str) -> TrialResult:
    """Make one attempt, see `sweep.trial.run_trial`: imported where trials run, as it imports torch."""
    from fcdd_sweep.sweep.trial import run_trial

    return run_trial(spec, run_dir, observer, checkpoint_every)


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
    if experiment.dataset.name == "folder":
        files.write_rows(RunPaths(run_dir).images, image_list_rows(planned.configs[0].settings), schemas.IMAGE_LIST)
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

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from fcdd_sweep.config.loading import dump_experiment
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.schema import Experiment, Faults, Settings
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.loading import load_corpus, load_exposure
from fcdd_sweep.networks.describe import starting_weights
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.files import check_run_version, keep_source
from fcdd_sweep.results.lease import Held
from fcdd_sweep.results.storage import Location, check_reachable, is_storage_error
from fcdd_sweep.runners.events import EventFanout, Progress, Runner, SearchObserver, Work
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.queue import Trials
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_data import fingerprint_of, forget_data, versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.ledger import FailureLog, Ledger
from fcdd_sweep.sweep.progress_file import ProgressFile
from fcdd_sweep.sweep.trackers import trackers_of
from fcdd_sweep.training.device import choose_device

_TELL_DECODING_EVERY_S = 3.0
OnChangedData = Literal["stop", "keep", "redo"]


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        run_dir: the run.
        report: the page to open; after an interruption it may be missing or old.
        planned, done, failed: numbers of trials, counting those of earlier starts.
        kept: trials that were done before this start.
        interrupted: Ctrl-C or SIGTERM ended it.
    """

    run_dir: Location
    report: Location
    planned: int
    done: int
    failed: int
    kept: int
    interrupted: bool = False

    @property
    def missing(self) -> int:
        return self.planned - self.done - self.failed


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """A full disk is told like a store that is away: in words."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError | BrokenPipeError) or not is_storage_error(error):
            raise  # a broken pipe is the terminal's
        raise StorageError(str(error)) from error


def preflight(experiment: Experiment, notes: Sequence[str], address: str | None, progress: Progress) -> None:
    """What is told and checked before any data is decoded.

    Raises:
        InputError: a store that cannot be used, a run of another version of fcdd_sweep, or a device that this machine
            lacks.
    """
    for note in notes:
        progress.said(note)
    check_reachable(experiment.run_dir)
    check_run_version(experiment.run_dir)
    if address is None:  # a cluster's head need not have what its workers have
        choose_device(experiment.resources.device)


def prepare_data(specs: Sequence[TrialSpec], progress: Progress) -> tuple[dict[str, str], list[str]]:
    """Decode every data set that the trials need, once, and check it; bring the weights they start from.

    Returns:
        The fingerprint of its class's data by trial id, and sentences on the data for the report.
    Raises:
        InputError: images that do not decode, all of them named; weights that cannot be had.
    """
    forget_data()
    settings = {_data_key(spec.settings): spec.settings for spec in specs}
    notes: list[str] = []
    for each in settings.values():
        telling = _decoding_progress(each.dataset.name, progress)
        corpus = load_corpus(each.dataset, each.images, progress=telling, say=progress.said)
        notes += corpus.notes
        source = each.anomalies.source
        if source is not None and not isinstance(source, str):
            pool = load_exposure(source, each.dataset, each.images, say=progress.said)
            notes += [*pool.notes, *_limit_notes(each, len(pool), progress)]
    _fetch_weights(specs, progress)
    fingerprints = {spec.trial_id: fingerprint_of(spec) for spec in specs}
    return fingerprints, list(dict.fromkeys(notes))


def _limit_notes(settings: Settings, there: int, progress: Progress) -> list[str]:
    limit = settings.anomalies.limit
    if limit == "all" or limit <= there:
        return []
    note = f"anomalies.limit asks for {limit} outlier-exposure images, but there are {there}: all are used."
    progress.said(note)
    return [note]


def _fetch_weights(specs: Sequence[TrialSpec], progress: Progress) -> None:
    """Bring ImageNet's weights onto this machine once, before any trial asks for them."""
    networks = {spec.settings.network.model_dump_json(): spec.settings.network for spec in specs}
    backbones = {network.backbone for network in networks.values() if starting_weights(network) == "imagenet"}
    if backbones:
        from fcdd_sweep.networks.pretrained import load_imagenet

        progress.said("looking for ImageNet's weights, and fetching them if they are not on this machine yet")
        for backbone in backbones:
            load_imagenet(backbone)


def _data_key(settings: Settings) -> str:
    """Equal for settings that read the same images."""
    return settings.model_dump_json(include={"dataset": True, "images": True, "anomalies": {"source", "limit"}})


def _decoding_progress(name: str, progress: Progress) -> Callable[[int, int], None]:
    """Says now and then how many images are decoded; nothing when they already are."""
    told = time.monotonic()

    def tell(count: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_DECODING_EVERY_S:
            progress.said(f"decoding {name}: {count} of {total} images")
            told = time.monotonic()

    return tell


def write_plan(experiment: Experiment, planned: Plan, notes: list[str]) -> None:
    """The run's own files that no trial makes; `notes` are sentences on the data."""
    run_dir = experiment.run_dir
    keep_source(run_dir)
    files.write_text(run_dir / tree.EXPERIMENT, dump_experiment(experiment))
    files.write_rows(run_dir / tree.PLAN, planned.rows(), schemas.PLAN)
    environment = {"versions": versions(), "platform": platform.platform(), "cpus": os.cpu_count(), "notes": notes}
    files.write_text(run_dir / tree.ENVIRONMENT, json.dumps(environment, indent=2) + "\n")


@contextlib.contextmanager
def event_sinks(experiment: Experiment, ledger: Ledger, progress: Progress) -> Iterator[Progress]:
    """What shows a sweep, together with its `progress.json` and the trackers of the experiment."""
    with ExitStack() as watching:
        others: list[Progress] = [watching.enter_context(ProgressFile(ledger.run_dir, progress.said))]
        leaf_of = partial(_leaf_of, ledger)
        others += [watching.enter_context(each) for each in trackers_of(experiment, leaf_of, progress.said)]
        yield EventFanout(progress, others)


def _leaf_of(ledger: Ledger, trial_id: str) -> str:
    return str(ledger.rows.get(trial_id, {}).get("leaf", ""))


def trials_to_run(specs: Sequence[TrialSpec], ledger: Ledger, faults: Faults, progress: Progress) -> list[TrialSpec]:
    """The trials that this start runs."""
    left = [spec for spec in specs if not ledger.done(spec.trial_id)]
    if not faults.retry_failed:
        left = [spec for spec in left if not ledger.failed(spec.trial_id)]
    spent = {spec.trial_id for spec in left if ledger.failures_left(spec.trial_id, faults) <= 0}
    if spent:
        trials, have = count_noun(len(spent), "trial"), "has" if len(spent) == 1 else "have"
        progress.said(
            f"{trials} {have} failed {faults.max_failures} times or more and {have} been left alone; "
            "a larger faults.max_failures, or --set faults.max_failures=null, tries again"
        )
    return [spec for spec in left if spec.trial_id not in spent]


def run_trials(trials: Trials, publishing: Publisher, work: Work, runner: Runner) -> bool:
    """Run trials; gives whether a signal ended it."""
    stop = StopSignal(lambda: publishing.said("stopping: running trials save themselves; once more ends at once"))
    try:
        runner(trials, publishing.ledger.run_dir, publishing, work, stop)
    except KeyboardInterrupt:
        return True
    finally:
        publishing.save()
    return stop.asked


def runner_of(experiment: Experiment, ledger: Ledger, *, local: bool, address: str | None) -> Runner:
    """What runs an experiment's trials: this process, or Ray."""
    faults = experiment.faults
    left = partial(ledger.failures_left, faults=faults)
    if local:
        return LocalRunner(faults, left)
    from fcdd_sweep.runners.ray_runner import TuneRunner  # a run in this process needs no Ray

    return TuneRunner(experiment.resources, faults, address, failures_left=left)


@dataclass(frozen=True)
class Publisher:
    """Enters results into the ledger as they come, then passes them on.

    Once another driver has taken the run over, nothing is written any more: the run is the other's.

    Attributes:
        follower: told of what comes in, after it was entered.
    """

    ledger: Ledger
    progress: Progress
    failures: FailureLog
    held: Held = field(default_factory=Held)
    follower: SearchObserver = field(default_factory=SearchObserver)

    def started(self, spec: TrialSpec) -> None:
        self.progress.started(spec)

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None:
        self.progress.epoch_done(spec, epoch, epochs, loss)
        self.follower.epoch_done(spec, epoch)

    def measured(self, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        self.follower.measured(spec, measured)

    def said(self, sentence: str) -> None:
        self.progress.said(sentence)

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        self._log(spec, result, decision)
        self.ledger.failures[spec.trial_id] += POLICIES[result.kind or "error"].counts
        self.progress.retried(spec, result, decision)

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        # a worker that was lost after its trial was published changes nothing
        if not self.held.lost and not self.ledger.done(spec.trial_id):
            self._enter(spec, result)
            self.progress.ended(spec, result)
        self.follower.heard(spec, result)

    def _enter(self, spec: TrialSpec, result: TrialResult) -> None:
        try:
            if result.status == "done":
                self.ledger.publish(spec, result)
            elif result.status == "failed":
                self.ledger.fail(spec, result)
                self._log(spec, result, "given up in this start")
        except OSError as error:  # a full disk, say: the attempt stays, and the next start publishes it
            self.progress.said(f"could not enter {spec.leaf} into the run: {error}")

    def save(self) -> None:
        if not self.held.lost:
            self.ledger.save()

    def _log(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        if self.held.lost:
            return
        try:
            self.failures.add(spec, result, decision)
        except OSError as error:
            self.progress.said(f"could not keep the failure of {spec.leaf}: {error}")

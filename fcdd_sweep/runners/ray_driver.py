"""The driver's side of Ray Tune: which job starts next, and what follows the reports of workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fcdd_sweep.runners.events import (
    AttemptRetried,
    EpochDone,
    EventSink,
    Message,
    TrialEnded,
    TrialStarted,
    ValidationMeasured,
)
from fcdd_sweep.runners.failures import kind_of_loss
from fcdd_sweep.runners.queue import Job, JobQueue, Packing, retry_text
from fcdd_sweep.runners.ray_nodes import Nodes
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult


class Wave:
    """The part of a sweep that one Tuner runs: jobs from the queue, up to a number.

    Attributes:
        queue: supplies the jobs.
        nodes: the machines that jobs run on, and those that they must avoid.
    """

    def __init__(self, queue: JobQueue, max_jobs: int, nodes: Nodes, packing: Packing) -> None:
        self.queue, self._remaining, self.nodes, self._packing = queue, max_jobs, nodes, packing
        self._jobs: dict[str, dict[str, Job]] = {}

    def suggest(self, tune_id: str) -> dict[str, Any] | None:
        """Return the config of Tune's next trial, or None when none may start now."""
        jobs = self.queue.next_pack(self._packing, self._remaining) if self._remaining > 0 else ()
        if not jobs:
            return None
        self._remaining -= len(jobs)
        self._jobs[tune_id] = {job.spec.trial_id: job for job in jobs}
        trials = json.dumps([job.spec.to_dict() for job in jobs])
        return {"trials": trials, "shares": jobs[0].shares, "avoided": tuple(sorted(self.nodes.unfit))}

    @property
    def over(self) -> bool:
        """Whether no job runs and this wave starts no further one."""
        return not self.queue.any_running and (self._remaining <= 0 or self.queue.empty)

    def running(self, tune_id: str) -> dict[str, Job]:
        """Return the jobs of a trial of Tune that have not ended, by trial."""
        return self._jobs[tune_id]


class JobSearcher(Searcher):
    """Gives Tune the jobs of a wave. Results go to `TuneListener`, not here."""

    def __init__(self, wave: Wave, stop: StopSignal) -> None:
        super().__init__()
        self._wave, self._stop = wave, stop

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Pickle as an empty searcher: Tune's copy is for restoring, which never happens, and a stop holds a sink."""
        return Searcher, ()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._stop.asked:
            self._wave.queue.stop()
        return Searcher.FINISHED if self._wave.over else self._wave.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002 (Tune's own signature)
        """Do nothing, see the class."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: Tune's copy is for restoring, which never happens."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, see `save`."""


@dataclass(frozen=True)
class Patience:
    """How long the driver waits for workers.

    Attributes:
        silent_s: seconds without any report after which a worker counts as frozen and is killed.
        stop_s: seconds that running trials have to save themselves when the sweep stops.
    """

    silent_s: float
    stop_s: float


class TuneListener(Callback):
    """Turns the reports of workers into events and results for the queue; stops and kills workers where needed."""

    def __init__(
        self, wave: Wave, sink: EventSink, stop: StopSignal, patience: Patience, require_ray: Callable[[], None]
    ) -> None:
        """`require_ray` is called often, and raises an error when Ray has died on this machine."""
        self._wave, self._sink, self._stop, self._patience, self._require_ray = wave, sink, stop, patience, require_ray
        self._last_report: dict[str, float] = {}
        self._process: dict[str, tuple[str, int]] = {}
        self._asked_to_stop: set[tuple[str, str]] = set()
        self._killed: set[str] = set()
        self._stop_until: float | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Pickle as an empty callback, see `JobSearcher`: a sink may hold a console."""
        return Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_report[trial.trial_id] = time.monotonic()
        for job in self._wave.running(trial.trial_id).values():
            self._sink.handle(TrialStarted(job.spec))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._last_report[trial.trial_id] = time.monotonic()
        self._process[trial.trial_id] = result["process"]
        ended = [TrialResult(**plain) for plain in result["results"]]
        if all(each.kind != "node_unfit" for each in ended):
            self._wave.nodes.trial_alive()
        for each in ended:
            self._ended(trial, each)
        for trial_id, update in result["updates"].items():
            spec = self._wave.running(trial.trial_id)[trial_id].spec
            self._sink.handle(EpochDone(spec, update["epoch"], update["epochs"], update["loss"]))
            if update["aurocs"]:
                self._sink.handle(ValidationMeasured(spec, dict(update["aurocs"])))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for trial_id in list(self._wave.running(trial.trial_id)):  # none, where a worker ended itself after its results
            self._ended(trial, self._loss(trial, trial_id))

    def _loss(self, trial: Any, trial_id: str) -> TrialResult:
        """Return the result of an attempt whose worker is gone."""
        text = _error_text(trial)
        if trial.trial_id in self._killed:
            message = f"its worker did not answer for {self._patience.silent_s / 60:.3g} minutes and was killed"
            return TrialResult.failure(trial_id, "hung", message, text)
        kind = kind_of_loss(text)
        if kind == "node_unfit" and not self._wave.nodes.has_others:
            kind = "error"  # it would run on the same machine again
        return TrialResult.failure(trial_id, kind, _cause_in(text), text)

    def _ended(self, trial: Any, result: TrialResult) -> None:
        began = time.monotonic()
        running = self._wave.running(trial.trial_id)
        job = running.pop(result.trial_id)
        if not running:
            self._last_report.pop(trial.trial_id, None)
        retry = self._wave.queue.ended(result)
        if result.kind == "node_unfit" and trial.trial_id in self._process:
            self._report(self._wave.nodes.rule_out(self._process[trial.trial_id][0], result.error))
        if retry is not None:
            self._sink.handle(AttemptRetried(job.spec, result, retry_text(retry, job)))
        else:
            self._sink.handle(TrialEnded(job.spec, result))
        busy_s = time.monotonic() - began  # storage may be unreachable for minutes: no worker was silent meanwhile
        self._last_report = {name: at + busy_s for name, at in self._last_report.items()}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._require_ray()
        if self._stop.asked:
            self._stop_all(trials)
        self._kill_frozen(trials)
        self._ask_to_stop(trials, self._wave.queue.source.unwanted)
        self._report(self._wave.nodes.check_new())
        self._wave.nodes.require_usable()

    def _report(self, messages: list[str]) -> None:
        for message in messages:
            self._sink.handle(Message(message))

    def _stop_all(self, trials: list[Any]) -> None:
        """Ask all running trials to save themselves; end without those that take too long."""
        now = time.monotonic()
        if self._stop_until is None:
            self._stop_until = now + self._patience.stop_s
            self._wave.queue.stop()
        self._ask_to_stop(trials)
        if now > self._stop_until:
            raise KeyboardInterrupt

    def _ask_to_stop(self, trials: list[Any], chosen: Callable[[str], bool] = lambda trial_id: True) -> None:
        """Ask the running ones among the trials to stop, each once: those that `chosen` is true of."""
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            if trial.trial_id not in self._last_report or actor is None:
                continue
            for trial_id in self._wave.running(trial.trial_id):
                attempt = (trial.trial_id, trial_id)
                if attempt not in self._asked_to_stop and chosen(trial_id):
                    actor.ask_to_stop.remote(trial_id)
                    self._asked_to_stop.add(attempt)

    def _kill_frozen(self, trials: list[Any]) -> None:
        """Kill workers that report nothing, not even that they live; their trials run again."""
        deadline = time.monotonic() - self._patience.silent_s
        silent = {name for name, at in self._last_report.items() if at < deadline} - self._killed
        for trial in trials if silent else []:
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in silent and actor is not None:
                self._killed.add(trial.trial_id)
                _kill(actor, self._process.get(trial.trial_id))


def _kill(actor: Any, process: tuple[str, int] | None) -> None:
    """Kill a worker that does not answer; a frozen process reacts to SIGKILL only."""
    ray.kill(actor)
    if process is not None:
        node, pid = process
        on_node = NodeAffinitySchedulingStrategy(node, soft=False)
        _kill_process.options(num_cpus=0, scheduling_strategy=on_node, max_retries=0).remote(pid)


@ray.remote
def _kill_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _error_text(trial: Any) -> str:
    """Return what Ray recorded when it lost a trial's worker."""
    try:
        return Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    except OSError:
        return ""


def _cause_in(text: str) -> str:
    """Return the sentence with the cause: Ray's own on memory, or the last that names an exception; no advice."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    named = [line for line in lines if "died" in line or "Error" in line or "lost" in line]
    killed = [line for line in lines if "killed due to" in line]
    return (killed or named or lines or ["the scheduler reported no cause"])[-1].partition(". ")[0][:300]

"""The driver's side of Ray Tune: which job comes next, and what is made of what workers tell."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fcdd_sweep.runners.events import Monitor
from fcdd_sweep.runners.failures import kind_of_loss
from fcdd_sweep.runners.queue import Job, JobQueue, retry_text
from fcdd_sweep.runners.ray_nodes import Machines
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult


class Wave:
    """The part of a sweep that one Tuner does: jobs out of the queue until it has given out enough.

    Attributes:
        machines: those that jobs may run on, and those that they may not.
    """

    def __init__(self, queue: JobQueue, most: int, machines: Machines) -> None:
        self.queue, self._left, self.machines = queue, most, machines
        self._jobs: dict[str, Job] = {}

    def suggest(self, tune_id: str) -> dict[str, Any] | None:
        """The config of Tune's next trial; None when nothing may start now."""
        job = self.queue.next() if self._left > 0 else None
        if job is None:
            return None
        self._left -= 1
        self._jobs[tune_id] = job
        avoided = tuple(sorted(self.machines.unfit))
        return {"trial": json.dumps(job.spec.to_dict()), "room": job.room, "avoided": avoided}

    @property
    def over(self) -> bool:
        """Nothing runs, and nothing more is given out by this wave."""
        return not self.queue.anything_out and (self._left <= 0 or self.queue.empty)

    def job(self, tune_id: str) -> Job:
        return self._jobs[tune_id]


class JobSearcher(Searcher):
    """Gives Tune the jobs of a wave. Results come to the listener, not here."""

    def __init__(self, wave: Wave, stop: StopSignal) -> None:
        super().__init__()
        self._wave, self._stop = wave, stop

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune keeps a copy for restoring, which is never done; a stop may hold a terminal."""
        return Searcher, ()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._stop.asked:
            self._wave.queue.stop()
        return Searcher.FINISHED if self._wave.over else self._wave.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002 (Tune's own signature)
        """See the class."""

    def save(self, checkpoint_path: str) -> None:
        """Tune would keep a copy for restoring, which is never done."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


class Listener(Callback):
    """Tells the monitor and the queue what workers tell; stops and kills them where that is needed."""

    def __init__(
        self, wave: Wave, monitor: Monitor, stop: StopSignal, *, silent_after_s: float, grace_s: float
    ) -> None:
        self._wave, self._monitor, self._stop = wave, monitor, stop
        self._silent_after_s, self._grace_s = silent_after_s, grace_s
        self._heard: dict[str, float] = {}
        self._process: dict[str, tuple[str, int]] = {}
        self._told_to_stop: set[str] = set()
        self._killed: set[str] = set()
        self._over: set[str] = set()
        self._stop_until: float | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune keeps a copy of its callbacks for restoring, which is never done; a monitor may hold a terminal."""
        return Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard[trial.trial_id] = time.monotonic()
        self._monitor.started(self._wave.job(trial.trial_id).spec)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._heard[trial.trial_id] = time.monotonic()
        if "process" in result:
            self._process[trial.trial_id] = result["process"]
        ended = TrialResult(**result["result"]) if "result" in result else None
        if ended is None or ended.kind != "node_unfit":
            self._wave.machines.works()
        if ended is not None:
            self._ended(trial, ended)
        elif "epoch" in result:
            spec = self._wave.job(trial.trial_id).spec
            self._monitor.epoch_done(spec, result["epoch"], result["epochs"], result["loss"])
            if result["measured"]:
                self._monitor.measured(spec, dict(result["measured"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id not in self._over:  # otherwise its worker ended itself after the result
            self._ended(trial, self._loss(trial))

    def _loss(self, trial: Any) -> TrialResult:
        """What became of an attempt whose worker is gone."""
        trial_id = self._wave.job(trial.trial_id).spec.trial_id
        text = _text_of(trial)
        if trial.trial_id in self._killed:
            words = f"its worker did not answer for {self._silent_after_s / 60:.3g} minutes and was ended"
            return TrialResult(trial_id, "failed", 0, words, kind="hung", traceback=text)
        kind = kind_of_loss(text)
        if kind == "node_unfit" and not self._wave.machines.others:
            kind = "error"  # it would be the same machine again
        return TrialResult(trial_id, "failed", 0, _first_line(text), kind=kind, traceback=text)

    def _ended(self, trial: Any, result: TrialResult) -> None:
        began = time.monotonic()
        self._heard.pop(trial.trial_id, None)
        self._over.add(trial.trial_id)
        job = self._wave.job(trial.trial_id)
        again = self._wave.queue.ended(result)
        if result.kind == "node_unfit" and trial.trial_id in self._process:
            self._say(self._wave.machines.rule_out(self._process[trial.trial_id][0], result.error))
        if again is not None:
            self._monitor.retried(job.spec, result, retry_text(again, job))
        else:
            self._monitor.ended(job.spec, result)
        away = time.monotonic() - began  # a store may be out of reach for minutes: nobody was silent meanwhile
        self._heard = {name: at + away for name, at in self._heard.items()}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._stop.asked:
            self._stop_all(trials)
        self._end_the_silent(trials)
        self._ask_to_stop([trial for trial in trials if trial.trial_id in self._heard and self._unwanted(trial)])
        self._say(self._wave.machines.newcomers())
        self._wave.machines.need_one()

    def _say(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._monitor.said(sentence)

    def _unwanted(self, trial: Any) -> bool:
        return self._wave.queue.source.unwanted(self._wave.job(trial.trial_id).spec.trial_id)

    def _stop_all(self, trials: list[Any]) -> None:
        """Ask every running trial to save itself; who takes too long is left behind."""
        now = time.monotonic()
        if self._stop_until is None:
            self._stop_until = now + self._grace_s
            self._wave.queue.stop()
        self._ask_to_stop(trials)
        if now > self._stop_until:
            raise KeyboardInterrupt

    def _ask_to_stop(self, trials: list[Any]) -> None:
        """Ask those of the trials that run, each once."""
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in self._heard and trial.trial_id not in self._told_to_stop and actor is not None:
                actor.ask_to_stop.remote()
                self._told_to_stop.add(trial.trial_id)

    def _end_the_silent(self, trials: list[Any]) -> None:
        """A worker that says nothing at all, not even that it lives, is frozen: its trial goes elsewhere."""
        late = time.monotonic() - self._silent_after_s
        silent = {name for name, at in self._heard.items() if at < late} - self._killed
        for trial in trials if silent else []:
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in silent and actor is not None:
                self._killed.add(trial.trial_id)
                _kill(actor, self._process.get(trial.trial_id))


def _kill(actor: Any, process: tuple[str, int] | None) -> None:
    """End a worker that does not answer; a frozen process hears nothing but the system's own signal."""
    ray.kill(actor)
    if process is not None:
        node, pid = process
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        _end_process.options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(pid)


@ray.remote
def _end_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _text_of(trial: Any) -> str:
    """What Ray wrote down when it lost a trial's worker."""
    try:
        return Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    except OSError:
        return ""


def _first_line(text: str) -> str:
    """The sentence that says what happened: Ray's own on memory, or the last that names an exception; no advice."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    named = [line for line in lines if "died" in line or "Error" in line or "lost" in line]
    killed = [line for line in lines if "killed due to" in line]
    return (killed or named or lines or ["the scheduler gave no cause"])[-1].partition(". ")[0][:300]

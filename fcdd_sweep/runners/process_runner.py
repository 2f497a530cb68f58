"""The runner with several processes of this machine, without Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from fcdd_sweep.config.fields import seconds
from fcdd_sweep.config.schema import Faults, Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.gpu_memory import card_memory, crowding_text
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import (
    AttemptRetried,
    EpochDone,
    EventSink,
    Message,
    TrialEnded,
    TrialStarted,
    ValidationMeasured,
    Work,
)
from fcdd_sweep.runners.failures import POLICIES, FailureKind
from fcdd_sweep.runners.node_check import WithGpu
from fcdd_sweep.runners.process_template import REPORT_EVERY_S, STOP, Template, first_message
from fcdd_sweep.runners.queue import Job, JobQueue, Trials, no_failure_limit, retry_text
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.runners.trial_thread import EpochUpdate

_LOOK_EVERY_S = 0.2
_STOP_S = 60.0
"""Seconds that running trials have to save themselves when the sweep stops."""


@dataclass
class _Worker:
    """A process and the job that it has.

    Attributes:
        connection: to the process.
        pid: of the process.
        place: number of the GPU that it uses; 0 without one.
        job: None while it waits.
        last_report: when it was heard last, in seconds.
        asked_to_stop: whether its trial was asked to stop.
    """

    connection: Connection
    pid: int
    place: int
    job: Job | None = None
    last_report: float = 0.0
    asked_to_stop: bool = False

    def give(self, job: Job, spec: TrialSpec) -> None:
        """Start a job, with the trial as the process needs to know it."""
        self.job, self.last_report, self.asked_to_stop = job, time.monotonic(), False
        with contextlib.suppress(OSError):  # it has just died, which is noticed next
            self.connection.send(spec.to_dict())

    def ask_to_stop(self) -> None:
        if not self.asked_to_stop:
            self.asked_to_stop = True
            with contextlib.suppress(OSError):
                self.connection.send(STOP)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.connection.close()


@dataclass(frozen=True)
class ProcessRunner:
    """A `Runner` with `processes` workers on this machine.

    Attributes:
        faults: how often a trial is tried again, and when it counts as hung.
        failures_left: see `JobQueue`.
        processes: how many trials run at once.
        template: starts workers; None starts one for the time of a call.
        gpus: how many GPUs they share evenly, each process one of them; 0 where trials run on the CPU.
    """

    faults: Faults
    failures_left: Callable[[str], float] = no_failure_limit
    processes: int = 2
    template: Template | None = None
    gpus: int = 0

    def __call__(self, trials: Trials, run_dir: Location, sink: EventSink, work: Work, stop: StopSignal) -> None:
        queue = JobQueue(trials, self.faults.retries, failures_left=self.failures_left)
        queue.source.begin(slots=self.processes)
        stalled_after_s = seconds(self.faults.progress_timeout)
        if self.gpus:
            work = WithGpu(work, "gpu_failed")
            sink.handle(Message(self._sharing_text([spec.settings for spec in queue.source.examples])))
        settings = first_message(work, run_dir, stalled_after_s)
        template = Template() if self.template is None else contextlib.nullcontext(self.template)
        with stop.listening(), template as started, _Pool(self.processes, self.gpus, queue, sink).opened() as pool:
            stop_until = None
            while not queue.empty:
                if stop.asked:
                    queue.stop()
                    stop_until = stop_until or time.monotonic() + _STOP_S
                    if time.monotonic() > stop_until:
                        raise KeyboardInterrupt
                pool.ask_to_stop(everyone=stop.asked)
                pool.start_jobs(started, settings)
                pool.hear()
                pool.kill_frozen(stalled_after_s + 10 * REPORT_EVERY_S)

    def _sharing_text(self, configs: Sequence[Settings]) -> str:
        """Return how many trials share a GPU, and whether they may not fit."""
        trials = -(-self.processes // self.gpus)
        reason = f"--local is {self.processes}" + (f" and there are {self.gpus} GPUs" if self.gpus > 1 else "")
        crowded = crowding_text(configs, trials, card_memory())
        return f"trials that share a GPU: {trials}, since {reason}" + (f"; {crowded}" if crowded else "")


class _Pool:
    """The workers of one call.

    Each belongs to a place: a GPU, or all of the CPU. A place has slots: as many as trials run there at once.
    """

    def __init__(self, size: int, gpus: int, queue: JobQueue, sink: EventSink) -> None:
        self._gpus, self._queue, self._sink = gpus, queue, sink
        places = min(gpus, size) or 1
        self._slots = [size // places + (place < size % places) for place in range(places)]
        self._workers: list[_Worker] = []
        self._held: Job | None = None  # needs more slots than are free

    @contextlib.contextmanager
    def opened(self) -> Iterator[_Pool]:
        """End all workers when left."""
        try:
            yield self
        finally:
            for worker in self._workers:
                worker.kill()

    def _free(self, place: int) -> int:
        slots = self._slots[place]
        jobs = [worker.job for worker in self._workers if worker.job and worker.place == place]
        return slots - sum(min(job.shares, slots) for job in jobs)

    def _placed(self, job: Job) -> TrialSpec:
        """Return the trial of a job with its share of a GPU, if it has one: the same on all of them."""
        return job.spec.sharing_gpu(max(1, max(self._slots) // job.shares)) if self._gpus else job.spec

    def start_jobs(self, template: Template, settings: tuple[Work, Location, float]) -> None:
        """Give jobs to workers as long as there are both; a job with more shares waits until as many slots are free."""
        if self._held and self._queue.stopped:
            self._queue.ended(TrialResult(self._held.spec.trial_id, TrialStatus.STOPPED, 0))
            self._held = None
        while True:
            place = max(range(len(self._slots)), key=self._free)
            free = self._free(place)
            if free < 1:
                return
            job = self._held or self._queue.next()
            self._held = None
            if job is None:
                return
            if min(job.shares, self._slots[place]) > free:
                self._held = job
                return
            idle = (worker for worker in self._workers if worker.job is None and worker.place == place)
            worker = next(idle, None) or self._started(template, settings, place)
            worker.give(job, self._placed(job))
            self._sink.handle(TrialStarted(job.spec))

    def _started(self, template: Template, settings: tuple[Work, Location, float], place: int) -> _Worker:
        worker = _Worker(*template.start_worker(), place)
        worker.connection.send((*settings, _visible(place) if self._gpus > 1 else None))
        self._workers.append(worker)
        return worker

    def ask_to_stop(self, *, everyone: bool) -> None:
        """Ask the trials to stop that are not wanted any more."""
        for worker in self._workers:
            if worker.job and (everyone or self._queue.source.unwanted(worker.job.spec.trial_id)):
                worker.ask_to_stop()

    def hear(self) -> None:
        """Wait a moment for what workers send, and act on it."""
        connections = {worker.connection: worker for worker in self._workers}
        if not connections:
            time.sleep(_LOOK_EVERY_S)
        for connection in wait(list(connections), _LOOK_EVERY_S) if connections else ():
            worker = connections[connection]  # type: ignore[index]  # a subset of what was passed
            try:
                update = worker.connection.recv()
            except (EOFError, OSError):
                self._lost(worker, "worker_lost", "its process has ended unexpectedly")
                continue
            self._take(worker, update)

    def _take(self, worker: _Worker, update: TrialResult | EpochUpdate | None) -> None:
        worker.last_report = time.monotonic()
        job = worker.job
        if job is None:
            return
        if isinstance(update, TrialResult):
            worker.job = None
            if update.kind is not None and POLICIES[update.kind].ends_worker:
                self._workers.remove(worker)
                worker.kill()
            self._ended(job, update)
        elif update is not None:
            self._sink.handle(EpochDone(job.spec, update.epoch, update.epochs, update.loss))
            if update.aurocs:
                self._sink.handle(ValidationMeasured(job.spec, dict(update.aurocs)))

    def _lost(self, worker: _Worker, kind: FailureKind, why: str) -> None:
        self._workers.remove(worker)
        worker.kill()
        if worker.job is not None:
            failed = TrialResult.failure(worker.job.spec.trial_id, kind, why)
            self._ended(worker.job, failed)

    def _ended(self, job: Job, result: TrialResult) -> None:
        began = time.monotonic()
        retry = self._queue.ended(result)
        if retry is not None:
            self._sink.handle(AttemptRetried(job.spec, result, retry_text(retry, job)))
        else:
            self._sink.handle(TrialEnded(job.spec, result))
        busy_s = time.monotonic() - began  # storage may be unreachable for minutes: no worker was silent meanwhile
        for worker in self._workers:
            worker.last_report += busy_s

    def kill_frozen(self, silent_s: float) -> None:
        """Kill workers that say nothing, not even that they live; their trials run again."""
        for worker in list(self._workers):
            if worker.job and time.monotonic() - worker.last_report > silent_s:
                self._lost(worker, "hung", f"its process did not answer for {silent_s / 60:.3g} minutes and was killed")


def _visible(place: int) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES that leaves a process the GPU of a place alone."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(place) if given is None else given.split(",")[place].strip()

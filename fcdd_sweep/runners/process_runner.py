"""The runner with several processes of this machine, without Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
from fcdd_sweep.runners.process_template import REPORT_EVERY_S, Template, WorkerMessage, WorkerReport, first_message
from fcdd_sweep.runners.queue import Job, JobQueue, Packing, Trials, no_failure_limit, retry_text
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult

_LOOK_EVERY_S = 0.2
_STOP_S = 60.0
"""Seconds that running trials have to save themselves when the sweep stops."""


@dataclass
class _Worker:
    """A process and the jobs that it has.

    Attributes:
        connection: to the process.
        pid: of the process.
        place: number of the GPU that it uses; 0 without one.
        jobs: that have not ended, by trial; none while it waits.
        last_report: when it was heard last, in seconds.
        asked_to_stop: which of its trials were asked to stop.
        unfit: whether it must get no further job.
    """

    connection: Connection
    pid: int
    place: int
    jobs: dict[str, Job] = field(default_factory=dict)
    last_report: float = 0.0
    asked_to_stop: set[str] = field(default_factory=set)
    unfit: bool = False

    @property
    def shares(self) -> int:
        """Multiple of a trial's usual resources that its jobs have together; 0 while it waits."""
        return max((job.shares for job in self.jobs.values()), default=0)

    def give(self, jobs: Sequence[Job], specs: Sequence[TrialSpec]) -> None:
        """Start jobs, with their trials as the process needs to know them."""
        self.jobs = {job.spec.trial_id: job for job in jobs}
        self.last_report, self.asked_to_stop = time.monotonic(), set()
        self._send([spec.to_dict() for spec in specs])

    def ask_to_stop(self, trial_ids: Iterable[str]) -> None:
        """Ask those of its trials to stop, each once."""
        if asked := tuple(each for each in trial_ids if each in self.jobs and each not in self.asked_to_stop):
            self.asked_to_stop.update(asked)
            self._send(asked)

    def _send(self, message: WorkerMessage) -> None:
        with contextlib.suppress(OSError):  # it has just died, which is noticed next
            self.connection.send(message)

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
        processes: how many trials, or packs of them, run at once.
        template: starts workers; None starts one for the time of a call.
        pack: how many trials a process trains together, see `JobQueue.next_pack`.
        gpus: how many GPUs they share evenly, each process one of them; 0 where trials run on the CPU.
    """

    faults: Faults
    failures_left: Callable[[str], float] = no_failure_limit
    processes: int = 2
    template: Template | None = None
    pack: int = 1
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
        workers = _Pool((self.processes, self.gpus), Packing(self.pack), queue, sink)
        with stop.listening(), template as started, workers.opened() as pool:
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
        trials = -(-self.processes // self.gpus) * self.pack
        reasons = [f"--local is {self.processes}"]
        reasons += [f"there are {self.gpus} GPUs"] if self.gpus > 1 else []
        reasons += [f"resources.pack is {self.pack}"] if self.pack > 1 else []
        crowded = crowding_text(configs, trials, card_memory())
        return f"trials that share a GPU: {trials}, since {' and '.join(reasons)}" + (f"; {crowded}" if crowded else "")


class _Pool:
    """The workers of one call.

    Each belongs to a place: a GPU, or all of the CPU. A place has slots: as many as trials, or packs, run at once.
    """

    def __init__(self, size: tuple[int, int], packing: Packing, queue: JobQueue, sink: EventSink) -> None:
        """`size` is the number of workers at once, and of the GPUs that they share."""
        (workers, self._gpus), self._packing, self._queue, self._sink = size, packing, queue, sink
        places = min(self._gpus, workers) or 1
        self._slots = [workers // places + (place < workers % places) for place in range(places)]
        self._workers: list[_Worker] = []
        self._held: tuple[Job, ...] = ()  # need more slots than are free

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
        return slots - sum(min(worker.shares, slots) for worker in self._workers if worker.place == place)

    def _placed(self, job: Job) -> TrialSpec:
        """Return the trial of a job with its share of a GPU, if it has one: the same on all of them."""
        return job.spec.sharing_gpu(max(1, max(self._slots) // job.shares)) if self._gpus else job.spec

    def start_jobs(self, template: Template, settings: tuple[Work, Location, float]) -> None:
        """Give jobs to workers as long as there are both; a job with more shares waits until as many slots are free.

        The jobs of a pack have the slot of one.
        """
        if self._held and self._queue.stopped:
            for job in self._held:
                self._queue.ended(TrialResult(job.spec.trial_id, TrialStatus.STOPPED, 0))
            self._held = ()
        while True:
            place = max(range(len(self._slots)), key=self._free)
            free = self._free(place)
            if free < 1:
                return
            jobs, self._held = self._held or self._queue.next_pack(self._packing), ()
            if not jobs:
                return
            if min(jobs[0].shares, self._slots[place]) > free:
                self._held = jobs
                return
            worker = self._waiting_worker(place) or self._started(template, settings, place)
            worker.give(jobs, [self._placed(job) for job in jobs])
            for job in jobs:
                self._sink.handle(TrialStarted(job.spec))

    def _waiting_worker(self, place: int) -> _Worker | None:
        return next((worker for worker in self._workers if not worker.jobs and worker.place == place), None)

    def _started(self, template: Template, settings: tuple[Work, Location, float], place: int) -> _Worker:
        worker = _Worker(*template.start_worker(), place)
        worker.connection.send((*settings, _visible(place) if self._gpus > 1 else None))
        self._workers.append(worker)
        return worker

    def ask_to_stop(self, *, everyone: bool) -> None:
        """Ask the trials to stop that are not wanted any more."""
        for worker in self._workers:
            worker.ask_to_stop(each for each in worker.jobs if everyone or self._queue.source.unwanted(each))

    def hear(self) -> None:
        """Wait a moment for what workers send, and act on it."""
        connections = {worker.connection: worker for worker in self._workers}
        if not connections:
            time.sleep(_LOOK_EVERY_S)
        for connection in wait(list(connections), _LOOK_EVERY_S) if connections else ():
            worker = connections[connection]  # type: ignore[index]  # a subset of what was passed
            try:
                report = worker.connection.recv()
            except (EOFError, OSError):
                self._lost(worker, "worker_lost", "its process has ended unexpectedly")
                continue
            self._take(worker, report)

    def _take(self, worker: _Worker, report: WorkerReport) -> None:
        worker.last_report = time.monotonic()
        results, updates = report
        ended = [(worker.jobs.pop(result.trial_id), result) for result in results]
        worker.unfit |= any(result.kind is not None and POLICIES[result.kind].ends_worker for result in results)
        if worker.unfit and not worker.jobs:
            self._workers.remove(worker)
            worker.kill()
        for job, result in ended:
            self._ended(job, result)
        for trial_id, update in updates.items():
            spec = worker.jobs[trial_id].spec
            self._sink.handle(EpochDone(spec, update.epoch, update.epochs, update.loss))
            if update.aurocs:
                self._sink.handle(ValidationMeasured(spec, dict(update.aurocs)))

    def _lost(self, worker: _Worker, kind: FailureKind, why: str) -> None:
        """Enter the failure of all jobs of a worker that is gone, or must go."""
        self._workers.remove(worker)
        worker.kill()
        for trial_id, job in worker.jobs.items():
            self._ended(job, TrialResult.failure(trial_id, kind, why))

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
        """Kill workers that say nothing, not even that they live; their trials run again, each alone."""
        for worker in list(self._workers):
            if worker.jobs and time.monotonic() - worker.last_report > silent_s:
                self._lost(worker, "hung", f"its process did not answer for {silent_s / 60:.3g} minutes and was killed")


def _visible(place: int) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES that leaves a process the GPU of a place alone."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(place) if given is None else given.split(",")[place].strip()

"""A trial in a thread, so that the worker's main thread can answer the driver, receive signals and watch progress.

Knows no Ray: `ray_worker` wraps it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fcdd_sweep.config.errors import error_line
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.failures import kind_of
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import EpochRecord

WORKER_VARIABLES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Environment that a process of trials starts with, where the user's own has no such variables.

A step's large tensors come anew from the system, which fills their pages with zeros: in pages of 4 KiB that takes up
to half of a step's CPU time at 224 px. GNU's C library then asks for pages of 2 MiB; others ignore the variable.
"""


class EpochUpdate(NamedTuple):
    """The newest epoch of a running trial, as it travels from the worker to the driver.

    Attributes:
        epoch, epochs, loss: see `events.EpochDone`.
        aurocs: all epochs of this attempt that were scored on validation images, and the AUROC after each.
    """

    epoch: int
    epochs: int
    loss: float
    aurocs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class SharedTraining:
    """What trials of one process share.

    Attributes:
        entered: returns a context that a trial is trained in.
        changed: set when one of them has an epoch or a result.
    """

    entered: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    changed: threading.Event = field(default_factory=threading.Event)


class TrialThread:
    """One attempt, which starts at once; also the observer of its training."""

    def __init__(self, work: Work, spec: TrialSpec, run_dir: Location, together: SharedTraining | None = None) -> None:
        """Start.

        Args:
            work: what is done with the trial.
            spec: the trial.
            run_dir: the run's directory.
            together: what it shares with other trials.
        """
        self.spec = spec
        self._work, self._run_dir, self._together = work, run_dir, together or SharedTraining()
        self._stop = threading.Event()
        self._changed = self._together.changed
        self._newest: EpochUpdate | None = None
        self._aurocs: tuple[tuple[int, float], ...] = ()
        self._result: TrialResult | None = None
        self._last_step = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._together.entered():
                result = self._work(self.spec, self._run_dir, self)
        except BaseException as error:  # `run_trial` raises nothing, but other works may
            text = traceback.format_exc()
            result = TrialResult.failure(self.spec.trial_id, kind_of(error), error_line(error), text)
        self._result = result
        self._changed.set()

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self._last_step = time.monotonic()
        if not math.isnan(record.validation_image_auroc):
            self._aurocs = (*self._aurocs, (record.epoch, record.validation_image_auroc))
        self._newest = EpochUpdate(record.epoch, epochs, record.loss, self._aurocs)
        self._changed.set()

    def stop_asked(self) -> bool:
        self._last_step = time.monotonic()  # asked at every step, so it is a sign of life
        return self._stop.is_set()

    def ask_to_stop(self) -> None:
        """Have the training save a checkpoint and end at its next step."""
        self._stop.set()

    def wait(self, seconds: float) -> TrialResult | EpochUpdate | None:
        """Return the result as soon as there is one, else after `seconds` the newest epoch not yet returned, or None.

        Epochs wait for the end of `seconds` because each update costs the driver time.
        """
        until = time.monotonic() + seconds
        while self._result is None and (remaining := until - time.monotonic()) > 0:
            self._changed.wait(remaining)
            self._changed.clear()
        return self._result or self.newest()

    @property
    def ended(self) -> bool:
        return self._result is not None

    def result(self) -> TrialResult:
        """Return the result of an attempt that has ended."""
        assert self._result is not None
        return self._result

    def newest(self) -> EpochUpdate | None:
        """Return the newest epoch that was not returned yet, or None."""
        newest, self._newest = self._newest, None
        return newest

    @property
    def stalled_s(self) -> float:
        """Seconds since the training's last step; 0 when it has ended."""
        return 0.0 if self._result is not None else time.monotonic() - self._last_step

    def stack(self) -> str:
        """Return the stack of the thread, formatted like a traceback."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else "the thread has ended"


class TrialGroup:
    """Attempts at trials that one program trains, each in its thread; or at a single one."""

    def __init__(self, work: Work, specs: Sequence[TrialSpec], run_dir: Location) -> None:
        """Start; arguments as of `TrialThread`."""
        together = SharedTraining()
        if len(specs) > 1:
            from fcdd_sweep.training.pack import Pack  # imports torch, which a driver does not need

            together = SharedTraining(Pack(len(specs)).entered)
        self._changed, self._packed = together.changed, len(specs) > 1
        self.running = {spec.trial_id: TrialThread(work, spec, run_dir, together) for spec in specs}

    def ask_to_stop(self, trial_id: str | None = None) -> None:
        """Have a trial that still runs save a checkpoint and end at its next step; None: have all do so."""
        for name, thread in self.running.items():
            if trial_id in (None, name):
                thread.ask_to_stop()

    def wait(self, seconds: float) -> tuple[dict[str, TrialResult], dict[str, EpochUpdate]]:
        """Return results, as soon as there is one, and, after `seconds`, the newest epochs; by trial.

        A trial whose result is returned no longer counts as running. One of several that ran out of memory may have
        enough of it among fewer others.
        """
        until = time.monotonic() + seconds
        while not (ended := [name for name, each in self.running.items() if each.ended]):
            if (remaining := until - time.monotonic()) <= 0:
                break
            self._changed.wait(remaining)
            self._changed.clear()
        results = {name: self._result(name) for name in ended}
        updates = {} if ended else {name: each.newest() for name, each in self.running.items()}
        return results, {name: update for name, update in updates.items() if update is not None}

    def stalled(self, after_s: float) -> bool:
        """Return whether trials run and none has made a step for `after_s` seconds: they wait for one another."""
        return bool(self.running) and all(each.stalled_s > after_s for each in self.running.values())

    def hung(self, after_s: float) -> list[TrialResult]:
        """Return failures of all trials that run where they are `stalled`; they no longer count as running."""
        if not self.stalled(after_s):
            return []
        found = [_hung_result(name, thread) for name, thread in self.running.items()]
        self.running.clear()
        return found

    def _result(self, trial_id: str) -> TrialResult:
        result = self.running.pop(trial_id).result()
        shared = self._packed and result.kind == "out_of_memory"
        return replace(result, kind="pack_too_large") if shared else result


def _hung_result(trial_id: str, thread: TrialThread) -> TrialResult:
    message = f"no progress for {thread.stalled_s / 60:.3g} minutes (faults.progress_timeout)"
    return TrialResult.failure(trial_id, "hung", message, thread.stack())

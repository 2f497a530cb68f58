"""A trial in a thread of its own, so that the process's main thread answers the driver, hears signals and watches.

Knows no Ray: the worker on Ray Tune wraps it.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from typing import NamedTuple

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import EpochRecord


class EpochUpdate(NamedTuple):
    """The newest epoch of a running trial.

    Attributes:
        measured: epochs after which validation images were looked at, and the AUROC there; all of this attempt's.
    """

    epoch: int
    epochs: int
    loss: float
    measured: tuple[tuple[int, float], ...] = ()


class TrialThread:
    """One attempt; also the observer of its training."""

    def __init__(self, work: Work, spec: TrialSpec, run_dir: Location) -> None:
        self._work, self._spec, self._run_dir = work, spec, run_dir
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._newest: EpochUpdate | None = None
        self._measured: tuple[tuple[int, float], ...] = ()
        self._result: TrialResult | None = None
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            result = self._work(self._spec, self._run_dir, self)
        except BaseException as error:  # `run_trial` raises nothing; whatever another work raises is told as well
            words = traceback.format_exception_only(error)[-1].strip()
            text = traceback.format_exc()
            result = TrialResult(self._spec.trial_id, "failed", 0, words, kind="error", traceback=text)
        self._result = result
        self._changed.set()

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self._moved = time.monotonic()
        if not math.isnan(record.validation_image_auroc):
            self._measured = (*self._measured, (record.epoch, record.validation_image_auroc))
        self._newest = EpochUpdate(record.epoch, epochs, record.loss, self._measured)
        self._changed.set()

    def stop_asked(self) -> bool:
        self._moved = time.monotonic()  # asked at every step: a sign of life
        return self._stop.is_set()

    def ask_to_stop(self) -> None:
        """Training saves a checkpoint and ends at its next step."""
        self._stop.set()

    def wait(self, seconds: float) -> TrialResult | EpochUpdate | None:
        """The result, or the newest epoch that was not given yet; None when neither comes in time.

        Epochs are told when `seconds` are over: each telling costs the driver time.
        """
        until = time.monotonic() + seconds
        while self._result is None and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
            self._changed.clear()
        if self._result is not None:
            return self._result
        newest, self._newest = self._newest, None
        return newest

    @property
    def still_for_s(self) -> float:
        """Seconds since the training last made a step; 0 when it has ended."""
        return 0.0 if self._result is not None else time.monotonic() - self._moved

    def stack(self) -> str:
        """Where the thread is now, as a traceback's text."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else "the thread has ended"

"""`progress.json`: the state of a running sweep, for `status` on any machine that can read the run.

A thread of the driver writes it at intervals, even while no trial reports anything: an old file means that the driver
has died or lost its connection. It is never half written, and a failure to write it affects nothing else.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
from pathlib import Path

from fcdd_sweep.results import files, storage, tree
from fcdd_sweep.results.documents import Driver, RunningTrial, SweepProgress, SweepState
from fcdd_sweep.results.processes import this_process
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import EpochDone, Event, Report, SweepStarted, SweepStopped, TrialEnded
from fcdd_sweep.sweep.trial_counts import TrialCounts

_EVERY_S, _EVERY_REMOTE_S = 5.0, 15.0
_MAX_LISTED = 100
"""Running trials that are listed; all are counted."""


class ProgressFile:
    """A sink of events that keeps `progress.json` of a run up to date while it is entered."""

    def __init__(self, run_dir: Location, report: Report, every_s: float | None = None) -> None:
        """
        Args:
            run_dir: the run's directory.
            report: gets one message when the file cannot be written.
            every_s: seconds between two writes; None: 5, and 15 to an object store.
        """
        self._path, self._report = RunPaths(run_dir).progress, report
        usual = _EVERY_S if isinstance(run_dir, Path) else _EVERY_REMOTE_S
        self.every_s = usual if every_s is None else every_s
        self._counts, self._began = TrialCounts(), dt.datetime.now(dt.UTC)
        self._driver, self._hosts = Driver(**this_process()), set[str]()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="progress.json", daemon=True)
        self._reported = self._stopped = False

    def __enter__(self) -> ProgressFile:
        self._write("running")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._over.set()
        self._thread.join(timeout=self.every_s)
        if not self._thread.is_alive():  # otherwise it is blocked by the storage, as this thread would be
            self._write("interrupted" if self._stopped or kind is not None else "ended")

    def handle(self, event: Event) -> None:
        with self._lock:
            self._counts = self._counts.after(event)
            if isinstance(event, TrialEnded):
                self._hosts |= {event.result.host} - {""}
        if isinstance(event, SweepStarted):
            self._write("running")
        self._stopped |= isinstance(event, SweepStopped)

    def _keep_writing(self) -> None:
        while not self._over.wait(self.every_s):
            self._write("running")

    def _write(self, state: SweepState) -> None:
        with self._lock:
            text = self._content(state).text(indent=1)
        try:
            if isinstance(self._path, Path):
                files.write_text(self._path, text)
            else:
                storage.write_bytes(self._path, text.encode(), patience_s=0)
        except OSError as error:
            if not self._reported:
                self._reported = True
                self._report(f"{tree.PROGRESS} cannot be written, so `status` shows no running trials: {error}")

    def _content(self, state: SweepState) -> SweepProgress:
        counts = self._counts
        return SweepProgress(
            state=state,
            began=self._began,
            written=dt.datetime.now(dt.UTC),
            every_s=self.every_s,
            driver=self._driver,
            machines=sorted(self._hosts),
            planned=counts.planned,
            kept=counts.kept,
            to_run=counts.missing,
            done=counts.done,
            failed=counts.failed,
            running=len(counts.running),
            eta_s=counts.eta_s() if counts.ended < counts.missing else None,
            trials=[_listed(at) for at in list(counts.running.values())[:_MAX_LISTED]],
        )


def _listed(at: EpochDone) -> RunningTrial:
    return RunningTrial(
        trial_id=at.spec.trial_id,
        config=at.spec.config_name,
        normal_class=at.spec.normal_class,
        seed=at.spec.seed,
        epoch=at.epoch,
        epochs=at.epochs,
        loss=at.loss if math.isfinite(at.loss) else None,
    )

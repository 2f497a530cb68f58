"""`progress.json`: what a sweep is doing, for `status` on any machine that sees the run.

A thread of the driver writes it now and then, also while no trial tells anything: a file that is old means a driver
that is dead or cut off. It is never half written, and a failure to write it costs nothing but the view.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files, storage, tree
from fcdd_sweep.results.documents import Driver, RunningTrial, SweepProgress, SweepState
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Progress
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_counts import TrialCounts

_EVERY_S, _EVERY_REMOTE_S = 5.0, 15.0
_MOST_RUNNING = 100
"""Running trials that are listed; all are counted."""


class ProgressFile(Progress):
    """Keeps `progress.json` of a run up to date while it is entered.

    Args:
        run_dir: the run.
        say: hears once that the file cannot be written.
        every_s: seconds between two writes; None: 5, and 15 to an object store.
    """

    def __init__(self, run_dir: Location, say: Callable[[str], None], every_s: float | None = None) -> None:
        self._path, self._say = run_dir / tree.PROGRESS, say
        usual = _EVERY_S if isinstance(run_dir, Path) else _EVERY_REMOTE_S
        self.every_s = usual if every_s is None else every_s
        self._tally, self._began = TrialCounts(), dt.datetime.now(dt.UTC)
        self._hosts: set[str] = set()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="progress.json", daemon=True)
        self._said = self._stopped = False

    def __enter__(self) -> ProgressFile:
        self._write("running")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._over.set()
        self._thread.join(timeout=self.every_s)
        if not self._thread.is_alive():  # otherwise it hangs in the storage, where this thread would hang, too
            self._write("interrupted" if self._stopped or kind is not None else "ended")

    def begun(self, planned: int, kept: int, missing: int) -> None:
        with self._lock:
            self._tally = TrialCounts(planned, kept, missing)
        self._write("running")

    def stopped(self) -> None:
        self._stopped = True

    def started(self, spec: TrialSpec) -> None:
        with self._lock:
            self._tally.begins(spec)

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None:
        with self._lock:
            self._tally.running[spec.trial_id] = (spec, epoch, epochs, loss)

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        with self._lock:
            self._tally.running.pop(spec.trial_id, None)

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        with self._lock:
            self._tally.takes_in(spec, result)
            self._hosts |= {result.host} - {""}

    def _keep_writing(self) -> None:
        while not self._over.wait(self.every_s):
            self._write("running")

    def _write(self, state: SweepState) -> None:
        with self._lock:
            text = self._facts(state).text(indent=1)
        try:
            if isinstance(self._path, Path):
                files.write_text(self._path, text)
            else:
                storage.write_bytes(self._path, text.encode(), patience_s=0)
        except OSError as error:
            if not self._said:
                self._said = True
                self._say(f"{tree.PROGRESS} cannot be written, `status` will not see what runs: {error}")

    def _facts(self, state: SweepState) -> SweepProgress:
        tally = self._tally
        return SweepProgress(
            state=state,
            began=self._began,
            written=dt.datetime.now(dt.UTC),
            every_s=self.every_s,
            driver=Driver(host=platform.node(), pid=os.getpid()),
            machines=sorted(self._hosts),
            planned=tally.planned,
            kept=tally.kept,
            to_run=tally.missing,
            done=tally.done,
            failed=tally.failed,
            running=len(tally.running),
            eta_s=tally.eta_s() if tally.ended < tally.missing else None,
            trials=[_running(*each) for each in list(tally.running.values())[:_MOST_RUNNING]],
        )


def _running(spec: TrialSpec, epoch: int, epochs: int, loss: float) -> RunningTrial:
    return RunningTrial(
        trial_id=spec.trial_id,
        config=spec.config_name,
        normal_class=spec.normal_class,
        seed=spec.seed,
        epoch=epoch,
        epochs=epochs,
        loss=loss if math.isfinite(loss) else None,
    )

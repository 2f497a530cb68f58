"""A worker on Ray Tune: runs trials one after another, or several together as a pack; reports epochs, detects stalled
trials, and handles signals.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray import tune

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.stop_signal import stop_signals
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.runners.trial_thread import TrialGroup


@dataclass(frozen=True)
class WorkerSettings:
    """What all workers of a wave get.

    Attributes:
        run_dir: the run's directory.
        work: what is done with a trial.
        report_every_s: seconds between two reports of a running trial; each costs the driver time.
        stalled_after_s: seconds without a training step after which a trial counts as hung.
        hide_gpus: trials run on CPUs even on a machine with a GPU: numbers are equal on one kind of device only.
        trials_per_gpu: as in `TrialResources`.
    """

    run_dir: Location
    work: Work
    report_every_s: float
    stalled_after_s: float
    hide_gpus: bool = False
    trials_per_gpu: int = 0


class UnfitWorker(Exception):
    """This process must get no further trial; Tune replaces a worker only after an error."""


class Worker(tune.Trainable):
    """Ray Tune's side of a trial, or of a pack of trials.

    Each trial runs in a thread. This object, in the process's main thread, returns to the driver every
    `report_every_s`, so that the driver can request a stop between two steps and knows that the process lives.
    """

    def setup(self, config: dict[str, Any], settings: WorkerSettings) -> None:
        self._settings, self._terminating, self._unfit, self._ended = settings, False, False, False
        self._process = (ray.get_runtime_context().get_node_id(), os.getpid())
        if settings.hide_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._prepare(config)
        for number in stop_signals():  # SIGTERM, for instance, is sent to a machine that is about to be taken away
            if number != signal.SIGINT:  # Ctrl-C is the driver's
                signal.signal(number, self._on_terminate)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._prepare(new_config)
        return True

    def _prepare(self, config: dict[str, Any]) -> None:
        specs = [TrialSpec.from_dict(plain) for plain in json.loads(config["trials"])]
        on_gpu = self._settings.trials_per_gpu
        self._specs = [spec.sharing_gpu(max(1, on_gpu // config["shares"])) if on_gpu else spec for spec in specs]
        self._group: TrialGroup | None = None

    @property
    def _trials(self) -> TrialGroup:
        """The trials' threads, started by the first step.

        Not started earlier: a worker that died while Tune hands it trials would get them twice.
        """
        if self._group is None:
            self._group = TrialGroup(self._settings.work, self._specs, self._settings.run_dir)
            if self._terminating:
                self._group.ask_to_stop()
        return self._group

    def _on_terminate(self, signum: int, frame: Any) -> None:
        self._terminating = True
        if self._group is not None:
            self._group.ask_to_stop()

    def ask_to_stop(self, trial_id: str) -> None:
        """Request a stop of one trial; the driver calls this between two steps."""
        self._trials.ask_to_stop(trial_id)

    def step(self) -> dict[str, Any]:
        if self._ended:
            raise UnfitWorker
        results, updates = self._trials.wait(self._settings.report_every_s)
        stalled_after_s = self._settings.stalled_after_s
        ended = [self._judged(result) for result in results.values()] or self._trials.hung(stalled_after_s)
        self._unfit |= any(_ends_worker(result) for result in ended)
        over = not self._trials.running
        self._ended = over and self._unfit
        return {
            "process": self._process,
            "results": [asdict(result) for result in ended],
            "updates": {name: update._asdict() for name, update in updates.items()},
            "done": over and not self._unfit,
        }

    def _judged(self, result: TrialResult) -> TrialResult:
        if self._terminating and result.status == TrialStatus.STOPPED:
            return replace(result, kind="preempted", error="its machine was asked to stop")
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the trial writes its own checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing, see `save_checkpoint`."""


def _ends_worker(result: TrialResult) -> bool:
    """Return whether this process must run no other trial; one whose machine is taken away runs none either."""
    return result.kind == "preempted" or (result.kind is not None and POLICIES[result.kind].ends_worker)

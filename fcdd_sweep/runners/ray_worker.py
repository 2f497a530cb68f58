"""A worker on Ray Tune: runs trials one after another, reports epochs, detects stalled trials, and handles signals."""

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
from fcdd_sweep.runners.trial_thread import EpochUpdate, TrialThread


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


def held_gpu_share() -> float:
    """Return the part of a GPU that this process holds, 0 to 1."""
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))


class UnfitWorker(Exception):
    """This process must get no further trial; Tune replaces a worker only after an error."""


class Worker(tune.Trainable):
    """Ray Tune's side of a trial.

    The trial runs in a thread. This object, in the process's main thread, returns to the driver every `report_every_s`,
    so that the driver can request a stop between two steps and knows that the process lives.
    """

    def setup(self, config: dict[str, Any], settings: WorkerSettings) -> None:
        self._settings, self._terminating, self._unfit = settings, False, False
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
        spec = TrialSpec.from_dict(json.loads(config["trial"]))
        on_gpu = self._settings.trials_per_gpu
        self._spec = spec.sharing_gpu(max(1, on_gpu // config["shares"])) if on_gpu else spec
        self._thread: TrialThread | None = None

    @property
    def _trial(self) -> TrialThread:
        """The trial's thread, started by the first step.

        Not started earlier: a worker that died while Tune hands it a trial would get the trial twice.
        """
        if self._thread is None:
            self._thread = TrialThread(self._settings.work, self._spec, self._settings.run_dir)
            if self._terminating:
                self._thread.ask_to_stop()
        return self._thread

    def _on_terminate(self, signum: int, frame: Any) -> None:
        self._terminating = True
        if self._thread is not None:
            self._thread.ask_to_stop()

    def ask_to_stop(self) -> None:
        """Request a stop; the driver calls this between two steps."""
        self._trial.ask_to_stop()

    def step(self) -> dict[str, Any]:
        if self._unfit:
            raise UnfitWorker
        update = self._trial.wait(self._settings.report_every_s)
        if isinstance(update, TrialResult):
            return self._ended(update)
        if self._trial.stalled_s > self._settings.stalled_after_s:
            return self._last(self._hung())
        alive = {"process": self._process, "done": False}
        return alive | update._asdict() if isinstance(update, EpochUpdate) else alive

    def _ended(self, result: TrialResult) -> dict[str, Any]:
        if self._terminating and result.status == TrialStatus.STOPPED:
            return self._last(replace(result, kind="preempted", error="its machine was asked to stop"))
        if result.kind is not None and POLICIES[result.kind].ends_worker:
            return self._last(result)
        return {"result": asdict(result), "done": True}

    def _last(self, result: TrialResult) -> dict[str, Any]:
        """Return the result of the last trial of this process."""
        self._unfit = True
        return {"result": asdict(result), "process": self._process, "done": False}

    def _hung(self) -> TrialResult:
        minutes = self._trial.stalled_s / 60
        message = f"no progress for {minutes:.3g} minutes (faults.progress_timeout)"
        return TrialResult.failure(self._spec.trial_id, "hung", message, self._trial.stack())

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the trial writes its own checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Do nothing, see `save_checkpoint`."""

"""A worker on Ray Tune: runs one trial after another, tells epochs, watches for a standstill, and hears SIGTERM."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray import tune

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.runners.trial_thread import EpochUpdate, TrialThread


@dataclass(frozen=True)
class WorkerSettings:
    """What all workers of a wave are given.

    Attributes:
        run_dir: where attempts lie.
        work: what is done with a trial.
        tell_every_s: seconds between two tellings of a running trial; each costs the driver time.
        still_after_s: seconds without a step after which a trial counts as hung.
        hide_gpus: trials run on CPUs, also on a machine that has a GPU: numbers are the same on one kind of device.
    """

    run_dir: Location
    work: Work
    tell_every_s: float
    still_after_s: float
    hide_gpus: bool = False


class UnfitWorker(Exception):
    """This process must not be given another trial: an error is what makes Tune take it away."""


class Worker(tune.Trainable):
    """Ray Tune's side of a trial.

    The trial runs in a thread; this, the process's main thread, returns to the driver every `tell_every_s`, so that
    the driver can ask it to stop between two steps and knows that the process lives.
    """

    def setup(self, config: dict[str, Any], orders: WorkerSettings) -> None:
        self._orders, self._warned, self._unfit = orders, False, False
        self._process = (ray.get_runtime_context().get_node_id(), os.getpid())
        if orders.hide_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._begin(config)
        signal.signal(signal.SIGTERM, self._terminated)  # a machine that is about to be taken away says so like this

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._spec = TrialSpec.from_dict(json.loads(config["trial"]))
        self._begun: TrialThread | None = None

    @property
    def _trial(self) -> TrialThread:
        """Begun with the first step: a worker that died while Tune hands it a trial would be given it twice."""
        if self._begun is None:
            self._begun = TrialThread(self._orders.work, self._spec, self._orders.run_dir)
            if self._warned:
                self._begun.ask_to_stop()
        return self._begun

    def _terminated(self, signum: int, frame: Any) -> None:
        self._warned = True
        if self._begun is not None:
            self._begun.ask_to_stop()

    def ask_to_stop(self) -> None:
        """The driver calls this between two steps."""
        self._trial.ask_to_stop()

    def step(self) -> dict[str, Any]:
        if self._unfit:
            raise UnfitWorker
        heard = self._trial.wait(self._orders.tell_every_s)
        if isinstance(heard, TrialResult):
            return self._ended(heard)
        if self._trial.still_for_s > self._orders.still_after_s:
            return self._last(self._hung())
        alive = {"process": self._process, "done": False}
        return alive | heard._asdict() if isinstance(heard, EpochUpdate) else alive

    def _ended(self, result: TrialResult) -> dict[str, Any]:
        if self._warned and result.status == "stopped":
            return self._last(replace(result, kind="preempted", error="its machine was told to stop"))
        if result.kind == "node_unfit":
            return self._last(result)
        return {"result": asdict(result), "done": True}

    def _last(self, result: TrialResult) -> dict[str, Any]:
        """The result of a trial after which this process is of no use."""
        self._unfit = True
        return {"result": asdict(result), "process": self._process, "done": False}

    def _hung(self) -> TrialResult:
        minutes = self._trial.still_for_s / 60
        words = f"no progress for {minutes:.3g} minutes (faults.progress_timeout)"
        return TrialResult(self._spec.trial_id, "failed", 0, words, kind="hung", traceback=self._trial.stack())

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Checkpoints are the trial's own."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """See `save_checkpoint`."""

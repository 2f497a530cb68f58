"""How an attempt at a trial ended: the value that workers return and that runners, ledger and search read."""

from __future__ import annotations

from dataclasses import dataclass

from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.runners.failures import FailureKind


@dataclass(frozen=True)
class TrialResult:
    """How an attempt ended.

    Attributes:
        trial_id: the trial.
        status: `done` when all files are written, `failed`, or `stopped` on request.
        attempt: number of the attempt, from 1; 0 when none could be started.
        error: type and text of the exception in one line; empty when done.
        image_auroc: over test images, of a finished trial; None when undefined or not tested.
        data_fingerprint: of a finished trial.
        kind: kind of the failure; None when there was none.
        traceback: of a failure.
        host: machine that ran it; empty when unknown.
        wall_time_s, device, device_numerics: of a finished trial; None when unknown.
        trials_per_gpu: of a finished trial, how many shared its GPU; None on a CPU.
        validation_image_auroc: as `image_auroc`, over validation images.
    """

    trial_id: str
    status: TrialStatus
    attempt: int
    error: str = ""
    image_auroc: float | None = None
    data_fingerprint: str = ""
    kind: FailureKind | None = None
    traceback: str = ""
    host: str = ""
    wall_time_s: float | None = None
    device: str | None = None
    trials_per_gpu: int | None = None
    device_numerics: str | None = None
    validation_image_auroc: float | None = None

    @classmethod
    def failure(
        cls, trial_id: str, kind: FailureKind, error: str, traceback: str = "", host: str = "", attempt: int = 0
    ) -> TrialResult:
        """Return the result of an attempt that failed; `attempt` is 0 when its number is unknown."""
        return cls(trial_id, TrialStatus.FAILED, attempt, error, kind=kind, traceback=traceback, host=host)

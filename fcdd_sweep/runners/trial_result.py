from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fcdd_sweep.runners.failures import FailureKind


@dataclass(frozen=True)
class TrialResult:
    """How an attempt ended.

    Attributes:
        trial_id: the trial.
        status: `done` when its files are whole, `failed`, or `stopped` when it was asked to.
        attempt: which try this was, 1 for the first; 0 if none could be begun.
        error: last line of the traceback; empty when done.
        kind: what kind of failure it was; None when it was none.
        traceback: of a failure.
        host: machine that ran it; empty when nobody knows.
        image_auroc: over test images, of a finished trial; None when undefined or not tested.
        validation_image_auroc: the same over validation images.
        data_fingerprint: of a finished trial.
        wall_time_s, device: of a finished trial; None when nobody knows.
    """

    trial_id: str
    status: Literal["done", "failed", "stopped"]
    attempt: int
    error: str = ""
    image_auroc: float | None = None
    data_fingerprint: str = ""
    kind: FailureKind | None = None
    traceback: str = ""
    host: str = ""
    wall_time_s: float | None = None
    device: str | None = None
    validation_image_auroc: float | None = None

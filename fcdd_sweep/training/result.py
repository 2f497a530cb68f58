"""What stops a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class TrainingError(RuntimeError):
    """A training that cannot go on: the loss is no longer finite, or there is nothing to train on."""


class DivergedError(TrainingError):
    """The loss is no longer finite."""


FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training. Losses are means over samples; NaN when there was no such sample.

    `validation_image_auroc` is that of the network after this epoch, NaN where nobody asked for it.
    """

    epoch: int
    loss: float
    loss_nominal: float
    loss_anomalous: float
    learning_rate: float
    images_per_second: float
    validation_image_auroc: float = math.nan


@dataclass(frozen=True)
class TrainingResult:
    """A finished trial.

    Attributes:
        history: one record an epoch.
        scores: columns of `scores.parquet` without the trial's id; equal lengths.
        curves: by kind (`image_roc`, ...): x, y, threshold.
        metrics: columns of `metrics.parquet` that training knows; NaN where undefined.
        defects: rows of `defects.parquet` without the trial's id.
        maps: arrays of `maps.npz`; see `results.tree.MAPS`.
        snapshot: what `snapshot.pt` holds: tensors and plain values alone.
        notes: sentences for the log, such as a limit that exceeds what there is.
    """

    history: list[EpochRecord]
    scores: dict[str, list[Any]]
    curves: dict[str, tuple[FloatArray, FloatArray, FloatArray]]
    metrics: dict[str, Any]
    defects: list[dict[str, Any]]
    maps: dict[str, npt.NDArray[Any]]
    snapshot: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class Observer(Protocol):
    """How training tells the outside, and asks it; the default does nothing."""

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        """An epoch is done; after an interruption those from before it are not told again."""
        ...

    def stop_asked(self) -> bool:
        """Whether training shall stop here. Asked before every step, so it must cost next to nothing."""
        ...


class NullObserver:
    """An observer that neither listens nor asks."""

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        """Nothing to tell."""

    def stop_asked(self) -> bool:
        return False

"""What training returns, what it reports to, and the errors that end it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from fcdd_sweep.metrics.ranking import FloatArray


class TrainingError(RuntimeError):
    """Training cannot continue: the loss is no longer finite, or there is nothing to train on."""


class DivergedError(TrainingError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training.

    Attributes:
        epoch: from 1.
        loss, loss_nominal, loss_anomalous: means over samples; NaN where there was no such sample.
        learning_rate: during this epoch.
        images_per_second: training images of this epoch over its wall time.
        validation_image_auroc: of the network after this epoch; NaN where it was not measured.
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
        history: one record per epoch.
        scores: columns of `scores.parquet` without the trial's id; equal lengths.
        curves: by kind (`image_roc`, ...): x, y, threshold.
        metrics: columns of `metrics.parquet` that training knows; NaN where undefined.
        defects: rows of `defects.parquet` without the trial's id.
        maps: arrays of `maps.npz`; see `results.tree.MAPS`.
        snapshot: content of `snapshot.pt`: tensors and plain values only.
        notes: sentences for the log, such as a limit that exceeds the number of images.
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
    """Receives the progress of a training, and may end it."""

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        """Receive a finished epoch of `epochs`; after an interruption earlier ones are not repeated."""
        ...

    def stop_asked(self) -> bool:
        """Return whether training shall stop. Called before every step, so it must cost next to nothing."""
        ...


class NullObserver:
    """An observer that ignores every epoch and never asks to stop."""

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        """Ignore the epoch."""

    def stop_asked(self) -> bool:
        return False

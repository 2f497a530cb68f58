"""A trial's training data on its device: what is decided about a step, and the batch that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import AnomalyPool, ResidentPool, StreamedPool
from fcdd_sweep.training.compose import Batch, Composer
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.step_plan import PlanRow, StepPlanner
from fcdd_sweep.training.streams import Streams


@dataclass(frozen=True)
class BatchMaker:
    """Plans and composes the batches of one trial from data on the training device.

    Attributes:
        settings: the trial's settings.
        nominal: (N, C, R, R) uint8.
        pool: anomalies to draw from; None where they are rendered while training or there are none.
        preprocessor: fitted on `nominal`.
        streams: the trial's random streams.
        appended: offline, how many anomalies follow the nominal images: those of the pool in turn; 0 online.
    """

    settings: Settings
    nominal: Tensor
    pool: AnomalyPool | None
    preprocessor: Preprocessor
    streams: Streams
    appended: int = 0

    @cached_property
    def planner(self) -> StepPlanner:
        """What decides about the steps."""
        return StepPlanner(
            self.settings,
            len(self.nominal),
            self.pool,
            self.preprocessor.recipe,
            self.streams,
            self.appended,
            counted=self.nominal.is_cuda,
            pinned=self.nominal.is_cuda,
        )

    @cached_property
    def composer(self) -> Composer:
        """What makes batches on the device."""
        pool = self.pool if isinstance(self.pool, ResidentPool) else None
        return Composer(self.settings, self.nominal, pool, self.preprocessor, fixed=self.nominal.is_cuda)

    @property
    def distinct_anomalies(self) -> int | None:
        """Number of distinct real or outlier-exposure anomalies; None for synthetic ones and without anomalies."""
        return None if self.pool is None or self.settings.anomalies.source in SOURCES else len(self.pool)

    @property
    def unreadable(self) -> set[int]:
        """Numbers of exposure images that were drawn and could not be read; the set grows while images are read."""
        return self.pool.unreadable if isinstance(self.pool, StreamedPool) else set()

    def compose(self, row: PlanRow) -> Batch:
        """Return the batch of a row."""
        return self.composer.compose(row.layout.tensors(row.memory.to(self.nominal.device, non_blocking=True)))

    def batch(self, chosen: npt.NDArray[np.int64], epoch: int, step: int) -> Batch:
        """Return the batch of samples `chosen` under the draws of the given epoch and step."""
        return self.compose(self.planner.row(chosen, epoch, step))

    def preview(self, count: int) -> Batch:
        """Return `count` nominal samples and, where the mode makes any, `count` anomalous ones."""
        return self.compose(self.planner.preview(count))

"""The schema of `training`: steps, optimizer, learning rate and its schedule."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from fcdd_sweep.config.fields import Section


class ExponentialSchedule(Section):
    type: Literal["exponential"] = "exponential"
    """`exponential` has a `factor`, `milestones` has `milestones` and a `factor`, 0.1 where it is left out."""
    factor: float = Field(gt=0.0, le=1.0)
    """The learning rate is multiplied by this: after every epoch, or after each of the milestones."""


class MilestoneSchedule(Section):
    type: Literal["milestones"] = "milestones"
    """`exponential` has a `factor`, `milestones` has `milestones` and a `factor`, 0.1 where it is left out."""
    milestones: list[Annotated[int, Field(ge=1)]]
    """After this many epochs the learning rate is multiplied by `factor`."""
    factor: float = Field(0.1, gt=0.0, le=1.0)
    """The learning rate is multiplied by this: after every epoch, or after each of the milestones."""

    @field_validator("milestones")
    @classmethod
    def increasing(cls, milestones: list[int]) -> list[int]:
        if milestones != sorted(set(milestones)):
            raise ValueError(f"milestones must increase, found {milestones}")
        return milestones


def _kind_of_schedule(schedule: object) -> str | None:
    kind = schedule.get("type") if isinstance(schedule, dict) else getattr(schedule, "type", None)
    return f"({kind})"


Schedule = Annotated[
    Annotated[ExponentialSchedule, Tag("(exponential)")] | Annotated[MilestoneSchedule, Tag("(milestones)")],
    Discriminator(_kind_of_schedule),
]


class Training(Section):
    epochs: int = Field(ge=1, le=1_000_000)
    """Number of epochs, each of `passes_per_epoch` passes over the data."""
    passes_per_epoch: int = Field(1, ge=1, le=10_000)
    """Passes over the nominal training images per epoch."""
    min_steps: int = Field(0, ge=0, le=1_000_000)
    """Least number of steps per epoch: few images are passed over more often than `passes_per_epoch` says."""
    batch_size: int = Field(128, ge=2, le=1_000_000)
    """Images per training step."""
    supervision: Literal["auto", "labels", "maps"] = "auto"
    """Loss on image labels or on ground-truth maps; auto: on maps where the data has them or `anomalies.mode` makes
    them, else on labels. The plan states which."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """`sgd` has Nesterov momentum."""
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Nesterov momentum of SGD."""
    learning_rate: float = Field(gt=0.0)
    """Learning rate of the first epoch."""
    weight_decay: float = Field(0.0, ge=0.0)
    """L2 penalty, as torch's optimizers add it to gradients."""
    schedule: Schedule
    """How the learning rate changes: `type: exponential`, or `type: milestones`."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """bf16 trains convolutions and dense layers in bfloat16, and changes numbers; auto: bf16 for networks whose step is
    much quicker so. Batch statistics, loss, optimizer and scores are float32 in any case. The plan states which."""
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Order of weights and images in memory, which changes the last bits of numbers; auto: the quicker one for the
    network. The plan states which."""
    threads: int = Field(1, ge=1, le=4096)
    """CPU threads of a trial; they change the last bits of a sum and so are part of the config."""

    @property
    def passes(self) -> int:
        """Passes over the nominal training images, over all epochs, without those that `min_steps` adds."""
        return self.epochs * self.passes_per_epoch

    def passes_over(self, samples: int) -> int:
        """Return the passes over `samples` training samples in an epoch: so many that it has `min_steps` steps."""
        return max(self.passes_per_epoch, math.ceil(self.min_steps * self.batch_size / samples))

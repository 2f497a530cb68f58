"""The step of training: what a program repeats, for one trial or for several that share it.

A `ProgramMember` is all that a step of one trial changes. A program has parts, each of them a member, or several that
share a row. It takes one row of decisions per part and makes their steps. `EagerProgram` runs operation by operation;
it is what every other program must equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fcdd_sweep.training.compose import Batch, Composer
from fcdd_sweep.training.dropout import drawing
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.optimizers import Optimizer
from fcdd_sweep.training.step_plan import DROPOUT, PlanRow, RowLayout, StepPlan


@dataclass(frozen=True)
class ProgramMember:
    """One trial in training on its device.

    Attributes:
        composer: makes its batches.
        network, optimizer: what it changes.
        losses_of: a batch to its (N,) losses, with gradients.
        sums: (4,) float64, over this epoch so far: nominal loss, anomalous loss, number of nominal samples, number of
            anomalous samples.
    """

    composer: Composer
    network: DetectionNetwork
    optimizer: Optimizer
    losses_of: Callable[[Batch], Tensor]
    sums: Tensor

    @property
    def device(self) -> torch.device:
        return self.sums.device

    def step(self, plan: StepPlan) -> None:
        """Train on the batch of a plan."""
        self.learn(self.composer.compose(plan), plan)

    def learn(self, batch: Batch, plan: StepPlan) -> None:
        """Train on one batch, and add its losses and sample counts to the sums."""
        with drawing(self.network, plan.keys[DROPOUT]):
            losses = self.losses_of(batch)
        self.optimizer.zero_grad()
        losses.mean().backward()
        self.optimizer.step()
        self.sums.add_(_loss_sums(losses.detach(), batch.labels))

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad()


class ProgramPart(Protocol):
    """What one row makes a step of."""

    @property
    def device(self) -> torch.device: ...

    def step(self, plan: StepPlan) -> None:
        """Train on the batch of a plan."""
        ...

    def forget_gradients(self) -> None: ...


class Program(Protocol):
    """Makes steps of its parts."""

    def step(self, rows: Sequence[PlanRow]) -> None:
        """Make one step of every part, each by its row; the host does not wait for the device."""
        ...


@dataclass(frozen=True)
class EagerProgram:
    """Runs every operation when it is asked to.

    Attributes:
        parts: the trials that share it.
    """

    parts: Sequence[ProgramPart]

    def step(self, rows: Sequence[PlanRow]) -> None:
        device = self.parts[0].device
        if device.type == "cpu":
            for part, row in zip(self.parts, rows, strict=True):
                part.step(row.layout.tensors(row.memory))
            return
        contents = torch.empty(sum(row.layout.size for row in rows), dtype=torch.uint8, device=device)
        copy_rows(rows, contents)
        step_all(self.parts, [row.layout for row in rows], contents)


def copy_rows(rows: Sequence[PlanRow], contents: Tensor) -> None:
    """Copy rows one behind the other to the device, in one copy that the host does not wait for.

    torch uses pinned memory again only when copies from it are done, so the host may be many steps ahead.
    """
    if len(rows) > 1:
        together = torch.empty(len(contents), dtype=torch.uint8, pin_memory=contents.is_cuda)
        contents.copy_(torch.cat([row.memory for row in rows], out=together), non_blocking=True)
    elif rows[0].used == len(contents):
        contents.copy_(rows[0].memory, non_blocking=True)
    else:
        contents[: rows[0].used].copy_(rows[0].memory[: rows[0].used], non_blocking=True)


def step_all(parts: Sequence[ProgramPart], layouts: Sequence[RowLayout], contents: Tensor) -> None:
    """Make one step of every part, by rows that lie one behind the other on the device."""
    for part, layout, content in zip(parts, layouts, contents.split([each.size for each in layouts]), strict=True):
        part.step(layout.tensors(content))


def _loss_sums(losses: Tensor, labels: Tensor) -> Tensor:
    """Sum (N,) losses by label: (4,) float64 of nominal loss, anomalous loss, nominal count, anomalous count."""
    wide, anomalous = losses.double(), labels.double()
    nominal = 1 - anomalous
    return torch.stack([(wide * nominal).sum(), (wide * anomalous).sum(), nominal.sum(), anomalous.sum()])

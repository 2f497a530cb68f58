"""The step of training: what a program repeats, for one trial or for several that share it.

A `ProgramMember` is all that a step of one trial changes. A program takes one row of decisions per member and makes
their steps. `EagerProgram` runs operation by operation; it is what every other program must equal.
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

    def step(self, plan: StepPlan) -> None:
        """Train on one batch, and add its losses and sample counts to the sums."""
        batch = self.composer.compose(plan)
        with drawing(self.network, plan.keys[DROPOUT]):
            losses = self.losses_of(batch)
        self.optimizer.zero_grad()
        losses.mean().backward()
        self.optimizer.step()
        self.sums.add_(_loss_sums(losses.detach(), batch.labels))


class Program(Protocol):
    """Makes steps of its members."""

    def step(self, rows: Sequence[PlanRow]) -> None:
        """Make one step of every member, each by its row; the host does not wait for the device."""
        ...


@dataclass(frozen=True)
class EagerProgram:
    """Runs every operation when it is asked to.

    Attributes:
        members: the trials that share it.
    """

    members: Sequence[ProgramMember]

    def step(self, rows: Sequence[PlanRow]) -> None:
        device = self.members[0].sums.device
        if device.type == "cpu":
            for member, row in zip(self.members, rows, strict=True):
                member.step(row.layout.tensors(row.memory))
            return
        contents = torch.empty(sum(row.layout.size for row in rows), dtype=torch.uint8, device=device)
        copy_rows(rows, contents)
        step_all(self.members, [row.layout for row in rows], contents)


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


def step_all(members: Sequence[ProgramMember], layouts: Sequence[RowLayout], contents: Tensor) -> None:
    """Make one step of every member, by rows that lie one behind the other on the device."""
    for member, layout, content in zip(members, layouts, contents.split([each.size for each in layouts]), strict=True):
        member.step(layout.tensors(content))


def _loss_sums(losses: Tensor, labels: Tensor) -> Tensor:
    """Sum (N,) losses by label: (4,) float64 of nominal loss, anomalous loss, nominal count, anomalous count."""
    wide, anomalous = losses.double(), labels.double()
    nominal = 1 - anomalous
    return torch.stack([(wide * nominal).sum(), (wide * anomalous).sum(), nominal.sum(), anomalous.sum()])

"""The step of training: what a program repeats, for one trial or for several that share it.

A `ProgramMember` is all that a step of one trial changes. A program takes one row of decisions per member and makes
their steps. `EagerProgram` runs operation by operation; it is what every other program must equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fcdd_sweep.training.compose import Batch, Composer
from fcdd_sweep.training.device import to_device
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.optimizers import Optimizer
from fcdd_sweep.training.step_plan import DROPOUT, PlanRow, StepPlan


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
        with self._drawing(plan):
            losses = self.losses_of(batch)
        self.optimizer.zero_grad()
        losses.mean().backward()
        self.optimizer.step()
        self.sums.add_(_loss_sums(losses.detach(), batch.labels))

    @contextlib.contextmanager
    def _drawing(self, plan: StepPlan) -> Iterator[None]:
        """Seed torch's global generators, which dropout draws from, for this step, and restore them afterwards."""
        if not self.network.draws:
            yield
            return
        device, seed = self.sums.device, int(plan.keys[DROPOUT])
        on_gpu = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                torch.cuda.manual_seed(seed)
            yield


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
        for member, row in zip(self.members, rows, strict=True):
            content = to_device(row.content, member.sums.device)
            member.step(row.layout.tensors(content))


def make_program(members: Sequence[ProgramMember]) -> Program:
    """Return the program of trials on one device."""
    return EagerProgram(members)


def _loss_sums(losses: Tensor, labels: Tensor) -> Tensor:
    """Sum (N,) losses by label: (4,) float64 of nominal loss, anomalous loss, nominal count, anomalous count."""
    wide, anomalous = losses.double(), labels.double()
    nominal = 1 - anomalous
    return torch.stack([(wide * nominal).sum(), (wide * anomalous).sum(), nominal.sum(), anomalous.sum()])

"""The frozen front of a network, computed once for trials of a pack that see the same batches.

The first layers of some networks are not trained, but their batch norms follow the data. Configs of one class and seed
get the same batches if their anomalies have the same limit and probability, and fronts that are equal stay equal then.
Nothing is taken on trust: fronts and what batches are made of are compared bit by bit before the first step of a pack
and whenever its trials have changed, and the rows of decisions at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fcdd_sweep.networks.execution import precision_of
from fcdd_sweep.training.compose import Composer
from fcdd_sweep.training.engine import ProgramMember
from fcdd_sweep.training.network import front_of, training_precision
from fcdd_sweep.training.step_plan import StepPlan


@dataclass(frozen=True)
class SharedFront:
    """Trials whose batches and frozen fronts are equal: a part of a program, see `engine.ProgramPart`.

    Attributes:
        members: the trials, two at least; `can_share` is true of the first and each other.
    """

    members: Sequence[ProgramMember]

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    def step(self, plan: StepPlan) -> None:
        """Train all on the batch of a plan; the front of each ends as it would alone."""
        first, *others = self.members
        batch = first.composer.compose(plan)
        with training_precision(first.composer.settings, self.device):
            batch = replace(batch, front=front_of(first.network, batch.inputs))
        for other in others:
            for mine, known in zip(other.network.front.buffers(), first.network.front.buffers(), strict=True):
                mine.copy_(known)
        for member in self.members:
            member.learn(batch, plan)

    def forget_gradients(self) -> None:
        for member in self.members:
            member.forget_gradients()


def can_share(one: ProgramMember, other: ProgramMember) -> bool:
    """Return whether two trials have bit-equal frozen fronts, and get bit-equal batches by equal rows."""
    networks = one.network, other.network
    if not all(network.frozen for network in networks) or networks[0].layout != networks[1].layout:
        return False
    fronts = [list(network.front.state_dict().values()) for network in networks]
    return _compose_alike(one.composer, other.composer) and _all_equal(*fronts)


def _compose_alike(one: Composer, other: Composer) -> bool:
    """Return whether two composers make the same batch of a row, and networks compute in the same precision."""
    return _decided(one) == _decided(other) and _all_equal(_tensors(one), _tensors(other))


def _decided(composer: Composer) -> tuple[Any, ...]:
    """Return the plain values that batches and the precision of networks depend on."""
    chosen, training = composer.settings, composer.settings.training
    computed = chosen.network, precision_of(chosen.network, training)
    return composer.fixed, composer.preprocessor.recipe, chosen.images, chosen.anomalies, training.supervision, computed


def _tensors(composer: Composer) -> list[Tensor | None]:
    """Return the tensors that batches are made of, in a fixed order."""
    pool, fitted = composer.pool, composer.preprocessor
    anomalies = (None, None) if pool is None else (pool.images, pool.gt_maps)
    return [composer.nominal, *anomalies, fitted.shift, fitted.scale]


def _all_equal(some: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> bool:
    return len(some) == len(others) and all(map(_same_bits, some, others))


def _same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors, or two missing ones, are equal bit by bit; -0 is not 0, and a NaN equals itself."""
    if one is None or other is None:
        return one is other
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    return torch.equal(*(each.view(torch.int32) if each.dtype == torch.float32 else each for each in (one, other)))

"""What networks draw while they train, under the key of a step: dropout and stochastic depth.

On a CPU they draw from torch's global generator, which is seeded for the step and restored. On a GPU their draws are
counted, see `anomalies.draws`, so that they do not depend on the card and a CUDA graph can repeat the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fcdd_sweep.anomalies.draws import CounterDraws, Draws
from fcdd_sweep.networks.build import global_draws
from fcdd_sweep.training.network import DetectionNetwork


@contextlib.contextmanager
def drawing(network: DetectionNetwork, key: Tensor) -> Iterator[None]:
    """Let a network draw under a key, int64 without axes on its device, while entered."""
    if not network.draws:
        yield
    elif key.is_cuda:
        with CountedDropout(CounterDraws(key)):
            yield
    else:
        with global_draws(int(key)):
            yield


class CountedDropout(TorchFunctionMode):
    """Replaces the draws of dropout and of torchvision's stochastic depth while entered.

    Source: torch.nn.functional.dropout; the draws alone are others.
    """

    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self._draws = draws

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.dropout:
            return self._dropout(*args, **(kwargs or {}))
        if func is Tensor.bernoulli_:
            return self._bernoulli(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: FBT001, FBT002  (torch's signature)
        if not training or not p:
            return values
        kept = self._draws.uniform(*values.shape) >= p
        return values * kept * (1 / (1 - p))

    def _bernoulli(self, values: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
        return values.copy_(self._draws.uniform(*values.shape) < p)

"""Optimizers and learning-rate schedules: torch's own arithmetic without its optimizer classes.

Those import torch's compiler when the first one is made, which takes a process about a second that this project has no
use for. State dicts have the layout of torch's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fcdd_sweep.config.training_schema import ExponentialSchedule, MilestoneSchedule, Training


class Optimizer(ABC):
    """Changes parameters by their gradients; parameters without one are left alone.

    On a GPU the learning rate and the numbers of steps are tensors: a CUDA graph then repeats a step under others.
    """

    def __init__(self, parameters: Sequence[Parameter], training: Training) -> None:
        self._training = training
        self._parameters = list(parameters)
        self._moments: dict[int, dict[str, Tensor]] = {}
        """What is kept of past gradients, by the place of the parameter and a name."""
        self._rate = training.learning_rate
        device = self._parameters[0].device if self._parameters else torch.device("cpu")
        self._fused = device.type == "cuda"
        self._rate_tensor = torch.full((), self._rate, device=device) if self._fused else None

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; a schedule changes it."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = rate
        if self._rate_tensor is not None:
            self._rate_tensor.fill_(rate)

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters once."""
        places = [place for place, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if places:
            self._step(places, [self._parameters[place] for place in places])

    @abstractmethod
    def _step(self, places: list[int], parameters: list[Parameter]) -> None:
        """Change `parameters`, which have gradients and stand at `places`."""

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on beside parameters and settings; tensors are not copied."""
        group = {"lr": self.learning_rate, "params": list(range(len(self._parameters)))}
        return {"state": {place: dict(kept) for place, kept in self._moments.items()}, "param_groups": [group]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state dict of an optimizer of this kind over the same parameters; takes its tensors over.

        Raises:
            ValueError: it belongs to other parameters.
            KeyError, TypeError, AttributeError: it is no state dict.
        """
        groups, count = state_dict["param_groups"], len(self._parameters)
        if len(groups) != 1 or len(groups[0]["params"]) != count:
            raise ValueError(f"its optimizer is not one of {count} parameters")
        self._moments = {place: self._fitted(place, kept) for place, kept in state_dict["state"].items()}
        self.learning_rate = float(groups[0]["lr"])

    def _fitted(self, place: int, kept: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """Return the moments of a parameter on its device and in its layout."""
        parameter = self._parameters[place]
        moments = {name: moment for name, moment in kept.items() if moment is not None}
        for name, moment in moments.items():
            if moment.ndim and moment.shape != parameter.shape:
                raise ValueError(f"{name} of parameter {place} has shape {tuple(moment.shape)}")
        return {
            name: torch.empty_like(parameter).copy_(moment) if moment.ndim else moment.to(parameter.device)
            for name, moment in moments.items()
        }


class SGD(Optimizer):
    """Stochastic gradient descent with Nesterov's momentum and weight decay; equals `torch.optim.SGD` bit for bit."""

    def _step(self, places: list[int], parameters: list[Parameter]) -> None:
        momentum = self._training.momentum
        buffers = [self._moments.get(place, {}).get("momentum_buffer") for place in places]
        if self._fused and momentum:  # the same as none, and a step need not know whether it is the first
            pairs = zip(buffers, parameters, strict=True)
            buffers = [torch.zeros_like(each) if buffer is None else buffer for buffer, each in pairs]
        sgd(
            parameters,
            _gradients(parameters),
            buffers,
            fused=self._fused,
            lr=self._rate if self._rate_tensor is None else self._rate_tensor,
            momentum=momentum,
            nesterov=momentum > 0,
            dampening=0.0,
            weight_decay=self._training.weight_decay,
            maximize=False,
        )
        self._moments.update(
            (place, {"momentum_buffer": buffer})
            for place, buffer in zip(places, buffers, strict=True)
            if buffer is not None
        )


class Adam(Optimizer):
    """Adam with weight decay as part of the gradient; equals `torch.optim.Adam` with its defaults bit for bit."""

    def _step(self, places: list[int], parameters: list[Parameter]) -> None:
        for place, parameter in zip(places, parameters, strict=True):
            if place not in self._moments:
                zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self._moments[place] = {"step": torch.zeros((), device=parameter.device), **zeros}
        kept = [self._moments[place] for place in places]
        adam(
            parameters,
            _gradients(parameters),
            [moments["exp_avg"] for moments in kept],
            [moments["exp_avg_sq"] for moments in kept],
            [],
            [moments["step"] for moments in kept],
            fused=self._fused,
            lr=self._rate if self._rate_tensor is None else self._rate_tensor,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            amsgrad=False,
            weight_decay=self._training.weight_decay,
            maximize=False,
        )


def _gradients(parameters: Sequence[Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


class RateSchedule:
    """Lowers the learning rate of an optimizer, once per epoch, as torch's `ExponentialLR` and `MultiStepLR` do."""

    def __init__(self, optimizer: Optimizer, schedule: ExponentialSchedule | MilestoneSchedule) -> None:
        self._optimizer = optimizer
        self._schedule = schedule
        self._epochs = 0

    def step(self) -> None:
        """End an epoch."""
        self._epochs += 1
        if isinstance(self._schedule, ExponentialSchedule) or self._epochs in self._schedule.milestones:
            self._optimizer.learning_rate *= self._schedule.factor

    def state_dict(self) -> dict[str, int]:
        """Return the number of epochs that have ended; the learning rate is part of the optimizer's state."""
        return {"last_epoch": self._epochs}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state dict."""
        self._epochs = int(state_dict["last_epoch"])


def make_optimizer(parameters: Sequence[Parameter], training: Training) -> Optimizer:
    """Return the optimizer of the settings over all parameters that are not frozen."""
    kind = Adam if training.optimizer == "adam" else SGD
    return kind([parameter for parameter in parameters if parameter.requires_grad], training)

"""Where a training stands: all that changes while it goes on, as tensors and plain values, and back.

Draws are keyed by (stream, epoch, step), so no generator's state is part of it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.training.result import EpochRecord

STATE_VERSION = 1
_KEYS = frozenset(
    {
        *("state_version", "network", "optimizer", "schedule", "epoch", "step", "sums", "history", "unreadable"),
        *("train_time_s", "epoch_time_s"),
    }
)


class StateError(ValueError):
    """A state that training cannot go on from: damaged, incomplete, or of another network."""


class CheckpointSink(Protocol):
    """Keeps states of a training, from which another attempt goes on."""

    def due(self, epoch: int, step: int) -> bool:
        """Whether a state shall be kept now: before epoch `epoch` (step 0), or after `step` steps of it.

        Asked before every step and once after the last epoch, so it must cost next to nothing.
        """
        ...

    def keep(self, state: dict[str, Any]) -> None:
        """Take a state, on the CPU and nobody else's; it raises nothing that should not end the training."""
        ...


class ByteSink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> int: ...

    def flush(self) -> None: ...


class NullSink:
    """A keeper that is never due."""

    def due(self, epoch: int, step: int) -> bool:
        return False

    def keep(self, state: dict[str, Any]) -> None:
        """Nobody will go on from here."""


@dataclass
class TrainingState:
    """A training under way.

    Attributes:
        network, optimizer, schedule: as they are now.
        sums: (4,) float64 on the device: of this epoch's losses, nominal and anomalous; the numbers of such samples.
        unreadable: exposure images that could not be read so far; the pool's own set, which grows while it reads.
        started: when training would have begun, in seconds of `perf_counter`, had it never been interrupted.
        epoch: the epoch under way, 1 for the first; one above the last when all are done.
        step: how many of its steps are done.
        epoch_started: when this epoch would have begun.
        history: the epochs that are done.
    """

    network: Any
    optimizer: Optimizer
    schedule: LRScheduler
    sums: Tensor
    unreadable: set[int]
    started: float
    epoch: int = 1
    step: int = 0
    epoch_started: float = field(default_factory=time.perf_counter)
    history: list[EpochRecord] = field(default_factory=list)

    def close_epoch(self, record: EpochRecord) -> None:
        """Enter an epoch that is done, and turn to the next."""
        self.schedule.step()
        self.history.append(record)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = torch.zeros_like(self.sums)
        self.epoch_started = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """All of it on the CPU, copied; the device is waited for."""
        now = time.perf_counter()
        return {
            "state_version": STATE_VERSION,
            "network": _copied(self.network.state_dict()),
            "optimizer": _copied(self.optimizer.state_dict()),
            "schedule": copy.deepcopy(self.schedule.state_dict()),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums.tolist(),
            "history": [asdict(record) for record in self.history],
            "unreadable": sorted(self.unreadable.copy()),  # a copy: threads that read ahead add to it
            "train_time_s": now - self.started,
            "epoch_time_s": now - self.epoch_started,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` was taken.

        Raises:
            StateError: it is of another network or optimizer, or incomplete.
        """
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(_copied(state["optimizer"]))
            self.schedule.load_state_dict(copy.deepcopy(state["schedule"]))
            self.history = [EpochRecord(**record) for record in state["history"]]
            self.sums = torch.tensor(state["sums"], dtype=torch.float64).to(self.sums.device)
            self.epoch, self.step = state["epoch"], state["step"]
            self.unreadable.update(state["unreadable"])
            now = time.perf_counter()
            self.started, self.epoch_started = now - state["train_time_s"], now - state["epoch_time_s"]
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"it does not fit this network and its training ({short_error(error, 120)})") from error


def _copied(value: Any) -> Any:
    """Tensors on the CPU in their own memory, laid out as they were; within mappings and lists, too."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def moment_of(epoch: int, step: int) -> str:
    """`after epoch 3`, or `after step 20 of epoch 4`."""
    if step:
        return f"after step {step} of epoch {epoch}"
    return f"after epoch {epoch - 1}" if epoch > 1 else "before the first step"


def write_plain(sink: ByteSink, plain: Mapping[str, Any]) -> None:
    """Tensors and plain values, from the first byte to the last."""
    torch.save(dict(plain), sink)


def read_plain(path: Path) -> Mapping[str, Any]:
    """What `write_plain` wrote, on the CPU; nobody's code is run. Tensors stay in the file until they are looked at.

    Raises:
        StateError: it is not such a file.
        OSError: it cannot be read.
    """
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:  # what an unpickler says to bytes that are no pickle can be anything
        raise StateError(f"it is no file of tensors ({short_error(error, 120)})") from error
    if not isinstance(plain, dict):
        raise StateError("it holds no state of a training")
    return plain


def checked_state(state: object) -> dict[str, Any]:
    """A state that has all its parts.

    Raises:
        StateError: one is missing, or it was written by another version of this program.
    """
    if not isinstance(state, dict):
        raise StateError("it holds no state of a training")
    if missing := sorted(_KEYS - state.keys()):
        raise StateError(f"it lacks {', '.join(missing)}")
    if state["state_version"] != STATE_VERSION:
        raise StateError(f"it has version {state['state_version']}, and this program reads version {STATE_VERSION}")
    return state

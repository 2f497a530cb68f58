"""The state of a training in progress, to and from tensors and plain values.

Draws are keyed by (stream, epoch, step), so no generator's state is part of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.training.engine import Program, ProgramMember
from fcdd_sweep.training.optimizers import RateSchedule
from fcdd_sweep.training.result import EpochRecord

STATE_VERSION = 1
"""Of the layout of `TrainingState.state_dict`; a change of its keys or of their meaning raises it."""
_KEYS = frozenset(
    {
        *("state_version", "network", "optimizer", "schedule", "epoch", "step", "sums", "history", "unreadable"),
        *("train_time_s", "epoch_time_s"),
    }
)
_DEVICE_ERRORS = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
"""Errors of a GPU, which say nothing about a state; the second class is missing from older versions of torch."""


class StateError(ValueError):
    """A state that training cannot resume from: damaged, incomplete, of another version or of another network."""


class CheckpointSink(Protocol):
    """Saves states of a training, for another attempt to resume from."""

    def due(self, epoch: int, step: int) -> bool:
        """Return whether to save a state now: before epoch `epoch` (step 0), or after `step` steps of it.

        Called before every step and once after the last epoch, so it must cost next to nothing.
        """
        ...

    def keep(self, state: dict[str, Any]) -> None:
        """Save a state dict, which is on the CPU and not shared; raise only errors that should end the training."""
        ...


class ByteSink(Protocol):
    """A writable binary file, as far as `torch.save` needs one."""

    def write(self, data: bytes) -> int: ...

    def flush(self) -> None: ...


class NullCheckpointSink:
    """A checkpoint sink that is never due."""

    def due(self, epoch: int, step: int) -> bool:
        return False

    def keep(self, state: dict[str, Any]) -> None:
        """Discard the state."""


@dataclass
class TrainingState:
    """A training in progress.

    Attributes:
        member: the network with all that its steps change.
        program: makes its steps.
        schedule: of its learning rate.
        unreadable: exposure images that could not be read so far; the pool's own set, which grows while it reads.
        started: when training would have begun without interruptions, in seconds of `perf_counter`.
        epoch: the current epoch, from 1; one above the last when all are done.
        step: how many of its steps are done.
        epoch_started: when this epoch would have begun without interruptions, in seconds of `perf_counter`.
        history: the epochs that are done.
    """

    member: ProgramMember
    program: Program
    schedule: RateSchedule
    unreadable: set[int]
    started: float
    epoch: int = 1
    step: int = 0
    epoch_started: float = field(default_factory=time.perf_counter)
    history: list[EpochRecord] = field(default_factory=list)

    def close_epoch(self, record: EpochRecord) -> None:
        """Add a finished epoch to the history, and begin the next one."""
        self.schedule.step()
        self.history.append(record)
        self.epoch, self.step = self.epoch + 1, 0
        self.member.sums.zero_()
        self.epoch_started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything as tensors on the CPU and plain values; waits for the device."""
        now = time.perf_counter()
        return {
            "state_version": STATE_VERSION,
            "network": copied_to_cpu(self.member.network.state_dict()),
            "optimizer": copied_to_cpu(self.member.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.member.sums.tolist(),
            "history": [asdict(record) for record in self.history],
            "unreadable": sorted(self.unreadable.copy()),  # a copy: threads that read ahead add to it
            "train_time_s": now - self.started,
            "epoch_time_s": now - self.epoch_started,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from where `state_dict` was taken; `state_dict` is not changed.

        Raises:
            StateError: it belongs to another network or optimizer, or is incomplete.
        """
        try:
            self.member.network.load_state_dict(state_dict["network"])
            self.member.optimizer.load_state_dict(copied_to_cpu(state_dict["optimizer"]))
            self.schedule.load_state_dict(state_dict["schedule"])
            self.history = [EpochRecord(**record) for record in state_dict["history"]]
            self.member.sums.copy_(torch.tensor(state_dict["sums"], dtype=torch.float64))
            self.epoch, self.step = state_dict["epoch"], state_dict["step"]
            self.unreadable.update(state_dict["unreadable"])
            now = time.perf_counter()
            self.started = now - state_dict["train_time_s"]
            self.epoch_started = now - state_dict["epoch_time_s"]
        except _DEVICE_ERRORS:
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"it does not fit this network and its training ({short_error(error, 120)})") from error


def copied_to_cpu(value: Any) -> Any:
    """Return a value with its tensors copied to the CPU, row by row whatever their strides; also in dicts and lists."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: copied_to_cpu(item) for key, item in value.items()}
    return [copied_to_cpu(item) for item in value] if isinstance(value, list) else value


def moment_of(epoch: int, step: int) -> str:
    """Return where a training is, in words: `after epoch 3`, or `after step 20 of epoch 4`."""
    if step:
        return f"after step {step} of epoch {epoch}"
    return f"after epoch {epoch - 1}" if epoch > 1 else "before the first step"


def write_plain(sink: ByteSink, plain: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a file."""
    torch.save(dict(plain), sink)


def read_plain(path: Path) -> Mapping[str, Any]:
    """Read what `write_plain` wrote, on the CPU, without running code from the file.

    Tensors are memory-mapped: they are read when they are used.

    Raises:
        StateError: it is not such a file.
        OSError: it cannot be read.
    """
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:  # an unpickler may raise anything for bytes that are no pickle
        raise StateError(f"it is not a file of tensors ({short_error(error, 120)})") from error
    if not isinstance(plain, dict):
        raise StateError("it does not hold the state of a training")
    return plain


def checked_state(state: object) -> dict[str, Any]:
    """Return `state` if it is a complete state dict of this version.

    Raises:
        StateError: a key is missing, or another version of this program wrote it. The message begins with "it".
    """
    if not isinstance(state, dict):
        raise StateError("it does not hold the state of a training")
    if missing := sorted(_KEYS - state.keys()):
        raise StateError(f"it lacks {', '.join(missing)}")
    if state["state_version"] != STATE_VERSION:
        raise StateError(
            f"it has state version {state['state_version']}, and this program reads version {STATE_VERSION}; to resume "
            "from it, use the version of fcdd_sweep that wrote it"
        )
    return state

"""A trial's checkpoints on disk: writing them safely, and finding the one that the next attempt continues from.

They are kept in `.attempts/TRIAL_ID/N/checkpoints/`. The name of each holds the epoch, the step and a digest of its
content, by which a damaged one is recognized.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fcdd_sweep.config.fields import Every
from fcdd_sweep.results.attempts import CHECKPOINTS
from fcdd_sweep.sweep.resume_notes import CHECKPOINT_NAME
from fcdd_sweep.training.state import StateError, checked_state, moment_of, read_plain, write_plain

MAX_KEPT = 2
"""Checkpoints that a trial keeps: if the last one is damaged, there is one more."""
DEVICE_NUMERICS = "device_numerics"
"""Key of the type of device, and of the version of its numbers, in what must be equal."""
logger = logging.getLogger("fcdd_sweep.checkpoints")


class Candidate(NamedTuple):
    """A file that should be a checkpoint, with its epoch and step and the attempt that left it."""

    epoch: int
    step: int
    attempt: int
    path: Path

    def __str__(self) -> str:
        return f"checkpoint {self.path.name} of attempt {self.attempt}"


@dataclass
class Checkpoints:
    """The checkpoints of a trial as one attempt sees them: the `CheckpointSink` of its training.

    Attributes:
        attempt_dir: `.attempts/TRIAL_ID/N`, where this attempt writes.
        every: how often one is written.
        identity: what must be equal for a checkpoint to be used, by name.
        made_with: what may change bits, by name; differences are logged.
        send: uploads the kept files if the run is on another machine.
    """

    attempt_dir: Path
    every: Every
    identity: Mapping[str, Any]
    made_with: Mapping[str, str]
    send: Callable[[Sequence[Path]], None] = lambda kept: None
    _kept: list[Path] = field(default_factory=list)
    _source: Candidate | None = None
    _epoch: int = 1
    _time: float = field(default_factory=time.monotonic)

    def due(self, epoch: int, step: int) -> bool:
        if self.every.epochs is not None:
            return step == 0 and epoch - self._epoch >= self.every.epochs
        return self.every.seconds is not None and time.monotonic() - self._time >= self.every.seconds

    def keep(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, then remove older ones. If that fails, log a warning and keep the last one."""
        moment = moment_of(state["epoch"], state["step"])
        try:
            path = self._write(state)
            self._kept = [*self._kept, path][-MAX_KEPT:]
            self._remove_old()
            self.send(self._kept)
            logger.info("wrote a checkpoint %s: %s", moment, path.name)
        except (OSError, RuntimeError) as error:  # torch raises a RuntimeError for a failed write
            logger.warning("could not write a checkpoint %s (%s); training continues", moment, error)
        self._epoch, self._time = state["epoch"], time.monotonic()

    def _write(self, state: Mapping[str, Any]) -> Path:
        folder = self.attempt_dir / CHECKPOINTS
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uuid.uuid4().hex[:8]}.pt"
        try:
            with temporary.open("wb") as file:
                sink = _HashingFile(file)
                write_plain(sink, {"identity": dict(self.identity), "made_with": dict(self.made_with), "state": state})
                file.flush()
                os.fsync(file.fileno())
            name = f"epoch-{state['epoch']}-step-{state['step']}-{sink.content.hexdigest()[:12]}.pt"
            return temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def _remove_old(self) -> None:
        """Remove all but the kept ones, of earlier attempts, too, and what a lost worker left half written."""
        own = int(self.attempt_dir.name)
        for path in self.attempt_dir.parent.glob(f"*/{CHECKPOINTS}/*.pt"):
            attempt = path.parent.parent.name
            if attempt.isdigit() and int(attempt) <= own and path not in self._kept:
                with contextlib.suppress(OSError):  # a leftover does no harm
                    path.unlink()

    def found(self) -> Iterator[dict[str, Any]]:
        """Yield the states of earlier attempts, furthest first; the log names those that are skipped, and why.

        Take the next one only if training cannot continue from the one before.
        """
        candidates = self._candidates()
        for candidate in candidates:
            self._source = candidate
            try:
                state = self._read(candidate.path)
            except (StateError, OSError) as error:
                self.skipped(error)
                continue
            self._kept, self._epoch = [candidate.path], candidate.epoch
            moment = moment_of(candidate.epoch, candidate.step)
            logger.info("continuing %s, from attempt %d: %s", moment, candidate.attempt, candidate.path.name)
            yield state
        self._kept, self._epoch = [], 1
        if candidates:
            logger.warning("none of %d checkpoints can be used: training starts from the beginning", len(candidates))

    def skipped(self, error: Exception) -> None:
        """Log why the checkpoint found last is not used."""
        logger.warning("%s is skipped: %s", self._source, error)

    def _candidates(self) -> list[Candidate]:
        found = []
        for path in self.attempt_dir.parent.glob(f"*/{CHECKPOINTS}/*.pt"):
            name, attempt = CHECKPOINT_NAME.fullmatch(path.name), path.parent.parent.name
            if name and attempt.isdigit():
                found.append(Candidate(int(name[1]), int(name[2]), int(attempt), path))
        return sorted(found, reverse=True)

    def _read(self, path: Path) -> dict[str, Any]:
        """Return the state in a checkpoint that is whole and of this trial.

        Raises:
            StateError: the file is damaged or of another trial.
            OSError: the file cannot be read.
        """
        if _digest(path) != path.stem.rsplit("-", 1)[-1]:
            raise StateError("it is damaged: its content differs from what was written")
        plain = read_plain(path)
        identity, made_with = plain.get("identity"), plain.get("made_with")
        if not isinstance(identity, dict) or not isinstance(made_with, dict):
            raise StateError("it does not name its trial")
        if DEVICE_NUMERICS not in identity:  # written before there were versions of what a GPU draws
            identity[DEVICE_NUMERICS] = str(made_with.get("device")).partition(" ")[0]
        if misfits := _differences(self.identity, identity):
            if misfits.startswith(DEVICE_NUMERICS):  # the last key: all else is the same
                raise StateError(f"it was made on another type of device or with other draws ({misfits})")
            raise StateError(f"it is of another trial or other data ({misfits})")
        state = checked_state(plain.get("state"))
        if others := _differences(self.made_with, made_with):
            logger.warning(
                "%s was made on another device or by other code, so bits may differ (%s)", self._source, others
            )
        return state


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Return `torch 2.14 then, 2.15 now` for all values that differ."""
    return "; ".join(f"{key} {then.get(key)} then, {now[key]} now" for key in now if now[key] != then.get(key))


def _digest(path: Path) -> str:
    """Return the first 12 hex digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


class _HashingFile:
    """A file that digests what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.content = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        self.content.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

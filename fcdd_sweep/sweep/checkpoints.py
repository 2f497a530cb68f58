"""A trial's checkpoints on disk: writing them safely, and finding the one that the next attempt goes on from.

They lie in `.attempts/TRIAL_ID/N/checkpoints/`. Each is called after how far training was and after the digest of its
own content, so that a damaged one is known by its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fcdd_sweep.config.fields import Every
from fcdd_sweep.results.attempts import CHECKPOINTS
from fcdd_sweep.training.state import StateError, checked_state, moment_of, read_plain, write_plain

KEPT = 2
"""How many a trial keeps: should the last one be damaged, there is one more."""
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)-([0-9a-f]{12})\.pt")
logger = logging.getLogger("fcdd_sweep.checkpoints")


class Found(NamedTuple):
    """A file that should be a checkpoint: how far it is, and which attempt left it."""

    epoch: int
    step: int
    attempt: int
    path: Path

    def __str__(self) -> str:
        return f"checkpoint {self.path.name} of attempt {self.attempt}"


@dataclass
class Checkpoints:
    """The checkpoints of a trial as one attempt sees them: a `Keeper` for its training.

    Attributes:
        attempt_dir: `.attempts/TRIAL_ID/N`, where this attempt's are written.
        every: how often one is written.
        identity: what must be the same for a checkpoint to be used, by name.
        made_with: what may change bits, by name; where it differs, the log says so.
        send: brings those that are kept to where the run lies, if that is another machine.
    """

    attempt_dir: Path
    every: Every
    identity: Mapping[str, Any]
    made_with: Mapping[str, str]
    send: Callable[[Sequence[Path]], None] = lambda kept: None
    _kept: list[Path] = field(default_factory=list)
    _from: Found | None = None
    _epoch: int = 1
    _time: float = field(default_factory=time.monotonic)

    def due(self, epoch: int, step: int) -> bool:
        if self.every.epochs is not None:
            return step == 0 and epoch - self._epoch >= self.every.epochs
        return self.every.seconds is not None and time.monotonic() - self._time >= self.every.seconds

    def keep(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, then remove older ones; where that fails, a warning is logged and the last one stays."""
        moment = moment_of(state["epoch"], state["step"])
        try:
            path = self._write(state)
            self._kept = [*self._kept, path][-KEPT:]
            self._tidy()
            self.send(self._kept)
            logger.info("kept the state %s: %s", moment, path.name)
        except (OSError, RuntimeError) as error:  # torch hides a failed write behind an error of its own
            logger.warning("the state %s could not be kept (%s); training goes on", moment, error)
        self._epoch, self._time = state["epoch"], time.monotonic()

    def _write(self, state: Mapping[str, Any]) -> Path:
        folder = self.attempt_dir / CHECKPOINTS
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{uuid.uuid4().hex[:8]}.pt"
        try:
            with aside.open("wb") as file:
                sink = _Hashing(file)
                write_plain(sink, {"identity": dict(self.identity), "made_with": dict(self.made_with), "state": state})
                file.flush()
                os.fsync(file.fileno())
            name = f"epoch-{state['epoch']}-step-{state['step']}-{sink.content.hexdigest()[:12]}.pt"
            return aside.replace(folder / name)
        finally:
            aside.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove all but the last ones, those of earlier attempts and what a lost worker left half written, too."""
        own = int(self.attempt_dir.name)
        for path in self.attempt_dir.parent.glob(f"*/{CHECKPOINTS}/*.pt"):
            attempt = path.parent.parent.name
            if attempt.isdigit() and int(attempt) <= own and path not in self._kept:
                with contextlib.suppress(OSError):  # it is in nobody's way
                    path.unlink()

    def found(self) -> Iterator[dict[str, Any]]:
        """States that earlier attempts kept, furthest first; the log tells which are passed over, and why.

        Whoever takes the next one must have found that it cannot go on from the one before.
        """
        candidates = self._candidates()
        for candidate in candidates:
            self._from = candidate
            try:
                state = self._read(candidate.path)
            except (StateError, OSError) as error:
                self.passed_over(error)
                continue
            self._kept, self._epoch = [candidate.path], candidate.epoch
            moment = moment_of(candidate.epoch, candidate.step)
            logger.info("going on %s, from attempt %d: %s", moment, candidate.attempt, candidate.path.name)
            yield state
        self._kept, self._epoch = [], 1
        if candidates:
            logger.warning("none of %d checkpoints can be used: training starts anew", len(candidates))

    def passed_over(self, error: Exception) -> None:
        """Log why the one found last is not used."""
        logger.warning("%s is passed over: %s", self._from, error)

    def _candidates(self) -> list[Found]:
        found = []
        for path in self.attempt_dir.parent.glob(f"*/{CHECKPOINTS}/*.pt"):
            name, attempt = _NAME.fullmatch(path.name), path.parent.parent.name
            if name and attempt.isdigit():
                found.append(Found(int(name[1]), int(name[2]), int(attempt), path))
        return sorted(found, reverse=True)

    def _read(self, path: Path) -> dict[str, Any]:
        """The state in a checkpoint that is whole and of this trial.

        Raises:
            StateError: it is damaged or does not fit.
            OSError: it cannot be read.
        """
        if _digest(path) != path.stem.rsplit("-", 1)[-1]:
            raise StateError("it is damaged, its content is not what was written")
        plain = read_plain(path)
        identity, made_with = plain.get("identity"), plain.get("made_with")
        if not isinstance(identity, dict) or not isinstance(made_with, dict):
            raise StateError("it does not say which trial it is of")
        if misfits := _differences(self.identity, identity):
            raise StateError(f"it is of another trial or other data ({misfits})")
        state = checked_state(plain.get("state"))
        if others := _differences(self.made_with, made_with):
            logger.warning("%s was made with another machine or program, so bits may differ (%s)", self._from, others)
        return state


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """`torch 2.14 then, 2.15 now`, of all that is not the same."""
    return "; ".join(f"{key} {then.get(key)} then, {now[key]} now" for key in now if now[key] != then.get(key))


def _digest(path: Path) -> str:
    """The first 12 hex digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


class _Hashing:
    """Passes bytes on to a file and digests them on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self.content = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        self.content.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

"""Trials in training whose steps one program makes: on a GPU one CUDA graph steps all of them.

Each trial trains in a thread of its own and by the trainer that it would have alone. Where it would make a step it
waits until all others are there, too, and the last one makes the step of all. So epochs, checkpoints, validation and
ends are each trial's own; a trial that has ended, or was stopped, is waited for no longer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import torch

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.device import numerics
from fcdd_sweep.training.engine import Program, ProgramMember
from fcdd_sweep.training.step_plan import PlanRow

MakeProgram = Callable[[Sequence[ProgramMember]], Program]
"""Returns the program of trials on one device."""
_CURRENT: ContextVar[Pack | None] = ContextVar("pack", default=None)


def current_pack() -> Pack | None:
    """Return the pack that this thread trains in, or None."""
    return _CURRENT.get()


class Pack:
    """Trials of equal batch shapes, each in its thread."""

    def __init__(self, size: int) -> None:
        """Begin with `size` trials, none of which has made a step."""
        self._changed = threading.Condition()
        self._active = size
        self._waiting: dict[_PackedProgram, PlanRow] = {}
        self._program: Program | None = None
        self._members: tuple[_PackedProgram, ...] = ()
        self._left: set[int] = set()
        self._inside = 0
        self._settings = contextlib.ExitStack()
        self.shared_steps = 0
        """Steps that one program made for several trials."""

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Train one of the trials in this thread while entered; the others wait for it until it calls `leave`."""
        token = _CURRENT.set(self)
        with self._changed:
            self._left.discard(threading.get_ident())  # of a thread that has ended
        try:
            yield
        finally:
            _CURRENT.reset(token)
            self.leave()

    def leave(self) -> None:
        """Have the others no longer wait for this thread's trial, and give up the program that it is part of."""
        with self._changed:
            if threading.get_ident() in self._left:
                return
            self._left.add(threading.get_ident())
            self._active -= 1
            self._program = None  # with a graph's memory, which scoring needs
            self._members = ()
            self._step_if_all_wait()

    @contextlib.contextmanager
    def numerics(self, settings: Settings, device: torch.device) -> Iterator[None]:
        """As `device.numerics`, but the process gets its settings back when the last of the trials has ended."""
        with self._changed:
            if not self._inside:
                self._settings.enter_context(numerics(settings, device))
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if not self._inside:
                    self._settings.close()

    def join(self, member: ProgramMember, make: MakeProgram) -> Program:
        """Return the program of one trial, which makes its steps together with those of the others.

        Args:
            member: the trial.
            make: returns the program of this trial with others, or of this trial alone.
        """
        return _PackedProgram(self, member, make)

    def step(self, packed: _PackedProgram, row: PlanRow) -> None:
        """Return when the step of one trial has been made; raise the error that it ended with."""
        with self._changed:
            packed.error = None
            self._waiting[packed] = row
            self._step_if_all_wait()
            self._changed.wait_for(lambda: packed not in self._waiting)
        if packed.error is not None:
            raise packed.error

    def _step_if_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._active:
            return
        rows = self._waiting
        if len(rows) > 1 and len({row.layout for row in rows.values()}) == 1 and _on_gpu(rows):
            self._step_together(rows)
        else:
            for packed, row in rows.items():
                packed.step_alone(row)
        self._waiting = {}
        self._changed.notify_all()

    def _step_together(self, rows: dict[_PackedProgram, PlanRow]) -> None:
        """Make one step of all; a trial that has ended since the last one changes the program."""
        members = tuple(sorted(rows, key=id))
        try:
            if members != self._members or self._program is None:
                self._members = members
                self._program = members[0].make([packed.member for packed in members])
            self._program.step([rows[packed] for packed in members])
            self.shared_steps += 1
        except Exception as error:  # of a device; each trial decides what follows, as it would alone
            self._program = None
            for packed in members:
                packed.error = error


class _PackedProgram:
    """The steps of one trial of a pack."""

    def __init__(self, pack: Pack, member: ProgramMember, make: MakeProgram) -> None:
        self.member, self.make = member, make
        self.error: Exception | None = None
        self._pack = pack
        self._alone: Program | None = None

    def step(self, rows: Sequence[PlanRow]) -> None:
        """Make the step of the one row together with the other trials of the pack."""
        (row,) = rows
        self._pack.step(self, row)

    def step_alone(self, row: PlanRow) -> None:
        """Make a step without the others, and keep an error for this trial's own thread."""
        try:
            if self._alone is None:
                self._alone = self.make([self.member])
            self._alone.step([row])
        except Exception as error:
            self.error = error


def _on_gpu(rows: dict[_PackedProgram, PlanRow]) -> bool:
    """Return whether there is a program to share: on a CPU several trials gain nothing by one."""
    return all(packed.member.sums.is_cuda for packed in rows)

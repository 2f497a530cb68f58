"""Trials in training whose steps one program makes: on a GPU one CUDA graph steps all of them.

Each trial trains in a thread of its own and by the trainer that it would have alone. Where it would make a step it
waits until all others are there, too, and the last one makes the step of all. So epochs, checkpoints, validation and
ends are each trial's own; a trial that has ended, or was stopped, is waited for no longer. On a CPU only trials that
share their frozen front (`frozen_front`) gain by one program; the others' steps are made one after another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar

import torch

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.device import numerics
from fcdd_sweep.training.engine import Program, ProgramMember, ProgramPart
from fcdd_sweep.training.frozen_front import SharedFront, can_share
from fcdd_sweep.training.step_plan import PlanRow

MakeProgram = Callable[[Sequence[ProgramPart]], Program]
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
        self._groups: _Groups = ()
        self._programs: dict[_Groups, Program] = {}
        self._left: set[int] = set()
        self._inside = 0
        self._settings = contextlib.ExitStack()
        self.shared_steps = 0
        """Steps that one program made for several trials."""
        self.shared_fronts = 0
        """Fronts of networks that need not be computed in these steps, as others' were equal."""

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
            self._groups = ()
            self._programs.clear()  # with their graphs' memory, which scoring needs
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
        try:
            groups = self._grouped(rows)
            as_one = _on_gpu(rows) and len({row.layout for row in rows.values()}) == 1
            for together in [groups] if as_one else [(group,) for group in groups]:
                self._step_together(together, rows)
        except Exception as error:  # of a device that cannot compare fronts
            _fail(rows, error)
        self._waiting = {}
        self._changed.notify_all()

    def _grouped(self, rows: dict[_PackedProgram, PlanRow]) -> _Groups:
        """Return the trials that wait, those together whose front is computed once.

        Groups stay as long as their trials do, and their rows are equal; after one step by others their fronts differ.
        """
        same = set(rows) == {packed for group in self._groups for packed in group}
        if not same or not all(_equal_rows(group, rows) for group in self._groups):
            self._groups = _grouped(rows)
            self._programs.clear()
        return self._groups

    def _step_together(self, groups: _Groups, rows: dict[_PackedProgram, PlanRow]) -> None:
        """Make one step of groups of trials by one program."""
        if len(groups) == len(groups[0]) == 1:
            ((packed,),) = groups
            packed.step_alone(rows[packed])
            return
        try:
            program = self._programs.get(groups)
            if program is None:
                program = self._programs[groups] = groups[0][0].make([_part(group) for group in groups])
            program.step([rows[group[0]] for group in groups])
            self.shared_steps += 1
            self.shared_fronts += sum(len(group) - 1 for group in groups)
        except Exception as error:  # of a device; each trial decides what follows, as it would alone
            self._programs.pop(groups, None)
            _fail((packed for group in groups for packed in group), error)


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


_Groups = tuple[tuple[_PackedProgram, ...], ...]


def _grouped(rows: dict[_PackedProgram, PlanRow]) -> _Groups:
    """Return trials with equal rows, batches and frozen fronts together, any other one alone."""
    groups: list[list[_PackedProgram]] = []
    for packed, row in rows.items():
        equal = (group for group in groups if row.equals(rows[group[0]]) and can_share(group[0].member, packed.member))
        group = next(equal, None)
        if group is None:
            groups.append([packed])
        else:
            group.append(packed)
    return tuple(map(tuple, groups))


def _fail(some: Iterable[_PackedProgram], error: Exception) -> None:
    """Keep an error for the threads of trials."""
    for packed in some:
        packed.error = error


def _equal_rows(group: Sequence[_PackedProgram], rows: dict[_PackedProgram, PlanRow]) -> bool:
    return all(rows[packed].equals(rows[group[0]]) for packed in group[1:])


def _part(group: Sequence[_PackedProgram]) -> ProgramPart:
    members = [packed.member for packed in group]
    return members[0] if len(members) == 1 else SharedFront(members)


def _on_gpu(rows: dict[_PackedProgram, PlanRow]) -> bool:
    """Return whether there is a program to share: on a CPU several trials gain nothing by one."""
    return all(packed.member.sums.is_cuda for packed in rows)

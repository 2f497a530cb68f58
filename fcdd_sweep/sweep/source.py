"""Where the trials of a runner come from: all known at once, or some only when others are done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fcdd_sweep.config.trial import TrialSpec


class Source(Protocol):
    """Gives trials as long as there are any; hears of their ends through the runner's monitor."""

    @property
    def examples(self) -> Sequence[TrialSpec]:
        """Trials that ask of a machine what all of them ask; they may be among those that are given."""
        ...

    def begin(self, slots: int) -> None:
        """Called once, before anything is given: so many trials run at once."""

    def more(self) -> Sequence[TrialSpec]:
        """Trials that may start now, each given once. None of them while nothing runs means: there will be no more."""
        ...

    def unwanted(self, trial_id: str) -> bool:
        """Whether a trial that was given need not start any more, or may stop where it is."""
        ...


class Fixed:
    """Trials that are all known from the start."""

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        self.examples = self._left = tuple(specs)

    def begin(self, slots: int) -> None:
        """It makes no difference."""

    def more(self) -> Sequence[TrialSpec]:
        given, self._left = self._left, ()
        return given

    def unwanted(self, trial_id: str) -> bool:
        return False


Trials = Sequence[TrialSpec] | Source


def source_of(trials: Trials) -> Source:
    return Fixed(trials) if isinstance(trials, Sequence) else trials

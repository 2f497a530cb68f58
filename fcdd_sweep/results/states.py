"""The states of a trial and of a config of a search, as tables and messages name them."""

from __future__ import annotations

from enum import StrEnum


class TrialStatus(StrEnum):
    """State of a trial, or of an attempt."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"

    @property
    def is_finished(self) -> bool:
        """Whether the trial is done or has failed, so that it does not run again in this start."""
        return self in (TrialStatus.DONE, TrialStatus.FAILED)


class ConfigState(StrEnum):
    """State of a config of a search."""

    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"
    RUNNING = "running"
    INCOMPLETE = "incomplete"

    @property
    def is_finished(self) -> bool:
        """Whether the config is done, failed or pruned, as entered into the study."""
        return self in (ConfigState.DONE, ConfigState.FAILED, ConfigState.PRUNED)

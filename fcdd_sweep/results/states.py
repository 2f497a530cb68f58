"""What can become of a trial and of a searched config, as tables and messages name it."""

from __future__ import annotations

from enum import StrEnum


class TrialStatus(StrEnum):
    """State of a trial, or of one attempt at it."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"

    @property
    def is_finished(self) -> bool:
        """Whether the trial has a result or has failed, so that nothing of it is left to run in this start."""
        return self in (TrialStatus.DONE, TrialStatus.FAILED)


class ConfigState(StrEnum):
    """State of a config that a search suggested."""

    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"
    RUNNING = "running"
    INCOMPLETE = "incomplete"

    @property
    def is_finished(self) -> bool:
        """Whether the study has been given the config's end."""
        return self in (ConfigState.DONE, ConfigState.FAILED, ConfigState.PRUNED)

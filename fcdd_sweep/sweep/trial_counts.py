"""Counts of the trials of a start, the running ones, their scores, and the time left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.runners.events import (
    AttemptRetried,
    EpochDone,
    Event,
    SweepStarted,
    SweepStopped,
    TrialEnded,
    TrialStarted,
)
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.pace import Pace


@dataclass
class TrialCounts:
    """What the events of a sweep add up to.

    Attributes:
        planned, kept: trials of the experiment, and those that earlier starts finished.
        missing: trials that this start runs.
        passes: of the missing trials, see `SweepStarted`.
        done, failed: trials of this start that ended with a result, and without.
        stopped: trials of this start that ended because nobody wants them any more.
        running: the last epoch of each running trial by its id; epoch 0 before the first is done.
        scores: image AUROCs of the trials that this start finished.
        since: when the trials started, by `time.monotonic`, in seconds.
        interrupted: a signal ended the sweep; nothing runs any more.
    """

    planned: int = 0
    kept: int = 0
    missing: int = 0
    passes: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    running: dict[str, EpochDone] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    interrupted: bool = False
    _pace: Pace = field(default_factory=Pace)

    def after(self, event: Event) -> TrialCounts:
        """Take an event in and return the counts after it: new ones at the start of a sweep, else these."""
        match event:
            case SweepStarted(planned, kept, missing, passes):
                return TrialCounts(planned, kept, missing, passes)
            case TrialStarted(spec):
                self.running[spec.trial_id] = EpochDone(spec, 0, spec.settings.total_epochs, float("nan"))
                self._pace.start(spec)
            case EpochDone(spec):
                self.running[spec.trial_id] = event
                self._pace.report(event)
            case AttemptRetried(spec):
                self.running.pop(spec.trial_id, None)
                self._pace.retry(spec)
            case TrialEnded(spec, result):
                self._end(spec, result)
            case SweepStopped():  # workers that were killed have not sent their end
                self.running.clear()
                self.interrupted = True
        return self

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.stopped

    def _end(self, spec: TrialSpec, result: TrialResult) -> None:
        self.running.pop(spec.trial_id, None)
        self._pace.end(spec, whole=result.status == TrialStatus.DONE and result.attempt == 1)
        if result.status == TrialStatus.DONE:
            self.done += 1
            if result.image_auroc is not None:
                self.scores.append(result.image_auroc)
        elif result.status == TrialStatus.FAILED:
            self.failed += 1
        else:
            self.stopped += 1

    def eta_s(self) -> float | None:
        """Return the seconds until the trials of this start have ended, at their own pace.

        None before it is known, and when nothing runs any more.
        """
        if self.interrupted:
            return None
        return self._pace.left_s(self.missing - self.ended - len(self.running), self.passes)

    def line(self) -> str:
        """Return `7/30 done, 2 running | image AUROC mean 0.953, best 0.991 | elapsed 0:41, about 2:10 left`."""
        parts = [f"{self.kept + self.done}/{self.planned} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        text = ", ".join(parts)
        if self.scores:
            text += f" | {self._scores_text()}"
        text += f" | elapsed {duration_text(time.monotonic() - self.since)}"
        eta = self.eta_s()
        if eta is not None and self.ended < self.missing:
            text += f", about {duration_text(eta)} left"
        return text

    def _scores_text(self) -> str:
        """Return mean and best score, and of how many trials where these are not all that are done."""
        mean, best, count = sum(self.scores) / len(self.scores), max(self.scores), len(self.scores)
        text = f"image AUROC mean {mean:.3f}, best {best:.3f}"
        if count == self.kept + self.done:
            return text
        return f"{text} over {count_noun(count, 'trial')}{' of this start' if self.kept else ''}"

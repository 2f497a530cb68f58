"""What is known of the trials of a start: counts, running ones, scores, and the time to go."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fcdd_sweep.config.text import duration_text
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.runners.trial_result import TrialResult


@dataclass
class TrialCounts:
    """What is known of the trials of this start.

    Attributes:
        planned, kept: trials of the experiment, and those that earlier starts finished.
        missing: trials to run now.
        done, failed: those that ended.
        running: epoch, epochs and loss of each running trial by its id; epoch 0 before the first is done.
        scores: image AUROCs of the trials that this start finished.
    """

    planned: int = 0
    kept: int = 0
    missing: int = 0
    done: int = 0
    failed: int = 0
    running: dict[str, tuple[TrialSpec, int, int, float]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        return self.done + self.failed

    def begins(self, spec: TrialSpec) -> None:
        self.running[spec.trial_id] = (spec, 0, spec.settings.training.epochs, float("nan"))

    def takes_in(self, spec: TrialSpec, result: TrialResult) -> None:
        """A trial that ended; one that was stopped is neither done nor failed."""
        self.running.pop(spec.trial_id, None)
        if result.status == "done":
            self.done += 1
            if result.image_auroc is not None:
                self.scores.append(result.image_auroc)
        elif result.status == "failed":
            self.failed += 1

    def eta_s(self) -> float | None:
        """Seconds to go at the pace so far, epochs of running trials counted; None before anything is known."""
        part = sum(epoch / epochs for _, epoch, epochs, _ in self.running.values() if epochs)
        worked = self.ended + part
        if not worked:
            return None
        return (time.monotonic() - self.since) / worked * (self.missing - worked)

    def line(self) -> str:
        """`7/30 done, 1 failed, 2 running | image AUROC mean 0.953, best 0.991 | 0:41 gone, about 2:10 to go`."""
        parts = [f"{self.kept + self.done}/{self.planned} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        text = ", ".join(parts)
        if self.scores:
            mean, best = sum(self.scores) / len(self.scores), max(self.scores)
            text += f" | image AUROC mean {mean:.3f}, best {best:.3f}"
        text += f" | {duration_text(time.monotonic() - self.since)} gone"
        eta = self.eta_s()
        if eta is not None and self.ended < self.missing:
            text += f", about {duration_text(eta)} to go"
        return text

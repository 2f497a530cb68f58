"""How a sweep shows its progress: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.config.words import number_of
from fcdd_sweep.sweep.sweep import Progress
from fcdd_sweep.sweep.trial import TrialResult

_SHOWN = 12
"""Running trials that the live display shows at most."""


@dataclass
class Tally:
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
        text += f" | {clock(time.monotonic() - self.since)} gone"
        eta = self.eta_s()
        if eta is not None and self.ended < self.missing:
            text += f", about {clock(eta)} to go"
        return text


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def label(spec: TrialSpec) -> str:
    """`learning_rate-0.01, class bottle, seed 3`."""
    parts = [spec.config_name, f"class {spec.normal_class}", f"seed {spec.seed}"]
    return ", ".join(part for part in parts if part)


def outcome(spec: TrialSpec, result: TrialResult) -> str:
    """One sentence on how a trial ended."""
    if result.status == "failed":
        return f"FAILED  {label(spec)}: {result.error}"
    score = "n/a" if result.image_auroc is None else f"{result.image_auroc:.4f}"
    return f"{result.status}  {label(spec)}: image AUROC {score}"


class PlainProgress(Progress):
    """A line for every trial that ends, and a heartbeat for long ones; fit for log files."""

    def __init__(self, console: Console, heartbeat_s: float = 30.0) -> None:
        self.console = console
        self.tally = Tally()
        self._heartbeat_s = heartbeat_s
        self._last = time.monotonic()
        self._said: set[str] = set()

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=True)
        self._last = time.monotonic()

    def begun(self, planned: int, kept: int, missing: int) -> None:
        self.tally = Tally(planned, kept, missing)
        known = f", {kept} of them done already" if kept else ""
        self._print(f"{number_of(planned, 'trial')}{known}; running {missing}")

    def said(self, sentence: str) -> None:
        """Once, however many configs it is true of."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._print(sentence)

    def started(self, spec: TrialSpec) -> None:
        self.tally.running[spec.trial_id] = (spec, 0, spec.settings.training.epochs, float("nan"))

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None:
        self.tally.running[spec.trial_id] = (spec, epoch, epochs, loss)
        self._beat()

    def _beat(self) -> None:
        if time.monotonic() - self._last > self._heartbeat_s:
            self._print(self.tally.line())

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        self.tally.running.pop(spec.trial_id, None)
        self._print(f"{label(spec)}: {result.error}; {decision}", "yellow")

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        tally = self.tally
        tally.running.pop(spec.trial_id, None)
        if result.status == "done":
            tally.done += 1
            if result.image_auroc is not None:
                tally.scores.append(result.image_auroc)
        elif result.status == "failed":
            tally.failed += 1
        self._tell(spec, result)

    def _tell(self, spec: TrialSpec, result: TrialResult) -> None:
        self._print(f"{outcome(spec, result)}   [{self.tally.line()}]")


class LiveProgress(PlainProgress):
    """The running trials and the tally, redrawn in place; failures and sentences scroll above."""

    def __rich__(self) -> RenderableType:
        tally = self.tally
        table = Table.grid(padding=(0, 2))
        for spec, epoch, epochs, loss in list(tally.running.values())[:_SHOWN]:
            state = f"epoch {epoch}/{epochs}, loss {loss:.4f}" if epoch else "starting"
            table.add_row(label(spec), ProgressBar(epochs, epoch, width=24), state)
        if len(tally.running) > _SHOWN:
            table.add_row(f"and {len(tally.running) - _SHOWN} more")
        return Group(table, ProgressBar(max(tally.missing, 1), tally.ended), Text(tally.line(), "bold"))

    def _beat(self) -> None:
        """The display beats by itself."""

    def _tell(self, spec: TrialSpec, result: TrialResult) -> None:
        if result.status == "failed":
            self._print(outcome(spec, result), "red")


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """Progress for a console, live where it is a terminal."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    progress = LiveProgress(console)
    with Live(progress, console=console, refresh_per_second=4, transient=True):
        yield progress

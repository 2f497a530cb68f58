"""How a sweep shows its progress: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.runners.events import Progress
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_counts import TrialCounts

_SHOWN = 12
"""Running trials that the live display shows at most."""


def label(spec: TrialSpec) -> str:
    """`learning_rate-0.01, class bottle, seed 3`."""
    parts = [spec.config_name, f"class {spec.normal_class}", f"seed {spec.seed}"]
    return ", ".join(part for part in parts if part)


def result_sentence(spec: TrialSpec, result: TrialResult) -> str:
    """One sentence on how a trial ended."""
    if result.status == "failed":
        return f"FAILED  {label(spec)}: {result.error}"
    name, score = "image AUROC", result.image_auroc
    if not spec.settings.evaluation.test:
        name, score = "AUROC over validation images", result.validation_image_auroc
    return f"{result.status}  {label(spec)}: {name} {'n/a' if score is None else f'{score:.4f}'}"


class PlainProgress(Progress):
    """A line for every trial that ends, and a heartbeat for long ones; fit for log files."""

    def __init__(self, console: Console, heartbeat_s: float = 30.0) -> None:
        self.console = console
        self.tally = TrialCounts()
        self._heartbeat_s = heartbeat_s
        self._last = time.monotonic()
        self._said: set[str] = set()

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=True)
        self._last = time.monotonic()

    def begun(self, planned: int, kept: int, missing: int) -> None:
        self.tally = TrialCounts(planned, kept, missing)
        known = f", {kept} of them done already" if kept else ""
        self._print(f"{count_noun(planned, 'trial')}{known}; running {missing}")

    def said(self, sentence: str) -> None:
        """Once, however many configs it is true of."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._print(sentence)

    def started(self, spec: TrialSpec) -> None:
        self.tally.begins(spec)

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
        self.tally.takes_in(spec, result)
        self._tell(spec, result)

    def _tell(self, spec: TrialSpec, result: TrialResult) -> None:
        self._print(f"{result_sentence(spec, result)}   [{self.tally.line()}]")


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
            self._print(result_sentence(spec, result), "red")


@contextmanager
def make_progress(console: Console) -> Iterator[Progress]:
    """Progress for a console, live where it is a terminal."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    progress = LiveProgress(console)
    with Live(progress, console=console, refresh_per_second=4, transient=True):
        yield progress

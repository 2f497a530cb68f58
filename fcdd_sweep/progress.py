"""The display of a running sweep: live on a terminal that can move its cursor or in the cell of a notebook, plain lines
for any other output."""

from __future__ import annotations

import html
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.runners.events import AttemptRetried, EpochDone, Event, EventSink, Message, SweepStarted, TrialEnded
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_counts import TrialCounts

_MAX_SHOWN = 12
"""Running trials that the live display shows at most."""
_MIN_BAR, _MAX_BAR = 8, 24
"""Columns of a trial's bar: a terminal that lacks room for the shortest gets none."""
_NOTEBOOK_S = 0.25
"""Seconds at least between two drawings for epochs alone in a notebook."""
_MAX_SENTENCES = 20
"""Messages and failures that a notebook shows at most, the last ones."""


def label(spec: TrialSpec) -> str:
    """Return `learning_rate-0.01, class bottle, seed 3`."""
    parts = [spec.config_name, f"class {spec.normal_class}", f"seed {spec.seed}"]
    return ", ".join(part for part in parts if part)


def result_line(spec: TrialSpec, result: TrialResult) -> str:
    """Return one line on how a trial ended."""
    if result.status == TrialStatus.FAILED:
        return f"FAILED  {label(spec)}: {result.error}"
    name, score = "image AUROC", result.image_auroc
    if spec.settings.evaluation.image_score == "auto":  # the score is chosen when all trials of the class are done
        name = "image AUROC of the mean"
    if not spec.settings.evaluation.test:
        by_mean = "" if spec.settings.evaluation.image_score == "mean" else " by the mean"
        name, score = f"AUROC over validation images{by_mean}", result.validation_image_auroc
    return f"{result.status}  {label(spec)}: {name} {'n/a' if score is None else f'{score:.4f}'}"


class PlainProgress:
    """A sink that prints a line for every trial that ends, and a heartbeat for long ones; suited to log files."""

    def __init__(self, console: Console, heartbeat_s: float = 30.0) -> None:
        self.console = console
        self.counts = TrialCounts()
        self._heartbeat_s = heartbeat_s
        self._last_line = time.monotonic()
        self._messages: set[str] = set()

    def handle(self, event: Event) -> None:
        self.counts = self.counts.after(event)
        match event:
            case SweepStarted(planned, kept, missing):
                known = f", {kept} already done" if kept else ""
                self._print(f"{count_noun(planned, 'trial')}{known}; running {missing}")
            case EpochDone():
                self._heartbeat()
            case AttemptRetried(spec, result, decision):
                self._print(f"{label(spec)}: {result.error}; {decision}", "yellow")
            case TrialEnded(spec, result):
                self._trial_ended(spec, result)
            case Message(text):
                self._message(text)

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=True)
        self._last_line = time.monotonic()

    def _message(self, text: str) -> None:
        """Print a message once, for however many configs it is repeated."""
        if text not in self._messages:
            self._messages.add(text)
            self._print(text)

    def _heartbeat(self) -> None:
        if time.monotonic() - self._last_line > self._heartbeat_s:
            self._print(self.counts.line())

    def _trial_ended(self, spec: TrialSpec, result: TrialResult) -> None:
        self._print(f"{result_line(spec, result)}   [{self.counts.line()}]")


class LiveProgress(PlainProgress):
    """A sink that redraws running trials and counts in place; failures and messages scroll above them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield as many running trials as the height of the terminal allows, and always the counts below them."""
        running = list(self.counts.running.values())
        fits = (
            display
            for shown in range(min(len(running), _MAX_SHOWN), 0, -1)
            if len(console.render_lines(display := self._display(running, shown, options.max_width), options))
            <= options.size.height
        )
        yield next(fits, self._display(running, 0, options.max_width))

    def _display(self, running: Sequence[EpochDone], shown: int, width: int) -> RenderableType:
        """Return the display with the first trials, in its last line nothing but the cursor.

        What is typed appears there, `^C` say: it must not push the cursor into the next line, out of which the display
        would not find back to its first.
        """
        more = len(running) - shown
        parts: list[RenderableType] = [_trial_rows(running[:shown], width)] if shown else []
        if shown and more:
            parts.append(Text(f"and {more} more"))
        bar = Table.grid(expand=True)  # a bar alone ends without a newline
        bar.add_row(ProgressBar(max(self.counts.missing, 1), self.counts.ended))
        return Group(*parts, bar, Text(self.counts.line(), "bold"), Text())

    def leave_counts(self) -> None:
        """Print the counts a last time, below everything else."""
        if self.counts.planned:
            self.console.print(Text(self.counts.line(), "bold"))

    def _heartbeat(self) -> None:
        """Print nothing: the display is redrawn anyway."""

    def _trial_ended(self, spec: TrialSpec, result: TrialResult) -> None:
        if result.status == TrialStatus.FAILED:
            self._print(result_line(spec, result), "red")


def _trial_rows(running: Sequence[EpochDone], width: int) -> RenderableType:
    """Return a line for each trial, with a bar if the terminal has room for it; a line that is too long is wrapped."""
    rows = [(label(at.spec), at, _state(at)) for at in running]
    room = width - max(cell_len(name) for name, _, _ in rows) - max(cell_len(state) for _, _, state in rows) - 4
    if room < _MIN_BAR:
        return Text("\n").join(Text(f"{name}: {state}") for name, _, state in rows)
    table = Table.grid(padding=(0, 2))
    for name, at, state in rows:
        table.add_row(Text(name), ProgressBar(at.epochs, at.epoch, width=min(room, _MAX_BAR)), Text(state))
    return table


def _state(at: EpochDone) -> str:
    return f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.4f}" if at.epoch else "starting"


class NotebookProgress(PlainProgress):
    """A sink whose display, in the output of a notebook's cell, is replaced as the sweep goes on and then stays."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._sentences: list[str] = []
        self._handle: Any = None
        self._shown_at = 0.0

    def handle(self, event: Event) -> None:
        super().handle(event)
        if not isinstance(event, EpochDone) or time.monotonic() - self._shown_at > _NOTEBOOK_S:
            self.draw()

    def draw(self) -> None:
        """Draw the display, or replace the one that is there."""
        from IPython.display import display  # only where a notebook runs this, which has it

        self._shown_at = time.monotonic()
        if self._handle is None:
            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        return "\n".join([*self._sentences, *([self.counts.line()] if self.counts.planned else [])])

    def _repr_html_(self) -> str:
        running = list(self.counts.running.values())
        earlier = len(self._sentences) - _MAX_SENTENCES
        parts = [f"<div>{earlier} earlier messages</div>"] if earlier > 0 else []
        parts += [f"<div>{html.escape(sentence)}</div>" for sentence in self._sentences[-_MAX_SENTENCES:]]
        if running:
            parts.append(f"<table>{''.join(map(_html_row, running[:_MAX_SHOWN]))}</table>")
        if len(running) > _MAX_SHOWN:
            parts.append(f"<div>and {len(running) - _MAX_SHOWN} more</div>")
        if self.counts.planned:
            bar = _html_bar(self.counts.ended, max(self.counts.missing, 1))
            parts.append(f"<div>{bar} <b>{html.escape(self.counts.line())}</b></div>")
        return "".join(parts)

    def _print(self, text: str, style: str = "") -> None:
        self._sentences.append(text)

    def _heartbeat(self) -> None:
        """Add no sentence: the display is replaced anyway."""

    def _trial_ended(self, spec: TrialSpec, result: TrialResult) -> None:
        if result.status == TrialStatus.FAILED:
            self._print(result_line(spec, result))


def _html_row(at: EpochDone) -> str:
    cells = (html.escape(label(at.spec)), _html_bar(at.epoch, at.epochs), html.escape(_state(at)))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _html_bar(value: int, most: int) -> str:
    return f'<progress value="{value}" max="{most}"></progress>'


@contextmanager
def make_progress(console: Console) -> Iterator[EventSink]:
    """Yield the display for a console: live on a terminal, which keeps the last counts when the display ends, and in a
    notebook."""
    if console.is_jupyter:
        notebook = NotebookProgress(console)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # of Ray's own bars, which nobody sees
            try:
                yield notebook
            finally:
                notebook.draw()
        return
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainProgress(console)
        return
    progress = LiveProgress(console)
    try:
        with Live(progress, console=console, refresh_per_second=4, transient=True):
            yield progress
    finally:
        progress.leave_counts()

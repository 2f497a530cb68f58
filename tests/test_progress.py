"""What a sweep shows: lines where the output is no terminal, a live display where it is."""

import io
import sys

import pytest
from rich.console import Console

from fcdd_sweep.config.text import duration_text, hours_text
from fcdd_sweep.progress import LiveProgress, PlainProgress, make_progress
from fcdd_sweep.runners.events import EpochDone, Message, SweepStarted, SweepStopped, TrialEnded, TrialStarted
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_counts import TrialCounts
from tests.specs import spec
from tests.terminals import Terminal


@pytest.fixture
def out():
    return io.StringIO()


def done(which, score):
    return TrialResult(which.trial_id, "done", 1, image_auroc=score)


def failed(which, error):
    return TrialResult(which.trial_id, "failed", 1, error)


def run_two(progress):
    first, second = spec(seed=0), spec(seed=1)
    progress.handle(SweepStarted(5, 2, 3))
    progress.handle(TrialStarted(first))
    progress.handle(TrialStarted(second))
    progress.handle(EpochDone(first, 1, 2, 0.25))
    progress.handle(TrialEnded(first, done(first, 0.875)))
    progress.handle(TrialEnded(second, failed(second, "ValueError: bad")))


def test_plain_lines_tell_each_trial_and_the_counts(out):
    run_two(PlainProgress(Console(file=out, width=80)))
    lines = out.getvalue().splitlines()
    assert lines[0] == "5 trials, 2 already done; running 3"
    assert lines[1].startswith("done  class plain, seed 0: image AUROC 0.8750   [3/5 done, 1 running | ")
    assert "| image AUROC mean 0.875, best 0.875 over 1 trial of this start | elapsed 0:00, about" in lines[1]
    assert lines[2].startswith("FAILED  class plain, seed 1: ValueError: bad   [3/5 done, 1 failed | ")
    assert len(lines) == 3


def test_a_sentence_is_reported_once(out):
    progress = PlainProgress(Console(file=out, width=80))
    for sentence in ("3 images do not decode", "3 images do not decode", "building the report"):
        progress.handle(Message(sentence))
    assert out.getvalue().splitlines() == ["3 images do not decode", "building the report"]


def test_a_heartbeat_reports_long_trials(out):
    progress = PlainProgress(Console(file=out, width=80), heartbeat_s=0.0)
    progress.handle(SweepStarted(1, 0, 1))
    progress.handle(TrialStarted(spec()))
    progress.handle(EpochDone(spec(), 5, 10, 0.5))
    assert "0/1 done, 1 running" in out.getvalue().splitlines()[-1]


def test_the_live_display_shows_running_trials_and_prints_failures_alone(out):
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    progress = LiveProgress(console)
    run_two(progress)
    progress.handle(TrialStarted(spec(seed=2)))
    progress.handle(EpochDone(spec(seed=2), 1, 2, 0.25))
    console.print(progress)
    text = out.getvalue()
    assert "class plain, seed 2" in text and "epoch 1/2, loss 0.2500" in text
    assert "FAILED  class plain, seed 1: ValueError: bad" in text
    assert "done  class" not in text


def test_many_running_trials_are_summed_up(out):
    console = Console(file=out, width=100)
    progress = LiveProgress(console)
    progress.handle(SweepStarted(40, 0, 40))
    for seed in range(20):
        progress.handle(TrialStarted(spec(seed=seed)))
    console.print(progress)
    assert "and 8 more" in out.getvalue()


def test_the_display_fits_the_output(out):
    with make_progress(Console(file=out)) as progress:
        assert type(progress) is PlainProgress
    with make_progress(Console(file=out, force_terminal=True)) as progress:
        assert type(progress) is LiveProgress


def test_a_mean_over_all_that_is_done_names_no_number(out):
    progress = PlainProgress(Console(file=out, width=80))
    progress.handle(SweepStarted(2, 0, 2))
    progress.handle(TrialEnded(spec(), done(spec(), 0.875)))
    assert "| image AUROC mean 0.875, best 0.875 | elapsed" in out.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00"), (0.2, "0.000056"), (6, "0.0017"), (60, "0.02"), (45000, "12.50")],
)
def test_hours_of_seconds_are_not_zero(seconds, text):
    assert hours_text(seconds) == text


@pytest.mark.parametrize(("image_score", "by"), [("mean", ""), ("max", " by the mean")])
def test_a_trial_that_is_not_tested_shows_its_selection_metric(out, image_score, by):
    validation = {"nominal_fraction": 0.5, "anomalies": "training"}
    judging = spec(evaluation={"test": False, "validation": validation, "image_score": image_score})
    progress = PlainProgress(Console(file=out, width=120))
    progress.handle(SweepStarted(1, 0, 1))
    progress.handle(TrialStarted(judging))
    progress.handle(TrialEnded(judging, TrialResult(judging.trial_id, "done", 1, validation_image_auroc=0.625)))
    assert f"AUROC over validation images{by} 0.6250" in out.getvalue() and "image AUROC n/a" not in out.getvalue()


def test_while_no_image_score_is_chosen_the_score_that_stands_in_is_named(out):
    waiting = spec(evaluation={"image_score": "auto"})
    progress = PlainProgress(Console(file=out, width=120))
    progress.handle(SweepStarted(1, 0, 1))
    progress.handle(TrialStarted(waiting))
    progress.handle(TrialEnded(waiting, TrialResult(waiting.trial_id, "done", 1, image_auroc=0.625)))
    assert "image AUROC of the mean 0.6250" in out.getvalue()


PROGRAM = """
import sys, time
from rich.console import Console
from fcdd_sweep.progress import make_progress
from fcdd_sweep.runners.events import Message, SweepStopped
from fcdd_sweep.runners.stop_signal import StopSignal
from tests.test_progress import run_many
stop = StopSignal()
with stop.listening(), make_progress(Console(highlight=False)) as progress:
    run_many(progress, int(sys.argv[1]), sys.argv[2])
    progress.handle(Message("all are running"))
    while not stop.asked:
        time.sleep(0.1)
    progress.handle(SweepStopped())
print("the end")
"""
COUNTS = "image AUROC mean 0.875, best 0.875 over 1 trial of this start | elapsed"
TERMINALS = {"color": {}, "no color": {"NO_COLOR": "1"}, "ASCII": {"PYTHONIOENCODING": "ascii"}}


def run_many(progress, number, normal_class):
    """End one trial and let others run."""
    first, *others = (spec(seed, normal_class) for seed in range(number + 1))
    progress.handle(SweepStarted(40, 2, 38))
    progress.handle(TrialStarted(first))
    progress.handle(TrialEnded(first, done(first, 0.875)))
    for each in others:
        progress.handle(TrialStarted(each))
        progress.handle(EpochDone(each, 5, 200, 0.25))


def display(number, columns, lines=24, *, normal_class="plain", **environment):
    command = [sys.executable, "-c", PROGRAM, str(number), normal_class]
    return Terminal(command, columns, lines, **environment)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TERMINALS)
@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_shows_every_running_trial_and_all_counts(columns, kind):
    with display(3, columns, **TERMINALS[kind]) as terminal:
        terminal.wait_for("3/40 done, 3 running | " + COUNTS)
        terminal.wait_for(" left")
        shown = terminal.text.replace("━", "").replace("╺", "").replace("╸", "").replace("-", "")
        for seed in (1, 2, 3):
            assert f"class plain, seed {seed}" in shown
        assert " ".join(shown.split()).count("epoch 5/200, loss 0.2500") == 3
        assert "..." not in shown


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 40])
def test_a_long_name_is_shown_in_full(columns):
    name = "a class with a name that is far too long for one line of a terminal, and for two of a narrow one"
    with display(1, columns, normal_class=name) as terminal:
        terminal.wait_for(f"class {name}, seed 1: epoch 5/200, loss 0.2500")
        terminal.wait_for("3/40 done, 1 running | " + COUNTS)


@pytest.mark.slow
def test_a_name_is_no_markup():
    with display(1, 80, normal_class="[bold]:smile:[/]") as terminal:
        terminal.wait_for("class [bold]:smile:[/], seed 1")


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "lines", "shown"), [(80, 8, 3), (40, 8, 1), (40, 5, 0)])
def test_a_low_terminal_shows_fewer_trials_and_all_counts(columns, lines, shown):
    """Bar, cursor and `and N more` take a line each; at 40 columns the counts take three and a trial takes two."""
    with display(10, columns, lines) as terminal:
        terminal.wait_for("3/40 done, 10 running | " + COUNTS)
        terminal.wait_for(" left")
        assert terminal.text.count("epoch 5/200, loss 0.2500") == shown
        assert (f"and {10 - shown} more" in terminal.text) == (shown > 0)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 40, len(f"3/40 done, 3 running | {COUNTS} 0:00, about 0:08 left") + 1])
def test_ctrl_c_leaves_the_last_counts_and_no_running_trial(columns):
    """In the last width, the `^C` that the terminal shows would not fit behind the counts."""
    with display(3, columns) as terminal:
        terminal.wait_for("all are running")
        terminal.wait_for(COUNTS)
        terminal.wait_for(" left")
        terminal.type(b"\x03")
        assert terminal.end() == 0
        *messages, last = terminal.rows
        start = messages.index("all are running")
        assert start == 1 and last == "the end"
        counts = messages[start + 1 :]
        assert " ".join(counts).startswith("3/40 done | " + COUNTS)
        assert "left" not in terminal.text and "running |" not in terminal.text


@pytest.mark.slow
def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    with display(1, 80, TERM="dumb") as terminal:
        terminal.wait_for("done class plain, seed 0: image AUROC 0.8750")


def test_a_stopped_sweep_has_no_running_trials_and_no_time_left():
    counts = TrialCounts()
    epochs = (EpochDone(spec(), epoch, 4, 0.5) for epoch in (1, 2, 3))
    for event in (SweepStarted(4, 0, 4), TrialStarted(spec()), *epochs):
        counts = counts.after(event)
    assert counts.eta_s() is not None
    counts = counts.after(SweepStopped())
    assert counts.running == {} and counts.eta_s() is None and counts.line().startswith("0/4 done | elapsed")

"""What a sweep shows: lines where the output is no terminal, a live display where it is."""

import io

import pytest
from rich.console import Console

from fcdd_sweep.config.text import duration_text
from fcdd_sweep.progress import LiveProgress, PlainProgress, make_progress
from fcdd_sweep.runners.events import EpochDone, Message, SweepStarted, TrialEnded, TrialStarted
from fcdd_sweep.runners.trial_result import TrialResult
from tests.specs import spec


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


def test_a_sentence_is_told_once(out):
    progress = PlainProgress(Console(file=out, width=80))
    for sentence in ("3 images do not decode", "3 images do not decode", "building the report"):
        progress.handle(Message(sentence))
    assert out.getvalue().splitlines() == ["3 images do not decode", "building the report"]


def test_a_heartbeat_tells_of_long_trials(out):
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


def test_a_trial_that_is_not_tested_tells_its_figure_of_selection(out):
    judging = spec(evaluation={"test": False, "validation": {"nominal_fraction": 0.5, "anomalies": "training"}})
    progress = PlainProgress(Console(file=out, width=120))
    progress.handle(SweepStarted(1, 0, 1))
    progress.handle(TrialStarted(judging))
    progress.handle(TrialEnded(judging, TrialResult(judging.trial_id, "done", 1, validation_image_auroc=0.625)))
    assert "AUROC over validation images 0.6250" in out.getvalue() and "image AUROC n/a" not in out.getvalue()

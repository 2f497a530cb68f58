"""Means over seeds and classes."""

import math

import pytest

from fcdd_sweep.report import summaries
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.report.tables import summary_markdown
from tests.fakes import FakeRun
from tests.report.test_run_files import done_trial


def over_classes(*by_class):
    """Return the mean over classes, each given as values by seed."""
    trials = [[done_trial(seed, {"image_auroc": value}) for seed, value in values.items()] for values in by_class]
    return summaries.over_classes(trials, "image_auroc")


def test_means_over_incomplete_seeds_have_no_spread():
    found, classes = over_classes({0: 0.5, 1: None}, {0: None, 1: 0.9})
    assert classes == 2 and found.mean == pytest.approx(0.7)
    assert found.n == 0 and math.isnan(found.std)


def test_the_spread_over_classes_is_that_of_means_by_seed():
    found, classes = over_classes({0: 0.5, 1: 0.7}, {0: 0.9, 1: 0.7, 2: 0.7})
    assert classes == 2 and found.n == 2
    assert found.mean == pytest.approx((0.6 + (0.9 + 0.7 + 0.7) / 3) / 2)
    assert found.std == pytest.approx(0.0)


def test_a_class_without_a_value_is_not_averaged_in():
    found, classes = over_classes({0: 0.5, 1: 0.7}, {0: None})
    assert classes == 1 and found.mean == pytest.approx(0.6) and found.n == 2
    assert over_classes({0: None})[1] == 0


def test_one_class_has_no_row_for_the_mean(tmp_path):
    run = read_run(FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0, wrong=1).write())
    (row,) = summaries.summary_rows(run, "")
    assert row.normal_class == "brick" and row.counts == {"planned": 1, "done": 1, "failed": 0, "missing": 0}
    assert summaries.mean_row(run, "").metrics["image_auroc"].mean == row.metrics["image_auroc"].mean


def test_what_is_missing_is_named_by_config_and_class(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1, 2], {"a": {"x": 1}, "b": {"x": 2}})
    run.finish("a", "brick", 0).fail("a", "brick", 1)
    for seed in (0, 1, 2):
        run.finish("b", "brick", seed)
    assert summaries.shortfalls(read_run(run.write())) == [
        "config a, class 'brick' has 1 of 3 seeds (1 failed, 1 missing)"
    ]


def test_devices_that_give_other_numbers_are_named_with_their_trials(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1, 2, 3])
    for seed in (0, 1, 2):
        run.finish("", "brick", seed)
    whole = read_run(run.write())
    done = [trial for trial in whole.trials if trial.is_done]
    assert summaries.device_note(whole.trials) == ""
    done[0].metrics.update({"device_numerics": None, "device": "x86_64"})  # from before the column
    assert summaries.device_note(whole.trials) == ""
    done[1].metrics.update({"device_numerics": "cuda 1", "device": "NVIDIA H200"})
    note = summaries.device_note(whole.trials)
    assert "devices that give other numbers: 2 trials on cpu, 1 trial on cuda 1" in note
    assert f"- {note}." in summary_markdown(whole)
    done[2].metrics.update({"device_numerics": None, "device": "NVIDIA H200"})
    assert "1 trial on cpu, 1 trial on cuda 0, 1 trial on cuda 1" in summaries.device_note(whole.trials)

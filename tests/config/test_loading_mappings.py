"""Experiments and overrides that a program makes, instead of a file and a command line."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.loading import load_experiment

TEXT = """
schema: 2
name: parts
preset: digits
dataset: {classes: ["3", "8"]}
training: {epochs: 7, schedule: {type: milestones, milestones: [2, 4]}}
grid: {training.learning_rate: [0.1, 0.01]}
seeds: [0, 4]
"""
PLAIN = {
    "schema": 2,
    "name": "parts",
    "preset": "digits",
    "dataset": {"classes": ("3", "8")},
    "training": {"epochs": np.int64(7), "schedule": {"type": "milestones", "milestones": [2, 4]}},
    "grid": {"training.learning_rate": [0.1, np.float64(0.01)]},
    "seeds": range(0, 5, 4),
}


def problems(*arguments):
    with pytest.raises(ExperimentError) as raised:
        load_experiment(*arguments)
    return [str(problem) for problem in raised.value.problems]


def test_a_mapping_is_the_experiment_that_the_same_file_is(load):
    assert load_experiment(PLAIN) == load(TEXT)
    assert PLAIN["dataset"] == {"classes": ("3", "8")} and isinstance(PLAIN["training"]["epochs"], np.int64)


def test_paths_in_a_mapping_are_paths(tmp_path):
    source = {
        "schema": 2,
        "name": "x",
        "preset": "folder",
        "dataset": {"root": tmp_path},
        "output": PurePosixPath("/r"),
    }
    experiment = load_experiment(source)
    assert experiment.dataset.root == tmp_path and experiment.run_dir == Path("/r/x")


def test_overrides_as_a_mapping_are_those_of_the_command_line(load, tmp_path):
    given = {
        "training.epochs": 3,
        "training.schedule": {"type": "exponential", "factor": 0.5},
        "grid.training.learning_rate": [0.5],
        "dataset.root": tmp_path / "2024",
        "anomalies.limit": 8,
        "seeds": [1],
    }
    texts = (
        "training.epochs=3",
        "training.schedule={type: exponential, factor: 0.5}",
        "grid.training.learning_rate=[0.5]",
        f"dataset.root={tmp_path / '2024'}",
        "anomalies.limit=8",
        "seeds=[1]",
    )
    assert load_experiment(PLAIN, given) == load_experiment(PLAIN, texts) == load(TEXT, *texts)


def test_every_problem_of_a_mapping_is_reported_at_once_with_the_nearest_name():
    source = PLAIN | {"trainig": 1, "training": {"optimizer": "sdg"}}
    found = problems(source, {"training.epoch": 3, "seeds": "a", "grid.x": [1]})
    starts = (
        "override training.epoch: there is no key training.epoch. Closest: 'training.epochs'.",
        "the experiment: training.optimizer: found the text 'sdg'. Allowed: 'sgd' or 'adam'. Closest: 'sgd'.",
        "override seeds='a': found the text 'a'. Allowed: how many seeds, at least 1 and at most 10000, or",
        "the experiment: trainig: there is no such key.",
        "override grid.x=[1]: there is no key x.",
    )
    assert len(found) == len(starts)
    for problem, start in zip(found, starts, strict=True):
        assert problem.startswith(start)


def test_an_unknown_preset_is_named(load):
    (problem,) = problems(PLAIN | {"preset": "digts"})
    assert problem.startswith("the experiment: preset: there is no preset 'digts'.") and "'digits'" in problem


def test_keys_that_are_not_text_are_refused():
    assert problems({"schema": 2, 3: {}}) == ["the experiment: these keys are not text: 3. Allowed: text in quotes."]
    assert problems(PLAIN, {"variants": {"a": {3: 1}}}) == [
        "override variants: these keys are not text: 3. Allowed: text in quotes."
    ]
    with pytest.raises(TypeError, match="a list of texts or a mapping, not one text"):
        load_experiment(PLAIN, "training.epochs=3")

"""Searches for tests: a small one, its events, and its tables."""

from __future__ import annotations

import json

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.search.search import run_search
from tests import works
from tests.events import Recorder
from tests.specs import small_experiment

EXPERIMENT = small_experiment(
    """
training: {epochs: 1, passes_per_epoch: 1}
keep: {pictures: none}
seeds: 2
search:
  budget: {configs: 6}
  space:
    training.learning_rate: {log: [0.0001, 0.1]}
    anomalies.limit: {choices: [1, 8, 32, all]}
"""
)
SIZES = (
    EXPERIMENT.partition("    training.learning")[0]
    + """\
    images.load_size: {choices: [28, 40]}
    images.size: {choices: [28, 32]}
"""
)


def load(folder, *overrides, output="results", text=EXPERIMENT):
    path = folder / "small.yaml"
    path.write_text(text)
    return load_experiment(path, [f"output={folder / output}", *overrides])


def go(experiment, work=works.scored, **options):
    recorder = Recorder(**options)
    return run_search(experiment, local=True, progress=recorder, work=work), recorder


def table(experiment, name=tree.SEARCH_CONFIGS):
    return files.read_table(RunPaths(experiment.run_dir).search.root / name).to_pylist()


def summary(experiment):
    return json.loads((RunPaths(experiment.run_dir).search.summary).read_text())


def study(experiment):
    journal = RunPaths(experiment.run_dir).search.journal
    return optuna.load_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(journal))))


def suggested(experiment):
    """Values by number, without what differs between two runs."""
    return [
        (row["number"], row["param.training.learning_rate"], row["param.anomalies.limit"]) for row in table(experiment)
    ]

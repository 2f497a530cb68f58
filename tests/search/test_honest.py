"""What a search promises of the test set, with real trainings; and a search on Ray."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths, SearchPaths
from fcdd_sweep.runners import trial_data
from fcdd_sweep.search.search import run_search
from tests import works
from tests.specs import small_experiment

EXPERIMENT = small_experiment(
    """
training: {epochs: 2, passes_per_epoch: 1}
keep: {pictures: none, snapshots: none}
seeds: 1
search:
  budget: {configs: 4}
  space:
    training.learning_rate: {log: [0.001, 0.3]}
""",
    '["3"]',
)
pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.slow]


@pytest.fixture
def experiment(tmp_path):
    def load(*overrides, output="results"):
        path = tmp_path / "small.yaml"
        path.write_text(EXPERIMENT)
        return load_experiment(path, [f"output={tmp_path / output}", *overrides])

    return load


def poison(monkeypatch):
    """Give the test images labels at random."""
    real = trial_data.load_corpus

    def poisoned(*given, **options):
        corpus = real(*given, **options)
        labels, test = corpus.class_index.copy(), np.flatnonzero(corpus.is_test)
        labels[test] = np.random.default_rng(0).permutation(labels[test])
        assert (labels != corpus.class_index).sum() > len(test) / 2
        return dataclasses.replace(corpus, class_index=labels)

    monkeypatch.setattr(trial_data, "load_corpus", poisoned)


def found(experiment):
    folder = RunPaths(experiment.run_dir).search.root
    configs = files.read_table(SearchPaths(folder).configs).to_pylist()
    times = ("started", "finished")
    evaluated = [{key: value for key, value in row.items() if key not in times} for row in configs]
    best = json.loads(SearchPaths(folder).summary.read_text())["best"]
    confirmed = files.read_table(SearchPaths(folder).confirmation).to_pylist()
    return evaluated, best, [row["image_auroc"] for row in confirmed]


def test_random_labels_of_the_test_set_change_no_choice(experiment, monkeypatch):
    clean, poisoned = experiment(output="clean"), experiment(output="poisoned")
    assert run_search(clean, local=True).missing == 0
    poison(monkeypatch)
    assert run_search(poisoned, local=True).missing == 0
    (evaluated, best, tests), (evaluated_again, best_again, tests_again) = found(clean), found(poisoned)
    assert len(evaluated) == 4 and all(row["state"] == "done" and row["value_std_error"] > 0 for row in evaluated)
    assert (evaluated, best) == (evaluated_again, best_again)
    assert tests != tests_again  # the poison did reach what it could
    trial_data.forget_data()


def test_a_search_that_asks_for_the_test_set_is_misled_by_it(experiment, monkeypatch):
    clean, poisoned = (experiment("search.metric=oracle/image_auroc", output=name) for name in ("clean", "poisoned"))
    run_search(clean, local=True)
    poison(monkeypatch)
    run_search(poisoned, local=True)
    assert [row["value"] for row in found(clean)[0]] != [row["value"] for row in found(poisoned)[0]]
    trial_data.forget_data()


@pytest.mark.long
@pytest.mark.ray
def test_a_search_on_ray_evaluates_and_confirms_every_config_once(experiment):
    loaded = experiment("search.budget.configs=3", "dataset.classes=['3', '8']", "training.learning_rate=0.29")
    result = run_search(loaded, work=works.scored)
    assert (result.planned, result.done) == (3 * 2 + 2 * 2, 10)
    evaluated, best, confirmed = found(loaded)
    assert [row["state"] for row in evaluated] == ["done"] * 3 and len(confirmed) == 4
    assert evaluated[best]["value"] == max(row["value"] for row in evaluated)
    index = files.read_table(RunPaths(loaded.run_dir).index).to_pylist()
    assert {row["attempt"] for row in index} == {1} and len(index) == 10

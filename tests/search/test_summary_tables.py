"""The tables of a search as they are made from entries of its study."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from fcdd_sweep.results import files, search_schemas, tree
from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.search import summary
from fcdd_sweep.search.plan import plan_search
from fcdd_sweep.search.pruning import CURVE_KEY
from fcdd_sweep.search.study import Entry
from tests import searches

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
def planned(tmp_path):
    def load(*overrides):
        return plan_search(searches.load(tmp_path, *overrides))

    return load


def entry(number, state=ConfigState.DONE, scores=(0.9,), limit=8, **facts):
    values = {"training.learning_rate": 0.01, "anomalies.limit": limit}
    known = {"config_id": f"{number:012x}", "config": f"config-{number}"}
    done = state == ConfigState.DONE
    return Entry(number, values, state, scores if done else (), known | facts, NOW, NOW if done else None)


def rows_of(run_dir, name):
    return files.read_table(RunPaths(run_dir).search.root / name).to_pylist()


def test_a_config_has_its_state_value_parameters_and_counts(planned, tmp_path):
    entries = [
        entry(0, n_done=4, n_failed=0, n_trials=4, epochs_trained=8, value_std_error=0.02),
        entry(1, ConfigState.PRUNED, limit="all", n_done=1, pruned_at=2, value_std_error=0.01),
        entry(2, ConfigState.FAILED, n_done=3, n_failed=1, failure_policy="1 of 4 trials failed"),
        entry(3, ConfigState.RUNNING),
    ]
    summary.write_configs(tmp_path, planned(), entries, {3: 2}, over=False)
    rows = rows_of(tmp_path, tree.SEARCH_CONFIGS)
    assert [row["state"] for row in rows] == ["done", "pruned", "failed", "running"]
    assert [(row["value"], row["value_std_error"], row["values"]) for row in rows] == [
        (0.9, 0.02, None), *[(None, None, None)] * 3
    ]  # fmt: skip
    assert [row["param.anomalies.limit"] for row in rows] == ["8", "all", "8", "8"]
    assert [(row["n_done"], row["n_failed"], row["n_trials"]) for row in rows] == [
        (4, 0, 4), (1, 0, 4), (3, 1, 4), (2, 0, 4)
    ]  # fmt: skip
    assert [row["pruned_at"] for row in rows] == [None, 2, None, None]
    assert rows[2]["failure_policy"] == "1 of 4 trials failed" and rows[0]["failure_policy"] == ""
    assert (rows[0]["finished"], rows[3]["finished"]) == (NOW, None)


def test_a_config_that_has_no_end_when_the_search_is_over_is_incomplete(planned, tmp_path):
    summary.write_configs(tmp_path, planned(), [entry(0), entry(1, ConfigState.RUNNING)], {}, over=True)
    assert [row["state"] for row in rows_of(tmp_path, tree.SEARCH_CONFIGS)] == ["done", "incomplete"]


def test_several_metrics_are_kept_as_a_list_beside_the_first(planned, tmp_path):
    search = planned("search.algorithm=nsga2", "search.metric=[validation_image_auroc, final_loss]")
    summary.write_configs(tmp_path, search, [entry(0, scores=(0.9, 0.25))], {}, over=True)
    (row,) = rows_of(tmp_path, tree.SEARCH_CONFIGS)
    assert (row["value"], json.loads(row["values"])) == (0.9, [0.9, 0.25])


def test_rungs_are_means_over_classes_and_seeds_by_epoch(tmp_path):
    curve = [["3", 0, 4, 0.9], ["3", 0, 2, 0.5], ["8", 0, 2, 0.7]]
    summary.write_rungs(tmp_path, [entry(0), entry(1, **{CURVE_KEY: curve})])
    assert rows_of(tmp_path, tree.RUNGS) == [
        {"number": 1, "epoch": 2, "value": pytest.approx(0.6)},
        {"number": 1, "epoch": 4, "value": 0.9},
    ]


def test_a_search_without_pruning_has_no_rungs(tmp_path):
    summary.write_rungs(tmp_path, [entry(0)])
    assert not (RunPaths(tmp_path).search.rungs).exists()


def test_a_key_whose_importance_is_unknown_is_null(tmp_path):
    summary.write_importance(tmp_path, {"a": 0.75, "b": None})
    assert rows_of(tmp_path, tree.IMPORTANCE) == [{"key": "a", "importance": 0.75}, {"key": "b", "importance": None}]


class Metrics:
    """Metrics of the trials of class 3 alone."""

    def __init__(self, specs):
        self.rows = {spec.trial_id: {"image_auroc": 0.9, "epochs": 1} for spec in specs if spec.normal_class == "3"}

    def row(self, trial_id):
        return self.rows.get(trial_id, {})


def test_a_confirmation_has_a_row_for_every_trial_with_nulls_for_what_is_not_done(planned, tmp_path):
    search = planned()
    config = search.config(0, search.space.default())
    specs = search.confirming(config)
    rows = summary.confirmation_rows([summary.Confirmed("default", config, specs)], Metrics(specs))
    summary.write_confirmation(tmp_path, rows)
    found = rows_of(tmp_path, tree.CONFIRMATION)
    assert [(row["role"], row["number"], row["normal_class"], row["seed"], row["image_auroc"]) for row in found] == [
        ("default", 0, "3", 2, 0.9), ("default", 0, "8", 2, None), ("default", 0, "3", 3, 0.9),
        ("default", 0, "8", 3, None),
    ]  # fmt: skip
    assert [row["trial_id"] for row in found] == [spec.trial_id for spec in specs]
    assert all(row["pixel_auroc"] is None for row in found) and found[0].keys() == set(
        search_schemas.CONFIRMATION.names
    )

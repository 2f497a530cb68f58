"""Configs that are given up early: compared by means on the same classes, seeds and epochs."""

from __future__ import annotations

import json
from functools import partial

import pytest

from fcdd_sweep.config.search_schema import Prune
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.search.pruning import LearningCurves
from tests import works
from tests.searches import go, load, study, suggested, summary, table

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.slow]


@pytest.fixture
def experiment(tmp_path):
    return partial(load, tmp_path)


PRUNED = ("search.prune={at: [2], min_configs: 3}", "training.epochs=4", "search.budget.configs=12")


def test_configs_that_do_worse_are_pruned_and_the_saving_is_reported(experiment):
    loaded, whole = experiment(*PRUNED), experiment(*PRUNED[1:], output="whole")
    result, heard = go(loaded, work=works.scored_by_epochs)
    rows = table(loaded)
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned and rows[0]["state"] == "done" and result.missing == 0
    assert all((row["pruned_at"], row["value"]) == (2, None) and row["n_done"] < 4 for row in pruned)
    for row in pruned:
        ended = [status for leaf, status in heard.results if leaf.startswith(row["config"] + "/")]
        # both classes must have come so far: the trial of the second one is stopped, and no other is begun
        assert ended == ["done", "stopped"] and row["epochs_trained"] == 4 + 2
    saved = summary(loaded)["pruning"]
    assert saved["configs"] == len(pruned) and saved["epochs_saved"] == 10 * len(pruned)
    rungs = files.read_table(RunPaths(result.run_dir).search.rungs).to_pylist()
    assert [(row["number"], row["epoch"]) for row in rungs] == [(row["number"], 2) for row in rows]
    means = {row["number"]: row["value"] for row in rungs}
    assert max(means[row["number"]] for row in pruned) < max(means.values())
    assert saved["epochs_trained"] == sum(row["epochs_trained"] for row in rows)
    assert any("Pruning stopped" in sentence for sentence in summary(loaded)["sentences"])
    kept = study(loaded).get_trials()
    assert [trial.state.name == "PRUNED" for trial in kept] == [row["state"] == "pruned" for row in rows]
    assert all(list(trial.intermediate_values) == [2] for trial in kept)
    go(whole, work=works.scored_by_epochs)
    assert summary(whole)["pruning"] is None and {row["state"] for row in table(whole)} == {"done"}


def test_an_interrupted_search_prunes_as_an_undisturbed_one(experiment):
    whole, cut = experiment(*PRUNED, output="whole"), experiment(*PRUNED, output="cut")
    go(whole, work=works.scored_by_epochs)
    for stop_after in (13, 9, 3):
        assert go(cut, work=works.scored_by_epochs, stop_after=stop_after)[0].interrupted
    go(cut, work=works.scored_by_epochs)
    assert suggested(cut) == suggested(whole)
    columns = ("state", "value", "pruned_at")
    assert [[row[name] for name in columns] for row in table(cut)] == [
        [row[name] for name in columns] for row in table(whole)
    ]


def at(normal_class, seed=0):
    return TrialSpec(None, normal_class, seed)


def test_means_are_compared_on_the_same_classes_seeds_and_epochs():
    curves = LearningCurves(Prune(at=[2, 4], keep_fraction=0.5, min_configs=2), ["easy", "hard"])
    for number, (easy, hard) in enumerate([(0.9, 0.5), (0.8, 0.6), (0.95, 0.3)]):
        curves.add(number, at("easy"), {2: easy, 3: 0.0})
        curves.add(number, at("hard"), {2: hard})
    curves.add(3, at("hard"), {2: 0.4})
    assert curves.prune_epoch(3) is None  # its easy class is not there yet
    curves.add(3, at("easy"), {2: 0.9})
    assert curves.prune_epoch(3) == 2  # 1.3 against 1.4, 1.4 and 1.25: two of four are better
    curves.add(4, at("easy", seed=1), {2: 0.1})
    curves.add(4, at("hard", seed=1), {2: 0.1})
    assert curves.prune_epoch(4) is None  # no other config has that seed
    assert [curves.prune_epoch(number) for number in (0, 1, 2)] == [None, None, 2]
    again = LearningCurves(Prune(at=[2, 4], keep_fraction=0.5, min_configs=2), ["easy", "hard"])
    for number in range(5):
        again.restore(number, json.loads(json.dumps(curves.plain(number))))
    assert [again.prune_epoch(number) for number in range(5)] == [curves.prune_epoch(number) for number in range(5)]
    assert curves.means(0) == {2: pytest.approx(0.7)}

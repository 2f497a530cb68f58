"""A search from its experiment to its tables: each config entered once, whatever happens to the driver."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from functools import partial

import optuna
import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import files, schemas, search_schemas, tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep.baselines import baselines_of
from fcdd_sweep.sweep.sweep import run_sweep
from tests import old_runs, works
from tests.events import Recorder
from tests.searches import EXPERIMENT, SIZES, go, load, study, suggested, summary, table

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.slow]


@pytest.fixture
def experiment(tmp_path):
    return partial(load, tmp_path)


def test_a_search_evaluates_its_budget_of_configs_and_the_files_own_first(experiment):
    loaded = experiment()
    result, _ = go(loaded)
    rows = table(loaded)
    assert [row["number"] for row in rows] == list(range(6))
    assert {row["state"] for row in rows} == {"done"} and {row["n_done"] for row in rows} == {4}
    assert (rows[0]["config"], rows[0]["param.training.learning_rate"]) == ("default", 0.01)
    assert (result.planned, result.done, result.failed) == (6 * 4 + 2 * 4, 32, 0)


def test_a_configs_value_is_the_mean_over_classes_and_seeds_with_its_noise(experiment):
    loaded = experiment()
    go(loaded)
    for row in table(loaded):
        loss = abs(works.math.log10(row["param.training.learning_rate"] / 0.003)) + 0.005
        assert row["value"] == pytest.approx(1 - loss / 10)
        assert row["value_std_error"] == pytest.approx(0.02 / 2)  # of four trials


def test_the_tables_have_the_declared_columns(experiment):
    loaded = experiment()
    go(loaded)
    folder = RunPaths(loaded.run_dir).search.root
    kinds = {"training.learning_rate": schemas.REAL, "anomalies.limit": schemas.TEXT}
    for name, schema in {
        tree.SEARCH_CONFIGS: search_schemas.search_configs_schema(kinds),
        tree.IMPORTANCE: search_schemas.IMPORTANCE,
        tree.CONFIRMATION: search_schemas.CONFIRMATION,
    }.items():
        assert files.read_table(folder / name).schema.equals(schema, check_metadata=True), name
    importance = {row["key"]: row["importance"] for row in table(loaded, tree.IMPORTANCE)}
    assert importance.keys() == kinds.keys() and sum(importance.values()) == pytest.approx(1)


def test_the_journal_holds_every_config_with_values_state_and_id(experiment):
    loaded = experiment()
    go(loaded)
    trials = study(loaded).get_trials()
    rows = table(loaded)
    assert [trial.value for trial in trials] == [row["value"] for row in rows]
    assert [trial.user_attrs["config_id"] for trial in trials] == [row["config_id"] for row in rows]
    assert [trial.params["training.learning_rate"] for trial in trials] == [
        row["param.training.learning_rate"] for row in rows
    ]
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
    assert study(loaded).metric_names == ["validation_image_auroc"]


def test_the_same_seeds_suggest_the_same_configs_and_another_seed_others(experiment):
    first, again, other = experiment(output="a"), experiment(output="b"), experiment("search.seed=1", output="c")
    for each in (first, again, other):
        go(each)
    assert suggested(first) == suggested(again)
    assert suggested(first)[1:] != suggested(other)[1:]


@pytest.mark.parametrize(
    "stop_after", [pytest.param(1, marks=pytest.mark.long), 4, pytest.param(6, marks=pytest.mark.long)]
)
def test_an_interrupted_search_continues_with_the_configs_of_an_undisturbed_one(experiment, stop_after):
    whole, cut = experiment(output="whole"), experiment(output="cut")
    go(whole)
    result, first = go(cut, stop_after=stop_after)
    assert result.interrupted
    assert [row["state"] for row in table(cut)] == ["done"] * (stop_after // 4) + ["incomplete"]
    result, second = go(cut)
    assert not result.interrupted and result.done == result.planned
    assert suggested(cut) == suggested(whole)
    assert max(Counter([*first.started_ids, *second.started_ids]).values()) == 1
    assert [row["state"] for row in table(cut)] == ["done"] * 6


def test_a_killed_driver_is_followed_by_one_that_reports_each_config_once(experiment):
    """Killed several times, each time a little further and at a random moment."""
    cut, whole = (experiment("search.budget.configs=8", output=name) for name in ("cut", "whole"))
    draw = random.Random(3)
    journal = RunPaths(cut.run_dir).search.journal
    for kill in range(4):
        driver = multiprocessing.get_context("fork").Process(target=go, args=(cut, works.scored_slowly))
        driver.start()
        while driver.is_alive() and not (journal.is_file() and journal.read_bytes().count(b"\n") > 5 * kill + 5):
            time.sleep(0.01)
        time.sleep(0.2 * draw.random())
        assert driver.is_alive()
        driver.kill()
        driver.join()
    go(cut)
    go(whole)
    assert suggested(cut) == suggested(whole)
    assert [trial.state.name for trial in study(cut).get_trials()] == ["COMPLETE"] * 8
    reported = [json.loads(line) for line in journal.read_bytes().splitlines()]
    ends = [log["trial_id"] for log in reported if log.get("values") is not None and log.get("state") == 1]
    assert len(ends) == len(set(ends)) == 8


def test_a_finished_search_does_nothing_and_a_larger_budget_continues(experiment):
    loaded, more = experiment(), experiment("search.budget.configs=9")
    go(loaded)
    before = table(loaded)
    _, again = go(loaded)
    assert again.started_ids == [] and table(loaded) == before
    _, extended = go(more)
    assert len(table(more)) == 9 and table(more)[:6] == before
    assert len([leaf for leaf, _ in extended.results if "confirmed" not in leaf]) == 3 * 4


def test_a_budget_of_trials_begins_no_config_that_it_cannot_evaluate(experiment):
    loaded = experiment("search.budget={trials: 15}")
    go(loaded)
    assert [row["n_done"] for row in table(loaded)] == [4, 4, 4]
    assert summary(loaded)["spent"]["trials"] == 12


def test_a_budget_of_hours_counts_over_all_starts(experiment):
    loaded = experiment("search.budget={hours: 0.0001}")  # 0.36 s
    go(loaded, work=works.scored_slowly)
    evaluated = len(table(loaded))
    assert 1 <= evaluated < 6
    _, again = go(loaded, work=works.scored_slowly)
    assert again.started_ids == [] and len(table(loaded)) == evaluated


def test_the_best_and_the_default_are_confirmed_on_fresh_seeds_with_tests(experiment):
    loaded = experiment()
    go(loaded)
    rows, found = table(loaded, tree.CONFIRMATION), summary(loaded)
    best = max(table(loaded), key=lambda row: row["value"])["number"]
    assert found["best"] == best != 0
    assert {(row["role"], row["number"]) for row in rows} == {("best", best), ("default", 0)}
    for role in ("best", "default"):
        pairs = [(row["normal_class"], row["seed"]) for row in rows if row["role"] == role]
        assert sorted(pairs) == [("3", 2), ("3", 3), ("8", 2), ("8", 3)]
    assert all(row["image_auroc"] is not None for row in rows)
    judging = [row for row in files.read_table(RunPaths(loaded.run_dir).index).to_pylist() if row["seed"] < 2]
    leaves = [files.read_table(TrialPaths(loaded.run_dir / row["leaf"]).metrics).to_pylist()[0] for row in judging]
    assert {leaf["image_auroc"] for leaf in leaves} == {None}


def test_the_comparison_pairs_classes_and_seeds(experiment):
    loaded = experiment("search.confirm_seeds=3")
    go(loaded)
    rows, found = table(loaded, tree.CONFIRMATION), summary(loaded)["comparison"]
    value = {(row["role"], row["normal_class"], row["seed"]): row["image_auroc"] for row in rows}
    differences = [value["best", name, seed] - value["default", name, seed] for name in "38" for seed in (2, 3, 4)]
    assert found["n"] == 6 and found["mean"] == pytest.approx(sum(differences) / 6)
    assert found["high"] < 0  # the made-up test figures go the other way
    assert any("does not beat the default, it is worse" in sentence for sentence in summary(loaded)["sentences"])


def test_classes_and_seeds_that_evaluate_can_be_fewer_than_those_that_confirm(experiment):
    loaded = experiment("search.classes=['8']", "search.seeds=[5]", "search.confirm_seeds=3")
    go(loaded)
    assert {row["n_trials"] for row in table(loaded)} == {1}
    confirmed = table(loaded, tree.CONFIRMATION)
    assert {(row["normal_class"], row["seed"]) for row in confirmed} == {(c, s) for c in "38" for s in (6, 7, 8)}


POLICIES = {"drop_config": ("failed", "the config has no value"), "mean_of_rest": ("done", "left out of the mean")}
POLICIES["worst"] = ("done", "count as 0")


@pytest.mark.parametrize("policy", POLICIES)
def test_what_failed_trials_do_is_said_in_the_file_and_recorded(experiment, policy):
    loaded = experiment(f"search.failed_trials={policy}", "search.budget.configs=8")
    result, _ = go(loaded, work=works.scored_but_large_rates)
    state, words = POLICIES[policy]
    rows = table(loaded)
    lost = [row for row in rows if row["n_failed"]]
    assert lost and all(row["param.training.learning_rate"] > 0.01 for row in lost)
    assert {row["state"] for row in lost} == {state} and all(words in row["failure_policy"] for row in lost)
    assert all(row["failure_policy"] == "" for row in rows if not row["n_failed"])
    for row in lost:
        loss = abs(works.math.log10(row["param.training.learning_rate"] / 0.003))
        good = 1 - loss / 10
        wanted = {"drop_config": None, "mean_of_rest": good, "worst": good / 2}[policy]
        assert row["value"] == (wanted if wanted is None else pytest.approx(wanted))
    assert result.failed and result.missing == 0


def test_a_config_that_lost_a_trial_gets_no_more_of_them_where_it_is_dropped(experiment):
    loaded = experiment("search.budget.configs=8", "dataset.classes=['3', '8', '0']")
    _, heard = go(loaded, work=works.scored_but_large_rates)
    for row in table(loaded):
        started = [leaf for leaf, _ in heard.results if leaf.startswith(row["config"] + "/")]
        assert len(started) == (6 if row["state"] == "done" else 4)  # seed 0 of three classes, then the first of seed 1
        assert row["failure_policy"].startswith(
            "" if row["state"] == "done" else "1 of 6 trials failed, 2 not finished:"
        )


def test_trials_are_shared_with_a_grid_of_the_same_split(experiment):
    loaded = experiment()
    go(loaded)
    rate = table(loaded)[1]["param.training.learning_rate"]
    limit = table(loaded)[1]["param.anomalies.limit"]
    grid = experiment(
        "search=null",
        f"training.learning_rate={rate!r}",
        f"anomalies.limit={limit}",
        f"evaluation={json.dumps(evaluation_of(loaded))}",
    )
    heard = Recorder()
    result = run_sweep(grid, local=True, progress=heard, work=works.scored)
    assert (result.kept, result.done, heard.started_ids) == (4, 4, [])


def evaluation_of(loaded):
    """As the judging trials have it."""
    leaf = next(row["leaf"] for row in files.read_table(RunPaths(loaded.run_dir).plan).to_pylist())
    return json.loads(TrialPaths(loaded.run_dir / leaf).config.read_text())["settings"]["evaluation"]


def test_a_study_of_another_space_is_refused(experiment):
    go(experiment())
    space = r"another search: search.space.training.learning_rate.log \[0.0001, 0.1\] \(here \[0.001, 1.0\]\)\."
    with pytest.raises(InputError, match=space):
        go(experiment("search.space.training.learning_rate={log: [0.001, 1.0]}"))
    with pytest.raises(
        InputError, match=r"another search: training.epochs 1 \(here 2\), training.momentum its default \(here 0.5\)\."
    ):
        go(experiment("training.epochs=2", "training.momentum=0.5"))


def test_values_that_contradict_each_other_cost_no_trial_and_no_search(experiment):
    loaded = experiment("search.algorithm=grid", "images.load_size=40", "search.budget.configs=9", text=SIZES)
    go(loaded)
    states = {(row["param.images.load_size"], row["param.images.size"]): row["state"] for row in table(loaded)}
    assert states == {(40, 28): "done", (28, 28): "done", (28, 32): "failed", (40, 32): "done"}


@pytest.mark.parametrize("algorithm", ["random", "cmaes", pytest.param("gp", marks=pytest.mark.long)])
def test_every_algorithm_searches(experiment, algorithm):
    loaded = experiment(f"search.algorithm={algorithm}", "search.seeds=[0]", "search.budget.configs=12")
    go(loaded)
    assert [row["state"] for row in table(loaded)] == ["done"] * 12


def test_several_metrics_give_a_pareto_set_that_is_confirmed(experiment):
    loaded = experiment(
        "search.algorithm=nsga2",
        "search.metric=[validation_image_auroc, final_loss]",
        "search.direction=[minimize, minimize]",
    )
    go(loaded)
    found, rows = summary(loaded), table(loaded)
    assert found["best"] is None and found["comparison"] is None and found["pareto"]
    values = [json.loads(row["values"]) for row in rows]
    for number, own in enumerate(values):
        beaten = any(other[0] <= own[0] and other[1] <= own[1] and other != own for other in values)
        assert beaten == (number not in found["pareto"])
    roles = {(row["role"], row["number"]) for row in table(loaded, tree.CONFIRMATION)}
    assert roles == {("pareto", number) for number in found["pareto"]} | {("default", 0)}


def test_an_oracle_search_says_so(experiment):
    loaded = experiment("search.metric=oracle/image_auroc")
    go(loaded)
    assert summary(loaded)["oracle"] and "TEST SET (oracle)" in " ".join(summary(loaded)["sentences"])
    best = table(loaded)[summary(loaded)["best"]]
    assert best["value"] == max(row["value"] for row in table(loaded)) > 0.5


def test_a_study_in_a_database(experiment, tmp_path):
    loaded = experiment(f"search.storage=sqlite:///{tmp_path}/study.db")
    go(loaded)
    kept = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db")
    assert len(kept.trials) == 6 and go(loaded)[1].started_ids == []
    with pytest.raises(InputError, match="search.storage: the database cannot be used"):
        go(experiment("search.storage=nodb://x", output="other"))


def test_a_journal_whose_last_line_is_torn_continues(experiment):
    loaded = experiment()
    go(loaded)
    with (RunPaths(loaded.run_dir).search.journal).open("ab") as journal:
        journal.write(b'{"op_code": 5, "wor')
    go(experiment("search.budget.configs=7"))
    assert len(study(loaded).get_trials()) == 7


def test_the_plan_of_a_search_is_reported_in_words(tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    assert cli.main(["validate", str(path)]) == 0
    assert "valid, a search of at most 6 configs, 4 trials per config (2 classes x 2 seeds)" in capsys.readouterr().out
    overrides = ["--set", "search.prune={at: [1]}", "--set", "training.epochs=2"]
    assert cli.main([str(path), "--dry-run", *overrides]) == 0
    out = capsys.readouterr().out
    for words in ("maximize validation_image_auroc", "pruned at epoch 1", "0.0001 to 0.1, logarithmic", "seeds 2, 3"):
        assert words in out
    assert cli.main(["validate", str(path), "--set", "search.classes=['4']"]) == 2
    assert "'4' is not a class of the experiment" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_dry_run_refuses_what_the_search_would_refuse(tmp_path, capsys):
    loaded = load(tmp_path, "search.budget.configs=2")
    go(loaded)
    command = [str(tmp_path / "small.yaml"), "--dry-run", "--set", f"output={tmp_path / 'results'}", "--set"]
    assert cli.main([*command, "search.budget.configs=3"]) == 0
    before = old_runs.listing(loaded.run_dir)
    assert cli.main([*command, "training.epochs=2"]) == 2
    assert "its study was made for another search: training.epochs" in capsys.readouterr().err
    assert old_runs.listing(loaded.run_dir) == before


def test_a_search_has_no_baselines_and_is_reported_in_the_status(experiment):
    loaded = experiment()
    go(loaded)
    with pytest.raises(InputError, match="the run is a search"):
        baselines_of(loaded.run_dir)
    text = status_text(loaded.run_dir)
    assert "confirmed-default" in text and "all  " in text and " 32    32       0        0" in text
    told = "6 of 6 configs that were suggested are evaluated (budget: 6 configs); 2 of 2 configs confirmed"
    assert f"search: {told}" in text.splitlines()
    leaf = next(loaded.run_dir.glob("001_*/normal_3/it_0"))
    TrialPaths(leaf).metrics.unlink()
    assert "search: 5 of 6 configs that were suggested" in status_text(loaded.run_dir)
    for damaged in ("", "search: {budget: 3}", "search: {budget: null}"):
        RunPaths(loaded.run_dir).experiment.write_text(damaged)
        assert "search: 5 of 6 configs that were suggested are evaluated (budget: not known);" in status_text(
            loaded.run_dir
        )


def test_an_older_study_is_refused_before_data_is_decoded(tmp_path, monkeypatch):
    experiment = load(tmp_path)
    old_runs.write_old_study(RunPaths(experiment.run_dir).search.journal)
    before = old_runs.listing(experiment.run_dir)
    monkeypatch.setattr("fcdd_sweep.sweep.session.prepare_data", lambda *given: pytest.fail("data was decoded"))
    with pytest.raises(InputError, match="study was made with version 1"):
        go(experiment)
    assert old_runs.listing(experiment.run_dir) == before

"""What a run says in sentences, and the tables behind them."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fcdd_sweep.report import class_scores, config_ranks, headline, matrices, paper_tables, text
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.figures.run_figures import RunFigures
from fcdd_sweep.report.page import config_section
from fcdd_sweep.report.result_table import found_lines, result_lines
from fcdd_sweep.report.run_files import Run, Trial, read_run
from fcdd_sweep.report.search.record import reported
from fcdd_sweep.report.summaries import DEFECT_METRICS
from fcdd_sweep.report.tables import SUMMARY_CSV, summary_table, write_csv
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.tree import RunPaths
from tests.fakes import FakeRun, key


def trial(config, name, seed, auroc, parameters="{}", **metrics):
    plan = {"config": config, "normal_class": name, "seed": seed, "parameters": parameters, "leaf": "x/it_0"}
    return Trial(plan, TrialStatus.DONE, metrics={"image_auroc": auroc} | metrics)


def run_of(tmp_path, trials):
    """A run of trials alone."""
    return Run(tmp_path, tuple(trials), (), 0, ExperimentFile(), {})


def by_config(tmp_path, values):
    """`values` by learning rate: AUROC of classes 0 and 1 by seed."""
    trials = [
        trial(
            f"rate-{rate}_limit-{limit}",
            name,
            seed,
            auroc,
            f'{{"training.learning_rate": {rate}, "anomalies.limit": {limit}}}',
        )
        for (rate, limit), by_class in values.items()
        for name, by_seed in by_class.items()
        for seed, auroc in enumerate(by_seed)
    ]
    return run_of(tmp_path, trials)


CLEAR = {(0.1, 8): {"0": [0.7, 0.72, 0.71], "1": [0.6, 0.61, 0.6]}, (0.01, 8): {"0": [0.9, 0.91, 0.9], "1": [0.8] * 3}}


def test_the_best_config_is_named_by_its_values_and_told_from_the_others(tmp_path):
    run = by_config(tmp_path, CLEAR)
    first, second = config_ranks.ranked_configs(run)
    assert first.behind is None and (first.config, second.config) == ("rate-0.01_limit-8", "rate-0.1_limit-8")
    differences = [(0.9 + 0.8) / 2 - (0.7 + 0.6) / 2, (0.91 + 0.8) / 2 - (0.72 + 0.61) / 2, 0.85 - (0.71 + 0.6) / 2]
    assert second.behind.mean == pytest.approx(np.mean(differences)) and second.behind.n == 3
    assert second.is_told_apart and config_ranks.is_decided([first, second])
    (sentence,) = headline.result_sentences(run, [first, second])
    start = "Learning rate 0.01, limit 8 is better than the other config: mean image AUROC over 2 classes 0.852, "
    assert sentence.startswith(start) and sentence.endswith("] over 3 seeds.")
    assert headline.detail_sentences(run, [first, second]) == ["Best: class 0 (0.903); worst: class 1 (0.800)."]


def test_two_seeds_decide_nothing_however_far_apart_configs_are(tmp_path):
    few = {key: {name: values[:2] for name, values in by.items()} for key, by in CLEAR.items()}
    run = by_config(tmp_path, few)
    ranked = config_ranks.ranked_configs(run)
    assert not config_ranks.is_decided(ranked)
    largest, undecided = headline.result_sentences(run, ranked)
    assert largest.endswith("among 2 configs: 0.853 over 2 seeds, too few for an interval.")
    assert undecided.startswith("Undecided against learning rate 0.1, limit 8, as there are fewer than 3 common seeds.")


def test_configs_that_overlap_cannot_be_told_apart_and_unpaired_seeds_do_not_count(tmp_path):
    close = {(0.1, 1): {"0": [0.8, 0.9, 0.7]}, (0.01, 1): {"0": [0.81, 0.88, 0.72]}}
    run = by_config(tmp_path, close)
    largest, undecided = headline.result_sentences(run, config_ranks.ranked_configs(run))
    assert largest.startswith(
        "Learning rate 0.01, limit 1 has the largest image AUROC of class 0 among 2 configs: 0.803, 95%"
    )
    assert undecided == (
        "Undecided against learning rate 0.1, limit 1, as the interval of the paired difference includes 0."
    )
    lost = {(0.1, 1): {"0": [0.8, 0.9, float("nan")]}, (0.01, 1): {"0": [0.81, 0.88, 0.72]}}
    ranked = config_ranks.ranked_configs(by_config(tmp_path, lost))
    assert ranked[1].behind.n == 2


def test_two_keys_make_a_table_of_means_with_numbers_in_order(tmp_path):
    values = {(0.1, 64): 0.7, (0.1, 8): 0.6, (0.001, 8): 0.9}
    run = by_config(tmp_path, {key: {"0": [value]} for key, value in values.items()})
    assert matrices.varied_keys(run) == ["training.learning_rate", "anomalies.limit"]
    table = matrices.two_way(run, "training.learning_rate", "anomalies.limit", "image_auroc")
    assert (table.rows, table.columns) == (("0.001", "0.1"), ("8", "64"))
    np.testing.assert_allclose(table.values, [[0.9, np.nan], [0.6, 0.7]])
    assert table.counts == ((1, 0), (1, 1))


def one_vs_rest(tmp_path):
    pairs = {("0", "1"): 0.9, ("0", "2"): 0.8, ("1", "0"): 0.7, ("1", "2"): 0.6, ("2", "0"): 0.5, ("2", "1"): 0.95}
    trials = []
    for name in "012":
        rows = [
            dict.fromkeys(DEFECT_METRICS) | {"defect": other, "n_images": 5, "image_auroc": value}
            for (own, other), value in pairs.items()
            if own == name
        ]
        plain = trial("", name, 0, 0.8)
        trials.append(Trial(plain.plan, TrialStatus.DONE, metrics=plain.metrics, defects=rows))
    return run_of(tmp_path, trials)


def test_in_one_vs_rest_defects_are_a_matrix_of_classes(tmp_path):
    run = one_vs_rest(tmp_path)
    assert matrices.is_one_vs_rest(run, "")
    table = matrices.class_matrix(run, "")
    np.testing.assert_allclose(table.values, [[np.nan, 0.9, 0.8], [0.7, np.nan, 0.6], [0.5, 0.95, np.nan]])
    assert "Hardest pair: class 2 against class 0 (0.500); easiest: class 2 against class 1 (0.950)." in (
        headline.detail_sentences(run, config_ranks.ranked_configs(run))
    )


def seed_scores(seed, scores, threshold):
    score = np.array(scores)
    label = np.array([0, 0, 0, 1, 1], np.int8)
    called = None if threshold is None else score > threshold
    path, defect = np.array(list("abcde")), np.array(["", "", "", "x", "y"])
    return class_scores.SeedScores(seed, path, label, defect, score, called, threshold)


def test_worst_mistakes_are_those_of_most_seeds_then_the_furthest():
    seeds = [seed_scores(0, [0.1, 0.6, 0.9, 0.2, 0.8], 0.5), seed_scores(1, [1, 2, 30, 40, 5], 10)]
    found = class_scores.worst_mistakes(seeds, 0)
    assert [(each.path, each.wrong, each.seeds) for each in found] == [("c", 2, 2), ("b", 1, 2)]
    missed = class_scores.worst_mistakes(seeds, 1)
    assert [(each.path, each.defect, each.wrong) for each in missed] == [("d", "x", 1), ("e", "y", 1)]
    assert [
        each.path for each in class_scores.worst_mistakes([seed_scores(0, [0.1, 0.6, 0.9, 0.2, 0.8], None)], 0, 2)
    ] == [
        "c",
        "b",
    ]


def test_the_base_rate_is_the_share_of_anomalous_images():
    trials = [trial("", "0", seed, 0.9, n_test_nominal=10, n_test_anomalous=90) for seed in (0, 1)]
    assert class_scores.base_rate(trials) == pytest.approx(0.9)
    assert np.isnan(class_scores.base_rate([trial("", "0", 0, 0.9)]))


@pytest.mark.parametrize(("best", "chosen"), [(6, "confirmed-6"), (0, "confirmed-0"), (None, None)])
def test_a_search_without_one_best_config_has_no_choice_to_show(tmp_path, best, chosen):
    plans = {f"confirmed-{number}": f'{{"search.number": {number}}}' for number in (0, 6)} | {"without": "{}"}
    trials = [trial(config, "0", 0, 0.5, plan) for config, plan in plans.items()]
    for each in trials:
        each.plan["trial_id"] = each.config
    search = SimpleNamespace(confirmation=[{"trial_id": config} for config in plans], best=best)
    assert reported(run_of(tmp_path, trials), search).chosen == chosen


def test_configs_are_to_be_chosen_on_selection_data_which_the_table_shows(tmp_path):
    trials = [
        trial(f"rate-{rate}", "0", 0, 0.8, f'{{"training.learning_rate": {rate}}}', validation_image_auroc=value)
        for rate, value in ((0.1, 0.625), (0.01, 0.75))
    ]
    run = run_of(tmp_path, trials)
    ranked = config_ranks.ranked_configs(run)
    table = str(config_section.config_table(run, ranked, RunFigures()))
    assert ">validation image AUROC<" in table and "0.625" in table and "0.750" in table
    assert "choose by the validation image AUROC." in str(config_section.comparison_note(run, ranked))
    for each in trials:
        del each.metrics["validation_image_auroc"]
    assert "validation image AUROC" not in str(config_section.config_table(run, ranked, RunFigures()))
    assert "hold images out to choose by" in str(config_section.comparison_note(run, ranked))


def test_what_is_undecided_says_why(tmp_path):
    few = by_config(tmp_path, {(0.1, 8): {"0": [0.7]}, (0.01, 8): {"0": [0.9]}})
    assert headline.result_sentences(few, config_ranks.ranked_configs(few))[1].endswith(
        "as there are fewer than 3 common seeds."
    )
    (lost, *rest) = few.trials
    lost = replace(lost, status=TrialStatus.MISSING, metrics={})
    run = run_of(tmp_path, [lost, *rest, trial(lost.config, "0", 1, 0.5, lost.plan["parameters"])])
    assert headline.result_sentences(run, config_ranks.ranked_configs(run))[1].endswith("as trials are missing.")


def test_a_variant_is_named_alone_and_its_sections_are_no_columns(tmp_path):
    plans = [f'{{"variant": "{name}", "method": "{name}", "network": {{"name": "CNN32"}}}}' for name in ("hsc", "ae")]
    run = run_of(tmp_path, [trial(name, "0", 0, 0.5, plan) for name, plan in zip(("hsc", "ae"), plans, strict=True)])
    assert text.config_words("hsc", run.parameters("hsc")) == "hsc" and matrices.varied_keys(run) == [
        "variant",
        "method",
    ]
    (sentence, *_) = headline.result_sentences(run, config_ranks.ranked_configs(run))
    assert sentence.startswith("hsc has the largest")


def test_tables_for_papers_have_intervals_and_bold_where_the_best_is_told_apart(tmp_path):
    run = by_config(tmp_path, CLEAR)
    latex = paper_tables.paper_tables(run, "latex")
    assert r"0.01 & \textbf{0.852} {\scriptsize [0.8" in latex and r"0.1 & 0.657 {\scriptsize [0.6" in latex
    markdown = paper_tables.paper_tables(run, "markdown")
    assert "| 0.01 | **0.852 [0.8" in markdown and "| 0.1 | 0.657 [0.6" in markdown
    rows = paper_tables.paper_tables(run, "csv").splitlines()
    assert rows[0].startswith("learning rate,image AUROC mean,image AUROC std,image AUROC n")
    assert float(rows[1].split(",")[1]) == pytest.approx(np.mean([0.85, 0.855, 0.85]), abs=1e-12)
    assert rows[1].split(",")[6] == "1" and rows[2].split(",")[6] == "0"


def test_names_are_escaped_for_latex():
    assert paper_tables._escaped("a_b 50% #1") == r"a\_b 50\% \#1"


def test_the_terminal_shows_classes_with_interval_and_the_best_and_worst(tmp_path):
    trials = [trial("", name, seed, auroc) for name, by in CLEAR[0.01, 8].items() for seed, auroc in enumerate(by)]
    write_csv(tmp_path / SUMMARY_CSV, summary_table(run_of(tmp_path, trials)))
    lines = result_lines(tmp_path)
    cells = [line.split() for line in lines[0].splitlines()]
    assert cells[0] == ["image", "AUROC", "95%", "interval", "seeds"]
    assert cells[1] == ["class", "0", "0.903", "[0.889,", "0.918]", "3"]
    assert cells[3][:2] == ["mean", "0.852"]
    assert lines[1:] == ["best: class 0 (0.903); worst: class 1 (0.800)"]
    searched = RunPaths(tmp_path).search.summary
    searched.parent.mkdir()
    searched.write_text("{}")
    assert result_lines(tmp_path) == lines[:1]  # the best of a search was chosen on other images


def test_without_a_report_there_is_no_table(tmp_path):
    assert result_lines(tmp_path) == [] and found_lines(tmp_path, [], {}, None) == []


def test_status_reads_finished_trials_where_the_report_is_older(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["0"], [0, 1])
    run.finish("", "0", 0, wrong=2)
    path = run.write()
    lines = found_lines(path, run.planned, {key("", "0", 0)["trial_id"]: "normal_0/it_0"}, None)
    assert lines[0].splitlines()[1].split() == ["class", "0", "0.900", "n/a", "1"]
    assert read_run(path).of("", "0")[0].value("image_auroc") == pytest.approx(0.9)


def test_a_key_that_only_some_configs_have_is_a_column_with_n_a_for_the_others(tmp_path):
    sgd = '{"training.optimizer": "sgd", "training.momentum": 0.9}'
    trials = [trial("sgd", "0", 0, 0.9, sgd), trial("adam", "0", 0, 0.8, '{"training.optimizer": "adam"}')]
    run = run_of(tmp_path, trials)
    assert matrices.varied_keys(run) == ["training.optimizer", "training.momentum"]
    ranked = config_ranks.ranked_configs(run)
    page = str(config_section.config_table(run, ranked, RunFigures()))
    rows = [re.findall(r">([^<>]+)</t[dh]>", row) for row in page.split("<tr>")[1:]]
    assert {"optimizer", "momentum"} <= set(rows[0])
    assert [[cell for cell in row if cell in ("sgd", "adam", "0.9", "n/a")][:2] for row in rows[1:]] == [
        ["sgd", "0.9"],
        ["adam", "n/a"],
    ]
    (table, _) = paper_tables.run_tables(run)
    assert [row[0] for row in table.rows] == [("sgd", "0.9"), ("adam", "n/a")]
    pairs = matrices.two_way(run, "training.optimizer", "training.momentum", "image_auroc")
    assert (pairs.rows, pairs.columns) == (("sgd", "adam"), ("0.9", "n/a")) and pairs.counts == ((1, 0), (0, 1))
    assert config_section.two_way_section(run) == ""  # no row and no column has two configs
    trials.append(trial("slow", "0", 0, 0.7, sgd.replace("0.9", "0.5")))
    assert "momentum" in str(config_section.two_way_section(run_of(tmp_path, trials)))


def test_configs_of_a_search_are_named_by_number_and_values(tmp_path):
    values = '"training.learning_rate": 0.1, "anomalies.limit": '
    plans = [
        f'{{"search.role": "confirmation", "search.number": {n}, {values}{limit}}}' for n, limit in ((0, 1), (6, 8))
    ]
    trials = [trial(f"confirmed-{n}", "0", n, 0.9 - n / 10, plan) for n, plan in enumerate(plans)]
    run = run_of(tmp_path, trials)
    ranked = config_ranks.ranked_configs(run)
    (sentence, *_) = headline.result_sentences(run, ranked)
    name = "Config 0 (default, learning rate 0.1, limit 1)"
    assert sentence.startswith(f"{name} has the largest image AUROC of class 0 among 2 confirmed configs: 0.900")
    assert text.config_words("", trials[1].parameters) == "config 6 (learning rate 0.1, limit 8)"
    chosen = replace(run, chosen="confirmed-1")  # by selection data, though the default has the larger metric
    assert headline.chosen_sentence(chosen, ranked).startswith("Config 6 (learning rate 0.1, limit 8): image AUROC of")
    assert "Classes of config 6" in paper_tables.run_tables(chosen)[1].caption
    assert "Classes of config 0" in paper_tables.run_tables(run)[1].caption and not headline.chosen_sentence(
        run, ranked
    )
    table = str(config_section.config_table(run, ranked, RunFigures()))
    assert ">config<" in table and "role" not in table
    run = run_of(tmp_path, [*trials, trial("more", "0", 0, 0.5, plans[1].replace("0.1", "0.2"))])
    assert "config" not in str(config_section.two_way_section(run)).partition("<h3>")[2].partition("</h3>")[0]

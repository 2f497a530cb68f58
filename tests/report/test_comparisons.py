"""Rows of `comparisons.parquet` and what is said of them, from trials with known metrics."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fcdd_sweep.metrics.statistics import summarize
from fcdd_sweep.report.common_values import MOST_PAIRED, ComparedEntry
from fcdd_sweep.report.comparison_text import comparison_sentences, leading_pair
from fcdd_sweep.report.comparisons import (
    clear_best,
    comparison_rows,
    deciding_rows,
    paired_summaries,
    seed_decisions,
)
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.run_files import Run, Trial
from fcdd_sweep.results import schemas
from fcdd_sweep.results.comparison_schemas import COMPARISONS
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import table_from_rows, write_rows
from fcdd_sweep.results.tree import TrialPaths
from tests.fakes import known_scores

CLASSES = [f"c{i}" for i in range(7)]


def entry(name, values, classes=CLASSES, status=TrialStatus.DONE):
    """Trials with these image AUROCs, (C, S); NaN is undefined."""
    trials = []
    for normal_class, row in zip(classes, values, strict=False):
        for seed, value in enumerate(row):
            plan = {"normal_class": normal_class, "seed": seed, "config": name}
            metrics = {"image_auroc": None if np.isnan(value) else float(value), "image_score": "score_mean"}
            trials.append(Trial(plan, status, metrics=metrics if status == TrialStatus.DONE else {}))
    return ComparedEntry(name, tuple(trials))


def noise(classes=7, seeds=4, spread=0.01, seed=0):
    return np.random.default_rng(seed).normal(0, spread, (classes, seeds))


def three(seeds=4):
    """Entries of which `a` is clearly the best, and `b` and `c` are alike."""
    return [
        entry("a", 0.9 + noise(seeds=seeds)),
        entry("b", 0.8 + noise(seeds=seeds, seed=1)),
        entry("c", 0.8 + noise(seeds=seeds, seed=2)),
    ]


def of(rows, test, first=None, second=None, normal_class=None):
    """The row of a test on a pair."""
    wanted = {"test": test, "first": first, "second": second, "normal_class": normal_class}
    (found,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return found


def test_every_row_fits_the_schema_and_names_level_family_and_numbers():
    rows = comparison_rows(three())
    assert table_from_rows(rows, COMPARISONS).num_rows == len(rows)
    row = of(rows, "paired_t", "a", "b")
    assert (row["level"], row["n"], row["n_classes"], row["n_pairs"], row["dropped"]) == ("seeds", 4, 7, 28, 0)
    assert (row["family"], row["tried"], row["better"], row["reason"]) == (3, 3, "a", None)
    assert row["p_value"] < row["p_corrected"] < 0.05 and 0 < row["corrected_low"] < row["low"] < row["estimate"]
    by_class = of(rows, "paired_t", "a", "b", "c3")
    assert by_class["family"] == 21 and by_class["n_pairs"] == 4 and by_class["n_classes"] == 1
    assert {row["level"] for row in rows} == {"seeds", "classes", "images"}


def test_the_row_of_a_class_is_the_paired_t_test_of_its_seeds():
    entries = three()
    first, second = (
        np.array([entry.by_key["c2", seed].value("image_auroc") for seed in range(4)]) for entry in entries[:2]
    )
    row, expected = of(comparison_rows(entries), "paired_t", "a", "b", "c2"), summarize(first - second)
    assert [row["estimate"], row["low"], row["high"]] == pytest.approx([expected.mean, expected.low, expected.high])
    assert row["p_value"] == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_the_level_of_classes_is_wilcoxon_s_after_friedman_s_on_means_over_seeds():
    entries = three()
    means = [
        [np.mean([entry.by_key[name, s].value("image_auroc") for s in range(4)]) for name in CLASSES]
        for entry in entries
    ]
    rows = comparison_rows(entries)
    friedman = of(rows, "friedman")
    assert (friedman["estimate"], friedman["p_value"]) == pytest.approx(tuple(stats.friedmanchisquare(*means)))
    row = of(rows, "wilcoxon", "a", "c")
    assert row["p_value"] == pytest.approx(stats.wilcoxon(means[0], means[2]).pvalue) == pytest.approx(2 / 2**7)
    assert (row["n"], row["family"], row["better"]) == (7, 3, "a") and row["p_corrected"] == pytest.approx(6 / 2**7)
    assert of(rows, "average_rank", "a")["estimate"] == 1.0


def test_the_best_is_bold_only_where_it_is_better_than_every_other():
    rows = comparison_rows(three())
    assert clear_best(rows, "image_auroc") == "a" == clear_best(rows, "image_auroc", "c0")
    assert clear_best(comparison_rows(three()[1:]), "image_auroc") is None
    close = entry("d", 0.9 + noise(seed=3))
    assert clear_best(comparison_rows([*three(), close]), "image_auroc") is None
    assert clear_best(rows, "pixel_auroc") is None


def test_a_missing_trial_is_counted_and_its_config_never_ranked():
    entries = three()
    lost = entries[0].trials[5]
    holed = ComparedEntry(
        "a", tuple(replace(t, status=TrialStatus.FAILED, metrics={}) if t is lost else t for t in entries[0].trials)
    )
    rows = comparison_rows([holed, *entries[1:]])
    row = of(rows, "paired_t", "a", "b")
    assert (row["n_pairs"], row["dropped"], row["n"]) == (27, 1, 3) and row["p_corrected"] < 0.05
    assert row["better"] is None and "1 planned pairs are missing" in row["reason"]
    for test in ("iqm", "average_rank"):
        assert of(rows, test, "a")["estimate"] is None and "missing" in of(rows, test, "a")["reason"]
        assert of(rows, test, "b")["estimate"] is not None
    assert of(rows, "wilcoxon", "a", "b")["p_value"] is None
    assert comparison_sentences(rows)[0] == "Not ranked, as trials are missing: a (1 missing or undefined)."


def test_a_class_that_no_config_has_begun_is_missing_but_one_without_the_metric_is_left_out():
    values = 0.9 + noise(classes=3)
    undefined = np.where(np.arange(3)[:, None] == 1, np.nan, 1.0)
    rows = comparison_rows([entry("a", values * undefined), entry("b", values * undefined - 0.1 + noise(3, seed=4))])
    assert (of(rows, "paired_t", "a", "b")["n_classes"], of(rows, "paired_t", "a", "b")["dropped"]) == (2, 0)
    begun = [
        ComparedEntry(
            name,
            (*entry(name, values[:2] - shift).trials, *entry(name, values[2:], ["c2"], TrialStatus.MISSING).trials),
        )
        for name, shift in (("a", 0), ("b", 0.1 + noise(2)))
    ]
    row = of(comparison_rows(begun), "paired_t", "a", "b")
    assert (row["n_classes"], row["dropped"], row["better"]) == (3, 4, None)


@pytest.mark.parametrize(
    ("entries", "test", "reason"),
    [
        (three(seeds=2), "paired_t", "too few seeds to decide: 2, needs 3"),
        (
            [entry("a", 0.9 + noise(3)), entry("b", noise(3, seed=1))],
            "wilcoxon",
            "too few classes to decide: 3, needs 6",
        ),
        ([entry("a", noise(3) * 0 + 0.9), entry("b", noise(3) * 0 + 0.9)], "paired_t", "equal with every seed"),
        ([entry("a", noise(3) * 0 + 0.9), entry("b", noise(3) * 0 + 0.8)], "paired_t", "no spread over seeds"),
    ],
)
def test_a_design_that_cannot_decide_says_what_it_needs(entries, test, reason):
    row = of(comparison_rows(entries), test, "a", "b")
    assert row["reason"].startswith(reason) and row["better"] is None
    assert any(reason in text for text in comparison_sentences(comparison_rows(entries)))


def test_one_config_gives_no_rows_and_no_common_pair_a_row_with_a_reason():
    assert comparison_rows(three()[:1]) == []
    assert comparison_sentences([]) == ["One config: nothing to compare."]
    (row,) = comparison_rows([entry("a", noise()), entry("b", noise(), [f"d{i}" for i in range(7)])])
    assert "no common pair" in row["reason"] and row["n_pairs"] == 0 and row["estimate"] is None
    assert "no common pair" in comparison_sentences([row])[0]
    waiting = [entry(name, noise(), status=TrialStatus.MISSING) for name in "ab"]
    (row,) = comparison_rows(waiting)
    assert row["reason"] == "no trial has a result yet" and row["dropped"] == 28


def test_an_undecided_pair_says_how_many_more_seeds_would_decide():
    rows = comparison_rows(three())
    row = of(rows, "paired_t", "b", "c")
    assert row["better"] is None and row["more_seeds"] > 0 and row["detectable"] > abs(row["estimate"])
    assert of(rows, "paired_t", "a", "b")["more_seeds"] is None
    alike = comparison_rows(three()[1:])
    needed = of(alike, "paired_t", "b", "c")["more_seeds"]
    assert any(f"about {needed} more seeds" in text for text in comparison_sentences(alike))
    assert leading_pair(rows, "image_auroc")["first"] == "a"


def test_of_many_configs_the_best_is_compared_with_all_and_the_family_counts_every_pair():
    count = MOST_PAIRED + 2
    entries = [entry(f"k{i}", 0.7 + 0.1 * (i == 9) + noise(2, 3, seed=i), CLASSES[:2]) for i in range(count)]
    rows = [row for row in comparison_rows(entries) if row["test"] == "paired_t" and row["normal_class"] is None]
    assert len(rows) == count - 1 and all("k9" in (row["first"], row["second"]) for row in rows)
    assert {row["family"] for row in rows} == {count * (count - 1) // 2}


def scored(folder, name, wrong, anomalous=20):
    """An entry of one class whose seeds have so many anomalous images below every nominal one, with their scores."""
    trials = []
    for trial, count in zip(entry(name, [[1 - n / anomalous for n in wrong]]).trials, wrong, strict=True):
        leaf = folder / name / str(trial.seed)
        label, score = known_scores(count, anomalous)
        blank = dict.fromkeys(schemas.SCORES.names)
        rows = [
            blank | {"split": "test", "path": f"p/{i}", "label": int(label[i]), "score_mean": float(score[i])}
            for i in np.random.default_rng(trial.seed).permutation(len(label))  # paths pair images, not their order
        ]
        leaf.mkdir(parents=True)
        write_rows(TrialPaths(leaf).scores, [*rows, rows[0] | {"split": "validation"}], schemas.SCORES)
        trials.append(replace(trial, folder=leaf))
    return ComparedEntry(name, tuple(trials))


def test_test_images_are_compared_by_delong_s_test_of_mean_aurocs(tmp_path):
    entries = [scored(tmp_path, "x", [0, 1, 2]), scored(tmp_path, "y", [6, 8, 10])]
    row = of(comparison_rows(entries), "delong", "x", "y", "c0")
    assert (row["level"], row["n"], row["n_pairs"], row["family"]) == ("images", 50, 3, 1)
    assert row["estimate"] == pytest.approx(np.mean([1.0, 0.95, 0.9]) - np.mean([0.7, 0.6, 0.5]))
    # an anomalous image is below all nominal ones with a share of the seeds: that share is what it loses
    lost = [sum(i < n for n in (6, 8, 10)) / 3 - sum(i < n for n in (0, 1, 2)) / 3 for i in range(20)]
    assert row["high"] - row["estimate"] == pytest.approx(1.959964 * np.std(lost, ddof=1) / np.sqrt(20), rel=1e-5)
    assert row["better"] == "x"


def test_other_test_images_are_not_paired(tmp_path):
    entries = [scored(tmp_path, "x", [0, 1, 2]), scored(tmp_path, "y", [6, 8, 10], anomalous=18)]
    row = of(comparison_rows(entries), "delong", "x", "y", "c0")
    assert row["reason"] == "the test images differ" and row["p_value"] is None


def test_the_paired_summaries_of_a_run_decide_as_its_table_does():
    entries = three()
    run = Run(Path("run"), tuple(trial for each in entries for trial in each.trials), (), 0, ExperimentFile(), {})
    found = paired_summaries(seed_decisions(run, "image_auroc"), "image_auroc")
    assert found == paired_summaries(comparison_rows(entries), "image_auroc")
    for row in deciding_rows(comparison_rows(entries), "image_auroc"):
        own = found[row["first"], row["second"]]
        assert (own.low > 0 or own.high < 0) == (row["better"] is not None) and own.n == 4
        assert found[row["second"], row["first"]].high == -own.low
    waiting = replace(run, trials=(replace(run.trials[0], status=TrialStatus.MISSING, metrics={}), *run.trials[1:]))
    assert np.isnan(paired_summaries(seed_decisions(waiting, "image_auroc"), "image_auroc")["a", "b"].low)
    assert seed_decisions(replace(run, trials=run.trials[:28]), "image_auroc") == []

"""What is said of a search, from entries of its study and rows of its confirmation; nothing is trained."""

from __future__ import annotations

import pytest

from fcdd_sweep.results.documents import ConfigState, PruningSummary, SearchAmounts
from fcdd_sweep.search.plan import plan_search
from fcdd_sweep.search.study import Entry
from fcdd_sweep.search.summary import summary_of
from tests import searches


@pytest.fixture
def planned(tmp_path):
    def load(*overrides):
        return plan_search(searches.load(tmp_path, *overrides))

    return load


def entry(number, score=None, state=ConfigState.DONE, **facts):
    values = {"training.learning_rate": 0.01 * (number + 1) + 1e-9, "anomalies.limit": "all"}
    scores = () if score is None else score if isinstance(score, tuple) else (score,)
    return Entry(number, values, state, scores, {"n_done": 4, "n_failed": 0, **facts}, None, None)


def confirmed(gains, default=0.8, metric="image_auroc"):
    """Rows of the best config and of the default; `gains` are the differences, None where the best failed."""
    rows = []
    for i, gain in enumerate(gains):
        pair = {"normal_class": "38"[i % 2], "seed": 2 + i // 2}
        rows.append({"role": "best", metric: None if gain is None else default + gain, **pair})
        rows.append({"role": "default", metric: default, **pair})
    return rows


def test_best_noise_and_amounts_are_those_of_the_entries(planned):
    entries = [entry(0, 0.7, value_std_error=0.01), entry(1, 0.9, value_std_error=0.03, selection_source="held out")]
    running = entry(2, state=ConfigState.RUNNING, n_done=1)
    found = summary_of(planned(), [*entries, running], [1], 0.5, [])
    assert (found.best, found.tried, found.noise, found.selection_source) == (1, 2, 0.02, "held out")
    assert found.spent == SearchAmounts(configs=3, trials=9, hours=0.5)
    assert found.budget == SearchAmounts(configs=6)
    assert (found.keys, found.log_keys) == (["training.learning_rate", "anomalies.limit"], ["training.learning_rate"])
    assert (found.classes, found.seeds, found.confirm_seeds) == (["3", "8"], [0, 1], [2, 3])
    assert found.validation == {"nominal_fraction": 0.33, "anomalies": "training", "epochs": []}
    assert found.pruning is None and found.comparison is None
    assert found.sentences == [
        "2 configs tried (tpe; 9 trials in 30:00), each evaluated by its mean validation_image_auroc over 2 classes x "
        "2 seeds, measured on held out.",
        "Best is config 1 (training.learning_rate 0.02, anomalies.limit all) with 0.9000 ± 0.0300, the noise of its "
        "images; the default config has 0.7000.",
    ]


def test_the_images_of_all_configs_are_named(planned):
    entries = [entry(number, 0.7, selection_source=f"{count} images") for number, count in enumerate((38, 40))]
    found = summary_of(planned(), entries, [0], 0.0, [])
    assert found.selection_source == "38 to 40 images"


@pytest.mark.parametrize(
    ("scores", "best", "words"),
    [
        ((0.9, 0.8), 0, "The search does not beat the default: no config that was tried has a better value."),
        ((0.9, 0.91), 1, "It leads the default by less than that noise."),
        ((), None, "No config has a value yet."),
    ],
)
def test_a_lead_that_is_none_or_within_the_noise_is_said(planned, scores, best, words):
    entries = [entry(number, score, value_std_error=0.02) for number, score in enumerate(scores)]
    found = summary_of(planned(), entries, [] if best is None else [best], 0.0, [])
    assert found.best == best and found.sentences[-1] == words


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.10, 0.11, 0.12, 0.09, 0.10, 0.11), "the search beats the default."),
        ((-0.10, -0.11, -0.12, -0.09, -0.10, -0.11), "the search does not beat the default, it is worse."),
        ((0.10, -0.11, 0.12, -0.09, 0.10, -0.11), "the search does not beat the default beyond doubt."),
        ((0.10,), "a single pair: the search is not shown to beat the default."),
        ((None, None), "The confirmation has no pair of trials to compare."),
    ],
)
def test_the_confirmation_decides_by_the_interval_of_the_paired_differences(planned, gains, words):
    found = summary_of(planned("search.confirm_seeds=3"), [entry(0, 0.7), entry(1, 0.9)], [1], 0.0, confirmed(gains))
    known = [gain for gain in gains if gain is not None]
    assert found.comparison.n == len(known) and found.sentences[-1].endswith(words)
    assert found.comparison.mean == (pytest.approx(sum(known) / len(known)) if known else None)
    assert (found.comparison.low is None) == (len(known) < 2)


def test_two_fresh_seeds_decide_nothing_as_on_the_page(planned):
    found = summary_of(planned(), [entry(0, 0.7), entry(1, 0.9)], [1], 0.0, confirmed((0.10, 0.11, 0.12, 0.09)))
    assert found.sentences[-1].endswith("An interval needs 3 seeds: it is undecided whether it beats the default.")
    assert "95%" not in found.sentences[-1]


def test_a_default_that_is_best_itself_has_nothing_to_be_compared_with(planned):
    found = summary_of(planned(), [entry(0, 0.9), entry(1, 0.7)], [0], 0.0, confirmed([0.0, 0.0]))
    assert found.sentences[-1] == (
        "The default was trained again on 2 fresh seeds; it is the best config, so there is no other to compare."
    )


def test_the_metric_of_the_confirmation_follows_that_of_the_search(planned):
    rows = confirmed([0.1, 0.2], metric="image_ap")
    found = summary_of(planned("search.metric=validation_image_ap"), [entry(0, 0.7), entry(1, 0.9)], [1], 0.0, rows)
    assert found.comparison.metric == "image_ap" and "image AP on the test set" in found.sentences[-1]


def test_pruning_counts_what_it_saved(planned):
    entries = [entry(0, 0.7, epochs_trained=12), entry(1, state=ConfigState.PRUNED, epochs_trained=4, epochs_saved=8)]
    found = summary_of(planned("search.prune={at: [1]}", "training.epochs=3"), entries, [0], 0.0, [])
    assert found.pruning == PruningSummary(configs=1, epochs_trained=16, epochs_saved=8)
    assert found.sentences[-1] == "Pruning stopped 1 config early and saved 8 of 24 epochs (33%)."


def test_several_metrics_have_a_pareto_set_and_no_best(planned):
    search = planned("search.algorithm=nsga2", "search.metric=[validation_image_auroc, final_loss]")
    found = summary_of(search, [entry(0, (0.7, 1.0)), entry(1, (0.9, 2.0))], [0, 1], 0.0, confirmed([0.1]))
    assert (found.best, found.pareto, found.comparison) == (None, [0, 1], None)
    assert found.sentences[-1] == "No other config is better than these in every metric: 0, 1."


def test_an_oracle_search_is_called_one(planned):
    found = summary_of(planned("search.metric=oracle/image_auroc"), [entry(0, 0.7)], [0], 0.0, [])
    assert found.oracle and "TEST SET (oracle)" in found.sentences[1]


@pytest.mark.parametrize(
    ("metric", "source", "words"),
    [
        ("oracle/image_auroc", "the test set (oracle)", "2 seeds, measured on the test set (oracle)."),
        ("final_loss", "", "mean final_loss over 2 classes x 2 seeds."),
        (
            "[validation_image_auroc, train_time_s]",
            "validation_image_auroc on held out",
            "2 seeds; measured: validation_image_auroc on held out.",
        ),
        (
            "[train_time_s, oracle/image_ap, validation_image_ap]",
            "oracle/image_ap on the test set (oracle); validation_image_ap on held out",
            "measured: oracle/image_ap on the test set (oracle); validation_image_ap on held out.",
        ),
    ],
)
def test_each_metric_is_said_to_be_measured_on_its_own_images(planned, metric, source, words):
    search = planned("search.algorithm=nsga2", f"search.metric={metric}")
    scores = (0.7,) * len(search.search.metrics)
    found = summary_of(search, [entry(0, scores, selection_source="held out")], [0], 0.0, [])
    assert found.selection_source == source and found.sentences[0].endswith(words)

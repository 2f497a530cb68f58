"""The value of a config: a mean over its trials, and what failed or undefined ones do to it."""

from __future__ import annotations

import pytest

from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.search.evaluator import config_line, config_value, joined_sources
from fcdd_sweep.search.study import Entry
from tests import searches
from tests.specs import spec

SPECS = [spec(seed) for seed in range(4)]


class Rows:
    """Metrics by trial; trials without a row have failed."""

    def __init__(self, *aurocs, std_error=0.1, sources=("held-out images",) * 4):
        self._rows = {
            each.trial_id: {
                "epochs": 2,
                "selection_source": source,
                "validation_image_auroc": auroc,
                "validation_image_auroc_std_error": std_error,
            }
            for each, auroc, source in zip(SPECS, aurocs, sources, strict=False)
        }

    def row(self, trial_id):
        return self._rows.get(trial_id, {})


@pytest.fixture
def value(tmp_path):
    def of(policy, rows, **options):
        experiment = searches.load(tmp_path, f"search.failed_trials={policy}")
        assert experiment.search.metrics == ["validation_image_auroc"]
        return config_value(experiment.search, SPECS, rows, **options)

    return of


def test_the_value_is_the_mean_with_the_standard_error_of_the_mean(value):
    found = value("worst", Rows(0.5, 0.7, 0.9, 0.9))
    assert found.scores == (pytest.approx(0.75),) and found.failure_policy == ""
    assert found.facts["value_std_error"] == pytest.approx(0.1 / 2)
    assert (found.facts["n_done"], found.facts["epochs_trained"]) == (4, 8)


@pytest.mark.parametrize(
    "policy, scores", [("worst", (0.4,)), ("mean_of_rest", (0.8,)), ("drop_config", ())], ids=lambda each: str(each)
)
def test_failed_trials_count_as_zero_are_left_out_or_cost_the_config_its_value(value, policy, scores):
    found = value(policy, Rows(0.7, 0.9))
    assert found.scores == pytest.approx(scores) and "2 of 4 trials" in found.failure_policy
    assert found.facts["n_failed"] == 2


def test_failed_undefined_and_unfinished_trials_are_told_apart(value):
    found = value("drop_config", Rows(0.7, None), unfinished=1)
    assert found.failure_policy == "1 of 4 trials failed, 1 undefined, 1 not finished: the config has no value"
    assert (found.facts["n_done"], found.facts["n_failed"]) == (2, 1)


def test_an_undefined_score_counts_like_a_failed_trial(value):
    assert value("worst", Rows(0.8, 0.8, 0.8, None)).scores == (pytest.approx(0.6),)


def test_without_any_score_the_mean_of_the_rest_has_no_value(value):
    assert value("mean_of_rest", Rows()).scores == ()
    assert value("worst", Rows()).scores == (0.0,)


def test_the_images_of_all_classes_are_named_with_ranges_of_their_numbers(value):
    source = "validation: {} held-out nominal training images, 500 images of data set cifar10"
    rows = Rows(0.5, 0.6, 0.7, 0.8, sources=[source.format(count) for count in (40, 38, 39, 38)])
    assert value("worst", rows).facts["selection_source"] == source.format("38 to 40")
    assert joined_sources([source.format("38 to 40"), "", source.format(41)]) == source.format("38 to 41")
    assert joined_sources([source.format(40)] * 2) == source.format(40)
    assert joined_sources(["none: fixed epochs", source.format(7)]) == f"none: fixed epochs; {source.format(7)}"
    assert joined_sources([]) == ""


@pytest.mark.parametrize(
    "state, facts, end",
    [
        (ConfigState.DONE, {"value_std_error": 0.0125}, "auroc 0.7500 ± 0.0125"),
        (ConfigState.PRUNED, {"pruned_at": 3}, "pruned at epoch 3"),
        (ConfigState.FAILED, {"failure_policy": "2 of 4 trials failed"}, "failed, 2 of 4 trials failed"),
    ],
)
def test_a_line_says_how_a_config_ended(state, facts, end):
    entry = Entry(2, {"training.learning_rate": 0.013385298778232689}, state, (0.75,), facts, None, None)
    assert config_line(entry, ["auroc"]) == f"config 2 (training.learning_rate 0.01339): {end}"


def test_the_standard_error_stands_behind_the_metric_that_it_is_of():
    entry = Entry(0, {"training.epochs": 3}, ConfigState.DONE, (0.5, 7.0), {"value_std_error": 0.03}, None, None)
    assert config_line(entry, ["auroc", "train_time_s"]).endswith(": auroc 0.5000 ± 0.0300, train_time_s 7.0000")

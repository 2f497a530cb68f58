"""The plan of a search: which trials evaluate a config, which confirm it, and which configs are refused."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.search.plan import NUMBER, ROLE, plan_search
from tests import searches


@pytest.fixture
def planned(tmp_path):
    def load(*overrides, text=searches.EXPERIMENT):
        return plan_search(searches.load(tmp_path, *overrides, text=text))

    return load


def test_a_config_is_evaluated_without_the_test_set_and_confirmed_with_it_on_fresh_seeds(planned):
    search = planned()
    config = search.config(3, {"training.learning_rate": 0.02, "anomalies.limit": 8})
    evaluating, confirming = search.judging(config), search.confirming(config)
    assert [(spec.normal_class, spec.seed) for spec in evaluating] == [("3", 0), ("8", 0), ("3", 1), ("8", 1)]
    assert [(spec.normal_class, spec.seed) for spec in confirming] == [("3", 2), ("8", 2), ("3", 3), ("8", 3)]
    assert {spec.settings.evaluation.test for spec in evaluating} == {False}
    assert {spec.settings.evaluation.test for spec in confirming} == {True}
    assert {spec.settings.training.learning_rate for spec in (*evaluating, *confirming)} == {0.02}
    assert {spec.config_name for spec in confirming} == {f"confirmed-{config.name}"}


def test_trials_know_their_role_and_the_number_of_their_config(planned):
    search = planned()
    config = search.config(3, {"training.learning_rate": 0.02, "anomalies.limit": 8})
    for spec in search.judging(config):
        assert spec.parameters == {
            ROLE: "evaluation", NUMBER: 3, "training.learning_rate": 0.02, "anomalies.limit": 8
        }  # fmt: skip
    assert {spec.parameters[ROLE] for spec in search.confirming(config)} == {"confirmation"}


def test_the_plan_of_a_search_is_its_default_config(planned):
    search = planned()
    assert [spec.trial_id for spec in search.judging(search.config(0, search.space.default()))] == [
        spec.trial_id for spec in search.plan.specs
    ]
    assert search.fresh == (2, 3)


def test_examples_read_the_data_of_all_classes_and_of_the_ends_of_the_space(planned):
    search = planned("search.classes=['8']")
    examples = search.examples()
    assert {spec.normal_class for spec in examples} == {"3", "8"}
    assert {spec.settings.anomalies.limit for spec in examples} >= {1, "all"}


def test_values_that_contradict_each_other_are_an_error(planned):
    search = planned("images.load_size=40", text=searches.SIZES)
    assert search.config(1, {"images.load_size": 40, "images.size": 32}).settings.images.size == 32
    with pytest.raises(ExperimentError, match="images"):
        search.config(2, {"images.load_size": 28, "images.size": 32})


def test_an_experiment_without_a_search_has_no_plan_of_one(planned):
    with pytest.raises(ExperimentError, match="search=null: the experiment has no search"):
        planned("search=null")

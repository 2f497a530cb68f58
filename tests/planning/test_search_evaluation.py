"""The trials by which a search evaluates and confirms configs: seeds, classes, and a test set that stays shut."""

from __future__ import annotations

import pytest

from fcdd_sweep.data.scanning import dataset_facts
from fcdd_sweep.planning.search_evaluation import (
    as_evaluated,
    evaluation_class_problems,
    evaluation_classes,
    evaluation_seeds,
    fresh_seeds,
)
from tests import searches


@pytest.fixture
def loaded(tmp_path):
    def load(*overrides):
        experiment = searches.load(tmp_path, *overrides)
        return experiment, experiment.search, dataset_facts(experiment.dataset)

    return load


def test_fresh_seeds_follow_all_others_and_are_as_many_as_those_of_the_file(loaded):
    experiment, search, _ = loaded("seeds=[3, 7]", "search.seeds=[1]")
    assert evaluation_seeds(experiment, search) == [1]
    assert fresh_seeds(experiment, search) == [8, 9]


@pytest.mark.parametrize("asked, seeds", [("4", [2, 3, 4, 5]), ("[40, 50]", [40, 50])])
def test_confirmation_seeds_can_be_counted_or_listed(loaded, asked, seeds):
    experiment, search, _ = loaded(f"search.confirm_seeds={asked}")
    assert fresh_seeds(experiment, search) == seeds


def test_a_search_holds_images_out_and_leaves_the_test_set_alone(loaded):
    experiment, search, facts = loaded()
    evaluated = as_evaluated(experiment, search, facts).evaluation
    assert not evaluated.test and evaluated.validation.nominal_fraction > 0
    experiment, search, facts = loaded("search.metric=oracle/image_auroc")
    assert as_evaluated(experiment, search, facts).evaluation.test


def test_classes_of_a_search_are_some_of_the_experiments(loaded):
    experiment, search, facts = loaded("search.classes=['8', '8']")
    assert evaluation_classes(search, experiment, facts) == ("8",)
    assert not evaluation_class_problems(search, experiment, facts)
    experiment, search, facts = loaded("search.classes=['5']")
    (problem,) = evaluation_class_problems(search, experiment, facts)
    assert problem.allowed == "3, 8"

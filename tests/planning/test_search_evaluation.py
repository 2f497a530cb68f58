"""The trials by which a search evaluates and confirms configs: seeds, classes, and a test set that stays shut."""

from __future__ import annotations

import json

import pytest

from fcdd_sweep.data.scanning import dataset_facts
from fcdd_sweep.planning.plan import plan
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


@pytest.mark.parametrize(("given", "held_out"), [({}, 0.33), ({"nominal_fraction": 0.2}, 0.2)])
def test_what_a_file_leaves_out_of_validation_is_a_search_s_default(loaded, given, held_out):
    experiment, search, facts = loaded(f"evaluation.validation={json.dumps(given)}")
    validation = as_evaluated(experiment, search, facts).evaluation.validation
    assert (validation.nominal_fraction, validation.anomalies) == (held_out, "training")
    experiment, search, facts = loaded("evaluation.validation={nominal_fraction: 0.2, anomalies: blob}")
    assert as_evaluated(experiment, search, facts).evaluation.validation == experiment.evaluation.validation


@pytest.mark.parametrize(
    ("metric", "score", "words"),
    [
        ("validation_image_auroc", "mean", None),
        ("validation_image_auroc", "max", "compares configs by the mean of the anomaly map, whatever"),
        ("validation_image_auroc", "auto", "validation_image_auroc_max compares them by the largest heatmap value"),
        ("validation_image_auroc_max", "max", None),
        ("validation_image_auroc_max", "auto", "the confirmation goes by evaluation.image_score: set that to max, too"),
        ("final_loss", "max", None),
    ],
)
def test_a_search_that_compares_by_another_score_than_it_decides_by_is_noted(loaded, metric, score, words):
    experiment, _, _ = loaded(f"search.metric={metric}", f"evaluation.image_score={score}")
    notes = [note for note in plan(experiment).notes if note.startswith("search.metric")]
    assert len(notes) == (words is not None)
    assert all(words in note for note in notes)


def test_an_own_value_outside_of_the_space_is_noted(loaded):
    experiment, _, _ = loaded("training.learning_rate=7")
    (note,) = [note for note in plan(experiment).notes if "search.space" in note]
    assert note.startswith("the file's own training.learning_rate, 7.0, is outside of search.space")


def test_classes_of_a_search_are_some_of_the_experiments(loaded):
    experiment, search, facts = loaded("search.classes=['8', '8']")
    assert evaluation_classes(search, experiment, facts) == ("8",)
    assert not evaluation_class_problems(search, experiment, facts)
    experiment, search, facts = loaded("search.classes=['5']")
    (problem,) = evaluation_class_problems(search, experiment, facts)
    assert problem.allowed == "3, 8"

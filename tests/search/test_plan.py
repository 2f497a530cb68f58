"""The plan of a search: what it builds and scans, and which trials evaluate and confirm a config."""

from __future__ import annotations

from collections import Counter

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.search_space import Space
from fcdd_sweep.planning import sections
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results.search_schemas import NUMBER, ROLE
from fcdd_sweep.search.plan import plan_search
from tests import searches
from tests.searches import go, load, table

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.fixture
def counted(monkeypatch):
    """Counts the configs that are built, by number, and the scans of planning, by data set and images."""
    built, scans = Counter(), Counter()
    build, scan = Space.config, sections.scan_dataset

    def config(space, number, values):
        built[number] += 1
        return build(space, number, values)

    def scan_dataset(dataset, images):
        scans[dataset.model_dump_json(), images.model_dump_json()] += 1
        return scan(dataset, images)

    monkeypatch.setattr(Space, "config", config)
    monkeypatch.setattr(sections, "scan_dataset", scan_dataset)
    return built, scans


def test_a_search_builds_each_config_once_and_scans_the_disk_once(tmp_path, counted):
    built, scans = counted
    experiment = load(tmp_path, "search.budget.configs=5")
    go(experiment)
    assert len(table(experiment)) == 5
    assert built == dict.fromkeys(range(5), 1)
    assert list(scans.values()) == [1]


def test_a_search_that_was_planned_is_not_planned_again(tmp_path, counted):
    built, scans = counted
    planned = plan(load(tmp_path, "search.budget.configs=5"))
    result, _ = go(planned)
    assert result.done == result.planned > 0
    assert built == dict.fromkeys(range(5), 1)
    assert list(scans.values()) == [1]


def test_a_config_is_found_by_number_and_values(tmp_path):
    planned = plan_search(load(tmp_path))
    values = {"training.learning_rate": 0.01, "anomalies.limit": 8}
    first = planned.config(1, values)
    assert planned.config(1, dict(values)) is first
    assert planned.config(2, values).name != first.name
    assert planned.config(1, {**values, "anomalies.limit": 32}).settings.anomalies.limit == 32
    own = planned.config(0, values)
    assert own.settings == planned.plan.configs[0].settings and own.name == "default"
    assert own.parameters == {"search.number": 0, **values}


@pytest.fixture
def planned_search(tmp_path):
    def load(*overrides, text=searches.EXPERIMENT):
        return plan_search(searches.load(tmp_path, *overrides, text=text))

    return load


def test_a_config_is_evaluated_without_the_test_set_and_confirmed_with_it_on_fresh_seeds(planned_search):
    search = planned_search()
    config = search.config(3, {"training.learning_rate": 0.02, "anomalies.limit": 8})
    evaluating, confirming = search.evaluating(config), search.confirming(config)
    assert [(spec.normal_class, spec.seed) for spec in evaluating] == [("3", 0), ("8", 0), ("3", 1), ("8", 1)]
    assert [(spec.normal_class, spec.seed) for spec in confirming] == [("3", 2), ("8", 2), ("3", 3), ("8", 3)]
    assert {spec.settings.evaluation.test for spec in evaluating} == {False}
    assert {spec.settings.evaluation.test for spec in confirming} == {True}
    assert {spec.settings.training.learning_rate for spec in (*evaluating, *confirming)} == {0.02}
    assert {spec.config_name for spec in confirming} == {f"confirmed-{config.name}"}


def test_trials_know_their_role_and_the_number_of_their_config(planned_search):
    search = planned_search()
    config = search.config(3, {"training.learning_rate": 0.02, "anomalies.limit": 8})
    for spec in search.evaluating(config):
        assert spec.parameters == {
            ROLE: "evaluation", NUMBER: 3, "training.learning_rate": 0.02, "anomalies.limit": 8
        }  # fmt: skip
    assert {spec.parameters[ROLE] for spec in search.confirming(config)} == {"confirmation"}


def test_the_plan_of_a_search_is_its_default_config(planned_search):
    search = planned_search()
    assert [spec.trial_id for spec in search.evaluating(search.config(0, search.space.default()))] == [
        spec.trial_id for spec in search.plan.specs
    ]
    assert search.fresh == (2, 3)


def test_examples_read_the_data_of_all_classes_and_of_the_ends_of_the_space(planned_search):
    search = planned_search("search.classes=['8']")
    examples = search.examples()
    assert {spec.normal_class for spec in examples} == {"3", "8"}
    assert {spec.settings.anomalies.limit for spec in examples} >= {1, "all"}


def test_values_that_contradict_each_other_are_an_error(planned_search):
    search = planned_search("images.load_size=40", text=searches.SIZES)
    assert search.config(1, {"images.load_size": 40, "images.size": 32}).settings.images.size == 32
    with pytest.raises(ExperimentError, match="images"):
        search.config(2, {"images.load_size": 28, "images.size": 32})


def test_an_experiment_without_a_search_has_no_plan_of_one(planned_search):
    with pytest.raises(ExperimentError, match="search=null: the experiment has no search"):
        planned_search("search=null")

"""The plan of a search: what it builds and scans, counted."""

from __future__ import annotations

from collections import Counter

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.search_space import Space
from fcdd_sweep.planning import sections
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.search.plan import plan_search
from tests.searches import go, load, table

pytestmark = pytest.mark.usefixtures("without_search_report")


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


def test_an_experiment_without_a_search_has_no_plan_of_one(tmp_path):
    with pytest.raises(ExperimentError, match="the experiment has no search"):
        plan_search(load(tmp_path, "search=null"))

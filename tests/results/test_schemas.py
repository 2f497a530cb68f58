"""Columns are declared once, each with its meaning, and every table states its version."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fcdd_sweep.results import schemas, search_schemas

DECLARED = {**vars(schemas), **vars(search_schemas)}
TABLES = {name: value for name, value in DECLARED.items() if isinstance(value, pa.Schema)}


def test_all_tables_are_looked_at():
    assert {"HISTORY", "SCORES", "METRICS", "PLAN", "INDEX", "FAILURES", "CONFIRMATION", "DIFFERENCES"} <= TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_states_its_version_and_each_column_its_meaning(name):
    table = TABLES[name]
    assert table.metadata == {b"fcdd_sweep.tables": b"3"}
    assert len(set(table.names)) == len(table.names)
    for field in table:
        meaning = field.metadata[b"meaning"].decode()
        assert meaning and not meaning.endswith(".") and "|" not in meaning, field.name


def test_parameters_of_trials_follow_by_name_and_those_of_a_search_in_the_order_of_its_space():
    parameters = {"training.momentum": schemas.REAL, "anomalies.limit": schemas.TEXT}
    trials, configs = schemas.trials_schema(parameters), search_schemas.search_configs_schema(parameters)
    assert trials.names[-2:] == ["param.anomalies.limit", "param.training.momentum"]
    assert configs.names[-2:] == ["param.training.momentum", "param.anomalies.limit"]
    assert configs.field("param.training.momentum").type == pa.float64()
    assert configs.metadata == trials.metadata == {b"fcdd_sweep.tables": b"3"}


def test_every_metric_of_a_trial_is_in_the_table_of_all_trials():
    missing = set(schemas.METRICS.names) - set(schemas.trials_schema({}).names)
    assert missing == {"attempt"}

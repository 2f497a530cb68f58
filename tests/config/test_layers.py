"""Layers of an experiment: what an upper layer merges, replaces whole, and where each key was written."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import SourceLine
from fcdd_sweep.config.layers import ConfigLayer, nest, overlay, split_key, value_at_key


def over(lower, upper):
    return overlay(ConfigLayer(upper), ConfigLayer(lower)).tree


def test_mappings_are_merged_key_by_key_and_lists_replaced():
    lower = {"training": {"epochs": 3, "batch_size": 8}, "seeds": [0, 1]}
    assert over(lower, {"training": {"epochs": 5}, "seeds": [2]}) == {
        "training": {"epochs": 5, "batch_size": 8},
        "seeds": [2],
    }


@pytest.mark.parametrize(
    "lower, upper, kept",
    [
        ({"schedule": {"type": "exponential", "factor": 0.9}}, {"schedule": {"type": "steps"}}, {"type": "steps"}),
        (
            {"schedule": {"type": "exponential", "factor": 0.9}},
            {"schedule": {"factor": 0.5}},
            {"type": "exponential", "factor": 0.5},
        ),
    ],
    ids=["another type", "same type"],
)
def test_a_schedule_of_another_type_loses_the_keys_of_the_first(lower, upper, kept):
    assert over({"training": lower}, {"training": upper}) == {"training": {"schedule": kept}}


def test_a_mode_without_source_drops_the_source_of_the_layer_below():
    lower = {"anomalies": {"mode": "noise", "source": {"folder": "exposure"}, "limit": 8}}
    assert over(lower, {"anomalies": {"mode": "other"}}) == {"anomalies": {"mode": "other"}}
    assert over(lower, {"anomalies": {"mode": "malformed_normal"}})["anomalies"]["limit"] == 8


def test_a_key_says_where_it_was_written_last_and_a_replaced_mapping_forgets():
    first, second = SourceLine("first.yaml", 2), SourceLine("second.yaml", 7)
    lower = ConfigLayer({"grid": {"training.epochs": [1]}}, {("grid", "training.epochs"): first, ("grid",): first})
    upper = ConfigLayer({"grid": {}}, {("grid",): second})
    assert overlay(upper, lower).places == {("grid",): second}


def test_the_key_after_grid_variants_and_space_is_not_split():
    assert split_key("training.epochs") == ("training", "epochs")
    assert split_key("grid.training.epochs") == ("grid", "training.epochs")
    assert split_key("variants.slow.training.epochs") == ("variants", "slow", "training.epochs")
    assert split_key("search.space.training.epochs") == ("search", "space", "training.epochs")
    assert split_key("search.budget.configs") == ("search", "budget", "configs")


def test_nesting_a_key_and_reading_it_are_inverse():
    key = ("training", "schedule", "factor")
    assert value_at_key(nest(key, 0.5), key) == 0.5
    assert value_at_key({"training": 3}, key) is None

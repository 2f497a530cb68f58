"""What is said of a search that is not the one its study was made for."""

from __future__ import annotations

import pytest

from fcdd_sweep.search.changed_search import changed_text

AXIS = {"log": [0.001, 0.1], "float": None, "choices": None, "when": {}}
EARLIER = {
    "settings": {"training": {"epochs": 3, "optimizer": "adam"}},
    "classes": ["3", "8"],
    "seeds": [0, 1],
    "space": {"training.learning_rate": AXIS},
    "metric": "final_loss",
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        ({"settings": {"training": {"epochs": 3}}}, "training.optimizer 'adam' (here its default)"),
        ({"seeds": [0]}, "seeds of the search [0, 1] (here [0])"),
        ({"metric": "train_time_s"}, "search.metric 'final_loss' (here 'train_time_s')"),
        (
            {"space": {"training.learning_rate": AXIS | {"log": None, "choices": [1, 2]}}},
            "search.space.training.learning_rate.log [0.001, 0.1] (here not set), "
            "search.space.training.learning_rate.choices not set (here [1, 2])",
        ),
        (
            {"settings": {}, "classes": ["3"], "seeds": [0], "metric": "train_time_s"},
            "training.epochs 3 (here its default), training.optimizer 'adam' (here its default), "
            "classes of the search ['3', '8'] (here ['3']), and 2 more",
        ),
    ],
)
def test_each_changed_key_is_named_with_both_values(changes, text):
    assert changed_text(EARLIER, EARLIER | changes) == text

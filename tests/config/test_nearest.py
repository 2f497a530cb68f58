"""The nearest valid name: misspelled, abbreviated, without its section."""

import pytest

from fcdd_sweep.config.grid import KNOWN_KEYS
from fcdd_sweep.config.nearest import closest, nearest


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ("training.lr", "training.learning_rate"),
        ("trainng.lr", "training.learning_rate"),
        ("training.learning-rate", "training.learning_rate"),
        ("train.batch", "training.batch_size"),
        ("lr", "training.learning_rate"),
        ("epochs", "training.epochs"),
        ("batch", "training.batch_size"),
        ("training.limit", "anomalies.limit"),
        ("seed", "seeds"),
        ("retries", "faults.retries"),
        ("prepocessing", "preprocessing"),
        ("search.space", "search.space"),
    ],
)
def test_a_key_is_found_by_its_parts_its_initials_or_its_beginning(found, meant):
    assert nearest(found, KNOWN_KEYS) == meant


@pytest.mark.parametrize("found", ["training.zzz", "zzz", "x.y.z"])
def test_a_key_that_resembles_nothing_has_no_nearest_one(found):
    assert nearest(found, KNOWN_KEYS) is None and closest(found, KNOWN_KEYS) == ""


@pytest.mark.parametrize(
    ("found", "meant"), [("mv", "mvtec"), ("cifar", "cifar10"), ("digts", "digits"), ("cifar100", "cifar100")]
)
def test_a_name_is_found_by_its_beginning_or_its_letters(found, meant):
    assert nearest(found, ["digits", "mvtec", "cifar100", "cifar10"]) == meant

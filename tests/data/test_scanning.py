"""What is found of a data set without decoding it: facts of the registry, and every wrong setting at once."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets import solar
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.records import wanted_classes
from fcdd_sweep.data.registry import DATA_SETS, info
from fcdd_sweep.data.scanning import check_dataset, dataset_facts

GRAY = Images(load_size=16, size=16, color="gray")


def test_without_the_extra_solar_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solar, "find_spec", lambda name: None)
    (problem,) = check_dataset(Dataset(name="solar"), GRAY)
    assert "needs the package elpv-dataset, which is not installed" in str(problem)
    assert "pip install elpv-dataset" in str(problem)


@pytest.mark.parametrize("name", ["digits", "textures", "solar"])
def test_what_the_registry_knows_needs_no_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, dataset = info(name), Dataset(name=name)
    monkeypatch.setattr("fcdd_sweep.data.scanning.module_of", None)
    facts = dataset_facts(dataset)
    assert (facts.classes, facts.protocol) == (known.classes, known.protocol)
    assert (facts.maps, facts.trains_with_anomalies) == (known.maps, known.trains_with_anomalies)


def test_every_registered_data_set_says_how_to_get_it() -> None:
    assert all(entry.get and entry.title and name == entry.name for name, entry in DATA_SETS.items())
    assert all(entry.needs_root for entry in DATA_SETS.values() if entry.protocol is None)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            Dataset(name="solar", options={"treshold": 0.5}),
            "dataset.options.treshold: 'solar' has no such option. Allowed: threshold. Closest: 'threshold'.",
        ),
        (Dataset(name="solar", options={"threshold": 1.5}), "options.threshold: found 1.5. Allowed: 0.0 to 0.99."),
        (Dataset(name="solar", options={"threshold": "high"}), "options.threshold: found 'high'. Allowed: a number."),
        (Dataset(name="solar", options={"threshold": True}), "options.threshold: found True. Allowed: a number."),
        (
            Dataset(name="textures", options={"regions": "selecton"}),
            "found 'selecton'. Allowed: reporting, selection. Closest: 'selection'.",
        ),
        (Dataset(name="digits", options={"size": 3}), "'digits' has no such option. Allowed: none."),
        (
            Dataset(name="digits", protocol="defects"),
            "dataset.protocol: 'digits' is always one_vs_rest, found defects. Remove the key.",
        ),
        (Dataset(name="mvtec"), "dataset.root: 'mvtec' needs a folder. Download MVTec-AD from https://www.mvtec.com"),
        (Dataset(name="mvtec", root="/nowhere/at/all"), "dataset.root: there is no folder /nowhere/at/all. Download"),
        (Dataset(name="folder"), "dataset.root: 'folder' needs a folder. Set dataset.root to a folder with CLASS/"),
    ],
)
def test_wrong_settings_of_a_data_set_are_reported(dataset: Dataset, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_corpus(dataset, GRAY)
    assert message in str(caught.value)
    assert [str(problem) for problem in check_dataset(dataset, GRAY)] == str(caught.value).splitlines()


def test_all_wrong_settings_are_reported_at_once() -> None:
    dataset = Dataset(name="mvtec", protocol="one_vs_rest", options={"a": 1, "b": 2})
    assert len(check_dataset(dataset, GRAY)) == 4


def test_classes_that_do_not_exist_leave_nothing_to_load() -> None:
    (problem,) = check_dataset(Dataset(name="textures", classes=["wool"]), GRAY)
    assert str(problem) == "dataset.classes: names no class of 'textures'. Allowed: brick, grass, gravel."


def test_wanted_classes_are_found_by_name_and_by_index_in_the_order_of_the_data_set() -> None:
    assert wanted_classes(Dataset(name="x", classes=["c", 0]), ("a", "b", "c")) == ("a", "c")
    assert wanted_classes(Dataset(name="x"), ("a", "b")) == ("a", "b")

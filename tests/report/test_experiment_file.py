"""The one reader of a run's experiment file."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.schema import Heatmaps, Resources
from fcdd_sweep.report import experiment_file
from fcdd_sweep.report.experiment_file import ExperimentFile

TEXT = """
dataset: {name: digits, classes: ["3", "8"]}
training: {optimizer: sgd, learning_rate: 7, epochs: 2, threads: 3}
heatmaps: {color_quantile: 0.9, blur: true}
resources: {trials_per_gpu: 2}
variants: {wide: {network.name: FCDD_CNN28_W}}
search: {metric: image_auroc, space: {images.color: {choices: [gray, rgb]}, training.learning_rate: {range: [0, 1]}}}
"""


def test_sections_are_read_by_their_schemas():
    file = ExperimentFile(TEXT)
    assert (file.heatmaps.color_quantile, file.heatmaps.blur) == (0.9, True)
    assert (file.resources.trials_per_gpu, file.threads) == (2, 3)
    assert file.search["metric"] == "image_auroc"
    assert file.search_choices == {"images.color": ["gray", "rgb"]}


@pytest.mark.parametrize("text", ["", "a: [", "just text", "heatmaps: {blur: 3}\nresources: 1\ntraining: 2\nsearch: 4"])
def test_a_missing_or_damaged_file_has_defaults(text):
    file = ExperimentFile(text)
    assert (file.heatmaps, file.resources, file.threads) == (Heatmaps(), Resources(), 1)
    assert file.search == file.search_choices == {}
    assert file.overview({"": {}}) == []


def test_the_text_is_parsed_once(monkeypatch):
    parsed, plain = [], experiment_file.YAML.load

    def load(self, text):
        parsed.append(text)
        return plain(self, text)

    monkeypatch.setattr(experiment_file.YAML, "load", load)
    file = ExperimentFile(TEXT)
    assert parsed == []
    for _ in range(3):
        assert file.heatmaps and file.resources and file.search and file.overview({"": {}})
    assert len(parsed) == 1


def test_a_config_has_its_variant_and_its_own_values_over_those_of_the_file():
    settings = ExperimentFile(TEXT).settings({"variant": "wide", "training.learning_rate": 0.5})
    assert settings["network"] == "FCDD_CNN28_W"
    assert settings["optimizer, learning rate"] == "sgd, 0.5"
    assert settings["classes"] == "3, 8"
    rate = ExperimentFile(TEXT).settings({"training.learning_rate": 0.013385298778232689})["optimizer, learning rate"]
    assert rate == "sgd, 0.01339"
    assert "preprocessing" not in settings


@pytest.mark.parametrize(("seeds", "text"), [("1", "0"), ("5", "0 to 4"), ("[3, 8]", "3, 8")])
def test_a_number_of_seeds_is_shown_as_the_seeds(seeds, text):
    assert ExperimentFile(f"seeds: {seeds}").settings({})["seeds"] == text


def overview(rates):
    return dict(ExperimentFile(TEXT).overview({f"rate-{rate}": {"training.learning_rate": rate} for rate in rates}))


def test_settings_that_differ_are_listed_by_config():
    assert overview([1, 2])["optimizer, learning rate"] == "sgd, 1 (rate-1); sgd, 2 (rate-2)"
    assert overview([1, 2])["epochs"] == "2"
    assert overview(range(5))["optimizer, learning rate"] == "by config: " + "; ".join(f"sgd, {i}" for i in range(5))

"""Grid and variants: which configs there are, what their folders are called, what each inherits."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcdd_sweep.config.grid import configs_of
from tests.broken import HEAD


def names_and_parameters(experiment):
    return {config.name: config.parameters for config in configs_of(experiment)}


def test_without_grid_and_variants_there_is_one_config_without_a_name(load):
    assert names_and_parameters(load(HEAD)) == {"": {}}


def test_variants_and_grid_are_crossed_and_every_config_has_every_parameter(load):
    text = (
        "variants: {scratch: {network.bias: false}, plain: {}}\ngrid: {anomalies.limit: [1, 8], training.epochs: [3]}\n"
    )
    found = names_and_parameters(load(HEAD + text))
    assert list(found) == [
        "scratch_limit-1_epochs-3", "scratch_limit-8_epochs-3", "plain_limit-1_epochs-3", "plain_limit-8_epochs-3",
    ]  # fmt: skip
    assert found["plain_limit-8_epochs-3"] == {
        "variant": "plain", "network.bias": True, "anomalies.limit": 8, "training.epochs": 3,
    }  # fmt: skip
    assert len({config.config_id for config in configs_of(load(HEAD + text))}) == 4


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ("training.learning_rate: [0.001, 1e-7]", ["learning_rate-0.001", "learning_rate-1e-07"]),
        ("network.name: [FCDD_CNN28]", ["network-FCDD_CNN28"]),
        ("network.bias: [true, false]", ["bias-true", "bias-false"]),
        ("heatmaps.kernel_std_px: [null, 1.5]", ["kernel_std_px-null", "kernel_std_px-1.5"]),
        ("anomalies: [{mode: noise, source: {dataset: textures}}]", ["anomalies-noise-textures"]),
        ("anomalies.mode: [unsupervised, other]", ["mode-unsupervised", "mode-other"]),
        (
            "training.schedule: [{type: milestones, milestones: [3, 5]}, {type: exponential, factor: 0.9}]",
            ["schedule-milestones-3-5", "schedule-exponential-0.9"],
        ),
    ],
)
def test_a_configs_folder_is_readable_and_no_partition(load, grid, names):
    assert list(names_and_parameters(load(HEAD + f"grid: {{{grid}}}\n"))) == names
    assert not any("=" in name for name in names)


def test_folders_that_would_fall_together_get_a_part_of_the_configs_id(load):
    text = HEAD.replace("digits", "folder") + "grid:\n  network.name: [AB, aB, ab, c]\n"
    names = list(names_and_parameters(load(text)))
    assert [name[: name.rindex("_")] for name in names[:3]] == ["network-AB", "network-aB", "network-ab"]
    assert names[3] == "network-c"
    assert len({name.casefold() for name in names}) == 4


def test_very_long_names_are_cut_and_stay_apart(load):
    long = "x" * 300
    names = list(names_and_parameters(load(HEAD + f"grid:\n  network.name: [{long}1, {long}2]\n")))
    assert len(set(names)) == 2
    assert max(map(len, names)) < 140


def test_a_values_order_in_the_file_does_not_matter(load):
    one = load(HEAD + "grid: {anomalies.source: [solid], anomalies.mode: [noise]}\n")
    other = load(HEAD + "grid: {anomalies.mode: [noise], anomalies.source: [solid]}\n")
    assert [c.config_id for c in configs_of(one)] == [c.config_id for c in configs_of(other)]


def test_a_grid_of_networks_keeps_bias_and_weights(load):
    text = HEAD + "network: {bias: false, weights: none}\ngrid: {network.name: [FCDD_CNN28, FCDD_CNN32_S]}\n"
    networks = [config.settings.network for config in configs_of(load(text))]
    assert [(network.name, network.bias, network.weights) for network in networks] == [
        ("FCDD_CNN28", False, "none"),
        ("FCDD_CNN32_S", False, "none"),
    ]


def test_a_backbone_takes_the_place_of_a_presets_network(load):
    network = load(HEAD, "network.backbone=resnet18", "network.node=layer1").network
    assert (network.name, network.backbone, network.node) == (None, "resnet18", "layer1")


def test_where_a_source_is_can_be_set_alone(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = HEAD.replace("digits", "cifar10") + "dataset: {root: ~/data}\n"
    source = load(text, "anomalies.source.root=~/exposure").anomalies.source
    assert (source.dataset, source.root) == ("cifar100", tmp_path / "exposure")
    reported = load(text, "anomalies.source.dataset=emnist", "anomalies.source.root=/e").anomalies.source
    assert (reported.dataset, reported.root) == ("emnist", Path("/e"))
    assert load(text, f"anomalies.source={{folder: {tmp_path}}}").anomalies.source.folder == tmp_path


def test_a_config_has_no_value_of_a_key_that_it_does_not_use(load):
    variants = (
        "variants:\n  sgd: {training.optimizer: sgd, training.momentum: 0.9}\n  adam: {training.optimizer: adam}\n"
    )
    found = names_and_parameters(load(HEAD + variants))
    assert [values.get("training.momentum") for values in found.values()] == [0.9, None]
    assert "training.momentum" not in found["adam"] and found["adam"]["training.optimizer"] == "adam"

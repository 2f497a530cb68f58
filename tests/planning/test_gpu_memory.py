"""Trials share a GPU as its memory allows."""

from __future__ import annotations

import os

import pytest

from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.planning import describe, gpu_memory
from fcdd_sweep.planning.checks import Machine
from fcdd_sweep.planning.gpu_memory import card_memory, need_of, sharing_of
from fcdd_sweep.planning.plan import plan_file
from tests.specs import settings

GIB = 1024


def of_preset(name: str) -> Settings:
    return Settings.model_validate(PRESETS[name].tree)


def test_every_network_has_been_measured():
    assert gpu_memory._TABLE.keys() == NETWORKS.keys()


@pytest.mark.parametrize(
    ("preset", "card_gib", "trials"),
    [
        ("fmnist", 8, 3),
        ("fmnist", 24, 4),
        ("mvtec", 8, 1),
        ("mvtec", 24, 4),
        ("imagenet", 24, 1),
        ("imagenet", 78, 3),  # never four of 19.8 GiB
        ("imagenet", 139, 4),
    ],
)
def test_as_many_trials_of_a_preset_share_a_card_as_it_holds(preset, card_gib, trials):
    sharing = sharing_of([of_preset(preset)], card_gib * GIB)
    assert sharing.trials == trials
    assert sharing.trials * need_of(of_preset(preset)).mib <= card_gib * GIB


def test_a_card_that_holds_no_trial_gets_one_and_the_reason_says_so():
    sharing = sharing_of([of_preset("imagenet")], 16 * GIB)
    assert sharing.trials == 1 and sharing.reason.endswith("but the card has 16 GiB: it may run out of memory")


def test_the_config_that_needs_most_decides_and_what_is_asked_for_stands():
    small, large = of_preset("fmnist"), of_preset("imagenet")
    assert sharing_of([small, large], 78 * GIB).trials == 3
    asked = small.model_copy(update={"resources": small.resources.model_copy(update={"trials_per_gpu": 7})})
    assert sharing_of([asked, large], 78 * GIB) == (7, "resources.trials_per_gpu")


def test_where_the_card_is_unknown_a_trial_has_it_to_itself():
    trials, reason = sharing_of([of_preset("fmnist")], None)
    assert trials == 1 and "the card's memory is not known" in reason


def test_memory_grows_with_batches_and_with_the_area_of_images_and_says_what_was_measured():
    def need(batch, size):
        chosen = {"network": {"name": "FCDD_CNN224"}, "images": {"load_size": size, "size": size}}
        return need_of(settings(**chosen, training={"batch_size": batch}))

    usual, half, wide = need(128, 224), need(64, 224), need(128, 448)
    assert "FCDD_CNN224 was measured)" in f"{gpu_memory.need_text(usual)}"
    assert "with 128 images of 224 px, scaled by batch size and area" in half.basis
    _, image = gpu_memory._TABLE["FCDD_CNN224"]
    assert usual.mib - half.mib == pytest.approx(64 * image * 1.1)
    assert wide.mib - usual.mib == pytest.approx(3 * 128 * image * 1.1)


def test_a_backbone_counts_as_the_largest_network_and_says_so():
    chosen = {
        "network": {"name": None, "backbone": "resnet18", "node": "layer1"},
        "images": {"load_size": 224, "size": 224},
    }
    need = need_of(settings(**chosen, training={"batch_size": 128}))
    assert need.basis == "resnet18 up to layer1 has not been measured and is taken for FCDD_CNN224_VGG_NOPT, scaled"
    assert need.mib > 12 * GIB


def test_the_smallest_card_of_the_driver_counts(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for printed, expected in (("143771\n81559\n", 81559), ("[N/A]\n", None), ("", None)):
        program.write_text(f"#!/bin/sh\nprintf '{printed}'\n")
        program.chmod(0o755)
        card_memory.cache_clear()
        assert card_memory() == expected
    card_memory.cache_clear()


def test_the_plan_says_how_many_trials_share_a_gpu_and_why(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    path.write_text("schema: 2\nname: x\npreset: digits\nseeds: 1\n")

    def text(*overrides):
        experiment, planned = plan_file(path, overrides)
        lines = describe.describe(planned, experiment).split("\n")
        return next((line.split(maxsplit=1)[1] for line in lines if line.split()[0] == "GPU"), "")

    monkeypatch.setattr(describe, "this_machine", lambda: Machine(cores=2, gpu=False))
    assert text().startswith("as many trials share a GPU as fit, at most 4: a trial needs about 0.8 GiB (FCDD_CNN32_S")
    assert (
        text("resources.trials_per_gpu=1") == "each trial has a GPU to itself if there is one: resources.trials_per_gpu"
    )
    assert text("resources.device=cpu") == ""
    monkeypatch.setattr(describe, "this_machine", lambda: Machine(cores=2, gpu=True))
    monkeypatch.setattr(describe, "card_memory", lambda: 2.0 * GIB)
    assert text().startswith("2 trials share a GPU if there is one") and text().endswith("the card has 2 GiB")

"""A training step as a GPU sees it: one copy, one graph, no wait; what may stop that, and what happens then."""

import json

import pytest

from fcdd_sweep.config.presets import PRESETS
from tests.nullcuda.build import missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=f"no null device: {missing()}")]
COMPOSED = 500
"""Most kernels that make a batch, of all presets and of every mode, source and preprocessing."""
PEAK_MIB = {"digits": 200, "textures": 300, "fmnist": 600, "cifar10": 1500, "mvtec": 6000, "imagenet": 24000}
"""Most memory that a training reserves, without cuDNN's workspaces, and with a graph beside single steps."""


@pytest.fixture(scope="session")
def stepped(null_device):
    return null_device("steps", "presets", "in_flight", "packs", "fronts", "failures")


def assert_step_by_step(found):
    """Check the steps of an epoch of which all but the last are of the usual size."""
    assert found["captures"]
    *usual, last = found["steps"]
    assert len(usual) >= 2
    for step in usual:
        assert (step["launches"], step["graphs"], step["captured"]) == (1, 1, 0)
    assert last["graphs"] == 0 and last["launches"] > 1
    assert found["first"]["drawing"] == last["drawing"] == 0  # a generator's draws depend on the size of the card
    for step in found["steps"]:
        assert (step["copies"], step["waits"], step["sorts"]) == (["from pinned"], 0, 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_of_every_preset_is_one_copy_and_one_graph_and_waits_for_nothing(stepped, preset):
    found = stepped["presets"][preset]
    assert_step_by_step(found)
    assert found["composed"] <= COMPOSED
    assert found["peak_mib"] <= PEAK_MIB.get(preset, max(PEAK_MIB.values()))


@pytest.mark.parametrize("size", [1, 4, 10])
def test_one_graph_makes_the_step_of_a_whole_pack(stepped, size):
    found = stepped["packs"][str(size)]
    assert (found["graphs"], found["waits"], found["sorts"]) == (2, 0, 0)
    assert found["copies"] == ["from pinned"] * 3  # the rows of all trials together
    assert found["shared"] == (9 if size > 1 else 0)


def test_the_graph_of_configs_of_one_seed_has_their_frozen_front_once(stepped):
    one, same, apart = (stepped["fronts"][name] for name in ("one", "one seed", "four seeds"))
    assert [found["second"]["captured_pools"] for found in (one, same, apart)] == [3, 3, 12]  # all are in the front
    kernels = {found["shared_fronts"]: found["second"]["captured"] for found in (same, apart)}
    assert kernels[9 * 3] < kernels[0] / 2 < 4 * one["second"]["captured"] / 2 + 9
    third = same["third"]
    assert (third["graphs"], third["waits"], third["copies"]) == (2, 0, ["from pinned"] * 3)


def test_rows_are_not_overwritten_while_the_device_copies_them(stepped):
    assert stepped["in_flight"] == {"copying": 0, "done": 3}


def test_what_is_captured_is_a_whole_step(stepped):
    found = stepped["presets"]["textures"]
    assert found["captured"] == pytest.approx(found["first"]["launches"], abs=9)  # the first makes momenta and matrices


def test_a_step_that_cannot_be_captured_goes_on_kernel_by_kernel_and_says_so(stepped):
    found = stepped["failures"]["failed capture"]
    assert not found["captures"] and not any(step["graphs"] for step in found["steps"])
    assert all(step["launches"] > 300 for step in found["steps"])
    (warning,) = found["warnings"]
    assert "cannot be captured as a CUDA graph" in warning and "previous error during capture" in warning


def test_a_device_without_memory_for_the_graph_or_the_step_ends_the_trial_as_out_of_memory(stepped):
    assert stepped["failures"]["no memory for the graph"].startswith("OutOfMemoryError: CUDA out of memory")


def test_an_error_of_a_repeated_graph_stays_with_the_process(stepped):
    assert stepped["failures"]["broken"] == ["AcceleratorError: CUDA error: device-side assert triggered"] * 2


@pytest.mark.long
@pytest.mark.parametrize("matrix", ["networks", "combinations"])
def test_every_network_mode_source_and_preprocessing_is_captured(null_device, matrix):
    found = null_device("steps", matrix)[matrix]
    assert len(found) > 40, json.dumps(sorted(found))
    for steps in found.values():
        assert_step_by_step(steps)

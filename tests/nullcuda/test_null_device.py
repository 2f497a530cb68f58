"""What a GPU is asked to do, measured on a device that does nothing: launches, copies, waits, memory, errors.

The real CUDA build of torch runs on the null device of `device.c`: allocator, dispatcher, autograd and errors are its
own. Numbers mean nothing there, and cuDNN is off: how fast a real GPU is, and which engines it chooses, is not tested.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nullcuda.build import missing

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=f"no null device: {missing()}")]


@pytest.fixture(scope="session")
def measured(null_device):
    return null_device("probe")


@pytest.mark.parametrize("trial", ["small", "outlier exposure"])
def test_deterministic_kernels_fill_no_memory_and_sort_no_index(measured, trial):
    deterministic, plain = measured["training"][trial], measured["not deterministic"][trial]
    assert 0 < deterministic["fills"] <= plain["fills"]
    assert deterministic["sorts"] == 0


@pytest.mark.parametrize("trial", ["small", "large", "outlier exposure", "adam"])
def test_the_host_waits_for_the_device_once_an_epoch(measured, trial):
    found = measured["training"][trial]
    assert found["waits"] == 1
    assert found["largest_pageable"] <= 2**16  # CUDA waits for larger ones


@pytest.mark.parametrize("trial", ["small", "adam"])
def test_a_snapshot_holds_no_tensor_of_the_gpu(measured, trial):
    assert measured["training"][trial]["on_cuda"] == []


def test_the_device_holds_the_pixel_maps_of_one_batch_whatever_the_size_of_the_test_set(measured):
    of_32_images, of_64_images = measured["detection"]
    assert of_32_images == of_64_images > 0


def test_a_finished_trial_gives_its_memory_back(measured):
    assert measured["finished"]["status"] == "done"
    assert measured["finished"]["left_mib"] == 0


def test_a_trial_that_ran_out_of_memory_gives_all_of_it_back(measured):
    found = measured["out of memory"]
    assert (found["status"], found["kind"], found["left_mib"]) == ("failed", "out_of_memory", 0)
    assert found["error"].startswith("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate")


def test_a_pack_that_does_not_fit_is_tried_again_in_halves_that_do(measured):
    found = measured["short of memory"]
    assert (found["failures"], found["ended"]) == (["pack_too_large"] * 4, ["done"] * 4)
    assert found["attempts"] == [2] * 4


def test_an_error_of_the_device_ends_all_trials_of_a_pack_and_the_process_is_left(measured):
    found = measured["broken pack"]
    assert found["ended"] == ["gpu_failed"] * 4 and len(found["messages"]) == 1
    assert found["messages"][0].startswith("this process can run no further trial")


def test_a_process_reserves_no_more_than_its_share_of_the_card(measured):
    within, alone = measured["limited"]
    assert (within["status"], within["kind"]) == ("failed", "out_of_memory")
    assert 0 < within["reserved_mib"] <= 200 < alone["reserved_mib"]
    assert alone["status"] == "done"


def test_after_an_illegal_address_every_later_trial_of_the_process_fails(measured):
    for found in measured["broken"]:
        assert (found["status"], found["kind"]) == ("failed", "gpu_failed")
        assert found["error"].endswith("CUDA error: an illegal memory access was encountered")


@pytest.mark.long
def test_what_is_measured_on_a_gpu_runs_as_a_whole(tmp_path):
    """`benchmarks/gpu.py` in its shortest form, without its tests."""
    parts = ["peak", "G1", "packs", "front", "confetti"]
    target = tmp_path / "gpu.json"
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--null", "--json", target, "--parts", *parts]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(target.read_text())
    assert [found[name]["status"] for name in parts] == ["done"] * len(parts)
    assert found["peak"]["device"] == "Null device" and found["peak"]["bytes_per_s"] > 0
    assert found["G1"]["flop_per_image"] == pytest.approx(0.492e9, rel=0.001)
    assert 0 < found["reached"]["G1"]["best_bf16"] < 1
    for name in ("packs", "front"):
        assert set(found[name]["times_as_fast_as_alone"]) == {"2"}
    assert found["confetti"]["us_an_image"] > 0

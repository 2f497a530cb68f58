"""The device of a trial, and the settings of torch that are restored after it."""

from __future__ import annotations

import platform
import threading
import time

import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.training import device
from fcdd_sweep.training.device import choose_device, device_name, gpu_failure, no_gpu_reason, numerics
from tests.specs import settings

CPU = torch.device("cpu")


def switches():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    fills = torch.utils.deterministic.fill_uninitialized_memory
    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), *flags, fills


@pytest.mark.parametrize(("cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_torch_sees_one(cuda, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choose_device("auto").type == expected


def test_a_device_that_torch_does_not_see_is_refused_with_those_it_sees(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(InputError, match=r"resources.device: found 'cuda', which .* Allowed: auto, cpu, mps"):
        choose_device("cuda")
    assert choose_device("mps").type == "mps"


CPU_BUILD = {"cuda": None, "hip": None}
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


@pytest.mark.parametrize(
    ("versions", "visible", "reason"),
    [
        (CPU_BUILD, "0", f"torch {torch.__version__} is built without CUDA"),
        ({"cuda": "13.2"}, "", "CUDA_VISIBLE_DEVICES hides all GPUs"),
        ({"cuda": "13.2"}, "0", "Found no NVIDIA driver on your system"),
    ],
)
def test_the_reason_for_the_cpu_is_reported(versions, visible, reason, monkeypatch):
    def init():
        raise RuntimeError(NO_DRIVER)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name, value in versions.items():
        monkeypatch.setattr(torch.version, name, value)
    assert no_gpu_reason() == reason
    with pytest.raises(InputError, match="found 'cuda', which torch does not see on this machine") as caught:
        choose_device("cuda")
    assert f"({reason})" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            RuntimeError("CUDA error: uncorrectable ECC error encountered\nFor debugging consider"),
            "uncorrectable ECC error",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), ""),  # others use it at the moment
        (RuntimeError("CUDA error: out of memory"), ""),  # as it begins to use the GPU
        (None, ""),
    ],
)
def test_a_gpu_is_found_to_fail_by_using_it(error, failure, monkeypatch):
    ones = torch.ones

    def on_gpu(*shape, device):
        if error is not None:
            raise error
        return ones(*shape)

    monkeypatch.setattr(torch, "ones", on_gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = gpu_failure()
    assert failure in found and bool(found) == bool(failure) and "debugging" not in found


def test_a_gpu_that_torch_does_not_see_has_failed(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch._C._cuda_init())
    assert "is built without CUDA" in gpu_failure()


def test_a_trial_sets_threads_and_full_precision_and_restores_them():
    before = switches()
    torch.backends.cudnn.benchmark = True
    try:
        with numerics(settings(training={"threads": 1}), CPU):
            assert switches() == (1, False, True, False, False, False, False)
        assert switches() == (*before[:3], True, *before[4:])
    finally:
        torch.backends.cudnn.benchmark = before[3]


def test_on_a_gpu_kernels_are_deterministic_and_memory_is_not_filled_before_use():
    before = switches()
    assert torch.utils.deterministic.fill_uninitialized_memory  # torch's default
    with numerics(settings(), torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert switches() == before


def test_settings_are_restored_after_an_error():
    before = switches()
    with pytest.raises(ZeroDivisionError), numerics(settings(training={"threads": 1}), CPU):
        raise ZeroDivisionError
    assert switches() == before


def test_a_cpu_is_named_after_the_machine():
    assert device_name(CPU) in (platform.processor(), platform.machine())
    assert device_name(torch.device("mps")) == "mps"


def test_threads_collect_garbage_one_after_another(monkeypatch):
    """Python skips a collection during another's, and a network in a circle of references would keep its memory."""
    inside, most = [], []

    def collect():
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(device.gc, "collect", collect)
    threads = [threading.Thread(target=device.release_memory) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == [1] * 4

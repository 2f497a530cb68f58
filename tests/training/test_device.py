"""The device of a trial, and the settings of torch that are restored after it."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.training.device import choose_device, device_name, numerics, to_device
from tests.specs import settings

CPU = torch.device("cpu")


def switches():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), *flags


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


def test_a_trial_sets_threads_and_full_precision_and_restores_them():
    before = switches()
    torch.backends.cudnn.benchmark = True
    try:
        with numerics(settings(training={"threads": 1}), CPU):
            assert switches() == (1, False, True, False, False, False)
        assert switches() == (*before[:3], True, *before[4:])
    finally:
        torch.backends.cudnn.benchmark = before[3]


def test_settings_are_restored_after_an_error():
    before = switches()
    with pytest.raises(ZeroDivisionError), numerics(settings(training={"threads": 1}), CPU):
        raise ZeroDivisionError
    assert switches() == before


def test_arrays_with_any_strides_keep_dtype_and_values():
    array = np.arange(12).reshape(3, 4)[:, ::-2]
    moved = to_device(array, CPU)
    assert moved.dtype == torch.int64 and moved.tolist() == array.tolist()


def test_a_cpu_is_named_after_the_machine():
    assert device_name(CPU) in (platform.processor(), platform.machine())
    assert device_name(torch.device("mps")) == "mps"

"""Where a trial runs, and settings of torch that decide its bits."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Settings


def choose_device(wanted: str) -> torch.device:
    """`auto` takes a GPU where there is one and the CPU otherwise, unasked.

    Raises:
        InputError: a device was asked for by name that this machine does not have.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if there["cuda"] else "cpu"
    if not there[wanted]:
        have = ", ".join(name for name, available in there.items() if available)
        raise InputError(
            Problem("resources.device", f"found '{wanted}', which torch does not see here", f"auto, {have}")
        )
    return torch.device(wanted)


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """A small array for the device that nobody waits for: it is staged at once, so the caller may forget it."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return platform.processor() or platform.machine() if device.type == "cpu" else device.type


@contextlib.contextmanager
def numerics(settings: Settings, device: torch.device) -> Iterator[None]:
    """Threads, deterministic kernels and full float32 for one trial; the process is left as it was found.

    A worker runs many trials, so nothing of one may reach the next.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its bits only with this
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    torch.set_num_threads(settings.training.threads)
    torch.use_deterministic_algorithms(device.type == "cuda")
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before

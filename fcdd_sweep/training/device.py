"""The device of a trial, and the settings of torch that decide its bits."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import threading
from collections.abc import Iterator

import torch

from fcdd_sweep.config.errors import InputError, Problem, error_line, short_error
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.execution import CONTEXT_MIB

_LEAST_FRACTION = 0.001
_COLLECTING = threading.Lock()
"""Held while garbage is collected: Python skips a collection that begins during another thread's."""


def choose_device(wanted: str) -> torch.device:
    """Return the device that `resources.device` names; `auto` is CUDA where available, otherwise the CPU.

    `no_gpu_reason` says why it is the CPU.

    Raises:
        InputError: the named device is not available on this machine.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if available["cuda"] else "cpu"
    if not available[wanted]:
        allowed = ", ".join(["auto", *(name for name, found in available.items() if found)])
        why = f" ({no_gpu_reason()})" if wanted == "cuda" else ""
        what = f"found '{wanted}', which torch does not see on this machine{why}"
        raise InputError(Problem("resources.device", what, allowed))
    return torch.device(wanted)


def device_name(device: torch.device) -> str:
    """Return the model of a GPU or processor, as in `metrics.parquet`."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return platform.processor() or platform.machine() if device.type == "cpu" else device.type


def no_gpu_reason() -> str:
    """Return in a few words why torch sees no CUDA device in this process; empty where it sees one."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    try:
        torch.cuda.init()
    except RuntimeError as error:  # such as an absent driver, or one that is too old
        return short_error(error).partition(". ")[0]
    return "CUDA finds no device"


def gpu_failure() -> str:
    """Return what is wrong with the GPU of this process, found by using it; empty where it computes.

    A GPU without free memory counts as sound: it is shared, and running out of memory is handled elsewhere.
    """
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts that it has it
        return "" if "out of memory" in str(error) else no_gpu_reason() or error_line(error)
    return ""


def limit_memory(share: float) -> None:
    """Let this process reserve at most its share of the GPU's memory, 0 to 1, so that no other runs out of its own.

    What a process takes besides, such as its CUDA context, counts as part of the share.
    """
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(max(_LEAST_FRACTION, share - CONTEXT_MIB * 2**20 / total), 0)


def release_memory() -> bool:
    """Give the GPU memory of ended trials back, which others may share; return whether the GPU still works.

    After some errors, such as an illegal address, every further call fails in this process.
    """
    if not torch.cuda.is_initialized():
        return True
    with _COLLECTING:
        gc.collect()  # a network may be part of a circle of references
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute in full float32 precision, with repeatable convolutions, while entered.

    torch's own default rounds the inputs of convolutions on recent GPUs to 10 bits (TF32), which moves scores against
    the thresholds of trials.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


@contextlib.contextmanager
def numerics(settings: Settings, device: torch.device) -> Iterator[None]:
    """Set threads, deterministic kernels and full float32 precision for one trial, and restore them afterwards.

    A worker runs many trials, so no setting of one may reach the next.
    Source: PyTorch's notes on reproducibility.
    Departure: memory is not filled before its first use, which takes a quarter of a training step's kernels and
    matters only to code that reads what was never written.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its bits only with this
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_num_threads(settings.training.threads)
    _set_deterministic(wanted=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        with full_precision():
            yield
    finally:
        torch.set_num_threads(threads)
        _set_deterministic(wanted=deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def _set_deterministic(*, wanted: bool) -> None:
    """Set whether kernels must be deterministic; `use_deterministic_algorithms` would import torch's compiler."""
    torch.set_deterministic_debug_mode("error" if wanted else "default")

"""The device that trials of this machine will use, found without torch where there is no GPU: its import is slow."""

from __future__ import annotations

import ctypes
import sys

from fcdd_sweep.planning.checks import this_machine

_DRIVERS = ("libcuda.so.1", "libcuda.so")
"""NVIDIA's driver as torch loads it."""


def _may_see_gpu() -> bool:
    """Return whether only torch can tell: it is imported already, or the machine has a GPU or a driver."""
    return "torch" in sys.modules or this_machine().gpu or any(map(_loads, _DRIVERS))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def check_device(wanted: str) -> None:
    """Raise an InputError when `resources.device` names a device that this machine does not have."""
    if wanted not in ("auto", "cpu"):
        from fcdd_sweep.training.device import choose_device

        choose_device(wanted)


def runs_on_cpu(wanted: str) -> bool:
    """Return whether trials whose `resources.device` is `wanted` run on the CPU."""
    if wanted == "cpu" or (wanted == "auto" and not _may_see_gpu()):
        return True
    from fcdd_sweep.training.device import choose_device

    return choose_device(wanted).type == "cpu"


def visible_gpus(wanted: str) -> int:
    """Return how many GPUs trials whose `resources.device` is `wanted` may use on this machine; 0: they use the CPU."""
    if runs_on_cpu(wanted):
        return 0
    import torch

    return torch.cuda.device_count()


def auto_device_note(*, one_process: bool) -> str:
    """Return a sentence on what `resources.device: auto` means here; empty where the runner says it later.

    Args:
        one_process: trials run in this process.
    """
    if not _may_see_gpu():
        return "trials run on the CPU: this machine has no GPU"
    from fcdd_sweep.training.device import choose_device, device_name, no_gpu_reason

    device = choose_device("auto")
    if device.type == "cpu":
        return f"trials run on the CPU: torch sees no GPU ({no_gpu_reason()})"
    return f"trials run on a GPU: {device_name(device)}" if one_process else ""

"""What the machine that plans has. On a cluster trials may run on others."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_GPU_FILES = ("nvidia[0-9]*", "nvidia-caps", "kfd", "dxg")
"""In `/dev`: of NVIDIA's driver, of AMD's, which torch calls cuda too, and of GPUs under WSL."""


@dataclass(frozen=True)
class Machine:
    """
    Attributes:
        cores: CPU cores.
        gpu: whether a GPU is seen that torch may use. A look that costs nothing; torch itself decides later.
    """

    cores: int
    gpu: bool


def this_machine(devices: Path = Path("/dev")) -> Machine:
    gpu = any(True for pattern in _GPU_FILES for _ in devices.glob(pattern)) or bool(shutil.which("nvidia-smi"))
    return Machine(os.cpu_count() or 1, gpu)

"""What an installation and a machine lack to run sweeps: one finding per thing, each with what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from fcdd_sweep.config.errors import InputError, short_error
from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.names import printable
from fcdd_sweep.runners.ray_check import ray_problem
from fcdd_sweep.runners.ray_session import parent_for_sockets

if TYPE_CHECKING:
    import torch

_GB = 1e9
_LEAST_GB, _FEW_GB = 1.0, 10.0
"""Free space without which a run fails soon, and below which it may."""
_SHM = Path("/dev/shm")
_LEAST_SHM_GB = 0.5
_RAY_LIMIT_S = 90.0


class Severity(IntEnum):
    """How bad a finding is."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        severity: how bad it is.
        subject: what was checked, a word or two.
        text: what was found.
        step: what to do about it; empty where nothing needs to be done.
    """

    severity: Severity
    subject: str
    text: str
    step: str = ""

    def __str__(self) -> str:
        step = f" {self.step}." if self.step else ""
        return printable(f"{self.severity.name.lower():8}{self.subject}: {self.text}.{step}")


def findings(output: Path, *, ray: bool = True) -> Iterator[Finding]:
    """Yield a finding for everything that sweeps need of an installation and a machine, as soon as it is known.

    Args:
        output: folder in which the folders of runs would be made; it need not exist.
        ray: whether Ray is started.
    """
    yield from _versions()
    yield from _devices()
    yield from _folders(output)
    yield _temporary()
    yield from _shared_memory()
    yield _ray() if ray else Finding(Severity.OK, "Ray", "not started, as --no-ray asks; --local runs without it")


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    try:
        wanted = [Requirement(text) for text in requires("fcdd_sweep") or ()]
    except PackageNotFoundError:
        step = "Install it: pip install -e . in its folder"
        yield Finding(Severity.PROBLEM, "fcdd_sweep", f"not installed into this Python ({sys.executable})", step)
        return
    faults = [finding for each in wanted if (finding := _version_of(each)) is not None]
    yield from faults
    if not any(finding.severity == Severity.PROBLEM for finding in faults):
        needed = sum(each.marker is None or each.marker.evaluate({"extra": ""}) for each in wanted)
        yield Finding(Severity.OK, "packages", f"Python {python} and {needed} packages fit fcdd_sweep")


def _version_of(wanted: Requirement) -> Finding | None:
    """Return what is wrong with a package; None where it fits, or is optional and missing."""
    needed = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    text = f"{wanted.name}{wanted.specifier}"
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        step = f"Install it: pip install '{text}'"
        return Finding(Severity.PROBLEM, wanted.name, f"not installed, wanted {text}", step) if needed else None
    if wanted.specifier.contains(found, prereleases=True):
        return None
    severity = Severity.PROBLEM if needed else Severity.WARNING
    return Finding(severity, wanted.name, f"found {found}, wanted {text}", f"Upgrade it: pip install '{text}'")


def _devices() -> Iterator[Finding]:
    """Yield a finding for each device, on which a small convolution is computed and compared with the CPU's."""
    try:
        import torch
    except Exception as error:  # a broken installation may raise anything
        step = "Install it again, see https://pytorch.org"
        yield Finding(Severity.PROBLEM, "torch", f"cannot be imported ({short_error(error)})", step)
        return
    images, kernel = (
        torch.linspace(0, 1, 3 * 3 * 64 * 64).view(3, 3, 64, 64),
        torch.linspace(-1, 1, 108).view(4, 3, 3, 3),
    )

    def computed(device: str) -> torch.Tensor:
        return torch.nn.functional.conv2d(images.to(device), kernel.to(device)).cpu()

    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    windows = images.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    by_hand = torch.einsum("nchwk,ock->nohw", windows, kernel.flatten(2))
    for name in names:
        yield _device(name, partial(_difference, computed, name, by_hand), _title(name))
    if len(names) == 1:
        yield Finding(Severity.OK, "GPU", f"none that torch {torch.__version__} can use: trials run on the CPU")


def _difference(computed: Callable[[str], torch.Tensor], name: str, expected: torch.Tensor) -> float:
    return float((computed(name) - expected).abs().max())


def _title(name: str) -> str:
    import torch

    title = torch.cuda.get_device_name(name) if name.startswith("cuda") else platform.machine()
    return f"{title}, torch {torch.__version__}"


_TOLERANCE = 0.05
"""Largest difference of a convolution from the exact sums: GPUs may round its inputs to 10 bits (TF32)."""


def _device(name: str, difference: Callable[[], float], title: str) -> Finding:
    try:
        found = difference()
    except Exception as error:  # of the driver, of memory, of a library that lacks: all mean that it cannot be used
        step = "See nvidia-smi, or use the CPU: --set resources.device=cpu"
        return Finding(Severity.PROBLEM, name, f"a small convolution failed ({short_error(error)}), {title}", step)
    if not found <= _TOLERANCE:
        text = f"a small convolution is wrong by {found:.2g}, {title}"
        return Finding(Severity.PROBLEM, name, text, "Do not use this device: --set resources.device=cpu")
    return Finding(Severity.OK, name, f"computes, {title}")


def _folders(output: Path) -> Iterator[Finding]:
    yield from _folder("results", output.expanduser().absolute(), "Name another folder with --output")
    try:
        yield from _folder("cache", cache_root(), "Set FCDD_SWEEP_CACHE to another folder")
    except InputError as error:
        yield Finding(Severity.PROBLEM, "cache", error.problems[0].what, error.problems[0].next_step)


def _folder(subject: str, folder: Path, step: str) -> Iterator[Finding]:
    """Yield whether files can be written to a folder, or to what would hold it, and whether there is room."""
    held_by = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=held_by, prefix=".fcdd-doctor-"):
            pass
    except OSError as error:
        yield Finding(Severity.PROBLEM, subject, f"{held_by} cannot be written to ({error.strerror})", step)
        return
    free = shutil.disk_usage(held_by).free / _GB
    severity = Severity.PROBLEM if free < _LEAST_GB else Severity.WARNING if free < _FEW_GB else Severity.OK
    text = f"{folder} can be written to, {free:.1f} GB are free"
    yield Finding(severity, subject, text, f"Free some space, or: {step}" if severity else "")


def _temporary() -> Finding:
    usual = tempfile.gettempdir()
    try:
        parent, reason = parent_for_sockets()
    except InputError as error:
        problem = error.problems[0]
        return Finding(Severity.PROBLEM, "TMPDIR", problem.what, problem.next_step)
    if reason:
        step = "Nothing needs to be done, or set TMPDIR to a short path"
        return Finding(Severity.WARNING, "TMPDIR", f"Ray uses {parent} instead of {usual}: {reason}", step)
    return Finding(Severity.OK, "TMPDIR", f"{usual} has room for Ray's sockets")


def _shared_memory() -> Iterator[Finding]:
    if not _SHM.is_dir():
        return  # not Linux
    free = shutil.disk_usage(_SHM).free / _GB
    if free < _LEAST_SHM_GB or not os.access(_SHM, os.W_OK):
        step = "In a container give more: docker run --shm-size=2g; without, Ray uses files and is slower"
        yield Finding(Severity.WARNING, "shared memory", f"{_SHM} has {free:.2f} GB free", step)
    else:
        yield Finding(Severity.OK, "shared memory", f"{_SHM} has {free:.1f} GB free")


def _ray() -> Finding:
    problem, seconds = ray_problem(_RAY_LIMIT_S)
    if problem:
        return Finding(Severity.PROBLEM, "Ray", problem, "Runs work without it: --local. See docs/clusters.md")
    return Finding(Severity.OK, "Ray", f"started, ran a task and ended in {seconds:.0f} s")

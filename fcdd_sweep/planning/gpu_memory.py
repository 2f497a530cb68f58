"""How many trials share a GPU, by the memory that they need and that the card has. Needs no torch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fcdd_sweep.config.fields import DatasetSource, FolderSource
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.execution import CONTEXT_MIB
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.planning.packs import pack_size

MOST_TRIALS = 4
"""Trials that share a GPU by `auto`, however small: what more would gain has not been measured."""
_SPARE = 0.1
"""Part of what was measured that is kept free besides: workspaces of convolutions, and memory in pieces."""
_POOL_MIB = 1024
"""Images of outlier exposure that stay on the card, at most."""
_QUERY_S = 10.0


class Memory(NamedTuple):
    """Memory that torch's allocator reserves for a trial in float32, in MiB.

    Attributes:
        fixed: whatever the batch: weights, gradients, moments.
        image: for each image of a batch.
    """

    fixed: float
    image: float


_TABLE: dict[str, Memory] = {
    "FCDD_CNN28": Memory(0, 0.21),
    "FCDD_CNN28_W": Memory(29, 2.96),
    "FCDD_CNN32": Memory(16, 1.08),
    "FCDD_CNN32_S": Memory(14, 1.08),
    "FCDD_CNN32_LW3K": Memory(61, 5.03),
    "FCDD_CNN32_3K": Memory(36, 4.4),
    "FCDD_CNN32_5K": Memory(36, 4.4),
    "FCDD_CNN32_7K": Memory(36, 4.4),
    "FCDD_CNN32_9K": Memory(36, 4.4),
    "FCDD_CNN32_11K": Memory(39, 4.39),
    "FCDD_CNN32_13K": Memory(38, 4.4),
    "FCDD_CNN32_15K": Memory(38, 4.4),
    "FCDD_CNN32_17K": Memory(38, 4.4),
    "FCDD_CNN224": Memory(173, 24.08),
    "FCDD_CNN224_W": Memory(197, 80.54),
    "FCDD_CNN224_3K": Memory(197, 80.54),
    "FCDD_CNN224_5K": Memory(199, 80.52),
    "FCDD_CNN224_7K": Memory(226, 80.31),
    "FCDD_CNN224_9K": Memory(211, 80.83),
    "FCDD_CNN224_11K": Memory(250, 80.5),
    "FCDD_CNN224_13K": Memory(291, 80.79),
    "FCDD_CNN224_VGG_NOPT": Memory(156, 100.0),
    "FCDD_CNN224_VGG": Memory(156, 100.0),
    "FCDD_CNN224_VGG_F": Memory(37, 28.96),
    "CNN28": Memory(31, 0.21),
    "CNN28_W": Memory(0, 3.31),
    "CNN32": Memory(47, 1.15),
    "CNN32_LW3K": Memory(35, 5.41),
    "CNN224": Memory(227, 24.71),
    "CNN224_VGG_NOPT": Memory(1697, 94.67),
    "CNN224_VGG_NOPT_1000": Memory(1749, 94.46),
    "CNN224_VGG": Memory(1697, 94.67),
    "CNN224_VGG_F": Memory(3203, 20.1),
    "AE28": Memory(33, 0.23),
    "AE28_W": Memory(26, 3.56),
    "AE32": Memory(55, 1.49),
    "AE32_LW3K": Memory(105, 6.17),
    "AE224": Memory(240, 36.94),
    "AE224_VGG_NOPT": Memory(1846, 157.12),
    "AE224_VGG": Memory(1846, 157.12),
    "AE224_VGG_F": Memory(1925, 92.92),
}
"""From `benchmarks/gpu_memory.py`, at the images of the preset in `_MEASURED_AT`."""
_MEASURED_AT = {28: "fmnist", 32: "cifar10", 224: "mvtec"}
"""The preset that a network was measured with, by the size of images that it is designed for."""
_LARGEST = "FCDD_CNN224_VGG_NOPT"
"""Stands for backbones, which have not been measured."""


class Need(NamedTuple):
    """Memory that a trial needs.

    Attributes:
        mib: of the card, everything included.
        basis: where the figure is from, in words.
    """

    mib: float
    basis: str


def need_of(settings: Settings) -> Need:
    """Return the memory that a trial needs: measured, or scaled by batch size and area of images."""
    name = settings.network.name or _LARGEST
    side, memory = NETWORKS[name].input_size, _TABLE[name]
    images, batch = settings.images, settings.training.batch_size
    preset = PRESETS[_MEASURED_AT[side]].tree
    area = images.size**2 / preset["images"]["size"] ** 2
    reserved = memory.fixed + memory.image * batch * area
    data = _POOL_MIB if isinstance(settings.anomalies.source, DatasetSource | FolderSource) else 0
    whole = reserved * (1 + _SPARE) + data + CONTEXT_MIB
    if settings.network.name is None:
        return Need(whole, f"{settings.network.title} has not been measured and is taken for {name}, scaled")
    usual = preset["training"]["batch_size"], preset["images"]["size"]
    if (batch, images.size) == usual:
        return Need(whole, f"{name} was measured")
    size = f"{usual[0]} images of {usual[1]} px"
    return Need(whole, f"{name} was measured with {size}, scaled by batch size and area")


def need_text(need: Need) -> str:
    """Return what a trial needs, and where the figure is from."""
    return f"a trial needs about {need.mib / 1024:.1f} GiB ({need.basis})"


class Sharing(NamedTuple):
    """How many trials share a GPU.

    Attributes:
        trials: at least 1.
        reason: why so many, in words.
    """

    trials: int
    reason: str


def sharing_of(configs: Iterable[Settings], card_mib: float | None) -> Sharing:
    """Return how many trials of these configs share a GPU: `resources.trials_per_gpu`, or what `auto` means.

    Args:
        configs: at least one; the one that needs most decides.
        card_mib: memory of the smallest card; None where it is unknown.
    """
    settings = list(configs)
    asked = settings[0].resources.trials_per_gpu
    if asked != "auto":
        return Sharing(asked, "resources.trials_per_gpu")
    need = max((need_of(each) for each in settings), key=lambda each: each.mib)
    if (pack := pack_size(settings[0].resources)) > 1:
        need = Need(need.mib * pack, f"{need.basis}, for each of the {pack} of a pack")
    wanted = need_text(need)
    if card_mib is None:
        return Sharing(1, f"{wanted}, and the card's memory is not known")
    card = f"the card has {card_mib / 1024:.0f} GiB"
    fitting = int(card_mib / need.mib)
    if fitting < 1:
        return Sharing(1, f"{wanted}, but {card}: it may run out of memory")
    most = f"; {MOST_TRIALS} at most" if fitting > MOST_TRIALS else ""
    return Sharing(min(fitting, MOST_TRIALS), f"{wanted}, {card}{most}")


def crowding_text(configs: Iterable[Settings], trials: int, card_mib: float | None) -> str:
    """Return what is said where so many trials that share a GPU may run out of its memory; empty where they may not.

    Args:
        configs: at least one; the one that needs most decides.
        trials: how many share a GPU.
        card_mib: memory of the smallest card; None where it is unknown.
    """
    need = max((need_of(each) for each in configs), key=lambda each: each.mib)
    if card_mib is None or trials * need.mib <= card_mib:
        return ""
    all_of_them = "they" if trials > 1 else "it"
    return f"{need_text(need)}, but the card has {card_mib / 1024:.0f} GiB: {all_of_them} may run out of memory"


@cache
def card_memory() -> float | None:
    """Return the memory in MiB of this machine's smallest GPU, by its driver; None where it is unknown."""
    found = [*_nvidia_mib(), *_amd_mib()]
    return min(found) if found else None


def _nvidia_mib() -> list[float]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_S, check=True)
        return [float(line) for line in ended.stdout.split("\n") if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver, or a card that does not say
        return []


def _amd_mib(cards: Path = Path("/sys/class/drm")) -> list[float]:
    try:
        return [int(path.read_text()) / 2**20 for path in cards.glob("card*/device/mem_info_vram_total")]
    except (OSError, ValueError):
        return []

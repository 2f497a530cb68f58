"""Weights that training starts from: those of torchvision for ImageNet, or a file of a state dict."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
from torch import Tensor

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.networks.registry import VGG_WEIGHTS

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


_MAX_NAMES = 3
_KEY = "network.weights"
_PLACED = (
    "Put torchvision's file into {folder}, or name a file of a state dict by network.weights: PATH, or set "
    "network.weights: none"
)


def imagenet_weights(backbone: str | None) -> WeightsEnum:
    """Return torchvision's ImageNet weights of a backbone, such as `ResNet18_Weights.IMAGENET1K_V1`; None: VGG11's."""
    import torchvision  # see `build._trunk`

    if backbone is None:
        return torchvision.models.get_weight(VGG_WEIGHTS)
    return torchvision.models.get_model_weights(backbone).DEFAULT


def load_imagenet(backbone: str | None) -> dict[str, Tensor]:
    """Load ImageNet weights from torch.hub's cache; download them into it first where they are missing.

    Raises:
        InputError: they cannot be downloaded, or the file is not what torchvision published.
    """
    weights = imagenet_weights(backbone)
    try:
        return _modern(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu"))
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        name = weights.url.rsplit("/", 1)[-1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        reason = short_error(error, 160)
        what = f"the ImageNet weights {weights} ({name}) could not be downloaded from {weights.url} ({reason})"
        raise InputError(Problem(_KEY, what, next_step=_PLACED.format(folder=folder))) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file that `torch.save(model.state_dict())` wrote.

    Raises:
        InputError: there is no such file, or it is not a state dict.
    """
    allowed = "a state dict that torch.save wrote, names and shapes as in torchvision's model"
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(Problem(_KEY, f"there is no file {path}", allowed)) from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise InputError(Problem(_KEY, f"{path} does not load ({short_error(error, 160)})", allowed)) from error
    if not isinstance(plain, Mapping) or not all(isinstance(value, Tensor) for value in plain.values()):
        keys = f" with the keys {_some(list(map(str, plain)))}" if isinstance(plain, Mapping) else ""
        raise InputError(Problem(_KEY, f"{path} is not a state dict but a {type(plain).__name__}{keys}", allowed))
    return _modern(plain)


def misfit(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> Problem | None:
    """Return why weights do not fit a network whose tensors have the names and shapes of `wanted`; None when they do.

    Further tensors are ignored: the network may be a part of the model that the file is for. Batch-norm counters may
    be missing, since old files have none.
    """
    missing = [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]
    if missing:
        what = f"{source} has no {_some(missing)}; it has {_some(list(weights))}"
        return Problem(_KEY, what, "torchvision's state dict of the same network")
    for name, tensor in wanted.items():
        if name in weights and weights[name].shape != tensor.shape:
            found, need = tuple(weights[name].shape), tuple(tensor.shape)
            return Problem(_KEY, f"{source} has {name} of shape {found}, the network has {need}")
    return None


@torch.no_grad()
def copy_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Copy weights into the tensors of a network that they fit."""
    for name in wanted.keys() & weights.keys():
        wanted[name].copy_(weights[name])


def _modern(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys as torchvision's loader does: its DenseNet files still have `norm.1` for `norm1`."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name): weights[name] for name in weights}


def _some(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")

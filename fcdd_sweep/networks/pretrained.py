"""What training starts from: ImageNet weights through torchvision, or a file of them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.networks.registry import VGG_WEIGHTS

_MOST_NAMED = 3
_WHERE = "network.weights"
_PLACED = (
    "Put torchvision's file into {folder}, or name a file of a state dict by network.weights: PATH, or set "
    "network.weights: none"
)


def imagenet_weights(backbone: str | None) -> Any:
    """torchvision's entry for a backbone's ImageNet weights, VGG11's without one: `ResNet18_Weights.IMAGENET1K_V1`."""
    import torchvision  # see `build._trunk`

    if backbone is None:
        return torchvision.models.get_weight(VGG_WEIGHTS)
    return torchvision.models.get_model_weights(backbone).DEFAULT


def load_imagenet(backbone: str | None) -> dict[str, Tensor]:
    """The weights, from torch.hub's cache or fetched into it once.

    Raises:
        InputError: they are not there and cannot be fetched, or are not what torchvision published.
    """
    weights = imagenet_weights(backbone)
    try:
        return _modern(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu"))
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        name = weights.url.rsplit("/", 1)[-1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        what = f"ImageNet's weights {weights} ({name}) could not be had from {weights.url} ({short_error(error, 160)})"
        raise InputError(Problem(_WHERE, what, next_step=_PLACED.format(folder=folder))) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file that `torch.save(model.state_dict())` wrote.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    allowed = "a state dict that torch.save wrote, names and shapes as in torchvision's model"
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(Problem(_WHERE, f"there is no file {path}", allowed)) from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise InputError(Problem(_WHERE, f"{path} does not load ({short_error(error, 160)})", allowed)) from error
    if not isinstance(plain, Mapping) or not all(isinstance(value, Tensor) for value in plain.values()):
        keys = f" with the keys {_some(list(map(str, plain)))}" if isinstance(plain, Mapping) else ""
        raise InputError(Problem(_WHERE, f"{path} holds no state dict but a {type(plain).__name__}{keys}", allowed))
    return _modern(plain)


def misfit(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> Problem | None:
    """Why weights do not fit a network whose tensors have the names and shapes of `wanted`, or None when they do.

    More tensors than wanted are no matter: the network may be a part of what the file is for. Files older than
    the counters of batch norms have none.
    """
    missing = [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]
    if missing:
        what = f"{source} has no {_some(missing)}; it has {_some(list(weights))}"
        return Problem(_WHERE, what, "torchvision's state dict of this very network")
    for name, tensor in wanted.items():
        if name in weights and weights[name].shape != tensor.shape:
            found, need = tuple(weights[name].shape), tuple(tensor.shape)
            return Problem(_WHERE, f"{source} has {name} of shape {found}, the network has {need}")
    return None


@torch.no_grad()
def put(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Weights into the tensors of a network that they fit."""
    for name in wanted.keys() & weights.keys():
        wanted[name].copy_(weights[name])


def _modern(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as in today's torchvision: its files for DenseNets still have `norm.1` for `norm1`."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name): weights[name] for name in weights}


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")

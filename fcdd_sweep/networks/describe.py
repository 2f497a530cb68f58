"""Facts about the network of an experiment: receptive field, counterparts, initial weights, and its problems.

Needs torch only for a backbone or a file of weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.locations import local_path
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks.receptive_field import ReceptiveField, receptive_field
from fcdd_sweep.networks.registry import NETWORKS, VGG_WEIGHTS, VGG_WEIGHTS_URL, NetworkInfo

MIN_MAP_WIDTH = 2
"""Cells along an axis that FCDD needs at least: a map of one cell localizes nothing. Dense layers take any map."""


def field_of(network: Network, method: str, size: int) -> ReceptiveField:
    """Return the receptive field of the network's map, for `hsc` and `ae` the one before the dense layers.

    Args:
        network: the section of the experiment.
        method: `fcdd`, `hsc` or `ae`.
        size: side of the images in pixels.

    Raises:
        InputError: the network, backbone or node is unknown, or the network is for another method.
    """
    if problems := list(_identity(network, method)):
        raise InputError(problems)
    return _field(network, size)


def _field(network: Network, size: int) -> ReceptiveField:
    if network.name is not None:
        return receptive_field(network.name, size)
    from fcdd_sweep.networks.backbones import field_at

    return field_at(*cut_of(network), size)


def counterpart(network: Network, method: str) -> Network:
    """Return the network that replaces an FCDD network in a baseline, with the same weights; itself for its own method.

    Raises:
        InputError: the network is unknown, or belongs to another baseline.
    """
    if network.name is None:
        return network
    if network.name not in NETWORKS:
        raise InputError(_unknown(network.name))
    if NETWORKS[network.name].method == method:
        return network
    name = {"hsc": NETWORKS[network.name].hsc, "ae": NETWORKS[network.name].ae}.get(method, "")
    if not name:
        raise InputError(_of_another_method(network.name, method))
    return network.model_copy(update={"name": name})


def starting_weights(network: Network) -> Literal["none", "imagenet"] | Path:
    """Return the weights that training starts from, with `auto` resolved."""
    if network.weights != "auto":
        return network.weights
    return "imagenet" if network.name is None or NETWORKS[network.name].pretrained else "none"


def weights_fingerprint(network: Network) -> str:
    """Return a fingerprint of the weights that training starts from.

    Returns:
        An empty string for random weights; `imagenet:` and the name of torchvision's entry; or the first 12 hex digits
        of the SHA-256 of a file.
    Raises:
        OSError: the file cannot be read.
    """
    start = starting_weights(network)
    if isinstance(start, Path):
        with start.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    weights = imagenet_of(network)
    return f"imagenet:{weights.name}" if weights else ""


@dataclass(frozen=True)
class Weights:
    """ImageNet weights as torchvision publishes them.

    Attributes:
        name: torchvision's: `VGG11_BN_Weights.IMAGENET1K_V1`.
        url: of the download.
        file: their path in torch's cache, whether or not it exists yet.
    """

    name: str
    url: str
    file: Path


def imagenet_of(network: Network) -> Weights | None:
    """Return the ImageNet weights that training starts from; None where it starts from others."""
    if starting_weights(network) != "imagenet":
        return None
    name, url = VGG_WEIGHTS, VGG_WEIGHTS_URL
    if network.backbone is not None:
        from fcdd_sweep.networks.pretrained import imagenet_weights

        entry = imagenet_weights(network.backbone)
        name, url = str(entry), str(entry.url)
    return Weights(name, url, _torch_home() / "hub" / "checkpoints" / url.rsplit("/", 1)[-1])


def _torch_home() -> Path:
    """Return torch's cache directory by the rule of `torch.hub`.

    Raises:
        InputError: there is no such directory on this system.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    try:
        return local_path(os.environ.get("TORCH_HOME", f"{cache}/torch"))
    except ValueError as error:
        step = "Set TORCH_HOME to a folder for ImageNet weights"
        raise InputError(Problem("torch's cache", str(error), next_step=step)) from None


def to_fetch(network: Network) -> str:
    """Return a sentence on the download before the first trial; empty where none is needed."""
    weights = imagenet_of(network)
    if weights is None or weights.file.is_file():
        return ""
    return (
        f"{network.title} starts from ImageNet weights: {weights.name} is not in torch's cache and will be downloaded "
        f"from {weights.url} to {weights.file}."
    )


def start_text(network: Network) -> str:
    """Return the initial weights in words, for a plan."""
    if weights := imagenet_of(network):
        return f"from {weights.name}, {'in the cache of torch' if weights.file.is_file() else 'to be downloaded'}"
    start = starting_weights(network)
    return f"from {start}" if isinstance(start, Path) else "from random weights"


def problems_before_reading(network: Network, method: str, channels: int | None, size: int | None) -> Iterator[Problem]:
    """Yield the problems of a network that show without reading a file of weights.

    Args:
        network: the section of the experiment.
        method: `fcdd`, `hsc` or `ae`.
        channels: of the images; None: unknown, not checked.
        size: side of the images in pixels; None: unknown, not checked.
    """
    problems = list(_identity(network, method))
    yield from problems
    if problems:
        return
    if size is not None:
        yield from _size(network, method, size)
    if not network.bias and (network.name is None or NETWORKS[network.name].vgg):
        what = f"the layers of {network.title} are torchvision's, which have biases"
        yield Problem("network.bias", what, "true", "Remove the key")
    yield from _weights(network, channels)


def _identity(network: Network, method: str) -> Iterator[Problem]:
    """Yield a problem where the network is unknown or for another method."""
    if network.name is None:
        yield from _backbone(*cut_of(network))
    elif network.name not in NETWORKS:
        yield _unknown(network.name)
    elif NETWORKS[network.name].method != method:
        yield _of_another_method(network.name, method)


def _unknown(name: str) -> Problem:
    return Problem("network.name", f"there is no network '{name}'", ", ".join(NETWORKS), closest(name, NETWORKS))


def _of_another_method(name: str, method: str) -> Problem:
    found = NETWORKS[name].method
    allowed = ", ".join(other for other, info in NETWORKS.items() if info.method == method)
    related = _related(name, method)
    step = f"Set network.name: {related}, its counterpart, or method: {found}" if related else f"Set method: {found}"
    what = f"'{name}' is a network of method '{found}', and the method is '{method}'"
    return Problem("network.name", what, allowed, step)


def _related(name: str, method: str) -> str:
    """Return the counterpart of a network for another method: that of the first FCDD network that either belongs to."""
    for fcdd, info in NETWORKS.items():
        family = {"fcdd": fcdd, "hsc": info.hsc, "ae": info.ae}
        if info.method == "fcdd" and name in family.values():
            return family[method]
    return ""


def cut_of(network: Network) -> tuple[str, str]:
    """Return a backbone and the node where it is cut."""
    assert network.backbone is not None and network.node is not None  # the schema requires both together
    return network.backbone, network.node


def _backbone(backbone: str, node: str) -> Iterator[Problem]:
    from fcdd_sweep.networks.backbones import backbone_names, has_node, usable_nodes, why_unusable

    names = backbone_names()
    if backbone not in names:
        what = f"torchvision has no classification network '{backbone}'"
        yield Problem("network.backbone", what, ", ".join(names), closest(backbone, names))
    elif not has_node(backbone, node):
        nodes = usable_nodes(backbone)
        allowed = f"{', '.join(nodes)}, and nodes within them"
        yield Problem("network.node", f"{backbone} has no node '{node}'", allowed, closest(node, nodes))
    elif reason := why_unusable(backbone, node):
        what = f"{backbone} cannot be cut at '{node}': {reason}"
        yield Problem("network.node", what, ", ".join(usable_nodes(backbone)), "Cut it at an earlier node")


def _size(network: Network, method: str, size: int) -> Iterator[Problem]:
    least = MIN_MAP_WIDTH if method == "fcdd" else 1

    def width(of: int) -> int:
        return _field(network, of).width

    if width(size) < least:
        left = "would vanish" if width(size) < 1 else "would have a single cell, which localizes nothing,"
        map_ = "the anomaly map" if method == "fcdd" else "the map before the dense layers"
        fits = f"the smallest size that fits is {_smallest(width, size, least)} px"
        step = "Choose a larger size, or a network with less pooling"
        yield Problem("images.size", f"{map_} of {network.title} {left} for images of {size} px; {fits}", "", step)


def _smallest(width: Callable[[int], int], size: int, least: int) -> int:
    while width(size) < least:
        size += 1
    return size


def _weights(network: Network, channels: int | None) -> Iterator[Problem]:
    start = starting_weights(network)
    if start == "none":
        return
    info: NetworkInfo | None = NETWORKS[network.name] if network.name is not None else None
    if info is not None and not info.vgg:
        what = f"{network.name} has only random weights, found {network.weights}"
        vgg = [name for name, other in NETWORKS.items() if other.pretrained and other.method == info.method]
        yield Problem(
            "network.weights", what, "auto, none", f"ImageNet weights exist for {', '.join(vgg)} and backbones"
        )
    elif isinstance(start, Path):
        if not start.is_file():
            yield Problem("network.weights", f"there is no file {start}", "auto, imagenet, none, or a file")
    elif channels not in (None, 3):
        what = f"the ImageNet weights of {network.title} are for 3 channels; the images have {channels}"
        yield Problem("images.color", what, "rgb", "Or set network.weights: none")

"""What a network of an experiment is, sees and starts from, and what is wrong with it.

Needs torch only where a backbone or a file of weights is named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcdd_sweep.config.errors import InputError, Problem, closest
from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks.receptive_field import ReceptiveField, receptive_field
from fcdd_sweep.networks.registry import NETWORKS, VGG_WEIGHTS, VGG_WEIGHTS_URL, NetworkInfo

MIN_MAP_WIDTH = 2
"""An anomaly map of one cell shows no place, so FCDD needs an image that leaves more; dense layers take any map."""


def field_of(network: Network, method: str, size: int) -> ReceptiveField:
    """What a cell of the network's map sees in images of `size` pixels; before the dense layers for `hsc` and `ae`.

    Raises:
        InputError: no such network, backbone or node, or a network of another method.
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
    """The network that stands for an FCDD network in a baseline, from the same weights; itself for its own method.

    Raises:
        InputError: no such network, or one that belongs to another baseline.
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
    """What training starts from, `auto` resolved."""
    if network.weights != "auto":
        return network.weights
    return "imagenet" if network.name is None or NETWORKS[network.name].pretrained else "none"


def weights_fingerprint(network: Network) -> str:
    """Which weights training starts from.

    Returns:
        An empty string for random ones; `imagenet:` and the name of torchvision's entry; or the first 12 hex digits
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
    """ImageNet's weights as torchvision publishes them.

    Attributes:
        name: torchvision's: `VGG11_BN_Weights.IMAGENET1K_V1`.
        url: where they are fetched.
        file: where they are kept on this machine, whether they are there yet or not.
    """

    name: str
    url: str
    file: Path


def imagenet_of(network: Network) -> Weights | None:
    """ImageNet's weights if training starts from them."""
    if starting_weights(network) != "imagenet":
        return None
    name, url = VGG_WEIGHTS, VGG_WEIGHTS_URL
    if network.backbone is not None:
        from fcdd_sweep.networks.pretrained import imagenet_weights

        entry = imagenet_weights(network.backbone)
        name, url = str(entry), str(entry.url)
    return Weights(name, url, _torch_home() / "hub" / "checkpoints" / url.rsplit("/", 1)[-1])


def _torch_home() -> Path:
    """Torch's cache, by torch's own rule."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()


def to_fetch(network: Network) -> str:
    """What will be fetched before the first trial, a sentence; empty where that is nothing."""
    weights = imagenet_of(network)
    if weights is None or weights.file.is_file():
        return ""
    return (
        f"{network.title} starts from ImageNet's weights: {weights.name} is not in torch's cache yet and will be "
        f"fetched from {weights.url} to {weights.file}."
    )


def start_text(network: Network) -> str:
    """What training starts from, in the few words of a plan."""
    if weights := imagenet_of(network):
        return f"from {weights.name}, {'in the cache of torch' if weights.file.is_file() else 'to be fetched'}"
    start = starting_weights(network)
    return f"from {start}" if isinstance(start, Path) else "from random weights"


def problems_before_reading(network: Network, method: str, channels: int | None, size: int | None) -> Iterator[Problem]:
    """`problems_of_network`, apart from what a file of weights holds."""
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
    """Whether there is such a network, and for the method."""
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
    """The network of another method that belongs to `name`: the first FCDD network with both, or their counterpart."""
    for fcdd, info in NETWORKS.items():
        family = {"fcdd": fcdd, "hsc": info.hsc, "ae": info.ae}
        if info.method == "fcdd" and name in family.values():
            return family[method]
    return ""


def cut_of(network: Network) -> tuple[str, str]:
    """A backbone and the node where it is cut."""
    assert network.backbone is not None and network.node is not None  # the schema has them together
    return network.backbone, network.node


def _backbone(backbone: str, node: str) -> Iterator[Problem]:
    from fcdd_sweep.networks.backbones import backbone_names, has_node, usable_nodes, why_unusable

    names = backbone_names()
    if backbone not in names:
        what = f"torchvision has no classification network '{backbone}'"
        yield Problem("network.backbone", what, ", ".join(names), closest(backbone, names))
    elif not has_node(backbone, node):
        nodes = usable_nodes(backbone)
        allowed = f"{', '.join(nodes)}, and what lies within them"
        yield Problem("network.node", f"{backbone} has no node '{node}'", allowed, closest(node, nodes))
    elif reason := why_unusable(backbone, node):
        what = f"{backbone} cannot be cut at '{node}': {reason}"
        yield Problem("network.node", what, ", ".join(usable_nodes(backbone)), "Cut it further to the front")


def _size(network: Network, method: str, size: int) -> Iterator[Problem]:
    least = MIN_MAP_WIDTH if method == "fcdd" else 1

    def width(of: int) -> int:
        return _field(network, of).width

    if width(size) < least:
        left = "would vanish" if width(size) < 1 else "would have a single cell and show no place"
        map_ = "the anomaly map" if method == "fcdd" else "the map before the dense layers"
        fits = f"the smallest that fit have {_smallest(width, size, least)} px"
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
        what = f"{network.name} starts from random weights; there are no others for it, found {network.weights}"
        vgg = [name for name, other in NETWORKS.items() if other.pretrained and other.method == info.method]
        yield Problem("network.weights", what, "auto, none", f"ImageNet's weights have {', '.join(vgg)} and backbones")
    elif isinstance(start, Path):
        if not start.is_file():
            yield Problem("network.weights", f"there is no file {start}", "auto, imagenet, none, or a file")
    elif channels not in (None, 3):
        what = f"ImageNet's weights, from which {network.title} starts, are for 3 channels; the images have {channels}"
        yield Problem("images.color", what, "rgb", "Or set network.weights: none")

"""torchvision's classification networks cut at a node: what a cell of the map there sees, and the network up to it.

The receptive field follows from the traced graph: windows add up as in `networks.receptive_field`, branches that meet
are united. Squeeze-and-excitation weighs channels by what it sees of the whole image; for placing a Gaussian it does
not count, as it moves nothing from one place to another.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision import ops
from torchvision.models import feature_extraction
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.shufflenetv2 import channel_shuffle

from fcdd_sweep.networks.receptive_field import ReceptiveField

_TRACED_WHOLE = (channel_shuffle,)
_LEAVES = [kind for kind in vars(ops).values() if inspect.isclass(kind) and issubclass(kind, nn.Module)]
_RESCALING = ("googlenet", "inception_v3")
_WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_PIXELWISE = (
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Identity,
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid),
    ops.StochasticDepth,
    ops.SqueezeExcitation,
    LayerNorm2d,
)
_OVER_LAST = (nn.LayerNorm, nn.Linear)
_IN_PLACE = ("add", "iadd", "mul", "relu", "relu_", "dropout", "channel_shuffle", "contiguous")
"""Functions that keep every value at its place."""


@dataclass(frozen=True)
class _Seen:
    """What the cells of a tensor see, and which of its dimensions are rows and columns."""

    rows: ReceptiveField
    columns: ReceptiveField
    dims: tuple[int, int] = (2, 3)


@dataclass(frozen=True)
class _Lost:
    """A tensor whose cells stand for no place, and because of what."""

    reason: str


def backbone_names() -> list[str]:
    return list(torchvision.models.list_models(module=torchvision.models))


def usable_nodes(backbone: str) -> list[str]:
    """Nodes with a map, in the order of the network: those of its first two levels, such as `layer2` and `layer2.0`,
    or of all levels where those have none."""
    seen = _walk(backbone, 224, 224)
    names = list(seen)[1:]  # the first is the image
    outer = [".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)]
    found = [[name for name in dict.fromkeys(some) if not _why_unusable(seen, name)] for some in (outer, names)]
    return found[0] or found[1]


def why_unusable(backbone: str, node: str) -> str:
    """Why a network cannot be cut at a node that it has; empty where it can."""
    return _why_unusable(_walk(backbone, 224, 224), node)


def has_node(backbone: str, node: str) -> bool:
    return _last(_walk(backbone, 224, 224), node) is not None


def field_at(backbone: str, node: str, size: int) -> ReceptiveField:
    """The receptive field of the map at a usable node for images of `size` pixels; width below 1: no map left."""
    seen = _walk(backbone, size, size)
    found = seen[_last(seen, node) or ""]
    assert isinstance(found, _Seen)
    return found.columns


class Trunk(nn.Module):
    """A network up to a usable node, from random weights: (N, channels, H, W) images to the map there.

    Args:
        backbone: the name of torchvision's function.
        node: where to cut.
        channels: those of the images; torchvision's networks take 3, others get another first convolution.
        rescaling: Inception networks get images scaled as for the other networks, and bring them to their own scale,
            as torchvision has it with ImageNet weights.
    """

    def __init__(self, backbone: str, node: str, channels: int, *, rescaling: bool) -> None:
        super().__init__()
        model = _model(backbone, **({"transform_input": True} if rescaling and backbone in _RESCALING else {}))
        if channels != 3:
            _retake(model, channels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # train and eval mode differ in dropout alone, which is as it should be
            tracing = {"autowrap_functions": _TRACED_WHOLE}
            self.body = feature_extraction.create_feature_extractor(model, {node: "map"}, tracer_kwargs=tracing)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)["map"]


def _model(backbone: str, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two networks announce another initialization for some later day
        if backbone.startswith("regnet") and torch.empty(0).is_meta:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # its widths are read off tensors
                return torchvision.models.get_model(backbone, weights=None, **options).to("meta")
        return torchvision.models.get_model(backbone, weights=None, **options)


def _retake(model: nn.Module, channels: int) -> None:
    """Another first convolution, for images with other channels."""
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    kept = ("out_channels", "kernel_size", "stride", "padding", "dilation")
    new = nn.Conv2d(channels, bias=old.bias is not None, **{key: getattr(old, key) for key in kept})
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


@lru_cache(maxsize=8)
def _traced(backbone: str) -> tuple[nn.Module, dict[fx.Node, str]]:
    """The network without storage, and the nodes of its graph in order with their names in torchvision."""
    with torch.device("meta"):
        model = _model(backbone)
    tracer = feature_extraction.NodePathTracer(leaf_modules=_LEAVES, autowrap_functions=_TRACED_WHOLE)
    tracer.trace(model.eval())
    return model, dict(tracer.node_to_qualname)


@lru_cache(maxsize=64)
def _walk(backbone: str, height: int, width: int) -> Mapping[str, _Seen | _Lost | None]:
    """For each named node what it sees; None for constants."""
    model, names = _traced(backbone)
    found: dict[fx.Node, _Seen | _Lost | None] = {}
    for node, name in names.items():
        inputs = [found.get(given) for given in node.all_input_nodes]  # constants have no name
        lost = next((given for given in inputs if isinstance(given, _Lost)), None)
        maps = [given for given in inputs if isinstance(given, _Seen)]
        if node.op == "placeholder":
            found[node] = _Seen(ReceptiveField.of_input(height), ReceptiveField.of_input(width))
        elif lost or not maps:
            found[node] = lost
        else:
            found[node] = _behind(node, model, maps) or _Lost(f"on the way lies '{name}' ({_kind(node, model)})")
    return {names[node]: seen for node, seen in found.items()}


def _kind(node: fx.Node, model: nn.Module) -> str:
    if node.op == "call_module":
        return type(model.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def _behind(node: fx.Node, model: nn.Module, maps: list[_Seen]) -> _Seen | None:
    """What the output of a node sees, or None where places are lost."""
    if node.op == "call_module":
        return _behind_module(model.get_submodule(str(node.target)), maps[0])
    name = _kind(node, model)
    if name in _FUNCTIONAL_WINDOWS:
        return _behind_module(_FUNCTIONAL_WINDOWS[name](*node.args[1:], **node.kwargs), maps[0])
    if name == "permute":
        order = node.args[1:] if isinstance(node.args[1], int) else node.args[1]
        return _permuted(maps[0], list(order))
    if name == "layer_norm":
        return maps[0] if 3 not in maps[0].dims else None
    return _united(maps) if name in _IN_PLACE or _keeps_maps_whole(node, name) else None


def _keeps_maps_whole(node: fx.Node, name: str) -> bool:
    """Whether maps are put beside one another, or parted, by their channels."""
    if name == "getitem":
        return isinstance(node.args[0], fx.Node) and node.args[0].target == "chunk"
    return name in ("cat", "chunk") and 1 in (node.kwargs.get("dim"), node.args[-1])


_FUNCTIONAL_WINDOWS: dict[str, Callable[..., nn.Module]] = {"max_pool2d": nn.MaxPool2d, "avg_pool2d": nn.AvgPool2d}


def _behind_module(module: nn.Module, seen: _Seen) -> _Seen | None:
    if isinstance(module, nn.Sequential):
        found: _Seen | None = seen
        for child in module:
            found = found and _behind_module(child, found)
        return found
    if isinstance(module, _WINDOWS):
        return _behind_window(module, seen) if seen.dims == (2, 3) else None
    if isinstance(module, ops.Permute):
        return _permuted(seen, module.dims)
    if isinstance(module, _PIXELWISE):
        return seen
    return seen if isinstance(module, _OVER_LAST) and 3 not in seen.dims else None


def _behind_window(module: Any, seen: _Seen) -> _Seen:
    dilation = getattr(module, "dilation", 1)
    values = (module.kernel_size, module.stride, module.padding, dilation)
    rounds_up = getattr(module, "ceil_mode", False)
    rows, columns = (
        _behind_axis(field, *(_along(value, axis) for value in values), rounds_up=rounds_up)
        for axis, field in enumerate((seen.rows, seen.columns))
    )
    return replace(seen, rows=rows, columns=columns)


def _along(value: int | tuple[int, int], axis: int) -> int:
    return value if isinstance(value, int) else value[axis]


def _behind_axis(
    field: ReceptiveField, kernel: int, stride: int, padding: int, dilation: int, *, rounds_up: bool
) -> ReceptiveField:
    reach = dilation * (kernel - 1) + 1
    behind = field.after(reach, stride, padding)
    last = behind.width * stride - padding  # where one window more would begin
    more = rounds_up and (field.width + 2 * padding - reach) % stride > 0 and last < field.width
    return replace(behind, width=behind.width + 1) if more else behind


def _permuted(seen: _Seen, order: list[int]) -> _Seen:
    return replace(seen, dims=(order.index(seen.dims[0]), order.index(seen.dims[1])))


def _united(maps: list[_Seen]) -> _Seen | None:
    first = maps[0]
    for other in maps[1:]:
        if other.dims != first.dims or not _aligned(first, other):
            return None
        rows, columns = first.rows.united(other.rows), first.columns.united(other.columns)
        first = replace(first, rows=rows, columns=columns)
    return first


def _aligned(one: _Seen, other: _Seen) -> bool:
    return (one.rows.jump, one.columns.jump) == (other.rows.jump, other.columns.jump)


def _named(seen: Mapping[str, Any], node: str) -> Iterator[str]:
    return (name for name in seen if name == node or name.startswith(f"{node}."))


def _last(seen: Mapping[str, Any], node: str) -> str | None:
    """The node itself, or the last one within the module of that name, as torchvision has it."""
    return next(reversed(list(_named(seen, node))), None)


def _why_unusable(seen: Mapping[str, _Seen | _Lost | None], node: str) -> str:
    match seen[_last(seen, node) or ""]:
        case _Lost(reason):
            return f"its output stands for no places of the image: {reason}"
        case _Seen(rows, columns, dims) if dims == (2, 3):
            same = replace(rows, width=0) == replace(columns, width=0)
            return "" if same else f"its cells see {rows.size} x {columns.size} px, which is no square"
        case _:
            return "its output is no map of channels, rows and columns"

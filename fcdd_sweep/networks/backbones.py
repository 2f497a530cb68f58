"""torchvision's classification networks cut at a node: the network up to it, and the receptive field of its map.

The receptive field follows from the traced graph: windows compose as in `networks.receptive_field`, and where branches
meet, the field spans all of them. Squeeze-and-excitation weighs channels by the whole image; it does not count, as it
moves nothing from one position to another.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision import ops
from torchvision.models import feature_extraction
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.shufflenetv2 import channel_shuffle

from fcdd_sweep.networks.receptive_field import ReceptiveField

_TRACED_AS_LEAF = (channel_shuffle,)
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
_OVER_LAST_DIM = (nn.LayerNorm, nn.Linear)
_POSITION_PRESERVING = ("add", "iadd", "mul", "relu", "relu_", "dropout", "channel_shuffle", "contiguous")
"""Functions that keep every value at its position."""


@dataclass(frozen=True)
class _CellField:
    """The receptive fields of a tensor's cells, and which of its dimensions are rows and columns."""

    rows: ReceptiveField
    columns: ReceptiveField
    dims: tuple[int, int] = (2, 3)


@dataclass(frozen=True)
class _NoField:
    """A tensor whose cells have no position in the image, and why."""

    reason: str


def backbone_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    return list(torchvision.models.list_models(module=torchvision.models))


def usable_nodes(backbone: str) -> list[str]:
    """Return the nodes with a map in the order of the network.

    They are nodes of its first two levels, such as `layer2` and `layer2.0`, or of all levels where those have no map.
    """
    fields = _fields(backbone, 224, 224)
    names = list(fields)[1:]  # the first is the image
    outer = [".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)]
    usable = [[name for name in dict.fromkeys(some) if not _why_unusable(fields, name)] for some in (outer, names)]
    return usable[0] or usable[1]


def why_unusable(backbone: str, node: str) -> str:
    """Return why a network cannot be cut at a node that it has; an empty string where it can."""
    return _why_unusable(_fields(backbone, 224, 224), node)


def has_node(backbone: str, node: str) -> bool:
    """Return whether a network has a node, or a module, of that name."""
    return _last(_fields(backbone, 224, 224), node) is not None


def field_at(backbone: str, node: str, size: int) -> ReceptiveField:
    """Return the receptive field of the map at a usable node, for images of `size` pixels; width below 1: no map."""
    fields = _fields(backbone, size, size)
    field = fields[_last(fields, node) or ""]
    assert isinstance(field, _CellField)
    return field.columns


class Trunk(nn.Module):
    """A network up to a usable node, with random weights: maps (N, channels, H, W) images to the node's output.

    Args:
        backbone: the name of torchvision's function.
        node: where to cut.
        channels: of the images; for other than the 3 of torchvision's networks the first convolution is replaced.
        rescaling: Inception networks convert images from the scale of the other networks to their own, as in
            torchvision with ImageNet weights.
    """

    def __init__(self, backbone: str, node: str, channels: int, *, rescaling: bool) -> None:
        super().__init__()
        model = _model(backbone, **({"transform_input": True} if rescaling and backbone in _RESCALING else {}))
        if channels != 3:
            _replace_first_conv(model, channels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the graphs of train and eval mode differ in dropout alone, as they should
            tracing = {"autowrap_functions": _TRACED_AS_LEAF}
            self.body = feature_extraction.create_feature_extractor(model, {node: "map"}, tracer_kwargs=tracing)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)["map"]


def _model(backbone: str, **options: bool) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two networks warn of a future change of their initialization
        if backbone.startswith("regnet") and torch.empty(0).is_meta:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # it computes its widths with tensors
                return torchvision.models.get_model(backbone, weights=None, **options).to("meta")
        return torchvision.models.get_model(backbone, weights=None, **options)


def _replace_first_conv(model: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for images with `channels` channels."""
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    kept = ("out_channels", "kernel_size", "stride", "padding", "dilation")
    new = nn.Conv2d(channels, bias=old.bias is not None, **{key: getattr(old, key) for key in kept})
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


@lru_cache(maxsize=8)
def _traced(backbone: str) -> tuple[nn.Module, dict[fx.Node, str]]:
    """Return the network on the meta device, and its graph's nodes in order with their names in torchvision."""
    with torch.device("meta"):
        model = _model(backbone)
    tracer = feature_extraction.NodePathTracer(leaf_modules=_LEAVES, autowrap_functions=_TRACED_AS_LEAF)
    tracer.trace(model.eval())
    return model, dict(tracer.node_to_qualname)


@lru_cache(maxsize=64)
def _fields(backbone: str, height: int, width: int) -> Mapping[str, _CellField | _NoField | None]:
    """Return the receptive field at each named node; None for constants."""
    model, names = _traced(backbone)
    fields: dict[fx.Node, _CellField | _NoField | None] = {}
    for node, name in names.items():
        inputs = [fields.get(other) for other in node.all_input_nodes]  # constants have no name
        without = next((field for field in inputs if isinstance(field, _NoField)), None)
        maps = [field for field in inputs if isinstance(field, _CellField)]
        if node.op == "placeholder":
            fields[node] = _CellField(ReceptiveField.of_input(height), ReceptiveField.of_input(width))
        elif without or not maps:
            fields[node] = without
        else:
            fields[node] = _after_node(node, model, maps) or _NoField(f"because of '{name}' ({_kind(node, model)})")
    return {names[node]: field for node, field in fields.items()}


def _kind(node: fx.Node, model: nn.Module) -> str:
    if node.op == "call_module":
        return type(model.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def _after_node(node: fx.Node, model: nn.Module, maps: list[_CellField]) -> _CellField | None:
    """Return the field of a node's output; None where its cells have no position in the image."""
    if node.op == "call_module":
        return _after_module(model.get_submodule(str(node.target)), maps[0])
    name = _kind(node, model)
    if name in _FUNCTIONAL_WINDOWS:
        return _after_module(_FUNCTIONAL_WINDOWS[name](*node.args[1:], **node.kwargs), maps[0])
    if name == "permute":
        order = node.args[1:] if isinstance(node.args[1], int) else node.args[1]
        return _permute(maps[0], list(order))
    if name == "layer_norm":
        return maps[0] if 3 not in maps[0].dims else None
    return _merged(maps) if name in _POSITION_PRESERVING or _is_channelwise(node, name) else None


def _is_channelwise(node: fx.Node, name: str) -> bool:
    """Return whether a node concatenates or splits maps along their channels."""
    if name == "getitem":
        return isinstance(node.args[0], fx.Node) and node.args[0].target == "chunk"
    return name in ("cat", "chunk") and 1 in (node.kwargs.get("dim"), node.args[-1])


_FUNCTIONAL_WINDOWS: dict[str, Callable[..., nn.Module]] = {"max_pool2d": nn.MaxPool2d, "avg_pool2d": nn.AvgPool2d}


def _after_module(module: nn.Module, field: _CellField) -> _CellField | None:
    if isinstance(module, nn.Sequential):
        after: _CellField | None = field
        for child in module:
            after = after and _after_module(child, after)
        return after
    if isinstance(module, _WINDOWS):
        return _after_window(module, field) if field.dims == (2, 3) else None
    if isinstance(module, ops.Permute):
        return _permute(field, module.dims)
    if isinstance(module, _PIXELWISE):
        return field
    return field if isinstance(module, _OVER_LAST_DIM) and 3 not in field.dims else None


def _after_window(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, field: _CellField) -> _CellField:
    dilation = getattr(module, "dilation", 1)
    values = (module.kernel_size, module.stride, module.padding, dilation)
    rounds_up = getattr(module, "ceil_mode", False)
    rows, columns = (
        _after_window_on_axis(of_axis, *(_on_axis(value, axis) for value in values), rounds_up=rounds_up)
        for axis, of_axis in enumerate((field.rows, field.columns))
    )
    return replace(field, rows=rows, columns=columns)


def _on_axis(value: int | tuple[int, int], axis: int) -> int:
    return value if isinstance(value, int) else value[axis]


def _after_window_on_axis(
    field: ReceptiveField, kernel: int, stride: int, padding: int, dilation: int, *, rounds_up: bool
) -> ReceptiveField:
    """Return the field after a window; `rounds_up`: torch's `ceil_mode`, which adds a window that starts inside."""
    reach = dilation * (kernel - 1) + 1
    after = field.after(reach, stride, padding)
    next_start = after.width * stride - padding  # of one more window
    one_more = rounds_up and (field.width + 2 * padding - reach) % stride > 0 and next_start < field.width
    return replace(after, width=after.width + 1) if one_more else after


def _permute(field: _CellField, order: list[int]) -> _CellField:
    return replace(field, dims=(order.index(field.dims[0]), order.index(field.dims[1])))


def _merged(maps: list[_CellField]) -> _CellField | None:
    first = maps[0]
    for other in maps[1:]:
        if other.dims != first.dims or not _aligned(first, other):
            return None
        rows, columns = first.rows.union(other.rows), first.columns.union(other.columns)
        first = replace(first, rows=rows, columns=columns)
    return first


def _aligned(one: _CellField, other: _CellField) -> bool:
    return (one.rows.jump, one.columns.jump) == (other.rows.jump, other.columns.jump)


def _named(fields: Mapping[str, object], node: str) -> Iterator[str]:
    return (name for name in fields if name == node or name.startswith(f"{node}."))


def _last(fields: Mapping[str, object], node: str) -> str | None:
    """Return the node itself, or the last one within the module of that name, as torchvision does."""
    return next(reversed(list(_named(fields, node))), None)


def _why_unusable(fields: Mapping[str, _CellField | _NoField | None], node: str) -> str:
    match fields[_last(fields, node) or ""]:
        case _NoField(reason):
            return f"its output has no positions in the image {reason}"
        case _CellField(rows, columns, dims) if dims == (2, 3):
            same = replace(rows, width=0) == replace(columns, width=0)
            return "" if same else f"its cells see {rows.size} x {columns.size} px, which is not square"
        case _:
            return "its output is not a map of channels, rows and columns"

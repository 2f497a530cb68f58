"""Receptive fields: which input pixels an output cell sees. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from fcdd_sweep.networks.layers import Conv, LayerSpec, MaxPool
from fcdd_sweep.networks.registry import NETWORKS


@dataclass(frozen=True)
class ReceptiveField:
    """What one output cell sees of the input, in input pixels, the same along both axes.

    Attributes:
        size: side of the square that a cell sees.
        jump: distance between neighboring cells' centers.
        shift: center of the first cell; 0 is the center of the first pixel.
        width: number of cells along an axis.
    """

    size: int
    jump: int
    shift: float
    width: int

    @classmethod
    def of_input(cls, width: int) -> ReceptiveField:
        """The image itself, `width` pixels wide: every cell is one pixel."""
        return cls(size=1, jump=1, shift=0.0, width=width)

    def after(self, kernel: int, stride: int, padding: int) -> ReceptiveField:
        """The receptive field behind one more convolution or pooling."""
        return ReceptiveField(
            size=self.size + (kernel - 1) * self.jump,
            jump=self.jump * stride,
            shift=self.shift + ((kernel - 1) / 2 - padding) * self.jump,
            width=(self.width + 2 * padding - kernel) // stride + 1,
        )

    def united(self, other: ReceptiveField) -> ReceptiveField:
        """What a cell sees through two branches of the same jump that meet: from the first pixel to the last."""
        ends = [(field.shift - (field.size - 1) / 2, field.shift + (field.size - 1) / 2) for field in (self, other)]
        first, last = min(end[0] for end in ends), max(end[1] for end in ends)
        return ReceptiveField(int(last - first) + 1, self.jump, (first + last) / 2, min(self.width, other.width))


def field_behind(layers: tuple[LayerSpec, ...], size: int) -> ReceptiveField:
    """The receptive field behind convolutional layers for images that are `size` pixels wide; width 0: no map left."""
    field = ReceptiveField.of_input(size)
    for layer in layers:
        match layer:
            case Conv(kernel):
                field = field.after(kernel, stride=1, padding=kernel // 2)
            case MaxPool(kernel, stride, padding):
                field = field.after(kernel, stride, padding)
            case _:
                pass
    return field


def receptive_field(name: str, size: int) -> ReceptiveField:
    """The receptive field of the named network, of its convolutional part for `hsc` and `ae`.

    Its width is below 1 where the map vanishes; `networks.describe` says so in words.
    """
    return field_behind(NETWORKS[name].layers, size)

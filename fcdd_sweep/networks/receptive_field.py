"""Receptive fields: which input pixels an output cell depends on. Needs no torch.

Source: the recurrences of Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, Distill 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from fcdd_sweep.networks.layers import Conv, LayerSpec, MaxPool
from fcdd_sweep.networks.registry import NETWORKS


@dataclass(frozen=True)
class ReceptiveField:
    """The input pixels that an output cell depends on; the same along both axes.

    Attributes:
        size: side of the square that a cell sees, in input pixels.
        jump: distance between the centers of neighboring cells, in input pixels.
        shift: center of the first cell, in input pixels; 0 is the center of the first pixel.
        width: number of cells along an axis.
    """

    size: int
    jump: int
    shift: float
    width: int

    @classmethod
    def of_input(cls, width: int) -> ReceptiveField:
        """Return the field of the image itself, `width` pixels wide: every cell is one pixel."""
        return cls(size=1, jump=1, shift=0.0, width=width)

    def after(self, kernel: int, stride: int, padding: int) -> ReceptiveField:
        """Return the receptive field after one more convolution or pooling."""
        return ReceptiveField(
            size=self.size + (kernel - 1) * self.jump,
            jump=self.jump * stride,
            shift=self.shift + ((kernel - 1) / 2 - padding) * self.jump,
            width=(self.width + 2 * padding - kernel) // stride + 1,
        )

    def union(self, other: ReceptiveField) -> ReceptiveField:
        """Return the field where two branches of the same jump meet: from the first pixel of both to the last."""
        ends = [(field.shift - (field.size - 1) / 2, field.shift + (field.size - 1) / 2) for field in (self, other)]
        first, last = min(end[0] for end in ends), max(end[1] for end in ends)
        return ReceptiveField(int(last - first) + 1, self.jump, (first + last) / 2, min(self.width, other.width))


def field_after(layers: tuple[LayerSpec, ...], size: int) -> ReceptiveField:
    """Return the receptive field after convolutional layers, for images of `size` pixels; width 0: no map is left."""
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
    """Return the receptive field of a network of the registry; for `hsc` and `ae`, of its convolutional part.

    Its width is below 1 where the map vanishes; `networks.describe` reports that as a problem.
    """
    return field_after(NETWORKS[name].layers, size)

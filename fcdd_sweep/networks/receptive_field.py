"""Receptive fields: which input pixels an output cell sees. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from fcdd_sweep.networks.registry import NETWORKS, Conv, Pool

MIN_MAP_WIDTH = 2
"""An anomaly map of one cell shows no place, so a network needs an image that leaves more."""


@dataclass(frozen=True)
class ReceptiveField:
    """What one output cell sees of the input, in input pixels, the same along both axes.

    Attributes:
        size: side of the square that a cell sees.
        jump: distance between neighbouring cells' centres.
        shift: centre of the first cell; 0 is the centre of the first pixel.
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


def receptive_field(name: str, size: int) -> ReceptiveField:
    """The receptive field of the network `name` for images that are `size` pixels wide.

    Its width is below 1 where the map vanishes; `check_size` says so in words.
    """
    field = ReceptiveField.of_input(size)
    for layer in NETWORKS[name].layers:
        match layer:
            case Conv(kernel):
                field = field.after(kernel, stride=1, padding=kernel // 2)
            case Pool(kernel, stride, padding):
                field = field.after(kernel, stride, padding)
            case _:
                pass
    return field


def check_size(name: str, size: int) -> str | None:
    """Why images of `size` pixels do not fit the network `name`, or None when they do."""
    width = receptive_field(name, size).width
    if width >= MIN_MAP_WIDTH:
        return None
    smallest = size + 1
    while receptive_field(name, smallest).width < MIN_MAP_WIDTH:
        smallest += 1
    left = "vanish" if width < 1 else "have a single cell and show no place"
    return f"the anomaly map of {name} would {left} for images of {size} px; the smallest that fit have {smallest} px"

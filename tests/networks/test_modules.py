"""Forward passes against a slow interpreter of the paper's own notation, which knows nothing of our tables.

Words: `C5-8` convolution 5x5 to 8 channels, `B` batch norm, `b` batch norm that is there and unused, `L` leaky ReLU,
`R` ReLU, `P` maximum of 2x2, `P3` of 3x3 with stride 2 and padding 1, `F48` dense layer to 48, `V3x4x4` features as a
map, `U` doubled, `D5-4` transposed convolution, `D5-8p3` the same with padding 3, `S` sigmoid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fcdd_sweep.networks.build import build_network

Array = npt.NDArray[np.float64]
VGG = "C3-64 B R P C3-128 B R P C3-256 B R C3-256 B R P C3-512 B R C3-512 B R"
NOTATION = {
    "FCDD_CNN28": ((1, 28, 28), "C5-8 B L P C5-16 P C1-1"),
    "FCDD_CNN28_W": ((1, 16, 16), "C5-128 B L P C5-128 P C1-1"),
    "FCDD_CNN32": ((3, 32, 32), "C5-32 B L P C5-64 B L P C5-128 b C1-1"),
    "FCDD_CNN32_S": ((3, 32, 32), "C3-32 B L P C3-64 B L P C3-128 C1-1"),
    "FCDD_CNN32_LW3K": ((3, 16, 16), "C3-128 B L P C3-256 B L C3-256 B L P C3-128 b C1-1"),
    "FCDD_CNN32_7K": ((3, 16, 16), "C7-128 B L P C3-256 B L P C3-128 C1-1"),
    "FCDD_CNN224": ((3, 48, 40), "C5-8 B L P3 C5-32 B L P3 C3-64 B L C3-128 B L P3 C3-128 C1-1"),
    "FCDD_CNN224_W": ((3, 32, 32), "C5-32 B L P3 C5-128 B L P3 C3-256 B L C3-256 B L P3 C3-128 C1-1"),
    "FCDD_CNN224_3K": ((3, 32, 32), "C3-32 B L P3 C3-128 B L P3 C3-256 B L C3-256 B L P3 C3-128 C1-1"),
    "FCDD_CNN224_VGG_NOPT": ((3, 32, 32), f"{VGG} C1-1"),
    "CNN28": ((1, 28, 28), "C5-8 B L P C5-4 B L P F48"),
    "CNN28_W": ((1, 28, 28), "C5-128 B L P C5-64 B L P F48"),
    "CNN32": ((3, 32, 32), "C5-32 B L P C5-64 B L P C5-128 B L P F512 B L F64"),
    "CNN32_LW3K": ((3, 32, 32), "C3-128 B L P C3-256 B L C3-256 B L P C3-128 B L P F512 B L F64"),
    "AE28": ((1, 28, 28), "C5-8 B L P C5-4 B L P F48 V3x4x4 L U D5-4 B L U D5-8p3 B L U D5-1 S"),
    "AE32": (
        (3, 32, 32),
        "C5-32 B L P C5-64 B L P C5-128 B L P F512 B L F64 B V4x4x4 L D5-128 B L U D5-64 B L U D5-32 B L U D5-3",
    ),
    "AE32_LW3K": (
        (3, 32, 32),
        "C3-128 B L P C3-256 B L C3-256 B L P C3-128 B L P F512 B L F64 B V4x4x4 L "
        "D3-128 B L U D3-256 B L D3-256 B L U D3-128 B L U D3-3",
    ),
    "CNN224": (
        (3, 64, 64),
        "C5-8 B L P3 C5-32 B L P3 C3-64 B L C3-128 B L P3 C3-128 B L P3 C3-64 B L P3 F1536 B L F784",
    ),
    "AE224": (
        (3, 224, 224),
        "C5-8 B L P3 C5-32 B L P3 C3-64 B L C3-128 B L P3 C3-128 B L P3 C3-64 B L P3 F1536 B L F784 B V16x7x7 L "
        "D3-64 B L U D3-128 B L U D3-128 B L U D3-64 B L D3-32 B L U D5-8 B L U D5-3 S",
    ),
}


def interpreted(words: str, images: Array, tensors: Iterator[Array], eps: float) -> Array:
    """What the words make of (N, C, H, W) images, with parameters taken in the order in which they are registered."""
    values = images
    for word in words.split():
        kind, numbers = word[0], [int(number) for number in re.findall(r"\d+", word)]
        if kind == "C":
            weight, bias = next(tensors), next(tensors)
            assert weight.shape[0] == numbers[1] and weight.shape[2:] == (numbers[0], numbers[0])
            values = correlated(values, weight, numbers[0] // 2) + bias[:, None, None]
        elif kind == "D":
            weight, bias = next(tensors), next(tensors)
            assert weight.shape[1] == numbers[1] and weight.shape[2:] == (numbers[0], numbers[0])
            padding = numbers[2] if len(numbers) > 2 else numbers[0] // 2
            turned = weight.swapaxes(0, 1)[:, :, ::-1, ::-1]
            values = correlated(values, turned, numbers[0] - 1 - padding) + bias[:, None, None]
        elif kind in "Bb":
            gain, offset, mean, variance, _ = (next(tensors) for _ in range(5))
            shape = (-1, *[1] * (values.ndim - 2))
            if kind == "B":
                scale = (gain / np.sqrt(variance + eps)).reshape(shape)
                values = (values - mean.reshape(shape)) * scale + offset.reshape(shape)
        elif kind == "F":
            weight, bias = next(tensors), next(tensors)
            assert weight.shape[0] == numbers[0]
            values = values.reshape(len(values), -1) @ weight.T + bias
        elif kind == "P":
            values = largest(values, 3, 1) if word == "P3" else largest(values, 2, 0)
        elif kind == "V":
            values = values.reshape(len(values), *numbers)
        elif kind == "U":
            values = values.repeat(2, axis=2).repeat(2, axis=3)
        else:
            values = {
                "L": lambda x: np.where(x > 0, x, 0.01 * x),
                "R": lambda x: np.maximum(x, 0),
                "S": lambda x: 1 / (1 + np.exp(-x)),
            }[kind](values)
    assert next(tensors, None) is None
    return values


def correlated(values: Array, weight: Array, padding: int) -> Array:
    kernel = weight.shape[-1]
    around = np.pad(values, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = (side - kernel + 1 for side in around.shape[2:])
    total = np.zeros((len(values), len(weight), height, width))
    for y in range(kernel):
        for x in range(kernel):
            total += np.einsum("oc,nchw->nohw", weight[:, :, y, x], around[:, :, y : y + height, x : x + width])
    return total


def largest(values: Array, kernel: int, padding: int) -> Array:
    pads = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    around = np.pad(values, pads, constant_values=-np.inf)
    height, width = ((side - kernel) // 2 + 1 for side in around.shape[2:])
    shifted = [
        around[:, :, y : y + 2 * height - 1 : 2, x : x + 2 * width - 1 : 2]
        for y in range(kernel)
        for x in range(kernel)
    ]
    return np.max(shifted, axis=0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "AE224" else name for name in NOTATION]
)
@pytest.mark.slow
def test_a_network_computes_what_the_papers_table_says(name: str) -> None:
    in_shape, words = NOTATION[name]
    network = build_network(name, in_shape, seed=0, weights="none").eval()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.uniform_(0.5, 1.5, generator=generator)
    images = torch.randn(2, *in_shape, generator=generator)
    with torch.no_grad():
        found = network(images).double().numpy()
    tensors = iter([tensor.double().numpy() for tensor in network.state_dict().values()])
    expected = interpreted(words, images.double().numpy(), tensors, 1e-5 if "VGG" in name else 1e-4)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

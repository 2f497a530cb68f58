"""Losses, scores and maps of the three methods against slow loops that follow the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fcdd_sweep.training.compose import Batch
from fcdd_sweep.training.losses import hypersphere_distance, reconstruction_error
from fcdd_sweep.training.methods import METHODS


class Dense(nn.Module):
    """Images to vectors."""

    layout = torch.contiguous_format

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 2, 4, 4, generator=generator)
    return Batch(inputs, torch.tensor([0, 1, 0, 1, 1, 0]), None)


@pytest.fixture
def dense():
    torch.manual_seed(0)
    return Dense(32, 5).eval()


def distances(outputs):
    return [math.sqrt(sum(value**2 for value in row) + 1) - 1 for row in outputs.double().tolist()]


def test_hsc_losses_are_those_of_the_formula_one_by_one(dense, batch):
    outputs = dense(batch.inputs)
    expected = [
        -math.log(1 - math.exp(-a) + 1e-31) if label else a
        for a, label in zip(distances(outputs), batch.labels.tolist(), strict=True)
    ]
    losses = METHODS["hsc"].losses(dense, outputs, batch, None)
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)


def test_small_distances_of_vectors_are_exact_in_float32():
    assert hypersphere_distance(torch.full((1, 4), 1e-4)).item() == pytest.approx(2e-8, rel=1e-4)


def test_hsc_maps_are_the_size_of_the_score_s_gradient_summed_over_channels(dense, batch):
    maps, scores = METHODS["hsc"].detect(dense, batch.inputs)
    assert scores.tolist() == pytest.approx(distances(dense(batch.inputs)), rel=1e-4)
    step = 1e-3
    wide = dense.double()
    for image, y, x in [(0, 0, 0), (3, 2, 1)]:
        total = 0.0
        for channel in range(2):
            moved = batch.inputs.double().clone()
            moved[image, channel, y, x] += step
            up = distances(wide(moved))[image]
            moved[image, channel, y, x] -= 2 * step
            total += abs(up - distances(wide(moved))[image]) / (2 * step)
        assert maps[image, 0, y, x].item() == pytest.approx(total, rel=1e-3)


def test_hsc_maps_come_without_leaving_gradients_behind(dense, batch):
    with torch.no_grad():
        maps, scores = METHODS["hsc"].detect(dense, batch.inputs)
    assert not maps.requires_grad and not scores.requires_grad
    assert all(parameter.grad is None for parameter in dense.parameters())


def test_ae_scores_and_maps_are_squared_errors(batch):
    half = nn.Module()
    half.layout = torch.contiguous_format
    half.forward = lambda images: images / 2
    maps, scores = METHODS["ae"].detect(half, batch.inputs)
    error = (batch.inputs.double().numpy() / 2) ** 2
    np.testing.assert_allclose(maps[:, 0], error.mean(1), rtol=1e-5)
    np.testing.assert_allclose(scores, error.mean((1, 2, 3)), rtol=1e-5)
    losses = METHODS["ae"].losses(half, batch.inputs / 2, batch, None)
    np.testing.assert_allclose(losses, error.mean((1, 2, 3)), rtol=1e-5)


def test_reconstruction_errors_average_over_channels():
    error = reconstruction_error(torch.zeros(1, 3, 1, 2), torch.tensor([[[[1.0, 0]], [[2.0, 0]], [[3.0, 3]]]]))
    assert error.tolist() == [[[[pytest.approx(14 / 3), 3.0]]]]

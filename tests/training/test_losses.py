"""Losses against loops in plain Python, and the limits where float32 is hardest."""

import math

import pytest
import torch

from fcdd_sweep.training.image_scores import image_scores
from fcdd_sweep.training.losses import FLOOR, anomalous_loss, fcdd_label_loss, fcdd_map_loss, pseudo_huber


def loop_label_loss(outputs: torch.Tensor, labels: list[int]) -> list[float]:
    """The published formula in float64, one pixel at a time."""
    losses = []
    for image, label in zip(outputs.double().tolist(), labels, strict=True):
        values = [math.sqrt(value * value + 1) - 1 for row in image[0] for value in row]
        a = sum(values) / len(values)
        losses.append(a if label == 0 else -math.log(1 - math.exp(-a) + FLOOR))
    return losses


def loop_map_loss(heatmaps: torch.Tensor, gt_maps: torch.Tensor) -> list[float]:
    losses = []
    for heatmap, gt_map in zip(heatmaps.double().tolist(), gt_maps.tolist(), strict=True):
        cells = [
            (a, y) for row, marks in zip(heatmap[0], gt_map[0], strict=True) for a, y in zip(row, marks, strict=True)
        ]
        nominal = sum(a * (1 - y) for a, y in cells) / len(cells)
        pushed = sum(a * y for a, y in cells) / len(cells)
        has_defect = any(y for _, y in cells)
        losses.append(nominal + (-math.log(1 - math.exp(-pushed) + FLOOR) if has_defect else 0.0))
    return losses


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_label_loss_equals_the_published_formula(generator, scale):
    outputs = torch.randn(8, 1, 5, 7, generator=generator) * scale
    labels = [0, 1, 1, 0, 1, 0, 0, 1]
    losses = fcdd_label_loss(pseudo_huber(outputs), torch.tensor(labels))
    # anomalies far out have losses near 0, where float32 leaves an absolute error
    assert losses.tolist() == pytest.approx(loop_label_loss(outputs, labels), rel=1e-4, abs=1e-6)


def test_a_batch_of_one_label_goes_by_its_labels(generator):
    maps = pseudo_huber(torch.randn(4, 1, 3, 3, generator=generator))
    nominal, anomalous = (fcdd_label_loss(maps, torch.full((4,), label)) for label in (0, 1))
    assert torch.equal(nominal, image_scores(maps))
    assert torch.equal(anomalous, anomalous_loss(image_scores(maps)))


def test_map_loss_equals_the_published_formula(generator):
    heatmaps = torch.rand(5, 1, 6, 6, generator=generator) * 3
    gt_maps = (torch.rand(5, 1, 6, 6, generator=generator) < 0.3).to(torch.uint8)
    gt_maps[0] = 0
    gt_maps[1] = 1
    assert fcdd_map_loss(heatmaps, gt_maps).tolist() == pytest.approx(loop_map_loss(heatmaps, gt_maps), rel=1e-4)


@pytest.mark.parametrize("a", [1e-9, 1e-6, 1e-4, 1e-2, 1.0, 50.0, 200.0])
def test_anomalous_loss_is_exact_in_float32(a):
    exact = -math.log(-math.expm1(-a) + FLOOR)
    assert anomalous_loss(torch.tensor(a)).item() == pytest.approx(exact, rel=1e-5, abs=1e-30)


def test_small_outputs_keep_their_distance():
    # sqrt(f^2 + 1) - 1 itself is 0 in float32 below 2.4e-4
    assert pseudo_huber(torch.tensor(1e-4)).item() == pytest.approx(0.5e-8, rel=1e-4)


def test_gradients_stay_finite_at_the_center():
    outputs = torch.zeros(2, 1, 3, 3, requires_grad=True)
    fcdd_label_loss(pseudo_huber(outputs), torch.tensor([0, 1])).sum().backward()
    assert torch.isfinite(outputs.grad).all()


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="N labels"):
        fcdd_label_loss(torch.zeros(3, 1, 2, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="differ in shape"):
        fcdd_map_loss(torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 4, 4))

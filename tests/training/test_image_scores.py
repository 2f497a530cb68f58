"""Scores of images."""

import pytest
import torch

from fcdd_sweep.config.fields import TOP_SHARES
from fcdd_sweep.training import image_scores


@pytest.mark.parametrize("side", [1, 2, 57])
def test_scores_of_large_heatmaps_are_bit_for_bit_those_by_torch(side, monkeypatch):
    heatmaps = torch.rand(3, 1, side, side, generator=torch.Generator().manual_seed(4)).round(decimals=3)
    expected = image_scores.heatmap_scores(heatmaps)
    monkeypatch.setattr(image_scores, "_MOST_VALUES", 0)
    assert torch.equal(image_scores.heatmap_scores(heatmaps), expected)
    assert expected.shape == (3, 1 + len(TOP_SHARES)) and torch.equal(expected[:, 0].float(), heatmaps.amax((1, 2, 3)))

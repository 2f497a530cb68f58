from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from fcdd_sweep.anomalies import render, spots


@pytest.mark.parametrize("side", [96, 192])
def test_an_image_has_one_spot_sized_by_the_image(side: int) -> None:
    marked = (render("spots", 300, (1, side, side), torch.Generator().manual_seed(side)) != 0)[:, 0].numpy()
    assert all(ndimage.label(each, np.ones((3, 3)))[1] == 1 for each in marked)
    smallest, largest = (math.pi / 4 * (share * side) ** 2 for share in spots.DIAMETER)
    areas = marked.sum((1, 2))
    assert areas.max() <= 1.15 * largest and np.quantile(areas, 0.2) >= 0.7 * smallest  # some are cut by the edge
    assert areas.mean() == pytest.approx((largest - smallest) / math.log(largest / smallest), rel=0.15)


def test_a_spot_is_strongest_in_its_middle_and_lightens_as_often_as_it_darkens() -> None:
    noise = render("spots", 400, (3, 64, 64), torch.Generator().manual_seed(0)).flatten(2).double()
    strongest = noise.abs().amax(2)
    assert spots.SPOT_STRENGTH[0] <= strongest.min() and strongest.max() <= spots.SPOT_STRENGTH[1]
    assert strongest.mean().item() == pytest.approx(sum(spots.SPOT_STRENGTH) / 2, abs=4)
    lighter = (noise.amax((1, 2)) > 0).double()
    assert not ((noise.amax((1, 2)) > 0) & (noise.amin((1, 2)) < 0)).any()
    assert abs(lighter.mean().item() - 0.5) < 2 / math.sqrt(400)

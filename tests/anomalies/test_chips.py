from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from fcdd_sweep.anomalies import chips, render
from fcdd_sweep.anomalies.draws import GeneratorDraws


def cover_of(length: float, slender: float, turn: float, soft: float, side: int = 101) -> torch.Tensor:
    """Return the cover of one chip in the middle of an image, from numbers in 0..1."""
    drawn = torch.tensor([[0.5, 0.5, length, slender, turn, soft]])
    pixels = torch.arange(side, dtype=torch.float32)
    return chips._cover(drawn, pixels.view(1, side, 1), pixels.view(1, 1, side))[0]


@pytest.mark.parametrize("turn", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("soft", [0.0, 1.0])
def test_a_chip_covers_its_length_times_its_width_however_it_is_turned(turn: float, soft: float) -> None:
    longest = chips.LENGTH[1] * 101
    assert cover_of(1.0, 0.0, turn, soft).sum().item() == pytest.approx(longest**2, rel=0.02)
    width = longest / chips.SLENDERNESS
    assert cover_of(1.0, 1.0, turn, soft).sum().item() == pytest.approx(longest * width, rel=0.04)


def test_no_chip_is_thinner_than_a_pixel_and_a_half_in_a_tiny_image() -> None:
    covered = [cover_of(0.0, 1.0, turn, 0.0, side=15) for turn in (0.0, 0.1, 0.2, 0.3, 0.4)]
    assert min(cover.max().item() for cover in covered) == 1  # a thinner one would cover no pixel
    assert all(1 <= cover.sum().item() <= 1.2 * chips.THINNEST**2 for cover in covered)


def test_sharp_chips_fade_within_half_a_pixel_and_soft_ones_over_three() -> None:
    rows = [cover_of(1.0, 0.0, 0.0, soft)[50] for soft in (0.0, 1.0)]
    partly = [int(((row > 0) & (row < 1)).sum()) for row in rows]
    assert partly[0] <= 2 and 4 <= partly[1] <= 6


def test_chips_are_sized_by_the_image() -> None:
    shares = []
    for side in (96, 192):
        noise = render("chips", 400, (1, side, side), torch.Generator().manual_seed(side))
        shares.append((noise != 0).flatten(1).float().mean(1).numpy())
    assert stats.ks_2samp(*shares).pvalue > 0.01
    assert 0.015 < shares[0].mean() < 0.06


def test_chips_lighten_as_often_as_they_darken_within_their_strengths() -> None:
    noise = render("chips", 600, (3, 64, 64), torch.Generator().manual_seed(3)).flatten(2)
    strongest = noise.abs().amax(2).double()
    assert noise.abs().max() <= 1.5 * chips.CHIP_STRENGTH[1]
    assert noise[noise.abs() > 200].numel() and strongest.min() >= 1
    lighter = (noise > 0).any(2)[:, 0].float().mean() - (noise < 0).any(2)[:, 0].float().mean()
    assert abs(lighter.item()) < 4 / math.sqrt(600)


def test_an_image_has_one_to_four_chips_each_number_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole_rows(drawn: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        placed.append(len(placed))
        return (rows == placed[-1]).float() * torch.ones_like(columns)

    placed: list[int] = []
    monkeypatch.setattr(chips, "_cover", whole_rows)  # the chips of an image in one row each
    noise = chips.render_chips(4000, (1, chips.MOST_CHIPS, 1), GeneratorDraws(torch.Generator().manual_seed(0)))
    counts = torch.bincount((noise != 0).flatten(1).sum(1), minlength=chips.MOST_CHIPS + 1)
    assert counts[0] == 0 and stats.chisquare(counts[1:].numpy()).pvalue > 0.001

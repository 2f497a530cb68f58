from __future__ import annotations

import numpy as np
import pytest
import torch

from fcdd_sweep.data.transforms import local_contrast_normalization


@pytest.mark.parametrize("scale", ["l1", "l2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_normalized_by_itself(scale: str, channels: int) -> None:
    images = np.random.default_rng(0).uniform(0, 255, size=(4, channels, 6, 9))
    images[2] = images[2] * 0.1 + 40
    given = local_contrast_normalization(torch.from_numpy(images), scale).numpy()
    for image, normalized in zip(images, given, strict=True):
        centered = image - image.mean()
        spread = np.abs(centered).mean() if scale == "l1" else np.sqrt((centered**2).sum()) / centered.size
        np.testing.assert_allclose(normalized, centered / spread, rtol=1e-10, atol=1e-10)


def test_l1_leaves_mean_zero_and_mean_absolute_value_one() -> None:
    images = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    normalized = local_contrast_normalization(images)
    torch.testing.assert_close(normalized.mean(dim=(1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(normalized.abs().mean(dim=(1, 2, 3)), torch.ones(3))


@pytest.mark.parametrize("scale", ["l1", "l2"])
def test_constant_images_become_zero_and_disturb_no_other(scale: str) -> None:
    images = torch.rand(3, 1, 31, 31, generator=torch.Generator().manual_seed(0))
    images[1] = 0.1
    normalized = local_contrast_normalization(images, scale)
    assert not normalized[1].any()
    torch.testing.assert_close(normalized[[0, 2]], local_contrast_normalization(images[[0, 2]], scale))


@pytest.mark.parametrize("scale", ["l1", "l2"])
def test_one_differing_gray_level_is_still_normalized(scale: str) -> None:
    image = torch.full((1, 3, 64, 64), 200 / 255)
    image[0, 0, 5, 5] = 201 / 255
    normalized = local_contrast_normalization(image.double(), scale)
    expected = 64 * 64 * 3 / 2 if scale == "l1" else 64 * 64 * 3
    assert normalized.max().item() == pytest.approx(expected, rel=1e-3)

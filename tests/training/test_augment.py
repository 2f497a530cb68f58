"""Batch augmentation against per-sample oracles."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from fcdd_sweep.training import augment
from fcdd_sweep.training.augment import Jitter


@pytest.fixture
def images():
    return torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_crops_are_windows_of_the_padded_image(images, rng):
    geometry = augment.randomly_cropped(rng, 6, 12, 10, padding=3)
    cropped = geometry.apply(images)
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3))
    for i in range(6):
        top, left = int(geometry.rows[i, 0]) + 3, int(geometry.columns[i, 0]) + 3
        assert torch.equal(cropped[i], padded[i, :, top : top + 10, left : left + 10])


def test_crops_reach_every_offset_of_the_padded_image(rng):
    starts = augment.randomly_cropped(rng, 2000, 12, 10, padding=3).rows[:, 0]
    assert set(starts.tolist()) == set(range(-3, 6))


def test_flips_mirror_about_half_of_the_images(images, rng):
    flipped = augment.randomly_flipped(rng, augment.center_cropped(6, 12, 12)).apply(images)
    mirrored = [torch.equal(flipped[i], images[i].flip(-1)) for i in range(6)]
    kept = [torch.equal(flipped[i], images[i]) for i in range(6)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    many = augment.randomly_flipped(rng, augment.center_cropped(4000, 8, 8)).columns[:, 0] == 7
    assert 0.46 < many.mean() < 0.54


@pytest.mark.parametrize("size", [7, 12, 5])
def test_resizing_takes_the_nearest_pixels_as_torch_does(images, size):
    ours = augment.resized(6, 12, size).apply(images)
    assert torch.equal(ours, torch.nn.functional.interpolate(images, size=(size, size), mode="nearest"))


def test_image_and_map_get_the_same_geometry(rng):
    raw = torch.zeros(8, 1, 20, 20, dtype=torch.uint8)
    raw[:, :, 5:9, 7:13] = 1
    geometry = augment.choose_geometry(rng, augment.randomly_cropped(rng, 8, 20, 16), augment.resized(8, 20, 16))
    assert torch.equal(geometry.apply(raw * 200), geometry.apply(raw) * 200)


@pytest.mark.parametrize("turns", [-0.4, -0.03, 0.0, 0.1, 0.5])
def test_hue_shift_equals_torchvision(images, turns):
    ours = augment.shift_hue(images, torch.full((6, 1, 1), turns))
    assert torch.allclose(ours, tv.adjust_hue(images, turns), atol=1e-5)


def test_jitter_equals_torchvision_in_our_order(images):
    jitter = Jitter(0.3, 0.2, 0.4, 0.1)
    ours = augment.color_jitter(np.random.default_rng(5), images, (jitter,))
    rng = np.random.default_rng(5)
    rng.integers(1, size=6)
    amounts = rng.uniform(-1, 1, (6, 4)) * jitter.amounts()
    for image, result, (brightness, contrast, saturation, hue) in zip(images, ours, amounts, strict=True):
        expected = tv.adjust_contrast(tv.adjust_brightness(image, 1 + brightness), 1 + contrast)
        expected = tv.adjust_hue(tv.adjust_saturation(expected, 1 + saturation), hue)
        assert torch.allclose(result, expected, atol=2e-4)


def test_gray_images_have_no_hue_to_jitter(images, rng):
    gray = augment.color_jitter(rng, images[:, :1], (Jitter(0.1, 0.1, 0.1, 0.1),))
    assert gray.shape == (6, 1, 12, 12) and not torch.equal(gray, images[:, :1])


def test_noise_falls_on_half_of_the_images_in_proportion_to_their_spread(rng):
    images = torch.rand(400, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    noisy = augment.noise_on_half(rng, torch.Generator().manual_seed(2), images, 0.1)
    difference = (noisy - images).flatten(1)
    touched = difference.abs().amax(1) > 0
    assert 0.4 < touched.float().mean() < 0.6
    ratio = difference[touched].std(1) / images.flatten(1).std(1)[touched]
    assert ratio.mean().item() == pytest.approx(0.1, rel=0.05)

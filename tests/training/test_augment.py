"""Batch augmentation against per-sample oracles."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from fcdd_sweep.anomalies.draws import GeneratorDraws
from fcdd_sweep.training import augment
from fcdd_sweep.training.augment import Jitter


@pytest.fixture
def images():
    return torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_crops_are_windows_of_the_padded_image(images, rng):
    top, left = torch.from_numpy(rng.integers(-3, 6, size=(2, 6)))
    geometry = augment.cropped(top, left, 10)
    cropped = geometry.apply(images)
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3))
    for i, (row, column) in enumerate(zip((top + 3).tolist(), (left + 3).tolist(), strict=True)):
        assert torch.equal(cropped[i], padded[i, :, row : row + 10, column : column + 10])


def test_flips_mirror_the_images_that_are_named(images):
    flip = torch.tensor([True, False, False, True, True, False])
    mirrored = augment.flipped(flip, augment.center_cropped(12, 12)).apply(images)
    for image, plain, is_mirrored in zip(mirrored, images, flip, strict=True):
        assert torch.equal(image, plain.flip(-1) if is_mirrored else plain)


@pytest.mark.parametrize("size", [7, 12, 5])
def test_resizing_takes_the_nearest_pixels_as_torch_does(images, size):
    ours = augment.resized(12, size).apply(images)
    assert torch.equal(ours, torch.nn.functional.interpolate(images, size=(size, size), mode="nearest"))


def test_image_and_map_get_the_same_geometry(rng):
    raw = torch.zeros(8, 1, 20, 20, dtype=torch.uint8)
    raw[:, :, 5:9, 7:13] = 1
    top, left = torch.from_numpy(rng.integers(0, 5, size=(2, 8)))
    choice = torch.arange(8) % 2 == 0
    geometry = augment.chosen(choice, augment.cropped(top, left, 16), augment.resized(20, 16))
    assert torch.equal(geometry.apply(raw * 200), geometry.apply(raw) * 200)


@pytest.mark.parametrize("turns", [-0.4, -0.03, 0.0, 0.1, 0.5])
def test_hue_shift_equals_torchvision(images, turns):
    ours = augment.shift_hue(images, torch.full((6, 1, 1), turns))
    assert torch.allclose(ours, tv.adjust_hue(images, turns), atol=1e-5)


def test_jitter_equals_torchvision_in_our_order(images):
    jitter = Jitter(0.3, 0.2, 0.4, 0.1)
    ours = augment.color_jitter(images, torch.from_numpy(augment.draw_jitter(np.random.default_rng(5), 6, (jitter,))))
    rng = np.random.default_rng(5)
    rng.integers(1, size=6)
    amounts = rng.uniform(-1, 1, (6, 4)) * np.array(jitter)
    for image, result, (brightness, contrast, saturation, hue) in zip(images, ours, amounts, strict=True):
        expected = tv.adjust_contrast(tv.adjust_brightness(image, 1 + brightness), 1 + contrast)
        expected = tv.adjust_hue(tv.adjust_saturation(expected, 1 + saturation), hue)
        assert torch.allclose(result, expected, atol=2e-4)


def test_gray_images_have_no_hue_to_jitter(images, rng):
    amounts = torch.from_numpy(augment.draw_jitter(rng, 6, (Jitter(0.1, 0.1, 0.1, 0.1),)))
    gray = augment.color_jitter(images[:, :1], amounts)
    assert gray.shape == (6, 1, 12, 12) and not torch.equal(gray, images[:, :1])


def test_noise_falls_on_the_named_images_in_proportion_to_their_spread():
    images = torch.rand(400, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    named = torch.arange(400) % 3 == 0
    noisy = augment.noise_on_some(named, GeneratorDraws(torch.Generator().manual_seed(2)), images, 0.1)
    difference = (noisy - images).flatten(1)
    touched = difference.abs().amax(1) > 0
    assert torch.equal(touched, named)
    ratio = difference[touched].std(1) / images.flatten(1).std(1)[touched]
    assert ratio.mean().item() == pytest.approx(0.1, rel=0.05)

"""Preprocessing recipes: statistics against loops, geometry of training and testing."""

import numpy as np
import pytest
import torch

from fcdd_sweep.anomalies.draws import GeneratorDraws
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe, local_contrast_normalization
from fcdd_sweep.training.step_plan import PlanRows, RowLayout
from fcdd_sweep.training.streams import Streams
from tests.oracles import slow_recipe
from tests.prepared import plan_of


def raw_images(n=300, channels=3, side=12, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (n, channels, side, side))
    return torch.from_numpy(values.astype(np.uint8))


def tensors(decided, n):
    """What was decided for all, as tensors on their device."""
    rows = PlanRows(RowLayout(n))
    rows.put_augmentation(decided)
    return plan_of(next(iter(rows))).augmentation


def drawn_geometry(recipe, n):
    return recipe.geometry(tensors(recipe.draw(np.random.default_rng(0), n), n))


def trained_on(fitted, raw, gt_maps=None):
    decided = tensors(fitted.recipe.draw(np.random.default_rng(0), len(raw)), len(raw))
    return fitted.train(raw, gt_maps, decided, GeneratorDraws(torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_are_those_of_all_pixels_by_channel(channels):
    raw = raw_images(channels=channels)
    fitted = Preprocessor.fit(Recipe("none", "small", 12, 12, maps=False), raw)
    pixels = raw.double().transpose(0, 1).flatten(1) / 255
    assert torch.allclose(fitted.shift.flatten(), pixels.mean(1).float())
    assert torch.allclose(fitted.scale.flatten(), pixels.std(1, correction=0).float(), rtol=1e-4)
    seen = fitted.test(raw)
    assert seen.mean().abs() < 1e-4 and abs(seen.std() - 1) < 1e-3


def test_local_contrast_is_scaled_to_the_range_of_the_nominal_images():
    raw = raw_images()
    texture = Preprocessor.fit(Recipe("lcn", "texture", 12, 12, maps=True), raw)
    seen = texture.test(raw)
    assert torch.allclose(seen.amin((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(seen.amax((0, 2, 3)), torch.ones(3), atol=1e-6)
    small = Preprocessor.fit(Recipe("lcn", "small", 12, 12, maps=False), raw)
    contrast = local_contrast_normalization(raw.float() / 255, "l1")
    assert small.shift.flatten().tolist() == [contrast.min().item()] * 3
    assert len(set(small.scale.flatten().tolist())) == 1


KINDS = [
    (name, kind, maps)
    for name in ("none", "lcn", "aug1", "lcnaug1", "aug1_blackcenter", "aug1_blackcenter_inverted")
    for kind in ("small", "texture", "photo", "imagenet", "watermark")
    for maps in (False, True)
]


@pytest.mark.parametrize(("name", "kind", "maps"), KINDS)
def test_every_recipe_gives_finite_input_of_the_right_size(name, kind, maps):
    raw = raw_images(16, 3, 20)
    fitted = Preprocessor.fit(Recipe(name, kind, 20, 16, maps), raw)
    gt_maps = torch.ones(16, 1, 20, 20, dtype=torch.uint8) if maps else None
    inputs, seen_maps = trained_on(fitted, raw, gt_maps)
    assert inputs.shape == (16, 3, 16, 16) and torch.isfinite(inputs).all()
    assert (seen_maps is not None and seen_maps.shape == (16, 1, 16, 16)) if maps else seen_maps is None
    assert fitted.test(raw).shape == (16, 3, 16, 16)


@pytest.mark.parametrize("name", ["none", "lcn"])
def test_recipes_without_augmentation_train_on_what_they_test_on(name):
    raw = raw_images(8, 1, 20)
    fitted = Preprocessor.fit(Recipe(name, "texture", 20, 16, maps=False), raw)
    assert torch.equal(trained_on(fitted, raw)[0], fitted.test(raw))


def test_photographs_trained_on_crops_alone_are_tested_on_their_center():
    raw = raw_images(2, 1, 20)
    cropped = Preprocessor.fit(Recipe("aug1", "photo", 20, 16, maps=False), raw)
    assert torch.equal(cropped.visible(raw), raw[:, :, 2:18, 2:18])
    whole = Preprocessor.fit(Recipe("aug1", "photo", 20, 16, maps=True), raw)
    assert not torch.equal(whole.visible(raw), raw[:, :, 2:18, 2:18])


def test_textures_and_maps_mix_crops_with_the_whole_image():
    recipe = Recipe("lcnaug1", "texture", 20, 16, maps=True)
    geometry = drawn_geometry(recipe, 400)
    whole = (geometry.rows == torch.arange(16) * 20 // 16).all(1)
    assert 0.4 < whole.float().mean() < 0.6
    assert (geometry.rows[~whole].diff(dim=1) == 1).all()


@pytest.mark.parametrize(("size", "name", "padding"), [(28, "aug1", 3), (28, "lcnaug1", 2), (32, "aug1", 4)])
def test_small_images_are_cropped_with_the_paper_s_padding(size, name, padding):
    geometry = drawn_geometry(Recipe(name, "small", size, size, maps=False), 3000)
    assert set(geometry.rows[:, 0].tolist()) == set(range(-padding, padding + 1))
    assert (geometry.rows.min(), geometry.rows.max()) == (-padding, size - 1 + padding)
    mirrored = geometry.columns[:, 0] > geometry.columns[:, -1]
    assert 0.46 < mirrored.float().mean() < 0.54


def test_nothing_is_flipped_that_has_a_direction():
    geometry = drawn_geometry(Recipe("lcnaug1", "texture", 20, 16, maps=True), 500)
    assert (geometry.columns[:, 0] < geometry.columns[:, -1]).all()


RECIPES = [
    *((name, "small", 28, 28, False) for name in ("none", "lcn", "aug1", "lcnaug1")),
    *((name, "small", 32, 32, False) for name in ("lcn", "aug1", "aug1_blackcenter", "aug1_blackcenter_inverted")),
    *((name, "texture", 30, 28, True) for name in ("none", "lcn", "aug1", "lcnaug1")),
    *((name, "photo", 31, 28, maps) for name in ("none", "aug1") for maps in (False, True)),
    *((name, kind, 32, 28, False) for name in ("none", "aug1") for kind in ("imagenet", "watermark")),
]


@pytest.mark.parametrize(("name", "kind", "load_size", "size", "maps"), RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_training_input_is_that_of_the_plain_recipe_sample_by_sample(name, kind, load_size, size, maps, channels):
    raw = raw_images(24, channels, load_size)
    gt_maps = (raw[:, :1] > 200).to(torch.uint8)
    fitted = Preprocessor.fit(Recipe(name, kind, load_size, size, maps), raw)
    streams = Streams(0, "x")
    decided = tensors(fitted.recipe.draw(streams.numpy("augmentation", 2, 5), 24), 24)
    inputs, seen_maps = fitted.train(raw, gt_maps, decided, GeneratorDraws(streams.torch("augmentation", 2, 5)))
    rng, generator = streams.numpy("augmentation", 2, 5), streams.torch("augmentation", 2, 5)
    slow, slow_maps = slow_recipe(name, kind, size, raw, gt_maps, rng, generator, maps=maps)
    wanted = (slow - fitted.shift.double()) / fitted.scale.double()
    # hue and saturation are unstable where channels hardly differ; a gray level is 0.004
    tolerance = 0.008 / float(fitted.scale.min()) if "lcn" not in name else 0.02
    assert (inputs - wanted).abs().max().item() < tolerance
    assert torch.equal(seen_maps, slow_maps)


def test_photographs_of_imagenet_are_normalized_by_its_constants():
    fitted = Preprocessor.fit(Recipe("aug1", "imagenet", 12, 12, maps=False), raw_images())
    assert fitted.shift.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert fitted.scale.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    gray = Preprocessor.fit(Recipe("none", "imagenet", 12, 12, maps=False), raw_images(channels=1))
    assert gray.shift.shape == (1, 1, 1, 1) and gray.shift.item() == pytest.approx(0.449)


def test_a_watermark_stays_where_it_is():
    recipe = Recipe("aug1", "watermark", 24, 24, maps=False)
    geometry = drawn_geometry(recipe, 50)
    assert (geometry.rows == torch.arange(24)).all() and (geometry.columns == torch.arange(24)).all()


@pytest.mark.parametrize(("name", "black"), [("aug1_blackcenter", 400), ("aug1_blackcenter_inverted", 1024 - 400)])
def test_a_black_center_is_400_pixels_of_32x32_in_training_alone(name, black):
    raw = torch.full((6, 3, 32, 32), 200, dtype=torch.uint8)
    raw[:, :, :, ::2] = 100
    fitted = Preprocessor.fit(Recipe(name, "small", 32, 32, maps=False), raw)
    plain = Preprocessor.fit(Recipe("aug1", "small", 32, 32, maps=False), raw)
    assert torch.equal(fitted.shift, plain.shift) and torch.equal(fitted.scale, plain.scale)
    seen, other = (trained_on(p, raw)[0] for p in (fitted, plain))
    zero = -fitted.shift / fitted.scale
    is_black = (seen == zero).all(dim=1)
    square = torch.zeros(32, 32, dtype=torch.bool)
    square[6:26, 6:26] = True
    assert square.sum() == 400
    where = square if black == 400 else ~square
    assert is_black[:, where].all() and torch.equal(seen[:, :, ~where], other[:, :, ~where])
    assert torch.equal(fitted.test(raw), plain.test(raw))


def test_padding_stays_black_under_jitter():
    recipe = Recipe("aug1", "small", 28, 28, maps=False)
    raw = torch.full((400, 1, 28, 28), 90, dtype=torch.uint8)
    decided = tensors(recipe.draw(np.random.default_rng(0), 400), 400)
    geometry = recipe.geometry(decided)
    images = recipe.augmented(decided, GeneratorDraws(torch.Generator().manual_seed(0)), raw)
    padded = (geometry.rows < 0)[:, None, :, None] & (geometry.columns >= 0)[:, None, None, :]
    assert padded.sum() > 1000 and abs(images[padded].mean().item()) < 0.001
    assert images[padded].std().item() == pytest.approx(0.01, rel=0.1)


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

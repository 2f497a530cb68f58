"""How training samples are made visible, and how maps that mean a whole image are told from drawn ones."""

import numpy as np
import pytest
import torch

from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.shown_samples import _shown, _told_apart


def raw_images(n=6, channels=3):
    values = np.random.default_rng(0).integers(40, 160, (n, channels, 12, 12))
    return torch.from_numpy(values.astype(np.uint8))


@pytest.mark.parametrize("kind", ["small", "imagenet"])
def test_an_affine_normalization_is_undone_to_the_images_own_values(kind):
    raw = raw_images()
    fitted = Preprocessor.fit(Recipe("none", kind, 12, 12, maps=False), raw)
    found = _shown(fitted.test(raw), np.zeros(6, np.int8), fitted)
    assert np.abs(found["images"].astype(int) - raw.numpy()).max() <= 1 and not found["shared_range"]


@pytest.mark.parametrize("kind", ["small", "texture"])
def test_samples_without_their_own_contrast_share_the_range_of_the_nominal_ones(kind):
    raw = raw_images()
    fitted = Preprocessor.fit(Recipe("lcn", kind, 12, 12, maps=False), raw)
    flat = torch.full((1, 3, 12, 12), 90, dtype=torch.uint8)
    spot = flat.clone()
    spot[..., 5, 5] = 250
    inputs = fitted.test(torch.cat([raw, flat, spot]))
    found = _shown(inputs, np.array([0] * 6 + [1, 1], np.int8), fitted)
    assert found["shared_range"]
    nominal, flat, spot = found["images"][:6], found["images"][6], found["images"][7]
    assert (nominal.min(), nominal.max()) == (0, 255)
    # a flat image has no contrast: the same gray in all channels, neither black nor white
    assert len(np.unique(flat)) == 1 and 50 < flat[0, 0, 0] < 200
    assert (spot[:, 5, 5] == 255).all()
    assert (spot[:, 0, 0] < flat[:, 0, 0]).all()


def test_maps_of_wholly_anomalous_samples_are_marked_and_drawn_ones_kept():
    drawn = np.zeros((4, 4), np.uint8)
    drawn[1, 2] = 1
    found = _told_apart(np.stack([np.zeros_like(drawn), drawn, np.ones_like(drawn)]))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.stack([np.zeros_like(drawn), drawn, np.full_like(drawn, 2)]))

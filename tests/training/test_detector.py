"""Detectors from snapshots: the same scores again, and refusals that name the way out."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version

import numpy as np
import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.pixels import fit_image
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.models import SNAPSHOT_VERSION, make_network
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from tests.specs import defects_corpus, settings

CORPUS = defects_corpus()


def detector(**sections):
    chosen = settings(**sections)
    raw = torch.from_numpy(np.asarray(CORPUS.images[:40]))
    network = make_network(chosen, torch.device("cpu"), 0)
    network.eval()
    return Detector(chosen, "plain", network, Preprocessor.fit(Recipe.of(chosen, has_maps=True), raw), threshold=0.5)


def test_a_loaded_detector_gives_the_same_bits(tmp_path):
    before = dataclasses.replace(detector(), value_range=ValueRange(2050, 2130, "measured"))
    torch.save(before.snapshot(), tmp_path / "snapshot.pt")
    after = load_detector(tmp_path / "snapshot.pt", "cpu")
    assert (after.settings, after.normal_class, after.threshold) == (before.settings, "plain", 0.5)
    assert after.value_range == before.value_range
    for one, other in zip(before.detect(CORPUS.images), after.detect(CORPUS.images), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("written", [1, 2, 3, 99])
def test_a_snapshot_of_another_version_names_its_writer_and_what_to_do(written, tmp_path):
    """Version 2 has settings under keys that this version does not know: it must be refused before they are read."""
    old = {**detector().snapshot(), "snapshot_version": written, "settings": {"images": {"raw_size": 28}}}
    torch.save(old, tmp_path / "snapshot.pt")
    with pytest.raises(InputError) as caught:
        load_detector(tmp_path / "snapshot.pt", "cpu")
    (problem,) = caught.value.problems
    writer = f"written by fcdd_sweep {version('fcdd_sweep')}"
    assert problem.what == f"the snapshot has version {written}, {writer}"
    assert f"Allowed: version {SNAPSHOT_VERSION}" in str(problem)
    assert "Train the trial again, or predict with the program that wrote it" in str(problem)


def test_a_snapshot_that_names_no_writer_is_refused_too(tmp_path):
    torch.save({"snapshot_version": 2}, tmp_path / "snapshot.pt")
    with pytest.raises(InputError, match="the snapshot has version 2, written by fcdd_sweep unknown"):
        load_detector(tmp_path / "snapshot.pt", "cpu")


@pytest.mark.parametrize(
    ("sections", "by_cells"),
    [
        ({}, True),
        ({"method": "hsc", "network": {"name": "CNN28"}, "training": {"supervision": "labels"}}, False),
        ({"method": "ae", "network": {"name": "AE28"}, "training": {"supervision": "labels"}}, False),
    ],
)
def test_heatmaps_have_the_size_of_network_input_for_every_method(sections, by_cells):
    found = detector(**sections)
    maps, scores = found.detect(CORPUS.images, np.arange(3), batch_size=2)
    assert maps.shape == ((3, 1, 7, 7) if by_cells else (3, 1, 28, 28)) and scores.dtype == torch.float64
    heatmaps = found.heatmaps(maps)
    assert heatmaps.shape == (3, 1, 28, 28)
    assert by_cells or torch.equal(heatmaps, maps)
    assert by_cells or found.network.upsample(maps) is maps
    assert found.map_geometry.receptive_field == ((16, 4, 1.5) if by_cells else (1, 1, 0.0))


def photograph(side, channels=1, seed=0):
    """(1, C, side, side) uint8, smooth enough to look alike at any size."""
    rows, columns = np.indices((side, side)) / side
    wave = 127 + 60 * np.sin(9 * rows + seed) + 60 * np.cos(7 * columns)
    return np.stack([wave.astype(np.uint8)] * channels)[None]


@pytest.mark.parametrize(("side", "channels"), [(48, 1), (24, 1), (32, 3), (75, 3)])
def test_images_of_another_size_get_the_score_of_the_same_photograph_at_the_size_of_training(side, channels):
    found = detector()
    big = photograph(side, channels)
    picture = big[0, 0] if channels == 1 else big[0].transpose(1, 2, 0)
    expected = found.detect(fit_image(picture, 32, "bilinear", "gray")[None])
    maps, scores = found.detect(big)
    assert torch.equal(scores, expected.scores) and torch.equal(maps, expected.maps)
    np.testing.assert_array_equal(found.visible(big), found.visible(fit_image(picture, 32, "bilinear", "gray")[None]))


@pytest.mark.parametrize(
    "raw",
    [
        photograph(32)[0],
        photograph(32).astype(np.float32) / 255,
        photograph(32).astype(np.uint16),
        photograph(32, 3).transpose(0, 2, 3, 1),
        photograph(32, 4),
    ],
    ids=["one image", "floating point", "16 bits", "channels last", "four channels"],
)
def test_what_is_no_batch_of_images_is_refused_with_the_size_wanted(raw):
    with pytest.raises(
        ValueError, match=r"images must be \(M, C, H, W\) uint8 with C 1 or 3, such as \(M, 1, 32, 32\)"
    ):
        detector().detect(raw)
    with pytest.raises(ValueError, match="images must be"):
        detector().visible(raw)


def test_network_input_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"network input must be \('N', 1, 28, 28\); found \(2, 1, 32, 32\)"):
        detector().detect_inputs([torch.zeros(2, 1, 32, 32)])


def test_no_images_give_empty_maps_and_scores():
    maps, scores = detector().detect(CORPUS.images, np.arange(0))
    assert maps.shape == (0, 1, 7, 7) and scores.shape == (0,)


@pytest.fixture
def rounded():
    """Lets a GPU round what it multiplies, as torch's defaults do in convolutions; yields what reads the switches."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [each.allow_tf32 for each in switches]
    for each in switches:
        each.allow_tf32 = True
    yield lambda: tuple(each.allow_tf32 for each in switches)
    for each, value in zip(switches, before, strict=True):
        each.allow_tf32 = value


def test_a_detector_scores_in_full_precision_as_its_threshold_was_found(rounded):
    found, seen = detector(), []
    found.network.register_forward_pre_hook(lambda network, inputs: seen.append(rounded()))
    found.detect(CORPUS.images[:4], batch_size=2)
    assert seen == [(False, False)] * 2
    assert rounded() == (True, True)


def test_heatmaps_are_enlarged_in_full_precision(rounded, monkeypatch):
    found, seen = detector(), []
    upsample = found.network.upsample
    monkeypatch.setattr(found.network, "upsample", lambda *arguments: seen.append(rounded()) or upsample(*arguments))
    found.heatmaps(found.detect(CORPUS.images[:2]).maps)
    assert seen == [(False, False)]

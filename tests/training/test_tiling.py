"""Detection in tiles."""

import math
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fcdd_sweep.config.errors import DataError, InputError
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.tiling import NOT_CALIBRATED, TiledPredictor, detect_in_tiles
from tests.detectors import random_detector

NETWORKS = [
    ({"name": "FCDD_CNN28"}, 28),
    ({"name": "FCDD_CNN32_LW3K"}, 35),
    ({"name": "FCDD_CNN32_17K"}, 61),
    ({"name": "FCDD_CNN224"}, 131),
    ({"name": "FCDD_CNN224_VGG_NOPT"}, 115),
    ({"backbone": "resnet18", "node": "layer2", "weights": "none"}, 133),
    ({"backbone": "googlenet", "node": "inception3a", "weights": "none"}, 150),  # pools that round up
    ({"backbone": "convnext_tiny", "node": "features.1", "weights": "none"}, 101),
]


def name_of(value):
    return value.get("name") or value["backbone"] if isinstance(value, dict) else None


@pytest.mark.parametrize(("network", "size"), NETWORKS, ids=name_of)
@pytest.mark.parametrize(
    "tile", [pytest.param(1, marks=pytest.mark.long), 24, pytest.param(70, marks=pytest.mark.long)]
)
@pytest.mark.slow
def test_tiles_equal_the_whole_image_on_every_network_family(network, size, tile):
    detector, raw = random_detector(network, size=size)
    tile = max(tile, size // 5)
    whole = detector.detect(raw[:2])
    heatmaps = detector.heatmaps(whole.maps).numpy()
    for i in range(2):
        found = detect_in_tiles(detector, raw[i], tile)
        largest = float(whole.maps[i].max())
        assert np.ptp(whole.maps[i].numpy()) > 0.01 * largest
        np.testing.assert_allclose(found.map, whole.maps[i, 0], rtol=0, atol=1e-5 * largest)
        np.testing.assert_allclose(found.geometry.heatmaps(found.map), heatmaps[i, 0], atol=1e-5 * heatmaps[i].max())
        assert found.score == pytest.approx(float(whole.scores[i]), rel=1e-5)


def test_an_image_of_any_size_and_shape_runs_at_native_scale():
    detector, _ = random_detector({"name": "FCDD_CNN224"}, size=64, channels=1)
    image = np.random.default_rng(3).integers(0, 256, (1, 203, 157)).astype(np.uint8)
    image[:, 50:90, 60:100] //= 5
    inputs = detector.preprocessor.normalized(torch.from_numpy(image)[None].float() / 255)
    with torch.no_grad():
        whole = detector.method.detect(detector.network, inputs)
    for tile in (16, 40, 64, 500):
        found = detect_in_tiles(detector, image, tile, native_scale=True)
        np.testing.assert_allclose(found.map, whole.maps[0, 0], rtol=0, atol=1e-5 * float(whole.maps.max()))
        assert found.score == pytest.approx(float(whole.scores), rel=1e-5)
        assert found.geometry.heatmaps(found.map).shape == (203, 157)


def test_a_constant_image_is_0_after_local_contrast_in_tiles_too():
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28)
    flat = np.full_like(raw[0], 90)
    expected = float(detector.detect(flat[None]).scores)
    assert detect_in_tiles(detector, flat, 8).score == pytest.approx(expected, rel=1e-5)


def test_without_local_contrast_tiles_equal_the_whole_image():
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28, preprocessing="none")
    assert isinstance(detector.preprocessor, Preprocessor) and not Recipe.of(detector.settings).local_contrast
    expected = detector.detect(raw[:1])
    found = detect_in_tiles(detector, raw[0], 8)
    np.testing.assert_allclose(found.map, expected.maps[0, 0], rtol=0, atol=1e-5 * float(expected.maps.max()))


def test_the_threshold_holds_at_the_trained_scale_alone():
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28)
    detector = replace(detector, threshold=0.25)
    trained = detect_in_tiles(detector, raw[0], 8)
    native = detect_in_tiles(detector, raw[0], 8, native_scale=True)
    assert (trained.threshold, trained.note) == (0.25, "")
    assert math.isnan(native.threshold) and native.note == NOT_CALIBRATED


@pytest.mark.parametrize(
    ("network", "method", "named"),
    [
        ({"name": "CNN28"}, "hsc", "method hsc"),
        ({"name": "AE28"}, "ae", "method ae"),
        ({"backbone": "efficientnet_b0", "node": "features.2", "weights": "none"}, "fcdd", "AdaptiveAvgPool2d"),
    ],
)
def test_what_needs_the_whole_image_is_refused_by_name(network, method, named):
    detector, raw = random_detector(network, method, size=28)
    with pytest.raises(InputError, match=named):
        detect_in_tiles(detector, raw[0], 8)


def test_other_colors_at_native_scale_are_refused():
    detector, _ = random_detector({"name": "FCDD_CNN28"}, size=28)
    with pytest.raises(ValueError, match=r"must be \(3, H, W\) uint8; found \(1, 30, 30\)"):
        detect_in_tiles(detector, np.zeros((1, 30, 30), np.uint8), native_scale=True)


_MEMORY = """
import re, sys
import numpy as np
from fcdd_sweep.training.tiling import detect_in_tiles
from tests.detectors import random_detector
detector, _ = random_detector({"name": "FCDD_CNN28"}, size=28, channels=1)
image = np.random.default_rng(0).integers(0, 256, (1, int(sys.argv[1]), 700)).astype(np.uint8)
detect_in_tiles(detector, image, int(sys.argv[2]), native_scale=True)
# not of getrusage, which begins with the memory of the process that started this one
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.long
def test_memory_does_not_grow_with_the_image():
    """The first layer's output of the larger image is 157 MB, which the process needs when one tile holds all."""
    run = [sys.executable, "-c", _MEMORY]
    cases = (("700", "128"), ("7000", "128"), ("7000", "7000"))
    small, large, whole = (int(subprocess.check_output([*run, *case], text=True)) for case in cases)
    assert large - small < 75 and whole - small > 150


def test_predictions_on_long_thin_images_take_a_few_bytes_a_pixel_and_leave_none():
    """Of arrays; tensors of tiles are not counted. All weights of the first heatmap at once would take 200 MB."""
    detector, _ = random_detector({"name": "FCDD_CNN28"}, size=28, channels=1, evaluation={"image_score": {"top": 0.1}})
    predictor = TiledPredictor(detector, 512, native_scale=True)
    predictor.predict(np.full((1000, 1100), 7, np.uint8))
    photos = [np.random.default_rng(5).integers(0, 256, shape, np.uint8) for shape in [(6000, 32), (40, 5001)]]
    tracemalloc.start()
    try:
        for photo in photos:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            found = predictor.predict(photo)
            assert found.heatmap.shape == photo.shape
            assert tracemalloc.get_traced_memory()[1] - before < 16 * photo.size + 2**21
            del found
            assert tracemalloc.get_traced_memory()[0] - before < 2**17
    finally:
        tracemalloc.stop()


def calibrated(**sections):
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28, **sections)
    return replace(detector, threshold=0.03, pixel_threshold=0.02, threshold_source="so and so"), raw


@pytest.mark.parametrize("image_score", ["mean", "max", {"top": 0.03}])
def test_predictions_in_tiles_are_those_of_the_whole_at_the_trained_scale(image_score):
    detector, raw = calibrated(evaluation={"image_score": image_score})
    photo = np.asarray(Image.fromarray(raw[0].transpose(1, 2, 0)).resize((90, 60)))
    whole, tiled = detector.predict(photo), TiledPredictor(detector, 9).predict(photo)
    assert tiled.score == pytest.approx(whole.score, rel=1e-5)
    np.testing.assert_allclose(tiled.heatmap, whole.heatmap, atol=1e-5 * whole.heatmap.max())
    np.testing.assert_array_equal(tiled.mask, whole.mask)
    assert (tiled.label, tiled.threshold, tiled.basis) == (whole.label, 0.03, "so and so")
    assert tiled.has_region and tiled.n_regions == whole.n_regions


def test_at_native_scale_predictions_have_a_heatmap_of_each_pixel_and_no_decision():
    detector, _ = calibrated()
    photo = np.random.default_rng(5).integers(0, 256, (61, 90)).astype(np.uint8)
    found = TiledPredictor(detector, 16, native_scale=True).predict(photo)
    expected = detect_in_tiles(detector, np.stack([photo] * 3), 500, native_scale=True)
    np.testing.assert_allclose(found.heatmap, expected.geometry.heatmaps(expected.map), rtol=1e-4, atol=1e-5)
    assert found.score == pytest.approx(expected.score, rel=1e-5)
    assert (found.label, found.mask, found.threshold, found.agrees) == (None, None, None, None)
    assert found.basis == NOT_CALIBRATED
    with pytest.raises(
        DataError, match="image 0: the image is too small for the network at its native scale: 1x1 pixels"
    ):
        TiledPredictor(detector, 16, native_scale=True).predict(np.zeros((1, 1), np.uint8))


def test_a_detector_that_needs_the_whole_image_is_refused_before_any_is_read():
    detector, _ = random_detector({"name": "CNN28"}, "hsc", size=28)
    with pytest.raises(InputError, match="method hsc"):
        TiledPredictor(detector)

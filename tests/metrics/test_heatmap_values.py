from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn import functional

from fcdd_sweep.metrics import heatmap_values
from fcdd_sweep.metrics.heatmap_values import default_std, gaussian_kernel, upsample
from fcdd_sweep.networks import build_network
from fcdd_sweep.networks.receptive_field import receptive_field
from tests.oracles import slow_gaussian, slow_upsample

CASES = [
    ("FCDD_CNN28", (28, 28)),
    ("FCDD_CNN28", (30, 30)),
    ("FCDD_CNN28", (31, 44)),
    ("FCDD_CNN32_S", (32, 32)),
    ("FCDD_CNN32_S", (64, 57)),
    ("FCDD_CNN224", (96, 96)),
    ("FCDD_CNN224", (61, 130)),
    ("FCDD_CNN224", (224, 224)),
    ("FCDD_CNN224_VGG_NOPT", (75, 97)),
    ("FCDD_CNN32_17K", (33, 47)),
]


def maps_and_field(name: str, out_size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, float]]:
    tall, wide = (receptive_field(name, size) for size in out_size)
    maps = np.random.default_rng(0).exponential(size=(2, 1, tall.width, wide.width)).astype(np.float32)
    return maps, (wide.size, wide.jump, wide.shift)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 59, 62])
def test_gaussian_has_its_size_peak_and_symmetry(size: int) -> None:
    kernel = gaussian_kernel(size, 2.5)
    assert kernel.shape == (size,)
    assert kernel.max() == (1.0 if size % 2 else 0.5)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    np.testing.assert_allclose(kernel, slow_gaussian(size, 2.5), rtol=1e-14)


def test_even_gaussian_repeats_its_middle_and_is_halved() -> None:
    side = np.exp(-1 / 2)
    np.testing.assert_allclose(gaussian_kernel(4, 1.0), [side / 2, 0.5, 0.5, side / 2])


def test_default_std_grows_with_small_fields_and_is_ten_from_32_on() -> None:
    assert default_std(16) == pytest.approx(np.log10(8.2) + 0.25)
    assert default_std(31) == pytest.approx(np.log10(14.95) + 0.25)
    assert default_std(32) == default_std(59) == 10.0


@pytest.mark.parametrize("std", [None, 1.2, 12.0])
@pytest.mark.parametrize(("name", "out_size"), CASES)
def test_numpy_and_torch_place_every_gaussian_as_the_slow_loop(
    name: str, out_size: tuple[int, int], std: float | None
) -> None:
    maps, field = maps_and_field(name, out_size)
    wanted = slow_upsample(maps[1, 0], *field, out_size, default_std(field[0]) if std is None else std)
    tolerance = 1e-5 * wanted.max()
    np.testing.assert_allclose(upsample(maps, field, out_size, std)[1, 0], wanted, rtol=0, atol=tolerance)
    network = build_network(name, (1, *out_size), seed=0)
    by_torch = network.upsample(torch.from_numpy(maps), std)
    assert by_torch.shape == (2, 1, *out_size)
    np.testing.assert_allclose(by_torch[1, 0], wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "out_size"), CASES)
def test_upsampling_is_the_cropped_transposed_convolution(name: str, out_size: tuple[int, int]) -> None:
    maps, field = maps_and_field(name, out_size)
    size, jump, shift = field
    kernel = torch.tensor(np.outer(slow_gaussian(size, 2.0), slow_gaussian(size, 2.0)), dtype=torch.float32)
    full = functional.conv_transpose2d(torch.from_numpy(maps), kernel[None, None], stride=jump)
    start = (size - 1) // 2 - int(shift)
    missing = [max(0, start + out - have) for out, have in zip(out_size, full.shape[2:], strict=True)]
    full = functional.pad(full, (0, missing[1], 0, missing[0]))
    cropped = full[:, :, start : start + out_size[0], start : start + out_size[1]]
    np.testing.assert_allclose(upsample(maps, field, out_size, 2.0), cropped, rtol=1e-5, atol=1e-5)


def test_a_single_cell_peaks_at_the_center_of_its_receptive_field() -> None:
    maps = np.zeros((28, 28), dtype=np.float32)
    maps[10, 3] = 1.0
    heatmap = upsample(maps, (59, 8, 0.0), (224, 224), 12.0)
    assert np.unravel_index(heatmap.argmax(), heatmap.shape) == (80, 24)
    assert heatmap.max() == 1.0


@pytest.mark.parametrize(
    "field", [(1, 1, 0.0), (6, 1, 0.5), (7, 1, 3.0), (16, 2, 0.5), (62, 4, 1.5), (301, 32, -3.0), (25, 3, 12.0)]
)
@pytest.mark.parametrize("thin", [True, False])
def test_large_heatmaps_are_made_by_parts_and_equal_those_made_at_once(field, thin, monkeypatch):
    jump = field[1]
    side = next(n for n in range(512, 4096) if n * (n // jump) > heatmap_values.MOST_WEIGHTS)
    out_size = (40, side) if thin else (side, 300)
    cells = [max(1, n // jump) for n in out_size]
    maps = np.random.default_rng(2).exponential(size=(2, 1, *cells)).astype(np.float32)
    found = upsample(maps, field, out_size)
    monkeypatch.setattr(heatmap_values, "MOST_WEIGHTS", float("inf"))
    wanted = upsample(maps, field, out_size)
    assert found.shape == wanted.shape and found.dtype == np.float32 and wanted.min() < 0.5 * wanted.max()
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6 * wanted.max())


def test_pixels_beyond_all_cells_of_a_large_heatmap_are_0():
    heatmap = upsample(np.ones((5, 1000), np.float32), (9, 4, 4.0), (700, 4003))
    assert not heatmap[25:].any() and not heatmap[:, 4005:].any() and (heatmap[:25, :4000] > 0).all()


def test_large_heatmaps_take_little_more_memory_than_their_own_and_leave_none():
    """With all weights at once the first takes 1.8 GB, of which a third stays in a cache."""
    tracemalloc.start()
    try:
        upsample(np.ones((400, 400), np.float32), (16, 2, 0.5), (800, 800))
        before = tracemalloc.get_traced_memory()[0]
        for out_size in [(12000, 64), (64, 9001), (2001, 300), (1500, 1400), (30000, 33)]:
            maps = np.ones([n // 2 for n in out_size], np.float32)
            tracemalloc.reset_peak()
            upsample(maps, (16, 2, 0.5), out_size)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < 1.25 * 4 * np.prod(out_size) + maps.nbytes + 2**21
            del maps
        assert tracemalloc.get_traced_memory()[0] - before < 2**17
    finally:
        tracemalloc.stop()


def test_gradients_of_upsampling_are_those_of_a_linear_map() -> None:
    network = build_network("FCDD_CNN28", (1, 14, 14), seed=0)
    maps = torch.rand(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network.upsample, (maps,))


def test_training_works_after_upsampling_in_inference_mode() -> None:
    network = build_network("FCDD_CNN32_S", (1, 41, 41), seed=0)
    maps = torch.rand(1, 1, 10, 10)
    with torch.inference_mode():
        network.upsample(maps, 3.21)
    maps.requires_grad_()
    network.upsample(maps, 3.21).sum().backward()
    assert maps.grad is not None and bool((maps.grad > 0).all())


def test_half_precision_maps_are_upsampled_in_float32() -> None:
    network = build_network("FCDD_CNN32_S", (1, 32, 32), seed=0)
    maps = torch.rand(2, 1, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heatmaps = network.upsample(maps)
    assert heatmaps.dtype == torch.float32
    torch.testing.assert_close(heatmaps, network.upsample(maps.float()))


def test_reference_quantiles_are_kth_smallest_values():
    values = np.random.default_rng(5).normal(size=(3, 7, 11)).astype(np.float32)
    quantiles, flat = heatmap_values.reference_quantiles(values), np.sort(values.ravel())
    assert quantiles.shape == (1001,) and quantiles.dtype == np.float32
    assert quantiles[0] == flat[0] and quantiles[1000] == flat[-1]
    assert quantiles[850] == flat[850 * flat.size // 1000 - 1]


def test_local_and_global_ranges_agree_on_a_single_heatmap():
    heatmap = np.random.default_rng(6).random((1, 20, 50))
    local = heatmap_values.local_range(heatmap, 0.97)
    assert local == pytest.approx(
        heatmap_values.global_range(heatmap_values.reference_quantiles(heatmap), 0.97), rel=1e-6
    )
    assert local[1] == np.sort(heatmap.ravel())[969]


def test_normalized_values_are_clamped_and_flat_maps_are_dark():
    scaled = heatmap_values.normalize(np.array([0.0, 1.0, 2.0, 3.0]), 1.0, 2.0)
    assert scaled.tolist() == [0, 0, 1, 1]
    assert heatmap_values.normalize(np.full(3, 0.7), 0.7, 0.7).tolist() == [0, 0, 0]
    assert heatmap_values.normalize(np.array([0.7, 0.9]), 0.7, 0.7).tolist() == [0, 1]

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from fcdd_sweep.anomalies import render, synthetic
from fcdd_sweep.anomalies.draws import GeneratorDraws
from fcdd_sweep.anomalies.limits import limited
from fcdd_sweep.anomalies.malform import malform
from fcdd_sweep.anomalies.registry import MODES, SOURCES
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Anomalies
from tests.oracles import slow_blobs, slow_confetti, slow_mixed_blobs


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and on a busy machine these tests took ten times as long with two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3, 240, 240), (1, 28, 28), (1, 13, 100), (3, 64, 49)])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_renders_gray_and_color_of_any_size(source: str, shape: tuple[int, int, int]) -> None:
    noise = render(source, 11, shape, seeded())
    assert noise.shape == (11, *shape) and noise.dtype == torch.int16
    assert noise.flatten(1).any(dim=1).all()
    assert render(source, 0, shape, seeded()).shape == (0, *shape)


@pytest.mark.parametrize("source", SOURCES)
def test_same_generator_state_gives_same_bits_and_the_global_stream_stays(source: str) -> None:
    before = torch.get_rng_state()
    one, two, other = (render(source, 9, (3, 40, 32), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("source", SOURCES)
def test_a_generator_moves_on_between_calls(source: str) -> None:
    generator = seeded()
    first, second = (render(source, 4, (1, 32, 32), generator) for _ in range(2))
    assert not torch.equal(first, second)


def test_simple_sources_have_their_distributions() -> None:
    uniform, gaussian = (render(name, 20, (3, 64, 64), seeded()).double() for name in ("uniform", "gaussian"))
    assert (uniform.min(), uniform.max()) == (0, 255)
    assert uniform.mean().item() == pytest.approx(127.5, abs=0.6)
    assert gaussian.mean().item() == pytest.approx(0, abs=0.6)
    assert gaussian.std().item() == pytest.approx(64, abs=0.6)
    solid = render("solid", 500, (3, 5, 4), seeded()).flatten(2)
    assert torch.equal(solid, solid[:, :, :1].expand_as(solid))
    colors = solid[:, :, 0].double()
    assert colors.mean().item() == pytest.approx(127.5, abs=6)
    assert abs(np.corrcoef(colors.T.numpy())[0, 1]) < 0.15


def blob_measures(images: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of each image of (n, c, h, w): how much is covered, how bright, how long its edges, how even."""
    covered = (images != 0).any(axis=1)
    colored = (images != 0).any(axis=1) & ~(images == 255).all(axis=1)
    return {
        "coverage": covered.mean(axis=(1, 2)),
        "mean": images.mean(axis=(1, 2, 3)),
        "not white": colored.mean(axis=(1, 2)) + covered[:, 5, 5],  # blobs have no color: alone it would not vary
        "edges": np.abs(np.diff(covered.astype(float), axis=2)).mean(axis=(1, 2)),
        "corner": covered[:, 0, 0].astype(float) + covered[:, -1, -1] + covered[:, 0, -1] + covered[:, -1, 0],
    }


BLOBS = {
    "blob": (slow_blobs, 0.002, 6, (3, 32, 32), 1500),
    "mixed_blob": (slow_mixed_blobs, 1e-5, 34, (3, 64, 60), 250),
}


@pytest.mark.parametrize(
    "source", [pytest.param(name, marks=[pytest.mark.long] if name == "mixed_blob" else []) for name in BLOBS]
)
@pytest.mark.slow
def test_blobs_cannot_be_distinguished_from_blobs_made_square_by_square(source: str) -> None:
    slow, starts, side, shape, n = BLOBS[source]
    rendered = blob_measures(render(source, 2 * n, shape, seeded()).numpy().astype(float))

    def slow_measures(starts: float, side: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return blob_measures(np.stack([slow(rng, shape, starts, side) for _ in range(n)]))

    assert largest_difference(rendered, slow_measures(starts, side)) < NOTICEABLE
    assert largest_difference(rendered, slow_measures(starts, side - 2)) > NOTICEABLE
    assert largest_difference(rendered, slow_measures(20 * starts, side)) > NOTICEABLE


def test_a_blob_is_a_white_square_of_six_pixels() -> None:
    blobs = render("blob", 2000, (3, 28, 28), seeded())
    assert set(blobs.unique().tolist()) == {0, 255}
    assert torch.equal(blobs, blobs[:, :1].expand_as(blobs))
    counts = (blobs[:, 0] > 0).flatten(1).sum(dim=1)
    assert counts.min() == 9 and (counts == 36).sum() > 100  # three by three pixels of a square in the lower corner
    lone = blobs[counts == 36, 0] > 0
    rows, columns = lone.any(dim=2).sum(dim=1), lone.any(dim=1).sum(dim=1)
    assert (rows * columns == 36).double().mean() > 0.98  # else two that cross a border


def test_mixed_blobs_are_as_often_white_as_colored() -> None:
    images = render("mixed_blob", 600, (3, 100, 100), seeded())
    covered = (images > 0).any(dim=1)
    white = (images == 255).all(dim=1)
    assert (white.sum() / covered.sum()).item() == pytest.approx(0.5, abs=0.06)
    values = images.transpose(0, 1)[:, covered & ~white].double()
    assert values.mean().item() == pytest.approx(127.5, abs=2) and abs(np.corrcoef(values.numpy())[0, 1]) < 0.02


def test_confetti_has_the_measured_statistics_of_the_paper() -> None:
    """The paper's program gave 11%, -8.8 and 36.7 over 40 images; such means scatter: 2.5 standard errors."""
    noise = render("confetti", 96, (3, 240, 240), seeded()).double()
    assert (noise != 0).double().mean().item() == pytest.approx(0.11, abs=0.026)
    assert noise.mean().item() == pytest.approx(-8.8, abs=2.8)
    assert noise.std().item() == pytest.approx(36.7, abs=6.5)
    assert noise.min() >= -511 and noise.max() == 0


SHAPE = (3, 128, 128)
NOTICEABLE = 3.3
"""Standard errors; the largest of seven figures stayed below 2.3 in 25 comparisons of confetti with confetti."""


def measures(images: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of each image: n images (n, c, h, w) and how many colored squares can be seen in each."""
    flat = images.reshape(len(images), -1)
    return {
        "coverage": (flat != 0).mean(axis=1),
        "mean": flat.mean(axis=1),
        "mean square": (flat**2).mean(axis=1),
        "darkest": flat.min(axis=1),
        "colorfulness": np.ptp(images, axis=1).mean(axis=(1, 2)),
        "slope": np.abs(np.diff(images, axis=3)).mean(axis=(1, 2, 3)),
        "squares": seen.astype(float),
    }


def largest_difference(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> float:
    """The largest difference between two samples' means, in standard errors."""
    errors = [np.hypot(stats.sem(one[key]), stats.sem(two[key])) for key in one]
    return max(abs(one[key].mean() - two[key].mean()) / error for key, error in zip(one, errors, strict=True))


@pytest.fixture(scope="module")
def rendered() -> dict[str, np.ndarray]:
    images = render("confetti", 800, SHAPE, seeded()).numpy().astype(np.float32)
    top, _ = synthetic._topmost(800, SHAPE[1:], synthetic._Squares(synthetic.COLORED_STARTS), GeneratorDraws(seeded(1)))
    seen = np.array([len(set(np.unique(image)) - {0}) for image in top.numpy()])
    return measures(images, seen)


def slow_measures(n: int, **changes: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images, seen = zip(*(slow_confetti(rng, SHAPE, **changes) for _ in range(n)), strict=True)
    return measures(np.stack(images), np.array(seen))


@pytest.mark.slow
def test_confetti_cannot_be_distinguished_from_confetti_made_square_by_square(rendered: dict[str, np.ndarray]) -> None:
    assert largest_difference(rendered, slow_measures(400)) < NOTICEABLE


@pytest.mark.parametrize(
    "change",
    [
        {"sides": (4, 50)},
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in ({"sides": (8, 64)}, {"starts": 4e-5}, {"blackest": -220})
        ),
    ],
)
@pytest.mark.slow
def test_that_comparison_notices_other_sides_numbers_and_colors(
    rendered: dict[str, np.ndarray], change: dict[str, object]
) -> None:
    assert largest_difference(rendered, slow_measures(400, **change)) > NOTICEABLE


@pytest.mark.parametrize("size", [28, 240, 600])
def test_squares_are_as_many_as_a_poisson_number_that_is_never_zero(size: int) -> None:
    mean = synthetic.COLORED_STARTS * size**2
    fewer = synthetic._chance_of_fewer(mean, torch.device("cpu")).double().numpy()
    poisson = stats.poisson(mean)
    np.testing.assert_allclose(fewer, (poisson.cdf(np.arange(len(fewer))) - poisson.pmf(0)) / poisson.sf(0), atol=1e-6)
    assert poisson.sf(len(fewer)) / poisson.sf(0) < 1e-9


@pytest.mark.parametrize("starts", [synthetic.COLORED_STARTS, synthetic.BLACK_STARTS])
def test_every_image_has_a_square_however_small_the_image(starts: float) -> None:
    top, most = synthetic._topmost(3000, (20, 16), synthetic._Squares(starts), GeneratorDraws(seeded()))
    assert top.amin() == 0 and top.amax() <= most
    assert bool((top > 0).any(dim=1).all())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_each_square_has_one_color_before_the_blur(channels: int) -> None:
    images = synthetic._squares(40, (channels, 160, 160), GeneratorDraws(seeded()))
    colors = [torch.unique(image.flatten(1), dim=1).shape[1] for image in images]
    assert min(colors) >= 3 and max(colors) <= 16
    lone = images[colors.index(3)].flatten(1).unique(dim=1)
    assert sorted(set(lone.T.amin(dim=1).tolist()))[-1] == 0
    assert [-255.0] * channels in lone.T.tolist()


def test_a_straight_square_covers_its_side_around_its_pixel() -> None:
    drawn = torch.tensor([[0.5, 0.25, (20 - 8) / 47 + 1e-3, 0.5], [0.02, 0.5, (31 - 8) / 47 + 1e-3, 0.5]])
    rows, columns, inside = synthetic._rasterized(drawn, (100, 200), synthetic._Squares(0.0))
    even, odd = ((rows[i][inside[i].any(dim=1)].tolist(), columns[i][inside[i].any(dim=0)].tolist()) for i in range(2))
    assert even == (list(range(41, 61)), list(range(41, 61)))
    assert odd == (list(range(18)), list(range(85, 116)))
    assert inside.sum(dim=(1, 2)).tolist() == [20 * 20, 18 * 31]


def test_a_turned_square_is_a_diamond_of_the_same_area() -> None:
    drawn = torch.tensor([[0.5, 0.5, (54 - 8) / 47 + 1e-3, 1.0], [0.5, 0.5, (53 - 8) / 47 + 1e-3, 0.7]])
    _, _, inside = synthetic._rasterized(drawn, (200, 200), synthetic._Squares(0.0))
    diamond, slanted = inside
    assert len(diamond.any(dim=1).nonzero()) == pytest.approx(54 * np.sqrt(2), abs=1.5)
    assert not inside[:, [0, -1]].any()
    assert int(slanted.sum()) == pytest.approx(53**2, rel=0.01)
    assert int(diamond.sum()) == pytest.approx(54**2, rel=0.03)


@pytest.mark.parametrize("size", [(240, 240), (13, 30), (48, 49), (97, 150)])
def test_blur_is_the_plain_one_with_reflected_borders(size: tuple[int, int]) -> None:
    images = torch.randint(-500, 1, (2, 3, *size), generator=seeded()).float()
    blurred = torch.empty_like(images)
    synthetic._blur(images, out=blurred)
    taps = np.exp(-(np.arange(-12, 13) ** 2) / 50)
    wanted = images.double().numpy()
    for axis in (2, 3):
        wanted = ndimage.correlate1d(wanted, taps / taps.sum(), axis=axis, mode="mirror")
    np.testing.assert_allclose(blurred, wanted, rtol=0, atol=1e-3)


def test_squares_drawn_for_a_device_equal_those_drawn_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere all squares are sent to the device, also those that do not exist; the picture must be the same."""
    plain = synthetic._squares(20, (3, 100, 120), GeneratorDraws(seeded()))

    def every(exists: torch.Tensor, *, fixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(exists).nonzero(as_tuple=True)

    monkeypatch.setattr(synthetic, "_which", every)
    assert torch.equal(synthetic._squares(20, (3, 100, 120), GeneratorDraws(seeded())), plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("source", SOURCES)
def test_sources_render_on_the_gpu_reproducibly(source: str) -> None:
    one, two = (render(source, 40, (3, 240, 240), torch.Generator("cuda").manual_seed(3)) for _ in range(2))
    assert one.is_cuda and torch.equal(one, two)


def test_images_too_small_for_the_blur_are_refused() -> None:
    with pytest.raises(InputError, match=r"images of more than 12 px, found 12 x 40"):
        render("confetti", 2, (1, 12, 40), seeded())


def test_unknown_source_is_reported_with_all_names_and_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown source 'confeti'.*confetti, solid.*Closest: 'confetti'"):
        render("confeti", 1, (3, 32, 32))


def test_modes_are_those_of_the_schema_and_know_what_they_need() -> None:
    assert set(MODES) == set(Anomalies.model_fields["mode"].annotation.__args__)
    assert {name for name, mode in MODES.items() if mode.needs_source} == {
        "noise",
        "malformed_normal",
        "malformed_normal_gt",
    }
    assert {name for name, mode in MODES.items() if "exposure" in mode.sources} == {"noise"}
    assert [name for name, mode in MODES.items() if mode.gives_maps] == ["malformed_normal_gt"]
    assert [name for name, mode in MODES.items() if mode.real] == ["other"]


def test_malformed_images_are_clamped_sums_with_maps_of_changed_pixels() -> None:
    images = torch.tensor([100, 10, 250, 7], dtype=torch.uint8).view(1, 1, 2, 2).repeat(1, 3, 1, 1)
    noise = torch.zeros(1, 3, 2, 2, dtype=torch.int16)
    noise[0, 1] = torch.tensor([[-30, -30], [40, 0]])
    malformed, changed = malform(images, noise)
    assert malformed.dtype == torch.uint8 and changed.dtype == torch.bool
    assert malformed[0, 1].flatten().tolist() == [70, 0, 255, 7]
    assert torch.equal(malformed[0, [0, 2]], images[0, [0, 2]])
    assert changed.shape == (1, 1, 2, 2) and changed.flatten().tolist() == [True, True, True, False]


def test_noise_is_negated_for_an_image_that_it_would_hardly_change() -> None:
    black, gray = torch.zeros(1, 1, 20, 20, dtype=torch.uint8), torch.full((1, 1, 20, 20), 99, dtype=torch.uint8)
    noise = render("confetti", 1, (1, 20, 20), seeded()).expand(2, -1, -1, -1)
    malformed, changed = malform(torch.cat([black, gray]), noise)
    assert torch.equal(malformed[0], (-noise[0]).clamp(0, 255).to(torch.uint8)) and changed[0].any()
    assert torch.equal(malformed[1], (99 + noise[1]).clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize(("level", "negated"), [(9, True), (10, False)])
def test_noise_is_negated_below_a_mean_change_of_a_fortieth_of_a_gray_level(level: int, negated: bool) -> None:
    image = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    image[0, 0, 0, 0] = level
    noise = torch.zeros(1, 1, 20, 20, dtype=torch.int16)
    noise[0, 0, 0, 0] = -100
    malformed, _ = malform(image, noise)
    assert int(malformed[0, 0, 0, 0]) == (level + 100 if negated else 0)


def test_noise_stays_where_negating_it_changes_no_more() -> None:
    image = torch.full((1, 1, 20, 20), 100, dtype=torch.uint8)
    noise = torch.zeros(1, 1, 20, 20, dtype=torch.int16)
    noise[0, 0, 0, :2] = torch.tensor([5, -4])
    malformed, _ = malform(image, noise)
    assert malformed[0, 0, 0, :2].tolist() == [105, 96]


def test_no_images_give_no_malformed_ones() -> None:
    malformed, changed = malform(torch.zeros(0, 3, 20, 16, dtype=torch.uint8), render("confetti", 0, (3, 20, 16)))
    assert malformed.shape == (0, 3, 20, 16) and changed.shape == (0, 1, 20, 16)


def test_smaller_limits_take_a_part_of_what_larger_ones_take() -> None:
    few, more, everything = (limited(50, limit, np.random.default_rng(4)) for limit in (3, 20, "all"))
    assert (few.wanted, more.wanted, everything.wanted) == (3, 20, 50)
    np.testing.assert_array_equal(few.order, more.order)
    np.testing.assert_array_equal(more.order, everything.order)
    assert sorted(everything.order) == list(range(50))
    assert few.note == more.note == everything.note == ""


def test_a_limit_beyond_the_pool_takes_all_and_says_both_numbers() -> None:
    order, wanted, note = limited(5, 8, np.random.default_rng(0))
    assert sorted(order) == list(range(5)) and wanted == 5
    assert "8 images" in note and "there are 5" in note

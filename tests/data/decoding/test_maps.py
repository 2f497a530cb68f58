"""One rule for ground-truth maps per data set, found in its files and the same whichever of its classes are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fcdd_sweep.config.errors import DataError
from tests.decoded import SIDE, made, masks, read
from tests.trees import write_images

AREA = (slice(3, 7), slice(2, 9))
OTHER = (slice(9, 12), slice(2, 9))
EXPECTED = np.zeros((SIDE, SIDE), bool)
EXPECTED[AREA] = EXPECTED[OTHER] = True


def levels(first: object, second: object, background: object = 0, channels: int = 1) -> npt.NDArray[np.uint8]:
    """A map in which two areas have two values."""
    values = np.zeros((SIDE, SIDE, channels), np.uint8)
    values[:] = background
    values[AREA], values[OTHER] = first, second
    return values[..., 0] if channels == 1 else values


def paletted(numbers: npt.NDArray[np.uint8], colors: Sequence[int]) -> Image.Image:
    picture = Image.fromarray(numbers).convert("P")
    picture = Image.frombytes("P", picture.size, numbers.tobytes())
    picture.putpalette(colors)
    return picture


def write_maps(root: Path, *maps: Image.Image, suffix: str = ".png") -> Path:
    """One anomalous test image for each map."""
    write_images(root / "train" / "bolt" / "normal", 2, (SIDE, SIDE))
    write_images(root / "test" / "bolt" / "anomalous", len(maps), (SIDE, SIDE))
    for i, picture in enumerate(maps):
        picture.save(made(root / "test_maps" / "bolt" / "anomalous" / f"{i:03}{suffix}"))
    return root


def layer(color: int, hidden: int) -> Image.Image:
    """Areas of one color on nothing; where nothing is drawn the file stores another one."""
    return Image.fromarray(levels((color, color, color, 255), (color, color, color, 255), (hidden,) * 3 + (0,), 4))


MAPS = {
    "classes 0, 1, 2": Image.fromarray(levels(1, 2)),
    "grays 0, 60, 255": Image.fromarray(levels(60, 255)),
    "grays 0, 255": Image.fromarray(levels(255, 255)),
    "classes 0, 1": Image.fromarray(levels(1, 1)),
    "one bit": Image.fromarray(levels(255, 255) > 0),
    "classes in color": Image.fromarray(levels((255, 0, 0), (0, 0, 40), channels=3)),
    "two colors of one brightness": Image.fromarray(levels((76, 76, 76), (255, 0, 0), channels=3)),
    "a palette with a dark color": paletted(levels(1, 2), [0, 0, 0, 128, 0, 0, 0, 0, 60]),
    "a palette with one color twice": paletted(levels(1, 2), [0, 0, 0, 9, 9, 60, 9, 9, 60]),
    "a palette that begins with a bright color": paletted(levels(1, 2), [255, 255, 0, 128, 0, 0, 0, 0, 60]),
    "a palette that shows nothing": paletted(levels(1, 2), [0] * 9),
    "a palette of grays": paletted(levels(0, 2, 1), [200, 200, 200, 0, 0, 0, 90, 90, 90]),
    "16 bits": Image.fromarray(levels(1, 2).astype(np.uint16) * 300),
    "white on nothing": layer(255, 255),
    "white on nothing that is black": layer(255, 0),
    "black on nothing": layer(0, 0),
    "black on nothing that is white": layer(0, 255),
    "opaque": Image.fromarray(levels((255,) * 4, (60, 60, 60, 255), (0, 0, 0, 255), 4)),
}


@pytest.mark.parametrize("name", MAPS)
def test_every_value_but_the_background_is_anomalous(name: str, tmp_path: Path) -> None:
    (found,) = masks(read(write_maps(tmp_path / "data", MAPS[name]), tmp_path))
    np.testing.assert_array_equal(found, EXPECTED)


def test_the_rule_is_one_for_all_maps(tmp_path: Path) -> None:
    """A map with the lower class alone, and one with instance numbers, mark the same as among the others."""
    numbers = levels(0, 0)
    numbers[AREA] = np.arange(1, 29).reshape(4, 7)
    lower = Image.fromarray(levels(1, 1))
    found = masks(
        read(write_maps(tmp_path / "data", lower, MAPS["classes 0, 1, 2"], Image.fromarray(numbers)), tmp_path)
    )
    np.testing.assert_array_equal(found[0], EXPECTED)
    np.testing.assert_array_equal(found[1], EXPECTED)
    assert found[2][AREA].all() and found[2].sum() == 28


def test_a_soft_edge_counts_from_half_of_the_range_in_every_map(tmp_path: Path) -> None:
    soft = np.tile(np.arange(0, 256, SIDE, dtype=np.uint8), (SIDE, 1)) + np.arange(SIDE, dtype=np.uint8)[:, None]
    dim = np.where(soft < 100, soft, 128).astype(np.uint8)  # half of its own maximum is 64
    found = masks(read(write_maps(tmp_path / "data", Image.fromarray(soft), Image.fromarray(dim)), tmp_path))
    np.testing.assert_array_equal(found[0], soft >= 128)
    np.testing.assert_array_equal(found[1], dim >= 128)


def test_noise_of_a_lossy_map_is_background(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (SIDE, SIDE)).astype(np.uint8)
    clear, marked = noise.copy(), noise.copy()
    marked[:8] = 255
    maps = Image.fromarray(clear), Image.fromarray(marked)
    found = masks(read(write_maps(tmp_path / "data", *maps, suffix=".jpg"), tmp_path))
    assert not found[0].any() and found[1][:8].all() and not found[1][8:].any()


def test_classes_in_lossy_maps_alone_fit_no_rule(tmp_path: Path) -> None:
    dark = np.zeros((SIDE, SIDE), np.uint8)
    dark[:8] = 4
    root = write_maps(tmp_path / "data", Image.fromarray(dark), suffix=".jpg")
    with pytest.raises(DataError, match=r"000.jpg: the map has no value beyond half of its range"):
        read(root, tmp_path)


def test_values_near_black_beside_white_need_a_decision(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (SIDE, SIDE)).astype(np.uint8)
    noise[AREA] = noise[OTHER] = 255
    root = write_maps(tmp_path / "data", Image.fromarray(noise))
    with pytest.raises(DataError, match=r"000.png: the map has values of 1 to 8 beside white.*images.map_rule: half"):
        read(root, tmp_path)
    np.testing.assert_array_equal(masks(read(root, tmp_path, map_rule="half"))[0], EXPECTED)
    np.testing.assert_array_equal(masks(read(root, tmp_path, map_rule="values"))[0], noise > 0)


def test_classes_among_soft_maps_fit_no_rule(tmp_path: Path) -> None:
    soft = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE))
    root = write_maps(tmp_path / "data", soft, MAPS["classes 0, 1, 2"])
    with pytest.raises(
        DataError, match=r"001.png: the map has no value beyond half of its range, but .*000.png is"
    ) as e:
        read(root, tmp_path)
    assert len(e.value.problems) == 1
    np.testing.assert_array_equal(masks(read(root, tmp_path, map_rule="values"))[1], EXPECTED)


def test_maps_on_nothing_and_maps_in_colors_fit_no_rule(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"001.png: the map's colors vary, but transparency is the map of .*000.png"):
        read(write_maps(tmp_path / "data", MAPS["black on nothing"], MAPS["opaque"]), tmp_path)


def test_an_empty_and_a_full_map_on_nothing_keep_their_meaning(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0))
    full = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
    corpus = read(write_maps(tmp_path / "data", MAPS["black on nothing"], clear, full), tmp_path)
    found = masks(corpus)
    assert not found[1].any() and found[2].all()
    assert any(note.startswith("1 maps cover the whole image: ") for note in corpus.notes)


def test_another_background_can_be_set(tmp_path: Path) -> None:
    inverted = Image.fromarray(levels(0, 60, 255))
    found = masks(read(write_maps(tmp_path / "data", inverted), tmp_path, map_background=255))
    np.testing.assert_array_equal(found[0], EXPECTED)


def test_maps_of_more_than_two_values_are_counted(tmp_path: Path) -> None:
    root = write_maps(tmp_path / "data", MAPS["grays 0, 255"], MAPS["grays 0, 60, 255"])
    assert any(note.endswith("; 1 of 2 maps have more than two values.") for note in read(root, tmp_path).notes)

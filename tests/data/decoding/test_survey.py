"""One range and one rule for maps per data set, found in its files and the same whichever of its classes are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.loading import load_corpus, load_folder_images
from tests.formats import write_png16
from tests.trees import write_image, write_images

SIDE = 16
Deep = npt.NDArray[np.uint16]
Writer = Callable[[Path, Deep], object]


def camera(seed: int, base: int = 2090, defect: int = 0) -> Deep:
    """Values of a 12-bit camera, `base` plus or minus 20; `defect` is added in a square."""
    values = np.random.default_rng(seed).integers(base - 20, base + 21, (SIDE, SIDE)).astype(np.uint16)
    values[4:8, 4:8] += np.uint16(defect)
    return values


def write_camera(
    root: Path, write: Writer = write_png16, suffix: str = ".png", defect: int = 15, base: int = 2090
) -> Path:
    """A class `bolt` of 12-bit images in files of 16 bits."""
    for i in range(4):
        write(_made(root / "train" / "bolt" / "normal" / f"{i}{suffix}"), camera(i, base))
        write(_made(root / "test" / "bolt" / "normal" / f"{i}{suffix}"), camera(10 + i, base))
        write(_made(root / "test" / "bolt" / "anomalous" / f"{i}{suffix}"), camera(20 + i, base, defect))
    return root


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def images(**settings: object) -> Images:
    return Images.model_validate({"load_size": SIDE, "size": SIDE, "color": "gray", **settings})


def read(root: Path, tmp_path: Path, classes: object = "all", **settings: object) -> Corpus:
    return load_corpus(Dataset(name="folder", root=root, classes=classes), images(**settings), tmp_path / "cache")


def nominal(corpus: Corpus) -> npt.NDArray[np.uint8]:
    return corpus.images[~corpus.is_test]


# Images of more than 8 bits


def test_12_bit_values_in_16_bit_files_keep_their_contrast(tmp_path: Path) -> None:
    found = nominal(read(write_camera(tmp_path / "data"), tmp_path)).astype(float)
    assert np.ptp(found) > 100  # the 41 values of the files
    original = np.stack([camera(i) for i in range(4)]).ravel().astype(float)
    assert np.corrcoef(found.ravel(), original)[0, 1] > 0.999


def test_a_defect_outside_of_the_nominal_values_is_not_clipped_to_them(tmp_path: Path) -> None:
    corpus = read(write_camera(tmp_path / "data", defect=30), tmp_path)
    assert corpus.images[corpus.is_anomalous].max() > nominal(corpus).max() + 30


def test_test_images_do_not_decide_the_range(tmp_path: Path) -> None:
    plain = nominal(read(write_camera(tmp_path / "a", defect=0), tmp_path))
    far = nominal(read(write_camera(tmp_path / "b", defect=9000), tmp_path))
    np.testing.assert_array_equal(plain, far)


def test_values_outside_are_counted(tmp_path: Path) -> None:
    notes = read(write_camera(tmp_path / "data", defect=9000), tmp_path).notes
    (clipped,) = [note for note in notes if "clipped" in note]
    assert clipped.startswith("4 of 12 images have values outside of the range, which are clipped, at most 6.25% of")
    assert not [note for note in read(write_camera(tmp_path / "b"), tmp_path).notes if "clipped" in note]


def test_dead_and_hot_pixels_do_not_decide_the_range(tmp_path: Path) -> None:
    def with_hot_pixel(path: Path, values: Deep) -> None:
        hot = values.repeat(8, axis=0).repeat(8, axis=1)
        hot[0, 0], hot[0, 1] = 65535, 0
        write_png16(path, hot)

    assert (
        np.ptp(np.quantile(nominal(read(write_camera(tmp_path / "data", with_hot_pixel), tmp_path)), [0.1, 0.9])) > 50
    )


@pytest.mark.parametrize("base", [200, 900, 2090, 60000])
def test_every_depth_in_16_bit_files_keeps_its_contrast(tmp_path: Path, base: int) -> None:
    assert np.ptp(nominal(read(write_camera(tmp_path / "data", base=base), tmp_path))) > 100


def _color(path: Path, values: Deep) -> None:
    write_png16(path, np.stack([values, values, values], axis=2))


def _color_with_alpha(path: Path, values: Deep) -> None:
    write_png16(path, np.stack([values, values, values, np.full_like(values, 65535)], axis=2))


def _gray_with_alpha(path: Path, values: Deep) -> None:
    write_png16(path, np.stack([values, np.full_like(values, 65535)], axis=2))


def _tiff(path: Path, values: Deep) -> None:
    tifffile.imwrite(path, values)


def _color_tiff(path: Path, values: Deep) -> None:
    tifffile.imwrite(path, np.stack([values, values, values], axis=2), photometric="rgb", compression="zlib")


def _lzw_tiff(path: Path, values: Deep) -> None:
    Image.fromarray(values).save(path, compression="tiff_lzw")


def _pgm(path: Path, values: Deep) -> None:
    path.write_bytes(b"P5\n# a camera\n%d %d\n65535\n" % values.shape[::-1] + values.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (_color, ".png"),
        (_color_with_alpha, ".png"),
        (_gray_with_alpha, ".png"),
        (_tiff, ".tif"),
        (_color_tiff, ".tif"),
        (_lzw_tiff, ".tif"),
        (_pgm, ".pgm"),
    ],
)
def test_all_formats_of_16_bits_decode_as_gray_png_does(tmp_path: Path, write: Writer, suffix: str) -> None:
    expected = nominal(read(write_camera(tmp_path / "gray"), tmp_path))
    np.testing.assert_array_equal(nominal(read(write_camera(tmp_path / "other", write, suffix), tmp_path)), expected)
    assert np.ptp(expected) > 100


def _sbit(path: Path, values: Deep) -> None:
    write_png16(path, values, sbit=[12])


def _sbit_shifted(path: Path, values: Deep) -> None:
    write_png16(path, (values << 4) | (values >> 8), sbit=[12])


def _largest_value(path: Path, values: Deep) -> None:
    tifffile.imwrite(path, values, extratags=[("MaxSampleValue", "H", 1, 4095, True)])


def _pgm_of_12_bits(path: Path, values: Deep) -> None:
    path.write_bytes(b"P5 %d %d 4095\n" % values.shape[::-1] + values.astype(">u2").tobytes())


def _packed(path: Path, values: Deep) -> None:
    """A TIFF of 12 bits: two values in three bytes."""
    even, odd = values.ravel()[::2].astype(int), values.ravel()[1::2].astype(int)
    triples = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=1).astype(np.uint8)
    width, height = values.shape[::-1]
    tags = [(256, 3, width), (257, 3, height), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    tags += [(278, 3, height), (279, 4, triples.size)]
    entries = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, kind, value in tags
    )
    head = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little") + entries + bytes(4)
    path.write_bytes(head.ljust(200, b"\0") + triples.tobytes())


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(_sbit, ".png"), (_sbit_shifted, ".png"), (_largest_value, ".tif"), (_pgm_of_12_bits, ".pgm"), (_packed, ".tif")],
)
def test_a_declared_depth_is_the_range(tmp_path: Path, write: Writer, suffix: str) -> None:
    corpus = read(write_camera(tmp_path / "data", write, suffix, base=2090), tmp_path)
    expected = np.rint(np.stack([camera(i) for i in range(4)]) * (255 / 4095))
    assert np.abs(nominal(corpus)[:, 0] - expected).max() <= 1
    assert any("become 0 to 255 (declared)" in note for note in corpus.notes)
    assert any("use only the gray levels 129 to 131" in note for note in corpus.notes)


def test_settings_give_the_range(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data")
    values = np.stack([camera(i) for i in range(4)]).astype(float)
    by_depth = nominal(read(root, tmp_path, bit_depth=12))[:, 0]
    np.testing.assert_array_equal(by_depth, np.rint(values * (255 / 4095)))
    by_range = nominal(read(root, tmp_path, range=[2080.0, 2100.0]))[:, 0]
    np.testing.assert_array_equal(by_range, np.rint((values.clip(2080, 2100) - 2080) * (255 / 20)))
    whole = nominal(read(root, tmp_path, bit_depth=16))[:, 0]
    np.testing.assert_array_equal(whole, np.rint(values / 257))  # as earlier versions decoded


def _floating(path: Path, values: Deep) -> None:
    tifffile.imwrite(path, values.astype(np.float32) / 1000)


def test_a_floating_point_image_needs_a_range(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data", _floating, ".tif")
    with pytest.raises(DataError, match=r"12 images of floating point.*Set images.bit_depth, or images.range"):
        read(root, tmp_path)
    found = nominal(read(root, tmp_path, range=[2.07, 2.11]))[:, 0]
    expected = (np.stack([camera(i) for i in range(4)]) - 2070.0) * (255 / 40)
    assert np.abs(found - expected).max() <= 1


def test_depths_that_differ_need_a_setting(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data")
    write_image(root / "test" / "bolt" / "anomalous" / "shallow.png", (SIDE, SIDE), "L")
    with pytest.raises(DataError, match=r"12 images of more than 8 bits among others of 8 bits \(.*shallow.png\)"):
        read(root, tmp_path)
    assert len(read(root, tmp_path, bit_depth=12).images) == 13


def test_the_range_cannot_come_from_test_images(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_images(root / "train" / "bolt" / "normal", 3, (SIDE, SIDE))
    write_png16(_made(root / "test" / "bolt" / "anomalous" / "a.png"), camera(0))
    with pytest.raises(DataError, match=r"1 image of more than 8 bits, but no nominal training image to take"):
        read(root, tmp_path)


def test_all_classes_decide_the_range_whichever_are_read(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data")
    for i in range(3):
        write_png16(_made(root / "train" / "nut" / "normal" / f"{i}.png"), camera(i, base=9000))
    whole, alone = read(root, tmp_path), read(root, tmp_path, classes=["bolt"])
    of_bolt = (whole.class_index == whole.classes.index("bolt")) & ~whole.is_test
    np.testing.assert_array_equal(whole.images[of_bolt], nominal(alone))


def test_another_range_is_another_fingerprint(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data")
    found = {read(root, tmp_path, **given).fingerprints["bolt"] for given in ({}, {"bit_depth": 12}, {"bit_depth": 16})}
    assert len(found) == 3


def test_a_folder_of_outlier_exposure_is_decoded_in_the_range_of_the_data_set(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data")
    folder = root / "train" / "bolt" / "normal"
    pool = load_folder_images(folder, images(range=[2080.0, 2100.0]), tmp_path / "cache")
    np.testing.assert_array_equal(
        np.sort(pool.images, axis=0), np.sort(nominal(read(root, tmp_path, range=[2080.0, 2100.0])), axis=0)
    )


def test_8_bit_images_are_as_they_are_stored(tmp_path: Path) -> None:
    """Exact values, gray, color, palette, transparent and one bit: what this version may not change."""
    root = tmp_path / "data"
    gray = np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE)
    palette = Image.fromarray(gray).convert("P")
    layer = Image.fromarray(np.stack([gray, gray, gray, np.where(gray < 128, 0, 255).astype(np.uint8)], axis=2))
    pictures = [Image.fromarray(gray), Image.fromarray(np.stack([gray] * 3, axis=2)), palette, layer]
    for i, picture in enumerate([*pictures, Image.fromarray(gray > 99)]):
        picture.save(_made(root / "train" / "bolt" / "normal" / f"{i}.png"))
    found = read(root, tmp_path).images[:, 0]
    for i in range(3):
        np.testing.assert_array_equal(found[i], gray)
    np.testing.assert_array_equal(found[3], np.where(gray < 128, 255, gray))
    np.testing.assert_array_equal(found[4], np.where(gray > 99, 255, 0))


# Ground-truth maps

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
        picture.save(_made(root / "test_maps" / "bolt" / "anomalous" / f"{i:03}{suffix}"))
    return root


def masks(corpus: Corpus) -> list[npt.NDArray[np.bool_]]:
    return [mask for i in np.flatnonzero(corpus.mask_index >= 0) if (mask := corpus.mask(int(i))) is not None]


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


# Images that EXIF turns


def write_turned(root: Path, orientation: int, maps: Sequence[npt.NDArray[np.bool_]]) -> Path:
    """Images that are stored as 12x20 pixels (width, height) and turned by EXIF, with maps of the given shapes."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_images(root / "train" / "bolt" / "normal", 2, (20, 20))
    for i, area in enumerate(maps):
        shape = area.shape if len(set(area.shape)) == 1 else (20, 12)
        stored = np.zeros(shape, np.uint8)
        stored[:4, :3] = 255
        name = Path("bolt") / "anomalous" / f"{i}"
        Image.fromarray(stored).save(_made(root / "test" / name.with_suffix(".jpg")), exif=exif, quality=100)
        Image.fromarray(np.uint8(area) * 255).save(_made(root / "test_maps" / name.with_suffix(".png")))
    return root


def corner(shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    area = np.zeros(shape, bool)
    area[:4, :3] = True
    return area


@pytest.mark.parametrize(("orientation", "turns"), [(6, -1), (8, 1)])
def test_a_map_that_is_not_turned_is_turned_along_with_its_image(tmp_path: Path, orientation: int, turns: int) -> None:
    (found,) = masks(read(write_turned(tmp_path / "data", orientation, [corner((20, 12))]), tmp_path))
    np.testing.assert_array_equal(found, np.rot90(corner((20, 12)), turns))


def test_a_map_of_the_upright_image_stays(tmp_path: Path) -> None:
    upright = np.rot90(corner((20, 12)), -1)
    (found,) = masks(read(write_turned(tmp_path / "data", 6, [upright]), tmp_path))
    np.testing.assert_array_equal(found, upright)


def test_a_square_map_is_read_as_the_others_of_its_data_set(tmp_path: Path) -> None:
    square = corner((16, 16))
    found = masks(read(write_turned(tmp_path / "a", 6, [corner((20, 12)), square]), tmp_path))
    np.testing.assert_array_equal(found[1], np.rot90(square, -1))
    corpus = read(write_turned(tmp_path / "b", 6, [square]), tmp_path)
    np.testing.assert_array_equal(masks(corpus)[0], square)
    assert any(note.startswith("1 map of images that EXIF turns may be upright or not") for note in corpus.notes)


# Size


def test_a_scan_of_180_megapixels_is_read_and_a_limit_can_be_set(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    root = tmp_path / "data"
    write_images(root / "train" / "bolt" / "normal", 1, (SIDE, SIDE))
    scan = Image.new("1", (18_000, 10_000), 1)
    scan.save(_made(root / "train" / "bolt" / "normal" / "scan.png"))
    assert (read(root, tmp_path).images[1] == 255).all()
    assert not [each for each in recwarn if "DecompressionBomb" in each.category.__name__]
    with pytest.raises(
        DataError, match=r"scan.png: has 18000x10000 pixels, 180 megapixels\. Allowed: at most 100 \(im"
    ):
        read(root, tmp_path, max_megapixels=100.0)

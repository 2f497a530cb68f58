"""One range of values per data set, found in its files and the same whichever of its classes are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.data.loading import load_folder_images
from tests.decoded import SIDE, images, made, nominal, read
from tests.formats import write_png16
from tests.trees import write_image, write_images

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
        write(made(root / "train" / "bolt" / "normal" / f"{i}{suffix}"), camera(i, base))
        write(made(root / "test" / "bolt" / "normal" / f"{i}{suffix}"), camera(10 + i, base))
        write(made(root / "test" / "bolt" / "anomalous" / f"{i}{suffix}"), camera(20 + i, base, defect))
    return root


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
    write_png16(made(root / "test" / "bolt" / "anomalous" / "a.png"), camera(0))
    with pytest.raises(DataError, match=r"1 image of more than 8 bits, but no nominal training image to take"):
        read(root, tmp_path)


def test_all_classes_decide_the_range_whichever_are_read(tmp_path: Path) -> None:
    root = write_camera(tmp_path / "data")
    for i in range(3):
        write_png16(made(root / "train" / "nut" / "normal" / f"{i}.png"), camera(i, base=9000))
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
        picture.save(made(root / "train" / "bolt" / "normal" / f"{i}.png"))
    found = read(root, tmp_path).images[:, 0]
    for i in range(3):
        np.testing.assert_array_equal(found[i], gray)
    np.testing.assert_array_equal(found[3], np.where(gray < 128, 255, gray))
    np.testing.assert_array_equal(found[4], np.where(gray > 99, 255, 0))

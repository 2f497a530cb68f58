"""Whatever a file holds becomes 8-bit gray or RGB; what does not decode is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.names import name_share
from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.maps import MapRule
from fcdd_sweep.data.decoding.pixels import Decoding, fit_image, read_image, read_mask, read_picture
from fcdd_sweep.data.loading import load_image_file
from fcdd_sweep.training.augment import nearest_index
from tests.formats import write_png16
from tests.trees import corrupt, pixels, truncate, write_image, write_mask


def test_plain_images_are_read_as_they_are(tmp_path: Path) -> None:
    for mode in ("L", "RGB"):
        path = write_image(tmp_path / f"{mode}.png", mode=mode)
        np.testing.assert_array_equal(read_image(path), pixels(mode=mode))


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 2), (10, 20, 30, 255))
    image.putpixel((0, 0), (10, 20, 30, 0))
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.shape == (2, 4, 3)
    assert found[0, 0].tolist() == [255, 255, 255] and found[1, 3].tolist() == [10, 20, 30]


def test_palette_with_a_transparent_color_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[[255, 255, 255], [0, 0, 200]]]


def test_gray_with_alpha_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (40, 255))
    image.putpixel((0, 0), (40, 0))
    image.save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png")[0, :, 0].tolist() == [255, 40]


def test_16_bit_gray_is_scaled_by_the_range_and_needs_one(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    whole = Decoding(ValueRange(0, 65535, "images.bit_depth"))
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_image(tmp_path / name, whole).tolist() == [[0, 1, 128, 255]]
        with pytest.raises(DataError, match=r"has 16 bits per channel, and no range says which values become black"):
            read_image(tmp_path / name)


def test_transparent_pixels_of_16_bits_become_white(tmp_path: Path) -> None:
    values = np.array([[[100, 0], [100, 65535], [200, 65535]]], np.uint16)
    path = write_png16(tmp_path / "a.png", values)
    found = read_image(path, Decoding(ValueRange(100, 200, "images.range")))
    assert found[..., 0].tolist() == [[255, 0, 255]]


def test_what_is_not_a_number_counts_as_clipped(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.array([[0.0, 1.0, np.nan, 7.0]], np.float32))
    found = read_picture(tmp_path / "f.tif", (), Decoding(ValueRange(0, 1, "images.range")))
    assert found.image.tolist() == [[0, 255, 0, 255]] and found.clipped == 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_of_16_bits_are_turned_upright_as_others_are(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shallow = Image.fromarray(pixels((8, 20), "L"))
    shallow.save(tmp_path / "a.png", exif=exif)
    deep = Image.fromarray(pixels((8, 20), "L").astype(np.uint16))
    deep.save(tmp_path / f"b{suffix}", exif=exif)
    as_it_is = Decoding(ValueRange(0, 255, "images.range"))
    np.testing.assert_array_equal(read_image(tmp_path / f"b{suffix}", as_it_is), read_image(tmp_path / "a.png"))


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (3, 3), (0, 0, 0, 0)).save(tmp_path / "c.tif")
    assert read_image(tmp_path / "c.tif").tolist() == [[[255, 255, 255]] * 3] * 3


def test_black_and_white_becomes_gray(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").tolist() == [[255, 0]]


def test_exif_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(pixels((8, 20)))
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(pixels((8, 20)), -1))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = corrupt(tmp_path / "bad.png")
    with pytest.raises(DataError, match="does not decode as an image") as caught:
        read_image(path)
    assert caught.value.problems[0].where == str(path)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    path = truncate(write_image(tmp_path / "half.jpg", (200, 200)))
    with pytest.raises(DataError, match=r"half\.jpg: does not decode.*truncated"):
        read_image(path)


def test_a_floating_point_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: has 32 bits per channel, and no range.*Allowed: 8 bits"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("high", [1, 255])
def test_a_map_is_what_is_not_its_background(tmp_path: Path, high: int) -> None:
    expected = np.zeros((6, 8), bool)
    expected[2:4, 3:6] = True
    Image.fromarray(np.uint8(expected * high)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), expected)


def test_a_map_saved_as_jpeg_keeps_its_area(tmp_path: Path) -> None:
    mask = read_mask(write_mask(tmp_path / "m.jpg", (32, 32), (8, 8, 24, 24)), Decoding(maps=MapRule("half")))
    assert mask.sum() == 16 * 16


def test_a_black_map_is_empty(tmp_path: Path) -> None:
    assert not read_mask(write_mask(tmp_path / "m.png", box=(0, 0, 0, 0))).any()


def test_a_map_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    image, mask = write_image(tmp_path / "i.png", (20, 24)), write_mask(tmp_path / "m.png", (24, 20))
    with pytest.raises(DataError, match=r"m\.png: the map has 20x24 pixels, but its image .*i\.png has 24x20"):
        read_picture(image, (mask,))


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_fit_gives_the_channels_asked_for(mode: str, color: str) -> None:
    found = fit_image(pixels(mode=mode), 16, "bilinear", color)
    assert found.shape == ((1 if color == "gray" else 3), 16, 16) and found.dtype == np.uint8


def test_area_is_the_mean_of_the_covered_pixels() -> None:
    image = pixels((12, 8), "L")
    means = image.reshape(4, 3, 4, 2).mean((1, 3))
    assert np.abs(fit_image(image, 4, "area", "gray")[0] - means).max() <= 1


def test_nearest_invents_no_value_and_reads_the_pixels_that_maps_read() -> None:
    image = pixels((103, 77), "L")
    rows, columns = (nearest_index(24, side) for side in image.shape)
    np.testing.assert_array_equal(fit_image(image, 24, "nearest", "gray")[0], image[rows][:, columns])


def test_area_is_smooth_where_the_image_must_grow() -> None:
    image = np.array([[0, 200], [0, 200]], np.uint8)
    assert len(np.unique(fit_image(image, 8, "area", "gray"))) > 2


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = pixels((16, 16))
    np.testing.assert_array_equal(fit_image(image, 16, "bilinear", "rgb"), image.transpose(2, 0, 1))


def test_a_new_image_is_decoded_as_a_data_set_is(tmp_path: Path) -> None:
    path = write_image(tmp_path / "new.png", (30, 40))
    images = Images(load_size=16, size=16, resize="area")
    found, clipped = load_image_file(path, images)
    np.testing.assert_array_equal(found, fit_image(read_image(path), 16, "area", "rgb"))
    assert clipped == 0


def test_the_share_of_a_name_is_fixed_and_the_same_in_both_ways_to_write_an_umlaut() -> None:
    assert name_share("cell0001.png") == pytest.approx(0.5903378, abs=1e-7)
    assert name_share("gr\u00fcn.png") == name_share("gru\u0308n.png")


def test_cropped_images_keep_their_proportions_and_show_the_middle() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle square
    assert (fit_image(wide, 5, "bilinear", "rgb", "crop") == 200).all()
    assert (fit_image(wide, 5, "bilinear", "rgb") == 0).any()
    tall = wide.transpose(1, 0, 2).copy()
    assert (fit_image(tall, 10, "nearest", "gray", "crop") == 200).all()

"""Images given in Python have the pixels that their files have."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.given import read_given
from fcdd_sweep.data.decoding.pixels import PLAIN, Decoding
from tests.formats import write_png16

DECLARED = Decoding(ValueRange(1000, 3550, "images.range"))
MEASURED = Decoding(ValueRange(1000, 3550, "measured"))
PIXELS = np.random.default_rng(0).integers(0, 256, (11, 7, 4)).astype(np.uint8)


def image_of(mode):
    return Image.fromarray(PIXELS if mode == "RGBA" else PIXELS[..., :3]).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
def test_a_file_its_pillow_image_and_its_array_are_the_same_image(mode, tmp_path):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image_of(mode).save(path)
    expected = read_given(path, "x", PLAIN).image
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_given(opened, "x", PLAIN).image, expected)
    if mode in ("L", "RGB", "RGBA"):
        np.testing.assert_array_equal(read_given(np.asarray(image_of(mode)), "x", PLAIN).image, expected)
    assert expected.shape == ((11, 7) if mode in ("L", "1") else (11, 7, 3))


def test_an_image_of_pillow_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image_of("L").save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        found = read_given(opened, "x", PLAIN).image
    np.testing.assert_array_equal(found, read_given(tmp_path / "x.png", "x", PLAIN).image)
    assert found.shape == (7, 11)


def test_16_bits_are_brought_to_8_by_the_range_of_training_in_all_forms(tmp_path):
    values = PIXELS[..., 0].astype(np.uint16) * 16
    write_png16(tmp_path / "x.png", values)
    expected = read_given(tmp_path / "x.png", "x", DECLARED)
    with Image.open(tmp_path / "x.png") as opened:
        forms = [opened, values, values.astype(np.int64), values.astype(np.float32), values[..., None]]
        for form in forms:
            found = read_given(form, "x", DECLARED)
            np.testing.assert_array_equal(found.image, expected.image)
            assert found.clipped == expected.clipped > 0


def test_shares_from_0_to_1_and_black_and_white_become_0_to_255():
    shares = PIXELS[..., :3] / 255
    for kind in (np.float32, np.float64):
        np.testing.assert_array_equal(read_given(shares.astype(kind), "x", PLAIN).image, PIXELS[..., :3])
    black_and_white = read_given(np.array([[True, False]]), "x", PLAIN).image
    assert black_and_white.tolist() == [[255, 0]] and black_and_white.dtype == np.uint8


@pytest.mark.parametrize(
    ("array", "decoding", "message"),
    [
        (np.zeros((4, 4), np.uint16), PLAIN, "x: has values of type uint16, .* Allowed: uint8, bool"),
        (np.full((4, 4), 200.0), PLAIN, "x: has floating-point values from 200 to 200, and no range says"),
        (np.full((4, 4), np.nan), PLAIN, "x: has floating-point values from nan to nan"),
        (np.zeros((4, 4), np.uint8), MEASURED, "x: has 8 bits, but the training images have more"),
        (np.zeros((3, 5, 5), np.uint8), PLAIN, r"x: found an array with the axes \(3, 5, 5\). Allowed: \(H, W\) gray"),
        (np.zeros(4, np.uint8), PLAIN, r"found an array with the axes \(4,\)"),
        (np.zeros((0, 4), np.uint8), PLAIN, r"found an array with the axes \(0, 4\)"),
    ],
)
def test_what_cannot_be_read_as_training_images_were_is_refused_by_name(array, decoding, message):
    with pytest.raises(DataError, match=message):
        read_given(array, "x", decoding)


def test_an_8_bit_image_of_pillow_beside_training_images_of_more_bits_is_refused():
    with pytest.raises(DataError, match="x: has 8 bits, but the training images have more"):
        read_given(image_of("L"), "x", MEASURED)

"""Images and maps that EXIF turns, and sizes of images, as the survey of a data set finds them."""

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
        Image.fromarray(stored).save(made(root / "test" / name.with_suffix(".jpg")), exif=exif, quality=100)
        Image.fromarray(np.uint8(area) * 255).save(made(root / "test_maps" / name.with_suffix(".png")))
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
    scan.save(made(root / "train" / "bolt" / "normal" / "scan.png"))
    assert (read(root, tmp_path).images[1] == 255).all()
    assert not [each for each in recwarn if "DecompressionBomb" in each.category.__name__]
    with pytest.raises(
        DataError, match=r"scan.png: has 18000x10000 pixels, 180 megapixels\. Allowed: at most 100 \(im"
    ):
        read(root, tmp_path, max_megapixels=100.0)

"""Ground-truth maps by the habits of the field: to which image each belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.data.datasets.test_folder import folder, load, sizes
from tests.trees import write_images, write_mask, write_mvtec

IMAGES = Images(load_size=16, size=16)

MAPS = {
    "the same name": "masks/000.png",
    "_mask": "ground_truth/000_mask.png",
    "_GT": "test/bad/000_GT.png",
    "another ending": "ground_truth/bad/000.bmp",
    "beside the images": "test/bad/000_mask.png",
    "mask_ beside the images": "test/bad/mask_000.png",
    "gt_ and a number": "test/bad/GT-000_1.png",
    "mask_ in a folder": "ground_truth/bad/mask_000.png",
    "a folder beside the images": "test/bad/MASK/000.png",
    "a word for the other word": "masks/ng/000.png",
    "in the half": "test/ground_truth/bad/000_mask.png",
    "of bad": "bad_masks/000.png",
    "of bad in the singular": "test/bad_mask/000.png",
    "of defects": "Defect Masks/000_mask.png",
    "of bad parts": "NG parts labels/000.png",
    "of the class": "part_masks/bad/000.png",
    "by halves": "test_masks/bad/000.png",
    "several in a folder": "ground_truth/bad/000/000.png",
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_found_by_the_habits_of_the_field(tmp_path: Path, name: str) -> None:
    root = tmp_path / "part"
    write_images(root / "train" / "good", 4)
    write_images(root / "test" / "good", 2)
    write_images(root / "test" / "bad", 2)
    write_mask(root / MAPS[name], box=(4, 5, 10, 12))
    corpus = load(folder(root))
    assert sizes(corpus, "part") == (4, 0, 2, 2) and dataset_facts(folder(root)).maps
    mask = corpus.mask(corpus.path.index("test/bad/000.png"))
    assert mask is not None and mask.sum() == 6 * 7 and mask[4:10, 5:12].all()
    assert (corpus.mask_index >= 0).sum() == 1


def test_masks_of_good_are_not_those_of_bad(tmp_path: Path) -> None:
    root = tmp_path / "part"
    write_images(root / "good", 4)
    write_images(root / "bad", 2)
    write_mask(root / "good_masks" / "000.png", box=(0, 0, 20, 24))
    write_mask(root / "bad_masks" / "000.png")
    corpus = load(folder(root))
    mask = corpus.mask(corpus.path.index("bad/000.png"))
    assert len(corpus.path) == 6 and mask is not None and mask.sum() == 6 * 7


def test_a_type_of_defect_in_a_mask_is_no_folder_of_maps(tmp_path: Path) -> None:
    root = tmp_path / "part"
    for each in ("train/good", "test/good", "test/missing_mask", "test/torn_label"):
        write_images(root / each, 2)
    assert set(load(folder(root)).defect) == {"", "missing_mask", "torn_label"}


@pytest.mark.parametrize(
    "names", [("000_mask_1.png", "000_mask_2.png"), ("000/000.png", "000/001.png"), ("000_1.png", "000_2.png")]
)
def test_several_maps_of_an_image_are_united(tmp_path: Path, names: tuple[str, str]) -> None:
    root = tmp_path / "part"
    write_images(root / "train" / "good", 4)
    write_images(root / "test" / "bad", 2)
    write_mask(root / "ground_truth" / "bad" / names[0], box=(0, 0, 4, 4))
    write_mask(root / "ground_truth" / "bad" / names[1], box=(10, 10, 12, 13))
    mask = load(folder(root)).mask(4)
    expected = np.zeros((20, 24), bool)
    expected[:4, :4] = expected[10:12, 10:13] = True
    assert mask is not None
    np.testing.assert_array_equal(mask, expected)


def test_a_map_that_may_belong_to_two_images_or_to_none_is_a_problem(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "part", (".",))
    write_mask(root / "masks" / "000.png")
    write_mask(root / "ground_truth" / "crack" / "777_mask.png")
    none, two = check_dataset(folder(root), IMAGES)
    assert none.where.endswith("777_mask.png") and "has no image" in none.what
    assert two.where == str(root / "masks" / "000.png") and "not clear which image" in two.what


def test_maps_of_nominal_images_are_left_out(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "part", (".",))
    write_mask(root / "ground_truth" / "good" / "001_mask.png", box=(0, 0, 0, 0))
    corpus = load(folder(root))
    assert (corpus.mask_index >= 0).sum() == 4

"""MVTec-AD from its directory layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.decoding.pixels import fit_image
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.trees import pixels, write_image, write_images, write_mask, write_mvtec

IMAGES = Images(load_size=16, size=16, resize="nearest")


def mvtec(root: Path, *classes: str) -> Dataset:
    return Dataset(name="mvtec", root=root, classes=list(classes) or "all")


def test_the_layout_is_read_class_by_class(tmp_path: Path) -> None:
    dataset = mvtec(write_mvtec(tmp_path / "data"), "carpet", "bottle")
    corpus = load_corpus(dataset, IMAGES, tmp_path / "cache")
    facts = dataset_facts(dataset)
    assert corpus.classes == ("bottle", "carpet") and len(facts.classes) == 15 and facts.maps
    split = split_for(corpus, "carpet")
    assert [corpus.path[i] for i in split.train_nominal] == [f"carpet/train/good/00{i}.png" for i in range(4)]
    assert split.test_defect == ("", "", "crack", "crack", "hole", "hole")
    assert split.train_anomalous.size == 0 and split.test_label.tolist() == [0, 0, 1, 1, 1, 1]


def test_every_class_is_read_where_all_are_there(tmp_path: Path) -> None:
    names = dataset_facts(mvtec(tmp_path)).classes
    dataset = mvtec(write_mvtec(tmp_path / "data", names, train=1, test=1, defects=("a",)))
    assert load_corpus(dataset, IMAGES, tmp_path / "cache").classes == names


def test_other_sizes_gray_and_rgba_images_are_read(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "data", ("screw",))
    write_image(root / "screw" / "train" / "good" / "gray.png", (40, 30), "L", seed=7)
    write_image(root / "screw" / "test" / "crack" / "wide.png", (12, 50), "RGBA")
    write_mask(root / "screw" / "ground_truth" / "crack" / "wide_mask.png", (12, 50), (2, 3, 4, 40))
    corpus = load_corpus(mvtec(root, "screw"), IMAGES, tmp_path / "cache")
    gray = corpus.images[corpus.path.index("screw/train/good/gray.png")]
    np.testing.assert_array_equal(gray, fit_image(pixels((40, 30), "L", 7), 16, "nearest", "rgb"))
    wide = corpus.path.index("screw/test/crack/wide.png")
    mask = corpus.mask(wide)
    assert mask is not None and mask.shape == (12, 50) and mask.sum() == 2 * 37
    assert corpus.original_size[wide].tolist() == [12, 50]


def test_gray_images_stay_gray_where_gray_is_asked_for(tmp_path: Path) -> None:
    dataset = mvtec(write_mvtec(tmp_path / "data", ("grid",)), "grid")
    assert load_corpus(dataset, IMAGES.model_copy(update={"color": "gray"}), tmp_path / "cache").images.shape[1] == 1


def test_each_map_belongs_to_its_image(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "data", ("pill",))
    for i in range(2):
        write_mask(root / "pill" / "ground_truth" / "hole" / f"00{i}_mask.png", box=(0, 0, i + 1, 3))
    corpus = load_corpus(mvtec(root, "pill"), IMAGES, tmp_path / "cache")
    for i in range(2):
        mask = corpus.mask(corpus.path.index(f"pill/test/hole/00{i}.png"))
        assert mask is not None and mask.sum() == 3 * (i + 1)


def test_problems_of_several_classes_come_together(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "data", ("bottle", "cable"))
    (root / "bottle" / "ground_truth" / "crack" / "000_mask.png").unlink()
    write_images(root / "cable" / "ground_truth" / "hole", 1)
    found = [problem.where for problem in check_dataset(mvtec(root, "bottle", "cable", "wood"), IMAGES)]
    assert found == [
        str(root / "bottle" / "ground_truth" / "crack" / "000_mask.png"),
        str(root / "cable" / "ground_truth" / "hole" / "000.png"),
        str(root / "wood"),
    ]

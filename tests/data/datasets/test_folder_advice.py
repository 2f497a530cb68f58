"""Trees that would be read wrongly: what is said of them, and the moves that make them readable."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.data.datasets.test_folder import folder, load, sizes
from tests.trees import (
    write_class_first,
    write_images,
    write_mask,
    write_one_vs_rest,
)

IMAGES = Images(load_size=16, size=16)


def apply_moves(root: Path, problem: Problem) -> None:
    """Do what a problem says: `In ROOT, move 'a' to 'b', 'c' to 'd'`."""
    base = Path(re.search(r"In (\S+), move", problem.next_step)[1])
    moves = re.findall(r"'([^']+)' to '([^']+)'", problem.next_step)
    assert moves and root in (base, *base.parents)
    for source, target in moves:
        (base / target).parent.mkdir(parents=True, exist_ok=True)
        (base / source).rename(base / target)


AMBIGUOUS: dict[str, tuple[list[str], str]] = {
    "folders of one class": (["OK", "NG", "strange"], "data"),
    "classes with good and bad": (["bolt/good", "bolt/bad", "bolt/strange"], "bolt"),
    "a class of normal images deep below": (["bolt/a/b/good", "bolt/bad", "bolt/strange"], "bolt"),
    "splits of one class": (["train/OK", "train/strange", "test/OK", "test/NG"], "data"),
    "splits of classes": (["train/nut/ok", "train/nut/strange", "test/nut/ok", "test/nut/ko"], "nut"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_strange_folder_beside_parts_of_a_class_is_refused_with_the_moves_that_make_the_tree_readable(
    tmp_path: Path, name: str
) -> None:
    folders, class_name = AMBIGUOUS[name]
    root = tmp_path / "data"
    for path in folders:
        if not path.endswith("strange"):
            write_images(root / path, 4)
    write_images(root / next(path for path in folders if path.endswith("strange")), 1)
    problems = check_dataset(folder(root), IMAGES)
    with pytest.raises(DataError):
        dataset_facts(folder(root))
    assert "dataset.options.layout" in str(problems[0])
    apply_moves(root, problems[0])
    for strange in root.rglob("strange"):
        shutil.rmtree(strange)
    corpus = load(folder(root))
    assert corpus.classes == (class_name,)
    split = split_for(corpus, class_name)
    assert len(split.train_nominal) == 4 and split.test_label.sum() == 4


@pytest.mark.parametrize("name", ["bad_masks", "bad_mask", "defect masks"])
def test_masks_beside_good_and_bad_are_never_moved_to_the_anomalous_images(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    for each in ("good", "bad", name, "strange"):
        write_images(root / each, 4)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert f"'{name}' to 'test_maps/anomalous'" in problem.next_step and f"'{name}' to 'test/" not in problem.next_step


NOT_CLASSES = {
    "images beside bad": (
        [".", "bad"],
        "the folder bad looks like anomalous images, not like a class, and 4 images are in no folder.",
        "In ROOT, move the images in no folder to 'good' if they are normal, to 'bad' if not.",
        [("*.png", "good")],
    ),
    "images beside anomalous": (
        [".", "anomalous", "ok"],
        "the folders anomalous and ok look like parts of a class, not like classes, and 4 images are in no folder.",
        "In ROOT, move the images in no folder to 'ok' if they are normal, to 'anomalous' if not.",
        [("*.png", "ok/more")],
    ),
    "bad alone": (
        ["bad"],
        "the folder bad looks like anomalous images, not like a class.",
        "Put the normal images into ROOT/good.",
        [],
    ),
    "defect beside another": (
        ["defect", "other"],
        "the folder defect looks like anomalous images, not like a class.",
        "In ROOT, move 'other' to 'good', if other holds the normal images.",
        [("other/*.png", "good")],
    ),
    "bad in both halves": (
        ["train/bolt", "test/bolt", "test/bad"],
        "the folder bad in train and test looks like anomalous images, not like a class.",
        "In ROOT, move 'train/bolt' to 'train/good', 'test/bolt' to 'test/good', if bolt holds the normal images.",
        [("train/bolt/*.png", "train/good"), ("test/bolt/*.png", "test/good")],
    ),
    "another word than good": (
        ["ok", "crack"],
        "the folders crack and ok look like parts of a class, not like classes.",
        "In ROOT, move 'crack' to 'test/anomalous', 'ok' to 'train/normal', then some of the normal images to",
        [("crack/*.png", "test/anomalous"), ("ok/*.png", "train/normal")],
    ),
}


@pytest.mark.parametrize("name", NOT_CLASSES)
def test_anomalous_images_are_no_class_unless_that_is_asked_for(tmp_path: Path, name: str) -> None:
    folders, what, step, moves = NOT_CLASSES[name]
    root = tmp_path / "data"
    for number, path in enumerate(folders):
        write_images(root / path, 4, seed=number)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.where == str(root) and str(problem).startswith(f"{root}: {what} Allowed: good/IMAGES and bad/IMAGES")
    assert step.replace("ROOT", str(root)) in str(problem) and "set dataset.options.layout: classes" in str(problem)
    assert dataset_facts(folder(root, options={"layout": "classes"})).protocol == "one_vs_rest"
    for pattern, target in moves:
        (root / target).mkdir(parents=True, exist_ok=True)
        for image in root.glob(pattern):
            image.rename(root / target / image.name)
    if moves:
        corpus = load(folder(root))
        assert corpus.classes == ("data",) and len(corpus.path) == 4 * len(folders)
        assert split_for(corpus, "data").test_label.sum() == 4


@pytest.mark.parametrize("halves", [("train",), ("train", "test")])
def test_images_directly_in_a_half_are_readable_after_the_moves_for_one_kind_of_part(
    tmp_path: Path, halves: tuple[str, ...]
) -> None:
    root = tmp_path / "data"
    for half in halves:
        write_images(root / half, 3)
    problems = check_dataset(folder(root), IMAGES)
    for half, problem in zip(halves, problems, strict=True):
        assert problem.where == str(root / half) and problem.allowed == f"{half}/CLASS/IMAGES"
        assert problem.next_step.startswith(f"If all show one kind of part, move them to {half}/good")
        assert (f"or to {half}/bad where they are anomalous" in problem.next_step) == (half == "test")
        (root / half / "good").mkdir()
        for image in (root / half).glob("*.png"):
            image.rename(root / half / "good" / image.name)
    assert sizes(load(folder(root)), "data") == (3, 0, 3 * (len(halves) - 1), 0)


def test_images_beside_folders_are_not_left_out_unless_that_is_asked_for(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("predictions",), split=False)
    write_images(root, 1)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.what == "1 image is in no folder, beside the folder predictions"
    assert problem.allowed == "images in folders alone, or in no folder alone"
    assert "layout: flat" in problem.next_step and "layout: classes" in problem.next_step
    assert len(load(folder(root, options={"layout": "classes"})).path) == 12
    assert dataset_facts(folder(root, options={"layout": "flat"})).classes == ("data",)


def test_parts_of_a_class_are_classes_when_that_is_asked_for(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("OK", "NG", "MASK"), split=False)
    assert dataset_facts(folder(root)).classes == ("data",)
    assert load(folder(root, protocol="one_vs_rest")).classes == ("MASK", "NG", "OK")
    assert load(folder(root, options={"layout": "classes"})).classes == ("MASK", "NG", "OK")


def test_maps_are_no_class_beside_the_classes_they_belong_to(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("cat", "dog"), split=False)
    write_mask(root / "masks" / "001_mask.png")
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.where == str(root / "masks") and "looks like ground-truth maps" in problem.what


@pytest.mark.parametrize(
    "name", ["gt/001.png", "001_mask.png", "001_gt_2.png", "mask_001.png", "gt_001.png", "mask_001_2.png"]
)
def test_maps_among_the_images_are_not_read_as_images(tmp_path: Path, name: str) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("cat", "dog"), split=False)
    write_mask(root / "cat" / name)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.where == str((root / "cat" / name).parent)
    assert "Move the maps elsewhere" in problem.next_step


def test_ground_truth_beside_train_and_test_is_reported_and_can_be_read_after_the_renaming(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data", ("bolt",))
    maps = root / "bolt" / "ground_truth"
    write_mask(maps / "bent" / "001_mask.png")
    corpus = load(folder(root))
    target = root / "bolt" / "test_maps" / "anomalous"
    (note,) = (note for note in corpus.notes if "ground-truth maps" in note)
    assert f"{maps}: 1 image" in note and f"rename it to {target}, and take _mask off the names" in note
    assert not corpus.has_maps
    target.parent.mkdir()
    maps.rename(target)
    (target / "bent" / "001_mask.png").rename(target / "bent" / "001.png")
    corpus = load(folder(root))
    assert corpus.mask(corpus.path.index("bolt/test/anomalous/bent/001.png")) is not None
    assert corpus.notes == (
        "2 of 3 test anomalies have no map: bolt/test/anomalous/bent/000.png, bolt/test/anomalous/rust/000.png.",
    )


@pytest.mark.parametrize(
    ("found", "step"),
    [
        ("anomolous", "Closest: 'anomalous'. If it is a type of defect, set dataset.options.layout: mvtec."),
        (
            "scratch",
            "If it is a type of defect, set dataset.options.layout: mvtec, or move scratch to anomalous/scratch.",
        ),
    ],
)
def test_a_folder_beside_the_labels_is_named_with_what_to_do(tmp_path: Path, found: str, step: str) -> None:
    root = tmp_path / "data"
    write_images(root / "a" / "train" / "good", 2)
    write_images(root / "a" / "test" / found, 2)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.where == str(root / "a" / "test" / found) and str(problem).endswith(step)

"""Broken data trees, and the sentence that each of them is answered with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.trees import (
    corrupt,
    truncate,
    write_class_first,
    write_image,
    write_images,
    write_mask,
    write_mvtec,
    write_one_vs_rest,
    write_split_first,
)

IMAGES = Images(load_size=16, size=16)
Break = Callable[[Path], object]


def rename(old: str, new: str) -> Break:
    return lambda root: (root / old).rename(root / new)


def remove(path: str) -> Break:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def empty(path: str) -> Break:
    return lambda root: [file.unlink() for file in (root / path).iterdir()]


def add_images(path: str) -> Break:
    return lambda root: write_images(root / path, 2)


def add_map(path: str) -> Break:
    return lambda root: write_mask(root / path)


def nothing(root: Path) -> None:
    return None


def make_root(root: Path) -> None:
    root.mkdir()


def with_maps(root: Path) -> Path:
    return write_split_first(root, maps=True)


MVTEC = {"name": "mvtec", "classes": ["bottle", "carpet"]}
FOLDER = {"name": "folder"}
FOUND_BY_LOOKING = {
    "mvtec root one level too high": (
        MVTEC,
        lambda root: write_mvtec(root / "mvtec_ad"),
        nothing,
        "dataset.root: ROOT holds none of the folders bottle, carpet. Set dataset.root to ROOT/mvtec_ad.",
    ),
    "mvtec root is empty": (MVTEC, make_root, nothing, "none of the folders bottle, carpet. Download MVTec-AD from"),
    "mvtec class is missing": (
        MVTEC,
        write_mvtec,
        remove("carpet"),
        "ROOT/carpet: class 'carpet' has no folder. Unpack the class there, place its archive beside, or leave it",
    ),
    "mvtec training folder is missing": (
        MVTEC,
        write_mvtec,
        remove("bottle/train"),
        "ROOT/bottle/train/good: the folder is missing. Unpack the class again.",
    ),
    "mvtec training folder is empty": (
        MVTEC,
        write_mvtec,
        empty("bottle/train/good"),
        "ROOT/bottle/train/good: the folder holds no images.",
    ),
    "mvtec nominal test images are missing": (
        MVTEC,
        write_mvtec,
        remove("carpet/test/good"),
        "ROOT/carpet/test/good: the folder is missing.",
    ),
    "mvtec defect folder is empty": (
        MVTEC,
        write_mvtec,
        empty("bottle/test/hole"),
        "ROOT/bottle/test/hole: the folder holds no images.",
    ),
    "mvtec has no defects": (
        {"name": "mvtec", "classes": ["pill"]},
        lambda root: write_mvtec(root, ("pill",), defects=()),
        nothing,
        "ROOT/pill/test: holds no folder of a defect.",
    ),
    "mvtec map is missing": (
        MVTEC,
        write_mvtec,
        remove("bottle/ground_truth/hole/001_mask.png"),
        "ROOT/bottle/ground_truth/hole/001_mask.png: the ground-truth map of ROOT/bottle/test/hole/001.png is missing.",
    ),
    "mvtec maps of a defect are missing": (
        MVTEC,
        write_mvtec,
        remove("bottle/ground_truth/hole"),
        "ROOT/bottle/ground_truth/hole: the folder with the ground-truth maps of ROOT/bottle/test/hole is missing.",
    ),
    "mvtec map without image": (
        MVTEC,
        write_mvtec,
        add_map("bottle/ground_truth/hole/099_mask.png"),
        "ROOT/bottle/ground_truth/hole/099_mask.png: the map has no image. Allowed: one map per image of "
        "ROOT/bottle/test/hole. Restore the image or remove the map.",
    ),
    "folder is empty": (FOLDER, make_root, nothing, "ROOT: found no folder with images. Set dataset.root to a folder"),
    "folder holds no images": (
        FOLDER,
        lambda root: (root / "cat").mkdir(parents=True),
        lambda root: (root / "cat" / "notes.txt").write_text("none"),
        "ROOT: found no folder with images.",
    ),
    "misspelled label": (
        FOLDER,
        write_class_first,
        rename("nut/test/anomalous", "nut/test/anomolous"),
        "ROOT/nut/test/anomolous: is neither normal nor anomalous. Allowed: normal (or nominal, good) and anomalous. "
        "Closest: 'anomalous'.",
    ),
    "images beside the labels": (
        FOLDER,
        write_class_first,
        add_images("bolt/test"),
        "ROOT/bolt/test: 2 images are neither in normal nor in anomalous.",
    ),
    "class without normal training images": (
        FOLDER,
        write_class_first,
        remove("nut/train/normal"),
        "ROOT: class 'nut' has no normal training image. Add normal images to its training half, or leave",
    ),
    "class only in the test half": (
        FOLDER,
        write_split_first,
        remove("train/nut"),
        "ROOT: class 'nut' has no normal training image.",
    ),
    "class of one-vs-rest only in the test half": (
        FOLDER,
        write_one_vs_rest,
        remove("train/dog"),
        "ROOT: class 'dog' has no normal training image.",
    ),
    "class without train and test": (
        FOLDER,
        write_class_first,
        add_images("washer"),
        "ROOT/washer: the class has neither train nor test. Allowed: CLASS/train and CLASS/test.",
    ),
    "two layouts at once": (
        FOLDER,
        write_split_first,
        lambda root: write_class_first(root, ("screw",)),
        "ROOT: found both train/test folders and classes with train/test folders (screw).",
    ),
    "images in a half but in no class": (
        FOLDER,
        write_one_vs_rest,
        add_images("train"),
        "ROOT/train: images are in no class folder. Allowed: train/CLASS/IMAGES.",
    ),
    "protocol against the folders": (
        {"name": "folder", "protocol": "defects"},
        write_one_vs_rest,
        nothing,
        "dataset.protocol: defects was asked for, but the folders are laid out as one_vs_rest.",
    ),
    "map without image": (
        FOLDER,
        with_maps,
        add_map("test_maps/nut/anomalous/777.png"),
        "ROOT/test_maps/nut/anomalous/777.png: the map has no image. Allowed: an image below ROOT/test/nut",
    ),
    "maps of a class without images": (
        FOLDER,
        with_maps,
        add_map("test_maps/washer/anomalous/000.png"),
        "ROOT/test_maps/washer/anomalous/000.png: the map has no image. Allowed: an image with this name.",
    ),
    "two images for one map": (
        FOLDER,
        with_maps,
        lambda root: write_image(root / "test" / "nut" / "anomalous" / "000.jpg"),
        "it is not clear which map belongs to which image (000.jpg, 000.png). Allowed: one image and one map",
    ),
    "two maps for one image": (
        FOLDER,
        with_maps,
        add_map("test_maps/nut/anomalous/000.bmp"),
        "ROOT/test_maps/nut/anomalous/000.png: it is not clear which map belongs to which image (000.png).",
    ),
}
FOUND_BY_DECODING = {
    "corrupt image": (
        FOLDER,
        write_one_vs_rest,
        lambda root: corrupt(root / "train" / "cat" / "002.png"),
        "ROOT/train/cat/002.png: does not decode as an image (UnidentifiedImageError: ",
    ),
    "empty file": (
        FOLDER,
        write_one_vs_rest,
        lambda root: (root / "train" / "cat" / "002.png").write_bytes(b""),
        "ROOT/train/cat/002.png: does not decode as an image",
    ),
    "truncated JPEG": (
        FOLDER,
        write_one_vs_rest,
        lambda root: truncate(write_image(root / "test" / "owl" / "big.jpg", (99, 99))),
        "ROOT/test/owl/big.jpg: does not decode as an image (OSError: image file is truncated",
    ),
    "map of another size": (
        MVTEC,
        write_mvtec,
        lambda root: write_mask(root / "bottle" / "ground_truth" / "hole" / "000_mask.png", (20, 20)),
        "ROOT/bottle/ground_truth/hole/000_mask.png: the map has 20x20 pixels, but its image "
        "ROOT/bottle/test/hole/000.png has 24x20. Save the map at the size of its image.",
    ),
    "corrupt map": (
        MVTEC,
        write_mvtec,
        lambda root: corrupt(root / "carpet" / "ground_truth" / "hole" / "000_mask.png"),
        "ROOT/carpet/ground_truth/hole/000_mask.png: does not decode as an image",
    ),
}


def broken_tree(case: tuple[dict[str, object], Break, Break, str], root: Path) -> tuple[Dataset, str]:
    settings, write, damage, message = case
    write(root)
    damage(root)
    return Dataset.model_validate({**settings, "root": str(root)}), message.replace("ROOT", str(root))


@pytest.mark.parametrize("name", FOUND_BY_LOOKING)
def test_a_broken_tree_is_reported_without_decoding(name: str, tmp_path: Path) -> None:
    dataset, message = broken_tree(FOUND_BY_LOOKING[name], tmp_path / "data")
    problems = check_dataset(dataset, IMAGES)
    assert len(problems) == 1 and message in str(problems[0])
    with pytest.raises(DataError) as caught:
        load_corpus(dataset, IMAGES, tmp_path / "cache")
    assert caught.value.problems == tuple(problems)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", FOUND_BY_DECODING)
def test_a_broken_file_is_named_and_nothing_is_kept(name: str, tmp_path: Path) -> None:
    dataset, message = broken_tree(FOUND_BY_DECODING[name], tmp_path / "data")
    assert check_dataset(dataset, IMAGES) == []
    with pytest.raises(DataError) as caught:
        load_corpus(dataset, IMAGES, tmp_path / "cache")
    assert len(caught.value.problems) == 1 and message in str(caught.value)
    assert not any(path.is_dir() for path in (tmp_path / "cache").glob("folder-*"))


def test_every_file_that_does_not_decode_is_named(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data")
    bad = [corrupt(root / "train" / "cat" / "000.png"), corrupt(root / "test" / "owl" / "001.png")]
    bad.append(truncate(root / "test" / "dog" / "000.png"))
    with pytest.raises(DataError) as caught:
        load_corpus(Dataset(name="folder", root=root), IMAGES, tmp_path / "cache")
    assert {problem.where for problem in caught.value.problems} == {str(path) for path in bad}


def test_a_tree_that_was_mended_is_read(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data")
    bad = corrupt(root / "train" / "cat" / "000.png")
    dataset = Dataset(name="folder", root=root)
    with pytest.raises(DataError):
        load_corpus(dataset, IMAGES, tmp_path / "cache")
    write_image(bad)
    assert len(load_corpus(dataset, IMAGES, tmp_path / "cache").images) == 18


def test_a_class_that_was_not_asked_for_may_be_broken(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data")
    remove("nut/train/normal")(root)
    assert check_dataset(Dataset(name="folder", root=root, classes=["bolt"]), IMAGES) == []


def test_classes_of_a_broken_tree_are_an_error_not_a_guess(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        dataset_facts(Dataset(name="folder", root=tmp_path / "absent"))
    write_split_first(tmp_path / "data")
    write_class_first(tmp_path / "data", ("screw",))
    with pytest.raises(DataError, match="found both"):
        dataset_facts(Dataset(name="folder", root=tmp_path / "data"))


def test_misnamed_maps_are_answered_with_the_names_that_they_should_have(tmp_path):
    root = write_split_first(tmp_path / "data", maps=True)
    folder = root / "test_maps" / "nut" / "anomalous"
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    problems = check_dataset(Dataset(name="folder", root=root), IMAGES)
    assert [problem.where for problem in problems] == [str(folder / f"{number}_mask.png") for number in ("000", "001")]
    renaming = "test/nut/anomalous/000.png -> test_maps/nut/anomalous/000.png"
    assert {problem.next_step for problem in problems} == {f"Name maps as their images: {renaming}"}
    old, new = (root / path for path in renaming.split(" -> "))
    assert old.is_file()
    (folder / "000_mask.png").rename(new)
    assert len(check_dataset(Dataset(name="folder", root=root), IMAGES)) == 1


def test_a_map_too_many_is_not_renamed(tmp_path):
    root = write_split_first(tmp_path / "data", maps=True)
    write_mask(root / "test_maps" / "nut" / "anomalous" / "777.png")
    (problem,) = check_dataset(Dataset(name="folder", root=root), IMAGES)
    assert problem.next_step == "Every image has its map, or needs none: remove the map"


def test_thousands_of_misnamed_maps_make_a_short_message(tmp_path, capsys):
    root = write_split_first(tmp_path / "data")
    for number in range(2000):
        path = root / "test_maps" / "nut" / "anomalous" / f"{number:04}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "x.yaml").write_text(f"schema: 2\nname: x\npreset: folder\ndataset: {{root: {root}}}\n")
    assert cli.main([str(tmp_path / "x.yaml"), "--dry-run"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: 2,000 problems:" and len(lines) == 5
    assert [line.split(":")[0].rsplit("/")[-1] for line in lines[1:4]] == [f"000{n}_mask.png" for n in range(3)]
    assert lines[4] == "  - and 1,997 more like this"

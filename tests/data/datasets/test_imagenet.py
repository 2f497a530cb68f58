"""ImageNet-30 as a data set, and the tars that it is read from."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.fields import DatasetSource
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data import image_index
from fcdd_sweep.data.corpus import Corpus, split_for
from fcdd_sweep.data.datasets.synsets import IMAGENET30
from fcdd_sweep.data.loading import load_corpus, load_exposure
from fcdd_sweep.data.scanning import check_dataset
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths
from tests.imagenet_trees import (
    BROKEN,
    DEVKIT,
    TRAIN_TAR,
    VAL_TAR,
    WORDS,
    level,
    tarred,
    training_images,
    validation_images,
    write_devkit,
    write_extracted,
    write_ilsvrc,
)

IMAGES = Images(load_size=16, size=16)
TWO = ["banjo", "acorn"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FCDD_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_ilsvrc(tmp_path / "ilsvrc")


def of(root: Path, classes: object = "all") -> Dataset:
    return Dataset.model_validate({"name": "imagenet", "root": str(root), "classes": classes})


def levels(corpus: Corpus, rows: np.ndarray) -> set[int]:
    return set(np.rint(corpus.images[rows].mean((1, 2, 3))).astype(int).tolist())


def test_training_images_are_those_of_wanted_classes_and_test_images_those_of_all(root: Path) -> None:
    corpus = load_corpus(of(root, TWO), IMAGES)
    assert corpus.classes == tuple(IMAGENET30) and corpus.protocol == "one_vs_rest"
    assert (~corpus.is_test).sum() == 2 * 2 and corpus.is_test.sum() == 30 * 2
    for name in TWO:
        split = split_for(corpus, name)
        assert levels(corpus, split.train_nominal) == {level(IMAGENET30[name])}
        assert len(split.train_nominal) == 2 and (split.test_label == 0).sum() == 2 and len(split.test) == 60
        assert levels(corpus, split.test[split.test_label == 0]) == {level(IMAGENET30[name])}
    assert "train/n12267677/n12267677_0.JPEG" in corpus.path


def test_a_class_that_is_added_later_leaves_the_others_data_as_it_was(root: Path) -> None:
    few, all_of_them = load_corpus(of(root, TWO), IMAGES), load_corpus(of(root), IMAGES)
    assert len(all_of_them.images) > len(few.images)
    assert all(few.fingerprints[name] == all_of_them.fingerprints[name] for name in TWO)


def test_another_test_image_is_other_data_for_every_class(root: Path) -> None:
    before = load_corpus(of(root, TWO), IMAGES)
    images, labels = validation_images()
    images["ILSVRC2012_val_00000001.JPEG"] = images["ILSVRC2012_val_00000003.JPEG"]
    (root / VAL_TAR).write_bytes(tarred(images))
    assert labels[0] == min(WORDS) == IMAGENET30["stingray"]
    after = load_corpus(of(root, TWO), IMAGES)
    assert all(before.fingerprints[name] != after.fingerprints[name] for name in TWO)


def test_folders_as_torchvision_extracts_them_are_the_same_data(root: Path, tmp_path: Path) -> None:
    packed, extracted = load_corpus(of(root), IMAGES), load_corpus(of(write_extracted(tmp_path / "folders")), IMAGES)
    np.testing.assert_array_equal(packed.images, extracted.images)
    assert (packed.path, packed.fingerprints) == (extracted.path, extracted.fingerprints)


def test_the_halves_may_lie_in_different_layouts(root: Path, tmp_path: Path) -> None:
    mixed = write_extracted(tmp_path / "mixed")
    shutil.rmtree(mixed / "train")
    shutil.copy(root / TRAIN_TAR, mixed)
    assert load_corpus(of(mixed), IMAGES).fingerprints == load_corpus(of(root), IMAGES).fingerprints


def test_broken_images_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    training = training_images(4)
    training["n12267677"]["n12267677_1.JPEG"] = BROKEN
    training["n02787622"]["n02787622_3.JPEG"] = training["n02787622"]["n02787622_3.JPEG"][:400]
    root = write_ilsvrc(tmp_path / "ilsvrc", training)
    write_devkit(root, validation_images()[1], counts=dict.fromkeys(WORDS, 4))
    for _ in range(2):
        corpus = load_corpus(of(root, TWO), IMAGES)
        assert (~corpus.is_test).sum() == 6 and corpus.images.min() > 30
        (note,) = corpus.notes
        counts, listed = note.removesuffix(".").split(" All of them: ")
        assert counts.startswith("2 of 68 images do not decode and are left out: train/n12267677/n12267677_1.JPEG")
        lines = Path(listed).read_text().splitlines()
        assert len(lines) == 2 and "n12267677_1.JPEG: does not decode as an image" in lines[0]


def test_a_class_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    training = training_images()
    training["n12267677"] = dict.fromkeys(training["n12267677"], BROKEN)
    root = write_ilsvrc(tmp_path / "ilsvrc", training)
    with pytest.raises(DataError, match="no training image of class 'acorn' can be read"):
        load_corpus(of(root, TWO), IMAGES)


def test_the_second_start_reads_no_tar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_corpus(of(root, TWO), IMAGES)
    monkeypatch.setattr(tarfile, "open", lambda *args, **kwargs: pytest.fail("a tar is read again"))
    assert load_corpus(of(root, TWO), IMAGES).path == first.path
    assert check_dataset(of(root), IMAGES) == []


def test_a_changed_tar_is_looked_through_again(root: Path) -> None:
    before = load_corpus(of(root, TWO), IMAGES)
    training = training_images(3)
    (root / TRAIN_TAR).write_bytes(tarred({f"{wnid}.tar": tarred(found) for wnid, found in training.items()}))
    write_devkit(root, validation_images()[1], counts=dict.fromkeys(WORDS, 3))
    assert len(load_corpus(of(root, TWO), IMAGES).images) == len(before.images) + 2


def replace_train(**inner: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        kept = {f"{wnid}.tar": tarred(found) for wnid, found in training_images().items()}
        (root / TRAIN_TAR).write_bytes(tarred(kept | {f"{wnid}.tar": data for wnid, data in inner.items()}))

    return change


def without_acorns(root: Path) -> None:
    kept = {f"{wnid}.tar": tarred(found) for wnid, found in training_images().items() if wnid != "n12267677"}
    (root / TRAIN_TAR).write_bytes(tarred(kept))


def cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, int((root / name).stat().st_size * share))


def damage(name: str, at: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / name).open("r+b") as file:
            file.seek(at)
            file.write(b"x" * 512)

    return change


def swap_words(root: Path) -> None:
    swapped = WORDS | {"n12267677": "banjo", "n02787622": "acorn, oak nut"}
    write_devkit(root, validation_images()[1], swapped)


def another_kit(root: Path) -> None:
    with tarfile.open(root / DEVKIT, "w:gz") as kit:
        kit.add(root / VAL_TAR, "data/something.txt")


def remove(*names: str) -> Callable[[Path], None]:
    return lambda root: [(root / name).unlink() for name in names] and None


ONE_JPEG = tarred(dict(list(training_images(1, ["n12267677"])["n12267677"].items())))
BAD_HEADER = tarred(training_images(3, ["n12267677"])["n12267677"])
WRONG: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no training tar": (remove(TRAIN_TAR), ["ROOT: holds neither ILSVRC2012_img_train.tar nor train/n########|place"]),
    "no validation tar": (remove(VAL_TAR), ["ROOT: holds neither ILSVRC2012_img_val.tar nor val/n########|Register"]),
    "no kit": (remove(DEVKIT), ["ROOT: there is no ILSVRC2012_devkit_t12.tar.gz, which says what the images of|place"]),
    "nothing": (
        remove(TRAIN_TAR, VAL_TAR, DEVKIT),
        ["holds neither ILSVRC2012_img_train", "neither ILSVRC2012_img_val"],
    ),
    "a training tar that broke off": (cut(TRAIN_TAR), ["ILSVRC2012_img_train.tar: is damaged or incomplete|again"]),
    "a validation tar that broke off": (cut(VAL_TAR), ["ILSVRC2012_img_val.tar: is damaged or incomplete|again"]),
    "a bad header in a tar": (damage(VAL_TAR, 0), ["ILSVRC2012_img_val.tar: is damaged or incomplete|again"]),
    "a tar that is none": (
        lambda root: (root / TRAIN_TAR).write_bytes(b"<html>not found</html>" * 99) and None,
        ["ILSVRC2012_img_train.tar: is damaged or incomplete|again"],
    ),
    "a kit that broke off": (
        cut(DEVKIT),
        ["ILSVRC2012_devkit_t12.tar.gz: is damaged, or not the development kit|Copy it there again"],
    ),
    "another kit": (another_kit, ["is damaged, or not the development kit of ILSVRC2012 (KeyError: 'it holds no data"]),
    "fewer images than the kit says": (
        replace_train(n12267677=ONE_JPEG),
        ["n12267677.tar holds 1 images, and ILSVRC2012_devkit_t12.tar.gz says 2. Copy both there again"],
    ),
    "validation images without labels": (
        lambda root: write_devkit(root, validation_images()[1][:-1]) and None,
        ["ILSVRC2012_img_val.tar: holds 68 images, and ILSVRC2012_devkit_t12.tar.gz describes 67"],
    ),
    "a class that is missing": (without_acorns, ["ROOT: there is no training image of class 'acorn' (n12267677)"]),
    "other WordNet ids": (
        swap_words,
        ["n12267677 is 'banjo', not 'acorn'", "n02787622 is 'acorn, oak nut', not 'banjo'"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_reported_without_decoding(name: str, root: Path, cache: Path) -> None:
    change, expected = WRONG[name]
    change(root)
    problems = [str(problem).replace(str(root), "ROOT") for problem in check_dataset(of(root, TWO), IMAGES)]
    assert len(problems) == len(expected), problems
    for problem, parts in zip(problems, expected, strict=True):
        assert all(part in problem for part in parts.split("|")), problem
    assert not list(cache.glob("imagenet-*"))


def test_a_damaged_header_in_the_middle_of_a_tar_is_noticed(root: Path) -> None:
    with tarfile.open(root / VAL_TAR) as tar:
        third = tar.getmembers()[2].offset
    damage(VAL_TAR, third)(root)
    (problem,) = check_dataset(of(root), IMAGES)
    assert f"is damaged or incomplete (bad header at byte {third})" in str(problem)


def test_a_class_that_was_not_asked_for_may_be_missing(root: Path) -> None:
    without_acorns(root)
    assert check_dataset(of(root, ["banjo"]), IMAGES) == []


def test_downloading_is_refused_with_what_to_place(root: Path) -> None:
    (problem,) = check_dataset(of(root).model_copy(update={"download": True}), IMAGES)
    assert str(problem).startswith("dataset.download: 'imagenet' cannot be downloaded.")
    assert TRAIN_TAR in problem.next_step and DEVKIT in problem.next_step


def test_a_file_that_cannot_be_read_is_left_out_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, content = write_extracted(tmp_path / "folders"), image_index.ImageIndex.content

    def refusing(table: image_index.ImageIndex, row: int) -> bytes:
        if table.name(row) == "n12267677_0.JPEG":
            raise PermissionError(13, "Permission denied")
        return content(table, row)

    monkeypatch.setattr(image_index.ImageIndex, "content", refusing)
    corpus = load_corpus(of(root, TWO), IMAGES)
    assert (~corpus.is_test).sum() == 3 and "1 of 64 images" in corpus.notes[0]


@pytest.mark.slow
def test_a_sweep_trains_on_imagenet_with_exposure_to_its_other_classes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(f"""
schema: 2
name: thirty
preset: folder
dataset: {{name: imagenet, root: {root}, classes: [acorn]}}
images: {{load_size: 32, size: 32}}
anomalies: {{mode: noise, source: {{dataset: imagenet, root: {root}}}, limit: 3}}
network: {{name: FCDD_CNN32_S}}
preprocessing: none
training: {{epochs: 1, batch_size: 4, min_steps: 0}}
seeds: 1
""")
    assert cli.main([str(tmp_path / "x.yaml"), "--local", "--output", str(tmp_path / "results")]) == 0
    (row,) = files.read_table(RunPaths(tmp_path / "results" / "thirty").trials).to_pylist()
    assert (row["n_train_anomalous"], row["n_test_nominal"], row["n_test_anomalous"]) == (3, 2, 58)
    notes = RunPaths(tmp_path / "results" / "thirty").environment.read_text()
    assert "30 classes of 'imagenet' match classes of 'imagenet' and are left out" in notes


def test_entries_of_a_folder_that_are_no_files_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write_extracted(tmp_path / "folders")
    for half in ("train", "val"):
        folder = root / half / IMAGENET30["banjo"]
        (folder / "lost.JPEG").symlink_to("/nowhere")
        os.mkfifo(folder / "pipe.JPEG")
    before, broken = load_corpus(of(write_extracted(tmp_path / "whole")), IMAGES), load_corpus(of(root), IMAGES)
    np.testing.assert_array_equal(before.images, broken.images)
    assert any("4 of" in note and "lost.JPEG" in note and "pipe.JPEG" in note for note in broken.notes)
    pool = load_exposure(DatasetSource(dataset="imagenet", root=root), Dataset(name="digits"), IMAGES)
    assert any("2 of" in note and "pipe.JPEG" in note for note in pool.notes)

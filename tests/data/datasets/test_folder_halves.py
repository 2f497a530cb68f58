"""Folders under other names than `train` and `test` that mean a half of the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.datasets.folder_halves import half_named
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.data.datasets.test_folder import folder, load, sizes
from tests.trees import write_images, write_mask, write_mvtec, write_one_vs_rest

IMAGES = Images(load_size=16, size=16)


def write_tree(root: Path, *folders: str, n: int = 4) -> Path:
    for number, name in enumerate(folders):
        write_images(root / name, n, seed=number)
    return root


@pytest.mark.parametrize(
    ("name", "half"),
    [
        *(
            (name, "train")
            for name in ("train", "Train", "training", "TRAINING", "trainset", "train_data", "Train Set")
        ),
        *((name, "test") for name in ("test", "tests", "Testing", "test-images", "testset")),
        *((name, "validation") for name in ("val", "Valid", "validation", "val_data")),
        *(
            (name, None)
            for name in ("trains", "trainer", "test_1", "contest", "tester", "invalid", "value", "image_set")
        ),
    ],
)
def test_names_that_plainly_mean_a_half(name: str, half: str | None) -> None:
    assert half_named(name) == half


@pytest.mark.parametrize("above", ["", "part/"])
@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("training", "testing"), ("Training", "Testing"), ("TRAIN", "tests"), ("train", "Testing")),
        *(("training", "test"), ("train_data", "test_data"), ("trainset", "testset")),
    ],
)
def test_halves_under_other_names_are_halves_and_the_layout_names_them(
    tmp_path: Path, train: str, test: str, above: str
) -> None:
    root = tmp_path / "part"
    write_images(root / f"{above}{train}/good", 5)
    write_images(root / f"{above}{test}/good", 2, seed=1)
    write_images(root / f"{above}{test}/bad", 3, seed=2)
    corpus = load(folder(root))
    assert (corpus.protocol, corpus.classes, sizes(corpus, "part")) == ("defects", ("part",), (5, 0, 2, 3))
    halves = f"{{{train.casefold()},{test.casefold()}}}"
    assert corpus.notes[0] == f"Read as {'CLASS/' if above else ''}{halves}/{{good,bad}}/IMAGES."


def test_classes_in_halves_under_other_names(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data")
    expected = {name: sizes(load(folder(root)), name) for name in ("cat", "dog", "owl")}
    (root / "train").rename(root / "Training")
    (root / "test").rename(root / "testing")
    corpus = load(folder(root))
    assert {name: sizes(corpus, name) for name in corpus.classes} == expected
    labeled = write_tree(tmp_path / "labeled", "training/nut/good", "tests/nut/good", "tests/nut/bad")
    assert sizes(load(folder(labeled)), "nut") == (4, 0, 4, 4)


def test_halves_of_words_of_the_first_layouts_and_their_maps(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", "training/normal", "testing/normal", "testing/anomalous/crack")
    write_mask(root / "testing_maps" / "anomalous" / "crack" / "001.png")
    corpus = load(folder(root))
    assert sizes(corpus, "data") == (4, 0, 4, 4) and (corpus.mask_index >= 0).sum() == 1
    same = write_mvtec(tmp_path / "mvtec")
    masks = int((load(folder(same)).mask_index >= 0).sum())
    for half, name in (("train", "training"), ("test", "testing")):
        for part in ("bottle", "carpet"):
            (same / part / half).rename(same / part / name)
    assert (load(folder(same)).mask_index >= 0).sum() == masks > 0
    words = write_tree(tmp_path / "words", "training/ok", "testing/ok", "testing/ng")
    write_mask(words / "test_gt" / "ng" / "002.png")
    assert (load(folder(words)).mask_index >= 0).sum() == 1


REFUSED: dict[str, tuple[list[str], str, str]] = {
    "images in both": (["training", "testing"], "training", "move them to training/good; if not, sort them"),
    "images in both, in a class": (["a/training", "a/testing"], "a/training", "Move them into one of the two"),
    "images in one": (["training"], "training", "rename it to train, with normal images moved to train/good."),
    "one beside a class": (["Testing", "match"], "Testing", "rename it to test"),
    "one with parts beside a class": (
        *(["training/good", "match/good", "match/bad"], "training"),
        "rename it to train, and move match elsewhere. If it is a class, give it another name",
    ),
    "validation beside classes": (["a", "b", "val"], "val", "rename it to test, beside train"),
    "validation alone": (["Validation/good", "Validation/bad"], "Validation", "Move it elsewhere"),
    "two of a half": (
        ["training/good", "tests/good", "testing/good"],
        "tests",
        "Put their images into one folder test",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_half_of_the_data_is_never_a_class_in_silence(tmp_path: Path, name: str) -> None:
    folders, where, step = REFUSED[name]
    root = write_tree(tmp_path / "data", *folders)
    problem, *_ = check_dataset(folder(root), IMAGES)
    assert problem.where == str(root / where) and step in problem.next_step


def test_the_layout_classes_reads_such_a_folder_as_a_class(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", "training", "match", "val")
    assert load(folder(root, options={"layout": "classes"})).classes == ("match", "training", "val")


def test_trees_of_train_and_test_or_of_classes_are_read_as_ever_beside_such_names(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", "train/good", "test/good", "test/bad")
    before = load(folder(root)).fingerprints
    write_tree(root, "testing/good", "backup/training/good", "backup/testing/good")
    after = load(folder(root))
    assert after.fingerprints == before
    assert any("4 images in testing/good" in note and "backup/testing" in note for note in after.notes)
    named = write_tree(
        tmp_path / "named", *(f"{name}/{half}/good" for name in ("training", "b") for half in ("train", "test"))
    )
    assert load(folder(named)).classes == ("b", "training")
    inside = write_tree(tmp_path / "inside", "soccer/training", "soccer/match", "tennis")
    assert load(folder(inside)).classes == ("soccer", "tennis")
    assert dataset_facts(folder(write_tree(tmp_path / "ids", "valid", "invalid"))).classes == ("invalid", "valid")


@pytest.mark.parametrize("above", ["", "nut/"])
def test_validation_images_are_not_used_and_a_note_says_how_to_test_on_them(tmp_path: Path, above: str) -> None:
    root = write_tree(tmp_path / "data", f"{above}train/good", f"{above}Val/good", f"{above}Val/bad")
    notes = load(folder(root)).notes
    assert f"Not read in {root}, as they are in no class: 8 images in {above}Val." in notes
    assert f"To test on the images in {above}Val, rename it to test." in notes
    write_tree(root, f"{above}test/good", f"{above}test/bad")
    assert not any("To test on" in note for note in load(folder(root)).notes)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("training", "testing")])
def test_halves_too_deep_are_not_moved_into_one_another(tmp_path: Path, train: str, test: str) -> None:
    root = write_tree(
        tmp_path / "data", *(f"x/a/{place}" for place in (f"{train}/good", f"{test}/good", f"{test}/bad"))
    )
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.next_step.startswith(f"Set dataset.root to {root / 'x'}, which holds 'a' with its train and test")
    assert sizes(load(folder(root / "x")), "a") == (4, 0, 4, 4)

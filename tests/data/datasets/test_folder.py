"""Every layout of the user's own images, and the habits that people have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import Corpus, split_for
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.trees import (
    write_class_first,
    write_habits,
    write_images,
    write_mask,
    write_one_vs_rest,
    write_split_first,
)

IMAGES = Images(load_size=16, size=16)


def folder(root: Path, **settings: object) -> Dataset:
    return Dataset.model_validate({"name": "folder", "root": str(root), **settings})


def load(dataset: Dataset) -> Corpus:
    assert check_dataset(dataset, IMAGES) == []
    assert dataset.root is not None
    return load_corpus(dataset, IMAGES, dataset.root.parent / "cache")


def sizes(corpus: Corpus, name: str) -> tuple[int, int, int, int]:
    """Nominal and anomalous training images, nominal and anomalous test images."""
    split = split_for(corpus, name)
    anomalous = int(split.test_label.sum())
    return len(split.train_nominal), len(split.train_anomalous), len(split.test) - anomalous, anomalous


@pytest.mark.parametrize("normal", ["normal", "nominal", "good", "Normal"])
def test_class_first(tmp_path: Path, normal: str) -> None:
    dataset = folder(write_class_first(tmp_path / "data", normal=normal))
    corpus = load(dataset)
    assert (corpus.protocol, corpus.classes) == ("defects", ("bolt", "nut"))
    assert sizes(corpus, "bolt") == sizes(corpus, "nut") == (3, 1, 2, 3)
    assert sorted(split_for(corpus, "nut").test_defect) == ["", "", "bent", "bent", "rust"]
    facts = dataset_facts(dataset)
    assert (facts.maps, facts.trains_with_anomalies) == (False, True)


def test_split_first_with_and_without_maps(tmp_path: Path) -> None:
    for maps in (False, True):
        dataset = folder(write_split_first(tmp_path / str(maps), maps=maps))
        corpus = load(dataset)
        assert (corpus.protocol, corpus.classes) == ("defects", ("bolt", "nut"))
        assert sizes(corpus, "bolt") == (3, 0, 2, 2)
        assert dataset_facts(dataset).maps == corpus.has_maps == maps
        assert not dataset_facts(dataset).trains_with_anomalies


def test_anomalies_in_no_folder_of_their_own_are_called_anomalous(tmp_path: Path) -> None:
    corpus = load(folder(write_split_first(tmp_path / "data")))
    assert set(split_for(corpus, "bolt").test_defect) == {"", "anomalous"}


def test_the_layout_of_the_paper_below_custom(tmp_path: Path) -> None:
    write_split_first(tmp_path / "data" / "custom", maps=True)
    write_images(tmp_path / "data" / "cifar", 2)
    corpus = load(folder(tmp_path / "data"))
    assert corpus.classes == ("bolt", "nut") and corpus.has_maps
    assert all(path.startswith("custom/") for path in corpus.path)


def test_a_class_called_custom_is_a_class(tmp_path: Path) -> None:
    corpus = load(folder(write_class_first(tmp_path / "data", ("custom", "other"))))
    assert corpus.classes == ("custom", "other")


def test_a_single_class_without_a_folder_of_its_own(tmp_path: Path) -> None:
    write_class_first(tmp_path, ("screws",))
    corpus = load(folder(tmp_path / "screws"))
    assert corpus.classes == ("screws",) and sizes(corpus, "screws") == (3, 1, 2, 3)


def test_one_vs_rest_with_a_split(tmp_path: Path) -> None:
    dataset = folder(write_one_vs_rest(tmp_path / "data"))
    corpus = load(dataset)
    assert (corpus.protocol, corpus.classes) == ("one_vs_rest", ("cat", "dog", "owl"))
    assert sizes(corpus, "dog") == (4, 8, 2, 4)
    assert dataset_facts(dataset).protocol == "one_vs_rest" and dataset_facts(dataset).trains_with_anomalies


def test_one_vs_rest_without_a_split_is_divided_by_name(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", split=False)
    corpus = load(folder(root))
    test = {path for path, is_test in zip(corpus.path, corpus.is_test, strict=True) if is_test}
    assert {path for path in test if path.startswith("cat")} == {"cat/000.png", "cat/002.png", "cat/008.png"}
    assert any("Fixed split by file name" in note for note in corpus.notes)
    write_images(root / "cat" / "more", 20)
    grown = load(folder(root))
    same = {p for p, is_test in zip(grown.path, grown.is_test, strict=True) if is_test and "more" not in p}
    assert same == test


def test_one_vs_rest_can_have_maps(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data")
    write_mask(root / "test_maps" / "cat" / "001.png")
    dataset = folder(root)
    corpus = load(dataset)
    assert dataset_facts(dataset).maps and corpus.mask(corpus.path.index("test/cat/001.png")) is not None
    assert (corpus.mask_index >= 0).sum() == 1


def test_one_vs_rest_keeps_all_classes_when_some_are_asked_for(tmp_path: Path) -> None:
    dataset = folder(write_one_vs_rest(tmp_path / "data"), classes=["dog"])
    assert load(dataset).classes == dataset_facts(dataset).classes == ("cat", "dog", "owl")


def test_defects_hold_only_the_classes_asked_for(tmp_path: Path) -> None:
    dataset = folder(write_class_first(tmp_path / "data"), classes=[1])
    assert load(dataset).classes == ("nut",) and dataset_facts(dataset).classes == ("bolt", "nut")
    assert load(dataset).fingerprints["nut"] == load(folder(tmp_path / "data")).fingerprints["nut"]


def test_folders_called_normal_and_anomalous_can_be_classes(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("normal", "anomalous"))
    assert dataset_facts(folder(root)).protocol == "defects"
    corpus = load(folder(root, protocol="one_vs_rest"))
    assert (corpus.protocol, corpus.classes) == ("one_vs_rest", ("anomalous", "normal"))


def test_maps_come_back_at_their_images_size(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_images(root / "a" / "train" / "normal", 2)
    sizes = [(31, 17), (8, 9), (64, 3)]
    for i, size in enumerate(sizes):
        write_images(root / "a" / "test" / "anomalous" / str(i), 1, size)
        write_mask(root / "a" / "test_maps" / "anomalous" / str(i) / "000.tif", size, (1, 1, 5, 3))
    corpus = load(folder(root))
    for i, size in enumerate(sizes):
        index = corpus.path.index(f"a/test/anomalous/{i}/000.png")
        expected = np.zeros(size, bool)
        expected[1:5, 1:3] = True
        np.testing.assert_array_equal(corpus.mask(index), expected)
        assert tuple(corpus.original_size[index]) == size
    assert corpus.mask(corpus.path.index("a/train/normal/000.png")) is None


def test_training_anomalies_may_have_maps(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data", ("bolt",))
    write_mask(root / "bolt" / "train_maps" / "anomalous" / "000.png")
    corpus = load(folder(root))
    assert corpus.mask_index[split_for(corpus, "bolt").train_anomalous].tolist() == [0]


def test_maps_of_normal_images_are_not_read(tmp_path: Path) -> None:
    root = write_split_first(tmp_path / "data", maps=True)
    write_mask(root / "test_maps" / "bolt" / "nominal" / "000.png", (5, 5))
    assert (load(folder(root)).mask_index >= 0).sum() == 4


def test_anomalies_without_a_map_and_empty_maps_are_reported(tmp_path: Path) -> None:
    root = write_split_first(tmp_path / "data", maps=True)
    (root / "test_maps" / "bolt" / "anomalous" / "000.png").unlink()
    write_mask(root / "test_maps" / "nut" / "anomalous" / "001.png", box=(0, 0, 0, 0))
    notes = load(folder(root)).notes
    assert "1 of 4 test anomalies have no map: test/bolt/anomalous/000.png." in notes
    assert "1 maps show no anomalous pixel: test/nut/anomalous/001.png." in notes


def test_a_tree_with_peoples_habits(tmp_path: Path) -> None:
    dataset = folder(write_habits(tmp_path / "data"))
    corpus = load(dataset)
    assert corpus.classes == ("Schraube groß", "plain")
    assert sizes(corpus, "Schraube groß") == (5, 0, 1, 2) and sizes(corpus, "plain") == (2, 0, 1, 0)
    assert set(split_for(corpus, "Schraube groß").test_defect) == {"", "Kratzer tief", "anomalous"}
    assert "Class 'plain' has no test anomalies." in corpus.notes
    mask = corpus.mask(corpus.path.index("Schraube groß/test/anomalous/Kratzer tief/b.PNG"))
    assert mask is not None and mask.shape == (18, 22) and mask.sum() == 6 * 7
    assert corpus.images.shape == (11, 3, 16, 16)


def test_names_in_two_spellings_of_an_umlaut_belong_together(tmp_path: Path) -> None:
    root = write_split_first(tmp_path / "data", ("a",))
    images = root / "test" / "a" / "anomalous"
    (images / "000.png").rename(images / "gr\u00fcn.png")
    write_mask(root / "test_maps" / "a" / "anomalous" / "gru\u0308n.png")
    assert (load(folder(root)).mask_index >= 0).sum() == 1


def test_the_test_half_may_be_missing(tmp_path: Path) -> None:
    root = write_split_first(tmp_path / "data", ("a",))
    shutil.rmtree(root / "test")
    corpus = load(folder(root))
    assert sizes(corpus, "a") == (3, 0, 0, 0)
    assert corpus.notes == ("Class 'a' has no nominal test images.", "Class 'a' has no test anomalies.")


def test_a_single_class_one_vs_rest_has_no_test_anomalies(tmp_path: Path) -> None:
    corpus = load(folder(write_one_vs_rest(tmp_path / "data", ("cat",))))
    assert sizes(corpus, "cat") == (4, 0, 2, 0) and corpus.notes == ("Class 'cat' has no test anomalies.",)
    assert not dataset_facts(folder(tmp_path / "data")).trains_with_anomalies


def test_images_in_no_class_are_reported_with_their_number(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data")
    write_images(root / "val" / "cat", 1)
    write_images(root, 3)
    (note,) = load(folder(root)).notes
    assert note == f"Not read in {root}, as they are in no class: 3 images in no folder, 1 image in val."
    flat = write_one_vs_rest(tmp_path / "flat", split=False)
    write_images(flat, 2)
    as_classes = folder(flat, options={"layout": "classes"})
    assert any("2 images in no folder" in note for note in load(as_classes).notes)
    first = write_class_first(tmp_path / "first")
    write_images(first / "bolt", 2)
    write_images(first / "nut" / "valid" / "good", 4)
    assert any("2 images in bolt itself, 4 images in nut/valid" in note for note in load(folder(first)).notes)


def test_files_that_are_no_images_are_counted_by_ending(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("cat", "dog"))
    for number in range(8):
        (root / "train" / "cat" / f"{number}.HEIC").write_bytes(b"photo")
    (root / "readme.txt").write_text("about")
    (root / "train" / "LICENSE").write_text("free")
    (note,) = load(folder(root)).notes
    assert note.startswith(f"Not read in {root}, as the endings are not those of images: ")
    assert "1 without an ending, 8 .heic, 1 .txt." in note and note.endswith("Convert .heic to have it read.")


def test_a_class_of_nothing_but_unread_files_is_not_lost_without_a_word(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "1.heic").write_bytes(b"photo")
    (problem,) = check_dataset(folder(root), IMAGES)
    assert "found no folder with images" in problem.what and "1 .heic" in problem.what


@pytest.mark.parametrize(("first", "second"), [("Train", "train"), ("test", "TEST")])
def test_halves_that_differ_only_in_case_are_refused(tmp_path: Path, first: str, second: str) -> None:
    root = write_one_vs_rest(tmp_path / "data")
    half = first.casefold()
    (root / half).rename(root / "aside")
    (root / "aside").rename(root / first)
    write_images(root / second / "cat", 5)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert "differ only in case" in str(problem) and first in str(problem) and second in str(problem)
    with pytest.raises(DataError, match="differ only in case"):
        dataset_facts(folder(root))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"gr\xfcn"), r"gr\xfcn"),
        ("zwei\nzeilen", r"zwei\nzeilen"),
        ("零件", "零件"),
        ("🔩", "🔩"),
        ("x" * 249, "x" * 249),
    ],
)
@pytest.mark.parametrize("protocol", ["defects", "one_vs_rest"])
def test_names_of_any_kind_are_read_and_can_be_written_as_text(
    tmp_path: Path, name: str, shown: str, protocol: str
) -> None:
    root = tmp_path / "data"
    file = name.encode(errors="surrogateescape")[:240].decode(errors="surrogateescape")
    if protocol == "defects":
        write_class_first(root, (name,))
        (image,) = write_images(root / name / "test" / "anomalous" / name, 1)
    else:
        write_one_vs_rest(root, (name, "other"), split=False)
        (image,) = write_images(root / name, 1, suffix=".jpg")
    image.rename(image.with_name(f"{file}.png"))
    corpus = load(folder(root))
    assert shown in corpus.classes
    assert shown in corpus.defect or protocol == "one_vs_rest"
    assert any(path.endswith(f"/{shown[:240]}.png") for path in corpus.path)
    assert all(text.encode() and len(text.splitlines()) == 1 for text in (*corpus.path, *corpus.classes))
    again = load(folder(root, classes=[shown]))
    assert shown in again.classes and again.fingerprints[shown] == corpus.fingerprints[shown]


def test_a_problem_with_a_name_of_any_kind_is_one_line_of_text(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data", ("bolt",))
    for name in (os.fsdecode(b"gr\xfcn.png"), "zwei\nzeilen.png"):
        (root / "bolt" / "test" / "normal" / name).symlink_to("/nowhere")
    with pytest.raises(DataError) as caught:
        load_corpus(folder(root), IMAGES, tmp_path / "cache")
    assert str(caught.value).endswith("remove the link.") and len(str(caught.value).splitlines()) == 1
    assert r"2 links lead nowhere: gr\xfcn.png, zwei\nzeilen.png" in str(caught.value)
    str(caught.value).encode()

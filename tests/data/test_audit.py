"""Images that are in training and in the test, or nominal and anomalous."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.data import audit
from tests.data.datasets.test_folder import folder, load
from tests.trees import write_image


def tree(root: Path) -> Path:
    """Six nominal and two anomalous images that have nothing in common."""
    for number, place in enumerate(["train/good"] * 4 + ["test/good"] * 2 + ["test/bad"] * 2):
        write_image(root / place / f"{number}.png", (64, 64), seed=number)
    return root


def test_images_that_have_nothing_in_common_are_not_named(tmp_path: Path) -> None:
    assert load(folder(tree(tmp_path / "data"))).notes == ("Read as {train,test}/{good,bad}/IMAGES.",)


def test_a_copy_in_the_test_is_named_with_its_original(tmp_path: Path) -> None:
    root = tree(tmp_path / "data")
    shutil.copy(root / "train/good/2.png", root / "test/good/copy.png")
    _, note = load(folder(root)).notes
    assert (
        note == "1 identical pair of images is both in training and in test: train/good/2.png and test/good/copy.png."
    )


def test_a_nominal_image_among_the_anomalous_ones_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "data")
    shutil.copy(root / "test/good/4.png", root / "test/bad/copy.png")
    _, note = load(folder(root)).notes
    assert note == "1 identical pair of images is both nominal and anomalous: test/good/4.png and test/bad/copy.png."


@pytest.mark.parametrize("half", ["train/", ""])
def test_an_image_of_two_classes_is_named_where_each_takes_the_other_for_its_anomalies(
    tmp_path: Path, half: str
) -> None:
    root = tmp_path / "data"
    for number, name in enumerate(["cat", "dog", "owl"] * 3):
        write_image(root / half / name / f"{number}.png", (64, 64), seed=number)
    shutil.copy(root / half / "cat/0.png", root / half / "owl/copy.png")
    with Image.open(root / half / "dog/1.png") as image:
        image.save(root / half / "owl/again.jpg", quality=95)
    notes = [note for note in load(folder(root)).notes if "in two classes" in note]
    what = "pair of images is in two classes, so both nominal and anomalous"
    assert notes == [
        f"1 identical {what}: {half}cat/0.png and {half}owl/copy.png.",
        f"1 nearly identical {what}: {half}dog/1.png and {half}owl/again.jpg.",
    ]


def test_classes_with_anomalies_of_their_own_may_share_images(tmp_path: Path) -> None:
    for name in ("nut", "bolt"):
        tree(tmp_path / "data" / name)
    assert not any("pair" in note for note in load(folder(tmp_path / "data")).notes)


def test_of_many_pairs_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(5):
        for place in ("train/good", "test/good"):
            write_image(root / place / f"{number}.png", (64, 64), seed=number)
    (note,) = (note for note in load(folder(root)).notes if "pairs" in note)
    shown = ", ".join(f"train/good/{number}.png and test/good/{number}.png" for number in range(3))
    assert note == f"5 identical pairs of images are both in training and in test: {shown}, and 2 more."


def test_an_image_that_was_saved_again_in_another_format_and_size_is_nearly_identical(tmp_path: Path) -> None:
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for number, place in enumerate(["train/good"] * 4 + ["test/good"] * 2):
        (root / place).mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 255, (6, 6, 3), np.uint8)
        Image.fromarray(blocks).resize((96, 96), Image.Resampling.BICUBIC).save(root / place / f"{number}.png")
    with Image.open(root / "train/good/1.png") as image:
        image.resize((120, 120), Image.Resampling.BICUBIC).save(root / "test/good/again.jpg", quality=92)
    notes = [note for note in load(folder(root)).notes if "nearly" in note]
    pair = "train/good/1.png and test/good/again.jpg"
    assert notes == [f"1 nearly identical pair of images is both in training and in test: {pair}."]


def test_above_the_limit_only_identical_images_are_looked_for_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "NEAR_LIMIT", 5)
    root = tree(tmp_path / "data")
    shutil.copy(root / "train/good/2.png", root / "test/good/copy.png")
    notes = load(folder(root)).notes
    assert any("1 identical pair" in note for note in notes)
    assert "Nearly identical images were not looked for, as there are more than 5 images." in notes

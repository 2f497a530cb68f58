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

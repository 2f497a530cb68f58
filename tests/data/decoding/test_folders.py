"""Folders of images: what is found below them, what cannot be read, and what is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.data.decoding.folders import Folder, images_at
from tests.trees import write_image


def test_images_are_found_sorted_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a b.TiFf", ".hidden.png", ".git/x.png", "c.txt", "ä/ö.webp"):
        write_image(tmp_path / name) if name != "c.txt" else (tmp_path / name).write_text("no")
    found = [path.relative_to(tmp_path).as_posix() for path in Folder(tmp_path).all_images]
    assert found == ["a b.TiFf", "a/z.png", "b.JPG", "ä/ö.webp"]


def test_a_single_file_is_found_whatever_its_ending(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.png").rename(tmp_path / "x")
    assert images_at(path) == ([path], [])


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert len(Folder(tmp_path).all_images) == 1


def test_images_of_nothing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        images_at(tmp_path / "absent")

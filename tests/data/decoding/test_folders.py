"""Folders of images: what is found below them, what cannot be read, and what is passed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import DataError, InputError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.folders import Folder, images_at, no_folder
from fcdd_sweep.data.decoding.pixels import read_image
from fcdd_sweep.data.loading import load_corpus, load_folder_images
from fcdd_sweep.data.records import DatasetScan
from fcdd_sweep.data.scanning import scan_dataset
from tests.trees import (
    as_nobody,
    reachable_folder,
    write_class_first,
    write_image,
    write_images,
    write_mvtec,
    write_one_vs_rest,
)

IMAGES = Images(load_size=16, size=16)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users may enter."""
    folder = reachable_folder()
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def scan(root: Path, name: str = "folder", **settings: object) -> DatasetScan:
    return scan_dataset(Dataset.model_validate({"name": name, "root": str(root), **settings}), IMAGES)


def told(root: Path, name: str = "folder", **settings: object) -> list[str]:
    return [str(problem).replace(str(root), "ROOT") for problem in scan(root, name, **settings).problems]


def test_images_are_found_sorted_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a b.TiFf", ".hidden.png", ".git/x.png", "c.txt", "ä/ö.webp"):
        write_image(tmp_path / name) if name != "c.txt" else (tmp_path / name).write_text("no")
    found = [path.relative_to(tmp_path).as_posix() for path in Folder(tmp_path).all_images]
    assert found == ["a b.TiFf", "a/z.png", "b.JPG", "ä/ö.webp"]


def test_a_single_file_is_found_whatever_its_ending(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.png").rename(tmp_path / "x")
    assert images_at(path).images == [path]


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert len(Folder(tmp_path).all_images) == 1


def test_images_of_nothing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        images_at(tmp_path / "absent")


def test_links_that_lead_nowhere_or_to_themselves_are_named_with_where_they_lead(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data")
    images = root / "bolt" / "test" / "normal"
    (images / "lost.png").symlink_to("/nowhere/lost.png")
    (root / "nut" / "train" / "anomalous" / "loop.png").symlink_to("loop.png")
    (root / "nut" / "test" / "anomalous" / "old").symlink_to("/nowhere/old")
    assert told(root) == [
        "ROOT/bolt/test/normal/lost.png: is a link that leads nowhere (to /nowhere/lost.png). Restore what it leads "
        "to, or remove the link.",
        "ROOT/nut/train/anomalous/loop.png: is a link that leads to itself (to loop.png). Remove the link.",
        "ROOT/nut/test/anomalous/old: is a link that leads nowhere (to /nowhere/old). Restore what it leads to, or "
        "remove the link.",
    ]


def test_many_links_of_a_folder_that_lead_nowhere_are_one_problem(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data")
    for number in range(500):
        (root / "nut" / "train" / "normal" / f"x{number:03}.png").symlink_to(f"/nowhere/{number}")
    (problem,) = told(root)
    assert problem.startswith("ROOT/nut/train/normal: 500 links lead nowhere: x000.png, x001.png, x002.png, ...")


def test_links_that_lead_to_images_and_folders_are_read(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data")
    shutil.move(root / "nut", tmp_path / "nut")
    (root / "nut").symlink_to(tmp_path / "nut")
    (root / "bolt" / "train" / "normal" / "extra.png").symlink_to(tmp_path / "nut" / "test" / "normal" / "000.png")
    found = scan(root)
    assert not found.problems and found.nominal_in_training == {"bolt": 4, "nut": 3}


def test_a_link_to_a_folder_that_is_read_is_reported_and_not_read_again(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data", ("bolt",))
    (root / "bolt" / "test" / "anomalous" / "again").symlink_to(root / "bolt" / "test" / "anomalous" / "bent")
    found = scan(root)
    assert len(found.records) == 9 and not found.problems
    assert any(
        "lead to folders that are read already or hold them: bolt/test/anomalous/again (1)" in gap for gap in found.gaps
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("split", [True, False])
def test_links_that_lead_in_circles_end_and_add_nothing(tmp_path: Path, split: bool) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("cat", "dog"), split=split)
    expected = scan(root)
    classes = root / "train" if split else root
    for name in ("a", "b", "c"):
        (classes / "cat" / name).symlink_to(classes / "cat", target_is_directory=True)
        (classes / "dog" / name).symlink_to(root, target_is_directory=True)
    found = scan(root)
    assert not found.problems and any(
        "these links lead to folders that are read already or" in gap for gap in found.gaps
    )
    assert [record.path for record in found.records] == [record.path for record in expected.records]


@pytest.mark.parametrize("name", ["folder", "mvtec"])
def test_a_named_pipe_is_named_and_nothing_waits_for_it(tmp_path: Path, name: str) -> None:
    root = write_class_first(tmp_path / "x") if name == "folder" else write_mvtec(tmp_path / "x")
    pipe = root / ("nut/train/normal" if name == "folder" else "carpet/train/good") / "pipe.png"
    os.mkfifo(pipe)
    classes = {} if name == "folder" else {"classes": ["bottle", "carpet"]}
    where = str(pipe).replace(str(root), "ROOT")
    assert told(root, name, **classes) == [
        f"{where}: is no regular file (a named pipe). Remove it, or give it another ending."
    ]
    with pytest.raises(DataError, match="no regular file"):
        read_image(pipe)


@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("nut/test/anomalous/rust", "the folder cannot be read (Permission denied). Make it readable, or move it"),
        ("nut/train/normal", "the folder cannot be read (Permission denied)"),
        ("nut/train", "the folder cannot be read (Permission denied)"),
        ("nut", "the folder cannot be read (Permission denied)"),
        ("bolt/train/normal/001.png", "the file cannot be read (Permission denied)"),
    ],
)
def test_what_a_user_may_not_read_is_named_and_never_left_out(shared: Path, closed: str, message: str) -> None:
    root = write_class_first(shared / "data")
    (root / closed).chmod(0)
    problems = as_nobody(lambda: told(root))
    assert problems[0].startswith(f"ROOT/{closed}: {message}")


def test_everything_that_a_user_may_not_read_is_listed_at_once(shared: Path) -> None:
    root = write_class_first(shared / "data")
    for name in ("bolt/test/normal", "nut/test/anomalous"):
        (root / name).chmod(0)
    (root / "nut" / "train" / "normal" / "x.png").symlink_to("/nowhere")
    problems = as_nobody(lambda: told(root))
    assert [problem.split(":")[0] for problem in problems] == [
        "ROOT/bolt/test/normal",
        "ROOT/nut/train/normal/x.png",
        "ROOT/nut/test/anomalous",
    ]


@pytest.mark.parametrize("closed", ["bottle/train/good", "bottle/test", "bottle/ground_truth/hole", "bottle"])
def test_a_folder_of_mvtec_that_may_not_be_read_is_named(shared: Path, closed: str) -> None:
    root = write_mvtec(shared / "data", ("bottle",))
    (root / closed).chmod(0)
    assert as_nobody(lambda: told(root, "mvtec", classes=["bottle"])) == [
        f"ROOT/{closed}: the folder cannot be read (Permission denied). Make it readable, or move it elsewhere."
    ]


@pytest.mark.parametrize("name", ["folder", "mvtec", "mnist", "cifar10", "pascalvoc", "imagenet", "imagenet22k"])
def test_a_root_below_a_folder_that_may_not_be_entered_is_an_error_of_its_own(shared: Path, name: str) -> None:
    (shared / "closed" / "data").mkdir(parents=True)
    (shared / "closed").chmod(0)
    problems = as_nobody(lambda: told(shared / "closed" / "data", name))
    assert (problems and "cannot be read (Permission denied)" in problems[0]) or name == "imagenet22k"


def test_a_folder_that_no_user_can_read_is_ignored(shared: Path) -> None:
    root = write_class_first(shared / "data")
    (root / "lost+found").mkdir(mode=0)
    assert as_nobody(lambda: told(root)) == []


def test_outlier_exposure_leaves_out_what_cannot_be_read_and_counts_it(shared: Path) -> None:
    folder = shared / "photos"
    write_images(folder / "a", 3)
    write_images(folder / "b", 5)
    (folder / "a" / "lost.png").symlink_to("/nowhere")
    (folder / "a" / "gone.png").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe.png")
    (folder / "b").chmod(0)
    cache = shared / "cache"
    cache.mkdir(mode=0o777)
    cache.chmod(0o777)
    load_folder_images(folder, IMAGES, cache)  # imports what the other user may not

    def loaded() -> tuple[int, list[str]]:
        pool = load_folder_images(folder, IMAGES, cache / "other")
        return len(pool), [note.replace(str(folder), "PHOTOS") for note in pool.notes]

    assert as_nobody(loaded) == (
        3,
        [
            "Left out: PHOTOS/pipe.png: is no regular file (a named pipe).",
            "Left out: PHOTOS/a: 2 links lead nowhere: gone.png, lost.png.",
            "Left out: PHOTOS/b: the folder cannot be read (Permission denied).",
        ],
    )


def test_a_broken_link_does_not_begin_a_run(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data")
    (root / "bolt" / "test" / "normal" / "x.png").symlink_to("/nowhere")
    with pytest.raises(InputError, match="leads nowhere"):
        load_corpus(Dataset(name="folder", root=root), IMAGES, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not Path("/proc/1/cwd").is_symlink(), reason="needs Linux's /proc")
def test_a_link_that_may_not_be_read_is_named() -> None:
    """As those of another user's process."""
    unreadable = as_nobody(lambda: {entry.path.name: entry.detail for entry in Folder(Path("/proc/1")).faults})
    assert unreadable["cwd"] == unreadable["root"] == "Permission denied"


def test_a_whole_file_system_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for path in (Path("/"), tmp_path / "link", tmp_path / ".." / ".." / ".." / ".." / ".." / ".." / ".."):
        assert no_folder(path).endswith("is the root of a file system, not a folder of images")
    assert no_folder(tmp_path) == ""

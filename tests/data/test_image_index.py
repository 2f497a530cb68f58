"""The index of millions of image files: one memory-mapped Arrow file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fcdd_sweep.data import image_index
from fcdd_sweep.data.image_index import GroupFiles, ImageIndex, ImagesToIndex, Member, open_index
from tests.imagenet_trees import tarred

NAMES = ["b.JPEG", "a.png", "notes.txt", ".hidden.png", "Größe.jpg"]


def opened(tmp_path: Path, groups: list[GroupFiles], stamps: object = 1) -> ImageIndex:
    return open_index(tmp_path / "root", tmp_path / "cache", ImagesToIndex("test", stamps, 10, lambda: groups))


def group(name: str, count: int) -> GroupFiles:
    return GroupFiles(
        name, f"{name}.tar", [Member(f"{name}/{i:07}.JPEG", 512 * i, i) for i in range(count)], f"a {name}"
    )


def test_images_are_sorted_by_name_within_their_groups(tmp_path: Path) -> None:
    first = GroupFiles("n1", "train/n1", [Member(name, 0, -1) for name in NAMES])
    index = opened(tmp_path, [first, group("n2", 0), group("n3", 2)])
    assert (len(index), index.begin.tolist()) == (5, [0, 3, 3, 5])
    labels = [index.label(row) for row in range(5)]
    assert labels == ["n1/Größe.jpg", "n1/a.png", "n1/b.JPEG", "n3/0000000.JPEG", "n3/0000001.JPEG"]
    assert [index.position(row) for row in (0, 4)] == [(0, -1), (512, 1)]
    assert index.holder(4) == tmp_path / "root" / "n3.tar" and index.words == ("", "a n2", "a n3")


def test_groups_that_span_many_batches_are_found_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [group(f"n{i}", (7 * i) % 5) for i in range(40)]
    expected = opened(tmp_path / "one", groups)
    monkeypatch.setattr(image_index, "_IMAGES_PER_BATCH", 4)
    index = opened(tmp_path / "many", groups)
    assert index.names.num_chunks > 10 and expected.names.num_chunks == 2
    labels = [f"{each.group}/{i:07}.JPEG" for each in groups for i in range(len(list(each.members)))]
    assert [index.label(row) for row in range(len(index))] == labels
    assert [index.position(row) for row in range(len(index))] == [expected.position(row) for row in range(len(index))]
    assert index.fingerprint == expected.fingerprint


@pytest.mark.slow
def test_an_index_is_one_file_that_is_mapped_and_not_read(tmp_path: Path) -> None:
    opened(tmp_path, [group("n1", 200_000)])
    (file,) = (tmp_path / "cache").glob("index-*/index.arrow")
    assert sorted(path.name for path in file.parent.iterdir()) == ["index.arrow", "seal.json"]
    assert file.stat().st_size < 200_000 * 64
    before = pa.total_allocated_bytes()
    index = opened(tmp_path, [])
    assert len(index) == 200_000 and pa.total_allocated_bytes() - before < 100_000
    assert index.name(123_456) == "0123456.JPEG"


def test_writing_keeps_one_listing_in_memory(tmp_path: Path) -> None:
    alive: list[int] = []

    class Counted(list[Member]):
        def __del__(self) -> None:
            alive.pop()

    def listings() -> Iterator[GroupFiles]:
        for i in range(100):
            members = Counted([Member(f"{n}.png", 0, -1) for n in range(10)])
            alive.append(i)
            yield GroupFiles(f"n{i:03}", f"n{i:03}", members)
            assert len(alive) <= 2

    assert len(open_index(tmp_path, tmp_path / "cache", ImagesToIndex("test", 1, 1000, listings))) == 1000


def test_the_fingerprint_is_that_of_earlier_versions(tmp_path: Path) -> None:
    index = opened(tmp_path, [group("n1", 2), GroupFiles("n2", "n2", [Member("x.png", 0, -1)])])
    expected = hashlib.sha256()
    for name, names, sizes in (("n1", [b"0000000.JPEG", b"0000001.JPEG"], [0, 1]), ("n2", [b"x.png"], [-1])):
        ends = np.cumsum([len(each) for each in names])
        expected.update(repr((name, len(names))).encode() + b"".join(names))
        expected.update(np.array(ends, np.int64).tobytes() + np.array(sizes, np.int64).tobytes())
    assert index.fingerprint == expected.hexdigest()[:12]


def test_an_entry_of_another_version_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_index, "_VERSION", 1)
    opened(tmp_path, [group("n1", 2)])
    monkeypatch.undo()
    assert len(opened(tmp_path, [group("n1", 3)])) == 3
    assert len(list((tmp_path / "cache").glob("index-*/"))) == 2


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    opened(tmp_path, [group("n1", 3)])
    (file,) = (tmp_path / "cache").glob("index-*/index.arrow")
    os.truncate(file, file.stat().st_size // 2)
    assert opened(tmp_path, [group("n1", 3)]).name(2) == "0000002.JPEG"


def test_an_index_of_nothing_is_empty(tmp_path: Path) -> None:
    index = opened(tmp_path, [])
    assert len(index) == 0 and index.groups == () and index.begin.tolist() == [0]


def test_bytes_that_are_no_text_are_names_too(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert opened(tmp_path, [GroupFiles("n1", "n1", [Member(name, 0, -1)])]).name(0) == name


def test_content_is_read_from_tars_and_folders(tmp_path: Path) -> None:
    (tmp_path / "root" / "n2").mkdir(parents=True)
    (tmp_path / "root" / "n2" / "b.png").write_bytes(b"in a folder")
    (tmp_path / "root" / "n1.tar").write_bytes(tarred({"a.png": b"in a tar"}))
    groups = [
        GroupFiles("n1", "n1.tar", image_index.members(tmp_path / "root" / "n1.tar")),
        GroupFiles("n2", "n2", image_index.folder_members(tmp_path / "root" / "n2")),
    ]
    index = opened(tmp_path, groups)
    assert [index.content(row) for row in range(2)] == [b"in a tar", b"in a folder"]

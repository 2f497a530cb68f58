"""The cache builds once, notices damage, and explains a disk that does not take it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data import loading
from fcdd_sweep.data.decoding import cache
from fcdd_sweep.data.decoding.cache import cached, is_intact
from fcdd_sweep.data.decoding.store import ImageFile
from fcdd_sweep.data.loading import load_corpus, load_folder_images
from tests.trees import write_class_first, write_images

SPAWN = multiprocessing.get_context("spawn")
IMAGES = Images(load_size=16, size=16)


def slow_build(folder: Path) -> None:
    with (folder.parent / "builds.txt").open("a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    (folder / "data.bin").write_bytes(bytes(1000))


def ask(root: Path) -> None:
    assert (cached(root, "entry", 1000, slow_build) / "data.bin").stat().st_size == 1000


def ask_together(root: Path, barrier: Barrier) -> None:
    barrier.wait(timeout=60)
    ask(root)


def die_while_building(root: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "data.bin").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    cached(root, "entry", 1000, build)


def start(target: Callable[..., None], count: int, *args: object) -> list[int | None]:
    processes = [SPAWN.Process(target=target, args=args) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


@pytest.mark.slow
def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    assert start(ask_together, 4, tmp_path, SPAWN.Barrier(4)) == [0] * 4
    assert len((tmp_path / "builds.txt").read_text().splitlines()) == 1


def test_a_builder_that_dies_leaves_no_lock_and_no_entry(tmp_path: Path) -> None:
    assert start(die_while_building, 1, tmp_path) == [-signal.SIGKILL]
    assert not (tmp_path / "entry").exists()
    ask(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["entry"]


def truncate_images(entry: Path) -> None:
    os.truncate(entry / "images.npy", (entry / "images.npy").stat().st_size - 1)


def flip_a_byte(entry: Path) -> None:
    content = bytearray((entry / "images.npy").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (entry / "images.npy").write_bytes(content)


def remove_tables(entry: Path) -> None:
    (entry / "tables.npz").unlink()


def scribble_on_the_seal(entry: Path) -> None:
    (entry / "seal.json").write_text("{broken")


def empty_the_seal(entry: Path) -> None:
    (entry / "seal.json").write_text("{}")


@pytest.mark.parametrize(
    "damage", [truncate_images, flip_a_byte, remove_tables, scribble_on_the_seal, empty_the_seal, shutil.rmtree]
)
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    dataset = Dataset(name="folder", root=write_class_first(tmp_path / "data"))
    before = np.array(load_corpus(dataset, IMAGES, tmp_path / "cache").images)
    (entry,) = (path for path in (tmp_path / "cache").glob("folder-*") if path.is_dir())
    assert is_intact(entry)
    damage(entry)
    assert not is_intact(entry)
    np.testing.assert_array_equal(load_corpus(dataset, IMAGES, tmp_path / "cache").images, before)
    assert is_intact(entry)


def test_damage_in_a_large_file_is_noticed_at_its_ends(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "large.bin").write_bytes(bytes(300 * 65536))

    entry = cached(tmp_path, "entry", 1, build)
    with (entry / "large.bin").open("rb+") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"x")
    assert not is_intact(entry)


def test_images_are_decoded_only_once_and_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, calls = Dataset(name="folder", root=write_class_first(tmp_path / "data")), []
    first = load_corpus(dataset, IMAGES, tmp_path / "cache", progress=lambda done, n: calls.append((done, n)))
    assert calls == [(i + 1, len(first.images)) for i in range(len(first.images))]
    monkeypatch.setattr(loading, "write_corpus", None)
    second = load_corpus(dataset, IMAGES, tmp_path / "cache", progress=lambda done, n: calls.append((done, n)))
    assert len(calls) == len(first.images)
    assert isinstance(second.images, np.memmap) and not second.images.flags.writeable
    assert (second.path, second.fingerprints, second.notes) == (first.path, first.fingerprints, first.notes)


@pytest.mark.parametrize("other", [{"load_size": 17}, {"resize": "nearest"}, {"color": "gray"}])
def test_other_image_settings_are_another_entry(tmp_path: Path, other: dict[str, object]) -> None:
    dataset = Dataset(name="folder", root=write_class_first(tmp_path / "data"))
    load_corpus(dataset, IMAGES, tmp_path / "cache")
    load_corpus(dataset, IMAGES.model_copy(update=other), tmp_path / "cache")
    assert sum(path.is_dir() for path in (tmp_path / "cache").glob("folder-*")) == 2


def test_a_changed_image_is_decoded_again(tmp_path: Path) -> None:
    root = write_class_first(tmp_path / "data")
    dataset = Dataset(name="folder", root=root)
    before = load_corpus(dataset, IMAGES, tmp_path / "cache")
    write_images(root / "bolt" / "train" / "normal", 1, seed=99)
    after = load_corpus(dataset, IMAGES, tmp_path / "cache")
    assert before.fingerprints["bolt"] != after.fingerprints["bolt"]
    assert before.fingerprints["nut"] == after.fingerprints["nut"]


def test_a_disk_that_runs_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(name="folder", root=write_class_first(tmp_path / "data"))
    append = ImageFile.append

    def until_full(self: ImageFile, pixels: np.ndarray) -> None:
        if self.count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "append", until_full)
        with pytest.raises(
            DataError, match=r"cache: the disk is full: the decoded images take .* MB\. Free some space"
        ):
            load_corpus(dataset, IMAGES, tmp_path / "cache")
    assert not any(path.is_dir() for path in (tmp_path / "cache").glob("folder-*"))
    assert len(load_corpus(dataset, IMAGES, tmp_path / "cache").images) == 18


def test_too_little_space_is_reported_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(DataError, match="the disk is full"):
        cached(tmp_path, "entry", 11, lambda folder: pytest.fail("must not build"))


def test_a_cache_folder_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written .*set FCDD_SWEEP_CACHE to a folder that you may write to"):
        cached(tmp_path / "file" / "cache", "entry", 1, slow_build)


def test_a_read_only_cache_folder_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot be written \(Permission denied\)\. Make it writable, or set FCDD"):
        cached(tmp_path, "entry", 1, slow_build)


def test_a_read_only_cache_that_is_complete_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(tmp_path)
    monkeypatch.setattr(cache, "FileLock", None)
    ask(tmp_path)


def test_a_fault_of_the_builder_itself_is_not_explained_away(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        cached(tmp_path, "entry", 1, build)
    assert not (tmp_path / "entry.partial").exists()


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("FCDD_SWEEP_CACHE", raising=False)
    assert cache_root() == tmp_path / "xdg" / "fcdd_sweep"
    monkeypatch.setenv("FCDD_SWEEP_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    assert cache_root(tmp_path / "given") == tmp_path / "given"


def test_outlier_images_of_a_folder_are_cached_and_unreadable_ones_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "pool" / "deep", 5)
    (tmp_path / "pool" / "bad.png").write_bytes(b"no image")
    for _ in range(2):
        pool = load_folder_images(tmp_path / "pool", IMAGES, tmp_path / "cache")
        assert pool.images.shape == (5, 3, 16, 16) and isinstance(pool.images, np.memmap)
        assert any("1 of 6 images do not decode and are left out: bad.png" in note for note in pool.notes)


def test_a_folder_without_a_readable_image_is_no_pool(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load_folder_images(tmp_path / "absent", IMAGES, tmp_path / "cache")
    (tmp_path / "pool").mkdir()
    with pytest.raises(DataError, match="holds no image that can be read"):
        load_folder_images(tmp_path / "pool", IMAGES, tmp_path / "cache")
    (tmp_path / "pool" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="holds no image that can be read"):
        load_folder_images(tmp_path / "pool", IMAGES, tmp_path / "cache")

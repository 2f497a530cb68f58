"""Sides of images in a split of our own, on cut-outs of a photograph."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets import near_groups
from fcdd_sweep.data.datasets.near_groups import MOST_NEAR, UnsplitImage, leaders, sides_of
from fcdd_sweep.data.datasets.split_rule import SplitRule
from fcdd_sweep.data.scanning import dataset_facts, scan_dataset

RULE = SplitRule()
PHOTOGRAPH = data.astronaut()


def cut_out(number):
    row, column = divmod(number, 7)
    return Image.fromarray(PHOTOGRAPH[70 * row : 70 * row + 64, 70 * column : 70 * column + 64])


def named(is_test, number, ending=".png"):
    """A name whose image alone would be on the given side."""
    names = (f"good/{number:02}-{each}{ending}" for each in range(99))
    return next(name for name in names if RULE.is_test("parts", name) == is_test)


def save(image, root, name, time):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    os.utime(path, ns=(time, time))
    return path


@pytest.fixture
def root(tmp_path):
    """Ten different cut-outs, every second one on the test side, and two anomalies."""
    root = tmp_path / "parts"
    for number in range(10):
        save(cut_out(number), root, named(number % 2 == 0, number), number)
    for number in (40, 41):
        save(cut_out(number), root, f"bad/{number}.png", number)
    return root


def sides(root):
    scan = scan_dataset(Dataset(name="folder", root=root), Images(load_size=64, size=64))
    assert not scan.problems
    return {record.path: record.is_test for record in scan.records}


def test_different_images_are_split_by_name_alone(root):
    found = sides(root)
    expected = {name: RULE.is_test("parts", name) for name in found if name.startswith("good")}
    assert found == expected | {"bad/40.png": True, "bad/41.png": True}
    assert Counter(expected.values()) == {True: 5, False: 5}


def test_copies_take_the_side_of_the_image_that_was_there_and_no_new_image_moves_an_old_one(root):
    """Saved again as JPEG, in another size, and byte for byte; each copy's own name is on the other side."""
    before = sides(root)
    copies = {}
    for number in range(0, 8, 2):
        old, test = named(number % 2 == 0, number), number % 2 == 0
        copies[save(cut_out(number), root, named(not test, 100 + number, ".jpg"), 1000)] = old
        copies[
            save(
                cut_out(number).resize((150, 150), Image.Resampling.BICUBIC), root, named(not test, 200 + number), 1001
            )
        ] = old
        copies[save(cut_out(number), root, named(not test, 300 + number), 1002)] = old
    save(cut_out(30), root, named(True, 900), 1003)
    after = sides(root)
    assert {name: after[name] for name in before} == before
    for copy, old in copies.items():
        name = copy.relative_to(root).as_posix()
        assert after[name] == before[old] != RULE.is_test("parts", name)
    assert after[named(True, 900)] is True


def test_in_folders_of_classes_copies_stay_together_within_their_class(tmp_path):
    for name in ("bolt", "nut"):
        for number in range(6):
            save(cut_out(number), tmp_path / name, f"{number}.png", number)
            save(cut_out(number), tmp_path / name, f"{number}-again.jpg", 100 + number)
    found = sides(tmp_path)
    for name in ("bolt", "nut"):
        for number in range(6):
            assert found[f"{name}/{number}-again.jpg"] == found[f"{name}/{number}.png"]
    assert dataset_facts(Dataset(name="folder", root=tmp_path)).protocol == "one_vs_rest"
    assert any(found[f"bolt/{number}.png"] != found[f"nut/{number}.png"] for number in range(6))


def test_of_many_images_only_identical_ones_stay_together(root, monkeypatch):
    first = named(True, 0)
    near = save(cut_out(0), root, named(False, 100, ".jpg"), 1000).relative_to(root).as_posix()
    same = save(cut_out(0), root, named(False, 300), 1001).relative_to(root).as_posix()
    monkeypatch.setattr(near_groups, "_VERSION", -1)  # another entry of the cache
    monkeypatch.setattr(near_groups, "MOST_COMPARED", 11)
    found = sides(root)
    assert (found[first], found[same], found[near]) == (True, True, False)


def test_a_part_that_never_moves_is_on_both_sides(tmp_path):
    """All photographs differ by noise alone: nearly identical ones stay together in fours."""
    rng, picture = np.random.default_rng(0), np.asarray(cut_out(0), np.int16)
    noisy = [(picture + rng.integers(-1, 2, picture.shape)).clip(0, 255).astype(np.uint8) for _ in range(30)]
    files = [save(Image.fromarray(each), tmp_path, f"{number:02}.png", number) for number, each in enumerate(noisy)]
    found = leaders(files)
    followers = Counter(leader for leader in found if leader is not None)
    assert set(followers.values()) <= {MOST_NEAR - 1, 30 % MOST_NEAR - 1} and found.count(None) == -(-30 // MOST_NEAR)
    assert all(leader is None or found[files.index(leader)] is None for leader in found)


def test_a_named_group_wins_over_a_likeness_and_takes_its_anomalies_along(tmp_path):
    rule = SplitRule(pattern=re.compile(r"^(part\d+)_"))
    groups = {
        side: next(f"part{n}" for n in range(99) if rule.is_test("parts", f"part{n}_a.png") == side)
        for side in (True, False)
    }
    old = save(cut_out(0), tmp_path, f"{groups[True]}_a.png", 0)
    first = save(cut_out(1), tmp_path, f"{groups[False]}_a.png", 1)
    like = save(cut_out(0), tmp_path, f"{groups[False]}_b.png", 2)
    anomalous = save(cut_out(2), tmp_path, f"{groups[False]}_c.png", 3)
    images = [UnsplitImage(path, "parts", path.name) for path in (old, first, like)]
    images.append(UnsplitImage(anomalous, "parts", anomalous.name, is_anomalous=True))
    assert sides_of(images, rule) == {old: True, first: False, like: False, anomalous: False}


def test_a_damaged_file_keeps_its_own_side(tmp_path):
    files = [save(cut_out(0), tmp_path, "a.png", 0), Path(tmp_path / "b.png")]
    files[1].write_bytes(b"no image")
    assert leaders(files) == [None, None]

"""ImageNet's ILSVRC2012, read in place from its tars or folders: nothing is extracted or downloaded.

    ROOT/ILSVRC2012_img_train.tar           a tar of 1,000 tars, one per WordNet id
    ROOT/ILSVRC2012_img_val.tar             50,000 images
    ROOT/ILSVRC2012_devkit_t12.tar.gz       which class each validation image shows, and the classes' names

or, independently for each half, the layout that torchvision extracts:

    ROOT/train/n########/*.JPEG             the 30 classes suffice
    ROOT/val/n########/*.JPEG               without the development kit, `words.txt` gives names (Pascal VOC needs them)

As a data set it is ImageNet-30: training images of the wanted classes, validation images of all 30 as the test set.
As outlier exposure it is the validation split of all classes, without the classes of the data set that is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets.synsets import (
    IMAGENET30,
    SYNSET,
    WORDS,
    excluded,
    exclusion_note,
    misnamed,
    read_devkit,
    read_words,
)
from fcdd_sweep.data.decoding.files import file_stamp
from fcdd_sweep.data.decoding.folders import Folder
from fcdd_sweep.data.decoding.pixels import decode_image
from fcdd_sweep.data.image_index import (
    GroupFiles,
    ImageIndex,
    ImagesToIndex,
    folder_members,
    members,
    nested_members,
    open_index,
)
from fcdd_sweep.data.pools import FilePool
from fcdd_sweep.data.records import DatasetScan, DecodedImage, Record, Say, wanted_classes

TRAIN_TAR, VAL_TAR, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_PLACE = "Register at https://image-net.org, download it, and place it there; it cannot be downloaded from here"
_AGAIN = "Copy both there again"
IMAGES_PER_CLASS = 1300
_THIRTY = frozenset(IMAGENET30.values())


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return ImageNet-30: training images of the wanted classes and test images of all classes."""
    assert dataset.root is not None  # the loader has checked it
    problems: list[Problem] = []
    wanted, every = wanted_classes(dataset, tuple(IMAGENET30)), tuple(IMAGENET30)
    indexes = []
    for split, open_half, classes in (("training", training_index, wanted), ("validation", validation_index, every)):
        try:
            indexes.append(open_half(dataset.root, cache_root()))
            problems += _class_problems(indexes[-1], classes, split)
        except DataError as error:
            problems += error.problems
    if problems:
        return DatasetScan(problems=tuple(dict.fromkeys(problems)))
    train, test = indexes
    largest = images.max_megapixels
    records = [*_records(train, wanted, "train", largest), *(_records(test, every, "val", largest) if wanted else ())]
    return DatasetScan(tuple(records), skips_unreadable=True)


def expose(root: Path, target: str, images: Images, cache: Path, say: Say | None = None) -> FilePool:
    """Return the validation images of all classes except matches of classes of data set `target`.

    Raises:
        DataError: the split cannot be read, or names are needed and missing.
    """
    return exposed(validation_index(root, cache, say), "imagenet", target, images)


def exposure_problems(root: Path, target: str | None) -> list[Problem]:
    """Return why `expose` would raise."""
    try:
        index = validation_index(root, cache_root())
    except DataError as error:
        return list(error.problems)
    return unnamed_problem(index.root, target, index.groups, index.words)


def exposed(index: ImageIndex, source: str, target: str, images: Images) -> FilePool:
    """Return the images of an index as a pool, without the classes that data set `target` must not see as anomalies.

    Raises:
        DataError: names are needed and missing, or no image is left.
    """
    if problems := unnamed_problem(index.root, target, index.groups, index.words):
        raise DataError(problems)
    left_out = excluded(target, index.groups, index.words)
    kept = [i for i in range(len(index.groups)) if i not in left_out]
    notes = (exclusion_note(source, target, list(left_out.values())),) if left_out else ()
    pool = FilePool(index, kept, images, notes)
    if not len(pool):
        raise DataError(Problem(str(index.root), f"holds no image that may be an anomaly of '{target}'"))
    return pool


def unnamed_problem(root: Path, target: str | None, groups: Sequence[str], words: Sequence[str]) -> list[Problem]:
    """Return a problem if `target` is matched by the names of classes and some classes have none."""
    unnamed = [group for group, names in zip(groups, words, strict=True) if not names]
    if target != "pascalvoc" or not unnamed:
        return []
    what = f"the classes of '{target}' are left out by name, and {len(unnamed)} have no name, {unnamed[0]} for one"
    return [Problem(str(root), what, f"{DEVKIT}, or {WORDS} with lines such as 'n02389026 sorrel'", "Place it there")]


def training_index(root: Path, cache: Path) -> ImageIndex:
    """Return the training images of the classes of ImageNet-30 that exist.

    Raises:
        DataError: there are none, or a tar is damaged, or its counts are not those of the development kit.
    """
    tar, kind = root / TRAIN_TAR, "imagenet-train"
    if tar.is_file():
        stamps = [file_stamp(tar), words_stamp(root)]
        count = 30 * IMAGES_PER_CLASS
        return open_index(root, cache, ImagesToIndex(kind, stamps, count, lambda: _train_in_tar(root)))
    if found := [folder for folder in synset_folders(root / "train") if folder.name in _THIRTY]:
        return folder_index(root, cache, kind, found)
    raise DataError(Problem(str(root), f"holds neither {TRAIN_TAR} nor train/n########", next_step=_PLACE))


def validation_index(root: Path, cache: Path, say: Say | None = None) -> ImageIndex:
    """Return the validation images of all classes.

    Raises:
        DataError: there are none, the development kit is missing, a file is damaged, or counts do not match.
    """
    tar, devkit, kind = root / VAL_TAR, root / DEVKIT, "imagenet-val"
    if tar.is_file() and devkit.is_file():
        stamps = [file_stamp(tar), file_stamp(devkit)]
        return open_index(root, cache, ImagesToIndex(kind, stamps, 50_000, lambda: _val_in_tar(tar, devkit)), say)
    if found := synset_folders(root / "val"):
        return folder_index(root, cache, kind, found, say)
    if tar.is_file():
        what = f"there is no {DEVKIT}, which says what the images of {VAL_TAR} show"
        raise DataError(Problem(str(root), what, next_step=_PLACE))
    raise DataError(Problem(str(root), f"holds neither {VAL_TAR} nor val/n########", next_step=_PLACE))


def folder_index(root: Path, cache: Path, kind: str, folders: list[Path], say: Say | None = None) -> ImageIndex:
    """Return the images directly in folders named by WordNet ids.

    The index is rebuilt when files are added, removed or renamed, not when a file is overwritten.
    """
    stamps = [[str(folder.relative_to(root)), folder.stat().st_mtime_ns] for folder in folders]

    def listings() -> Iterator[GroupFiles]:
        words = words_in(root)
        for folder in folders:
            holder = folder.relative_to(root).as_posix()
            yield GroupFiles(folder.name, holder, folder_members(folder), words.get(folder.name, ""))

    count = len(folders) * IMAGES_PER_CLASS
    return open_index(root, cache, ImagesToIndex(kind, [stamps, words_stamp(root)], count, listings), say)


def synset_folders(folder: Path) -> list[Path]:
    """Return the folders named by WordNet ids, in order."""
    return [child.path for child in Folder(folder).folders if SYNSET.fullmatch(child.name)]


def words_in(root: Path) -> dict[str, str]:
    """Return names by WordNet id, from the development kit or `words.txt`; empty without both.

    Raises:
        DataError: the development kit is damaged.
    """
    if (root / DEVKIT).is_file():
        return read_devkit(root / DEVKIT).words
    return read_words(root / WORDS) if (root / WORDS).is_file() else {}


def words_stamp(root: Path) -> list[str]:
    return [file_stamp(root / name) for name in (DEVKIT, WORDS) if (root / name).is_file()]


def _train_in_tar(root: Path) -> Iterator[GroupFiles]:
    """Return the inner tars of ImageNet-30 after comparing them with the development kit, if it exists."""
    tar = root / TRAIN_TAR
    kit = read_devkit(root / DEVKIT) if (root / DEVKIT).is_file() else None
    inner = {_wnid(name): found for name, found in nested_members(tar, lambda name: _wnid(name) in _THIRTY)}
    expected = {} if kit is None else kit.training_images
    problems = [
        Problem(str(tar), f"{wnid}.tar holds {len(found)} images, and {DEVKIT} says {expected[wnid]}", "", _AGAIN)
        for wnid, found in inner.items()
        if expected.get(wnid, len(found)) != len(found)
    ]
    if problems:
        raise DataError(problems)
    words = words_in(root) if kit is None else kit.words
    return (GroupFiles(wnid, TRAIN_TAR, inner[wnid], words.get(wnid, "")) for wnid in sorted(inner))


def _wnid(name: str) -> str:
    """Return the WordNet id of `FOLDERS/n########.tar`."""
    return name.rsplit("/", 1)[-1].removesuffix(".tar")


def _val_in_tar(tar: Path, devkit: Path) -> Iterator[GroupFiles]:
    kit = read_devkit(devkit)
    found = sorted(members(tar), key=lambda member: member.name.rsplit("/", 1)[-1])
    if len(found) != len(kit.truth):
        what = f"holds {len(found)} images, and {devkit.name} describes {len(kit.truth)}"
        raise DataError(Problem(str(tar), what, next_step=_AGAIN))
    labels = np.array(kit.truth)
    for wnid in np.unique(labels):
        chosen = [found[i] for i in np.flatnonzero(labels == wnid)]
        yield GroupFiles(str(wnid), tar.name, chosen, kit.words[str(wnid)])


def _class_problems(index: ImageIndex, classes: tuple[str, ...], split: str) -> list[Problem]:
    """Return a problem for each class without images and for each WordNet id with another name."""
    counts, where = dict(zip(index.groups, np.diff(index.begin), strict=True)), str(index.root)
    wrong = [Problem(where, f"WordNet ids are mixed up: {name}") for name in misnamed(index.groups, index.words)]
    return wrong + [
        Problem(where, f"there is no {split} image of class '{name}' ({IMAGENET30[name]})", next_step=_PLACE)
        for name in classes
        if not counts.get(IMAGENET30[name])
    ]


def _records(index: ImageIndex, classes: tuple[str, ...], split: str, max_megapixels: float) -> Iterator[Record]:
    for name in classes:
        group = index.groups.index(IMAGENET30[name])
        holder = index.root / index.holders[group]
        tar_stamp = file_stamp(holder) if holder.is_file() else ""
        for row in range(int(index.begin[group]), int(index.begin[group + 1])):
            file = tar_stamp or _stamp(holder / index.name(row))
            offset, size = index.position(row)
            yield Record(
                path=f"{split}/{index.label(row)}",
                class_name=name,
                is_test=split == "val",
                is_anomalous=False,
                defect="",
                stamp=f"{file}:{offset}:{size}",
                load=partial(_load, index, row, max_megapixels),
            )


def _stamp(path: Path) -> str:
    try:
        return file_stamp(path)
    except OSError:
        return "unreadable"  # such as a link that leads nowhere: decoding skips and counts it


def _load(index: ImageIndex, row: int, max_megapixels: float) -> DecodedImage:
    name = f"{index.holder(row)}: {index.name(row)}"
    try:
        content = index.content(row)
    except OSError as error:
        raise DataError(Problem(name, f"cannot be read ({error.strerror or error})")) from error
    return DecodedImage(decode_image(content, name, max_megapixels))

"""Trees of normal and anomalous images in the words of the field, MVTec-AD's among them, and one folder of images.

NORMAL is `good`, `ok`, `normal`, `nominal` and the like, ANOMALOUS is `bad`, `ko`, `NG`, `defect` and the like:

    ROOT/[CLASS/]{train,test}/{NORMAL,ANOMALOUS,DEFECT}/IMAGES
    ROOT/{train,test}/CLASS/{NORMAL,ANOMALOUS}/IMAGES
    ROOT/[CLASS/]{NORMAL,ANOMALOUS}/IMAGES      without a split: see `split_rule`
    ROOT/IMAGES                                 all nominal

A folder DEFECT is read where it can be nothing else: beside NORMAL in the test half, or with a folder of its name among
the maps. `map_files` says where maps are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.datasets.folder_advice import annotated_copies, maps_beside_problem
from fcdd_sweep.data.datasets.folder_halves import (
    exact_halves,
    halves_as_classes,
    halves_of,
    halves_twice,
    unused_validation_notes,
)
from fcdd_sweep.data.datasets.folder_layout import class_name_of
from fcdd_sweep.data.datasets.folder_roles import LABEL_FOLDERS, Role, role_of
from fcdd_sweep.data.datasets.map_files import CONTAINERS, MappedImage, holds_maps, maps_of_images
from fcdd_sweep.data.datasets.map_names import is_map_of, stems_of
from fcdd_sweep.data.decoding.folders import Folder

PartsLayout = Literal["auto", "mvtec", "good_bad", "flat"]
_CLOSE = 0.8


@dataclass(frozen=True)
class FoundImage:
    """An image of a tree or table.

    Attributes:
        is_test: None where a rule must split.
        defect: the type of its defect; empty where it is nominal.
        name: what the rule splits by: its path below the folder of its class.
        group: of images that stay together, where a table names it.
    """

    path: Path
    class_name: str
    is_test: bool | None
    defect: str
    name: str
    group: str = ""


@dataclass(frozen=True)
class FoundImages:
    """What a tree or a table holds.

    Attributes:
        layout: the layout in words, for the plan.
        images: in a fixed order.
        maps: of each anomalous image that has some.
    """

    layout: str
    images: tuple[FoundImage, ...]
    maps: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({image.class_name for image in self.images}))


@dataclass(frozen=True)
class _Half:
    """The folder with the label folders of a class in one split, or in none."""

    class_name: str
    folder: Folder
    is_test: bool | None


def find_parts(root: Path, kind: PartsLayout) -> FoundImages | None:
    """Return the images of a tree; None where its folders allow no such reading, or several."""
    top = Folder(root)
    if kind == "flat" or (kind == "auto" and top.images and not any(each.all_images for each in top.folders)):
        return _flat(top)
    halves = _halves(top, kind)
    if not halves:
        return None
    images, beside = [], list[Path]()
    for half in halves:
        for label in _labels(half.folder):
            pictures, maps = _sorted_out(label)
            beside += maps
            images += [_found(half, label, path, alone=_role_count(half, "anomalous") == 1) for path in pictures]
    folders = [each for each in top.below[1:] if holds_maps(each)]
    all_maps = sorted({*beside, *chain.from_iterable(each.all_images for each in folders)})
    candidates = (MappedImage(image.path, bool(image.defect)) for image in images)
    maps_of, problems = maps_of_images(root, candidates, all_maps)
    labels = [label for half in halves for label in _labels(half.folder)]
    problems += [copy for label in labels for each in label.below for copy in annotated_copies(each)]
    gaps = tuple(_unread(top, {*(image.path for image in images), *all_maps}))
    return FoundImages(_words_of(halves, root, maps_of), tuple(images), maps_of, tuple(problems), gaps)


def _flat(top: Folder) -> FoundImages | None:
    if not top.images:
        return None
    name = class_name_of(top.name)
    images = tuple(FoundImage(path, name, None, "", path.name) for path in top.images)
    stems = stems_of(top.images)
    maps = [path for path in top.images if is_map_of(path.stem, stems)]
    step = "Move images with maps, and their maps, to 'bad', and the other images to 'good'; or move the maps elsewhere"
    problems = [maps_beside_problem(top, maps, step)] if maps else []
    problems += annotated_copies(top)
    gaps = tuple(_unread(top, set(top.images)))
    return FoundImages("one folder of nominal images", images, problems=tuple(problems), gaps=gaps)


def _halves(top: Folder, kind: PartsLayout) -> list[_Half]:
    """Return the folders that hold the labels; empty where there is no reading of all folders."""
    children = [each for each in top.folders if each.all_images and not holds_maps(each)]
    if any(halves_twice(each, with_maps=False) for each in (top, *children)):
        return []
    splits = halves_of(top)
    if own := _class_halves(top, class_name_of(top.name), kind):
        return own
    if splits:
        inside = [
            _Half(class_name_of(each.name), each, split == "test")
            for split, half in splits.items()
            for each in half.folders
            if each.all_images and not holds_maps(each)
        ]
        loose = any(half.images for half in splits.values())
        return [] if loose or not inside or not _readable(inside, kind) else inside
    if kind == "auto" and halves_as_classes(top):
        return []
    found = [_class_halves(each, class_name_of(each.name), kind) for each in children]
    return [half for halves in found for half in halves] if all(found) and not top.images else []


def _class_halves(folder: Folder, name: str, kind: PartsLayout) -> list[_Half]:
    """Return the halves of a class, or the folder itself; empty unless all that it holds can be read."""
    splits = halves_of(folder)
    beside = [each for each in folder.folders if each not in splits.values() and not holds_maps(each)]
    if splits and any(role_of(each) or exact_halves(each) for each in beside):
        return []  # both halves and labels, or both a class and classes
    halves = [_Half(name, half, split == "test") for split, half in splits.items()] or [_Half(name, folder, None)]
    return halves if _readable(halves, kind) else []


def _readable(halves: Sequence[_Half], kind: PartsLayout) -> bool:
    """Return whether every folder with images in them is a label or certainly a type of defects."""
    roles = [role_of(label) for half in halves for label in _labels(half.folder)]
    return "normal" in roles and all(
        not _has_loose(half.folder) and all(_is_known(label, half, kind) for label in _labels(half.folder))
        for half in halves
    )


def _has_loose(folder: Folder) -> bool:
    return bool(folder.images) or any(_has_loose(each) for each in folder.folders if each.name.casefold() in CONTAINERS)


def _labels(folder: Folder) -> list[Folder]:
    """Return the folders of labels in a folder, nominal ones first; `Data`, `Images` stand for those in them."""
    found = []
    for child in folder.folders:
        if child.all_images and not holds_maps(child):
            found += _labels(child) if child.name.casefold() in CONTAINERS else [child]
    return sorted(found, key=lambda label: role_of(label) != "normal")


def _is_known(label: Folder, half: _Half, kind: PartsLayout) -> bool:
    if role_of(label) or kind == "mvtec":
        return True
    if kind == "good_bad" or closest(label.name, sorted(LABEL_FOLDERS), _CLOSE):
        return False
    above = half.folder if half.is_test is None else Folder(half.folder.path.parent)
    has_maps = any(
        child.name.casefold() == label.name.casefold()
        for maps in above.folders
        if holds_maps(maps)
        for child in maps.folders
    )
    return has_maps or (half.is_test is True and _role_count(half, "normal") > 0)


def _role_count(half: _Half, role: Role) -> int:
    return sum(role_of(label) == role for label in _labels(half.folder))


def _sorted_out(label: Folder) -> tuple[list[Path], list[Path]]:
    """Return the images and the maps below a label's folder; of maps those that are beside their images."""
    inside_maps = {path for each in label.below[1:] if holds_maps(each) for path in each.all_images}
    stems: dict[Path, set[str]] = {}
    for path in label.all_images:
        stems.setdefault(path.parent, set()).add(path.stem)
    pictures, maps = list[Path](), list[Path]()
    for path in label.all_images:
        if path not in inside_maps:
            (maps if is_map_of(path.stem, stems[path.parent]) else pictures).append(path)
    return pictures, maps


def _found(half: _Half, label: Folder, path: Path, *, alone: bool) -> FoundImage:
    defect, role = "", role_of(label)
    if role != "normal":
        within = [part for part in path.relative_to(label.path).parts[:-1] if part.casefold() not in CONTAINERS]
        own = "anomalous" if role == "anomalous" and alone else label.name
        defect = class_name_of(within[0] if within and role == "anomalous" else own)
    name = path.relative_to(half.folder.path).as_posix()
    return FoundImage(path, half.class_name, half.is_test, defect, name)


def _unread(top: Folder, read: set[Path]) -> Iterator[str]:
    counts: dict[str, int] = {}
    for path in top.all_images:
        if path not in read:
            inside = path.relative_to(top.path).parent
            where = "no folder" if inside == Path() else Path(*inside.parts[:2]).as_posix()
            counts[where] = counts.get(where, 0) + 1
    if counts:
        texts = ", ".join(f"{count_noun(count, 'image')} in {where}" for where, count in counts.items())
        yield f"Not read in {top.path}, as they are in no class: {texts}."
    yield from unused_validation_notes(top)
    yield from top.not_read()


def _words_of(halves: Sequence[_Half], root: Path, maps: dict[Path, tuple[Path, ...]]) -> str:
    """Return the layout in words: `bolt/{train,test}/{bad,good}`."""
    paths = {half.folder.path.relative_to(root) for half in halves}
    first = "" if paths <= {Path(), Path("train"), Path("test")} else "CLASS/"
    splits = list(dict.fromkeys(half.folder.name.casefold() for half in halves if half.is_test is not None))
    inner = _set(sorted({path.parts[0] for path in paths if path.parts})) if _split_first(halves, root) else ""
    if inner:
        first, splits = f"{inner}/CLASS/", []
    elif splits:
        first = ("CLASS/" if any(half.folder.path.parent != root for half in halves) else "") + f"{_set(splits)}/"
    labels = _set(list(dict.fromkeys(label.name for half in halves for label in _labels(half.folder))))
    return f"{first}{labels}/IMAGES{', with maps' if maps else ''}"


def _split_first(halves: Sequence[_Half], root: Path) -> bool:
    tops = {half.path for half in halves_of(Folder(root)).values()}
    return any(half.folder.path.parent in tops for half in halves if half.is_test is not None)


def _set(names: Iterable[str]) -> str:
    listed = list(names)
    shown = [*listed[:5], *(["..."] if len(listed) > 5 else [])]
    return shown[0] if len(shown) == 1 else "{" + ",".join(shown) + "}"

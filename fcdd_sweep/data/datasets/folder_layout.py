"""Which folders of the user's own images hold what; the layouts are described in `folder`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.names import normal_form, printable
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.datasets import folder_advice as advice
from fcdd_sweep.data.datasets.folder_halves import (
    SPLITS,
    exact_halves,
    half_named,
    halves_as_classes,
    halves_of,
    halves_twice,
    unused_validation_notes,
)
from fcdd_sweep.data.datasets.folder_roles import LABEL_FOLDERS
from fcdd_sweep.data.decoding.folders import Folder, UnreadableEntry, problems_of_faults
from fcdd_sweep.data.registry import info

Protocol = Literal["one_vs_rest", "defects"]
_CUSTOM = "custom"
_NAMED = 3


@dataclass(frozen=True)
class ClassFolder:
    """A folder with the images of one class in one split.

    Attributes:
        is_test: None when the images' names decide.
        maps: the folder that mirrors it; it may not exist. None where the layout has no maps.
    """

    class_name: str
    is_test: bool | None
    folder: Folder
    maps: Folder | None = None

    @property
    def folders(self) -> tuple[Folder, ...]:
        """The folders with its images and with its maps."""
        return (self.folder,) if self.maps is None else (self.folder, self.maps)


@dataclass(frozen=True)
class Layout:
    """What the folders show: the folders of each class, and what does not fit the layout.

    Attributes:
        base: the folder that holds the classes, or train and test.
        faults: what cannot be read of the folders that decide on layout and classes.
        is_mixed: whether the folders show two layouts, each with a part of the images.
    """

    base: Folder
    protocol: Protocol
    places: tuple[ClassFolder, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[UnreadableEntry, ...] = ()
    is_mixed: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({place.class_name for place in self.places}))

    @property
    def text(self) -> str:
        """The layout in words, for the plan."""
        if not all(place.is_test is not None for place in self.places):
            return "CLASS/IMAGES, one folder per class"
        labels = "{normal,anomalous}/" if self.protocol == "defects" else ""
        tops = {half.path for half in halves_of(self.base).values()}
        if any(place.folder.path.parent in tops for place in self.places):
            return f"{_halves_text(Folder(path) for path in tops)}/CLASS/{labels}IMAGES"
        first = "" if {place.folder.path.parent for place in self.places} == {self.base.path} else "CLASS/"
        return f"{first}{_halves_text(place.folder for place in self.places)}/{labels}IMAGES"

    @property
    def all_problems(self) -> list[Problem]:
        return [*problems_of_faults(self.faults), *self.problems]


def find_layout(root: Path, protocol: str | None = None) -> Layout:
    """Return the layout of a folder; `protocol` decides where the folders allow two interpretations."""
    base = _base(Folder(root))
    as_classes = protocol == "one_vs_rest"
    halves = halves_of(base)
    class_first = [folder for folder in base.folders if (exact_halves if halves else halves_of)(folder)]
    if halves and class_first:
        mixed = _broken(base, f"both train/test folders and classes with train/test folders ({class_first[0].name})")
        layout = replace(mixed, is_mixed=True)
    elif halves and not as_classes and any(map(_has_labels, halves.values())):
        layout = Layout(base, "defects", _class_places(base, root.name))
    elif halves:
        layout = _split_first(base, halves, as_classes=as_classes)
    elif class_first:
        layout = _class_first(base, class_first)
    else:
        layout = _flat(base, as_classes=as_classes)
    return _checked(_with_problems(layout, halves_twice(base, with_maps=True)), protocol)


def class_name_of(name: str) -> str:
    """Return the name of a class or defect type whose folder has this name."""
    return printable(normal_form(name))


def images_below(folder: Folder | None) -> list[Path]:
    """Return all images below a folder; empty when there is none."""
    return [] if folder is None else folder.all_images


def unread_notes(layout: Layout) -> Iterator[str]:
    """Yield sentences on images below the base that belong to no class, and on files that are no images."""
    texts = []
    for folder, directly in _unread(layout):
        images = folder.images if directly else folder.all_images
        place = folder.path.relative_to(layout.base.path).as_posix()
        where = place if not directly else "no folder" if place == "." else f"{place} itself"
        texts.append(f"{count_noun(len(images), 'image')} in {where}")
    if texts:
        yield printable(f"Not read in {layout.base.path}, as they are in no class: {', '.join(texts)}.")
    yield from map(printable, unused_validation_notes(layout.base))
    yield from map(str, problems_of_unread_maps(layout))
    yield from map(printable, layout.base.not_read())


def problems_of_unread_maps(layout: Layout) -> list[Problem]:
    """Return a problem for each folder that looks like ground-truth maps and is not read."""
    return [
        problem
        for folder, directly in _unread(layout)
        if not directly
        for problem in advice.unread_maps(folder, list(halves_of(Folder(folder.path.parent)).values()))
    ]


def _unread(layout: Layout) -> Iterator[tuple[Folder, bool]]:
    """Yield the topmost folders with images that are not read, and whether only the images directly in it are meant."""
    whole = {folder.path for place in layout.places for folder in place.folders}
    on_the_way = {layout.base.path, *(above for path in whole for above in path.parents)}
    waiting = [layout.base]
    while waiting:
        folder = waiting.pop(0)
        if folder.path in on_the_way and folder.path not in whole:
            waiting += folder.folders
            if folder.images:
                yield folder, True
        elif folder.path not in whole and folder.all_images:
            yield folder, False


def _base(root: Folder) -> Folder:
    """Return `ROOT/custom`, the folder of the paper's layout, when it holds classes, otherwise ROOT."""
    custom = next((folder for folder in root.folders if folder.name == _CUSTOM), None)
    if custom is None or exact_halves(root):
        return root
    halves = halves_of(custom)
    is_class = any(map(_has_labels, halves.values()))
    return custom if halves and not is_class else root


def _halves_text(halves: Iterable[Folder]) -> str:
    """Return the names of halves, with `train` or `test` for one that is missing."""
    names = sorted({half.name.casefold() for half in halves})
    found = [[name for name in names if half_named(name) == split] or [split] for split in SPLITS]
    return f"{{{','.join(name for each in found for name in each)}}}"


def _has_labels(folder: Folder) -> bool:
    return any(child.name.casefold() in LABEL_FOLDERS for child in folder.folders)


def _class_places(folder: Folder, name: str) -> tuple[ClassFolder, ...]:
    maps = {split: _maps_of(folder, half) for split, half in halves_of(folder).items()}
    return tuple(
        ClassFolder(class_name_of(name), split == "test", half, maps[split])
        for split, half in halves_of(folder).items()
    )


def _maps_of(above: Folder, half: Folder) -> Folder:
    """Return the folder beside `train` or `test` that mirrors it; it may not exist."""
    wanted = f"{half.name}_maps".casefold()
    found = (folder for folder in above.folders if folder.name.casefold() == wanted)
    return next(found, Folder(above.path / f"{half.name}_maps"))


def _class_first(base: Folder, folders: list[Folder]) -> Layout:
    places = [place for folder in folders for place in _class_places(folder, folder.name)]
    others = [folder for folder in base.folders if folder not in folders]
    allowed = "CLASS/train and CLASS/test"
    problems = [
        Problem(
            str(folder.path), "the class has neither train nor test", allowed, "Sort its images, or move it elsewhere"
        )
        for folder in others
        if folder.all_images
    ]
    problems += [problem for folder in folders for problem in halves_twice(folder, with_maps=True)]
    return Layout(base, "defects", tuple(places), tuple(problems), faults=_faults([base, *base.folders]))


def _split_first(base: Folder, halves: dict[str, Folder], *, as_classes: bool) -> Layout:
    maps = {split: _maps_of(base, half) for split, half in halves.items()}
    places = tuple(
        ClassFolder(class_name_of(folder.name), split == "test", folder, _child_of(maps[split], folder.name))
        for split, half in halves.items()
        for folder in half.folders
        if folder.all_images
    )
    loose = [
        Problem(str(half.path), "images are in no class folder", f"{half.name}/CLASS/IMAGES", _loose_step(half))
        for half in halves.values()
        if half.images
    ]
    labeled = not as_classes and any(_has_labels(place.folder) for place in places)
    problems = [*loose, *_classes_of_maps_alone(places, maps.values())]
    problems += [problem for half in halves.values() for problem in halves_twice(half, with_maps=True)]
    if not labeled and not as_classes:
        problems += advice.of_split_classes(base, list(halves.values()))
    protocol: Protocol = "defects" if labeled else "one_vs_rest"
    deciding = [base, *(each for half in halves.values() for each in (half, *half.folders))]
    return Layout(base, protocol, places, tuple(problems), faults=_faults(deciding))


def _loose_step(half: Folder) -> str:
    anomalous = f", or to {half.name}/bad where they are anomalous" if half_named(half.name) == "test" else ""
    return f"If all show one kind of part, move them to {half.name}/good{anomalous}; if not, sort them into classes"


def _child_of(folder: Folder, name: str) -> Folder:
    """Return the folder of this name in another, in either spelling of an accent; it may not exist."""
    found = (child for child in folder.folders if normal_form(child.name) == normal_form(name))
    return next(found, Folder(folder.path / name))


def _classes_of_maps_alone(places: tuple[ClassFolder, ...], maps: Iterable[Folder]) -> list[Problem]:
    known = {place.maps for place in places}
    return [
        Problem(str(folder.path), "holds maps of a class that has no images", "a mirror of train or test", "Remove it")
        for half in maps
        for folder in half.folders
        if folder not in known and folder.all_images
    ]


def _flat(base: Folder, *, as_classes: bool) -> Layout:
    places = tuple(ClassFolder(class_name_of(f.name), None, f) for f in base.folders if f.all_images)
    if not places and (faults := _faults(base.below)):
        return Layout(base, "defects", (), faults=faults)  # what cannot be read may be the images
    if not places:
        return _broken(base, "no folder with images" if not base.images else "images, but in no folders")
    problems = [] if as_classes else halves_as_classes(base) or advice.of_classes(base)
    note = "Fixed split by file name: about a third of each class's images are test images."
    faults = _faults([base, *base.folders])
    return Layout(base, "one_vs_rest", places, tuple(problems), notes=(note,), faults=faults)


def _faults(folders: Iterable[Folder]) -> tuple[UnreadableEntry, ...]:
    return tuple(dict.fromkeys(fault for folder in folders for fault in folder.faults))


def _with_problems(layout: Layout, problems: list[Problem]) -> Layout:
    return replace(layout, problems=(*layout.problems, *problems))


def _broken(base: Folder, found: str) -> Layout:
    passed_over = " ".join(base.not_read())
    what = f"found {found}. {passed_over}".rstrip(" .")
    problem = Problem(str(base.path), what, next_step=info("folder").get)
    return Layout(base, "defects", (), (problem,), faults=_faults(base.below))


def _checked(layout: Layout, protocol: str | None) -> Layout:
    if layout.all_problems or protocol in (None, layout.protocol):
        return layout
    what = f"{protocol} was asked for, but the folders are laid out as {layout.protocol}"
    problem = Problem("dataset.protocol", what, next_step="Remove the key, or move folders")
    return Layout(layout.base, layout.protocol, (), (problem,))

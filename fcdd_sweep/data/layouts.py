"""Which layout a folder of the user's own images follows; `data.folder` describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.data.files import image_files, images_directly_in, normal_form, visible_folders
from fcdd_sweep.data.registry import info

Protocol = Literal["one_vs_rest", "defects"]

_SPLITS = ("train", "test")
NORMAL = frozenset({"normal", "nominal", "good"})
LABELS = NORMAL | {"anomalous"}
LABELS_SHOWN = "normal (or nominal, good) and anomalous"


@dataclass(frozen=True)
class Place:
    """A folder with the images of one class in one split.

    Attributes:
        is_test: None when the images' names decide.
        maps: the folder that mirrors it; it may not exist.
    """

    class_name: str
    is_test: bool | None
    folder: Path
    maps: Path | None = None


@dataclass(frozen=True)
class Layout:
    """What the folders show: where each class lies, and what does not fit."""

    protocol: Protocol
    places: tuple[Place, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({place.class_name for place in self.places}))


def find_layout(root: Path, protocol: str | None = None) -> Layout:
    """Which of the layouts a folder follows. `protocol` decides where the folders allow two readings."""
    base = _base(root)
    as_classes = protocol == "one_vs_rest"
    halves, class_first = _halves(base), [folder for folder in visible_folders(base) if _halves(folder)]
    if halves and class_first:
        layout = _broken(base, f"both train/test folders and classes with train/test folders ({class_first[0].name})")
    elif halves and not as_classes and any(map(_has_labels, halves.values())):
        layout = Layout("defects", _class_places(base, normal_form(root.name)))
    elif halves:
        layout = _split_first(base, halves, as_classes=as_classes)
    elif class_first:
        layout = _class_first(base, class_first)
    elif not as_classes and _has_labels(base):
        layout = _broken(base, f"{LABELS_SHOWN} folders, but no train and test")
    else:
        layout = _flat(base)
    return _checked(layout, protocol)


def images_below(folder: Path | None) -> list[Path]:
    """All images below a folder; empty when there is no such folder."""
    return image_files(folder) if folder is not None and folder.is_dir() else []


def _base(root: Path) -> Path:
    """`ROOT/custom` when it holds classes, as the paper's layout has it, otherwise ROOT."""
    custom = root / "custom"
    halves = _halves(custom)
    is_class = any(map(_has_labels, halves.values()))
    return custom if halves and not is_class and not _halves(root) else root


def _halves(folder: Path) -> dict[str, Path]:
    """The `train` and `test` folders in a folder, by those names."""
    found = {child.name.casefold(): child for child in visible_folders(folder)}
    return {name: found[name] for name in _SPLITS if name in found}


def _has_labels(folder: Path) -> bool:
    return any(child.name.casefold() in LABELS for child in visible_folders(folder))


def is_normal(folder: Path) -> bool:
    return folder.name.casefold() in NORMAL


def _class_places(folder: Path, name: str) -> tuple[Place, ...]:
    halves = _halves(folder)
    return tuple(Place(name, split == "test", half, _maps_of(half)) for split, half in halves.items())


def _maps_of(half: Path) -> Path:
    """The folder beside `train` or `test` that mirrors it."""
    wanted = f"{half.name}_maps".casefold()
    found = [folder for folder in visible_folders(half.parent) if folder.name.casefold() == wanted]
    return found[0] if found else half.parent / wanted


def _class_first(base: Path, folders: list[Path]) -> Layout:
    places = [place for folder in folders for place in _class_places(folder, normal_form(folder.name))]
    others = [folder for folder in visible_folders(base) if folder not in folders]
    allowed = "CLASS/train and CLASS/test"
    problems = [
        Problem(str(folder), "the class has neither train nor test", allowed, "Sort its images, or move it elsewhere")
        for folder in others
        if images_below(folder)
    ]
    return Layout("defects", tuple(places), tuple(problems))


def _split_first(base: Path, halves: dict[str, Path], *, as_classes: bool) -> Layout:
    places = tuple(
        Place(normal_form(folder.name), split == "test", folder, _maps_of(half) / folder.name)
        for split, half in halves.items()
        for folder in visible_folders(half)
        if images_below(folder)
    )
    loose = [
        Problem(str(half), "images lie in no class", f"{half.name}/CLASS/IMAGES", "Sort them into classes")
        for half in halves.values()
        if images_directly_in(half)
    ]
    labelled = not as_classes and any(_has_labels(place.folder) for place in places)
    maps = [_maps_of(half) for half in halves.values()]
    problems = [*loose, *_classes_of_maps_alone(places, maps)]
    protocol: Protocol = "defects" if labelled else "one_vs_rest"
    return Layout(protocol, places, tuple(problems), _unread(base, [*halves.values(), *maps]))


def _classes_of_maps_alone(places: tuple[Place, ...], maps: list[Path]) -> list[Problem]:
    known = {place.maps for place in places}
    return [
        Problem(str(folder), "holds maps of a class that has no images", "a mirror of train or test", "Remove it")
        for half in maps
        for folder in visible_folders(half)
        if folder not in known and images_below(folder)
    ]


def _flat(base: Path) -> Layout:
    places = tuple(Place(normal_form(f.name), None, f) for f in visible_folders(base) if images_below(f))
    if not places:
        return _broken(base, "no folder with images" if not images_directly_in(base) else "images, but in no folders")
    note = "Fixed split by file name: about a third of each class's images are test images."
    loose = _unsorted(base) if images_directly_in(base) else ()
    return Layout("one_vs_rest", places, notes=(note, *loose))


def _unsorted(base: Path) -> tuple[str, ...]:
    return (f"{len(images_directly_in(base))} images lie directly in {base}, in no class, and are not read.",)


def _unread(base: Path, read: list[Path]) -> tuple[str, ...]:
    names = [folder.name for folder in visible_folders(base) if folder not in read and images_below(folder)]
    return (f"Folders beside train and test are not read: {', '.join(names)}.",) if names else ()


def _broken(base: Path, found: str) -> Layout:
    return Layout("defects", (), (Problem(str(base), f"found {found}", next_step=info("folder").get),))


def _checked(layout: Layout, protocol: str | None) -> Layout:
    if layout.problems or protocol in (None, layout.protocol):
        return layout
    what = f"{protocol} was asked for, but the folders are laid out as {layout.protocol}"
    return Layout(
        layout.protocol, (), (Problem("dataset.protocol", what, next_step="Remove the key, or move folders"),)
    )

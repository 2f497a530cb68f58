"""The user's own images in one of several folder layouts, which is found from the folders.

`defects`, each class with its own anomalies; NORMAL is `normal`, `nominal` or `good`:

    ROOT/CLASS/{train,test}/{NORMAL,anomalous}/IMAGES       class first
    ROOT/{train,test}/CLASS/{NORMAL,anomalous}/IMAGES       split first
    ROOT/{train,test}/{NORMAL,anomalous}/IMAGES             a single class, named like ROOT

`one_vs_rest`, where all other classes are the anomalies:

    ROOT/{train,test}/CLASS/IMAGES
    ROOT/CLASS/IMAGES       fixed split: an image is in the test set when the SHA-256 of CLASS/NAME, as a share of its
                            range, is below a third; no other file matters

ROOT may also be the parent of a folder `custom` with one of these layouts. Images may be in subfolders; a folder below
`anomalous` names the type of its defects (the default type is `anomalous`). The case of `train`, `test`, NORMAL and
`anomalous` does not matter. Training anomalies are optional, and so is the test half.

Maps are optional for each image. A folder `train_maps` or `test_maps` beside `train` or `test` mirrors it: the map of
`test/CLASS/anomalous/crack/7.jpg` is `test_maps/CLASS/anomalous/crack/7.png`, with the same name before the suffix, in
any format, 255 where anomalous and 0 elsewhere, at the size of its image. Maps of normal images are not read. Layouts
without `train` and `test` have no maps.

`dataset.protocol: one_vs_rest` reads folders called `normal` and `anomalous` as classes.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.files import (
    file_record,
    image_files,
    images_directly_in,
    name_share,
    normal_form,
    visible_folders,
)
from fcdd_sweep.data.records import DatasetFacts, DatasetScan, Record, wanted_classes
from fcdd_sweep.data.registry import info

Protocol = Literal["one_vs_rest", "defects"]
_SPLITS = ("train", "test")
NORMAL = frozenset({"normal", "nominal", "good"})
LABEL_FOLDERS = NORMAL | {"anomalous"}
LABEL_FOLDERS_TEXT = "normal (or nominal, good) and anomalous"


@dataclass(frozen=True)
class ClassFolder:
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
    """What the folders show: the folders of each class, and what does not fit the layout."""

    protocol: Protocol
    places: tuple[ClassFolder, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({place.class_name for place in self.places}))


def find_layout(root: Path, protocol: str | None = None) -> Layout:
    """Return the layout of a folder; `protocol` decides where the folders allow two interpretations."""
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
        layout = _broken(base, f"{LABEL_FOLDERS_TEXT} folders, but no train and test")
    else:
        layout = _flat(base)
    return _checked(layout, protocol)


def images_below(folder: Path | None) -> list[Path]:
    """Return all images below a folder; empty when the folder does not exist."""
    return image_files(folder) if folder is not None and folder.is_dir() else []


def _base(root: Path) -> Path:
    """Return `ROOT/custom`, the folder of the paper's layout, when it holds classes, otherwise ROOT."""
    custom = root / "custom"
    halves = _halves(custom)
    is_class = any(map(_has_labels, halves.values()))
    return custom if halves and not is_class and not _halves(root) else root


def _halves(folder: Path) -> dict[str, Path]:
    """Return the `train` and `test` folders in a folder by name."""
    found = {child.name.casefold(): child for child in visible_folders(folder)}
    return {name: found[name] for name in _SPLITS if name in found}


def _has_labels(folder: Path) -> bool:
    return any(child.name.casefold() in LABEL_FOLDERS for child in visible_folders(folder))


def is_normal(folder: Path) -> bool:
    return folder.name.casefold() in NORMAL


def _class_places(folder: Path, name: str) -> tuple[ClassFolder, ...]:
    halves = _halves(folder)
    return tuple(ClassFolder(name, split == "test", half, _maps_of(half)) for split, half in halves.items())


def _maps_of(half: Path) -> Path:
    """Return the folder beside `train` or `test` that mirrors it; it may not exist."""
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
        ClassFolder(normal_form(folder.name), split == "test", folder, _maps_of(half) / folder.name)
        for split, half in halves.items()
        for folder in visible_folders(half)
        if images_below(folder)
    )
    loose = [
        Problem(str(half), "images are in no class folder", f"{half.name}/CLASS/IMAGES", "Sort them into classes")
        for half in halves.values()
        if images_directly_in(half)
    ]
    labeled = not as_classes and any(_has_labels(place.folder) for place in places)
    maps = [_maps_of(half) for half in halves.values()]
    problems = [*loose, *_classes_of_maps_alone(places, maps)]
    protocol: Protocol = "defects" if labeled else "one_vs_rest"
    return Layout(protocol, places, tuple(problems), _unread(base, [*halves.values(), *maps]))


def _classes_of_maps_alone(places: tuple[ClassFolder, ...], maps: list[Path]) -> list[Problem]:
    known = {place.maps for place in places}
    return [
        Problem(str(folder), "holds maps of a class that has no images", "a mirror of train or test", "Remove it")
        for half in maps
        for folder in visible_folders(half)
        if folder not in known and images_below(folder)
    ]


def _flat(base: Path) -> Layout:
    places = tuple(ClassFolder(normal_form(f.name), None, f) for f in visible_folders(base) if images_below(f))
    if not places:
        return _broken(base, "no folder with images" if not images_directly_in(base) else "images, but in no folders")
    note = "Fixed split by file name: about a third of each class's images are test images."
    loose = _unsorted(base) if images_directly_in(base) else ()
    return Layout("one_vs_rest", places, notes=(note, *loose))


def _unsorted(base: Path) -> tuple[str, ...]:
    return (f"{len(images_directly_in(base))} images are directly in {base}, in no class folder, and are not read.",)


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


TEST_SHARE = 1 / 3
"""Share of the images that a layout without `train` and `test` uses for the test."""


def discover(dataset: Dataset) -> DatasetFacts:
    """Return protocol and classes, and whether there are maps and training anomalies.

    Raises:
        DataError: the folders match none of the layouts.
    """
    layout = find_layout(_root(dataset), dataset.protocol)
    if layout.problems:
        raise DataError(layout.problems)
    training = [place for place in layout.places if place.is_test is not True]
    anomalies = (label for place in training for label in visible_folders(place.folder) if not is_normal(label))
    return DatasetFacts(
        protocol=layout.protocol,
        classes=layout.classes,
        maps=any(images_below(place.maps) for place in layout.places),
        trains_with_anomalies=any(images_below(label) for label in anomalies)
        if layout.protocol == "defects"
        else len(layout.classes) > 1,
    )


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the images of the wanted classes (of all classes in `one_vs_rest`), in the order of the folders."""
    root = _root(dataset)
    layout = find_layout(root, dataset.protocol)
    if layout.problems:
        return DatasetScan(problems=layout.problems)
    wanted = wanted_classes(dataset, layout.classes)
    labeled = layout.protocol == "defects"
    places = [place for place in layout.places if not labeled or place.class_name in wanted]
    problems = [problem for place in places for problem in _place_problems(place, labeled=labeled)]
    records = tuple(record for place in places for record in _records(root, place, labeled=labeled))
    problems += _untrained(root, records, wanted)
    return DatasetScan(records, tuple(problems), layout.notes, _gaps(layout.protocol, records, wanted))


def _root(dataset: Dataset) -> Path:
    assert dataset.root is not None  # the loader has checked it
    return dataset.root


def _place_problems(place: ClassFolder, *, labeled: bool) -> list[Problem]:
    return [*(_label_problems(place.folder) if labeled else []), *_map_problems(place)]


def _label_problems(folder: Path) -> list[Problem]:
    strange = [
        child for child in visible_folders(folder) if child.name.casefold() not in LABEL_FOLDERS and images_below(child)
    ]
    problems = [
        Problem(
            str(child),
            "is neither normal nor anomalous",
            LABEL_FOLDERS_TEXT,
            closest(child.name, sorted(LABEL_FOLDERS)),
        )
        for child in strange
    ]
    if images_directly_in(folder):
        what = f"{len(images_directly_in(folder))} images are neither in normal nor in anomalous"
        problems.append(Problem(str(folder), what, LABEL_FOLDERS_TEXT, "Move them into one of the two"))
    return problems


def _map_problems(place: ClassFolder) -> list[Problem]:
    maps = images_below(place.maps)
    by_key: dict[str, list[Path]] = {}
    for image in image_files(place.folder):
        by_key.setdefault(_key(image, place.folder), []).append(image)
    step = _expected_name(place, by_key, maps) if any(_key(path, place.maps) not in by_key for path in maps) else ""
    problems, seen = [], set()
    for path in maps:
        key = _key(path, place.maps)
        images = by_key.get(key, [])
        if not images:
            allowed = f"an image below {place.folder} with this name"
            problems.append(Problem(str(path), "the map has no image", allowed, step))
        elif len(images) > 1 or key in seen:
            what = f"it is not clear which map belongs to which image ({', '.join(image.name for image in images)})"
            problems.append(Problem(str(path), what, "one image and one map of a name", "Rename the files"))
        seen.add(key)
    return problems


def _expected_name(place: ClassFolder, by_key: Mapping[str, Sequence[Path]], maps: Sequence[Path]) -> str:
    """Return the renaming that gives an image its map, for an image that has none, as an example for all."""
    assert place.maps is not None  # there are maps
    mapped = {_key(path, place.maps) for path in maps}
    misnamed = next(path for path in maps if _key(path, place.maps) not in by_key)
    own = _key(misnamed, place.maps)
    free = [
        key for key, images in by_key.items() if key not in mapped and not is_normal(place.folder / key.split("/")[0])
    ]
    inside = [key for key in free if key.rpartition("/")[2] in own.rpartition("/")[2]]
    (key,) = difflib.get_close_matches(own, inside or free, n=1, cutoff=0.0) or [""]
    if not key:
        return "Every image has its map, or needs none: remove the map"
    top = place.folder.parent
    while top not in place.maps.parents:
        top = top.parent
    image, renamed = by_key[key][0], place.maps / f"{key}{misnamed.suffix}"
    return f"Name maps as their images: {image.relative_to(top)} -> {renamed.relative_to(top)}"


def _records(root: Path, place: ClassFolder, *, labeled: bool) -> Iterable[Record]:
    maps = {_key(path, place.maps): path for path in images_below(place.maps)}
    for path in image_files(place.folder):
        defect = _defect(path.relative_to(place.folder)) if labeled else ""
        yield file_record(
            root,
            path,
            class_name=place.class_name,
            is_test=_is_test(place, path) if place.is_test is None else place.is_test,
            defect=defect,
            mask=maps.get(_key(path, place.folder)) if defect or not labeled else None,
        )


def _defect(path: Path) -> str:
    """Return the defect type of `anomalous/TYPE/.../NAME` or `anomalous/NAME`; empty for `normal/NAME`."""
    if not path.parts[0].casefold() == "anomalous":
        return ""
    return normal_form(path.parts[1]) if len(path.parts) > 2 else "anomalous"


def _is_test(place: ClassFolder, path: Path) -> bool:
    return name_share(f"{place.class_name}/{path.relative_to(place.folder).as_posix()}") < TEST_SHARE


def _untrained(root: Path, records: tuple[Record, ...], wanted: tuple[str, ...]) -> list[Problem]:
    trained = {record.class_name for record in records if not record.is_test and not record.is_anomalous}
    next_step = "Add normal images to its training half, or leave the class out of dataset.classes"
    return [
        Problem(str(root), f"class '{name}' has no normal training image", next_step=next_step)
        for name in wanted
        if name not in trained
    ]


def _gaps(protocol: str, records: tuple[Record, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return sentences on what the test halves of the wanted classes lack: metrics that need it are undefined."""
    nominal = Counter(record.class_name for record in records if record.is_test and not record.is_anomalous)
    anomalous = Counter(record.class_name for record in records if record.is_test and record.is_anomalous)
    if protocol == "one_vs_rest":
        anomalous = Counter({name: nominal.total() - nominal[name] for name in wanted})
    missing = (("nominal test images", nominal), ("test anomalies", anomalous))
    return tuple(f"Class '{name}' has no {what}." for name in wanted for what, count in missing if not count[name])


def _key(path: Path, folder: Path | None) -> str:
    """Return what an image and its map have in common: the path below the mirrored folder, without suffix."""
    assert folder is not None
    return normal_form(path.relative_to(folder).with_suffix("").as_posix())

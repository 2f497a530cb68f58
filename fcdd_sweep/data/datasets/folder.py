"""The user's own images in one of several folder layouts, which is found from the folders.

`defects`, each class with its own anomalies; NORMAL is `normal`, `nominal` or `good`:

    ROOT/CLASS/{train,test}/{NORMAL,anomalous}/IMAGES       class first
    ROOT/{train,test}/CLASS/{NORMAL,anomalous}/IMAGES       split first
    ROOT/{train,test}/{NORMAL,anomalous}/IMAGES             a single class, named like ROOT

`one_vs_rest`, where all other classes are the anomalies:

    ROOT/{train,test}/CLASS/IMAGES
    ROOT/CLASS/IMAGES       fixed split: an image is in the test set when the SHA-256 of CLASS/NAME, as a share of its
                            range, is below a third; see `split_rule`. Nearly identical images stay together, see
                            `near_groups`

ROOT may also be the parent of a folder `custom` with one of these layouts. Images may be in subfolders; a folder below
`anomalous` names the type of its defects (the default type is `anomalous`). The case of `train`, `test`, NORMAL and
`anomalous` does not matter. Training anomalies are optional, and so is the test half. `folder_halves`
has other names of the halves.

Maps are optional for each image. A folder `train_maps` or `test_maps` beside `train` or `test` mirrors it: the map of
`test/CLASS/anomalous/crack/7.jpg` is `test_maps/CLASS/anomalous/crack/7.png`, with the same name before the suffix, in
any format, 255 where anomalous and 0 elsewhere, at the size of its image. Maps of normal images are not read. Layouts
without `train` and `test` have no maps.

ROOT may be a table, see `image_table`. Trees whose names do not fit are read as `part_trees` describes, where that
leaves no doubt. `dataset.options.layout` names the layout: `labels` and `classes` are the two above, `mvtec`,
`good_bad` and `flat` those of `part_trees`.
`dataset.protocol: one_vs_rest` and `classes` read folders called `normal` and `anomalous` as classes.

Names that are not UTF-8 text, or that contain control characters, are escaped in all results; see `config.names`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import normal_form, printable
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets import folder_advice as advice
from fcdd_sweep.data.datasets.folder_layout import (
    ClassFolder,
    Layout,
    Protocol,
    class_name_of,
    find_layout,
    images_below,
    problems_of_unread_maps,
    unread_notes,
)
from fcdd_sweep.data.datasets.folder_roles import NORMAL, is_normal
from fcdd_sweep.data.datasets.image_table import is_table, read_image_table
from fcdd_sweep.data.datasets.near_groups import MOST_COMPARED, UnsplitImage, sides_of
from fcdd_sweep.data.datasets.part_trees import FoundImages, PartsLayout, find_parts
from fcdd_sweep.data.datasets.split_rule import SplitRule, split_rule
from fcdd_sweep.data.decoding.files import file_record
from fcdd_sweep.data.decoding.folders import Folder, problems_of_faults
from fcdd_sweep.data.decoding.pixels import may_have_pages
from fcdd_sweep.data.records import DatasetFacts, DatasetScan, Record, wanted_classes

_TOGETHER = (
    f"images that are nearly identical stay together, or identical ones where a class has over {MOST_COMPARED:,} images"
)
_LAYOUT = "dataset.options.layout"
_LAYOUTS = {
    "mvtec": "[CLASS/]{train,test}/{good,DEFECT}/IMAGES, maps in ground_truth/DEFECT",
    "good_bad": "[CLASS/][{train,test}/]{good,bad}/IMAGES, or {train,test}/CLASS/{good,bad}/IMAGES",
    "flat": "images directly in dataset.root",
}


def discover(dataset: Dataset) -> DatasetFacts:
    """Return protocol and classes, and whether there are maps and training anomalies.

    Raises:
        DataError: the folders match none of the layouts.
    """
    found, rule = _found(dataset), split_rule(dataset)
    if isinstance(found, FoundImages):
        sides = _sides_of_images(found, rule)
        trains = any(image.defect and not sides[image.path] for image in found.images)
        return DatasetFacts("defects", found.classes, maps=bool(found.maps), trains_with_anomalies=trains)
    if problems := found.all_problems:
        raise DataError(problems)
    training = [place for place in found.places if place.is_test is not True]
    anomalies = (label for place in training for label in place.folder.folders if not is_normal(label))
    return DatasetFacts(
        protocol=found.protocol,
        classes=found.classes,
        maps=any(images_below(place.maps) for place in found.places),
        trains_with_anomalies=any(label.all_images for label in anomalies)
        if found.protocol == "defects"
        else len(found.classes) > 1,
    )


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the images of the wanted classes (of all classes in `one_vs_rest`), in the order of the folders."""
    root, found, rule = _root(dataset), _found(dataset), split_rule(dataset)
    if isinstance(found, FoundImages):
        return _scan_images(dataset, found, rule)
    layout = found
    if problems := layout.all_problems:
        return DatasetScan(problems=tuple(problems))
    wanted = wanted_classes(dataset, layout.classes)
    labeled = layout.protocol == "defects"
    places = [place for place in layout.places if not labeled or place.class_name in wanted]
    problems = problems_of_faults(fault for place in places for each in place.folders for fault in each.all_faults)
    unfit = [problem for place in places for problem in _place_problems(place, labeled=labeled)]
    problems += [*unfit, *(problems_of_unread_maps(layout) if unfit else [])]
    sides = _sides_of_places(places, rule)
    records = tuple(record for place in places for record in _records(root, place, sides, labeled=labeled))
    problems += _untrained(root, records, wanted)
    gaps = _gaps(layout.protocol, records, wanted)
    unused = _unused_rule(dataset, is_split=any(place.is_test is None for place in layout.places))
    pages = tuple(path for place in places for path in place.folder.all_images if may_have_pages(path))
    return DatasetScan(
        records, tuple(problems), layout.notes, (*gaps, *unread_notes(layout), *unused), pages, layout=layout.text
    )


def _scan_images(dataset: Dataset, found: FoundImages, rule: SplitRule) -> DatasetScan:
    """Return what a scan finds in a table or in a tree of other words."""
    root = _root(dataset)
    base = root.parent if root.is_file() else root
    wanted = wanted_classes(dataset, found.classes)
    images = [image for image in found.images if image.class_name in wanted]
    problems = [*problems_of_faults(Folder(root).all_faults if base == root else ()), *found.problems]
    sides = _sides_of_images(found, rule)
    records = tuple(
        file_record(
            base,
            image.path,
            class_name=image.class_name,
            is_test=sides[image.path],
            defect=image.defect,
            masks=found.maps.get(image.path, ()),
        )
        for image in images
    )
    problems += [] if problems else _untrained(root, records, wanted)
    is_split = any(image.is_test is None for image in found.images)
    notes = (f"Read as {found.layout}.", *((_split_note(rule),) if is_split else ()))
    gaps = (*_gaps("defects", records, wanted), *map(printable, found.gaps), *_unused_rule(dataset, is_split=is_split))
    pages = tuple(image.path for image in images if may_have_pages(image.path))
    return DatasetScan(records, tuple(problems), tuple(map(printable, notes)), gaps, pages, layout=found.layout)


def _found(dataset: Dataset) -> Layout | FoundImages:
    """Return what the folders hold: by the layout that is asked for, else by the first that fits.

    Raises:
        DataError: the layout that is asked for does not fit.
    """
    root, asked = _root(dataset), str(dataset.options.get("layout", "auto"))
    if is_table(root):
        return read_image_table(root)
    if asked != "auto":
        implied: Protocol = "one_vs_rest" if asked == "classes" else "defects"
        if dataset.protocol not in (None, implied):
            what = f"the layout '{asked}' is always {implied}, found dataset.protocol: {dataset.protocol}"
            raise DataError(Problem(_LAYOUT, what, next_step="Remove one of the two keys"))
        if asked in ("classes", "labels"):
            return find_layout(root, implied)
        if found := find_parts(root, cast(PartsLayout, asked)):
            return found
        what = f"{root} is not laid out as '{asked}'"
        raise DataError(Problem(_LAYOUT, what, _LAYOUTS[asked], "Remove the key to see what the folders look like"))
    layout = find_layout(root, dataset.protocol)
    if dataset.protocol == "one_vs_rest" or not _may_be_other(layout):
        return layout
    return find_parts(root, "auto") or layout


def _may_be_other(layout: Layout) -> bool:
    """Return whether images would be refused in this layout for the names of their folders or files."""
    if layout.is_mixed:  # another reading would leave out a part of the images
        return False
    labeled = layout.protocol == "defects"
    return bool(layout.problems) or any(_name_problems(place, labeled=labeled) for place in layout.places)


def _sides_of_images(found: FoundImages, rule: SplitRule) -> dict[Path, bool]:
    """Return by file whether an image is a test image."""
    unsplit = (
        UnsplitImage(image.path, image.class_name, image.name, image.group, bool(image.defect))
        for image in found.images
        if image.is_test is None
    )
    return {image.path: bool(image.is_test) for image in found.images} | sides_of(unsplit, rule)


def _sides_of_places(places: Iterable[ClassFolder], rule: SplitRule) -> dict[Path, bool]:
    """Return whether images of folders without a split are test images."""
    return sides_of(
        (
            UnsplitImage(path, place.class_name, path.relative_to(place.folder.path).as_posix())
            for place in places
            if place.is_test is None
            for path in place.folder.all_images
        ),
        rule,
    )


def _split_note(rule: SplitRule) -> str:
    if rule.pattern is not None:
        return f"Fixed split by the groups that {rule.pattern.pattern} finds: about a third are test images."
    return (
        "Fixed split by file name: about a third of each class's nominal images and all anomalous are test images; "
        f"{_TOGETHER}."
    )


def _unused_rule(dataset: Dataset, *, is_split: bool) -> tuple[str, ...]:
    given = [f"dataset.options.{name}" for name in ("group", "split_seed") if dataset.options.get(name)]
    if is_split or not given:
        return ()
    return (f"{' and '.join(given)} changes nothing: the data set is split already.",)


def _root(dataset: Dataset) -> Path:
    assert dataset.root is not None  # the loader has checked it
    return dataset.root


def _name_problems(place: ClassFolder, *, labeled: bool) -> list[Problem]:
    maps = None if place.maps is None else place.maps.path
    labels = advice.label_problems(place.folder, maps) if labeled and maps is not None else []
    return [*labels, *advice.maps_among_images(place.folder, maps)]


def _place_problems(place: ClassFolder, *, labeled: bool) -> list[Problem]:
    return [*_name_problems(place, labeled=labeled), *_map_problems(place)]


def _map_problems(place: ClassFolder) -> list[Problem]:
    maps = images_below(place.maps)
    by_key: dict[str, list[Path]] = {}
    for image in place.folder.all_images:
        by_key.setdefault(_key(image, place.folder.path), []).append(image)
    step = _expected_name(place, by_key, maps) if any(_map_key(path, place) not in by_key for path in maps) else ""
    problems, seen = [], set()
    for path in maps:
        key = _map_key(path, place)
        images = by_key.get(key, [])
        if not images:
            allowed = f"an image below {place.folder.path} with this name"
            problems.append(Problem(str(path), "the map has no image", allowed, step))
        elif len(images) > 1 or key in seen:
            what = f"it is not clear which map belongs to which image ({', '.join(image.name for image in images)})"
            problems.append(Problem(str(path), what, "one image and one map of a name", "Rename the files"))
        seen.add(key)
    return problems


def _expected_name(place: ClassFolder, by_key: Mapping[str, Sequence[Path]], maps: Sequence[Path]) -> str:
    """Return the renaming that gives an image its map, for an image that has none, as an example for all."""
    assert place.maps is not None  # there are maps
    mapped = {_map_key(path, place) for path in maps}
    misnamed = next(path for path in maps if _map_key(path, place) not in by_key)
    own = _map_key(misnamed, place)
    free = [key for key in by_key if key not in mapped and key.split("/")[0].casefold() not in NORMAL]
    inside = [key for key in free if key.rpartition("/")[2] in own.rpartition("/")[2]]
    (key,) = difflib.get_close_matches(own, inside or free, n=1, cutoff=0.0) or [""]
    if not key:
        return "Every image has its map, or needs none: remove the map"
    top = place.folder.path.parent
    while top not in place.maps.path.parents:
        top = top.parent
    image, renamed = by_key[key][0], place.maps.path / f"{key}{misnamed.suffix}"
    return f"Name maps as their images: {image.relative_to(top)} -> {renamed.relative_to(top)}"


def _records(root: Path, place: ClassFolder, sides: Mapping[Path, bool], *, labeled: bool) -> Iterable[Record]:
    maps = {_map_key(path, place): path for path in images_below(place.maps)}
    for path in place.folder.all_images:
        inside = path.relative_to(place.folder.path)
        defect = _defect(inside) if labeled else ""
        mask = maps.get(_key(path, place.folder.path)) if defect or not labeled else None
        yield file_record(
            root,
            path,
            class_name=place.class_name,
            is_test=sides[path] if place.is_test is None else place.is_test,
            defect=defect,
            masks=() if mask is None else (mask,),
        )


def _defect(path: Path) -> str:
    """Return the defect type of `anomalous/TYPE/.../NAME` or `anomalous/NAME`; empty for `normal/NAME`."""
    if not path.parts[0].casefold() == "anomalous":
        return ""
    return class_name_of(path.parts[1]) if len(path.parts) > 2 else "anomalous"


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


def _map_key(path: Path, place: ClassFolder) -> str:
    assert place.maps is not None  # a map is in it
    return _key(path, place.maps.path)


def _key(path: Path, folder: Path) -> str:
    """Return what an image and its map have in common: the path below the mirrored folder, without suffix."""
    return normal_form(path.relative_to(folder).with_suffix("").as_posix())

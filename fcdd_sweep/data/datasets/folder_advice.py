"""Trees of other layouts: what they look like, and the moves of folders that make them readable.

Folders that look like anomalous images or like ground-truth maps must not become classes in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.text import choice_list, count_noun
from fcdd_sweep.data.datasets.folder_halves import half_named, halved_below
from fcdd_sweep.data.datasets.folder_roles import LABEL_FOLDERS, Role, is_label, role_of
from fcdd_sweep.data.datasets.map_names import are_maps_of, bare_names, bares_of, is_map_of, stems_of
from fcdd_sweep.data.decoding.folders import Folder

LABEL_FOLDERS_TEXT = "normal (or nominal, good) and anomalous"
_ANNOTATED = re.compile(r"[ _.-]?annotated$", re.IGNORECASE)
_CLOSE = 0.8
_NAMED = 4
_AS_CLASSES = "To read the folders as classes, set dataset.options.layout: classes"
_GOOD_AND_BAD = "good/IMAGES and bad/IMAGES, with or without train and test"
_AS_DEFECTS = "If it is a type of defect, set dataset.options.layout: mvtec"
_PARTS: frozenset[Role | None] = frozenset({"normal", "anomalous"})
Move = tuple[str, str]
"""From and to, relative to the data set's base."""


def of_classes(base: Folder) -> list[Problem]:
    """Return a problem for folders that look like parts of a class and would be read as classes, or within classes.

    Images beside classes are one, too, as they would not be read.
    """
    children = [folder for folder in base.folders if folder.all_images]
    roles = set(map(role_of, children))
    if not roles.isdisjoint(_PARTS):
        if base.images:
            what, step = f"{_not_classes(children)}, and {_loose(base)}", _loose_step(base, children)
        elif "normal" in roles:
            moves = _moves(base, children, base, base, "train", "test")
            what = _not_classes(children)
            step = f"{_moves_text(base, moves)}, then some of the normal images to test/normal"
            step = step if None not in roles else f"{step}. {_AS_DEFECTS}"
        else:
            what, step = _not_classes(children), _normal_step(base, base, children)
        return [Problem(str(base.path), what, _GOOD_AND_BAD, f"{step}. {_AS_CLASSES}")]
    if base.images:
        what = f"{_loose(base)}, beside the folder{'s' if len(children) > 1 else ''} {_names(children)}"
        step = (
            "To read only these images, set dataset.options.layout: flat. To read only the folders, as classes, set "
            "dataset.options.layout: classes. To read all, move the images into one of the folders"
        )
        if good := [each for child in children for each in _topmost(child) if role_of(each) == "normal"]:
            step = (
                f"If they are normal, move them to a folder {good[0].name} of their class, such as "
                f"'{_below(base, good[0].path)}'. To read only these images, set dataset.options.layout: flat"
            )
        return [Problem(str(base.path), what, "images in folders alone, or in no folder alone", step)]
    if problem := _unsorted(base, children):
        return [problem]
    problems = []
    for folder in children:
        others = (path for other in children if other is not folder for path in other.all_images)
        if role_of(folder) == "maps" and are_maps_of(folder.all_images, others):
            what = "looks like ground-truth maps, not like a class: its files are named like images in other folders"
            step = f"Move it elsewhere, as folders without train and test have no maps. {_AS_CLASSES}"
            problems.append(Problem(str(folder.path), what, next_step=step))
    return [*problems, *_grouped(_nested(base, folder) for folder in children)]


def _unsorted(base: Folder, children: Sequence[Folder]) -> Problem | None:
    """Return the problem of classes without folders, beside classes with nothing but parts."""
    parts = {child: [each for each in child.folders if each.all_images] for child in children if not child.images}
    roles = {child: set(map(role_of, each)) for child, each in parts.items()}
    done = [child for child in parts if "normal" in roles[child] and None not in roles[child]]
    others = [child for child in children if child not in done]
    if not done or not others or any(role_of(child) or _topmost(child) for child in others):
        return None
    name = next(each.name for each in parts[done[0]] if role_of(each) == "normal")
    what = f"the images of {_names(others)} are in no folder {name}, unlike those of {_names(done)}"
    moves = ", ".join(f"those of {child.name} to '{child.name}/{name}'" for child in others[:_NAMED])
    step = f"In {base.path}, move images that are normal: {moves}"
    return Problem(str(base.path), what, f"a folder {name} in each class", step)


def of_split_classes(base: Folder, halves: Sequence[Folder]) -> list[Problem]:
    """Return a problem for folders in `train` and `test` that look like labels and would be read as classes."""
    children = {half: [folder for folder in half.folders if folder.all_images] for half in halves}
    every = [folder for each in children.values() for folder in each]
    roles = set(map(role_of, every))
    if not roles.isdisjoint(_PARTS):
        moves = [
            move for half, each in children.items() for move in _moves(base, each, base, base, half.name, half.name)
        ]
        step = _moves_text(base, moves) if "normal" in roles else _normal_step(base, halves[0], every)
        what = _not_classes(every, f" in {_names(halves)}")
        return [Problem(str(base.path), what, _GOOD_AND_BAD, f"{step}. {_AS_CLASSES}")]
    names = sorted({folder.name for folder in every})
    return _grouped(_nested_in_halves(base, name, children) for name in names)


def _not_classes(folders: Sequence[Folder], where: str = "") -> str:
    alone = all(role_of(folder) != "normal" for folder in folders)
    shown = [folder for folder in folders if role_of(folder) == "anomalous" or not alone]
    one = len({folder.name for folder in shown}) == 1
    look, classes = ("looks", "a class") if one else ("look", "classes")
    return f"the folder{'' if one else 's'} {_names(shown)}{where} {look} like {_parts(folders)}, not like {classes}"


def _loose(folder: Folder) -> str:
    count = len(folder.images)
    return f"{count_noun(count, 'image')} {'is' if count == 1 else 'are'} in no folder"


def _loose_step(folder: Folder, children: Sequence[Folder]) -> str:
    """Return the moves of images that are beside normal or anomalous folders."""
    names = {role: [_below(folder, child.path) for child in children if role_of(child) == role] for role in _PARTS}
    good, bad = [*names["normal"], "good"][0], [*names["anomalous"], "bad"][0]
    return f"In {folder.path}, move the images in no folder to '{good}' if they are normal, to '{bad}' if not"


def _normal_step(base: Folder, above: Folder, folders: Sequence[Folder]) -> str:
    """Return the moves that give folders of anomalous images a normal one.

    Args:
        base: moves are relative to it.
        above: where normal images belong.
        folders: among them the anomalous ones, and those of other names.
    """
    others = [folder for folder in folders if role_of(folder) is None]
    if len({folder.name for folder in others}) != 1:
        return f"Put the normal images into {above.path / 'good'}"
    moves = [(_below(base, each.path), _below(base, each.path.with_name("good"))) for each in others]
    return f"{_moves_text(base, moves)}, if {others[0].name} holds the normal images"


def label_problems(folder: Folder, maps: Path) -> list[Problem]:
    """Return a problem for each folder beside `normal` and `anomalous`, and for images outside of both.

    Args:
        folder: holds the labels.
        maps: where its maps belong.
    """
    strange = [child for child in folder.folders if not is_label(child) and child.all_images]
    near = {child: closest(child.name, sorted(LABEL_FOLDERS), _CLOSE) for child in strange if not role_of(child)}
    defects = [child for child in strange if near.get(child) == ""]
    problems = [
        Problem(
            str(child.path),
            "is neither normal nor anomalous",
            LABEL_FOLDERS_TEXT,
            f"{near[child]}. {_AS_DEFECTS}" if near.get(child) else _label_step(child, folder, maps),
        )
        for child in strange
        if child not in defects
    ]
    if defects:
        where, names = (defects[0], "is") if len(defects) == 1 else (folder, f"{_names(defects)} are")
        step = _defects_step(defects, "anomalous")
        problems.append(Problem(str(where.path), f"{names} neither normal nor anomalous", LABEL_FOLDERS_TEXT, step))
    if folder.images:
        what = f"{count_noun(len(folder.images), 'image')} are neither in normal nor in anomalous"
        problems.append(Problem(str(folder.path), what, LABEL_FOLDERS_TEXT, "Move them into one of the two"))
    return problems


def _defects_step(defects: Sequence[Folder], target: str) -> str:
    moves = ", ".join(f"{child.name} to {target}/{child.name}" for child in defects)
    if_so = _AS_DEFECTS
    if len(defects) > 1:
        if_so = if_so.replace("it is a type of defect", "they are types of defects")
    return f"{if_so}, or move {moves}"


def _label_step(child: Folder, folder: Folder, maps: Path) -> str:
    role = role_of(child)
    if role == "maps":
        return (
            f"If it holds ground-truth maps, move it to {maps / 'anomalous'}, {_named_like(child.all_images, folder)}"
        )
    wanted = str(role)
    taken = any(other.name.casefold() == wanted for other in folder.folders)
    return f"Rename it to {f'{wanted}/{child.name}' if taken else wanted}"


def maps_among_images(folder: Folder, maps: Path | None) -> Iterator[Problem]:
    """Yield problems of files and folders that look like ground-truth maps and would be read as images.

    Args:
        folder: the images of a class, or of a class in one split.
        maps: where its maps belong; None where the layout has none.
    """
    for each in folder.below:
        yield from annotated_copies(each)
        stems = stems_of(each.images)
        if beside := [path for path in each.images if is_map_of(path.stem, stems)]:
            yield maps_beside_problem(each, beside, _elsewhere(each, folder, maps, beside))
        for child in each.folders:
            around = (path for path in each.all_images if child.path not in path.parents)
            if role_of(child) == "maps" and child.all_images and are_maps_of(child.all_images, around):
                what = "looks like ground-truth maps of the images around it, and would be read as images"
                yield Problem(str(child.path), what, next_step=_elsewhere(each, folder, maps, child.all_images))


def annotated_copies(folder: Folder) -> list[Problem]:
    """Return a problem for files such as `7_annotated.png` beside `7.png` in a folder."""
    stems = stems_of(folder.images)
    copies = [path for path in folder.images if _ANNOTATED.sub("", path.stem) in stems - {path.stem}]
    if not copies:
        return []
    one = len(copies) == 1
    look, them = ("looks like an annotated copy", "it") if one else ("look like annotated copies", "them")
    shown, image = ", ".join(path.name for path in copies[:_NAMED]), "an image" if one else "images"
    what = f"{count_noun(len(copies), 'file')} {look} of {image} beside {them}: {shown}"
    step = f"Move {them} elsewhere, or rename {them} if {'it is' if one else 'they are'} no copy"
    return [Problem(str(folder.path), what, next_step=step)]


def maps_beside_problem(folder: Folder, maps: Sequence[Path], step: str) -> Problem:
    """Return the problem of files in a folder that look like ground-truth maps of the others."""
    shown = ", ".join(path.name for path in maps[:_NAMED])
    one = len(maps) == 1
    look, them = ("looks like a ground-truth map", "it") if one else ("look like ground-truth maps", "them")
    what = f"{count_noun(len(maps), 'file')} {look} of {'an image' if one else 'the images'} beside {them}: {shown}"
    return Problem(str(folder.path), what, next_step=step)


def _elsewhere(each: Folder, folder: Folder, maps: Path | None, found: Sequence[Path]) -> str:
    if maps is None:
        return "Move the maps elsewhere, as folders without train and test have none"
    return f"Move the maps to {maps / each.path.relative_to(folder.path)}, {_named_like(found, folder)}"


def unread_maps(folder: Folder, halves: Sequence[Folder]) -> list[Problem]:
    """Return a problem if a folder beside `train` and `test` looks like ground-truth maps, which are then not read."""
    if role_of(folder) != "maps" or not halves:
        return []
    bare = bares_of(folder.all_images)
    half = max(halves, key=lambda each: (len(bare & stems_of(each.all_images)), half_named(each.name) == "test"))
    labeled = any(child.name.casefold() == "anomalous" for child in folder.folders)
    target = half.path.with_name(f"{half.name}_maps") / ("" if labeled else "anomalous")
    step = f"To have them read, rename it to {target}, {_named_like(folder.all_images, half)}"
    what = f"{count_noun(len(folder.all_images), 'image')} look like ground-truth maps, and are not read"
    return [Problem(str(folder.path), what, next_step=step)]


def _named_like(maps: Sequence[Path], images: Folder) -> str:
    """Return how the files of maps must be named."""
    stems = stems_of(images.all_images)
    bares = ((path.stem, bare) for path in maps for bare in bare_names(path.stem) if bare in stems)
    added = {stem.replace(bare, "", 1) for stem, bare in bares}
    if len(added) == 1:
        return f"and take {added.pop()} off the names of its files"
    return "each file under the name of its image"


def _nested(base: Folder, folder: Folder) -> Problem | None:
    """Return a problem for a class with folders that look like its normal or anomalous images."""
    found = _topmost(folder)
    if _PARTS.isdisjoint(map(role_of, found)):
        return None
    roles, own = set(map(role_of, found)), folder.path
    alone = all(each.path == own or not each.all_images for each in base.folders)
    strange = [each for each in folder.folders if each.all_images and not role_of(each)]
    if strange and "anomalous" not in roles and not folder.images and all(each.path.parent == own for each in found):
        names = f"{_names(strange)} {'is' if len(strange) == 1 else 'are'} neither normal nor anomalous"
        what = f"its folder {found[0].name} looks like normal images, but {names}"
        step = _defects_step(strange, "bad")
        return Problem(str(own), what, next_step=step if alone else f"{step}. {_AS_CLASSES}")
    if halved := [] if folder.images else halved_below(folder):
        step = f"Set dataset.root to {halved[0].path.parent}, which holds '{halved[0].name}' with its train and test"
    elif folder.images:
        step = _loose_step(folder, found)
    elif {"normal", "anomalous"} <= roles:
        moves = _moves(base, found, folder, folder, "train", "test")
        step = f"{_moves_text(base, moves)}, then some of the normal images to its test/normal"
    elif "anomalous" in roles:
        step = _normal_step(base, folder, [child for child in folder.folders if child.all_images])
    elif deep := [each.path for each in found if each.path.parent != own]:
        targets = (own / each.name / each.parent.relative_to(own) for each in deep)
        step = _moves_text(
            base, ((_below(base, each), _below(base, to)) for each, to in zip(deep, targets, strict=True))
        )
    else:
        step = "Sort the images of each class into folders good and bad"
    what = _misread(found, folder, alone=alone)
    return Problem(str(folder.path), what, next_step=f"{step}. {_AS_CLASSES}")


def _nested_in_halves(base: Folder, name: str, children: Mapping[Folder, Sequence[Folder]]) -> Problem | None:
    """Return a problem as `_nested` for a class in `train` and `test`; `children` has the classes of each."""
    parts = [(half, folder, _topmost(folder)) for half, each in children.items() for folder in each]
    parts = [part for part in parts if part[1].name == name]
    suspect = [part for part in parts if not _PARTS.isdisjoint(map(role_of, part[2]))]
    if not suspect:
        return None
    moves = [move for half, folder, found in parts for move in _moves(base, found, folder, half, half.name, half.name)]
    _, folder, found = suspect[0]
    return Problem(str(folder.path), _misread(found, folder), next_step=f"{_moves_text(base, moves)}. {_AS_CLASSES}")


def _misread(found: Sequence[Folder], folder: Folder, *, alone: bool = False) -> str:
    one = len(found) == 1
    look = f"its folder{'' if one else 's'} {_names(found, folder)} {'looks' if one else 'look'} like {_parts(found)}"
    if "anomalous" in map(role_of, found):
        return f"{look}, and would be read as nominal images"
    if alone:
        return f"{look}, but all other images of the class would be read as nominal, too"
    return f"{look}, but other classes would be read as its anomalies"


def _parts(folders: Iterable[Folder]) -> str:
    """Return in words what folders, of which one has a role, hold of a class."""
    roles = set(map(role_of, folders))
    if "normal" not in roles:
        return "anomalous images"
    return "normal images" if roles == {"normal"} else "parts of a class"


def _below(base: Folder, path: Path) -> str:
    return path.relative_to(base.path).as_posix()


def _topmost(folder: Folder) -> list[Folder]:
    """Return the folders below that have a role and are in no other such folder."""
    found: dict[Path, Folder] = {}
    for each in folder.below[1:]:  # a folder comes before those in it
        if role_of(each) and each.all_images and found.keys().isdisjoint(each.path.parents):
            found[each.path] = each
    return list(found.values())


def _moves(
    base: Folder, found: Sequence[Folder], class_folder: Folder, above: Folder, train: str, test: str
) -> list[Move]:
    """Return the moves that sort the folders of one class into normal, anomalous and maps.

    Args:
        base: paths are relative to it.
        found: folders with normal images, anomalous images or maps; any other is a type of defect.
        class_folder: of the class.
        above: `class_folder`, where it has halves of its own; or the half with it.
        train, test: names of the halves for normal images, and for anomalous images and maps.
    """
    own = class_folder.path.relative_to(base.path)
    if above == class_folder:
        places = {"normal": own / train / "normal", "anomalous": own / test / "anomalous"}
        places["maps"] = own / f"{test}_maps" / "anomalous"
    else:
        places = {role: own / role for role in ("normal", "anomalous")}
        places["maps"] = Path(f"{test}_maps") / class_folder.name / "anomalous"
    kinds = [role_of(folder) or "anomalous" for folder in found]
    return [
        (
            (_inner(folder) if kind == "maps" else folder).path.relative_to(base.path).as_posix(),
            (places[kind] / (folder.name if kinds.count(kind) > 1 else "")).as_posix(),
        )
        for folder, kind in zip(found, kinds, strict=True)
    ]


def _inner(folder: Folder) -> Folder:
    """Return the folder that mirrors anomalous images: `Anomaly` of `Masks/Anomaly`."""
    inside = [child for child in folder.folders if child.all_images]
    alone = len(inside) == 1 and not folder.images and role_of(inside[0]) == "anomalous"
    return inside[0] if alone else folder


def _moves_text(base: Folder, moves: Iterable[Move]) -> str:
    listed = ", ".join(f"'{source}' to '{target}'" for source, target in moves if source != target)
    return f"In {base.path}, move {listed}"


def _names(folders: Sequence[Folder], above: Folder | None = None) -> str:
    names = [f.name if above is None else f.path.relative_to(above.path).as_posix() for f in folders]
    names = list(dict.fromkeys(names))
    shown = names if len(names) <= _NAMED + 1 else [*names[:_NAMED], f"{len(names) - _NAMED} more"]
    return choice_list(shown).replace(" or ", " and ") if len(shown) > 1 else shown[0]


def _grouped(problems: Iterable[Problem | None]) -> list[Problem]:
    """Return the first problems; the last of them says how many more folders are alike."""
    found = list(filter(None, problems))
    if len(found) <= _NAMED:
        return found
    last = found[_NAMED - 1]
    more = f"{last.next_step}. The same holds for {count_noun(len(found) - _NAMED, 'more folder')}"
    return [*found[: _NAMED - 1], Problem(last.where, last.what, last.allowed, more)]

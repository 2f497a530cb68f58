"""The image files to predict on, and a name for each one's picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import normal_form, printable, slug
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.folders import images_at
from fcdd_sweep.data.decoding.pixels import may_have_pages, pages_note
from fcdd_sweep.prediction.outputs import PREDICTIONS, PREDICTIONS_CSV
from fcdd_sweep.prediction.pictures import HEATMAPS

_MOST_BYTES = 230
"""Of a picture's name without ending and number: file systems allow 255, and an unfinished file has a longer name."""


@dataclass(frozen=True)
class FoundFiles:
    """Image files below given paths.

    Attributes:
        files: each with the given path that it was found at.
        problems: what cannot be read.
        notes: sentences on what is passed over.
    """

    files: tuple[tuple[Path, Path], ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def find_files(paths: Sequence[Path]) -> FoundFiles:
    """Return the images at the paths, each once however many of them lead to it, and what else is there.

    Raises:
        DataError: names all given paths that do not exist.
    """
    found, problems, absent, notes = list[tuple[Path, Path]](), list[Problem](), list[Problem](), list[str]()
    for path in paths:
        try:
            at_path = images_at(path)
        except DataError as error:
            absent += error.problems
        else:
            own = {file for file in at_path.images if _is_picture(file, path)}
            found += [(path, file) for file in at_path.images if file not in own]
            if own:
                notes.append(f"{count_noun(len(own), 'picture')} of earlier predictions in {path} not read.")
            problems += at_path.problems
            notes += at_path.notes
    if absent:
        raise DataError(absent)
    first: dict[Path, tuple[Path, Path]] = {}
    for top, file in found:
        first.setdefault(file.parent.resolve() / file.name, (top, file))
    if again := len(found) - len(first):
        notes.append(f"{count_noun(again, 'image')} named more than once {'is' if again == 1 else 'are'} scored once.")
    with_pages = pages_note([file for _, file in first.values() if may_have_pages(file)])
    unread, said = dict.fromkeys(problems), dict.fromkeys([*notes, *filter(None, [with_pages])])
    return FoundFiles(tuple(first.values()), tuple(unread), tuple(said))


def _is_picture(file: Path, top: Path) -> bool:
    """Return whether a file below a given folder is a picture of an earlier command, which wrote tables beside it."""
    folders = (folder for folder in file.parents if folder.name == HEATMAPS and top in folder.parents)
    return any((folder.parent / name).is_file() for folder in folders for name in (PREDICTIONS, PREDICTIONS_CSV))


class PictureNames:
    """The path of each image's picture below the output folder: that of its image below the given folder.

    The ending becomes `.png`. A path that another image has, but for case, is numbered. One that is not UTF-8 text, has
    control characters or is too long becomes a slug.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def path(self, top: Path, file: Path) -> Path:
        """Return the path of a file's picture; `top` is the given path that the file was found at."""
        inside = Path(top.resolve().name) / file.relative_to(top) if top.is_dir() else Path(file.name)
        folder, stem = Path(HEATMAPS, *map(_safe, inside.parts[:-1])), _safe(inside.stem)
        number, path = 1, folder / f"{stem}.png"
        while (key := normal_form(str(path)).casefold()) in self._taken:
            number += 1
            path = folder / f"{stem}-{number}.png"
        self._taken.add(key)
        return path


def _safe(part: str) -> str:
    if printable(part) == part and len(part.encode()) <= _MOST_BYTES:
        return part
    return slug(part, _MOST_BYTES)

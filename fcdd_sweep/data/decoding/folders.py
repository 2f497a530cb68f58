"""Folders of images: what is below them, what cannot be read, and what is passed over."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import normal_form, printable
from fcdd_sweep.data.decoding.files import is_image, kind_of_file
from fcdd_sweep.data.decoding.reading import check_regular

_SYSTEM = frozenset({"lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"})
"""What systems place into folders, some of it unreadable; ignored like hidden files."""
_CONVERTIBLE = frozenset(
    ".arw .avif .cr2 .cr3 .dcm .dng .exr .heic .heif .jxl .nef .nii .npy .npz .orf .pdf .raf .raw .rw2 .svg".split()
)
"""Endings of files that may hold images in formats that are not read."""
_NAMED = 3


class Reason(Enum):
    """Why an entry of a folder cannot be read: the text for one, the text for several, what to do."""

    FOLDER = ("the folder cannot be read", "folders cannot be read", "Make it readable, or move it elsewhere")
    FILE = ("the file cannot be read", "files cannot be read", "Make it readable, or move it elsewhere")
    DANGLING = ("is a link that leads nowhere", "links lead nowhere", "Restore what it leads to, or remove the link")
    CIRCULAR = ("is a link that leads to itself", "links lead to themselves", "Remove the link")
    SPECIAL = ("is no regular file", "entries are no regular files", "Remove it, or give it another ending")


@dataclass(frozen=True)
class UnreadableEntry:
    """An entry that cannot be read.

    Attributes:
        path: the entry.
        kind: why.
        detail: what the system says of it, such as the target of a link; may be empty.
    """

    path: Path
    kind: Reason
    detail: str = ""

    def problem(self) -> Problem:
        one, _, step = self.kind.value
        return Problem(str(self.path), f"{one} ({self.detail})" if self.detail else one, next_step=step)


def problems_of_faults(faults: Iterable[UnreadableEntry]) -> list[Problem]:
    """Return a problem for each fault; those of one kind in one folder share a problem."""
    groups: dict[tuple[Path, Reason], dict[Path, UnreadableEntry]] = {}
    for fault in faults:
        groups.setdefault((fault.path.parent, fault.kind), {})[fault.path] = fault
    problems = []
    for (folder, kind), found in groups.items():
        if len(found) == 1:
            problems.append(next(iter(found.values())).problem())
            continue
        _, several, step = kind.value
        names = ", ".join([*(path.name for path in list(found)[:_NAMED]), *(["..."] if len(found) > _NAMED else [])])
        problems.append(Problem(str(folder), f"{len(found)} {several}: {names}", next_step=step))
    return problems


@dataclass
class _Entries:
    """What is directly in a folder."""

    folders: list[Folder] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    faults: list[UnreadableEntry] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Folder:
    """A folder, listed once, when it is first asked for; hidden entries are ignored, and links are followed.

    Listing never fails: what cannot be read is among `faults`, and a folder that does not exist is empty.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def _entries(self) -> _Entries:
        return _listed(self.path)

    @property
    def folders(self) -> list[Folder]:
        """The folders in it, sorted by name."""
        return self._entries.folders

    @property
    def images(self) -> list[Path]:
        """The images directly in it, sorted by name."""
        return self._entries.images

    @property
    def faults(self) -> list[UnreadableEntry]:
        """What directly in it cannot be read, or the folder itself."""
        return self._entries.faults

    @cached_property
    def _walked(self) -> tuple[tuple[Folder, ...], tuple[Path, ...]]:
        """All folders below, and links to folders that are among them or above; real folders come before links."""
        found, again = list[Folder](), list[Path]()
        seen = set(map(str, Path(os.path.realpath(self.path)).parents))
        waiting = [self]
        while waiting:
            folder = waiting.pop(0)
            real = os.path.realpath(folder.path)
            if real in seen:
                again.append(folder.path)
                continue
            seen.add(real)
            found.append(folder)
            links = [child for child in folder.folders if child.path.is_symlink()]
            waiting = [*(child for child in folder.folders if child not in links), *waiting, *links]
        return tuple(found), tuple(again)

    @property
    def below(self) -> tuple[Folder, ...]:
        """The folder and all folders below it, each once however many links lead to it."""
        return self._walked[0]

    @cached_property
    def all_images(self) -> list[Path]:
        """All images below it, sorted by path in the same way on every machine."""
        found = (path for folder in self.below for path in folder.images)
        return sorted(found, key=lambda file: normal_form(file.relative_to(self.path).as_posix()))

    @property
    def all_faults(self) -> list[UnreadableEntry]:
        """Everything below it that cannot be read."""
        return [fault for folder in self.below for fault in folder.faults]

    @property
    def all_others(self) -> list[Path]:
        """All files below it whose endings are not those of images."""
        return [path for folder in self.below for path in folder._entries.others]

    @property
    def repeated_links(self) -> tuple[Path, ...]:
        """Links below it to folders that are read already or hold them."""
        return self._walked[1]

    def not_read(self) -> Iterator[str]:
        """Yield sentences on files below it that are passed over, by ending, and on links to folders that are read."""
        others = Counter(path.suffix.lower() for path in self.all_others)
        if others:
            counts = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in sorted(others.items()))
            convertible = sorted(_CONVERTIBLE & others.keys())
            them = "it" if len(convertible) == 1 else "them"
            hint = f" Convert {', '.join(convertible)} to have {them} read." if convertible else ""
            yield f"Not read in {self.path}, as the endings are not those of images: {counts}.{hint}"
        if again := self.repeated_links:
            shown = ", ".join(str(path.relative_to(self.path)) for path in again[:_NAMED])
            yield (
                f"Not read in {self.path}, as these links lead to folders that are read already or hold them: "
                f"{shown}{', ...' if len(again) > _NAMED else ''} ({len(again)})."
            )


def no_folder(path: Path) -> str:
    """Return why `path` is no folder that images can be read from; an empty string if it is one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no folder {path}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if not stat.S_ISDIR(mode):
        return f"there is no folder {path}: it is a file"
    is_root = path.resolve() == path.resolve().parent
    return f"{path} is the root of a file system, not a folder of images" if is_root else ""


class ImagesAt(NamedTuple):
    """What is at a path.

    Attributes:
        images: all images below a folder, or the file itself, whatever its ending.
        problems: what cannot be read.
        notes: sentences on what is passed over.
    """

    images: list[Path]
    problems: list[Problem]
    notes: list[str]


def images_at(path: Path) -> ImagesAt:
    """Return the images at a path, and what else is there.

    Raises:
        DataError: `path` does not exist, or is neither a folder nor a file.
    """
    if not no_folder(path):
        folder = Folder(path)
        notes = [printable(sentence) for sentence in folder.not_read()]
        return ImagesAt(folder.all_images, problems_of_faults(folder.all_faults), notes)
    try:
        check_regular(path)
    except FileNotFoundError:
        raise DataError(Problem(str(path), "there is no such file or folder")) from None
    except OSError as error:
        raise DataError(Problem(str(path), f"cannot be read ({error.strerror})")) from error
    return ImagesAt([path], [], [])


def exposure_notes(folder: Folder) -> Iterator[str]:
    """Yield sentences on what outlier exposure does without: what cannot be read, and what is passed over."""
    for problem in problems_of_faults(folder.all_faults):
        yield printable(f"Left out: {problem.where}: {problem.what}.")
    yield from map(printable, folder.not_read())


def named_twice(folders: Iterable[Folder]) -> list[tuple[Folder, Folder]]:
    """Return pairs of folders whose names differ only in case, or in how an accent is stored."""
    first: dict[str, Folder] = {}
    pairs = []
    for folder in folders:
        other = first.setdefault(normal_form(folder.name).casefold(), folder)
        if other is not folder:
            pairs.append((other, folder))
    return pairs


def _listed(path: Path) -> _Entries:
    found = _Entries()
    try:
        with os.scandir(path) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _SYSTEM]
    except FileNotFoundError:
        return found
    except OSError as error:
        found.faults.append(UnreadableEntry(path, Reason.FOLDER, error.strerror or ""))
        return found
    for entry in sorted(visible, key=lambda each: normal_form(each.name)):
        _sort_in(entry, path / entry.name, found)
    return found


def _sort_in(entry: os.DirEntry[str], path: Path, found: _Entries) -> None:
    if entry.is_dir(follow_symlinks=False):
        found.folders.append(Folder(path))
        return
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        found.faults.append(_fault_of(path, error))
        return
    if stat.S_ISDIR(mode):
        found.folders.append(Folder(path))
    elif not is_image(entry.name):
        found.others.append(path)
    elif not stat.S_ISREG(mode):
        found.faults.append(UnreadableEntry(path, Reason.SPECIAL, kind_of_file(mode)))
    elif not os.access(path, os.R_OK):
        found.faults.append(UnreadableEntry(path, Reason.FILE, "Permission denied"))
    else:
        found.images.append(path)


def _fault_of(path: Path, error: OSError) -> UnreadableEntry:
    try:
        target = f"to {printable(str(path.readlink()))}"
    except OSError:  # no link, or one that may not be read
        return UnreadableEntry(path, Reason.FILE, error.strerror or "")
    if isinstance(error, FileNotFoundError):
        return UnreadableEntry(path, Reason.DANGLING, target)
    if error.errno == errno.ELOOP:
        return UnreadableEntry(path, Reason.CIRCULAR, target)
    return UnreadableEntry(path, Reason.FILE, error.strerror or "")

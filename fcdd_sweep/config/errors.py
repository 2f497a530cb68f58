"""Problems with a user's input: where, what was found, what is allowed, what to do next."""

from __future__ import annotations

import itertools
import math
import re
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fcdd_sweep.config.names import printable


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an experiment file, an override or the data.

    Attributes:
        where: file and line, dotted key, or path: `experiments/x.yaml:7: training.epochs`.
        what: what is wrong and what was found.
        allowed: what is allowed; empty when `what` names it already.
        next_step: what to do now, such as the nearest valid name; may be empty.
    """

    where: str
    what: str
    allowed: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}."]
        if self.allowed:
            parts.append(f"Allowed: {self.allowed}.")
        if self.next_step:
            parts.append(self.next_step if self.next_step.endswith((".", "?")) else f"{self.next_step}.")
        return printable(" ".join(parts))


_LINE = re.compile(r"(?P<file>.+?\.ya?ml):(?P<line>\d+)(?=:|$)")
_MOST_OF_A_KIND, _SHOWN_OF_A_KIND = 10, 3
"""Problems of one kind that are all shown, and how many of more are."""
_NAMES = re.compile(r"'[^']*'|\S*[/\\.]\S*|\d[\d,.]*")
"""What may differ between problems of one kind: quoted names, paths, file names and numbers."""


def grouped_lines(problems: Iterable[Problem]) -> list[str]:
    """Return one line per problem; of many of one kind, such as of every file of a folder, the first and their number.

    Problems of one kind differ in names and numbers alone. Nothing is left out where a file or override is wrong.
    """
    problems = list(problems)
    kinds = [_kind(problem) for problem in problems]
    count, seen, lines = Counter(kinds), Counter[str](), []
    for problem, kind in zip(problems, kinds, strict=True):
        seen[kind] += 1
        if count[kind] <= _MOST_OF_A_KIND or seen[kind] <= _SHOWN_OF_A_KIND:
            lines.append(str(problem))
        elif seen[kind] == _SHOWN_OF_A_KIND + 1:
            lines.append(f"and {count[kind] - _SHOWN_OF_A_KIND:,} more like this")
    return lines


def _kind(problem: Problem) -> str:
    if _LINE.match(problem.where) or problem.where.startswith("--set"):
        return str(problem)
    return _NAMES.sub("", f"{problem.what}|{problem.next_step}")


class InputError(ValueError):
    """Bad input by the user: the command line ends with exit code 2 and no traceback.

    Attributes:
        problems: everything that was found wrong, not only the first.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(grouped_lines(self.problems)))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class ExperimentError(InputError):
    """An experiment file, or an override, that cannot be run: problems in the order of lines, then those without."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        given = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__(sorted(given, key=_line_of))


def _line_of(problem: Problem) -> float:
    """Return the line of a problem in its file; infinite for one of an override or of the data."""
    match = _LINE.match(problem.where)
    return int(match["line"]) if match else math.inf


class DataError(InputError):
    """Images, maps or folders that are missing, unreadable or contradict each other."""


_ADVICE = (
    "CUDA kernel errors might be",
    "For debugging consider",
    "Compile with `TORCH_USE_CUDA_DSA`",
    "Device-side assertion tracking",
    "Search for `cuda",
    "Exception raised from",
)
"""Beginnings of the lines that follow what happened in torch's errors of CUDA."""


def _in_one_line(text: str) -> str:
    """Return text as one line, up to the advice that torch adds to errors of CUDA."""
    lines = itertools.takewhile(lambda line: not line.startswith(_ADVICE), text.splitlines())
    return " ".join(" ".join(lines).split())


def error_line(error: BaseException, limit: int = 1000) -> str:
    """Return an error's type and its whole text as one line of at most `limit` characters, for records of failures."""
    text = _in_one_line("".join(traceback.format_exception_only(error)))
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def short_error(error: BaseException, limit: int = 300, *, keep_end: bool = False) -> str:
    """Return an error as one line for a message.

    A missing file is named, an `InputError` gives place and text of each problem, an error without text its type.

    Args:
        error: any error.
        limit: characters that the line may have; longer text is cut.
        keep_end: whether the end of a long text is kept instead of its beginning: errors of gRPC end with the cause.
    """
    if isinstance(error, InputError):
        text = "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
    elif isinstance(error, FileNotFoundError) and error.filename is not None:
        text = f"{Path(str(error.filename)).name} is missing"
    else:
        text = str(error)
    text = _in_one_line(text) or type(error).__name__
    if len(text) <= limit:
        return text
    return f"...{text[3 - limit :]}" if keep_end else f"{text[: limit - 3]}..."


Key = tuple[str | int, ...]
"""A way into nested mappings and lists: `("training", "epochs")`, `("dataset", "classes", 0)`."""


def dotted(key: Key) -> str:
    """Return a key as text: `training.epochs`, `dataset.classes[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


@dataclass(frozen=True)
class SourceLine:
    """Where a value was written: a file and line, an override or a preset.

    Attributes:
        text: `experiments/x.yaml:7`, `--set training.epochs=3`.
        names_key: whether the text contains the key.
    """

    text: str
    names_key: bool = False


@dataclass(frozen=True)
class Origin:
    """Source lines by key. Two origins are always equal: where a value was written does not change an experiment."""

    places: Mapping[Key, SourceLine] = field(default_factory=dict, compare=False)

    def where(self, key: Key | str) -> str:
        """Return `experiments/x.yaml:7: training.epochs`; a key without a source line has that of its section."""
        key = tuple(key.split(".")) if isinstance(key, str) else key
        for depth in range(len(key), -1, -1):
            place = self.places.get(key[:depth])
            if place is not None:
                at_home = depth == len(key)
                return place.text if not key or (at_home and place.names_key) else f"{place.text}: {dotted(key)}"
        return dotted(key)

    def is_overridden(self, key: str) -> bool:
        """Return whether an override sets exactly this key."""
        place = self.places.get(tuple(key.split(".")))
        return place is not None and place.names_key


class RunnerLostError(Exception):
    """What runs the trials has died; finished trials are kept, and another start continues."""

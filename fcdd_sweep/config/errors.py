"""Problems with a user's input: where, what was found, what is allowed, what to do next."""

from __future__ import annotations

import difflib
import itertools
import traceback
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


class InputError(ValueError):
    """Bad input by the user: the command line ends with exit code 2 and no traceback.

    Attributes:
        problems: everything that was found wrong, not only the first.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class ExperimentError(InputError):
    """An experiment file, or an override, that cannot be run."""


class DataError(InputError):
    """Images, maps or folders that are missing, unreadable or contradict each other."""


def closest(found: object, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """Return `Closest: 'bottle'` for a misspelled name, or an empty string when no name is near.

    Args:
        found: the misspelled name.
        allowed: the names.
        cutoff: least similarity, 0..1, as `difflib` measures it.
    """
    near = difflib.get_close_matches(str(found), list(allowed), n=1, cutoff=cutoff)
    return f"Closest: '{near[0]}'" if near else ""


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


class RunnerLostError(Exception):
    """What runs the trials has died; finished trials are kept, and another start continues."""

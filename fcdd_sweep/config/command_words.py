"""Messages on own images for a command that has no experiment file yet: options in place of keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fcdd_sweep.config.errors import Problem

_TYPED = (
    (r"(a type of defect), set dataset\.options\.layout: mvtec", r"\1, read it as MVTec's layout with --layout mvtec"),
    (
        r"(types of defects), set dataset\.options\.layout: mvtec",
        r"\1, read them as MVTec's layout with --layout mvtec",
    ),
    (r"\bset dataset\.options\.(layout|group): ", r"give --\1 "),
    (r"\bSet dataset\.root to\b", "Name"),
    (r"\bin dataset\.root\b", "in the folder"),
    (r"\bRemove the key\b", "Leave it out"),
    (r"\bdataset\.options\.(layout|group)\b", r"--\1"),
)
"""Patterns of words on keys, and those of the command line for them: there is no file yet whose keys could be set."""


def as_typed(problems: Sequence[Problem], root: Path) -> list[Problem]:
    """Return problems of the data set with the words of the command line in place of keys."""
    return [
        Problem(
            str(root) if problem.where == "dataset.root" else typed_text(problem.where),
            *map(typed_text, (problem.what, problem.allowed, problem.next_step)),
        )
        for problem in problems
    ]


def typed_text(text: str) -> str:
    """Return a text with the words of the command line in place of keys."""
    for pattern, words in _TYPED:
        text = re.sub(pattern, words, text)
    return text

"""What tests of broken experiment files share."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.planning.plan import plan_file

HEAD = "schema: 2\nname: x\npreset: digits\n"
"""Three lines: what a case adds begins in line 4."""
TEXTURES = HEAD.replace("digits", "textures")
JARGON = (
    "pydantic",
    "Input should",
    "validation error",
    "literal[",
    "constrained",
    "function-",
    "Extra inputs",
    "_type",
)


def problems_in(path, overrides=()):
    with pytest.raises(ExperimentError) as caught:
        plan_file(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def assert_reported(reported, expected):
    message = "\n".join(reported)
    for line in expected:
        pieces = line.split("|")
        assert any(all(piece in one for piece in pieces) for one in reported), (
            f"{line!r} is not reported by:\n{message}"
        )
    assert len(reported) == len(expected), message
    assert not [word for word in JARGON if word in message]

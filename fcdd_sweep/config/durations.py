"""Times in an experiment file: `90s`, `5m`, `2h`; and how often, by time or by epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

DURATION_PATTERN = r"^[1-9][0-9]{0,8} ?[smh]$"
EVERY_PATTERN = r"^[1-9][0-9]{0,8}( ?[smh]| epochs?)$"

Duration = Annotated[str, Field(pattern=DURATION_PATTERN)]
"""A length of time; `seconds` reads it."""
EveryText = Annotated[str, Field(pattern=EVERY_PATTERN)]
"""How often something is done; `Every.of` reads it."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """`5m` as seconds.

    Raises:
        ValueError: it is no duration.
    """
    if not re.fullmatch(DURATION_PATTERN, duration):
        raise ValueError(f"'{duration}' is no duration such as '90s', '5m' or '2h'")
    return int(duration[:-1]) * _SECONDS[duration[-1]]


@dataclass(frozen=True)
class Every:
    """How often: by time or by epochs, one of the two.

    Attributes:
        seconds: after so many seconds; None where epochs count.
        epochs: after so many epochs; None where seconds count.
    """

    seconds: float | None = None
    epochs: int | None = None

    @classmethod
    def of(cls, text: str) -> Every:
        """From `5m` or `10 epochs`.

        Raises:
            ValueError: it is neither.
        """
        if not re.fullmatch(EVERY_PATTERN, text):
            raise ValueError(f"'{text}' is neither a duration such as '5m' nor a number of epochs such as '10 epochs'")
        number, _, unit = text.partition(" ")
        return cls(epochs=int(number)) if unit.startswith("epoch") else cls(seconds=seconds(text))

"""Where each key of an experiment came from, so that every problem can say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Key = tuple[str | int, ...]
"""A way into nested mappings and lists: `("training", "epochs")`, `("dataset", "classes", 0)`."""


def dotted(key: Key) -> str:
    """`training.epochs`, `dataset.classes[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


@dataclass(frozen=True)
class Place:
    """A file and line, an override or a preset.

    Attributes:
        text: `experiments/x.yaml:7`, `--set training.epochs=3`.
        names_key: whether the text says already which key is meant.
    """

    text: str
    names_key: bool = False


@dataclass(frozen=True)
class Origin:
    """Places by key. Two origins are always equal: where a value was written does not change an experiment."""

    places: Mapping[Key, Place] = field(default_factory=dict, compare=False)

    def where(self, key: Key | str) -> str:
        """`experiments/x.yaml:7: training.epochs`; a key without a place of its own has that of its section."""
        key = tuple(key.split(".")) if isinstance(key, str) else key
        for depth in range(len(key), -1, -1):
            place = self.places.get(key[:depth])
            if place is not None:
                at_home = depth == len(key)
                return place.text if not key or (at_home and place.names_key) else f"{place.text}: {dotted(key)}"
        return dotted(key)

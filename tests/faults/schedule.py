"""Which kills are made, and when: drawn from a seed alone, so that a failure can be played again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

VICTIMS = ("worker", "machine", "raylet", "driver")
"""A process that runs a trial; a machine with all that runs on it; Ray's own process on a machine alone, whose workers
live on for a while, and no one hears them; the program that was started."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL.

    Attributes:
        after_s: seconds since a trial runs again after the kill before it, or since the first began.
        victim: see `VICTIMS`.
        which: of those that are there, modulo their number.
    """

    after_s: float
    victim: str
    which: int

    def __str__(self) -> str:
        return f"{self.after_s:.2f} s: {self.victim} {self.which}"


def schedule(seed: int, counts: Mapping[str, int], longest_s: float) -> list[Kill]:
    """As many kills of each victim as `counts` says, in random order, up to `longest_s` apart."""
    draw = random.Random(seed)
    victims = [victim for victim in VICTIMS for _ in range(counts.get(victim, 0))]
    draw.shuffle(victims)
    return [Kill(draw.uniform(0.0, longest_s), victim, draw.randrange(1000)) for victim in victims]

"""All randomness of a trial, from one seed sequence over its seed and normal class.

The config is not part of it, so configs are compared on the same draws. A draw is keyed by (stream, epoch, step): it
does not depend on how many draws came before, in this trial or in another one of the same process.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from fcdd_sweep.anomalies.draws import CountedGenerator, numbered

Stream = Literal[
    "weights",
    "order",
    "augmentation",
    "anomalies",
    "limit",
    "split",
    "preview",
    "offline",
    "reserved",
    "dropout",
    "validation",
]
_NUMBER: dict[Stream, int] = {  # part of every spawn key: a number never changes
    "weights": 0,
    "order": 1,
    "augmentation": 2,
    "anomalies": 3,
    "limit": 4,
    "split": 5,
    "preview": 6,
    "offline": 7,
    "reserved": 8,
    "dropout": 9,
    "validation": 10,
}
_NO_STEP = 2**32 - 1
"""In the place of a step's number: a key of a whole epoch, which no step has."""


class Streams:
    """Named random streams of one (seed, normal class).

    Source: numpy's SeedSequence with the spawn key (stream number, epoch, step).
    """

    def __init__(self, seed: int, normal_class: str) -> None:
        name = hashlib.sha256(normal_class.encode()).digest()
        words = [seed >> 32 * word & 0xFFFFFFFF for word in range(max(1, -(-seed.bit_length() // 32)))]
        self._entropy = [*words, *np.frombuffer(name[:16], dtype="<u4").tolist()]

    def _sequence(self, stream: Stream, epoch: int, step: int) -> np.random.SeedSequence:
        # what `spawn_key` would add to the entropy, which numpy takes twice as long to assemble
        return np.random.SeedSequence(np.array([*self._entropy, _NUMBER[stream], epoch, step], dtype=np.uint32))

    def numpy(self, stream: Stream, epoch: int = 0, step: int = 0) -> np.random.Generator:
        """Return a generator for decisions on the host: order, which samples are replaced, offsets."""
        return np.random.default_rng(self._sequence(stream, epoch, step))

    def torch(
        self, stream: Stream, epoch: int = 0, step: int = 0, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        """Return a generator for noise of whole batches, on the device of the batch."""
        return torch.Generator(device).manual_seed(self.integer(stream, epoch, step))

    def counted(self, stream: Stream, epoch: int = 0, first: int = 0) -> CountedGenerator:
        """Return counted draws for decisions on the host about samples of an epoch, whose first one has number `first`.

        They depend on seed, class, stream, epoch and the number of the sample, which is its place in the epoch.
        """
        return CountedGenerator(self.integer(stream, epoch, _NO_STEP), first)

    def keys(self, stream: Stream, epoch: int, steps: range) -> npt.NDArray[np.int64]:
        """Return a 63-bit key of counted draws on the device for each step, see `anomalies.draws`.

        Each is a function of seed, class, stream, epoch and step. One seed sequence serves all, as making one takes the
        host longer than all else that a key needs.
        """
        numbers = np.arange(steps.start, steps.stop, dtype=np.uint64)
        return (numbered(self.integer(stream, epoch), numbers) >> np.uint64(1)).view(np.int64)

    def integer(self, stream: Stream, epoch: int = 0, step: int = 0) -> int:
        """Return a 63-bit seed for another library's generator."""
        return int(self._sequence(stream, epoch, step).generate_state(1, np.uint64)[0] >> 1)

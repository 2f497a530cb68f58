"""Random numbers for whole batches: from a generator, or by counting, where shapes must be fixed.

A generator of a GPU gives each thread of a launch draws of its own, and the number of threads depends on the card. So
on a GPU a draw is a function of a key, the number of the sample, and the number of the draw within the sample: cards
of all sizes draw the same, and a CUDA graph can repeat a step under another key. What the host decides about samples is
counted there, too: it then decides about many steps at once, and about each as if it were alone.
"""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
"""SplitMix64's increment, and its shifts with the factors that follow them, as signed numbers."""
_PER_SAMPLE = 2**40
"""More than a sample ever draws under one key."""
_FINE = 2.0**-24
"""Distance between two uniform numbers, which float32 holds exactly."""


class Draws(Protocol):
    """A source of random numbers; the first axis of every shape counts samples.

    Attributes:
        device: that the numbers are on.
        fixed: whether what is computed from them must have shapes that do not depend on their values.
    """

    device: torch.device
    fixed: bool

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 numbers in 0..1, 1 exclusive."""
        ...

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        """Return whole numbers from `low` to below `high`, which are less than 2^31 apart; few are the most even."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """Return float32 numbers with mean 0 and standard deviation 1."""
        ...


class GeneratorDraws:
    """Draws of one of torch's generators; None is the global one of the CPU."""

    fixed = False

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.device = generator.device if generator is not None else torch.device("cpu")
        self._generator = generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self.device)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.randint(low, high, shape, generator=self._generator, device=self.device, dtype=dtype)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.device)


class CounterDraws:
    """Draws that are numbered: the same key and number give the same draw on any device, alone or in a batch.

    Normal numbers agree but for the last digits of a device's logarithm and cosine.

    Source: Steele et al., Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64), whose n-th output
    is a function of its seed and n; Box and Muller, 1958, for normal numbers.
    """

    fixed = True

    def __init__(self, key: Tensor, first: int = 0) -> None:
        """Begin with the first draw of each sample.

        Args:
            key: int64 without axes, on the device: what names the seed, the stream, the epoch and the step.
            first: number of the first sample.
        """
        self.device = key.device
        self._key = key
        self._first = first
        self._drawn = 0

    def _bits(self, n: int, count: int) -> Tensor:
        """Return (n, count) int64 of 64 random bits each, the next `count` draws of each of n samples."""
        sample = torch.arange(self._first, self._first + n, device=self.device) * _PER_SAMPLE
        number = torch.arange(self._drawn, self._drawn + count, device=self.device)
        self._drawn += count
        bits = (sample[:, None] + number + 1).mul_(_GOLDEN).add_(self._key)
        for shift, factor in _MIX:
            bits.bitwise_xor_(_shifted(bits, shift)).mul_(factor)
        return bits.bitwise_xor_(_shifted(bits, 31))

    def uniform(self, *shape: int) -> Tensor:
        bits = self._bits(shape[0], math.prod(shape[1:]))
        return _shifted(bits, 40).float().mul_(_FINE).view(shape)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        bits = self._bits(shape[0], math.prod(shape[1:]))
        return (_shifted(bits, 32).mul_(high - low) >> 32).add_(low).to(dtype).view(shape)

    def normal(self, *shape: int) -> Tensor:
        count = math.prod(shape[1:])
        bits = self._bits(shape[0], -(-count // 2))  # each gives two numbers
        radius = _shifted(bits, 40).add_(1).float().mul_(_FINE).log_().mul_(-2).sqrt_()
        angle = (_shifted(bits, 16) & (2**24 - 1)).float().mul_(2 * math.pi * _FINE)
        both = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], dim=1)
        return both[:, :count].reshape(shape)


class CountedGenerator:
    """Draws of the host about samples: those of `CounterDraws` under the same key.

    It has the methods of numpy's generator that decisions need; the first axis of every shape counts samples.
    """

    def __init__(self, key: int, first: int = 0) -> None:
        """Begin with the first draw of each sample, the first of which has number `first`."""
        self._key, self._first = key, first
        self._drawn = 0
        self._starts = self._started(0)

    def _started(self, n: int) -> npt.NDArray[np.uint64]:
        samples = np.arange(self._first, self._first + n, dtype=np.uint64)
        return samples * _wrapped(_PER_SAMPLE * _GOLDEN) + _wrapped(self._key)

    def _bits(self, size: int | tuple[int, ...]) -> npt.NDArray[np.uint64]:
        """Return as many uint64 of 64 random bits each, the next draws of each sample."""
        n, *others = size if isinstance(size, tuple) else (size,)
        if len(self._starts) < n:
            self._starts = self._started(n)
        numbers = np.arange(self._drawn, self._drawn + math.prod(others), dtype=np.uint64)
        self._drawn += len(numbers)
        return _mixed(self._starts[:n, None] + (numbers + np.uint64(1)) * _wrapped(_GOLDEN)).reshape(size)

    def random(self, size: int | tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return numbers in 0..1, 1 exclusive."""
        numbers = (self._bits(size) >> np.uint64(40)).astype(np.float64)
        numbers *= _FINE
        return numbers

    def uniform(self, low: float, high: float, size: int | tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return numbers in `low`..`high`, `high` exclusive."""
        return self.random(size) * (high - low) + low

    def integers(self, low: int, high: int, size: int | tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Return whole numbers as `Draws.integers` does."""
        scaled = (self._bits(size) >> np.uint64(32)) * np.uint64(high - low) >> np.uint64(32)
        return scaled.view(np.int64) + low


HostGenerator: TypeAlias = np.random.Generator | CountedGenerator
"""What the host draws its decisions about samples from."""


def numbered(key: int, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return draws `numbers` of one sample under a key, from 0 on, as 64 bits each."""
    return _mixed((numbers + np.uint64(1)) * _wrapped(_GOLDEN) + _wrapped(key))


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Turn counters into random bits, in place."""
    for shift, factor in _MIX:
        bits ^= bits >> np.uint64(shift)
        bits *= _wrapped(factor)
    bits ^= bits >> np.uint64(31)
    return bits


def _wrapped(number: int) -> np.uint64:
    return np.uint64(number % 2**64)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Return int64 shifted to the right by `places`, with zeros from the left."""
    return (bits >> places).bitwise_and_(2 ** (64 - places) - 1)

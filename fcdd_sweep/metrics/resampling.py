"""Figures over seeds and classes with intervals by a bootstrap of seeds within classes.

All configs are resampled with the same seeds, as they were trained on the same draws. Classes and test images stay: the
intervals say what training again would change. With few seeds they are too narrow (3 seeds: about 0.8 of the width that
they should have); what is better is decided by `paired_tests.decide_pairs` instead.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.metrics.statistics import ALPHA

DRAWS = 2000
"""Bootstrap draws of seeds."""
_MOST_VALUES = 4_000_000
"""Most values in memory at once."""
_TRIMMED = 0.25


class Estimates(NamedTuple):
    """Estimates and the ends of their 95% intervals, arrays of one shape."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def interquartile_mean(values: FloatArray) -> FloatArray:
    """Return the mean of the middle half of the values of each row: a quarter is cut off at either end, rounded down.

    Args:
        values: (..., n).
    """
    ordered = np.sort(values, axis=-1)
    cut = int(_TRIMMED * values.shape[-1])
    return np.asarray(ordered[..., cut : values.shape[-1] - cut].mean(axis=-1))


def average_ranks(means: FloatArray) -> FloatArray:
    """Return the mean over classes of each config's rank, 1 for the largest mean; equal means share their ranks.

    Args:
        means: (..., K, C).
    Returns:
        (..., K).
    """
    from scipy.stats import rankdata  # it takes a second to import

    return np.asarray(rankdata(-means, axis=-2).mean(axis=-1))


class Resampled(NamedTuple):
    """Figures with intervals by a bootstrap of seeds within classes.

    Attributes:
        means: (P,) mean differences of pairs, the mean over classes of each.
        interquartile: (K,) interquartile means over all classes and seeds.
        ranks: (K,) average ranks over classes.
        improvement: (P,) probability that the first config of a pair has the larger value in a class drawn at random,
            each with any of its seeds; a tie counts half.
    """

    means: Estimates
    interquartile: Estimates
    ranks: Estimates
    improvement: Estimates


def resample(values: FloatArray, pairs: npt.NDArray[np.intp], draws: int = DRAWS) -> Resampled:
    """Return figures with intervals; the same values give the same intervals.

    Args:
        values: (K, C, S), larger is better; none missing.
        pairs: (P, 2) rows of K.
        draws: number of bootstrap draws.
    """
    _, classes, seeds = values.shape
    chosen = np.random.default_rng(0).integers(0, seeds, (draws, classes, seeds))
    parts = [_figures(part, pairs) for part in _drawn(values, chosen)]
    means, interquartile, ranks = (np.concatenate(part) for part in zip(*parts, strict=True))
    counts = (chosen[..., None] == np.arange(seeds)).sum(axis=2).astype(np.float64)
    wins = np.stack([_wins(values, pair, counts) for pair in pairs], axis=1)
    own = [part[0] for part in _figures(values[:, None], pairs)]
    own_wins = np.array([_wins(values, pair, np.ones((1, classes, seeds)))[0] for pair in pairs])
    return Resampled(
        _estimates(own[0], means),
        _estimates(own[1], interquartile),
        _estimates(own[2], ranks),
        _estimates(own_wins, wins),
    )


def _drawn(values: FloatArray, chosen: npt.NDArray[np.int64]) -> Iterator[FloatArray]:
    """Yield (K, B, C, S) resampled values, some of the draws at a time."""
    step = max(1, _MOST_VALUES // values.size)
    classes = np.arange(values.shape[1])[:, None]
    for start in range(0, len(chosen), step):
        yield values[:, classes, chosen[start : start + step]]


def _figures(drawn: FloatArray, pairs: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean differences (B, P), interquartile means (B, K) and average ranks (B, K) of (K, B, C, S) values."""
    by_class = drawn.mean(axis=-1)
    overall = by_class.mean(axis=-1)
    flat = drawn.reshape(*drawn.shape[:2], -1)
    ranks = average_ranks(by_class.transpose(1, 0, 2))
    return (overall[pairs[:, 0]] - overall[pairs[:, 1]]).T, interquartile_mean(flat).T, ranks


def _wins(values: FloatArray, pair: npt.NDArray[np.intp], counts: FloatArray) -> FloatArray:
    """Return (B,) shares of pairs of seeds in which the first config has the larger value, averaged over classes.

    Args:
        values: (K, C, S).
        pair: two rows of K.
        counts: (B, C, S) how often each draw has each seed.
    """
    first, second = values[pair[0]], values[pair[1]]
    wins = (np.sign(first[:, :, None] - second[:, None, :]) + 1) / 2
    shares = [((counts[:, row] @ each) * counts[:, row]).sum(axis=1) for row, each in enumerate(wins)]
    return np.asarray(np.mean(shares, axis=0) / first.shape[1] ** 2)


def _estimates(value: FloatArray, drawn: FloatArray) -> Estimates:
    low, high = np.quantile(drawn, (ALPHA / 2, 1 - ALPHA / 2), axis=0)
    return Estimates(value, low, high)

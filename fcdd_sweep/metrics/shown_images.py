"""The choice of test images that a trial's figures show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.ranking import Numbers

Indices = npt.NDArray[np.int64]
LABEL_VALUES = (0, 1)
NO_MAP = 2
"""Fills the map of an anomaly without one: none was drawn, or training treats all of its pixels as anomalous."""


def equidistant(label: Numbers, score: Numbers, label_value: int, count: int = 6) -> Indices:
    """Return images of one label at equal distances in rank, from the most nominal to the most anomalous.

    Returns:
        up to `count` indices into `label`; all images of the label when there are no more than `count`.
    """
    ordered = _by_score(label, score, label_value)
    if len(ordered) <= count:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, count).round().astype(np.int64)]


def first(label: Numbers, label_value: int, count: int = 20) -> Indices:
    """Return the first images of a label, in their order."""
    return np.flatnonzero(np.asarray(label) == label_value)[:count]


def extremes(label: Numbers, score: Numbers, label_value: int, count: int = 10) -> Indices:
    """Return the most nominal images of a label, then the most anomalous ones; no image twice."""
    ordered = _by_score(label, score, label_value)
    return np.concatenate([ordered[:count], ordered[max(count, len(ordered) - count) :]])


def shown_images(label: Numbers, score: Numbers) -> Indices:
    """Return all images that a trial's figures show, sorted.

    Args:
        label: (n,) 0 nominal, 1 anomalous.
        score: (n,) higher is more anomalous.
    """
    chosen = [
        indices
        for value in LABEL_VALUES
        for indices in (equidistant(label, score, value), first(label, value), extremes(label, score, value))
    ]
    return np.unique(np.concatenate(chosen))


def _by_score(label: Numbers, score: Numbers, label_value: int) -> Indices:
    own = np.flatnonzero(np.asarray(label) == label_value)
    return own[np.argsort(np.asarray(score)[own], kind="stable")]

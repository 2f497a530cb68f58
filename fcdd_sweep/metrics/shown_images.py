"""Which test images the pictures show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
LABEL_VALUES = (0, 1)
NO_MAP = 2
"""Fills the map of an anomaly that has none: nobody drew one, or training takes all of it for anomalous."""


def equidistant(label: npt.NDArray[Any], score: npt.NDArray[Any], label_value: int, count: int = 6) -> Indices:
    """Images of one label from the most nominal to the most anomalous, at equal distances in rank.

    Returns:
        up to `count` indices into `label`; all of the label's images when there are no more than `count`.
    """
    ordered = _by_score(label, score, label_value)
    if len(ordered) <= count:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, count).round().astype(np.int64)]


def first(label: npt.NDArray[Any], label_value: int, count: int = 20) -> Indices:
    """The first images of a label, in their own order."""
    return np.flatnonzero(np.asarray(label) == label_value)[:count]


def extremes(label: npt.NDArray[Any], score: npt.NDArray[Any], label_value: int, count: int = 10) -> Indices:
    """The most nominal images of a label, then the most anomalous ones; no image twice."""
    ordered = _by_score(label, score, label_value)
    return np.concatenate([ordered[:count], ordered[max(count, len(ordered) - count) :]])


def shown_images(label: npt.NDArray[Any], score: npt.NDArray[Any]) -> Indices:
    """All images that a trial's pictures show, sorted.

    Args:
        label: (n,) 0 nominal, 1 anomalous.
        score: (n,) higher is more anomalous.
    """
    parts = [
        indices
        for value in LABEL_VALUES
        for indices in (equidistant(label, score, value), first(label, value), extremes(label, score, value))
    ]
    return np.unique(np.concatenate(parts))


def _by_score(label: npt.NDArray[Any], score: npt.NDArray[Any], label_value: int) -> Indices:
    own = np.flatnonzero(np.asarray(label) == label_value)
    return own[np.argsort(np.asarray(score)[own], kind="stable")]

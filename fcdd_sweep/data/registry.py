"""Which data sets there are and what each can do. Needs no torch and reads no image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Option:
    """A setting that belongs to one data set alone (`dataset.options`)."""

    default: bool | int | float | str
    meaning: str
    allowed: tuple[str, ...] = ()
    """Names to choose from; empty: any value of the default's type."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DataSetInfo:
    """What is known of a data set before it is read.

    Attributes:
        name: its name in experiment files.
        title: one line for `list`.
        module: the module that reads it; see `data.loading`.
        protocol: `one_vs_rest`, `defects`, or None when the folders tell.
        classes: names in order, or None when the folders tell.
        maps: whether test anomalies have ground-truth maps; None when the folders tell.
        augmentation: which of the paper's augmentations fits: `small`, `texture` (MVTec-AD's) or `photo`.
        needs_root: whether `dataset.root` must be given.
        get: how to get the data, one or two sentences.
        options: settings of this data set alone.
        trains_with_anomalies: whether the training split holds real anomalies (mode `other`); None: folders tell.
    """

    name: str
    title: str
    module: str
    protocol: Literal["one_vs_rest", "defects"] | None
    classes: tuple[str, ...] | None
    maps: bool | None
    augmentation: Literal["small", "texture", "photo"]
    needs_root: bool
    get: str
    options: dict[str, Option] = field(default_factory=dict)
    trains_with_anomalies: bool | None = None


DATA_SETS: dict[str, DataSetInfo] = {}

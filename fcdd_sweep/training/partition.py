"""A trial's images by role, decided before anything is fitted: training, held out, test, and reserved anomalies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fcdd_sweep.anomalies.limits import drawn_by_type
from fcdd_sweep.anomalies.registry import REAL_SOURCES
from fcdd_sweep.config.fields import FromTestSource
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Corpus, Split, held_out_of, split_for
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.streams import Streams

RowIndices = npt.NDArray[np.int64]
"""Rows of a corpus or of a pool."""


@dataclass(frozen=True)
class TrialData:
    """The images that a trial reads.

    Attributes:
        corpus: the decoded data set.
        exposure: images of the outlier-exposure source; None when the config names none.
        validation_pool: images that validation anomalies come from; None when the config names neither a data set
            nor a folder for them.
    """

    corpus: Corpus
    exposure: ImagePool | None = None
    validation_pool: ImagePool | None = None


@dataclass(frozen=True)
class ReservedAnomalies:
    """Real anomalies that left the test set, the same for every config of the experiment: indices into the corpus.

    Attributes:
        reserved: (r,) int64, all that configs may train on.
        used: (u,) int64, the part of `reserved` that this config trains on.
        validation: (v,) int64, others, for settings to be selected on.
    """

    reserved: RowIndices
    used: RowIndices
    validation: RowIndices


@dataclass(frozen=True)
class Partition:
    """A corpus divided for one trial.

    Attributes:
        split: training and test images of the normal class, without `held_out` and without reserved anomalies.
        held_out: (v,) int64, nominal training images held out for the threshold and for validation.
        reserved_anomalies: real anomalies that left the test set.
    """

    split: Split
    held_out: RowIndices
    reserved_anomalies: ReservedAnomalies


def partition_for(spec: TrialSpec, corpus: Corpus, streams: Streams) -> Partition:
    """Divide a corpus for a trial: reserve real anomalies, then hold out nominal training images."""
    split, reserved = reserve_anomalies(split_for(corpus, spec.normal_class), spec.settings, streams)
    split, held_out = _hold_out(split, spec.settings.evaluation.validation.nominal_fraction, streams)
    return Partition(split, held_out, reserved)


def reserve_anomalies(split: Split, settings: Settings, streams: Streams) -> tuple[Split, ReservedAnomalies]:
    """Take real anomalies out of the test set, as many of each defect type as the experiment's largest limit.

    They are the first ones of one permutation per type, so limits are nested and all configs are tested on the same
    images. Validation anomalies come from the permutation's end. At least one image of each type stays in the test set.
    """
    rows = np.flatnonzero(split.test_label)
    types = [split.test_defect[row] for row in rows]
    rngs = [streams.numpy("reserved", 0, number) for number in range(len(set(types)))]
    evaluation = settings.evaluation
    source = evaluation.validation.anomalies
    for_validation = source.from_test if isinstance(source, FromTestSource) else 0
    by_type = drawn_by_type(types, evaluation.reserved_anomalies, rngs, for_validation)
    trains = settings.anomalies.source in REAL_SOURCES
    limit = None if settings.anomalies.limit == "all" else settings.anomalies.limit
    reserved = rows[_joined([drawn.training for drawn in by_type])]
    used = rows[_joined([drawn.training[:limit] for drawn in by_type] if trains else [])]
    validation = rows[_joined([drawn.validation for drawn in by_type])]
    remaining = _without(split, np.concatenate([reserved, validation]))
    return remaining, ReservedAnomalies(split.test[reserved], split.test[used], split.test[validation])


def _joined(indices: list[RowIndices]) -> RowIndices:
    return np.concatenate(indices) if indices else np.empty(0, dtype=np.int64)


def _without(split: Split, positions: RowIndices) -> Split:
    """Return the split without the test images at `positions` of its test set."""
    kept = np.setdiff1d(np.arange(len(split.test)), positions)
    return replace(
        split,
        test=split.test[kept],
        test_label=split.test_label[kept],
        test_defect=tuple(split.test_defect[row] for row in kept),
    )


def _hold_out(split: Split, fraction: float, streams: Streams) -> tuple[Split, RowIndices]:
    """Take a fraction of the nominal training images out of the split, before anything is fitted to them."""
    count = held_out_of(len(split.train_nominal), fraction)
    order = streams.numpy("split").permutation(len(split.train_nominal))
    held_out, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(split, train_nominal=split.train_nominal[kept]), split.train_nominal[held_out]

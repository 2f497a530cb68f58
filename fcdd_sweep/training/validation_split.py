"""The images that settings are selected on, taken before anything is fitted to or drawn from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from fcdd_sweep.anomalies.limits import MOST_IN_VALIDATION, reserved_of
from fcdd_sweep.anomalies.malform import malform_once
from fcdd_sweep.anomalies.registry import small_generator
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.fields import DatasetSource, FolderSource, FromTestSource
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.pools import ImagePool, SubsetPool
from fcdd_sweep.metrics.score_choice import is_for_selection
from fcdd_sweep.training.anomaly_pools import read_first
from fcdd_sweep.training.partition import Partition, RowIndices, TrialData
from fcdd_sweep.training.streams import Streams

_ROWS, _POOL, _RENDERED, _SELECTION = 0, 1, 2, 3
"""Keys in the stream `validation`: of anomalies of the training split, of images of a pool, of rendered anomalies, and
of those that are rendered to choose an image score on."""
_STRENGTHS = 2.0 ** -torch.arange(6)
"""Rendered anomalies cycle through these factors, from the generator's full strength down to a 32nd of it.

At full strength alone, most configs would find every one of them, and their metrics could not rank the configs.
"""
_MOST_SELECTION = 16
"""Images, of those that an image score is chosen on, which get anomalies of all strengths."""
_CHUNK = 64
"""Images that are rendered together. A change changes the draws of every image."""


@dataclass(frozen=True)
class ValidationAnomalies:
    """Anomalies to select settings on.

    Attributes:
        images: (m, C, R, R) uint8.
        index: m rows of the corpus; of a rendered anomaly the row of its nominal image; None for an image of a pool.
        path: m names.
        defect: m names: a defect type, another class, a source or a pool.
        gt_maps: (m, R, R) bool, the pixels that were changed; None where nothing was rendered.
        origin: the text for `selection_source`, such as `images of other classes of the training split`.
    """

    images: npt.NDArray[np.uint8]
    index: list[int | None]
    path: list[str]
    defect: list[str]
    gt_maps: npt.NDArray[np.bool_] | None = None
    origin: str = ""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ValidationSet:
    """The images that settings are selected on, disjoint from training and test images.

    Attributes:
        nominal: (v,) int64, held-out nominal training images: indices into the corpus; may be empty.
        anomalies: anomalous images; may be empty.
        selection: anomalies that only an image score is chosen on; empty where `anomalies` serve for that, too.
    """

    nominal: RowIndices
    anomalies: ValidationAnomalies
    selection: ValidationAnomalies

    @property
    def source(self) -> str:
        """Return the `selection_source` of a trial: a sentence for `metrics.parquet`."""
        if not len(self.anomalies):
            return "none: fixed epochs"
        held_out = f"validation: {len(self.nominal)} held-out nominal training images"
        return f"{held_out}, {len(self.anomalies)} {self.anomalies.origin}"


@dataclass(frozen=True)
class ValidationSplit:
    """The images that validation took, and what remains for training.

    Attributes:
        validation: the images that were taken.
        train_anomalous: (m,) int64, the real anomalies of the training split that remain.
        pool: the pool that some were taken from; None where they come from the corpus or are rendered.
        rows: (r,) int64, the images of `pool` that remain; None without a pool.
        notes: sentences for the log.
    """

    validation: ValidationSet
    train_anomalous: RowIndices
    pool: ImagePool | None = None
    rows: RowIndices | None = None
    notes: list[str] = field(default_factory=list)

    def remaining(self, exposure: ImagePool | None) -> ImagePool | None:
        """Return outlier exposure without the images that validation took, where both come from the same pool."""
        if exposure is None or self.pool is None or self.rows is None or exposure.fingerprint != self.pool.fingerprint:
            return exposure
        return SubsetPool(exposure, self.rows)


def split_validation(settings: Settings, data: TrialData, partition: Partition, streams: Streams) -> ValidationSplit:
    """Take the images that settings are selected on; which they are depends on seed and class alone."""
    corpus, split, held_out = data.corpus, partition.split, partition.held_out
    nothing = _of_corpus(corpus, held_out[:0], "")
    match settings.evaluation.validation.anomalies:
        case "none":
            validation = ValidationSet(held_out, nothing, _for_image_score(settings, corpus, held_out, streams))
            return ValidationSplit(validation, split.train_anomalous)
        case "training":
            return _from_training(corpus, split, held_out, streams)
        case FromTestSource():
            rows = partition.reserved_anomalies.validation
            anomalies = _of_corpus(corpus, rows, "real anomalies set aside from the test set")
        case DatasetSource() | FolderSource() as source:
            assert data.validation_pool is not None  # the config names one
            anomalies, remaining, notes = _from_pool(settings, source, data.validation_pool, streams)
            validation = ValidationSet(held_out, anomalies, nothing)
            return ValidationSplit(validation, split.train_anomalous, data.validation_pool, remaining, notes)
        case name:
            count = min(len(held_out), MOST_IN_VALIDATION)
            anomalies = _rendered(name, corpus, _spaced(held_out, count), streams.torch("validation", _RENDERED))
    return ValidationSplit(ValidationSet(held_out, anomalies, nothing), split.train_anomalous)


def _for_image_score(settings: Settings, corpus: Corpus, held_out: RowIndices, streams: Streams) -> ValidationAnomalies:
    """Return small anomalies to choose an image score on, of a generator that training does not use.

    They are rendered whatever `evaluation.image_score` is, so that it can become `auto` without training. Images that
    may calibrate thresholds get some only after all others: they choose a score where all are too few for a threshold.
    """
    never = np.array([is_for_selection(corpus.path[row]) for row in held_out], dtype=bool)
    first = _spaced(held_out[never], min(int(never.sum()), _MOST_SELECTION))
    others = _spaced(held_out[~never], min(int((~never).sum()), _MOST_SELECTION - len(first)))
    rows = np.repeat(np.concatenate([first, others]), len(_STRENGTHS))
    return _rendered(small_generator(settings), corpus, rows, streams.torch("validation", _SELECTION))


def _spaced(rows: RowIndices, count: int) -> RowIndices:
    """Return `count` evenly spaced rows."""
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def _of_corpus(corpus: Corpus, rows: RowIndices, origin: str) -> ValidationAnomalies:
    classes = [corpus.classes[i] for i in corpus.class_index[rows]]
    defect = classes if corpus.protocol == "one_vs_rest" else [corpus.defect[i] for i in rows]
    path = [corpus.path[i] for i in rows]
    return ValidationAnomalies(np.asarray(corpus.images[rows]), [*rows.tolist()], path, defect, origin=origin)


def _from_training(corpus: Corpus, split: Split, held_out: RowIndices, streams: Streams) -> ValidationSplit:
    """Take a part of the training split's anomalies, before a limit is drawn from the remaining ones."""
    candidates = split.train_anomalous
    order = streams.numpy("validation", _ROWS).permutation(len(candidates))
    count = reserved_of(len(candidates))
    chosen, remaining = np.sort(order[:count]), np.sort(order[count:])
    one_vs_rest = corpus.protocol == "one_vs_rest"
    origin = "images of other classes of the training split" if one_vs_rest else "real anomalies of the training split"
    anomalies = _of_corpus(corpus, candidates[chosen], origin)
    nothing = _of_corpus(corpus, held_out[:0], "")
    return ValidationSplit(ValidationSet(held_out, anomalies, nothing), candidates[remaining])


def _from_pool(
    settings: Settings, source: DatasetSource | FolderSource, pool: ImagePool, streams: Streams
) -> tuple[ValidationAnomalies, RowIndices, list[str]]:
    """Return a part of a pool as validation anomalies, the rows that remain for training, and notes for the log."""
    images = settings.images
    shape = (images.channels, images.load_size, images.load_size)
    order = streams.numpy("validation", _POOL).permutation(len(pool))
    chosen, remaining = order[: reserved_of(len(pool))], order[reserved_of(len(pool)) :]
    pixels, unreadable = read_first(pool, chosen, len(chosen), shape)
    read = [row for row in chosen.tolist() if row not in set(unreadable)]
    name, kind = _name_of(source)
    anomalies = ValidationAnomalies(
        pixels, [None] * len(read), pool.names(read), [name] * len(read), origin=f"images of {kind} {name}"
    )
    return anomalies, np.sort(remaining), _unreadable_notes(pool, unreadable, len(chosen))


def _name_of(source: DatasetSource | FolderSource) -> tuple[str, str]:
    return (source.folder.name, "folder") if isinstance(source, FolderSource) else (source.dataset, "data set")


def _unreadable_notes(pool: ImagePool, unreadable: Sequence[int], wanted: int) -> list[str]:
    if not unreadable:
        return []
    counts = f"{len(unreadable)} of {wanted} validation anomalies cannot be read and were left out"
    return [f"{counts}: {name_list(pool.names(sorted(unreadable)))}"]


def _rendered(source: str, corpus: Corpus, rows: RowIndices, generator: torch.Generator) -> ValidationAnomalies:
    """Return one synthetic anomaly per nominal image, rendered on the CPU so that every device gets the same ones.

    Noise is negated pixel by pixel, as in `anomalies.online`, so that it shows on any ground.
    """
    count = len(rows)
    clean = np.asarray(corpus.images[rows])
    gt_maps = np.zeros((count, *clean.shape[2:]), dtype=np.bool_)
    images = np.empty_like(clean)
    for start in range(0, count, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        nominal = torch.from_numpy(np.array(clean[chunk]))
        noise = render(source, len(nominal), (clean.shape[1], clean.shape[2], clean.shape[3]), generator)
        strength = _STRENGTHS[torch.arange(start, start + len(noise)) % len(_STRENGTHS)]
        scaled = (noise * strength.view(-1, 1, 1, 1)).to(torch.int16)
        malformed, changed = malform_once(nominal, scaled)
        images[chunk], gt_maps[chunk] = malformed.numpy(), changed[:, 0].numpy()
    path = [corpus.path[i] for i in rows]
    return ValidationAnomalies(
        images, [*rows.tolist()], path, [source] * count, gt_maps, f"of them with rendered {source}"
    )

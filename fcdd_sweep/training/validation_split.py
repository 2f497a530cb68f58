"""The images that settings are selected on, taken away before anything is fitted or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from fcdd_sweep.anomalies.limits import MOST_IN_VALIDATION, reserved_of
from fcdd_sweep.anomalies.malform import malform_once
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.fields import DatasetSource, FolderSource, FromTestSource
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.pools import ImagePool, SubsetPool
from fcdd_sweep.training.anomaly_pools import read_first
from fcdd_sweep.training.streams import Streams

_ROWS, _POOL, _RENDERED = 0, 1, 2
"""Keys in the stream `validation`: of anomalies of the training split, of images from elsewhere, of rendered ones."""
_STRENGTHS = 2.0 ** -torch.arange(6)
"""Rendered anomalies take turns in strength, from the generator's own down to a 32nd of it. Were all as plain as in
training, most configs would find every one of them, and their figures could not tell the configs apart."""
_CHUNK = 64
"""Images that are rendered together. It decides which draw an image gets."""
RowIndices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ValidationAnomalies:
    """Anomalies to select settings on.

    Attributes:
        images: (m, C, R, R) uint8.
        index: rows in the corpus, of a rendered anomaly that of the nominal image below it; None from elsewhere.
        path: m names.
        defect: m names, of a defect type, another class, a source or a pool.
        gt_maps: (m, R, R) bool, which pixels were changed; None where nothing was rendered.
        origin: words for `selection_source`, such as `images of other classes of the training split`.
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
    """What a trial is judged by while settings are selected; neither training nor the test set has any of it.

    Attributes:
        nominal: (v,) int64, held-out nominal training images: indices into the corpus; may be empty.
        anomalies: may be empty.
    """

    nominal: RowIndices
    anomalies: ValidationAnomalies

    @property
    def source(self) -> str:
        """`selection_source` of a trial."""
        if not len(self.anomalies):
            return "none: fixed epochs"
        held_out = f"validation: {len(self.nominal)} held-out nominal training images"
        return f"{held_out}, {len(self.anomalies)} {self.anomalies.origin}"


@dataclass(frozen=True)
class ValidationSplit:
    """What validation took, and what it left.

    Attributes:
        validation: taken.
        train_anomalous: (m,) int64, real anomalies of the training split that are left.
        pool: images from elsewhere that some were taken of, and
        rows: those that are left; None where nothing came from elsewhere.
        notes: sentences for the log.
    """

    validation: ValidationSet
    train_anomalous: RowIndices
    pool: ImagePool | None = None
    rows: RowIndices | None = None
    notes: list[str] = field(default_factory=list)

    def left_of(self, exposure: ImagePool | None) -> ImagePool | None:
        """Outlier exposure without what was taken of the same images."""
        if exposure is None or self.pool is None or self.rows is None or exposure.fingerprint != self.pool.fingerprint:
            return exposure
        return SubsetPool(exposure, self.rows)


def split_validation(
    settings: Settings,
    corpus: Corpus,
    split: Split,
    held_out: RowIndices,
    from_test: RowIndices,
    pool: ImagePool | None,
    streams: Streams,
) -> ValidationSplit:
    """The images that settings are selected on; which they are depends on seed and class alone.

    Args:
        split: held-out images taken away.
        held_out: (v,) held-out nominal training images.
        from_test: (s,) real anomalies that left the test set for this; see `supervision.reserve_anomalies`.
        pool: images of the source where the config names a data set or a folder.
    """
    match settings.evaluation.validation.anomalies:
        case "none":
            return ValidationSplit(ValidationSet(held_out, _of_corpus(corpus, held_out[:0], "")), split.train_anomalous)
        case "training":
            return _from_training(corpus, split, held_out, streams)
        case FromTestSource():
            anomalies = _of_corpus(corpus, from_test, "real anomalies set aside from the test set")
            return ValidationSplit(ValidationSet(held_out, anomalies), split.train_anomalous)
        case DatasetSource() | FolderSource() as source:
            assert pool is not None  # the config names one
            return _from_pool(settings, source, split, held_out, pool, streams)
        case name:
            return ValidationSplit(
                ValidationSet(held_out, _rendered(name, corpus, held_out, streams)), split.train_anomalous
            )


def _of_corpus(corpus: Corpus, rows: RowIndices, origin: str) -> ValidationAnomalies:
    classes = [corpus.classes[i] for i in corpus.class_index[rows]]
    defect = classes if corpus.protocol == "one_vs_rest" else [corpus.defect[i] for i in rows]
    path = [corpus.path[i] for i in rows]
    return ValidationAnomalies(np.asarray(corpus.images[rows]), [*rows.tolist()], path, defect, origin=origin)


def _from_training(corpus: Corpus, split: Split, held_out: RowIndices, streams: Streams) -> ValidationSplit:
    """A part of the training split's anomalies, before a limit is drawn from the others."""
    there = split.train_anomalous
    order = streams.numpy("validation", _ROWS).permutation(len(there))
    count = reserved_of(len(there))
    taken, left = np.sort(order[:count]), np.sort(order[count:])
    others = corpus.protocol == "one_vs_rest"
    origin = "images of other classes of the training split" if others else "real anomalies of the training split"
    return ValidationSplit(ValidationSet(held_out, _of_corpus(corpus, there[taken], origin)), there[left])


def _from_pool(
    settings: Settings,
    source: DatasetSource | FolderSource,
    split: Split,
    held_out: RowIndices,
    pool: ImagePool,
    streams: Streams,
) -> ValidationSplit:
    """A part of the images from elsewhere; training may draw from the others."""
    images = settings.images
    shape = (images.channels, images.load_size, images.load_size)
    order = streams.numpy("validation", _POOL).permutation(len(pool))
    taken, left = order[: reserved_of(len(pool))], order[reserved_of(len(pool)) :]
    pixels, unreadable = read_first(pool, taken, len(taken), shape)
    read = [row for row in taken.tolist() if row not in set(unreadable)]
    name, what = _name_of(source)
    anomalies = ValidationAnomalies(
        pixels, [None] * len(read), pool.names(read), [name] * len(read), origin=f"images of {what} {name}"
    )
    notes = _unreadable_notes(pool, unreadable, len(taken))
    return ValidationSplit(ValidationSet(held_out, anomalies), split.train_anomalous, pool, np.sort(left), notes)


def _name_of(source: DatasetSource | FolderSource) -> tuple[str, str]:
    return (source.folder.name, "folder") if isinstance(source, FolderSource) else (source.dataset, "data set")


def _unreadable_notes(pool: ImagePool, unreadable: Sequence[int], wanted: int) -> list[str]:
    if not unreadable:
        return []
    counts = f"{len(unreadable)} of {wanted} validation anomalies cannot be read and were left out"
    return [f"{counts}: {name_list(pool.names(sorted(unreadable)))}"]


def _rendered(source: str, corpus: Corpus, held_out: RowIndices, streams: Streams) -> ValidationAnomalies:
    """One anomaly on each held-out image, on the CPU: the same ones wherever a trial runs.

    Noise is negated pixel by pixel, as in `anomalies.online`, so that it shows on any ground.
    """
    count = min(len(held_out), MOST_IN_VALIDATION)
    below = held_out[np.arange(count) * len(held_out) // max(count, 1)]  # at equal distances
    clean = np.asarray(corpus.images[below])
    gt_maps = np.zeros((count, *clean.shape[2:]), dtype=np.bool_)
    images = np.empty_like(clean)
    generator = streams.torch("validation", _RENDERED)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        nominal = torch.from_numpy(np.array(clean[part]))
        noise = render(source, len(nominal), (clean.shape[1], clean.shape[2], clean.shape[3]), generator)
        strength = _STRENGTHS[torch.arange(start, start + len(noise)) % len(_STRENGTHS)]
        faint = (noise * strength.view(-1, 1, 1, 1)).to(torch.int16)
        malformed, changed = malform_once(nominal, faint)
        images[part], gt_maps[part] = malformed.numpy(), changed[:, 0].numpy()
    path = [corpus.path[i] for i in below]
    return ValidationAnomalies(
        images, [*below.tolist()], path, [source] * count, gt_maps, f"of them with rendered {source}"
    )

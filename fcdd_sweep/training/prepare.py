"""A trial's data on its device, ready for training: partitioned, limited, copied, and with statistics fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.draws import CounterDraws, Draws, GeneratorDraws
from fcdd_sweep.anomalies.limits import limited
from fcdd_sweep.anomalies.malform import malform_once
from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES, SOURCES
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.anomaly_pools import AnomalyPool, ResidentPool, StreamedPool, read_first
from fcdd_sweep.training.augment import nearest_index
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.partition import Partition, ReservedAnomalies, RowIndices, TrialData, partition_for
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.validation_split import ValidationSet, split_validation


@dataclass(frozen=True)
class Prepared:
    """A trial's data on its device.

    Attributes:
        batches: composes the training batches.
        split: how the normal class divides the corpus, without held-out images and real anomalies that are reserved;
            with the nominal images that this model leaves out.
        validation: the images that settings are selected on and the threshold is taken from; may be empty.
        reserved_anomalies: real anomalies that left the test set, and the part of them that this config trains on.
        early_notes: sentences for the log that are known before training.
        folds: with several models the rows that each of them leaves out, in the order of the models.
    """

    batches: BatchMaker
    split: Split
    validation: ValidationSet
    reserved_anomalies: ReservedAnomalies
    early_notes: list[str] = field(default_factory=list)
    folds: tuple[RowIndices, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Sentences for the log; those about images that do not read are complete only after training."""
        pool = self.batches.pool
        return [*self.early_notes, *(pool.notes if pool is not None else [])]


def prepare(
    spec: TrialSpec, data: TrialData, streams: Streams, device: torch.device, left_out: RowIndices | None = None
) -> Prepared:
    """Partition the data, take validation images, draw training anomalies, copy to the device, and fit statistics.

    Validation images are taken first: no statistic, limit or pool of training depends on them.

    Args:
        spec: config, normal class and seed.
        data: the images.
        streams: of the trial.
        device: of the trial.
        left_out: rows of nominal training images that nothing is fitted to; None: all are trained on.
    Raises:
        TrainingError: the class has no nominal training images, or the mode needs anomalies and there are none.
    """
    settings, corpus = spec.settings, data.corpus
    partition = partition_for(spec, corpus, streams)
    chosen = split_validation(settings, data, partition, streams)
    split = replace(partition.split, train_anomalous=chosen.train_anomalous)
    if not len(split.train_nominal):
        raise TrainingError(f"class '{spec.normal_class}' of '{corpus.name}' has no nominal training images")
    used = split.train_nominal if left_out is None else np.setdiff1d(split.train_nominal, left_out)
    nominal = torch.from_numpy(np.asarray(corpus.images[used])).to(device)
    data = replace(data, exposure=chosen.remaining(data.exposure))
    supervision = supervise(settings, data, replace(partition, split=split), nominal, streams)
    preprocessor = Preprocessor.fit(Recipe.of(settings, has_maps=corpus.has_maps), nominal)
    batches = BatchMaker(settings, nominal, supervision.pool, preprocessor, streams, supervision.appended)
    notes = [*chosen.notes, *supervision.notes]
    return Prepared(batches, split, chosen.validation, partition.reserved_anomalies, notes)


_CHUNK = 256
"""Images that are malformed together before training."""


@dataclass(frozen=True)
class Supervision:
    """Training anomalies.

    Attributes:
        pool: distinct anomalies to draw from; None where they are rendered while training or there are none.
        appended: offline, how many anomalies follow the nominal images; 0 online.
        notes: sentences for the log.
    """

    pool: AnomalyPool | None = None
    appended: int = 0
    notes: tuple[str, ...] = ()


def supervise(
    settings: Settings, data: TrialData, partition: Partition, nominal: Tensor, streams: Streams
) -> Supervision:
    """Return a trial's training anomalies.

    Online they are drawn from a pool or rendered while training. Offline each nominal image gets one that follows the
    nominal images: a synthetic one made once, or the pool's images in turn. Real anomalies of the training split
    follow as they are, each once.

    Args:
        data: the trial's images; `exposure` without what validation took of it.
        partition: of the corpus; its `train_anomalous` without what validation took of it.
        nominal: (N, C, R, R) uint8, the nominal training images on the training device.
    Raises:
        TrainingError: the mode needs anomalies, and there are none.
    """
    anomalies = settings.anomalies
    if anomalies.mode == "unsupervised" or (anomalies.source in SOURCES and anomalies.online):
        return Supervision()
    if anomalies.source in SOURCES:
        return _rendered_once(settings, nominal, streams)
    appended = 0 if anomalies.online else len(nominal)
    if anomalies.source in REAL_SOURCES:
        used = partition.reserved_anomalies.used
        _require(len(used), settings, "no defect type has two test anomalies, one to train on and one to test on")
        with_maps = anomalies.source == "mvtec_gt"
        return Supervision(_real_pool(settings, data.corpus, used, nominal.device, with_maps=with_maps), appended)
    if MODES[anomalies.mode].real:
        return _from_training_split(settings, data.corpus, partition.split.train_anomalous, nominal.device, streams)
    return _from_exposure(settings, data.exposure, appended, nominal.device, streams)


def _require(count: int, settings: Settings, why: str) -> None:
    if not count:
        mode = settings.anomalies.mode
        raise TrainingError(f"there are no training anomalies to draw from for anomalies.mode '{mode}': {why}")


def _from_training_split(
    settings: Settings, corpus: Corpus, train_anomalous: RowIndices, device: torch.device, streams: Streams
) -> Supervision:
    """Return the real anomalies of the training split, under the limit and with their maps."""
    anomalies = settings.anomalies
    _require(len(train_anomalous), settings, "the training split holds no anomalies")
    order, wanted, note = limited(len(train_anomalous), anomalies.limit, streams.numpy("limit"))
    pool = _real_pool(settings, corpus, train_anomalous[order[:wanted]], device, with_maps=True)
    return Supervision(pool, 0 if anomalies.online else len(pool), (note,) if note else ())


def _from_exposure(
    settings: Settings, exposure: ImagePool | None, appended: int, device: torch.device, streams: Streams
) -> Supervision:
    """Return outlier exposure under the limit: resident where it fits, otherwise read while training.

    Offline no more images are read than follow the nominal ones, and they stay resident whatever their size: the
    nominal images take as much.
    """
    size = 0 if exposure is None else len(exposure)
    _require(size, settings, "the source of outlier exposure is empty")
    assert exposure is not None  # it has images
    images = settings.images
    shape = (images.channels, images.load_size, images.load_size)
    order, wanted, note = limited(size, settings.anomalies.limit, streams.numpy("limit"))
    notes = [note] if note else []
    if not appended and wanted * int(np.prod(shape)) > anomaly_pools.RESIDENT_BYTES:
        return Supervision(StreamedPool(exposure, order, wanted), appended, tuple(notes))
    needed = min(wanted, appended) if appended else wanted
    pixels, unreadable = read_first(exposure, order, needed, shape)
    _require(len(pixels), settings, f"none of the {size} outlier-exposure images can be read")
    if unreadable:
        counts = f"{len(unreadable)} outlier-exposure images cannot be read and were passed over"
        notes.append(f"{counts}: {name_list(exposure.names(sorted(unreadable)))}")
    if len(pixels) < needed:
        notes.append(f"{needed} outlier-exposure images were to be used, but only {len(pixels)} of {size} can be read")
    return Supervision(ResidentPool(torch.from_numpy(pixels).to(device)), appended, tuple(notes))


def _real_pool(
    settings: Settings, corpus: Corpus, index: RowIndices, device: torch.device, *, with_maps: bool
) -> ResidentPool:
    """Return images `index` of the corpus, with their maps where `with_maps` and the data has maps."""
    gt_maps = None
    if with_maps and corpus.has_maps:
        gt_maps = torch.from_numpy(_raw_maps(corpus, index, settings.images.load_size)).to(device)
    return ResidentPool(torch.from_numpy(np.asarray(corpus.images[index])).to(device), gt_maps)


def _raw_maps(corpus: Corpus, index: RowIndices, load_size: int) -> npt.NDArray[np.uint8]:
    """Return (M, 1, R, R) uint8 maps of anomalies, resized by nearest neighbor; all ones for one without a map."""
    maps = np.ones((len(index), 1, load_size, load_size), dtype=np.uint8)
    for row, image in enumerate(index):
        mask = corpus.mask(image)
        if mask is not None:
            rows, columns = (nearest_index(load_size, side) for side in mask.shape)
            maps[row, 0] = mask[rows][:, columns]
    return maps


def _rendered_once(settings: Settings, nominal: Tensor, streams: Streams) -> Supervision:
    """Return one synthetic anomaly per nominal image, in its order; rendered in chunks to save memory."""
    mode, source, device = settings.anomalies.mode, str(settings.anomalies.source), nominal.device
    draws = _offline_draws(streams, device)
    images = torch.empty_like(nominal)
    gt_maps = nominal.new_empty((len(nominal), 1, *nominal.shape[2:])) if MODES[mode].gives_maps else None
    n_unchanged = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, len(nominal), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        clean = nominal[chunk]
        noise = render(source, len(clean), (clean.shape[1], clean.shape[2], clean.shape[3]), draws(start))
        if mode == "noise":
            images[chunk] = noise.clamp(0, 255).to(torch.uint8)
            continue
        images[chunk], changed = malform_once(clean, noise)
        n_unchanged += (~changed.flatten(1).any(dim=1)).sum()
        if gt_maps is not None:
            gt_maps[chunk] = changed.to(torch.uint8)
    notes = _unchanged_notes(int(n_unchanged), len(nominal), source)
    return Supervision(ResidentPool(images, gt_maps), len(nominal), notes)


def _offline_draws(streams: Streams, device: torch.device) -> Callable[[int], Draws]:
    """Return the draws of anomalies that are made before training, by the number of the first image of a chunk."""
    if device.type == "cuda":
        key = torch.tensor(streams.integer("offline"), device=device)
        return partial(CounterDraws, key)
    draws = GeneratorDraws(streams.torch("offline", device=device))
    return lambda first: draws


def _unchanged_notes(unchanged: int, total: int, source: str) -> tuple[str, ...]:
    if not unchanged:
        return ()
    counts = f"{unchanged} of {total} anomalies made before training equal their nominal image"
    return (f"{counts}, which '{source}' did not change",)

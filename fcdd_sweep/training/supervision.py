"""Where a trial's training anomalies come from: set aside, limited, read, or made before training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.limits import drawn_by_type, limited
from fcdd_sweep.anomalies.malform import malform_once
from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES, SOURCES
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.fields import FromTestSource
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.anomaly_pools import AnomalyPool, ResidentPool, StreamedPool, read_first
from fcdd_sweep.training.augment import nearest_index
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams

_CHUNK = 256
"""Images that are malformed together before training."""


@dataclass(frozen=True)
class ReservedAnomalies:
    """Real anomalies that left the test set, for every config of the experiment alike: indices into the corpus.

    Attributes:
        reserved: (r,) int64, all of them.
        used: (u,) int64, those of them that this config trains on.
        validation: (v,) int64, others, which settings are selected on.
    """

    reserved: npt.NDArray[np.int64]
    used: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Supervision:
    """Training anomalies.

    Attributes:
        pool: what they are drawn from, or None where they are rendered while training or there are none.
        appended: offline, how many anomalies follow the nominal images; 0 online.
        notes: sentences for the log.
    """

    pool: AnomalyPool | None
    appended: int
    notes: list[str]


def reserve_anomalies(split: Split, settings: Settings, streams: Streams) -> tuple[Split, ReservedAnomalies]:
    """Take real anomalies out of the test set, as many of each defect type as the experiment's largest limit.

    The first ones of one permutation a type, so limits are nested and all configs are tested on the same images. Those
    that settings are selected on come from its end. At least one image of each type stays.
    """
    rows = np.flatnonzero(split.test_label)
    types = [split.test_defect[row] for row in rows]
    rngs = [streams.numpy("reserved", 0, number) for number in range(len(set(types)))]
    evaluation = settings.evaluation
    selecting = evaluation.validation.anomalies
    for_validation = selecting.from_test if isinstance(selecting, FromTestSource) else 0
    of_type = drawn_by_type(types, evaluation.reserved_anomalies, rngs, for_validation)
    trains = settings.anomalies.source in REAL_SOURCES
    most = None if settings.anomalies.limit == "all" else settings.anomalies.limit
    reserved = rows[_joined([drawn.training for drawn in of_type])]
    used = rows[_joined([drawn.training[:most] for drawn in of_type] if trains else [])]
    validation = rows[_joined([drawn.validation for drawn in of_type])]
    stays = np.setdiff1d(np.arange(len(split.test)), np.concatenate([reserved, validation]))
    left = replace(
        split,
        test=split.test[stays],
        test_label=split.test_label[stays],
        test_defect=tuple(split.test_defect[row] for row in stays),
    )
    return left, ReservedAnomalies(split.test[reserved], split.test[used], split.test[validation])


def _joined(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def supervise(
    settings: Settings,
    corpus: Corpus,
    split: Split,
    used: npt.NDArray[np.int64],
    exposure: ImagePool | None,
    nominal: Tensor,
    streams: Streams,
) -> Supervision:
    """A trial's training anomalies.

    Online they are drawn from a pool or rendered while training. Offline one for each nominal image follows the
    nominal images: made once, or the pool's images in turn; real anomalies of the training split follow as they are,
    each once.

    Args:
        used: real anomalies that left the test set and that this config trains on; see `SetAside`.
        exposure: the images of the outlier-exposure source when the config names one.
        nominal: (N, C, R, R) uint8 on the training device.
    Raises:
        TrainingError: the mode needs anomalies, and there are none.
    """
    anomalies = settings.anomalies
    if anomalies.mode == "unsupervised":
        return Supervision(None, 0, [])
    if anomalies.source in SOURCES:
        return Supervision(None, 0, []) if anomalies.online else _made_once(settings, nominal, streams)
    appended = 0 if anomalies.online else len(nominal)
    if anomalies.source in REAL_SOURCES:
        _some(len(used), settings, "no defect type has two test anomalies, one to train on and one to test on")
        pool = _real_pool(settings, corpus, used, nominal.device, with_maps=anomalies.source == "mvtec_gt")
        return Supervision(pool, appended, [])
    if MODES[anomalies.mode].real:
        _some(len(split.train_anomalous), settings, "the training split holds no anomalies")
        order, wanted, note = limited(len(split.train_anomalous), anomalies.limit, streams.numpy("limit"))
        index = split.train_anomalous[order[:wanted]]
        pool = _real_pool(settings, corpus, index, nominal.device, with_maps=True)
        return Supervision(pool, 0 if anomalies.online else len(pool), [note] if note else [])
    exposed, notes = _exposure_pool(settings, exposure, appended, streams, nominal.device)
    return Supervision(exposed, appended, notes)


def _some(count: int, settings: Settings, why: str) -> None:
    if not count:
        mode = settings.anomalies.mode
        raise TrainingError(f"there are no training anomalies to draw from for anomalies.mode '{mode}': {why}")


def _exposure_pool(
    settings: Settings, exposure: ImagePool | None, appended: int, streams: Streams, device: torch.device
) -> tuple[AnomalyPool, list[str]]:
    """Outlier exposure under the limit: resident where it fits, otherwise read while training.

    Offline no more images are read than follow the nominal ones, and they stay whatever their size: the nominal images
    take as much.
    """
    size = 0 if exposure is None else len(exposure)
    _some(size, settings, "the source of outlier exposure is empty")
    assert exposure is not None  # it has images
    images = settings.images
    shape = (images.channels, images.load_size, images.load_size)
    order, wanted, note = limited(size, settings.anomalies.limit, streams.numpy("limit"))
    notes = [note] if note else []
    if not appended and wanted * int(np.prod(shape)) > anomaly_pools.RESIDENT_BYTES:
        return StreamedPool(exposure, order, wanted), notes
    needed = min(wanted, appended) if appended else wanted
    pixels, unreadable = read_first(exposure, order, needed, shape)
    _some(len(pixels), settings, f"none of the {size} outlier-exposure images can be read")
    if unreadable:
        counts = f"{len(unreadable)} outlier-exposure images cannot be read and were passed over"
        notes.append(f"{counts}: {name_list(exposure.names(sorted(unreadable)))}")
    if len(pixels) < needed:
        notes.append(f"{needed} outlier-exposure images were to be used, but only {len(pixels)} of {size} can be read")
    return ResidentPool(torch.from_numpy(pixels).to(device)), notes


def _real_pool(
    settings: Settings, corpus: Corpus, index: npt.NDArray[np.int64], device: torch.device, *, with_maps: bool
) -> ResidentPool:
    """Images `index` of the corpus, and their maps where the data has maps and they are asked for."""
    gt_maps = None
    if with_maps and corpus.has_maps:
        gt_maps = torch.from_numpy(_raw_maps(corpus, index, settings.images.load_size)).to(device)
    return ResidentPool(torch.from_numpy(np.asarray(corpus.images[index])).to(device), gt_maps)


def _raw_maps(corpus: Corpus, index: npt.NDArray[np.int64], load_size: int) -> npt.NDArray[np.uint8]:
    """(M, 1, R, R) maps of anomalies by nearest neighbor; all ones for an anomaly without a map."""
    maps = np.ones((len(index), 1, load_size, load_size), dtype=np.uint8)
    for row, image in enumerate(index):
        mask = corpus.mask(image)
        if mask is not None:
            rows, columns = (nearest_index(load_size, side) for side in mask.shape)
            maps[row, 0] = mask[rows][:, columns]
    return maps


def _made_once(settings: Settings, nominal: Tensor, streams: Streams) -> Supervision:
    """One synthetic anomaly for each nominal image, in its order, chunk by chunk: only the results stay in memory."""
    mode, source, device = settings.anomalies.mode, str(settings.anomalies.source), nominal.device
    generator = streams.torch("offline", device=device)
    images = torch.empty_like(nominal)
    gt_maps = nominal.new_empty((len(nominal), 1, *nominal.shape[2:])) if MODES[mode].gives_maps else None
    same = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, len(nominal), _CHUNK):
        part = slice(start, start + _CHUNK)
        clean = nominal[part]
        noise = render(source, len(clean), tuple(clean.shape[1:]), generator, device)
        if mode == "noise":
            images[part] = noise.clamp(0, 255).to(torch.uint8)
            continue
        images[part], changed = malform_once(clean, noise)
        same += (~changed.flatten(1).any(dim=1)).sum()
        if gt_maps is not None:
            gt_maps[part] = changed.to(torch.uint8)
    unchanged = int(same)
    note = f"{unchanged} of {len(nominal)} anomalies made before training equal their nominal image, which '{source}' "
    notes = [note + "did not change"] if unchanged else []
    return Supervision(ResidentPool(images, gt_maps), len(nominal), notes)

"""A trial's data on its device: held out, limited, copied, and its statistics fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.exposure import limited
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.data.corpus import Corpus, Split, split_for
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.augment import nearest_index
from fcdd_sweep.training.batches import BatchMaker, Pool
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.streams import Streams


class TrainingError(RuntimeError):
    """A training that cannot go on: the loss is no longer finite, or there is nothing to train on."""


@dataclass(frozen=True)
class Prepared:
    """A trial's data on its device.

    Attributes:
        batches: makes the training batches.
        split: how the normal class divides the corpus, held-out images taken out.
        validation: indices of held-out nominal training images; may be empty.
        notes: sentences for the log.
    """

    batches: BatchMaker
    split: Split
    validation: npt.NDArray[np.int64]
    notes: list[str]


def prepare(
    spec: TrialSpec,
    corpus: Corpus,
    exposure: ImagePool | None,
    streams: Streams,
    device: torch.device,
) -> Prepared:
    """Hold out, draw the limit, copy to the device, and fit the statistics on what is left."""
    settings = spec.settings
    split = split_for(corpus, spec.normal_class)
    split, validation = _hold_out(split, settings.evaluation.validation.nominal_fraction, streams)
    if not len(split.train_nominal):
        raise TrainingError(f"class '{spec.normal_class}' of '{corpus.name}' has no nominal training images")
    nominal = _on(device, corpus.images[split.train_nominal])
    pool, notes = _pool(settings, corpus, split, exposure, streams, device)
    preprocessor = Preprocessor.fit(Recipe.of(settings), nominal)
    return Prepared(BatchMaker(settings, nominal, pool, preprocessor, streams), split, validation, notes)


def _hold_out(split: Split, fraction: float, streams: Streams) -> tuple[Split, npt.NDArray[np.int64]]:
    """Take a share of the nominal training images away before anything is fitted to them."""
    count = min(round(len(split.train_nominal) * fraction), max(len(split.train_nominal) - 1, 0))
    order = streams.numpy("split").permutation(len(split.train_nominal))
    held_out, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(split, train_nominal=split.train_nominal[kept]), split.train_nominal[held_out]


def _pool(
    settings: Settings,
    corpus: Corpus,
    split: Split,
    exposure: ImagePool | None,
    streams: Streams,
    device: torch.device,
) -> tuple[Pool | None, list[str]]:
    """The anomalies to draw from, cut down to the limit: the first of one permutation, so limits are nested."""
    mode, limit = settings.anomalies.mode, settings.anomalies.limit
    if mode == "other":
        size = len(split.train_anomalous)
    elif exposure is not None:
        size = len(exposure)
    else:
        return None, []
    if not size:
        raise TrainingError(f"there are no training anomalies to draw from for anomalies.mode '{mode}'")
    chosen, note = limited(size, limit, streams.numpy("limit"))
    notes = [note] if note else []
    if mode != "other" and exposure is not None:
        return Pool(_on(device, exposure.read(chosen)[0])), notes
    index = split.train_anomalous[chosen]
    gt_maps = _raw_maps(corpus, index, settings.images.raw_size) if corpus.has_maps else None
    return Pool(_on(device, corpus.images[index]), None if gt_maps is None else _on(device, gt_maps)), notes


def _raw_maps(corpus: Corpus, index: npt.NDArray[np.int64], raw_size: int) -> npt.NDArray[np.uint8]:
    """(M, 1, R, R) maps of training anomalies by nearest neighbour; all ones for an anomaly without a map."""
    maps = np.ones((len(index), 1, raw_size, raw_size), dtype=np.uint8)
    for row, image in enumerate(index):
        mask = corpus.mask(image)
        if mask is not None:
            rows, columns = (nearest_index(raw_size, side) for side in mask.shape)
            maps[row, 0] = mask[rows][:, columns]
    return maps


def _on(device: torch.device, array: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device)

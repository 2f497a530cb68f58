"""A trial's data on its device: set aside, held out, limited, copied, and its statistics fitted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Corpus, Split, held_out_of, split_for
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.supervision import ReservedAnomalies, reserve_anomalies, supervise
from fcdd_sweep.training.validation_split import ValidationSet, split_validation

__all__ = ["Prepared", "TrainingError", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A trial's data on its device.

    Attributes:
        batches: makes the training batches.
        split: how the normal class divides the corpus, held-out images and real training anomalies taken out.
        validation: the images that settings are selected on, and a threshold is taken from; may be empty.
        reserved_anomalies: real anomalies that left the test set, and which of them this config trains on.
        before: sentences for the log from before training.
    """

    batches: BatchMaker
    split: Split
    validation: ValidationSet
    reserved_anomalies: ReservedAnomalies
    before: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences for the log; some are known only after training."""
        pool = self.batches.pool
        return [*self.before, *(pool.notes if pool is not None else [])]


def prepare(
    spec: TrialSpec,
    corpus: Corpus,
    exposure: ImagePool | None,
    streams: Streams,
    device: torch.device,
    validation_pool: ImagePool | None = None,
) -> Prepared:
    """Set real anomalies aside, hold out, draw the limit, copy to the device, and fit statistics on what is left.

    What settings are selected on is taken away first: no statistic, limit or pool of training knows it.
    """
    settings = spec.settings
    split, real = reserve_anomalies(split_for(corpus, spec.normal_class), settings, streams)
    split, held_out = _hold_out(split, settings.evaluation.validation.nominal_fraction, streams)
    taken = split_validation(settings, corpus, split, held_out, real.validation, validation_pool, streams)
    split, exposure = replace(split, train_anomalous=taken.train_anomalous), taken.left_of(exposure)
    if not len(split.train_nominal):
        raise TrainingError(f"class '{spec.normal_class}' of '{corpus.name}' has no nominal training images")
    nominal = torch.from_numpy(np.asarray(corpus.images[split.train_nominal])).to(device)
    supervision = supervise(settings, corpus, split, real.used, exposure, nominal, streams)
    preprocessor = Preprocessor.fit(Recipe.of(settings, has_maps=corpus.has_maps), nominal)
    batches = BatchMaker(settings, nominal, supervision.pool, preprocessor, streams, supervision.appended)
    return Prepared(batches, split, taken.validation, real, [*taken.notes, *supervision.notes])


def _hold_out(split: Split, fraction: float, streams: Streams) -> tuple[Split, npt.NDArray[np.int64]]:
    """Take a share of the nominal training images away before anything is fitted to them."""
    count = held_out_of(len(split.train_nominal), fraction)
    order = streams.numpy("split").permutation(len(split.train_nominal))
    held_out, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(split, train_nominal=split.train_nominal[kept]), split.train_nominal[held_out]

"""A trial's data on its device, ready for training: partitioned, limited, copied, and with statistics fitted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Split
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.partition import ReservedAnomalies, TrialData, partition_for
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.result import TrainingError
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.supervision import supervise
from fcdd_sweep.training.validation_split import ValidationSet, split_validation


@dataclass(frozen=True)
class Prepared:
    """A trial's data on its device.

    Attributes:
        batches: composes the training batches.
        split: how the normal class divides the corpus, without held-out images and real anomalies that are reserved.
        validation: the images that settings are selected on and the threshold is taken from; may be empty.
        reserved_anomalies: real anomalies that left the test set, and the part of them that this config trains on.
        early_notes: sentences for the log that are known before training.
    """

    batches: BatchMaker
    split: Split
    validation: ValidationSet
    reserved_anomalies: ReservedAnomalies
    early_notes: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences for the log; those about images that do not read are complete only after training."""
        pool = self.batches.pool
        return [*self.early_notes, *(pool.notes if pool is not None else [])]


def prepare(spec: TrialSpec, data: TrialData, streams: Streams, device: torch.device) -> Prepared:
    """Partition the data, take validation images, draw training anomalies, copy to the device, and fit statistics.

    Validation images are taken first: no statistic, limit or pool of training depends on them.

    Raises:
        TrainingError: the class has no nominal training images, or the mode needs anomalies and there are none.
    """
    settings, corpus = spec.settings, data.corpus
    partition = partition_for(spec, corpus, streams)
    chosen = split_validation(settings, data, partition, streams)
    split = replace(partition.split, train_anomalous=chosen.train_anomalous)
    if not len(split.train_nominal):
        raise TrainingError(f"class '{spec.normal_class}' of '{corpus.name}' has no nominal training images")
    nominal = torch.from_numpy(np.asarray(corpus.images[split.train_nominal])).to(device)
    data = replace(data, exposure=chosen.remaining(data.exposure))
    supervision = supervise(settings, data, replace(partition, split=split), nominal, streams)
    preprocessor = Preprocessor.fit(Recipe.of(settings, has_maps=corpus.has_maps), nominal)
    batches = BatchMaker(settings, nominal, supervision.pool, preprocessor, streams, supervision.appended)
    notes = [*chosen.notes, *supervision.notes]
    return Prepared(batches, split, chosen.validation, partition.reserved_anomalies, notes)

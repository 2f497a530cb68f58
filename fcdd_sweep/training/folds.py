"""Models of a trial that each leave a fold of the nominal training images out: which images, and progress over all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fcdd_sweep.config.names import name_share
from fcdd_sweep.config.schema import Evaluation
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.metrics.cross_conformal import FEWEST_FOLDS, fewest_folds
from fcdd_sweep.training.models import stored_model
from fcdd_sweep.training.partition import RowIndices
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.result import EpochRecord, Observer, TrainingError
from fcdd_sweep.training.state import CheckpointSink, StateError, TrainingState, copied_to_cpu


def folds_of(evaluation: Evaluation, corpus: Corpus, nominal: RowIndices) -> tuple[RowIndices, ...]:
    """Return the rows of each fold of a trial's nominal training images, all equally many.

    The images are dealt out in the order of a hash of their paths, whatever they show. Those that remain, fewer than
    there are folds, are in none: every model trains on them.

    Args:
        evaluation: has the number of folds.
        corpus: the decoded data set.
        nominal: (n,) rows of the corpus.
    Raises:
        TrainingError: there are fewer images than folds.
    """
    count = evaluation.folds
    if count == "auto":
        count = fewest_folds(len(nominal), evaluation.false_alarm_rate) or FEWEST_FOLDS
    if len(nominal) < count:
        raise TrainingError(f"{len(nominal)} nominal training images cannot be divided into {count} folds")
    order = sorted(nominal.tolist(), key=lambda row: (name_share(corpus.path[row]), row))
    size = len(order) // count
    return tuple(np.sort(np.array(order[k : count * size : count], dtype=np.int64)) for k in range(count))


@dataclass
class FoldProgress:
    """What the training of one model reports to, and saves its states in: those of the whole trial.

    Epochs are counted over all models. A state holds the models that are finished besides the training in progress.

    Attributes:
        observer, checkpoints: of the trial.
        epochs: of each model.
        models: how many are trained.
        finished: by model that is finished its weights, statistics and history, as plain values.
    """

    observer: Observer
    checkpoints: CheckpointSink
    epochs: int
    models: int
    finished: list[dict[str, Any]] = field(default_factory=list)

    @property
    def _before(self) -> int:
        return len(self.finished) * self.epochs

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self.observer.epoch_done(replace(record, epoch=self._before + record.epoch), self.models * epochs)

    def stop_asked(self) -> bool:
        return self.observer.stop_asked()

    def due(self, epoch: int, step: int) -> bool:
        return self.checkpoints.due(self._before + epoch, step)

    def keep(self, state: dict[str, Any]) -> None:
        self.checkpoints.keep(state | {"epoch": self._before + state["epoch"], "finished": list(self.finished)})

    def resume(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Take over the finished models of a saved state, and return the state of the training that was in progress.

        Raises:
            StateError: it is not the state of such a trial.
        """
        finished = saved.get("finished")
        if not isinstance(finished, list) or len(finished) >= self.models:
            raise StateError("it does not hold the models of a trial with evaluation.calibration cross")
        self.finished = copied_to_cpu(finished)  # tensors of a file are memory-mapped, and it is removed later
        return {**saved, "epoch": saved["epoch"] - self._before}

    def finish(self, state: TrainingState, preprocessor: Preprocessor) -> None:
        """Add the model that training just finished."""
        history = [asdict(record) for record in state.history]
        self.finished.append(
            stored_model(state.member.network, preprocessor)
            | {"history": history, "unreadable": sorted(state.unreadable)}
        )

    @property
    def history(self) -> list[EpochRecord]:
        """The epochs of all finished models, one model after the other."""
        records = [EpochRecord(**record) for model in self.finished for record in model["history"]]
        return [replace(record, epoch=number) for number, record in enumerate(records, start=1)]

    @property
    def unreadable(self) -> set[int]:
        """Exposure images that could not be read."""
        return {each for model in self.finished for each in model["unreadable"]}

"""The trainer: a trial's spec and its data in, a `TrainingResult` out. It knows neither Ray nor Optuna nor files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcdd_sweep.config.decision_record import decision_figures
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial_spec import TrialSpec, device_numerics
from fcdd_sweep.metrics.cross_conformal import LeftOutScores
from fcdd_sweep.networks.execution import computed
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.compose import Batch
from fcdd_sweep.training.detector import DECISION_FIELDS, Detector
from fcdd_sweep.training.device import choose_device, device_name, numerics
from fcdd_sweep.training.engine import ProgramMember
from fcdd_sweep.training.fold_ensemble import FoldModels
from fcdd_sweep.training.folds import FoldProgress, folds_of
from fcdd_sweep.training.graph_program import make_program
from fcdd_sweep.training.methods import METHODS
from fcdd_sweep.training.models import load_model, make_network
from fcdd_sweep.training.network import DetectionNetwork, outputs_of, training_precision
from fcdd_sweep.training.optimizers import RateSchedule, make_optimizer
from fcdd_sweep.training.pack import current_pack
from fcdd_sweep.training.partition import RowIndices, TrialData, partition_for
from fcdd_sweep.training.prepare import Prepared, prepare
from fcdd_sweep.training.result import DivergedError, EpochRecord, NullObserver, Observer, TrainingResult
from fcdd_sweep.training.scoring import evaluate, shown_samples
from fcdd_sweep.training.state import CheckpointSink, NullCheckpointSink, TrainingState, copied_to_cpu, moment_of
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.validation import validation_auroc


class Stopped(Exception):
    """The observer asked training to stop."""


@dataclass(frozen=True)
class TrainingHooks:
    """What training calls while it runs.

    Attributes:
        observer: receives every epoch's record; may ask to stop.
        checkpoints: receives states to resume from; one is saved before training stops.
    """

    observer: Observer = field(default_factory=NullObserver)
    checkpoints: CheckpointSink = field(default_factory=NullCheckpointSink)


NO_HOOKS = TrainingHooks()


def train(
    spec: TrialSpec, data: TrialData, hooks: TrainingHooks = NO_HOOKS, resume: Mapping[str, Any] | None = None
) -> TrainingResult:
    """Train and test one trial.

    The same spec and data give the same numbers on the same kind of device: alone or beside other trials, in one
    attempt or resumed from a checkpoint. Times are those of all attempts together.

    Args:
        spec: config, normal class and seed.
        data: the images.
        hooks: see `TrainingHooks`.
        resume: a state dict that `hooks.checkpoints` of the same trial received; None: train from the beginning.
    Raises:
        TrainingError: there are no nominal training images, or the loss is not finite.
        Stopped: the observer asked for it.
        StateError: `resume` does not fit the network or its optimizer.
    """
    settings = spec.settings
    device = choose_device(settings.resources.device)
    pack = current_pack()
    with (numerics if pack is None else pack.numerics)(settings, device):
        started = time.perf_counter()
        streams = Streams(spec.seed, spec.normal_class)
        if settings.evaluation.calibration == "cross":
            return _train_folds(_Trial(spec, data, streams, device, started), hooks, resume)
        prepared = prepare(spec, data, streams, device)
        network = make_network(settings, device, streams.integer("weights"))
        state = begin(network, prepared.batches, started)
        if resume is not None:
            state.load_state_dict(resume)
        preprocessor = prepared.batches.preprocessor
        detector = Detector(settings, spec.normal_class, network, preprocessor, data.corpus.value_range)
        auroc = partial(validation_auroc, detector, data.corpus, prepared.validation)
        train_epochs(state, prepared.batches, hooks, auroc)
        if pack is not None:
            pack.leave()
        trained = _Trained(detector, state.history, state.started, time.perf_counter(), _final_state(state))
        del state  # with its graph, whose memory the scoring of images may need
        return _tested(spec, data, prepared, trained)


class _Trial(NamedTuple):
    """A trial on its device; `started` is when it began, in seconds of `perf_counter`."""

    spec: TrialSpec
    data: TrialData
    streams: Streams
    device: torch.device
    started: float


def _train_folds(trial: _Trial, hooks: TrainingHooks, resume: Mapping[str, Any] | None) -> TrainingResult:
    """Train one model after another, each without a fold of the nominal images, and test them together."""
    spec, data, settings = trial.spec, trial.data, trial.spec.settings
    nominal = partition_for(spec, data.corpus, trial.streams).split.train_nominal
    folds = folds_of(settings.evaluation, data.corpus, nominal)
    progress = FoldProgress(hooks.observer, hooks.checkpoints, settings.training.epochs, len(folds))
    interrupted, started = None if resume is None else progress.resume(resume), trial.started
    for fold in folds[len(progress.finished) :]:
        started = _train_fold(trial, fold, progress, started, interrupted)
        interrupted = None
    ended, first = time.perf_counter(), prepare(spec, data, trial.streams, trial.device, left_out=folds[0])
    first.batches.unreadable.update(progress.unreadable)
    final = {"epoch": len(progress.history)}
    trained = _Trained(_ensemble(trial, progress, folds), progress.history, started, ended, final)
    return _tested(spec, data, replace(first, folds=folds), trained)


def _train_fold(
    trial: _Trial, fold: RowIndices, progress: FoldProgress, started: float, interrupted: Mapping[str, Any] | None
) -> float:
    """Train the model that leaves out the rows `fold`, from the state of its training that was interrupted, if it was.

    Args:
        trial: that the model is of.
        fold: rows of the corpus.
        progress: gets its epochs and the finished model.
        started: when the first model's training began, in seconds of `perf_counter`.
        interrupted: see `FoldProgress.resume`.
    Returns:
        When the first model's training would have begun without interruptions.
    """
    settings, data = trial.spec.settings, trial.data
    prepared = prepare(trial.spec, data, trial.streams, trial.device, left_out=fold)
    network = make_network(settings, trial.device, trial.streams.integer("weights"))
    state = begin(network, prepared.batches, started)
    if interrupted is not None:
        state.load_state_dict(interrupted)
    preprocessor = prepared.batches.preprocessor
    detector = Detector(settings, trial.spec.normal_class, network, preprocessor, data.corpus.value_range)
    auroc = partial(validation_auroc, detector, data.corpus, prepared.validation)
    try:
        train_epochs(state, prepared.batches, TrainingHooks(progress, progress), auroc)
    except Stopped as stopped:
        raise Stopped(f"{stopped} of model {len(progress.finished) + 1} of {progress.models}") from None
    progress.finish(state, preprocessor)
    return state.started


def _ensemble(trial: _Trial, progress: FoldProgress, folds: Sequence[RowIndices]) -> Detector:
    """Return the detector of all finished models, with the scores of the images that each left out."""
    settings, corpus = trial.spec.settings, trial.data.corpus
    models = (load_model(settings, plain, trial.device) for plain in progress.finished)
    members = [Detector(settings, trial.spec.normal_class, *model, corpus.value_range) for model in models]
    found = [member.scored(corpus.images, rows).columns for member, rows in zip(members, folds, strict=True)]
    fold = np.repeat(np.arange(len(folds)), [len(rows) for rows in folds])
    left_out = LeftOutScores(fold, {name: np.concatenate([each[name] for each in found]) for name in found[0]})
    return replace(members[0], ensemble=FoldModels(tuple(members), left_out))


class _Trained(NamedTuple):
    """A detector after its last epoch.

    Attributes:
        detector: that was trained.
        history: of all epochs.
        started, ended: when training began and ended, in seconds of `perf_counter`.
        final: what a snapshot holds of the training besides the detector.
    """

    detector: Detector
    history: list[EpochRecord]
    started: float
    ended: float
    final: dict[str, Any]


def _tested(spec: TrialSpec, data: TrialData, prepared: Prepared, trained: _Trained) -> TrainingResult:
    """Test a detector after its last epoch, and assemble the result of the trial."""
    detector = trained.detector
    detector.network.eval()
    tested = evaluate(detector, data.corpus, prepared)
    blurred = detector.settings.heatmaps.blur
    detector = replace(
        detector,
        **{name: tested.metrics[name] for name in DECISION_FIELDS},
        reference_quantiles=tested.maps["blurred_quantiles" if blurred else "reference_quantiles"],
    )
    metrics = tested.metrics | _training_metrics(trained, prepared)
    return TrainingResult(
        history=trained.history,
        scores=tested.scores,
        curves=tested.curves,
        metrics=metrics,
        defects=tested.defects,
        maps=tested.maps | shown_samples(detector, prepared.batches),
        snapshot=detector.snapshot()
        | trained.final
        | {"seed": spec.seed, "trial_id": spec.trial_id, "device_numerics": metrics["device_numerics"]}
        | {"test_decisions": decision_figures(metrics)},
        notes=prepared.notes,
    )


def _training_metrics(trained: _Trained, prepared: Prepared) -> dict[str, Any]:
    """Return the columns of `metrics.parquet` about training."""
    return {
        "n_train": len(prepared.split.train_nominal),
        "n_train_anomalous": prepared.batches.distinct_anomalies,
        "final_loss": trained.history[-1].loss,
        "epochs": len(trained.history),
        "train_time_s": trained.ended - trained.started,
        "test_time_s": time.perf_counter() - trained.ended,
        "device": device_name(prepared.batches.nominal.device),
        **{f"training_{name}": value for name, value in computed(trained.detector.settings).items()},
        "device_numerics": device_numerics(prepared.batches.nominal.device.type),
    }


def _final_state(state: TrainingState) -> dict[str, Any]:
    """Return what a snapshot holds of the training: states of optimizer and schedule, and the number of epochs.

    Tensors are on the CPU, so that a machine without the trial's device can load them.
    """
    return {
        "optimizer": copied_to_cpu(state.member.optimizer.state_dict()),
        "schedule": state.schedule.state_dict(),
        "epoch": len(state.history),
    }


def begin(network: DetectionNetwork, batches: BatchMaker, started: float) -> TrainingState:
    """Return the state before the first step; `started` is when training began, in seconds of `perf_counter`."""
    settings = batches.settings
    optimizer = make_optimizer(list(network.parameters()), settings.training)
    schedule = RateSchedule(optimizer, settings.training.schedule)
    sums = torch.zeros(4, dtype=torch.float64).to(batches.nominal.device)
    losses_of = partial(sample_losses, network, settings=settings)
    member, pack = ProgramMember(batches.composer, network, optimizer, losses_of, sums), current_pack()
    make = partial(make_program, samples=batches.planner.samples)
    program = make([member]) if pack is None else pack.join(member, make)
    return TrainingState(member, program, schedule, batches.unreadable, started)


def train_epochs(
    state: TrainingState,
    batches: BatchMaker,
    hooks: TrainingHooks = NO_HOOKS,
    validation_auroc: Callable[[], float] = lambda: math.nan,
) -> None:
    """Train up to the last configured epoch; the host waits for the device once per epoch, never within one.

    Args:
        state: where to begin.
        batches: composes the batches.
        hooks: see `TrainingHooks`.
        validation_auroc: returns the AUROC over validation images of the network at that moment. It is called after
            the epochs that `evaluation.validation.epochs` names, draws nothing, and changes nothing that is trained.
    Raises:
        DivergedError: the loss of an epoch is not finite.
        Stopped: the observer asked for it; `hooks.checkpoints` has received the state by then.
    """
    epochs = batches.settings.training.epochs
    while state.epoch <= epochs:
        run_epoch(state, batches, hooks)
        sums, rate = state.member.sums.tolist(), state.member.optimizer.learning_rate
        _check_finite(state.epoch, sum(sums[:2]), batches.settings)
        record = _record(state.epoch, sums, rate, time.perf_counter() - state.epoch_started)
        if state.epoch in batches.settings.evaluation.validation.epochs:
            record = replace(record, validation_image_auroc=validation_auroc())
        state.close_epoch(record)
        hooks.observer.epoch_done(record, epochs)
    _pause(state, hooks)


def run_epoch(state: TrainingState, batches: BatchMaker, hooks: TrainingHooks = NO_HOOKS) -> None:
    """Run the remaining steps of the state's epoch, and add their losses and sample counts to its sums."""
    network = state.member.network
    network.train()
    for row in batches.planner.rows(state.epoch, state.step, dropout=network.draws):
        _pause(state, hooks)
        state.program.step([row])
        state.step += 1


def _pause(state: TrainingState, hooks: TrainingHooks) -> None:
    """Between two steps: save a checkpoint when one is due, and stop when the observer asks."""
    stop = hooks.observer.stop_asked()
    if stop or hooks.checkpoints.due(state.epoch, state.step):
        hooks.checkpoints.keep(state.state_dict())
    if stop:
        raise Stopped(f"stopped {moment_of(state.epoch, state.step)}")


def _check_finite(epoch: int, loss: float, settings: Settings) -> None:
    """Raise a `DivergedError` that names the remedy when a loss is not finite: the same settings diverge again."""
    if math.isfinite(loss):
        return
    rate = settings.training.learning_rate
    lower = f"training.learning_rate={rate / 10:g}"
    baseline = "" if settings.method == "fcdd" else f", or as a baseline of a run --set {settings.method}.{lower}"
    raise DivergedError(
        f"the loss of epoch {epoch} is {loss}: training diverged at training.learning_rate {rate:g} and would do so "
        f"again; lower it: --set {lower}{baseline}"
    )


def _record(epoch: int, sums: list[float], learning_rate: float, seconds: float) -> EpochRecord:
    nominal, anomalous, n_nominal, n_anomalous = sums
    loss = (nominal + anomalous) / (n_nominal + n_anomalous)
    return EpochRecord(
        epoch=epoch,
        loss=loss,
        loss_nominal=nominal / n_nominal if n_nominal else math.nan,
        loss_anomalous=anomalous / n_anomalous if n_anomalous else math.nan,
        learning_rate=learning_rate,
        images_per_second=(n_nominal + n_anomalous) / max(seconds, 1e-9),
    )


def sample_losses(network: DetectionNetwork, batch: Batch, settings: Settings) -> Tensor:
    """Return the (N,) float32 losses of a batch, unreduced; the forward pass runs in bfloat16 where settings ask."""
    with training_precision(settings, batch.inputs.device):
        known = batch.front
        outputs = outputs_of(network, batch.inputs) if known is None else network.after_front(known)
    return METHODS[settings.method].losses(network, outputs.float(), batch, settings.heatmaps.kernel_std_px)

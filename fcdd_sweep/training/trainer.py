"""The trainer: a trial's spec and its data in, an outcome out. Knows neither Ray nor Optuna nor files."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, MultiStepLR

from fcdd_sweep.config.schema import ExponentialSchedule, Settings, Training
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.batches import Batch, BatchMaker
from fcdd_sweep.training.detector import Detector, make_network
from fcdd_sweep.training.device import choose_device, device_name, numerics
from fcdd_sweep.training.methods import METHODS
from fcdd_sweep.training.prepare import Prepared, prepare
from fcdd_sweep.training.result import DivergedError, EpochRecord, NullObserver, Observer, TrainingResult
from fcdd_sweep.training.scoring import evaluate
from fcdd_sweep.training.shown_samples import shown_samples
from fcdd_sweep.training.state import CheckpointSink, NullSink, TrainingState, moment_of
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.validation import validation_auroc


class Stopped(Exception):
    """The observer asked training to stop."""


def train(
    spec: TrialSpec,
    corpus: Corpus,
    exposure: ImagePool | None = None,
    observer: Observer | None = None,
    keeper: CheckpointSink | None = None,
    resume: Mapping[str, Any] | None = None,
    validation_pool: ImagePool | None = None,
) -> TrainingResult:
    """Train and test one trial.

    The same spec and data give the same numbers on the same kind of device, alone or beside others, in one go or going
    on from a state that was kept. Times are those of all attempts together.

    Args:
        spec: config, normal class and seed.
        corpus: the decoded data set.
        exposure: the images of the outlier-exposure source when the config names one.
        observer: told of every epoch; may ask to stop.
        keeper: keeps states to go on from; one is given to it before training stops.
        resume: a state that a keeper of the same trial was given; None: from the start.
        validation_pool: the images that validation anomalies come from when the config names a data set or a folder.
    Raises:
        TrainingError: no nominal training images, or the loss is not finite.
        Stopped: the observer asked for it.
        StateError: `resume` is of another network.
    """
    settings = spec.settings
    device = choose_device(settings.resources.device)
    with numerics(settings, device):
        started = time.perf_counter()
        streams = Streams(spec.seed, spec.normal_class)
        prepared = prepare(spec, corpus, exposure, streams, device, validation_pool)
        network = make_network(settings, device, streams.integer("weights"))
        course = begin(network, prepared.batches, started)
        if resume is not None:
            course.restore(resume)
        detector = Detector(settings, spec.normal_class, network, prepared.batches.preprocessor)
        glance = partial(validation_auroc, detector, corpus, prepared.validation)
        train_epochs(course, prepared.batches, observer or NullObserver(), keeper or NullSink(), glance)
        trained = time.perf_counter()
        network.eval()
        tested = evaluate(detector, corpus, prepared)
        detector = replace(
            detector,
            threshold=tested.metrics["threshold"],
            reference_quantiles=tested.maps["blurred_quantiles" if settings.heatmaps.blur else "reference_quantiles"],
        )
        facts = {
            **_sizes(prepared),
            "final_loss": course.history[-1].loss,
            "epochs": len(course.history),
            "train_time_s": trained - course.started,
            "test_time_s": time.perf_counter() - trained,
            "device": device_name(device),
        }
        return TrainingResult(
            history=course.history,
            scores=tested.scores,
            curves=tested.curves,
            metrics=tested.metrics | facts,
            defects=tested.defects,
            maps=tested.maps | shown_samples(detector, prepared.batches),
            snapshot=detector.snapshot() | _ending(course) | {"seed": spec.seed, "trial_id": spec.trial_id},
            notes=prepared.notes,
        )


def begin(network: Any, batches: BatchMaker, started: float) -> TrainingState:
    """A training before its first step; `started` is when it began, in seconds of `perf_counter`."""
    optimizer = make_optimizer(network, batches.settings.training)
    schedule = make_schedule(optimizer, batches.settings.training)
    sums = torch.zeros(4, dtype=torch.float64).to(batches.nominal.device)
    return TrainingState(network, optimizer, schedule, sums, batches.unreadable, started)


def train_epochs(
    course: TrainingState,
    batches: BatchMaker,
    observer: Observer,
    keeper: CheckpointSink,
    glance: Callable[[], float] = lambda: math.nan,
) -> None:
    """Train to the last of the configured epochs; the device is waited for once an epoch, never within one.

    `glance` gives the AUROC over validation images of the network as it is. It is asked after the epochs that
    `evaluation.validation.epochs` names, draws nothing, and leaves no trace in what is trained.

    Raises:
        Stopped: the observer asked for it; the keeper has the state by then.
    """
    epochs = batches.settings.training.epochs
    while course.epoch <= epochs:
        run_epoch(course, batches, observer, keeper)
        sums, rate = course.sums.tolist(), float(course.optimizer.param_groups[0]["lr"])
        _must_be_finite(course.epoch, sum(sums[:2]), batches.settings)
        record = _record(course.epoch, sums, rate, time.perf_counter() - course.epoch_started)
        if course.epoch in batches.settings.evaluation.validation.epochs:
            record = replace(record, validation_image_auroc=glance())
        course.close_epoch(record)
        observer.epoch_done(record, epochs)
    _pause(course, observer, keeper)


def run_epoch(course: TrainingState, batches: BatchMaker, observer: Observer, keeper: CheckpointSink) -> None:
    """The steps of the course's epoch that are not done yet; adds up losses and numbers of samples."""
    network, optimizer = course.network, course.optimizer
    network.train()
    for batch in batches.epoch(course.epoch, course.step):
        _pause(course, observer, keeper)
        with _own_draws(network, batches, course.epoch, course.step):
            losses = sample_losses(network, batch, batches.settings)
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimizer.step()
        course.sums += _sums(losses.detach(), batch.labels)
        course.step += 1


def _pause(course: TrainingState, observer: Observer, keeper: CheckpointSink) -> None:
    """Between two steps: keep the state where that is due, and stop where that is asked."""
    stop = observer.stop_asked()
    if stop or keeper.due(course.epoch, course.step):
        keeper.keep(course.state())
    if stop:
        raise Stopped(f"stopped {moment_of(course.epoch, course.step)}")


def _ending(course: TrainingState) -> dict[str, Any]:
    """What a snapshot holds of the training: the states of optimizer and schedule, and the number of epochs."""
    return {
        "optimizer": course.optimizer.state_dict(),
        "schedule": course.schedule.state_dict(),
        "epoch": len(course.history),
    }


@contextlib.contextmanager
def _own_draws(network: Any, batches: BatchMaker, epoch: int, step: int) -> Iterator[None]:
    """Dropout draws from torch's global generators: they get a state of this step's own, then their old one back."""
    if not network.draws:
        yield
        return
    device, seed = batches.nominal.device, batches.streams.integer("dropout", epoch, step)
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield


def _sums(losses: Tensor, labels: Tensor) -> Tensor:
    wide, anomalous = losses.double(), labels.double()
    nominal = 1 - anomalous
    return torch.stack([(wide * nominal).sum(), (wide * anomalous).sum(), nominal.sum(), anomalous.sum()])


def _must_be_finite(epoch: int, loss: float, settings: Settings) -> None:
    """Raises `DivergedError` that names the remedy: the same settings diverge again."""
    if math.isfinite(loss):
        return
    rate = settings.training.learning_rate
    lower = f"training.learning_rate={rate / 10:g}"
    beside = "" if settings.method == "fcdd" else f", or as a baseline of a run --set {settings.method}.{lower}"
    raise DivergedError(
        f"the loss of epoch {epoch} is {loss}: training diverged at training.learning_rate {rate:g} and would do so "
        f"again; lower it: --set {lower}{beside}"
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


def sample_losses(network: Any, batch: Batch, settings: Settings) -> Tensor:
    """(N,) float32 losses of a batch, unreduced."""
    half = settings.training.precision == "bf16"
    with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=half):
        outputs = network(batch.inputs)
    losses: Tensor = METHODS[settings.method].losses(network, outputs.float(), batch, settings.heatmaps.kernel_std_px)
    return losses


def make_optimizer(network: Any, training: Training) -> Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adam":
        return Adam(parameters, lr=rate, weight_decay=decay)
    momentum = training.momentum
    return SGD(parameters, lr=rate, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)


def make_schedule(optimizer: Optimizer, training: Training) -> LRScheduler:
    schedule = training.schedule
    if isinstance(schedule, ExponentialSchedule):
        return ExponentialLR(optimizer, schedule.factor)
    return MultiStepLR(optimizer, schedule.milestones, schedule.factor)


def _sizes(prepared: Prepared) -> dict[str, Any]:
    return {
        "n_train": len(prepared.split.train_nominal),
        "n_train_anomalous": prepared.batches.distinct_anomalies,
    }

"""The trainer: a trial's spec and its data in, an outcome out. Knows neither Ray nor Optuna nor files."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, MultiStepLR

from fcdd_sweep.config.schema import ExponentialSchedule, Settings, Training
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.batches import Batch, BatchMaker
from fcdd_sweep.training.detector import Detector, make_network
from fcdd_sweep.training.device import choose_device, device_name, numerics
from fcdd_sweep.training.errors import DivergedError
from fcdd_sweep.training.methods import METHODS
from fcdd_sweep.training.outcome import EpochRecord, Observer, Outcome, Silent
from fcdd_sweep.training.pictures import training_pictures
from fcdd_sweep.training.prepare import Prepared, prepare
from fcdd_sweep.training.scoring import evaluate
from fcdd_sweep.training.streams import Streams


class Stopped(Exception):
    """The observer asked training to stop before its last epoch."""


def train(
    spec: TrialSpec,
    corpus: Corpus,
    exposure: ImagePool | None = None,
    observer: Observer | None = None,
) -> Outcome:
    """Train and test one trial.

    The same spec and data give the same numbers on the same kind of device, alone or beside others.

    Args:
        spec: config, normal class and seed.
        corpus: the decoded data set.
        exposure: the images of the outlier-exposure source when the config names one.
        observer: told of every epoch; may ask to stop.
    Raises:
        TrainingError: no nominal training images, or the loss is not finite.
        Stopped: the observer asked for it.
    """
    settings = spec.settings
    device = choose_device(settings.resources.device)
    with numerics(settings, device):
        started = time.perf_counter()
        streams = Streams(spec.seed, spec.normal_class)
        prepared = prepare(spec, corpus, exposure, streams, device)
        network = make_network(settings, device, streams.integer("weights"))
        history, state = fit(network, prepared.batches, observer or Silent())
        trained = time.perf_counter()
        detector = Detector(settings, spec.normal_class, network.eval(), prepared.batches.preprocessor)
        tested = evaluate(detector, corpus, prepared)
        detector = replace(
            detector,
            threshold=tested.metrics["threshold"],
            reference_quantiles=tested.maps["blurred_quantiles" if settings.heatmaps.blur else "reference_quantiles"],
        )
        facts = {
            **_sizes(prepared),
            "selection_source": "none: fixed epochs",
            "final_loss": history[-1].loss,
            "epochs": len(history),
            "train_time_s": trained - started,
            "test_time_s": time.perf_counter() - trained,
            "device": device_name(device),
        }
        return Outcome(
            history=history,
            scores=tested.scores,
            curves=tested.curves,
            metrics=tested.metrics | facts,
            defects=tested.defects,
            maps=tested.maps | training_pictures(detector, prepared.batches),
            snapshot=detector.snapshot() | state | {"seed": spec.seed, "trial_id": spec.trial_id},
            notes=prepared.notes,
        )


def fit(network: Any, batches: BatchMaker, observer: Observer) -> tuple[list[EpochRecord], dict[str, Any]]:
    """Train for the configured epochs; the device is waited for once an epoch, never within one.

    Returns:
        One record an epoch; and the states of optimiser and schedule with the number of epochs, for the snapshot.
    """
    settings = batches.settings
    optimizer = make_optimizer(network, settings.training)
    schedule = make_schedule(optimizer, settings.training)
    history: list[EpochRecord] = []
    for epoch in range(1, settings.training.epochs + 1):
        if observer.stop_asked():
            raise Stopped(f"stopped before epoch {epoch} of {settings.training.epochs}")
        network.train()
        started = time.perf_counter()
        sums = _epoch(network, batches, optimizer, epoch)
        record = _record(epoch, sums, float(optimizer.param_groups[0]["lr"]), time.perf_counter() - started)
        schedule.step()
        history.append(record)
        observer.epoch_done(record, settings.training.epochs)
    return history, {
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": len(history),
    }


def _epoch(network: Any, batches: BatchMaker, optimizer: Optimizer, epoch: int) -> list[float]:
    """One epoch; gives the sums of losses and the numbers of samples, nominal before anomalous."""
    sums = torch.zeros(4, dtype=torch.float64).to(batches.nominal.device)
    for step, batch in enumerate(batches.epoch(epoch)):
        with _own_draws(network, batches, epoch, step):
            losses = sample_losses(network, batch, batches.settings)
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimizer.step()
        sums += _sums(losses.detach(), batch.labels)
    return sums.tolist()


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


def _record(epoch: int, sums: list[float], learning_rate: float, seconds: float) -> EpochRecord:
    nominal, anomalous, n_nominal, n_anomalous = sums
    loss = (nominal + anomalous) / (n_nominal + n_anomalous)
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss of epoch {epoch} is {loss}: training diverged at learning rate {learning_rate:g}; "
            "lower training.learning_rate"
        )
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
        "n_validation": len(prepared.validation),
    }

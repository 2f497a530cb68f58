"""One attempt at a trial: train, and write the result to files. No other module turns training results into files."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import platform
import shutil
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fcdd_sweep.config.errors import error_line
from fcdd_sweep.config.fields import Every
from fcdd_sweep.config.trial_spec import NUMERICS_VERSION, TrialSpec, device_numerics
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.attempts import (
    LEAF,
    claim_attempt,
    download_checkpoints,
    recover_unsent,
    upload_checkpoints,
    upload_evidence,
    upload_leaf,
    working_dir,
)
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import source_digest
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import TrialPaths
from fcdd_sweep.runners.failures import kind_of
from fcdd_sweep.runners.trial_data import corpus_of, exposure_of, fingerprint_of, validation_pool_of, versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.checkpoints import DEVICE_NUMERICS, Checkpoints
from fcdd_sweep.sweep.trial_rows import config_text, finished_result, key_of
from fcdd_sweep.training.device import choose_device, device_name, release_memory
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import EpochRecord, Observer, TrainingResult
from fcdd_sweep.training.state import StateError
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train

logger = logging.getLogger("fcdd_sweep.trial")
_TRIAL_THREADS: dict[int, int] = {}
"""Threads of this process that write the log of a trial, with the package's level before the first of them."""


class _LogFile(logging.FileHandler):
    """A log file whose write errors are ignored: on a full disk they would hide the cause and flood the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write the package's log messages to a file, too, while entered; not those of other trials of this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler, own = _LogFile(path, encoding="utf-8"), threading.get_ident()
    handler.addFilter(lambda record: record.thread == own or record.thread not in _TRIAL_THREADS)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("fcdd_sweep")
    level = next(iter(_TRIAL_THREADS.values()), package.level)
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    _TRIAL_THREADS[own] = level
    try:
        yield
    finally:
        _TRIAL_THREADS.pop(own, None)
        package.removeHandler(handler)
        if not _TRIAL_THREADS:
            package.setLevel(level)
        handler.close()


@dataclass(frozen=True)
class LoggingObserver:
    """Writes every epoch to the log, then passes it on to an observer."""

    observer: Observer

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        logger.info(
            "epoch %d/%d: loss %.5f (nominal %.5f, anomalous %.5f), learning rate %.3g, %.0f images/s",
            record.epoch,
            epochs,
            record.loss,
            record.loss_nominal,
            record.loss_anomalous,
            record.learning_rate,
            record.images_per_second,
        )
        if not math.isnan(record.validation_image_auroc):
            logger.info("epoch %d: AUROC %.4f over validation images", record.epoch, record.validation_image_auroc)
        self.observer.epoch_done(record, epochs)

    def stop_asked(self) -> bool:
        return self.observer.stop_asked()


def run_trial(spec: TrialSpec, run_dir: Location, observer: Observer, checkpoint_every: str = "5m") -> TrialResult:
    """Make one attempt and return its result. Exceptions become results: the worker lives on.

    Training continues from the furthest whole checkpoint of an earlier attempt.

    Args:
        spec: the trial.
        run_dir: the run's directory; the attempt writes only below `.attempts/TRIAL_ID/`.
        observer: gets every epoch, and may ask to stop.
        checkpoint_every: see `faults.checkpoint_every`.
    """
    result = _attempted(spec, run_dir, observer, checkpoint_every)
    if not release_memory() and result.status == TrialStatus.FAILED:  # here no traceback holds tensors any more
        return replace(result, kind="gpu_failed")
    return result


def _attempted(spec: TrialSpec, run_dir: Location, observer: Observer, checkpoint_every: str) -> TrialResult:
    try:
        number, attempt_dir = claim_attempt(run_dir, spec.trial_id)
        with working_dir(attempt_dir) as folder:
            attempt = _Attempt(spec, number, folder, attempt_dir, run_dir)
            return attempt.run(observer, checkpoint_every)
    except OSError as error:
        message, text = _described(error)
        message = f"no attempt could be started: {message}"
        return TrialResult.failure(spec.trial_id, kind_of(error), message, text, platform.node())


@dataclass(frozen=True)
class _Attempt:
    """An attempt that has claimed its number.

    Attributes:
        spec: the trial.
        number: of the attempt.
        folder: where it works on this machine.
        attempt_dir: its folder in the run.
        run_dir: the run's directory.
    """

    spec: TrialSpec
    number: int
    folder: Path
    attempt_dir: Location
    run_dir: Location

    @property
    def leaf(self) -> Path:
        return self.folder / LEAF

    def run(self, observer: Observer, checkpoint_every: str) -> TrialResult:
        """Train, write the leaf, and upload it to the attempt's folder in the run."""
        try:
            row = self._unsent_row()
            if row is None:
                with logging_to(TrialPaths(self.leaf).log):
                    download_checkpoints(self.run_dir, self.spec.trial_id, self.folder)
                    row = self._make_leaf(observer, Every.of(checkpoint_every))
            upload_leaf(self.folder, self.attempt_dir)
        except Stopped as stopped:
            return TrialResult(self.spec.trial_id, TrialStatus.STOPPED, self.number, str(stopped))
        except Exception as error:  # no error of one trial may reach the others
            return self._failed(error)
        return finished_result(row, self.number, platform.node())

    def _unsent_row(self) -> dict[str, Any] | None:
        """Return the row of a leaf that an earlier attempt made and could not upload, if it is still valid."""
        if not recover_unsent(self.run_dir, self.spec.trial_id, self.folder):
            return None
        (row,) = files.read_table(TrialPaths(self.leaf).metrics).to_pylist()
        if row["data_fingerprint"] == fingerprint_of(self.spec):
            return dict(row)
        shutil.rmtree(self.leaf)
        return None

    def _make_leaf(self, observer: Observer, every: Every) -> dict[str, Any]:
        """Train and write the leaf; return the row of `metrics.parquet`, which is written last and makes it whole."""
        spec, leaf = self.spec, self.leaf
        started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        files.write_text(TrialPaths(leaf).config, config_text(spec))
        logger.info("trial %s: class %s, seed %d, attempt %d", spec.trial_id, spec.normal_class, spec.seed, self.number)
        result = _train(spec, self._checkpoints(every), LoggingObserver(observer))
        write_result(spec, result, leaf)
        row = metrics_row(spec, self.number, result, started, time.perf_counter() - clock)
        files.write_rows(TrialPaths(leaf).metrics, [row], schemas.METRICS)
        return row

    def _checkpoints(self, every: Every) -> Checkpoints:
        device = choose_device(self.spec.settings.resources.device)
        identity = {
            "trial_id": self.spec.trial_id,
            "data_fingerprint": fingerprint_of(self.spec),
            "numerics": NUMERICS_VERSION,
            DEVICE_NUMERICS: device_numerics(device.type),
        }
        made_with = {
            "torch": str(torch.__version__),
            "device": f"{device.type} ({device_name(device)})",
            "source": source_digest(),
        }
        return Checkpoints(self.folder, every, identity, made_with, partial(upload_checkpoints, self.attempt_dir))

    def _failed(self, error: BaseException) -> TrialResult:
        message, text = _described(error)
        write_error(self.folder, text, self.attempt_dir)
        return TrialResult.failure(self.spec.trial_id, kind_of(error), message, text, platform.node(), self.number)


def _described(error: BaseException) -> tuple[str, str]:
    """Return an exception in one line, and its traceback."""
    return error_line(error), "".join(traceback.format_exception(error))


def write_error(folder: Path, text: str, attempt_dir: Location) -> None:
    """Keep a traceback; an error while doing so is only logged, or a full disk would hide the first error."""
    try:
        files.write_text(TrialPaths(folder).error, text)
        upload_evidence(folder, attempt_dir)
    except OSError as unwritten:
        logger.warning("could not keep the traceback of %s: %s\n%s", attempt_dir, unwritten, text)


def _train(spec: TrialSpec, checkpoints: Checkpoints, observer: Observer) -> TrainingResult:
    """Train from the furthest checkpoint that fits, or from the start."""
    settings, hooks = spec.settings, TrainingHooks(observer, checkpoints)
    data = TrialData(corpus_of(settings), exposure_of(settings), validation_pool_of(settings))
    for state in checkpoints.found():
        try:
            return train(spec, data, hooks, state)
        except StateError as misfit:
            checkpoints.skipped(misfit)
    return train(spec, data, hooks)


def write_result(spec: TrialSpec, result: TrainingResult, leaf: Path) -> None:
    """Write every file of a leaf but `metrics.parquet`."""
    for note in result.notes:
        logger.warning(note)
    mark = {"trial_id": spec.trial_id}
    history = [mark | asdict(record) for record in result.history]
    files.write_rows(TrialPaths(leaf).history, [files.nulled(row) for row in history], schemas.HISTORY)
    columns = list(result.scores)
    scores = [mark | dict(zip(columns, row, strict=True)) for row in zip(*result.scores.values(), strict=True)]
    files.write_rows(TrialPaths(leaf).scores, scores, schemas.SCORES)
    curves = [
        mark | {"kind": kind, "x": x, "y": y, "threshold": threshold}
        for kind, curve in result.curves.items()
        for x, y, threshold in zip(*(axis.tolist() for axis in curve), strict=True)
    ]
    files.write_rows(TrialPaths(leaf).curves, curves, schemas.CURVES)
    files.write_rows(TrialPaths(leaf).defects, [files.nulled(mark | row) for row in result.defects], schemas.DEFECTS)
    files.write_arrays(TrialPaths(leaf).maps, result.maps)
    if spec.settings.keep.snapshots == "all":
        files.write_atomically(TrialPaths(leaf).snapshot, partial(_save, result.snapshot))


def _save(snapshot: Mapping[str, Any], path: Path) -> None:
    """Write a snapshot. torch hides a failed write, of a full disk say, behind a `RuntimeError` without the cause."""
    try:
        with path.open("wb") as file:
            torch.save(snapshot, file)
    except RuntimeError as error:
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _trials_sharing(spec: TrialSpec) -> int | None:
    """Return how many trials share the GPU of a trial, 1 where no runner has divided it; None on a CPU."""
    resources = spec.settings.resources
    return resources.trials_on_gpu if choose_device(resources.device).type == "cuda" else None


def metrics_row(
    spec: TrialSpec, number: int, result: TrainingResult, started: dt.datetime, wall_time_s: float
) -> dict[str, Any]:
    """Return the row of `metrics.parquet`; undefined metrics are null."""
    row: Mapping[str, Any] = {
        **key_of(spec),
        "attempt": number,
        **result.metrics,
        "trials_per_gpu": _trials_sharing(spec),
        "data_fingerprint": fingerprint_of(spec),
        "started": started,
        "finished": dt.datetime.now(dt.UTC),
        "wall_time_s": wall_time_s,
        "host": platform.node(),
        "versions": json.dumps(versions()),
    }
    return files.nulled(row)

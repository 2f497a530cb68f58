"""One attempt at a trial: train, and turn the outcome into files. The only place that does."""

from __future__ import annotations

import datetime as dt
import json
import math
import platform
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fcdd_sweep.config.fields import Every
from fcdd_sweep.config.trial_spec import NUMERICS_VERSION, TrialSpec
from fcdd_sweep.results import files, schemas, tree
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
from fcdd_sweep.results.files import source_digest
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.failures import kind_of
from fcdd_sweep.runners.trial_data import corpus_of, exposure_of, fingerprint_of, validation_pool_of, versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.checkpoints import Checkpoints
from fcdd_sweep.sweep.trial_log import LoggingObserver, logger, logging_to
from fcdd_sweep.training.device import choose_device, device_name
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.result import Observer, TrainingResult
from fcdd_sweep.training.state import StateError
from fcdd_sweep.training.trainer import Stopped, TrainingHooks, train


def run_trial(spec: TrialSpec, run_dir: Location, observer: Observer, checkpoint_every: str = "5m") -> TrialResult:
    """Make one attempt. An exception is written beside the attempt and told, never raised: the worker lives on.

    It goes on from the furthest whole state that an earlier attempt kept.

    Args:
        spec: the trial.
        run_dir: the run; the attempt works in `.attempts/TRIAL_ID/N/` alone, and tidies up older checkpoints there.
        observer: told of every epoch; may ask to stop.
        checkpoint_every: see `faults.checkpoint_every`.
    """
    try:
        number, attempt_dir = claim_attempt(run_dir, spec.trial_id)
        with working_dir(attempt_dir) as folder:
            return _attempt(spec, number, folder, attempt_dir, run_dir, observer, checkpoint_every)
    except OSError as error:
        return _failed(spec, 0, None, None, error)


def _attempt(
    spec: TrialSpec, number: int, folder: Path, attempt_dir: Location, run_dir: Location, observer: Observer, every: str
) -> TrialResult:
    """Work in `folder`, and hand in what it made to the attempt's folder in the run."""
    leaf = folder / LEAF
    try:
        row = _unsent_row(spec, run_dir, folder)
        if row is None:
            with logging_to(leaf / tree.LOG):
                download_checkpoints(run_dir, spec.trial_id, folder)
                row = _make_leaf(spec, number, leaf, attempt_dir, observer, Every.of(every))
        upload_leaf(folder, attempt_dir)
    except Stopped as stopped:
        return TrialResult(spec.trial_id, "stopped", number, str(stopped))
    except Exception as error:  # whatever went wrong in one trial must not reach the others
        return _failed(spec, number, folder, attempt_dir, error)
    return finished_result(row, number, platform.node())


def finished_result(row: Mapping[str, Any], number: int, host: str = "") -> TrialResult:
    """The result of a finished attempt, from its row of `metrics.parquet`."""
    return TrialResult(
        row["trial_id"],
        "done",
        number,
        image_auroc=row["image_auroc"],
        data_fingerprint=row["data_fingerprint"],
        host=host,
        wall_time_s=row["wall_time_s"],
        device=row["device"],
        validation_image_auroc=row.get("validation_image_auroc"),
    )


def _unsent_row(spec: TrialSpec, run_dir: Location, folder: Path) -> dict[str, Any] | None:
    """The row of a leaf that an earlier attempt made and could not send, if it still stands for the trial."""
    if not recover_unsent(run_dir, spec.trial_id, folder):
        return None
    (row,) = files.read_table(folder / LEAF / tree.METRICS).to_pylist()
    if row["data_fingerprint"] == fingerprint_of(spec):
        return dict(row)
    shutil.rmtree(folder / LEAF)
    return None


def _failed(
    spec: TrialSpec, number: int, folder: Path | None, attempt_dir: Location | None, error: BaseException
) -> TrialResult:
    """What an exception made of an attempt; without a folder none could be begun."""
    text = "".join(traceback.format_exception(error))
    words = text.strip().splitlines()[-1]
    if folder is None or attempt_dir is None:
        words = f"no attempt could be begun: {words}"
    else:
        write_error(folder, text, attempt_dir)
    kind = kind_of(error)
    if kind == "out_of_memory" and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # the process lives on, and others share its GPU
    return TrialResult(spec.trial_id, "failed", number, words, kind=kind, traceback=text, host=platform.node())


def write_error(folder: Path, text: str, attempt_dir: Location) -> None:
    """Keep a traceback. A full disk must not hide the first error."""
    try:
        files.write_text(folder / tree.ERROR, text)
        upload_evidence(folder, attempt_dir)
    except OSError as unwritten:
        logger.warning("could not keep the traceback of %s: %s\n%s", attempt_dir, unwritten, text)


def _make_leaf(
    spec: TrialSpec, number: int, leaf: Path, attempt_dir: Location, observer: Observer, every: Every
) -> dict[str, Any]:
    """Train and write; `metrics.parquet` comes last and makes the leaf whole. Gives its row."""
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    files.write_text(leaf / tree.CONFIG, config_text(spec))
    logger.info("trial %s: class %s, seed %d, attempt %d", spec.trial_id, spec.normal_class, spec.seed, number)
    outcome = _trained(spec, _checkpoints(spec, leaf.parent, attempt_dir, every), LoggingObserver(observer))
    write_result(spec, outcome, leaf)
    row = metrics_row(spec, number, outcome, started, time.perf_counter() - clock)
    files.write_rows(leaf / tree.METRICS, [row], schemas.METRICS)
    return row


def _trained(spec: TrialSpec, checkpoints: Checkpoints, observer: Observer) -> TrainingResult:
    """Train on from the furthest state that fits, or from the start."""
    settings, hooks = spec.settings, TrainingHooks(observer, checkpoints)
    data = TrialData(corpus_of(settings), exposure_of(settings), validation_pool_of(settings))
    for state in checkpoints.found():
        try:
            return train(spec, data, hooks, state)
        except StateError as misfit:
            checkpoints.passed_over(misfit)
    return train(spec, data, hooks)


def _checkpoints(spec: TrialSpec, folder: Path, attempt_dir: Location, every: Every) -> Checkpoints:
    device = choose_device(spec.settings.resources.device)
    identity = {
        "trial_id": spec.trial_id,
        "data_fingerprint": fingerprint_of(spec),
        "numerics": NUMERICS_VERSION,
    }
    made_with = {
        "torch": str(torch.__version__),
        "device": f"{device.type} ({device_name(device)})",
        "source": source_digest(),
    }
    return Checkpoints(folder, every, identity, made_with, partial(upload_checkpoints, attempt_dir))


def config_text(spec: TrialSpec) -> str:
    """`config.yaml` of a leaf. JSON is YAML too, and keeps every number as it is."""
    plain = {"trial_id": spec.trial_id, "config_id": spec.config_id, **spec.to_dict()}
    return json.dumps(plain, indent=2) + "\n"


def write_result(spec: TrialSpec, outcome: TrainingResult, leaf: Path) -> None:
    """Every file of a leaf but `metrics.parquet`."""
    for note in outcome.notes:
        logger.warning(note)
    mark = {"trial_id": spec.trial_id}
    history = [mark | asdict(record) for record in outcome.history]
    files.write_rows(leaf / tree.HISTORY, [nulled(row) for row in history], schemas.HISTORY)
    columns = list(outcome.scores)
    scores = [mark | dict(zip(columns, row, strict=True)) for row in zip(*outcome.scores.values(), strict=True)]
    files.write_rows(leaf / tree.SCORES, scores, schemas.SCORES)
    curves = [
        mark | {"kind": kind, "x": x, "y": y, "threshold": threshold}
        for kind, curve in outcome.curves.items()
        for x, y, threshold in zip(*(axis.tolist() for axis in curve), strict=True)
    ]
    files.write_rows(leaf / tree.CURVES, curves, schemas.CURVES)
    files.write_rows(leaf / tree.DEFECTS, [nulled(mark | row) for row in outcome.defects], schemas.DEFECTS)
    files.write_arrays(leaf / tree.MAPS, outcome.maps)
    if spec.settings.keep.snapshots == "all":
        files.write_atomically(leaf / tree.SNAPSHOT, partial(_save, outcome.snapshot))
    if spec.settings.keep.pictures == "leaf":
        _draw(spec, leaf)


def _save(snapshot: Mapping[str, Any], path: Path) -> None:
    """torch hides a failed write, of a full disk say, behind an error of its own that does not tell."""
    try:
        with path.open("wb") as file:
            torch.save(snapshot, file)
    except RuntimeError as error:
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _draw(spec: TrialSpec, leaf: Path) -> None:
    """Pictures can be drawn later from the same files: a failure to draw loses no training."""
    from fcdd_sweep.report.figures.trial_figures import draw_trial  # matplotlib loads only where pictures are drawn

    try:
        draw_trial(leaf, spec.settings.heatmaps.color_quantile, blurred=spec.settings.heatmaps.blur)
    except Exception:
        logger.exception("the pictures were not drawn; `aggregate --redraw` tries again")


def metrics_row(
    spec: TrialSpec, number: int, outcome: TrainingResult, started: dt.datetime, wall_time_s: float
) -> dict[str, Any]:
    """The row of `metrics.parquet`: undefined figures are null."""
    row: Mapping[str, Any] = {
        **key_of(spec),
        "attempt": number,
        **outcome.metrics,
        "data_fingerprint": fingerprint_of(spec),
        "started": started,
        "finished": dt.datetime.now(dt.UTC),
        "wall_time_s": wall_time_s,
        "host": platform.node(),
        "versions": json.dumps(versions()),
    }
    return nulled(row)


def key_of(spec: TrialSpec) -> dict[str, Any]:
    """The columns that name a trial in every table."""
    return {
        "trial_id": spec.trial_id,
        "config_id": spec.config_id,
        "config": spec.config_name,
        "normal_class": spec.normal_class,
        "seed": spec.seed,
    }


def nulled(row: Mapping[str, Any]) -> dict[str, Any]:
    """NaN, which stands for undefined in memory, becomes null in files."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}

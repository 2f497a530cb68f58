"""A run as version 1 of the formats left it: `schema: 1`, the old names of keys and columns, and no table version."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fcdd_sweep.results.tree import RunPaths, TrialPaths

EXPERIMENT = """\
schema: 1
name: small
preset: digits
method: fcdd
dataset: {name: digits, classes: ['3', '8']}
images: {raw_size: 28, size: 28, color: grey}
network: {name: FCDD_CNN28}
heatmaps: {quantile: 0.97}
keep: {maps: pictured}
seeds: 2
"""
TEXT, INT, TIME = pa.string(), pa.int64(), pa.timestamp("ms", tz="UTC")
KEY = (("trial_id", TEXT), ("config_id", TEXT), ("config", TEXT), ("normal_class", TEXT), ("seed", INT))
PLAN = (*KEY, ("leaf", TEXT), ("parameters", TEXT))
INDEX = (
    *KEY,
    *(("status", TEXT), ("leaf", TEXT), ("attempt", INT), ("failures", INT), ("error", TEXT)),
    *(("data_fingerprint", TEXT), ("published", TIME), ("wall_time_s", pa.float64()), ("device", TEXT)),
)
ROW = {"trial_id": "a" * 12, "config_id": "b" * 12, "config": "", "normal_class": "3", "seed": 0}
LEAF = "normal_3/it_0"


def write_old_table(path: Path, columns, row) -> None:
    schema = pa.schema(columns, metadata={"fcdd_sweep.results": "1"})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path)


def write_old_index(path: Path) -> None:
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    row = ROW | dict(status="done", leaf=LEAF, attempt=1, failures=0, error="", data_fingerprint="f")
    write_old_table(path, INDEX, row | dict(published=now, wall_time_s=60.0, device="x86_64"))


def write_old_study(journal: Path) -> None:
    """A study with one finished config."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(journal))))
    study.set_user_attr("made_for", {"classes": ["3", "8"]})
    study.add_trial(optuna.create_trial(value=0.5, user_attrs={"values": {}, "facts": {"policy": "", "course": []}}))


def write_old_run(run_dir: Path) -> Path:
    """One finished trial, one that has a checkpoint, and the journal of a search."""
    run_dir.mkdir(parents=True)
    RunPaths(run_dir).experiment.write_text(EXPERIMENT)
    write_old_table(RunPaths(run_dir).plan, PLAN, ROW | {"leaf": LEAF, "parameters": "{}"})
    write_old_index(RunPaths(run_dir).index)
    write_old_table(TrialPaths(run_dir / LEAF).metrics, (*KEY, ("attempt", INT)), ROW | {"attempt": 1})
    checkpoint = RunPaths(run_dir).attempts / ("c" * 12) / "1" / "checkpoints" / "epoch-2-step-0-0123456789ab.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"a state of training")
    RunPaths(run_dir).environment.write_text(json.dumps({"notes": []}))
    write_old_study(RunPaths(run_dir).search.journal)
    return run_dir


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of every file and folder."""
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}

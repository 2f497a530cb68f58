"""A run's files as Python objects: the plan, what each trial left, and what could not be read."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.fields import score_column
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.schema import Evaluation
from fcdd_sweep.metrics.decision import decision_metrics
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.metrics.rescoring import ScoredImages
from fcdd_sweep.metrics.score_choice import CANDIDATES, ScoreChoice
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.run_folders import run_suggestion
from fcdd_sweep.report.score_choices import choose_scores
from fcdd_sweep.report.text import class_text
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import TableRow, check_rows, nulled, read_columns, read_rows, read_whole_leaf
from fcdd_sweep.results.storage import Location, is_file
from fcdd_sweep.results.tree import RunPaths, TrialPaths

XY = tuple[FloatArray, FloatArray]
UNREADABLE = (OSError, pa.ArrowException, BadZipFile, EOFError, ValueError, KeyError)
"""What reading a damaged or missing file raises."""
PLANNED = "planned"
COUNTED = (TrialStatus.DONE, TrialStatus.FAILED, TrialStatus.MISSING)
"""States in which a report finds planned trials."""
_TEMPORARY = re.compile(r"^\.[0-9a-f]{8}-")
"""How the name of a file begins that `results.files.write_atomically` has not renamed yet."""


@dataclass(frozen=True)
class Trial:
    """A planned trial and what it left.

    Attributes:
        plan: its row of `plan.parquet`.
        status: `done` only if its files can be read.
        leaf: its folder below the run; empty unless done.
        error: the last failure in one line; empty unless failed.
        failures: number of failed attempts so far.
        metrics: its row of `metrics.parquet`, by the experiment's present score of images and false-alarm rate; empty
            unless done.
        defects: its rows of `defects.parquet`.
        folder: its leaf on this machine; None unless done.
        rescored: whether images are scored by another column than when the leaf was written.
        redecided: whether decisions were computed again.
        by_score: with `auto`, the AUROC over test images by each column that images may be scored by.
    """

    plan: TableRow
    status: TrialStatus
    leaf: str = ""
    error: str = ""
    failures: int = 0
    metrics: TableRow = field(default_factory=dict)
    defects: list[TableRow] = field(default_factory=list)
    folder: Path | None = None
    rescored: bool = False
    redecided: bool = False
    by_score: dict[str, float] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.status == TrialStatus.DONE

    @cached_property
    def curves(self) -> dict[str, XY]:
        """x and y by kind (`image_roc`, ...); empty where a label is missing.

        Read on first use: of a large run few trials are drawn, and the curves of all would not fit into memory.
        """
        if self.folder is None:
            return {}
        if not self.rescored:
            return read_curves(self.folder)
        found = _scored_images(self.folder, self.metrics["image_score"]).curves()
        return read_curves(self.folder) | {kind: (curve.x, curve.y) for kind, curve in found.items()}

    @property
    def config(self) -> str:
        return str(self.plan["config"])

    @property
    def normal_class(self) -> str:
        return str(self.plan["normal_class"])

    @property
    def seed(self) -> int:
        return int(self.plan["seed"])

    @property
    def label(self) -> str:
        """`learning_rate-0.1 bottle`: config, if it has a name, and class."""
        return " ".join(filter(None, [self.config, class_text(self.normal_class)]))

    @cached_property
    def parameters(self) -> TableRow:
        """Values of the config's varied keys."""
        return dict(json.loads(self.plan["parameters"] or "{}"))

    @property
    def class_folder(self) -> str:
        """The folder of the class's own figures: the parent of the planned leaf."""
        return str(self.plan["leaf"]).rpartition("/")[0]

    def value(self, metric: str) -> float:
        """Return a metric of the trial; NaN when it is undefined or the trial is not done."""
        value = self.metrics.get(metric)
        return np.nan if value is None else float(value)


@dataclass(frozen=True)
class Run:
    """Everything that a report is made of.

    Attributes:
        path: the run's directory.
        trials: in the order of the plan.
        problems: sentences on files that could not be read.
        unplanned: number of finished trials in the index that the plan no longer holds.
        experiment: `experiment.yaml`.
        environment: `environment.json`; its `notes` are sentences on the data.
        last_published: when the last trial was published; None before the first.
        score_choices: with `evaluation.image_score: auto`, the image score of each class with a finished trial.
        chosen: the confirmed config that a search chose; None elsewhere, and of several metrics.
    """

    path: Path
    trials: tuple[Trial, ...]
    problems: tuple[str, ...]
    unplanned: int
    experiment: ExperimentFile
    environment: TableRow
    last_published: dt.datetime | None = None
    score_choices: Mapping[str, ScoreChoice] = field(default_factory=dict)
    chosen: str | None = None

    @property
    def configs(self) -> list[str]:
        """Names of the configs, in the order of the plan; one empty name where the experiment has one config."""
        return list(self._by_class)

    def classes(self, config: str) -> list[str]:
        """Return the normal classes of a config, in the order of the plan."""
        return list(self._by_class.get(config, {}))

    def of(self, config: str, normal_class: str | None = None) -> list[Trial]:
        """Return the trials of a config, or of one of its classes."""
        if normal_class is not None:
            return list(self._by_class.get(config, {}).get(normal_class, []))
        return list(self._by_config.get(config, []))

    def parameters(self, config: str) -> TableRow:
        """Return the values of a config's varied keys."""
        return next((trial.parameters for trial in self.of(config)), {})

    @cached_property
    def _by_config(self) -> dict[str, list[Trial]]:
        """In the order of the plan. Looking through all trials for each class would grow with their square."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(trial.config, []).append(trial)
        return groups

    @cached_property
    def _by_class(self) -> dict[str, dict[str, list[Trial]]]:
        groups: dict[str, dict[str, list[Trial]]] = {config: {} for config in self._by_config}
        for trial in self.trials:
            groups[trial.config].setdefault(trial.normal_class, []).append(trial)
        return groups


def status_counts(trials: Iterable[Trial]) -> dict[str, int]:
    """Return the number of trials that are planned, done, failed and missing."""
    found = [trial.status for trial in trials]
    return {PLANNED: len(found)} | {status.value: found.count(status) for status in COUNTED}


def read_run(run_dir: Path) -> Run:
    """Return a run as its files describe it; what cannot be read is named in `problems`.

    Raises:
        InputError: `run_dir` is not a run directory: it has no readable plan.
    """
    plan = read_plan(run_dir)
    problems: list[str] = []
    index = index_or_problem(run_dir, problems)
    experiment = ExperimentFile.of_run(run_dir)
    if experiment.problem:
        problems.append(experiment.problem)
    trials = [_read_trial(run_dir, row, index.get(row["trial_id"], {}), problems) for row in plan]
    evaluation, chosen = experiment.evaluation, dict[str, ScoreChoice]()
    if not experiment.problem:
        if evaluation.image_score == "auto":
            chosen = _chosen_scores(trials, evaluation.false_alarm_rate)
        trials = [_decided(each, evaluation, chosen.get(each.normal_class)) for each in trials]
    planned = {row["trial_id"] for row in plan}
    return Run(
        path=run_dir,
        trials=tuple(trials),
        problems=tuple(problems),
        unplanned=sum(row["status"] == TrialStatus.DONE and key not in planned for key, row in index.items()),
        experiment=experiment,
        environment=_read_environment(RunPaths(run_dir).environment, problems),
        last_published=max((row["published_at"] for row in index.values() if row["published_at"]), default=None),
        score_choices=chosen,
    )


def read_plan(run_dir: Location) -> list[TableRow]:
    """Return the rows of `plan.parquet`.

    Raises:
        InputError: `run_dir` is not a run directory: it has no readable plan.
        StorageError: the store did not answer, so that nothing is known of the plan.
    """
    try:
        return read_rows(RunPaths(run_dir).plan, schemas.PLAN)
    except StorageError:
        raise
    except UNREADABLE as error:
        if isinstance(error, files.DamagedTableError) or is_file(RunPaths(run_dir).index):
            step = "Rerun the sweep's command, which writes the plan again"
            raise InputError(
                Problem(str(run_dir), f"the run's plan cannot be read: {short_error(error)}", next_step=step)
            ) from error
        what = f"is not a run directory: {tree.PLAN} cannot be read ({short_error(error)})"
        allowed = "the directory of a run, OUTPUT/NAME"
        raise InputError(Problem(str(run_dir), what, allowed, run_suggestion(run_dir))) from error


def index_or_problem(run_dir: Location, problems: list[str]) -> dict[str, TableRow]:
    """Return the rows of `index.parquet` by trial id; empty when there is no index.

    Args:
        problems: gets a sentence when the index is damaged.
    Raises:
        StorageError: the store did not answer, so that nothing is known of the index.
    """
    try:
        return files.read_index(run_dir)
    except StorageError:
        raise
    except UNREADABLE as error:
        problems.append(
            f"{tree.INDEX} cannot be read ({short_error(error)}): finished trials are found by their folders, failures "
            "are unknown. Rerun the sweep's command, which rebuilds the index."
        )
        return {}


def leaves_of(plan: TableRow, entry: TableRow) -> list[str]:
    """Return the folders in which a planned trial's leaf may be: the index may be lost, or older than the leaf."""
    indexed = [entry["leaf"]] if entry.get("status") == TrialStatus.DONE else []
    return list(dict.fromkeys([*indexed, plan["leaf"], tree.alternative_leaf(plan["leaf"], plan["config_id"])]))


def _read_trial(run_dir: Path, plan: TableRow, entry: TableRow, problems: list[str]) -> Trial:
    failures = entry.get("failures", 0)
    leaf = next((leaf for leaf in leaves_of(plan, entry) if read_whole_leaf(run_dir / leaf, plan["trial_id"])), "")
    if not leaf and entry.get("status") == TrialStatus.FAILED:
        return Trial(plan, TrialStatus.FAILED, error=entry["error"], failures=failures)
    if not leaf and not entry:
        return Trial(plan, TrialStatus.MISSING)
    try:
        return _read_leaf(run_dir, plan, leaf or entry["leaf"], failures)
    except UNREADABLE as error:
        step = f"Delete its {tree.METRICS} and rerun" if leaf else "Rerun"
        problems.append(
            f"{leaf or entry['leaf']} (class {plan['normal_class']}, seed {plan['seed']}) counts as missing: "
            f"{short_error(error)}. {step} the same command."
        )
        return Trial(plan, TrialStatus.MISSING, failures=failures)


def _read_leaf(run_dir: Path, plan: TableRow, leaf: str, failures: int) -> Trial:
    folder = run_dir / leaf
    (metrics,) = read_rows(TrialPaths(folder).metrics, schemas.METRICS) or [{"trial_id": "nothing"}]
    if metrics["trial_id"] != plan["trial_id"]:
        raise ValueError(f"{tree.METRICS} holds trial {metrics['trial_id']}, not {plan['trial_id']}")
    tested = metrics["image_auroc"] is not None  # figures read the tables later, where an error would stop the report
    for name, schema, has_rows in (
        (tree.HISTORY, schemas.HISTORY, True),
        (tree.SCORES, schemas.SCORES, tested),
        (tree.CURVES, schemas.CURVES, tested),
        (tree.DEFECTS, schemas.DEFECTS, False),  # data without named defects has none
    ):
        check_rows(name, read_columns(folder / name, schema), plan["trial_id"], has_rows=has_rows)
    return Trial(
        plan,
        TrialStatus.DONE,
        leaf=leaf,
        failures=failures,
        metrics=metrics,
        defects=read_rows(TrialPaths(folder).defects, schemas.DEFECTS),
        folder=folder,
    )


def _chosen_scores(trials: Iterable[Trial], rate: float) -> dict[str, ScoreChoice]:
    """Return the image score that `auto` chooses for each class, from the selection images of its finished trials."""
    leaves: dict[str, list[Path]] = {}
    for trial in trials:
        if trial.folder is not None:
            leaves.setdefault(trial.normal_class, []).append(trial.folder)
    return choose_scores(leaves, rate)


def _decided(trial: Trial, evaluation: Evaluation, choice: ScoreChoice | None) -> Trial:
    """Return a trial by this score of images, false-alarm rate and calibration, computed again where its leaf has
    others; a leaf of calibration cross keeps it.

    Args:
        trial: as its leaf has it.
        evaluation: of the experiment.
        choice: the image score of its class with `auto`; None where the experiment names the score.
    """
    column = score_column(evaluation.image_score) if choice is None else choice.column
    rate, source = evaluation.false_alarm_rate, "" if choice is None else choice.text
    names = ("image_score", "false_alarm_rate", "calibration", "image_score_source")
    made_with = tuple(trial.metrics.get(name) for name in names)
    method = "none" if evaluation.calibration == "none" else "split"
    wanted = (column, rate, made_with[2] if made_with[2] == "cross" else method, source)
    if trial.folder is None or None in made_with[:3] or (choice is None and made_with == wanted):
        return trial
    scores = read_columns(TrialPaths(trial.folder).scores, schemas.SCORES).to_pydict()
    decisions = decision_metrics(scores, column, rate, method, selecting=choice is not None and choice.is_made)
    metrics = trial.metrics | nulled({"image_score_source": source} | decisions)
    by_score = {} if choice is None else {name: ScoredImages.of(scores, name).auroc for name in CANDIDATES}
    if metrics["pixel_threshold"] != trial.metrics["pixel_threshold"]:
        metrics["pixel_f1"] = None  # it was of the other threshold; `report.recomputed` computes it from kept maps
    trial = replace(trial, metrics=metrics, redecided=True, by_score=by_score)
    if trial.metrics["image_score"] == column:
        return trial
    images = ScoredImages.of(scores, column)
    defects = [nulled(row | {"image_auroc": images.defect_auroc(row["defect"])}) for row in trial.defects]
    metrics |= nulled({"image_score": column, **images.metrics()})
    return replace(trial, metrics=metrics, defects=defects, rescored=True)


def _scored_images(leaf: Path, column: str) -> ScoredImages:
    return ScoredImages.of(read_columns(TrialPaths(leaf).scores, schemas.SCORES).to_pydict(), column)


def read_curves(leaf: Path) -> dict[str, XY]:
    """Return x and y of each of a leaf's curves, by kind, in stored order.

    Raises:
        One of `UNREADABLE`: the file is missing or damaged.
    """
    table = read_columns(TrialPaths(leaf).curves, schemas.CURVES)
    kind = np.array(table["kind"].to_pylist(), dtype=object)
    x, y = (table[name].to_numpy() for name in ("x", "y"))
    return {name: (x[kind == name], y[kind == name]) for name in dict.fromkeys(kind)}


def _read_environment(path: Path, problems: list[str]) -> TableRow:
    try:
        return dict(json.loads(files.text_or_empty(path) or "{}"))
    except (ValueError, TypeError) as error:
        problems.append(f"{path.name} cannot be read ({short_error(error)})")
        return {}


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into a message; files written by then are kept.

    Raises:
        InputError: a file below `folder` cannot be written; names it.
    """
    try:
        yield
    except OSError as error:
        path = Path(str(error.filename2 or error.filename or folder))
        path = path.with_name(_TEMPORARY.sub("", path.name))
        what = f"cannot write the report ({error.strerror or error})"
        step = "Move away what is in its place, or make the folder writable, and rerun the command"
        raise InputError(Problem(str(path), what, next_step=step)) from error

"""The JSON documents of a run, `search/search.json` and `progress.json`, and the states that they name."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from fcdd_sweep.config.decision_record import DECISION, DecisionRecord
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.search_schema import Direction
from fcdd_sweep.results import storage
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths


class TrialStatus(StrEnum):
    """State of a trial, or of an attempt."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"

    @property
    def is_finished(self) -> bool:
        """Whether the trial is done or has failed, so that it does not run again in this start."""
        return self in (TrialStatus.DONE, TrialStatus.FAILED)


class ConfigState(StrEnum):
    """State of a config of a search."""

    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"
    RUNNING = "running"
    INCOMPLETE = "incomplete"

    @property
    def is_finished(self) -> bool:
        """Whether the config is done, failed or pruned, as entered into the study."""
        return self in (ConfigState.DONE, ConfigState.FAILED, ConfigState.PRUNED)


SweepState = Literal["running", "interrupted", "ended"]
Moment = Annotated[AwareDatetime, PlainSerializer(lambda at: at.isoformat(timespec="seconds"), when_used="json")]
"""A time to the second, with its zone."""


class Document(BaseModel):
    """A JSON file of a run; its values never change, and unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def text(self, indent: int = 2) -> str:
        """Return the content of the file."""
        return json.dumps(self.model_dump(mode="json"), indent=indent, allow_nan=False) + "\n"


class SearchAmounts(Document):
    """What a search may spend, or has spent."""

    configs: int | None = Field(None, description="number of configs; null without a limit")
    trials: int | None = Field(None, description="number of evaluating trials; null without a limit")
    hours: float | None = Field(None, description="hours of searching over all starts; null without a limit")


class PruningSummary(Document):
    """What pruning saved."""

    configs: int = Field(description="number of pruned configs")
    epochs_trained: int = Field(description="epochs of all configs that were trained")
    epochs_saved: int = Field(description="epochs of pruned configs that were not trained")


class ComparisonSummary(Document):
    """The best config minus the default on the test set, paired by class and fresh seed."""

    metric: str = Field(description="the metric of the test set, `image_auroc` for instance")
    n: int = Field(description="number of pairs with a value for both")
    mean: float | None = Field(description="mean over classes of the difference; null without a pair")
    std: float | None = Field(description="standard deviation of the differences; null for fewer than two pairs")
    low: float | None = Field(
        description="lower bound of the 95% interval of the mean, by a paired t-test over the seeds of each class; "
        "null if undefined"
    )
    high: float | None = Field(description="upper bound of the 95% interval of the mean; null if undefined")
    p_value: float | None = Field(description="of that test; null if undefined")


class SearchSummary(Document):
    """The content of `search/search.json`.

    Fields other than the metrics have a default that means "not known", for a report whose file is damaged.
    """

    metric: list[str] = Field(min_length=1, description="the metrics")
    direction: list[Direction] = Field(description="one direction per metric, `maximize` or `minimize`")
    oracle: bool = Field(description="whether a metric is measured on the test set")
    algorithm: str | None = Field(None, description="`search.algorithm`")
    seed: int | None = Field(None, description="`search.seed`")
    selection_source: str = Field(
        "",
        description="the images that the metric was measured on; of several metrics, each that was measured on any, by "
        "name; empty when unknown, and without images",
    )
    validation: dict[str, Any] = Field(
        {},
        description="`evaluation.validation` of all trials: the experiment file's, completed by the default of a "
        "search; empty when unknown",
    )
    budget: SearchAmounts = Field(SearchAmounts(), description="the budget: `configs`, `trials`, `hours`")
    spent: SearchAmounts = Field(SearchAmounts(), description="what was spent: `configs`, `trials`, `hours`")
    classes: list[str] = Field([], description="normal classes of the evaluating trials")
    seeds: list[int] = Field([], description="seeds of the evaluating trials")
    confirm_seeds: list[int] = Field([], description="fresh seeds of the confirmation")
    keys: list[str] = Field([], description="the searched keys")
    log_keys: list[str] = Field([], description="searched keys on a logarithmic scale")
    best: int | None = Field(
        None, description="number of the best config; null before the first and for several metrics"
    )
    pareto: list[int] = Field([], description="numbers of the Pareto set of several metrics")
    noise: float | None = Field(None, description="median of `value_std_error` over configs; null when unknown")
    pruning: PruningSummary | None = Field(
        None, description="`configs` (pruned), `epochs_trained`, `epochs_saved`; null without pruning"
    )
    comparison: ComparisonSummary | None = Field(
        None,
        description="the best config minus the default over classes x fresh seeds: `metric`, `n`, `mean`, `std`, "
        "`low`, `high` and `p_value` (95% interval and p-value of the mean over classes, by a paired t-test over the "
        "seeds of each class); null before the confirmation and for several metrics",
    )
    tried: int = Field(0, description="number of finished configs: done, failed or pruned")
    sentences: list[str] = Field([], description="the summary in words, as in the report")

    @model_validator(mode="after")
    def _one_direction_per_metric(self) -> SearchSummary:
        if len(self.metric) != len(self.direction):
            raise ValueError(f"{len(self.metric)} metrics and {len(self.direction)} directions")
        return self


class Driver(Document):
    """The process that runs a sweep."""

    host: str = Field(description="name of its machine")
    pid: int = Field(description="its process number")
    processes: str = Field("", description="the namespace of its process number; empty when unknown")
    started: str = Field("", description="its start in clock ticks; empty when unknown")


class RunningTrial(Document):
    """A trial that is running."""

    trial_id: str = Field(description="the trial")
    config: str = Field(description="name of its config; empty when the experiment has one config")
    normal_class: str = Field(description="the class that it is trained on")
    seed: int = Field(description="its seed")
    epoch: int = Field(description="the last finished epoch; 0 before the first")
    epochs: int = Field(description="number of epochs of the trial")
    loss: float | None = Field(
        description="mean training loss of that epoch; null before the first and when it diverged"
    )


class SweepProgress(Document):
    """The content of `progress.json`: the state of the running or last start of a sweep."""

    state: SweepState = Field(description="`running`, `interrupted` or `ended`")
    began: Moment = Field(description="when the start began")
    written: Moment = Field(description="when the file was written")
    every_s: float = Field(
        description="seconds between two writes; a file older than six of them means a dead or disconnected driver"
    )
    driver: Driver = Field(description="`host`, `pid`, `processes` (namespace of the pid) and `started` of the driver")
    machines: list[str] = Field(description="machines that finished a trial in this start")
    planned: int = Field(description="number of planned trials")
    kept: int = Field(description="number of trials that were finished before this start")
    to_run: int = Field(description="number of trials that this start runs")
    done: int = Field(description="number of trials that this start finished")
    failed: int = Field(description="number of trials that failed in this start")
    running: int = Field(description="number of running trials")
    eta_s: float | None = Field(description="estimated seconds until the end; null when unknown")
    trials: list[RunningTrial] = Field(description="the running trials, at most 100")


def read_search_summary(run_dir: Location) -> SearchSummary:
    """Return `search/search.json` of a run.

    Raises:
        ValueError: the file is damaged.
        OSError: it is missing or cannot be read.
    """
    return SearchSummary.model_validate_json(storage.read_bytes(RunPaths(run_dir).search.summary))


def stored_decision(snapshot: Location) -> DecisionRecord | None:
    """Return the record of decisions beside a snapshot in an object store.

    None for a file on this machine, too: who loads it looks beside it.

    Raises:
        InputError: it is damaged.
        StorageError: the store was unreachable for too long.
    """
    place = snapshot.parent / DECISION
    if isinstance(place, Path) or not storage.is_file(place):
        return None
    return DecisionRecord.of(storage.read_bytes(place), place)


def read_progress(run_dir: Location) -> SweepProgress | None:
    """Return `progress.json` of a run; None when it is missing or damaged.

    Raises:
        StorageError: the store was unreachable for too long.
    """
    try:
        return SweepProgress.model_validate_json(storage.read_bytes(RunPaths(run_dir).progress))
    except StorageError:
        raise
    except (OSError, ValueError):
        return None

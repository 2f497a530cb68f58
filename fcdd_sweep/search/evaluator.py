"""Judges configs: asks for them, gives out their trials, and tells the study of each when its trials are over."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.search_schema import PRUNABLE, SearchSettings, column_of
from fcdd_sweep.config.search_space import Values
from fcdd_sweep.config.text import value_text
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files, tree
from fcdd_sweep.runners.events import SearchObserver
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.search.plan import SearchPlan
from fcdd_sweep.search.pruning import CURVE_KEY, LearningCurves
from fcdd_sweep.search.study import Entry, Study
from fcdd_sweep.sweep.ledger import Ledger

_HOUR_S = 3600.0


@dataclass(frozen=True)
class ConfigInFlight:
    """A config in flight."""

    entry: Entry
    specs: tuple[TrialSpec, ...]

    @property
    def ids(self) -> set[str]:
        return {spec.trial_id for spec in self.specs}


@dataclass
class _Ends:
    """Trials that ended in this start without a result that counts, by id."""

    failed: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)


class ConfigEvaluator(SearchObserver):
    """A `Source` of the trials that judge configs, which must also hear how they fare.

    The study and the trials' files are the truth: configs that an earlier start left running come first, and nothing is
    asked anew for them.
    """

    def __init__(
        self,
        planned: SearchPlan,
        study: Study,
        ledger: Ledger,
        told: Callable[[Entry], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            planned: the search.
            study: its study.
            ledger: knows which trials are done.
            told: hears of every config that the study was told of, or that was begun.
            clock: seconds, for the budget of hours.
        """
        self._planned, self._study, self._ledger, self._told, self._clock = planned, study, ledger, told, clock
        self.figures = TrialMetrics(ledger)
        self._began, self._hours_before = clock(), study.hours
        entries = study.entries()
        self._count = len(entries)
        self._resumed = deque(entry for entry in entries if entry.state == "running")
        self._flight: dict[int, ConfigInFlight] = {}
        self._given: set[str] = set()
        self._wanted: set[str] = set()
        self._ends = _Ends()
        self._parallel = 1
        self._exhausted = False
        self._epochs: dict[str, int] = {}
        self._courses = LearningCurves(planned.search.prune, planned.plan.classes)
        for entry in entries:
            self._courses.restore(entry.number, entry.facts.get(CURVE_KEY, []))

    @property
    def examples(self) -> Sequence[TrialSpec]:
        return self._planned.examples()

    def begin(self, slots: int) -> None:
        asked, trials = self._planned.search.parallel, len(self._planned.plan.specs)
        # one more than fill the slots, so that none idles while the last trials of a config run
        self._parallel = math.ceil(slots / trials) + (slots > 1) if asked == "auto" else asked

    def unwanted(self, trial_id: str) -> bool:
        return trial_id not in self._wanted

    def more(self) -> Sequence[TrialSpec]:
        specs: list[TrialSpec] = []
        while not specs and len(self._flight) < self._parallel:
            entry = self._next()
            if entry is None:
                break
            specs = self._begin(entry)
        return specs

    @property
    def hours(self) -> float:
        """Hours of searching, over all starts."""
        return self._hours_before + (self._clock() - self._began) / _HOUR_S

    def _next(self) -> Entry | None:
        if self._resumed:
            return self._resumed.popleft()
        if self._exhausted or self._spent():
            return None
        entry = self._study.ask(self._describe)
        self._exhausted = entry is None
        self._count += entry is not None
        return entry

    def _spent(self) -> bool:
        budget, trials = self._planned.search.budget, len(self._planned.plan.specs)
        return (
            (budget.configs is not None and self._count >= budget.configs)
            or (budget.trials is not None and (self._count + 1) * trials > budget.trials)
            or (budget.hours is not None and self.hours >= budget.hours)
        )

    def _describe(self, number: int, values: Values) -> dict[str, Any]:
        try:
            config = self._planned.config(number, values)
        except ExperimentError as error:
            return {"config_id": "", "config": "", "invalid": str(error)}
        return {"config_id": config.config_id, "config": config.name}

    def _begin(self, entry: Entry) -> list[TrialSpec]:
        """Take a config up; gives those of its trials that must run."""
        if "invalid" in entry.facts:
            self._tell(entry, "failed", (), {"failure_policy": f"no valid config: {entry.facts['invalid']}"})
            return []
        judged = ConfigInFlight(entry, self._planned.judging(self._planned.config(entry.number, entry.values)))
        self._flight[entry.number] = judged
        self._wanted |= judged.ids
        self._told(entry)
        self._ledger.take_in(judged.specs)  # a grid of the same run, or an earlier start, may have done some
        specs = [spec for spec in judged.specs if self._must_run(spec.trial_id)]
        self._given |= {spec.trial_id for spec in specs}
        for spec in judged.specs:
            self._follow(judged, spec)
        self._settle(judged)
        return specs if entry.number in self._flight else []

    def _must_run(self, trial_id: str) -> bool:
        """Whether it is neither done nor under way; one that failed in an earlier start is tried again if so wished."""
        if self._ledger.done(trial_id) or trial_id in self._given:
            return False
        faults = self._planned.experiment.faults
        left_alone = not faults.retry_failed or self._ledger.failures_left(trial_id, faults) <= 0
        if self._ledger.failed(trial_id) and left_alone:
            self._ends.failed.add(trial_id)
            return False
        return True

    def heard(self, spec: TrialSpec, result: TrialResult) -> None:
        """A trial has ended; if it is done, the ledger has it by now."""
        if result.status == "failed":
            self._ends.failed.add(spec.trial_id)
        elif not self._ledger.done(spec.trial_id):
            self._ends.left.add(spec.trial_id)
        for judged in self._judged_by(spec):
            self._follow(judged, spec)
            self._settle(judged)

    def _judged_by(self, spec: TrialSpec) -> list[ConfigInFlight]:
        return [judged for judged in self._flight.values() if spec.trial_id in judged.ids]

    def epoch_done(self, spec: TrialSpec, epoch: int) -> None:
        self._epochs[spec.trial_id] = epoch

    def measured(self, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        """A running trial has looked at validation images: its config may be given up."""
        for judged in self._judged_by(spec):
            self._courses.add(judged.entry.number, spec, measured)
            self._give_up_if_hopeless(judged)

    def _follow(self, judged: ConfigInFlight, spec: TrialSpec) -> None:
        """Take in what a finished trial measured on its way."""
        if self._courses.at:
            self._courses.add(judged.entry.number, spec, self.figures.course(spec.trial_id))

    def _give_up_if_hopeless(self, judged: ConfigInFlight) -> None:
        """Prune a config; the file's own is what others are compared with in the end, and never pruned."""
        entry = judged.entry
        epoch = self._courses.prune_epoch(entry.number) if entry.number else None
        if epoch is None:
            return
        rows = [self.figures.row(spec.trial_id) for spec in judged.specs]
        trained = [
            row["epochs"] if row else self._epochs.get(spec.trial_id, 0)
            for row, spec in zip(rows, judged.specs, strict=True)
        ]
        facts = {
            "n_trials": len(rows),
            "n_done": sum(map(bool, rows)),
            "n_failed": len(judged.ids & self._ends.failed),
            "epochs_trained": sum(trained),
            "epochs_saved": judged.specs[0].settings.training.epochs * len(rows) - sum(trained),
            "pruned_at": epoch,
        }
        self._tell(entry, "pruned", (), facts)

    def _settle(self, judged: ConfigInFlight) -> None:
        """Tell the study of a config whose trials are over, or that has no value whatever the others give."""
        ids = judged.ids
        failed = ids & self._ends.failed
        open_ids = {trial_id for trial_id in ids - failed if not self._ledger.done(trial_id)}
        dropped = failed and self._planned.search.failed_trials == "drop_config"
        if open_ids - self._ends.left and not dropped:
            self._give_up_if_hopeless(judged)
            return
        if open_ids and not dropped:
            self._land(judged)  # interrupted: it stays running in the study, and the next start goes on with it
            return
        found = config_value(self._planned.search, judged.specs, self.figures)
        facts = {**found.facts, "n_failed": len(failed), "failure_policy": found.policy}
        self._tell(judged.entry, "done" if found.scores else "failed", found.scores, facts)

    def _tell(self, entry: Entry, state: Any, scores: Sequence[float], facts: dict[str, Any]) -> None:
        self._study.keep_hours(self.hours)
        if self._courses.at:
            facts = {**facts, CURVE_KEY: self._courses.plain(entry.number)}
            for epoch, mean in self._courses.means(entry.number).items():
                self._study.report(entry.number, epoch, mean)
        self._study.tell(entry.number, state, scores, facts)
        if entry.number in self._flight:
            self._land(self._flight[entry.number])
        self._told(self._study.entries()[entry.number])

    def _land(self, judged: ConfigInFlight) -> None:
        del self._flight[judged.entry.number]
        self._wanted = {trial_id for other in self._flight.values() for trial_id in other.ids}


def sentence(entry: Entry, metrics: Sequence[str]) -> str:
    """What people are told of a config that was judged."""
    values = ", ".join(f"{key} {value_text(value)}" for key, value in entry.values.items())
    name = "the file's own config" if entry.number == 0 else f"config {entry.number}"
    if entry.state == "pruned":
        return f"{name} ({values}): given up at epoch {entry.facts['pruned_at']}"
    if entry.state != "done":
        return f"{name} ({values}): {entry.state}, {entry.facts.get('policy', '')}"
    noise = entry.facts.get("value_std_error")
    told = [f"{metric} {score:.4f}" for metric, score in zip(metrics, entry.scores, strict=True)]
    return f"{name} ({values}): {', '.join(told)}{'' if noise is None else f' ± {noise:.4f}'}"


class TrialMetrics:
    """Rows of `metrics.parquet` of a run's finished trials, each read once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: dict[str, dict[str, Any]] = {}

    def row(self, trial_id: str) -> Mapping[str, Any]:
        """The figures of a finished trial; empty for others."""
        if trial_id not in self._rows and self._ledger.done(trial_id):
            leaf = self._ledger.run_dir / self._ledger.rows[trial_id]["leaf"]
            (self._rows[trial_id],) = files.read_table(leaf / tree.METRICS).to_pylist()
        return self._rows.get(trial_id, {})

    def course(self, trial_id: str) -> dict[int, float]:
        """By epoch, the AUROC over validation images of a finished trial, where it was told to look."""
        if not self._ledger.done(trial_id):
            return {}
        leaf = self._ledger.run_dir / self._ledger.rows[trial_id]["leaf"]
        table = files.read_table(leaf / tree.HISTORY).select(["epoch", PRUNABLE])
        return {row["epoch"]: row[PRUNABLE] for row in table.to_pylist() if row[PRUNABLE] is not None}


@dataclass(frozen=True)
class ConfigValue:
    """A config's value, or why it has none.

    Attributes:
        scores: one a metric; empty when the config has no value.
        policy: what was done about failed trials; empty when none failed.
        facts: further columns of `configs.parquet`.
    """

    scores: tuple[float, ...]
    policy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def config_value(search: SearchSettings, specs: Sequence[TrialSpec], figures: TrialMetrics) -> ConfigValue:
    """What a config is worth when none of its trials runs any more; those that are not done failed."""
    rows = [figures.row(spec.trial_id) for spec in specs]
    done = [row for row in rows if row]
    facts = {
        "n_trials": len(rows),
        "n_done": len(done),
        "n_failed": len(rows) - len(done),
        "epochs_trained": sum(row["epochs"] for row in done),
        "selection_source": next((row["selection_source"] for row in done), ""),
    }
    columns = [column_of(metric) for metric in search.metrics]
    good = [row for row in done if all(row.get(column) is not None for column in columns)]
    lost = len(rows) - len(good)
    if lost and search.failed_trials == "drop_config":
        return ConfigValue((), f"{_of(lost, rows)} failed or undefined: the config has no value", facts)
    if not good and search.failed_trials == "mean_of_rest":
        return ConfigValue((), "all trials failed or undefined: the config has no value", facts)
    zeros = lost if search.failed_trials == "worst" else 0
    policy = ""
    if lost:
        counted = "count as 0" if zeros else "left out of the mean"
        policy = f"{_of(lost, rows)} failed or undefined, {counted}"
    count = len(good) + zeros
    scores = tuple(math.fsum(row[column] for row in good) / count for column in columns)
    return ConfigValue(scores, policy, {**facts, "value_std_error": _noise(columns[0], good, count)})


def _of(lost: int, rows: Sequence[Any]) -> str:
    return f"{lost} of {len(rows)} trials"


def _noise(column: str, rows: Sequence[Mapping[str, Any]], count: int) -> float | None:
    """Standard error of the mean of a figure whose trials each know their own; None where they do not.

    It is the noise of the images that the figure was measured on. Configs are judged on the same images and draws, so
    that their difference is less noisy than this says.
    """
    errors = [row.get(f"{column}_std_error") for row in rows]
    known = [error for error in errors if error is not None]
    if not known or len(known) < len(errors):
        return None
    return math.sqrt(math.fsum(error**2 for error in known)) / count

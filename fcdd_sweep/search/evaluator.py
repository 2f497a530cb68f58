"""Evaluation of configs: asks the study for them, supplies their trials, and gives the study each config's value."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.search_schema import PRUNABLE, SearchSettings, column_of
from fcdd_sweep.config.search_space import Values
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.report.text import setting_text
from fcdd_sweep.results import files
from fcdd_sweep.results.documents import ConfigState, TrialStatus
from fcdd_sweep.results.tree import TrialPaths
from fcdd_sweep.runners.events import EpochDone, Event, TrialEnded, ValidationMeasured
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.search.plan import SearchPlan
from fcdd_sweep.search.pruning import CURVE_KEY, LearningCurves
from fcdd_sweep.search.study import Entry, Study
from fcdd_sweep.sweep.ledger import Ledger

_HOUR_S = 3600.0


@dataclass(frozen=True)
class ConfigInFlight:
    """A config whose trials run."""

    entry: Entry
    specs: tuple[TrialSpec, ...]

    @property
    def ids(self) -> set[str]:
        return {spec.trial_id for spec in self.specs}


@dataclass
class _Ended:
    """Trials that ended in this start without a result, by id."""

    failed: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)


class ConfigEvaluator:
    """A `TrialSource` of the trials that evaluate configs, and the sink of their events.

    The study and the trials' files are the truth: configs that an earlier start left running come first, and the study
    is not asked for them again.
    """

    def __init__(
        self,
        planned: SearchPlan,
        study: Study,
        ledger: Ledger,
        on_change: Callable[[Entry], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            planned: the search.
            study: its study.
            ledger: the run's trials.
            on_change: called for every config that starts or ends.
            clock: returns seconds, for the budget of hours.
        """
        self._planned, self._study, self._ledger = planned, study, ledger
        self._on_change, self._clock = on_change, clock
        self._metrics = TrialMetrics(ledger)
        self._start, self._hours_before = clock(), study.hours
        entries = study.entries()
        self._count = len(entries)
        self._resumed = deque(entry for entry in entries if entry.state == ConfigState.RUNNING)
        self._in_flight: dict[int, ConfigInFlight] = {}
        self._supplied: set[str] = set()
        self._wanted: set[str] = set()
        self._ended = _Ended()
        self._parallel = 1
        self._exhausted = False
        self._epochs: dict[str, int] = {}
        self._curves = LearningCurves(planned.search.prune, planned.plan.classes)
        for entry in entries:
            self._curves.restore(entry.number, entry.facts.get(CURVE_KEY, []))

    @property
    def examples(self) -> Sequence[TrialSpec]:
        return self._planned.examples()

    def begin(self, slots: int) -> None:
        asked, trials = self._planned.search.parallel, len(self._planned.plan.specs)
        # one more than fills the slots, so that none is idle while the last trials of a config run
        self._parallel = math.ceil(slots / trials) + (slots > 1) if asked == "auto" else asked

    def unwanted(self, trial_id: str) -> bool:
        return trial_id not in self._wanted

    def more(self) -> Sequence[TrialSpec]:
        specs: list[TrialSpec] = []
        while not specs and len(self._in_flight) < self._parallel:
            entry = self._next()
            if entry is None:
                break
            specs = self._start_config(entry)
        return specs

    @property
    def hours(self) -> float:
        """Hours that the search has taken over all starts."""
        return self._hours_before + (self._clock() - self._start) / _HOUR_S

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

    def _start_config(self, entry: Entry) -> list[TrialSpec]:
        """Start a config, and return those of its trials that must run."""
        if "invalid" in entry.facts:
            reason = f"no valid config: {entry.facts['invalid']}"
            self._end_config(entry, ConfigState.FAILED, (), {"failure_policy": reason})
            return []
        config = ConfigInFlight(entry, self._planned.evaluating(self._planned.config(entry.number, entry.values)))
        self._in_flight[entry.number] = config
        self._wanted |= config.ids
        self._on_change(entry)
        self._ledger.add(config.specs)  # a grid of the same run, or an earlier start, may have done some
        specs = [spec for spec in config.specs if self._must_run(spec.trial_id)]
        self._supplied |= {spec.trial_id for spec in specs}
        for spec in config.specs:
            self._add_curve(config, spec)
        self._settle(config)
        return specs if entry.number in self._in_flight else []

    def _must_run(self, trial_id: str) -> bool:
        """Return whether a trial is neither done nor running, nor failed before and not to be retried."""
        if self._ledger.done(trial_id) or trial_id in self._supplied:
            return False
        faults = self._planned.experiment.faults
        given_up = not faults.retry_failed or self._ledger.failures_left(trial_id, faults) <= 0
        if self._ledger.failed(trial_id) and given_up:
            self._ended.failed.add(trial_id)
            return False
        return True

    def handle(self, event: Event) -> None:
        """Take an event in; a finished trial is in the ledger by now."""
        match event:
            case EpochDone(spec, epoch):
                self._epochs[spec.trial_id] = epoch
            case ValidationMeasured(spec, aurocs):
                self._measured(spec, aurocs)
            case TrialEnded(spec, result):
                self._trial_ended(spec, result)

    def _trial_ended(self, spec: TrialSpec, result: TrialResult) -> None:
        if result.status == TrialStatus.FAILED:
            self._ended.failed.add(spec.trial_id)
        elif not self._ledger.done(spec.trial_id):
            self._ended.stopped.add(spec.trial_id)
        for config in self._configs_of(spec):
            self._add_curve(config, spec)
            self._settle(config)

    def _configs_of(self, spec: TrialSpec) -> list[ConfigInFlight]:
        return [config for config in self._in_flight.values() if spec.trial_id in config.ids]

    def _measured(self, spec: TrialSpec, aurocs: Mapping[int, float]) -> None:
        """Add the AUROCs of a running trial, and prune its configs if they are too low."""
        for config in self._configs_of(spec):
            self._curves.add(config.entry.number, spec, aurocs)
            self._prune_if_low(config)

    def _add_curve(self, config: ConfigInFlight, spec: TrialSpec) -> None:
        """Add the learning curve of a finished trial."""
        if self._curves.at:
            self._curves.add(config.entry.number, spec, self._metrics.learning_curve(spec.trial_id))

    def _prune_if_low(self, config: ConfigInFlight) -> None:
        """Prune a config whose curve is too low; never the file's own, which the best is compared with in the end."""
        entry = config.entry
        epoch = self._curves.prune_epoch(entry.number) if entry.number else None
        if epoch is None:
            return
        rows = [self._metrics.row(spec.trial_id) for spec in config.specs]
        trained = [
            row["epochs"] if row else self._epochs.get(spec.trial_id, 0)
            for row, spec in zip(rows, config.specs, strict=True)
        ]
        facts = {
            "n_trials": len(rows),
            "n_done": sum(map(bool, rows)),
            "n_failed": len(config.ids & self._ended.failed),
            "epochs_trained": sum(trained),
            "epochs_saved": sum(spec.settings.total_epochs for spec in config.specs) - sum(trained),
            "pruned_at": epoch,
        }
        self._end_config(entry, ConfigState.PRUNED, (), facts)

    def _settle(self, config: ConfigInFlight) -> None:
        """End a config whose trials have ended, or that has no value whatever its other trials give."""
        ids = config.ids
        failed = ids & self._ended.failed
        unfinished = {trial_id for trial_id in ids - failed if not self._ledger.done(trial_id)}
        dropped = failed and self._planned.search.failed_trials == "drop_config"
        if unfinished - self._ended.stopped and not dropped:
            self._prune_if_low(config)
            return
        if unfinished and not dropped:
            self._remove(config)  # interrupted: it stays running in the study, and the next start continues it
            return
        found = config_value(self._planned.search, config.specs, self._metrics, unfinished=len(unfinished))
        facts = {**found.facts, "failure_policy": found.failure_policy}
        state = ConfigState.DONE if found.scores else ConfigState.FAILED
        self._end_config(config.entry, state, found.scores, facts)

    def _end_config(self, entry: Entry, state: ConfigState, scores: Sequence[float], facts: dict[str, Any]) -> None:
        self._study.keep_hours(self.hours)
        if self._curves.at:
            facts = {**facts, CURVE_KEY: self._curves.plain(entry.number)}
            for epoch, mean in self._curves.means(entry.number).items():
                self._study.report(entry.number, epoch, mean)
        self._study.tell(entry.number, state, scores, facts)
        if entry.number in self._in_flight:
            self._remove(self._in_flight[entry.number])
        self._on_change(self._study.entries()[entry.number])

    def _remove(self, config: ConfigInFlight) -> None:
        del self._in_flight[config.entry.number]
        self._wanted = {trial_id for other in self._in_flight.values() for trial_id in other.ids}


def config_line(entry: Entry, metrics: Sequence[str]) -> str:
    """Return one line on how a config ended."""
    values = ", ".join(f"{key} {setting_text(value)}" for key, value in entry.values.items())
    name = "the file's own config" if entry.number == 0 else f"config {entry.number}"
    if entry.state == ConfigState.PRUNED:
        return f"{name} ({values}): pruned at epoch {entry.facts['pruned_at']}"
    if entry.state != ConfigState.DONE:
        return f"{name} ({values}): {entry.state}, {entry.facts.get('failure_policy', '')}"
    std_error = entry.facts.get("value_std_error")
    parts = [f"{metric} {score:.4f}" for metric, score in zip(metrics, entry.scores, strict=True)]
    if std_error is not None:
        parts[0] += f" ± {std_error:.4f}"
    return f"{name} ({values}): {', '.join(parts)}"


class TrialMetrics:
    """Rows of `metrics.parquet` of a run's finished trials, each read once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: dict[str, dict[str, Any]] = {}

    def row(self, trial_id: str) -> Mapping[str, Any]:
        """Return the row of a finished trial; empty for others."""
        if trial_id not in self._rows and self._ledger.done(trial_id):
            leaf = self._ledger.run_dir / self._ledger.rows[trial_id]["leaf"]
            (self._rows[trial_id],) = files.read_table(TrialPaths(leaf).metrics).to_pylist()
        return self._rows.get(trial_id, {})

    def learning_curve(self, trial_id: str) -> dict[int, float]:
        """Return the AUROC over validation images of a finished trial by epoch, for the epochs that were scored."""
        if not self._ledger.done(trial_id):
            return {}
        leaf = self._ledger.run_dir / self._ledger.rows[trial_id]["leaf"]
        table = files.read_table(TrialPaths(leaf).history).select(["epoch", PRUNABLE])
        return {row["epoch"]: row[PRUNABLE] for row in table.to_pylist() if row[PRUNABLE] is not None}


@dataclass(frozen=True)
class ConfigValue:
    """A config's value, or why it has none.

    Attributes:
        scores: one per metric; empty when the config has no value.
        failure_policy: how failed trials were counted; empty when none failed.
        facts: further columns of `configs.parquet`.
    """

    scores: tuple[float, ...]
    failure_policy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def config_value(
    search: SearchSettings, specs: Sequence[TrialSpec], metrics: TrialMetrics, unfinished: int = 0
) -> ConfigValue:
    """Return the value of a config whose trials have ended.

    Args:
        search: the search.
        specs: the trials of the config.
        metrics: of the finished ones.
        unfinished: how many did not end, as a failed one cost the config its value; all others that are not done have
            failed.
    """
    rows = [metrics.row(spec.trial_id) for spec in specs]
    done = [row for row in rows if row]
    n_failed = len(rows) - len(done) - unfinished
    facts = {
        "n_trials": len(rows),
        "n_done": len(done),
        "n_failed": n_failed,
        "epochs_trained": sum(row["epochs"] for row in done),
        "selection_source": joined_sources(row["selection_source"] for row in done),
    }
    columns = [column_of(metric) for metric in search.metrics]
    good = [row for row in done if all(row.get(column) is not None for column in columns)]
    lost = len(rows) - len(good)
    counts = {"failed": n_failed, "undefined": len(done) - len(good), "not finished": unfinished}
    lost_text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    lost_text = lost_text.replace(" ", f" of {len(rows)} trials ", 1)  # of the first count alone
    if lost and (search.failed_trials == "drop_config" or (not good and search.failed_trials == "mean_of_rest")):
        return ConfigValue((), f"{lost_text}: the config has no value", facts)
    zeros = lost if search.failed_trials == "worst" else 0
    policy = f"{lost_text}: {'count as 0' if zeros else 'left out of the mean'}" if lost else ""
    count = len(good) + zeros
    scores = tuple(math.fsum(row[column] for row in good) / count for column in columns)
    return ConfigValue(scores, policy, {**facts, "value_std_error": _std_error(columns[0], good, count)})


def _std_error(column: str, rows: Sequence[Mapping[str, Any]], count: int) -> float | None:
    """Return the standard error of a metric's mean from the trials' own standard errors, or None if one is missing.

    It is the noise of the images that the metric was measured on. Configs are evaluated on the same images and draws,
    so the noise of their difference is smaller.
    """
    errors = [row.get(f"{column}_std_error") for row in rows]
    known = [error for error in errors if error is not None]
    if not known or len(known) < len(errors):
        return None
    return math.sqrt(math.fsum(error**2 for error in known)) / count


_COUNT = re.compile(r"(\d+(?: to \d+)?)")


def joined_sources(sources: Iterable[str]) -> str:
    """Return one text of the `selection_source` of trials; counts that differ become ranges, `38 to 40 images`."""
    by_words: dict[tuple[str, ...], list[list[str]]] = {}
    for source in filter(None, sources):
        parts = _COUNT.split(source)
        by_words.setdefault(tuple(parts[::2]), []).append(parts[1::2])
    texts = []
    for words, found in by_words.items():
        ranges = [_count_range(counts) for counts in zip(*found, strict=True)]
        texts.append("".join(part for pair in zip(words, [*ranges, ""], strict=True) for part in pair))
    return "; ".join(texts)


def _count_range(counts: Sequence[str]) -> str:
    """Return counts, or ranges of counts, as one."""
    if len(set(counts)) == 1:
        return counts[0]
    ends = [int(end) for count in counts for end in count.split(" to ")]
    return f"{min(ends)} to {max(ends)}"

"""A search from an experiment to its report: judge configs, confirm the best on fresh seeds, write the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec, identity
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.lease import lease
from fcdd_sweep.runners.events import Progress, Runner, Work
from fcdd_sweep.runners.trial_data import fingerprint_of
from fcdd_sweep.search.evaluator import ConfigEvaluator, TrialMetrics, sentence
from fcdd_sweep.search.plan import SearchPlan, plan_search
from fcdd_sweep.search.study import Entry, Study, opened_storage
from fcdd_sweep.search.summary import summary_of
from fcdd_sweep.search.tables import (
    Confirmed,
    confirmation_rows,
    write_configs,
    write_confirmation,
    write_importance,
    write_rungs,
    write_summary,
)
from fcdd_sweep.sweep.ledger import FailureLog, Ledger
from fcdd_sweep.sweep.session import (
    OnChangedData,
    Publisher,
    SweepResult,
    event_sinks,
    preflight,
    prepare_data,
    run_trials,
    runner_of,
    storage_errors,
    trials_to_run,
    write_plan,
)
from fcdd_sweep.sweep.trial import run_trial

_WRITE_EVERY_S = 2.0
"""Plan and tables are written at most this often while configs are judged; the study and the leaves are the truth."""


def run_search(
    experiment: Experiment | Plan,
    *,
    local: bool = False,
    address: str | None = None,
    changed_data: OnChangedData = "stop",
    progress: Progress | None = None,
    work: Work | None = None,
) -> SweepResult:
    """Go on with an experiment's search until its budget is spent, confirm the best config, and build the report.

    A search that was interrupted goes on with the same study; one that is over goes on when its budget was raised.

    Args:
        experiment: from `load_experiment`, with a `search`; or its plan.
        local, address, progress, work: see `run_sweep`.
        changed_data: what happens when finished trials used other data: `stop`, or `keep` their figures.
    Returns:
        How it ended; trials that nobody needs any more, of configs that were given up, are not counted as planned.
    Raises:
        InputError: an experiment that cannot run, data that cannot be read, or a study of another search in the run.
    """
    progress = progress or Progress()
    planned = plan_search(experiment)
    experiment = planned.experiment
    preflight(experiment, planned.plan.notes, address, progress)
    _, notes = prepare_data(planned.examples(), progress)
    work = work or partial(run_trial, checkpoint_every=experiment.faults.checkpoint_every)
    run_dir, place = experiment.run_dir, planned.search.storage
    with storage_errors(), lease(run_dir) as held, ExitStack() as used:
        storage, keep = used.enter_context(opened_storage(place, run_dir))
        study = Study(planned.search, planned.space, experiment.name, storage, _made_for(planned))
        failures = FailureLog(run_dir)
        ledger = Ledger(run_dir, failures.counts())
        hears = used.enter_context(event_sinks(experiment, ledger, progress))
        publishing = Publisher(ledger, hears, failures, held)
        running = _Running(planned, study, publishing, notes, keep)
        running.take_up(changed_data)
        runner = runner_of(experiment, ledger, local=local, address=address)
        interrupted = running.judge(work, runner) or running.confirm(work, runner)
        if interrupted:
            hears.stopped()
        return running.over(interrupted=interrupted)


def _made_for(planned: SearchPlan) -> dict[str, Any]:
    """What a study may not change under its configs."""
    search = planned.search.model_dump(mode="json", by_alias=True)
    kept = {key: search[key] for key in ("space", "metric", "direction", "failed_trials")}
    own = identity(planned.plan.configs[0].settings)
    return {"settings": own, "classes": list(planned.plan.classes), "seeds": list(planned.plan.seeds), **kept}


@dataclass
class _Running:
    """A search between its start and its report.

    Attributes:
        keep: brings the study to its place after a change.
        confirmed: configs that are confirmed, once that is known.
    """

    planned: SearchPlan
    study: Study
    publishing: Publisher
    notes: list[str]
    keep: Callable[[], None]
    confirmed: Sequence[Confirmed] = ()
    kept: int = 0
    written: float = 0.0
    specs: dict[int, tuple[TrialSpec, ...]] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.publishing.ledger

    @property
    def progress(self) -> Progress:
        return self.publishing.progress

    @property
    def run_dir(self) -> Any:
        return self.ledger.run_dir

    def take_up(self, changed_data: OnChangedData) -> None:
        """Make files, study and plan agree."""
        specs = [spec for entry in self.study.entries() for spec in self._judging(entry)]
        self.ledger.reconcile(specs)
        for said in self.ledger.repaired:
            self.progress.said(said)
        self._check_data(specs, changed_data)
        self.kept = sum(self.ledger.done(spec.trial_id) for spec in specs)
        write_plan(self.planned.experiment, self.planned.plan, self.notes)
        self._write()

    def _check_data(self, specs: Sequence[TrialSpec], changed_data: OnChangedData) -> None:
        done = [spec for spec in specs if self.ledger.done(spec.trial_id)]
        stale = [s for s in done if self.ledger.rows[s.trial_id]["data_fingerprint"] != fingerprint_of(s)]
        if stale and changed_data != "keep":
            classes = ", ".join(sorted({spec.normal_class for spec in stale}))
            what = f"the data of class {classes} has changed since {len(stale)} finished trials judged configs by it"
            step = "Give the run another name, or say --changed-data keep: a study cannot take back what it was told"
            raise InputError(Problem(str(self.run_dir), what, next_step=step))

    def _judging(self, entry: Entry) -> tuple[TrialSpec, ...]:
        """The trials of a config; none of one that is not valid."""
        if entry.number not in self.specs:
            valid = "invalid" not in entry.facts
            config = self.planned.config(entry.number, entry.values) if valid else None
            self.specs[entry.number] = self.planned.judging(config) if config is not None else ()
        return self.specs[entry.number]

    def judge(self, work: Work, runner: Runner) -> bool:
        """Judge configs until the budget is spent; gives whether a signal ended it."""
        judge = ConfigEvaluator(self.planned, self.study, self.ledger, self._told)
        bound = _most_trials(self.planned, len(self.study.entries()))
        self.progress.begun(bound, self.kept, bound - self.kept)
        interrupted = run_trials(judge, replace(self.publishing, follower=judge), work, runner)
        self.study.keep_hours(judge.hours)
        self.keep()
        return interrupted

    def _told(self, entry: Entry) -> None:
        if entry.state != "running":
            self.progress.said(sentence(entry, self.planned.search.metrics))
        self.keep()
        if time.monotonic() - self.written > _WRITE_EVERY_S:
            self._write()

    def confirm(self, work: Work, runner: Runner) -> bool:
        """Train the best config and the file's own again on fresh seeds; gives whether a signal ended it."""
        self._write()
        self.confirmed = self._to_confirm()
        specs = list({spec.trial_id: spec for _, _, group in self.confirmed for spec in group}.values())
        self.ledger.reconcile(specs)
        missing = trials_to_run(specs, self.ledger, self.planned.experiment.faults, self.progress)
        self._write()
        if not missing:
            return False
        self.progress.said("confirming on fresh seeds: the best config and the file's own")
        self.progress.begun(len(specs), len(specs) - len(missing), len(missing))
        return run_trials(missing, self.publishing, work, runner)

    def _to_confirm(self) -> Sequence[Confirmed]:
        entries, best = self.study.entries(), self.study.pareto()
        if not best:
            return ()
        role = "best" if len(self.planned.search.metrics) == 1 else "pareto"
        configs = [(role, number) for number in best] + [("default", 0)]
        made = [(role, self.planned.config(number, entries[number].values)) for role, number in configs]
        return [Confirmed(role, config, self.planned.confirming(config)) for role, config in made]

    def _write(self) -> None:
        """Plan and tables as they are now."""
        plan = replace(self.planned.plan, specs=tuple(self._all_specs()))
        files.write_rows(self.run_dir / tree.PLAN, plan.rows(), schemas.PLAN)
        self._write_configs(over=False)
        self.written = time.monotonic()

    def _write_configs(self, *, over: bool) -> None:
        entries = self.study.entries()
        done = {
            entry.number: sum(self.ledger.done(spec.trial_id) for spec in self._judging(entry))
            for entry in entries
            if entry.state == "running"
        }
        write_configs(self.run_dir, self.planned, entries, done, over=over)

    def _all_specs(self) -> list[TrialSpec]:
        """Every trial of the plan, each once: of configs that were given up, only those that ran."""
        found: dict[str, TrialSpec] = {}
        for entry in self.study.entries():
            for spec in self._judging(entry):
                if entry.state in ("done", "running") or spec.trial_id in self.ledger.rows:
                    found.setdefault(spec.trial_id, spec)
        for _, _, group in self.confirmed:
            for spec in group:
                found.setdefault(spec.trial_id, spec)
        return list(found.values())

    def over(self, *, interrupted: bool) -> SweepResult:
        """The last tables and the report."""
        rows = confirmation_rows(self.confirmed, TrialMetrics(self.ledger))
        entries, best = self.study.entries(), self.study.pareto()
        summary = summary_of(self.planned, entries, best, self.study.hours, rows)
        self._write_configs(over=True)
        write_rungs(self.run_dir, entries)
        write_importance(self.run_dir, self.study.importance())
        write_confirmation(self.run_dir, rows)
        write_summary(self.run_dir, summary)
        for said in summary.sentences:
            self.progress.said(said)
        report = self.run_dir / tree.REPORT
        if not interrupted:
            self.progress.said("building the report")
            report = aggregate(self.run_dir)
        states = [self.ledger.rows.get(spec.trial_id, {}).get("status") for spec in self._all_specs()]
        return SweepResult(
            self.run_dir, report, len(states), states.count("done"), states.count("failed"), self.kept, interrupted
        )


def _most_trials(planned: SearchPlan, configs: int) -> int:
    """As many trials as the budget allows; those that are known where it counts hours alone."""
    budget, trials = planned.search.budget, len(planned.plan.specs)
    limits = [budget.configs, None if budget.trials is None else budget.trials // trials]
    if planned.search.algorithm == "grid":
        limits.append(len(planned.space.grid()) + 1)
    known = [limit for limit in limits if limit is not None]
    return trials * max(configs, min(known) if known else 1)

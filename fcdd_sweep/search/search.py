"""A search from an experiment to its report: evaluate configs, confirm the best on fresh seeds, write the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Unpack

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec, identity
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import SweepStarted, SweepStopped
from fcdd_sweep.runners.trial_data import fingerprint_of
from fcdd_sweep.search.evaluator import ConfigEvaluator, TrialMetrics, config_line
from fcdd_sweep.search.plan import SearchPlan, plan_search
from fcdd_sweep.search.study import Entry, Study, check_study, opened_storage
from fcdd_sweep.search.summary import (
    Confirmed,
    confirmation_rows,
    summary_of,
    write_configs,
    write_confirmation,
    write_importance,
    write_rungs,
    write_summary,
)
from fcdd_sweep.sweep.changed_trials import changed_trials, kept_notes
from fcdd_sweep.sweep.ledger import Ledger
from fcdd_sweep.sweep.publisher import Publisher
from fcdd_sweep.sweep.resume_notes import resume_notes
from fcdd_sweep.sweep.session import (
    RunKeywords,
    RunOptions,
    Session,
    SweepResult,
    open_session,
    trials_to_run,
    write_plan,
)

_WRITE_EVERY_S = 2.0
"""Seconds between two writes of plan and tables at least while configs are evaluated; the study and leaves are the
truth."""


def run_search(experiment: Experiment | Plan, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Continue an experiment's search until its budget is spent, confirm the best config, and build the report.

    An interrupted search continues with the same study; a finished one continues if its budget was raised.

    Args:
        experiment: from `load_experiment`, with a `search`; or its plan.
        keywords: `local`, `address`, `changed_data`, `progress`, `work`, see `sweep.session.RunOptions`.
    Returns:
        How it ended; `planned` leaves out trials of pruned configs that did not run.
    Raises:
        InputError: an experiment that cannot run, data that cannot be read, or a study of another search in the run.
        StorageError: the storage of the results is full or unreachable; finished trials are kept.
    """
    options = RunOptions(**keywords)
    planned = plan_search(experiment)
    experiment, fixed = planned.experiment, _fixed_settings(planned)
    check = partial(check_search, planned)
    with (
        open_session(experiment, planned.examples(), planned.plan.notes, options, check) as session,
        opened_storage(planned.search.storage, experiment.run_dir) as (storage, save_study),
    ):
        study = Study(planned.search, planned.space, experiment.name, storage, fixed)
        with session.publishing() as publisher:
            search = _Search(planned, study, session, publisher, save_study)
            search.prepare()
            session.note_device()
            interrupted = search.evaluate() or search.confirm()
            if interrupted:
                publisher.display.handle(SweepStopped())
            return search.finish(interrupted=interrupted)


def check_search(planned: SearchPlan) -> None:
    """Check that a study that the run has is of this search; write nothing.

    Raises:
        InputError: it is of another search or version, or its database cannot be used.
    """
    experiment = planned.experiment
    check_study(planned.search.storage, experiment.run_dir, experiment.name, _fixed_settings(planned))


def _fixed_settings(planned: SearchPlan) -> dict[str, Any]:
    """Return what must not change while a study exists."""
    search = planned.search.model_dump(mode="json", by_alias=True)
    fixed = {key: search[key] for key in ("space", "metric", "direction", "failed_trials")}
    own = identity(planned.plan.configs[0].settings)
    return {"settings": own, "classes": list(planned.plan.classes), "seeds": list(planned.plan.seeds), **fixed}


@dataclass
class _Search:
    """A search between its start and its report.

    Attributes:
        planned: the search.
        study: its study.
        session: the run that it works in.
        publisher: takes the events of its trials.
        save_study: uploads the study after a change, if the run is in an object store.
        confirmed: the configs that are confirmed, once they are known.
        kept: trials that earlier starts finished.
        written: when plan and tables were written last, by `time.monotonic`.
        specs: trials that evaluate each config, by its number.
    """

    planned: SearchPlan
    study: Study
    session: Session
    publisher: Publisher
    save_study: Callable[[], None]
    confirmed: Sequence[Confirmed] = ()
    kept: int = 0
    written: float = 0.0
    specs: dict[int, tuple[TrialSpec, ...]] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.session.ledger

    @property
    def run_dir(self) -> Location:
        return self.ledger.run_dir

    def prepare(self) -> None:
        """Make files, study and plan agree.

        Raises:
            InputError: the data of finished trials has changed.
        """
        specs = [spec for entry in self.study.entries() for spec in self._evaluating(entry)]
        self.ledger.reconcile(specs)
        missing = [spec for spec in specs if not self.ledger.done(spec.trial_id)]
        for message in [*self.ledger.repaired, *resume_notes(self.run_dir, missing)]:
            self.session.report(message)
        self._check_data(specs)
        self.kept = sum(self.ledger.done(spec.trial_id) for spec in specs)
        write_plan(self.planned.experiment, self.planned.plan, self.session.data_notes)
        self._write()

    def _check_data(self, specs: Sequence[TrialSpec]) -> None:
        found = changed_trials(specs, self.ledger, fingerprint_of)
        if self.session.options.changed_data == "keep":
            self.session.data_notes.extend(kept_notes(found))
        elif found:
            step = "Give the run another name, or use --changed-data keep: a study cannot take back the values it has"
            raise InputError(Problem(str(self.run_dir), "; ".join(found), next_step=step))

    def _evaluating(self, entry: Entry) -> tuple[TrialSpec, ...]:
        """Return the trials that evaluate a config; none for an invalid one."""
        if entry.number not in self.specs:
            valid = "invalid" not in entry.facts
            config = self.planned.config(entry.number, entry.values) if valid else None
            self.specs[entry.number] = self.planned.evaluating(config) if config is not None else ()
        return self.specs[entry.number]

    def evaluate(self) -> bool:
        """Evaluate configs until the budget is spent; return whether a signal ended it."""
        evaluator = ConfigEvaluator(self.planned, self.study, self.ledger, self._on_change)
        bound = _max_trials(self.planned, len(self.study.entries()))
        self.publisher.display.handle(SweepStarted(bound, self.kept, bound - self.kept))
        interrupted = self.session.run(evaluator, replace(self.publisher, evaluator=evaluator))
        self.study.keep_hours(evaluator.hours)
        self.save_study()
        return interrupted

    def _on_change(self, entry: Entry) -> None:
        """Report a config that has started or ended, and keep study and tables up to date."""
        if entry.state != ConfigState.RUNNING:
            self.session.report(config_line(entry, self.planned.search.metrics))
        self.save_study()
        if time.monotonic() - self.written > _WRITE_EVERY_S:
            self._write()

    def confirm(self) -> bool:
        """Train the best config and the file's own again on fresh seeds; return whether a signal ended it."""
        self._write()
        self.confirmed = self._to_confirm()
        specs = list({spec.trial_id: spec for _, _, group in self.confirmed for spec in group}.values())
        self.ledger.reconcile(specs)
        missing = trials_to_run(specs, self.ledger, self.planned.experiment.faults, self.session.report)
        self._write()
        if not missing:
            return False
        what = "confirming the best config and the file's own on fresh seeds"
        for sentence in (what, *resume_notes(self.run_dir, missing)):
            self.session.report(sentence)
        passes = sum(spec.settings.total_passes for spec in missing)
        self.publisher.display.handle(SweepStarted(len(specs), len(specs) - len(missing), len(missing), passes))
        return self.session.run(missing, self.publisher)

    def _to_confirm(self) -> Sequence[Confirmed]:
        entries, best = self.study.entries(), self.study.pareto()
        if not best:
            return ()
        role = "best" if len(self.planned.search.metrics) == 1 else "pareto"
        numbers = [(role, number) for number in best] + [("default", 0)]
        configs = [(role, self.planned.config(number, entries[number].values)) for role, number in numbers]
        return [Confirmed(role, config, self.planned.confirming(config)) for role, config in configs]

    def _write(self) -> None:
        """Write plan and tables as they are now."""
        plan = replace(self.planned.plan, specs=tuple(self._all_specs()))
        files.write_rows(RunPaths(self.run_dir).plan, plan.rows(), schemas.PLAN)
        self._write_configs(over=False)
        self.written = time.monotonic()

    def _write_configs(self, *, over: bool) -> None:
        entries = self.study.entries()
        done = {
            entry.number: sum(self.ledger.done(spec.trial_id) for spec in self._evaluating(entry))
            for entry in entries
            if entry.state == ConfigState.RUNNING
        }
        write_configs(self.run_dir, self.planned, entries, done, over=over)

    def _all_specs(self) -> list[TrialSpec]:
        """Return every trial of the plan, each once; of failed and pruned configs only those that ran."""
        found: dict[str, TrialSpec] = {}
        for entry in self.study.entries():
            for spec in self._evaluating(entry):
                if entry.state in (ConfigState.DONE, ConfigState.RUNNING) or spec.trial_id in self.ledger.rows:
                    found.setdefault(spec.trial_id, spec)
        for _, _, group in self.confirmed:
            for spec in group:
                found.setdefault(spec.trial_id, spec)
        return list(found.values())

    def finish(self, *, interrupted: bool) -> SweepResult:
        """Write the final tables and, unless interrupted, build the report."""
        rows = confirmation_rows(self.confirmed, TrialMetrics(self.ledger))
        entries, best = self.study.entries(), self.study.pareto()
        summary = summary_of(self.planned, entries, best, self.study.hours, rows)
        self._write_configs(over=True)
        write_rungs(self.run_dir, entries)
        write_importance(self.run_dir, self.study.importance())
        write_confirmation(self.run_dir, rows)
        write_summary(self.run_dir, summary)
        for sentence in summary.sentences:
            self.session.report(sentence)
        report = RunPaths(self.run_dir).report if interrupted else self.session.make_report()
        return self.session.result(self._all_specs(), report, self.kept, interrupted=interrupted)


def _max_trials(planned: SearchPlan, n_configs: int) -> int:
    """Return how many trials the budget allows; the number of known ones if it limits hours only."""
    budget, trials = planned.search.budget, len(planned.plan.specs)
    limits = [budget.configs, None if budget.trials is None else budget.trials // trials]
    if planned.search.algorithm == "grid":
        limits.append(len(planned.space.grid()) + 1)
    known = [limit for limit in limits if limit is not None]
    return trials * max(n_configs, min(known) if known else 1)

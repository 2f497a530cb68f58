"""A sweep from an experiment to its report: plan, prepare the data, run the missing trials, publish, aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from fcdd_sweep.config.errors import ExperimentError, InputError, Problem
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.plan import Plan, as_plan
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import SweepStarted, SweepStopped
from fcdd_sweep.sweep.changed_trials import changed_trials, kept_notes
from fcdd_sweep.sweep.earlier_file import changed_decisions, moved_from
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
from fcdd_sweep.sweep.unplanned import unplanned_notes


def run_sweep(experiment: Experiment | Plan, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Run the trials of an experiment that are not done, and build its report.

    Args:
        experiment: from `load_experiment`, or its plan.
        keywords: `local`, `address`, `changed_data`, `progress`, `work`, see `sweep.session.RunOptions`.
    Raises:
        InputError: an experiment that cannot run, or has a search, or data that cannot be read; nothing was started.
        StorageError: the storage of the results is full or unreachable; finished trials are kept.
    """
    options = RunOptions(**keywords)
    given = experiment.experiment if isinstance(experiment, Plan) else experiment
    if given.search is not None:
        step = "Call run_search, or run_experiment, which runs either"
        where = given.origin.where("search")
        raise ExperimentError(Problem(where, "the experiment has a search, which is no sweep", next_step=step))
    planned = as_plan(experiment)
    with open_session(planned.experiment, planned.specs, planned.notes, options, all_known=True) as session:
        missing = _missing_trials(session, planned)
        ledger = session.ledger
        kept = sum(ledger.done(spec.trial_id) for spec in planned.specs)
        if missing:
            session.note_device()
        with session.publishing() as publisher:
            passes = sum(spec.settings.total_passes for spec in missing)
            publisher.display.handle(SweepStarted(len(planned.specs), kept, len(missing), passes))
            interrupted = bool(missing) and session.run(missing, publisher)
            if interrupted:
                publisher.display.handle(SweepStopped())
        report = RunPaths(ledger.run_dir).report if interrupted else session.make_report()
        return session.result(planned.specs, report, kept, interrupted=interrupted)


def _missing_trials(session: Session, planned: Plan) -> list[TrialSpec]:
    """Make ledger, files and plan agree, and return the trials that are to run."""
    ledger = session.ledger
    ledger.reconcile(planned.specs)
    _settle_changed_data(session, planned.specs)
    for sentence in changed_decisions(ledger.run_dir, session.experiment):
        session.report(sentence)
    write_plan(session.experiment, planned, session.data_notes)
    for sentence in [*ledger.repaired, *unplanned_notes(ledger.run_dir, planned.specs, ledger.rows)]:
        session.report(sentence)
    missing = trials_to_run(planned.specs, ledger, session.experiment.faults, session.report)
    for sentence in resume_notes(ledger.run_dir, missing):
        session.report(sentence)
    return missing


def _settle_changed_data(session: Session, specs: Sequence[TrialSpec]) -> None:
    """Stop at finished trials that would not give their numbers again, keep them, or count them as missing."""
    ledger, changed_data = session.ledger, session.options.changed_data
    found = changed_trials(specs, ledger, lambda spec: session.fingerprints[spec.trial_id])
    if found and changed_data == "stop":
        step = "Use --changed-data keep to keep their results, or --changed-data redo to run them again"
        if root := moved_from(ledger.run_dir, session.experiment):
            step = f"The run used {root}: to have both, name this one otherwise, --set name=NAME. {step}"
        raise InputError(Problem(str(ledger.run_dir), "; ".join(found), "", step))
    if changed_data == "keep":
        session.data_notes.extend(kept_notes(found))
    if changed_data == "redo":
        for trial_id in {spec.trial_id for changed in found.values() for spec in changed}:
            ledger.forget(trial_id)

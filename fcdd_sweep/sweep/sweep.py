"""A sweep from an experiment to its report: plan, prepare the data, run what is missing, publish, aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.plan import Plan, as_plan, unplanned_note
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.results import tree
from fcdd_sweep.results.lease import lease
from fcdd_sweep.runners.events import Progress, Work
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


def run_sweep(
    experiment: Experiment | Plan,
    *,
    local: bool = False,
    address: str | None = None,
    changed_data: OnChangedData = "stop",
    progress: Progress | None = None,
    work: Work | None = None,
) -> SweepResult:
    """Run the trials of an experiment that are not done, and build its report.

    Args:
        experiment: from `load_experiment`; or its plan.
        local: run in this process, one trial after the other, instead of on Ray Tune.
        address: of a Ray cluster to run on, `auto` or HOST:PORT; None for a Ray of our own on this machine.
        changed_data: what happens to finished trials whose data has changed since.
        progress: told of everything that happens.
        work: what a worker does with a trial; `run_trial` outside of tests and benchmarks.
    Raises:
        InputError: an experiment that cannot run, or data that cannot be read; nothing has been started.
        StorageError: the place for the results is full or away. What is finished is kept there.
    """
    progress = progress or Progress()
    planned = as_plan(experiment)
    experiment = planned.experiment
    preflight(experiment, planned.notes, address, progress)
    fingerprints, notes = prepare_data(planned.specs, progress)
    run_dir = experiment.run_dir
    with storage_errors(), lease(run_dir) as held:
        failures = FailureLog(run_dir)
        ledger = Ledger(run_dir, failures.counts())
        ledger.reconcile(planned.specs)
        settle_changed_data(ledger, planned.specs, fingerprints, changed_data)
        write_plan(experiment, planned, notes)
        for sentence in [*ledger.repaired, *unplanned_note(planned.specs, ledger.rows)]:
            progress.said(sentence)
        kept = [spec for spec in planned.specs if ledger.done(spec.trial_id)]
        missing = trials_to_run(planned.specs, ledger, experiment.faults, progress)
        runner = runner_of(experiment, ledger, local=local, address=address)
        work = work or partial(run_trial, checkpoint_every=experiment.faults.checkpoint_every)
        with event_sinks(experiment, ledger, progress) as hears:
            hears.begun(len(planned.specs), len(kept), len(missing))
            publishing = Publisher(ledger, hears, failures, held)
            interrupted = bool(missing) and run_trials(missing, publishing, work, runner)
            if interrupted:
                hears.stopped()
        if not interrupted:
            progress.said("building the report")
        report = run_dir / tree.REPORT if interrupted else aggregate(run_dir)
        states = [ledger.rows.get(spec.trial_id, {}).get("status") for spec in planned.specs]
        return SweepResult(
            run_dir, report, len(states), states.count("done"), states.count("failed"), len(kept), interrupted
        )


def settle_changed_data(
    ledger: Ledger, specs: Sequence[TrialSpec], fingerprints: dict[str, str], changed_data: OnChangedData
) -> None:
    """Finished trials whose data is no longer what it was: stop, keep them, or count them as missing."""
    stale = [
        spec
        for spec in specs
        if ledger.done(spec.trial_id) and ledger.rows[spec.trial_id]["data_fingerprint"] != fingerprints[spec.trial_id]
    ]
    if stale and changed_data == "stop":
        classes = ", ".join(sorted({spec.normal_class for spec in stale}))
        raise InputError(
            Problem(
                str(ledger.run_dir),
                f"the data of class {classes} has changed since {len(stale)} finished trials used it",
                "",
                "Say --changed-data keep to keep their results, or --changed-data redo to run them again",
            )
        )
    if changed_data == "redo":
        for spec in stale:
            ledger.forget(spec.trial_id)

"""Leave the present decisions of a run where its detectors are loaded from: `decision.json` in each leaf."""

from __future__ import annotations

from fcdd_sweep.config.decision_record import DecisionRecord, decision_figures
from fcdd_sweep.config.fields import known_score
from fcdd_sweep.report.run_files import Run, Trial
from fcdd_sweep.results.files import write_text
from fcdd_sweep.results.tree import TrialPaths


def write_decisions(run: Run) -> None:
    """Write `decision.json` into each leaf whose own decisions are no longer those of the run, where it differs."""
    for trial in run.trials:
        if trial.folder is None:
            continue
        path = TrialPaths(trial.folder).decision
        if not trial.redecided and not path.is_file():
            continue
        text = decision_record(trial).model_dump_json(indent=2) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_text(path, text)


def decision_record(trial: Trial) -> DecisionRecord:
    """Return the decisions of a finished trial, as the report has them."""
    metrics = trial.metrics
    return DecisionRecord(
        trial_id=trial.plan["trial_id"],
        image_score=known_score(metrics["image_score"]),
        image_score_source=metrics["image_score_source"] or "",
        false_alarm_rate=metrics["false_alarm_rate"],
        threshold=metrics["threshold"],
        pixel_threshold=metrics["pixel_threshold"],
        p_value_level=metrics.get("p_value_level"),
        threshold_source=metrics["threshold_source"] or "",
        n_calibration=metrics["n_calibration"] or 0,
        test_decisions=decision_figures(metrics),
    )

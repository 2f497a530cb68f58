"""The JSON documents of a run are written and read through their models."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fcdd_sweep.results import files
from fcdd_sweep.results.documents import (
    ComparisonSummary,
    ConfigState,
    PruningSummary,
    RunningTrial,
    SearchAmounts,
    SearchSummary,
    SweepProgress,
    TrialStatus,
    read_progress,
    read_search_summary,
)
from fcdd_sweep.results.tree import RunPaths
from tests.fake_search import FakeSearch
from tests.report.test_status import progress


def test_a_summary_comes_back_as_it_was_written(tmp_path):
    summary = SearchSummary.model_validate(FakeSearch(6).confirm().summary)
    files.write_text(RunPaths(tmp_path).search.summary, summary.text())
    assert read_search_summary(tmp_path) == summary
    assert summary.comparison.metric == "image_auroc" and summary.budget.hours == 2.0


def test_what_is_not_known_of_a_search_has_a_default():
    summary = SearchSummary(metric=["final_loss"], direction=["minimize"], oracle=False)
    assert (summary.best, summary.noise, summary.tried, summary.sentences) == (None, None, 0, [])
    assert summary.spent == SearchAmounts(configs=None, trials=None, hours=None)


@pytest.mark.parametrize(
    "changes", [{"direction": ["maximize", "minimize"]}, {"metric": [], "direction": []}, {"direction": ["up"]}]
)
def test_metrics_and_directions_that_do_not_fit_are_refused(tmp_path, changes):
    plain = FakeSearch(3).summary | changes
    with pytest.raises(ValidationError):
        SearchSummary.model_validate(plain)
    files.write_text(RunPaths(tmp_path).search.summary, json.dumps(plain))
    with pytest.raises(ValueError, match="SearchSummary"):
        read_search_summary(tmp_path)


def test_progress_keeps_its_form_with_times_to_the_second_and_their_zone(tmp_path):
    shown = SweepProgress.model_validate(progress())
    text = files.write_text(RunPaths(tmp_path).progress, shown.text(indent=1)).read_text()
    assert json.loads(text) == progress()
    assert read_progress(tmp_path) == shown and shown.began == dt.datetime(2026, 1, 2, 11, tzinfo=dt.UTC)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"state": "asleep"}'])
def test_progress_that_is_missing_or_damaged_is_none(tmp_path, text):
    if text is not None:
        RunPaths(tmp_path).progress.write_text(text)
    assert read_progress(tmp_path) is None


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValidationError, match="timezone"):
        SweepProgress.model_validate(progress(written="2026-01-02T11:59:57"))


@pytest.mark.parametrize("model", [SearchSummary, SweepProgress, RunningTrial])
def test_every_field_is_in_the_documentation_with_its_meaning(model):
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    for name, field in model.model_fields.items():
        assert f"| `{name}` | {field.description} |" in text, name


@pytest.mark.parametrize("model", [SearchSummary, SweepProgress, ComparisonSummary, PruningSummary, SearchAmounts])
def test_every_field_says_what_it_means_and_no_value_changes(model):
    assert all(field.description for field in model.model_fields.values())
    assert model.model_config["frozen"]


def test_states_are_the_words_of_tables():
    assert TrialStatus("done") is TrialStatus.DONE and f"{TrialStatus.MISSING}" == "missing"
    assert ConfigState.PRUNED == "pruned"


def test_a_trial_is_finished_when_it_is_done_or_failed():
    assert [status for status in TrialStatus if status.is_finished] == ["done", "failed"]


def test_a_config_is_finished_when_the_study_has_its_end():
    assert [state for state in ConfigState if state.is_finished] == ["done", "failed", "pruned"]

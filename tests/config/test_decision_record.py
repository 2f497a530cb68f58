"""The record of decisions beside a snapshot."""

from __future__ import annotations

import math

import pytest

from fcdd_sweep.config.decision_record import DECISION, DecisionRecord, decision_figures
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.fields import TOP_SHARES, TopScore, known_score, score_column
from tests.specs import settings

RECORD = DecisionRecord(
    trial_id="0123456789ab",
    image_score=TopScore(top=0.03),
    image_score_source="auto: why",
    false_alarm_rate=0.1,
    threshold=0.1 + 0.2,
    pixel_threshold=None,
    threshold_source="with 19 held-out images",
    n_calibration=19,
)


def test_what_is_written_is_what_is_read_to_the_last_digit(tmp_path):
    assert DecisionRecord.beside(tmp_path / "snapshot.pt") is None
    (tmp_path / DECISION).write_text(RECORD.model_dump_json())
    found = DecisionRecord.beside(tmp_path / "snapshot.pt")
    assert found == RECORD and found.threshold == 0.1 + 0.2
    assert math.isnan(found.decision["pixel_threshold"]) and found.decision["n_calibration"] == 19


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / DECISION).write_text('{"trial_id": 3')
    with pytest.raises(InputError, match=r"decision\.json: this is not a record of decisions.*Run aggregate"):
        DecisionRecord.beside(tmp_path / "snapshot.pt")


def test_settings_get_score_and_rate_of_the_record_and_nothing_else():
    before = settings(evaluation={"image_score": "auto", "validation": {"nominal_fraction": 0.5}})
    after = RECORD.decided_settings(before)
    assert (after.evaluation.image_score, after.evaluation.false_alarm_rate) == (TopScore(top=0.03), 0.1)
    evaluation = {"image_score": "auto", "false_alarm_rate": 0.05}
    assert after.model_copy(update={"evaluation": after.evaluation.model_copy(update=evaluation)}) == before


@pytest.mark.parametrize("column", ["score_mean", "score_max", *TOP_SHARES.values()])
def test_every_column_of_scores_has_its_setting(column):
    assert score_column(known_score(column)) == column


def test_figures_of_decisions_are_plain_and_travel_with_the_record(tmp_path):
    figures = decision_figures({"true_positives": 3, "f1": 0.1 + 0.2, "precision": math.nan, "image_auroc": 1.0})
    assert (figures["true_positives"], figures["f1"], figures["precision"]) == (3, 0.1 + 0.2, None)
    assert "image_auroc" not in figures and figures["test_agreement"] is None
    (tmp_path / DECISION).write_text(RECORD.model_copy(update={"test_decisions": figures}).model_dump_json())
    assert DecisionRecord.beside(tmp_path / "snapshot.pt").test_decisions == figures


def test_a_record_of_an_earlier_version_has_no_figures():
    text = RECORD.model_dump_json(exclude={"test_decisions"})
    assert DecisionRecord.of(text.encode(), "x") == RECORD and RECORD.test_decisions == {}

"""Training anomalies that leave the test set: how many, and which classes have too few."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcdd_sweep.config.fields import DatasetSource
from fcdd_sweep.config.schema import Dataset
from fcdd_sweep.planning.anomaly_checks import (
    holds_normal_class,
    left_for_training,
    reserved_notes,
    reserved_per_defect,
)
from tests.specs import settings

REAL = {"mode": "noise", "source": "mvtec", "limit": 3}


@pytest.mark.parametrize("asked, limit, reserved", [(0, 3, 3), (5, 3, 5), (2, "all", 2)])
def test_as_many_leave_the_test_set_as_training_or_the_file_asks_for(asked, limit, reserved):
    config = settings(anomalies={**REAL, "limit": limit}, evaluation={"reserved_anomalies": asked})
    assert reserved_per_defect(config) == reserved


def test_rendered_anomalies_reserve_what_the_file_asks_for_alone():
    assert reserved_per_defect(settings(anomalies={"limit": 9}, evaluation={"reserved_anomalies": 2})) == 2


def test_images_for_selection_go_before_those_for_training():
    config = settings(evaluation={"validation": {"anomalies": {"from_test": 2}}})
    assert (left_for_training(config, 10), left_for_training(config, 2)) == (8, 1)


def test_a_defect_type_keeps_one_test_image_and_the_note_counts():
    (note,) = reserved_notes(settings(), 3, {"bolt": {"crack": 3, "scratch": 9}})
    assert "class 'bolt'" in note and "2 of 3 'crack'" in note and "scratch" not in note


def test_a_data_set_holds_its_own_normal_class_wherever_its_root_is_written(tmp_path):
    own = Dataset(name="folder", root=tmp_path)
    same = DatasetSource(dataset="folder", root=Path(f"{tmp_path}/."))
    other = DatasetSource(dataset="folder", root=tmp_path / "other")
    assert holds_normal_class(same, own) and not holds_normal_class(other, own)

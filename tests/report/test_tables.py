"""The run's tables as files."""

import csv

import pyarrow as pa
import pytest

from fcdd_sweep.metrics.statistics import summarize
from fcdd_sweep.report import tables
from fcdd_sweep.report.run_files import Trial, read_run
from fcdd_sweep.results.documents import TrialStatus
from tests.fakes import FakeRun, csv_rows

UNDEFINED = dict.fromkeys(("x_mean", "x_std", "x_low", "x_high"))


@pytest.fixture
def run(tmp_path):
    """One class with two of three seeds, one without anomalies and so without AUROC."""
    made = FakeRun(tmp_path / "r").plan(["brick", "clean, plain"], [0, 1, 2])
    for seed in (0, 1):
        made.finish("", "brick", seed, wrong=seed).finish("", "clean, plain", seed, anomalous=0)
    return read_run(made.write())


def test_undefined_numbers_are_null():
    assert tables.summary_cells("x", summarize([])) == UNDEFINED | {"x_n": 0}
    assert tables.summary_cells("x", summarize([0.5])) == UNDEFINED | {"x_n": 1, "x_mean": 0.5}


def test_csv_cells_keep_all_digits_and_undefined_ones_are_empty(run, tmp_path):
    tables.write_csv(tmp_path / "s.csv", tables.summary_table(run))
    brick, clean, mean = csv_rows(tmp_path / "s.csv")
    expected = summarize(trial.value("image_auroc") for trial in run.of("", "brick"))
    assert float(brick["image_auroc_mean"]) == expected.mean and float(brick["image_auroc_std"]) == expected.std
    assert clean["normal_class"] == "clean, plain" and clean["image_auroc_mean"] == "" and clean["image_auroc_n"] == "0"
    assert (brick["planned"], brick["done"], brick["missing"]) == ("3", "2", "1")
    assert (mean["level"], mean["normal_class"], mean["image_auroc_classes"]) == ("mean over classes", "", "1")


def test_a_table_without_rows_keeps_its_header(run, tmp_path):
    tables.write_csv(tmp_path / "d.csv", tables.defects_table(run).slice(0, 0))
    (header,) = csv.reader((tmp_path / "d.csv").open())
    assert header[:4] == ["config", "normal_class", "defect", "images"] and "pixel_auroc_high" in header


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None], pa.bool_()),
        ([1, 2], pa.int64()),
        ([1, 0.5], pa.float64()),
        ([True, 1], pa.string()),
        (["all", 8], pa.string()),
        ([[1, 2]], pa.string()),
        ([None], pa.string()),
    ],
)
def test_a_parameter_has_the_type_of_all_its_values(values, kind):
    assert tables.column_kind(values) == kind
    assert pa.array([tables.as_cell(value, kind) for value in values], kind)


def test_parameters_that_are_lists_become_text():
    plan = {"parameters": '{"training.schedule.milestones": [1, 2], "seeds": null}'}
    trial = Trial(plan, TrialStatus.DONE)
    assert set(tables.parameter_kinds([trial.parameters]).values()) == {pa.string()}


def test_markdown_lists_what_is_missing_between_notes_and_tables(run):
    paragraphs = tables.summary_markdown(run, ["A note."]).split("\n\n")
    assert paragraphs[1:3] == ["6 planned, 4 done, 0 failed, 2 missing trials.", "A note."]
    assert paragraphs[3].splitlines() == [
        "- class 'brick' has 2 of 3 seeds (1 missing).",
        "- class 'clean, plain' has 2 of 3 seeds (1 missing).",
    ]
    assert paragraphs[5].startswith("| class | planned | done | failed | missing | image AUROC |")

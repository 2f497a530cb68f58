"""Which run was meant by a folder that is none."""

from pathlib import Path

import pytest

from fcdd_sweep.config.locations import parse_location
from fcdd_sweep.report.run_folders import run_suggestion


@pytest.fixture
def results(tmp_path):
    """A folder `results` with runs and another folder; a run is a folder with a plan."""
    for name in ("digits", "textures", "mvtec-semi", "no-run"):
        (tmp_path / "results" / name / "normal_3" / "it_0").mkdir(parents=True)
        if name != "no-run":
            (tmp_path / "results" / name / "plan.parquet").write_bytes(b"")
    return tmp_path / "results"


def test_a_misspelled_run_gets_the_nearest_of_the_same_folder(results):
    assert run_suggestion(results / "dgits") == f"Closest: '{results / 'digits'}'"


def test_the_run_of_a_leaf_is_named(results, monkeypatch):
    assert run_suggestion(results / "digits" / "normal_3" / "it_0") == f"It is part of the run '{results / 'digits'}'"
    monkeypatch.chdir(results / "digits")
    assert run_suggestion(Path("normal_3")) == f"It is part of the run '{results / 'digits'}'"


def test_the_runs_of_a_folder_are_named_the_first_five(results):
    names = ", ".join(f"'{results / name}'" for name in ("digits", "mvtec-semi", "textures"))
    assert run_suggestion(results) == f"It holds {names}"
    assert run_suggestion(results / "zzzzzz") == f"Beside it: {names}"
    for i in range(4):
        (results / f"a{i}").mkdir()
        (results / f"a{i}" / "plan.parquet").write_bytes(b"")
    assert run_suggestion(results).endswith("and 2 more runs")


def test_nothing_is_suggested_where_nothing_is_near(tmp_path):
    assert run_suggestion(tmp_path / "none" / "x") == run_suggestion(parse_location("s3://bucket/runs/x")) == ""

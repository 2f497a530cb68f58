"""A report is built again when, and only when, something that it is made of has changed."""

import pytest

from fcdd_sweep.report import aggregate as aggregating
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.report_state import sentences_of_current_report
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests.fakes import FakeRun

pytestmark = pytest.mark.slow


def test_only_a_run_whose_files_changed_is_reported_again(tmp_path, monkeypatch):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    drawn = []
    original = aggregating.draw_run
    monkeypatch.setattr(aggregating, "draw_run", lambda *given, anew: drawn.append(1) or original(*given, anew=anew))
    page = aggregate(run)
    content = page.read_bytes()
    plan = RunPaths(run).plan
    plan.write_bytes(plan.read_bytes())  # as each start does
    RunPaths(run).progress.write_text("{}")
    assert aggregate(run) == page and len(drawn) == 1 and page.read_bytes() == content
    (run / "summary.csv").unlink()
    aggregate(run)
    assert len(drawn) == 2 and (run / "summary.csv").is_file()
    metrics = TrialPaths(run / "normal_brick/it_0").metrics
    row = files.read_table(metrics)
    files.write_table(metrics, row.set_column(row.column_names.index("epochs"), row.schema.field("epochs"), [[77]]))
    aggregate(run)
    assert len(drawn) == 3 and 77 in files.read_table(RunPaths(run).trials)["epochs"].to_pylist()
    aggregate(run, redraw=True)
    assert len(drawn) == 4


def test_a_report_with_problems_and_one_of_other_code_are_built_again(tmp_path, monkeypatch):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    maps = TrialPaths(run / "normal_brick/it_0").maps
    kept = maps.read_bytes()
    maps.unlink()
    for _ in range(2):
        warnings = []
        aggregate(run, warn=warnings.append)
        assert warnings and sentences_of_current_report(run) is None
    maps.write_bytes(kept)
    aggregate(run)
    assert sentences_of_current_report(run) == []
    monkeypatch.setattr("fcdd_sweep.report.report_state.source_digest", lambda: "other")
    assert sentences_of_current_report(run) is None
    RunPaths(run).report_state.write_text("{damaged")
    assert sentences_of_current_report(run) is None

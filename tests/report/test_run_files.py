"""What a run's report makes of leaves, maps and an index that are damaged or gone."""

from __future__ import annotations

import errno

import numpy as np
import pyarrow as pa
import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.report import run_files, tables
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.run_files import Trial, read_run
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import schemas, tree
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import read_table, write_rows
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests import fakes
from tests.fakes import FakeRun, csv_rows


def break_nothing_left(leaf):
    for file in leaf.iterdir():
        file.unlink()


def break_columns(leaf):
    write_rows(TrialPaths(leaf).curves, [{"trial_id": "x"}], pa.schema([("trial_id", pa.string())]))


def break_identity(leaf):
    row = read_table(TrialPaths(leaf).metrics).to_pylist()[0] | {"trial_id": "another"}
    write_rows(TrialPaths(leaf).metrics, [row], schemas.METRICS)


def of_another(name, schema):
    def spoil(leaf):
        rows = read_table(leaf / name).to_pylist()
        write_rows(leaf / name, [*rows[:-1], rows[-1] | {"trial_id": "another"}], schema)

    return spoil


BREAKAGES = {
    "scores.parquet holds trial another": of_another(tree.SCORES, schemas.SCORES),
    "history.parquet holds trial another": of_another(tree.HISTORY, schemas.HISTORY),
    "curves.parquet holds trial another": of_another(tree.CURVES, schemas.CURVES),
    "defects.parquet holds trial another": of_another(tree.DEFECTS, schemas.DEFECTS),
    "scores.parquet has no rows": lambda leaf: write_rows(TrialPaths(leaf).scores, [], schemas.SCORES),
    "history.parquet has no rows": lambda leaf: write_rows(TrialPaths(leaf).history, [], schemas.HISTORY),
    "curves.parquet has no rows": lambda leaf: write_rows(TrialPaths(leaf).curves, [], schemas.CURVES),
    "metrics.parquet is damaged": lambda leaf: TrialPaths(leaf).metrics.write_bytes(b"PAR1 nonsense"),
    "curves.parquet is damaged": lambda leaf: TrialPaths(leaf).curves.write_bytes(b""),
    "defects.parquet is missing": lambda leaf: TrialPaths(leaf).defects.unlink(),
    "scores.parquet is missing": lambda leaf: TrialPaths(leaf).scores.unlink(),
    "scores.parquet is damaged": lambda leaf: TrialPaths(leaf).scores.write_bytes(b"PAR1 nonsense PAR1"),
    "history.parquet is damaged": lambda leaf: TrialPaths(leaf).history.write_bytes(b""),
    "metrics.parquet is missing": break_nothing_left,
    "lacks the columns kind, x, y": break_columns,
    "metrics.parquet holds trial another": break_identity,
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_a_damaged_leaf_counts_as_missing_by_name(tmp_path, message):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0, wrong=2).finish("", "brick", 1)
    path = run.write()
    BREAKAGES[message](path / "normal_brick/it_1")
    found = read_run(path)
    (problem,) = found.problems
    assert message in problem and problem.startswith("normal_brick/it_1 (class brick, seed 1) counts as missing")
    unusable = any(word in message for word in ("missing", "metrics"))  # the sweep finds that out itself
    assert problem.endswith("Rerun the same command." if unusable else "and rerun the same command.")
    tables.write_tables(found)
    (row,) = csv_rows(path / "summary.csv")
    assert (row["done"], row["missing"], row["image_auroc_n"]) == ("1", "1", "1")
    assert float(row["image_auroc_mean"]) == pytest.approx(0.9)
    assert [each["status"] for each in read_table(RunPaths(path).trials).to_pylist()] == ["done", "missing"]


@pytest.mark.slow
def test_the_page_continues_without_a_damaged_leaf_and_names_it(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick", "tile"], [0]).finish("", "brick", 0).finish("", "tile", 0)
    path = run.write()
    TrialPaths(path / "normal_tile/it_0").curves.unlink()
    page = aggregate(path).read_text()
    assert "normal_tile/it_0 (class tile, seed 0) counts as missing: curves.parquet is missing" in page
    assert (path / "normal_brick/roc.pdf").exists() and not (path / "normal_tile/roc.pdf").exists()


@pytest.mark.slow
def test_damaged_maps_cost_the_picture_not_the_figures(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0, wrong=2).finish("", "brick", 1)
    path = run.write()
    TrialPaths(path / "normal_brick/it_1").maps.write_bytes(b"PK\x03\x04 cut off")
    page = aggregate(path).read_text()
    assert "normal_brick/it_1 is not in the heatmap grid" in page
    assert csv_rows(path / "summary.csv")[0]["done"] == "2"
    assert (path / "normal_brick/heatmaps.png").is_file()


@pytest.mark.slow
def test_a_trial_is_found_where_the_index_says(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0, wrong=1)
    (run.path / "elsewhere").mkdir()
    (run.path / "normal_brick/it_0").rename(run.path / "elsewhere/it_0")
    next(iter(run.index.values()))["leaf"] = "elsewhere/it_0"
    aggregate(run.write())
    assert read_table(RunPaths(run.path).trials)["leaf"].to_pylist() == ["elsewhere/it_0"]


@pytest.mark.slow
def test_finished_trials_outside_the_plan_are_counted_not_shown(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).finish("", "brick", 1)
    page = aggregate(run.write()).read_text()
    assert "Not shown: 1 finished trial no longer in the plan." in page and "seed 1" not in page


@pytest.mark.parametrize("loss", [lambda index: index.write_bytes(b"broken"), lambda index: index.unlink()])
@pytest.mark.slow
def test_finished_trials_are_found_without_an_index(tmp_path, loss):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1, 2]).finish("", "brick", 0).finish("", "brick", 1)
    path = run.write()
    own = path / "normal_brick/it_1"
    elsewhere = path / f"config-{run.planned[1]['config_id']}/normal_brick/it_1"
    elsewhere.parent.mkdir(parents=True)
    own.rename(elsewhere)  # where the sweep puts it when another config's trial holds the place
    loss(RunPaths(path).index)
    page = aggregate(path).read_text()
    leaves = read_table(RunPaths(path).trials)["leaf"].to_pylist()
    assert leaves == ["normal_brick/it_0", elsewhere.relative_to(path).as_posix(), ""]
    assert ("index.parquet cannot be read" in page) == RunPaths(path).index.exists()
    lines = [line.split() for line in status_text(path).splitlines()]
    assert ["all", "3", "2", "0", "1"] in lines and ["brick", "1.000", "n/a", "2"] in lines


def test_the_index_need_not_know_that_a_failed_trial_is_done_by_now(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).fail("", "brick", 0)
    (trial,) = read_run(run.write()).trials
    assert (trial.status, trial.failures) == ("done", 2)


@pytest.mark.slow
def test_drawing_again_names_which_leaf_lost_its_maps(tmp_path, capsys):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0).finish("", "brick", 1)
    path = run.write()
    TrialPaths(path / "normal_brick/it_1").maps.unlink()
    warnings = []
    page = aggregate(path, redraw=True, warn=warnings.append).read_text()
    assert warnings[0] == "normal_brick/it_1: its figures cannot be drawn (maps.npz is missing)"
    assert all(sentence in page for sentence in warnings)
    assert cli.main(["aggregate", str(path), "--redraw"]) == 0
    printed = capsys.readouterr()
    assert warnings[0] in printed.err and printed.out.splitlines()[-1] == f"report: {path / 'report.html'}"
    assert ["brick", "1.000", "n/a", "2"] in [line.split() for line in printed.out.splitlines()]


def done_trial(seed, metrics):
    """Return a finished trial of class `c` with these metrics."""
    plan = {"seed": seed, "normal_class": "c", "config": "", "parameters": '{"x": 1}', "leaf": f"normal_c/it_{seed}"}
    return Trial(plan, TrialStatus.DONE, metrics=metrics)


def test_a_trial_names_itself_and_its_class_folder():
    trial = done_trial(3, {"image_auroc": 0.5, "pixel_auroc": None})
    assert (trial.label, trial.class_folder, trial.seed, trial.parameters) == ("c", "normal_c", 3, {"x": 1})
    assert trial.value("image_auroc") == 0.5 and np.isnan(trial.value("pixel_auroc")) and np.isnan(trial.value("ap"))


def test_counts_hold_every_state_of_a_report():
    trials = [done_trial(0, {}), done_trial(1, {}), Trial({}, TrialStatus.FAILED)]
    assert run_files.status_counts(trials) == {"planned": 3, "done": 2, "failed": 1, "missing": 0}


def test_a_file_that_cannot_be_written_is_an_input_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"x/summary.csv: cannot write the report \(No space left"):
        with run_files.write_errors(tmp_path):
            raise OSError(errno.ENOSPC, "No space left", "x/.0123abcd-summary.csv")


def test_stored_curves_come_back_in_order(tmp_path):
    fakes.write_leaf(tmp_path, fakes.key("", "brick", 0), size=16)
    found = run_files.read_curves(tmp_path)
    assert set(found) == {"image_roc", "image_pr", "pixel_roc", "pixel_pr"}
    assert (np.diff(found["pixel_roc"][0]) >= 0).all()
    assert read_table(TrialPaths(tmp_path).curves).num_rows == sum(len(x) for x, _ in found.values())


def test_another_score_of_images_is_applied_to_metrics_curves_and_defects(tmp_path):
    run = FakeRun(tmp_path / "r", fakes.EXPERIMENT + "evaluation: {image_score: max}\n").plan(["brick"], [0])
    leaf = run.finish("", "brick", 0, wrong=2).write() / "normal_brick/it_0"
    rows = read_table(TrialPaths(leaf).scores).to_pylist()
    tested = [row for row in rows if row["split"] == "test"]
    for i, row in enumerate(tested):  # by their largest values, every second anomaly lies below all nominal images
        row["score_max"] = -1.0 if row["label"] and i % 2 else row["score_mean"] + row["label"]
    write_rows(TrialPaths(leaf).scores, rows, schemas.SCORES)
    (trial,) = read_run(run.path).trials
    assert (trial.metrics["image_score"], trial.rescored) == ("score_max", True)
    assert trial.metrics["image_auroc"] == pytest.approx(0.5)
    assert sorted(row["image_auroc"] for row in trial.defects) == pytest.approx([0.0, 1.0])
    x, y = trial.curves["image_roc"]
    assert np.trapezoid(y, x) == pytest.approx(0.5) and "pixel_roc" in trial.curves
    assert trial.metrics["threshold_source"].startswith("no decision: hold out at least 19 nominal images")

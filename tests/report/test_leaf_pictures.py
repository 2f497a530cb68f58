"""Pictures of leaves: which are drawn, by whom, and what a failure leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import pytest

from fcdd_sweep.cli import main
from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.report import leaf_pictures
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.figures import trial_figures
from fcdd_sweep.report.leaf_drawing import DrawingProcess, PictureStyle, draw_into_leaf, has_pictures
from fcdd_sweep.report.leaf_pictures import LeafPictures, without_pictures
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results.tree import LAST_PICTURE, RunPaths, TrialPaths
from tests import fakes
from tests.fakes import FakeRun
from tests.sweep.test_sweep import go, loader_in

pytestmark = [pytest.mark.slow, pytest.mark.figures]


@pytest.fixture
def run(tmp_path):
    """A run of two leaves, whose pictures are not drawn."""
    fake = FakeRun(tmp_path / "r").plan(["brick"], [0, 1])
    return fake.finish("", "brick", 0).finish("", "brick", 1).write()


LEAVES = ["normal_brick/it_0", "normal_brick/it_1"]
SCREEN = PictureStyle(Heatmaps(), "screen")


def pictures_of(leaf):
    return {path.name: path.read_bytes() for path in leaf.iterdir() if path.suffix in (".png", ".pdf")}


def test_a_process_of_its_own_draws_what_this_one_draws_and_leaves_nothing_else(run):
    assert without_pictures(run, LEAVES) == LEAVES
    process = DrawingProcess()
    try:
        assert process.draw(run, LEAVES[0], SCREEN) == ""
    finally:
        process.close()
    drawn = pictures_of(run / LEAVES[0])
    assert drawn and without_pictures(run, LEAVES) == LEAVES[1:]
    for name in drawn:
        (run / LEAVES[0] / name).unlink()
    (run / LEAVES[0] / "heatmaps_of_an_older_version.png").write_bytes(b"")
    assert draw_into_leaf(run, LEAVES[0], SCREEN) == "" and pictures_of(run / LEAVES[0]) == drawn
    assert list(RunPaths(run).attempts.iterdir()) == []


@pytest.mark.parametrize(
    "changed", ["nothing", "style", "heatmaps", "image_score", "threshold", "pixel_threshold", "the record"]
)
def test_pictures_are_those_of_one_style_and_one_decision(run, changed):
    (run / LEAVES[0] / LAST_PICTURE).write_bytes(b"")
    trial, style = read_run(run).trials[0], SCREEN
    TrialPaths(run / LEAVES[0]).pictures.write_text(json.dumps(style.record(trial)))
    match changed:
        case "style":
            style = PictureStyle(Heatmaps(), "paper")
        case "heatmaps":
            style = PictureStyle(Heatmaps(color_map="jet"), "screen")
        case "image_score" | "threshold" | "pixel_threshold":
            trial.metrics[changed] = "score_max" if changed == "image_score" else 0.123
        case "the record":
            TrialPaths(run / LEAVES[0]).pictures.write_text("{damaged")
    assert has_pictures(trial, style) == (changed == "nothing")


def redrawn(run, **settings):
    """The leaves whose pictures a report of the run draws, with these settings of `evaluation` and `report`."""
    given = {"heatmaps": "{color_quantile: 0.97}"} | settings
    kept = [line for line in fakes.EXPERIMENT.splitlines() if line.partition(":")[0] not in given]
    RunPaths(run).experiment.write_text("\n".join([*kept, *(f"{key}: {text}" for key, text in given.items())]))
    last = [run / leaf / LAST_PICTURE for leaf in LEAVES]
    before = [time_of(path) for path in last]
    aggregate(run)
    return [leaf for leaf, path, time in zip(LEAVES, last, before, strict=True) if time_of(path) != time]


def time_of(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def width_in(picture):
    """Of the page of a PDF, in inches."""
    (box,) = re.findall(rb"MediaBox \[ ?0 0 ([\d.]+)", picture.read_bytes())
    return float(box) / 72


def test_a_report_draws_leaves_again_when_style_or_decision_have_changed_and_only_then(run, monkeypatch):
    monkeypatch.setattr(leaf_pictures, "_WORTH_A_PROCESS", 100)  # all are drawn here
    shutil.rmtree(run / LEAVES[1])
    assert redrawn(run) == LEAVES[:1]
    screen = pictures_of(run / LEAVES[0])
    RunPaths(run).report.unlink()
    assert redrawn(run) == []
    assert redrawn(run, report="{style: paper}") == LEAVES[:1]
    paper = run / LEAVES[0] / trial_figures.ROC_CURVE_FILE
    assert width_in(paper) == pytest.approx(3.3, abs=0.05)
    assert redrawn(run, evaluation="{image_score: max, false_alarm_rate: 0.2}") == LEAVES[:1]
    by_max = pictures_of(run / LEAVES[0])
    assert {name for name in screen if by_max[name] != screen[name]} >= {
        trial_figures.SCORES_FILE,
        trial_figures.paper_file("global", 1),
        trial_figures.OVERVIEW_FILE,
    }
    assert by_max[LAST_PICTURE] == screen[LAST_PICTURE]  # the loss


def test_leaves_drawn_during_a_run_are_drawn_again_when_its_report_decides_otherwise(run):
    with LeafPictures(run, SCREEN) as pictures:
        pictures.add(LEAVES)
        pictures.finish(lambda text: None)
        first = (run / LEAVES[0] / trial_figures.SCORES_FILE).read_bytes()
        RunPaths(run).experiment.write_text(fakes.EXPERIMENT + "evaluation: {false_alarm_rate: 0.5}\n")
        aggregate(run, pictures=pictures)
    assert (run / LEAVES[0] / trial_figures.SCORES_FILE).read_bytes() != first
    record = json.loads(TrialPaths(run / LEAVES[0]).pictures.read_text())
    assert record["threshold"] == read_run(run).trials[0].metrics["threshold"] is not None


def test_the_picture_that_is_renamed_last_is_one_of_every_leaf():
    assert LAST_PICTURE == trial_figures.LOSS_FILE


def test_processes_draw_many_leaves_each_once_and_the_rest_is_drawn_here(run, monkeypatch):
    monkeypatch.setattr(leaf_pictures, "_WORTH_A_PROCESS", 1)
    here = []
    monkeypatch.setattr(leaf_pictures, "draw_into_leaf", lambda run_dir, leaf, style: here.append(leaf) or "")
    with LeafPictures(run, SCREEN) as pictures:
        pictures.add([LEAVES[0]])
        pictures.add(LEAVES[:1])
        while without_pictures(run, LEAVES[:1]):
            time.sleep(0.02)
        monkeypatch.setattr(leaf_pictures, "_WORTH_A_PROCESS", 100)
        pictures.add(LEAVES)
        assert pictures.finish(lambda text: None) == [] and here == LEAVES[1:]


def test_a_drawing_that_fails_or_kills_its_process_is_said_and_stops_no_other(run, monkeypatch):
    monkeypatch.setattr(leaf_pictures, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(leaf_pictures, "_cores", lambda: 2)
    TrialPaths(run / LEAVES[1]).maps.unlink()
    original = DrawingProcess.draw

    def draw(process, run_dir, leaf, style):
        if leaf == "dying":
            process._process.kill()
        return original(process, run_dir, leaf, style)

    monkeypatch.setattr(DrawingProcess, "draw", draw)
    with LeafPictures(run, SCREEN) as pictures:
        pictures.add(["dying"])
        while not pictures.failed:
            time.sleep(0.02)
        pictures.add(LEAVES)
        problems = pictures.finish(lambda text: None)
    died, missing = problems
    assert died.startswith("dying: its figures cannot be drawn (") and "maps.npz is missing" in missing
    assert without_pictures(run, LEAVES) == [LEAVES[1]]
    assert pictures_of(run / LEAVES[1]) == {}


def test_what_killed_processes_left_is_removed_when_it_is_old(run):
    old, new = (RunPaths(run).attempts / f"pictures-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    LeafPictures(run, SCREEN).close()
    assert new.exists() and not old.exists()


@pytest.mark.figures
def test_pictures_by_another_image_score_show_images_whose_maps_were_kept(tmp_path):
    experiment = loader_in(tmp_path)
    settings = ["seeds=1", "keep.pictures=leaf", "dataset.classes=['8']"]
    result, _ = go(experiment(*settings))
    overview = result.run_dir / "normal_8" / "it_0" / "heatmaps_global.png"
    before = overview.read_bytes()
    _, recorder = go(experiment(*settings, "evaluation.image_score=max"))
    assert not [message for message in recorder.messages if "cannot be drawn" in message]
    assert overview.read_bytes() != before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: None, "is missing, empty"),
        (lambda text: b"", "is missing, empty"),
        (lambda text: b"[1, 2]\n", "is not YAML with keys and values"),
        (lambda text: b"\xff\xfe\x00\x80" * 20, "is not YAML with keys and values"),
        (lambda text: text[: text.index(b"heatmaps")], "is cut off: it lacks its last key, output"),
        (lambda text: text.replace(b"name: fake", b"nane: fake"), "describes no experiment (name: the key is missing"),
    ],
)
def test_without_a_readable_experiment_pictures_and_decisions_of_trials_are_left_and_it_is_said(
    run, spoil, said, capsys
):
    experiment = RunPaths(run).experiment
    experiment.write_text(fakes.EXPERIMENT + "evaluation: {image_score: max, false_alarm_rate: 0.2}\n")
    aggregate(run)
    decision = TrialPaths(run / LEAVES[0]).decision
    before = pictures_of(run / LEAVES[0]), decision.read_text()
    content = spoil(experiment.read_bytes())
    experiment.unlink()
    if content is not None:
        experiment.write_bytes(content)
    for redraw in (False, True):
        problems = []
        page = aggregate(run, redraw=redraw, warn=problems.append)
        (problem,) = problems
        assert problem.startswith(f"experiment.yaml {said}") and "Rerun the sweep's command" in problem
        assert "decided as when each trial was finished" in page.read_text()
        assert (pictures_of(run / LEAVES[0]), decision.read_text()) == before
    assert main(["tables", str(run)]) == 0 and capsys.readouterr().err == f"{problem}\n"

"""What a start of a sweep does besides training: pictures, imports, processes, the plan of a stopped one."""

import shutil
import signal
import subprocess
import sys

import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.sweep import run_sweep
from tests import works
from tests.events import Recorder
from tests.sweep.test_sweep import LEAF, go, loader_in

pytestmark = pytest.mark.slow


@pytest.fixture
def experiment(tmp_path):
    return loader_in(tmp_path)


@pytest.mark.figures
def test_pictures_that_fail_are_said_once_and_drawn_by_the_next_start_which_trains_nothing(experiment, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    with monkeypatch.context() as patch:
        patch.setattr("fcdd_sweep.report.figures.trial_figures.draw_trial", broken)
        result, recorder = go(experiment("seeds=1", "keep.pictures=leaf"))
    leaves = [result.run_dir / f"normal_{name}/it_0" for name in "38"]
    assert result.done == 2
    (told,) = [text for text in recorder.messages if "no ink" in text]
    assert told.startswith("normal_3/it_0: its figures cannot be drawn (no ink) (and 1 more")
    assert told.endswith(f"fcdd-sweep aggregate {result.run_dir} --redraw")
    assert not any(path.suffix in (".png", ".pdf") for leaf in leaves for path in leaf.iterdir())
    written = [TrialPaths(leaf).metrics.stat().st_mtime_ns for leaf in leaves]
    again, recorder = go(experiment("seeds=1", "keep.pictures=leaf"))
    assert (again.kept, recorder.started_ids) == (2, [])
    assert [TrialPaths(leaf).metrics.stat().st_mtime_ns for leaf in leaves] == written
    assert all((leaf / name).is_file() for leaf in leaves for name in LEAF)


@pytest.mark.figures
def test_a_driver_killed_after_publishing_leaves_no_trial_to_train_again_and_its_pictures_are_drawn(experiment):
    file, output = experiment("seeds=1", "keep.pictures=leaf").output.parent / "small.yaml", "results"
    code = (
        "import os, sys; from fcdd_sweep.cli import main; from fcdd_sweep.report.leaf_pictures import LeafPictures;"
        "LeafPictures.add = lambda self, leaves: [os.kill(os.getpid(), 9) for leaf in leaves]; main(sys.argv[1:])"
    )
    command = [str(file), "--local", "--output", output, "--set", "seeds=1", "--set", "keep.pictures=leaf"]
    killed = subprocess.run([sys.executable, "-c", code, *command], cwd=file.parent, capture_output=True, text=True)
    leaf = file.parent / output / "small" / "normal_3" / "it_0"
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert TrialPaths(leaf).metrics.is_file() and not (leaf / "loss.pdf").exists()
    again, recorder = go(experiment("seeds=1", "keep.pictures=leaf"))
    assert (again.kept, again.done, len(recorder.started_ids)) == (1, 2, 1)
    assert {path.name for path in leaf.iterdir()} == LEAF


def test_a_start_with_nothing_to_run_imports_neither_torch_nor_ray_nor_what_draws(experiment):
    finished = experiment("seeds=1")
    go(finished)
    slow = {"torch", "ray", "matplotlib", "scipy.stats", "scipy.ndimage", "sklearn", "optuna"}
    code = (
        "import sys; from fcdd_sweep.cli import main\n"
        f"print(main(sys.argv[1:]), sorted(sys.modules.keys() & {slow!r}))\n"
    )
    file = finished.output.parent / "small.yaml"
    command = [sys.executable, "-c", code, str(file), "--output", str(finished.output), "--set", "seeds=1"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.endswith("2 of 2 trials done, 0 failed, 0 missing\n0 []\n"), result.stderr
    assert "building the report" not in result.stdout


def test_several_processes_of_this_machine_make_the_files_of_one(experiment):
    metrics = {}
    for local in (1, 2):
        loaded = experiment(f"name=by-{local}", "seeds=1")
        result = run_sweep(loaded, local=local, progress=Recorder())
        table = files.read_table(RunPaths(result.run_dir).trials)
        metrics[local] = table.select(["trial_id", "image_auroc", "pixel_auroc", "status"]).to_pylist()
    assert metrics[1] == metrics[2] and [row["status"] for row in metrics[2]] == ["done", "done"]


def test_a_stopped_start_leaves_the_run_s_plan_alone(experiment):
    go(experiment("seeds=1"))
    run = experiment().run_dir
    rows = files.read_table(RunPaths(run).index).to_pylist()
    files.write_rows(RunPaths(run).index, [row | {"data_fingerprint": "0"} for row in rows], schemas.INDEX)
    plan = RunPaths(run).plan.read_bytes()
    with pytest.raises(InputError):
        go(experiment("seeds=4"))
    assert RunPaths(run).plan.read_bytes() == plan


def test_the_device_that_auto_chose_is_reported(experiment, monkeypatch):
    from fcdd_sweep.training import device as session

    monkeypatch.setattr(session, "no_gpu_reason", lambda: "Found no NVIDIA driver on your system")
    monkeypatch.setattr(session, "device_name", lambda device: "NVIDIA H200")
    reported = {}
    for seen in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda seen=seen: seen)
        recorder = go(experiment(f"name=seen-{seen}", "resources.device=auto"), work=works.scored)[1]
        reported[seen] = [text for text in recorder.messages if text.startswith("trials run on")]
    assert reported == {
        False: ["trials run on the CPU: torch sees no GPU (Found no NVIDIA driver on your system)"],
        True: ["trials run on a GPU: NVIDIA H200"],
    }
    asked = go(experiment("name=asked", "resources.device=cpu"), work=works.scored)[1]
    assert not any("trials run on" in text for text in asked.messages)


def _as_dead_link(leaf):
    shutil.rmtree(leaf)
    leaf.symlink_to("/nonexistent/leaf")


def _as_looping_link(leaf):
    shutil.rmtree(leaf)
    leaf.symlink_to(leaf)


def _as_file(leaf):
    shutil.rmtree(leaf)
    leaf.write_text("notes")


def _class_as_dead_link(leaf):
    shutil.rmtree(leaf.parent)
    leaf.parent.symlink_to("/nonexistent/class")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_as_dead_link, "normal_3/it_0 is a link to /nonexistent/leaf"),
        (_as_looping_link, "normal_3/it_0 is a link to "),
        (_as_file, "normal_3/it_0 is a file where a folder belongs"),
        (_class_as_dead_link, "normal_3 is a link to /nonexistent/class"),
    ],
)
def test_what_stands_in_the_place_of_a_leaf_is_named_and_left_and_the_trial_goes_elsewhere(experiment, spoil, said):
    first, _ = go(experiment("seeds=1"), work=works.scored)
    leaf = first.run_dir / "normal_3" / "it_0"
    spoil(leaf)
    again, recorder = go(experiment("seeds=1"), work=works.scored)
    assert recorder.counts == (2, 1, 1) and again.done == 2 and not leaf.is_dir()
    (sentence,) = [text for text in recorder.messages if text.startswith(said)]
    assert "goes to config-" in sentence and "remove it" in sentence
    third, recorder = go(experiment("seeds=1"), work=works.scored)
    assert recorder.counts == (2, 2, 0) and third.done == 2


def test_a_leaf_that_cannot_be_entered_stops_no_start_and_is_said_with_the_way_out(experiment):
    first, _ = go(experiment("seeds=1"), work=works.scored)
    _as_file(first.run_dir / "normal_3" / "it_0")
    (config,) = {row["config_id"] for row in files.read_rows(RunPaths(first.run_dir).plan, schemas.PLAN)}
    (first.run_dir / f"config-{config}").write_text("in the way, too")
    for _ in range(2):
        result, recorder = go(experiment("seeds=1"), work=works.scored)
        assert result.done == 1 and result.missing == 1
        assert any("could not enter" in text and "rerun the same command" in text for text in recorder.messages)


def test_a_run_that_is_moved_while_it_runs_stops_and_is_not_made_anew_in_its_old_place(experiment):
    loaded = experiment()
    moved = loaded.run_dir.with_name("moved")

    def work(spec, run_dir, observer):
        if spec.seed == 1 and not moved.exists():
            run_dir.rename(moved)
            return TrialResult(spec.trial_id, "done", 1, image_auroc=0.5)
        return works.scored(spec, run_dir, observer)

    with pytest.raises(StorageError, match="was moved or removed while the sweep ran"):
        go(loaded, work=work)
    assert RunPaths(moved).plan.is_file()
    old = RunPaths(loaded.run_dir)
    assert not any(path.exists() for path in (old.plan, old.index, old.report))


@pytest.mark.parametrize("address", ["garbage", "127.0.0.1:1", "host:port", "ray://head:10001"])
def test_a_cluster_that_cannot_be_reached_is_an_error_before_anything_is_written(experiment, address):
    loaded = experiment()
    with pytest.raises(InputError, match="--address: "):
        run_sweep(loaded, address=address)
    assert not loaded.run_dir.exists()
    first, _ = go(experiment(), work=works.scored)
    assert run_sweep(loaded, address=address).done == first.done  # nothing is left that needs a cluster


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("name", tree.LEAF_TABLES)
def test_a_leaf_that_lost_a_table_is_run_again_in_its_place(experiment, name, has_index):
    result, _ = go(experiment("seeds=1"), work=works.scored)
    leaf = result.run_dir / "normal_3" / "it_0"
    (leaf / name).unlink()
    if not has_index:
        RunPaths(result.run_dir).index.unlink()
    (total,) = [line.split() for line in status_text(result.run_dir).splitlines() if line.startswith("all ")]
    assert total[-4:] == ["2", "1", "0", "1"]
    again, recorder = go(experiment("seeds=1"), work=works.scored)
    assert recorder.counts == (2, 1, 1) and again.done == 2 and (leaf / name).is_file()
    assert any("normal_3/it_0 is missing or incomplete" in message for message in recorder.messages) == has_index

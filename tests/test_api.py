"""What Python programs and notebooks see of the package."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jupyter_client.manager import start_new_kernel

import fcdd_sweep
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.training.methods import Detection
from tests import works
from tests.detectors import random_detector
from tests.specs import small_experiment, spec
from tests.trees import write_image

EXPERIMENT = small_experiment(
    """
training: {epochs: 1, passes_per_epoch: 1}
keep: {pictures: none}
seeds: 2
"""
)


def test_dir_lists_the_public_names_alone_and_each_is_there():
    program = "import fcdd_sweep, fcdd_sweep.config.schema; print(*dir(fcdd_sweep))"
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert listed == sorted(fcdd_sweep.__all__)
    assert {"Run", "InputError", "load_detector", "load_experiment", "run_sweep"} <= set(listed)
    for name in listed:
        assert callable(getattr(fcdd_sweep, name)), name
    assert not hasattr(fcdd_sweep, "run_swep")


def test_a_sweep_refuses_a_search_and_a_search_a_sweep(tmp_path):
    search = "search: {space: {training.learning_rate: {choices: [0.1, 0.01]}}, budget: {configs: 2}}\n"
    (tmp_path / "search.yaml").write_text(f"{EXPERIMENT}\noutput: {tmp_path}\n{search}")
    with pytest.raises(fcdd_sweep.InputError, match=r"search.yaml:\d+: search: .*has a search.* Call run_search"):
        fcdd_sweep.run_sweep(tmp_path / "search.yaml", local=True)
    (tmp_path / "sweep.yaml").write_text(f"{EXPERIMENT}\noutput: {tmp_path}\n")
    with pytest.raises(fcdd_sweep.InputError, match="has no search"):
        fcdd_sweep.run_search(tmp_path / "sweep.yaml", local=True)
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_objects_of_the_api_have_reprs_of_one_short_line(load, tmp_path):
    experiment = load(EXPERIMENT, f"output={tmp_path}", "grid.training.learning_rate=[0.1, 0.01]")
    planned = plan(experiment)
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28)
    found = {
        "Experiment('small': fcdd on digits, FCDD_CNN28, 2 seeds)": experiment,
        "Plan('small': 8 trials, 2 configs x 2 classes x 2 seeds)": planned,
        f"TrialSpec({planned.specs[0].trial_id}: learning_rate-0.1/normal_3/it_0)": planned.specs[0],
        "Detector('plain': fcdd, FCDD_CNN28, 28 x 28 rgb, cpu)": detector,
        "Detection(12 images, maps 7 x 7)": detector.detect(raw),
    }
    assert {repr(each) for each in found.values()} == set(found) and str(experiment) == repr(experiment)
    assert isinstance(found["Detection(12 images, maps 7 x 7)"], Detection) and "TrialSpec" in repr([spec()])


RUNS = ("run_experiment", "run_search", "run_sweep")


@pytest.mark.parametrize("name", RUNS)
def test_what_is_no_experiment_is_named_before_anything_is_shown(name, tmp_path, capsys):
    call = getattr(fcdd_sweep, name)
    with pytest.raises(fcdd_sweep.InputError, match="nowhere.yaml: there is no such file"):
        call(str(tmp_path / "nowhere.yaml"), local=True)
    with pytest.raises(fcdd_sweep.InputError, match="dataset: the key is missing"):
        call({"schema": 2}, local=True)
    for wrong in (None, 5, [plan]):
        with pytest.raises(TypeError, match="expected str, bytes or os.PathLike object, not"):
            call(wrong, local=True)
    assert capsys.readouterr().out == ""


def test_export_takes_paths_as_text(tmp_path):
    detector, _ = random_detector({"name": "FCDD_CNN28"}, size=28)
    torch.save(detector.snapshot(), tmp_path / "snapshot.pt")
    write_image(tmp_path / "a.png")
    made = fcdd_sweep.export_onnx(str(tmp_path), str(tmp_path / "x.onnx"), [str(tmp_path / "a.png")])
    assert made.path == tmp_path / "x.onnx" and made.path.is_file()
    with pytest.raises(TypeError, match="not NoneType"):
        fcdd_sweep.export_onnx(None, tmp_path / "x.onnx")


@pytest.mark.slow
def test_a_file_runs_as_its_experiment_does(tmp_path):
    (tmp_path / "small.yaml").write_text(EXPERIMENT.replace("seeds: 2", f"seeds: 1\noutput: {tmp_path}"))
    result = fcdd_sweep.run_experiment(tmp_path / "small.yaml", local=True, work=works.scored, progress=None)
    assert (result.done, result.missing) == (2, 0)


@pytest.mark.slow
def test_programs_see_the_display_of_the_command_line_unless_they_take_the_events(load, tmp_path, capsys):
    experiment = load(EXPERIMENT, f"output={tmp_path}", "seeds=1")
    result = fcdd_sweep.run_sweep(experiment, local=True, work=works.scored)
    assert "2 trials; running 2" in capsys.readouterr().out
    assert repr(result) == f"SweepResult('{tmp_path / 'small'}': 2 of 2 trials done, 0 failed, 0 missing)"
    assert fcdd_sweep.run_experiment(experiment, local=True, progress=None).kept == 2
    assert capsys.readouterr().out == ""


CELL = """
from fcdd_sweep import load_experiment, run_sweep
from tests import works
run_sweep(load_experiment({path!r}, {{"name": {name!r}, "output": {output!r}}}), local=True, work=works.scored)
"""


@pytest.fixture
def run_cell(monkeypatch):
    """Runs code as a cell of a notebook, and returns what the kernel sends: pairs of type and content."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    manager, client = start_new_kernel()
    try:

        def run(code):
            sent = []
            reply = client.execute_interactive(code, output_hook=lambda m: sent.append((m["msg_type"], m["content"])))
            assert reply["content"]["status"] == "ok", sent
            return sent

        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_notebook_shows_one_display_for_each_of_two_sweeps_and_replaces_it(run_cell, tmp_path):
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    shown = []
    for name in ("first", "second"):
        sent = run_cell(CELL.format(path=str(tmp_path / "x.yaml"), name=name, output=str(tmp_path)))
        of = {kind: [content for found, content in sent if found == kind] for kind, _ in sent}
        (display,), updates, (result,) = of["display_data"], of["update_display_data"], of["execute_result"]
        assert {each["transient"]["display_id"] for each in updates} == {display["transient"]["display_id"]}
        shown.append(display["transient"]["display_id"])
        last = updates[-1]["data"]
        assert "<b>4/4 done | " in last["text/html"] and '<progress value="4" max="4">' in last["text/html"]
        assert any("<td>class 8, seed 1</td>" in each["data"]["text/html"] for each in updates)
        assert "4 trials; running 4" in last["text/plain"] and "clear_output" not in of
        (printed,) = (content["text"] for content in of["stream"])
        assert "image AUROC" in printed and f"report: {tmp_path / name / 'report.html'}" in printed
        assert result["data"]["text/plain"].startswith(f"SweepResult('{tmp_path / name}': 4 of 4 trials done")
    assert len(set(shown)) == 2

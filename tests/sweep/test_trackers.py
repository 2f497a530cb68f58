"""TensorBoard, MLflow and W&B: what they receive, and that they stop nothing. Their real packages where installed."""

import json
import os
import re
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import MlflowTracker, WandbTracker
from fcdd_sweep.planning import checks
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import AttemptRetried, EpochDone, TrialEnded, TrialStarted
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep import trackers
from fcdd_sweep.sweep.sweep import run_sweep
from fcdd_sweep.sweep.trackers import Mlflow, TensorBoard, TrackerSink, Wandb, parameters_of
from tests import works
from tests.broken import HEAD
from tests.specs import spec

LEAF = "normal_plain/it_0"


class NotingTracker:
    """A tracker of our own: keeps what it receives."""

    def __init__(self):
        self.calls = []

    def begin(self, which, parameters):
        self.calls.append(("begin", which.seed, parameters["training.learning_rate"]))
        return SimpleNamespace(
            epoch=lambda epoch, loss: self.calls.append(("epoch", which.seed, epoch, loss)),
            end=lambda status, metrics: self.calls.append(("end", which.seed, status, dict(metrics))),
        )


@pytest.fixture
def run_dir(tmp_path):
    row = dict.fromkeys(schemas.METRICS.names) | {"trial_id": spec().trial_id, "image_auroc": 0.875, "final_loss": 0.5}
    files.write_rows(TrialPaths(tmp_path / LEAF).metrics, [row], schemas.METRICS)
    return tmp_path


def sweep_of_three(sink):
    """Seed 0 is done after two epochs, seed 1 fails and is tried again, seed 2 is left behind."""
    first, second, third = (spec(seed=seed) for seed in range(3))
    with sink:
        sink.handle(TrialStarted(first))
        sink.handle(TrialStarted(second))
        sink.handle(EpochDone(first, 1, 2, 0.5))
        sink.handle(AttemptRetried(second, TrialResult(second.trial_id, "failed", 1, "lost"), "again"))
        sink.handle(TrialStarted(third))
        sink.handle(EpochDone(first, 2, 2, 0.25))
        sink.handle(TrialEnded(first, TrialResult(first.trial_id, "done", 1)))


def test_a_tracker_receives_epochs_metrics_and_the_end_of_a_trial(run_dir):
    noted, messages = NotingTracker(), []
    sweep_of_three(TrackerSink("noted", lambda: noted, run_dir, lambda trial_id: LEAF, messages.append))
    assert messages == [] and noted.calls == [
        ("begin", 0, 0.01), ("begin", 1, 0.01), ("epoch", 0, 1, 0.5), ("end", 1, "failed", {}), ("begin", 2, 0.01),
        ("epoch", 0, 2, 0.25), ("end", 0, "done", {"image_auroc": 0.875, "final_loss": 0.5}), ("end", 2, "stopped", {}),
    ]  # fmt: skip


def test_a_tracker_that_fails_is_reported_once(run_dir):
    class Failing(NotingTracker):
        def begin(self, which, parameters):
            raise ConnectionError("no server")

    messages = []
    sink = TrackerSink("mlflow", Failing, run_dir, lambda trial_id: LEAF, messages.append)
    sweep_of_three(sink)
    assert messages == ["mlflow failed and gets no further events: ConnectionError: no server"] and sink.failed


def test_a_tracker_that_hangs_ends_with_the_sweep(run_dir, monkeypatch):
    monkeypatch.setattr(trackers, "_LAST_CALLS_S", 0.1)

    class Hanging(NotingTracker):
        def begin(self, which, parameters):
            time.sleep(3)
            return super().begin(which, parameters)

    messages, began = [], time.monotonic()
    sweep_of_three(TrackerSink("wandb", Hanging, run_dir, lambda trial_id: LEAF, messages.append))
    assert time.monotonic() - began < 2 and "wandb did not take all events" in messages[0]


def test_a_missing_package_is_reported_at_plan_time_with_what_brings_it(load, monkeypatch):
    wanted = "trackers: {tensorboard: true, mlflow: {}, wandb: {mode: offline}}\n"
    find_spec = checks.importlib.util.find_spec
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: find_spec(name) if name == "sklearn" else None)
    with pytest.raises(InputError) as caught:
        plan(load(HEAD + wanted))
    lines = [str(problem) for problem in caught.value.problems]
    assert len(lines) == 3 and all("x.yaml:4: trackers" in line for line in lines)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name, line in zip(("tensorboard", "mlflow", "wandb"), lines, strict=True):
        needed = [re.split(r"\W*[<>=]", each)[0] for each in project["optional-dependencies"][name]]
        assert f"Install it: pip install {' '.join(needed)}, or" in line
    assert plan(load(HEAD)).specs


def test_parameters_are_flat_and_name_the_trial():
    reported = parameters_of(spec())
    assert (reported["normal_class"], reported["seed"], reported["training.schedule.factor"]) == ("plain", 0, 0.9)
    assert trackers.flat({"a": {"b": [1, 2]}, "c": None}) == {"a.b": "[1, 2]", "c": "None"}


class FakeWandb(ModuleType):
    """Takes what the real one takes; keeps it."""

    def __init__(self):
        super().__init__("wandb")
        self.runs = []

    def Settings(self, silent, console):
        return (silent, console)

    def init(self, **options):
        run = SimpleNamespace(options=options, rows=[], summary={}, code=None)
        run.log = lambda row, step: run.rows.append((step, row))
        run.finish = lambda exit_code: setattr(run, "code", exit_code)
        self.runs.append(run)
        return run


def test_our_calls_of_wandb(run_dir, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    options = WandbTracker(project="p", mode="offline")
    made = TrackerSink("wandb", lambda: Wandb(options, "name", run_dir / "w"), run_dir, lambda trial_id: LEAF, print)
    sweep_of_three(made)
    run = fake.runs[0]
    assert {key: run.options[key] for key in ("project", "mode", "group", "name", "reinit")} == {
        "project": "p", "mode": "offline", "group": "name", "name": LEAF, "reinit": "create_new",
    }  # fmt: skip
    assert run.rows == [(1, {"loss": 0.5}), (2, {"loss": 0.25})] and run.summary["image_auroc"] == 0.875
    assert [each.code for each in fake.runs] == [0, 1, 1]


def test_our_calls_of_mlflow(run_dir, monkeypatch):
    quiet, calls = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", []
    monkeypatch.setenv(quiet, "")
    monkeypatch.delenv(quiet)

    class Client:
        def __init__(self, tracking_uri):
            calls.append(("client", tracking_uri))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return name

        def create_run(self, experiment, run_name):
            return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}:{run_name}"))

        def log_batch(self, run_id, params=(), metrics=()):
            calls.append(("batch", run_id, dict(params), {name: value for name, value, *_ in metrics}))

        def log_metric(self, run_id, name, value, step):
            calls.append((name, run_id, value, step))

        def set_terminated(self, run_id, state):
            calls.append((state, run_id))

    fake, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    fake.MlflowClient, entities.Param, entities.Metric = Client, lambda *each: each, lambda *each: each
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    options = MlflowTracker(tracking_uri="http://host:5000")
    sweep_of_three(TrackerSink("m", lambda: Mlflow(options, "name"), run_dir, lambda trial_id: LEAF, print))
    run_id = f"name:{LEAF}"
    assert os.environ[quiet] == "true"
    assert calls[0] == ("client", "http://host:5000") and ("loss", run_id, 0.25, 2) in calls
    assert [call for call in calls if call[0].isupper()] == [
        ("FAILED", "name:normal_plain/it_1"), ("FINISHED", run_id), ("KILLED", "name:normal_plain/it_2"),
    ]  # fmt: skip
    assert ("batch", run_id, {}, {"image_auroc": 0.875, "final_loss": 0.5}) in calls


def test_tensorboard_itself_reads_what_is_written(run_dir):
    pytest.importorskip("tensorboardX")
    folder = run_dir / "tb"
    sweep_of_three(TrackerSink("tensorboard", lambda: TensorBoard(folder), run_dir, lambda trial_id: LEAF, print))
    from tensorboardX.proto.event_pb2 import Event

    scalars, hparams = {}, 0
    (path,) = (folder / LEAF).iterdir()
    content, at = path.read_bytes(), 0
    while at < len(content):  # length (8 bytes), its checksum (4), the event, its checksum (4)
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars[value.tag, event.step] = value.simple_value
            hparams += value.tag.startswith("_hparams_")
    assert scalars[("loss", 1)] == 0.5 and scalars[("loss", 2)] == 0.25 and scalars[("image_auroc", 0)] == 0.875
    assert hparams == 3


@pytest.mark.usefixtures("without_report")
def test_a_sweep_in_this_process_informs_its_trackers_and_says_what_runs(load, tmp_path):
    pytest.importorskip("tensorboardX")

    def work(which, run_dir, observer):
        result = works.scored(which, run_dir, observer)
        shown = json.loads(RunPaths(run_dir).progress.read_text())
        assert shown["state"] == "running"
        return replace(result, wall_time_s=3.0, host="here")

    text = "dataset: {name: digits, classes: ['3']}\nseeds: 2\ntrackers: {tensorboard: true}\n"
    result = run_sweep(load(HEAD + text, f"output={tmp_path}"), local=True, work=work)
    assert result.done == 2
    reported = json.loads(RunPaths(result.run_dir).progress.read_text())
    assert (reported["state"], reported["done"], reported["machines"], reported["running"]) == ("ended", 2, ["here"], 0)
    written = list((RunPaths(result.run_dir).trackers / "tensorboard").rglob("events.*"))
    assert sorted(path.parent.name for path in written) == ["it_0", "it_1"]
    assert "0.0017 CPU-hours used by 2 finished trials" in status_text(result.run_dir)


def test_mlflow_itself_has_the_run(run_dir, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    messages = []
    options = MlflowTracker(tracking_uri=uri, experiment="mine")
    sweep_of_three(TrackerSink("m", lambda: Mlflow(options, "name"), run_dir, lambda trial_id: LEAF, messages.append))
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert (
        messages == []
        and by_name[LEAF].info.status == "FINISHED"
        and by_name["normal_plain/it_1"].info.status == "FAILED"
    )
    assert by_name[LEAF].data.metrics == {"loss": 0.25, "image_auroc": 0.875, "final_loss": 0.5}
    assert by_name[LEAF].data.params["training.learning_rate"] == "0.01"


def test_wandb_itself_keeps_offline_runs(run_dir, monkeypatch):
    pytest.importorskip("wandb")
    messages, options = [], WandbTracker(project="p", mode="offline")
    made = TrackerSink(
        "wandb", lambda: Wandb(options, "n", run_dir / "w"), run_dir, lambda trial_id: LEAF, messages.append
    )
    sweep_of_three(made)
    assert messages == [] and len(list((run_dir / "w" / "wandb").glob("offline-run-*/run-*.wandb"))) == 3

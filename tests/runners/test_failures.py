"""What a sweep does about trials that fail, workers that are lost, disks that are full, and stores that are away."""

import html
import signal
import subprocess
import sys
import threading
import uuid

import pytest

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.locations import StorageError, parse_location
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results import files, lease, storage
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import TrialEnded
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep import session, trial
from fcdd_sweep.sweep.ledger import FailureLog, Ledger
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.result import NullObserver
from tests import works
from tests.disks import fill, small_disk
from tests.events import Recorder
from tests.faults.same import assert_same, assert_whole
from tests.s3 import Proxy, in_store, served
from tests.sweep.test_sweep import EXPERIMENT, go

pytestmark = pytest.mark.slow

QUICK = "keep.pictures=none"


@pytest.fixture
def experiment(tmp_path):
    def load(*overrides):
        path = tmp_path / "small.yaml"
        path.write_text(EXPERIMENT)
        return load_experiment(path, [f"output={tmp_path / 'results'}", *overrides])

    return load


@pytest.fixture(scope="module")
def server():
    with served() as started, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "SETTLE_S", 0.1)
        yield started


@pytest.fixture(params=["folder", "store"])
def output(request, tmp_path):
    """Where runs are kept."""
    if request.param == "folder":
        return tmp_path / "results"
    return parse_location(request.getfixturevalue("server").address(uuid.uuid4().hex))


def test_a_failed_trial_keeps_its_traceback_and_the_others_continue(experiment):
    result, recorder = go(experiment(), work=works.failing_seed_1)
    assert (result.done, result.failed) == (2, 2)
    index = {row["trial_id"]: row for row in files.read_table(RunPaths(result.run_dir).index).to_pylist()}
    failed = [row for row in index.values() if row["status"] == "failed"]
    assert [row["seed"] for row in failed] == [1, 1]
    for row in failed:
        error = TrialPaths(RunPaths(result.run_dir).attempts_dir(row["trial_id"]) / str(row["attempt"])).error
        assert error.read_text().strip().splitlines()[-1] == row["error"] != ""
    assert html.escape(failed[0]["error"]) in result.report.read_text()
    retried, recorder = go(experiment())
    assert recorder.counts == (4, 2, 2) and retried.done == 4
    rows = files.read_table(RunPaths(result.run_dir).index).to_pylist()
    assert sorted(row["failures"] for row in rows) == [0, 0, 1, 1]


def test_failed_trials_are_left_alone_when_asked(experiment):
    go(experiment(), work=works.failing_seed_1)
    result, recorder = go(experiment("faults.retry_failed=false"))
    assert recorder.counts == (4, 2, 0) and result.failed == 2


def test_a_trial_that_failed_so_often_over_all_starts_is_left_alone_and_the_run_says_how_to_continue(experiment):
    loaded = experiment("faults.max_failures=2", "faults.retries=0")
    starts = [go(loaded, work=works.losing_seed_1) for _ in range(3)]
    assert [recorder.counts for _, recorder in starts] == [(4, 0, 4), (4, 2, 2), (4, 2, 0)]
    assert starts[-1][0].failed == 2
    message = "2 trials have failed 2 times or more and are not run again; to retry, raise faults.max_failures"
    assert [sum(message in text for text in recorder.messages) for _, recorder in starts] == [0, 0, 1]
    assert go(experiment("faults.max_failures=null"))[0].done == 4


def test_attempts_that_were_tried_again_count_too_and_outlive_the_index(experiment):
    result, _ = go(experiment("faults.max_failures=2", "faults.retries=5"), work=works.losing_seed_1)
    rows = files.read_table(RunPaths(result.run_dir).index).to_pylist()
    assert sorted((row["status"], row["failures"]) for row in rows) == [("done", 0)] * 2 + [("failed", 2)] * 2
    RunPaths(result.run_dir).index.unlink()
    assert go(experiment("faults.max_failures=2"))[1].counts == (4, 2, 0)


def test_a_trial_that_was_only_lost_is_not_a_failed_one(experiment):
    loaded = experiment("seeds=1", "faults.retry_failed=false")
    spec = plan(loaded).specs[0]
    lost = TrialResult(spec.trial_id, "failed", 1, "worker process has died", kind="worker_lost")
    FailureLog(loaded.run_dir).add(spec, lost, "retrying")  # and then the driver died
    result, recorder = go(loaded)
    assert recorder.counts == (2, 0, 2) and result.done == 2
    rows = {row["trial_id"]: row for row in files.read_table(RunPaths(result.run_dir).index).to_pylist()}
    assert rows[spec.trial_id]["failures"] == 1


def test_a_finished_attempt_of_a_dead_driver_is_published_by_the_next(experiment):
    loaded = experiment("seeds=1")
    spec = plan(loaded).specs[0]
    assert run_trial(spec, loaded.run_dir, works.SILENT).status == "done"
    result, recorder = go(loaded)
    assert recorder.counts == (2, 1, 1) and result.done == 2


def test_a_full_disk_fails_the_trial_and_not_the_sweep(experiment, monkeypatch):
    write = files.write_arrays

    def full(path, arrays):
        if "it_1" in path.parts or path.parts[-3] == "1":
            raise OSError(28, "No space left on device", str(path))
        return write(path, arrays)

    monkeypatch.setattr(files, "write_arrays", full)
    result, _ = go(experiment("seeds=1", "faults.retries=0"))
    assert result.failed == 2 and result.done == 0
    row = files.read_table(RunPaths(result.run_dir).index).to_pylist()[0]
    assert "No space left on device" in row["error"]
    kept = files.read_table(RunPaths(result.run_dir).failures).to_pylist()
    assert [(each["kind"], each["attempt"]) for each in kept] == [("storage", 1)] * 2
    assert all("Traceback" in each["traceback"] and each["host"] for each in kept)
    monkeypatch.undo()
    assert go(experiment("seeds=1"))[0].done == 2


def test_a_worker_lost_after_its_trial_was_published_changes_nothing(experiment):
    result, _ = go(experiment("seeds=1"))
    ledger = Ledger(result.run_dir)
    spec = plan(experiment("seeds=1")).specs[0]
    late = session.Publisher(ledger, Recorder(), FailureLog(result.run_dir))
    late.handle(TrialEnded(spec, TrialResult(spec.trial_id, "failed", 2, "worker lost")))
    assert ledger.done(spec.trial_id)


class Frozen(NullObserver):
    """An observer whose trial stands still after its first epoch until it is woken."""

    def __init__(self):
        self.asleep, self.woken = threading.Event(), threading.Event()

    def epoch_done(self, record, epochs):
        self.asleep.set()
        assert self.woken.wait(120)


def test_a_worker_that_was_pruned_and_comes_back_later_changes_nothing(experiment, output):
    loaded = experiment("seeds=1", QUICK, f"output={output}")
    run, (spec, _) = loaded.run_dir, plan(loaded).specs
    frozen, ended = Frozen(), []
    lost = threading.Thread(target=lambda: ended.append(run_trial(spec, run, frozen)))
    lost.start()
    assert frozen.asleep.wait(120)
    successor = run_trial(spec, run, works.SILENT)
    ledger = Ledger(run)
    ledger.publish(spec, successor)
    leaf = {name: storage.read_bytes(run / spec.leaf / name) for name in storage.children(run / spec.leaf)}
    frozen.woken.set()
    lost.join()
    assert [(each.status, each.attempt) for each in (*ended, successor)] == [("done", 1), ("done", 2)]
    session.Publisher(ledger, Recorder(), FailureLog(run)).handle(TrialEnded(spec, ended[0]))
    assert ledger.rows[spec.trial_id]["attempt"] == 2
    assert storage.children(RunPaths(run).attempts) == [spec.trial_id]  # what came back is there, and goes with this:
    assert go(loaded)[1].counts == (2, 1, 1) and storage.children(RunPaths(run).attempts) == []
    assert leaf == {name: storage.read_bytes(run / spec.leaf / name) for name in storage.children(run / spec.leaf)}


@pytest.mark.parametrize(
    ("module", "writer"), [(files, "write_text"), (files, "write_rows"), (files, "write_arrays"), (trial, "_save")]
)
def test_an_attempt_that_fills_the_disk_is_one_to_be_tried_again(experiment, tmp_path, monkeypatch, module, writer):
    loaded = experiment(QUICK, f"output={tmp_path / 'disk'}")
    spec, write = plan(loaded).specs[0], getattr(module, writer)

    def on_a_full_disk(*arguments):
        fill(tmp_path / "disk")
        return write(*arguments)

    monkeypatch.setattr(module, writer, on_a_full_disk)
    with small_disk(tmp_path / "disk", 2_000):
        result = run_trial(spec, loaded.run_dir, works.SILENT)
        attempt = RunPaths(loaded.run_dir).attempts_dir(spec.trial_id) / "1"
        assert (result.status, result.kind) == ("failed", "storage"), result.traceback
        assert "No space left on device" in result.error
        assert not TrialPaths(attempt / "leaf").metrics.exists()


def test_a_disk_that_is_full_when_the_driver_publishes_costs_no_finished_trial(experiment, tmp_path):
    loaded = experiment("seeds=1", QUICK, "faults.retries=0", f"output={tmp_path / 'disk'}")

    def filling(spec, run_dir, observer):
        result = run_trial(spec, run_dir, observer)
        (tmp_path / "disk" / "ballast").exists() or fill(tmp_path / "disk")
        return result

    with small_disk(tmp_path / "disk", 20_000):
        with pytest.raises(StorageError, match="No space left on device"):
            go(loaded, work=filling)
        with pytest.raises(StorageError, match="No space left on device"):
            go(loaded)  # there is no room for the plan
        (tmp_path / "disk" / "ballast").unlink()
        result, recorder = go(loaded)
        assert recorder.counts == (2, 1, 1) and result.done == 2


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.faults)])
def test_a_store_that_is_gone_for_a_while_costs_time_alone(experiment, server, seconds):
    proxy = Proxy(server)
    loaded = experiment(
        "seeds=1", QUICK, "faults.checkpoint_every=1 epochs", f"output={in_store(proxy.port, uuid.uuid4().hex)}"
    )
    outages = []

    def cut_off(spec, run_dir, observer):
        if not outages:
            outages.append(threading.Thread(target=proxy.gone_for, args=[seconds]))
            outages[0].start()
        return run_trial(spec, run_dir, observer)

    recorder = go(loaded, work=cut_off)[1]
    outages[0].join()
    assert recorder.results == [("normal_3/it_0", "done"), ("normal_8/it_0", "done")]
    assert_whole(loaded.run_dir, plan(loaded).specs)
    proxy.close()


DRIVER = """
import os, signal, sys
from fcdd_sweep import cli
from fcdd_sweep.results import storage
from fcdd_sweep.sweep import ledger

def dying(module, name, *, before):
    whole = getattr(module, name)
    def half(*arguments, **options):
        if not before:
            whole(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, half)

def copies_three(source, target, last=""):
    for name in sorted(storage.files_below(source))[:3]:
        storage.write_bytes(target / name, storage.read_bytes(source / name))
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv.pop(1)
if moment == "copying":
    storage.copy_tree = copies_three
elif moment == "removing":
    dying(storage, "remove_tree", before=True)
else:
    dying(ledger.Ledger if moment == "entering" else ledger, {"entering": "_enter"}.get(moment, "_move"),
          before=moment != "moved")
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(EXPERIMENT)
    loaded = load_experiment(folder / "small.yaml", [f"output={folder}", "seeds=1", QUICK])
    return go(loaded)[0].run_dir


MORE_MOMENTS = [("copying", "store"), ("moved", "folder"), ("entering", "folder"), ("removing", "store")]


@pytest.mark.parametrize(
    ("moment", "output"),
    [("moving", "folder"), *(pytest.param(*case, marks=pytest.mark.long) for case in MORE_MOMENTS)],
    indirect=["output"],
)
def test_a_driver_that_is_killed_while_it_publishes_loses_nothing(experiment, output, undisturbed, moment, tmp_path):
    loaded = experiment("seeds=1", QUICK, f"output={output}")
    options = ["--local", "--output", str(output), "--set", "seeds=1", "--set", QUICK]
    command = [sys.executable, "-c", DRIVER, moment, str(tmp_path / "small.yaml"), *options]
    assert subprocess.run(command, timeout=300).returncode == -signal.SIGKILL
    result, recorder = go(loaded)
    assert recorder.counts == (2, 1, 1) and result.done == 2
    assert_whole(loaded.run_dir, plan(loaded).specs)
    assert_same(loaded.run_dir, undisturbed)

"""The runner on a real local Ray."""

import importlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.runners.events import Message, TrialEnded
from fcdd_sweep.runners.queue import JobQueue
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.ray_session import connected
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from tests import works
from tests.events import Recorder
from tests.specs import spec

pytestmark = pytest.mark.ray


ON_CPU = Resources(device="cpu")


def run(work, specs, run_dir, scratch=None, resources=ON_CPU, **faults):
    recorder = Recorder()
    stop = StopSignal(lambda: recorder.handle(Message("stopping")))  # holds the sink, as a sweep's does
    RayRunner(resources, Faults(**faults), scratch=scratch)(specs, run_dir, recorder, work, stop)
    return recorder


@pytest.fixture
def temporary(monkeypatch):
    """An empty folder for temporary files, whose path is short: Ray puts sockets there."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def nothing_is_left(temporary):
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return str(temporary) not in processes and list(temporary.iterdir()) == []


def test_waves_do_every_trial_once_and_nothing_is_left(temporary, tmp_path):
    before, home = dict(os.environ), Path.home() / ".ray"
    had_home = home.exists()
    specs, recorder = [spec(seed=seed) for seed in range(3)], Recorder()
    RayRunner(Resources(device="cpu"), wave_jobs=2)(specs, tmp_path, recorder, works.empty, StopSignal())
    assert {each.trial_id for each in specs} == set(recorder.ended) == set(recorder.started_ids)
    assert len(recorder.started_ids) == 3
    assert all(result.status == "done" and result.image_auroc == 0.5 for result in recorder.ended.values())
    assert nothing_is_left(temporary)
    assert dict(os.environ) == before
    assert home.exists() == had_home
    assert list(tmp_path.iterdir()) == []


def test_more_cores_than_there_are_is_refused_before_anything_waits(temporary, tmp_path):
    with pytest.raises(InputError, match=r"resources.cpus: a trial asks for 999 CPU cores, this machine has \d+"):
        run(works.empty, [spec()], tmp_path, resources=Resources(cpus=999.0))
    assert nothing_is_left(temporary)


def test_a_worker_that_the_machine_has_no_memory_for_gets_more_room(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0001")  # of all memory: every worker is too large
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    only = spec()
    recorder = run(works.waiting_to_be_stopped, [only], tmp_path, retries=1)
    ((_, first, decision),) = recorder.retried
    assert decision == "retrying with 2 times the resources"
    for result in (first, recorder.ended[only.trial_id]):
        assert result.kind == "out_of_memory"
        assert "killed due to the node running low on memory" in result.error


@pytest.fixture(scope="module")
def scratch():
    """The scratch folder of a Ray without GPUs that all tests below share: a process has one at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        with connected(None, lambda text: None) as folder:
            yield folder


@pytest.mark.long
def test_in_a_notebook_no_display_of_tune_clears_the_cell(scratch, monkeypatch, tmp_path):
    from IPython import display
    from ray.tune import progress_reporter

    cleared = []
    monkeypatch.setattr(progress_reporter, "IS_NOTEBOOK", True)
    monkeypatch.setattr(display, "clear_output", lambda wait=False: cleared.append(wait))
    assert len(run(works.empty, [spec()], tmp_path, scratch).ended) == 1
    assert cleared == []


@pytest.fixture(scope="module")
def happened(tmp_path_factory, scratch):
    """What was heard of trials to which something happens, each known by its seed: (result, what came before it)."""
    specs = [spec(seed=seed) for seed in range(6)]
    recorder = run(works.by_seed, specs, tmp_path_factory.mktemp("happened"), scratch, retries=1)
    assert set(recorder.ended) == {each.trial_id for each in specs}

    def of(seed):
        trial_id = specs[seed].trial_id
        return recorder.ended[trial_id], [rest for first, *rest in recorder.retried if first == trial_id]

    of.epochs = recorder.epochs
    return of


def test_a_trial_beside_failing_ones_is_done(happened):
    result, again = happened(0)
    assert (result.status, result.attempt, again) == ("done", 1, [])


def test_epochs_are_heard_while_a_trial_runs(happened):
    trial_id = spec(seed=works.TELLING).trial_id
    heard = [epoch for _, epoch, _, _ in happened.epochs]
    assert heard and heard == sorted(set(heard)) and set(heard) <= {1, 2, 3}
    assert all((trial, epochs) == (trial_id, 3) for trial, _, epochs, _ in happened.epochs)


def test_a_lost_worker_is_started_again(happened):
    result, again = happened(works.DYING_ONCE)
    assert (result.status, result.attempt, len(again)) == ("done", 2, 1)


def test_a_trial_that_loses_every_worker_fails_and_keeps_the_evidence(happened):
    lost, ((first, decision),) = happened(works.DYING_ALWAYS)
    assert (lost.kind, lost.status) == ("worker_lost", "failed")
    assert (first.kind, decision) == ("worker_lost", "retrying")
    assert "worker process has died" in first.traceback and "worker process has died" in lost.traceback


def test_a_preempted_worker_gives_its_trial_back_without_a_retry_being_counted(happened):
    result, again = happened(works.PREEMPTED_TWICE)
    assert result.status == "done" and [first.kind for first, _ in again] == ["preempted"] * 2


def test_out_of_memory_is_tried_again_with_more_room(happened):
    result, ((first, decision),) = happened(works.SHORT_OF_MEMORY_ONCE)
    assert result.status == "done"
    assert first.kind == "out_of_memory" and decision == "retrying with 2 times the resources"


def test_a_process_whose_gpu_failed_runs_no_further_trial(scratch, tmp_path):
    recorder = run(works.breaking_its_gpu_once, [spec()], tmp_path, scratch)
    ((_, failed, _),), (done,) = recorder.retried, recorder.ended.values()
    assert (failed.kind, done.status) == ("gpu_failed", "done")
    assert done.host != failed.host


def test_a_pack_is_heard_trial_by_trial_and_a_lost_one_is_tried_again_alone(scratch, tmp_path):
    """Those beside a trial that dies lose their attempt with it."""
    specs = [spec(seed=seed) for seed in (0, works.DYING_ONCE, works.DYING_ALWAYS)]
    recorder = run(works.by_seed, specs, tmp_path, scratch, Resources(device="cpu", pack=3), retries=2)
    ended = [recorder.ended[each.trial_id] for each in specs]
    assert [result.status for result in ended] == ["done", "done", "failed"]
    assert set(recorder.started_ids[:3]) == {each.trial_id for each in specs}  # in one process
    lost = {trial_id for trial_id, result, _ in recorder.retried if result.kind == "worker_lost"}
    assert {each.trial_id for each in specs[1:]} <= lost
    assert ended[2].kind == "worker_lost"


@pytest.mark.long
def test_a_pack_without_memory_is_split_until_it_fits_and_no_trial_fails(scratch, tmp_path):
    specs = [spec(seed=seed) for seed in range(4)]
    packed = Resources(device="cpu", pack=4)
    recorder = run(works.with_room_for_two, specs, tmp_path, scratch, packed, retries=0)
    assert {(result.status, result.attempt, result.host) for result in recorder.ended.values()} == {("done", 2, "2")}
    assert len(recorder.ended) == 4
    assert [result.kind for _, result, _ in recorder.retried] == ["pack_too_large"] * 4


@pytest.mark.long
def test_trials_that_stand_still_are_ended_and_tried_again(scratch, tmp_path):
    specs = [spec(seed=seed) for seed in range(3)]
    recorder = run(works.standing_still, specs, tmp_path, scratch, progress_timeout="2s")
    assert [recorder.ended[each.trial_id].status for each in specs] == ["done"] * 3
    again = {trial_id: result for trial_id, result, _ in recorder.retried}
    assert len(recorder.retried) == 2 and {result.kind for result in again.values()} == {"hung"}
    hung, frozen = again[specs[works.HANGING_ONCE].trial_id], again[specs[works.FROZEN_ONCE].trial_id]
    assert "no progress for" in hung.error and "standing_still" in hung.traceback  # its stack
    assert "did not answer" in frozen.error


def test_trials_that_hold_no_share_of_a_gpu_see_none(tmp_path):
    from fcdd_sweep.runners.ray_resources import TrialResources

    runner = RayRunner(Resources())
    for per_gpu, hidden in ((0, True), (2, False)):
        resources = TrialResources(cpus=1.0, max_cpus=2.0, trials_per_gpu=per_gpu, slots=2)
        assert runner._worker_settings(tmp_path, works.empty, resources).hide_gpus is hidden


@pytest.mark.parametrize(("per_gpu", "shares", "sharing"), [(4, 1, 4), (4, 2, 2), (3, 8, 1), (0, 1, "auto")])
def test_a_trial_knows_how_many_share_its_gpu(tmp_path, per_gpu, shares, sharing):
    from fcdd_sweep.runners.ray_worker import Worker, WorkerSettings

    worker = Worker.__new__(Worker)
    worker._settings = WorkerSettings(tmp_path, works.empty, 1.0, 60.0, trials_per_gpu=per_gpu)
    worker._prepare({"trials": json.dumps([spec().to_dict()]), "shares": shares})
    (found,) = worker._specs
    assert found.settings.resources.trials_per_gpu == sharing
    assert found.trial_id == spec().trial_id


def test_a_work_that_workers_cannot_import_fails_once_and_says_why(scratch, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def work(spec, run_dir, observer): ...\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        work = importlib.import_module("only_here").work
    recorder = run(work, [spec()], tmp_path / "run", scratch)
    (result,) = recorder.ended.values()
    assert (result.status, result.kind, recorder.retried) == ("failed", "error", [])
    assert "only_here" in result.error


def test_a_gpu_that_is_not_there_is_refused(scratch, tmp_path):
    with pytest.raises(InputError, match="resources.device: found 'cuda', but Ray finds no GPU"):
        run(works.empty, [spec()], tmp_path, scratch, Resources(device="cuda"))


DIED = """Failure # 1 (occurred at 2026-11-25_13-01-37)
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process"""
SHORT_OF_MEMORY = """Failure # 1 (occurred at 2026-11-25_13-01-37)
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2) was 8.05GB used
Top 10 memory users: PID MEM(GB) COMMAND
3306 0.51 ray::ResourceTrainable.train --on Error --lost
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (DIED, "The actor is dead because its worker process has died"),
        (SHORT_OF_MEMORY, "1 worker(s) were killed due to the node running low on memory"),
        ("", "the scheduler reported no cause"),
    ],
)
def test_what_ray_says_of_a_lost_worker_is_reported_in_a_sentence(text, sentence):
    from fcdd_sweep.runners.ray_driver import _cause_in

    assert _cause_in(text) == sentence


def test_no_worker_counts_as_silent_while_the_driver_publishes(monkeypatch):
    from fcdd_sweep.runners import ray_driver
    from fcdd_sweep.runners.ray_nodes import Nodes

    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(ray_driver, "time", clock)

    class Slow(Recorder):
        def handle(self, event):
            if isinstance(event, TrialEnded):
                clock.now += 100.0  # the store is out of reach

    specs = tuple(spec(seed=seed) for seed in range(2))
    wave = ray_driver.Wave(JobQueue(specs, 0), 10, Nodes(), ray_driver.Packing())
    patience = ray_driver.Patience(silent_s=60.0, stop_s=60.0)
    listener = ray_driver.TuneListener(wave, Slow(), StopSignal(), patience, lambda: None)
    killed = []
    monkeypatch.setattr(ray_driver, "_kill", lambda actor, process: killed.append(actor))
    trials = [SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name)) for name in "ab"]
    for trial in trials:
        wave.suggest(trial.trial_id)
        listener.on_trial_start(0, trials, trial)
    done = asdict(TrialResult(specs[0].trial_id, "done", 1))
    listener.on_trial_result(0, trials, trials[0], {"process": ("node", 1), "results": [done], "updates": {}})
    listener.on_step_begin(1, trials)
    assert killed == []
    clock.now += 61.0
    listener.on_step_begin(2, trials)
    assert killed == ["b"]

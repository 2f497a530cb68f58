"""The runner with several processes of this machine."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import RunnerLostError
from fcdd_sweep.config.schema import Faults
from fcdd_sweep.runners import failures, process_runner, process_template
from fcdd_sweep.runners.process_runner import ProcessRunner, _Pool
from fcdd_sweep.runners.process_template import Template
from fcdd_sweep.runners.queue import JobQueue, Packing
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from tests import works
from tests.events import Recorder
from tests.planning.test_gpu_memory import of_preset
from tests.runners.conformance import RunnerConformance
from tests.specs import spec

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


@pytest.fixture(scope="module")
def template():
    with Template(["tests.works"]) as started:
        yield started


class TestProcessRunner(RunnerConformance):
    @pytest.fixture
    def runner(self, template):
        def make(faults, **keywords):
            return ProcessRunner(faults, template=template, **keywords)

        return make


class TestPacks(RunnerConformance):
    """The same promises where a process trains several trials at once."""

    smaller_packs = 1

    @pytest.fixture
    def runner(self, template):
        def make(faults, **keywords):
            return ProcessRunner(faults, template=template, pack=3, **keywords)

        return make


def test_trials_of_a_pack_whose_process_dies_run_again_each_alone(template, tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(works.DYING_TOGETHER)], Recorder()
    runner = ProcessRunner(Faults(retries=1), template=template, pack=works.DYING_TOGETHER)
    runner(specs, tmp_path, recorder, works.dying_together, StopSignal())
    assert [result.kind for _, result, _ in recorder.retried] == ["worker_lost"] * works.DYING_TOGETHER
    assert set(recorder.started_ids[: works.DYING_TOGETHER]) == {each.trial_id for each in specs}
    ended = [recorder.ended[each.trial_id] for each in specs]
    assert [(result.status, result.attempt, result.host) for result in ended] == [("done", 2, "1")] * len(specs)


def test_a_trial_whose_process_dies_or_is_to_stop_runs_again_in_another(template, tmp_path):
    seeds = (works.TELLING, works.DYING_ONCE, works.DYING_ALWAYS, works.PREEMPTED_TWICE, works.SHORT_OF_MEMORY_ONCE)
    specs, recorder = [spec(seed=seed) for seed in seeds], Recorder()
    ProcessRunner(Faults(retries=2), template=template)(specs, tmp_path, recorder, works.by_seed, StopSignal())
    statuses = [recorder.ended[each.trial_id].status for each in specs]
    assert statuses == ["done", "done", "failed", "done", "done"]
    assert recorder.ended[specs[2].trial_id].kind == "worker_lost"
    kinds = [result.kind for each in specs for name, result, _ in recorder.retried if name == each.trial_id]
    assert kinds == ["worker_lost"] * 3 + ["preempted"] * 2 + ["out_of_memory"]


def test_a_trial_that_hangs_and_a_process_that_is_frozen_run_again_elsewhere(template, tmp_path, monkeypatch):
    specs, recorder = [spec(seed=seed) for seed in (works.HANGING_ONCE, works.FROZEN_ONCE)], Recorder()
    faults = Faults(progress_timeout="3s")
    ProcessRunner(faults, template=template)(specs, tmp_path, recorder, works.standing_still, StopSignal())
    assert {result.status for result in recorder.ended.values()} == {"done"}
    assert [result.kind for _, result, _ in recorder.retried] == ["hung", "hung"]


def test_workers_are_forks_of_one_process_that_has_one_thread_after_importing_torch(tmp_path):
    with Template(["fcdd_sweep.sweep.trial"]) as template:
        connections = [template.start_worker() for _ in range(2)]
        for connection, pid in connections:
            status = Path(f"/proc/{pid}/status").read_text()
            assert f"PPid:\t{template._process.pid}\n" in status and "Threads:\t1\n" in status
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "libtorch" in maps
            connection.close()


@pytest.mark.parametrize(("own", "inherited"), [({}, "glibc.malloc.hugetlb=1"), ({"GLIBC_TUNABLES": "a=b"}, "a=b")])
def test_workers_take_memory_in_huge_pages_unless_the_user_says_otherwise(own, inherited, tmp_path, monkeypatch):
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    recorder = Recorder()
    with Template() as template:
        runner = ProcessRunner(Faults(), template=template)
        runner([spec()], tmp_path, recorder, works.naming_its_process, StopSignal())
    (result,) = recorder.ended.values()
    assert result.host.endswith(f" {inherited}")


def test_where_a_fork_is_not_safe_workers_are_programs_of_their_own(tmp_path, monkeypatch):
    code = "import threading, time; threading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    (tmp_path / "threaded.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    specs, recorder = [spec(seed=seed) for seed in range(3)], Recorder()
    with Template(["threaded"]) as template:
        ProcessRunner(Faults(), template=template)(specs, tmp_path, recorder, works.empty, StopSignal())
    assert len(recorder.ended) == 3 and recorder.retried == []


def test_work_that_other_processes_cannot_find_is_an_error_at_once(tmp_path):
    with pytest.raises(ValueError, match="must be a function of a module"):
        process_template.first_message(lambda *_: None, tmp_path, 1.0)


def test_a_template_that_has_died_is_said(tmp_path):
    with Template() as template:
        os.kill(template._process.pid, signal.SIGKILL)
        with pytest.raises(RunnerLostError, match="starts workers has died"):
            ProcessRunner(Faults(), template=template)([spec()], tmp_path, Recorder(), works.empty, StopSignal())


class Pipes:
    """Stands in for a template: keeps the other ends of the connections to its workers."""

    def __init__(self):
        self.workers = []

    def start_worker(self):
        ours, theirs = multiprocessing.Pipe()
        self.workers.append(theirs)
        return ours, 2**30  # no process

    def received(self, number):
        """What a worker was sent since it was asked last."""
        connection, found = self.workers[number], []
        while connection.poll():
            found.append(connection.recv())
        return found


def trial_and_share(message):
    return message["seed"], message["settings"]["resources"]["trials_per_gpu"]


@pytest.mark.parametrize(("visible", "names"), [(None, ["0", "1"]), ("5, GPU-ab,7", ["5", "GPU-ab"])])
def test_processes_share_the_gpus_evenly_and_a_trial_that_ran_out_of_memory_gets_more_of_one(
    visible, names, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    specs, template = [spec(seed=seed) for seed in range(5)], Pipes()

    def end(worker, kind=None):
        trial_id = specs[worker].trial_id
        failure = TrialResult.failure(trial_id, "out_of_memory", "no memory")
        template.workers[worker].send(([failure if kind else TrialResult(trial_id, "done", 1)], {}))
        pool.hear()
        pool.start_jobs(template, ("work",))

    with _Pool((4, 2), Packing(), JobQueue(specs, retries=1), Recorder()).opened() as pool:
        pool.start_jobs(template, ("work",))
        for number in range(4):
            settings, (trial,) = template.received(number)
            assert settings == ("work", names[number % 2]) and trial_and_share(trial) == (number, 2)
        end(0, "out_of_memory")  # on the first GPU, where another trial runs: both places must be free
        assert [template.received(number) for number in range(4)] == [[]] * 4
        end(2)
        ((trial,),) = template.received(0)
        assert trial_and_share(trial) == (0, 1)
        end(3)
        ((trial,),) = template.received(3)
        assert trial_and_share(trial) == (4, 2) and len(template.workers) == 4


def test_without_a_gpu_trials_get_no_share_of_one():
    template = Pipes()
    with _Pool((2, 0), Packing(), JobQueue([spec()], retries=1), Recorder()).opened() as pool:
        pool.start_jobs(template, ("work",))
        settings, (trial,) = template.received(0)
        assert settings == ("work", None) and trial_and_share(trial) == (0, "auto")


def test_a_worker_sees_the_gpu_that_it_was_given(template, tmp_path):
    connection, _ = template.start_worker()
    connection.send((*process_template.first_message(works.naming_its_gpu, tmp_path, 60.0), "1"))
    connection.send([spec().to_dict()])
    ((result,), _) = connection.recv()
    assert result.host == "1"
    connection.close()


@pytest.mark.parametrize(
    ("processes", "gpus", "card_gib", "begin", "end"),
    [
        (4, 1, 139, "4, since --local is 4", "4, since --local is 4"),
        (4, 2, 139, "2, since --local is 4 and there are 2 GPUs", "there are 2 GPUs"),
        (
            2,
            1,
            30,
            "2, since --local is 2; a trial needs about 23.3 GiB",
            "the card has 30 GiB: they may run out of memory",
        ),
        (2, 2, 10, "1, since --local is 2 and", "10 GiB: it may run out of memory"),
    ],
)
def test_a_run_says_how_many_trials_share_a_gpu_and_whether_they_may_not_fit(
    processes, gpus, card_gib, begin, end, monkeypatch
):
    monkeypatch.setattr(process_runner, "card_memory", lambda: card_gib * 1024)
    found = ProcessRunner(Faults(), processes=processes, gpus=gpus)._sharing_text([of_preset("imagenet")])
    assert found.startswith(f"trials that share a GPU: {begin}") and found.endswith(end)


def test_trials_of_packs_share_a_gpu_too():
    runner = ProcessRunner(Faults(), processes=4, gpus=2, pack=3)
    found = runner._sharing_text([of_preset("fmnist")])
    assert found.startswith(
        "trials that share a GPU: 6, since --local is 4 and there are 2 GPUs and resources.pack is 3"
    )

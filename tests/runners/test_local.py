"""The runner in this process."""

import functools
import re
import threading
import time

import pytest
import torch

import fcdd_sweep
from fcdd_sweep.config.schema import Faults
from fcdd_sweep.results.files import read_table
from fcdd_sweep.runners import failures
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep import trial
from fcdd_sweep.training import pack as pack_module
from fcdd_sweep.training.engine import EagerProgram
from tests import works
from tests.events import Recorder
from tests.runners.conformance import RunnerConformance
from tests.specs import defects_corpus, small_experiment, spec


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


class TestLocalRunner(RunnerConformance):
    @pytest.fixture
    def runner(self):
        return LocalRunner


class TestPacks(RunnerConformance):
    """The same promises where several trials run at once in this process."""

    smaller_packs = 2

    @pytest.fixture
    def runner(self):
        return functools.partial(LocalRunner, pack=3)


def test_trials_of_a_pack_run_at_once_and_a_retry_runs_alone(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(4)], Recorder()
    waiting = threading.Barrier(3, timeout=30)
    tried = []

    def meeting(each, run_dir, observer):
        tried.append(each.seed)
        if tried.count(each.seed) == 1 and each.seed < 3:
            waiting.wait()
        if each.seed == 1 and tried.count(1) == 1:
            return TrialResult(each.trial_id, "failed", 1, "its worker has died", kind="worker_lost")
        return TrialResult(each.trial_id, "done", tried.count(each.seed))

    LocalRunner(Faults(retries=1), pack=3)(specs, tmp_path, recorder, meeting, StopSignal())
    assert {result.status for result in recorder.ended.values()} == {"done"}
    assert recorder.ended[specs[1].trial_id].attempt == 2 and sorted(tried[:3]) == [0, 1, 2]


def test_a_pack_without_memory_is_split_until_it_fits_and_no_trial_fails(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(6)], Recorder()
    lock, inside, sizes = threading.Lock(), [], []

    def hungry(each, run_dir, observer):
        """Room for two: all that meet others beyond that run out of memory, as one program of all does."""
        with lock:
            inside.append(each.seed)
        time.sleep(0.25)
        with lock:
            sizes.append(len(inside))
        time.sleep(0.25)
        with lock:
            inside.remove(each.seed)
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return TrialResult(each.trial_id, "done", 1)

    LocalRunner(Faults(retries=0), pack=6)(specs, tmp_path, recorder, hungry, StopSignal())
    assert {result.status for result in recorder.ended.values()} == {"done"} and len(recorder.ended) == 6
    assert {result.kind for _, result, _ in recorder.retried} == {"pack_too_large"}
    assert sizes == [6] * 6 + [3] * 3 + [2] * 6  # the other three need not fail, too


@pytest.mark.parametrize(
    ("pack", "processes"), [pytest.param(3, 1, marks=pytest.mark.slow), pytest.param(2, 2, marks=pytest.mark.long)]
)
def test_a_sweep_in_packs_has_the_numbers_the_logs_and_the_files_of_one_without(load, tmp_path, pack, processes):
    text = small_experiment("training: {epochs: 2, passes_per_epoch: 1}\nkeep: {pictures: none}\nseeds: 3", '["3"]')
    found = []
    for size, local in ((1, 1), (pack, processes)):
        experiment = load(text, f"output={tmp_path / str(size)}", f"resources.pack={size}")
        assert fcdd_sweep.run_sweep(experiment, local=local, progress=None).done == 3
        leaves = sorted((tmp_path / str(size) / "small").glob("normal_3/it_*"))
        rows = [read_table(leaf / "metrics.parquet").to_pylist()[0] for leaf in leaves]
        found.append([[row[name] for name in ("trial_id", "image_auroc", "final_loss", "epochs")] for row in rows])
        logs = [(leaf / "log.txt").read_text() for leaf in leaves]
        assert [re.findall(r"seed (\d+)", log) for log in logs] == [["0"], ["1"], ["2"]]
        assert all(len(re.findall(r"epoch \d+/2", log)) == 2 for log in logs)
    assert found[0] == found[1]


def test_after_a_failure_of_the_gpu_this_process_starts_no_further_trial(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(3)], Recorder()
    LocalRunner(Faults())(specs, tmp_path, recorder, works.breaking_its_gpu_once, StopSignal())
    assert recorder.started_ids == [specs[0].trial_id]
    ((_, result, decision),) = recorder.retried
    assert (result.kind, decision) == ("gpu_failed", "the next start runs it again")
    assert any("rerun the same command" in text for text in recorder.messages)


@pytest.mark.slow
def test_trials_of_a_pack_on_a_broken_gpu_continue_from_their_checkpoints_with_the_same_numbers(tmp_path, monkeypatch):
    """Torch's CPU stands in for the GPU; the third step of three breaks it, after the first epoch's checkpoint."""
    corpus = defects_corpus(train=16, test=8)
    monkeypatch.setattr(trial, "corpus_of", lambda settings: corpus)
    monkeypatch.setattr(trial, "fingerprint_of", lambda settings: "f" * 12)
    for name in ("exposure_of", "validation_pool_of"):
        monkeypatch.setattr(trial, name, lambda settings: None)
    monkeypatch.setattr(pack_module, "_on_gpu", lambda rows: True)
    steps, whole = [], EagerProgram.step

    def breaking(program, rows):
        steps.append(len(rows))
        if len(steps) == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        whole(program, rows)

    specs = [spec(seed=seed, training={"epochs": 2, "batch_size": 8}, keep={"pictures": "none"}) for seed in range(2)]
    work = functools.partial(trial.run_trial, checkpoint_every="1 epochs")

    def run(folder):
        recorder = Recorder()
        LocalRunner(Faults(retries=1), pack=2)(specs, folder, recorder, work, StopSignal())
        return recorder

    undisturbed = run(tmp_path / "undisturbed")
    monkeypatch.setattr(EagerProgram, "step", breaking)
    broken = run(tmp_path / "run")
    assert [(result.kind, decision) for _, result, decision in broken.retried] == [
        ("gpu_failed", "the next start runs it again")
    ] * 2
    assert not broken.ended and len(broken.messages) == 1
    again = run(tmp_path / "run")
    assert steps == [2] * 5  # two, the one that broke, and the two of the second epoch
    for each in specs:
        found, wanted = again.ended[each.trial_id], undisturbed.ended[each.trial_id]
        assert (found.status, found.attempt, found.image_auroc) == ("done", 2, wanted.image_auroc)
        first, second = (
            read_table(next(folder.glob(f".attempts/{each.trial_id}/{number}/**/history.parquet"))).to_pylist()
            for folder, number in ((tmp_path / "undisturbed", 1), (tmp_path / "run", 2))
        )
        assert [row["loss"] for row in first] == [row["loss"] for row in second] and len(first) == 2

"""Checkpoints on disk: what is written, what a damaged or foreign one does, and where the next attempt continues."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fcdd_sweep.config.fields import Every
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners import trial_data
from fcdd_sweep.sweep import checkpoints, trial
from fcdd_sweep.sweep.checkpoints import Checkpoints
from fcdd_sweep.sweep.sweep import run_sweep
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training import trainer
from fcdd_sweep.training.result import NullObserver
from tests.specs import defects_corpus, spec

pytestmark = pytest.mark.slow

CORPUS = defects_corpus()
SPEC = spec(training={"epochs": 4}, keep={"pictures": "none"})
STEPS = 3


class StopAt(NullObserver):
    """Asks for a stop the n-th time that it is asked."""

    def __init__(self, number):
        self.left = number

    def stop_asked(self):
        self.left -= 1
        return self.left == 0


@pytest.fixture(autouse=True)
def corpus(monkeypatch):
    for module in (trial, trial_data):
        monkeypatch.setattr(module, "corpus_of", lambda settings: CORPUS)


def attempt(run_dir, stop_at=0, every="1 epoch"):
    return run_trial(SPEC, run_dir, StopAt(stop_at), every)


def attempts(run_dir):
    return RunPaths(run_dir).attempts_dir(SPEC.trial_id)


def kept(run_dir, number="*"):
    """Checkpoints, the furthest last."""
    found = attempts(run_dir).glob(f"{number}/checkpoints/*")
    return sorted(found, key=lambda path: [int(part) for part in path.name.split("-")[1:4:2]])


def log_of(run_dir, number):
    return TrialPaths(attempts(run_dir) / str(number) / "leaf").log.read_text()


def numbers(run_dir, number):
    leaf = attempts(run_dir) / str(number) / "leaf"
    history = files.read_table(TrialPaths(leaf).history).drop_columns(["images_per_second"])
    maps = {name: array.tobytes() for name, array in files.read_arrays(TrialPaths(leaf).maps).items()}
    network = torch.load(TrialPaths(leaf).snapshot, weights_only=True)["network"]
    weights = {name: value.numpy().tobytes() for name, value in network.items()}
    tables = [repr(files.read_table(leaf / name).to_pylist()) for name in (tree.SCORES, tree.CURVES, tree.DEFECTS)]
    return repr(history.to_pylist()), tables, maps, weights


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        for module in (trial, trial_data):
            patch.setattr(module, "corpus_of", lambda settings: CORPUS)
        assert attempt(run_dir, every="5m").status == "done"
    assert kept(run_dir) == []
    return numbers(run_dir, 1)


@pytest.fixture
def stopped(tmp_path):
    """A run whose first attempt was stopped after the first step of epoch 3; the epoch's end was kept, too."""
    result = attempt(tmp_path, 2 * STEPS + 2)
    assert (result.status, result.error) == ("stopped", "stopped after step 1 of epoch 3")
    assert [path.name[:14] for path in kept(tmp_path)] == ["epoch-3-step-0", "epoch-3-step-1"]
    return tmp_path


def rewritten(path, content):
    """Other content under a name that fits it."""
    path.unlink()
    digest = hashlib.sha256(content).hexdigest()[:12]
    path = path.with_name(f"{path.name.rsplit('-', 1)[0]}-{digest}.pt")
    path.write_bytes(content)
    return path


def changed(path, change):
    """The checkpoint with something changed in it, under a name that fits."""
    plain = torch.load(path, weights_only=True)
    change(plain)
    torch.save(plain, path)
    return rewritten(path, path.read_bytes())


def test_the_next_attempt_continues_and_says_where(stopped, undisturbed):
    assert attempt(stopped).status == "done"
    assert numbers(stopped, 2) == undisturbed
    assert "continuing after step 1 of epoch 3, from attempt 1: epoch-3-step-1-" in log_of(stopped, 2)
    assert "epoch 3/4" in log_of(stopped, 2) and "epoch 2/4" not in log_of(stopped, 2)
    assert "WARNING" not in log_of(stopped, 2)


def test_each_is_called_after_its_own_digest_and_holds_tensors_and_plain_values_alone(stopped):
    for path in kept(stopped):
        assert path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:12])
        plain = torch.load(path, weights_only=True)
        assert plain["identity"]["trial_id"] == SPEC.trial_id
        assert plain["identity"]["data_fingerprint"] == CORPUS.fingerprints["plain"]
        assert plain["made_with"]["torch"] == torch.__version__ and plain["made_with"]["device"].startswith("cpu")


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a flipped bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "empty": lambda path: path.write_bytes(b""),
    "empty, and called so": lambda path: rewritten(path, b""),
    "no torch file": lambda path: rewritten(path, b"not a checkpoint at all"),
    "somebody's code": lambda path: rewritten(path, pickle.dumps(subprocess.Popen)),
    "a list": lambda path: (torch.save([1, 2], path), rewritten(path, path.read_bytes())),
    "no weights": lambda path: changed(path, lambda plain: plain["state"].pop("network")),
    "no state": lambda path: changed(path, lambda plain: plain.pop("state")),
    "no identity": lambda path: changed(path, lambda plain: plain.pop("identity")),
    "another network": lambda path: changed(path, lambda plain: plain["state"]["network"].popitem()),
    "another trial": lambda path: changed(path, lambda plain: plain["identity"].update(trial_id="0" * 12)),
    "other data": lambda path: changed(path, lambda plain: plain["identity"].update(data_fingerprint="0")),
    "other numerics": lambda path: changed(path, lambda plain: plain["identity"].update(numerics=-1)),
    "another version": lambda path: changed(path, lambda plain: plain["state"].update(state_version=99)),
}


def damages():
    """One of each way in which a checkpoint is refused; `make test-long` has all."""
    short = ("a flipped bit", "somebody's code", "no weights", "another network", "another trial", "other numerics")
    for name, damage in DAMAGES.items():
        yield pytest.param(damage, id=name, marks=() if name in short else pytest.mark.long)


@pytest.mark.parametrize("damage", list(damages()))
def test_one_that_cannot_be_used_is_named_and_the_one_before_is_taken(stopped, undisturbed, damage):
    before, last = kept(stopped)
    damage(last)
    (last,) = {*kept(stopped)} - {before}
    assert attempt(stopped).status == "done"
    assert numbers(stopped, 2) == undisturbed
    log = log_of(stopped, 2)
    assert f"WARNING checkpoint {last.name} of attempt 1 is skipped: it " in log
    assert f"continuing after epoch 2, from attempt 1: {before.name}" in log


def test_a_damaged_one_is_called_damaged(stopped):
    for path in kept(stopped):
        path.write_bytes(b"")
    assert attempt(stopped).status == "done"
    assert log_of(stopped, 2).count("it is damaged: its content differs from what was written") == 2


def test_without_a_usable_one_training_starts_anew(stopped, undisturbed):
    for path in kept(stopped):
        path.write_bytes(path.read_bytes()[:1000])
    assert attempt(stopped).status == "done"
    assert numbers(stopped, 2) == undisturbed
    assert "none of 2 checkpoints can be used: training starts from the beginning" in log_of(stopped, 2)
    assert "epoch 1/4" in log_of(stopped, 2)


@pytest.mark.parametrize(("then", "device"), [("cuda 1", "cuda (NVIDIA H200)"), (None, "cuda (NVIDIA H200)")])
def test_one_of_another_type_of_device_is_not_continued_and_says_so(then, device, stopped, undisturbed):
    """None: it was written before the version of a GPU's draws was."""

    def on_gpu(plain):
        plain["identity"].pop("device_numerics")
        plain["identity"] |= {"device_numerics": then} if then else {}
        plain["made_with"]["device"] = device

    for path in kept(stopped):
        changed(path, on_gpu)
    assert attempt(stopped).status == "done"
    assert numbers(stopped, 2) == undisturbed
    log, other = log_of(stopped, 2), then or "cuda"
    assert f"it was made on another type of device or with other draws (device_numerics {other} then, cpu now)" in log
    assert "training starts from the beginning" in log and "epoch 1/4" in log


def test_one_from_before_devices_had_versions_is_continued_on_a_cpu(stopped):
    for path in kept(stopped):
        changed(path, lambda plain: plain["identity"].pop("device_numerics"))
    assert attempt(stopped).status == "done"
    assert "continuing after step 1 of epoch 3" in log_of(stopped, 2)


def test_other_data_starts_anew(stopped, monkeypatch):
    monkeypatch.setattr(trial, "fingerprint_of", lambda spec: "elsewhere")
    assert attempt(stopped).status == "done"
    assert "data_fingerprint ffffffffffff then, elsewhere now" in log_of(stopped, 2)
    assert "epoch 1/4" in log_of(stopped, 2)


@pytest.mark.parametrize("key", ["torch", "device", "source"])
def test_what_may_change_bits_is_said_and_the_state_is_used(stopped, key):
    for path in kept(stopped):
        changed(path, lambda plain: plain["made_with"].update({key: "another"}))
    assert attempt(stopped).status == "done"
    assert f"so bits may differ ({key} another then, " in log_of(stopped, 2)
    assert "continuing after step 1 of epoch 3" in log_of(stopped, 2)


def test_the_furthest_state_of_any_attempt_is_taken(stopped, undisturbed):
    _, furthest = kept(stopped)
    again = attempts(stopped) / "2" / "checkpoints"
    again.mkdir(parents=True)
    furthest.rename(again / furthest.name)
    (attempts(stopped) / "3").mkdir()
    (attempts(stopped) / "replaced-1" / "checkpoints").mkdir(parents=True)
    assert attempt(stopped, 2).status == "stopped"
    assert "continuing after step 1 of epoch 3, from attempt 2" in log_of(stopped, 4)
    assert attempt(stopped).attempt == 5
    assert "continuing after step 2 of epoch 3, from attempt 4" in log_of(stopped, 5)
    assert numbers(stopped, 5) == undisturbed


def test_the_last_two_stay_and_what_is_older_or_half_written_goes(stopped):
    left = kept(stopped)[0].with_name(".0a1b2c3d.pt")
    left.write_bytes(b"half of one")
    later = attempts(stopped) / "7" / "checkpoints" / "epoch-1-step-1-000000000000.pt"
    later.parent.mkdir(parents=True)
    later.write_bytes(b"of an attempt that began after this one")
    assert attempt(stopped).attempt == 8
    assert not left.exists() and len(kept(stopped)) == 2
    early = Checkpoints(attempts(stopped) / "2", Every.of("5m"), {}, {})
    early.keep({"epoch": 1, "step": 2})
    assert len(kept(stopped, 8)) == 2 and len(kept(stopped, 2)) == 1


def test_the_state_that_an_attempt_continues_from_stays_beside_its_first(stopped):
    _, furthest = kept(stopped)
    assert attempt(stopped, 2).status == "stopped"
    assert kept(stopped)[0] == furthest and len(kept(stopped)) == 2


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["fsync", "write"])
def test_a_full_disk_costs_the_checkpoint_and_nothing_else(stopped, undisturbed, monkeypatch, where):
    before = kept(stopped)
    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(checkpoints._HashingFile, "write", full)
        else:
            patch.setattr(checkpoints, "os", SimpleNamespace(fsync=full))
        assert attempt(stopped, 3).status == "stopped"
    assert kept(stopped) == before
    assert "WARNING could not write a checkpoint after epoch 3 (" in log_of(stopped, 2)
    assert attempt(stopped).status == "done" and numbers(stopped, 3) == undisturbed


def test_a_crash_while_scoring_costs_no_training(tmp_path, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", full)
        assert attempt(tmp_path).status == "failed"
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "sample_losses", full)
        assert attempt(tmp_path).status == "done"
    assert "continuing after epoch 4" in log_of(tmp_path, 2)
    assert numbers(tmp_path, 2) == undisturbed


def test_times_of_training_add_up(stopped):
    for path in kept(stopped):
        changed(path, lambda plain: plain["state"].update(train_time_s=5000.0))
    assert attempt(stopped).status == "done"
    (row,) = files.read_table(TrialPaths(attempts(stopped) / "2" / "leaf").metrics).to_pylist()
    assert 5000 < row["train_time_s"] < 5100 and row["wall_time_s"] < 100


def test_they_are_due_by_epochs_or_by_time(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: now[0]))
    by_epochs = Checkpoints(tmp_path / "1", Every.of("2 epochs"), {}, {})
    assert [by_epochs.due(*place) for place in [(1, 0), (2, 0), (2, 5), (3, 0), (4, 1)]] == [0, 0, 0, 1, 0]
    by_time = Checkpoints(tmp_path / "2", Every.of("90s"), {}, {}, _time=now[0])
    assert not by_time.due(1, 0)
    now[0] += 90
    assert by_time.due(1, 7)
    by_time.keep({"epoch": 1, "step": 7})
    by_epochs.keep({"epoch": 3, "step": 0})
    assert not by_time.due(1, 8)
    assert [by_epochs.due(*place) for place in [(3, 0), (4, 0), (5, 0)]] == [0, 0, 1]


def test_a_time_that_is_none_fails_the_trial_by_name(tmp_path):
    result = attempt(tmp_path, every="now and then")
    assert result.status == "failed" and "'now and then' is neither a duration" in result.error


def test_a_worker_gets_the_interval_by_a_partial(tmp_path):
    work = pickle.loads(pickle.dumps(functools.partial(run_trial, checkpoint_every="1 epoch")))
    assert work(SPEC, tmp_path, StopAt(STEPS + 2)).status == "stopped"
    assert len(kept(tmp_path)) == 2


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.sweep import test_checkpoints as tests
from fcdd_sweep.training.result import NullObserver
class Dying(NullObserver):
    asked = 0
    def stop_asked(self):
        self.asked += 1
        if self.asked == 2 * tests.STEPS + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return False
tests.trial.corpus_of = tests.trial_data.corpus_of = lambda settings: tests.CORPUS
tests.run_trial(tests.SPEC, Path(sys.argv[1]), Dying(), "1 epoch")
"""


def test_a_killed_worker_loses_at_most_what_was_not_kept(tmp_path, undisturbed):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert attempt(tmp_path).status == "done"
    assert "continuing after epoch 2, from attempt 1" in log_of(tmp_path, 2)
    assert numbers(tmp_path, 2) == undisturbed


def test_nothing_is_left_of_them_beside_a_published_trial(tmp_path, monkeypatch):
    monkeypatch.undo()
    text = "schema: 2\nname: x\npreset: digits\nseeds: 1\ndataset: {classes: ['3']}\nkeep: {pictures: none}\n"
    (tmp_path / "x.yaml").write_text(text)
    experiment = load_experiment(tmp_path / "x.yaml", [f"output={tmp_path}", "training.epochs=2"])
    work = functools.partial(run_trial, checkpoint_every="1 epoch")
    assert run_sweep(experiment, local=True, work=work).done == 1
    assert list(RunPaths(tmp_path / "x").attempts.iterdir()) == []
    assert (
        "wrote a checkpoint after epoch 1: epoch-2-step-0-" in TrialPaths(tmp_path / "x/normal_3/it_0").log.read_text()
    )

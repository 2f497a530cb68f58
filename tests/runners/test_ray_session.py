"""The folder for Ray on this machine."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Resources
from fcdd_sweep.runners import ray_session
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.ray_session import scratch_folder
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.sweep.sweep import run_sweep
from tests import works
from tests.events import Recorder
from tests.specs import small_experiment, spec

KILLED = """
import os, pathlib, signal, sys
from fcdd_sweep.runners.ray_session import scratch_folder
with scratch_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "session").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(monkeypatch):
    """Sets the folder for temporary files."""

    def use(folder):
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return folder

    return use


def test_it_goes_away_at_the_end_and_no_other_does(tmp_path):
    (tmp_path / "fcdd-ray-notes").mkdir()  # no sweep made this one
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        (first / "session").mkdir()
        assert first.parent == tmp_path and first != second
        with scratch_folder(tmp_path):
            assert first.exists() and second.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["fcdd-ray-notes"]


def test_it_is_the_users_alone(tmp_path):
    with scratch_folder(tmp_path) as folder:
        assert folder.lstat().st_mode & 0o777 == 0o700 and folder.lstat().st_uid == os.getuid()


def test_what_a_killed_process_left_goes_away_with_the_next_start(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path) as folder:
        assert not left.exists() and list(tmp_path.iterdir()) == [folder]


def test_what_another_user_left_stays(tmp_path, monkeypatch):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    with scratch_folder(tmp_path):
        assert left.exists()


def folder_of_length(within, n_bytes):
    return within / ("a" * (n_bytes - len(os.fsencode(within)) - 1))


@pytest.fixture
def short(monkeypatch):
    """An existing folder with a short path, in which a folder of a length can be asked for; nothing else is allowed."""
    with tempfile.TemporaryDirectory(prefix="f", dir="/tmp") as folder:
        monkeypatch.setattr(ray_session, "_FALLBACKS", (), raising=False)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield Path(folder)


def test_the_folder_may_be_as_long_as_sockets_allow_and_no_longer(temporary, short):
    session = f"session_2026-11-28_10-44-10_228520_{os.getpid()}/sockets/plasma_store"
    longest = 107 - len(f"/fcdd-ray-h813kd2m/{session}")
    fits = temporary(folder_of_length(short, longest))
    assert ray_session.parent_for_sockets() == (fits, "")
    temporary(folder_of_length(short, longest + 1))
    with pytest.raises(InputError, match=f"its path has {longest + 1} bytes, and sockets leave room for {longest}"):
        ray_session.parent_for_sockets()


@pytest.mark.parametrize("name", ["a" * 60, "ü"])
def test_another_folder_is_taken_where_sockets_have_no_room(name, temporary, short, monkeypatch):
    unfit, first, second = temporary(short / name), short / "no folder", short / "s"
    second.mkdir()
    monkeypatch.setattr(ray_session, "_FALLBACKS", (str(unfit), str(first), str(second)))
    assert ray_session.parent_for_sockets()[0] == second
    monkeypatch.setattr(ray_session, "_FALLBACKS", ())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(second))
    assert ray_session.parent_for_sockets()[0] == second


def test_a_sweep_without_room_for_sockets_is_refused_before_it_writes_a_plan(temporary, short, load):
    temporary(short / ("a" * 60))
    experiment = load(small_experiment("training: {epochs: 1}\n"), f"output={short}")
    with pytest.raises(InputError, match="TMPDIR: Ray cannot put its sockets into"):
        run_sweep(experiment)
    assert not experiment.run_dir.exists()


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.parametrize("name", ["a" * 60, "ü"])
def test_trials_run_although_ray_cannot_use_the_temporary_folder(name, temporary, tmp_path):
    unfit, recorder = temporary(tmp_path / name), Recorder()
    RayRunner(Resources(device="cpu"))([spec()], tmp_path / "run", recorder, works.empty, StopSignal())
    assert [result.status for result in recorder.ended.values()] == ["done"]
    (sentence,) = recorder.messages
    assert sentence.startswith("Ray's temporary files go to /") and f"instead of {unfit}: its path has" in sentence


@pytest.mark.ray
@pytest.mark.long
def test_trials_run_although_ray_was_imported_before_without_a_password(tmp_path):
    program = """
import sys
import ray
from pathlib import Path
from fcdd_sweep.config.schema import Resources
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from tests import works
from tests.events import Recorder
from tests.specs import spec
recorder = Recorder()
RayRunner(Resources(device="cpu"))([spec()], Path(sys.argv[1]), recorder, works.empty, StopSignal())
print([result.status for result in recorder.ended.values()], recorder.messages)
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=plain, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "['done']" in ended.stdout and "the sweep's Ray has no password" in ended.stdout

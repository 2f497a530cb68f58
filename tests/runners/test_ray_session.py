"""The folder for Ray on this machine."""

import subprocess
import sys
import tempfile

import pytest

from fcdd_sweep.runners.ray_session import scratch_folder

KILLED = """
import os, signal
from fcdd_sweep.runners.ray_session import scratch_folder
with scratch_folder() as folder:
    (folder / "session").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_goes_away_at_the_end_and_no_other_does(there):
    (there / "fcdd-ray-notes").mkdir()  # no sweep made this one
    with scratch_folder() as first, scratch_folder() as second:
        (first / "session").mkdir()
        assert first.parent == there and first != second
        with scratch_folder():
            assert first.exists() and second.exists()
    assert [path.name for path in there.iterdir()] == ["fcdd-ray-notes"]


def test_what_a_killed_process_left_goes_away_with_the_next_start(there):
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == -9
    (left,) = there.iterdir()
    with scratch_folder() as folder:
        assert not left.exists() and list(there.iterdir()) == [folder]

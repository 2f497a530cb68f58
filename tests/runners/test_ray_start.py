"""Which processes a Ray of our own starts, and which of them run trials."""

import os
from pathlib import Path

import pytest

from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.ray_session import connected
from fcdd_sweep.runners.ray_start import EarlyWorkers
from fcdd_sweep.runners.stop_signal import StopSignal
from tests import works
from tests.events import Recorder
from tests.specs import spec


def commands_of(scratch):
    """Return the command lines of the processes that name a scratch folder, or are workers of its Ray, by id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            ours = str(scratch) in command or str(scratch).encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if ours and int(folder.name) != os.getpid():
            found[int(folder.name)] = command
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_early_workers_run_the_first_trials_at_the_sweep_s_own_priority_and_no_needless_process_starts(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(2)], Recorder()
    with connected(None, lambda text: None, EarlyWorkers(("colorsys",), 1)) as scratch:
        before = commands_of(scratch)
        run = RayRunner(Resources(device="cpu", cpus=1), Faults(), scratch=scratch)
        run(specs, tmp_path, recorder, works.naming_its_process, StopSignal())
    assert not [command for command in before.values() for name in works.NEEDLESS if name in command]
    hosts = [recorder.ended[each.trial_id].host.split() for each in specs]
    assert {imported for _, _, imported in hosts} == {"True"}
    assert {niceness for _, niceness, _ in hosts} == {str(os.nice(0))}
    assert any(int(pid) in before for pid, _, _ in hosts)

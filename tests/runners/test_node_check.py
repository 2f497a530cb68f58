"""Whether a machine can run a sweep's trials: its own look at its code, the run's folder and the data."""

import platform
import threading

import pytest

from fcdd_sweep.results import files
from fcdd_sweep.runners import node_check
from fcdd_sweep.runners.data_transfer import TransferableData
from fcdd_sweep.runners.node_check import NodeRequirements, WithGpu, WithNodeCheck
from fcdd_sweep.runners.trial_data import data_key, fingerprint_of, versions
from fcdd_sweep.training import device
from fcdd_sweep.training.result import NullObserver
from tests import works
from tests.specs import spec

HERE = platform.node()


@pytest.fixture
def trial():
    return spec(normal_class="brick", dataset={"name": "textures", "classes": ["brick"]})


@pytest.fixture
def required(tmp_path, trial):
    """What a driver on this machine expects."""
    mark = tmp_path / "run" / ".machines" / "token"
    files.write_text(mark, "here")
    node_check._run_dir_problems.cache_clear()
    return NodeRequirements(
        versions(), mark, {data_key(trial): fingerprint_of(trial)}, TransferableData(), nothing_travels
    )


def nothing_travels(path, size):
    raise AssertionError(f"{path} is asked for")


def changed(required, **fields):
    return NodeRequirements(**{**vars(required), **fields})


def test_the_driver_s_own_machine_is_fit(required, trial, tmp_path):
    assert required.problems_here([trial]) == []
    assert WithNodeCheck(works.empty, required)(trial, tmp_path / "run", NullObserver()).status == "done"


def test_other_versions_are_named_and_a_patch_of_python_is_no_matter(required, trial):
    theirs = versions() | {"torch": "1.0", "python": platform.python_version().rpartition(".")[0] + ".99"}
    (problem,) = changed(required, versions=theirs).problems_here([trial])
    assert problem.where == HERE and problem.what == f"found torch {versions()['torch']}, the driver has 1.0"


def test_a_run_s_folder_that_is_another_one_is_reported_and_nothing_is_made_there(required, trial, tmp_path):
    elsewhere = tmp_path / "another" / ".machines" / "token"
    (problem,) = changed(required, mark=elsewhere).problems_here([trial])
    assert (
        f"{tmp_path / 'another'} is not the same folder as on the driver" in problem.what
        and "s3://" in problem.next_step
    )
    assert not (tmp_path / "another").exists()


def test_a_run_s_folder_that_cannot_be_written_is_reported(required, trial, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(node_check.files, "write_text", refuse)
    (problem,) = required.problems_here([trial])
    assert "cannot be used (Permission denied)" in problem.what


def test_other_data_is_reported(required, trial):
    (problem,) = changed(required, fingerprints={data_key(trial): "0" * 12}).problems_here([trial])
    assert "files have other content" in problem.what


def test_data_that_is_not_there_is_reported_and_the_trial_comes_back_for_another_machine(required, tmp_path):
    lacking = spec(normal_class="bottle", dataset={"name": "mvtec", "root": tmp_path / "nowhere"})
    result = WithNodeCheck(works.empty, required)(lacking, tmp_path / "run", NullObserver())
    assert (result.status, result.kind, result.host) == ("failed", "node_unfit", HERE)
    assert f"there is no folder {tmp_path / 'nowhere'}" in result.error and result.error.startswith(f"{HERE}: ")


def test_a_machine_that_decodes_for_long_does_not_hang(trial, tmp_path, monkeypatch):
    monkeypatch.setattr(node_check, "_ALIVE_EVERY_S", 0.01)
    alive = threading.Event()

    class Decoding:
        def problems_here(self, specs):
            assert alive.wait(30)
            return []

    class Watched(NullObserver):
        def stop_asked(self):
            alive.set()
            return False

    assert WithNodeCheck(works.empty, Decoding())(trial, tmp_path, Watched()).status == "done"
    alive.clear()
    assert not alive.wait(0.2)  # it is over with the check


@pytest.mark.parametrize("kind", ["node_unfit", "gpu_failed"])
def test_a_trial_with_a_share_of_a_gpu_never_runs_on_the_cpu(trial, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(device, "gpu_failure", lambda: "Found no NVIDIA driver on your system")
    limits = []
    monkeypatch.setattr(device, "limit_memory", limits.append)
    work = WithGpu(works.empty, kind)
    result = work(trial, tmp_path, NullObserver())
    assert (result.status, result.kind, result.host) == ("failed", kind, HERE)
    assert "a share of a GPU that cannot be used (Found no NVIDIA driver on your system)" in result.error
    monkeypatch.setattr(device, "gpu_failure", lambda: "")
    assert limits == []
    for shared in (trial.sharing_gpu(4), trial):  # by default it has all of it
        assert work(shared, tmp_path, NullObserver()).status == "done"
    assert limits == [0.25, 1.0]

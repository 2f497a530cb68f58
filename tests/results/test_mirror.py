"""A local copy of a run in an object store: what is downloaded, what is sent back, what is removed."""

from __future__ import annotations

import uuid

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.locations import parse_location
from fcdd_sweep.results import storage, tree
from fcdd_sweep.results.mirror import mirrored
from tests.old_runs import write_old_run
from tests.s3 import served


@pytest.fixture(scope="module")
def server():
    with served() as started:
        yield started


@pytest.fixture
def run(server):
    """A folder of the store with a few files."""
    place = parse_location(server.address(uuid.uuid4().hex))
    for name in ("a/metrics.parquet", f"a/{tree.SNAPSHOT}", "roc.pdf", f"{tree.ATTEMPTS}/x/1/log.txt"):
        storage.write_bytes(place / name, name.encode())
    return place


def test_a_run_on_this_machine_is_its_own_folder(tmp_path):
    with mirrored(tmp_path) as folder:
        assert folder == tmp_path


def test_what_a_report_does_not_read_is_not_downloaded(run):
    with mirrored(run) as folder:
        assert set(storage.files_below(folder)) == {"a/metrics.parquet", "roc.pdf"}
        assert (folder / "a/metrics.parquet").read_text() == "a/metrics.parquet" and folder.name == run.name


def test_new_files_are_sent_and_those_that_are_no_longer_drawn_are_removed(run):
    with mirrored(run, redrawn=("roc.pdf",)) as folder:
        (folder / "report.html").write_text("the report")
        (folder / "roc.pdf").unlink()
    assert storage.read_bytes(run / "report.html") == b"the report"
    assert set(storage.children(run)) == {tree.ATTEMPTS, "a", "report.html"}


def test_a_file_that_only_the_copy_lost_stays_in_the_run(run):
    with mirrored(run, redrawn=("other.pdf",)) as folder:
        (folder / "roc.pdf").unlink()
    assert storage.is_file(run / "roc.pdf")


def test_nothing_is_sent_after_an_error(run):
    with pytest.raises(RuntimeError), mirrored(run) as folder:
        (folder / "report.html").write_text("half")
        raise RuntimeError
    assert not storage.is_file(run / "report.html")


def test_a_file_that_has_left_the_run_leaves_the_copy(run):
    with mirrored(run):
        pass
    storage.remove(run / "roc.pdf")
    with mirrored(run) as folder:
        assert not (folder / "roc.pdf").exists()


def test_a_run_of_an_earlier_version_is_refused_and_not_copied(run, tmp_path):
    storage.send_tree(write_old_run(tmp_path / "old"), run)
    before = storage.files_below(run)
    with pytest.raises(InputError, match="made with schema 1"), mirrored(run):
        pass
    assert storage.files_below(run) == before

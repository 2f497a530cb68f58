"""Addresses of object stores, and what is tried again; see test_storage.py for a real store."""

import pickle
from pathlib import Path

import pyarrow.fs
import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.locations import RemotePath, StorageError, cache_root, parse_location
from fcdd_sweep.results import storage
from tests.sweep.test_sweep import EXPERIMENT


def written(folder, output):
    path = folder / "x.yaml"
    path.write_text(f"{EXPERIMENT}output: {output}\n")
    return path


def test_an_address_is_text_that_keeps_its_options():
    run = parse_location("s3://bucket/a//b/?scheme=http")
    assert (str(run), run.name, str(run.parent)) == ("s3://bucket/a/b?scheme=http", "b", "s3://bucket/a?scheme=http")
    assert str(run / "c/d" / "e") == "s3://bucket/a/b/c/d/e?scheme=http"
    assert pickle.loads(pickle.dumps(run)) == parse_location(str(run)) == run
    assert str(parse_location("gs://bucket")) == "gs://bucket"


def test_a_file_address_is_a_path(tmp_path):
    assert load_experiment(written(tmp_path, f"file://{tmp_path}/results")).run_dir == tmp_path / "results" / "small"
    assert parse_location("file:///a%20b") == Path("/a b")
    assert parse_location("~/x") == Path.home() / "x"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("foo://x/y", "'foo://' is not a known storage"),
        ("s3:///x", "names no bucket; write s3://BUCKET/FOLDER"),
        ("s3://key:swordfish@bucket/x", "contains a password"),
        ("s3://bucket/x?secret_key=swordfish", "contains a password"),
        ("s3://bucket/../x", "not allowed in the name of a folder"),
        ("file://x/y", "must have three slashes"),
    ],
)
def test_an_address_that_cannot_name_a_place_is_reported_with_its_line(tmp_path, address, message):
    with pytest.raises(InputError, match=message) as raised:
        load_experiment(written(tmp_path, address))
    line = EXPERIMENT.count("\n") + 1
    assert f"x.yaml:{line}: output" in str(raised.value) and "swordfish" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~no-such-user/x", "there is no such home folder"),
        ('"a\\0b"', "control character"),
        ('"a\\udcff"', "cannot be a name here"),
    ],
)
@pytest.mark.parametrize("key", ["output", "dataset.root"])
def test_a_path_that_nothing_can_have_is_reported_with_its_line(load, key, path, message):
    section = {"output": f"output: {path}\n", "dataset.root": f"dataset: {{root: {path}}}\n"}[key]
    with pytest.raises(InputError, match=message) as raised:
        load(f"schema: 2\nname: x\npreset: digits\n{section}")
    assert f"x.yaml:4: {key}: " in str(raised.value)


def test_a_relative_path_needs_a_working_folder(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert parse_location("/x") == Path("/x")
    with pytest.raises(ValueError, match="'x' is relative to a working folder that no longer exists"):
        parse_location("x")


def test_a_cache_without_a_home_folder_is_bad_input(monkeypatch):
    monkeypatch.setenv("FCDD_SWEEP_CACHE", "~no-such-user/x")
    with pytest.raises(InputError, match="Set FCDD_SWEEP_CACHE"):
        cache_root()


class Busy:
    """A store that fails some times before it answers."""

    def __init__(self, *failures):
        self.failures, self.asked = list(failures), 0

    def get_file_info(self, path):
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return pyarrow.fs.FileInfo(path, pyarrow.fs.FileType.File)


AWAY = "When reading key 'k': AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"
DENIED = "When reading key 'k': AWS Error ACCESS_DENIED during HeadObject operation: No response body."


def test_only_what_may_pass_is_tried_again(monkeypatch):
    monkeypatch.setattr(storage, "_FIRST_WAIT_S", 0.01)
    there = RemotePath("s3://b", "k")

    def ask(busy, patience_s=1.0):
        monkeypatch.setattr(storage, "_open", lambda path: (busy, "b/k"))
        monkeypatch.setattr(storage, "PATIENCE_S", patience_s)
        return storage.is_file(there)

    assert ask(
        Busy(OSError(AWAY), OSError("AWS Error SLOW_DOWN during HeadObject"), ConnectionResetError(104, "reset"))
    )
    for lasting in (OSError(DENIED), OSError("AWS Error NO_SUCH_BUCKET during PutObject"), OSError(28, "disk full")):
        busy = Busy(lasting)
        with pytest.raises(StorageError, match=r"s3://b/k: "):
            ask(busy)
        assert busy.asked == 1
    busy = Busy(*[OSError(AWAY)] * 50)
    with pytest.raises(StorageError, match=r"NETWORK_CONNECTION .*; tried for 0 s"):
        ask(busy, patience_s=0.2)
    assert 2 <= busy.asked < 20


@pytest.mark.parametrize(("words", "message"), [(DENIED, "used .*ACCESS_DENIED"), (AWAY, "reached .*NETWORK_CONN")])
def test_refused_credentials_and_a_silent_store_are_reported_with_what_to_do(monkeypatch, words, message):
    def refused(path):
        raise OSError(words)

    monkeypatch.setattr(storage, "_open", refused)
    with pytest.raises(InputError, match=f"the storage cannot be {message}.*docs/storage.md"):
        storage.check_reachable(RemotePath("s3://b", "k"))

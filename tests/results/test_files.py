"""Files of a run: written whole, read with all their columns, and refused when another version made them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import files, schemas, search_schemas, tree
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.sweep.baselines import baselines_of
from fcdd_sweep.sweep.sweep import run_sweep
from tests import fakes, works
from tests.old_runs import listing, write_old_index, write_old_run
from tests.specs import small_experiment

EXPERIMENT = small_experiment("training: {epochs: 1, passes_per_epoch: 1}\nseeds: 2\n")
SEARCH = EXPERIMENT + "search: {budget: {configs: 2}, space: {training.learning_rate: {log: [0.001, 0.1]}}}\n"
NEXT_STEP = "Choose another name or output to start a new run, or use the version of fcdd_sweep that made this one"


@pytest.fixture
def old_run(tmp_path):
    return write_old_run(tmp_path / "results" / "small")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "FILE", "--output", "OUTPUT", "--local"],
        ["run", "FILE", "--output", "OUTPUT", "--dry-run"],
        ["run", "SEARCH", "--output", "OUTPUT", "--local"],
        ["aggregate", "RUN"],
        ["status", "RUN"],
        ["baselines", "RUN", "--local"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_a_run_of_schema_1_and_writes_nothing(old_run, tmp_path, capsys, command):
    (tmp_path / "file.yaml").write_text(EXPERIMENT)
    (tmp_path / "search.yaml").write_text(SEARCH)
    names = {"FILE": "file.yaml", "SEARCH": "search.yaml", "OUTPUT": "results", "RUN": "results/small"}
    before = listing(tmp_path / "results")
    assert cli.main([str(tmp_path / names[word]) if word in names else word for word in command]) == 2
    reported = capsys.readouterr().err
    assert f"{old_run}: this run was made with schema 1 of the experiment file; this version reads 2." in reported
    assert NEXT_STEP in reported
    assert listing(tmp_path / "results") == before


@pytest.mark.parametrize("left", [tree.PLAN, tree.INDEX])
def test_tables_of_version_1_are_refused_where_the_experiment_file_is_lost(old_run, left):
    for name in {tree.EXPERIMENT, tree.PLAN, tree.INDEX} - {left}:
        (old_run / name).unlink()
    before = listing(old_run)
    read = rf"version 1 of the result tables \({left}\), and version {schemas.TABLES_VERSION} is read"
    for opened in (aggregate, status_text, baselines_of, files.check_run_version):
        with pytest.raises(InputError, match=read):
            opened(old_run)
    assert listing(old_run) == before


def test_a_sweep_refuses_an_index_of_version_1(tmp_path):
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    experiment = load_experiment(tmp_path / "x.yaml", [f"output={tmp_path / 'results'}"])
    write_old_index(RunPaths(experiment.run_dir).index)
    before = listing(tmp_path / "results")
    with pytest.raises(InputError, match=NEXT_STEP):
        run_sweep(experiment, local=True, work=works.empty)
    assert listing(tmp_path / "results") == before


def test_a_run_of_a_later_version_is_refused(tmp_path):
    RunPaths(tmp_path).experiment.write_text("schema: 3\nname: x\n")
    with pytest.raises(InputError, match="made with schema 3 of the experiment file; this version reads 2"):
        files.check_run_version(tmp_path)


def test_a_new_folder_a_run_of_this_version_and_damaged_files_pass(tmp_path):
    files.check_run_version(tmp_path / "nothing")
    run = fakes.FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    files.check_run_version(run)
    for name in (tree.EXPERIMENT, tree.PLAN, tree.INDEX):
        (run / name).write_bytes(b"PAR1 \xff nonsense PAR1")
    files.check_run_version(run)
    RunPaths(run).experiment.write_text("search:\n  schema: 1\n")  # a key of a section is not the file's own
    files.check_run_version(run)


@pytest.mark.parametrize(
    "name", ["experiment.yaml", "plan.parquet", "index.parquet", "failures.parquet", "environment.json", ".report.json"]
)
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_written(tmp_path, name, capsys):
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    run = tmp_path / "results" / "small"
    (run / name).mkdir(parents=True)
    assert cli.main([str(tmp_path / "x.yaml"), "--local", "--output", str(tmp_path / "results")]) == 2
    said = f"error: {run / name}: is a folder in the place of a file of the run. Move it away, and rerun the command.\n"
    assert capsys.readouterr().err == said and list(run.iterdir()) == [run / name]


@pytest.mark.parametrize("name", ["source", ".attempts"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="is a file in the place of a folder of the run"):
        files.check_run_version(tmp_path)


def test_every_written_table_carries_the_version_of_its_columns(tmp_path):
    path = files.write_rows(tmp_path / "t.parquet", [{"key": "a", "importance": 0.5}], search_schemas.IMPORTANCE)
    assert pq.read_schema(path).metadata[b"fcdd_sweep.tables"] == b"3"
    assert files.read_table(path).schema.equals(search_schemas.IMPORTANCE, check_metadata=True)


@pytest.mark.parametrize("row", [{"key": "a"}, {"key": "a", "importance": 0.5, "other": 1}])
def test_a_row_with_other_columns_than_its_schema_is_not_written(tmp_path, row):
    with pytest.raises(ValueError, match="columns differ from the schema: .*(importance|other)"):
        files.write_rows(tmp_path / "t.parquet", [row], search_schemas.IMPORTANCE)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_finished_leaves_the_earlier_one_and_nothing_beside_it(tmp_path):
    path = files.write_text(tmp_path / "folder" / "x.txt", "first")

    def fails(unfinished):
        assert unfinished.suffix == ".txt"
        unfinished.write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError):
        files.write_atomically(path, fails)
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_the_index_is_read_by_trial_id(tmp_path):
    assert files.read_index(tmp_path) == {}
    run = fakes.FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0).fail("", "brick", 1)
    assert files.read_index(run.write()) == run.index


def test_a_damaged_index_is_an_error_of_its_own(tmp_path):
    RunPaths(tmp_path).index.write_bytes(b"nonsense")
    with pytest.raises(files.DamagedTableError, match=r"index.parquet is damaged: it is not Parquet"):
        files.read_index(tmp_path)
    files.write_table(RunPaths(tmp_path).index, pa.table({"trial_id": ["a"]}))
    with pytest.raises(files.DamagedTableError, match=r"index.parquet lacks the columns config_id, config"):
        files.read_index(tmp_path)


def test_folders_that_look_like_partitions_add_no_columns(tmp_path):
    path = files.write_rows(tmp_path / "seed=1" / "t.parquet", [], search_schemas.IMPORTANCE)
    assert files.read_table(path).column_names == ["key", "importance"]
    assert files.read_rows(path, search_schemas.IMPORTANCE) == []


def test_arrays_come_back_by_name_and_objects_are_refused(tmp_path):
    stored = {"a": np.arange(6, dtype=np.int8).reshape(2, 3), "b": np.array(0.5)}
    path = files.write_arrays(tmp_path / "x.npz", stored)
    found = files.read_arrays(path)
    assert found.keys() == stored.keys() and all((found[name] == stored[name]).all() for name in stored)
    assert found["a"].dtype == np.int8
    assert files.read_arrays(path, ["b", "absent"]).keys() == {"b"}
    with pytest.raises(ValueError, match="allow_pickle"):
        files.write_arrays(tmp_path / "y.npz", {"a": np.array([{}], dtype=object)})


def header_cut_off(content):
    """An archive whose member is whole and no array."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (       ")
    return archive.getvalue()


def flipped(content):
    """The same with a flipped bit in the first of its compressed values."""
    return content[:60] + bytes([content[60] ^ 0xFF]) + content[61:]


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:-9], lambda content: b"text", header_cut_off, flipped]
)
def test_damaged_arrays_are_called_so_by_name_with_what_to_do(damage, tmp_path):
    path = files.write_arrays(tmp_path / "maps.npz", {"a": np.arange(500)})
    path.write_bytes(damage(path.read_bytes()))
    step = "Copy it again; or remove its folder and run the experiment again, which trains the trial anew"
    with pytest.raises(files.DamagedArraysError, match=rf"^maps.npz is damaged \(.+\). {step}$"):
        files.read_arrays(path)
    with pytest.raises(FileNotFoundError):
        files.read_arrays(tmp_path / "no.npz")


def test_a_table_with_a_damaged_page_is_called_so_by_name(tmp_path):
    rows = [
        dict.fromkeys(schemas.CURVES.names) | {"trial_id": "a" * 12, "x": i / 7, "kind": "image_roc"} for i in range(99)
    ]
    path = files.write_rows(tmp_path / "curves.parquet", rows, schemas.CURVES)
    content = bytearray(path.read_bytes())
    for place in range(4, 60):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(files.DamagedTableError, match=r"^curves.parquet is damaged: "):
        files.read_rows(path, schemas.CURVES)
    with pytest.raises(FileNotFoundError):
        files.read_rows(tmp_path / "no.parquet", schemas.CURVES)


def test_the_source_is_kept_once_for_each_state_of_the_code(tmp_path, monkeypatch):
    path = files.keep_source(tmp_path)
    assert path == RunPaths(tmp_path).source / f"{files.source_digest()}.zip"
    before = listing(tmp_path)
    assert files.keep_source(tmp_path) == path and listing(tmp_path) == before
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        assert "fcdd_sweep/results/files.py" in archive.namelist()
    monkeypatch.setattr(files, "source_digest", lambda: "0" * 12)
    files.keep_source(tmp_path)
    assert len(list(RunPaths(tmp_path).source.iterdir())) == 2

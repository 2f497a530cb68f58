"""A search whose run is in an object store: a real S3 server on this machine."""

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fcdd_sweep.results import files, lease, storage
from fcdd_sweep.results.tree import RunPaths
from tests.s3 import served
from tests.searches import go, load, suggested, table

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.slow]


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_S", 0.1)
    with served() as server:
        yield server.address("runs")


@pytest.mark.long
def test_an_interrupted_search_continues_from_the_store_as_an_undisturbed_one(tmp_path, store):
    (tmp_path / "undisturbed").mkdir()
    whole = load(tmp_path / "undisturbed")
    go(whole)
    loaded = load(tmp_path, f"output={store}")
    result, _ = go(loaded, stop_after=9)
    journal = RunPaths(loaded.run_dir).search.journal
    assert result.interrupted and storage.is_file(journal)
    result, heard = go(load(tmp_path, f"output={store}"))
    assert (result.planned, result.done) == (32, 32) and len(heard.started_ids) < 32
    assert suggested(loaded) == suggested(whole)
    assert [row["value"] for row in table(loaded)] == [row["value"] for row in table(whole)]
    storage.download_file(journal, tmp_path / "journal.log")
    copied = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    reported = optuna.load_study(study_name="small", storage=copied).get_trials(deepcopy=False)
    assert [trial.state.name for trial in reported] == ["COMPLETE"] * 6
    index = files.read_table(RunPaths(loaded.run_dir).index).to_pylist()
    assert len(index) == 32 and {row["status"] for row in index} == {"done"}

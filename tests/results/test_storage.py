"""Runs in an object store: a real S3 server on this machine, its outages, and its second driver."""

import re
import threading
import time

import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.decision_record import DecisionRecord
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.prediction.targets import load_snapshot
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import attempts, files, lease, storage, tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep.ledger import Ledger
from fcdd_sweep.sweep.sweep import run_sweep
from fcdd_sweep.sweep.trial import run_trial
from tests import fake_search, fakes, works
from tests.events import Recorder
from tests.results.test_lease_in_store import write_holder
from tests.sweep.test_sweep import EXPERIMENT, LEAF
from tests.trees import write_image

pytestmark = pytest.mark.slow

QUICK = "keep.pictures=none"


def experiment(folder, output, *overrides):
    (folder / "small.yaml").write_text(EXPERIMENT)
    return load_experiment(folder / "small.yaml", [f"output={output}", "seeds=1", *overrides])


def go(loaded, **options):
    heard = Recorder()
    return run_sweep(loaded, local=True, progress=heard, **options), heard


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_S", 0.1)


@pytest.fixture(scope="module")
def finished(server, tmp_path_factory, drawn):
    """Experiment and result of a whole sweep in the store; tests leave it whole."""
    loaded = experiment(tmp_path_factory.mktemp("finished"), server.address("finished"), "keep.pictures=leaf")
    before = len(server.requests)
    with drawn():
        result, heard = go(loaded)
    assert heard.results == [("normal_3/it_0", "done"), ("normal_8/it_0", "done")]
    return loaded, result, server.requests[before:]


def test_a_sweep_leaves_the_same_tree_in_a_store(finished, tmp_path):
    loaded, result, _ = finished
    run = loaded.run_dir
    assert (result.done, result.report) == (2, RunPaths(run).report)
    names = set(storage.files_below(run))
    assert {f"normal_8/it_0/{name}" for name in LEAF} | {"normal_8/roc.pdf", "normal_8/heatmaps.png"} == {
        name for name in names if name.startswith("normal_8/")
    }
    root = {tree.EXPERIMENT, tree.PLAN, tree.INDEX, tree.ENVIRONMENT, tree.TRIALS, tree.REPORT, "summary.csv"}
    assert root <= names
    assert not [name for name in names if name.startswith((tree.ATTEMPTS, lease.LEASE))]
    local = run_trial(plan(loaded).specs[0], tmp_path, works.SILENT)
    scores = TrialPaths(RunPaths(tmp_path).attempts / local.trial_id / "1" / "leaf").scores
    assert files.read_table(TrialPaths(run / "normal_3" / "it_0").scores) == files.read_table(scores)


def total_of(run_dir):
    """Planned, done, failed and missing, as `status` prints them."""
    (total,) = [line for line in status_text(str(run_dir)).splitlines() if line.startswith("all ")]
    return total.split()[1:]


def test_the_same_command_again_runs_only_what_has_gone(finished):
    loaded, _, _ = finished
    storage.remove_tree(loaded.run_dir / "normal_8" / "it_0")
    assert total_of(loaded.run_dir) == ["2", "1", "0", "1"]
    result, heard = go(loaded)
    assert heard.counts == (2, 1, 1) and result.done == 2
    assert any("normal_8/it_0 is missing or incomplete" in message for message in heard.messages)


def test_a_lost_index_is_made_again_from_the_store(finished):
    loaded, _, _ = finished
    storage.remove(RunPaths(loaded.run_dir).index)
    assert total_of(loaded.run_dir) == ["2", "2", "0", "0"]
    ledger = Ledger(loaded.run_dir)
    ledger.reconcile(plan(loaded).specs)
    assert [row["status"] for row in files.read_table(RunPaths(loaded.run_dir).index).to_pylist()] == ["done", "done"]


@pytest.mark.figures
def test_a_report_fetches_what_is_new_and_sends_what_it_made(finished, server, monkeypatch):
    loaded, _, _ = finished
    run = loaded.run_dir
    monkeypatch.setattr("fcdd_sweep.results.mirror._SETTLED_NS", -60_000_000_000)
    storage.remove(RunPaths(run).report)
    assert aggregate(run) == RunPaths(run).report and storage.is_file(RunPaths(run).report)
    metrics = TrialPaths(run / "normal_3" / "it_0").metrics
    row = files.read_table(metrics)
    files.write_table(metrics, row.set_column(row.column_names.index("epochs"), row.schema.field("epochs"), [[77]]))
    storage.write_bytes(run / "pixel_roc.pdf", b"of an earlier state of the run, with maps")
    before = len(server.requests)
    aggregate(run)
    fetched = [line.split()[1] for line in server.requests[before:] if line.startswith("GET") and "list" not in line]
    assert [name for name in fetched if "/it_0/" in name] == [f"/{run.root.removeprefix('s3://')}/{metrics.key}"]
    assert not storage.is_file(run / "pixel_roc.pdf")
    assert 77 in files.read_table(RunPaths(run).trials)["epochs"].to_pylist()


def test_the_commands_take_addresses(finished, tmp_path, capsys):
    loaded, _, _ = finished
    run, output = str(loaded.run_dir), str(tmp_path / "out")
    assert cli.main(["status", run]) == 0
    assert cli.main(["run", str(loaded.origin.where(())), "--output", str(loaded.output), "--dry-run"]) == 0
    assert f"output     {loaded.output / 'small'}" in capsys.readouterr().out
    write_image(tmp_path / "x.png")
    snapshot = str(TrialPaths(loaded.run_dir / "normal_3" / "it_0").snapshot)
    assert cli.main(["predict", snapshot, str(tmp_path / "x.png"), "--output", output, "--device", "cpu"]) == 0
    assert "1 image scored" in capsys.readouterr().out
    assert cli.main(["predict", f"{snapshot}".replace(".pt", ".no"), str(tmp_path / "x.png"), "--output", output]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_a_record_of_decisions_in_the_store_decides(finished):
    loaded, _, _ = finished
    leaf = TrialPaths(loaded.run_dir / "normal_8" / "it_0")
    assert load_snapshot(leaf.snapshot, "cpu").score_column == "score_mean"
    record = DecisionRecord(
        trial_id=next(spec.trial_id for spec in plan(loaded).specs if spec.normal_class == "8"),
        image_score="max",
        image_score_source="auto: why",
        false_alarm_rate=0.1,
        threshold=0.25,
        pixel_threshold=None,
        threshold_source="with 9 held-out images",
        n_calibration=9,
    )
    files.write_text(leaf.decision, record.model_dump_json())
    try:
        found = load_snapshot(leaf.snapshot, "cpu")
    finally:
        storage.remove(leaf.decision)
    assert (found.score_column, found.threshold, found.n_calibration) == ("score_max", 0.25, 9)


def test_a_trial_costs_about_two_requests_a_file(finished):
    _, _, requests = finished
    of_one = [line for line in requests if "normal_3/it_0/" in line and not line.startswith(("GET", "HEAD"))]
    assert len(of_one) == len(LEAF)  # each is copied by the driver, in one request
    sent = [line for line in requests if re.match(rf"PUT .*/{tree.ATTEMPTS}/\w+/1-\w+/leaf/", line)]
    arrays = [name for name in LEAF if name != tree.PICTURES and not name.endswith((".png", ".pdf"))]
    assert len(sent) == 2 * len(arrays)  # and was sent by its worker, but for the pictures, which the driver draws


@pytest.fixture
def attempt(store, tmp_path):
    """An experiment, one of its trials, and a finished attempt at it that was sent and not published."""
    loaded = experiment(tmp_path, store)
    spec = plan(loaded).specs[0]
    _, folder = attempts.claim_attempt(loaded.run_dir, spec.trial_id)
    local = tmp_path / "work"
    key = {"trial_id": spec.trial_id, "config_id": spec.config_id, "config": "", "normal_class": "3", "seed": 0}
    fakes.write_leaf(local / "leaf", key)
    return loaded, spec, folder, local


@pytest.mark.parametrize("copied", [[], [tree.SCORES, "of_an_older_attempt"]])
def test_what_a_dead_driver_did_not_publish_or_only_in_part_is_published_by_the_next(attempt, copied):
    loaded, spec, folder, local = attempt
    attempts.upload_leaf(local, folder)
    for name in copied:
        storage.write_bytes(loaded.run_dir / spec.leaf / name, b"half")
    ledger = Ledger(loaded.run_dir)
    ledger.reconcile([spec])
    names = {path.name for path in (local / "leaf").iterdir()}
    assert ledger.done(spec.trial_id) and set(storage.children(loaded.run_dir / spec.leaf)) == names
    assert (
        storage.read_bytes(TrialPaths(loaded.run_dir / spec.leaf).scores)
        == TrialPaths(local / "leaf").scores.read_bytes()
    )
    assert storage.children(RunPaths(loaded.run_dir).attempts) == []


def test_an_attempt_that_was_not_sent_whole_is_not_published(attempt):
    loaded, spec, folder, local = attempt
    TrialPaths(local / "leaf").metrics.unlink()
    attempts.upload_leaf(local, folder)
    ledger = Ledger(loaded.run_dir)
    ledger.reconcile([spec])
    assert not ledger.done(spec.trial_id) and len(attempts.list_attempts(loaded.run_dir, spec.trial_id)) == 1


def test_the_attempts_of_a_published_trial_go_at_the_next_start(attempt):
    loaded, spec, folder, local = attempt
    storage.send_tree(local / "leaf", loaded.run_dir / spec.leaf)
    attempts.upload_leaf(local, folder)
    Ledger(loaded.run_dir).reconcile([spec])
    assert storage.children(RunPaths(loaded.run_dir).attempts) == []


def test_claimants_of_one_number_have_a_folder_each(store, monkeypatch):
    monkeypatch.setattr(attempts, "list_attempts", lambda *trial: [])  # both looked before either wrote
    (first, one), (second, other) = [attempts.claim_attempt(store, "a" * 12) for _ in range(2)]
    assert first == second == 1 and one != other
    monkeypatch.undo()
    assert attempts.claim_attempt(store, "a" * 12)[0] == 2


def test_a_leaf_arrives_though_the_store_is_gone_for_seconds_in_the_middle(attempt, server, monkeypatch):
    _, _, folder, local = attempt
    send, sent = storage.send, []

    def interrupted(*arguments):
        sent.append(arguments)
        if len(sent) == 3:
            outage.start()
            time.sleep(0.2)
        send(*arguments)

    def pause():
        with server.paused():
            time.sleep(4)

    outage = threading.Thread(target=pause)
    monkeypatch.setattr(storage, "send", interrupted)
    attempts.upload_leaf(local, folder)
    outage.join()
    assert storage.children(folder / "leaf") == sorted(path.name for path in (local / "leaf").iterdir())


def test_what_could_not_be_sent_is_sent_by_the_next_attempt_without_training_again(store, tmp_path, monkeypatch):
    loaded = experiment(tmp_path, store, QUICK)
    spec = plan(loaded).specs[0]
    send = storage.send

    def lost(local, there, patience_s=None):
        if "leaf" in str(there):
            raise StorageError("the store is gone")
        send(local, there, patience_s)

    monkeypatch.setattr(storage, "send", lost)
    result = run_trial(spec, loaded.run_dir, works.SILENT)
    assert (result.status, result.error) == ("failed", "fcdd_sweep.config.locations.StorageError: the store is gone")
    assert not storage.is_file(TrialPaths(attempts.list_attempts(loaded.run_dir, spec.trial_id)[0][1] / "leaf").metrics)
    monkeypatch.undo()
    monkeypatch.setattr("fcdd_sweep.sweep.trial.train", None)  # calling it would fail
    again = run_trial(spec, loaded.run_dir, works.SILENT)
    assert (again.status, again.attempt) == ("done", 2)
    Ledger(loaded.run_dir).publish(spec, again)
    assert storage.is_file(TrialPaths(loaded.run_dir / spec.leaf).metrics)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://no-such-bucket/x?endpoint_override=127.0.0.1:PORT", "there is no bucket s3://no-such-bucket"),
        ("s3://bucket/x?endpoint_override=127.0.0.1:PORT&nonsense=1", "the address is not understood .*nonsense"),
    ],
)
def test_a_store_that_cannot_be_used_is_reported_before_anything_starts(
    server, tmp_path, address, message, monkeypatch
):
    uri = f"{address.replace('PORT', str(server.port))}&scheme=http&region=us-east-1"
    monkeypatch.setattr("fcdd_sweep.sweep.session.prepare_data", None)  # not even data is read
    with pytest.raises(InputError, match=message):
        go(experiment(tmp_path, uri))


def test_a_driver_whose_run_was_taken_over_leaves_index_and_leaves_to_the_other(store, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    loaded = experiment(tmp_path, store, QUICK)
    run = loaded.run_dir

    def taken_over(spec, run_dir, observer):
        result = run_trial(spec, run_dir, observer)
        storage.write_bytes(RunPaths(run).index, b"the other's")
        deadline = time.monotonic() + 60
        while not observer.stop_asked():
            assert time.monotonic() < deadline
            write_holder(run, host="elsewhere")  # again and again, as one that lives does
            time.sleep(0.05)
        return result

    with pytest.raises(InputError, match="host elsewhere.*lost contact with the storage and has stopped"):
        go(loaded, work=taken_over)
    assert storage.read_bytes(RunPaths(run).index) == b"the other's"
    assert not [name for name in storage.files_below(run) if name.startswith("normal_3")]
    assert storage.is_file(run / lease.LEASE)


@pytest.fixture(params=["folder", "store"])
def anywhere(request, tmp_path):
    return tmp_path / "run" if request.param == "folder" else request.getfixturevalue("store")


def test_files_are_read_written_listed_and_removed_alike_everywhere(anywhere, tmp_path):
    assert storage.children(anywhere) == [] and storage.files_below(anywhere) == {}
    storage.write_bytes(anywhere / "a" / "b", b"1")
    files.write_text(anywhere / "a/c", "text")
    storage.remove(anywhere / "nothing")
    assert (storage.children(anywhere), storage.children(anywhere / "a")) == (["a"], ["b", "c"])
    assert {name: stamp.size for name, stamp in storage.files_below(anywhere).items()} == {"a/b": 1, "a/c": 4}
    assert storage.is_file(anywhere / "a" / "b") and not storage.is_file(anywhere / "a")
    storage.download_file(anywhere / "a" / "c", tmp_path / "new" / "c")
    assert (tmp_path / "new" / "c").read_text() == "text"
    with storage.local_copy(anywhere / "a" / "b") as local:
        assert local.read_bytes() == storage.read_bytes(anywhere / "a" / "b") == b"1"
    storage.remove(anywhere / "a" / "b")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(anywhere / "a" / "b")
    storage.send_tree(tmp_path / "new", anywhere / "sent", last="c")
    storage.remove_tree(anywhere / "a")
    storage.remove_tree(anywhere / "nothing")
    assert sorted(storage.files_below(anywhere)) == ["sent/c"]


def test_the_last_file_is_sent_when_all_others_are_there(store, tmp_path, monkeypatch):
    for i in range(20):
        (tmp_path / f"{i}").write_text("x")
    send, arrived = storage.send, []

    def noted(local, there, patience_s=None):
        send(local, there, patience_s)
        arrived.append(there.name)

    monkeypatch.setattr(storage, "send", noted)
    storage.send_tree(tmp_path, store, last="0")
    assert arrived[-1] == "0" and len(arrived) == 20


@pytest.mark.long
def test_the_report_of_a_search_is_made_in_the_store(store, tmp_path):
    local = tmp_path / "hunt"
    fake_search.searched_run(local, fake_search.FakeSearch(1))
    (RunPaths(local).search.journal).write_text("the study")
    run = store / "hunt"
    storage.send_tree(local, run)
    storage.write_bytes(RunPaths(run).search.root / "confirmation.pdf", b"of an earlier state of the run")
    aggregate(run)
    there = storage.files_below(RunPaths(run).search.root)
    assert {"course.pdf", "course.png", tree.LEVELS, tree.CELLS, tree.JOURNAL} <= there.keys()
    assert "confirmation.pdf" not in there

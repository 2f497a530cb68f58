"""What sweeps and searches share: the publisher's order and rules, and the options of a run."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fcdd_sweep.results import files
from fcdd_sweep.results.lease import Held
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import (
    AttemptRetried,
    EpochDone,
    Message,
    SweepStarted,
    TrialEnded,
    TrialStarted,
    ValidationMeasured,
)
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.process_runner import ProcessRunner
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.early_start import EarlyStart
from fcdd_sweep.sweep.ledger import FailureLog, Ledger
from fcdd_sweep.sweep.publisher import Publisher
from fcdd_sweep.sweep.session import RunKeywords, RunOptions, Session
from tests.specs import small_experiment, spec

SPEC = spec()
FAILED = TrialResult.failure(SPEC.trial_id, "diverged", "the loss is not finite", attempt=1)


class Ordered:
    """A sink that notes in a shared list what the ledger has when an event comes."""

    def __init__(self, name, order, ledger):
        self.name, self.order, self.ledger = name, order, ledger

    def handle(self, event):
        self.order.append((self.name, type(event), self.ledger.failed(SPEC.trial_id)))


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


@pytest.fixture
def order():
    return []


@pytest.fixture
def publisher(ledger, order):
    display, evaluator = (Ordered(name, order, ledger) for name in ("display", "evaluator"))
    return Publisher(ledger, display, FailureLog(ledger.run_dir), Held(), evaluator)


def test_results_are_entered_before_the_display_and_the_search_get_them(publisher, order):
    publisher.handle(TrialEnded(SPEC, FAILED))
    assert order == [("display", TrialEnded, True), ("evaluator", TrialEnded, True)]


@pytest.mark.parametrize(
    "event",
    [
        TrialStarted(SPEC),
        EpochDone(SPEC, 1, 2, 0.5),
        ValidationMeasured(SPEC, {1: 0.5}),
        Message("text"),
        SweepStarted(1, 0, 1),
    ],
)
def test_other_events_pass_through_in_the_same_order(publisher, order, event):
    publisher.handle(event)
    assert order == [("display", type(event), False), ("evaluator", type(event), False)]


def test_a_retried_attempt_is_recorded_and_counted_if_its_kind_counts(publisher, ledger):
    for kind in ("worker_lost", "preempted"):
        publisher.handle(AttemptRetried(SPEC, TrialResult.failure(SPEC.trial_id, kind, "lost"), "retrying"))
    assert ledger.failures[SPEC.trial_id] == 1
    assert FailureLog(ledger.run_dir).counts() == {SPEC.trial_id: 1}


def test_a_trial_that_ends_after_it_was_published_is_news_for_the_search_alone(publisher, ledger, order):
    ledger.rows[SPEC.trial_id] = {"status": "done"}
    publisher.handle(TrialEnded(SPEC, FAILED))
    assert order == [("evaluator", TrialEnded, False)] and ledger.done(SPEC.trial_id)


def test_nothing_is_entered_or_shown_once_another_driver_has_the_run(publisher, ledger, order):
    publisher.held.taken_by = {"host": "elsewhere"}
    publisher.handle(AttemptRetried(SPEC, FAILED, "retrying"))
    publisher.handle(TrialEnded(SPEC, FAILED))
    publisher.save()
    assert ledger.rows == {} and list(ledger.run_dir.iterdir()) == []
    assert [(name, kind) for name, kind, _ in order] == [
        ("display", AttemptRetried),
        ("evaluator", AttemptRetried),
        ("evaluator", TrialEnded),
    ]


def test_the_keywords_of_the_public_functions_are_the_options():
    assert RunKeywords.__annotations__.keys() == RunOptions.__dataclass_fields__.keys()


OTHER_TABLE = pa.table({"a": [1]})


def written(table):
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256)) * 9, written(OTHER_TABLE)])
def test_a_damaged_log_of_failures_is_named_and_started_anew(tmp_path, content):
    path = RunPaths(tmp_path).failures
    path.write_bytes(content)
    log = FailureLog(tmp_path)
    assert log.problem.startswith("failures.parquet ") and not log.counts()
    log.add(SPEC, FAILED, "not retried in this start")
    again = FailureLog(tmp_path)
    assert (again.problem, again.counts()[SPEC.trial_id]) == ("", 1)


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256)) * 9, written(OTHER_TABLE)])
def test_a_leaf_with_a_damaged_metrics_file_is_not_taken_for_finished(ledger, content):
    leaf = TrialPaths(ledger.run_dir / SPEC.leaf)
    files.write_atomically(leaf.metrics, lambda path: path.write_bytes(content))
    ledger.reconcile([SPEC])
    assert not ledger.done(SPEC.trial_id)


@pytest.mark.parametrize(("local", "kind"), [(1, LocalRunner), (2, ProcessRunner)])
def test_one_process_of_this_machine_and_several_train_packs(local, kind, load):
    experiment = load(small_experiment("seeds: 3"), "resources.pack=3")
    ledger = Ledger(experiment.run_dir, {})
    runner = Session(experiment, RunOptions(local=local), ledger, *[None] * 4, [], None, EarlyStart())._runner()
    assert isinstance(runner, kind) and runner.pack == 3 and getattr(runner, "processes", 1) == local

"""The study of a search: suggestions that depend on seed and number alone, ends that are entered once, and versions."""

from __future__ import annotations

import optuna
import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.search_schema import SearchAxis
from fcdd_sweep.config.search_space import space_of
from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.search.sampling import distribution_of
from fcdd_sweep.search.study import Study, opened_storage
from tests import old_runs, searches

GRID = searches.EXPERIMENT.replace("{log: [0.0001, 0.1]}", "{choices: [0.01, 0.03]}")
IDENTITY = {"classes": ["3", "8"], "seeds": [0, 1]}


@pytest.fixture
def study(tmp_path):
    """Opens a study of the small search, in memory."""

    def opened(*overrides, storage=None, text=searches.EXPERIMENT, identity=IDENTITY):
        experiment = searches.load(tmp_path, *overrides, text=text)
        storage = storage or optuna.storages.InMemoryStorage()
        return Study(experiment.search, space_of(experiment), "small", storage, identity)

    return opened


def described(number, values):
    return {"config": f"config-{number}"}


def finish(study, scores):
    for score in scores:
        study.tell(study.ask(described).number, ConfigState.DONE, [score])


def test_the_first_config_is_that_of_the_file_and_each_is_described(study):
    opened = study()
    entry = opened.ask(described)
    assert entry.values == {"training.learning_rate": 0.01, "anomalies.limit": 32}
    assert (entry.number, entry.state, entry.scores, entry.facts) == (0, "running", (), {"config": "config-0"})
    assert entry.started.utcoffset().total_seconds() == 0 and entry.finished is None


def test_suggestions_depend_on_the_history_and_not_on_how_often_a_study_was_opened(study):
    storage = optuna.storages.InMemoryStorage()
    finish(study(storage=storage), [0.5, 0.6, 0.4])
    whole = study()
    finish(whole, [0.5, 0.6, 0.4])
    again = study(storage=storage).ask(described)
    assert again.number == 3 and again.values == whole.ask(described).values


def test_a_grid_starts_with_the_config_of_the_file_and_ends(study):
    opened = study("search.algorithm=grid", text=GRID)
    found = []
    while (entry := opened.ask(described)) is not None:
        found.append((entry.values["training.learning_rate"], entry.values["anomalies.limit"]))
    assert found[0] == (0.01, 32) and len(found) == len(set(found)) == 8


def test_the_end_of_a_config_is_entered_once(study):
    opened = study()
    opened.ask(described)
    opened.tell(0, ConfigState.DONE, [0.7], {"n_done": 4})
    opened.tell(0, ConfigState.FAILED, (), {"n_done": 0})
    (entry,) = opened.entries()
    assert (entry.state, entry.scores) == (ConfigState.DONE, (0.7,))
    assert entry.facts == {"config": "config-0", "n_done": 4}
    for state in (ConfigState.PRUNED, ConfigState.FAILED):
        opened.tell(opened.ask(described).number, state)
    assert [entry.state for entry in opened.entries()] == ["done", "pruned", "failed"]
    assert [entry.scores for entry in opened.entries()][1:] == [(), ()]


def test_the_best_of_one_metric_is_the_first_of_equals(study):
    opened = study()
    assert opened.pareto() == []
    finish(opened, [0.5, 0.9, 0.9])
    assert opened.pareto() == [1]
    least = study("search.metric=final_loss")
    finish(least, [0.5, 0.9, 0.3])
    assert least.pareto() == [2]


def test_importance_needs_four_configs_with_different_scores(study):
    opened = study()
    finish(opened, [0.5, 0.6, 0.7])
    assert opened.importance() == {"training.learning_rate": None, "anomalies.limit": None}
    finish(opened, [0.8])
    assert sum(opened.importance().values()) == pytest.approx(1)
    constant = study()
    finish(constant, [0.5] * 5)
    assert set(constant.importance().values()) == {None}


def test_hours_are_kept_with_the_study(study):
    storage = optuna.storages.InMemoryStorage()
    study(storage=storage).keep_hours(1.5)
    assert study(storage=storage).hours == 1.5


def state_of(storage):
    """Everything that a storage holds of the study `small`."""
    kept = optuna.load_study(study_name="small", storage=storage)
    return kept.user_attrs, kept.metric_names, kept.get_trials()


def test_a_study_of_another_search_is_refused_and_stays_as_it_is(study):
    storage = optuna.storages.InMemoryStorage()
    finish(study(storage=storage), [0.5])
    before = state_of(storage)
    with pytest.raises(InputError, match=r"another search: seeds of the search \[0, 1\] \(here \[7\]\)\."):
        study(storage=storage, identity=IDENTITY | {"seeds": [7]})
    assert state_of(storage) == before


def test_a_study_of_version_1_is_refused_and_stays_as_it_is(study, tmp_path):
    journal = RunPaths(tmp_path / "run").search.journal
    old_runs.write_old_study(journal)
    before = journal.read_bytes()
    with (
        opened_storage(None, tmp_path / "run") as (storage, _),
        pytest.raises(InputError, match=r"study was made with version 1 .*Choose another name or output"),
    ):
        study(storage=storage)
    assert journal.read_bytes() == before


def test_a_study_whose_driver_died_before_it_was_described_is_used(study):
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="small", storage=storage, direction="maximize")
    finish(study(storage=storage), [0.5])
    assert len(study(storage=storage).entries()) == 1


def test_a_torn_last_line_of_a_journal_is_removed(study, tmp_path):
    with opened_storage(None, tmp_path) as (storage, _):
        finish(study(storage=storage), [0.5])
    journal = RunPaths(tmp_path).search.journal
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "wor')
    with opened_storage(None, tmp_path) as (storage, _):
        assert journal.read_bytes() == whole
        assert len(study(storage=storage).entries()) == 1


def test_a_database_that_cannot_be_used_is_named(tmp_path):
    with (
        pytest.raises(InputError, match=r"search.storage: the database cannot be used \(.*sqlite:///study.db"),
        opened_storage("nodb://x", tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("axis", "last"), [({"int": [1, 10**15], "step": 3}, 10**15), ({"float": [0.0, 1.0], "step": 1e-12}, 1.0)]
)
def test_a_range_of_many_values_gives_its_ends_to_optuna(axis, last):
    found = distribution_of(SearchAxis.model_validate(axis))
    assert found.high == pytest.approx(last)


GARBAGE = {
    "zeros": b"\0" * 100,
    "binary": bytes(range(256)) * 4,
    "text": b"not a journal\n",
    "another text without an end": b"not a journal",
    "a list": b"[1]\n",
    "another object": b'{"a": 1}\n',
    "an unknown operation": b'{"op_code": 99, "worker_id": "x"}\n',
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_journal_of_garbage_is_one_problem_and_stays_as_it_is(tmp_path, garbage):
    journal = RunPaths(tmp_path).search.journal
    journal.parent.mkdir(parents=True)
    journal.write_bytes(garbage)
    with pytest.raises(InputError) as caught, opened_storage(None, tmp_path):
        pass
    (problem,) = caught.value.problems
    assert problem.where == str(journal) and "the study's journal is damaged" in problem.what
    assert journal.read_bytes() == garbage


def test_a_damaged_line_within_a_journal_is_named(study, tmp_path):
    with opened_storage(None, tmp_path) as (storage, _):
        finish(study(storage=storage), [0.5])
    journal = RunPaths(tmp_path).search.journal
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2][:20] + b"\n", *lines[3:]]))
    with pytest.raises(InputError, match="line 3 is not an entry"), opened_storage(None, tmp_path):
        pass


def test_a_database_of_garbage_is_one_problem(tmp_path):
    (tmp_path / "study.db").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(InputError, match=r"search.storage: the database cannot be used"):
        with opened_storage(f"sqlite:///{tmp_path}/study.db", tmp_path):
            pass

"""The study of a search: suggest configs with Optuna, and keep their states and scores.

Each suggestion comes from a new sampler, seeded by the seed of the search and the number of the config, over a copy of
the history in memory; the suggested config is then added to the study as a whole. The suggestions therefore do not
depend on how often the driver was restarted: a storage does not keep the state of a sampler, and a sampler that is
created again with the same seed repeats its first suggestions.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.search_schema import SearchSettings
from fcdd_sweep.config.search_space import Space, Values
from fcdd_sweep.results import storage
from fcdd_sweep.results.documents import ConfigState
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths, SearchPaths
from fcdd_sweep.search.changed_search import changed_text
from fcdd_sweep.search.sampling import distribution_of, sampler_of, stored_choice, suggested_value

optuna.logging.set_verbosity(optuna.logging.WARNING)


STUDY_VERSION = 2
"""Version of the attributes below, raised when one changes; studies of version 1 state none."""
_STATES = {
    TrialState.RUNNING: ConfigState.RUNNING,
    TrialState.WAITING: ConfigState.RUNNING,
    TrialState.COMPLETE: ConfigState.DONE,
    TrialState.FAIL: ConfigState.FAILED,
    TrialState.PRUNED: ConfigState.PRUNED,
}
_VERSION, _IDENTITY, _HOURS = "fcdd_sweep.study", "identity", "hours"
"""Attributes of the study: `STUDY_VERSION`, what its search must agree in, hours of searching."""
_VALUES, _FACTS = "values", "facts"
"""Attributes of its trials: the suggested values by key, and what `Study.tell` was given."""
_LEAST_FOR_IMPORTANCE = 4
"""Configs with a score that an estimate of importance needs."""
Describe = Callable[[int, Values], dict[str, Any]]
"""Returns the facts of a config, from its number and values."""


@dataclass(frozen=True)
class Entry:
    """A suggested config.

    Attributes:
        number: in the order of suggestions; 0 is the config of the experiment file.
        values: the suggested values by key.
        state: running, done, failed or pruned.
        scores: one per metric; empty unless done.
        facts: what `Describe` returned and `Study.tell` was given.
        started, finished: when it was suggested, and when its end was entered.
    """

    number: int
    values: Values
    state: ConfigState
    scores: tuple[float, ...]
    facts: dict[str, Any]
    started: dt.datetime | None
    finished: dt.datetime | None


class Study:
    """The study of a search in a storage; created when the storage does not have it."""

    def __init__(
        self,
        search: SearchSettings,
        space: Space,
        name: str,
        storage: optuna.storages.BaseStorage,
        identity: Mapping[str, Any],
    ) -> None:
        """Open the study, or create it.

        Args:
            search: the search.
            space: its space.
            name: of the study in the storage.
            storage: holds the study.
            identity: what must stay the same while the study grows, as plain JSON values by name.
        Raises:
            InputError: the storage has a study of this name that another search or another version of fcdd_sweep made;
                nothing is written.
        """
        self._search, self._space = search, space
        self._distributions = {key: distribution_of(axis) for key, axis in space.axes.items()}
        identity = json.loads(json.dumps(identity))
        _check_existing(name, storage, identity)
        self._study = optuna.create_study(
            study_name=name, storage=storage, directions=list(search.directions), load_if_exists=True
        )
        if _IDENTITY not in self._study.user_attrs:
            self._study.set_user_attr(_VERSION, STUDY_VERSION)
            self._study.set_user_attr(_IDENTITY, identity)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names(search.metrics)

    @property
    def hours(self) -> float:
        """Hours of searching over all starts."""
        return float(self._study.user_attrs.get(_HOURS, 0.0))

    def keep_hours(self, hours: float) -> None:
        self._study.set_user_attr(_HOURS, hours)

    def entries(self) -> list[Entry]:
        """Return all suggested configs, in their order."""
        return [self._entry(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _entry(self, trial: FrozenTrial) -> Entry:
        facts = dict(trial.user_attrs)
        values, end = facts.pop(_VALUES), facts.pop(_FACTS, {})
        scores = tuple(trial.values) if trial.state == TrialState.COMPLETE else ()
        times = (trial.datetime_start, trial.datetime_complete)
        return Entry(trial.number, values, _STATES[trial.state], scores, {**facts, **end}, *map(_in_utc, times))

    def ask(self, describe: Describe) -> Entry | None:
        """Suggest a config and add it as running; return None when the grid is exhausted."""
        history = self._study.get_trials(deepcopy=False)
        number = len(history)
        trial = self._fixed(number) if number == 0 or self._search.algorithm == "grid" else self._sampled(history)
        if trial is None:
            return None
        trial.user_attrs = {**trial.user_attrs, **describe(number, trial.user_attrs[_VALUES])}
        self._study.add_trial(trial)
        return self._entry(self._study.get_trials(deepcopy=False)[number])

    def _fixed(self, number: int) -> FrozenTrial | None:
        """Return the config of the experiment file for number 0, else the next of the grid."""
        default = self._space.default()
        others = [values for values in self._space.grid() if values != default] if number else []
        if number > len(others):
            return None
        values = others[number - 1] if number else default
        inside = {key: value for key, value in values.items() if self._space.axes[key].contains(value)}
        return create_trial(
            state=TrialState.RUNNING,
            params={key: stored_choice(value) for key, value in inside.items()},
            distributions={key: self._distributions[key] for key in inside},
            user_attrs={_VALUES: values},
        )

    def _sampled(self, history: Sequence[FrozenTrial]) -> FrozenTrial:
        number, search = len(history), self._search
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = sampler_of(search.algorithm, seed)
            memory = optuna.create_study(directions=list(search.directions), sampler=sampler)
            memory.add_trials(history)
            trial = memory.ask()
            values: Values = {}
            for key, axis in self._space.axes.items():
                if self._space.active(key, values):
                    values[key] = suggested_value(trial, key, axis)
        trial.set_user_attr(_VALUES, values)
        return memory.get_trials(deepcopy=False)[number]

    def report(self, number: int, epoch: int, value: float) -> None:
        """Enter the mean metric of a config at an epoch."""
        storage, trial = self._study._storage, self._study.get_trials(deepcopy=False)[number]
        storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def tell(
        self, number: int, state: ConfigState, scores: Sequence[float] = (), facts: Mapping[str, Any] | None = None
    ) -> None:
        """Enter the end of a config; a config that is finished stays as it is.

        Args:
            number: of the config.
            state: done, failed or pruned.
            scores: one per metric, for a config that is done.
            facts: kept with the config.
        """
        trial = self._study.get_trials(deepcopy=False)[number]
        if trial.state.is_finished():
            return
        if facts:
            self._study._storage.set_trial_user_attr(trial._trial_id, _FACTS, dict(facts))
        if state == ConfigState.DONE:
            self._study.tell(number, list(scores))
        else:
            self._study.tell(number, state=TrialState.PRUNED if state == ConfigState.PRUNED else TrialState.FAIL)

    def pareto(self) -> list[int]:
        """Return the numbers of the Pareto set; of one metric the best config, the first one of equals."""
        if not any(entry.state == ConfigState.DONE for entry in self.entries()):
            return []
        best = sorted(trial.number for trial in self._study.best_trials)
        return best if len(self._search.metrics) > 1 else best[:1]

    def importance(self) -> dict[str, float | None]:
        """Return by key its share of the variance of the first metric; None where too few configs have a score.

        Source: Hutter et al., An Efficient Approach for Assessing Hyperparameter Importance (fANOVA), ICML 2014, in
        Optuna's implementation. Keys that depend on another key are left out.
        """
        unknown: dict[str, float | None] = dict.fromkeys(self._space.axes)
        always = [key for key, axis in self._space.axes.items() if not axis.when]
        memory = optuna.create_study(direction=self._search.directions[0])
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if all(key in trial.params for key in always):
                own = {key: trial.distributions[key] for key in always}
                params = {key: trial.params[key] for key in always}
                memory.add_trial(create_trial(params=params, distributions=own, value=trial.values[0]))
        scores = [trial.value for trial in memory.get_trials(deepcopy=False)]
        if len(scores) < _LEAST_FOR_IMPORTANCE or len(set(scores)) == 1:
            return unknown
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return {**unknown, **optuna.importance.get_param_importances(memory, evaluator=evaluator)}


def _check_existing(name: str, storage: optuna.storages.BaseStorage, identity: Mapping[str, Any]) -> None:
    """Check that a study of this name, if the storage has one, is of this version and of this search; write nothing."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return
    version = study.user_attrs.get(_VERSION)
    if version is None and not study.user_attrs and not study.get_trials(deepcopy=False):
        return  # a driver died before it had written the attributes
    if version != STUDY_VERSION:
        what = f"its study was made with version {version or 1} of the search, and version {STUDY_VERSION} is read"
        step = "Choose another name or output to start a new run, or use the version of fcdd_sweep that made the study"
        raise InputError(Problem(name, what, next_step=step))
    known: dict[str, Any] = study.user_attrs.get(_IDENTITY, identity)
    if changed := changed_text(known, identity):
        raise InputError(
            Problem(
                name,
                f"its study was made for another search: {changed}",
                "changes of budget, parallel, prune, confirm_seeds and seed",
                "Choose another name (--set name=NAME), or undo the change",
            )
        )


def check_study(url: str | None, run_dir: Location, name: str, identity: Mapping[str, Any]) -> None:
    """Check that a study of this name, if there is one, is of this version and of this search.

    Reads a copy of the run's journal, since another driver may be writing to it.

    Args:
        url, run_dir: see `opened_storage`.
        name, identity: see `Study`.
    Raises:
        InputError: the study is of another version or search, or the database cannot be used.
    """
    identity = json.loads(json.dumps(identity))
    if url is not None:
        _check_existing(name, _database(url), identity)
        return
    journal = RunPaths(run_dir).search.journal
    if not storage.is_file(journal):
        return
    with tempfile.TemporaryDirectory(prefix="fcdd-study-") as folder:
        copy = SearchPaths(Path(folder)).journal
        storage.download_file(journal, copy)
        _check_existing(name, _journal(copy), identity)


def _in_utc(moment: dt.datetime | None) -> dt.datetime | None:
    """Return one of Optuna's times, which are naive and in the local zone, in UTC."""
    return None if moment is None else moment.astimezone(dt.UTC)


@contextmanager
def opened_storage(
    url: str | None, run_dir: Location
) -> Iterator[tuple[optuna.storages.BaseStorage, Callable[[], None]]]:
    """Yield the storage of a study, and a function that uploads it after changes.

    The journal of a run in an object store is a local file while the search runs; for others the function does nothing.

    Args:
        url: of a database; None for the journal in the run.
        run_dir: the run.
    Raises:
        InputError: the database cannot be used, or the journal is damaged.
    """
    if url is not None:
        yield _database(url), lambda: None
        return
    journal = RunPaths(run_dir).search.journal
    if isinstance(journal, Path):
        journal.parent.mkdir(parents=True, exist_ok=True)
        yield _journal(journal), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="fcdd-study-") as folder:
        local = SearchPaths(Path(folder)).journal
        if storage.is_file(journal):
            storage.download_file(journal, local)
        yield _journal(local), lambda: storage.send(local, journal)


def _database(url: str) -> optuna.storages.BaseStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        what = f"the database cannot be used ({short_error(error, 200)})"
        raise InputError(Problem("search.storage", what, "a URL such as sqlite:///study.db, or null")) from error


def _journal(path: Path) -> optuna.storages.BaseStorage:
    """Return the journal after removing an incomplete last line, which a killed driver leaves.

    Raises:
        InputError: the file is no journal of Optuna, or damaged; it is left as it is.
    """
    if path.is_file():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            if not _is_entry(line):
                raise _damaged(path, f"line {number} is not an entry of Optuna's journal")
        if not _FIRST_ENTRY.startswith(content[: len(_FIRST_ENTRY)]):
            raise _damaged(path, "it is not a journal of Optuna")
        if whole != content:
            path.write_bytes(whole)
    try:
        journal = JournalStorage(JournalFileBackend(str(path)))
        journal.get_all_studies()
    except Exception as error:  # Optuna replays the entries, whose order or content may fit nothing
        raise _damaged(path, short_error(error, 200)) from error
    return journal


_FIRST_ENTRY = b'{"op_code"'
"""How each entry of a journal begins."""


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op_code"), int)


def _damaged(path: Path, why: str) -> InputError:
    step = "Restore the file, or move it away: the search then begins anew, and finished trials are kept"
    return InputError(Problem(str(path), f"the study's journal is damaged ({why})", next_step=step))

"""The study of a search as Optuna keeps it: which configs were suggested, and what became of them.

A suggestion is made over the history in memory, by a sampler of its own, seeded by the search's seed and the config's
number; then it is entered whole. So nothing depends on how often the driver was started again: the storage holds no
sampler, and a rebuilt one with the same seed would repeat its first suggestions.
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
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.search_schema import Algorithm, SearchAxis, SearchSettings
from fcdd_sweep.config.search_space import Space, Values
from fcdd_sweep.config.text import value_text
from fcdd_sweep.results import storage, tree
from fcdd_sweep.results.states import ConfigState
from fcdd_sweep.results.storage import Location

optuna.logging.set_verbosity(optuna.logging.WARNING)


_STATES = {
    TrialState.RUNNING: ConfigState.RUNNING,
    TrialState.WAITING: ConfigState.RUNNING,
    TrialState.COMPLETE: ConfigState.DONE,
    TrialState.FAIL: ConfigState.FAILED,
    TrialState.PRUNED: ConfigState.PRUNED,
}
_VALUES, _FACTS, _MADE_FOR, _HOURS = "values", "facts", "made_for", "hours"
_POPULATION = 16
"""Of NSGA-II; Optuna's own 50 would spend a usual budget on the first generation, which is drawn at random."""
_FEWEST = 4
"""Configs with a value from which importance is estimated."""
Describe = Callable[[int, Values], dict[str, Any]]
"""What is to be known of a config beside its values, from its number and values."""


@dataclass(frozen=True)
class Entry:
    """A suggested config.

    Attributes:
        number: in the order of suggestions; 0 is the file's own config.
        values: by key, what was suggested.
        state: what the study was told.
        scores: one a metric; empty unless done.
        facts: what `Describe` and `Study.tell` gave.
        started, finished: when it was suggested, and told.
    """

    number: int
    values: Values
    state: ConfigState
    scores: tuple[float, ...]
    facts: dict[str, Any]
    started: dt.datetime | None
    finished: dt.datetime | None


class Study:
    """A search's study, opened in a storage; made when it is not there yet."""

    def __init__(
        self,
        search: SearchSettings,
        space: Space,
        name: str,
        storage: optuna.storages.BaseStorage,
        made_for: Mapping[str, Any],
    ) -> None:
        """Raises:
        InputError: the storage has a study of this name that was made for something else.
        """
        self._search, self._space = search, space
        self._distributions = {key: _distribution(axis) for key, axis in space.axes.items()}
        self._study = optuna.create_study(
            study_name=name, storage=storage, directions=list(search.directions), load_if_exists=True
        )
        known = self._study.user_attrs.get(_MADE_FOR)
        if known is None:
            self._study.set_user_attr(_MADE_FOR, json.loads(json.dumps(made_for)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names(search.metrics)
        else:
            _same_or_told(name, known, json.loads(json.dumps(made_for)))

    @property
    def hours(self) -> float:
        """Hours of searching so far, over all starts."""
        return float(self._study.user_attrs.get(_HOURS, 0.0))

    def keep_hours(self, hours: float) -> None:
        self._study.set_user_attr(_HOURS, hours)

    def entries(self) -> list[Entry]:
        """Every config suggested so far, in order."""
        return [self._entry(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _entry(self, trial: FrozenTrial) -> Entry:
        facts = dict(trial.user_attrs)
        values, told = facts.pop(_VALUES), facts.pop(_FACTS, {})
        scores = tuple(trial.values) if trial.state == TrialState.COMPLETE else ()
        times = (trial.datetime_start, trial.datetime_complete)
        return Entry(trial.number, values, _STATES[trial.state], scores, {**facts, **told}, *map(_in_utc, times))

    def ask(self, describe: Describe) -> Entry | None:
        """A new config, entered as running; None when a grid has no other."""
        history = self._study.get_trials(deepcopy=False)
        number = len(history)
        trial = self._given(number) if number == 0 or self._search.algorithm == "grid" else self._sampled(history)
        if trial is None:
            return None
        trial.user_attrs = {**trial.user_attrs, **describe(number, trial.user_attrs[_VALUES])}
        self._study.add_trial(trial)
        return self._entry(self._study.get_trials(deepcopy=False)[number])

    def _given(self, number: int) -> FrozenTrial | None:
        """The file's own config, or the next of the grid."""
        own = self._space.default()
        others = [values for values in self._space.grid() if values != own] if number else []
        if number > len(others):
            return None
        values = others[number - 1] if number else own
        inside = {key: value for key, value in values.items() if self._space.axes[key].contains(value)}
        return create_trial(
            state=TrialState.RUNNING,
            params={key: _label(value) for key, value in inside.items()},
            distributions={key: self._distributions[key] for key in inside},
            user_attrs={_VALUES: values},
        )

    def _sampled(self, history: Sequence[FrozenTrial]) -> FrozenTrial:
        number, search = len(history), self._search
        seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = _sampler(search.algorithm, seed)
            memory = optuna.create_study(directions=list(search.directions), sampler=sampler)
            memory.add_trials(history)
            trial = memory.ask()
            values: Values = {}
            for key, axis in self._space.axes.items():
                if self._space.active(key, values):
                    values[key] = _suggested(trial, key, axis)
        trial.set_user_attr(_VALUES, values)
        return memory.get_trials(deepcopy=False)[number]

    def report(self, number: int, epoch: int, value: float) -> None:
        """Enter the mean that a config has reached at an epoch."""
        storage, trial = self._study._storage, self._study.get_trials(deepcopy=False)[number]
        storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def tell(
        self, number: int, state: ConfigState, scores: Sequence[float] = (), facts: Mapping[str, Any] | None = None
    ) -> None:
        """What became of a config; a config that the study was told of is left as it is."""
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
        """Numbers of the configs that no other beats in every metric; of one metric the best, the first of ties."""
        if not any(entry.state == ConfigState.DONE for entry in self.entries()):
            return []
        best = sorted(trial.number for trial in self._study.best_trials)
        return best if len(self._search.metrics) > 1 else best[:1]

    def importance(self) -> dict[str, float | None]:
        """By key, its share of the first metric's variance (fANOVA); None where there is too little to tell."""
        told: dict[str, float | None] = dict.fromkeys(self._space.axes)
        always = [key for key, axis in self._space.axes.items() if not axis.when]
        memory = optuna.create_study(direction=self._search.directions[0])
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if all(key in trial.params for key in always):
                own = {key: trial.distributions[key] for key in always}
                params = {key: trial.params[key] for key in always}
                memory.add_trial(create_trial(params=params, distributions=own, value=trial.values[0]))
        scores = [trial.value for trial in memory.get_trials(deepcopy=False)]
        if len(scores) < _FEWEST or len(set(scores)) == 1:
            return told
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return {**told, **optuna.importance.get_param_importances(memory, evaluator=evaluator)}


def _same_or_told(name: str, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    changed = [key for key in {**known, **wanted} if known.get(key) != wanted.get(key)]
    if changed:
        raise InputError(
            Problem(
                name,
                f"its study was made for another search: {', '.join(changed)} differ",
                "another budget, parallel, prune, confirm_seeds or seed",
                "Give the run another name, or set back what was changed",
            )
        )


def _sampler(algorithm: Algorithm, seed: int) -> optuna.samplers.BaseSampler:
    match algorithm:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


def _distribution(axis: SearchAxis) -> BaseDistribution:
    if axis.choices is not None:
        return CategoricalDistribution([_label(value) for value in axis.choices])
    values = axis.values()
    if axis.int_ is not None and values is not None:
        return IntDistribution(values[0], values[-1], log=axis.is_log, step=int(axis.step or 1))
    low, high = axis.ends or (0.0, 1.0)
    return FloatDistribution(low, high if values is None else values[-1], log=axis.is_log, step=axis.step)


def _suggested(trial: optuna.Trial, key: str, axis: SearchAxis) -> Any:
    match _distribution(axis):
        case CategoricalDistribution(choices=labels):
            label = trial.suggest_categorical(key, labels)
            return (axis.choices or [])[labels.index(label)]
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(key, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            value = trial.suggest_float(key, low, high, log=log, step=step)
            return value if step is None else float(f"{value:.12g}")
    raise AssertionError(axis)


def _label(value: Any) -> Any:
    """A choice as Optuna keeps it: plain values as they are, others as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else value_text(value)


def _in_utc(moment: dt.datetime | None) -> dt.datetime | None:
    """Optuna's times are naive, in the local zone."""
    return None if moment is None else moment.astimezone(dt.UTC)


@contextmanager
def opened_storage(
    url: str | None, run_dir: Location
) -> Iterator[tuple[optuna.storages.BaseStorage, Callable[[], None]]]:
    """The storage, and what brings it to its place when it has changed: a journal of a run in an object store is kept
    on this machine meanwhile.

    Raises:
        InputError: a database that cannot be used.
    """
    if url is not None:
        yield _database(url), lambda: None
        return
    journal = run_dir / tree.SEARCH_DIR / tree.JOURNAL
    if isinstance(journal, Path):
        journal.parent.mkdir(parents=True, exist_ok=True)
        yield _journal(journal), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="fcdd-study-") as folder:
        local = Path(folder) / tree.JOURNAL
        if storage.is_file(journal):
            storage.download_file(journal, local)
        yield _journal(local), lambda: storage.send(local, journal)


def _database(url: str) -> optuna.storages.BaseStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        what = f"the database cannot be used ({' '.join(str(error).split())[:200]})"
        raise InputError(Problem("search.storage", what, "a URL such as sqlite:///study.db, or null")) from error


def _journal(path: Path) -> optuna.storages.BaseStorage:
    """The journal, without a last line that a dead driver left half written: the next one would be glued to it."""
    if path.is_file():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])
    return JournalStorage(JournalFileBackend(str(path)))

"""Plan a search: the trials that evaluate its configs, and those that confirm the best. Needs no Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.grid import Config
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.search_schema import SearchSettings
from fcdd_sweep.config.search_space import Space, Values
from fcdd_sweep.config.trial_spec import TrialSpec, canonical
from fcdd_sweep.planning.checks import problems_of
from fcdd_sweep.planning.plan import Plan, as_plan
from fcdd_sweep.planning.search_evaluation import fresh_seeds, with_test
from fcdd_sweep.planning.sections import ConfigSections
from fcdd_sweep.results.search_schemas import CONFIRMING, EVALUATING, NUMBER, ROLE


@dataclass(frozen=True)
class SearchPlan:
    """A search before it begins.

    Attributes:
        experiment: as the file has it.
        search: its search.
        space: over the experiment as the evaluating trials see it.
        plan: the trials of the file's own config that evaluate it.
        fresh: the seeds of confirmation.
    """

    experiment: Experiment
    search: SearchSettings
    space: Space
    plan: Plan
    fresh: tuple[int, ...]
    _configs: dict[str, Config] = field(default_factory=dict, repr=False, compare=False)

    def config(self, number: int, values: Values) -> Config:
        """Return the config of suggested values as its trials have it; each is built once.

        Raises:
            ExperimentError: values that contradict each other, or the data.
        """
        key = canonical([number, values])
        if key not in self._configs:
            config = self._built(number, values) if number else self.plan.configs[0]
            self._configs[key] = replace(config, parameters={NUMBER: number, **values})
        return self._configs[key]

    def _built(self, number: int, values: Values) -> Config:
        config = self.space.config(number, values)
        sections, facts = ConfigSections.of_settings(config.settings), self.plan.facts
        if problems := problems_of(sections, facts, config.origin, self.plan.inspector):
            raise ExperimentError(problems)
        return replace(config, settings=self.plan.settled(config.settings))

    def evaluating(self, config: Config) -> tuple[TrialSpec, ...]:
        """Return the trials whose mean metric is the value of a config."""
        config = replace(config, parameters={ROLE: EVALUATING, **config.parameters})
        return self.plan.specs_of([config], self.plan.classes, self.plan.seeds)

    def confirming(self, config: Config) -> tuple[TrialSpec, ...]:
        """Return the trials of a config on fresh seeds and all classes, which are tested."""
        parameters = {ROLE: CONFIRMING, **config.parameters}
        confirmed = Config(f"confirmed-{config.name}", with_test(config.settings), parameters, config.origin)
        return self.plan.specs_of([confirmed], self.plan.all_classes, self.fresh)

    def examples(self) -> Sequence[TrialSpec]:
        """Trials that read all data that any trial of the search will read."""
        return (*self.plan.specs_of(self.plan.extremes, self.plan.all_classes, self.plan.seeds[:1]), *self.plan.specs)


def plan_search(experiment: Experiment | Plan) -> SearchPlan:
    """Return the plan of an experiment's search.

    Args:
        experiment: an experiment, or its plan if it was planned already.

    Raises:
        ExperimentError: everything that is wrong with names, classes, paths, values and their combinations.
    """
    planned = as_plan(experiment)
    experiment, search = planned.experiment, planned.experiment.search
    if search is None or planned.space is None:
        raise ExperimentError(Problem(experiment.origin.where("search"), "the experiment has no search"))
    return SearchPlan(experiment, search, planned.space, planned, tuple(fresh_seeds(experiment, search)))

"""Plan a search: the trials that evaluate its configs, and those that confirm the best. Needs no Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.grid import Config
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.search_schema import SearchSettings
from fcdd_sweep.config.search_space import Space, Values, space_of
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.checks import problems_of
from fcdd_sweep.planning.plan import Plan, as_evaluated, fresh_seeds, plan, specs_of, with_test
from fcdd_sweep.planning.sections import ConfigSections, DataInspector

ROLE, NUMBER = "search.role", "search.number"
"""Parameters of every trial of a search: its role, and the number of its config."""
EVALUATING, CONFIRMING = "evaluation", "confirmation"


@dataclass(frozen=True)
class SearchPlan:
    """A search before it begins.

    Attributes:
        experiment: as the file has it.
        search: its search.
        space: over the experiment as the judging trials see it.
        plan: the trials of the file's own config that judge it.
        fresh: the seeds of confirmation.
    """

    experiment: Experiment
    search: SearchSettings
    space: Space
    plan: Plan
    fresh: tuple[int, ...]

    def config(self, number: int, values: Values) -> Config:
        """The config of suggested values, as its trials have it.

        Raises:
            ExperimentError: values that contradict each other, or the data.
        """
        config = self.space.config(number, values)
        facts, inspector = self.plan.facts, DataInspector()
        if problems := problems_of(ConfigSections.of_settings(config.settings), facts, config.origin, inspector):
            raise ExperimentError(problems)
        return replace(config, settings=self.plan.settled(config.settings), parameters={NUMBER: number, **values})

    def judging(self, config: Config) -> tuple[TrialSpec, ...]:
        """Return the trials whose mean metric is the value of a config."""
        config = replace(config, parameters={ROLE: EVALUATING, **config.parameters})
        return specs_of([config], self.plan.classes, self.plan.seeds)

    def confirming(self, config: Config) -> tuple[TrialSpec, ...]:
        """Return the trials of a config on fresh seeds and all classes, which are tested."""
        parameters = {ROLE: CONFIRMING, **config.parameters}
        confirmed = Config(f"confirmed-{config.name}", with_test(config.settings), parameters, config.origin)
        return specs_of([confirmed], self.plan.all_classes, self.fresh)

    def examples(self) -> Sequence[TrialSpec]:
        """Trials that read all data that any trial of the search will read."""
        others = [replace(config, settings=self.plan.settled(config.settings)) for config in self.space.extremes()]
        return (*specs_of(others, self.plan.all_classes, self.plan.seeds[:1]), *self.plan.specs)


def plan_search(experiment: Experiment) -> SearchPlan:
    """A search before it begins.

    Raises:
        ExperimentError: everything that is wrong with names, classes, paths, values and their combinations.
    """
    planned = plan(experiment)
    search = experiment.search
    if search is None:
        raise ExperimentError(Problem(experiment.origin.where("search"), "the experiment has no search"))
    space = space_of(as_evaluated(experiment, search))
    return SearchPlan(experiment, search, space, planned, tuple(fresh_seeds(experiment, search)))

"""What a search will do: the trials of its configs, and those that confirm the best. Needs no Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.expand import Config
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.search import Search
from fcdd_sweep.config.search_space import Space, Values, space_of
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.sweep.checks import problems_of
from fcdd_sweep.sweep.judging import fresh_seeds, judged, tested
from fcdd_sweep.sweep.parts import Looks, Parts
from fcdd_sweep.sweep.plan import Plan, plan, specs_of

ROLE, NUMBER = "search.role", "search.number"
"""Parameters of every trial of a search: what it is for, and which config it belongs to."""
JUDGING, CONFIRMATION = "judging", "confirmation"


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
    search: Search
    space: Space
    plan: Plan
    fresh: tuple[int, ...]

    def config(self, number: int, values: Values) -> Config:
        """The config of suggested values, as its trials have it.

        Raises:
            ExperimentError: values that contradict each other, or the data.
        """
        config = self.space.config(number, values)
        facts, looks = self.plan.facts, Looks()
        if problems := problems_of(Parts.of_settings(config.settings), facts, config.origin, looks):
            raise ExperimentError(problems)
        return replace(config, settings=self.plan.settled(config.settings), parameters={NUMBER: number, **values})

    def judging(self, config: Config) -> tuple[TrialSpec, ...]:
        """The trials whose mean judges a config."""
        config = replace(config, parameters={ROLE: JUDGING, **config.parameters})
        return specs_of([config], self.plan.classes, self.plan.seeds)

    def confirming(self, config: Config) -> tuple[TrialSpec, ...]:
        """The trials of a config on fresh seeds and all classes, with the test set scored."""
        parameters = {ROLE: CONFIRMATION, **config.parameters}
        confirmed = Config(f"confirmed-{config.name}", tested(config.settings), parameters, config.origin)
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
    space = space_of(judged(experiment, search))
    return SearchPlan(experiment, search, space, planned, tuple(fresh_seeds(experiment, search)))

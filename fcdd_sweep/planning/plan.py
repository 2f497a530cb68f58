"""Which trials an experiment consists of. Names are checked against the registries; nothing is decoded or trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.fields import Validation
from fcdd_sweep.config.grid import Config, configs_of
from fcdd_sweep.config.loading import read_draft
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.search_schema import SearchSettings
from fcdd_sweep.config.search_space import Space, seed_list, space_of
from fcdd_sweep.config.text import count_noun, value_text
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.planning.anomaly_checks import counts_of
from fcdd_sweep.planning.checks import facts_of, located, problems_of, settings_warnings, this_machine, tracker_problems
from fcdd_sweep.planning.data_counts import few_notes
from fcdd_sweep.planning.reserved_anomalies import reserved_notes, reserved_per_defect
from fcdd_sweep.planning.sections import ConfigSections, DataInspector, chosen_classes, class_name
from fcdd_sweep.planning.validation_checks import validation_for_search, validation_notes


@dataclass(frozen=True)
class Plan:
    """Every trial of an experiment, whether done or not.

    Attributes:
        specs: the trials in the order in which they should start.
        configs: name, settings and parameters of each config, in the order of the file.
        classes: names of the normal classes.
        seeds: the integers given to the generators.
        facts: what the data set has.
        aside: how many real anomalies of each defect type leave the test set of every config.
        all_classes: names of all normal classes of the experiment, where a search judges by some of them.
        notes: sentences about what is allowed and yet unlikely to be meant.
    """

    specs: tuple[TrialSpec, ...]
    configs: tuple[Config, ...]
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    facts: DatasetFacts
    aside: int
    all_classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def settled(self, settings: Settings) -> Settings:
        """Settings of another config as its trials have them."""
        return _settled(settings, self.facts, self.aside)

    def rows(self) -> list[dict[str, Any]]:
        """One row a trial, columns of `results.schemas.PLAN`."""
        return [
            {
                "trial_id": spec.trial_id,
                "config_id": spec.config_id,
                "config": spec.config_name,
                "normal_class": spec.normal_class,
                "seed": spec.seed,
                "leaf": spec.leaf,
                "parameters": json.dumps(spec.parameters),
            }
            for spec in self.specs
        ]


def plan(experiment: Experiment) -> Plan:
    """The trials of an experiment; of one with a search, those that judge the file's own config.

    Raises:
        ExperimentError: everything that is wrong with names, classes, paths and their combinations.
    """
    facts, problems = facts_of(experiment.dataset)
    problems = [*(located(problem, experiment.origin) for problem in problems), *tracker_problems(experiment)]
    inspector = DataInspector()
    search, search_notes = experiment.search, list[str]()
    if search is None:
        configs = every = configs_of(experiment)
    elif facts is None:
        raise ExperimentError(dict.fromkeys(problems))
    else:
        experiment = as_evaluated(experiment, search)
        space = space_of(experiment)
        every = tuple(space.extremes())
        configs, search_notes = every[:1], list(outside_notes(space))
        problems += _judging_problems(search, experiment, facts)
    for config in every:
        problems += problems_of(ConfigSections.of_settings(config.settings), facts, config.origin, inspector)
    if problems or facts is None:
        raise ExperimentError(dict.fromkeys(problems))
    all_classes = chosen_classes(experiment.dataset, facts)
    classes = all_classes if search is None else _judging_classes(search, experiment, facts)
    aside = max(reserved_per_defect(config.settings) for config in every)
    configs = tuple(replace(config, settings=_settled(config.settings, facts, aside)) for config in configs)
    machine = this_machine()
    notes = [note for config in configs for note in settings_warnings(config.settings, machine)]
    notes += [note for config in configs for note in few_notes(config.settings, facts, inspector)]
    notes += [note for config in configs for note in validation_notes(config.settings, facts, inspector)]
    if aside:
        _check_distinct(configs)
        settings = configs[0].settings
        notes += reserved_notes(settings, counts_of(settings.dataset, settings.images, facts, inspector))
    notes += [*inspector.notes, *search_notes]
    seeds = tuple(experiment.seed_list)
    specs = specs_of(configs, classes, seeds)
    return Plan(specs, configs, classes, seeds, facts, aside, all_classes, tuple(dict.fromkeys(notes)))


def _judging_classes(search: SearchSettings, experiment: Experiment, facts: DatasetFacts) -> tuple[str, ...]:
    """Names of the classes that judge a search's configs."""
    dataset = experiment.dataset
    if search.classes != "all":
        dataset = dataset.model_copy(update={"classes": search.classes})
    return tuple(dict.fromkeys(chosen_classes(dataset, facts)))


def _judging_problems(search: SearchSettings, experiment: Experiment, facts: DatasetFacts) -> list[Problem]:
    """Classes that shall judge a search's configs and are not among those of the experiment."""
    where, there = experiment.origin.where(("search", "classes")), chosen_classes(experiment.dataset, facts)
    listed: Sequence[str | int] = [] if search.classes == "all" else search.classes
    if search.classes == []:
        return [Problem(where, "the list of classes is empty", f"all, or some of {', '.join(there)}")]
    return [
        Problem(where, f"{value_text(wanted)} is none of the experiment's classes", ", ".join(there))
        for wanted in dict.fromkeys(listed)
        if class_name(wanted, facts.classes) not in there
    ]


def unplanned_note(specs: Sequence[TrialSpec], index: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence on finished trials of the run that the plan no longer holds; `index` has their rows by trial id."""
    planned = {spec.trial_id for spec in specs}
    count = sum(row["status"] == "done" and trial_id not in planned for trial_id, row in index.items())
    if not count:
        return []
    trials, have = count_noun(count, "finished trial"), "has" if count == 1 else "have"
    return [
        f"{trials} of earlier settings {have} no place in the plan any more: kept in the run, left out of its report. "
        "To keep both in view, give the run another name"
    ]


def _check_distinct(configs: Sequence[Config]) -> None:
    """Configs that differed only in what is the same for all by now would be trained twice."""
    first: dict[str, str] = {}
    for config in configs:
        other = first.setdefault(config.config_id, config.name)
        if other != config.name:
            what = f"the configs {other} and {config.name} are the same and would be trained twice"
            step = "evaluation.reserved_anomalies is the same for all configs: set it outside of grid and variants"
            raise ExperimentError([Problem(config.origin.where("evaluation"), what, next_step=step)])


def plan_file(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Plan]:
    """An experiment file and its trials; unlike loading and planning in turn, it reports the problems of both at once.

    Raises:
        ExperimentError: everything that is wrong with the file.
    """
    draft = read_draft(path, overrides)
    if draft.experiment is not None:
        return draft.experiment, plan(draft.experiment)
    sections = ConfigSections.of_draft(draft)
    facts, problems = facts_of(sections.dataset)
    problems = [located(problem, draft.origin) for problem in problems]
    raise ExperimentError(
        dict.fromkeys([*draft.problems, *problems, *problems_of(sections, facts, draft.origin, DataInspector())])
    )


def _settled(settings: Settings, facts: DatasetFacts, aside: int) -> Settings:
    """Settings in which the same data is always written in the same way, so that a trial has one id.

    A protocol that was left out is filled in, and options at their default are left out. As many real anomalies leave
    the test set as any config of the experiment needs, so that all are tested on the same images.
    """
    dataset = settings.dataset
    known = DATA_SETS[dataset.name]
    given = {name: type(known.options[name].default)(value) for name, value in dataset.options.items()}
    options = {name: value for name, value in given.items() if value != known.options[name].default}
    protocol = facts.protocol if known.protocol is None else None
    return settings.model_copy(
        update={
            "dataset": dataset.model_copy(update={"options": options, "protocol": protocol}),
            "evaluation": settings.evaluation.model_copy(update={"reserved_anomalies": aside}),
        }
    )


def specs_of(configs: Sequence[Config], classes: Sequence[str], seeds: Sequence[int]) -> tuple[TrialSpec, ...]:
    """Classes vary fastest: after one round of seeds every class has a result, and a sweep that is cut short still
    covers all of them."""
    return tuple(
        TrialSpec(config.settings, normal_class, seed, config.name, config.parameters)
        for config in configs
        for seed in seeds
        for normal_class in classes
    )


def as_evaluated(experiment: Experiment, search: SearchSettings) -> Experiment:
    """The experiment as the trials that judge configs see it.

    Their validation split is the file's own, or where it says none the default of a search. They are not tested unless
    the search asks for it.
    """
    evaluation = experiment.evaluation
    validation = evaluation.validation
    if validation == Validation():
        validation = validation_for_search(experiment)
    if search.prune is not None:
        validation = validation.model_copy(update={"epochs": sorted({*validation.epochs, *search.prune.at})})
    test = search.test or search.oracle
    changes: dict[str, Any] = {
        "evaluation": evaluation.model_copy(update={"validation": validation, "test": test}),
        "seeds": evaluation_seeds(experiment, search),
    }
    return experiment.model_copy(update=changes).with_origin(experiment.origin)


def with_test(settings: Settings) -> Settings:
    """The same settings with the test set scored at the end."""
    return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"test": True})})


def evaluation_seeds(experiment: Experiment, search: SearchSettings) -> list[int]:
    return experiment.seed_list if search.seeds == "all" else seed_list(search.seeds)


def fresh_seeds(experiment: Experiment, search: SearchSettings) -> list[int]:
    """The seeds of confirmation: those that the file lists, or as many as it says after all others."""
    if isinstance(search.confirm_seeds, list):
        return search.confirm_seeds
    count = len(experiment.seed_list) if search.confirm_seeds is None else search.confirm_seeds
    first = 1 + max([*evaluation_seeds(experiment, search), *experiment.seed_list])
    return list(range(first, first + count))


def outside_notes(space: Space) -> Iterator[str]:
    """Values of the file's own config that its space does not have."""
    for key, value in space.default().items():
        if not space.axes[key].contains(value):
            yield (
                f"the file's own {key}, {value_text(value)}, is outside of search.space: it is judged and confirmed as "
                "the default, and suggestions learn nothing of it from that."
            )

"""The trials of an experiment. Names are checked against the registries; nothing is decoded or trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.grid import Config, configs_of
from fcdd_sweep.config.loading import parse_experiment
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.search_space import Space, space_of
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.networks.execution import computed
from fcdd_sweep.planning.anomaly_checks import reserved_notes, reserved_per_defect, supervision_notes, supervision_of
from fcdd_sweep.planning.calibration import Calibrations, calibration_notes
from fcdd_sweep.planning.checks import (
    facts_of,
    located,
    problems_of,
    settings_warnings,
    this_machine,
    tracker_problems,
    unused_notes,
)
from fcdd_sweep.planning.data_counts import decoding_notes, defect_counts, few_notes
from fcdd_sweep.planning.search_evaluation import (
    as_evaluated,
    evaluation_class_problems,
    evaluation_classes,
    evaluation_seeds,
    notes_on_search,
)
from fcdd_sweep.planning.sections import ConfigSections, DataInspector, chosen_classes
from fcdd_sweep.planning.validation_checks import threshold_notes, validation_notes


@dataclass(frozen=True, repr=False)
class Plan:
    """Every trial of an experiment, whether done or not; of one with a search, those that evaluate the file's config.

    Attributes:
        experiment: as the file has it.
        specs: the trials in the order in which they should start.
        configs: name, settings and parameters of each config, in the order of the file.
        classes: names of the normal classes.
        seeds: the integers given to the generators.
        facts: protocol, classes and abilities of the data set.
        reserved: number of real anomalies of each defect type that leave the test set of every config.
        all_classes: names of all normal classes of the experiment, where a search evaluates on some of them.
        notes: sentences about what is allowed and yet unlikely to be meant.
        result_notes: those of them that explain results, for the report.
        inspector: has scanned the data; later checks of the same run ask it and scan nothing again.
        space: of a search, the keys that it varies; None where there is no search.
        extremes: configs that together read all data that any config reads: of a search the file's config and the ends
            of its space, else `configs`.
        calibrations: what the data says about calibration where the experiment leaves it open.
    """

    experiment: Experiment
    specs: tuple[TrialSpec, ...]
    configs: tuple[Config, ...]
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    facts: DatasetFacts
    reserved: int
    all_classes: tuple[str, ...]
    notes: tuple[str, ...]
    result_notes: tuple[str, ...]
    inspector: DataInspector = field(compare=False)
    space: Space | None = field(compare=False)
    extremes: tuple[Config, ...] = field(compare=False)
    calibrations: Calibrations = field(compare=False)

    def __repr__(self) -> str:
        amounts = ((len(self.configs), "config"), (len(self.classes), "class"), (len(self.seeds), "seed"))
        parts = " x ".join(count_noun(count, noun) for count, noun in amounts)
        return f"Plan({self.experiment.name!r}: {count_noun(len(self.specs), 'trial')}, {parts})"

    def settled(self, settings: Settings) -> Settings:
        """Return settings of another config as its trials have them, but for what is calibrated by class."""
        return _settled(settings, self.calibrations, self.reserved)

    def specs_of(
        self, configs: Sequence[Config], classes: Sequence[str], seeds: Sequence[int]
    ) -> tuple[TrialSpec, ...]:
        """Return the trials of settled configs; see `specs_of`."""
        return specs_of(configs, classes, seeds, self.calibrations)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per trial, columns of `results.schemas.PLAN`."""
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
    """Return the trials of an experiment; of one with a search, those that evaluate the file's own config.

    Raises:
        ExperimentError: everything that is wrong with names, classes, paths and their combinations.
    """
    inspector = DataInspector()
    facts, written, space = _checked(experiment, inspector)
    search = experiment.search
    reserved = max(reserved_per_defect(config.settings) for config in written)
    calibrations = Calibrations(facts, inspector)
    extremes = tuple(replace(each, settings=_settled(each.settings, calibrations, reserved)) for each in written)
    planned = written if space is None else written[:1]
    configs = extremes[: len(planned)]
    _check_distinct(configs)
    all_classes = chosen_classes(experiment.dataset, facts)
    classes = all_classes if search is None else evaluation_classes(search, experiment, facts)
    explaining = (
        note
        for notes_of in (threshold_notes, calibration_notes)
        for config in planned
        for note in notes_of(config.settings, facts, inspector)
    )
    result_notes = tuple(dict.fromkeys(explaining))
    searching = () if search is None or space is None else notes_on_search(experiment, search, space)
    seeds = tuple(experiment.seed_list if search is None else evaluation_seeds(experiment, search))
    specs = specs_of(configs, classes, seeds, calibrations)
    _check_trials_distinct(specs, experiment)
    notes = [*unused_notes(experiment), *_notes(planned, reserved, facts, inspector)]
    return Plan(
        experiment=experiment,
        specs=specs,
        configs=configs,
        classes=classes,
        seeds=seeds,
        facts=facts,
        reserved=reserved,
        all_classes=all_classes,
        notes=tuple(dict.fromkeys([*notes, *searching, *result_notes])),
        result_notes=result_notes,
        inspector=inspector,
        space=space,
        extremes=extremes,
        calibrations=calibrations,
    )


def _checked(experiment: Experiment, inspector: DataInspector) -> tuple[DatasetFacts, tuple[Config, ...], Space | None]:
    """Return facts, configs as written (of a search the extremes of its space) and space of a sound experiment.

    Raises:
        ExperimentError: everything that is wrong.
    """
    facts, data_problems = facts_of(experiment.dataset)
    problems = [*(located(problem, experiment.origin) for problem in data_problems), *tracker_problems(experiment)]
    space = None
    if experiment.search is None:
        configs = configs_of(experiment)
    elif facts is None:
        raise ExperimentError(dict.fromkeys(problems))  # what a search selects on depends on the data
    else:
        space = space_of(as_evaluated(experiment, experiment.search, facts))
        configs = tuple(space.extremes())
        problems += evaluation_class_problems(experiment.search, experiment, facts)
    for config in configs:
        problems += problems_of(ConfigSections.of_settings(config.settings), facts, config.origin, inspector)
    if problems or facts is None:
        raise ExperimentError(dict.fromkeys(problems))
    return facts, configs, space


def as_plan(experiment: Experiment | Plan) -> Plan:
    """Return the plan of an experiment that may have been planned already.

    Raises:
        ExperimentError: as `plan`.
    """
    return experiment if isinstance(experiment, Plan) else plan(experiment)


def plan_file(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Plan]:
    """Return an experiment file and its trials; report the problems of loading and of planning together.

    Raises:
        ExperimentError: everything that is wrong with the file.
    """
    parsed = parse_experiment(path, overrides)
    if parsed.experiment is not None:
        return parsed.experiment, plan(parsed.experiment)
    sections = ConfigSections.of_parsed(parsed)
    facts, problems = facts_of(sections.dataset)
    problems = [located(problem, parsed.origin) for problem in problems]
    raise ExperimentError(
        dict.fromkeys([*parsed.problems, *problems, *problems_of(sections, facts, parsed.origin, DataInspector())])
    )


def specs_of(
    configs: Sequence[Config], classes: Sequence[str], seeds: Sequence[int], calibrations: Calibrations
) -> tuple[TrialSpec, ...]:
    """Return the trials of configs; classes vary fastest.

    After one round of seeds every class has a result, and a sweep that is cut short still covers all of them.
    """
    by_class = [
        (config, {name: calibrations.of_class(config.settings, name) for name in classes}) for config in configs
    ]
    return tuple(
        TrialSpec(settings[normal_class], normal_class, seed, config.name, config.parameters)
        for config, settings in by_class
        for seed in seeds
        for normal_class in classes
    )


def _notes(configs: Sequence[Config], reserved: int, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Yield what is allowed and yet unlikely to be meant; configs are as written, so that no data is scanned twice."""
    machine = this_machine()
    for config in configs:
        yield from settings_warnings(config.settings, machine)
        yield from supervision_notes(config.settings, facts)
    for config in configs:
        yield from few_notes(config.settings, facts, inspector)
    for config in configs:
        yield from decoding_notes(config.settings, facts, inspector)
    for config in configs:
        yield from validation_notes(config.settings, facts, inspector)
    if reserved:
        settings = configs[0].settings
        yield from reserved_notes(
            settings, reserved, defect_counts(settings.dataset, settings.images, facts, inspector)
        )
    yield from inspector.notes


_FILLED_IN = {
    "training.supervision": "labels or maps",
    "training.layout": "contiguous or channels_last",
    "training.precision": "fp32 or bf16",
}
"""Keys of which a plan fills in what `auto` means."""


def _check_distinct(configs: Sequence[Config]) -> None:
    """Raise an error for configs that are the same once `evaluation.reserved_anomalies` and `auto` are filled in."""
    first: dict[str, str] = {}
    for config in configs:
        other = first.setdefault(config.config_id, config.name)
        if other != config.name:
            what = f"the configs {other} and {config.name} are the same and would be trained twice"
            if varied := [key for key in _FILLED_IN if key in config.parameters]:
                where, step = varied[0], f"auto means {_FILLED_IN[varied[0]]} here: leave one of the two out"
            else:
                where = "evaluation"
                step = "evaluation.reserved_anomalies is the same for all configs: set it outside of grid and variants"
            raise ExperimentError([Problem(config.origin.where(where), what, next_step=step)])


def _check_trials_distinct(specs: Sequence[TrialSpec], experiment: Experiment) -> None:
    """Raise an error for configs that are the same for a class: calibration auto may take what another one names."""
    first: dict[str, str] = {}
    for spec in specs:
        other = first.setdefault(spec.trial_id, spec.config_name)
        if other != spec.config_name:
            what = f"the configs {other} and {spec.config_name} are the same for class '{spec.normal_class}' and would "
            step = "Leave one of them out: evaluation.calibration auto takes what the other names"
            where = experiment.origin.where("evaluation.calibration")
            raise ExperimentError([Problem(where, f"{what}be trained twice", next_step=step)])


def _settled(settings: Settings, calibrations: Calibrations, reserved: int) -> Settings:
    """Return settings in which the same data is always written in the same way, so that a trial has one id.

    A protocol that was left out is filled in, and options at their default are left out. As many real anomalies leave
    the test set as any config of the experiment needs, so that all are tested on the same images. Supervision is on
    labels or on maps, as `auto` means for the data; layout and precision are as it means for the network.
    """
    dataset, facts = settings.dataset, calibrations.facts
    known = DATA_SETS[dataset.name]
    given = {name: type(known.options[name].default)(value) for name, value in dataset.options.items()}
    options = {name: value for name, value in given.items() if value != known.options[name].default}
    protocol = facts.protocol if known.protocol is None else None
    settled = settings.model_copy(
        update={
            "dataset": dataset.model_copy(update={"options": options, "protocol": protocol}),
            "training": settings.training.model_copy(
                update={"supervision": supervision_of(settings, facts), **computed(settings)}
            ),
            "evaluation": settings.evaluation.model_copy(update={"reserved_anomalies": reserved}),
        }
    )
    calibrations.count(settings, settled)
    return settled

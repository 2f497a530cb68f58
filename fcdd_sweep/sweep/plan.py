"""Which trials an experiment consists of. Names are checked against the registries; nothing is decoded or trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES
from fcdd_sweep.config.errors import ExperimentError, Problem
from fcdd_sweep.config.expand import Config, configs_of
from fcdd_sweep.config.loading import read_draft
from fcdd_sweep.config.schema import Anomalies, DatasetSource, Experiment, FolderSource, Settings
from fcdd_sweep.config.search import Search
from fcdd_sweep.config.search_space import space_of
from fcdd_sweep.config.selection import SetAsideSource, ValidationAnomalies
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.config.words import number_of, show
from fcdd_sweep.data.records import Discovery
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.networks.describe import field_of, start_text
from fcdd_sweep.sweep.anomaly_checks import counts_of
from fcdd_sweep.sweep.checks import facts_of, located, problems_of, warnings
from fcdd_sweep.sweep.judging import judged
from fcdd_sweep.sweep.machine import this_machine
from fcdd_sweep.sweep.numbers import few_notes
from fcdd_sweep.sweep.parts import Looks, Parts, chosen_classes, class_name
from fcdd_sweep.sweep.search_words import headline, outside_notes, search_entries
from fcdd_sweep.sweep.selection import validation_notes
from fcdd_sweep.sweep.set_aside import set_aside, set_aside_notes
from fcdd_sweep.sweep.tracked import tracker_problems

_MOST_LISTED = 20
"""Configs that `describe` lists; the table of trials has them all."""


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
    facts: Discovery
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
    looks = Looks()
    search, search_notes = experiment.search, list[str]()
    if search is None:
        configs = every = configs_of(experiment)
    elif facts is None:
        raise ExperimentError(dict.fromkeys(problems))
    else:
        experiment = judged(experiment, search)
        space = space_of(experiment)
        every = tuple(space.extremes())
        configs, search_notes = every[:1], list(outside_notes(space))
        problems += _judging_problems(search, experiment, facts)
    for config in every:
        problems += problems_of(Parts.of_settings(config.settings), facts, config.origin, looks)
    if problems or facts is None:
        raise ExperimentError(dict.fromkeys(problems))
    all_classes = chosen_classes(experiment.dataset, facts)
    classes = all_classes if search is None else _judging_classes(search, experiment, facts)
    aside = max(set_aside(config.settings) for config in every)
    configs = tuple(replace(config, settings=_settled(config.settings, facts, aside)) for config in configs)
    machine = this_machine()
    notes = [note for config in configs for note in warnings(config.settings, machine)]
    notes += [note for config in configs for note in few_notes(config.settings, facts, looks)]
    notes += [note for config in configs for note in validation_notes(config.settings, facts, looks)]
    if aside:
        _check_distinct(configs)
        settings = configs[0].settings
        notes += set_aside_notes(settings, counts_of(settings.dataset, settings.images, facts, looks))
    notes += [*looks.notes, *search_notes]
    seeds = tuple(experiment.seed_list)
    specs = specs_of(configs, classes, seeds)
    return Plan(specs, configs, classes, seeds, facts, aside, all_classes, tuple(dict.fromkeys(notes)))


def _judging_classes(search: Search, experiment: Experiment, facts: Discovery) -> tuple[str, ...]:
    """Names of the classes that judge a search's configs."""
    dataset = experiment.dataset
    if search.classes != "all":
        dataset = dataset.model_copy(update={"classes": search.classes})
    return tuple(dict.fromkeys(chosen_classes(dataset, facts)))


def _judging_problems(search: Search, experiment: Experiment, facts: Discovery) -> list[Problem]:
    """Classes that shall judge a search's configs and are not among those of the experiment."""
    where, there = experiment.origin.where(("search", "classes")), chosen_classes(experiment.dataset, facts)
    listed: Sequence[str | int] = [] if search.classes == "all" else search.classes
    if search.classes == []:
        return [Problem(where, "the list of classes is empty", f"all, or some of {', '.join(there)}")]
    return [
        Problem(where, f"{show(wanted)} is none of the experiment's classes", ", ".join(there))
        for wanted in dict.fromkeys(listed)
        if class_name(wanted, facts.classes) not in there
    ]


def left_out(specs: Sequence[TrialSpec], index: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence on finished trials of the run that the plan no longer holds; `index` has their rows by trial id."""
    planned = {spec.trial_id for spec in specs}
    count = sum(row["status"] == "done" and trial_id not in planned for trial_id, row in index.items())
    if not count:
        return []
    trials, have = number_of(count, "finished trial"), "has" if count == 1 else "have"
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
            step = (
                "evaluation.real_anomalies_set_aside is the same for all configs: set it outside of grid and variants"
            )
            raise ExperimentError([Problem(config.origin.where("evaluation"), what, next_step=step)])


def plan_file(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Plan]:
    """An experiment file and its trials; unlike loading and planning in turn, it reports the problems of both at once.

    Raises:
        ExperimentError: everything that is wrong with the file.
    """
    draft = read_draft(path, overrides)
    if draft.experiment is not None:
        return draft.experiment, plan(draft.experiment)
    parts = Parts.of_draft(draft)
    facts, problems = facts_of(parts.dataset)
    problems = [located(problem, draft.origin) for problem in problems]
    raise ExperimentError(
        dict.fromkeys([*draft.problems, *problems, *problems_of(parts, facts, draft.origin, Looks())])
    )


def _settled(settings: Settings, facts: Discovery, aside: int) -> Settings:
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
            "evaluation": settings.evaluation.model_copy(update={"real_anomalies_set_aside": aside}),
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


def describe(plan: Plan, experiment: Experiment) -> str:
    """The plan as text for `--dry-run`: what would be trained, on what, and where results would go."""
    lines = [f"{experiment.name}: {amount(plan, experiment)}"]
    if experiment.search is None:
        lines += _entry("configs", _config_lines(plan.configs))
    else:
        for title, texts in search_entries(experiment.search, experiment).items():
            lines += _entry(title, texts)
    lines += _entry("classes", [", ".join(plan.classes)])
    lines += _entry("seeds", [", ".join(map(str, plan.seeds))])
    for title, text in _SETTINGS_TEXTS.items():
        lines += _entry(title, list(filter(None, dict.fromkeys(text(config.settings) for config in plan.configs))))
    lines += _entry("output", [str(experiment.run_dir)])
    return "\n".join([*lines, *(f"note: {note}" for note in plan.notes)])


def amount(plan: Plan, experiment: Experiment) -> str:
    """How many trials there are to do."""
    if experiment.search is not None:
        return headline(experiment.search, experiment, len(plan.classes), len(plan.all_classes))
    parts = ((plan.configs, "config"), (plan.classes, "class"), (plan.seeds, "seed"))
    counts = " x ".join(number_of(len(things), word) for things, word in parts)
    return f"{number_of(len(plan.specs), 'trial')} = {counts}"


def _entry(title: str, texts: list[str]) -> list[str]:
    left_out = len(texts) - _MOST_LISTED
    shown = [*texts[:_MOST_LISTED], *([f"and {left_out} more"] if left_out > 0 else [])]
    return [f"  {title if row == 0 else '':11}{text}" for row, text in enumerate(shown)]


def _config_lines(configs: Sequence[Config]) -> list[str]:
    if len(configs) == 1 and not configs[0].name:
        return [f"one, id {configs[0].config_id}"]
    return [
        f"{config.name}: {', '.join(f'{key} = {show(value)}' for key, value in config.parameters.items())}"
        for config in configs
    ]


def _data_text(settings: Settings) -> str:
    dataset, images = settings.dataset, settings.images
    place = f" in {dataset.root}" if dataset.root else ""
    protocol = dataset.protocol or DATA_SETS[dataset.name].protocol
    size = f"{images.raw_size} px ({images.resize}), seen at {images.size} px, {images.color}"
    return f"{dataset.name}{place}, {protocol}; {size}; preprocessing {settings.preprocessing}"


def _network_text(settings: Settings) -> str:
    field = field_of(settings.network, settings.method, settings.images.size)
    seen = f"receptive field {field.size} px, jump {field.jump} px"
    map_ = "anomaly map" if settings.method == "fcdd" else "map before the dense layers"
    start = start_text(settings.network)
    return f"{settings.network.title}: {seen}, {map_} {field.width}x{field.width}; starts {start}"


def _anomalies_text(settings: Settings) -> str:
    anomalies, aside = settings.anomalies, settings.evaluation.real_anomalies_set_aside
    left = f"; {aside} test images of each defect type are left out of the test set" if aside else ""
    if anomalies.mode == "unsupervised":
        return f"none (unsupervised){left}"
    counted = "of each defect type" if anomalies.source in REAL_SOURCES else "distinct ones"
    limit = "" if anomalies.limit == "all" else f", {anomalies.limit} {counted}"
    return f"{anomalies.mode}{_source_text(anomalies)}{limit}, {_use_text(anomalies)}{left}"


def _selection_text(settings: Settings) -> str:
    validation = settings.evaluation.validation
    """Empty where nothing is selected and the test set is scored, as in a plain sweep."""
    tested = "" if settings.evaluation.test else "the test set is not scored"
    if validation.anomalies == "none":
        return tested
    held_out = f"{validation.nominal_fraction:.0%} of the nominal training images"
    anomalies = f"{held_out}, and anomalies: {_validation_text(validation.anomalies)}"
    return "; ".join(filter(None, [anomalies, tested]))


def _validation_text(anomalies: ValidationAnomalies) -> str:
    match anomalies:
        case SetAsideSource(set_aside=count):
            return f"{count} test images of each defect type, left out of the test set"
        case DatasetSource(dataset=name):
            return f"data set {name}"
        case FolderSource(folder=folder):
            return str(folder)
        case "training":
            return "of the training split, where no config trains on them"
        case name:
            return f"{name}, rendered on them"


def _use_text(anomalies: Anomalies) -> str:
    if anomalies.online:
        return f"in place of {anomalies.probability:.0%} of the samples"
    return "each once besides the nominal ones" if MODES[anomalies.mode].real else "one besides each nominal sample"


def _source_text(anomalies: Anomalies) -> str:
    match anomalies.source:
        case None:
            return ""
        case DatasetSource(dataset=name):
            return f" from data set {name}"
        case FolderSource(folder=folder):
            return f" from {folder}"
        case name:
            return f" from {name}"


def _training_text(settings: Settings) -> str:
    training = settings.training
    passes = "" if training.passes_per_epoch == 1 else f" of {training.passes_per_epoch} passes"
    rate = f"learning rate {training.learning_rate:g}, {training.schedule.type} schedule"
    return (
        f"{number_of(training.epochs, 'epoch')}{passes}, batches of {training.batch_size}, {training.optimizer}, {rate}"
    )


def _resources_text(settings: Settings) -> str:
    cpus = settings.training.threads if settings.resources.cpus == "auto" else settings.resources.cpus
    on_gpu = settings.resources.trials_per_gpu
    shared = (
        f"{on_gpu} trials share a GPU if there is one" if on_gpu > 1 else "each has a GPU to itself if there is one"
    )
    return f"device {settings.resources.device}; a trial reserves {cpus:g} CPU; {shared}"


_SETTINGS_TEXTS: dict[str, Callable[[Settings], str]] = {
    "data": _data_text,
    "network": _network_text,
    "anomalies": _anomalies_text,
    "selection": _selection_text,
    "loss": lambda settings: f"{settings.method} on {settings.training.supervision}",
    "training": _training_text,
    "resources": _resources_text,
}

"""The plan as text, for `--dry-run` and `validate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES
from fcdd_sweep.config.fields import DatasetSource, FolderSource, FromTestSource, ValidationSource
from fcdd_sweep.config.schema import Anomalies, Experiment, Settings
from fcdd_sweep.config.search_schema import SearchAxis, SearchSettings
from fcdd_sweep.config.text import count_noun, value_text
from fcdd_sweep.data.decoding.maps import planned_text
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.networks.describe import field_of, start_text
from fcdd_sweep.planning.calibration import decision_lines
from fcdd_sweep.planning.checks import this_machine
from fcdd_sweep.planning.data_counts import image_counts, layout_text
from fcdd_sweep.planning.gpu_memory import MOST_TRIALS, card_memory, need_of, need_text, sharing_of
from fcdd_sweep.planning.packs import pack_text
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.planning.search_evaluation import evaluation_seeds, fresh_seeds

_MOST_LISTED = 20
"""Number of configs that `describe` lists; the table of trials has all."""


def describe(plan: Plan, experiment: Experiment) -> str:
    """Return the plan as text: what would be trained, on what data, and where results would be written."""
    lines = [f"{experiment.name}: {amount_text(plan, experiment)}"]
    if experiment.search is None:
        lines += _entry("configs", _config_lines(plan))
    else:
        for title, texts in search_entries(experiment.search, experiment).items():
            lines += _entry(title, texts)
    lines += _entry("classes", [", ".join(plan.classes)])
    lines += _entry("layout", _layout_lines(plan))
    lines += _entry("images", _image_lines(plan))
    lines += _entry("seeds", [", ".join(map(str, plan.seeds))])
    if plan.facts.maps and DATA_SETS[experiment.dataset.name].needs_root:  # others have no files of maps
        lines += _entry("maps", list(dict.fromkeys(planned_text(config.settings.images) for config in plan.configs)))
    for title, text in _SETTINGS_TEXTS.items():
        lines += _entry(title, list(filter(None, dict.fromkeys(text(config.settings) for config in plan.configs))))
    lines += _entry("GPU", list(filter(None, [_sharing_text(plan)])))
    lines += _entry("packs", list(filter(None, [pack_text(experiment.resources, plan.specs)])))
    lines += _entry("decisions", decision_lines(plan.specs))
    lines += _entry("output", [str(experiment.run_dir)])
    return "\n".join([*lines, *(f"note: {note}" for note in plan.notes)])


def _distinct_data(plan: Plan) -> list[Settings]:
    """Return the settings of one config for each data set that configs use."""
    distinct = {
        (config.settings.dataset.model_dump_json(), config.settings.images.model_dump_json()): config.settings
        for config in plan.configs
    }
    return list(distinct.values())


def _layout_lines(plan: Plan) -> list[str]:
    """Return how each data set's folders are read."""
    texts = (layout_text(each.dataset, each.images, plan.facts, plan.inspector) for each in _distinct_data(plan))
    return list(filter(None, dict.fromkeys(texts)))


def _image_lines(plan: Plan) -> list[str]:
    """Return the numbers of images by class, split and label, of each data set that configs use."""
    lines = (
        line
        for settings in _distinct_data(plan)
        for line in image_counts(settings.dataset, settings.images, plan.facts, plan.inspector)
    )
    return list(dict.fromkeys(lines))


def amount_text(plan: Plan, experiment: Experiment) -> str:
    """Return the number of trials as text."""
    if experiment.search is not None:
        return headline(experiment.search, experiment, len(plan.classes), len(plan.all_classes))
    sections = ((plan.configs, "config"), (plan.classes, "class"), (plan.seeds, "seed"))
    counts = " x ".join(count_noun(len(things), word) for things, word in sections)
    models = sum(spec.settings.models for spec in plan.specs)
    of_models = f" of {models} models" if models > len(plan.specs) else ""
    return f"{count_noun(len(plan.specs), 'trial')}{of_models} = {counts}"


def _entry(title: str, texts: list[str]) -> list[str]:
    left_out = len(texts) - _MOST_LISTED
    shown = [*texts[:_MOST_LISTED], *([f"and {left_out} more"] if left_out > 0 else [])]
    return [f"  {title if row == 0 else '':11}{text}" for row, text in enumerate(shown)]


def _config_lines(plan: Plan) -> list[str]:
    configs = plan.configs
    if len(configs) == 1 and not configs[0].name:
        ids = dict.fromkeys(spec.config_id for spec in plan.specs)  # several where calibration differs by class
        return [f"one, id {', '.join(ids)}"]
    return [
        f"{config.name}: {', '.join(f'{key} = {value_text(value)}' for key, value in config.parameters.items())}"
        for config in configs
    ]


def _data_text(settings: Settings) -> str:
    dataset, images = settings.dataset, settings.images
    place = f" in {dataset.root}" if dataset.root else ""
    protocol = dataset.protocol or DATA_SETS[dataset.name].protocol
    size = f"{images.load_size} px ({images.resize}), seen at {images.size} px, {images.color}"
    return f"{dataset.name}{place}, {protocol}; {size}; preprocessing {settings.preprocessing}"


def _network_text(settings: Settings) -> str:
    field = field_of(settings.network, settings.method, settings.images.size)
    seen = f"receptive field {field.size} px, jump {field.jump} px"
    map_ = "anomaly map" if settings.method == "fcdd" else "map before the dense layers"
    start = start_text(settings.network)
    return f"{settings.network.title}: {seen}, {map_} {field.width}x{field.width}; starts {start}"


def _anomalies_text(settings: Settings) -> str:
    anomalies, reserved = settings.anomalies, settings.evaluation.reserved_anomalies
    left = f"; {reserved} test images of each defect type are left out of the test set" if reserved else ""
    if anomalies.mode == "unsupervised":
        return f"none (unsupervised){left}"
    counted = "of each defect type" if anomalies.source in REAL_SOURCES else "distinct ones"
    limit = "" if anomalies.limit == "all" else f", {anomalies.limit} {counted}"
    return f"{anomalies.mode}{_source_text(anomalies)}{limit}, {_use_text(anomalies)}{left}"


def _selection_text(settings: Settings) -> str:
    """Return what configs are selected on; empty where nothing is selected and the test set is scored."""
    validation = settings.evaluation.validation
    tested = "" if settings.evaluation.test else "the test set is not scored"
    if validation.anomalies == "none":
        return tested
    held_out = f"{validation.nominal_fraction:.0%} of the nominal training images"
    anomalies = f"{held_out}, and anomalies: {_validation_text(validation.anomalies)}"
    return "; ".join(filter(None, [anomalies, tested]))


def _validation_text(anomalies: ValidationSource) -> str:
    match anomalies:
        case FromTestSource(from_test=count):
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
    passes += f" of {training.min_steps} steps or more" if training.min_steps else ""
    rate = f"learning rate {training.learning_rate:g}, {training.schedule.type} schedule"
    epochs = count_noun(training.epochs, "epoch")
    numbers = f"{training.precision}, {training.layout.replace('_', ' ')}"
    return f"{epochs}{passes}, batches of {training.batch_size}, {training.optimizer}, {rate}; {numbers}"


def _resources_text(settings: Settings) -> str:
    cpus = settings.training.threads if settings.resources.cpus == "auto" else settings.resources.cpus
    return f"device {_device_text(settings.resources.device)}; a trial reserves {cpus:g} CPU"


def _sharing_text(plan: Plan) -> str:
    """Return how many trials share a GPU, and why so many."""
    configs = [config.settings for config in plan.extremes]
    resources = configs[0].resources
    if resources.device == "cpu":
        return ""
    card = card_memory() if this_machine().gpu else None
    if resources.trials_per_gpu == "auto" and card is None:
        need = max((need_of(each) for each in configs), key=lambda each: each.mib)
        return f"as many trials share a GPU as fit, at most {MOST_TRIALS}: {need_text(need)}"
    sharing = sharing_of(configs, card)
    shared = f"{sharing.trials} trials share a GPU" if sharing.trials > 1 else "each trial has a GPU to itself"
    return f"{shared} if there is one: {sharing.reason}"


def _device_text(wanted: str) -> str:
    """Return `resources.device`, and what `auto` means on this machine as far as it is known without torch."""
    if wanted != "auto":
        return wanted
    if this_machine().gpu:
        return "auto (a GPU: one is seen on this machine)"
    return "auto (the CPU: no GPU that torch can use is seen on this machine)"


_SETTINGS_TEXTS: dict[str, Callable[[Settings], str]] = {
    "data": _data_text,
    "network": _network_text,
    "anomalies": _anomalies_text,
    "selection": _selection_text,
    "loss": lambda settings: f"{settings.method} on {settings.training.supervision}",
    "training": _training_text,
    "resources": _resources_text,
}


def headline(search: SearchSettings, experiment: Experiment, classes: int, all_classes: int) -> str:
    """Return the numbers of configs and trials of a search as text.

    Args:
        search: the search.
        experiment: that it belongs to.
        classes: number of classes that configs are evaluated on.
        all_classes: number of classes that the best are confirmed on.
    """
    budget = search.budget
    limits = [
        *([] if budget.configs is None else [count_noun(budget.configs, "config")]),
        *([] if budget.trials is None else [count_noun(budget.trials, "trial")]),
        *([] if budget.hours is None else [f"{budget.hours:g} h"]),
    ]
    seeds, fresh = len(evaluation_seeds(experiment, search)), len(fresh_seeds(experiment, search))
    evaluated = f"{count_noun(classes, 'class')} x {count_noun(seeds, 'seed')}"
    confirm = f"{count_noun(all_classes, 'class')} x {count_noun(fresh, 'fresh seed')}"
    return (
        f"a search of at most {' or '.join(limits)}, {count_noun(classes * seeds, 'trial')} per config ({evaluated}); "
        f"then the best and the default confirmed by {count_noun(all_classes * fresh, 'trial')} each ({confirm})"
    )


def search_entries(search: SearchSettings, experiment: Experiment) -> Mapping[str, list[str]]:
    """Return titles and lines on a search."""
    metrics = zip(search.metrics, search.directions, strict=True)
    goals = ", ".join(f"{direction} {metric}" for metric, direction in metrics)
    oracle = ["ORACLE: the search selects on the test set, and all of its results say so"] if search.oracle else []
    prune, pruned = search.prune, []
    if prune is not None:
        pruned = [f"pruned at epoch {', '.join(map(str, prune.at))}: all but the best {prune.keep_fraction:.0%}"]
    return {
        "search": [
            f"{search.algorithm}, seed {search.seed}: {goals}; a failed trial: {search.failed_trials}",
            *pruned,
            *oracle,
        ],
        "space": [f"{key}: {_axis_text(axis)}" for key, axis in search.space.items()],
        "confirmed": [f"on seeds {', '.join(map(str, fresh_seeds(experiment, search)))}, with the test set scored"],
    }


def _axis_text(axis: SearchAxis) -> str:
    condition = "".join(f", when {key} is {value_text(value)}" for key, value in axis.when.items())
    if axis.ends is None:
        return f"one of {', '.join(value_text(value) for value in axis.choices or [])}{condition}"
    low, high = axis.ends
    kind = "whole numbers, " if axis.int_ is not None else ""
    step = "" if axis.step is None else f" in steps of {axis.step:g}"
    return f"{kind}{low:g} to {high:g}{step}{', logarithmic' if axis.is_log else ''}{condition}"

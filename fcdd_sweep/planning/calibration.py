"""What decisions are calibrated on: `evaluation.calibration` by class from the numbers of images, checks and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Dataset, Evaluation, Images, Settings
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import held_out_of
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.metrics.cross_conformal import false_alarm_bound, fewest_folds, largest_limit
from fcdd_sweep.metrics.decision import fewest_images
from fcdd_sweep.metrics.score_choice import SELECTION_SHARE
from fcdd_sweep.metrics.statistics import percent_text
from fcdd_sweep.planning.data_counts import listed
from fcdd_sweep.planning.sections import ConfigSections, DataInspector, chosen_classes, only

_WHERE, _FOLDS, _FRACTION = "evaluation.calibration", "evaluation.folds", "evaluation.validation.nominal_fraction"
_GROUP = "group"


@dataclass(frozen=True)
class NominalCounts:
    """Numbers of the nominal training images of a class.

    Attributes:
        trained: that models are trained on.
        held_out: that are held out for thresholds; with `evaluation.image_score` auto about a fifth more choose it.
    """

    trained: int
    held_out: int

    @classmethod
    def of(cls, images: int, evaluation: Evaluation) -> NominalCounts:
        held_out = held_out_of(images, evaluation.validation.nominal_fraction)
        kept = 1 - SELECTION_SHARE if evaluation.image_score == "auto" else 1
        return cls(images - held_out, round(held_out * kept))

    def folds(self, evaluation: Evaluation) -> int | None:
        """Return the number of models of `cross`; None where they would decide nothing."""
        rate, asked = evaluation.false_alarm_rate, evaluation.folds
        if asked == "auto":
            return fewest_folds(self.trained, rate)
        return None if largest_limit(asked, self.trained // asked, rate) is None else asked


def calibrated(settings: Settings, images: int) -> Settings:
    """Return settings of one class in which nothing about calibration is left open, so that a trial has one id.

    Args:
        settings: of the config.
        images: number of nominal training images of the class.
    """
    evaluation = settings.evaluation
    counts, method = NominalCounts.of(images, evaluation), evaluation.calibration
    folds = counts.folds(evaluation)
    if method == "auto":
        enough = counts.held_out >= fewest_images(evaluation.false_alarm_rate)
        crosses = folds is not None and not _groups(settings.dataset)
        method = "none" if settings.images.nominal_label else "split" if enough else "cross" if crosses else "none"
    changes = {"calibration": method, "folds": folds if method == "cross" and folds else "auto"}
    return settings.model_copy(update={"evaluation": evaluation.model_copy(update=changes)})


def _groups(dataset: Dataset) -> bool:
    """Return whether images are grouped: those of a group would be in a fold and in what its model is trained on."""
    return bool(dataset.options.get(_GROUP))


def _is_open(evaluation: Evaluation) -> bool:
    return evaluation.calibration == "auto" or (evaluation.calibration == "cross" and evaluation.folds == "auto")


@dataclass(frozen=True)
class Calibrations:
    """Closes what `evaluation.calibration` and `evaluation.folds` leave open, class by class.

    Attributes:
        facts: of the data set.
        inspector: has scanned it.
    """

    facts: DatasetFacts
    inspector: DataInspector
    _counts: dict[str, Mapping[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def count(self, written: Settings, settled: Settings) -> None:
        """Keep the numbers of images of settings; data that was scanned as it is written is not scanned again."""
        if _is_open(written.evaluation):
            self._counts[_data_key(settled)] = nominal_counts(
                written.dataset, written.images, self.facts, self.inspector
            )

    def of_class(self, settled: Settings, normal_class: str) -> Settings:
        """Return the settings of the trials of one class."""
        counts = self._counts.get(_data_key(settled), {}) if _is_open(settled.evaluation) else {}
        return calibrated(settled, counts[normal_class]) if normal_class in counts else settled


def _data_key(settings: Settings) -> str:
    return settings.dataset.model_dump_json() + settings.images.model_dump_json()


def nominal_counts(
    dataset: Dataset, images: Images, facts: DatasetFacts, inspector: DataInspector
) -> Mapping[str, int]:
    """Return the number of nominal training images by class; empty where the data is not known completely."""
    chosen = chosen_classes(dataset, facts)
    scan = inspector.scan(only(chosen, dataset), images) if chosen else None
    return {name: scan.nominal_in_training[name] for name in chosen} if scan is not None and scan.is_whole else {}


def calibration_problems(
    sections: ConfigSections, facts: DatasetFacts | None, inspector: DataInspector
) -> Iterator[Problem]:
    """Yield problems of what decisions are calibrated on: what cannot be known before training, or would decide nothing
    at the cost of several trainings."""
    evaluation, dataset, images = sections.evaluation, sections.dataset, sections.images
    if evaluation is None or dataset is None or images is None or facts is None:
        return
    crosses = evaluation.calibration == "cross"
    if crosses and images.nominal_label:
        what = "with images.nominal_label 1 training images count as anomalous: there is nothing to calibrate on"
        yield Problem(_WHERE, f"{what}, found cross", "split, none")
    if crosses and _groups(dataset):
        what = "cross does not keep the groups of dataset.options.group together: each model would have seen images "
        yield Problem(_WHERE, f"{what}of the groups that it left out", "split, none")
    if not crosses and evaluation.calibration != "auto":
        return
    counts = nominal_counts(dataset, images, facts, inspector)
    if counts and crosses:
        yield from _undecided(evaluation, counts)
    elif not counts and _is_open(evaluation) and _to_fetch(dataset, images, facts, inspector):
        key = _WHERE if evaluation.calibration == "auto" else _FOLDS
        step = "Start the sweep once with split, which fetches it, or name split, or cross and a number of folds"
        yield Problem(key, "auto depends on the number of images, and the data is not fetched yet", next_step=step)


def _to_fetch(dataset: Dataset, images: Images, facts: DatasetFacts, inspector: DataInspector) -> bool:
    chosen = chosen_classes(dataset, facts)
    return bool(chosen) and bool(inspector.scan(only(chosen, dataset), images).to_fetch)


def _undecided(evaluation: Evaluation, counts: Mapping[str, int]) -> Iterator[Problem]:
    """Yield a problem for the classes in which calibration `cross` would decide nothing."""
    rate, asked = evaluation.false_alarm_rate, evaluation.folds
    trained = {name: NominalCounts.of(count, evaluation).trained for name, count in counts.items()}
    too_few = {name: count for name, count in trained.items() if fewest_folds(count, rate) is None}
    if too_few:
        fewest = fewest_images(rate)
        what = f"a false-alarm rate of {percent_text(rate)} needs at least {fewest} nominal training images, but "
        step = f"Add images, raise evaluation.false_alarm_rate, or set {_WHERE} to auto, which skips such classes"
        yield Problem(_WHERE, what + listed(too_few), next_step=step)
    if asked == "auto":
        return
    open_ = {name: count for name, count in trained.items() if name not in too_few}
    if few := {name: count for name, count in open_.items() if largest_limit(asked, count // asked, rate) is None}:
        name = min(few, key=lambda each: few[each])
        lowest = percent_text(float(false_alarm_bound(0, asked, few[name] // asked))) if few[name] >= asked else "100%"
        what = f"{asked} models keep no false-alarm rate below {lowest} in class '{name}': {listed(few)}"
        step = f"Set {_FOLDS} to auto, here {fewest_folds(few[name], rate)}"
        yield Problem(_FOLDS, what, next_step=step)


def calibration_notes(settings: Settings, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Yield what calibration auto takes, and why, and keys about it that have no meaning."""
    evaluation = settings.evaluation
    if evaluation.calibration in ("split", "none") and evaluation.folds != "auto":
        yield f"{_FOLDS} has no meaning where {_WHERE} is {evaluation.calibration}: one model is trained."
    holds_out = evaluation.calibration in ("split", "auto") and evaluation.validation.nominal_fraction > 0
    if holds_out and _groups(settings.dataset):
        yield (
            f"Held-out images are drawn one by one, also from groups of dataset.options.{_GROUP} that are trained on: "
            "the false-alarm rate is stated for new images of known groups, and new groups may have more."
        )
    if evaluation.calibration != "auto":
        return
    taken: dict[tuple[str, int], dict[str, int]] = {}
    for name, count in nominal_counts(settings.dataset, settings.images, facts, inspector).items():
        found = calibrated(settings, count)
        taken.setdefault((found.evaluation.calibration, found.models), {})[name] = count
    texts = [_taken_text(settings, method, models, counts) for (method, models), counts in taken.items()]
    yield f"{_WHERE} auto takes {'; '.join(texts)}."


def _taken_text(settings: Settings, method: str, models: int, counts: Mapping[str, int]) -> str:
    """Return what auto takes for classes, and why.

    Args:
        settings: of the config.
        method: that was taken.
        models: that a trial trains.
        counts: nominal training images of each of the classes, held-out ones included.
    """
    evaluation, rate = settings.evaluation, settings.evaluation.false_alarm_rate
    by_class = {name: NominalCounts.of(count, evaluation) for name, count in counts.items()}
    held_out = {name: each.held_out for name, each in by_class.items()}
    besides = ", besides those that choose the image score," if evaluation.image_score == "auto" else ""
    fewest, needed = fewest_images(rate), f"are held out{besides} for a rate of {percent_text(rate)}"
    if method == "split":
        return f"split, as at least {fewest} nominal images {needed} ({listed(held_out)})"
    if settings.images.nominal_label:
        return "none, as images.nominal_label is 1"
    few = f"fewer than {fewest} nominal images {needed} ({listed(held_out)})"
    trained = listed({name: each.trained for name, each in by_class.items()})
    if method == "cross":
        return f"cross with {models} models, as {few} and there are enough to train on ({trained})"
    if _groups(settings.dataset):
        return f"none, as {few} and cross does not keep the groups of dataset.options.group together"
    return f"none, as {few} and there are too few to train on for cross ({trained}): hold out at least {fewest}"


def decision_lines(specs: Iterable[TrialSpec]) -> list[str]:
    """Return what decisions of planned trials are calibrated on, and by how many models, or why there are none."""
    classes: dict[str, list[str]] = {}
    settings_of = {(spec.config_id, spec.normal_class): spec.settings for spec in specs}
    for (_, normal_class), settings in settings_of.items():
        names = classes.setdefault(_decision_text(settings), [])
        if normal_class not in names:
            names.append(normal_class)
    several = len(classes) > 1
    return [f"{text}{_of_classes(names) if several else ''}" for text, names in classes.items()]


def nothing_held_out_text(evaluation: Evaluation) -> str:
    """Return that there is no decision where no nominal images are held out, and how many it needs."""
    rate = evaluation.false_alarm_rate
    besides = ", besides those that choose the image score," if evaluation.image_score == "auto" else ""
    images = f"{fewest_images(rate)} nominal images{besides} for a false-alarm rate of {percent_text(rate)}"
    return f"no decision: hold out at least {images} ({_FRACTION})"


def _of_classes(names: Sequence[str]) -> str:
    more = f" and {count_noun(len(names) - 3, 'more class')}" if len(names) > 3 else ""
    return f" ({', '.join(names[:3])}{more})"


def _decision_text(settings: Settings) -> str:
    evaluation = settings.evaluation
    if evaluation.calibration == "cross":
        each, total = settings.training.epochs, settings.total_epochs
        trained = f"{settings.models} models a trial, each without a fold, {settings.models} x {each} = {total} epochs"
        return f"cross: {trained}"
    if evaluation.calibration != "split":
        return "none: images are scored and not decided about"
    if settings.images.nominal_label:
        return "no decision: images.nominal_label is 1"
    rate, fraction = evaluation.false_alarm_rate, evaluation.validation.nominal_fraction
    if not fraction:
        return nothing_held_out_text(evaluation)
    needed = f"{fewest_images(rate)} or more give a false-alarm rate of {percent_text(rate)}"
    return f"split: on the {fraction:.0%} of the nominal training images that are held out; {needed}"

"""The images that settings are selected on: defaults per data set, checks and notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fcdd_sweep.anomalies.limits import MOST_IN_VALIDATION, reservable, reserved_of
from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES, SOURCES, other_generator
from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.fields import VALIDATION_NAMES, DatasetSource, FolderSource, FromTestSource, Validation
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Dataset, Evaluation, Images, Settings
from fcdd_sweep.data.corpus import held_out_of
from fcdd_sweep.data.decoding.folders import no_folder
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.metrics.decision import fewest_images
from fcdd_sweep.metrics.score_choice import SELECTION_SHARE
from fcdd_sweep.planning.anomaly_checks import data_set_problems, resolved
from fcdd_sweep.planning.calibration import nothing_held_out_text
from fcdd_sweep.planning.data_counts import anomalies_in_training, defect_counts, listed
from fcdd_sweep.planning.sections import ConfigSections, DataInspector, chosen_classes, only

FEW = 50
"""Fewer held-out nominal images rank configs poorly: at an AUROC of 0.9 its standard error is then above 0.02."""
_WHERE = "evaluation.validation.anomalies"


@dataclass(frozen=True)
class ValidationDefault:
    """How settings are selected on a data set where the file does not say.

    Attributes:
        nominal_fraction: leaves about 50 held-out images per class or more, where the class has enough.
        anomalies: `training`; `synthetic`, a generator that training does not use; `protocol`, `training` where other
            classes are the anomalies, else `synthetic`.
    """

    nominal_fraction: float
    anomalies: Literal["training", "synthetic", "protocol"]


VALIDATION_DEFAULTS: dict[str, ValidationDefault] = {
    # other classes, as in the test set, but none of its images
    "digits": ValidationDefault(0.33, "training"),  # 40 of 120
    "mnist": ValidationDefault(0.1, "training"),  # 500 and more of some thousands
    "fmnist": ValidationDefault(0.1, "training"),
    "emnist": ValidationDefault(0.1, "training"),
    "cifar10": ValidationDefault(0.1, "training"),
    "cifar100": ValidationDefault(0.2, "training"),  # 100 of 500
    "pascalvoc": ValidationDefault(0.33, "training"),  # a few hundred in the rarer classes
    "imagenet": ValidationDefault(0.2, "training"),  # 260 of 1,300
    # graded cells of the training split, which only mode `other` trains on
    "solar": ValidationDefault(0.2, "training"),
    # no anomalies outside of the test set: rendered ones; a third of as few as 60 images
    "textures": ValidationDefault(0.33, "synthetic"),
    "mvtec": ValidationDefault(0.33, "synthetic"),
    "mvtec_loco": ValidationDefault(0.2, "synthetic"),  # 60 and more of 300 and more
    "folder": ValidationDefault(0.33, "protocol"),
}
"""By data set; a data set that is not listed counts as `folder`."""


def validation_for_search(settings: Settings, facts: DatasetFacts) -> Validation:
    """Return what a search selects on where `evaluation.validation` is left out.

    Args:
        settings: those of any config of the search; its training source decides which other generator renders.
        facts: of its data set.
    """
    default = VALIDATION_DEFAULTS.get(settings.dataset.name, VALIDATION_DEFAULTS["folder"])
    kind = default.anomalies
    if kind == "protocol":
        kind = "training" if facts.protocol == "one_vs_rest" else "synthetic"
    anomalies = other_generator(settings) if kind == "synthetic" else kind
    return Validation(nominal_fraction=default.nominal_fraction, anomalies=anomalies)


def validation_problems(
    sections: ConfigSections, facts: DatasetFacts | None, inspector: DataInspector
) -> Iterator[Problem]:
    """Yield problems of the images that settings are selected on."""
    if sections.evaluation is None:
        return
    validation = sections.evaluation.validation
    if validation.anomalies == "none":
        if validation.epochs:
            what = "there are no validation anomalies, so no AUROC can be measured"
            yield Problem("evaluation.validation.epochs", what, next_step=f"Set {_WHERE}")
        return
    if not validation.nominal_fraction:
        what = "validation anomalies are compared with held-out nominal images, and none are held out"
        step = "Set evaluation.validation.nominal_fraction to 0.2, for instance"
        yield Problem("evaluation.validation.nominal_fraction", what, "above 0", step)
    match validation.anomalies:
        case "training":
            yield from _training(sections, facts, inspector)
        case FromTestSource(from_test=count):
            yield from _from_test(count, sections, facts, inspector)
        case DatasetSource() | FolderSource() as source:
            yield from _other_images(source, sections, inspector)
        case name:
            yield from _generator(name, sections)


def _generator(name: str, sections: ConfigSections) -> Iterator[Problem]:
    if name in REAL_SOURCES:
        what = f"'{name}' is a training source; real test anomalies are given by their number here"
        yield Problem(_WHERE, what, next_step="Write {from_test: 1}")
    elif name not in SOURCES:
        step = f"Images of a data set are written as {{dataset: {name}}}" if name in DATA_SETS else ""
        allowed = [*VALIDATION_NAMES, *SOURCES, "{dataset: NAME}", "{folder: PATH}", "{from_test: N}"]
        step = step or closest(name, [*VALIDATION_NAMES, *SOURCES])
        yield Problem(_WHERE, f"there is no source '{name}'", ", ".join(allowed), step)
    elif sections.anomalies is not None and sections.anomalies.source == name:
        what = f"training uses '{name}', too: configs that fit it would be rewarded"
        others = ", ".join(source for source in SOURCES if source != name)
        yield Problem(_WHERE, what, others, "Choose another generator for validation")


def _training(sections: ConfigSections, facts: DatasetFacts | None, inspector: DataInspector) -> Iterator[Problem]:
    if sections.dataset is None or facts is None:
        return
    if facts.protocol == "defects" and not facts.trains_with_anomalies:
        what = f"the training split of '{sections.dataset.name}' holds no anomalies"
        yield Problem(
            _WHERE, what, next_step="Name a synthetic source, {dataset: NAME}, {folder: PATH} or {from_test: N}"
        )
        return
    chosen = chosen_classes(sections.dataset, facts)
    if sections.images is None or not chosen:
        return
    scan = inspector.scan(only(chosen, sections.dataset), sections.images)
    pools = anomalies_in_training(scan, facts, chosen)
    if scan.is_whole and (few := [name for name in chosen if not reserved_of(pools[name])]):
        what = f"half of the training split's anomalies evaluate configs, and {', '.join(few)} has fewer than two"
        yield Problem(_WHERE, what, next_step="Add some, or leave these classes out of dataset.classes")


def _from_test(
    count: int, sections: ConfigSections, facts: DatasetFacts | None, inspector: DataInspector
) -> Iterator[Problem]:
    if sections.dataset is None or facts is None:
        return
    if facts.protocol != "defects":
        what = (
            f"test anomalies are reserved by defect type, but those of '{sections.dataset.name}' are its other classes"
        )
        yield Problem(_WHERE, what, next_step="Choose training: other classes' images of the training split")
    elif sections.images is not None:
        for name, defects in defect_counts(sections.dataset, sections.images, facts, inspector).items():
            if not any(reservable(n, count) for n in defects.values()):
                what = f"class '{name}' has no defect type with two test images, one to select on and one to test on"
                yield Problem(
                    _WHERE, what, next_step="Leave the class out of dataset.classes, or choose another source"
                )
            elif _trains_on_real(sections) and not any(n - reservable(n, count) > 1 for n in defects.values()):
                what = f"class '{name}' has no defect type with {count + 2} test images, {count} to select on, one to "
                what += "train on and one to test on"
                yield Problem(_WHERE, what, next_step="Reserve fewer, or choose another source")


def _trains_on_real(sections: ConfigSections) -> bool:
    return sections.anomalies is not None and sections.anomalies.source in REAL_SOURCES


def _other_images(
    source: DatasetSource | FolderSource, sections: ConfigSections, inspector: DataInspector
) -> Iterator[Problem]:
    trained = None if sections.anomalies is None else sections.anomalies.source
    if isinstance(source, FolderSource):
        yield from _folder(source, trained if isinstance(trained, FolderSource) else None, sections, inspector)
        return
    instead = "Choose training: the anomalies of its training split"
    for problem in data_set_problems(source, sections, inspector, instead):
        yield replace(problem, **{key: _here(getattr(problem, key)) for key in ("where", "next_step")})
    if (
        isinstance(trained, DatasetSource)
        and trained.dataset == source.dataset
        and resolved(trained.root) != resolved(source.root)
    ):
        what = f"training draws from '{source.dataset}' in {trained.root}: images may be the same"
        yield Problem(
            f"{_WHERE}.root", what, str(trained.root), "Name the same folder: its images are divided between the two"
        )


def _here(text: str) -> str:
    return text.replace("anomalies.source.", f"{_WHERE}.")


def _folder(
    source: FolderSource, trained: FolderSource | None, sections: ConfigSections, inspector: DataInspector
) -> Iterator[Problem]:
    where, folder = f"{_WHERE}.folder", source.folder.resolve()
    if reason := no_folder(source.folder):
        yield Problem(where, reason)
        return
    if not inspector.has_images(source.folder):
        yield Problem(where, f"there is no image below {source.folder}")
    if trained is not None and _overlap(folder, trained.folder.resolve()):
        what = f"{source.folder} and the training source {trained.folder} contain each other"
        yield Problem(where, what, next_step="Name the same folder, which is divided between the two, or separate ones")
    if (
        sections.dataset is not None
        and sections.images is not None
        and _holds_data(folder, sections.dataset, sections.images, inspector)
    ):
        what = f"{source.folder} holds images of the data set in {sections.dataset.root}, which may be test images"
        yield Problem(where, what, next_step="Choose a folder outside of it, or training, or {from_test: N}")


def _overlap(folder: Path, other: Path) -> bool:
    return folder != other and (folder in other.parents or other in folder.parents)


def _holds_data(folder: Path, dataset: Dataset, images: Images, inspector: DataInspector) -> bool:
    """Return whether images of a data set are below a folder."""
    if dataset.root is None:
        return False
    root = dataset.root.resolve()
    root = root.parent if root.is_file() else root  # a table of images
    if folder == root or folder in root.parents:
        return True
    if root not in folder.parents:
        return False
    below = printable(f"{folder.relative_to(root).as_posix()}/")
    scan = inspector.scan(dataset.model_copy(update={"classes": "all"}), images)
    return any(record.path.startswith(below) for record in scan.records)


def threshold_notes(settings: Settings, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Yield notes on decisions that are asked for and that trials will not make."""
    evaluation = settings.evaluation
    fraction = evaluation.validation.nominal_fraction
    auto = evaluation.image_score == "auto"
    if auto and not fraction:
        yield (
            "evaluation.image_score auto takes the mean of the anomaly map, as no nominal images are held out to "
            "choose on. Set evaluation.validation.nominal_fraction, or name a score."
        )
    if evaluation.calibration != "split":  # see `planning.calibration`
        return
    if not fraction:
        if evaluation.false_alarm_rate != Evaluation.model_fields["false_alarm_rate"].default:
            yield (
                "evaluation.false_alarm_rate has no meaning without held-out nominal images: trials have no "
                "threshold. Set evaluation.validation.nominal_fraction."
            )
        elif (auto or settings.dataset.name == "folder") and not settings.images.nominal_label:
            yield f"{nothing_held_out_text(evaluation)}."
        return
    if settings.images.nominal_label:
        yield "images.nominal_label is 1: trials have no threshold, although nominal images are held out."
        return
    classes = chosen_classes(settings.dataset, facts)
    scan = inspector.scan(only(classes, settings.dataset), settings.images)
    if not scan.is_whole:
        return
    rate = evaluation.false_alarm_rate
    held_out = {name: held_out_of(scan.nominal_in_training[name], fraction) for name in classes}
    kept = 1 - SELECTION_SHARE if auto else 1
    calibrating = {name: round(count * kept) for name, count in held_out.items()}
    if few := {name: count for name, count in calibrating.items() if count < fewest_images(rate)}:
        besides = "About a fifth more choose the image score. " if auto else ""
        yield (
            f"No decision: a false-alarm rate of {rate:g} needs {fewest_images(rate)} held-out nominal images, and of "
            f"those that evaluation.validation.nominal_fraction {fraction:g} holds out, {listed(few)}. "
            f"{besides}Raise it, or add images."
        )


def validation_notes(settings: Settings, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Yield notes on selection data that is allowed but of little use."""
    validation, training = settings.evaluation.validation, settings.training
    if late := [epoch for epoch in validation.epochs if epoch > training.epochs]:
        yield f"evaluation.validation.epochs: {', '.join(map(str, late))} are after the last epoch."
    if not settings.evaluation.test and validation.anomalies == "none":
        yield "evaluation.test is false and there are no validation anomalies: trials have no metrics."
    if validation.anomalies == "none":
        return
    classes = chosen_classes(settings.dataset, facts)
    scan = inspector.scan(only(classes, settings.dataset), settings.images)
    if not scan.is_whole:
        return
    held_out = {name: held_out_of(scan.nominal_in_training[name], validation.nominal_fraction) for name in classes}
    if few := {name: count for name, count in held_out.items() if count < FEW}:
        yield (
            f"few nominal images are held out to compare configs: {listed(few)}. Check the noise in "
            "validation_image_auroc_std_error, or validation_image_auroc_max_std_error, or raise "
            "evaluation.validation.nominal_fraction."
        )
    if isinstance(validation.anomalies, FromTestSource):
        asked = validation.anomalies.from_test
        for name, defects in defect_counts(settings.dataset, settings.images, facts, inspector).items():
            few_of = [f"{reservable(n, asked)} of {n} '{kind}'" for kind, n in sorted(defects.items()) if n <= asked]
            if few_of:
                yield (
                    f"class '{name}': {asked} test images per defect type were to evaluate configs, but one must stay: "
                    + (", ".join(few_of))
                )
    real = MODES[settings.anomalies.mode].real and validation.anomalies == "training"
    if real and settings.anomalies.limit == "all":
        yield (
            f"half of the training split's anomalies, {MOST_IN_VALIDATION} at most, evaluate configs: training has "
            "the others."
        )

"""Checks of training anomalies, of real ones that leave the test set, and of supervision. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from fcdd_sweep.anomalies.limits import reservable
from fcdd_sweep.anomalies.registry import DARKENING, MODES, REAL_SOURCES, SOURCES, ModeInfo
from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.fields import DatasetSource, FolderSource, FromTestSource
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Anomalies, Dataset, Settings
from fcdd_sweep.data.decoding.folders import no_folder
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.planning.data_counts import DefectCounts, defect_counts
from fcdd_sweep.planning.sections import ConfigSections, DataInspector, chosen_classes, only


def anomaly_problems(
    sections: ConfigSections, facts: DatasetFacts | None, inspector: DataInspector
) -> Iterator[Problem]:
    """Yield problems of mode, source, limit and data that do not fit each other."""
    anomalies = sections.anomalies
    if anomalies is None:
        return
    mode = MODES[anomalies.mode]
    yield from _source(anomalies, mode, sections, inspector)
    yield from _real(sections, facts, inspector)
    if anomalies.mode == "unsupervised" and not anomalies.online:
        what = "mode 'unsupervised' makes no anomalies, neither before nor during training"
        yield Problem("anomalies.online", what, "true", "Remove the key, or choose another anomalies.mode")
    if anomalies.source in REAL_SOURCES:
        return
    if anomalies.limit != "all" and (not mode.real and isinstance(anomalies.source, str | None)):
        what = f"a limit of {anomalies.limit} has no meaning here: "
        what += "a synthetic source is unlimited" if anomalies.source else f"mode '{anomalies.mode}' uses no anomalies"
        yield Problem("anomalies.limit", what, "all", "Remove the key, or set it to all")
    if mode.real and facts is not None and sections.dataset is not None and not facts.trains_with_anomalies:
        what = f"mode 'other' needs anomalies in the training split, and '{sections.dataset.name}' has none"
        others = [name for name, info in MODES.items() if not info.real]
        yield Problem("anomalies.mode", what, ", ".join(others))
    elif mode.real and facts is not None and facts.protocol == "defects":
        yield from _classes_without_anomalies(sections, facts, inspector)


def _classes_without_anomalies(
    sections: ConfigSections, facts: DatasetFacts, inspector: DataInspector
) -> Iterator[Problem]:
    """Yield a problem for classes without training anomalies: mode `other` trains each class on its own."""
    if sections.dataset is None or sections.images is None or not (chosen := chosen_classes(sections.dataset, facts)):
        return
    scan = inspector.scan(only(chosen, sections.dataset), sections.images)
    without = [name for name in chosen if not scan.anomalous_in_training[name]]
    if without and scan.is_whole:
        what = f"mode 'other' needs anomalies in the training split, and it has none of {', '.join(without)}"
        yield Problem("anomalies.mode", what, next_step="Add some, or leave these classes out of dataset.classes")


def _source(
    anomalies: Anomalies, mode: ModeInfo, sections: ConfigSections, inspector: DataInspector
) -> Iterator[Problem]:
    source, where = anomalies.source, "anomalies.source"
    if source is None:
        if mode.needs_source:
            yield Problem(where, f"mode '{anomalies.mode}' needs a source", _sources_for(mode))
    elif not mode.needs_source:
        step = f"Remove the key, or choose another mode: {', '.join(name for name, m in MODES.items() if m.sources)}"
        yield Problem(where, f"mode '{anomalies.mode}' takes no source", next_step=step)
    elif isinstance(source, str) and source in REAL_SOURCES:
        if "real" not in mode.sources:
            what = f"mode '{anomalies.mode}' adds a synthetic source to the image and takes no other images"
            yield Problem(where, what, _sources_for(mode), "For real anomalies choose anomalies.mode: noise")
    elif isinstance(source, str):
        if source not in SOURCES:
            kind = "source" if "real" in mode.sources else "synthetic source"
            yield Problem(where, f"there is no {kind} '{source}'", _sources_for(mode), _source_step(source))
        elif source in DARKENING and anomalies.mode == "noise":
            what = f"'{source}' only darkens: in place of an image it is black, and the network learns only that"
            yield Problem(where, what, next_step="Choose anomalies.mode: malformed_normal, or another source")
    elif "exposure" not in mode.sources:
        what = f"mode '{anomalies.mode}' adds a synthetic source to the image and takes no other images"
        yield Problem(where, what, _sources_for(mode), "For outlier exposure choose anomalies.mode: noise")
    else:
        yield from _exposure(source, sections, inspector)


def _sources_for(mode: ModeInfo) -> str:
    real = REAL_SOURCES if "real" in mode.sources else ()
    exposure = ["{dataset: NAME}", "{folder: PATH}"] if "exposure" in mode.sources else []
    return ", ".join([*SOURCES, *real, *exposure])


def _real(sections: ConfigSections, facts: DatasetFacts | None, inspector: DataInspector) -> Iterator[Problem]:
    dataset, images, evaluation = sections.dataset, sections.images, sections.evaluation
    if dataset is None or facts is None:
        return
    reserved = 0 if evaluation is None else evaluation.reserved_anomalies

    def counted() -> DefectCounts:
        return {} if images is None else defect_counts(dataset, images, facts, inspector)

    yield from real_problems(sections.anomalies, reserved, dataset, facts, counted)


def _source_step(source: str) -> str:
    if source in DATA_SETS:
        return f"Images of a data set are written as {{dataset: {source}}}"
    return closest(source, [*SOURCES, *REAL_SOURCES])


def _exposure(
    source: DatasetSource | FolderSource, sections: ConfigSections, inspector: DataInspector
) -> Iterator[Problem]:
    if isinstance(source, FolderSource):
        if reason := no_folder(source.folder):
            yield Problem("anomalies.source.folder", reason)
        elif not inspector.has_images(source.folder):
            yield Problem("anomalies.source.folder", f"there is no image below {source.folder}")
        return
    instead = "Choose another one, or anomalies.mode: other for its real anomalies"
    yield from data_set_problems(source, sections, inspector, instead)


def data_set_problems(
    source: DatasetSource, sections: ConfigSections, inspector: DataInspector, instead: str
) -> Iterator[Problem]:
    """Yield reasons why no anomalies can come from a data set.

    Args:
        source: the data set that is named.
        sections: of the config.
        inspector: scans the data set.
        instead: the next step where the source is the trained data set itself.
    """
    where = "anomalies.source.dataset"
    if source.dataset not in DATA_SETS:
        what, step = f"there is no data set '{source.dataset}'", closest(source.dataset, DATA_SETS)
        yield Problem(where, what, ", ".join(DATA_SETS), step)
    elif holds_normal_class(source, sections.dataset):
        what = f"'{source.dataset}' is the data set itself, and holds the normal class"
        yield Problem(where, what, next_step=instead)
    elif sections.images is not None:
        yield from inspector.exposure_problems(source, sections.dataset, sections.images)


def resolved(root: Path | None) -> Path | None:
    return None if root is None else root.resolve()  # links may lead to one folder


def holds_normal_class(source: DatasetSource, dataset: Dataset | None) -> bool:
    """Return whether the source is the data set itself; a streamed one leaves the data set's classes out."""
    same = dataset is not None and dataset.name == source.dataset and resolved(dataset.root) == resolved(source.root)
    return same and not DATA_SETS[source.dataset].streamed


def baseline_problems(sections: ConfigSections) -> Iterator[Problem]:
    """Yield problems of baselines: they train without maps, and an autoencoder would learn to rebuild anomalies."""
    if sections.training is not None and sections.training.supervision == "maps":
        yield Problem("training.supervision", f"method '{sections.method}' trains from labels alone", "labels")
    if sections.method == "ae" and sections.anomalies is not None and sections.anomalies.mode != "unsupervised":
        what = (
            f"method 'ae' rebuilds whatever it is trained on, so mode '{sections.anomalies.mode}' would hide anomalies"
        )
        yield Problem("anomalies.mode", what, "unsupervised")
    if sections.method == "ae" and sections.images is not None and sections.images.nominal_label:
        what = "method 'ae' rebuilds the normal class and cannot push it away: its scores would be reversed"
        yield Problem("images.nominal_label", what, "0")


def supervision_of(settings: Settings, facts: DatasetFacts) -> Literal["labels", "maps"]:
    """Return what a trial's loss is on: `training.supervision`, or what `auto` means for its data and mode."""
    asked = settings.training.supervision
    if asked != "auto":
        return asked
    has_maps = facts.maps or MODES[settings.anomalies.mode].gives_maps
    return "maps" if has_maps and settings.method == "fcdd" else "labels"


def supervision_notes(settings: Settings, facts: DatasetFacts) -> Iterator[str]:
    """Yield a note on ground-truth maps that training leaves aside."""
    if settings.training.supervision == "labels" and facts.maps and settings.method == "fcdd":
        yield (
            f"training.supervision is labels: the ground-truth maps of '{settings.dataset.name}' measure heatmaps and "
            "are not trained on. Remove the key to train on them."
        )


def supervision_problems(sections: ConfigSections, facts: DatasetFacts | None) -> Iterator[Problem]:
    """Yield problems of labels or maps that mode or data set do not allow."""
    if sections.training is None or sections.anomalies is None:
        return
    mode, where = sections.anomalies.mode, "training.supervision"
    if sections.training.supervision == "maps":
        mapless = facts is not None and not facts.maps and not MODES[mode].sources
        if mapless and sections.dataset is not None:
            what = f"'{sections.dataset.name}' has no ground-truth maps, and mode '{mode}' makes none"
            yield Problem(where, what, "labels")
    elif sections.training.supervision == "labels" and MODES[mode].gives_maps:
        step = "Remove the key, or set anomalies.mode: malformed_normal"
        yield Problem(where, f"mode '{mode}' trains on the maps of changed pixels", "maps", step)


def reserved_per_defect(settings: Settings) -> int:
    """Return the number of test anomalies of each defect type that a config needs out of the test set."""
    asked, limit = settings.evaluation.reserved_anomalies, settings.anomalies.limit
    return max(asked, limit) if settings.anomalies.source in REAL_SOURCES and limit != "all" else asked


def left_for_training(settings: Settings, count: int) -> int:
    """Return how many of `count` test images of a defect type are left after those for selection."""
    selecting = settings.evaluation.validation.anomalies
    return count - (reservable(count, selecting.from_test) if isinstance(selecting, FromTestSource) else 0)


def real_problems(
    anomalies: Anomalies | None,
    reserved: int,
    dataset: Dataset,
    facts: DatasetFacts,
    counted: Callable[[], DefectCounts],
) -> Iterator[Problem]:
    """Yield problems of real anomalies that are to leave the test set.

    Args:
        anomalies: None where that section is broken.
        reserved: `evaluation.reserved_anomalies` as it was given.
        counted: counts the data; called only where the result matters.
    """
    source = anomalies.source if anomalies is not None and anomalies.source in REAL_SOURCES else None
    if facts.protocol != "defects":
        if source or reserved:
            yield _no_defects(str(source or ""), reserved, dataset)
        return
    if source is None or anomalies is None:
        return
    if source == "mvtec_gt" and not facts.maps:
        what = f"'mvtec_gt' trains on ground-truth maps, and '{dataset.name}' has none"
        yield Problem("anomalies.source", what, next_step="Choose anomalies.source: mvtec")
    if anomalies.limit == "all":
        what = f"'{source}' takes its images out of the test set, and with 'all' none would stay"
        yield Problem("anomalies.limit", what, "a whole number, how many of each defect type", "Set it to 1")
        return
    for name, defects in counted().items():
        if not any(reservable(count, anomalies.limit) for count in defects.values()):
            what = f"class '{name}' has no defect type with two test images, one to train on and one to test on"
            step = "Leave the class out of dataset.classes, or choose another source"
            yield Problem("anomalies.source", what, next_step=step)


def _no_defects(source: str, reserved: int, dataset: Dataset) -> Problem:
    where, what = ("anomalies.source", f"'{source}'") if source else ("evaluation.reserved_anomalies", f"{reserved}")
    what += f" takes test anomalies by defect type, but those of '{dataset.name}' are its other classes"
    named = source in DATA_SETS
    return Problem(where, what, next_step=f"For images of that data set write {{dataset: {source}}}" if named else "")


def reserved_notes(settings: Settings, asked: int, counts: DefectCounts) -> Iterator[str]:
    """Yield a note per class with defect types of which fewer images leave the test set than asked for."""
    for name, found in counts.items():
        defects = {kind: left_for_training(settings, count) for kind, count in found.items()}
        few = [f"{reservable(n, asked)} of {n} '{kind}'" for kind, n in sorted(defects.items()) if n <= asked]
        if few:
            yield (
                f"class '{name}': {asked} test images per defect type were to be reserved, but one must stay: "
                + ", ".join(few)
            )

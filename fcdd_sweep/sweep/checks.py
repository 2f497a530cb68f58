"""What an experiment names against what there is: data sets, classes, networks, sources. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_args

from fcdd_sweep.anomalies.registry import DARKENING, MODES, REAL_SOURCES, SOURCES, ModeInfo
from fcdd_sweep.config.errors import DataError, Problem, closest
from fcdd_sweep.config.loading import Draft
from fcdd_sweep.config.origin import Origin
from fcdd_sweep.config.schema import (
    Anomalies,
    Dataset,
    DatasetSource,
    Evaluation,
    FolderSource,
    Images,
    Network,
    Settings,
    Training,
)
from fcdd_sweep.config.trial import slug
from fcdd_sweep.data.files import image_files
from fcdd_sweep.data.loading import (
    check_exposure,
    classes_of,
    dataset_of,
    defects_in_test,
    has_maps,
    protocol_of,
    scan_dataset,
    told_of_source,
    trains_with_anomalies,
)
from fcdd_sweep.data.records import Discovery, Scan
from fcdd_sweep.data.registry import DATA_SETS, swept
from fcdd_sweep.networks.describe import problems_of_network
from fcdd_sweep.sweep.set_aside import Counts, real_problems


@dataclass(frozen=True)
class Parts:
    """The sections that name things; None where a section of a broken experiment is not sound by itself."""

    dataset: Dataset | None
    images: Images | None
    anomalies: Anomalies | None
    network: Network | None
    training: Training | None
    evaluation: Evaluation | None
    method: str | None

    @classmethod
    def of_settings(cls, settings: Settings) -> Parts:
        return cls(*(getattr(settings, part.name) for part in fields(cls)))

    @classmethod
    def of_draft(cls, draft: Draft) -> Parts:
        return cls(
            draft.section("dataset", Dataset),
            draft.section("images", Images),
            draft.section("anomalies", Anomalies),
            draft.section("network", Network),
            draft.section("training", Training),
            draft.section("evaluation", Evaluation),
            _sound_method(draft),
        )


def _sound_method(draft: Draft) -> str | None:
    method = draft.tree.get("method", "fcdd")
    return method if method in get_args(Settings.model_fields["method"].annotation) else None


class Looks:
    """Looks at each data set, folder and network once, however many configs use it."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str], Scan] = {}
        self._streamed: dict[tuple[str, str | None], list[Problem]] = {}
        self._images: dict[Path, bool] = {}
        self._networks: dict[tuple[str, str, int | None, int | None], list[Problem]] = {}

    def problems(self, dataset: Dataset, images: Images) -> list[Problem]:
        return list(self.scan(dataset, images).problems)

    def scan(self, dataset: Dataset, images: Images) -> Scan:
        key = (dataset.model_dump_json(), images.model_dump_json())
        if key not in self._data:
            self._data[key] = scan_dataset(dataset, images)
        return self._data[key]

    @property
    def notes(self) -> list[str]:
        """What will be fetched before the first trial."""
        return [scan.to_fetch for scan in self._data.values() if scan.to_fetch]

    def network(self, network: Network, method: str, images: Images | None) -> list[Problem]:
        channels, size = (None, None) if images is None else (images.channels, images.size)
        key = (network.model_dump_json(), method, channels, size)
        if key not in self._networks:
            self._networks[key] = list(problems_of_network(network, method, channels, size))
        return self._networks[key]

    def exposure_problems(self, source: DatasetSource, target: Dataset | None, images: Images) -> list[Problem]:
        if not DATA_SETS[source.dataset].streamed:
            return told_of_source(self.problems(dataset_of(source), images))
        name = None if target is None else target.name
        key = (source.model_dump_json(), name)
        if key not in self._streamed:
            self._streamed[key] = check_exposure(source, name, images)
        return self._streamed[key]

    def has_images(self, folder: Path) -> bool:
        if folder not in self._images:
            self._images[folder] = bool(image_files(folder))
        return self._images[folder]


def facts_of(dataset: Dataset | None) -> tuple[Discovery | None, list[Problem]]:
    """What the data set has, or why that cannot be told."""
    if dataset is None:
        return None, []
    if dataset.name not in DATA_SETS:
        what = f"there is no data set '{dataset.name}'"
        return None, [Problem("dataset.name", what, ", ".join(swept()), closest(dataset.name, swept()))]
    if DATA_SETS[dataset.name].exposure_only:
        what = f"'{dataset.name}' serves as outlier exposure alone: it has no classes to train on"
        step = f"Name it in anomalies.source: {{dataset: {dataset.name}, root: DIR}}"
        return None, [Problem("dataset.name", what, ", ".join(swept()), step)]
    try:
        facts = (protocol_of(dataset), classes_of(dataset), has_maps(dataset), trains_with_anomalies(dataset))
    except DataError as error:
        return None, list(error.problems)
    return Discovery(*facts), []


def problems_of(parts: Parts, facts: Discovery | None, origin: Origin, looks: Looks) -> list[Problem]:
    """Everything that is wrong with the names in `parts`, each problem with the place where it was written."""
    problems = [*_network(parts, looks), *_anomalies(parts, facts, looks)]
    problems += _baseline(parts) if parts.method != "fcdd" else _supervision(parts, facts)
    if parts.dataset is not None and parts.dataset.name in swept():
        problems += _data(parts.dataset, parts.images, facts, looks)
    return [located(problem, origin) for problem in dict.fromkeys(problems)]


def located(problem: Problem, origin: Origin) -> Problem:
    """A problem about a key of the experiment, with its file and line; a problem about a path stays as it is."""
    is_key = problem.where.split(".")[0] in Settings.model_fields and "/" not in problem.where
    return replace(problem, where=origin.where(problem.where)) if is_key else problem


def chosen_classes(dataset: Dataset, facts: Discovery) -> tuple[str, ...]:
    """Names of the normal classes to train on, in the order of the file; unknown ones are left out."""
    if dataset.classes == "all":
        return facts.classes
    names = (_class_name(wanted, facts.classes) for wanted in dataset.classes)
    return tuple(name for name in names if name is not None)


def _class_name(wanted: str | int, classes: tuple[str, ...]) -> str | None:
    if isinstance(wanted, str):
        return wanted if wanted in classes else None
    return classes[wanted] if 0 <= wanted < len(classes) else None


def _data(dataset: Dataset, images: Images | None, facts: Discovery | None, looks: Looks) -> Iterator[Problem]:
    known = DATA_SETS[dataset.name]
    if dataset.root is not None and not known.needs_root:
        what = f"'{known.name}' needs no folder, found {dataset.root}"
        yield Problem("dataset.root", what, next_step="Remove the key")
    chosen = () if facts is None else chosen_classes(dataset, facts)
    if facts is not None:
        yield from _classes(dataset, facts)
        yield from _folder_names(chosen)
    if images is not None and images.aspect == "crop" and facts is not None and facts.maps:
        what = f"'{dataset.name}' has ground-truth maps, which are those of whole images"
        yield Problem("images.aspect", what, "stretch", "Set images.aspect: stretch")
    if images is not None and (facts is None or chosen):
        # Classes that do not exist are reported above; the others' files are still looked at.
        yield from looks.problems(_only(chosen, dataset), images)


def _only(chosen: tuple[str, ...], dataset: Dataset) -> Dataset:
    return dataset.model_copy(update={"classes": list(chosen) or "all"})


def _classes(dataset: Dataset, facts: Discovery) -> Iterator[Problem]:
    if dataset.classes == "all":
        return
    if not dataset.classes:
        yield Problem("dataset.classes", "the list of classes is empty", f"all, or some of {', '.join(facts.classes)}")
    for wanted in dataset.classes:
        yield from _one_class(wanted, dataset.name, facts.classes)
    for name, count in Counter(chosen_classes(dataset, facts)).items():
        if count > 1:
            yield Problem("dataset.classes", f"class '{name}' is listed {count} times", next_step="List it once")


def _one_class(wanted: str | int, dataset: str, classes: tuple[str, ...]) -> Iterator[Problem]:
    name = _class_name(wanted, classes)
    if isinstance(wanted, str) and name is None:
        step = closest(wanted, classes)
        yield Problem("dataset.classes", f"'{dataset}' has no class '{wanted}'", ", ".join(classes), step)
    elif name is None:
        allowed = f"0 to {len(classes) - 1}, or names: {', '.join(classes)}"
        yield Problem("dataset.classes", f"'{dataset}' has no class number {wanted}", allowed)
    elif isinstance(wanted, int) and str(wanted) in classes and name != str(wanted):
        what = f"{wanted} may mean class number {wanted}, which is '{name}', or the class named '{wanted}'"
        yield Problem("dataset.classes", what, next_step=f"Write the name in quotes: '{name}' or '{wanted}'")


def _folder_names(classes: tuple[str, ...]) -> Iterator[Problem]:
    """Every class has a folder in the run; two may not share one, also where upper and lower case do not differ."""
    first: dict[str, str] = {}
    for name in classes:
        other = first.setdefault(slug(name).casefold(), name)
        if other != name:
            what = f"the results of classes '{other}' and '{name}' would share the folder normal_{slug(name)}"
            yield Problem("dataset.classes", what, next_step="Rename one of them, or list only one")


def _network(parts: Parts, looks: Looks) -> list[Problem]:
    if parts.network is None or parts.method is None:
        return []
    return looks.network(parts.network, parts.method, parts.images)


def _anomalies(parts: Parts, facts: Discovery | None, looks: Looks) -> Iterator[Problem]:
    anomalies = parts.anomalies
    if anomalies is None:
        return
    mode = MODES[anomalies.mode]
    yield from _source(anomalies, mode, parts, looks)
    yield from _real(parts, facts, looks)
    if anomalies.mode == "unsupervised" and not anomalies.online:
        what = "mode 'unsupervised' makes no anomalies, neither before training nor in it"
        yield Problem("anomalies.online", what, "true", "Remove the key, or choose another anomalies.mode")
    if anomalies.source in REAL_SOURCES:
        return
    if anomalies.limit != "all" and (not mode.real and isinstance(anomalies.source, str | None)):
        what = f"a limit of {anomalies.limit} has no meaning here: "
        what += "a synthetic source has no end" if anomalies.source else f"mode '{anomalies.mode}' uses no anomalies"
        yield Problem("anomalies.limit", what, "all", "Remove the key, or set it to all")
    if mode.real and facts is not None and parts.dataset is not None and not facts.trains_with_anomalies:
        what = f"mode 'other' needs anomalies in the training split, and '{parts.dataset.name}' has none there"
        others = [name for name, info in MODES.items() if not info.real]
        yield Problem("anomalies.mode", what, ", ".join(others))
    elif mode.real and facts is not None and facts.protocol == "defects":
        yield from _classes_without_anomalies(parts, facts, looks)


def _classes_without_anomalies(parts: Parts, facts: Discovery, looks: Looks) -> Iterator[Problem]:
    """Mode `other` trains each class on its own anomalies, and not every class need have some."""
    if parts.dataset is None or parts.images is None or not (chosen := chosen_classes(parts.dataset, facts)):
        return
    scan = looks.scan(_only(chosen, parts.dataset), parts.images)
    having = {record.class_name for record in scan.records if record.is_anomalous and not record.is_test}
    without = [name for name in chosen if name not in having]
    if without and not (scan.problems or scan.to_fetch):
        what = f"mode 'other' needs anomalies in the training split, and there are none of {', '.join(without)}"
        yield Problem("anomalies.mode", what, next_step="Add some, or leave these classes out of dataset.classes")


def _source(anomalies: Anomalies, mode: ModeInfo, parts: Parts, looks: Looks) -> Iterator[Problem]:
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
            what = f"'{source}' only darkens: in place of an image it is black, and the network learns nothing else"
            yield Problem(where, what, next_step="Choose anomalies.mode: malformed_normal, or another source")
    elif "exposure" not in mode.sources:
        what = f"mode '{anomalies.mode}' adds a synthetic source to the image and takes no other images"
        yield Problem(where, what, _sources_for(mode), "For outlier exposure choose anomalies.mode: noise")
    else:
        yield from _exposure(source, parts, looks)


def _sources_for(mode: ModeInfo) -> str:
    real = REAL_SOURCES if "real" in mode.sources else ()
    exposure = ["{dataset: NAME}", "{folder: PATH}"] if "exposure" in mode.sources else []
    return ", ".join([*SOURCES, *real, *exposure])


def _real(parts: Parts, facts: Discovery | None, looks: Looks) -> Iterator[Problem]:
    dataset, images, evaluation = parts.dataset, parts.images, parts.evaluation
    if dataset is None or facts is None:
        return
    aside = 0 if evaluation is None else evaluation.real_anomalies_set_aside

    def counted() -> Counts:
        return {} if images is None else counts_of(dataset, images, facts, looks)

    yield from real_problems(parts.anomalies, aside, dataset, facts, counted)


def counts_of(dataset: Dataset, images: Images, facts: Discovery, looks: Looks) -> Counts:
    """Test images of each defect type, of every chosen class that can be read."""
    chosen = chosen_classes(dataset, facts)
    found = defects_in_test(looks.scan(dataset.model_copy(update={"classes": list(chosen)}), images)) if chosen else {}
    return {name: found[name] for name in chosen if name in found}


def _source_step(source: str) -> str:
    if source in DATA_SETS:
        return f"Images of a data set are written as {{dataset: {source}}}"
    return closest(source, [*SOURCES, *REAL_SOURCES])


def _exposure(source: DatasetSource | FolderSource, parts: Parts, looks: Looks) -> Iterator[Problem]:
    if isinstance(source, FolderSource):
        if not source.folder.is_dir():
            yield Problem("anomalies.source.folder", f"there is no folder {source.folder}")
        elif not looks.has_images(source.folder):
            yield Problem("anomalies.source.folder", f"there is no image below {source.folder}")
        return
    where = "anomalies.source.dataset"
    if source.dataset not in DATA_SETS:
        what, step = f"there is no data set '{source.dataset}'", closest(source.dataset, DATA_SETS)
        yield Problem(where, what, ", ".join(DATA_SETS), step)
    elif _holds_normal_class(source, parts.dataset):
        what = f"'{source.dataset}' is the data set itself, and holds the normal class"
        yield Problem(where, what, next_step="Choose another one, or anomalies.mode: other for its real anomalies")
    elif parts.images is not None:
        yield from looks.exposure_problems(source, parts.dataset, parts.images)


def _place(root: Path | None) -> Path | None:
    return None if root is None else root.resolve()  # links may lead to one folder


def _holds_normal_class(source: DatasetSource, dataset: Dataset | None) -> bool:
    """Whether the source is the data set itself; from a streamed one the data set's classes are left out."""
    same = dataset is not None and dataset.name == source.dataset and _place(dataset.root) == _place(source.root)
    return same and not DATA_SETS[source.dataset].streamed


def _baseline(parts: Parts) -> Iterator[Problem]:
    """The baselines know no maps, and the autoencoder no anomalies: it would learn to rebuild them, too."""
    if parts.training is not None and parts.training.supervision == "maps":
        yield Problem("training.supervision", f"method '{parts.method}' trains from labels alone", "labels")
    if parts.method == "ae" and parts.anomalies is not None and parts.anomalies.mode != "unsupervised":
        what = f"method 'ae' rebuilds whatever it is trained on, so mode '{parts.anomalies.mode}' would hide anomalies"
        yield Problem("anomalies.mode", what, "unsupervised")
    if parts.method == "ae" and parts.images is not None and parts.images.nominal_label:
        what = "method 'ae' rebuilds the normal class and cannot push it away: its scores would be read backwards"
        yield Problem("images.nominal_label", what, "0")


def _supervision(parts: Parts, facts: Discovery | None) -> Iterator[Problem]:
    if parts.training is None or parts.anomalies is None:
        return
    mode, where = parts.anomalies.mode, "training.supervision"
    if parts.training.supervision == "maps":
        mapless = facts is not None and not facts.maps and not MODES[mode].sources
        if mapless and parts.dataset is not None:
            what = f"'{parts.dataset.name}' has no ground-truth maps, and mode '{mode}' makes none"
            yield Problem(where, what, "labels")
    elif MODES[mode].gives_maps:
        step = "Set training.supervision: maps, or anomalies.mode: malformed_normal"
        yield Problem(where, f"mode '{mode}' trains on the maps of changed pixels", "maps", step)
    elif facts is not None and facts.maps and parts.dataset is not None:
        what = f"'{parts.dataset.name}' has ground-truth maps, and such data always trains on maps"
        yield Problem(where, what, "maps", "Set training.supervision: maps")


def warnings(settings: Settings, cores: int) -> Iterable[str]:
    """Settings that are allowed and yet unlikely to be meant."""
    training, cpus = settings.training, settings.resources.cpus
    yield from _probability(settings.anomalies)
    yield from _shrinking(settings)
    if cpus != "auto" and training.threads > cpus:
        yield f"training.threads is {training.threads}, but a trial reserves {cpus:g} CPUs: they slow each other down."
    if training.threads > cores:
        yield f"training.threads is {training.threads}, but this machine has {cores} CPU cores."
    if training.schedule.type == "milestones" and any(at >= training.epochs for at in training.schedule.milestones):
        yield f"training.schedule.milestones: those from {training.epochs} on come after the last epoch."


def _probability(anomalies: Anomalies) -> Iterator[str]:
    if anomalies.mode == "unsupervised":
        return
    if not anomalies.online:
        if anomalies.probability != Anomalies.model_fields["probability"].default:
            yield "anomalies.probability has no meaning where anomalies.online is false: every anomaly is trained on."
    elif anomalies.probability == 0:
        yield f"anomalies.probability is 0: mode '{anomalies.mode}' never makes an anomaly."
    elif anomalies.probability == 1:
        yield "anomalies.probability is 1: no nominal image is ever trained on."


def _shrinking(settings: Settings) -> Iterator[str]:
    images, kind = settings.images, DATA_SETS[settings.dataset.name].augmentation
    photo = kind in ("photo", "imagenet", "watermark")
    whole = kind == "watermark" or "aug1" not in settings.preprocessing
    if photo and whole and images.raw_size != images.size:
        yield (
            f"preprocessing '{settings.preprocessing}' shows whole images: they are reduced from {images.raw_size} to "
            f"{images.size} px by nearest neighbour. Set images.raw_size to {images.size}, then images.resize does it."
        )

"""What is checked: the sections of a config, and the data, folders and networks that they name, each found once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.fields import DatasetSource
from fcdd_sweep.config.loading import ParsedExperiment
from fcdd_sweep.config.schema import Anomalies, Dataset, Evaluation, Images, Network, Settings
from fcdd_sweep.config.training_schema import Training
from fcdd_sweep.data.decoding.folders import Folder, exposure_notes
from fcdd_sweep.data.decoding.pixels import may_have_pages, pages_note
from fcdd_sweep.data.decoding.survey import Depth, depth_of
from fcdd_sweep.data.records import DatasetFacts, DatasetScan
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.data.scanning import (
    check_exposure,
    dataset_of,
    problems_of_source,
    records_of_all_classes,
    scan_dataset,
)
from fcdd_sweep.networks.describe import problems_before_reading, starting_weights


def problems_of_network(network: Network, method: str, channels: int | None, size: int | None) -> Iterator[Problem]:
    """Yield everything that keeps a network from being built.

    Args:
        network: as in an experiment.
        method: `fcdd`, `hsc` or `ae`.
        channels: of the images; None: unknown, not checked.
        size: side of the images in pixels; None: unknown, not checked.
    """
    problems = list(problems_before_reading(network, method, channels, size))
    yield from problems
    if not problems and isinstance(start := starting_weights(network), Path):
        from fcdd_sweep.networks.build import problem_of_file

        if problem := problem_of_file(network, method, channels or 3, start):
            yield problem


@dataclass(frozen=True)
class ConfigSections:
    """The sections of a config that are checked; None where a section of a broken experiment is not valid."""

    dataset: Dataset | None
    images: Images | None
    anomalies: Anomalies | None
    network: Network | None
    training: Training | None
    evaluation: Evaluation | None
    method: str | None

    @classmethod
    def of_settings(cls, settings: Settings) -> ConfigSections:
        return cls(*(getattr(settings, part.name) for part in fields(cls)))

    @classmethod
    def of_parsed(cls, parsed: ParsedExperiment) -> ConfigSections:
        return cls(
            parsed.section("dataset", Dataset),
            parsed.section("images", Images),
            parsed.section("anomalies", Anomalies),
            parsed.section("network", Network),
            parsed.section("training", Training),
            parsed.section("evaluation", Evaluation),
            _valid_method(parsed),
        )


def _valid_method(parsed: ParsedExperiment) -> str | None:
    method = parsed.tree.get("method", "fcdd")
    return method if method in get_args(Settings.model_fields["method"].annotation) else None


class DataInspector:
    """Scans each data set, folder and network once, however many configs use it; one inspector serves a whole run."""

    def __init__(self) -> None:
        self._scans: dict[tuple[str, str], DatasetScan] = {}
        self._streamed: dict[tuple[str, str | None], list[Problem]] = {}
        self._folders: dict[Path, Folder] = {}
        self._depths: dict[str, Depth] = {}
        self._networks: dict[tuple[str, str, int | None, int | None], list[Problem]] = {}

    def scan(self, dataset: Dataset, images: Images) -> DatasetScan:
        """Return what a scan of the data set found."""
        key = (dataset.model_dump_json(), images.model_dump_json())
        if key not in self._scans:
            self._scans[key] = scan_dataset(dataset, images)
        return self._scans[key]

    def depth(self, dataset: Dataset, images: Images) -> Depth:
        """Return which images of a data set have more than 8 bits; the headers of its files are read once."""
        key = dataset.model_dump_json(exclude={"classes"})  # one run has one list of classes
        if key not in self._depths:
            scan = self.scan(dataset, images)
            depth = Depth() if scan.problems else depth_of(scan.records)
            self._depths[key] = depth_of(records_of_all_classes(dataset, images, scan)) if depth.deep else depth
        return self._depths[key]

    @property
    def notes(self) -> list[str]:
        """Sentences on what will be fetched before the first trial, on what the data lacks, and on what is not read."""
        of_scans = [note for scan in self._scans.values() for note in (scan.to_fetch, *scan.gaps)]
        of_folders = [note for folder in self._folders.values() for note in exposure_notes(folder)]
        with_pages = [path for scan in self._scans.values() for path in scan.may_have_pages]
        with_pages += [path for folder in self._folders.values() for path in filter(may_have_pages, folder.all_images)]
        return list(filter(None, [*of_scans, *of_folders, pages_note(list(dict.fromkeys(with_pages)))]))

    def network_problems(self, network: Network, method: str, images: Images | None) -> list[Problem]:
        """Return everything that keeps a network from being built for these images."""
        channels, size = (None, None) if images is None else (images.channels, images.size)
        key = (network.model_dump_json(), method, channels, size)
        if key not in self._networks:
            self._networks[key] = list(problems_of_network(network, method, channels, size))
        return self._networks[key]

    def exposure_problems(self, source: DatasetSource, target: Dataset | None, images: Images) -> list[Problem]:
        """Return what is wrong with a data set as outlier exposure."""
        if not DATA_SETS[source.dataset].streamed:
            return problems_of_source(self.scan(dataset_of(source), images).problems)
        name = None if target is None else target.name
        key = (source.model_dump_json(), name)
        if key not in self._streamed:
            self._streamed[key] = check_exposure(source, name, images)
        return self._streamed[key]

    def has_images(self, folder: Path) -> bool:
        """Return whether there is any image file below a folder."""
        return bool(self._folders.setdefault(folder, Folder(folder)).all_images)


def chosen_classes(dataset: Dataset, facts: DatasetFacts) -> tuple[str, ...]:
    """Return the names of the normal classes to train on, in the order of the file, without unknown ones."""
    if dataset.classes == "all":
        return facts.classes
    names = (class_name(wanted, facts.classes) for wanted in dataset.classes)
    return tuple(name for name in names if name is not None)


def class_name(wanted: str | int, classes: tuple[str, ...]) -> str | None:
    """Return the class that a name or number means; None for an unknown one."""
    if isinstance(wanted, str):
        return wanted if wanted in classes else None
    return classes[wanted] if 0 <= wanted < len(classes) else None


def only(chosen: tuple[str, ...], dataset: Dataset) -> Dataset:
    """Return a data set with the chosen classes alone, where it names any that exist."""
    return dataset if dataset.classes == "all" else dataset.model_copy(update={"classes": list(chosen) or "all"})

"""What checks look at: the sections of an experiment, and the data that they name, looked at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.fields import DatasetSource
from fcdd_sweep.config.loading import Draft
from fcdd_sweep.config.schema import Anomalies, Dataset, Evaluation, Images, Network, Settings, Training
from fcdd_sweep.data.decoding.files import image_files
from fcdd_sweep.data.loading import check_exposure, dataset_of, problems_of_source, scan_dataset
from fcdd_sweep.data.records import DatasetFacts, DatasetScan
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.networks.describe import problems_before_reading, starting_weights


def problems_of_network(network: Network, method: str, channels: int | None, size: int | None) -> Iterator[Problem]:
    """Everything that keeps a network from being built.

    Args:
        network: as in an experiment.
        method: `fcdd`, `hsc` or `ae`.
        channels: those of the images; None: not known, not checked.
        size: side of the images in pixels; None: not known, not checked.
    """
    problems = list(problems_before_reading(network, method, channels, size))
    yield from problems
    if not problems and isinstance(start := starting_weights(network), Path):
        from fcdd_sweep.networks.build import problem_of_file

        if problem := problem_of_file(network, method, channels or 3, start):
            yield problem


@dataclass(frozen=True)
class ConfigSections:
    """The sections that name things; None where a section of a broken experiment is not sound by itself."""

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
    def of_draft(cls, draft: Draft) -> ConfigSections:
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


class DataInspector:
    """Looks at each data set, folder and network once, however many configs use it."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str], DatasetScan] = {}
        self._streamed: dict[tuple[str, str | None], list[Problem]] = {}
        self._images: dict[Path, bool] = {}
        self._networks: dict[tuple[str, str, int | None, int | None], list[Problem]] = {}

    def problems(self, dataset: Dataset, images: Images) -> list[Problem]:
        return list(self.scan(dataset, images).problems)

    def scan(self, dataset: Dataset, images: Images) -> DatasetScan:
        key = (dataset.model_dump_json(), images.model_dump_json())
        if key not in self._data:
            self._data[key] = scan_dataset(dataset, images)
        return self._data[key]

    @property
    def notes(self) -> list[str]:
        """What will be fetched before the first trial, and what the data lacks."""
        return [note for scan in self._data.values() for note in (scan.to_fetch, *scan.gaps) if note]

    def network(self, network: Network, method: str, images: Images | None) -> list[Problem]:
        channels, size = (None, None) if images is None else (images.channels, images.size)
        key = (network.model_dump_json(), method, channels, size)
        if key not in self._networks:
            self._networks[key] = list(problems_of_network(network, method, channels, size))
        return self._networks[key]

    def exposure_problems(self, source: DatasetSource, target: Dataset | None, images: Images) -> list[Problem]:
        if not DATA_SETS[source.dataset].streamed:
            return problems_of_source(self.problems(dataset_of(source), images))
        name = None if target is None else target.name
        key = (source.model_dump_json(), name)
        if key not in self._streamed:
            self._streamed[key] = check_exposure(source, name, images)
        return self._streamed[key]

    def has_images(self, folder: Path) -> bool:
        if folder not in self._images:
            self._images[folder] = bool(image_files(folder))
        return self._images[folder]


def chosen_classes(dataset: Dataset, facts: DatasetFacts) -> tuple[str, ...]:
    """Names of the normal classes to train on, in the order of the file; unknown ones are left out."""
    if dataset.classes == "all":
        return facts.classes
    names = (class_name(wanted, facts.classes) for wanted in dataset.classes)
    return tuple(name for name in names if name is not None)


def class_name(wanted: str | int, classes: tuple[str, ...]) -> str | None:
    if isinstance(wanted, str):
        return wanted if wanted in classes else None
    return classes[wanted] if 0 <= wanted < len(classes) else None


def only(chosen: tuple[str, ...], dataset: Dataset) -> Dataset:
    return dataset.model_copy(update={"classes": list(chosen) or "all"})

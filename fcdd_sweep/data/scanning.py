"""What a data set has and whether it can be read, found without decoding an image.

`dataset_facts` finds protocol and classes, `scan_dataset` lists every image with all problems, `check_exposure` checks
a source of outlier exposure. Planning asks these; `data.loading` decodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.fields import DatasetSource
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.folders import no_folder
from fcdd_sweep.data.records import DatasetFacts, DatasetScan, Record
from fcdd_sweep.data.registry import DiscoveringModule, Option, StreamedModule, info, module_of

OptionValue = bool | int | float | str
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def dataset_facts(dataset: Dataset) -> DatasetFacts:
    """Return protocol, classes and abilities of a data set, from the registry or else from its folders.

    The classes are all of them, in order, whichever `dataset.classes` names.

    Raises:
        DataError: the folders are missing, or follow none of the layouts.
    """
    known = info(dataset.name)
    protocol, classes, maps, anomalies = known.protocol, known.classes, known.maps, known.trains_with_anomalies
    if not (protocol is None or classes is None or maps is None or anomalies is None):
        return DatasetFacts(protocol, classes, maps, anomalies)
    if problems := settings_problems(dataset):
        raise DataError(problems)
    module = module_of(dataset.name)
    assert isinstance(module, DiscoveringModule)  # the registry leaves facts to the folders
    with _system_errors_named(dataset.root):
        return module.discover(dataset)


def scan_dataset(dataset: Dataset, images: Images) -> DatasetScan:
    """Return all images of a data set, everything that is wrong with it, and what would be fetched."""
    problems = settings_problems(dataset)
    if problems:
        return DatasetScan(problems=tuple(problems))
    try:
        with _system_errors_named(dataset.root):
            scan = module_of(dataset.name).scan(dataset, images)
    except DataError as error:
        return DatasetScan(problems=error.problems)
    if not (scan.records or scan.problems or scan.to_fetch):
        allowed = ", ".join(dataset_facts(dataset).classes)
        problem = Problem("dataset.classes", f"names no class of '{dataset.name}'", allowed)
        return DatasetScan(problems=(problem,))
    return scan


def records_of_all_classes(dataset: Dataset, images: Images, scan: DatasetScan) -> tuple[Record, ...]:
    """Return the images of all classes where images are in files; `scan` is what `scan_dataset` returned."""
    if dataset.classes == "all" or scan.problems or all(record.file is None for record in scan.records):
        return scan.records
    every = scan_dataset(dataset.model_copy(update={"classes": "all"}), images).records
    return every or scan.records


@contextmanager
def _system_errors_named(root: Path | None) -> Iterator[None]:
    """Turn what the system refuses, whichever data set is read, into a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        where, reason = str(error.filename or root), error.strerror or error
        step = "Make it readable, repair it, or move it elsewhere"
        raise DataError(Problem(where, f"cannot be read ({reason})", next_step=step)) from error


def check_dataset(dataset: Dataset, images: Images) -> list[Problem]:
    """Return everything that is wrong with a data set; empty when it can be read."""
    return list(scan_dataset(dataset, images).problems)


def check_exposure(source: DatasetSource, target: str | None, images: Images) -> list[Problem]:
    """Return what is wrong with a data set as outlier exposure.

    Args:
        source: names an entry of `DATA_SETS`.
        target: the name of the data set that is trained on; None where it is not known yet.
        images: how images are decoded.
    """
    dataset, known = dataset_of(source), info(source.dataset)
    if not known.streamed:
        return problems_of_source(check_dataset(dataset, images))
    problems = settings_problems(dataset)
    if not problems and source.root is not None:
        module = module_of(source.dataset)
        assert isinstance(module, StreamedModule)  # as the registry states
        try:
            with _system_errors_named(source.root):
                problems = module.exposure_problems(source.root, target)
        except DataError as error:
            problems = list(error.problems)
    return problems_of_source(problems)


def dataset_of(source: DatasetSource) -> Dataset:
    """Return the data set that a source of outlier exposure names."""
    return Dataset(name=source.dataset, root=source.root, download=source.download)


def problems_of_source(problems: Sequence[Problem]) -> list[Problem]:
    """Return problems of a data set that `anomalies.source` names, in the keys of the source."""
    return [replace(each, where=_in_source(each.where), next_step=_in_source(each.next_step)) for each in problems]


def _in_source(text: str) -> str:
    for key in ("root", "download"):
        text = text.replace(f"dataset.{key}", f"anomalies.source.{key}")
    return text


def settings_problems(dataset: Dataset) -> list[Problem]:
    """Return what is wrong with the keys of `dataset`, before its files are looked at."""
    known = info(dataset.name)
    problems = [problem for name in dataset.options for problem in _option_problems(dataset, name)]
    if known.protocol is not None and dataset.protocol not in (None, known.protocol):
        what = f"'{known.name}' is always {known.protocol}, found {dataset.protocol}"
        problems.append(Problem("dataset.protocol", what, next_step="Remove the key"))
    if dataset.download and known.needs_root and not known.downloads:
        what = f"'{known.name}' cannot be downloaded"
        problems.append(Problem("dataset.download", what, "false", known.get))
    if known.needs_root and dataset.root is None:
        problems.append(Problem("dataset.root", f"'{known.name}' needs a folder", next_step=known.get))
    elif known.needs_root and dataset.root is not None and (reason := _no_root(dataset, dataset.root)):
        problems.append(Problem("dataset.root", reason, next_step=known.get))
    return problems


def _no_root(dataset: Dataset, root: Path) -> str:
    if dataset.download and not os.path.lexists(root):  # asked first: another process may just make it
        return ""
    if root.suffix.lower() in info(dataset.name).root_files and root.is_file():
        return ""
    return no_folder(root)


def _option_problems(dataset: Dataset, name: str) -> list[Problem]:
    where, options, value = f"dataset.options.{name}", info(dataset.name).options, dataset.options[name]
    if name not in options:
        allowed = ", ".join(options) or "none"
        return [Problem(where, f"'{dataset.name}' has no such option", allowed, closest(name, options))]
    allowed = _allowed_instead(options[name], value)
    near = closest(value, options[name].allowed)
    return [Problem(where, f"found {value!r}", allowed, near)] if allowed else []


def _allowed_instead(option: Option, value: OptionValue) -> str:
    """Return what would be allowed if `value` is not, else an empty string."""
    kind = type(option.default)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if option.allowed:
        return "" if value in option.allowed else ", ".join(option.allowed)
    if not fits:
        return _KINDS[kind]
    low, high = option.low, option.high
    inside = isinstance(value, str) or ((low is None or value >= low) and (high is None or value <= high))
    return "" if inside else f"{low} to {high}"

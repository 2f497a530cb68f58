"""Checks of names and combinations against the registries: data sets, classes, networks, sources. Needs no torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fcdd_sweep.config.errors import DataError, Origin, Problem
from fcdd_sweep.config.names import slug
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.schema import Anomalies, Dataset, Experiment, Images, Settings, Trackers
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.survey import depth_problems
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS, swept
from fcdd_sweep.data.scanning import dataset_facts
from fcdd_sweep.networks.describe import field_of, to_fetch
from fcdd_sweep.networks.execution import precision_of
from fcdd_sweep.planning.anomaly_checks import anomaly_problems, baseline_problems, supervision_problems
from fcdd_sweep.planning.calibration import calibration_problems
from fcdd_sweep.planning.data_counts import untrained
from fcdd_sweep.planning.sections import ConfigSections, DataInspector, chosen_classes, class_name, only
from fcdd_sweep.planning.validation_checks import validation_problems

_WIDEST_STD = 1 / 3
"""Of the upsampling Gaussian, as a share of the receptive field: at its edge the Gaussian is at a third of its peak."""


def facts_of(dataset: Dataset | None) -> tuple[DatasetFacts | None, list[Problem]]:
    """Return protocol, classes and abilities of a data set, or None and the reasons why they are unknown."""
    if dataset is None:
        return None, []
    if dataset.name not in DATA_SETS:
        what = f"there is no data set '{dataset.name}'"
        return None, [Problem("dataset.name", what, ", ".join(swept()), closest(dataset.name, swept()))]
    if DATA_SETS[dataset.name].exposure_only:
        what = f"'{dataset.name}' serves as outlier exposure only: it has no classes to train on"
        step = f"Name it in anomalies.source: {{dataset: {dataset.name}, root: DIR}}"
        return None, [Problem("dataset.name", what, ", ".join(swept()), step)]
    try:
        return dataset_facts(dataset), []
    except DataError as error:
        return None, list(error.problems)


def problems_of(
    sections: ConfigSections, facts: DatasetFacts | None, origin: Origin, inspector: DataInspector
) -> list[Problem]:
    """Return everything that is wrong with the names in `sections`, each problem with the place it was written at."""
    problems = [*_network(sections, inspector), *anomaly_problems(sections, facts, inspector)]
    problems += validation_problems(sections, facts, inspector)
    problems += calibration_problems(sections, facts, inspector)
    problems += baseline_problems(sections) if sections.method != "fcdd" else supervision_problems(sections, facts)
    if sections.dataset is not None and sections.dataset.name in swept():
        problems += _data(sections.dataset, sections.images, facts, inspector)
    return [located(problem, origin) for problem in dict.fromkeys(problems)]


def located(problem: Problem, origin: Origin) -> Problem:
    """Return a problem about a key of the experiment with its file and line; one about a path is unchanged."""
    is_key = problem.where.split(".")[0] in Settings.model_fields and "/" not in problem.where
    return replace(problem, where=origin.where(problem.where)) if is_key else problem


def _data(
    dataset: Dataset, images: Images | None, facts: DatasetFacts | None, inspector: DataInspector
) -> Iterator[Problem]:
    known = DATA_SETS[dataset.name]
    if dataset.root is not None and not known.needs_root:
        what = f"'{known.name}' needs no folder, found {dataset.root}"
        yield Problem("dataset.root", what, next_step="Remove the key")
    chosen = () if facts is None else chosen_classes(dataset, facts)
    if facts is not None:
        yield from _classes(dataset, facts)
        yield from _folder_names(chosen)
    if images is not None and images.aspect == "crop" and facts is not None and facts.maps:
        what = f"'{dataset.name}' has ground-truth maps, which are made for whole images"
        yield Problem("images.aspect", what, "stretch", "Set images.aspect: stretch")
    if images is not None and (facts is None or chosen):
        # unknown classes are reported above; the files of the others are still scanned
        scan = inspector.scan(only(chosen, dataset), images)
        yield from scan.problems
        yield from untrained(scan, dataset.name, chosen)
        yield from depth_problems(inspector.depth(only(chosen, dataset), images), images)


def _classes(dataset: Dataset, facts: DatasetFacts) -> Iterator[Problem]:
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
    name = class_name(wanted, classes)
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
    """Yield a problem for classes whose folders in the run would be the same, upper and lower case apart."""
    first: dict[str, str] = {}
    for name in classes:
        other = first.setdefault(slug(name).casefold(), name)
        if other != name:
            what = f"the results of classes '{other}' and '{name}' would share the folder normal_{slug(name)}"
            yield Problem("dataset.classes", what, next_step="Rename one of them, or list only one")


def _network(sections: ConfigSections, inspector: DataInspector) -> list[Problem]:
    if sections.network is None or sections.method is None:
        return []
    return inspector.network_problems(sections.network, sections.method, sections.images)


def settings_warnings(settings: Settings, machine: Machine) -> Iterable[str]:
    """Yield notes on settings that are allowed and yet unlikely to be meant."""
    training = settings.training
    yield from _probability(settings.anomalies)
    yield from _shrinking(settings)
    yield from _tiling(settings)
    yield from filter(None, [to_fetch(settings.network)])
    yield from _resources(settings, machine)
    if training.schedule.type == "milestones" and any(at >= training.epochs for at in training.schedule.milestones):
        yield f"training.schedule.milestones: those from {training.epochs} on are after the last epoch."


def unused_notes(experiment: Experiment) -> Iterator[str]:
    """Yield a note for each override of a key that the grid or every variant sets, too."""
    variants = [set(values) for values in experiment.variants.values()]
    again = dict.fromkeys(sorted(set.intersection(*variants)) if variants else [], "every variant")
    again |= dict.fromkeys(experiment.grid, "the grid")
    for key, setter in again.items():
        if experiment.origin.is_overridden(key):
            yield f"{experiment.origin.where(key)} is not used, since {setter} sets this key."


def _resources(settings: Settings, machine: Machine) -> Iterator[str]:
    """Yield notes on resources that this machine lacks; another may run the trials, so none is an error."""
    training, cpus, cores = settings.training, settings.resources.cpus, machine.cores
    if cpus != "auto" and training.threads > cpus:
        reserved = count_noun(cpus, "CPU")
        yield f"training.threads is {training.threads}, but a trial reserves {reserved}: trials slow each other down."
    if training.threads > cores:
        yield f"training.threads is {training.threads}, but this machine has {count_noun(cores, 'CPU core')}."
    if cpus != "auto" and cpus > cores:
        have = count_noun(cores, "CPU core")
        yield f"resources.cpus is {cpus:g}, but this machine has {have}: no trial can start on it."
    on_cpu = settings.resources.device == "cpu" or not machine.gpu
    if precision_of(settings.network, training) == "bf16" and on_cpu and not machine.bf16:
        yield (
            "training.precision is bf16, which this machine's CPU has no instructions for: a training step takes two "
            "to three times as long as in fp32."
        )
    if settings.resources.device == "cuda" and not machine.gpu:
        yield "resources.device is cuda, but no GPU is seen on this machine: no trial can start on it."


def _tiling(settings: Settings) -> Iterator[str]:
    """Yield a note on a Gaussian that is still high at the edge of its receptive field: heatmaps show the edges."""
    std = settings.heatmaps.kernel_std_px
    if settings.method != "fcdd" or std is None:
        return
    size = field_of(settings.network, settings.method, settings.images.size).size
    if std > _WIDEST_STD * size:
        yield (
            f"heatmaps.kernel_std_px is {std:g}, wide for a receptive field of {size} px: heatmaps show the edges of "
            f"the fields as tiles. Set it to {size / 5:.2g} or less, or leave it out."
        )


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
    if photo and whole and images.load_size != images.size:
        yield (
            f"preprocessing '{settings.preprocessing}' shows whole images: they are reduced from {images.load_size} to "
            f"{images.size} px by nearest neighbor. Set images.load_size to {images.size}, then images.resize does it."
        )


_GPU_FILES = ("nvidia[0-9]*", "nvidia-caps", "kfd", "dxg")
"""In `/dev`: of NVIDIA's driver, of AMD's, which torch calls cuda too, and of GPUs under WSL."""


@dataclass(frozen=True)
class Machine:
    """What a machine offers to trials.

    Attributes:
        cores: CPU cores.
        gpu: whether a GPU is seen that torch may use; torch itself decides later.
        bf16: whether the CPU has instructions for products in bfloat16; where nobody knows, it has.
    """

    cores: int
    gpu: bool
    bf16: bool = True


_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""As Linux calls what x86-64 and ARM have."""


def this_machine(devices: Path = Path("/dev"), cpu: Path = Path("/proc/cpuinfo")) -> Machine:
    """Return the resources of this machine, without importing torch."""
    gpu = any(True for pattern in _GPU_FILES for _ in devices.glob(pattern)) or bool(shutil.which("nvidia-smi"))
    return Machine(os.cpu_count() or 1, gpu and not _torch_version().endswith("+cpu"), _has_bf16(cpu))


def _has_bf16(cpu: Path) -> bool:
    try:
        lines = cpu.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:  # not Linux
        return True
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "bf16")
    return not _BF16_FLAGS.isdisjoint(flags.split())


def _torch_version() -> str:
    """Return the version of the installed torch, such as `2.9.0+cpu`, without importing it; empty when unknown."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


TRACKER_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""What each switch imports."""
_TRACKER_DISTRIBUTIONS = {"tensorboard": "tensorboardX tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}
"""What brings it; in a checkout also the extra of the switch's name, see pyproject.toml."""


def switched_on(trackers: Trackers) -> list[str]:
    """Return the names of the trackers that an experiment uses."""
    wanted = {"tensorboard": trackers.tensorboard, "mlflow": trackers.mlflow, "wandb": trackers.wandb}
    return [name for name, switch in wanted.items() if switch]


def tracker_problems(experiment: Experiment) -> list[Problem]:
    """Return a problem for each tracker that is switched on and whose package is not installed."""
    return [
        Problem(
            experiment.origin.where(f"trackers.{name}"),
            f"the package {TRACKER_PACKAGES[name]} is not installed",
            next_step=f"Install it: pip install {_TRACKER_DISTRIBUTIONS[name]}, or switch the tracker off",
        )
        for name in switched_on(experiment.trackers)
        if importlib.util.find_spec(TRACKER_PACKAGES[name]) is None
    ]

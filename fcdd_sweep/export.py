"""Export a trial's detector as one file, from 8-bit images to scores and decisions, checked against the detector."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from packaging.version import Version
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fcdd_sweep.config.errors import DataError, InputError, Problem, short_error
from fcdd_sweep.config.locations import as_written
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import config_id
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.folders import images_at
from fcdd_sweep.data.loading import load_corpus, load_image_file
from fcdd_sweep.metrics.cross_conformal import p_value_column
from fcdd_sweep.metrics.image_decision import closed
from fcdd_sweep.prediction.targets import load_snapshot
from fcdd_sweep.results import files
from fcdd_sweep.results.storage import Location, is_file, local_copy, read_bytes
from fcdd_sweep.results.tree import MAPS, SNAPSHOT, RunPaths, TrialPaths
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.detector_graph import exported_program, output_names
from fcdd_sweep.training.device import numerics

FORMAT = 4
"""Of inputs, outputs and metadata of the file; docs/export.md describes them."""
LARGEST_DIFFERENCE = 1e-4
"""Between onnxruntime and torch, relative to the largest score or heatmap value; above it no file is written."""
_CHECKED = 100
_CHECK_BATCH = 8
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_DECISIONS = ("anomalous", "mask")
LEAST_TORCH = (2, 7)
"""Version of torch from which on detectors can be traced."""
METADATA_FILE = "metadata.json"
"""Name of the metadata in a file of `program_bytes`."""
_Pixels = npt.NDArray[np.uint8]
Runs = Callable[[_Pixels], dict[str, npt.NDArray[Any]]]
"""Runs an exported file on (N, C, R, R) uint8 images, and returns its outputs by name."""


class Differences(NamedTuple):
    """How much results of onnxruntime differ from those of torch.

    Attributes:
        score: largest difference of an image score, relative to the largest score.
        heatmap: the same of heatmap pixels.
        labels: number of decisions on images and pixels that differ although their score or value is farther from the
            threshold than `LARGEST_DIFFERENCE` of the largest.
    """

    score: float
    heatmap: float
    labels: int = 0

    @property
    def is_small(self) -> bool:
        """Whether a file may be written; not so for NaN."""
        return self.score <= LARGEST_DIFFERENCE and self.heatmap <= LARGEST_DIFFERENCE and not self.labels


@dataclass(frozen=True)
class Export:
    """An ONNX file, and how it was checked.

    Attributes:
        path: the file.
        images: how many images it was checked on, and where they come from.
        differences: to torch.
        notes: sentences on images that are passed over, and on what the file lacks.
    """

    path: Path
    images: str
    differences: Differences
    notes: tuple[str, ...] = ()


def export_onnx(trial: Location | str, target: Path | str, images: Sequence[Path | str] = ()) -> Export:
    """Export a trial's detector as an ONNX file, after checking it against torch on real images.

    Args:
        trial: leaf folder of a finished trial, or its `snapshot.pt`; on this machine or in an object store.
        target: the file to write; replaced if it exists.
        images: to check on, or folders of them; at most 100 are used. None: test images of the data set, or where it is
            not on this machine those in the trial's `maps.npz`.
    Raises:
        InputError: the packages of the extra `export` are missing, the trial or the images cannot be read, the
            detector cannot be exported, or onnxruntime's results differ too much. No file is left then.
    """
    _check_packages()
    return _exported(trial, target, images, _Form("onnxruntime", onnx_bytes, run_onnx))


def export_torch(trial: Location | str, target: Path | str, images: Sequence[Path | str] = ()) -> Export:
    """Export a trial's detector as a program for `torch.export.load`; else as `export_onnx`, without its packages."""
    return _exported(trial, target, images, _Form("the loaded program", program_bytes, run_program))


class _Form(NamedTuple):
    """A format of files: what runs them, and functions that write and run their content."""

    runs: str
    write: Callable[[Detector, Mapping[str, object]], bytes]
    run: Callable[[bytes, Sequence[str]], Runs]


def _exported(trial: Location | str, file: Path | str, given: Sequence[Path | str], form: _Form) -> Export:
    place, target, images = as_written(trial), Path(file), list(map(Path, given))
    snapshot = place if place.name.endswith(".pt") else place / SNAPSHOT
    detector = load_snapshot(snapshot, "cpu")
    _check_supported(detector, snapshot)
    raw, source, notes = _given_images(detector, images) if images else _own_images(detector, snapshot)
    content = form.write(detector, _provenance(snapshot))
    found = differences(detector, form.run(content, output_names(detector)), raw)
    if not found.is_small:
        what = (
            f"{form.runs} differs from torch by {found.score:.1e} of the largest score, by {found.heatmap:.1e} of the"
        )
        what += f" largest heatmap value and in {count_noun(found.labels, 'decision')} on {source}"
        allowed = f"at most {LARGEST_DIFFERENCE:g}, and no other decision"
        step = "Upgrade onnxruntime and torch to the versions in constraints.txt"
        raise InputError(Problem(str(target), f"{what}; the file is not written", allowed, step))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(target, lambda path: path.write_bytes(content))
    except OSError as error:
        raise InputError(Problem(str(target), f"cannot be written ({error.strerror})")) from error
    return Export(target, source, found, (*notes, *_notes(detector)))


def _check_packages() -> None:
    """Raise an `InputError` that names the packages of the extra which are missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        what = f"needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        step = f"Install it: pip install {' '.join(missing)}, or in a checkout its extra: pip install -e '.[export]'"
        raise InputError(Problem("export", what, next_step=step))


def _check_supported(detector: Detector, snapshot: Location) -> None:
    if Version(torch.__version__).release < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        what = f"torch {torch.__version__} cannot trace a detector for batches of any size"
        raise InputError(Problem("export", what, f"torch {least} or newer", "Upgrade torch and torchvision"))
    if detector.settings.method == "hsc":
        what = "method hsc cannot be exported: its heatmaps are gradients of the network, which ONNX cannot compute"
        raise InputError(Problem(str(snapshot), what, "a trial of method fcdd or ae"))


def _notes(detector: Detector) -> list[str]:
    names = " and ".join(f"'{name}'" for name in _DECISIONS if name not in output_names(detector))
    return [f"The file has no output {names}: {detector.threshold_source or 'no threshold'}."] if names else []


def _given_images(detector: Detector, paths: Sequence[Path]) -> tuple[_Pixels, str, list[str]]:
    """Return images of files at the detector's load size, where they come from, and what is passed over."""
    found = [images_at(path) for path in paths]
    given = [file for each in found for file in each.images]
    chosen = [given[i] for i in np.unique(np.linspace(0, len(given) - 1, _CHECKED).astype(int))] if given else []
    loaded, skipped = [], [str(problem) for each in found for problem in each.problems]
    for file in chosen:
        try:
            loaded.append(load_image_file(file, detector.settings.images, detector.value_range)[0])
        except DataError as error:
            skipped.append(str(error))
    where = ", ".join(map(str, paths))
    if not loaded:
        raise InputError(Problem(where, "no image could be read", next_step="; ".join(skipped[:3])))
    return np.stack(loaded), f"{count_noun(len(loaded), 'image')} of {where}", skipped


def _own_images(detector: Detector, snapshot: Location) -> tuple[_Pixels, str, list[str]]:
    """Return test images of the trial's data set, or where it cannot be read those that the trial kept."""
    settings = detector.settings
    try:
        corpus = load_corpus(settings.dataset.model_copy(update={"download": False}), settings.images)
        rows = _test_rows(corpus, detector.normal_class)
    except (DataError, OSError) as error:
        raw, source, notes = _kept_images(detector, snapshot)
        return raw, source, [*notes, f"The data set cannot be read here ({short_error(error)})."]
    return corpus.images[rows], f"{count_noun(len(rows), 'test image')} of {settings.dataset.name}", []


def _test_rows(corpus: Corpus, normal_class: str) -> npt.NDArray[np.int64]:
    """Return up to `_CHECKED` rows of the test images that a trial of this class is tested on, evenly spread.

    Raises:
        DataError: there are none.
    """
    if normal_class not in corpus.classes:
        raise DataError(Problem(corpus.name, f"has no class {normal_class!r}"))
    own = corpus.class_index == corpus.classes.index(normal_class)
    rows = np.flatnonzero(corpus.is_test & (own if corpus.protocol == "defects" else True))
    if not len(rows):
        raise DataError(Problem(corpus.name, f"has no test images of class {normal_class!r}"))
    return rows[np.unique(np.linspace(0, len(rows) - 1, _CHECKED).astype(int))]


def _kept_images(detector: Detector, snapshot: Location) -> tuple[_Pixels, str, list[str]]:
    """Return the test images that the trial kept, or else its training samples, resized to the load size.

    Raises:
        InputError: it kept none, or they cannot be read.
    """
    where = TrialPaths(snapshot.parent).maps
    arrays: dict[str, npt.NDArray[Any]] = {}
    if is_file(where):
        try:
            with local_copy(where) as path:
                arrays = files.read_arrays(path, ["images", "train_images"])
        except files.DamagedArraysError as error:
            what = f"has no images to check the export on, as {short_error(error)}"
            raise InputError(Problem(str(snapshot.parent), what, next_step="Or name some with --images DIR")) from error
    for name, kind in (("images", "test image"), ("train_images", "augmented training image")):
        if len(kept := arrays.get(name, np.empty(0))):
            return detector.fitted(kept[:_CHECKED]), f"{count_noun(len(kept[:_CHECKED]), kind)} of {where}", []
    what = f"no images to check the export on: there are none in {MAPS} beside the snapshot"
    raise InputError(Problem(str(snapshot), what, next_step="Name some with --images DIR"))


def _provenance(snapshot: Location) -> dict[str, object]:
    """Return what the folders around a snapshot say of its trial and experiment; empty where they do not."""
    found: dict[str, object] = dict.fromkeys(("trial_id", "seed", "experiment", "experiment_digest", "preset"), "")
    try:
        spec = files.read_spec(snapshot.parent)
    except (OSError, ValueError):
        return found
    found |= {"trial_id": spec.trial_id, "seed": spec.seed}
    run_dir = snapshot.parent
    for _ in spec.leaf.split("/"):
        run_dir = run_dir.parent
    try:
        text = read_bytes(RunPaths(run_dir).experiment)
        plain = YAML(typ="safe", pure=True).load(text)
        found |= {"experiment": plain["name"], "preset": plain.get("preset") or ""}
    except (OSError, ValueError, YAMLError, TypeError, KeyError):
        return found
    return found | {"experiment_digest": hashlib.sha256(text).hexdigest()[:12]}


def _texts(detector: Detector, provenance: Mapping[str, object]) -> dict[str, str]:
    return metadata(detector) | {name: str(value) for name, value in provenance.items()}


def program_bytes(detector: Detector, provenance: Mapping[str, object] = MappingProxyType({})) -> bytes:
    """Return the detector, on the CPU, as the content of a file for `torch.export.load`; arguments as `onnx_bytes`."""
    content = io.BytesIO()
    about = json.dumps(_texts(detector, provenance), indent=2)
    torch.export.save(exported_program(detector), content, extra_files={METADATA_FILE: about})
    return content.getvalue()


def run_program(content: bytes, names: Sequence[str]) -> Runs:
    """Return what runs a file of `program_bytes`."""
    program = torch.export.load(io.BytesIO(content)).module()

    def run(batch: _Pixels) -> dict[str, npt.NDArray[Any]]:
        with torch.no_grad():
            found = program(torch.from_numpy(batch))
        return {name: values.numpy() for name, values in zip(names, found, strict=True)}

    return run


def run_onnx(content: bytes, names: Sequence[str]) -> Runs:
    """Return what runs a file of `onnx_bytes`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda batch: dict(zip(names, session.run(names, {"images": batch}), strict=True))


def onnx_bytes(detector: Detector, provenance: Mapping[str, object] = MappingProxyType({})) -> bytes:
    """Return the detector, on the CPU, as the content of an ONNX file for batches of any size.

    Args:
        detector: what is exported.
        provenance: further metadata.
    """
    names = output_names(detector)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        traced = exported_program(detector)
        program = torch.onnx.export(traced, input_names=["images"], output_names=names, dynamo=True, verbose=False)
    for node in program.model.graph:
        node.metadata_props.clear()  # lines of source code and paths of this machine
    program.model.metadata_props.clear()
    program.model.metadata_props.update(_texts(detector, provenance))
    content: bytes = program.model_proto.SerializeToString()
    return content


def metadata(detector: Detector) -> dict[str, str]:
    """Return what the file says of itself, as text by name; docs/export.md describes it."""
    settings, images = detector.settings, detector.settings.images
    low_high = [float(detector.reference_quantiles[i]) for i in (0, round(settings.heatmaps.color_quantile * 1000))]
    plain = {
        "format": FORMAT,
        "fcdd_sweep": version("fcdd_sweep"),
        "torch": str(torch.__version__),
        "normal_class": detector.normal_class,
        "config_id": config_id(settings),
        "method": settings.method,
        "network": settings.network.name or f"{settings.network.backbone}/{settings.network.node}",
        "preprocessing": settings.preprocessing,
        "load_size": images.load_size,
        "size": images.size,
        "color": images.color,
        "resize": images.resize,
        "aspect": images.aspect,
        "value_range": "" if detector.value_range is None else json.dumps(asdict(detector.value_range)),
        "image_score": detector.score_column,
        "threshold": _number_text(detector.threshold),
        "pixel_threshold": _number_text(detector.pixel_threshold),
        "models": 1 if detector.ensemble is None else len(detector.ensemble.members),
        "p_value_level": _number_text(_p_value_level(detector)),
        "false_alarm_rate": settings.evaluation.false_alarm_rate,
        "calibration": detector.threshold_source,
        "n_calibration": detector.n_calibration,
        "heatmap_low": _number_text(low_high[0]),
        "heatmap_high": _number_text(low_high[1]),
        "settings": settings.model_dump_json(),
    }
    return {name: str(value) for name, value in plain.items()}


def _p_value_level(detector: Detector) -> float:
    """Return the p-value up to which several models call an image anomalous; NaN where thresholds decide."""
    if detector.ensemble is None:
        return math.nan
    return detector.ensemble.left_out.level(detector.settings.evaluation.false_alarm_rate)


def _number_text(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def differences(detector: Detector, run: Runs, raw: _Pixels) -> Differences:
    """Return how much the results of an exported file on images differ from those of the detector.

    Args:
        detector: on the CPU.
        run: runs the file on a batch.
        raw: (N, C, R, R) uint8 images at the load size, N at least 1.
    """
    with numerics(detector.settings, detector.device):
        batches = [run(raw[start : start + _CHECK_BATCH]) for start in range(0, len(raw), _CHECK_BATCH)]
        detection = detector.detect(raw)
        expected = detector.scores(detection)[detector.score_column], detector.heatmaps(detection.maps).numpy()
        decisions = _joint_decisions(detector, raw) if detector.ensemble is not None else _decisions(detector, expected)
    found = {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}
    score, heatmap = (_relative(found[name], each) for name, each in zip(("score", "heatmap"), expected, strict=True))
    others = sum(int(((found[name] != called) & sure).sum()) for name, (called, sure) in decisions.items())
    return Differences(score, heatmap, others)


def _relative(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


_Decisions = dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
"""By output what is called anomalous, and where that does not hang on rounding."""


def _decisions(detector: Detector, values: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> _Decisions:
    """Return the decisions by thresholds on (N,) scores and (N, 1, S, S) heatmaps."""
    found: _Decisions = {}
    thresholds, cells = (detector.threshold, detector.pixel_threshold), (1, detector.cell_px)
    for name, threshold, of, cell_px in zip(_DECISIONS, thresholds, values, cells, strict=True):
        if not math.isnan(threshold):
            slack = LARGEST_DIFFERENCE * np.abs(of).max()
            more, plain, fewer = (closed(of > threshold + shift, cell_px) for shift in (-slack, 0.0, slack))
            found[name] = plain, more == fewer
    return found


def _joint_decisions(detector: Detector, raw: _Pixels) -> _Decisions:
    """Return the decisions of several models; sure are those that raised and lowered scores do not turn."""
    assert detector.ensemble is not None
    level, column = _p_value_level(detector), p_value_column(detector.score_column)
    lower, plain, higher = (
        detector.detect_together(raw, slack=slack) for slack in (-LARGEST_DIFFERENCE, 0.0, LARGEST_DIFFERENCE)
    )
    if lower.masks is None or plain.masks is None or higher.masks is None:
        return {}
    images = [each.p_values[column] <= level for each in (lower, plain, higher)]
    masks = [closed(each, detector.cell_px)[:, None] for each in (lower.masks, plain.masks, higher.masks)]
    return {"anomalous": (images[1], images[0] == images[2]), "mask": (masks[1], masks[0] == masks[2])}

"""Export a trial's detector as one ONNX file, from 8-bit images to scores and heatmaps, checked against torch."""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.folders import images_at
from fcdd_sweep.data.loading import load_image_file
from fcdd_sweep.metrics.heatmap_values import upsampling_weights
from fcdd_sweep.prediction.targets import load_snapshot
from fcdd_sweep.results import files
from fcdd_sweep.results.storage import Location, is_file, local_copy
from fcdd_sweep.results.tree import MAPS, SNAPSHOT, TrialPaths
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.device import numerics

FORMAT = 1
"""Of inputs, outputs and metadata of the file; docs/export.md describes them."""
LARGEST_DIFFERENCE = 1e-4
"""Between onnxruntime and torch, relative to the largest score or heatmap value; above it no file is written."""
_CHECKED = 100
_CHECK_BATCH = 8
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Export:
    """An ONNX file, and how it was checked.

    Attributes:
        path: the file.
        images: how many images it was checked on, and where they come from.
        score_difference: largest difference of an image score to torch's, relative to the largest score.
        heatmap_difference: the same of heatmap pixels.
        notes: sentences on given files that are passed over, and on what the file lacks.
    """

    path: Path
    images: str
    score_difference: float
    heatmap_difference: float
    notes: tuple[str, ...] = ()


def export_onnx(trial: Location, target: Path, images: Sequence[Path] = ()) -> Export:
    """Export a trial's detector as an ONNX file, after checking it against torch on real images.

    Args:
        trial: leaf folder of a finished trial, or its `snapshot.pt`; on this machine or in an object store.
        target: the file to write; replaced if it exists.
        images: to check on, or folders of them; at most 100 are used. None: the images in the trial's `maps.npz`.
    Raises:
        InputError: the packages of the extra `export` are missing, the trial or the images cannot be read, the
            detector cannot be exported, or onnxruntime's results differ too much. No file is left then.
    """
    _check_packages()
    snapshot = trial if trial.name.endswith(".pt") else trial / SNAPSHOT
    detector = load_snapshot(snapshot, "cpu")
    _check_supported(detector, snapshot)
    raw, source, notes = _given_images(detector, images) if images else _kept_images(detector, snapshot)
    content = onnx_bytes(detector)
    score, heatmap = differences(detector, content, raw)
    if not max(score, heatmap) <= LARGEST_DIFFERENCE:
        what = f"onnxruntime differs from torch by {score:.1e} of the largest score and {heatmap:.1e} of the largest "
        raise InputError(
            Problem(
                str(target),
                f"{what}heatmap value on {source}; the file is not written",
                f"at most {LARGEST_DIFFERENCE:g}",
                "Upgrade onnxruntime and torch to the versions in constraints.txt",
            )
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(target, lambda path: path.write_bytes(content))
    except OSError as error:
        raise InputError(Problem(str(target), f"cannot be written ({error.strerror})")) from error
    return Export(target, source, score, heatmap, (*notes, *_notes(detector)))


def _check_packages() -> None:
    """Raise an `InputError` that names the packages of the extra which are missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        what = f"needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        step = f"Install it: pip install {' '.join(missing)}, or in a checkout its extra: pip install -e '.[export]'"
        raise InputError(Problem("export", what, next_step=step))


def _check_supported(detector: Detector, snapshot: Location) -> None:
    if detector.settings.method == "hsc":
        what = "method hsc cannot be exported: its heatmaps are gradients of the network, which ONNX cannot compute"
        raise InputError(Problem(str(snapshot), what, "a trial of method fcdd or ae"))
    if detector.ensemble is not None:
        models = len(detector.ensemble.members)
        what = f"evaluation.calibration is cross: {models} models decide together by p-values, which cannot be exported"
        step = "Train with calibration split and held-out nominal images (evaluation.validation.nominal_fraction)"
        raise InputError(Problem(str(snapshot), what, "a trial with calibration split or none", step))
    if detector.settings.evaluation.image_score != "mean":
        what = f"its images are scored by {detector.settings.evaluation.image_score}, which cannot be exported yet"
        raise InputError(Problem(str(snapshot), what, "evaluation.image_score: mean"))


def _notes(detector: Detector) -> list[str]:
    if math.isnan(detector.threshold):
        return ["The file has no output 'anomalous': no images were held out in training, so there is no threshold."]
    return []


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


def _kept_images(detector: Detector, snapshot: Location) -> tuple[_Pixels, str, list[str]]:
    """Return the test images that the trial kept, or else its training samples, resized to the load size."""
    where = TrialPaths(snapshot.parent).maps
    arrays: dict[str, npt.NDArray[Any]] = {}
    if is_file(where):
        with local_copy(where) as path:
            arrays = files.read_arrays(path, ["images", "train_images"])
    for name, kind in (("images", "test image"), ("train_images", "augmented training image")):
        if len(kept := arrays.get(name, np.empty(0))):
            return detector.fitted(kept[:_CHECKED]), f"{count_noun(len(kept[:_CHECKED]), kind)} of {where}", []
    what = f"no images to check the export on: there are none in {MAPS} beside the snapshot"
    raise InputError(Problem(str(snapshot), what, next_step="Name some with --images DIR"))


class _Graph(nn.Module):
    """All that the file computes: (N, C, R, R) uint8 images to scores, heatmaps and, with a threshold, labels."""

    rows: Tensor
    columns: Tensor
    weights: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        assert isinstance(detector.network, nn.Module)
        self.network = detector.network
        self.detector = detector
        geometry, maps = detector.preprocessor.recipe.test_geometry(1), detector.map_geometry
        self.register_buffer("rows", torch.from_numpy(geometry.rows[0]))
        self.register_buffer("columns", torch.from_numpy(geometry.columns[0]))
        # not the network's own upsampling, whose cached weights would be those of the tracing
        cells = detector.network.receptive_field.width if detector.method.by_cells else maps.out_size[0]
        of_axis = upsampling_weights(maps.receptive_field, cells, maps.out_size[0], maps.std)
        self.register_buffer("weights", torch.tensor(of_axis, dtype=torch.float32))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        detector = self.detector
        seen = images.index_select(2, self.rows).index_select(3, self.columns)
        inputs = detector.preprocessor.normalized(seen.float() / 255)
        maps, scores = detector.method.detect(detector.network, inputs)
        heatmaps = self.weights @ (maps @ self.weights.mT) if detector.method.by_cells else maps
        labels = () if math.isnan(detector.threshold) else (scores > detector.threshold,)
        return scores.float(), heatmaps, *labels


def onnx_bytes(detector: Detector) -> bytes:
    """Return the detector, on the CPU, as the content of an ONNX file for batches of any size."""
    images = detector.settings.images
    example = torch.zeros(2, images.channels, images.load_size, images.load_size, dtype=torch.uint8)
    outputs = ["score", "heatmap", *([] if math.isnan(detector.threshold) else ["anomalous"])]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        program = torch.onnx.export(
            _Graph(detector).eval(),
            (example,),
            input_names=["images"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            verbose=False,
        )
    for node in program.model.graph:
        node.metadata_props.clear()  # lines of source code and paths of this machine
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata(detector))
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
        "method": settings.method,
        "network": settings.network.name or f"{settings.network.backbone}/{settings.network.node}",
        "preprocessing": settings.preprocessing,
        "load_size": images.load_size,
        "size": images.size,
        "color": images.color,
        "resize": images.resize,
        "aspect": images.aspect,
        "value_range": "" if detector.value_range is None else json.dumps(asdict(detector.value_range)),
        "threshold": "" if math.isnan(detector.threshold) else repr(detector.threshold),
        "heatmap_low": "" if math.isnan(low_high[0]) else repr(low_high[0]),
        "heatmap_high": "" if math.isnan(low_high[1]) else repr(low_high[1]),
        "settings": settings.model_dump_json(),
    }
    return {name: str(value) for name, value in plain.items()}


def differences(detector: Detector, content: bytes, raw: _Pixels) -> tuple[float, float]:
    """Return the largest differences of scores and of heatmaps between onnxruntime and torch.

    Args:
        detector: on the CPU.
        content: of its ONNX file.
        raw: (N, C, R, R) uint8 images at the load size, N at least 1.
    Returns:
        Both relative to the largest value of torch.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    apart, largest = np.zeros(2), np.zeros(2)
    for start in range(0, len(raw), _CHECK_BATCH):
        batch = raw[start : start + _CHECK_BATCH]
        with numerics(detector.settings, detector.device):
            detection = detector.detect(batch)
            expected = detection.scores.numpy(), detector.heatmaps(detection.maps).numpy()
        found = session.run(["score", "heatmap"], {"images": batch})
        apart = np.maximum(apart, [np.abs(a - b).max() for a, b in zip(found, expected, strict=True)])
        largest = np.maximum(largest, [np.abs(each).max() for each in expected])
    score, heatmap = apart / np.maximum(largest, np.finfo(np.float32).tiny)
    return float(score), float(heatmap)

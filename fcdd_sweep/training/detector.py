"""A trained detector: scores and heatmaps of raw images, and snapshots of it."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.config.decision_record import DECISION, DecisionRecord
from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.fields import TOP_SHARES, score_column
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.pixels import fit_image
from fcdd_sweep.metrics.heatmap_values import STEPS, MapGeometry, default_std
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.training.device import choose_device, full_precision
from fcdd_sweep.training.image_scores import heatmap_scores
from fcdd_sweep.training.methods import METHODS, Detection, Method
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe

SNAPSHOT_VERSION = 5
"""Of the layout of `snapshot.pt`, keys of its `settings` included."""
HEATMAP_COLUMNS = ("score_max", *TOP_SHARES.values())
"""Columns of `scores.parquet` with scores that heatmaps give."""
DECISION_FIELDS = ("threshold", "pixel_threshold", "threshold_source", "n_calibration")
"""Attributes of a detector, entries of a snapshot and columns of `metrics.parquet` that decisions rest on."""
_NOT_LOADED = (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError)
"""Errors of `torch.load` and of indexing for a file that is not a snapshot."""
_MAX_BATCH = 128
_MAX_BATCH_PIXELS = 128 * 96 * 96
"""Images and pixels that are scored together: large images would fill the memory, most of all with gradients."""


@dataclass(frozen=True)
class Detector:
    """A network with everything that scoring images needs.

    Attributes:
        settings: of the trial that trained it.
        normal_class: the class it was trained on.
        network: on the device that it was trained or loaded on.
        preprocessor: with the statistics of its nominal training images.
        value_range: by which its training images of more than 8 bits were brought to 8; None where there were none.
        threshold: the score above which an image is called anomalous; NaN when too few images were held out.
        pixel_threshold: the value of a heatmap above which a pixel is anomalous; NaN when too few were held out.
        threshold_source: what can be said of both thresholds, or why there are none.
        n_calibration: number of held-out nominal images that they come from.
        reference_quantiles: (1001,) float32 of upsampled heatmaps, for colors, blurred when `heatmaps.blur` says so;
            NaN when the trial had no test images.
    """

    settings: Settings
    normal_class: str
    network: DetectionNetwork
    preprocessor: Preprocessor
    value_range: ValueRange | None = None
    threshold: float = float("nan")
    pixel_threshold: float = float("nan")
    threshold_source: str = ""
    n_calibration: int = 0
    reference_quantiles: npt.NDArray[np.float32] = field(default_factory=lambda: np.full(STEPS + 1, np.nan, np.float32))

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.network.parameters()).device

    @property
    def method(self) -> Method:
        return METHODS[self.settings.method]

    @property
    def map_geometry(self) -> MapGeometry:
        """How its anomaly maps become heatmaps, and how pictures of them are blurred."""
        field, size = self.network.receptive_field, self.settings.images.size
        std = self.settings.heatmaps.kernel_std_px or default_std(field.size)
        cells = (field.size, field.jump, field.shift) if self.method.by_cells else (1, 1, 0.0)
        return MapGeometry(cells, (size, size), std, field.size)

    def detect(
        self, raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None, batch_size: int | None = None
    ) -> Detection:
        """Return maps and scores of images on the CPU, computed batch by batch.

        Args:
            raw: (M, C, H, W) uint8, C 1 for gray or 3 for RGB; may be memory-mapped, one batch is read at a time.
                Images that do not have the size `images.load_size` and the colors of the training images are brought
                to them as files are.
            rows: (N,) int64, which of them; None for all.
            batch_size: images per batch; None: chosen by their size.
        Raises:
            ValueError: `raw` has another type or other axes.
        """
        self._check(raw)
        rows = np.arange(len(raw)) if rows is None else rows
        size = batch_size or self._batch_size()
        batches = (
            self.preprocessor.test(torch.from_numpy(self.fitted(raw[rows[start : start + size]])).to(self.device))
            for start in range(0, len(rows), size)
        )
        return self.detect_inputs(batches)

    @torch.no_grad()
    @full_precision()
    def detect_inputs(self, batches: Iterable[Tensor]) -> Detection:
        """Return maps and scores, on the CPU, of batches of network input, (N, C, S, S) each.

        The device holds those of one batch at a time: pixel maps of a whole test set may not fit beside a network.

        Raises:
            ValueError: a batch has another size.
        """
        self.network.eval()
        maps, scores = [torch.empty(0, 1, *self._map_size())], [torch.empty(0).double()]
        for inputs in batches:
            detection = self.method.detect(self.network, self._checked_input(inputs))
            maps.append(detection.maps.cpu())
            scores.append(detection.scores.cpu())
        return Detection(torch.cat(maps), torch.cat(scores))

    @torch.no_grad()
    @full_precision()
    def heatmaps(self, anomaly_maps: Tensor) -> Tensor:
        """Upsample (N, 1, U, V) anomaly maps to (N, 1, S, S) float32 heatmaps on the CPU; pixel maps stay as is."""
        if not self.method.by_cells:
            return anomaly_maps
        return self.network.upsample(anomaly_maps.to(self.device), self.settings.heatmaps.kernel_std_px).cpu()

    def scores(self, detection: Detection) -> dict[str, npt.NDArray[np.float64]]:
        """Return (N,) scores by each column of `scores.parquet`; a batch of heatmaps at a time is upsampled."""
        batches = [heatmap_scores(self.heatmaps(each)) for each in detection.maps.split(self._batch_size())]
        by_heatmap = torch.cat(batches).T.numpy()
        by_column = zip(HEATMAP_COLUMNS, by_heatmap, strict=True)
        return {"score_mean": detection.scores.numpy(), **dict(by_column)}

    @property
    def score_column(self) -> str:
        """The column of `scores` that decides."""
        return score_column(self.settings.evaluation.image_score)

    def visible(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return images as the network sees them before normalization: (N, C, H, W) to (N, C, S, S) uint8.

        Raises:
            ValueError: as `detect`.
        """
        self._check(raw)
        return self.preprocessor.visible(torch.from_numpy(np.array(self.fitted(raw)))).numpy()

    def _check(self, raw: npt.NDArray[np.uint8]) -> None:
        """Raise a `ValueError` for images that cannot be brought to the size and colors of the training images."""
        images = self.settings.images
        if raw.dtype != np.uint8 or raw.ndim != 4 or raw.shape[1] not in (1, 3):
            side = images.load_size
            wanted = f"(M, C, H, W) uint8 with C 1 or 3, such as (M, {images.channels}, {side}, {side})"
            raise ValueError(f"images must be {wanted}; found {tuple(raw.shape)} {raw.dtype}")

    def fitted(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return images at the size and in the colors of the training images: (N, C, R, R) uint8."""
        images = self.settings.images
        side = images.load_size
        if raw.shape[1:] == (images.channels, side, side):
            return np.asarray(raw)
        pictures = (image[0] if len(image) == 1 else image.transpose(1, 2, 0) for image in raw)
        fitted = [fit_image(each, side, images.resize, images.color, images.aspect) for each in pictures]
        return np.stack(fitted) if fitted else np.empty((0, images.channels, side, side), np.uint8)

    def _checked_input(self, inputs: Tensor) -> Tensor:
        images = self.settings.images
        wanted = (images.channels, images.size, images.size)
        if inputs.shape[1:] != wanted:
            raise ValueError(f"network input must be {('N', *wanted)}; found {tuple(inputs.shape)}")
        return inputs

    def _batch_size(self) -> int:
        return max(1, min(_MAX_BATCH, _MAX_BATCH_PIXELS // self.settings.images.size**2))

    def _map_size(self) -> tuple[int, int]:
        width = self.network.receptive_field.width if self.method.by_cells else self.settings.images.size
        return width, width

    def snapshot(self) -> dict[str, Any]:
        """Return the detector as tensors and plain values only, so that it loads without running code from the file."""
        preprocessor = self.preprocessor
        return {
            "snapshot_version": SNAPSHOT_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "normal_class": self.normal_class,
            "versions": {"fcdd_sweep": version("fcdd_sweep"), "torch": str(torch.__version__)},
            "network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "preprocessing": {
                "recipe": asdict(preprocessor.recipe),
                "shift": preprocessor.shift.cpu(),
                "scale": preprocessor.scale.cpu(),
            },
            "value_range": None if self.value_range is None else asdict(self.value_range),
            **{name: getattr(self, name) for name in DECISION_FIELDS},
            "reference_quantiles": torch.from_numpy(np.array(self.reference_quantiles)),
        }


def make_network(
    settings: Settings, device: torch.device, seed: int | None = None, *, pretrained: bool = True
) -> DetectionNetwork:
    """Build the network of a trial on its device.

    On a CPU its weights are in channels-last order, which makes a training step 1.1 to 1.7 times faster.

    Args:
        settings: of the trial.
        device: of the trial.
        seed: of the initial weights, drawn without advancing torch's global generator; None: draw from that one.
        pretrained: False: read and download no weights, because those of a snapshot are loaded next.
    Raises:
        InputError: see `networks.build.network_of`.
    """
    images = settings.images
    shape = (images.channels, images.size, images.size)
    network: DetectionNetwork = network_of(settings.network, settings.method, shape, seed, pretrained=pretrained)
    network.to(device, memory_format=torch.channels_last if device.type == "cpu" else torch.preserve_format)
    return network


def load_detector(snapshot: str | Path, device: str = "auto", decision: DecisionRecord | None = None) -> Detector:
    """Load a detector from a `snapshot.pt`, whatever device it was trained on.

    Args:
        snapshot: the file.
        device: `auto`, `cpu`, `cuda` or `mps`.
        decision: image score and thresholds to decide by; None: those of `decision.json` beside the snapshot, which
            the report of the run writes, or else the snapshot's own.
    Raises:
        InputError: there is no such file, it is not a snapshot, another version of fcdd_sweep wrote it, or the device
            is not available.
    """
    path = Path(snapshot)
    plain = _read(path)
    settings, decided = _decided_by(decision or DecisionRecord.beside(path), plain, path)
    target = choose_device(device)
    network = make_network(settings, target, pretrained=False)
    network.load_state_dict(plain["network"])
    stored = plain["preprocessing"]
    return Detector(
        settings=settings,
        normal_class=plain["normal_class"],
        network=network.eval(),
        preprocessor=Preprocessor(Recipe(**stored["recipe"]), stored["shift"].to(target), stored["scale"].to(target)),
        value_range=None if plain["value_range"] is None else ValueRange(**plain["value_range"]),
        **decided,
        reference_quantiles=plain["reference_quantiles"].numpy(),
    )


def _decided_by(record: DecisionRecord | None, plain: Mapping[str, Any], path: Path) -> tuple[Settings, dict[str, Any]]:
    """Return the settings of a snapshot with the image score that decides, and the detector's `DECISION_FIELDS`.

    Raises:
        InputError: the record is that of another trial.
    """
    settings = Settings.model_validate(plain["settings"])
    decided = {name: plain[name] for name in DECISION_FIELDS}
    if record is None and settings.evaluation.image_score == "auto":
        mean = settings.evaluation.model_copy(update={"image_score": "mean"})
        decided["threshold_source"] += "; images are scored by the mean, as no image score has been chosen yet: "
        decided["threshold_source"] += "run aggregate for the run"
        return settings.model_copy(update={"evaluation": mean}), decided
    if record is None:
        return settings, decided
    if record.trial_id != plain.get("trial_id", record.trial_id):
        what = f"belongs to trial {record.trial_id}, the snapshot to trial {plain['trial_id']}"
        step = "Remove it, or run aggregate for the run of the snapshot"
        raise InputError(Problem(str(path.with_name(DECISION)), what, next_step=step))
    return record.decided_settings(settings), decided | record.decision


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a snapshot of this version, or raise an `InputError`."""
    allowed = "the snapshot.pt of a finished trial, such as results/RUN/normal_CLASS/it_0/snapshot.pt"
    hint = "It holds network, preprocessing and threshold; trials leave one unless keep.snapshots is none"
    if not path.is_file():
        raise InputError(Problem(str(path), "there is no such file", allowed))
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
        found = plain["snapshot_version"]  # a state dict or another file of torch has no such key
    except _NOT_LOADED as error:
        raise InputError(Problem(str(path), "this is not a snapshot", allowed, hint)) from error
    except OSError as error:
        raise InputError(Problem(str(path), f"cannot be read ({error.strerror})", allowed)) from error
    if found != SNAPSHOT_VERSION:
        raise InputError(_version_problem(path, found, plain.get("versions")))
    return dict(plain)


def _version_problem(path: Path, found: object, versions: object) -> Problem:
    """Describe a snapshot that another version of fcdd_sweep wrote, and what to do about it."""
    writer = versions.get("fcdd_sweep", "unknown") if isinstance(versions, dict) else "unknown"
    what = f"the snapshot has version {found}, written by fcdd_sweep {writer}"
    step = "Train the trial again, or predict with the program that wrote it, which is kept in source/ of its run"
    return Problem(str(path), what, f"version {SNAPSHOT_VERSION}", step)

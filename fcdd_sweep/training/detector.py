"""A trained detector: scores and heatmaps of raw images, and snapshots of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.config.decision_record import DECISION, DecisionRecord
from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.fields import score_column
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.given import GivenImage, read_given
from fcdd_sweep.data.decoding.pixels import Decoding, fit_image
from fcdd_sweep.metrics.cross_conformal import LeftOutScores, p_value_column
from fcdd_sweep.metrics.heatmap_values import STEPS, MapGeometry, default_std, global_range
from fcdd_sweep.metrics.image_decision import Decision, closed, decide, decide_by_p_value, relabeled
from fcdd_sweep.training.device import choose_device, full_precision, numerics
from fcdd_sweep.training.fold_ensemble import HEATMAP_COLUMNS, FoldModels, JointDetection, stored_ensemble
from fcdd_sweep.training.image_scores import heatmap_scores
from fcdd_sweep.training.methods import METHODS, Detection, Method
from fcdd_sweep.training.models import SNAPSHOT_VERSION, load_model, read_snapshot, stored_model
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.prediction import ImagePrediction, ImageView
from fcdd_sweep.training.predictor import Predictor, ReadImage
from fcdd_sweep.training.preprocessing import Preprocessor

DECISION_FIELDS = ("threshold", "pixel_threshold", "threshold_source", "n_calibration")
"""Attributes of a detector, entries of a snapshot and columns of `metrics.parquet` that decisions rest on."""
_MAX_BATCH = 128
_MAX_BATCH_PIXELS = 128 * 96 * 96
"""Images and pixels that are scored together: large images would fill the memory, most of all with gradients."""
_MAX_PREDICTED = 64


class Scored(NamedTuple):
    """Images that a detector has scored.

    Attributes:
        detection: their maps and scores.
        columns: (N,) by column of `scores.parquet`: scores, and p-values where the detector decides by them.
    """

    detection: Detection
    columns: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, repr=False)
class Detector(Predictor):
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
        ensemble: with `evaluation.calibration` cross the models that decide together by p-values, without thresholds;
            maps and scores are means over them, `network` and `preprocessor` those of the first.
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
    ensemble: FoldModels | None = None

    def __repr__(self) -> str:
        settings, images = self.settings, self.settings.images
        seen = f"{images.size} x {images.size} {images.color}"
        return f"Detector({self.normal_class!r}: {settings.method}, {settings.network.title}, {seen}, {self.device})"

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
        if self.ensemble is not None:
            return self.ensemble.detect(raw, rows, size)
        batches = (
            self.preprocessor.test(torch.from_numpy(self.fitted(raw[rows[start : start + size]])).to(self.device))
            for start in range(0, len(rows), size)
        )
        return self.detect_inputs(batches)

    @torch.no_grad()
    @full_precision()
    def detect_inputs(self, batches: Iterable[Tensor]) -> Detection:
        """Return maps and scores, on the CPU, of batches of network input, (N, C, S, S) each; by the first model.

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

    def scored(
        self, raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None, batch_size: int | None = None
    ) -> Scored:
        """Return maps, scores and all columns of images; arguments and errors are those of `detect`."""
        if self.ensemble is None:
            detection = self.detect(raw, rows, batch_size)
            return Scored(detection, self.scores(detection))
        joint = self.detect_together(raw, rows, batch_size)
        return Scored(joint.detection, self.scores(joint.detection) | joint.p_values)

    def detect_together(
        self,
        raw: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.int64] | None = None,
        batch_size: int | None = None,
        *,
        slack: float = 0.0,
    ) -> JointDetection:
        """Return what an ensemble decides of images; arguments and errors are those of `detect`, `slack` that of
        `FoldModels.decided`."""
        assert self.ensemble is not None
        self._check(raw)
        rows = np.arange(len(raw)) if rows is None else rows
        rate = self.settings.evaluation.false_alarm_rate
        return self.ensemble.detect_together(raw, rows, batch_size or self._batch_size(), rate, slack)

    def deciding_scores(self, detection: Detection, heatmaps: Tensor) -> npt.NDArray[np.float64]:
        """Return the (N,) scores that decide, with the (N, 1, S, S) heatmaps of the detection at hand."""
        if self.score_column not in HEATMAP_COLUMNS:
            return np.asarray(detection.scores.numpy())
        return np.asarray(heatmap_scores(heatmaps)[:, HEATMAP_COLUMNS.index(self.score_column)].numpy())

    def decide(self, score: float, heatmap: npt.NDArray[np.float32]) -> Decision:
        """Return the decisions about one image by its score and its (S, S) heatmap."""
        return decide(score, heatmap, self.threshold, self.pixel_threshold, self.cell_px)

    @property
    def cell_px(self) -> int:
        """Distance between cells of the anomaly map in pixels; 1 where maps have all pixels."""
        return self.map_geometry.receptive_field[1]

    @property
    def decoding(self) -> Decoding:
        """How images are decoded."""
        return Decoding(self.value_range, max_megapixels=self.settings.images.max_megapixels)

    @property
    def color_range(self) -> tuple[float, float] | None:
        """The heatmap values that are drawn blue and red; None when the trial had no test images."""
        if np.isnan(self.reference_quantiles).any():
            return None
        return global_range(self.reference_quantiles, self.settings.heatmaps.color_quantile)

    @property
    def images_together(self) -> int:
        return min(self._batch_size(), _MAX_PREDICTED)

    def read(self, image: GivenImage, name: str) -> ReadImage:
        """Return an image at the size and in the colors of the training images; see `predict`."""
        found, images = read_given(image, name, self.decoding), self.settings.images
        raw = fit_image(found.image, images.load_size, images.resize, images.color, images.aspect)
        height, width = found.image.shape[:2]
        return ReadImage(name, image if isinstance(image, Path) else None, raw, (height, width), found.clipped)

    def predict_batch(self, images: Sequence[ReadImage]) -> list[ImagePrediction]:
        """Return the predictions on images that `read` returned."""
        raw = np.stack([each.raw for each in images])
        with numerics(self.settings, self.device):  # as in the trial that the threshold comes from
            joint = None if self.ensemble is None else self.detect_together(raw, batch_size=len(raw))
            detection = self.detect(raw, batch_size=len(raw)) if joint is None else joint.detection
            heatmaps = self.heatmaps(detection.maps)
        scores, plain = self.deciding_scores(detection, heatmaps).tolist(), heatmaps[:, 0].numpy()
        decisions = map(self.decide, scores, plain) if joint is None else self.decide_together(joint, scores, plain)
        of_each = zip(images, scores, self.visible(raw), plain, decisions, strict=True)
        return [
            ImagePrediction(
                name=image.name,
                path=image.path,
                score=score,
                basis=self.threshold_source,
                clipped=image.clipped,
                decision=decision,
                view=ImageView(seen, heatmap, image.size, self.seen_box(image.size), self.color_range),
            )
            for image, score, seen, heatmap, decision in of_each
        ]

    def decide_together(
        self, joint: JointDetection, scores: Sequence[float], heatmaps: npt.NDArray[np.float32]
    ) -> Iterator[Decision]:
        """Yield the decisions of an ensemble about images with these scores and (N, S, S) heatmaps; a threshold, which
        it has from a user alone, gives the labels instead."""
        assert self.ensemble is not None
        level = self.ensemble.left_out.level(self.settings.evaluation.false_alarm_rate)
        p_values = joint.p_values[p_value_column(self.score_column)].tolist()
        masks = [None] * len(scores) if joint.masks is None else closed(joint.masks, self.cell_px)
        for p_value, score, mask, heatmap in zip(p_values, scores, masks, heatmaps, strict=True):
            found = decide_by_p_value(p_value, level, mask, heatmap)
            yield found if math.isnan(self.threshold) else relabeled(found, score, self.threshold)

    def seen_box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of what the network sees of an image of this height and width."""
        first, end = self.preprocessor.recipe.test_span
        side = self.preprocessor.recipe.load_size
        bounds: list[int] = []
        for length in size:
            used = min(size) if self.settings.images.aspect == "crop" else length
            start = (length - used) // 2
            low = min(-(-first * used // side), used - 1)
            bounds += [start + low, start + max(-(-end * used // side), low + 1)]
        return bounds[0], bounds[1], bounds[2], bounds[3]

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
        return {
            "snapshot_version": SNAPSHOT_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "normal_class": self.normal_class,
            "versions": {"fcdd_sweep": version("fcdd_sweep"), "torch": str(torch.__version__)},
            **stored_model(self.network, self.preprocessor),
            "value_range": None if self.value_range is None else asdict(self.value_range),
            **{name: getattr(self, name) for name in DECISION_FIELDS},
            "reference_quantiles": torch.from_numpy(np.array(self.reference_quantiles)),
            **({} if self.ensemble is None else stored_ensemble(self.ensemble)),
        }


def _with_ensemble(first: Detector, plain: Mapping[str, Any]) -> Detector:
    """Return the detector of a snapshot with its ensemble, where it has one."""
    if "further_models" not in plain:
        return first
    others = (load_model(first.settings, stored, first.device) for stored in plain["further_models"])
    members = (first, *(replace(first, network=network, preprocessor=each) for network, each in others))
    scores = {name: values.numpy() for name, values in plain["left_out_scores"].items()}
    return replace(first, ensemble=FoldModels(members, LeftOutScores(plain["left_out_fold"].numpy(), scores)))


def load_detector(snapshot: str | Path, device: str = "auto", decision: DecisionRecord | None = None) -> Detector:
    """Load a detector from a `snapshot.pt`, whatever device it was trained on.

    Args:
        snapshot: the file, or the folder of its trial.
        device: `auto`, `cpu`, `cuda` or `mps`.
        decision: image score and thresholds to decide by; None: those of `decision.json` beside the snapshot, which
            the report of the run writes, or else the snapshot's own.
    Raises:
        InputError: there is no such file, it is not a snapshot, another version of fcdd_sweep wrote it, or the device
            is not available.
    """
    is_leaf = Path(snapshot).is_dir() and Path(snapshot).suffix != ".pt"
    path = Path(snapshot, "snapshot.pt") if is_leaf else Path(snapshot)
    plain = read_snapshot(path)
    settings, decided = _decided_by(decision or DecisionRecord.beside(path), plain, path)
    target = choose_device(device)
    network, preprocessor = load_model(settings, plain, target)
    detector = Detector(
        settings=settings,
        normal_class=plain["normal_class"],
        network=network,
        preprocessor=preprocessor,
        value_range=None if plain["value_range"] is None else ValueRange(**plain["value_range"]),
        **decided,
        reference_quantiles=plain["reference_quantiles"].numpy(),
    )
    return _with_ensemble(detector, plain)


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

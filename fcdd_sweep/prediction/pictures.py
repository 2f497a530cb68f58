"""The picture of each prediction, and which predictions get one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcdd_sweep.config.names import printable
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics import heatmap_values
from fcdd_sweep.metrics.heatmap_values import blur
from fcdd_sweep.report.figures.heatmaps import global_scale, local_scale
from fcdd_sweep.report.figures.image_grid import ColorScale, as_rgb
from fcdd_sweep.report.figures.prediction_figure import PredictionText, draw_prediction
from fcdd_sweep.report.figures.style import save_picture
from fcdd_sweep.report.text import score_text
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.prediction import ImagePrediction

Wanted = Literal["auto", "all", "anomalous", "none"]
HEATMAPS = "heatmaps"
"""Folder of pictures in the output folder."""
FIRST = 200
"""Images that `auto` draws whatever is said of them; of later ones it draws those that are called anomalous."""
_MOST_SIDE = 1024
"""Larger images, at their native scale, are shrunk for their picture."""


@dataclass
class Artist:
    """Draws predictions.

    Attributes:
        detector: whose settings say how; the first of several.
        output: the folder below which pictures are saved.
        wanted: `all`; `anomalous` ones; `none`; `auto`, the first 200 and all that are called anomalous.
        seen: number of predictions that it was shown.
        drawn: number of pictures.
    """

    detector: Detector
    output: Path
    wanted: Wanted = "auto"
    seen: int = 0
    drawn: int = 0

    def draw(self, prediction: ImagePrediction, path: Path) -> bool:
        """Save a picture at a path below the output, if it is wanted; return whether it was."""
        self.seen += 1
        by_number = self.wanted == "all" or (self.wanted == "auto" and self.seen <= FIRST)
        if self.wanted == "none" or not (by_number or prediction.label == 1):
            return False
        save_picture(picture_of(self.detector, prediction), self.output / path)
        self.drawn += 1
        return True

    @property
    def rule(self) -> str:
        """A sentence on predictions without a picture; empty where each has one, or none was wanted."""
        if self.drawn == self.seen or self.wanted in ("all", "none"):
            return ""
        first = f"the first {FIRST} and " if self.wanted == "auto" else ""
        rule = f"{first}those that are called anomalous"
        return f"{count_noun(self.drawn, 'picture')} of {self.seen:,} images: {rule}. Draw all with --pictures all."


def picture_of(detector: Detector, prediction: ImagePrediction) -> Image.Image:
    """Return the figure of a prediction: input, heatmap and both, the decision and what it rests on."""
    view = prediction.view
    heatmap, seen = view.heatmap, view.seen
    if detector.settings.heatmaps.blur:
        geometry = detector.map_geometry
        heatmap = blur(heatmap, geometry.blur_size, geometry.std)
    if max(heatmap.shape) > _MOST_SIDE or heatmap.shape[0] != heatmap.shape[1]:
        heatmap, seen = _shrunk(heatmap), _shrunk_image(seen)
    values, scale, note = _colors(heatmap, view.color_range, detector.settings.heatmaps.color_quantile)
    mask = prediction.decision.mask if prediction.has_region else None
    outline = "" if mask is None else "Outlined: the pixels that are called anomalous."
    is_native = view.heatmap.shape == view.size
    proportions, aspect_note = proportions_of(view.size, "native" if is_native else detector.settings.images.aspect)
    text = PredictionText(
        name=printable(Path(prediction.name).name),
        score=prediction.score,
        threshold=float("nan") if prediction.threshold is None else prediction.threshold,
        scale=scale,
        notes=tuple(
            filter(None, (*decision_notes(prediction), outline, _unit(detector, prediction), note, aspect_note))
        ),
        agrees=prediction.agrees is not False,
        votes=None if prediction.agreement is None or prediction.threshold is not None else prediction.agreement,
        label=prediction.label,
        p_value=prediction.decision.p_value if prediction.threshold is None else None,
    )
    color_map = detector.settings.heatmaps.color_map
    return draw_prediction(as_rgb(seen[None])[0], values, text, proportions, color_map, mask)


def decision_notes(prediction: ImagePrediction) -> list[str]:
    """Return what label and heatmap say where they disagree, and what decisions rest on, or why there are none."""
    text = prediction.basis
    if prediction.label is None:
        return [f"{text[:1].upper()}{text[1:]}."] if text else []
    basis = f"Decision: {text}."
    if prediction.agrees is not False:
        return [basis]
    found = (
        count_noun(prediction.n_regions or 0, "anomalous region") if prediction.has_region else "no anomalous region"
    )
    values = f"at most {score_text(prediction.decision.heatmap_max)}"
    if prediction.pixel_threshold is not None:
        above = "above" if prediction.has_region else "not above"
        values += f", {above} the pixel threshold of {score_text(prediction.pixel_threshold)}"
    by_votes = "By the votes on its scores" if prediction.decision.p_value is None else "By its p-value"
    how = by_votes if prediction.threshold is None else "By its score"
    return [f"{how} the image is {prediction.label_text}; by its heatmap, {values}, it has {found}.", basis]


def _unit(detector: Detector, prediction: ImagePrediction) -> str:
    """Return what the values of a heatmap of several seeds are."""
    if prediction.agreement is None or prediction.has_region is None or math.isnan(detector.pixel_threshold):
        return ""
    return "Heatmap: the mean over the seeds, each in units of its own pixel threshold."


def _colors(
    heatmap: npt.NDArray[np.float32], color_range: tuple[float, float] | None, quantile: float
) -> tuple[npt.NDArray[np.float32], ColorScale, str]:
    """Return a heatmap in 0..1, the ends of the color bar, and a note on the colors."""
    if color_range is None:
        own = heatmap_values.normalize(heatmap, *heatmap_values.local_range(heatmap, quantile))
        why = "as there is none of the trial's test images at this scale"
        return own, local_scale(quantile), f"Colors: this image's own range, {why}; not comparable between images."
    note = f"Colors: from the minimum to the {quantile:g} quantile of the heatmaps of the trial's test images."
    return heatmap_values.normalize(heatmap, *color_range), global_scale(*color_range), note


def proportions_of(size: tuple[int, int], aspect: str) -> tuple[float, str]:
    """Return width by height of the used part of an image, and a note where the network saw other proportions.

    Args:
        size: height and width of the image.
        aspect: `images.aspect`, or `native` where the network saw its pixels.
    """
    height, width = size
    if width == height:
        return 1.0, ""
    if aspect == "crop":
        return 1.0, f"Only the middle square of the file's {width}x{height} px is scored."
    note = f"Shown in the file's proportions, {width}x{height} px; the network saw it as a square."
    return width / height, "" if aspect == "native" else note


def _shrunk(heatmap: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a square heatmap of at most 1024 pixels a side: the largest value of what each pixel stands for."""
    side = min(_MOST_SIDE, *heatmap.shape)
    rows, columns = (np.arange(side) * length // side for length in heatmap.shape)
    shrunk: npt.NDArray[np.float32] = np.maximum.reduceat(np.maximum.reduceat(heatmap, rows, axis=0), columns, axis=1)
    return shrunk


def _shrunk_image(seen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    side = min(_MOST_SIDE, *seen.shape[1:])
    channels = [np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BOX)) for channel in seen]
    return np.stack(channels)

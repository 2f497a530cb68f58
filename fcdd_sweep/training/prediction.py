"""What a detector says about one image."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.heatmap_values import local_range
from fcdd_sweep.metrics.image_decision import Decision

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOR_MAP = "inferno"
_COLOR_QUANTILE = 0.97


class ImageView(NamedTuple):
    """What a detector saw of an image, and where.

    Attributes:
        seen: (C, S, T) uint8, the image as the network saw it.
        heatmap: (S, T) float32, not blurred.
        size: height and width of the image in pixels.
        box: top, bottom, left and right of the part that was seen, in pixels of the image; ends are exclusive.
        color_range: the heatmap values that are drawn blue and red; None: the heatmap's own.
    """

    seen: npt.NDArray[np.uint8]
    heatmap: npt.NDArray[np.float32]
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    color_range: tuple[float, float] | None = None


@dataclass(frozen=True, repr=False)
class ImagePrediction:
    """What a detector says about one image.

    Attributes:
        name: the path of a file, or `image 3`.
        path: of its file; None for an image that was not given as one.
        score: higher is more anomalous.
        basis: a sentence on what the decisions rest on, or why there are none.
        clipped: share of the image's values outside of the range of the training images.
        decision: label and mask with their thresholds; its parts are attributes of the prediction, too.
        view: what the detector saw.
    """

    name: str
    path: Path | None
    score: float
    basis: str
    clipped: float
    decision: Decision = field(repr=False)
    view: ImageView = field(repr=False)

    @property
    def label(self) -> int | None:
        """1 anomalous, 0 nominal; None without a threshold."""
        return self.decision.label

    @property
    def threshold(self) -> float | None:
        """An image with a higher score is anomalous; None if there is no such threshold."""
        return self.decision.threshold

    @property
    def pixel_threshold(self) -> float | None:
        """A pixel whose heatmap is higher is anomalous; None if there is no such threshold."""
        return self.decision.pixel_threshold

    @property
    def has_region(self) -> bool | None:
        """Whether any pixel is anomalous; None without a pixel threshold."""
        return self.decision.has_region

    @property
    def n_regions(self) -> int | None:
        """Number of connected regions of anomalous pixels, on the network's scale; None without a pixel threshold."""
        return self.decision.n_regions

    @property
    def region_area(self) -> float | None:
        """Share of the pixels that the network saw in these regions; None without a pixel threshold."""
        return self.decision.region_area

    @property
    def agrees(self) -> bool | None:
        """Whether the image is anomalous and has a region, or neither; None without thresholds."""
        return self.decision.agrees

    @property
    def agreement(self) -> float | None:
        """Share of several detectors whose label is this one; None for a single detector."""
        return self.decision.agreement

    @property
    def heatmap(self) -> npt.NDArray[np.float32]:
        """The heatmap at the image's own size, (H, W) float32; NaN where the detector looks away, as beside a crop.

        Values are those on the network's scale, by nearest neighbor; `mask` is `heatmap > pixel_threshold` with gaps
        closed that are less wide than a cell of the anomaly map. A pixel that stands for several of the network's has
        the largest of their values.
        """
        return self._at_own_size(self.view.heatmap, np.nan)

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """The anomalous pixels at the image's own size, (H, W) bool; None without a pixel threshold."""
        return None if self.decision.mask is None else self._at_own_size(self.decision.mask, fill=False)

    def _at_own_size(self, values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        top, bottom, left, right = self.view.box
        if values.shape == (bottom - top, right - left) == self.view.size:
            return values.copy()
        rows, columns = (
            np.arange(length) * cells // length
            for length, cells in zip((bottom - top, right - left), values.shape, strict=True)
        )
        whole = np.full(self.view.size, fill, values.dtype)
        inner = np.maximum.reduceat(np.maximum.reduceat(values, rows, axis=0), columns, axis=1)
        whole[top:bottom, left:right] = inner
        return whole

    @property
    def label_text(self) -> str:
        """`anomalous`, `nominal` or `no decision`."""
        return "no decision" if self.label is None else ("nominal", "anomalous")[self.label]

    def __repr__(self) -> str:
        parts = [f"{self.name!r}", f"score={self.score:.4g}", self.label_text]
        if self.n_regions is not None:
            parts.append(count_noun(self.n_regions, "region"))
        if self.agreement is not None:
            parts.append(f"agreement={self.agreement:.2g}")
        return f"ImagePrediction({', '.join(parts)})"

    def plot(self, path: str | Path | None = None) -> Figure:
        """Return a figure of matplotlib: the image, its heatmap, and both with the anomalous regions outlined.

        Args:
            path: where to save it, in the format of its ending; None: nowhere.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.5, 3.9), layout="constrained")
        axes = figure.subplots(1, 3)
        top, bottom, left, right = self.view.box
        place: dict[str, Any] = {"extent": (left, right, bottom, top)}
        low, high = self.view.color_range or local_range(self.view.heatmap, _COLOR_QUANTILE)
        colors: dict[str, Any] = {"cmap": _COLOR_MAP, "vmin": low, "vmax": max(high, low + 1e-9)}
        seen = np.broadcast_to(self.view.seen.transpose(1, 2, 0), (*self.view.seen.shape[1:], 3))
        for ax, title in zip(axes, ("image", "heatmap", "heatmap over image"), strict=True):
            ax.imshow(seen, **place)
            ax.set_title(title, fontsize=9, loc="left")
            ax.tick_params(labelsize=7)
        shown = axes[1].imshow(self.view.heatmap, **place, **colors)
        axes[2].imshow(self.view.heatmap, **place, **colors, alpha=0.5)
        if self.decision.mask is not None and self.decision.mask.any() and not self.decision.mask.all():
            axes[2].contour(self.decision.mask, levels=[0.5], colors="#00e5ff", linewidths=1.2, origin="upper", **place)
        figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
        figure.suptitle(self._title(), fontsize=10)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _title(self) -> str:
        if self.threshold is None:
            score = f"score {self.score:.4g}"
        else:
            score = f"score {self.score:.4g}, threshold {self.threshold:.4g}"
        disagrees = " (the heatmap disagrees)" if self.agrees is False else ""
        # without $, which would begin a formula
        return f"{self.name}\n{score}: {self.label_text}{disagrees}".replace("$", r"\$")

    def _repr_png_(self) -> bytes:
        """Return the figure for a notebook."""
        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

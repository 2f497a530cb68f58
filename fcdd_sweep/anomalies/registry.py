"""The tables of anomaly modes and sources. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fcdd_sweep.config.schema import Settings

SourceKind = Literal["synthetic", "exposure", "real"]
"""Rendered from random numbers; outlier exposure: images of another data set or of a folder; real anomalies of the
normal class, taken out of the test set."""


@dataclass(frozen=True)
class ModeInfo:
    """Properties of an `anomalies.mode`.

    Attributes:
        title: one line for `list`.
        sources: kinds of source it can use; empty: it uses none, otherwise it needs one.
        gives_maps: whether the anomalous pixels of an anomaly are known.
        real: whether it uses the real anomalies of the training split, which must then contain some.
    """

    title: str
    sources: tuple[SourceKind, ...] = ()
    gives_maps: bool = False
    real: bool = False

    @property
    def needs_source(self) -> bool:
        return bool(self.sources)


MODES: dict[str, ModeInfo] = {
    "unsupervised": ModeInfo("nominal images alone"),
    "other": ModeInfo("real anomalies of the training split", real=True),
    "noise": ModeInfo("the image is replaced by one of the source", sources=("synthetic", "exposure", "real")),
    "malformed_normal": ModeInfo("the source is added to the nominal image", sources=("synthetic",)),
    "malformed_normal_gt": ModeInfo(
        "the same, trained on the map of changed pixels", sources=("synthetic",), gives_maps=True
    ),
}
SOURCES: dict[str, str] = {
    "confetti": "rotated squares of one dark color each, blurred; the paper's choice for defects",
    "solid": "one random color over the whole image",
    "gaussian": "every value drawn from a normal distribution, mean 0, standard deviation 64",
    "uniform": "every value drawn uniformly from 0 to 255",
    "blob": "many small white squares on black, 6 px",
    "mixed_blob": "a few squares of 34 px on black, white or with a random color in every pixel",
    "chips": "1 to 4 rotated bars and specks, sharp or soft, lighter or darker; sized by the image, for small defects",
    "spots": "one small round spot, lighter or darker; sized by the image, to choose image scores on",
}
"""Synthetic sources and what they look like. Values are in gray levels, 0 to 255, or added to such."""
REAL_SOURCES: dict[str, str] = {
    "mvtec": "real anomalies of the normal class, taken out of the test set; `limit` of each defect type",
    "mvtec_gt": "the same, trained on their ground-truth maps",
}
"""Real anomalies as sources. The names are the paper's, which takes them from MVTec-AD; any data set of protocol
`defects` has them too."""
DARKENING = frozenset({"confetti"})
"""Sources whose values are at most 0: visible when added to an image, but black images on their own."""
_LARGE = 64
"""Side in pixels from which on a square of 34 px is a part of the image."""


def other_generator(settings: Settings) -> str:
    """Return a synthetic source that training does not use, with squares that fit the images.

    The same generator would reward the configs that fit it best, however well they detect real defects. Who trains on
    chips looks for small defects, which `mixed_blob` does not resemble: docs/own_images.md has figures.
    """
    if settings.anomalies.source == "chips":
        return small_generator(settings)
    names = ("mixed_blob", "confetti") if settings.images.load_size >= _LARGE else ("blob", "uniform")
    return next(name for name in names if name != settings.anomalies.source)


def small_generator(settings: Settings) -> str:
    """Return a synthetic source of small anomalies that training does not use: image scores are chosen on them."""
    return "chips" if settings.anomalies.source == "spots" else "spots"

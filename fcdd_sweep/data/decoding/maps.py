"""Ground-truth maps: which of a file's values mark what is anomalous, decided once for all maps of a data set.

- `values`: where every map is lossless and has at most 32 values, each value other than the background is anomalous:
  classes, instance numbers, colors and palettes alike. The background is 0, black or the palette's first color, or
  `images.map_background`.
- `half`: otherwise (JPEG, soft edges) a pixel is anomalous from half of the format's range on, such as 128; of a color
  its brightest channel counts.
- Transparency is the map, from half of its range on, where it varies and all that is visible has one color: white or
  black drawn on nothing. Otherwise it is ignored.

Palettes of different grays are read as their grays. Maps that fit neither rule are errors that name them;
`images.map_rule` decides where a user knows better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.decoding.reading import is_transparent

Mask = npt.NDArray[np.bool_]
Rule = Literal["values", "half"]
MOST_MAP_VALUES = 32
_LOSSLESS = frozenset("BMP GIF PNG PPM TIFF".split())
_NOISE = 8
"""Values this near to black and to white may be noise as well as classes."""
_BLACK = 1 / 16
"""Share of the range up to which a lossy map counts as black."""


class MapFile(NamedTuple):
    """The content of a map's file.

    Attributes:
        codes: (H, W), different where the file has different values: grays, numbers in a palette, or colors.
        light: (H, W), the brightness that rule `half` asks.
        span: the highest brightness of the format; 1 for floating point.
        kind: what `codes` are; only grays and colors have a brightness that means something.
        alpha: (H, W) uint8, or None.
        lossless: whether the format keeps values as they were drawn.
    """

    codes: npt.NDArray[Any]
    light: npt.NDArray[Any]
    span: float
    kind: Literal["gray", "color", "palette", "float"]
    alpha: npt.NDArray[np.uint8] | None = None
    lossless: bool = True


@dataclass(frozen=True)
class MapRule:
    """How the maps of a data set are read.

    Attributes:
        by: see the module's docstring.
        alpha: whether transparency is the map of files that have it.
        background: the value or number that is not anomalous.
        stored: whether maps of images that EXIF turns are drawn on the image as it is stored.
    """

    by: Rule = "values"
    alpha: bool = False
    background: int = 0
    stored: bool = False

    def mask(self, file: MapFile) -> Mask:
        """Return (H, W), True where anomalous."""
        if self.alpha and file.alpha is not None:
            return file.alpha >= 128
        if self.by == "values":
            background = _color_code(*[np.int64(self.background)] * 3) if file.kind == "color" else self.background
            return np.asarray(file.codes != background)
        bright = file.light > file.span / 2
        return np.asarray(bright != (self.background > file.span / 2))


@dataclass(frozen=True)
class MapFacts:
    """What the choice of a rule needs to know of one map.

    Attributes:
        path: the map's file.
        values: the different values, in order; None where there are more than 32.
        lossless: see `MapFile`.
        top: the highest brightness as a share of the format's range; NaN where it has none.
        alpha: `map` where all that is visible, and not all is, has one color; `clear` where nothing is visible;
            `opaque` where everything is; `ignored` otherwise; empty where there is no transparency.
        turned: `upright` or `stored` where the map's size shows what it was drawn on, `unknown` where EXIF turns the
            image and sizes show nothing, empty for all others.
    """

    path: Path
    values: tuple[float, ...] | None
    lossless: bool
    top: float
    alpha: str = ""
    turned: str = ""


def from_picture(image: Image.Image, format_name: str | None) -> MapFile:
    """Return the content of a map that Pillow has read, of 8 bits per channel or fewer."""
    lossless = format_name in _LOSSLESS and image.info.get("compression") not in ("jpeg", "tiff_jpeg")
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if is_transparent(image) else None
    if image.mode == "1":
        image = image.convert("L")
    found = from_values(np.asarray(image if image.mode == "L" else image.convert("RGB")))
    if image.mode == "P":
        numbers = np.asarray(image)
        if found.kind == "color" or len(np.unique(numbers)) > len(np.unique(found.codes)):
            return found._replace(codes=numbers, kind="palette", alpha=alpha, lossless=lossless)
    return found._replace(alpha=alpha, lossless=lossless)


def from_values(values: npt.NDArray[Any]) -> MapFile:
    """Return the content of a lossless map from its values, (H, W) gray or (H, W, C) where 2 and 4 are transparent."""
    whole = values.dtype.kind in "iu"
    span = float(np.iinfo(values.dtype).max) if whole else 1.0
    alpha = None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        alpha, values = (values[..., -1] / (span / 255)).astype(np.uint8), values[..., :-1]
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim == 2:
        return MapFile(values, values, span, "gray" if whole else "float", alpha)
    codes = _color_code(*(values[..., channel].astype(np.int64) for channel in range(3)))
    return MapFile(codes, values.max(axis=2), span, "color", alpha)


def map_facts(path: Path, file: MapFile, turned: str = "") -> MapFacts:
    """Return what the choice of a rule needs to know of a map."""
    distinct = np.unique(file.codes)
    values = tuple(float(value) for value in distinct) if len(distinct) <= MOST_MAP_VALUES else None
    top = float(file.light.max()) / file.span if file.kind in ("gray", "color") else float("nan")
    return MapFacts(path, values, file.lossless, top, _use_of_alpha(file), turned)


def choose_rule(facts: Sequence[MapFacts], images: Images) -> tuple[MapRule, list[Problem]]:
    """Return the rule for all maps of a data set, and a problem where some of them do not fit it."""
    drawn = [each for each in facts if each.alpha == "map"]
    problems = _alpha_problems(drawn, facts)
    by_value = [each for each in facts if not (drawn and each.alpha)]
    by: Rule = "values"
    if images.map_rule != "auto":
        by = images.map_rule
    elif any(each.values is None or not each.lossless for each in by_value):
        by = "half"
        problems += _too_dark(by_value)
    else:
        problems += _noise_or_classes(by_value)
    stored = {each.turned for each in facts} & {"upright", "stored"} == {"stored"}
    return MapRule(by, bool(drawn), images.map_background, stored), problems


def rule_text(rule: MapRule) -> str:
    """Return the rule as a sentence."""
    background = f"value {rule.background}" if rule.background else "the background (0, black)"
    marks = f"all but {background}" if rule.by == "values" else "what is beyond half of the format's range"
    drawn = "; of files with transparency what is opaque" if rule.alpha else ""
    return f"Ground-truth maps mark {marks} as anomalous{drawn}"


def planned_text(images: Images) -> str:
    """Return a sentence for the plan on what maps mark, before they are read."""
    if images.map_rule != "auto":
        return f"{rule_text(MapRule(images.map_rule, background=images.map_background))}."
    marked = rule_text(MapRule(background=images.map_background))
    others = f"where some are lossy or have more than {MOST_MAP_VALUES} values"
    return f"{marked}, or, {others}, what is beyond half of the format's range."


def _color_code(red: Any, green: Any, blue: Any) -> Any:
    """Return colors of up to 16 bits per channel as one number each."""
    return (red << 32) + (green << 16) + blue


def _use_of_alpha(file: MapFile) -> str:
    if file.alpha is None:
        return ""
    visible = file.alpha >= 128
    if not visible.any():
        return "clear"
    colors = file.codes[visible]
    if not (colors == colors[0]).all():
        return "ignored"
    return "opaque" if visible.all() else "map"


def _problem(some: Sequence[MapFacts], what: str, step: str) -> list[Problem]:
    if not some:
        return []
    others = f", and {len(some) - 1} more like it" if len(some) > 1 else ""
    return [Problem(str(some[0].path), f"{what}{others}", next_step=step)]


def _alpha_problems(drawn: Sequence[MapFacts], facts: Sequence[MapFacts]) -> list[Problem]:
    """Return a problem with maps whose colors and transparency both vary, among others that are drawn on nothing."""
    if not drawn:
        return []
    other = [each for each in facts if each.alpha == "ignored"]
    what = f"the map's colors vary, but transparency is the map of {drawn[0].path}: no rule fits both"
    return _problem(other, what, "Save all maps in one way, without transparency")


def _too_dark(facts: Sequence[MapFacts]) -> list[Problem]:
    """Return a problem with maps that have values, but none beyond half of the range, among others that go by half."""
    black = _BLACK if any(each.top > 0.5 for each in facts) else 0  # where none is bright, dark values are classes
    dark = [each for each in facts if not (each.top > 0.5 or each.top <= (0 if each.lossless else black))]
    soft = next(each for each in facts if each.values is None or not each.lossless)
    other = f"{soft.path} is lossy or has more than {MOST_MAP_VALUES} values"
    what = f"the map has no value beyond half of its range, but {other}"
    step = "Save all maps with 0 and 255 as PNG, or set images.map_rule to values or half"
    return _problem(dark, f"{what}: no rule fits both", step)


def _noise_or_classes(facts: Sequence[MapFacts]) -> list[Problem]:
    """Return a problem with maps in which values near black stand beside white, and may be noise or classes."""
    unclear = [
        each
        for each in facts
        if each.values is not None
        and all(value <= _NOISE or 255 - _NOISE <= value <= 255 for value in each.values)
        and any(0 < value <= _NOISE for value in each.values)
        and any(255 - _NOISE <= value for value in each.values)
    ]
    what = f"the map has values of 1 to {_NOISE} beside white, which may be noise or classes"
    return _problem(unclear, what, "Set images.map_rule: half if they are noise, or values if they are classes")

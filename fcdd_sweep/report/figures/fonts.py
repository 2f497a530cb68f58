"""Fonts that draw names in other scripts: those of matplotlib, and after them what is installed on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

_FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans SC", "Noto Sans JP",
    "Noto Sans KR", "Noto Sans TC", "Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Droid Sans Fallback", "IPAexGothic", "IPAGothic", "TakaoGothic", "NanumGothic", "Baekmuk Gulim", "AR PL UMing CN",
    "PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Heiti TC", "Microsoft YaHei", "SimHei",
    "Yu Gothic", "MS Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Emoji", "Symbola", "Segoe UI Emoji", "Segoe UI Symbol", "Unifont",
    "Unifont Upper",
)  # fmt: skip
"""Families for Chinese, Japanese and Korean, other scripts and pictures, as Linux, macOS and Windows have them."""


_FORMULA = r"\math"
"""In the numbers that matplotlib writes at logarithmic axes."""


class FontFile(NamedTuple):
    """A font: a file, and the number of the font in it."""

    path: str
    number: int = 0


MAIN = FontFile(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))


@cache
def installed() -> dict[str, FontFile]:
    """Return the fallback fonts on this machine by family, the preferred ones first."""
    found: dict[str, FontEntry] = {}
    for entry in fontManager.ttflist:
        if entry.name in _FALLBACKS and (entry.name not in found or str(entry.weight) in ("400", "normal", "regular")):
            found[entry.name] = entry
    return {name: FontFile(found[name].fname, getattr(found[name], "index", 0)) for name in _FALLBACKS if name in found}


def families() -> list[str]:
    """Return the font families of figures; matplotlib takes each character from the first that has it."""
    return ["DejaVu Sans", *installed()]


@cache
def _characters(font: FontFile) -> frozenset[int]:
    return frozenset(FT2Font(font.path).get_charmap())


def font_for(char: str) -> FontFile | None:
    """Return the font that draws a character, or None where no installed one does."""
    return next((font for font in (MAIN, *installed().values()) if ord(char) in _characters(font)), None)


def drawable(text: str) -> str:
    r"""Return `text` with the code of each character that no font draws in its place: `\u96f6`."""
    if text.isascii():
        return text
    return "".join(
        char if char.isspace() or font_for(char) else char.encode("unicode_escape").decode() for char in text
    )


def runs(text: str) -> list[tuple[FontFile, str]]:
    """Return the parts of a drawable text that one font draws each."""
    return [(font, "".join(part)) for font, part in groupby(text, key=lambda char: font_for(char) or MAIN)]


def make_drawable(figure: Figure) -> None:
    """Replace what no font draws in all texts of a figure, and take `$` in names for itself, not for a formula."""
    for text in _texts(figure):
        text.set_text(drawable(text.get_text()))
        text.set_parse_math(False)


def _texts(figure: Figure) -> Iterator[Text]:
    """Yield the texts of a figure but those of ticks, some of which matplotlib writes as formulas when it draws them.

    Names on axes are made drawable on the way. Only what holds texts is looked into: ticks are many and slow.
    """
    holders: list[Artist] = [figure]
    while holders:
        for child in holders.pop().get_children():
            if isinstance(child, Text):
                yield child
            elif isinstance(child, Axis):
                _name_ticks(child)
                yield from (child.label, child.offsetText)
            elif isinstance(child, Legend):
                yield from child.get_texts()
                yield child.get_title()
            elif isinstance(child, Axes):
                holders.append(child)


def _name_ticks(axis: Axis) -> None:
    """Replace what no font draws in the names of an axis of names."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    if not isinstance(locator, FixedLocator):
        return
    names = [str(formatter(place, number)) for number, place in enumerate(axis.get_majorticklocs())]
    shown = [name if _FORMULA in name else drawable(name).replace("$", r"\$") for name in names]
    if shown != names:
        axis.set_ticklabels(shown)

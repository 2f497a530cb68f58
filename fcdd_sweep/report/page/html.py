"""Building blocks of an HTML page: text is escaped when it enters, markup is not."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import NamedTuple

_LEAST_SORTED = 3
"""Fewest rows of a table that can be sorted."""


class Markup(str):
    """Text that is HTML already; every other text is escaped when it enters a page."""


def escaped(content: object) -> str:
    """Return markup as it is, and the text of anything else with `<`, `>`, `&` and quotes escaped."""
    return content if isinstance(content, Markup) else html.escape(str(content))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """Return `<tag class="...">content</tag>`; `cls` stands for `class`, and an attribute that is None is left out."""
    names = {"cls": "class"}
    given = "".join(
        f' {names.get(name, name)}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{''.join(map(escaped, content))}</{tag}>")


def with_code(text: object) -> Markup:
    """Return text with what stands between backticks as code; markup as it is."""
    return text if isinstance(text, Markup) else Markup(re.sub("`([^`\n]+)`", r"<code>\1</code>", escaped(text)))


def joined(parts: Iterable[object]) -> Markup:
    """Return parts as markup, one per line."""
    return Markup("\n".join(map(escaped, parts)))


class TableCell(NamedTuple):
    """A cell of a table with more than its content.

    Attributes:
        content: text or markup.
        value: what its column is sorted by; None for its text.
        cls: class of the style sheet.
        style: declarations of its own.
        title: text that is shown when it is pointed at.
    """

    content: object
    value: float | None = None
    cls: str | None = None
    style: str | None = None
    title: str | None = None


def table(
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    names: int = 1,
    last_is_mean: bool = False,
    cls: str | None = None,
) -> Markup:
    """Return a table that scrolls sideways where the screen is narrower, and can be sorted and filtered if it is long.

    Args:
        head: titles of the columns.
        rows: cells, as many per row as there are titles.
        names: number of columns on the left that hold names; the others hold numbers, aligned on the right.
        last_is_mean: whether the last row sums up the others: it is emphasized and stays last.
        cls: class of the style sheet; `plain` is neither sorted nor filtered.
    """

    def line(tag: str, cells: Sequence[object]) -> Markup:
        return joined(_cell(tag, cell, is_name=i < names) for i, cell in enumerate(cells))

    lines = [
        element("tr", line("td", row), cls="mean" if last_is_mean and i == len(rows) - 1 else None)
        for i, row in enumerate(rows)
    ]
    body, foot = (lines[:-1], lines[-1:]) if last_is_mean else (lines, [])
    kinds = " ".join(filter(None, [cls, "sortable" if len(body) >= _LEAST_SORTED and cls != "plain" else None]))
    whole = element(
        "table",
        element("thead", element("tr", line("th", head))),
        element("tbody", *body),
        element("tfoot", *foot) if foot else "",
        cls=kinds or None,
    )
    return element("div", whole, cls="wide", tabindex="0")


def _cell(tag: str, cell: object, *, is_name: bool) -> Markup:
    given = cell if isinstance(cell, TableCell) else TableCell(cell)
    cls = " ".join(filter(None, [None if is_name else "num", given.cls])) or None
    value = None if given.value is None or math.isnan(given.value) else f"{given.value:.7g}"
    return element(tag, given.content, cls=cls, style=given.style, title=given.title, **{"data-value": value})


def picture(address: str, alt: str, caption: str = "") -> Markup:
    """Return an image with its caption; `address` is a `data:` address, so that the page holds the image."""
    image = Markup(f'<img src="{html.escape(address)}" alt="{html.escape(alt)}">')
    return element("figure", image, element("figcaption", caption) if caption else "")


def section(title: str, *content: object, level: int = 2, anchor: str | None = None) -> Markup:
    """Return a section below a heading of this level."""
    return element("section", element(f"h{level}", title), joined(content), id=anchor)


def anchored_sections(body: str) -> list[tuple[str, str]]:
    """Return anchor and title, as plain text, of the sections of a page that links can find."""
    found = re.findall(r'<section id="([^"]+)"><h2>(.*?)</h2>', body)
    return [(html.unescape(anchor), html.unescape(title)) for anchor, title in found]


def details(title: object, *content: object, anchor: str | None = None, cls: str | None = None) -> Markup:
    """Return content that is folded until the reader opens it; it is printed unfolded, or not at all with `screen`."""
    return element("details", element("summary", title), joined(content), id=anchor, cls=cls)


def bullets(items: Iterable[object]) -> Markup:
    """Return a list with one bullet per item, with its commands as code."""
    return element("ul", *(element("li", with_code(item)) for item in items))


def page(title: str, body: Markup, contents: Sequence[tuple[str, str]] = ()) -> str:
    """Return a whole page that fetches nothing.

    Args:
        title: of the window.
        body: content.
        contents: anchor and title of each section that the table of contents names; without any there is none.
    """
    links = [element("li", element("a", name, href=f"#{anchor}")) for anchor, name in contents]
    nav = Markup(f'<nav aria-label="contents"><ol>{"".join(links)}</ol></nav>\n') if links else ""
    whole = {"title": html.escape(title), "style": _installed("style.css"), "script": _installed("tables.js")}
    return _PAGE.substitute(whole, nav=nav, body=body, cls="with-contents" if links else "plain")


def stylesheet() -> str:
    """Return `style.css`, which is installed beside this module."""
    return _installed("style.css")


def script() -> str:
    """Return `tables.js`, which sorts and filters tables and opens linked images."""
    return _installed("tables.js")


@cache
def _installed(name: str) -> str:
    return resources.files("fcdd_sweep.report.page").joinpath(name).read_text(encoding="utf-8")


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body class="$cls">
$nav<main>
$body
</main>
<script>
$script</script>
</body>
</html>
""")

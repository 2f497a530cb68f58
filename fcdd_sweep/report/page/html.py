"""Building blocks of an HTML page: text is escaped when it enters, markup is not."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from string import Template


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


def joined(parts: Iterable[object]) -> Markup:
    """Return parts as markup, one per line."""
    return Markup("\n".join(map(escaped, parts)))


def table(
    head: Sequence[object], rows: Sequence[Sequence[object]], *, names: int = 1, last_is_mean: bool = False
) -> Markup:
    """Return a table that scrolls sideways where the screen is narrower.

    Args:
        head: titles of the columns.
        rows: cells, as many per row as there are titles.
        names: number of columns on the left that hold names; the others hold numbers, aligned on the right.
        last_is_mean: whether the last row sums up the others and is emphasized.
    """

    def line(tag: str, cells: Sequence[object]) -> Markup:
        return joined(element(tag, cell, cls=None if i < names else "num") for i, cell in enumerate(cells))

    body = [
        element("tr", line("td", row), cls="mean" if last_is_mean and i == len(rows) - 1 else None)
        for i, row in enumerate(rows)
    ]
    whole = element("table", element("thead", element("tr", line("th", head))), element("tbody", *body))
    return element("div", whole, cls="wide")


def picture(address: str, alt: str, caption: str = "") -> Markup:
    """Return an image with its caption; `address` is a `data:` address, so that the page holds the image."""
    image = Markup(f'<img src="{html.escape(address)}" alt="{html.escape(alt)}">')
    return element("figure", image, element("figcaption", caption) if caption else "")


def section(title: str, *content: object, level: int = 2, anchor: str | None = None) -> Markup:
    """Return a section below a heading of this level."""
    return element("section", element(f"h{level}", title), joined(content), id=anchor)


def details(title: str, *content: object) -> Markup:
    """Return content that is folded until the reader opens it."""
    return element("details", element("summary", title), joined(content))


def bullets(items: Iterable[object]) -> Markup:
    """Return a list with one bullet per item."""
    return element("ul", *(element("li", item) for item in items))


def page(title: str, body: Markup) -> str:
    """Return a whole page: no script, nothing to fetch."""
    return _PAGE.substitute(title=html.escape(title), style=stylesheet(), body=body)


@cache
def stylesheet() -> str:
    """Return `style.css`, which is installed beside this module."""
    return resources.files("fcdd_sweep.report.page").joinpath("style.css").read_text(encoding="utf-8")


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

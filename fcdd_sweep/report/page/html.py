"""The parts of a page, as text that is safe to put into it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from string import Template


class Markup(str):
    """Text that is HTML already; every other text is escaped when it enters a page."""


def escaped(content: object) -> str:
    return content if isinstance(content, Markup) else html.escape(str(content))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """`<tag class="...">content</tag>`; `cls` stands for `class`, and `None` leaves an attribute out."""
    names = {"cls": "class"}
    given = "".join(
        f' {names.get(name, name)}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{''.join(map(escaped, content))}</{tag}>")


def joined(parts: Iterable[object]) -> Markup:
    return Markup("\n".join(map(escaped, parts)))


def table(
    head: Sequence[object], rows: Sequence[Sequence[object]], *, names: int = 1, last_is_mean: bool = False
) -> Markup:
    """A table that scrolls by itself on narrow screens.

    Args:
        names: how many columns on the left are names; the others are numbers, aligned on the right.
        last_is_mean: the last row sums up the others and stands out.
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
    """An image inside the page; `address` is a `data:` address."""
    shown = Markup(f'<img src="{html.escape(address)}" alt="{html.escape(alt)}">')
    return element("figure", shown, element("figcaption", caption) if caption else "")


def section(title: str, *content: object, level: int = 2, anchor: str | None = None) -> Markup:
    return element("section", element(f"h{level}", title), joined(content), id=anchor)


def details(title: str, *content: object) -> Markup:
    """Folded away until it is asked for."""
    return element("details", element("summary", title), joined(content))


def bullets(items: Iterable[object]) -> Markup:
    return element("ul", *(element("li", item) for item in items))


def page(title: str, body: Markup) -> str:
    """A whole page: no script, nothing fetched from elsewhere."""
    return _PAGE.substitute(title=html.escape(title), style=_STYLE, body=body)


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")
_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1b1f24; --faint: #5b6570; --line: #dfe3e8;
  --accent: #0b5cad; --tint: #0b5cad1f; --done: #1a7f4b; --failed: #c4302b; --missing: #b7791f; }
@media (prefers-color-scheme: dark) { :root { --page: #12161b; --card: #1b2128; --ink: #e7ebf0; --faint: #9aa6b2;
  --line: #303943; --accent: #7ab7ff; --tint: #7ab7ff2b; --done: #4cc38a; --failed: #ff7b72; --missing: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.015em; }
h2 { font-size: 1.25rem; margin: 0 0 .8rem; letter-spacing: -.005em; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .6rem; }
p { margin: .4rem 0 .8rem; max-width: 75ch; }
a { color: var(--accent); }
.lead, .note, figcaption { color: var(--faint); }
.note { font-size: .88rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.4rem 1.5rem;
  margin: 1.2rem 0; }
section section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 1.2rem 0 0;
  margin: 1.4rem 0 0; }
section section h2, section section h3 { margin-top: 0; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem;
  margin: 1.2rem 0 .8rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .8rem 1.1rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: .88rem; }
.done b { color: var(--done); } .failed b { color: var(--failed); } .missing b { color: var(--missing); }
.none b { color: var(--faint); }
.bar { display: flex; height: 8px; border-radius: 4px; overflow: hidden; background: var(--line); }
.bar i { display: block; } .bar .done { background: var(--done); } .bar .failed { background: var(--failed); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: .82rem; }
th, td { padding: .42rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { padding-left: .2rem; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td small { display: block; color: var(--faint); font-size: .8rem; }
td .meter { display: inline-block; min-width: 8.5rem; padding: 0 .4rem; border-radius: 4px;
  background: linear-gradient(to left, var(--tint) var(--share), transparent 0); }
tr.mean td { font-weight: 600; border-top: 2px solid var(--ink); border-bottom: 0; }
tr.mean small { font-weight: 400; }
.pair > section { min-width: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); gap: 1rem; }
figure { margin: .6rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 8px; padding: 6px;
  border: 1px solid var(--line); }
figcaption { font-size: .85rem; margin-top: .35rem; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; background: var(--page); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; } li { margin: .2rem 0; }
.warn { border-left: 4px solid var(--missing); }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
@media (max-width: 640px) { main { padding: 1.5rem .7rem 3rem; } section { padding: 1rem .9rem; }
  .tiles { grid-template-columns: 1fr 1fr; } th, td { padding: .35rem .4rem; } table { font-size: .86rem; }
  td .meter { min-width: 6.5rem; padding: 0 .2rem; } img { padding: 2px; }
  .plot img { width: 40rem; max-width: none; } }
@media print { body { background: #fff; } section { break-inside: avoid; border: 0; padding: .5rem 0; } }
"""

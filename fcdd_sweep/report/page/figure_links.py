"""Full-size figures: links that say where they lie, opened in place, or embedded in a self-contained page."""

from __future__ import annotations

import html as plain_html
from collections.abc import Sequence
from pathlib import Path

from fcdd_sweep.report.figures import trial_figures
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, ROC_FILE
from fcdd_sweep.report.figures.style import as_jpeg_uri
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, details, element
from fcdd_sweep.report.run_files import Run, Trial
from fcdd_sweep.report.text import class_text

_FIGURES = {
    trial_figures.OVERVIEW_FILE: "test images and heatmaps",
    trial_figures.paper_file("global", 1): "six anomalous images, shared colors",
    trial_figures.paper_file("local", 1): "six anomalous images, own colors",
    trial_figures.TRAINING_OVERVIEW_FILE: "training samples and heatmaps",
    trial_figures.PREVIEW_FILE: "training samples",
    trial_figures.LOSS_FILE: "loss",
    trial_figures.ROC_CURVE_FILE: "ROC",
    trial_figures.SCORES_FILE: "scores and threshold",
}
"""Figures of a trial that the page links, and what they show."""
_EMBEDDED_PX = 1600
"""Width of an embedded image."""


def class_files(run: Run, trials: Sequence[Trial], *, embed: bool) -> Markup:
    """Return the figures of a class and of its trials, folded."""
    folder, name = trials[0].class_folder, class_text(trials[0].normal_class)
    own = [
        image_box(run.path, f"{folder}/{HEATMAPS_FILE}", f"all seeds of {name}", embed=embed),
        file_link(run.path, f"{folder}/{ROC_FILE}", "ROC of all seeds"),
    ]
    lines = [*own]
    undrawn = []
    for trial in trials:
        if not trial.is_done:
            continue
        if not any((run.path / trial.leaf / file).is_file() for file in _FIGURES):
            undrawn.append(str(trial.seed))
            continue
        for file, what in _FIGURES.items():
            path, text = f"{trial.leaf}/{file}", f"seed {trial.seed}: {what}"
            is_image = file.endswith(".png")
            lines.append(image_box(run.path, path, text, embed=embed) if is_image else file_link(run.path, path, text))
    if undrawn:
        lines.append(element("span", f"seed {', '.join(undrawn)}: not drawn; ", _drawn_by(), cls="absent"))
    return details(
        "Full-size figures", element("ul", *(element("li", line) for line in lines), cls="files"), cls="screen"
    )


def image_box(root: Path, path: str, text: str, *, embed: bool) -> Markup:
    """Return a linked image that is opened in place, an embedded one, or a word on where it would be.

    Args:
        root: the run.
        path: of the image below it.
        text: what it shows.
        embed: whether the page holds it.
    """
    if not (root / path).is_file():
        return _absent(path, text)
    if embed:
        alt = plain_html.escape(f"{text}: {path}")
        address = as_jpeg_uri(root / path, _EMBEDDED_PX)
        return details(text, Markup(f'<img src="{address}" alt="{alt}" loading="lazy">'))
    place = element("span", f"{root.name}/{path} is not beside this page: it is in the run's folder.", cls="absent")
    placed = Markup(str(place).replace("<span", f'<span data-alt="{plain_html.escape(text)}"', 1))
    summary = element("summary", text)
    link = element("a", path, href=_address(path))
    return Markup(f'<details data-image="{plain_html.escape(_address(path))}">{summary}{link} {placed}</details>')


def file_link(root: Path, path: str, text: str) -> Markup:
    """Return a link to a file of the run, or a word on where it would be."""
    if not (root / path).is_file():
        return _absent(path, text)
    return html.joined([element("span", f"{text}: "), element("a", path, href=_address(path))])


def _absent(path: str, text: str) -> Markup:
    return element("span", f"{text}: {path} was not drawn; ", _drawn_by(), cls="absent")


def _drawn_by() -> Markup:
    return html.with_code("`aggregate --redraw` draws figures of trials.")


def _address(path: str) -> str:
    from urllib.parse import quote

    return quote(path)

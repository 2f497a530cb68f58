"""The classes of a config: a table, and below it each class folded, with picture, plots and worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.report.class_scores import (
    Mistake,
    SeedScores,
    base_rate,
    confusion_counts,
    pixel_base_rate,
    read_seed_scores,
    worst_mistakes,
)
from fcdd_sweep.report.figures.contact_sheet import ContactSheet
from fcdd_sweep.report.figures.roc import class_roc, read_history
from fcdd_sweep.report.figures.run_figures import KINDS
from fcdd_sweep.report.headline import METRIC
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.cells import base_rate_text, count_cell, metric_cell, metric_heads
from fcdd_sweep.report.page.config_section import roc_plots
from fcdd_sweep.report.page.decision_table import decision_table
from fcdd_sweep.report.page.figure_links import class_files
from fcdd_sweep.report.page.html import Markup, TableCell, details, element
from fcdd_sweep.report.page.svg import Line, PlotScale, fitted, histogram, line_plot
from fcdd_sweep.report.run_files import UNREADABLE, Run, Trial
from fcdd_sweep.report.summaries import SummaryRow
from fcdd_sweep.report.tables import mean_name
from fcdd_sweep.report.text import class_text, config_words, metric_text, score_text
from fcdd_sweep.results.tree import TrialPaths

_MOST_UNFOLDED = 1
"""Classes of a run that are shown unfolded."""


def class_table(run: Run, config: str, rows: Sequence[SummaryRow]) -> Markup:
    """Return one row per class and the mean over classes, image AUROC first, base rates beside average precision."""
    heads = metric_heads(rows)
    names = [
        class_text(row.normal_class) if row.normal_class else mean_name(row, len(run.classes(config))) for row in rows
    ]
    body = []
    for name, row in zip(names, rows, strict=True):
        trials = run.of(config, row.normal_class) if row.normal_class else run.of(config)
        chance = {"image_ap": base_rate(trials), "pixel_ap": pixel_base_rate(trials) if "pixel_ap" in heads else np.nan}
        cells = [
            metric_cell(row.metrics[metric], span, below=base_rate_text(chance.get(metric, np.nan)))
            for metric, (_, span) in heads.items()
        ]
        body.append((name, *cells, count_cell(row.counts)))
    head = ("class", *(title for title, _ in heads.values()), "done")
    return html.table(head, body, last_is_mean=len(rows) > 1, cls="metrics")


def class_details(
    run: Run, config: str, sheets: dict[str, ContactSheet], problems: list[str], *, embed: bool = False
) -> Markup:
    """Return each class of a config, folded where there are several.

    Args:
        run, config: whose classes.
        sheets: pictures by class.
        problems: gets a sentence for each trial whose scores cannot be read.
        embed: whether full-size images are embedded.
    """
    names = run.classes(config)
    parts = []
    for name in names:
        trials = run.of(config, name)
        if not any(trial.is_done for trial in trials):
            continue
        content = _class_content(run, trials, sheets.get(name), problems, embed=embed)
        if len(names) <= _MOST_UNFOLDED:
            parts.append(html.joined(content))
        else:
            values = [value for trial in trials if not np.isnan(value := trial.value(METRIC))]
            mean = metric_text(float(np.mean(values)) if values else None)
            title = Markup(f"{element('b', class_text(name))} {element('span', f'image AUROC {mean}', cls='faint')}")
            parts.append(details(title, *content, cls="class"))
    return html.joined(parts)


def _class_content(
    run: Run, trials: Sequence[Trial], sheet: ContactSheet | None, problems: list[str], *, embed: bool
) -> list[object]:
    name = class_text(trials[0].normal_class)
    where = ", ".join(filter(None, [config_words(trials[0].config, trials[0].parameters), name]))
    scores = _read_scores(trials, problems)
    plots = [*roc_plots([class_roc(trials[0].normal_class, trials, kind) for kind in KINDS])]
    if scores:
        plots.append(_score_histogram(scores[0], where))
    plots.append(_loss_plot(trials, where, problems))
    return [
        sheet_figure(sheet, where) if sheet else "",
        element("div", *plots, cls="triple"),
        _decisions(trials),
        decision_table(trials),
        _mistakes(scores) if scores else "",
        class_files(run, trials, embed=embed),
    ]


def _read_scores(trials: Sequence[Trial], problems: list[str]) -> list[SeedScores]:
    found = []
    for trial in trials:
        if trial.is_done:
            try:
                found.append(read_seed_scores(trial))
            except UNREADABLE as error:
                problems.append(f"{trial.leaf}: its scores cannot be shown ({short_error(error)})")
    return found


def sheet_figure(sheet: ContactSheet, where: str) -> Markup:
    """Return a contact sheet with its rows and columns named."""
    pairs = zip(sheet.labels, sheet.scores, strict=True)
    alt = f"{where}: {' and '.join(sheet.rows)} of {len(sheet.labels)} test images: " + ", ".join(
        f"{label} {score}" for label, score in pairs
    )
    width, height = sheet.size
    image = Markup(
        f'<img src="{sheet.address}" width="{width}" height="{height}" alt="{html.escaped(alt)}" loading="lazy">'
    )
    marks = sheet.marks or ("",) * len(sheet.scores)
    captions = [
        element("span", element("b", score), f" {mark}" if mark else "", title=path)
        for score, mark, path in zip(sheet.scores, marks, sheet.paths, strict=True)
    ]
    groups = [
        element("span", label, style=f"grid-column:span {len(list(of))}", cls="group")
        for label, of in groupby(sheet.labels)
    ]
    rows = element("div", *(element("span", row) for row in sheet.rows), cls="rows")
    columns = element("div", *captions, *groups, cls="columns", style=f"--n:{len(captions)}")
    texts = ["Scores below; outlined: the ground truth." if sheet.is_outlined else "Scores below.", sheet.legend]
    note = element("figcaption", " ".join(filter(None, texts)))
    return element("figure", element("div", rows, image, columns, cls="sheet"), note)


def _score_histogram(scores: SeedScores, where: str) -> Markup:
    groups = [
        (name, scores.score[scores.label == label])
        for label, name in enumerate(("nominal", "anomalous"))
        if (scores.label == label).any()
    ]
    means = ", ".join(f"{name} mean {score_text(float(values.mean()))}" for name, values in groups)
    cut = "no threshold" if scores.threshold is None else f"threshold {score_text(scores.threshold)}"
    alt = f"{where}, seed {scores.seed}: scores of {len(scores.score)} test images; {means}; {cut}."
    title = element("h4", f"scores, seed {scores.seed}")
    return element("div", title, histogram(alt, groups, "score", scores.threshold))


def _loss_plot(trials: Sequence[Trial], where: str, problems: list[str]) -> Markup:
    lines = []
    for trial in trials:
        if trial.folder is None:
            continue
        try:
            history = read_history(trial.folder)
        except UNREADABLE as error:
            problems.append(f"{TrialPaths(trial.folder).history.name} of {trial.leaf}: {short_error(error)}")
            continue
        lines.append(Line(f"seed {trial.seed}", history.epoch, history.loss))
    if not lines:
        return Markup("")
    every = np.concatenate([line.y for line in lines])
    known = every[np.isfinite(every)]
    log = len(known) > 0 and known.min() > 0 and known.max() / known.min() > 100
    x = PlotScale("epoch", 0, float(max(line.x.max() for line in lines)))
    ends = "; ".join(f"{line.name} ends at {line.y[-1]:.3g}" for line in lines)
    drawing = line_plot(f"{where}: training loss by epoch; {ends}.", lines, x, fitted("loss", every, log=bool(log)))
    return element("div", element("h4", "training loss"), drawing)


def _decisions(trials: Sequence[Trial]) -> Markup | str:
    """Return the confusion table over the seeds; empty without decisions."""
    counts = confusion_counts(trials)
    if counts is None:
        return ""
    head = ("test images, summed over seeds", "called nominal", "called anomalous")
    rows = [
        ("nominal", counts["true_negatives"], TableCell(counts["false_positives"], cls="wrong")),
        ("anomalous", TableCell(counts["false_negatives"], cls="wrong"), counts["true_positives"]),
    ]
    return element("div", html.table(head, rows), cls="narrow")


def _mistakes(scores: Sequence[SeedScores]) -> Markup:
    decided = any(each.called is not None for each in scores)
    titles = (
        ("Worst false positives", "Worst false negatives")
        if decided
        else (
            "Nominal images with the highest scores",
            "Anomalous images with the lowest scores",
        )
    )
    parts = [
        element("div", element("h4", title), _mistake_table(worst_mistakes(scores, label), decided=decided))
        for label, title in enumerate(titles)
    ]
    return element("div", *parts, cls="pair")


def _mistake_table(found: Sequence[Mistake], *, decided: bool) -> Markup:
    if not found:
        return element("p", "None.", cls="note")
    head = ("image", "score", *(["called wrong by"] if decided else []))
    rows = [
        (
            Markup(
                f"{element('code', each.path)}{element('small', class_text(each.defect)) if each.defect else ''}",
            ),
            TableCell(score_text(each.score), value=each.score),
            *([f"{each.wrong} of {each.seeds} seeds"] if decided else []),
        )
        for each in found
    ]
    return html.table(head, rows)

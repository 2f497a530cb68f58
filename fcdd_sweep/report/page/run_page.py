"""`report.html`: one page that tells what was run, what came out, and what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcdd_sweep.config.trial_spec import slug
from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.experiment_file import overview
from fcdd_sweep.report.figures import trial_figures
from fcdd_sweep.report.figures.run_figures import KINDS, ConfigPictures, Pictures
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.comparison import COMPARISON_HTML
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.run_files import Run, Trial, counted
from fcdd_sweep.report.search.figures import SearchPicture
from fcdd_sweep.report.search.page import search_section
from fcdd_sweep.report.search.record import SearchRecord, reported
from fcdd_sweep.report.summaries import (
    SUMMARY_METRICS,
    DefectRow,
    SummaryRow,
    defect_rows,
    mean_row,
    shortfalls,
    summary_rows,
)
from fcdd_sweep.report.tables import defect_figures, mean_name, shown_figures
from fcdd_sweep.report.text import INTERVAL_RULE, count_text, figure_text, mean_text
from fcdd_sweep.results import tree

_HOW_TO_READ = (
    "Figures are means over seeds ± sample standard deviation; below them the 95% interval of the mean (Student's t, "
    "which may pass 1) and n, the number of seeds with the figure. Over classes: the mean of the classes' means; its "
    "spread, interval and n are those of the seeds that all these classes have. n/a is undefined, for instance because "
    "the test set holds one label only. " + INTERVAL_RULE
)
_MOST_LISTED = 50
"""Bullets and failures that the page lists at most; a sweep whose every trial fails would fill it otherwise."""


def report_page(
    run: Run, pictures: Pictures, search: SearchRecord | None = None, searched: Sequence[SearchPicture] = ()
) -> str:
    """The whole page as text, with all pictures inside.

    Args:
        search: of the run, if it has one; its trials that judged configs give no figures of the test set.
        searched: its pictures.
    """
    problems = [*run.problems, *(search.problems if search else ()), *pictures.problems]
    shown = reported(run, search)
    body = [_header(run, shown), _run_section(run), _problem_section(problems)]
    if search:
        body.append(search_section(search, searched))
    if not any(trial.status == "done" for trial in shown.trials):
        body.append(section("Results", element("p", _nothing_yet(search))))
    elif shown.configs != [""]:
        body.append(_comparison(shown, pictures))
    for drawn in pictures.configs:
        if any(trial.status == "done" for trial in shown.of(drawn.config)):
            body.append(_config_section(shown, drawn))
    body += [_failures(run.trials), _notes(run.environment), _environment(run.environment)]
    return html.page(f"{_title(run)}: report", html.joined(filter(None, body)))


def _nothing_yet(search: SearchRecord | None) -> str:
    what = "trial of the confirmation" if search else "trial"
    return f"No {what} has finished yet: there are no figures to show."


def _header(run: Run, shown: Run) -> Markup:
    """Counts of all trials, and what is missing of those whose figures are shown."""
    ledger = counted(run.trials)
    when = f" Last trial published {run.last_published:%Y-%m-%d %H:%M} UTC." if run.last_published else ""
    extra = f" {run.unplanned} finished trials are no longer in the plan and not shown." if run.unplanned else ""
    tiles = [
        element("div", element("b", count), element("span", f"trials {name}"), cls=f"tile {name if count else 'none'}")
        for name, count in ledger.items()
    ]
    parts = [
        element("i", cls=status, style=f"width:{100 * ledger[status] / max(ledger['planned'], 1):.2f}%")
        for status in ("done", "failed")
    ]
    lost = shortfalls(shown)
    again = [element("p", _how_to_complete(run)), html.bullets(_some(lost))] if lost else []
    return html.joined(
        [
            element("h1", _title(run)),
            element("p", f"Deep one-class classification by class, seed and config.{when}{extra}", cls="lead"),
            _parent(run),
            element("div", *tiles, cls="tiles"),
            element("div", *parts, cls="bar"),
            element("section", *again, cls="warn") if again else "",
        ]
    )


def _some(sentences: Sequence[str]) -> list[str]:
    """The first of very many; the tables count them all."""
    more = len(sentences) - _MOST_LISTED
    return [*sentences[:_MOST_LISTED], *([f"and {more} more, see summary.md"] if more > 0 else [])]


def _is_of_baselines(run: Run) -> bool:
    return (run.path / tree.COUNTERPARTS).is_file()


def _title(run: Run) -> str:
    """The run's name; the folder of its baselines alone would tell nothing."""
    return f"{run.path.absolute().parent.name}: baselines" if _is_of_baselines(run) else run.path.name


def _parent(run: Run) -> Markup | str:
    """Whose baselines these are; the comparison is written right after this page."""
    if not _is_of_baselines(run):
        return ""
    name = run.path.absolute().parent.name
    own = element("a", f"report of {name}", href=f"../{tree.REPORT}")
    beside = element("a", "all methods beside each other", href=COMPARISON_HTML)
    told = f"Trained for comparison with the FCDD run {name}, on its classes and seeds: "
    return element("p", told, own, ", ", beside, ".")


def _how_to_complete(run: Run) -> str:
    if any("training diverged" in trial.error for trial in run.trials):
        return "Diverged trials need a lower learning rate, see Failures; the same command again completes the others:"
    return "Run the same command again to complete:"


def _run_section(run: Run) -> Markup:
    rows = [(name, element("code", value)) for name, value in overview(run)]
    shown = html.table(("setting", "value"), rows, names=2) if rows else ""
    text = run.experiment or f"{tree.EXPERIMENT} is missing."
    return section("What was run", shown, html.details(f"All of {tree.EXPERIMENT}", element("pre", text)))


def _comparison(run: Run, pictures: Pictures) -> Markup:
    rows = [mean_row(run, config) for config in run.configs]
    links = [_config_link(row.config, pictures) for row in rows]
    shown = _summary_table("config", links, rows)
    plots = [html.picture(pictures.roc[kind], f"{kind} ROC by config") for kind in KINDS if kind in pictures.roc]
    return section(
        "Configs compared",
        element("p", f"Means over classes.{_undrawn(run, pictures)}", cls="note"),
        shown,
        _parameter_table(run, links),
        element("div", *plots, cls="pair"),
    )


def _config_link(config: str, pictures: Pictures) -> Markup | str:
    """Leads to the config's own section where the page has one."""
    name = config or "(no name)"
    drawn = any(each.config == config for each in pictures.configs)
    return Markup(f'<a href="#{_anchor(config)}">{html.escaped(name)}</a>') if drawn else name


def _undrawn(run: Run, pictures: Pictures) -> str:
    count, whole = len(pictures.configs), len(run.configs)
    if count == whole:
        return ""
    return (
        f" Sections and pictures are those of the first {count} of {whole} configs; figures of all by class are in "
        "summary.csv, those of single trials in trials.parquet."
    )


def _parameter_table(run: Run, links: Sequence[Markup | str]) -> Markup | str:
    parameters = [run.of(config)[0].parameters for config in run.configs]
    keys = list(dict.fromkeys(key for each in parameters for key in each))
    rows = [(link, *(each.get(key, "") for key in keys)) for link, each in zip(links, parameters, strict=True)]
    return html.details("Their settings", html.table(("config", *keys), rows)) if keys else ""


def _config_section(run: Run, drawn: ConfigPictures) -> Markup:
    rows = summary_rows(run, drawn.config)
    names = [row.normal_class or mean_name(row, len(run.classes(drawn.config))) for row in rows]
    plots = [html.picture(drawn.roc[kind], f"{kind} ROC curves by class") for kind in KINDS if kind in drawn.roc]
    return section(
        f"Config {drawn.config}" if drawn.config else "Results",
        _summary_table("class", names, rows, last_is_mean=len(rows) > 1),
        element("p", _HOW_TO_READ, cls="note"),
        element("div", *plots, cls="pair"),
        _defect_section(defect_rows(run, drawn.config)),
        _class_section(run, drawn),
        anchor=_anchor(drawn.config),
    )


def _anchor(config: str) -> str:
    return f"config-{slug(config)}"


def _summary_table(
    first: str, names: Sequence[object], rows: Sequence[SummaryRow], *, last_is_mean: bool = False
) -> Markup:
    shown = shown_figures(rows)
    head = (first, "done", "failed", "missing", *(SUMMARY_METRICS[metric] for metric in shown))
    body = [
        (name, *_ledger_cells(row), *(_figure_cell(row.figures[metric]) for metric in shown))
        for name, row in zip(names, rows, strict=True)
    ]
    return html.table(head, body, last_is_mean=last_is_mean)


def _ledger_cells(row: SummaryRow) -> tuple[object, ...]:
    ledger = row.ledger
    return f"{ledger['done']} of {ledger['planned']}", ledger["failed"], ledger["missing"]


def _figure_cell(summary: Summary) -> Markup:
    """The mean over a bar of its length, the spread beside it, interval and n below."""
    if math.isnan(summary.mean):
        return element("span", figure_text(summary.mean))
    share = f"--share:{100 * min(max(summary.mean, 0.0), 1.0):.1f}%"
    meter = element("span", mean_text(summary), cls="meter", style=share)
    return html.joined([meter, element("small", count_text(summary))])


def _defect_section(rows: Sequence[DefectRow]) -> Markup | str:
    if not rows:
        return ""
    shown_metrics = defect_figures(rows)
    body = [
        (row.normal_class, row.defect, row.images, *(_figure_cell(getattr(row, metric)) for metric in shown_metrics))
        for row in rows
    ]
    head = ("class", "defect, or other class", "images", *(SUMMARY_METRICS[metric] for metric in shown_metrics))
    shown = html.table(head, body, names=2)
    note = element("p", "Each defect type against all nominal test images, over seeds.", cls="note")
    content = shown if len(rows) <= 30 else html.details(f"All {len(rows)} rows", shown)
    return section("By defect type", note, content, level=3)


def _class_section(run: Run, drawn: ConfigPictures) -> Markup:
    parts = []
    for each in drawn.classes:
        roc = html.picture(each.roc, f"ROC curves of {each.normal_class} by seed") if each.roc else ""
        grid = html.picture(
            each.heatmaps,
            f"heatmaps of {each.normal_class}",
            "Colors: each seed's own range over all its reference images, blue low and red high.",
        )
        links = _leaf_links(run, run.of(drawn.config, each.normal_class))
        if each.roc or each.heatmaps:
            parts.append(section(each.normal_class, roc, grid if each.heatmaps else "", links, level=3))
    return html.joined(parts)


def _leaf_links(run: Run, trials: Iterable[Trial]) -> Markup:
    names = (
        trial_figures.OVERVIEW,
        trial_figures.TRAINING,
        trial_figures.PREVIEW_FILE,
        trial_figures.LOSS_FILE,
        trial_figures.TRIAL_ROC_FILE,
        trial_figures.paper_name("global", 1),
        trial_figures.paper_name("local", 1),
    )
    lines = []
    for trial in trials:
        if trial.status == "done":
            there = [name for name in names if (run.path / trial.leaf / name).is_file()]
            lines.append(html.joined([f"seed {trial.seed}: ", *(_link(trial.leaf, name) for name in there)]))
    return html.details("Files of its trials, beside this page", html.bullets(lines))


def _link(folder: str, name: str) -> Markup:
    return element("a", Path(name).stem, href=f"{folder}/{name}")


def _problem_section(problems: Sequence[str]) -> Markup | str:
    return section("Files that could not be read", html.bullets(problems)) if problems else ""


def _failures(trials: Iterable[Trial]) -> Markup | str:
    failed = [trial for trial in trials if trial.status == "failed"]
    more = len(failed) - _MOST_LISTED
    rows = [
        (
            f"{' '.join(filter(None, [trial.config, trial.normal_class]))}, seed {trial.seed}",
            element("code", trial.error),
            element("code", tree.attempts_dir(Path(), trial.plan["trial_id"]).as_posix()),
            trial.failures,
        )
        for trial in failed[:_MOST_LISTED]
    ]
    head = ("trial", "last line of its error", "traceback below", "attempts")
    note = element("p", f"And {more} more, see {tree.FAILURES}.", cls="note") if more > 0 else ""
    return section("Failures", html.table(head, rows, names=3), note) if rows else ""


def _notes(environment: Mapping[str, Any]) -> Markup | str:
    notes = environment.get("notes") or []
    return section("Notes on the data", html.bullets(notes)) if notes else ""


def _environment(environment: Mapping[str, Any]) -> Markup | str:
    rows = [
        (key, element("code", value if isinstance(value, str) else json.dumps(value)))
        for key, value in environment.items()
        if key != "notes"
    ]
    return section("Environment", html.table(("what", "value"), rows, names=2)) if rows else ""

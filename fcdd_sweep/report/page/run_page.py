"""`report.html`: one page with what was run, its results, and what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcdd_sweep.config.names import slug
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.figures import trial_figures
from fcdd_sweep.report.figures.run_figures import KINDS, ConfigFigures, RunFigures
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.comparison import COMPARISON_HTML
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.page.score_section import image_score_section
from fcdd_sweep.report.recomputed import lacking_note
from fcdd_sweep.report.run_files import PLANNED, Run, Trial, status_counts
from fcdd_sweep.report.search.figures import SearchPicture
from fcdd_sweep.report.search.page import search_section
from fcdd_sweep.report.search.record import SearchRecord, reported
from fcdd_sweep.report.summaries import (
    ALL_METRICS,
    HEATMAP_METRICS,
    SIZE_METRICS,
    SUMMARY_METRICS,
    DefectRow,
    SummaryRow,
    decision_texts,
    defect_rows,
    mean_row,
    shortfalls,
    summary_rows,
)
from fcdd_sweep.report.tables import defect_metrics, mean_name, summary_metrics
from fcdd_sweep.report.text import INTERVAL_RULE, count_text, mean_text, metric_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.tree import RunPaths

_HOW_TO_READ = (
    "Each cell has the mean over seeds ± sample standard deviation; below it the 95% interval of the mean (by "
    "Student's t, may exceed 1) and n, the number of seeds with a value. Over classes: the mean of class means; "
    "its spread, interval and n are over the seeds that all of these classes have. n/a is undefined, for instance "
    "because the test set has one label only. " + INTERVAL_RULE
)
_MOST_LISTED = 50
"""Most bullets and failures in a list: a sweep whose trials all fail would fill the page."""
_MOST_UNFOLDED = 30
"""A table of defect types with more rows is folded."""


def report_page(
    run: Run,
    figures: RunFigures,
    search: SearchRecord | None = None,
    search_figures: Sequence[SearchPicture] = (),
    evidence: Sequence[Markup | str] = (),
) -> str:
    """Return the whole page as text, with all figures embedded.

    Args:
        run: with all of its trials.
        figures: of the run.
        search: of the run, if it has one; test metrics are then those of its confirmation.
        search_figures: of the search.
        evidence: sections on what the metrics show, for after the table of configs.
    """
    problems = [*run.problems, *(search.problems if search else ()), *figures.problems]
    tested = reported(run, search)
    body = [_header(run, tested), _run_section(run), _problem_section(problems)]
    if search:
        body.append(search_section(search, search_figures))
    if not any(trial.is_done for trial in tested.trials):
        body.append(section("Results", element("p", _nothing_yet(search))))
    elif tested.configs != [""]:
        body.append(_configs_section(tested, figures))
    body.extend(evidence)
    body.append(image_score_section(run, tested))
    for drawn in figures.configs:
        if any(trial.is_done for trial in tested.of(drawn.config)):
            body.append(_config_section(tested, drawn))
    body += [_failures(run.trials), _notes(run.environment), _environment(run.environment)]
    return html.page(f"{_title(run)}: report", html.joined(filter(None, body)))


def _nothing_yet(search: SearchRecord | None) -> str:
    what = "trial of the confirmation" if search else "trial"
    return f"No {what} has finished yet: there are no results to show."


def _header(run: Run, tested: Run) -> Markup:
    """Return the counts of all trials, and what is missing of those whose test metrics are shown."""
    counts = status_counts(run.trials)
    when = f" Last trial published {run.last_published:%Y-%m-%d %H:%M} UTC." if run.last_published else ""
    gone = f" Not shown: {count_noun(run.unplanned, 'finished trial')} no longer in the plan." if run.unplanned else ""
    tiles = [
        element("div", element("b", count), element("span", f"trials {name}"), cls=f"tile {name if count else 'none'}")
        for name, count in counts.items()
    ]
    bars = [
        element("i", cls=status, style=f"width:{100 * counts[status] / max(counts[PLANNED], 1):.2f}%")
        for status in (TrialStatus.DONE.value, TrialStatus.FAILED.value)
    ]
    missing = shortfalls(tested)
    warning = [element("p", _how_to_complete(run)), html.bullets(_first(missing))] if missing else []
    return html.joined(
        [
            element("h1", _title(run)),
            element("p", f"Deep one-class classification by class, seed and config.{when}{gone}", cls="lead"),
            _parent(run),
            element("div", *tiles, cls="tiles"),
            element("div", *bars, cls="bar"),
            element("section", *warning, cls="warn") if warning else "",
        ]
    )


def _first(sentences: Sequence[str]) -> list[str]:
    """Return the first sentences and how many more there are; the tables count all of them."""
    more = len(sentences) - _MOST_LISTED
    return [*sentences[:_MOST_LISTED], *([f"and {more} more, see summary.md"] if more > 0 else [])]


def _is_of_baselines(run: Run) -> bool:
    return RunPaths(run.path).counterparts.is_file()


def _title(run: Run) -> str:
    """Return the run's name; of a run of baselines, whose folder is always called the same, that of its FCDD run."""
    return f"{run.path.absolute().parent.name}: baselines" if _is_of_baselines(run) else run.path.name


def _parent(run: Run) -> Markup | str:
    """Return a link to the FCDD run of a run of baselines, and to the comparison, which is written after this page."""
    if not _is_of_baselines(run):
        return ""
    name = run.path.absolute().parent.name
    own = element("a", f"report of {name}", href=f"../{tree.REPORT}")
    comparison = element("a", "comparison of all methods", href=COMPARISON_HTML)
    purpose = f"Trained for comparison with the FCDD run {name}, on its classes and seeds: "
    return element("p", purpose, own, ", ", comparison, ".")


def _how_to_complete(run: Run) -> str:
    if any("training diverged" in trial.error for trial in run.trials):
        return (
            "Lower the learning rate of diverged trials (see Failures); rerun the same command to complete the others:"
        )
    return "Rerun the same command to complete:"


def _run_section(run: Run) -> Markup:
    parameters = {config: run.parameters(config) for config in run.configs or [""]}
    rows = [(name, element("code", value)) for name, value in run.experiment.overview(parameters)]
    table = html.table(("setting", "value"), rows, names=2) if rows else ""
    text = run.experiment.text or f"{tree.EXPERIMENT} is missing."
    return section("Experiment", table, html.details(f"All of {tree.EXPERIMENT}", element("pre", text)))


def _configs_section(run: Run, figures: RunFigures) -> Markup:
    rows = [mean_row(run, config) for config in run.configs]
    links = [_config_link(row.config, figures) for row in rows]
    plots = [html.picture(figures.roc[kind], f"{kind} ROC by config") for kind in KINDS if kind in figures.roc]
    return section(
        "Configs compared",
        element("p", f"Means over classes.{_undrawn_note(run, figures)}", cls="note"),
        _summary_table("config", links, rows),
        _parameter_table(run, links),
        element("div", *plots, cls="pair"),
    )


def _config_link(config: str, figures: RunFigures) -> Markup | str:
    """Return a config's name, linked to its section where the page has one."""
    name = config or "(no name)"
    drawn = any(each.config == config for each in figures.configs)
    return Markup(f'<a href="#{_anchor(config)}">{html.escaped(name)}</a>') if drawn else name


def _undrawn_note(run: Run, figures: RunFigures) -> str:
    count, total = len(figures.configs), len(run.configs)
    if count == total:
        return ""
    return (
        f" The page has sections and figures for the first {count} of {total} configs; summary.csv has the metrics of "
        "all by class, trials.parquet those of single trials."
    )


def _parameter_table(run: Run, links: Sequence[Markup | str]) -> Markup | str:
    parameters = [run.of(config)[0].parameters for config in run.configs]
    keys = list(dict.fromkeys(key for each in parameters for key in each))
    rows = [(link, *(each.get(key, "") for key in keys)) for link, each in zip(links, parameters, strict=True)]
    return html.details("Settings of the configs", html.table(("config", *keys), rows)) if keys else ""


def _config_section(run: Run, drawn: ConfigFigures) -> Markup:
    rows = summary_rows(run, drawn.config)
    names = [row.normal_class or mean_name(row, len(run.classes(drawn.config))) for row in rows]
    plots = [html.picture(drawn.roc[kind], f"{kind} ROC curves by class") for kind in KINDS if kind in drawn.roc]
    return section(
        f"Config {drawn.config}" if drawn.config else "Results",
        _summary_table("class", names, rows, last_is_mean=len(rows) > 1),
        element("p", _HOW_TO_READ, cls="note"),
        _heatmap_tables(run, names, rows),
        _decision_list(run, drawn.config),
        element("div", *plots, cls="pair"),
        _defect_section(defect_rows(run, drawn.config)),
        _class_section(run, drawn),
        anchor=_anchor(drawn.config),
    )


def _decision_list(run: Run, config: str) -> Markup | str:
    """Return what can be said of the thresholds of a config's trials."""
    sentences = [f"{text}." for text in decision_texts(run, config)]
    return html.bullets(_first(sentences)) if sentences else ""


def _anchor(config: str) -> str:
    return f"config-{slug(config)}"


def _summary_table(
    first: str, names: Sequence[object], rows: Sequence[SummaryRow], *, last_is_mean: bool = False
) -> Markup:
    metrics = summary_metrics(rows)
    head = (first, "done", "failed", "missing", *(SUMMARY_METRICS[metric] for metric in metrics))
    body = [
        (name, *_count_cells(row.counts), *(_metric_cell(row.metrics[metric]) for metric in metrics))
        for name, row in zip(names, rows, strict=True)
    ]
    return html.table(head, body, last_is_mean=last_is_mean)


def _heatmap_tables(run: Run, names: Sequence[object], rows: Sequence[SummaryRow]) -> Markup | str:
    """Return how well heatmaps show where defects are, by class, and by the size of the defect."""
    note, tables = lacking_note(run), []
    for titles in (HEATMAP_METRICS, SIZE_METRICS):
        if metrics := summary_metrics(rows, titles):
            cells = ([_metric_cell(row.metrics[metric]) for metric in metrics] for row in rows)
            body = [(name, *each) for name, each in zip(names, cells, strict=True)]
            head = ("class", *(titles[metric] for metric in metrics))
            tables.append(html.table(head, body, last_is_mean=len(rows) > 1))
    if not tables and not note:
        return ""
    parts = [*tables[:1], *(html.details("By size of the defect", each) for each in tables[1:])]
    return section("Heatmaps as explanations", element("p", f"{note}.", cls="note") if note else "", *parts, level=3)


def _count_cells(counts: Mapping[str, int]) -> tuple[object, ...]:
    done = f"{counts[TrialStatus.DONE]} of {counts[PLANNED]}"
    return done, counts[TrialStatus.FAILED], counts[TrialStatus.MISSING]


def _metric_cell(summary: Summary) -> Markup:
    """Return mean and spread on a bar as long as the mean, with interval and n below."""
    if math.isnan(summary.mean):
        return element("span", metric_text(summary.mean))
    share = f"--share:{100 * min(max(summary.mean, 0.0), 1.0):.1f}%"
    meter = element("span", mean_text(summary), cls="meter", style=share)
    return html.joined([meter, element("small", count_text(summary))])


def _defect_section(rows: Sequence[DefectRow]) -> Markup | str:
    if not rows:
        return ""
    metrics = defect_metrics(rows)
    body = [
        (row.normal_class, row.defect, row.images, *(_metric_cell(row.metrics[metric]) for metric in metrics))
        for row in rows
    ]
    head = ("class", "defect, or other class", "images", *(ALL_METRICS[metric] for metric in metrics))
    table = html.table(head, body, names=2)
    note = element("p", "Each defect type against all nominal test images, over seeds.", cls="note")
    content = table if len(rows) <= _MOST_UNFOLDED else html.details(f"All {len(rows)} rows", table)
    return section("By defect type", note, content, level=3)


def _class_section(run: Run, drawn: ConfigFigures) -> Markup:
    parts = []
    for each in drawn.classes:
        roc = html.picture(each.roc, f"ROC curves of {each.normal_class} by seed") if each.roc else ""
        grid = html.picture(
            each.heatmaps,
            f"heatmaps of {each.normal_class}",
            "Colors: each seed spans the range of its own reference images, blue low and red high.",
        )
        links = _leaf_links(run, run.of(drawn.config, each.normal_class))
        if each.roc or each.heatmaps:
            parts.append(section(each.normal_class, roc, grid if each.heatmaps else "", links, level=3))
    return html.joined(parts)


def _leaf_links(run: Run, trials: Iterable[Trial]) -> Markup:
    names = (
        trial_figures.OVERVIEW_FILE,
        trial_figures.TRAINING_OVERVIEW_FILE,
        trial_figures.PREVIEW_FILE,
        trial_figures.LOSS_FILE,
        trial_figures.ROC_CURVE_FILE,
        trial_figures.paper_file("global", 1),
        trial_figures.paper_file("local", 1),
    )
    lines = []
    for trial in trials:
        if trial.is_done:
            found = [name for name in names if (run.path / trial.leaf / name).is_file()]
            lines.append(html.joined([f"seed {trial.seed}: ", *(_link(trial.leaf, name) for name in found)]))
    return html.details("Files of the trials", html.bullets(lines))


def _link(folder: str, name: str) -> Markup:
    return element("a", Path(name).stem, href=f"{folder}/{name}")


def _problem_section(problems: Sequence[str]) -> Markup | str:
    return section("Files that could not be read", html.bullets(problems)) if problems else ""


def _failures(trials: Iterable[Trial]) -> Markup | str:
    failed = [trial for trial in trials if trial.status == TrialStatus.FAILED]
    more = len(failed) - _MOST_LISTED
    rows = [
        (
            f"{trial.label}, seed {trial.seed}",
            element("code", trial.error),
            element("code", RunPaths(Path()).attempts_dir(trial.plan["trial_id"]).as_posix()),
            trial.failures,
        )
        for trial in failed[:_MOST_LISTED]
    ]
    head = ("trial", "error", "folder of the traceback", "attempts")
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
    return section("Environment", html.table(("name", "value"), rows, names=2)) if rows else ""

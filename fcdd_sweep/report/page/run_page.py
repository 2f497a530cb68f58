"""`report.html`: one page that begins with the result and what is missing; settings and files come last."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.report.config_ranks import RankedConfig, shown_config
from fcdd_sweep.report.figures.roc import config_roc
from fcdd_sweep.report.figures.run_figures import KINDS, RunFigures
from fcdd_sweep.report.headline import METRIC, best_and_worst
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.class_section import class_details, class_table, sheet_figure
from fcdd_sweep.report.page.comparison import COMPARISON_HTML
from fcdd_sweep.report.page.config_section import (
    by_class_section,
    comparison_note,
    config_anchor,
    config_table,
    parallel_section,
    roc_plots,
    run_roc_section,
    two_way_section,
)
from fcdd_sweep.report.page.cost_section import cost_section
from fcdd_sweep.report.page.defect_section import defect_section
from fcdd_sweep.report.page.heatmap_section import heatmap_section
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.page.score_section import image_score_section
from fcdd_sweep.report.page.svg import Interval, interval_plot
from fcdd_sweep.report.run_files import Run, Trial, status_counts
from fcdd_sweep.report.search.confirmation import further_sentences, lead_sentences
from fcdd_sweep.report.search.figures import SearchPicture
from fcdd_sweep.report.search.page import search_section, used_settings
from fcdd_sweep.report.search.record import SearchRecord, reported
from fcdd_sweep.report.summaries import (
    SUMMARY_METRICS,
    SummaryRow,
    decision_texts,
    device_note,
    shortfalls,
    summary_rows,
)
from fcdd_sweep.report.text import INTERVAL_RULE, LEAST_FOR_INTERVAL, class_text, config_words, metric_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.tree import RunPaths

_HOW_TO_READ = (
    "Each cell has the mean over seeds ± sample standard deviation, and below it the 95% interval of the mean (by "
    "Student's t, may exceed 1) on a scale that the whole column shares; the ends of the scale are below the column's "
    "title. Over classes: the mean of class means; its spread and interval are over the seeds that all of these "
    "classes have. n/a is undefined, for instance because the test set has one label only. "
    f"{INTERVAL_RULE} The chance level of average precision (AP) is the share of anomalous images, or pixels, in the "
    "test set; that of AUROC is 0.5."
)
_MOST_LISTED = 50
"""Most bullets and failures in a list: a sweep whose trials all fail would fill the page."""
_MOST_NAMED = 3
"""Methods and networks up to which the page begins with their names."""
_MOST_INTERVALS = 20
"""Rows of the plot on the first screen: the best ones."""


def report_page(
    run: Run,
    ranked: Sequence[RankedConfig],
    figures: RunFigures,
    search: SearchRecord | None = None,
    search_figures: Sequence[SearchPicture] = (),
    evidence: Sequence[Markup | str] = (),
) -> str:
    """Return the whole page as text, with tables, plots and a small picture of each class embedded.

    Args:
        run: with all of its trials.
        ranked: its configs, from `ranked_configs`, by the trials whose test metrics are shown.
        figures: of the run.
        search: of the run, if it has one; test metrics are then those of its confirmation.
        search_figures: of the search.
        evidence: sections on what the metrics show, for after the table of configs.
    """
    tested = reported(run, search)
    if not any(trial.is_done for trial in tested.trials):
        ranked = []
    problems: list[str] = []
    body = [
        _header(run, tested, ranked, search),
        _first_screen(tested, ranked, figures),
        search_section(search, search_figures) if search else "",
        *(_comparison(tested, ranked, figures) if len(tested.configs) > 1 else []),
        *(evidence if len(tested.configs) > 1 else ()),
        *(_config_section(tested, config, figures, problems) for config in figures.configs if ranked),
        *(evidence if len(tested.configs) <= 1 else ()),
        image_score_section(run, tested),
        cost_section(run),
        _failures(run.trials),
        _problem_section([*run.problems, *(search.problems if search else ()), *figures.problems, *problems]),
        _notes(run.environment),
        section("How to read the tables", element("p", _HOW_TO_READ), anchor="how-to-read") if ranked else "",
        _settings(run, search),
    ]
    text = html.joined(filter(None, body))
    return html.page(f"{_title(run)}: report", text, _contents(text))


def _contents(body: str) -> list[tuple[str, str]]:
    """Return anchor and title of the sections of a page, as it has them."""
    return [("top", "Result"), *html.anchored_sections(body)]


def _header(run: Run, tested: Run, ranked: Sequence[RankedConfig], search: SearchRecord | None) -> Markup:
    """Return name, result, and what is missing of the trials whose test metrics are shown."""
    when = f" Last trial published {run.last_published:%Y-%m-%d %H:%M} UTC." if run.last_published else ""
    gone = f" Not shown: {count_noun(run.unplanned, 'finished trial')} no longer in the plan." if run.unplanned else ""
    every = [run.experiment.settings(tested.parameters(config)) for config in tested.configs or [""]]
    values = [list(dict.fromkeys(each.get(name, "") for each in every)) for name in ("method", "data set", "network")]
    what = ", ".join(value for found in values if len(found) <= _MOST_NAMED for value in found if value)
    missing = shortfalls(tested)
    listed = html.bullets(_first(missing))
    if len(missing) > _MOST_BULLETS:
        listed = html.details(f"{count_noun(len(missing), 'class')} with missing seeds", listed)
    warning = [element("p", _how_to_complete(run)), listed] if missing else []
    if mixed := device_note(tested.trials):
        warning.append(element("p", f"{mixed[0].upper()}{mixed[1:]}."))
    lead = " ".join(lead_sentences(tested, ranked, search)) or _nothing_yet(search)
    details = further_sentences(tested, ranked, search)
    return html.joined(
        [
            element("h1", _title(run), id="top"),
            element("p", f"{what}{'.' if what else ''}{when}{gone}", cls="lead"),
            _parent(run),
            element("p", lead, cls="result"),
            element("p", " ".join(details), cls="note") if details else "",
            _counts_line(run),
            element("section", *warning, cls="warn") if warning else "",
        ]
    )


_MOST_BULLETS = 6
"""Sentences on missing trials that are not folded."""


def _counts_line(run: Run) -> Markup:
    counts = status_counts(run.trials)
    parts = [element("span", element("b", count), f" {name}", cls=f"count {name}") for name, count in counts.items()]
    return element("p", "Trials: ", *parts, cls="counts")


def _nothing_yet(search: SearchRecord | None) -> str:
    what = "trial of the confirmation" if search else "trial"
    return f"No {what} has finished yet: there are no results to show."


def _first_screen(run: Run, ranked: Sequence[RankedConfig], figures: RunFigures) -> Markup | str:
    """Return the comparison as a plot of intervals, and a picture of the hardest class."""
    if not ranked:
        return ""
    config = shown_config(run, ranked)
    rows = summary_rows(run, config)
    parts = [_intervals(run, ranked, rows), _picture(run, config, rows, figures)]
    return element("div", *filter(None, parts), cls="first")


def _intervals(run: Run, ranked: Sequence[RankedConfig], rows: Sequence[SummaryRow]) -> Markup | str:
    if len(ranked) > 1:
        found = [(config_words(each.config, run.parameters(each.config)), each.row, False) for each in ranked]
    else:
        found = [(class_text(row.normal_class or "mean"), row, row.normal_class is None) for row in rows]
    shown = [_interval(name, row, is_mean=is_mean) for name, row, is_mean in found[:_MOST_INTERVALS]]
    title = SUMMARY_METRICS[METRIC]
    what = "configs, the best first" if len(ranked) > 1 else "classes"
    values = "; ".join(f"{row.name} {metric_text(row.mean)}" for row in shown)
    has_intervals = any(not math.isnan(row.low) for row in shown)
    basis = (
        "95% intervals over seeds" if has_intervals else f"too few seeds for an interval: {LEAST_FOR_INTERVAL} needed"
    )
    plot = interval_plot(f"{title} of {what}, {basis}: {values}.", shown, title)
    more = len(found) - len(shown)
    note = f"{basis[0].upper()}{basis[1:]}{f'; {more} more in the table' if more > 0 else ''}."
    heading = f"{title[0].upper()}{title[1:]} by {'config' if len(ranked) > 1 else 'class'}"
    return element("div", element("h2", heading), plot, element("p", note, cls="note"))


def _interval(name: str, row: SummaryRow, *, is_mean: bool) -> Interval:
    summary = row.metrics[METRIC]
    if summary.n < LEAST_FOR_INTERVAL:
        return Interval(name, summary.mean, float("nan"), float("nan"), is_mean)
    return Interval(name, summary.mean, summary.low, summary.high, is_mean)


def _picture(run: Run, config: str, rows: Sequence[SummaryRow], figures: RunFigures) -> Markup | str:
    known = [row for row in rows if row.normal_class and row.metrics[METRIC].n]
    hardest = best_and_worst(known)[1].normal_class if known else None
    several = len({row.metrics[METRIC].mean for row in known}) > 1
    names = [hardest, *run.classes(config)]
    name = next((name for name in names if name and (config, name) in figures.sheets), None)
    if name is None:
        return ""
    where = ", ".join(filter(None, [config_words(config, run.parameters(config)), class_text(name)]))
    title = f"{class_text(name)[0].upper()}{class_text(name)[1:]}{', the hardest' if several else ''}"
    return element("div", element("h2", title), sheet_figure(figures.sheets[config, name], where))


def _comparison(run: Run, ranked: Sequence[RankedConfig], figures: RunFigures) -> list[Markup | str]:
    if not ranked:
        return []
    table = [config_table(run, ranked, figures), comparison_note(run, ranked), _undrawn_note(run, figures)]
    return [
        section("Configs compared", *table, anchor="configs"),
        by_class_section(run, ranked),
        two_way_section(run),
        parallel_section(run, ranked),
        run_roc_section(run, figures),
    ]


def _undrawn_note(run: Run, figures: RunFigures) -> Markup | str:
    count, total = len(figures.configs), len(run.configs)
    if count == total:
        return ""
    text = (
        f"The page has sections and figures for the best {count} of {total} configs; summary.csv has the metrics of "
        "all by class, trials.parquet those of single trials."
    )
    return element("p", text, cls="note")


def _config_section(run: Run, config: str, figures: RunFigures, problems: list[str]) -> Markup | str:
    """Return the classes of a config; folded where there are several configs."""
    if not any(trial.is_done for trial in run.of(config)):
        return ""
    rows = summary_rows(run, config)
    sheets = {name: sheet for (of, name), sheet in figures.sheets.items() if of == config}
    embed = figures.embed
    content = [
        class_table(run, config, rows),
        _decision_list(run, config),
        defect_section(run, config),
        heatmap_section(run, config, rows),
        element("div", *roc_plots([config_roc(run, config, kind) for kind in KINDS]), cls="pair")
        if len(run.classes(config)) > 1
        else "",
        section("Each class", class_details(run, config, sheets, problems, embed=embed), level=3),
    ]
    if len(run.configs) == 1 and not config:
        return section("Classes", *content, anchor=config_anchor(config))
    title = config_words(config, run.parameters(config))
    if len(run.configs) == 1:
        return section(f"Config {title.removeprefix('config ')}", *content, anchor=config_anchor(config))
    is_first = config == figures.configs[0]
    heading = [section("Each config", anchor="each-config")] if is_first else []
    return html.joined(
        [*heading, html.details(element("b", title), *content, anchor=config_anchor(config), cls="card")]
    )


def _settings(run: Run, search: SearchRecord | None) -> Markup:
    parameters = {config: run.parameters(config) for config in run.configs or [""]}
    texts = dict(run.experiment.overview(parameters)) | (used_settings(search) if search else {})
    rows = [(name, element("code", value)) for name, value in texts.items()]
    table = html.table(("setting", "value"), rows, names=2, cls="plain") if rows else ""
    text = run.experiment.text or f"{tree.EXPERIMENT} is missing."
    return section(
        "Settings and environment",
        html.details("Settings", table) if table else "",
        html.details(f"All of {tree.EXPERIMENT}", element("pre", text), cls="screen"),
        _environment(run.environment),
        anchor="settings",
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


def _decision_list(run: Run, config: str) -> Markup | str:
    """Return what can be said of the thresholds of a config's trials."""
    sentences = [f"{text}." for text in decision_texts(run, config)]
    return html.bullets(_first(sentences)) if sentences else ""


def _problem_section(problems: Sequence[str]) -> Markup | str:
    found = list(dict.fromkeys(problems))
    return section("Files that could not be read", html.bullets(found), anchor="problems") if found else ""


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
    return section("Failures", html.table(head, rows, names=3), note, anchor="failures") if rows else ""


def _notes(environment: Mapping[str, Any]) -> Markup | str:
    notes = environment.get("notes") or []
    return section("Notes on the data", html.bullets(notes), anchor="notes") if notes else ""


def _environment(environment: Mapping[str, Any]) -> Markup | str:
    rows = [
        (key, element("code", value if isinstance(value, str) else json.dumps(value)))
        for key, value in environment.items()
        if key != "notes"
    ]
    table = html.table(("name", "value"), rows, names=2, cls="plain")
    return html.details("Environment", table, cls="screen") if rows else ""

"""Methods or runs side by side: their metrics, who is better, and the same test images under each.

`combine` compares a run with its baselines, `compare_runs` any runs; both write the same files with the same code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import pyarrow as pa

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.report.compared_runs import ComparedConfig, ComparedGroup, group_of_runs, run_title
from fcdd_sweep.report.comparison_text import comparison_sentences
from fcdd_sweep.report.comparisons import clear_best, comparison_rows, unshared_note
from fcdd_sweep.report.experiment_file import COMPARED
from fcdd_sweep.report.figures.style import as_jpeg_uri
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.comparison_figures import draw_compared_class
from fcdd_sweep.report.page.statistics_section import comparison_section
from fcdd_sweep.report.recomputed import with_recomputed
from fcdd_sweep.report.run_files import Run, read_run, write_errors
from fcdd_sweep.report.search.record import read_search, reported
from fcdd_sweep.report.summaries import ALL_METRICS, SummaryRow, device_note, mean_over, summary_rows
from fcdd_sweep.report.tables import summary_cells, summary_fields, write_csv
from fcdd_sweep.report.text import INTERVAL_RULE, NOT_DEFINED, count_text, mean_text, metric_text
from fcdd_sweep.results.comparison_schemas import COMPARISONS
from fcdd_sweep.results.files import TableRow, table_from_rows, write_rows, write_text
from fcdd_sweep.results.mirror import mirrored
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import COMPARISONS as COMPARISONS_FILE
from fcdd_sweep.results.tree import RunPaths

COMPARISON_HTML, COMPARISON_CSV, COMBINED_DIR = "comparison.html", "comparison.csv", "combined"
MEAN = "mean"
_FIELDS = [
    *((name, pa.string()) for name in ("config", "method", "normal_class", "shortfall")),
    *(field for metric in ALL_METRICS for field in summary_fields(metric)),
]
_BASELINES_NOTE = (
    "The autoencoder (AE) is trained without anomalies and with an optimizer of its own; the hypersphere classifier "
    "(HSC) with the anomalies of FCDD and their labels. Heatmaps of HSC are input gradients; those of both baselines "
    "are blurred."
)
_RULES = (
    "Mean over seeds ± sample standard deviation, and the 95% interval of the mean. The best of a row is bold only "
    "where it is better than every other, by the same test as below. What is incomplete, or diverged, is shown by "
    f"class but never ranked. {INTERVAL_RULE}"
)
_MOST_BESIDE = 12
"""Characters in the heads of tables up to which two stand beside each other."""
_FURTHER_SETTINGS = ("data set", "classes", "anomaly limit", "seeds")


def combine(run_dir: Path) -> Path:
    """Compare a run with its baselines.

    Writes into `RUN/baselines`: `comparison.html`, `comparison.csv`, `comparisons.parquet`,
    `combined/[CONFIG/]normal_CLASS/it_SEED.png` with one strip (rows: input, FCDD, HSC, AE, ground truth), and
    `combined/[CONFIG/]normal_CLASS/heatmaps.png` with the strips of all seeds, which show the same images.

    Returns:
        The path of `comparison.html`.
    Raises:
        InputError: `run_dir` is not a run directory, has no run of baselines, or a file in it cannot be written.
    """
    folder = RunPaths(run_dir).baselines
    with write_errors(folder):
        fcdd, baselines = (with_recomputed(read_run(each)) for each in (run_dir, folder))
        counterparts = _read_counterparts(folder)
        groups = [_group_of_methods(fcdd, baselines, config, counterparts) for config in fcdd.configs]
        page, _ = _write(groups, folder, f"{run_dir.name}: FCDD and its baselines", f"{_RULES} {_BASELINES_NOTE}")
        return page


def compare_runs(run_dirs: Sequence[Location], output: Path) -> tuple[Path, list[str]]:
    """Compare the configs of several runs, joined by class and seed.

    Writes `comparison.html`, `comparison.csv`, `comparisons.parquet` and the pictures of `combined/normal_CLASS/` into
    `output`. Of a search, the trials of its confirmation are compared.

    Returns:
        The path of `comparison.html`, and sentences on who is better.
    Raises:
        InputError: fewer than two runs, one of them is named twice or is not a run directory, or a file cannot be
            written.
        StorageError: the store of a run was unreachable for too long.
    """
    with ExitStack() as stack:
        runs = _read_runs(run_dirs, stack)
        title = f"Comparison of {', '.join(map(run_title, runs))}"
        with write_errors(output):
            group = group_of_runs(runs)
            page, rows = _write([group], output, title, _RULES)
            return page, [*_shortfalls(group), *_unshared(group), *comparison_sentences(rows)]


def _read_runs(run_dirs: Sequence[Location], stack: ExitStack) -> list[Run]:
    problems = []
    twice = sorted({str(each) for each in run_dirs if [str(other) for other in run_dirs].count(str(each)) > 1})
    problems += [Problem(name, "is named twice", next_step="Name each run once") for name in twice]
    if len(run_dirs) < 2:
        problems.append(Problem("compare", f"found {count_noun(len(run_dirs), 'run')}", "two or more run directories"))
    runs = []
    for run_dir in dict.fromkeys(run_dirs):
        try:
            run = with_recomputed(read_run(stack.enter_context(mirrored(run_dir))))
        except InputError as error:
            problems += error.problems
        else:
            runs.append(reported(run, read_search(run)))
    if problems:
        raise InputError(problems)
    return runs


def _group_of_methods(fcdd: Run, baselines: Run, config: str, counterparts: dict[str, dict[str, str]]) -> ComparedGroup:
    members = {"fcdd": ComparedConfig("FCDD", fcdd, config)}
    for method, name in counterparts.get(config, {}).items():
        if baselines.of(name):
            members[method] = ComparedConfig(method.upper(), baselines, name)
    return ComparedGroup(config, members)


def _read_counterparts(folder: Path) -> dict[str, dict[str, str]]:
    path = RunPaths(folder).counterparts
    try:
        return {config: dict(names) for config, names in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        what = f"names the baselines of each config, and cannot be read ({short_error(error)})"
        raise InputError(Problem(str(path), what, next_step="Rerun `baselines`, which writes it")) from error


def _write(groups: Sequence[ComparedGroup], folder: Path, title: str, note: str) -> tuple[Path, list[TableRow]]:
    """Write all files of a comparison; return its page and the rows of its `comparisons.parquet`."""
    problems: list[str] = []
    rows = [comparison_rows(group.entries()) for group in groups]
    sections = [
        _group_section(group, own, folder / COMBINED_DIR, problems) for group, own in zip(groups, rows, strict=True)
    ]
    absent = html.section("Not shown", html.bullets(dict.fromkeys(problems))) if problems else ""
    write_csv(folder / COMPARISON_CSV, comparison_table(groups))
    table = [row for own in rows for row in own]
    write_rows(folder / COMPARISONS_FILE, table, COMPARISONS)
    heading = html.element("h1", title)
    body = html.joined([heading, html.element("p", note, cls="note"), *sections, absent])
    return write_text(folder / COMPARISON_HTML, html.page(title, body)), table


def _group_section(group: ComparedGroup, rows: Sequence[TableRow], folder: Path, problems: list[str]) -> html.Markup:
    figures = []
    for name in group.classes:
        path = draw_compared_class(group, name, folder / _class_folder(group, name), problems)
        if path:
            figure = html.picture(as_jpeg_uri(path), f"heatmaps of {name} by method")
            figures.append(html.section(name, figure, level=3))
    marks = [*_shortfalls(group), *_unshared(group), *data_notes(group)]
    return html.section(
        group.title or "Results",
        html.bullets(marks) if marks else "",
        _metric_tables(group, rows),
        comparison_section(rows),
        _settings_table(group),
        *figures,
    )


def _shortfalls(group: ComparedGroup) -> list[str]:
    return [f"{each.title} is not ranked: {each.shortfall}." for each in group.members.values() if each.shortfall]


def _unshared(group: ComparedGroup) -> list[str]:
    note = unshared_note(group.entries())
    return [note] if note else []


def _class_folder(group: ComparedGroup, name: str) -> PurePosixPath:
    """Return where the figures of a class go: `[CONFIG/]normal_CLASS`, with the config of a group that has a title."""
    trial = next(trial for each in group.members.values() for trial in each.run.of(each.config, name))
    whole = PurePosixPath(trial.class_folder)
    return whole if group.title else PurePosixPath(whole.name)


def data_notes(group: ComparedGroup) -> list[str]:
    """Return a sentence on each class whose images differ between members, and one on other types of device."""
    notes = []
    for name in group.classes:
        found: dict[str, list[str]] = {}
        for each in group.members.values():
            prints = {trial.metrics.get("data_fingerprint") for trial in each.run.of(each.config, name)} - {None}
            found.setdefault(" ".join(sorted(map(str, prints))), []).append(each.title)
        found.pop("", None)
        if len(found) > 1:
            notes.append(f"The data of {name} is not the same in {' and '.join(map(', '.join, found.values()))}.")
    members = [trial for each in group.members.values() for trial in each.run.of(each.config)]
    mixed = device_note(members)
    return [*notes, f"{mixed[0].upper()}{mixed[1:]}."] if mixed else notes


def _rows_by_member(group: ComparedGroup) -> dict[str, dict[str | None, SummaryRow]]:
    """Return by member and class one row, and one for the mean over the classes that all members have (None)."""
    common = group.common_classes
    found: dict[str, dict[str | None, SummaryRow]] = {}
    for name, each in group.members.items():
        found[name] = {row.normal_class: row for row in summary_rows(each.run, each.config) if row.normal_class}
        if len(common) > 1:
            found[name][None] = mean_over(each.run, each.config, common)
    return found


def _metric_tables(group: ComparedGroup, rows: Sequence[TableRow]) -> html.Markup:
    """Return one table per metric, one column per member: a table of all metrics would be wider than a page."""
    found, common = _rows_by_member(group), group.common_classes
    names = {name: entry.name for name, entry in zip(group.members, group.entries(), strict=True)}
    head = ("class", *(each.title for each in group.members.values()))
    mean = "mean" if len(common) == len(group.classes) else f"mean over {len(common)} common classes"
    tables = []
    for metric, title in ALL_METRICS.items():
        if not any(row.metrics[metric].n for own in found.values() for row in own.values()):
            continue
        body = []
        for name in [*group.classes, *([None] if len(common) > 1 else [])]:
            best = clear_best(rows, metric, None if common == [name] else name)
            cells = [
                _metric_cell(found[member].get(name), metric, each.shortfall, best=names[member] == best)
                for member, each in group.members.items()
            ]
            body.append([mean if name is None else name, *cells])
        table = html.table(head, body)  # bold is for what is better, not for the mean
        tables.append(html.section(title, table, level=3))
    narrow = sum(len(each.title) for each in group.members.values()) <= _MOST_BESIDE
    return html.element("div", *tables, cls="pair" if narrow else None)


def _metric_cell(row: SummaryRow | None, metric: str, shortfall: str, *, best: bool) -> html.Markup:
    """Return mean and interval; of something incomplete a mean over classes is left out, as it is of other classes."""
    if row is None:
        return html.element("span", metric_text(None))
    if row.normal_class is None and shortfall:
        return html.joined([html.element("span", metric_text(None)), html.element("small", "incomplete")])
    summary = row.metrics[metric]
    text = html.element("b" if best else "span", mean_text(summary))
    return html.joined([text, html.element("small", count_text(summary))])


def _settings_table(group: ComparedGroup) -> html.Markup:
    """Return the settings of the members, last by dotted key all further ones in which they differ."""
    given = [(each.run.experiment, each.run.parameters(each.config)) for each in group.members.values()]
    further = [file.further_settings(parameters) for file, parameters in given]
    settings = [file.settings(own) | more for (file, own), more in zip(given, further, strict=True)]
    known = [name for name in (*COMPARED, *_FURTHER_SETTINGS) if any(name in each for each in settings)]
    keys = dict.fromkeys(key for each in further for key in each)
    known += [key for key in keys if len({each.get(key) for each in further}) > 1]
    body = [[name, *(html.element("code", each.get(name, NOT_DEFINED)) for each in settings)] for name in known]
    head = ("setting", *(each.title for each in group.members.values()))
    return html.section("Settings", html.table(head, body, names=len(head)), level=3)


def comparison_table(groups: Sequence[ComparedGroup]) -> pa.Table:
    """Return one row per group, member and class (`mean` over classes); undefined is null."""
    rows = []
    for group in groups:
        for name, by_class in _rows_by_member(group).items():
            for row in by_class.values():
                cells: TableRow = {"config": group.title, "method": name, "normal_class": row.normal_class or MEAN}
                cells["shortfall"] = group.members[name].shortfall
                for metric in ALL_METRICS:
                    cells |= summary_cells(metric, row.metrics[metric])
                rows.append(cells)
    return table_from_rows(rows, pa.schema(_FIELDS))

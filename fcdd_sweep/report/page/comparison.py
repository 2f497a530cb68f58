"""FCDD and its baselines side by side: the same test images under every method, and their metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.metrics import shown_images
from fcdd_sweep.report.experiment_file import COMPARED
from fcdd_sweep.report.figures.color_maps import low_high
from fcdd_sweep.report.figures.heatmaps import LABEL_NAMES, NO_MAP_MARK, TrialMaps, common_paths
from fcdd_sweep.report.figures.image_grid import Strip, StripRow, absent_row, as_rgb, draw_strips, map_row
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, maps_of
from fcdd_sweep.report.figures.style import as_jpeg_uri, save_picture
from fcdd_sweep.report.page import html
from fcdd_sweep.report.run_files import Run, Trial, read_run, write_errors
from fcdd_sweep.report.summaries import SUMMARY_METRICS, SummaryRow, summary_rows
from fcdd_sweep.report.tables import summary_cells, summary_fields, write_csv
from fcdd_sweep.report.text import INTERVAL_RULE, NOT_DEFINED, count_text, mean_text, metric_text
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import table_from_rows, write_text
from fcdd_sweep.results.tree import RunPaths

COMPARISON_HTML, COMPARISON_CSV, COMBINED_DIR = "comparison.html", "comparison.csv", "combined"
_FCDD = "fcdd"
_UNREADABLE = "unreadable"
_COLOR_NOTE = "Colors: each method and seed spans the range of its own reference images, {}."
_FIELDS = [
    *((name, pa.string()) for name in ("config", "method", "normal_class")),
    *(field for metric in SUMMARY_METRICS for field in summary_fields(metric)),
]
Paths = npt.NDArray[np.str_]


@dataclass(frozen=True)
class ComparedRuns:
    """A run and the run of its baselines.

    Attributes:
        fcdd: the run.
        baselines: the run of its baselines.
        counterparts: by config of the run and method, the baseline's config; several configs may share one.
    """

    fcdd: Run
    baselines: Run
    counterparts: dict[str, dict[str, str]]

    def configs(self, config: str) -> dict[str, tuple[Run, str]]:
        """Return by method the run and the name of the config that is compared with a config of FCDD."""
        baselines = self.counterparts.get(config, {})
        return {_FCDD: (self.fcdd, config)} | {method: (self.baselines, name) for method, name in baselines.items()}

    def trials(self, config: str, normal_class: str, seed: int) -> dict[str, Trial | None]:
        """Return the trials of one config, class and seed by method; None where none is planned."""
        return {
            method: next((trial for trial in run.of(name, normal_class) if trial.seed == seed), None)
            for method, (run, name) in self.configs(config).items()
        }


def combine(run_dir: Path) -> Path:
    """Draw all methods side by side, and compare their metrics.

    Writes into `RUN/baselines`: `comparison.html`, `comparison.csv`, `combined/[CONFIG/]normal_CLASS/it_SEED.png` with
    one strip (rows: input, FCDD, HSC, AE, ground truth), and `combined/[CONFIG/]normal_CLASS/heatmaps.png` with the
    strips of all seeds, which show the same images.

    Returns:
        The path of `comparison.html`.
    Raises:
        InputError: `run_dir` is not a run directory, has no run of baselines, or a file in it cannot be written.
    """
    with write_errors(RunPaths(run_dir).baselines):
        return _combine(run_dir)


def _combine(run_dir: Path) -> Path:
    folder = RunPaths(run_dir).baselines
    runs = ComparedRuns(read_run(run_dir), read_run(folder), _read_counterparts(folder))
    problems: list[str] = []
    sections = [_config_section(runs, config, folder / COMBINED_DIR, problems) for config in runs.fcdd.configs]
    heading = html.element("h1", f"{runs.fcdd.path.name}: FCDD and its baselines")
    note = html.element(
        "p",
        f"Mean over seeds ± sample standard deviation, and the 95% interval of the mean. {INTERVAL_RULE} The "
        "autoencoder (AE) is trained without anomalies, the hypersphere classifier (HSC) with the anomalies of FCDD "
        "and their labels. Heatmaps of HSC are input gradients; those of both baselines are blurred.",
        cls="note",
    )
    absent = html.section("Not shown", html.bullets(dict.fromkeys(problems))) if problems else ""
    write_csv(folder / COMPARISON_CSV, comparison_table(runs))
    page = html.page(f"{runs.fcdd.path.name}: comparison", html.joined([heading, note, *sections, absent]))
    return write_text(folder / COMPARISON_HTML, page)


def _read_counterparts(folder: Path) -> dict[str, dict[str, str]]:
    path = RunPaths(folder).counterparts
    try:
        return {config: dict(names) for config, names in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        what = f"names the baselines of each config, and cannot be read ({short_error(error)})"
        raise InputError(Problem(str(path), what, next_step="Rerun `baselines`, which writes it")) from error


def _config_section(runs: ComparedRuns, config: str, folder: Path, problems: list[str]) -> html.Markup:
    figures = []
    for name in runs.fcdd.classes(config):
        path = _draw_class(runs, config, name, folder, problems)
        if path:
            figure = html.picture(as_jpeg_uri(path), f"heatmaps of {name} by method")
            figures.append(html.section(name, figure, level=3))
    return html.section(config or "Results", _settings_table(runs, config), _metric_tables(runs, config), *figures)


def _draw_class(runs: ComparedRuns, config: str, name: str, folder: Path, problems: list[str]) -> Path | None:
    """Draw one figure per seed and one of all seeds; return None when no seed has FCDD and another method."""
    trials = runs.fcdd.of(config, name)
    by_seed = {trial.seed: maps_by_method(runs, config, name, trial.seed, problems) for trial in trials}
    problems.extend(
        f"{' '.join(filter(None, [config, name]))}, seed {seed}: {method.upper()} is {reason}"
        for seed, maps in by_seed.items()
        for method, reason in maps.items()
        if isinstance(reason, str)
    )
    drawn = {seed: maps for seed, maps in by_seed.items() if isinstance(maps[_FCDD], TrialMaps)}
    found = {seed: [each for each in maps.values() if isinstance(each, TrialMaps)] for seed, maps in drawn.items()}
    images = compared_images([each for maps in found.values() for each in maps])
    if not len(images) or max(map(len, found.values())) < 2:
        return None
    display = runs.fcdd.experiment.heatmaps
    strips = {seed: method_strip(maps, images, f"seed {seed}", display.color_quantile) for seed, maps in drawn.items()}
    note = _COLOR_NOTE.format(low_high(display.color_map))
    class_folder = folder / trials[0].class_folder
    for seed, strip in strips.items():
        save_picture(draw_strips([strip], note=note), class_folder / f"it_{seed}.png")
    return save_picture(draw_strips(list(strips.values()), note=note), class_folder / HEATMAPS_FILE)


def maps_by_method(
    runs: ComparedRuns, config: str, name: str, seed: int, problems: list[str]
) -> dict[str, TrialMaps | str]:
    """Return by method the maps of a trial, or in a word why there are none: its status, or `unreadable`."""
    found: dict[str, TrialMaps | str] = {}
    for method, trial in runs.trials(config, name, seed).items():
        run = runs.fcdd if method == _FCDD else runs.baselines
        if trial is None or not trial.is_done:
            found[method] = (trial.status if trial else TrialStatus.MISSING).value
        else:
            found[method] = maps_of(run, trial, problems) or _UNREADABLE
    return found


def compared_images(maps: Sequence[TrialMaps], nominal: int = 3, anomalous: int = 6) -> Paths:
    """Return the paths of test images that all of the trials kept: of each label equidistant by the first's score."""
    if not maps:
        return np.zeros(0, np.str_)
    common = common_paths(maps)
    rows = maps[0].rows_of(common)
    label, score = maps[0].label[rows], maps[0].score[rows]
    counts = (nominal, anomalous)
    return common[np.concatenate([shown_images.equidistant(label, score, value, counts[value]) for value in (0, 1)])]


def method_strip(maps: Mapping[str, TrialMaps | str], images: Paths, title: str, quantile: float) -> Strip:
    """Return input, one row of heatmaps per method, each in the colors of its own reference set, and ground truth.

    Args:
        maps: by method; a reason in place of maps gives a row of empty images.
        images: paths that all of them kept.
        title: text above the strip.
        quantile: share of the values that the colors span.
    Raises:
        ValueError: FCDD has no maps.
    """
    first = maps[_FCDD]
    if isinstance(first, str):
        raise ValueError(f"FCDD is {first}: there is nothing to compare with")
    rows = first.rows_of(images)
    inputs = as_rgb(first.images[rows])
    strip_rows = [StripRow("input", inputs)]
    for method, each in maps.items():
        if isinstance(each, str):
            strip_rows.append(absent_row(f"{method.upper()}:\n{each}", inputs))
        else:
            strip_rows.append(StripRow(method.upper(), each.colored(each.rows_of(images), quantile, "global")))
    if first.gt_maps is not None:
        strip_rows.append(map_row("ground\ntruth", first.gt_maps[rows], NO_MAP_MARK))
    captions = tuple(LABEL_NAMES[label] for label in first.label[rows])
    return Strip(title, tuple(strip_rows), captions)


def _rows_by_method(runs: ComparedRuns, config: str) -> dict[str, list[SummaryRow]]:
    """Return by method one row per class and one for their mean; a method without trials is left out."""
    found = {_FCDD: summary_rows(runs.fcdd, config)}
    for method, name in runs.counterparts.get(config, {}).items():
        if runs.baselines.of(name):
            found[method] = summary_rows(runs.baselines, name)
    return found


def _metric_tables(runs: ComparedRuns, config: str) -> html.Markup:
    """Return one table per metric, one column per method: a table of all metrics would be wider than a page."""
    rows = _rows_by_method(runs, config)
    by_class = {method: {row.normal_class: row for row in each} for method, each in rows.items()}
    tables = []
    for metric, title in SUMMARY_METRICS.items():
        if any(row.metrics[metric].n for each in rows.values() for row in each):
            body = [
                [name or "mean", *(_metric_cell(by_class[method].get(name), metric) for method in rows)]
                for name in by_class[_FCDD]
            ]
            table = html.table(("class", *map(str.upper, rows)), body, last_is_mean=len(body) > 1)
            tables.append(html.section(title, table, level=3))
    return html.element("div", *tables, cls="pair")


def _settings_table(runs: ComparedRuns, config: str) -> html.Markup:
    settings = {
        method: run.experiment.settings(run.parameters(name)) for method, (run, name) in runs.configs(config).items()
    }
    body = [
        [name, *(html.element("code", each.get(name, NOT_DEFINED)) for each in settings.values())]
        for name in COMPARED
        if any(name in each for each in settings.values())
    ]
    head = ("setting", *map(str.upper, settings))
    return html.section("Settings by method", html.table(head, body, names=len(head)), level=3)


def _metric_cell(row: SummaryRow | None, metric: str) -> html.Markup:
    if row is None:
        return html.element("span", metric_text(None))
    summary = row.metrics[metric]
    return html.joined([html.element("span", mean_text(summary)), html.element("small", count_text(summary))])


def comparison_table(runs: ComparedRuns) -> pa.Table:
    """Return one row per config, method and class (`mean` over classes); undefined is null."""
    rows = []
    for config in runs.fcdd.configs:
        for method, summaries in _rows_by_method(runs, config).items():
            for row in summaries:
                cells = {"config": config, "method": method, "normal_class": row.normal_class or "mean"}
                for metric in SUMMARY_METRICS:
                    cells |= summary_cells(metric, row.metrics[metric])
                rows.append(cells)
    return table_from_rows(rows, pa.schema(_FIELDS))

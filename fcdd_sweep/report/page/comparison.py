"""FCDD and its baselines beside each other: the same test images under every method, and their figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.metrics import shown_images
from fcdd_sweep.report.experiment_file import COMPARED, described
from fcdd_sweep.report.figures.heatmaps import LABEL_NAMES, NO_MAP_MARK, LeafMaps, common_paths
from fcdd_sweep.report.figures.image_grid import Strip, StripRow, absent_row, as_rgb, draw_strips, map_row
from fcdd_sweep.report.figures.run_figures import heatmap_display, maps_of
from fcdd_sweep.report.figures.style import as_jpeg_uri, save
from fcdd_sweep.report.page import html
from fcdd_sweep.report.run_files import Run, Trial, brief, read_run, write_errors
from fcdd_sweep.report.summaries import SUMMARY_METRICS, SummaryRow, summary_rows
from fcdd_sweep.report.text import INTERVAL_RULE, NOT_DEFINED, count_text, figure_text, mean_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import write_text

_PARTS = ("mean", "std", "n", "low", "high")
COMPARISON_HTML, COMPARISON_CSV, COMBINED = "comparison.html", "comparison.csv", "combined"
_NOTE = "Colors: each method and seed by the range of its own reference images, blue low and red high."
Paths = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Runs:
    """A run and that of its baselines.

    Attributes:
        fcdd: the run.
        others: the run of its baselines.
        counterparts: by config of the run and method, the baseline's config; several configs may share one.
    """

    fcdd: Run
    others: Run
    counterparts: dict[str, dict[str, str]]

    def configs(self, config: str) -> dict[str, tuple[Run, str]]:
        """By method, the run and the name of the config that stands beside one of FCDD's."""
        others = self.counterparts.get(config, {})
        return {"fcdd": (self.fcdd, config)} | {method: (self.others, name) for method, name in others.items()}

    def trials(self, config: str, normal_class: str, seed: int) -> dict[str, Trial | None]:
        """The trials of one config, class and seed by method; None where none is planned."""
        return {
            method: next((trial for trial in run.of(name, normal_class) if trial.seed == seed), None)
            for method, (run, name) in self.configs(config).items()
        }


def combine(run_dir: Path) -> Path:
    """Draw all methods beside each other, and sum them up.

    Writes into `RUN/baselines`: `comparison.html`, `comparison.csv`, `combined/[CONFIG/]normal_CLASS/it_SEED.png` with
    one strip (rows: input, FCDD, HSC, AE, ground truth), and `combined/[CONFIG/]normal_CLASS/heatmaps.png` with the
    strips of all seeds, which show the same images.

    Returns:
        The path of `comparison.html`.
    Raises:
        InputError: `run_dir` is no run, has no run of baselines, or a file in it cannot be written.
    """
    with write_errors(run_dir / tree.BASELINES_DIR):
        return _combine(run_dir)


def _combine(run_dir: Path) -> Path:
    folder = run_dir / tree.BASELINES_DIR
    runs = Runs(read_run(run_dir), read_run(folder), _counterparts(folder))
    problems: list[str] = []
    parts = [_config_section(runs, config, folder / COMBINED, problems) for config in runs.fcdd.configs]
    head = html.element("h1", f"{runs.fcdd.path.name}: FCDD and its baselines")
    lead = html.element(
        "p",
        f"Mean over seeds ± sample standard deviation, and the 95% interval of the mean. {INTERVAL_RULE} The "
        "autoencoder is trained without anomalies; the hypersphere classifier with those of FCDD, from labels. Its "
        "heatmaps are input gradients; both baselines' are blurred.",
        cls="note",
    )
    lost = html.section("Not shown", html.bullets(dict.fromkeys(problems))) if problems else ""
    write_text(folder / COMPARISON_CSV, _csv(runs))
    page = html.page(f"{runs.fcdd.path.name}: comparison", html.joined([head, lead, *parts, lost]))
    return write_text(folder / COMPARISON_HTML, page)


def _counterparts(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / tree.COUNTERPARTS
    try:
        return {config: dict(names) for config, names in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        what = f"says which baseline belongs to which config, and cannot be read ({brief(error)})"
        raise InputError(Problem(str(path), what, next_step="Run `baselines` again, which writes it anew")) from error


def _config_section(runs: Runs, config: str, folder: Path, problems: list[str]) -> html.Markup:
    pictures = []
    for name in runs.fcdd.classes(config):
        path = _draw_class(runs, config, name, folder, problems)
        if path:
            shown = html.picture(as_jpeg_uri(path), f"heatmaps of {name} by method")
            pictures.append(html.section(name, shown, level=3))
    return html.section(config or "Results", _settings_table(runs, config), _tables(runs, config), *pictures)


def _draw_class(runs: Runs, config: str, name: str, folder: Path, problems: list[str]) -> Path | None:
    """One picture a seed and one of them all; None when no seed has FCDD and another method."""
    own = runs.fcdd.of(config, name)
    by_seed = {trial.seed: _maps(runs, config, name, trial.seed, problems) for trial in own}
    problems.extend(
        f"{' '.join(filter(None, [config, name]))}, seed {seed}: {method.upper()} is {reason}"
        for seed, maps in by_seed.items()
        for method, reason in maps.items()
        if isinstance(reason, str)
    )
    shown = {seed: maps for seed, maps in by_seed.items() if isinstance(maps["fcdd"], LeafMaps)}
    found = {seed: [each for each in maps.values() if isinstance(each, LeafMaps)] for seed, maps in shown.items()}
    chosen = compared_images([each for parts in found.values() for each in parts])
    if not len(chosen) or max(map(len, found.values())) < 2:
        return None
    quantile = heatmap_display(runs.fcdd).color_quantile
    strips = {seed: method_strip(maps, chosen, f"seed {seed}", quantile) for seed, maps in shown.items()}
    place = folder / own[0].class_folder
    for seed, strip in strips.items():
        save(draw_strips([strip], note=_NOTE), place / f"it_{seed}.png")
    save(draw_strips(list(strips.values()), note=_NOTE), place / "heatmaps.png")
    return place / "heatmaps.png"


def _maps(runs: Runs, config: str, name: str, seed: int, problems: list[str]) -> dict[str, LeafMaps | str]:
    """By method its maps, or in a word why there are none."""
    found: dict[str, LeafMaps | str] = {}
    for method, trial in runs.trials(config, name, seed).items():
        run = runs.fcdd if method == "fcdd" else runs.others
        if trial is None or trial.status != "done":
            found[method] = trial.status if trial else "missing"
        else:
            found[method] = maps_of(run, trial, problems) or "unreadable"
    return found


def compared_images(maps: Sequence[LeafMaps], nominal: int = 3, anomalous: int = 6) -> Paths:
    """Paths of test images that all of them kept: of each label equidistant by the score of the first."""
    if not maps:
        return np.zeros(0, np.str_)
    common = common_paths(maps)
    rows = maps[0].rows_of(common)
    label, score = maps[0].label[rows], maps[0].score[rows]
    counts = (nominal, anomalous)
    return common[np.concatenate([shown_images.equidistant(label, score, value, counts[value]) for value in (0, 1)])]


def method_strip(maps: Mapping[str, LeafMaps | str], images: Paths, title: str, quantile: float) -> Strip:
    """Input, a row of heatmaps a method, each in the colors of its own reference set, and ground truth.

    Args:
        maps: by method; a word in their place says why there are none, and gives an empty row.
        images: paths that all of them kept.
        title: above the strip.
        quantile: share of the values that the colors span.
    Raises:
        ValueError: FCDD has no maps.
    """
    first = maps["fcdd"]
    if isinstance(first, str):
        raise ValueError(f"FCDD is {first}: there is nothing to stand beside")
    rows = first.rows_of(images)
    inputs = as_rgb(first.images[rows])
    parts = [StripRow("input", inputs)]
    for method, each in maps.items():
        if isinstance(each, str):
            parts.append(absent_row(f"{method.upper()}:\n{each}", inputs))
        else:
            parts.append(StripRow(method.upper(), each.colored(each.rows_of(images), quantile, "global")))
    if first.gt_maps is not None:
        parts.append(map_row("ground\ntruth", first.gt_maps[rows], NO_MAP_MARK))
    captions = tuple(LABEL_NAMES[label] for label in first.label[rows])
    return Strip(title, tuple(parts), captions)


def _rows(runs: Runs, config: str) -> dict[str, list[SummaryRow]]:
    """By method, a row a class and one for their mean; a method without trials is left out."""
    found = {"fcdd": summary_rows(runs.fcdd, config)}
    for method, name in runs.counterparts.get(config, {}).items():
        if runs.others.of(name):
            found[method] = summary_rows(runs.others, name)
    return found


def _tables(runs: Runs, config: str) -> html.Markup:
    """A table a figure, with the methods side by side: all figures in one would be wider than a page."""
    rows = _rows(runs, config)
    by_class = {method: {row.normal_class: row for row in each} for method, each in rows.items()}
    parts = []
    for metric, title in SUMMARY_METRICS.items():
        if any(row.figures[metric].n for each in rows.values() for row in each):
            body = [
                [name or "mean", *(_cell(by_class[method].get(name), metric) for method in rows)]
                for name in by_class["fcdd"]
            ]
            shown = html.table(("class", *map(str.upper, rows)), body, last_is_mean=len(body) > 1)
            parts.append(html.section(title, shown, level=3))
    return html.element("div", *parts, cls="pair")


def _settings_table(runs: Runs, config: str) -> html.Markup:
    """What was trained under each method."""
    told = {method: described(run, name) for method, (run, name) in runs.configs(config).items()}
    body = [
        [name, *(html.element("code", each.get(name, NOT_DEFINED)) for each in told.values())]
        for name in COMPARED
        if any(name in each for each in told.values())
    ]
    head = ("setting", *map(str.upper, told))
    return html.section("What was trained", html.table(head, body, names=len(head)), level=3)


def _cell(row: SummaryRow | None, metric: str) -> html.Markup:
    if row is None:
        return html.element("span", figure_text(None))
    summary = row.figures[metric]
    return html.joined([html.element("span", mean_text(summary)), html.element("small", count_text(summary))])


def _csv(runs: Runs) -> str:
    """A row a config, method and class (or the mean over classes); undefined figures are empty."""
    text = io.StringIO()
    figures = [f"{metric}_{part}" for metric in SUMMARY_METRICS for part in _PARTS]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["config", "method", "normal_class", *figures])
    for config in runs.fcdd.configs:
        for method, rows in _rows(runs, config).items():
            for row in rows:
                values = [getattr(row.figures[metric], part) for metric in SUMMARY_METRICS for part in _PARTS]
                shown = ["" if np.isnan(value) else value for value in values]
                writer.writerow([config, method, row.normal_class or "mean", *shown])
    return text.getvalue()

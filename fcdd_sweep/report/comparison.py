"""FCDD and its baselines beside each other: the same test images under every method, and their figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.metrics import pictured
from fcdd_sweep.report import html
from fcdd_sweep.report.heatmaps import LABEL_NAMES, LeafMaps, common_paths
from fcdd_sweep.report.mosaic import Strip, as_black_and_white, as_rgb, draw_strips
from fcdd_sweep.report.pictures import maps_of, shown_as
from fcdd_sweep.report.records import Run, Trial, brief, read_run
from fcdd_sweep.report.style import as_jpeg_uri, save
from fcdd_sweep.report.summary import FIGURES, SummaryRow, summary_rows
from fcdd_sweep.report.words import figure_text, interval_text, spread_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import write_text

_PARTS = ("mean", "std", "n", "low", "high")
COMPARISON_HTML, COMPARISON_CSV, COMBINED = "comparison.html", "comparison.csv", "combined"
METHODS = ("fcdd", *tree.BASELINES)
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

    def trials(self, config: str, normal_class: str, seed: int) -> dict[str, Trial]:
        """The finished trials of one config, class and seed, by method."""
        wanted = {"fcdd": (self.fcdd, config)}
        wanted |= {method: (self.others, name) for method, name in self.counterparts.get(config, {}).items()}
        return {
            method: trial
            for method, (run, name) in wanted.items()
            for trial in run.of(name, normal_class)
            if trial.seed == seed and trial.status == "done"
        }


def combine(run_dir: Path) -> Path:
    """Draw all methods beside each other, and sum them up.

    Writes into `RUN/baselines`: `comparison.html`, `comparison.csv`, `combined/[CONFIG/]normal_CLASS/it_SEED.png` with
    one strip (rows: input, FCDD, HSC, AE, ground truth), and `combined/[CONFIG/]normal_CLASS/heatmaps.png` with the
    strips of all seeds, which show the same images.

    Returns:
        The path of `comparison.html`.
    Raises:
        InputError: `run_dir` is no run, or has no run of baselines.
    """
    folder = run_dir / tree.BASELINES_DIR
    runs = Runs(read_run(run_dir), read_run(folder), _counterparts(folder))
    problems: list[str] = []
    parts = [_config_section(runs, config, folder / COMBINED, problems) for config in runs.fcdd.configs]
    head = html.element("h1", f"{runs.fcdd.path.name}: FCDD and its baselines")
    lead = html.element(
        "p",
        "Mean over seeds ± sample standard deviation. The autoencoder is trained without anomalies; the hypersphere "
        "classifier with those of FCDD, from labels. Its heatmaps are input gradients; both baselines' are blurred.",
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
    return html.section(config or "Results", _table(runs, config), *pictures)


def _draw_class(runs: Runs, config: str, name: str, folder: Path, problems: list[str]) -> Path | None:
    """One picture a seed and one of them all; None when no two methods have a seed in common."""
    own = runs.fcdd.of(config, name)
    by_seed = {trial.seed: _maps(runs, config, name, trial.seed, problems) for trial in own}
    complete = {seed: maps for seed, maps in by_seed.items() if "fcdd" in maps and len(maps) > 1}
    problems.extend(
        f"{' '.join(filter(None, [config, name]))}, seed {seed}: no trial of {', '.join(absent)} is done"
        for seed, maps in by_seed.items()
        if (absent := [method for method in METHODS if method not in maps])
    )
    chosen = shown_images([each for maps in complete.values() for each in maps.values()])
    strips = {
        seed: method_strip(maps, chosen, f"seed {seed}", shown_as(runs.fcdd).quantile)
        for seed, maps in complete.items()
    }
    if not len(chosen) or not strips:
        return None
    place = folder / own[0].class_folder
    for seed, strip in strips.items():
        save(draw_strips([strip]), place / f"it_{seed}.png")
    save(draw_strips(list(strips.values())), place / "heatmaps.png")
    return place / "heatmaps.png"


def _maps(runs: Runs, config: str, name: str, seed: int, problems: list[str]) -> dict[str, LeafMaps]:
    found = {}
    for method, trial in runs.trials(config, name, seed).items():
        run = runs.fcdd if method == "fcdd" else runs.others
        if maps := maps_of(run, trial, problems):
            found[method] = maps
    return found


def shown_images(maps: Sequence[LeafMaps], nominal: int = 3, anomalous: int = 6) -> Paths:
    """Paths of test images that all of them kept: of each label equidistant by the score of the first."""
    if not maps:
        return np.zeros(0, np.str_)
    common = common_paths(maps)
    rows = maps[0].rows_of(common)
    label, score = maps[0].label[rows], maps[0].score[rows]
    counts = (nominal, anomalous)
    return common[np.concatenate([pictured.equidistant(label, score, value, counts[value]) for value in (0, 1)])]


def method_strip(maps: dict[str, LeafMaps], images: Paths, title: str, quantile: float) -> Strip:
    """Input, a row of heatmaps a method, each in the colours of its own reference set, and ground truth."""
    first = maps["fcdd"]
    rows = first.rows_of(images)
    parts = [("input", as_rgb(first.images[rows]))]
    parts += [
        (method.upper(), each.coloured(each.rows_of(images), quantile, "global")) for method, each in maps.items()
    ]
    if first.gt_maps is not None:
        parts.append(("ground\ntruth", as_black_and_white(first.gt_maps[rows])))
    captions = tuple(LABEL_NAMES[label] for label in first.label[rows])
    return Strip(title, tuple(parts), captions)


def _rows(runs: Runs, config: str) -> dict[str, list[SummaryRow]]:
    """By method, a row a class and one for their mean; a method without trials is left out."""
    found = {"fcdd": summary_rows(runs.fcdd, config)}
    for method, name in runs.counterparts.get(config, {}).items():
        if runs.others.of(name):
            found[method] = summary_rows(runs.others, name)
    return found


def _table(runs: Runs, config: str) -> html.Markup:
    rows = _rows(runs, config)
    shown = [metric for metric in FIGURES if any(row.figures[metric].n for each in rows.values() for row in each)]
    head = ["class", *(f"{method.upper()}: {FIGURES[metric]}" for metric in shown for method in rows)]
    by_class = {method: {row.normal_class: row for row in each} for method, each in rows.items()}
    body = [
        [name or "mean", *(_cell(by_class[method].get(name), metric) for metric in shown for method in rows)]
        for name in by_class["fcdd"]
    ]
    return html.table(head, body, last_is_mean=len(body) > 1)


def _cell(row: SummaryRow | None, metric: str) -> html.Markup:
    if row is None:
        return html.element("span", figure_text(None))
    summary = row.figures[metric]
    return html.joined([html.element("span", spread_text(summary)), html.element("small", interval_text(summary))])


def _csv(runs: Runs) -> str:
    """A row a config, method and class (or the mean over classes); undefined figures are empty."""
    text = io.StringIO()
    figures = [f"{metric}_{part}" for metric in FIGURES for part in _PARTS]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["config", "method", "normal_class", *figures])
    for config in runs.fcdd.configs:
        for method, rows in _rows(runs, config).items():
            for row in rows:
                values = [getattr(row.figures[metric], part) for metric in FIGURES for part in _PARTS]
                shown = ["" if np.isnan(value) else value for value in values]
                writer.writerow([config, method, row.normal_class or "mean", *shown])
    return text.getvalue()

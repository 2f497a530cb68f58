"""Published figures beside those of a run: the paper's, and those of its reproduction by others.

`published.json` has them with source, printed precision and status. A run is compared with the figures of its data set
and method whose settings are nearest to its own; what differs is named, and then there is no conclusion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from fcdd_sweep.config.layers import ConfigLayer, Tree, nest, overlay, split_key, value_at_key
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import SCHEMA_VERSION, Experiment
from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.results.files import TableRow, nulled

LEAST_SEEDS_FOR_CONCLUSION = 3
"""With fewer seeds of its own a run has no spread to judge by."""
SPREADS = 2.0
"""Standard deviations on either side of a run's mean that count as its spread."""
FIRST_HAND = "first-hand"
_NOT_JUDGED = "n/a"
_SECTIONS = ("method", "images", "anomalies", "network", "preprocessing", "training", "heatmaps", "evaluation")
_NO_MATTER = (
    *("images.range", "images.max_megapixels", "images.map_rule", "images.map_background"),
    *("anomalies.source.root", "anomalies.source.download", "training.threads"),
    *("heatmaps.color_quantile", "heatmaps.blur"),
    *("evaluation.validation.anomalies", "evaluation.validation.epochs", "evaluation.test"),
    *("evaluation.false_alarm_rate", "evaluation.folds", "evaluation.reserved_anomalies"),
)
"""Keys of these sections that say where files are, how colors are drawn and what decides: figures do not change."""
_ROUNDING = 1e-9


@cache
def published_figures() -> Tree:
    """Return the content of `published.json`."""
    text = resources.files("fcdd_sweep.report").joinpath("published.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def published_rows(run: Run) -> list[TableRow]:
    """Return one row per config, class and published figure, the mean over classes last.

    Args:
        run: with the trials whose test metrics may be shown.
    """
    rows: list[TableRow] = []
    for config in run.configs:
        tree = run.experiment.config_tree(run.parameters(config))
        for table, differing in _nearest_tables(tree):
            rows += [nulled(row) for row in _table_rows(run, config, table, differing)]
    return rows


def other_settings(tree: Tree, table: Tree) -> dict[str, list[Any]]:
    """Return the keys whose values differ from those behind a published table, each with both values, ours first.

    Args:
        tree: all settings of a config, as in a resolved experiment file.
        table: of `published.json`.
    """
    layer = ConfigLayer(PRESETS[table["preset"]].tree)
    for key, value in table["settings"].items():
        layer = overlay(ConfigLayer(nest(split_key(key), value)), layer)
    whole = Experiment.model_validate({"schema": SCHEMA_VERSION, "name": table["preset"], **layer.tree})
    resolved = whole.model_dump(mode="json")
    wanted = dict(_leaves({name: resolved[name] for name in _SECTIONS}))
    if whole.method != "fcdd":
        wanted.pop("heatmaps.kernel_std_px")  # other methods have no cells to spread
    if whole.anomalies.mode == "unsupervised":
        wanted = {
            key: value for key, value in wanted.items() if not key.startswith("anomalies.") or key.endswith("mode")
        }
    found = {key: value_at_key(tree, split_key(key)) for key in wanted}
    if "auto" in (found["training.supervision"], wanted["training.supervision"]):
        wanted.pop("training.supervision")
    return {key: [found[key], value] for key, value in wanted.items() if found[key] != value}


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif f"{above}{key}" not in _NO_MATTER:
            yield f"{above}{key}", value


def _nearest_tables(tree: Tree) -> list[tuple[Tree, dict[str, list[Any]]]]:
    """Return of each source and metric the table with the fewest other settings, and what they are."""
    wanted = value_at_key(tree, ("dataset", "name")), tree.get("method", "fcdd")
    nearest: dict[tuple[str, str], tuple[Tree, dict[str, list[Any]]]] = {}
    for table in published_figures()["tables"]:
        if (table["dataset"], table["method"]) == wanted:
            differing, key = other_settings(tree, table), (table["metric"], table["source"])
            if key not in nearest or len(differing) < len(nearest[key][1]):
                nearest[key] = table, differing
    return list(nearest.values())


def _table_rows(run: Run, config: str, table: Tree, differing: Mapping[str, Any]) -> Iterator[TableRow]:
    metric, values = table["metric"], table["values"]
    known = [name for name in run.classes(config) if name in values]
    ours = {name: {trial.seed: trial.value(metric) for trial in run.of(config, name)} for name in known}
    for name in known:
        yield _row(config, name, table, differing, (values[name], summarize(ours[name].values())))
    if known and len(known) == len(values):
        seeds = sorted(set.intersection(*(set(own) for own in ours.values())))
        means = [float(np.mean([own[seed] for own in ours.values()])) for seed in seeds]
        yield _row(config, None, table, differing, (table["mean"], summarize(means)))
    if not values:
        means = [float(np.mean(row)) for row in _whole_seeds(run, config, metric)]
        yield _row(config, None, table, differing, (table["mean"], summarize(means)))


def _whole_seeds(run: Run, config: str, metric: str) -> list[list[float]]:
    """Return for each seed the values of all classes; NaN where one is missing."""
    by_seed: dict[int, list[float]] = {}
    for trial in run.of(config):
        by_seed.setdefault(trial.seed, []).append(trial.value(metric))
    return list(by_seed.values())


def _row(
    config: str, name: str | None, table: Tree, differing: Mapping[str, Any], figures: tuple[float, Summary]
) -> TableRow:
    published, ours = figures
    judged, reason = conclusion(ours, published, table, differing)
    return {
        "config": config,
        "normal_class": name,
        "reference": published_figures()["sources"][table["source"]],
        "place": table["table"],
        "published": published,
        "published_seeds": table["seeds"],
        "other_settings": json.dumps(differing),
        "mean": ours.mean,
        "std": ours.std,
        "n": ours.n,
        "difference": ours.mean - published,
        "conclusion": judged,
        "reason": reason,
    } | {
        key: table[key] for key in ("metric", "source", "decimals", "status", "note", "protocol", "resolution", "leak")
    }


def conclusion(ours: Summary, published: float, table: Tree, differing: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what is to be said of a figure beside a published one, and why nothing is.

    Args:
        ours: over seeds.
        published: the published figure.
        table: of `published.json`, for precision, status and leak.
        differing: of `other_settings`.
    """
    if table["status"] != FIRST_HAND:
        return _NOT_JUDGED, f"the published figure is {table['status']}"
    if table["leak"]:
        return _NOT_JUDGED, table["leak"]
    if differing:
        return _NOT_JUDGED, f"other settings: {settings_text(differing)}"
    if ours.n < LEAST_SEEDS_FOR_CONCLUSION:
        return _NOT_JUDGED, f"too few seeds: {ours.n}, needs {LEAST_SEEDS_FOR_CONCLUSION}"
    difference, half = ours.mean - published, 0.5 * 10.0 ** -table["decimals"] + _ROUNDING
    if abs(difference) <= half:
        return "within rounding", None
    if abs(difference) <= half + SPREADS * ours.std:
        return "within the spread of seeds", None
    return f"off by {difference:+.{max(3, table['decimals'])}f}", None


def settings_text(differing: Mapping[str, Sequence[Any]], most: int = 3) -> str:
    """Return `training.epochs 3 (published: 400)`, and how many more keys differ."""
    texts = [f"{key} {_plain(own)} (published: {_plain(theirs)})" for key, (own, theirs) in differing.items()]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _plain(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)

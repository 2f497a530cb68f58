"""Summarize a search: `search.json` in numbers and sentences, and its Parquet tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fcdd_sweep.config.grid import Config
from fcdd_sweep.config.search_schema import ORACLE, VALIDATION
from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.metrics.paired_tests import seed_summary
from fcdd_sweep.report.tables import as_cell, column_kind
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL, setting_text
from fcdd_sweep.results import files, search_schemas
from fcdd_sweep.results.documents import ComparisonSummary, ConfigState, PruningSummary, SearchAmounts, SearchSummary
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.search.evaluator import TrialMetrics, joined_sources
from fcdd_sweep.search.plan import SearchPlan
from fcdd_sweep.search.pruning import CURVE_KEY
from fcdd_sweep.search.study import Entry

_TEST_METRICS = {
    "validation_image_ap": "image_ap",
    "oracle/image_ap": "image_ap",
    "validation_pixel_auroc": "pixel_auroc",
    "oracle/pixel_auroc": "pixel_auroc",
}
"""By metric of the search, the metric on the test set that confirms it; image AUROC for the others."""
_TEST_SET = "the test set (oracle)"
_NAMES = {"image_auroc": "image AUROC", "image_ap": "image AP", "pixel_auroc": "pixel AUROC"}


def summary_of(
    planned: SearchPlan,
    entries: Sequence[Entry],
    best: Sequence[int],
    hours: float,
    confirmation: Sequence[Mapping[str, Any]],
) -> SearchSummary:
    """Return the content of `search.json`.

    Args:
        planned: the search.
        entries: all suggested configs.
        best: numbers of the best configs, at most one for one metric.
        hours: of searching, over all starts.
        confirmation: rows of `confirmation.parquet`; empty before the confirmation.
    """
    search, space = planned.search, planned.space
    one_metric = len(search.metrics) == 1
    source = joined_sources(entry.facts.get("selection_source", "") for entry in entries)
    summary = SearchSummary(
        metric=search.metrics,
        direction=search.directions,
        oracle=search.oracle,
        algorithm=search.algorithm,
        seed=search.seed,
        selection_source=_measured_on(search.metrics, source),
        validation=planned.plan.configs[0].settings.evaluation.validation.model_dump(mode="json"),
        budget=SearchAmounts.model_validate(search.budget.model_dump()),
        spent=SearchAmounts(configs=len(entries), trials=_spent_trials(entries), hours=hours),
        classes=list(planned.plan.classes),
        seeds=list(planned.plan.seeds),
        confirm_seeds=list(planned.fresh),
        keys=list(space.axes),
        log_keys=[key for key, axis in space.axes.items() if axis.is_log],
        best=best[0] if one_metric and best else None,
        pareto=[] if one_metric else list(best),
        noise=_noise(entries),
        pruning=_pruning(planned, entries),
        comparison=_comparison(search.metrics[0], confirmation) if one_metric and confirmation else None,
        tried=sum(entry.state.is_finished for entry in entries),
    )
    return summary.model_copy(update={"sentences": _sentences(entries, summary)})


def _measured_on(metrics: Sequence[str], selection_source: str) -> str:
    """Return the images that the metrics were measured on; of several metrics each that has any, with its name."""
    images = {metric: _TEST_SET for metric in metrics if metric.startswith(ORACLE)}
    if selection_source:
        images |= {metric: selection_source for metric in metrics if metric.startswith(VALIDATION)}
    if len(metrics) == 1:
        return images.get(metrics[0], "")
    return "; ".join(f"{metric} on {images[metric]}" for metric in metrics if metric in images)


def _spent_trials(entries: Sequence[Entry]) -> int:
    return sum(entry.facts.get("n_done", 0) + entry.facts.get("n_failed", 0) for entry in entries)


def _noise(entries: Sequence[Entry]) -> float | None:
    known = [error for entry in entries if (error := entry.facts.get("value_std_error")) is not None]
    return statistics.median(known) if known else None


def _pruning(planned: SearchPlan, entries: Sequence[Entry]) -> PruningSummary | None:
    if planned.search.prune is None:
        return None
    pruned = [entry for entry in entries if entry.state == ConfigState.PRUNED]
    return PruningSummary(
        configs=len(pruned),
        epochs_trained=sum(entry.facts.get("epochs_trained", 0) for entry in entries),
        epochs_saved=sum(entry.facts.get("epochs_saved", 0) for entry in pruned),
    )


def _comparison(metric: str, confirmation: Sequence[Mapping[str, Any]]) -> ComparisonSummary:
    """Compare the best config with the default, paired by class and seed."""
    reported = _TEST_METRICS.get(metric, "image_auroc")
    values = {
        role: {(row["normal_class"], row["seed"]): row[reported] for row in confirmation if row["role"] == role}
        for role in ("best", "default")
    }
    pairs = {
        pair: (value, values["default"][pair]) for pair, value in values["best"].items() if pair in values["default"]
    }
    found, p_value = seed_summary({pair: None if None in both else both[0] - both[1] for pair, both in pairs.items()})
    return ComparisonSummary(
        metric=reported,
        n=found.n,
        mean=_known(found.mean),
        std=_known(found.std),
        low=_known(found.low),
        high=_known(found.high),
        p_value=_known(p_value),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _sentences(entries: Sequence[Entry], summary: SearchSummary) -> list[str]:
    sentences = [_tried(summary)]
    if summary.oracle:
        sentences.append(
            "This search selected on the TEST SET (oracle): its values and the choice of the best config are oracle "
            "metrics, and confirmation on fresh seeds does not undo that, since the test images are the same."
        )
    sentences += _best(entries, summary)
    if summary.comparison is not None:
        sentences.append(_compared(summary, summary.comparison))
    if summary.pruning is not None:
        sentences.append(_pruned(summary.pruning))
    return sentences


def _tried(summary: SearchSummary) -> str:
    trials = f"{count_noun(len(summary.classes), 'class')} x {count_noun(len(summary.seeds), 'seed')}"
    metrics = " and ".join(summary.metric)
    spent = f"{count_noun(summary.spent.trials or 0, 'trial')} in {duration_text(3600 * (summary.spent.hours or 0.0))}"
    measured = ", measured on" if len(summary.metric) == 1 else "; measured:"
    source = f"{measured} {summary.selection_source}" if summary.selection_source else ""
    configs = count_noun(summary.tried, "config")
    return (
        f"{configs} tried ({summary.algorithm}; {spent}), each evaluated by its mean {metrics} over {trials}{source}."
    )


def _best(entries: Sequence[Entry], summary: SearchSummary) -> list[str]:
    if summary.pareto:
        numbers = ", ".join(map(str, summary.pareto))
        return [f"No other config is better than these in every metric: {numbers}."]
    if summary.best is None:
        return ["No config has a value yet."]
    best, default = entries[summary.best], entries[0]
    default_done = default.state == ConfigState.DONE
    noise = best.facts.get("value_std_error")
    error = "" if noise is None else f" ± {noise:.4f}, the noise of its images"
    beside = f"; the default config has {default.scores[0]:.4f}" if default_done and best.number else ""
    values = ", ".join(f"{key} {setting_text(value)}" for key, value in best.values.items())
    sentences = [f"Best is config {best.number} ({values}) with {best.scores[0]:.4f}{error}{beside}."]
    if best.number == 0:
        sentences.append("The search does not beat the default: no config that was tried has a better value.")
    elif default_done and noise is not None and abs(best.scores[0] - default.scores[0]) < noise:
        sentences.append("It leads the default by less than that noise.")
    return sentences


def _compared(summary: SearchSummary, found: ComparisonSummary) -> str:
    fresh = count_noun(len(summary.confirm_seeds), "fresh seed")
    if found.n == 0:
        return "The confirmation has no pair of trials to compare."
    if summary.best == 0:
        return f"The default was trained again on {fresh}; it is the best config, so there is no other to compare."
    name = _NAMES[found.metric]
    text = f"On {fresh} the best config's {name} on the test set differs from the default's by {found.mean:+.4f}"
    if found.low is None or found.high is None:
        few = "a single pair" if found.n == 1 else "a class with a single pair"
        return f"{text}, {few}: the search is not shown to beat the default."
    if len(summary.confirm_seeds) < LEAST_FOR_INTERVAL:
        return f"{text}. An interval needs {LEAST_FOR_INTERVAL} seeds: it is undecided whether it beats the default."
    text += f" (95% interval {found.low:+.4f} to {found.high:+.4f}, {found.n} pairs of class and seed"
    text += ")" if found.p_value is None else f"; p = {found.p_value:.3g})"
    if found.low > 0:
        return f"{text}: the search beats the default."
    if found.high < 0:
        return f"{text}: the search does not beat the default, it is worse."
    return f"{text}: the search does not beat the default beyond doubt."


def _pruned(pruning: PruningSummary) -> str:
    total = pruning.epochs_trained + pruning.epochs_saved
    share = pruning.epochs_saved / total if total else 0.0
    configs = count_noun(pruning.configs, "config")
    return f"Pruning stopped {configs} early and saved {pruning.epochs_saved:,} of {total:,} epochs ({share:.0%})."


_CONFIRMED_METRICS = ("image_auroc", "image_ap", "pixel_auroc")


class Confirmed(NamedTuple):
    """A config of the confirmation.

    Attributes:
        role: `best`, `pareto` or `default`.
        config: the config.
        specs: its trials on fresh seeds.
    """

    role: str
    config: Config
    specs: tuple[TrialSpec, ...]


def write_configs(
    run_dir: Location, planned: SearchPlan, entries: Sequence[Entry], done: Mapping[int, int], *, over: bool
) -> None:
    """Write `configs.parquet`.

    Args:
        run_dir: the run.
        planned: the search.
        entries: all suggested configs.
        done: number of finished trials of the running configs, by number of the config.
        over: whether the search has ended, so that running configs are incomplete.
    """
    keys = list(planned.space.axes)
    kinds = {
        key: column_kind([*axis.extremes, *(entry.values.get(key) for entry in entries)])
        for key, axis in planned.space.axes.items()
    }
    rows = [
        {
            **_config_row(entry, len(planned.plan.specs), several=len(planned.search.metrics) > 1, over=over)
            | {"n_done": entry.facts.get("n_done", done.get(entry.number, 0))},
            **{f"param.{key}": as_cell(entry.values.get(key), kinds[key]) for key in keys},
        }
        for entry in entries
    ]
    files.write_rows(RunPaths(run_dir).search.configs, rows, search_schemas.search_configs_schema(kinds))


def _config_row(entry: Entry, trials: int, *, several: bool, over: bool) -> dict[str, Any]:
    facts = entry.facts
    done = entry.state == ConfigState.DONE
    incomplete = over and entry.state == ConfigState.RUNNING
    return {
        "number": entry.number,
        "config_id": facts["config_id"],
        "config": facts["config"],
        "state": ConfigState.INCOMPLETE if incomplete else entry.state,
        "value": entry.scores[0] if done else None,
        "value_std_error": facts.get("value_std_error") if done else None,
        "values": json.dumps(entry.scores) if done and several else None,
        "n_trials": facts.get("n_trials", trials),
        "n_failed": facts.get("n_failed", 0),
        "epochs_trained": facts.get("epochs_trained", 0),
        "pruned_at": facts.get("pruned_at"),
        "failure_policy": facts.get("failure_policy", ""),
        "started": entry.started,
        "finished": entry.finished,
    }


def write_rungs(run_dir: Location, entries: Sequence[Entry]) -> None:
    """Write `rungs.parquet`, if the search prunes."""
    rows = []
    for entry in entries:
        measured: dict[int, list[float]] = {}
        for _, _, epoch, value in entry.facts.get(CURVE_KEY, []):
            measured.setdefault(epoch, []).append(value)
        rows += [
            {"number": entry.number, "epoch": epoch, "value": math.fsum(values) / len(values)}
            for epoch, values in sorted(measured.items())
        ]
    if rows:
        files.write_rows(RunPaths(run_dir).search.rungs, rows, search_schemas.RUNGS)


def write_importance(run_dir: Location, importance: Mapping[str, float | None]) -> None:
    rows = [{"key": key, "importance": value} for key, value in importance.items()]
    files.write_rows(RunPaths(run_dir).search.importance, rows, search_schemas.IMPORTANCE)


def confirmation_rows(confirmed: Sequence[Confirmed], metrics: TrialMetrics) -> list[dict[str, Any]]:
    """Return the rows of `confirmation.parquet`; metrics of trials that are not done are null."""
    return [
        {
            "role": role,
            "number": config.parameters[search_schemas.NUMBER],
            "normal_class": spec.normal_class,
            "seed": spec.seed,
            "trial_id": spec.trial_id,
            **{name: metrics.row(spec.trial_id).get(name) for name in _CONFIRMED_METRICS},
        }
        for role, config, specs in confirmed
        for spec in specs
    ]


def write_confirmation(run_dir: Location, rows: Sequence[Mapping[str, Any]]) -> None:
    files.write_rows(RunPaths(run_dir).search.confirmation, rows, search_schemas.CONFIRMATION)


def write_summary(run_dir: Location, summary: SearchSummary) -> None:
    files.write_text(RunPaths(run_dir).search.summary, summary.text())

"""What a search came to, in numbers and in sentences: `search.json`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fcdd_sweep.config.text import count_noun, value_text
from fcdd_sweep.metrics.statistics import PairedDifference, paired_difference
from fcdd_sweep.search.plan import SearchPlan
from fcdd_sweep.search.study import Entry

_REPORTED = {"validation_image_ap": "image_ap", "oracle/image_ap": "image_ap"}


_REPORTED |= {"validation_pixel_auroc": "pixel_auroc", "oracle/pixel_auroc": "pixel_auroc"}
"""The figure of the test set that confirms a search by this metric; image AUROC for others."""
_NAMES = {"image_auroc": "image AUROC", "image_ap": "image AP", "pixel_auroc": "pixel AUROC"}


def summary_of(
    planned: SearchPlan,
    entries: Sequence[Entry],
    best: Sequence[int],
    hours: float,
    confirmation: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of `search.json`; see `results.tree`.

    Args:
        planned: the search.
        entries: every config suggested.
        best: numbers of the best configs, one where there is one metric.
        hours: of searching.
        confirmation: rows of `confirmation.parquet`; empty before confirmation.
    """
    search = planned.search
    one = len(search.metrics) == 1
    comparison = _comparison(search.metrics[0], confirmation) if one and confirmation else None
    summary = {
        "metric": search.metrics,
        "direction": search.directions,
        "oracle": search.oracle,
        "algorithm": search.algorithm,
        "seed": search.seed,
        "selection_source": next((source for entry in entries if (source := entry.facts.get("selection_source"))), ""),
        "budget": search.budget.model_dump(),
        "spent": {"configs": len(entries), "trials": _trials(entries), "hours": hours},
        "classes": list(planned.plan.classes),
        "seeds": list(planned.plan.seeds),
        "confirm_seeds": list(planned.fresh),
        "keys": list(planned.space.axes),
        "log_keys": [key for key, axis in planned.space.axes.items() if axis.is_log],
        "best": best[0] if one and best else None,
        "pareto": [] if one else list(best),
        "noise": _noise(entries),
        "pruning": _pruning(planned, entries),
        "comparison": comparison,
        "tried": sum(entry.state != "running" for entry in entries),
    }
    return {**summary, "sentences": list(_sentences(planned, entries, summary))}


def _trials(entries: Sequence[Entry]) -> int:
    return sum(entry.facts.get("n_done", 0) + entry.facts.get("n_failed", 0) for entry in entries)


def _noise(entries: Sequence[Entry]) -> float | None:
    known = [error for entry in entries if (error := entry.facts.get("value_std_error")) is not None]
    return statistics.median(known) if known else None


def _pruning(planned: SearchPlan, entries: Sequence[Entry]) -> dict[str, int] | None:
    if planned.search.prune is None:
        return None
    pruned = [entry for entry in entries if entry.state == "pruned"]
    return {
        "configs": len(pruned),
        "epochs_trained": sum(entry.facts.get("epochs_trained", 0) for entry in entries),
        "epochs_saved": sum(entry.facts.get("epochs_saved", 0) for entry in pruned),
    }


def _comparison(metric: str, confirmation: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best config minus the default, pair by pair over classes and seeds."""
    reported = _REPORTED.get(metric, "image_auroc")
    values = {
        role: {(row["normal_class"], row["seed"]): row[reported] for row in confirmation if row["role"] == role}
        for role in ("best", "default")
    }
    pairs = [pair for pair in values["best"] if pair in values["default"]]
    found: PairedDifference = paired_difference(
        [values["best"][pair] for pair in pairs], [values["default"][pair] for pair in pairs]
    )
    plain = {**found.summary._asdict(), "p_value": found.p_value}
    return {"metric": reported, **{name: None if _undefined(value) else value for name, value in plain.items()}}


def _undefined(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _sentences(planned: SearchPlan, entries: Sequence[Entry], summary: Mapping[str, Any]) -> list[str]:
    told = [_tried(planned, summary)]
    if summary["oracle"]:
        told.append(
            "This search selected on the TEST SET (oracle): its values and the choice of the best config are oracle "
            "figures, and confirmation on fresh seeds does not undo that, since the test images are the same."
        )
    told += _best(entries, summary)
    if summary["comparison"] is not None:
        told.append(_compared(summary))
    if summary["pruning"] is not None:
        told.append(_pruned(summary["pruning"]))
    return told


def _tried(planned: SearchPlan, summary: Mapping[str, Any]) -> str:
    judges = f"{count_noun(len(planned.plan.classes), 'class')} x {count_noun(len(planned.plan.seeds), 'seed')}"
    names = " and ".join(summary["metric"])
    spent = f"{summary['spent']['trials']} trials, {summary['spent']['hours']:.2g} h"
    source = f", measured on {summary['selection_source']}" if summary["selection_source"] else ""
    configs = count_noun(summary["tried"], "config")
    return f"{configs} tried ({summary['algorithm']}; {spent}), each judged by its mean {names} over {judges}{source}."


def _best(entries: Sequence[Entry], summary: Mapping[str, Any]) -> list[str]:
    if summary["pareto"]:
        numbers = ", ".join(map(str, summary["pareto"]))
        return [f"No other config beats these in every metric: {numbers}."]
    if summary["best"] is None:
        return ["No config has a value yet."]
    best, own = entries[summary["best"]], entries[0]
    noise = best.facts.get("value_std_error")
    beside = "" if noise is None else f" ± {noise:.4f}, the noise of its images"
    default = f"; the file's own config has {own.scores[0]:.4f}" if own.state == "done" and best.number else ""
    values = ", ".join(f"{key} {value_text(value)}" for key, value in best.values.items())
    told = [f"Best is config {best.number} ({values}) with {best.scores[0]:.4f}{beside}{default}."]
    if best.number == 0:
        told.append("The search does not beat the default: no config that was tried has a better value.")
    elif own.state == "done" and noise is not None and abs(best.scores[0] - own.scores[0]) < noise:
        told.append("It leads the default by less than that noise.")
    return told


def _compared(summary: Mapping[str, Any]) -> str:
    found, fresh = summary["comparison"], count_noun(len(summary["confirm_seeds"]), "fresh seed")
    if found["n"] == 0:
        return "The confirming trials have no pair of figures to compare."
    name = _NAMES[found["metric"]]
    if summary["best"] == 0:
        return f"The default was trained again on {fresh}; there is nothing to compare it with."
    text = f"On {fresh} the best config's {name} on the test set differs from the default's by {found['mean']:+.4f}"
    if found["low"] is None:
        return f"{text}, a single pair: the search is not shown to beat the default."
    text += f" (95% interval {found['low']:+.4f} to {found['high']:+.4f}, {found['n']} pairs of class and seed"
    text += ")" if found["p_value"] is None else f"; Wilcoxon p = {found['p_value']:.3g})"
    if found["low"] > 0:
        return f"{text}: the search beats the default."
    if found["high"] < 0:
        return f"{text}: the search does not beat the default, it is worse."
    return f"{text}: the search does not beat the default beyond doubt."


def _pruned(pruning: Mapping[str, int]) -> str:
    trained, saved = pruning["epochs_trained"], pruning["epochs_saved"]
    share = saved / (trained + saved) if trained + saved else 0.0
    configs = count_noun(pruning["configs"], "config")
    return f"Pruning gave up {configs} early and saved {saved:,} of {trained + saved:,} epochs ({share:.0%})."

"""Numbers as text. What is undefined is n/a, never 0 or 1."""

from __future__ import annotations

import math

from fcdd_sweep.metrics.statistics import Summary

NOT_DEFINED = "n/a"
LEAST_FOR_INTERVAL = 3
"""Seeds from which on an interval is shown; the CSV files hold it from two on."""
INTERVAL_RULE = "With two seeds the interval is n/a: Student's t makes it 9 standard deviations either way."


def figure_text(value: float | None) -> str:
    """Three decimals, or n/a."""
    return NOT_DEFINED if value is None or math.isnan(value) else f"{value:.3f}"


def score_text(score: float) -> str:
    """Three digits, and few characters: it stands below a small picture."""
    if score and not 0.001 <= abs(score) < 1000:
        return f"{score:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{score:.3g}"


def spread_text(summary: Summary) -> str:
    """`0.912 ± 0.013 (n=5)`; a single value has no spread."""
    if math.isnan(summary.mean):
        return NOT_DEFINED
    if not summary.n:
        return f"{figure_text(summary.mean)} (no seed has all classes)"
    return f"{mean_text(summary)} (n={summary.n})"


def mean_text(summary: Summary) -> str:
    """`0.912 ± 0.013`; what `count_text` says must stand beside it."""
    spread = "" if math.isnan(summary.std) else f" ± {summary.std:.3f}"
    return f"{figure_text(summary.mean)}{spread}"


def count_text(summary: Summary) -> str:
    """`[0.896, 0.928] n=5`: what stands below a mean; nothing where there is none."""
    if math.isnan(summary.mean):
        return ""
    return f"{interval_text(summary)} n={summary.n}".strip() if summary.n else "no seed has all classes"


def interval_text(summary: Summary) -> str:
    """`[0.896, 0.928]`; `[n/a]` where it would tell nothing (`INTERVAL_RULE`); nothing when there is none."""
    if math.isnan(summary.low):
        return ""
    return f"[{summary.low:.3f}, {summary.high:.3f}]" if summary.n >= LEAST_FOR_INTERVAL else f"[{NOT_DEFINED}]"

"""Numbers as text. An undefined number is n/a, never 0 or 1."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.results.search_schemas import NUMBER, ROLE

NOT_DEFINED = "n/a"
LEAST_FOR_INTERVAL = 3
"""Number of seeds from which on an interval is shown; the CSV files hold it from two on."""
INTERVAL_RULE = "With two seeds the interval is n/a: Student's t makes it 9 standard deviations on either side."
UNPAIRED = "no seed has all classes"


def abbreviated(name: str, most: int = 60) -> str:
    """Return a name of at most `most` characters for a figure; a longer one loses its middle."""
    if len(name) <= most:
        return name
    end = most // 3
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def metric_text(value: float | None) -> str:
    """Return three decimals, or n/a."""
    return NOT_DEFINED if value is None or math.isnan(value) else f"{value:.3f}"


def score_text(score: float) -> str:
    """Return two or three digits in few characters, to fit below a small image."""
    if score and not 0.001 <= abs(score) < 1000:
        return f"{score:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{score:.3g}"


def spread_text(summary: Summary) -> str:
    """Return `0.912 ± 0.013 (n=5)`; a single value has no spread."""
    if math.isnan(summary.mean):
        return NOT_DEFINED
    if not summary.n:
        return f"{metric_text(summary.mean)} ({UNPAIRED})"
    return f"{mean_text(summary)} (n={summary.n})"


def mean_text(summary: Summary) -> str:
    """Return `0.912 ± 0.013`; show `count_text` beside it."""
    spread = "" if math.isnan(summary.std) else f" ± {summary.std:.3f}"
    return f"{metric_text(summary.mean)}{spread}"


def count_text(summary: Summary) -> str:
    """Return `[0.896, 0.928] n=5`, for below a mean; nothing where there is no mean."""
    if math.isnan(summary.mean):
        return ""
    return f"{interval_text(summary)} n={summary.n}".strip() if summary.n else UNPAIRED


def interval_text(summary: Summary) -> str:
    """Return `[0.896, 0.928]`; `[n/a]` for too few values (`INTERVAL_RULE`), nothing for one."""
    if math.isnan(summary.low):
        return ""
    return f"[{summary.low:.3f}, {summary.high:.3f}]" if summary.n >= LEAST_FOR_INTERVAL else f"[{NOT_DEFINED}]"


def class_text(name: str) -> str:
    """Return the name of a class for readers: `class 0` where it is a number alone."""
    return f"class {name}" if name.isdecimal() else name


def key_titles(keys: Sequence[str]) -> dict[str, str]:
    """Return short titles of dotted keys: `learning rate` for `training.learning_rate`, the whole key where two share
    their last part."""
    last = {key: "config" if key == NUMBER else key.rpartition(".")[2].replace("_", " ") for key in keys}
    shared = Counter(last.values())
    return {key: title if shared[title] == 1 else key for key, title in last.items()}


def setting_text(value: object) -> str:
    """Return a parameter's value in few characters: numbers to four digits, words as they are, others as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else "not set" if value is None else json.dumps(value)


def key_text(parameters: Mapping[str, object], key: str) -> str:
    """Return the text of a config's value of a key; n/a where it does not have the key."""
    return setting_text(parameters[key]) if key in parameters else NOT_DEFINED


def config_words(config: str, parameters: Mapping[str, object]) -> str:
    """Return a config by its values: `learning rate 0.01, limit 8`; by its name where it has none.

    A config of a search has its number, too: `config 6 (learning rate 0.01, limit 8)`. A variant's name stands for its
    values, unless a grid crosses it.
    """
    if config and parameters.get("variant") == config:
        return config
    values = {key: value for key, value in parameters.items() if key not in (ROLE, NUMBER)}
    titles = key_titles(list(values))
    words = [f"{titles[key]} {setting_text(value)}" for key, value in values.items()]
    if NUMBER not in parameters:
        return ", ".join(words) or config
    number = parameters[NUMBER]
    return f"config {number} ({', '.join([*(['default'] if number == 0 else []), *words])})"

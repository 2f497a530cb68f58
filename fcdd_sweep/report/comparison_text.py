"""What `comparisons.parquet` says, in sentences: who is better, who is not ranked, and what would decide the rest."""

from __future__ import annotations

from collections.abc import Sequence

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.power import MOST_SEEDS
from fcdd_sweep.report.comparisons import COMPARED_METRICS, clear_best, deciding_rows, lost_trials
from fcdd_sweep.report.summaries import SUMMARY_METRICS
from fcdd_sweep.report.text import NOT_DEFINED
from fcdd_sweep.results.files import TableRow

_MOST_LISTED = 2
"""Pairs that differ over classes and are named."""
NOTHING_TO_COMPARE = "One config: nothing to compare."
LEVELS_TEXT = (
    "Better means: training again with other seeds would hardly turn the order around, on these classes and test "
    "images. A paired t-test over seeds within each class decides it, corrected for all pairs of configs by Holm's "
    "method. Whether it holds for other classes is another question, answered by Wilcoxon's test over classes; whether "
    "it holds for other test images is answered by DeLong's test in each class."
)


def comparison_sentences(rows: Sequence[TableRow]) -> list[str]:
    """Return what the rows of `comparisons.comparison_rows` say of the first metric that they have."""
    if not rows:
        return [NOTHING_TO_COMPARE]
    metric = rows[0]["metric"]
    found = deciding_rows(rows, metric)
    if found[0]["first"] is None:
        return [sentence(found[0]["reason"])]
    return [*_incomplete(rows, metric), _headline(rows, metric), *_next_best(rows, metric), _over_classes(rows, metric)]


def sentence(text: str) -> str:
    """Return a text that begins with a capital and ends with a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def named(name: str | None) -> str:
    """Return a config's name; the config without a name is the only one of its run."""
    return name or "(no name)"


def compared_metrics(rows: Sequence[TableRow]) -> list[str]:
    """Return the metrics that rows are about, in the order of tables."""
    found = {row["metric"] for row in rows}
    return [metric for metric in COMPARED_METRICS if metric in found]


def _incomplete(rows: Sequence[TableRow], metric: str) -> list[str]:
    lost = lost_trials(rows, metric)
    texts = [f"{named(name)} ({count} missing or undefined)" for name, count in lost.items() if count]
    return [f"Not ranked, as trials are missing: {', '.join(texts)}."] if texts else []


def _headline(rows: Sequence[TableRow], metric: str) -> str:
    found = deciding_rows(rows, metric)
    title = SUMMARY_METRICS[metric]
    best, decided = clear_best(rows, metric), [row for row in found if row["better"]]
    family = count_noun(found[0]["family"], "comparison")
    if best is None and not decided:
        return f"No config is better than another in {title} ({family}, seeds as what varies)."
    if best is None:
        return (
            f"{len(decided)} of {len(found)} pairs differ in {title} ({family}); no config is better than all others."
        )
    beaten = [_other(row) for row in decided if row["better"] == best]
    than = beaten[0] if len(beaten) == 1 else f"all {len(beaten)} others"
    return f"{named(best)} is better than {than} in {title} ({family}, seeds as what varies)."


def _next_best(rows: Sequence[TableRow], metric: str) -> list[str]:
    """Return the numbers of the pair that matters most: of the leader and the one behind it."""
    pair = leading_pair(rows, metric)
    if pair is None:
        return []
    ahead, behind = (pair["first"], pair["second"]) if pair["estimate"] >= 0 else (pair["second"], pair["first"])
    numbers = difference_text(pair, turned=pair["estimate"] < 0)
    about = f"{named(ahead)} against {named(behind)}: {SUMMARY_METRICS[metric]} {numbers}"
    design = f"n={pair['n']} seeds, {count_noun(pair['n_classes'], 'class')}"
    return [f"{about}, {design}.{_what_it_needs(pair)}"]


def leading_pair(rows: Sequence[TableRow], metric: str) -> TableRow | None:
    """Return the row on the config with the largest mean and the one behind it, of complete ones; None without."""
    found = [row for row in deciding_rows(rows, metric) if row["estimate"] is not None and not row["dropped"]]
    names = {name for row in found for name in (row["first"], row["second"])}
    for name in names:
        own = [row for row in found if name in (row["first"], row["second"])]
        ahead = [row["estimate"] if row["first"] == name else -row["estimate"] for row in own]
        if len(own) == len(names) - 1 and min(ahead) >= 0:
            return own[ahead.index(min(ahead))]
    return None


def difference_text(row: TableRow, *, turned: bool = False) -> str:
    """Return `+0.012, corrected interval [+0.003, +0.021], corrected p 0.004`; `turned` for second minus first."""
    sign = -1 if turned else 1
    text = f"{sign * row['estimate']:+.3f}"
    if row["corrected_low"] is None:
        return text
    ends = sorted(sign * row[name] for name in ("corrected_low", "corrected_high"))
    return f"{text}, corrected 95% interval [{ends[0]:+.3f}, {ends[1]:+.3f}], corrected p {p_text(row['p_corrected'])}"


def p_text(value: float | None) -> str:
    """Return a p-value with two digits, `<0.001` for a small one."""
    if value is None:
        return NOT_DEFINED
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def _what_it_needs(row: TableRow) -> str:
    if row["better"]:
        return ""
    if row["reason"]:
        return f" Undecided: {row['reason']}."
    more = (
        f"about {count_noun(row['more_seeds'], 'more seed')}"
        if row["more_seeds"]
        else f"more than {MOST_SEEDS:,} seeds"
    )
    return (
        f" Undecided: {more} would tell them apart four times in five if the difference is the one seen; this design "
        f"finds differences from {row['detectable']:.3f} on."
    )


def _over_classes(rows: Sequence[TableRow], metric: str) -> str:
    found = [row for row in rows if row["metric"] == metric and row["test"] == "wilcoxon"]
    decided = [row for row in found if row["better"]]
    if decided:
        texts = [f"{named(row['better'])} over {_other(row)} (p {p_text(row['p_corrected'])})" for row in decided]
        if len(texts) <= _MOST_LISTED:
            return f"Better over classes, too: {'; '.join(texts)}."
        first = f"{'; '.join(texts[:_MOST_LISTED])} and {len(decided) - _MOST_LISTED} more"
        return f"Over classes, {len(decided)} of {len(found)} pairs differ: {first}, see comparisons.parquet."
    reasons = list(dict.fromkeys(row["reason"] for row in found if row["reason"]))
    return f"Over classes: {reasons[0] if reasons else 'no config is better than another'}."


def _other(row: TableRow) -> str:
    return named(row["second"] if row["better"] == row["first"] else row["first"])

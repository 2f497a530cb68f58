"""Every column of the tables that compare configs, runs and published figures. Declared only here."""

from __future__ import annotations

from fcdd_sweep.results.schemas import INT, REAL, TEXT, table_schema

COMPARISONS = table_schema(
    ("metric", TEXT, "the metric, a column of `metrics.parquet`; larger is better"),
    ("level", TEXT, "what varies in the statement: test `images`, `seeds`, or `classes`; the others are fixed"),
    (
        "test",
        TEXT,
        "`delong`, `paired_t`, `wilcoxon` and `friedman` test; `bootstrap`, `probability_of_improvement`, `iqm` and "
        "`average_rank` estimate with an interval by resampling seeds within classes",
    ),
    ("normal_class", TEXT, "the class; null for all common classes together"),
    ("first", TEXT, "name of the config, method or run; null for `friedman`, which is about all"),
    ("second", TEXT, "what it is compared with; null for `friedman`, `iqm` and `average_rank`"),
    ("n", INT, "number of units of the level: images, seeds of the class with the fewest, classes"),
    ("n_classes", INT, "number of common classes"),
    ("n_pairs", INT, "number of trials, or pairs of trials of one class and seed, behind the row"),
    ("dropped", INT, "number of them that are planned, but missing or without the metric"),
    (
        "estimate",
        REAL,
        "mean of `first` minus `second` (of `wilcoxon` Hodges and Lehmann's); for a single config its figure, for "
        "`friedman` the statistic",
    ),
    ("low", REAL, "lower end of the 95% interval of the estimate, for this row alone; null without one"),
    ("high", REAL, "upper end of that interval"),
    ("p_value", REAL, "two-sided, for this row alone; null for estimates, and where the design gives none"),
    ("p_corrected", REAL, "the same, corrected for the family by Holm's method"),
    ("family", INT, "number of comparisons of this metric and test, over all configs tried; null for estimates"),
    ("corrected_low", REAL, "lower end of the interval that leaves out 0 exactly where `p_corrected` is below 0.05"),
    ("corrected_high", REAL, "upper end of that interval"),
    (
        "detectable",
        REAL,
        "of `paired_t` over all classes: the true difference that this design finds four times in five, at the level "
        "of the first of the family; null elsewhere",
    ),
    (
        "more_seeds",
        INT,
        "of the same: about how many more seeds tell the two apart four times in five, if difference and spread are "
        "those seen; null when decided, or beyond 1,000 seeds",
    ),
    (
        "better",
        TEXT,
        "the one that is better at this level: `p_corrected` is below 0.05, and nothing is missing; or null",
    ),
    ("tried", INT, "number of configs that were tried: of a search all, though its confirmation compares few"),
    ("reason", TEXT, "why nothing is decided or estimated, and what it needs; null otherwise"),
)
"""One row per metric, test and pair of configs; none for a single config."""
PUBLISHED = table_schema(
    ("config", TEXT, "name of the config; empty when the experiment has one config"),
    ("normal_class", TEXT, "the class; null for the mean over the classes that the figure is published for"),
    ("metric", TEXT, "the metric, a column of `metrics.parquet`"),
    ("source", TEXT, "`paper`, or `reproduction` of it"),
    ("reference", TEXT, "authors, title and place of the source"),
    ("place", TEXT, "the table in the source"),
    ("published", REAL, "the published figure, a mean over seeds"),
    ("decimals", INT, "number of decimals that are printed: differences below half a unit of the last mean nothing"),
    ("published_seeds", INT, "number of seeds behind it; null where the source does not say"),
    ("status", TEXT, "`first-hand`: seen in print; `second-hand` and `inferred` figures get no conclusion"),
    ("note", TEXT, "how the figure was found"),
    ("protocol", TEXT, "what it was measured on"),
    ("resolution", TEXT, "of pixel metrics: `network input`, as in the column of the run; null for images"),
    ("leak", TEXT, "why it was measured on images of its training; null where it was not"),
    (
        "other_settings",
        TEXT,
        "JSON: keys of the config with other values than the source's, and both values; `{}` if none",
    ),
    ("mean", REAL, "mean over the seeds of this run; null without any"),
    ("std", REAL, "their sample standard deviation; null for fewer than two"),
    ("n", INT, "number of seeds of this run"),
    ("difference", REAL, "`mean` minus `published`"),
    (
        "conclusion",
        TEXT,
        "`within rounding`; `within the spread of seeds`: two standard deviations of this run, as sources print none; "
        "`off by +0.012`; `n/a`",
    ),
    ("reason", TEXT, "why the conclusion is n/a; null otherwise"),
)
"""One row per config, class and published figure; none where nothing is published for the data set and method."""

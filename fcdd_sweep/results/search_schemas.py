"""Every column of the Parquet tables of a search: name, type, unit, meaning. Declared only here."""

from __future__ import annotations

import pyarrow as pa

from fcdd_sweep.results.schemas import INT, REAL, TEXT, TIME, table_schema

ROLE, NUMBER = "search.role", "search.number"
"""Keys of `parameters` in the plan of a search: what a trial is for, and the number of its config."""
EVALUATING, CONFIRMING = "evaluation", "confirmation"

SEARCH_CONFIGS_FIXED = (
    ("number", INT, "number of the config in the order of suggestions; 0 is the config of the experiment file"),
    ("config_id", TEXT, "12 hex digits, a digest of the config and the numerics version"),
    ("config", TEXT, "name of the config and of its folder"),
    (
        "state",
        TEXT,
        "`done`; `failed`: no value, see `failure_policy`; `pruned`; `running`; `incomplete`: interrupted, or not "
        "finished when the budget was spent",
    ),
    ("value", REAL, "mean of the metric, of several the first, over the evaluating trials; null unless done"),
    (
        "value_std_error",
        REAL,
        "standard error of `value` due to the number of validation images; null when unknown",
    ),
    ("values", TEXT, "JSON: the values of several metrics in their order; null for one metric, or unless done"),
    ("n_trials", INT, "number of trials that evaluate the config"),
    ("n_done", INT, "number of evaluating trials that are done"),
    ("n_failed", INT, "number of evaluating trials that failed and are not retried in this start"),
    ("epochs_trained", INT, "epochs of finished trials, and of stopped ones up to the last epoch that was reported"),
    ("pruned_at", INT, "epoch at which the config was pruned; null unless pruned"),
    ("failure_policy", TEXT, "how failed trials were counted; empty when none failed"),
    ("started", TIME, "when the config was suggested"),
    ("finished", TIME, "when its state was entered into the study; null while it runs"),
)
"""Columns of `search/configs.parquet`; one column per searched key follows, `param.KEY`, null where the value of
another key excludes it."""
IMPORTANCE = table_schema(
    ("key", TEXT, "a searched key"),
    (
        "importance",
        REAL,
        "share of the metric's variance over the space that the key explains (fANOVA); null if unknown",
    ),
)
CONFIRMATION = table_schema(
    ("role", TEXT, "`best`; `default`: the config of the experiment file; `pareto`: one of the Pareto set"),
    ("number", INT, "number of the config, as in `configs.parquet`"),
    ("normal_class", TEXT, "the class that the trial is trained on"),
    ("seed", INT, "a fresh seed, which evaluated no config of the search"),
    ("trial_id", TEXT, "the trial"),
    ("image_auroc", REAL, "area under the ROC curve over test images; null when undefined or not done"),
    ("image_ap", REAL, "average precision over test images; null when undefined or not done"),
    ("pixel_auroc", REAL, "area under the ROC curve over pixels of test images; null when undefined or not done"),
)
RUNGS = table_schema(
    ("number", INT, "number of the config, as in `configs.parquet`"),
    ("epoch", INT, "epoch at which configs were compared"),
    ("value", REAL, "mean of `validation_image_auroc` at that epoch over the evaluating trials that reached it"),
)
"""What pruning compared: one row per config and epoch at which the config was measured."""
_METRIC = ("metric", TEXT, "the metric; the table holds the rows of all metrics one after the other")
OPTIMIZATION = table_schema(
    _METRIC,
    ("number", INT, "number of the config, as in `configs.parquet`"),
    ("state", TEXT, "state of the config, as in `configs.parquet`"),
    ("value", REAL, "value of the config; null unless done"),
    ("value_std_error", REAL, "standard error of `value`; null when unknown"),
    ("best", REAL, "best value up to this number; null before the first value"),
    ("best_number", INT, "number of the config with the best value"),
)
LEVELS = table_schema(
    _METRIC,
    ("key", TEXT, "a searched key"),
    ("level", TEXT, "a value of the key, or an interval of its range"),
    ("n", INT, "number of configs at this level with a value"),
    ("n_other", INT, "number of configs at this level without a value: failed, pruned or running"),
    ("best", REAL, "best value of these configs; null without a value"),
    ("best_std_error", REAL, "standard error of `best`; null when unknown"),
    ("best_number", INT, "number of the config with the best value"),
    ("median", REAL, "median of the values; null without a value"),
    ("low", REAL, "lower quartile of the values; null for fewer than three"),
    ("high", REAL, "upper quartile of the values; null for fewer than three"),
)
CELLS = table_schema(
    _METRIC,
    ("kind", TEXT, "`surface`: the value is interpolated; `median`: the median over the configs in the cell"),
    ("x_key", TEXT, "the searched key on the horizontal axis"),
    ("y_key", TEXT, "the searched key on the vertical axis"),
    ("x_low", REAL, "lower bound of the cell on the horizontal axis; null for a choice"),
    ("x_high", REAL, "upper bound of the cell on the horizontal axis; null for a choice"),
    ("y_low", REAL, "lower bound of the cell on the vertical axis; null for a choice"),
    ("y_high", REAL, "upper bound of the cell on the vertical axis; null for a choice"),
    ("x_choice", TEXT, "the choice on the horizontal axis; null for a range"),
    ("y_choice", TEXT, "the choice on the vertical axis; null for a range"),
    ("value", REAL, "value of the cell; null without a config in it, or near enough to interpolate"),
    ("n", INT, "number of configs in the cell with a value"),
    ("n_other", INT, "number of configs in the cell without a value"),
)
DIFFERENCES = table_schema(
    ("number", INT, "number of the confirmed config, as in `configs.parquet`"),
    ("normal_class", TEXT, "the class that both trials are trained on"),
    ("seed", INT, "a fresh seed, the same for both trials"),
    ("metric", TEXT, "the metric on the test set"),
    ("value", REAL, "value of the confirmed config; null when undefined or not done"),
    ("default", REAL, "value of the config of the experiment file; null when undefined or not done"),
    ("difference", REAL, "`value` minus `default`; null unless both are known"),
)


def search_configs_schema(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """Return the schema of `search/configs.parquet` for a search over `parameters`."""
    extra = [(f"param.{key}", kind, f"the suggested value of `{key}`") for key, kind in parameters.items()]
    return table_schema(*SEARCH_CONFIGS_FIXED, *extra)

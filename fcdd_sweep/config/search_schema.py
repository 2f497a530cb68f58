"""The schema of `search`: space, budget, metric. `search_space` checks it against the rest of the experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fcdd_sweep.config.fields import LARGEST_INTEGER, Section

Algorithm = Literal["tpe", "random", "grid", "cmaes", "gp", "nsga2"]
Direction = Literal["maximize", "minimize"]
SEARCH_METRICS: dict[str, Direction] = {
    "validation_image_auroc": "maximize",
    "validation_image_auroc_max": "maximize",
    "validation_image_ap": "maximize",
    "validation_pixel_auroc": "maximize",
    "final_loss": "minimize",
    "train_time_s": "minimize",
}
"""Metrics of a trial that configs can be evaluated by, and the direction in which they are better."""
ORACLE = "oracle/"
"""Prefix of the metrics of the test set."""
VALIDATION = "validation_"
"""Prefix of the metrics of validation images."""
ORACLE_METRICS: dict[str, Direction] = {
    f"{ORACLE}{name}": "maximize" for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
}
PRUNABLE = "validation_image_auroc"
"""The metric that is also measured while a trial trains."""
BY_MAX = "validation_image_auroc_max"
"""The metric of scores that small defects count in."""
MOST_VALUES = 10_000
"""Most configs of a grid; more are taken for a mistake."""
Ends = Annotated[list[float], Field(min_length=2, max_length=2)]
_Seed = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Seeds = Annotated[int, Field(ge=1, le=MOST_VALUES)] | list[_Seed]
"""A number of seeds, which begin at 0, or a list of them."""


def _value_text(value: Any) -> str:
    """Return one text for equal values; 1 and true differ."""
    return json.dumps(value, sort_keys=True)


class Budget(Section):
    """Limits of a search; the first that is reached ends it."""

    configs: int | None = Field(None, ge=1)
    """Configs that are evaluated, the file's own included."""
    trials: int | None = Field(None, ge=1)
    """Trials that evaluate configs; no config starts that would need more."""
    hours: float | None = Field(None, gt=0.0)
    """Hours of searching, over all starts; no config starts afterwards, running ones are finished."""

    @model_validator(mode="after")
    def not_empty(self) -> Budget:
        if self.configs is None and self.trials is None and self.hours is None:
            raise ValueError("the budget is empty: give configs, trials or hours, such as {configs: 20}")
        return self


class SearchAxis(Section):
    """The values that a search may give one key: `log`, `float`, `int` or `choices`."""

    log: Ends | bool | None = None
    """`[low, high]` on a logarithmic scale; or, beside `int`, whether that range is on one."""
    float_: Ends | None = Field(None, alias="float")
    """`[low, high]` on a linear scale."""
    int_: Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(None, alias="int")
    """`[low, high]`, whole numbers, both ends included."""
    choices: list[Any] | None = None
    """A list of values."""
    step: float | int | None = None
    """Of `float` or `int`: the distance between two values, counted from the low end."""
    when: dict[str, Any] = {}
    """Other keys of the space and the value, or list of values, that they must have for this key to be searched."""

    @model_validator(mode="after")
    def is_one_kind(self) -> SearchAxis:
        kinds = [name for name, given in self._kinds().items() if given]
        if len(kinds) != 1:
            found = " and ".join(kinds) if kinds else "none of them"
            raise ValueError(
                f"one of log: [low, high], float: [low, high], int: [low, high], choices: [...]; has {found}"
            )
        for wrong in (*self._range_problems(), *self._choice_problems()):
            raise ValueError(wrong)
        return self

    def _kinds(self) -> dict[str, bool]:
        return {
            "log": isinstance(self.log, list),
            "float": self.float_ is not None,
            "int": self.int_ is not None,
            "choices": self.choices is not None,
        }

    def _range_problems(self) -> Iterator[str]:
        ends = self.ends
        if ends is None:
            if self.step is not None:
                yield "step belongs to a range, float or int"
            return
        low, high = ends
        if low >= high:
            yield f"the low end {low:g} is not below the high end {high:g}"
        elif self.is_log and low <= 0:
            yield f"the low end {low:g} of a logarithmic range must be above 0"
        elif self.step is not None and (self.is_log or self.step <= 0 or self.step > high - low):
            yield f"step {self.step:g} must be above 0, at most the range's width, and not beside a logarithmic scale"
        elif self.int_ is not None and isinstance(self.step, float):
            yield f"step {self.step:g} of whole numbers must be a whole number"
        elif self.log is True and self.int_ is None:
            yield "log: true belongs to int; write log: [low, high]"

    def _choice_problems(self) -> Iterator[str]:
        if self.choices is None:
            return
        if self.log is not None:
            yield "log belongs to a range"
        if not self.choices:
            yield "the list of choices is empty"
        texts = [_value_text(value) for value in self.choices]
        for text in dict.fromkeys(text for text in texts if texts.count(text) > 1):
            yield f"the choice {text} is given twice"

    @property
    def ends(self) -> list[float] | list[int] | None:
        """Of a range; None for choices."""
        return self.log if isinstance(self.log, list) else self.float_ or self.int_

    @property
    def is_log(self) -> bool:
        return isinstance(self.log, list) or self.log is True

    @property
    def extremes(self) -> list[Any]:
        """The values that are checked: both ends of a range, or every choice."""
        return list(self.choices if self.choices is not None else self.ends or [])

    def contains(self, value: Any) -> bool:
        """Return whether this is a value of the axis."""
        if self.choices is not None:
            return _value_text(value) in map(_value_text, self.choices)
        ends = self.ends or []
        if isinstance(value, bool) or not isinstance(value, int | float) or not ends[0] <= value <= ends[1]:
            return False
        steps = (value - ends[0]) / self.step if self.step else 0.0
        return (self.int_ is None or isinstance(value, int)) and abs(steps - round(steps)) < 1e-9

    @property
    def size(self) -> int | None:
        """Number of values; None for a range without steps."""
        if self.choices is not None:
            return len(self.choices)
        low, high = self.ends or (0, 0)
        if self.int_ is not None:
            return 1 + (int(high) - int(low)) // int(self.step or 1)
        return None if self.step is None else 1 + math.floor((high - low) / self.step + 1e-9)

    def value(self, index: int) -> Any:
        """Return one of the values in their order, from 0 to `size - 1`; a range without steps has none."""
        if self.choices is not None:
            return self.choices[index]
        if self.int_ is not None:
            return self.int_[0] + index * int(self.step or 1)
        low, _ = self.float_ or (0.0, 0.0)
        return float(f"{low + index * (self.step or 0.0):.12g}")

    def values(self) -> list[Any] | None:
        """Return every value in order; None for a range without steps."""
        return None if self.size is None else [self.value(index) for index in range(self.size)]


class Prune(Section):
    at: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Epochs at which configs are compared; the metric is measured after each of them."""
    keep_fraction: float = Field(0.5, gt=0.0, lt=1.0)
    """Share of the compared configs that continue; a config below it is pruned."""
    min_configs: int = Field(4, ge=1)
    """Other configs that must have reached the epoch on the same classes and seeds before any is pruned."""

    @field_validator("at")
    @classmethod
    def increasing(cls, at: list[int]) -> list[int]:
        if at != sorted(set(at)):
            raise ValueError(f"the epochs must increase, found {at}")
        return at


class SearchSettings(Section):
    algorithm: Algorithm = "tpe"
    """How configs are suggested, by Optuna: tree-structured Parzen estimators, at random, all of a grid, CMA-ES,
    Gaussian processes, or NSGA-II for several metrics."""
    budget: Budget
    """Limits: `configs`, `trials`, `hours`; when they are raised later, the study continues."""
    space: dict[str, SearchAxis] = Field(min_length=1)
    """Dotted keys and their values: `{log: [a, b]}`, `{float: [a, b], step: s}`, `{int: [a, b], step: s, log: true}`,
    `{choices: [...]}`; each also with `when: {OTHER.KEY: value}`."""
    metric: str | list[str] = "validation_image_auroc"
    """Metric that configs are evaluated by, its mean over classes and seeds; a list of them for `nsga2`. One of the
    test set must be written `oracle/NAME` and is marked everywhere."""
    direction: Direction | list[Direction] | None = None
    """Whether large or small values are better; null: by the metric."""
    classes: Literal["all"] | list[str | int] = "all"
    """Normal classes that configs are evaluated on, of those in `dataset.classes`."""
    seeds: Literal["all"] | Seeds = "all"
    """Seeds that configs are evaluated on; all: those of the experiment."""
    test: bool = False
    """Whether the trials that evaluate configs are tested, too; no choice depends on it."""
    prune: Prune | None = None
    """When configs that are worse than others are pruned; null: never."""
    confirm_seeds: Seeds | None = None
    """Fresh seeds on which the best config and the file's own are trained again and tested; null: as many as the
    experiment has, none of which evaluated a config."""
    seed: int = Field(0, ge=0, le=LARGEST_INTEGER)
    """Seed of the sampler."""
    parallel: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Configs that are evaluated at the same time; auto: as many as keep the machines busy. With more than one, the
    suggestions depend on which config ends first."""
    failed_trials: Literal["drop_config", "mean_of_rest", "worst"] = "drop_config"
    """How a trial that failed for good counts: its config has no value, or the mean of its other trials, or the trial
    counts as 0."""
    storage: str | None = None
    """Optuna's storage, a URL such as `postgresql://...`; null: a journal file in the run."""

    @property
    def metrics(self) -> list[str]:
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    @property
    def directions(self) -> list[Direction]:
        """One direction per metric."""
        if self.direction is None:
            return [direction_of(name) for name in self.metrics]
        return [self.direction] if isinstance(self.direction, str) else list(self.direction)

    @property
    def oracle(self) -> bool:
        """Whether any metric is one of the test set."""
        return any(name.startswith(ORACLE) for name in self.metrics)


def direction_of(metric: str) -> Direction:
    """Return the direction in which a metric is better."""
    return {**SEARCH_METRICS, **ORACLE_METRICS}[metric]


def column_of(metric: str) -> str:
    """Return the column of `metrics.parquet` that holds a metric."""
    return metric.removeprefix(ORACLE)

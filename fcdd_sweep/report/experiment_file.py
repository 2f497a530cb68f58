"""A run's own `experiment.yaml`, read once: what pages, figures and `status` need of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fcdd_sweep.config.errors import Origin
from fcdd_sweep.config.fields import Section
from fcdd_sweep.config.layers import ConfigLayer, Tree, dotted_values, nest, overlay, split_key, value_at_key
from fcdd_sweep.config.schema import Evaluation, Experiment, Heatmaps, Keep, ReportSettings, Resources
from fcdd_sweep.config.schema_errors import validated
from fcdd_sweep.report.text import setting_text
from fcdd_sweep.results.storage import Location, read_bytes
from fcdd_sweep.results.tree import EXPERIMENT, RunPaths

_SEEDS = "seeds"
_SETTINGS = (
    ("data set", ("dataset.name",)),
    ("classes", ("dataset.classes",)),
    ("image side", ("images.size",)),
    ("method", ("method",)),
    ("network", ("network.name", "network.backbone", "network.node")),
    ("training anomalies", ("anomalies.mode", "anomalies.source")),
    ("anomaly limit", ("anomalies.limit",)),
    ("preprocessing", ("preprocessing",)),
    ("epochs", ("training.epochs",)),
    ("batch size", ("training.batch_size",)),
    ("optimizer, learning rate", ("training.optimizer", "training.learning_rate")),
    ("supervision", ("training.supervision",)),
    (_SEEDS, ("seeds",)),
    ("grid", ("grid",)),
)
"""Settings in a report, by the name that the report uses, and the keys that hold them."""
_SHOWN = frozenset(key for _, keys in _SETTINGS for key in keys)
_SECTIONS_OF_TRIALS = ("dataset", "images", "anomalies", "network", "training", "heatmaps", "evaluation")
COMPARED = (
    "network",
    "image side",
    "training anomalies",
    "supervision",
    "preprocessing",
    "epochs",
    "batch size",
    "optimizer, learning rate",
)
"""Settings in a comparison of methods."""
_LAST_KEY = "output"
"""The last key of each file that a sweep writes."""
_WITHOUT_IT = (
    "images are scored and decided as when each trial was finished, pictures and decisions of trials stay as they are, "
    "and other figures have the default look. Rerun the sweep's command, which writes the file again."
)
_MOST_NAMED = 4
"""Up to this many configs, each value is followed by the names of its configs."""
S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class ExperimentFile:
    """A run's experiment file. It is parsed on first use, and once: parsing a large grid is slow.

    A report is made without a readable file, too: settings are then missing, or the schema's defaults.

    Attributes:
        text: its text; empty when there is no file.
    """

    text: str = ""

    @classmethod
    def of_run(cls, run_dir: Location) -> ExperimentFile:
        """Return that of a run; without text where there is none."""
        try:
            return cls(read_bytes(RunPaths(run_dir).experiment).decode("utf-8", errors="replace"))
        except OSError:
            return cls()

    @cached_property
    def tree(self) -> Tree:
        """Plain values; empty when the text is not a YAML mapping."""
        try:
            plain = YAML(typ="safe", pure=True).load(self.text)
        except (YAMLError, ValueError):
            return {}
        return plain if isinstance(plain, dict) else {}

    @cached_property
    def problem(self) -> str:
        """A sentence on a file that does not tell the run's settings, with what follows; empty when it does."""
        fault = self._fault()
        return f"{EXPERIMENT} {fault}: {_WITHOUT_IT}" if fault else ""

    def _fault(self) -> str:
        if not self.text.strip():
            return "is missing, empty or cannot be opened"
        if not self.tree:
            return "is not YAML with keys and values"
        if _LAST_KEY not in self.tree:
            return f"is cut off: it lacks its last key, {_LAST_KEY}"
        _, faults = validated(Experiment, self.tree, Origin())
        return f"describes no experiment ({faults[0].problem})" if faults else ""

    @cached_property
    def heatmaps(self) -> Heatmaps:
        """How heatmaps are drawn; `color_quantile` and `blur` change figures only."""
        return self._section("heatmaps", Heatmaps)

    @cached_property
    def evaluation(self) -> Evaluation:
        """What images are scored by, and the false-alarm rate of decisions."""
        return self._section("evaluation", Evaluation)

    @cached_property
    def keep(self) -> Keep:
        """What a run keeps of its trials."""
        return self._section("keep", Keep)

    @cached_property
    def report(self) -> ReportSettings:
        """How the report looks."""
        return self._section("report", ReportSettings)

    @cached_property
    def resources(self) -> Resources:
        """What a trial reserves."""
        return self._section("resources", Resources)

    @property
    def threads(self) -> int:
        """Threads of a trial."""
        threads = value_at_key(self.tree, ("training", "threads"))
        return threads if isinstance(threads, int) else 1

    @property
    def search(self) -> Tree:
        """The section `search` as plain values; empty when there is none."""
        section = self.tree.get("search")
        return section if isinstance(section, dict) else {}

    @property
    def search_choices(self) -> dict[str, list[Any]]:
        """By searched key, the choices that its axis lists; keys with a range are left out."""
        space = self.search.get("space")
        axes = space if isinstance(space, dict) else {}
        found = {str(key): axis.get("choices") for key, axis in axes.items() if isinstance(axis, dict)}
        return {key: list(choices) for key, choices in found.items() if isinstance(choices, list)}

    def _section(self, name: str, schema: type[S]) -> S:
        try:
            return schema.model_validate(self.tree[name])
        except (KeyError, ValueError):
            return schema()

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings that one config has, as text by the name that reports use.

        Args:
            parameters: values of the config's varied keys; under `variant` the name of its variant.
        """
        tree = self.config_tree(parameters)
        texts = {}
        for name, keys in _SETTINGS:
            values = [value_at_key(tree, tuple(key.split("."))) for key in keys]
            if given := [value for value in values if value not in (None, {}, [])]:
                texts[name] = ", ".join(map(_seeds_text if name == _SEEDS else _short_text, given))
        return texts

    def further_settings(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return the text of each setting of the trials that `settings` leaves out, by dotted key.

        Args:
            parameters: see `settings`.
        """
        tree = self.config_tree(parameters)
        found = dotted_values({name: tree[name] for name in _SECTIONS_OF_TRIALS if name in tree})
        return {key: _value_text(value) for key, value in found if key not in _SHOWN}

    def config_tree(self, parameters: Mapping[str, Any]) -> Tree:
        """Return the file's plain values with those of one config over them."""
        variant = value_at_key(self.tree, ("variants", str(parameters.get("variant"))))
        layer = ConfigLayer(self.tree)
        for key, value in {**(variant or {}), **parameters}.items():
            layer = overlay(ConfigLayer(nest(split_key(key), value)), layer)
        return layer.tree

    def overview(self, parameters: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
        """Return name and text of each setting; where configs differ, with the value of each of them.

        Args:
            parameters: by config name, see `settings`; at least one.
        Returns:
            Empty when the file cannot be read.
        """
        if not self.tree:
            return []
        by_config = {config: self.settings(values) for config, values in parameters.items()}
        rows = []
        for name, _ in _SETTINGS:
            configs_of: dict[str, list[str]] = {}
            for config, texts in by_config.items():
                configs_of.setdefault(texts.get(name, ""), []).append(config)
            if any(configs_of):
                rows.append((name, _varied_text(configs_of)))
        return rows


def _value_text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(each, str | int) for each in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _short_text(value: Any) -> str:
    return setting_text(value) if isinstance(value, float) else _value_text(value)


def _seeds_text(seeds: Any) -> str:
    """Return `0 to 4` for 5 seeds, and a list as it is."""
    if isinstance(seeds, list):
        return ", ".join(map(str, seeds))
    return f"0 to {seeds - 1}" if isinstance(seeds, int) and seeds > 1 else "0"


def _varied_text(configs_of: Mapping[str, Sequence[str]]) -> str:
    """Return the values of a setting; `configs_of` holds the names of the configs with each value."""
    if len(configs_of) == 1:
        return next(iter(configs_of))
    if sum(map(len, configs_of.values())) <= _MOST_NAMED:
        return "; ".join(f"{value or 'none'} ({', '.join(configs)})" for value, configs in configs_of.items())
    return "by config: " + "; ".join(value or "none" for value in configs_of)

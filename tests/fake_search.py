"""Searches that no optimizer made: a known response surface over learning rate, limit and two more keys, with noise."""

from __future__ import annotations

import json

import numpy as np

from fcdd_sweep.report.search.axes import text_of
from fcdd_sweep.results import files, schemas, search_schemas
from fcdd_sweep.results.search_schemas import CONFIRMING, NUMBER, ROLE
from fcdd_sweep.results.tree import RunPaths, SearchPaths
from tests.fakes import EXPERIMENT, NOW, FakeRun, key

RATE, LIMIT, DECAY, MOMENTUM = "training.learning_rate", "anomalies.limit", "training.weight_decay", "training.momentum"
OPTIMIZER = "training.optimizer"
LIMITS = [1, 2, 4, 8, 64, "all"]
CLASSES, SEEDS, FRESH = ["bottle", "cable", "metal nut"], [0, 1], [100, 101, 102]
SPACE = f"""\
search:
  budget: {{configs: 20}}
  space:
    {RATE}: {{log: [0.0001, 0.1]}}
    {LIMIT}: {{choices: [1, 2, 4, 8, 64, all]}}
    {OPTIMIZER}: {{choices: [adam, sgd]}}
    {MOMENTUM}: {{float: [0.0, 0.99], when: {{{OPTIMIZER}: sgd}}}}
"""
COMPARED = dict(mean=0.03, std=0.01, low=0.02, high=0.04, p_value=0.01)
KINDS = {RATE: schemas.REAL, LIMIT: schemas.TEXT, OPTIMIZER: schemas.TEXT, MOMENTUM: schemas.REAL}


def surface(rate, limit, optimizer, momentum):
    """The expected AUROC: best near a rate of 0.003 and with many anomalies, a little better with SGD."""
    amount = 5.0 if limit == "all" else LIMITS.index(limit)
    on_rate = np.exp(-(((np.log10(rate) + 2.5) / 0.9) ** 2))
    lost = 0.0 if momentum is None else 0.02 * (momentum - 0.9) ** 2
    return 0.55 + 0.36 * on_rate * (1 - np.exp(-0.7 * (amount + 1))) + 0.012 * (optimizer == "sgd") - lost


def suggested(n, seed=0):
    """Parameters of n configs: the default, then random ones that come closer to what is good, as a sampler's do."""
    rng = np.random.default_rng(seed)
    given = [{RATE: 0.001, LIMIT: 8, OPTIMIZER: "adam", MOMENTUM: None}]
    for number in range(1, n):
        spread = 1.0 if number < 10 else 0.55
        rate = float(np.clip(10 ** (-2.5 + spread * rng.uniform(-1.5, 1.5)), 1e-4, 1e-1))
        limit = LIMITS[int(rng.integers(0 if number < 10 else 1, 6))]
        optimizer = "sgd" if rng.random() < 0.5 else "adam"
        momentum = float(rng.uniform(0, 0.99)) if optimizer == "sgd" else None
        given.append({RATE: rate, LIMIT: limit, OPTIMIZER: optimizer, MOMENTUM: momentum})
    return given


def states_of(n, seed, shares):
    """The default is done; the others by chance, of `shares` (pruned, failed)."""
    drawn = np.random.default_rng(seed + 1).random(n)
    pruned, failed = shares
    found = ["pruned" if u < pruned else "failed" if u < pruned + failed else "done" for u in drawn]
    return ["done", *found[1:]]


class FakeSearch:
    """The files of a search in the making: change `configs` and `summary`, then `write`."""

    def __init__(self, n=20, *, seed=0, shares=(0.15, 0.1), metrics=("validation_image_auroc",), noise=0.008):
        self.kinds = dict(KINDS)
        self.experiment = EXPERIMENT + SPACE
        self.rng = np.random.default_rng(seed + 2)
        self.metrics, self.noise, self.parameters = list(metrics), noise, suggested(n, seed)
        self.configs = [
            self._config(i, given, state)
            for i, (given, state) in enumerate(zip(self.parameters, states_of(n, seed, shares), strict=True))
        ]
        self.confirmation, self.rungs, self.importance = [], [], []

    def _config(self, number, given, state):
        value = float(surface(*given.values()) + self.noise * self.rng.standard_normal())
        seconds = 20 + 3 * float(np.log2(1 + (500 if given[LIMIT] == "all" else given[LIMIT]))) + self.rng.uniform(0, 3)
        done, several = state == "done", len(self.metrics) > 1
        return {
            "number": number,
            "config_id": f"{number:012x}",
            "config": "default" if number == 0 else f"config-{number:03d}",
            "state": state,
            "value": value if done else None,
            "value_std_error": self.noise if done else None,
            "values": json.dumps([value, seconds]) if done and several else None,
            "n_trials": 6,
            "n_done": 6 if done else 3,
            "n_failed": 1 if state == "failed" else 0,
            "epochs_trained": 180 if done else 60,
            "pruned_at": 10 if state == "pruned" else None,
            "failure_policy": "drop_config: 1 of 6 trials failed" if state == "failed" else "",
            "started": NOW,
            "finished": NOW if state in ("done", "pruned", "failed") else None,
            **{f"param.{name}": given[name] for name in given},
        }

    @property
    def best(self):
        """The number of the best config; None without any, and of several metrics."""
        done = [row for row in self.configs if row["value"] is not None and row["values"] is None]
        return max(done, key=lambda row: row["value"])["number"] if done else None

    def confirm(self, gain=0.03, spread=0.012, roles=None, classes=CLASSES, seeds=FRESH):
        """The best config is better by `gain` on each class and fresh seed, with noise."""
        levels = {name: self.rng.uniform(0.7, 0.95) for name in classes}
        for role, number in roles or [("best", self.best), ("default", 0)]:
            for name in classes:
                for seed in seeds:
                    auroc = levels[name] + (gain if role != "default" else 0) + spread * self.rng.standard_normal()
                    config = self.configs[number]["config"]
                    row = dict(
                        role=role, number=number, normal_class=name, seed=seed, image_auroc=min(float(auroc), 1.0)
                    )
                    row |= dict(trial_id=key(config, name, seed)["trial_id"], image_ap=None, pixel_auroc=None)
                    self.confirmation.append(row)
        return self

    def over_ranges(self):
        """The same configs with two keys alone, both ranges on a logarithmic scale; best near 0.003 and 0.0001."""
        self.kinds = {RATE: schemas.REAL, DECAY: schemas.REAL}
        for row in self.configs:
            for name in (LIMIT, OPTIMIZER, MOMENTUM):
                del row[f"param.{name}"]
            rate, decay = row[f"param.{RATE}"], float(10 ** self.rng.uniform(-6, -2))
            row[f"param.{DECAY}"] = decay
            if row["value"] is not None:
                hill = np.exp(-(((np.log10(rate) + 2.5) / 0.9) ** 2) - ((np.log10(decay) + 4) / 1.2) ** 2)
                row["value"] = float(0.55 + 0.35 * hill + self.noise * self.rng.standard_normal())
        return self

    def prune_curves(self, epochs=(5, 10, 20, 30)):
        """What pruning compared; a pruned config's ends where it was given up."""
        for row, given in zip(self.configs, self.parameters, strict=True):
            last = 10 if row["state"] == "pruned" else 5 if row["state"] == "failed" else epochs[-1]
            top = surface(*given.values())
            for epoch in epochs:
                if epoch <= last:
                    value = top - 0.25 * float(np.exp(-epoch / 7)) + 0.3 * self.noise * self.rng.standard_normal()
                    self.rungs.append({"number": row["number"], "epoch": epoch, "value": float(value)})
        return self

    def weigh(self):
        shares = {RATE: 0.61, LIMIT: 0.29, OPTIMIZER: 0.06, MOMENTUM: 0.04}
        self.importance = [{"key": name, "importance": share} for name, share in shares.items() if name in self.kinds]
        return self

    @property
    def summary(self):
        states = [row["state"] for row in self.configs]
        oracle = any(name.startswith("oracle/") for name in self.metrics)
        pruned = states.count("pruned")
        return {
            "metric": self.metrics,
            "direction": [
                "minimize" if name in ("train_time_s", "final_loss") else "maximize" for name in self.metrics
            ],
            "oracle": oracle,
            "algorithm": "nsga2" if len(self.metrics) > 1 else "tpe",
            "seed": 0,
            "selection_source": "test set" if oracle else "validation: 20% of nominal images, confetti",
            "validation": {"nominal_fraction": 0.2, "anomalies": "confetti", "epochs": []},
            "budget": {"configs": len(states), "trials": None, "hours": 2.0},
            "spent": {"configs": len(states), "trials": 6 * len(states), "hours": 0.71},
            "classes": CLASSES,
            "seeds": SEEDS,
            "confirm_seeds": FRESH,
            "keys": list(self.kinds),
            "log_keys": [name for name in (RATE, DECAY) if name in self.kinds],
            "best": self.best,
            "pareto": [],
            "noise": self.noise if "done" in states else None,
            "pruning": {"configs": pruned, "epochs_trained": 180 * len(states), "epochs_saved": 120 * pruned}
            if pruned
            else None,
            "comparison": {"metric": "image_auroc", "n": len(self.confirmation) // 2, **COMPARED}
            if self.confirmation
            else None,
            "tried": sum(state in ("done", "pruned", "failed") for state in states),
            "sentences": [],
        }

    def write(self, run_dir):
        """Write RUN/search, beside whatever the run has."""
        folder = RunPaths(run_dir).search.root
        rows = [
            {
                name: text_of(value)
                if self.kinds.get(name.removeprefix("param.")) == schemas.TEXT and value is not None
                else value
                for name, value in row.items()
            }
            for row in self.configs
        ]
        files.write_rows(SearchPaths(folder).configs, rows, search_schemas.search_configs_schema(self.kinds))
        files.write_text(SearchPaths(folder).summary, json.dumps(self.summary))
        if self.importance:
            files.write_rows(SearchPaths(folder).importance, self.importance, search_schemas.IMPORTANCE)
        if self.confirmation:
            files.write_rows(SearchPaths(folder).confirmation, self.confirmation, search_schemas.CONFIRMATION)
        if self.rungs:
            files.write_rows(SearchPaths(folder).rungs, self.rungs, search_schemas.RUNGS)
        return folder


def searched_run(path, search, *, finished=True):
    """A run whose confirmation trials are done, and whose judging trials have no figures of the test set."""
    run = FakeRun(path, search.experiment)
    numbers = dict.fromkeys(row["number"] for row in search.confirmation)
    names = {number: search.configs[number]["config"] for number in numbers}
    for number, name in names.items():
        values = {key: value for key, value in search.parameters[number].items() if value is not None}
        parameters = {ROLE: CONFIRMING, NUMBER: number, **values}
        seeds = sorted({row["seed"] for row in search.confirmation})
        classes = list(dict.fromkeys(row["normal_class"] for row in search.confirmation))
        run.plan(classes, [*SEEDS, *seeds], {name: parameters})
        for each in classes if finished else ():
            for seed in seeds:
                run.finish(name, each, seed, wrong=0 if number else 3, size=32)
    if not run.planned:
        run.plan(CLASSES, SEEDS)
    run.write()
    search.write(path)
    return path

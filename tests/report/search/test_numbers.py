"""The numbers behind a search's plots, against slow oracles."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest

from fcdd_sweep.metrics.paired_tests import seed_test
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.search.axes import in_order, plain, plot_axis
from fcdd_sweep.report.search.confirmation import conclusions
from fcdd_sweep.report.search.marks import metric_value_text, out_of_range, shown_range
from fcdd_sweep.report.search.numbers import (
    comparisons,
    difference_rows,
    enough_text,
    level_rows,
    optimization_rows,
    pareto_rows,
    running_best,
)
from fcdd_sweep.report.search.record import SearchRecord, read_search
from fcdd_sweep.report.search.two_way import chosen_pair, interpolated, pair_of
from tests.fake_search import DECAY, LIMIT, LIMITS, MOMENTUM, OPTIMIZER, RATE, FakeSearch


def read(tmp_path, fake) -> SearchRecord:
    fake.write(tmp_path)
    found = read_search(Run(tmp_path, (), (), 0, ExperimentFile(fake.experiment), {}))
    assert found is not None and found.problems == ()
    return found


@pytest.fixture
def fake():
    return FakeSearch(60)


@pytest.fixture
def search(tmp_path, fake):
    return read(tmp_path, fake)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_best_so_far_is_the_best_of_those_so_far(sign):
    values = np.random.default_rng(0).integers(0, 30, 50).astype(float)
    values[[0, 1, 7, 20]] = np.nan
    for row, best in enumerate(running_best(values, sign)):
        known = [i for i in range(row + 1) if not math.isnan(values[i])]
        expected = min(known, key=lambda i: (-sign * values[i], i)) if known else None
        assert best == expected


def test_a_config_without_a_value_is_null_and_leaves_the_best_as_it_was(search, fake):
    rows = optimization_rows(search)
    assert [row["number"] for row in rows] == list(range(60))
    for row, config in zip(rows, fake.configs, strict=True):
        assert row["state"] == config["state"] and row["value"] == config["value"]
        assert (row["value"] is None) == (config["state"] != "done")
    so_far = [row["best"] for row in rows]
    assert so_far == sorted(so_far) and so_far[-1] == fake.configs[fake.best]["value"]
    assert rows[-1]["best_number"] == fake.best


def quartile(values, share):
    """By linear interpolation between order statistics."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = math.floor(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def test_levels_sum_up_the_configs_at_each_limit(search, fake):
    rows = [row for row in level_rows(search) if row["key"] == LIMIT]
    assert [row["level"] for row in rows] == ["1", "2", "4", "8", "64", "all"]
    for row, limit in zip(rows, LIMITS, strict=True):
        own = [config for config in fake.configs if config[f"param.{LIMIT}"] == limit]
        values = [config["value"] for config in own if config["state"] == "done"]
        assert (row["n"], row["n_other"]) == (len(values), len(own) - len(values))
        assert row["best"] == (max(values) if values else None)
        assert row["median"] == (pytest.approx(statistics.median(values)) if values else None)
        if len(values) < 3:
            assert row["low"] is None and row["high"] is None
        else:
            assert row["low"] == pytest.approx(quartile(values, 0.25))
            assert row["high"] == pytest.approx(quartile(values, 0.75))
    assert sum(row["n"] + row["n_other"] for row in rows) == 60 and min(row["n"] for row in rows) < 3


def test_levels_of_a_range_and_of_a_conditional_key_cover_the_configs_that_have_it(search, fake):
    for key in (RATE, MOMENTUM):
        rows = [row for row in level_rows(search) if row["key"] == key]
        having = [config for config in fake.configs if config[f"param.{key}"] is not None]
        assert len(rows) == 6 and sum(row["n"] + row["n_other"] for row in rows) == len(having)
    assert len(having) < 60


def test_a_metric_that_is_better_when_small_has_its_smallest_value_as_best(tmp_path):
    search = read(tmp_path, FakeSearch(40, metrics=("validation_image_auroc", "train_time_s")))
    seconds = [row for row in level_rows(search) if row["metric"] == "train_time_s" and row["key"] == LIMIT]
    times = search.values(1)
    for row in seconds:
        own = [t for t, given in zip(times, search.parameter(LIMIT), strict=True) if str(given) == row["level"]]
        known = [t for t in own if not math.isnan(t)]
        assert row["best"] == (min(known) if known else None)


def test_the_pareto_set_is_what_no_other_beats():
    rng = np.random.default_rng(3)
    for signs in itertools.product((1.0, -1.0), repeat=2):
        values = rng.integers(0, 8, (40, 2)).astype(float)  # with ties
        values[5, 0] = np.nan
        expected = set()
        for i in range(40):
            beaten = any(
                all(s * b >= s * a for s, a, b in zip(signs, values[i], values[j], strict=True))
                and any(s * b > s * a for s, a, b in zip(signs, values[i], values[j], strict=True))
                for j in range(40)
            )
            if not beaten and not np.isnan(values[i]).any():
                expected.add(i)
        found = pareto_rows(values, np.array(signs))
        assert set(found) == expected and 5 not in found
        assert [values[row, 0] for row in found] == sorted(values[row, 0] for row in found)


def test_cells_hold_the_median_of_their_configs(search, fake):
    pair = pair_of(search, 0)
    assert (pair.x.key, pair.y.key) == (RATE, LIMIT) and len(pair.cells) == 6 * 6
    rates = [config[f"param.{RATE}"] for config in fake.configs]
    edges = [min(rates) * (max(rates) / min(rates)) ** (i / 6) for i in range(7)]
    for cell in pair.cells:
        part = min(range(6), key=lambda i: abs(edges[i] - cell["x_low"]))
        assert cell["x_low"] == pytest.approx(edges[part]) and cell["x_choice"] is None and cell["y_low"] is None
        own = [
            config
            for config, rate in zip(fake.configs, rates, strict=True)
            if str(config[f"param.{LIMIT}"]) == cell["y_choice"]
            and edges[part] * (1 - 1e-12) <= rate
            and (rate < edges[part + 1] or part == 5)
        ]
        values = [config["value"] for config in own if config["value"] is not None]
        assert (cell["n"], cell["n_other"]) == (len(values), len(own) - len(values))
        assert cell["value"] == (pytest.approx(statistics.median(values)) if values else None)
    assert any(cell["value"] is None for cell in pair.cells)


def test_without_learning_rate_and_limit_the_two_most_important_keys_are_shown(tmp_path):
    fake = FakeSearch(12).weigh()
    fake.importance = [{"key": OPTIMIZER, "importance": 0.7}, {"key": MOMENTUM, "importance": 0.2}]
    for row in fake.configs:
        del row[f"param.{RATE}"]
    del fake.kinds[RATE]
    x, y = chosen_pair(read(tmp_path, fake))
    assert (x.key, y.key) == (MOMENTUM, OPTIMIZER)


def left_out_error(points, values, width):
    """Mean squared error of each value as the others predict it, one by one."""
    total = 0.0
    for i, own in enumerate(points):
        others = [j for j in range(len(points)) if j != i]
        weights = [math.exp(-0.5 * (math.dist(own, points[j]) / width) ** 2) for j in others]
        near = sum(weights) >= math.exp(-0.5)
        weights = weights if near else [1.0] * len(others)
        guess = sum(w * values[j] for w, j in zip(weights, others, strict=True)) / sum(weights)
        total += (values[i] - guess) ** 2
    return total / len(points)


def test_the_surface_is_as_good_as_it_says_and_stays_near_configs():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 0.6, (40, 2))
    values = np.exp(-8 * ((points - 0.3) ** 2).sum(axis=1)) + 0.01 * rng.standard_normal(40)
    surface = interpolated(points, values)
    widths = (0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.45)
    best = min(left_out_error(points, values, width) for width in widths)
    plain_error = np.mean([(values[i] - np.mean(np.delete(values, i))) ** 2 for i in range(40)])
    assert surface.skill == pytest.approx(1 - best / plain_error) and surface.skill > 0.7
    assert np.isnan(surface.values[-1, -1])  # far from every config
    own = surface.values[tuple((points[:, ::-1] * 48).astype(int).T)]
    assert not np.isnan(own).any() and np.abs(own - values).max() < 0.25 and np.abs(own - values).mean() < 0.06


def test_keys_that_explain_nothing_get_no_surface():
    rng = np.random.default_rng(0)
    found = [interpolated(rng.uniform(0, 1, (30, 2)), rng.standard_normal(30)) for _ in range(40)]
    assert sum(surface is not None for surface in found) <= 1
    assert interpolated(rng.uniform(0, 1, (30, 2)), np.full(30, 0.5)) is None


def test_a_search_over_two_ranges_has_a_surface_and_counts_its_configs(tmp_path):
    fake = FakeSearch(80).over_ranges()
    search = read(tmp_path, fake)
    pair = pair_of(search, 0)
    assert {pair.x.key, pair.y.key} == {RATE, DECAY} and pair.x.log and pair.y.log and pair.skill > 0.3
    assert sum(cell["n"] for cell in pair.cells) == search.states.count("done")
    assert sum(cell["n_other"] for cell in pair.cells) == 80 - search.states.count("done")
    top = max((cell for cell in pair.cells if cell["value"] is not None), key=lambda cell: cell["value"])
    assert pair.x.key == RATE and 0.0006 < top["x_low"] < 0.015 and 1e-5 < top["y_low"] < 1e-3


def test_differences_are_paired_and_their_interval_is_that_over_seeds_of_each_class(tmp_path):
    fake = FakeSearch(20).confirm()
    fake.confirmation[1]["image_auroc"] = None  # of the best
    fake.confirmation.pop()  # of the default
    rows = difference_rows(read(tmp_path, fake))
    assert len(rows) == 9
    by_key = {(row["role"], row["normal_class"], row["seed"]): row["image_auroc"] for row in fake.confirmation}
    for row in rows:
        best, default = (by_key.get((role, row["normal_class"], row["seed"])) for role in ("best", "default"))
        assert (row["value"], row["default"]) == (best, default)
        assert (row["difference"] is None) == (best is None or default is None)
        if row["difference"] is not None:
            assert row["difference"] == pytest.approx(best - default)
    (comparison,) = comparisons(rows)
    assert (comparison.overall.n, comparison.planned) == (7, 9)
    classes = {row["normal_class"]: [] for row in rows}
    for row in rows:
        classes[row["normal_class"]].append(np.nan if row["difference"] is None else row["difference"])
    test = seed_test(np.array(list(classes.values())))
    assert comparison.overall.mean == pytest.approx(np.mean([np.nanmean(own) for own in classes.values()]))
    assert (comparison.overall.low, comparison.overall.high) == pytest.approx(tuple(map(float, test.interval())))
    pareto = [row | {"number": number} for number in (4, 9) for row in rows]  # three configs with the default
    assert comparisons(pareto)[0].overall.low == pytest.approx(float(test.interval(0.05 / 3)[0]))


@pytest.mark.parametrize(
    ("gain", "word"),
    [(0.1, "beats the default"), (0.0, "does not beat the default"), (-0.1, "is worse than the default")],
)
def test_the_conclusion_follows_the_interval(tmp_path, gain, word):
    fake = FakeSearch(20).confirm(gain=gain)
    (sentence,) = conclusions(read(tmp_path, fake))
    assert word in sentence and "9 pairs" in sentence and "20 configs tried" in sentence


def test_the_conclusion_names_what_is_missing_and_what_is_undecided(tmp_path):
    fake = FakeSearch(20).confirm()
    fake.confirmation[0]["image_auroc"] = None
    (sentence,) = conclusions(read(tmp_path, fake))
    assert "Undecided whether config" in sentence and "1 of 9 pairs" in sentence
    few = FakeSearch(20).confirm()
    few.confirmation = [row for row in few.confirmation if row["seed"] != few.confirmation[0]["seed"]]
    (sentence,) = conclusions(read(tmp_path, few))
    assert "Undecided whether config" in sentence and "2 fresh seeds for each class" in sentence


def test_the_default_as_best_is_not_compared_with_itself(tmp_path):
    fake = FakeSearch(5)
    fake.confirm(roles=[("best", 0), ("default", 0)])
    (sentence,) = conclusions(read(tmp_path, fake))
    assert "default config itself" in sentence


def test_enough_is_the_least_level_within_the_noise_of_the_best():
    def level(name, best, error=0.01):
        return {"level": name, "n": 3, "best": best, "best_std_error": error}

    levels = [level("1", 0.6), level("8", 0.88), level("64", 0.9), level("all", 0.89)]
    assert enough_text(levels, 1.0).startswith("8 is the least")  # 0.02 apart, noise reaches 1.96 * sqrt(2) * 0.01
    levels[1]["best"] = 0.87
    assert enough_text(levels, 1.0).startswith("The best config of every value before 64")
    assert "is unknown" in enough_text([level("1", 0.6, None), level("8", 0.9, None)], 1.0)
    assert enough_text([level("1", 0.6)], 1.0) == ""


def test_choices_stand_by_size_with_all_last():
    assert in_order(["all", 64, 8, "sgd", 1, 2]) == ["1", "2", "8", "64", "sgd", "all"]
    assert [plain(cell) for cell in ("8", "all", '{"a": 1}', 0.5, None)] == [8, "all", {"a": 1}, 0.5, None]
    mixed = plot_axis(LIMIT, [4, "all", None, 16], log=True, choices=None)
    assert mixed.choices == ("4", "16", "all")
    assert mixed.positions([16, None, "all"]).tolist()[0::2] == [1.0, 2.0] and np.isnan(mixed.positions([None])[0])


def test_a_logarithmic_axis_is_even_in_decades():
    axis = plot_axis(RATE, [1e-4, 1e-2, None], log=True, choices=None)
    assert axis.unit(axis.positions([1e-4, 1e-3, 1e-2])) == pytest.approx([0, 0.5, 1])
    assert [group.low for group in axis.intervals(axis.positions([1e-3]), 2)] == pytest.approx([1e-4, 1e-3])
    assert plot_axis(RATE, [0.0, 1.0], log=True, choices=None).log is False


def test_values_far_below_the_others_do_not_set_the_scale():
    values = np.array([*np.linspace(0.8, 0.9, 30), 0.01])
    assert shown_range(values, 1.0)[0] > 0.6 and out_of_range(values, 1.0).tolist() == [False] * 30 + [True]
    losses = np.array([*np.linspace(0.1, 0.2, 30), 1e6, np.nan])
    assert shown_range(losses, -1.0) == pytest.approx((0.1, shown_range(losses, -1.0)[1]))
    assert out_of_range(losses, -1.0).tolist() == [False] * 30 + [True, False]
    low, high = shown_range(np.array([0.5]), 1.0)
    assert low < 0.5 < high and metric_value_text(None) == metric_value_text(np.nan) == "n/a"


def test_values_of_several_metrics_come_from_their_list(tmp_path):
    fake = FakeSearch(10, metrics=("validation_image_auroc", "train_time_s"))
    search = read(tmp_path, fake)
    errors = [math.nan if row["values"] is None else fake.noise for row in fake.configs]
    assert search.errors(0) == pytest.approx(errors, nan_ok=True) and np.isnan(search.errors(1)).all()
    assert {row["value_std_error"] for row in optimization_rows(search) if row["metric"] == "train_time_s"} == {None}
    assert {row["best_std_error"] for row in level_rows(search) if row["metric"] == "train_time_s"} == {None}
    for index in (0, 1):
        expected = [math.nan if row["values"] is None else json.loads(row["values"])[index] for row in fake.configs]
        assert search.values(index) == pytest.approx(expected, nan_ok=True)

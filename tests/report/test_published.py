"""Published figures beside those of a run, from the experiment files that the project ships."""

from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.loading import dump_experiment, load_experiment
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.page.published_section import published_section
from fcdd_sweep.report.published import conclusion, other_settings, published_figures, published_rows
from fcdd_sweep.report.run_files import Run, Trial
from fcdd_sweep.results.comparison_schemas import PUBLISHED
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import table_from_rows

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"


def run_of(name, values, metric="image_auroc", overrides=()):
    """A run of a shipped experiment with these values, by class."""
    text = dump_experiment(load_experiment(EXPERIMENTS / f"{name}.yaml", list(overrides)))
    trials = tuple(
        Trial(
            {"config": "", "normal_class": normal_class, "seed": seed, "parameters": "{}"},
            TrialStatus.DONE,
            metrics={metric: float(value)},
        )
        for normal_class, seeds in values.items()
        for seed, value in enumerate(seeds)
    )
    return Run(Path("run"), trials, (), 0, ExperimentFile(text), {})


def by_class(rows, source="reproduction", metric="image_auroc"):
    return {row["normal_class"]: row for row in rows if (row["source"], row["metric"]) == (source, metric)}


def near(value, spread=0.0):
    """Three seeds whose mean is `value`."""
    return value + spread * np.array([-1.0, 0.0, 1.0])


def test_every_figure_names_its_source_precision_and_status_and_belongs_to_a_class_of_its_data_set():
    tables = published_figures()["tables"]
    for table in tables:
        assert table["source"] in published_figures()["sources"] and table["preset"] in PRESETS
        assert table["status"] in ("first-hand", "second-hand", "inferred") and table["note"] and table["protocol"]
        assert (table["resolution"] == "network input") == table["metric"].startswith("pixel")
        assert ("semi" in str(table["settings"]) or "mvtec_gt" in str(table["settings"])) == bool(table["leak"])
        printed = [*table["values"].values(), table["mean"]]
        assert all(0 < value <= 1 for value in printed)
        assert all(round(value, table["decimals"]) == value for value in table["values"].values())
        if table["dataset"] != "mvtec":
            assert set(table["values"]) <= set(DATA_SETS[table["dataset"]].classes)
        if table["values"]:  # the mean that is printed is that of the classes, within their rounding
            assert np.mean(list(table["values"].values())) == pytest.approx(
                table["mean"], abs=10.0 ** -table["decimals"]
            )
    found = {(t["dataset"], t["method"], t["source"], t["metric"]) for t in tables if t["method"] == "fcdd"}
    assert {("mvtec", "fcdd", "paper", "pixel_auroc"), ("cifar10", "fcdd", "reproduction", "image_auroc")} <= found


@pytest.mark.parametrize(
    "name", ["fmnist", "fmnist_emnist", "cifar10", "cifar10_ae", "cifar10_hsc", "mvtec", "mvtec_semi"]
)
def test_the_shipped_experiments_have_the_settings_of_a_published_table(name):
    tree = ExperimentFile(dump_experiment(load_experiment(EXPERIMENTS / f"{name}.yaml", []))).config_tree({})
    own = [
        t
        for t in published_figures()["tables"]
        if (t["dataset"], t["method"]) == (tree["dataset"]["name"], tree["method"])
    ]
    assert any(other_settings(tree, table) == {} for table in own)


def test_each_class_and_the_mean_have_a_verdict():
    figures = next(
        t for t in published_figures()["tables"] if t["source"] == "reproduction" and t["dataset"] == "cifar10"
    )
    values = {name: near(value) for name, value in figures["values"].items()}
    values["cat"] = near(figures["values"]["cat"] + 0.004, spread=0.003)
    values["dog"] = near(figures["values"]["dog"] - 0.02, spread=0.001)
    values["ship"] = near(figures["values"]["ship"])[:2]
    rows = published_rows(run_of("cifar10", values))
    assert table_from_rows(rows, PUBLISHED).num_rows == len(rows) == 22
    found = by_class(rows)
    assert found["bird"]["conclusion"] == "within rounding" and found["bird"]["other_settings"] == "{}"
    assert found["cat"]["conclusion"] == "within the spread of seeds"
    assert found["dog"]["conclusion"] == "off by -0.0200"
    assert (found["ship"]["conclusion"], found["ship"]["reason"]) == ("n/a", "too few seeds: 2, needs 3")
    mean = found[None]
    assert mean["published"] == figures["mean"] and mean["n"] == 2 and mean["reason"] == "too few seeds: 2, needs 3"
    paper = by_class(rows, "paper")["bird"]
    assert paper["conclusion"] == "n/a" and "second-hand" in paper["reason"] and paper["decimals"] == 2


def test_other_settings_are_named_and_give_no_verdict():
    values = {"bottle": near(0.97, 0.001)}
    rows = published_rows(run_of("mvtec", values, "pixel_auroc", ["training.epochs=3", "anomalies.limit=8"]))
    found = by_class(rows, "paper", "pixel_auroc")["bottle"]
    assert found["conclusion"] == "n/a" and found["published"] == 0.97
    assert "training.epochs 3 (published: 200)" in found["reason"] and "anomalies.limit 8" in found["reason"]
    assert None not in by_class(rows, "paper", "pixel_auroc")  # one class of 15 has no mean to set beside theirs
    assert by_class(published_rows(run_of("mvtec", values, "pixel_auroc")), "paper", "pixel_auroc")["bottle"][
        "conclusion"
    ] == ("within rounding")


def test_a_leak_of_the_source_is_named_and_gives_no_verdict():
    rows = published_rows(run_of("mvtec_semi", {"bottle": near(0.96)}, "pixel_auroc"))
    found = by_class(rows, "paper", "pixel_auroc")["bottle"]
    assert found["conclusion"] == "n/a" and "trained on in the test set" in found["reason"]
    assert found["published"] == 0.96 and found["other_settings"] == "{}"


def test_columns_at_another_resolution_are_never_set_beside_published_ones():
    rows = published_rows(run_of("mvtec", {"bottle": near(0.97)}, "pixel_auroc_full"))
    assert {row["metric"] for row in rows} == {"image_auroc", "pixel_auroc"} and all(row["n"] == 0 for row in rows)


def test_imagenet_has_published_means_only_and_other_data_sets_nothing():
    rows = published_rows(run_of("imagenet", {f"c{i}": near(0.9) for i in range(30)}))
    assert [(row["normal_class"], row["published"], row["n"]) for row in rows] == [(None, 0.94, 3)]
    assert "no published per-class figures at hand" in rows[0]["note"]
    assert published_rows(run_of("digits", {"3": near(0.9)})) == []
    assert published_section([]) == ""


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (0.915, 0.0, "within rounding"),
        (0.9249, 0.0, "within rounding"),
        (0.9251, 0.0, "off by +0.005"),
        (0.9251, 0.001, "within the spread of seeds"),
        (0.93, 0.002, "off by +0.010"),
    ],
)
def test_half_a_unit_of_the_last_digit_means_nothing(mean, std, said):
    table = {"status": "first-hand", "leak": None, "decimals": 2}
    ours = Summary(mean, std, 5, np.nan, np.nan)
    assert conclusion(ours, 0.92, table, {})[0] == said
    assert conclusion(summarize([mean]), 0.92, table, {}) == ("n/a", "too few seeds: 1, needs 3")


def test_the_page_has_a_row_for_each_class_with_printed_precision_and_reasons_once():
    values = {"airplane": near(0.95, 0.002), "bird": near(0.9143)}
    page = published_section(published_rows(run_of("cifar10", values)))
    cells = [
        "<td>airplane</td>",
        *(f'<td class="num">{text}</td>' for text in ("0.95*", "0.9477", "0.950 ± 0.002 (n=3)")),
    ]
    assert "\n".join(cells) in page and page.count("the published figure is second-hand") == 1
    assert "Bertoldo and Decencière" in page and "within the spread of seeds</td>" in page

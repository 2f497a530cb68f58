"""A run's report from its files alone, on fake runs whose figures are known."""

from __future__ import annotations

import math
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.names import slug
from fcdd_sweep.report import summaries
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import schemas
from fcdd_sweep.results.comparison_schemas import COMPARISONS
from fcdd_sweep.results.files import read_table, write_text
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests.fakes import FakeRun, csv_rows, key, small_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    path = small_run(tmp_path_factory.mktemp("runs") / "walls").write()
    page = aggregate(path)
    return path, page.read_text()


def test_every_file_of_the_report_is_there(reported):
    path, _ = reported
    root = ["trials.parquet", "summary.csv", "summary.md", "defects.csv", "roc.pdf", "pixel_roc.pdf", "report.html"]
    leaves = [f"normal_{name}/{file}" for name in ("brick", slug("metal nut")) for file in ("roc.pdf", "heatmaps.png")]
    assert [name for name in root + leaves if not (path / name).is_file()] == []


def test_one_config_is_compared_with_nothing_and_its_table_has_all_columns(reported):
    path, page = reported
    assert "One config: nothing to compare." in page and "One config: nothing" in (path / "summary.md").read_text()
    table = read_table(RunPaths(path).comparisons)
    assert table.schema.equals(COMPARISONS, check_metadata=True) and table.num_rows == 0


def test_summary_has_the_known_figures(reported):
    brick, nut, mean = csv_rows(reported[0] / "summary.csv")
    assert float(brick["image_auroc_mean"]) == pytest.approx(0.95)
    assert float(brick["image_auroc_std"]) == pytest.approx(0.05)
    assert float(brick["image_auroc_low"]) == pytest.approx(0.95 - 4.302653 * 0.05 / math.sqrt(3), abs=1e-6)
    assert (nut["planned"], nut["done"], nut["failed"], nut["missing"]) == ("3", "2", "1", "0")
    assert float(nut["image_auroc_mean"]) == pytest.approx(0.775)
    assert mean["level"] == "mean over classes"
    assert float(mean["image_auroc_mean"]) == pytest.approx((0.95 + 0.775) / 2)
    assert (mean["image_auroc_n"], mean["image_auroc_classes"]) == ("2", "2")


def test_spread_over_classes_is_that_of_whole_seeds(reported):
    run = read_run(reported[0])
    found = summaries.mean_row(run, "").metrics["image_auroc"]
    seeds = [(1.0 + 0.8) / 2, (0.95 + 0.75) / 2]
    assert found.std == pytest.approx(np.std(seeds, ddof=1))


def test_trials_have_a_row_for_every_planned_trial(reported):
    table = read_table(RunPaths(reported[0]).trials)
    assert table.schema.equals(schemas.trials_schema({}), check_metadata=True)
    rows = table.to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 5 + ["failed"]
    assert rows[5]["image_auroc"] is None and rows[5]["error"] == "RuntimeError: out of <memory>"
    assert [row["image_auroc"] for row in rows[:3]] == pytest.approx([1, 0.95, 0.9])


def test_defects_are_averaged_over_seeds(reported):
    rows = csv_rows(reported[0] / "defects.csv")
    found = {(row["normal_class"], row["defect"]): row for row in rows}
    assert set(found) == {(name, defect) for name in ("brick", "metal nut") for defect in ("hole", "stain")}
    stain = found["brick", "stain"]
    assert float(stain["image_auroc_mean"]) == pytest.approx(np.mean([1, 0.9, 0.9])) and stain["images"] == "10"


def test_the_page_says_what_is_missing_and_why(reported):
    _, page = reported
    assert "class &#x27;metal nut&#x27; has 2 of 3 seeds (1 failed)" in page
    assert "RuntimeError: out of &lt;memory&gt;" in page and "out of <memory>" not in page
    assert "metal nut, seed 2" in page
    assert "2 independent regions stand behind the walls." in page
    assert "FCDD_CNN28" in page and "0.950 ± 0.050" in page


class Structure(HTMLParser):
    """Open tags, addresses, and the number of cells in each row of each table."""

    EMPTY = ("meta", "img")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.addresses, self.rows = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "table":
            self.rows.append([])
        if tag == "tr":
            self.rows[-1].append(0)
        if tag in ("td", "th"):
            self.rows[-1][-1] += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(reported):
    path, page = reported
    structure = Structure(page)
    assert structure.open == [] and structure.tags.count("script") == 1 and "link" not in structure.tags
    assert all(len(set(rows)) == 1 for rows in structure.rows) and len(structure.rows) >= 4
    assert "@import" not in page and "url(" not in page
    own = [address for address in structure.addresses if not address.startswith(("data:", "#"))]
    assert all((path / address).is_file() for address in own)
    # a small picture for each class and for the hardest; for each class two ROC plots, scores and loss, and over all
    # classes two ROC plots and the intervals
    assert sum(address.startswith("data:image/jpeg") for address in structure.addresses) == 3
    assert structure.tags.count("svg") == 2 * 4 + 3


def test_the_same_files_give_the_same_report(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0).finish("", "brick", 1).write()
    names = ("report.html", "roc.pdf", "summary.md", "trials.parquet", "normal_brick/heatmaps.png")
    aggregate(path)
    first = [(path / name).read_bytes() for name in names]
    aggregate(path)
    assert [(path / name).read_bytes() for name in names] == first


def test_a_run_without_a_finished_trial_says_so(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).fail("", "brick", 0).write()
    page = aggregate(path).read_text()
    assert (
        "No trial has finished yet" in page and "class &#x27;brick&#x27; has 0 of 2 seeds (1 failed, 1 missing)" in page
    )
    assert not (path / "roc.pdf").exists()
    assert "n/a" in (path / "summary.md").read_text()


def test_pictures_of_trials_that_are_gone_go_too(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0)
    path = run.write()
    aggregate(path)
    TrialPaths(path / "normal_brick/it_0").metrics.unlink()
    aggregate(path)
    assert [name for name in ("roc.pdf", "pixel_roc.pdf", "normal_brick/heatmaps.png") if (path / name).exists()] == []


def test_one_seed_has_no_interval(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [7]).finish("", "brick", 7, wrong=1).write()
    page = aggregate(path).read_text()
    (row,) = csv_rows(path / "summary.csv")
    assert (row["image_auroc_n"], row["image_auroc_std"], row["image_auroc_low"]) == ("1", "", "")
    assert "<span>0.950</span>" in page and "Image AUROC of brick: 0.950 over 1 seed, too few for an interval." in page
    assert "0.950 (n=1)" in (path / "summary.md").read_text()


def test_a_class_without_anomalies_is_undefined_and_named(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick", "clean"], [0, 1])
    for seed in (0, 1):
        run.finish("", "brick", seed, wrong=1).finish("", "clean", seed, anomalous=0)
    path = run.write()
    page = aggregate(path).read_text()
    text = (path / "summary.md").read_text()
    assert "| clean | 2 | 2 | 0 | 0 | n/a |" in text and "mean over 1 of 2 classes" in text
    assert csv_rows(path / "summary.csv")[1]["image_auroc_mean"] == ""
    assert "mean over 1 of 2 classes" in page
    assert (path / "normal_clean/heatmaps.png").is_file() and not (path / "normal_clean/roc.pdf").exists()


def test_data_without_maps_has_no_pixel_columns(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0, with_maps=False).write()
    aggregate(path)
    assert "pixel" not in (path / "summary.md").read_text()
    assert not (path / "pixel_roc.pdf").exists()


CONFIGS = {
    "rate-0.1_limit-8": {"training.learning_rate": 0.1, "anomalies.limit": 8, "network.bias": True},
    "rate-1_limit-all": {"training.learning_rate": 1, "anomalies.limit": "all", "network.bias": False},
}


def test_configs_have_their_own_folders_and_are_compared(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick", "tile"], [0], CONFIGS)
    for wrong, config in enumerate(CONFIGS):
        run.finish(config, "brick", 0, wrong=wrong).finish(config, "tile", 0, wrong=wrong)
    path = run.write()
    page = aggregate(path).read_text()
    for config in CONFIGS:
        assert (path / config / "roc.pdf").is_file() and (path / config / "normal_tile/roc.pdf").is_file()
    assert (path / "roc.pdf").is_file() and "Configs compared" in page
    table = read_table(RunPaths(path).trials)
    kinds = {name: table.schema.field(f"param.{name}").type for name in CONFIGS["rate-1_limit-all"]}
    expected = {"training.learning_rate": pa.float64(), "anomalies.limit": pa.string(), "network.bias": pa.bool_()}
    assert kinds == expected
    assert table["param.anomalies.limit"].to_pylist() == ["8", "8", "all", "all"]
    means = [row["image_auroc_mean"] for row in csv_rows(path / "summary.csv") if row["level"] != "class"]
    assert [float(mean) for mean in means] == pytest.approx([1.0, 0.95])
    assert "too few seeds to decide: 1, needs 3" in page
    compared = read_table(RunPaths(path).comparisons).to_pylist()
    assert {row["metric"] for row in compared} == {"image_auroc", "image_ap", "pixel_auroc", "pixel_ap"}
    assert {(row["first"], row["second"]) for row in compared if row["test"] == "delong"} == {tuple(CONFIGS)}


def test_status_counts_the_leaves_that_are_there_and_names_failures_with_their_config(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1], configs={"a": {"x": 1}, "b": {"x": 2}})
    run.finish("a", "brick", 0).finish("a", "brick", 1).fail("b", "brick", 1)
    path = run.write()
    TrialPaths(path / "a/normal_brick/it_1").metrics.unlink()
    lines = status_text(path).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["a", "brick", "2", "1", "0", "1"],
        ["b", "brick", "2", "0", "1", "1"],
        ["all", "4", "1", "1", "2"],
    ]
    text = "failed: config b, class brick, seed 1: RuntimeError: out of <memory>"
    assert lines[4] == f"{text} (no traceback, see failures.parquet)"
    error = RunPaths(path).attempts_dir(key("b", "brick", 1)["trial_id"]) / "2" / "error.txt"
    write_text(error, "Traceback")
    assert status_text(path).splitlines()[4] == f"{text} ({error})"


@pytest.mark.parametrize("name", ["report.html", "summary.csv", "roc.pdf", "normal_brick/heatmaps.png"])
def test_an_output_that_cannot_be_written_is_named(tmp_path, name):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    (path / name).mkdir()
    (path / name / "something").write_text("")
    with pytest.raises(InputError, match=f"r/{name}: cannot write the report .*directory.*Move away"):
        aggregate(path)
    assert not [file for file in path.rglob(".*-*") if file.is_file()]


def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(
        InputError, match=r"is not a run directory: plan.parquet cannot be read .*plan.parquet is missing"
    ):
        aggregate(tmp_path)


def test_a_run_without_its_plan_is_a_run_whose_sweep_writes_it_again(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    RunPaths(path).plan.unlink()
    with pytest.raises(InputError, match=r"plan cannot be read: plan.parquet is missing. Rerun the sweep's command"):
        aggregate(path)


def test_names_with_bars_stay_in_their_table_cells(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["a|b"], [0]).finish("", "a|b", 0).write()
    aggregate(path)
    assert "| a\\|b |" in (path / "summary.md").read_text()


def test_everything_is_drawn_again_where_torch_and_ray_cannot_be_imported(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'ray', 'optuna'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from fcdd_sweep.report.aggregate import aggregate\n"
        f"print(aggregate(Path({str(path)!r}), redraw=True))\n"
        "from fcdd_sweep.metrics import curves, heatmap_values, ranking, shown_images, statistics\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(path / "report.html")
    assert (path / "normal_brick/it_0/heatmaps_global.png").is_file()
    assert 'href="normal_brick/it_0/heatmaps_global.png"' in (path / "report.html").read_text()

"""Large runs: what must not grow with their size, and what a page leaves out."""

import itertools
import re

import pytest

from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.config_ranks import ranked_configs
from fcdd_sweep.report.figures import run_figures
from fcdd_sweep.report.page import run_page as pages
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep import ledger as ledgers
from fcdd_sweep.sweep.ledger import Ledger
from tests.fakes import EXPERIMENT, FakeRun
from tests.specs import spec

CONFIGS = {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


@pytest.fixture
def run_dir(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick", "tile"], [0], CONFIGS)
    for config in CONFIGS:
        run.finish(config, "brick", 0, wrong=1, size=32).finish(config, "tile", 0)
    return run.write()


@pytest.mark.slow
@pytest.mark.figures
def test_pictures_are_those_of_the_best_configs_and_tables_those_of_all(run_dir, monkeypatch):
    (run_dir / "c" / "normal_brick" / "heatmaps.png").write_bytes(b"drawn when the run had fewer configs")
    monkeypatch.setattr(run_figures, "MOST_CLASSES", 5)
    RunPaths(run_dir).experiment.write_text(EXPERIMENT + "keep: {pictures: none}\n")
    html = aggregate(run_dir).read_text()
    assert "best 2 of 3 configs" in html
    assert set(re.findall(r'href="#(config-[^"]+)"', html)) == set(re.findall(r'id="(config-[^"]+)"', html)) != set()
    assert (run_dir / "b" / "normal_tile" / "roc.pdf").is_file()
    assert [path for path in (run_dir / "c").rglob("*.pdf") if "it_" not in path.as_posix()] == []
    assert not (run_dir / "c" / "normal_brick" / "heatmaps.png").exists()
    assert '"c","class","brick",' in (run_dir / "summary.csv").read_text()
    assert files.read_table(RunPaths(run_dir).trials)["status"].to_pylist() == ["done"] * 6


def test_one_config_is_drawn_however_many_classes_it_has(run_dir, monkeypatch):
    monkeypatch.setattr(run_figures, "MOST_CLASSES", 1)
    run = read_run(run_dir)
    assert run_figures.drawn_configs(run, ranked_configs(run)) == ["a"]


def test_a_page_lists_the_first_of_very_many_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "_MOST_LISTED", 2)
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1, 2, 3, 4])
    for seed in range(5):
        run.fail("", "brick", seed, error=f"ValueError: number {seed}")
    html = aggregate(run.write()).read_text()
    assert "number 1" in html and "number 2" not in html and f"And 3 more, see {tree.FAILURES}" in html


def test_groups_of_a_run_are_those_of_its_plan(run_dir):
    run = read_run(run_dir)
    assert run.configs == list(CONFIGS) and run.classes("b") == ["brick", "tile"] and run.classes("none") == []
    assert [trial.normal_class for trial in run.of("c")] == ["brick", "tile"]
    assert [trial.config for trial in run.of("c", "tile")] == ["c"] and run.of("none") == [] == run.of("c", "none")
    assert "image_roc" in run.of("c", "tile")[0].curves


def test_the_index_is_written_more_seldom_the_longer_it_takes(tmp_path, monkeypatch):
    now, writes = [100.0], []
    monkeypatch.setattr(ledgers.time, "monotonic", lambda: now[0])

    def write(*args):
        writes.append(now[0])
        now[0] += 0.5

    monkeypatch.setattr(ledgers.files, "write_rows", write)
    ledger = Ledger(tmp_path)
    for seed in range(40):
        now[0] += 1.0
        ledger.fail(spec(seed=seed), TrialResult(spec(seed=seed).trial_id, "failed", 1, "x"))
    gaps = [after - before - 0.5 for before, after in itertools.pairwise(writes)]
    assert len(writes) == 4 and min(gaps) >= 0.5 / ledgers._SAVE_SHARE

"""Figures of classes, configs and the run: which are drawn again when something changes."""

from __future__ import annotations

import pytest

from fcdd_sweep.report.config_ranks import ranked_configs
from fcdd_sweep.report.figures.figure_cache import FigureCache
from fcdd_sweep.report.figures.run_figures import draw_run
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results.files import read_arrays, write_arrays
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests.fakes import EXPERIMENT, FakeRun

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path):
    """A run of two configs with two classes each."""
    run = FakeRun(tmp_path / "r").plan(["brick", "wood"], [0], {"a": {"seeds": 1}, "b": {"seeds": 2}})
    for config in "ab":
        for number, name in enumerate(("brick", "wood")):
            run.finish(config, name, 0, wrong=number + (config == "b"))
    return run.write()


def drawn(path, **options):
    """Names of the figures that were drawn now, below the run, and the figures as the page gets them."""
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.suffix in (".pdf", ".png")}
    run = read_run(path)
    figures = draw_run(run, ranked_configs(run), **options)
    after = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.suffix in (".pdf", ".png")}
    changed = {file.relative_to(path).as_posix() for file, ns in after.items() if before.get(file) != ns}
    return changed, figures


def of_class(config, name):
    return {f"{config}/normal_{name}/{file}" for file in ("roc.pdf", "heatmaps.png")}


def of_config(config):
    return {f"{config}/roc.pdf", f"{config}/pixel_roc.pdf"}


def test_only_figures_whose_inputs_have_changed_are_drawn_again(path):
    run_figures = {"roc.pdf", "pixel_roc.pdf"}
    classes = {file for config in "ab" for name in ("brick", "wood") for file in of_class(config, name)}
    everything = run_figures | of_config("a") | of_config("b") | classes
    changed, figures = drawn(path)
    assert changed == everything and len(figures.sheets) == 4
    changed, again = drawn(path)
    assert changed == set() and again == figures
    maps = TrialPaths(path / "b/normal_wood/it_0").maps
    arrays = read_arrays(maps)
    write_arrays(maps, arrays | {"images": 255 - arrays["images"]})
    changed, again = drawn(path)
    assert changed == run_figures | of_config("b") | of_class("b", "wood")
    differing = {key for key, sheet in again.sheets.items() if sheet != figures.sheets[key]}
    assert differing == {("b", "wood")}
    (path / "a/normal_brick/heatmaps.png").unlink()
    assert drawn(path)[0] == of_class("a", "brick")


def test_another_style_or_a_damaged_record_counts_as_not_drawn(path):
    run = read_run(path)
    key = FigureCache(run).key(run.trials)
    cache = FigureCache(run)
    cache.drawn("a", key, [TrialPaths(path / "a/normal_wood/it_0").maps])
    cache.write()
    assert FigureCache(run).is_drawn("a", key) and not FigureCache(run, anew=True).is_drawn("a", key)
    RunPaths(path).experiment.write_text(EXPERIMENT + "report: {style: paper}\n")
    assert FigureCache(read_run(path)).key(run.trials) != key
    RunPaths(path).figure_state.write_text("{damaged")
    assert not FigureCache(run).is_drawn("a", key)


def test_what_could_not_be_read_is_tried_again(path):
    maps = TrialPaths(path / "a/normal_wood/it_0").maps
    kept = maps.read_bytes()
    maps.write_bytes(kept[:100])
    assert len(drawn(path)[1].problems) == 1 and len(drawn(path)[1].problems) == 1
    maps.write_bytes(kept)
    changed, figures = drawn(path)
    assert of_class("a", "wood") <= changed and figures.problems == () and len(figures.sheets) == 4

"""The report of a search: pictures, tables, and what its page says, on searches whose figures are known."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.run_files import Run, read_run
from fcdd_sweep.report.search.confirmation import draw_confirmation
from fcdd_sweep.report.search.figures import draw_search, pruning_text
from fcdd_sweep.report.search.numbers import LIMIT, level_rows
from fcdd_sweep.report.search.page import search_section
from fcdd_sweep.report.search.parallel import draw_parallel
from fcdd_sweep.report.search.plots import draw_importance, draw_levels, draw_optimization, draw_pruning, draw_slices
from fcdd_sweep.report.search.record import read_search, reported
from fcdd_sweep.report.search.two_way import draw_pair, draw_pareto, pair_of
from fcdd_sweep.results import files, search_schemas, tree
from fcdd_sweep.results.documents import ConfigState, SearchAmounts
from fcdd_sweep.results.tree import RunPaths, SearchPaths
from tests.fake_search import FakeSearch, searched_run
from tests.fakes import FakeRun
from tests.report.test_aggregate import Structure

pytestmark = pytest.mark.slow

ALL = ("confirmation", "course", "importance", "pruning", "levels", "pair", "slices", "parallel")


def read(path, fake):
    fake.write(path)
    return read_search(Run(path, (), (), 0, ExperimentFile(fake.experiment), {}))


@pytest.fixture(scope="module")
def aggregated(tmp_path_factory):
    """A search of 20 configs, confirmed on one class and three seeds, and its page."""
    fake = FakeSearch(20).confirm(classes=["bottle"]).prune_curves().weigh()
    path = searched_run(tmp_path_factory.mktemp("runs") / "hunt", fake)
    return path, aggregate(path).read_text(), fake


def test_every_picture_and_table_is_there(aggregated):
    path, _, _ = aggregated
    folder = RunPaths(path).search.root
    for name in ALL:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 300 and np.ptp(np.asarray(picture.convert("L"))) > 100
    for name, schema in (
        (tree.OPTIMIZATION, search_schemas.OPTIMIZATION),
        (tree.LEVELS, search_schemas.LEVELS),
        (tree.CELLS, search_schemas.CELLS),
        (tree.DIFFERENCES, search_schemas.DIFFERENCES),
    ):
        table = files.read_table(folder / name)
        assert table.schema.equals(schema, check_metadata=True) and table.num_rows > 0


def test_the_page_has_a_section_of_the_search_and_is_whole(aggregated):
    _, page, fake = aggregated
    structure = Structure(page)
    assert structure.open == [] and all(len(set(rows)) == 1 for rows in structure.rows)
    section = page[page.index('id="search"') : page.index('id="configs"')]
    assert section.count("data:image/svg") == len(ALL)
    assert f"Config {fake.best} beats the default on the test set" in section or "does not beat" in section
    assert "The interval of a class is Student&#x27;s t over its seeds." in section and "over the pairs" not in section
    assert "Given up early: 3 configs. Epochs: 360 saved (9% of all), 3,600 trained." in section
    assert "20 configs (budget 20), 120 trials, 42:36 of searching (budget 2:00:00)" in section
    assert "not set" in section


def test_settings_have_the_seeds_and_the_validation_of_the_trials(aggregated):
    _, page, _ = aggregated
    settings = page[page.index('id="settings"') :]
    assert "<td>seeds</td>\n<td><code>0, 1; confirmation: 100, 101, 102</code></td>" in settings
    assert "<td>validation</td>\n<td><code>nominal_fraction 0.2, anomalies confetti</code></td>" in settings


def test_figures_of_the_test_set_come_from_the_confirmation_alone(aggregated):
    path, page, _ = aggregated
    run = read_run(path)
    shown = reported(run, read_search(run))
    assert {trial.seed for trial in shown.trials} == {100, 101, 102} and len(shown.trials) == 6
    assert len(run.trials) > len(shown.trials)
    text = (path / "summary.md").read_text()
    assert "6 planned, 6 done" in text and "fresh seeds; trials that evaluated configs are excluded" in text
    assert files.read_table(RunPaths(path).trials).num_rows == len(run.trials)
    assert page.count('id="config-') == 2  # of the best and of the default


def test_what_no_longer_applies_is_removed(tmp_path):
    fake = FakeSearch(1)
    folder = fake.write(tmp_path)
    for name in ("confirmation.pdf", "pruning.png", "levels-2.pdf"):
        (folder / name).write_bytes(b"of an earlier state")
    drawn = draw_search(read(tmp_path, fake))
    assert {picture.name for picture in drawn} == {"course"}
    assert {path.stem for path in folder.iterdir() if path.suffix in (".pdf", ".png")} == {p.name for p in drawn}


def test_a_run_without_a_search_has_no_trace_of_one(tmp_path):
    path = FakeRun(tmp_path / "plain").plan(["brick"], [0]).finish("", "brick", 0).write()
    assert 'id="search"' not in aggregate(path).read_text() and not (RunPaths(path).search.root).exists()


def texts(figure):
    """Every text of a figure, in all its plots and legends."""
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(filter(None, found))


def with_states(states):
    fake = FakeSearch(len(states), shares=(0, 0))
    for row, state in zip(fake.configs, states, strict=True):
        row["state"] = state
        if state != "done":
            row.update(value=None, value_std_error=None, finished=None)
    return fake


def test_states_of_all_kinds_are_shown(tmp_path):
    search = read(tmp_path, with_states([*ConfigState, "done", "done"]))
    shown = texts(draw_optimization(search))
    section = search_section(search, ())
    for state in set(ConfigState) - {ConfigState.DONE}:
        assert state in shown and f"<td>{state}</td>" in section
    assert "3 done, 1 failed, 1 incomplete, 1 pruned, 1 running" in section


def test_a_search_in_which_all_failed_has_no_numbers(tmp_path):
    fake = with_states(["failed"] * 6)
    search = read(tmp_path, fake)
    (picture,) = draw_search(search)
    assert picture.name == "course" and "no config has a value: 6 failed" in texts(draw_optimization(search))
    for row in files.read_table(SearchPaths(search.path).optimization).to_pylist():
        assert row["value"] is row["best"] is row["best_number"] is None
    for row in files.read_table(SearchPaths(search.path).levels).to_pylist():
        assert row["n"] == 0 and row["best"] is row["median"] is row["low"] is None
    section = search_section(search, (picture,))
    rows = re.findall(r"<tr><td>\d[^<]*</td>\s*<td>failed</td>\s*<td class=\"num\">([^<]*)</td>", section)
    assert rows == ["n/a"] * 6


def test_a_search_of_one_config_draws_its_course_alone(tmp_path):
    search = read(tmp_path, FakeSearch(1))
    assert [picture.name for picture in draw_search(search)] == ["course"]
    assert "No config is confirmed yet" in search_section(search, ())


def test_a_search_without_configs_is_reported(tmp_path):
    fake = FakeSearch(1)
    fake.configs = []
    search = read(tmp_path, fake)
    assert draw_search(search) == () and "No config was suggested yet" in search_section(search, ())


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    fake = FakeSearch(20, metrics=("oracle/image_auroc",)).confirm().prune_curves().weigh()
    return read(tmp_path_factory.mktemp("oracle"), fake)


def test_a_metric_of_the_test_set_is_marked_in_every_title_and_table(oracle):
    levels = [row for row in level_rows(oracle) if row["key"] == LIMIT]
    figures = [
        draw_optimization(oracle),
        draw_importance(oracle),
        draw_levels(levels, oracle.metrics[0]),
        draw_pair(oracle, 0, pair_of(oracle, 0)),
        draw_slices(oracle, 0),
        draw_parallel(oracle, 0),
        draw_pruning(oracle),
        draw_confirmation(oracle),
    ]
    for figure in figures:
        assert "oracle: selected on the test set" in texts(figure)
    section = search_section(oracle, ())
    head = section[section.index("<th>config</th>") :]
    assert "oracle: selected on the test set" in head[: head.index("</thead>")]
    assert "Oracle: configs were selected on the test set" in section


def test_words_on_colors_hold_in_the_page_s_dark_mode_which_inverts_plots(tmp_path):
    search = read(tmp_path, FakeSearch(80).over_ranges())
    words = [texts(draw_parallel(search, 0)), *(picture.caption for picture in draw_search(search))]
    assert "others: the better, the stronger" in words[0] and "Blank: no config is near." in "".join(words)
    assert not re.search("(?i)dark|light|white|black", "".join(words))


def test_an_honest_metric_is_not_marked(tmp_path):
    search = read(tmp_path, FakeSearch(8).confirm())
    assert "oracle" not in texts(draw_optimization(search)) + search_section(search, ())


def test_a_pareto_set_is_drawn_joined_and_described(tmp_path):
    fake = FakeSearch(30, metrics=("validation_image_auroc", "train_time_s"))
    fake.confirm(roles=[("pareto", 3), ("pareto", 7), ("default", 0)])
    search = read(tmp_path, fake)
    shown = texts(draw_pareto(search))
    assert "higher is better" in shown and "lower is better" in shown
    assert "config 3 (n=9)" in texts(draw_confirmation(search)) and "config 7 (n=9)" in texts(draw_confirmation(search))
    section = search_section(search, ())
    assert section.count(" ± 0.008") == 10 + search.states.count("done")  # the best and all; no time has one
    assert "standard error 0.008 of validation image AUROC (median over configs)" in section
    assert section.count("on the test set: image AUROC") == 2
    reported = re.search(r"Pareto set: ([\d, ]+)<", section).group(1)
    values = {row["number"]: json.loads(row["values"]) for row in fake.configs if row["values"]}
    for number in map(int, reported.split(", ")):
        auroc, seconds = values[number]
        assert not any(a > auroc and s < seconds for a, s in values.values())


def test_a_class_without_figures_is_n_a_and_not_zero(tmp_path):
    fake = FakeSearch(12).confirm()
    for row in fake.confirmation:
        if row["normal_class"] == "cable":
            row["image_auroc"] = None
    figure = draw_confirmation(read(tmp_path, fake))
    assert texts(figure).count("n/a") == 2  # in both plots
    left = figure.axes[0]
    assert all(np.min(line.get_xdata()) > 0.5 for line in left.lines if line.get_marker() == "D")


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        (tree.SEARCH_CONFIGS, "configs.parquet cannot be read"),
        (tree.IMPORTANCE, "importance.parquet cannot be read"),
        (tree.CONFIRMATION, "confirmation.parquet cannot be read"),
        (tree.SEARCH_SUMMARY, "search.json cannot be read"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_reported(tmp_path, name, reported):
    fake = FakeSearch(6).confirm().weigh()
    (fake.write(tmp_path) / name).write_text("{ damaged")
    search = read_search(Run(tmp_path, (), (), 0, ExperimentFile(fake.experiment), {}))
    assert len(search.problems) == 1 and reported in search.problems[0]
    assert "<h2>Search</h2>" in search_section(search, ())
    assert (draw_confirmation(search) is None) == (name == tree.CONFIRMATION)


def test_a_lost_summary_is_made_up_for_by_the_experiment_file(tmp_path):
    fake = FakeSearch(6)
    fake.experiment += "  metric: oracle/image_ap\n"
    SearchPaths(fake.write(tmp_path)).summary.unlink()
    search = read_search(Run(tmp_path, (), (), 0, ExperimentFile(fake.experiment), {}))
    assert search.metrics == ["oracle/image_ap"] and search.summary.oracle and search.sign.tolist() == [1.0]
    assert [axis.key for axis in search.axes] == list(fake.kinds)


def test_the_same_files_give_the_same_pictures(tmp_path):
    fake = FakeSearch(1)
    names = ("course.pdf", "course.png", tree.CELLS)
    made = []
    for name in ("a", "b"):
        fake.write(tmp_path / name)
        search = read_search(Run(tmp_path / name, (), (), 0, ExperimentFile(fake.experiment), {}))
        drawn = draw_search(search)
        made.append(([(search.path / each).read_bytes() for each in names], [picture.address for picture in drawn]))
    assert made[0] == made[1]


def test_one_of_a_kind_is_counted_as_one(tmp_path):
    fake = FakeSearch(2, shares=(1, 0)).confirm(roles=[("best", 0), ("default", 0)])
    search = read(tmp_path, fake)
    assert pruning_text(search).startswith("Given up early: 1 config.")
    amounts = {"tried": 1, "spent": SearchAmounts(trials=1), "budget": SearchAmounts(trials=3)}
    section = search_section(replace(search, summary=search.summary.model_copy(update=amounts)), ())
    assert "The best of 1 config is the default config itself" in section and "1 trial (budget 3)" in section

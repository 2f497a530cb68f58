"""What the report's page holds, and its size."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.figures import run_figures
from tests.fakes import FakeRun

pytestmark = pytest.mark.slow
CONFIGS = {
    f"rate-{rate}": {"training.learning_rate": rate, "anomalies.limit": 8} for rate in (0.1, 0.03, 0.01, 0.003, 1)
}


class Page(HTMLParser):
    """Ids, links within the page, and the text of all cells by row."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.rows, self.alts = [], [], [], []
        self._in_title = False
        self.feed(text)
        self.rows = [[cell.strip() for cell in row] for row in self.rows]

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"][1:]] if given.get("href", "").startswith("#") else []
        self.alts += [given["alt"]] if tag == "img" and "alt" in given else []
        self._in_title = tag == "title"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self._in_title:
            self.alts.append(data)
            self._in_title = False
        elif self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def made_grid(folder, classes):
    """The page of five configs and some classes of one seed; the configs differ on the first class alone."""
    names = [str(i) for i in range(classes)]
    run = FakeRun(folder / "grid").plan(names, [0], CONFIGS)
    first, *others = CONFIGS
    for name in names:
        run.finish(first, name, 0, wrong=int(name) % 3, threshold=0.45, others=[n for n in names if n != name])
    for wrong, config in enumerate(others, 3):
        run.finish(config, "0", 0, wrong=wrong)
        for name in names[1:]:
            run.link(first, config, name, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_figures, "save", lambda figure, path: path)  # files that the page only links
        patch.setattr(run_figures, "save_picture", lambda picture, path: path)
        return aggregate(run.write()).read_text()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return made_grid(tmp_path_factory.mktemp("runs"), 4)


@pytest.mark.long
def test_five_configs_and_ten_classes_are_a_page_of_less_than_two_and_a_half_megabytes(tmp_path):
    grid = made_grid(tmp_path, 10)
    assert len(grid.encode()) < 2.5e6 and grid.count("data:image/jpeg") == 51


def test_there_is_a_picture_of_each_class_of_each_config_and_the_hardest_on_top(grid):
    assert grid.count("data:image/jpeg") == 5 * 4 + 1
    assert "Too few seeds for an interval: 3 needed." in grid and "95% intervals over seeds" not in grid


def test_links_of_the_page_find_their_section_and_ids_are_unique(grid):
    page = Page(grid)
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.links) <= set(page.ids) and {"top", "configs", "by-class", "settings"} <= set(page.links)


def test_configs_are_columns_of_their_values_the_best_first_and_not_bold_with_one_seed(grid):
    page = Page(grid)
    head = next(row for row in page.rows if row and row[0] == "rank")
    assert head[1].startswith("image AUROC") and head[2] == "learning rate" and "limit" not in head
    body = [row for row in page.rows if len(row) == len(head) and row[0].isdigit()]
    means = [float(row[1][:5]) for row in body]
    assert means == sorted(means, reverse=True) and [row[2] for row in body] == ["0.1", "0.03", "0.01", "0.003", "1"]
    table = grid[grid.index('id="configs"') : grid.index('id="by-class"')]
    assert "<b>" not in table


def test_classes_are_named_and_pictures_described_with_config_and_figures(grid):
    page = Page(grid)
    assert "class 0" in {row[0] for row in page.rows if row} and not {"0", "mean 0"} & {r[0] for r in page.rows if r}
    assert all(page.alts) and any(re.search(r"learning rate 0.1, .*class 3.*nominal 0\.", alt) for alt in page.alts)
    assert any("scores of 50 test images" in alt and "mean 0.3" in alt for alt in page.alts)


def test_the_base_rate_is_beside_average_precision_and_classes_are_folded(grid):
    assert grid.count("chance 0.400") >= 4
    assert "<summary><b>class 0</b>" in grid and "<details open" not in grid


def test_trials_without_figures_are_named_on_one_line_of_their_class(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1])
    page = aggregate(run.finish("", "brick", 0).finish("", "brick", 1).write()).read_text()
    (line,) = re.findall(r"seed 0, 1: not drawn; .*?</li>", page)
    assert "aggregate --redraw" in line and "was not drawn" not in page


def test_a_self_contained_page_holds_the_full_size_images_and_another_links_them(tmp_path):
    path = FakeRun(tmp_path / "r").plan(["brick"], [0]).finish("", "brick", 0).write()
    linked = aggregate(path, redraw=True).read_text()
    held = aggregate(path, self_contained=True).read_text()
    assert linked.count("<details data-image=") == 6 and linked.count("data:image/jpeg") == 2
    assert "<details data-image=" not in held and held.count("data:image/jpeg") == 8
    assert "r/normal_brick/heatmaps.png is not beside this page" in linked

"""Building blocks of a page, and its style sheet."""

import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from fcdd_sweep.report.page import html

ROOT = Path(__file__).parents[3]


def test_text_is_escaped_when_it_enters_and_markup_is_not():
    assert html.element("p", "a < b & 'c'") == "<p>a &lt; b &amp; &#x27;c&#x27;</p>"
    assert html.element("p", html.element("b", "x"), 3) == "<p><b>x</b>3</p>"
    assert html.joined(["<", html.Markup("<i>")]) == "&lt;\n<i>"


def test_attributes_are_escaped_and_none_leaves_one_out():
    assert html.element("a", href='x"y', cls="num", id=None) == '<a href="x&quot;y" class="num"></a>'
    assert html.section("T", "c", level=3, anchor="here") == '<section id="here"><h3>T</h3>c</section>'


def test_numbers_are_aligned_and_the_mean_stands_out():
    text = html.table(("class", "n"), [("a", 1), ("mean", 2)], last_is_mean=True).replace("\n", "")
    assert '<td>a</td><td class="num">1</td>' in text and '<tr class="mean"><td>mean</td>' in text
    assert text.count('class="mean"') == 1 and text.count('<th class="num">') == 1


def test_pictures_without_a_caption_have_none():
    assert "figcaption" not in html.picture("data:,", "alt")
    assert html.picture("data:,", 'a "b"', "<c>").endswith("<figcaption>&lt;c&gt;</figcaption></figure>")
    assert "&quot;b&quot;" in html.picture("data:,", 'a "b"')


def test_lists_and_folded_content():
    assert html.bullets(["a", "b"]) == "<ul><li>a</li><li>b</li></ul>"
    assert html.bullets(["run `x <y>`"]) == "<ul><li>run <code>x &lt;y&gt;</code></li></ul>"
    assert html.details("More", "x") == "<details><summary>More</summary>x</details>"


def test_a_page_holds_its_style_and_fetches_nothing():
    page = html.page("a & b", html.Markup("<p>x</p>"))
    assert "<title>a &amp; b</title>" in page and "<main>\n<p>x</p>\n</main>" in page
    style = re.search(r"<style>\n(.*?)</style>", page, re.DOTALL)[1]
    assert style == (ROOT / "fcdd_sweep/report/page/style.css").read_text() == html.stylesheet()
    assert not re.search(r"url\(|@import|<link|<script src|fetch\(", page)
    assert html.script() in page and page.count("<script>") == 1


def test_the_table_of_contents_names_the_sections_that_links_find():
    body = html.joined([html.section("A & b", anchor="a"), html.section("no anchor")])
    page = html.page("t", body, html.anchored_sections(body))
    assert re.findall(r'<a href="(.*?)">(.*?)</a>', page) == [("#a", "A &amp; b")]


def test_cells_carry_the_value_that_sorts_them_and_a_mean_stays_below():
    cell = html.TableCell("0.9 ± 0.1", value=0.9, cls="heat", title="n=3")
    rows = [("a", cell), ("b", html.TableCell("n/a", value=float("nan"))), ("c", 1), ("mean", 2)]
    text = html.table(("class", "x"), rows, last_is_mean=True).replace("\n", "")
    assert '<td class="num heat" title="n=3" data-value="0.9">0.9 ± 0.1</td>' in text
    assert '<table class="sortable">' in text and '<tfoot><tr class="mean"><td>mean</td>' in text
    assert text.count("data-value") == 1


@pytest.mark.parametrize("rule", ["prefers-color-scheme: dark", "max-width: 640px", "@media print"])
def test_pages_are_styled_for_dark_narrow_and_printed(rule):
    assert rule in html.stylesheet()
    assert html.stylesheet().count("{") == html.stylesheet().count("}")


def test_the_style_sheet_is_installed_with_the_package(tmp_path):
    assert resources.files("fcdd_sweep.report.page").joinpath("style.css").is_file()
    pytest.importorskip("setuptools", minversion="77")
    build = "from setuptools.build_meta import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    source = tmp_path / "source"  # a build leaves files beside what it builds
    for path in ["pyproject.toml", "README.md", "LICENSE", *map(str, (ROOT / "fcdd_sweep").rglob("*"))]:
        name = (ROOT / path).relative_to(ROOT)
        if (ROOT / path).is_file() and "__pycache__" not in path:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-c", build, str(tmp_path)]
    name = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout.split()[-1]
    names = zipfile.ZipFile(tmp_path / name).namelist()
    assert {"fcdd_sweep/report/page/style.css", "fcdd_sweep/report/page/tables.js"} <= set(names)

"""The report's page in a browser, and alone in another folder."""

from __future__ import annotations

import shutil

import pytest

from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.figures import run_figures
from tests import browsers
from tests.fakes import FakeRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browsers.chromium() is None, reason="no Chromium on this machine"),
]
CONFIGS = {
    f"learning_rate-{rate}_limit-{limit}": {"training.learning_rate": rate, "anomalies.limit": limit}
    for rate, limit in ((0.001, 1), (0.1, 1), (0.001, 64))
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Three configs and two classes, seen at three widths and alone in an empty folder, all opened."""
    folder = tmp_path_factory.mktemp("page")
    run = FakeRun(folder / "grid").plan(["brick", "0"], [0, 1], CONFIGS)
    for wrong, config in enumerate(CONFIGS):
        for name in ("brick", "0"):
            run.finish(config, name, 0, wrong=wrong, threshold=0.45)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_figures, "save", lambda figure, path: path)  # PDFs, which the page does not hold
        page = aggregate(run.write())
    (folder / "empty").mkdir()
    alone = shutil.copy(page, folder / "empty" / "report.html")
    views = [
        ("wide", page, 1400, False),
        ("phone", page, 420, False),
        ("phone, open", page, 420, True),
        ("paper, open", browsers.printed_copy(page, folder / "grid" / "printed.html"), browsers.A4_PX, True),
        ("alone, open", alone, 1400, True),
    ]
    return browsers.measure(views, folder)


@pytest.mark.parametrize("view", ["wide", "phone", "phone, open", "paper, open", "alone, open"])
def test_nothing_sticks_out_and_no_image_is_missing(measured, view):
    found, _ = measured
    assert (found[view]["over"], found[view]["outside"]) == (0, [])
    assert found[view]["images"] == 7 and found[view]["broken"] == 0


def test_the_console_says_nothing_but_of_linked_images_that_a_lone_page_lacks(measured):
    _, console = measured
    assert [line for line in console if "ERR_FILE_NOT_FOUND" not in line] == []


def test_a_phone_shows_the_auroc_without_scrolling_and_paper_cuts_no_column(measured):
    found, _ = measured
    assert found["phone"]["auroc"] <= 420
    assert found["paper, open"]["cut"] == 0
    assert found["wide"]["sortable"] > 5

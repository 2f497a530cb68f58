"""From a run's files to its tables, plots and page. Needs neither torch nor Ray, and no trial's help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.locations import as_written
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, PIXEL_ROC_FILE, ROC_FILE, draw_run
from fcdd_sweep.report.page.comparison import combine
from fcdd_sweep.report.page.run_page import report_page
from fcdd_sweep.report.run_files import Run, read_run, write_errors
from fcdd_sweep.report.search.confirmation import search_notes
from fcdd_sweep.report.search.figures import SEARCH_PICTURES, draw_search
from fcdd_sweep.report.search.record import read_search, reported
from fcdd_sweep.report.tables import write_tables
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import write_text
from fcdd_sweep.results.mirror import mirrored
from fcdd_sweep.results.storage import Location


def _nobody(sentence: str) -> None:
    """Hears nothing."""


def _compared(run: Run) -> Run:
    """Compare a run with its baselines, if it has any; the run, with a sentence where that fails."""
    try:
        if (run.path / tree.BASELINES_DIR / tree.PLAN).is_file():
            combine(run.path)
    except InputError as error:
        return replace(run, problems=(*run.problems, f"not compared with its baselines: {error}"))
    return run


def aggregate(
    run_dir: Location | str,
    redraw: bool = False,  # noqa: FBT001, FBT002 (part of the named interface)
    tell: Callable[[str], object] = _nobody,
) -> Location:
    """Sum up a run; the same files give the same report.

    Writes `trials.parquet`, `summary.csv`, `summary.md`, `defects.csv`, `roc.pdf` and `pixel_roc.pdf` of the run and of
    its configs, `roc.pdf` and `heatmaps.png` of every class, and `report.html`; where the run has baselines, also
    what `report.page.comparison` makes of both; where it has a search, the tables and pictures of
    `report.search.figures`, and figures of the test set come from the confirmation alone. Trials that failed,
    are missing or cannot be read are named; the others go on.

    Args:
        run_dir: what a sweep wrote, OUTPUT/NAME, on this machine or in an object store.
        redraw: draw the pictures of every finished trial again, too.
        tell: hears a sentence on each file that could not be read, as the page tells it.
    Returns:
        The place of `report.html`.
    Raises:
        InputError: `run_dir` is no run, a file in it cannot be written, or its store cannot be used.
        StorageError: the store was out of reach for too long.
    """
    run_dir = as_written(run_dir)
    with mirrored(run_dir, redrawn=(ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE, *SEARCH_PICTURES)) as folder:
        run = read_run(folder)
        search = read_search(run)
        with write_errors(folder):
            write_tables(run, reported(run, search), search_notes(search) if search else ())
            run = _compared(run)
            pictures = draw_run(reported(run, search), redraw=redraw)
            searched = draw_search(search) if search else ()
            write_text(folder / tree.REPORT, report_page(run, pictures, search, searched))
    problems = [*run.problems, *(search.problems if search else ()), *pictures.problems]
    for sentence in dict.fromkeys(problems):
        tell(sentence)
    return run_dir / tree.REPORT

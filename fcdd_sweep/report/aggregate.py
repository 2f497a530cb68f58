"""Build a run's tables, figures and page from its files alone; needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.locations import as_written
from fcdd_sweep.report.decisions import write_decisions
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, PIXEL_ROC_FILE, ROC_FILE, draw_run
from fcdd_sweep.report.page.comparison import combine
from fcdd_sweep.report.page.run_page import report_page
from fcdd_sweep.report.run_files import Run, read_run, write_errors
from fcdd_sweep.report.score_choices import choice_sentences
from fcdd_sweep.report.search.confirmation import search_notes
from fcdd_sweep.report.search.figures import SEARCH_PICTURES, draw_search
from fcdd_sweep.report.search.record import read_search, reported
from fcdd_sweep.report.tables import write_tables
from fcdd_sweep.results.files import write_text
from fcdd_sweep.results.mirror import mirrored
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import IMAGE_SCORES, RunPaths


def _ignore(sentence: str) -> None:
    """Do nothing."""


def _compared(run: Run) -> Run:
    """Compare a run with its baselines, if it has any, and return it; a failure is added to its problems."""
    try:
        if RunPaths(RunPaths(run.path).baselines).plan.is_file():
            combine(run.path)
    except InputError as error:
        return replace(run, problems=(*run.problems, f"not compared with its baselines: {error}"))
    return run


def aggregate(
    run_dir: Location | str,
    redraw: bool = False,  # noqa: FBT001, FBT002 (part of the named interface)
    warn: Callable[[str], object] = _ignore,
    tell: Callable[[str], object] = _ignore,
    self_contained: bool = False,  # noqa: FBT001, FBT002
) -> Location:
    """Build the report of a run; the same files give the same report.

    Writes `trials.parquet`, `summary.csv`, `summary.md`, `defects.csv`, `roc.pdf` and `pixel_roc.pdf` of the run and of
    its configs, `roc.pdf` and `heatmaps.png` of every class, and `report.html`. A run with baselines also gets the
    files of `report.page.comparison`; one with a search the tables and figures of `report.search.figures`, and
    test metrics of its confirmation only. With `evaluation.image_score: auto` it chooses the image score of each class
    and writes `image_scores.parquet`. Leaves whose decisions are no longer those that they were written with get a
    `decision.json`, by which their detectors decide. Trials that failed, are missing or cannot be read are named and
    left out.

    Args:
        run_dir: the directory of a run, OUTPUT/NAME, on this machine or in an object store.
        redraw: whether the figures of every finished trial are drawn again.
        warn: called with a sentence on each file that could not be read; the page has the same sentences.
        tell: called with a sentence on the image score of each class where `evaluation.image_score` is `auto`.
        self_contained: whether the page holds the full-size images, too, as with `report.self_contained`.
    Returns:
        Where `report.html` is.
    Raises:
        InputError: `run_dir` is not a run directory, a file in it cannot be written, or its store cannot be used.
        StorageError: the store was unreachable for too long.
    """
    run_dir = as_written(run_dir)
    with mirrored(run_dir, redrawn=(ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE, *SEARCH_PICTURES, IMAGE_SCORES)) as folder:
        run = read_run(folder)
        search = read_search(run)
        with write_errors(folder):
            write_decisions(run)
            write_tables(run, reported(run, search), search_notes(search) if search else ())
            run = _compared(run)
            figures = draw_run(reported(run, search), redraw=redraw)
            figures = replace(figures, embed=self_contained or run.experiment.report.self_contained)
            search_figures = draw_search(search) if search else ()
            write_text(RunPaths(folder).report, report_page(run, figures, search, search_figures))
    problems = [*run.problems, *(search.problems if search else ()), *figures.problems]
    for sentence in dict.fromkeys(problems):
        warn(sentence)
    for sentence in choice_sentences(run.score_choices):
        tell(sentence)
    return RunPaths(run_dir).report

"""Build a run's tables, figures and page from its files alone; needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.locations import as_written
from fcdd_sweep.report.comparison_text import comparison_sentences
from fcdd_sweep.report.comparisons import comparison_rows, run_entries
from fcdd_sweep.report.decisions import write_decisions
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, PIXEL_ROC_FILE, ROC_FILE, draw_run
from fcdd_sweep.report.leaf_pictures import LeafPictures, without_pictures
from fcdd_sweep.report.page.comparison import combine
from fcdd_sweep.report.page.published_section import published_section
from fcdd_sweep.report.page.run_page import report_page
from fcdd_sweep.report.page.statistics_section import comparison_section
from fcdd_sweep.report.published import published_rows
from fcdd_sweep.report.recomputed import recompute
from fcdd_sweep.report.report_state import keep_state, sentences_of_current_report
from fcdd_sweep.report.run_files import Run, read_run, write_errors
from fcdd_sweep.report.score_choices import choice_sentences
from fcdd_sweep.report.search.confirmation import search_notes
from fcdd_sweep.report.search.figures import SEARCH_PICTURES, draw_search
from fcdd_sweep.report.search.record import SearchRecord, read_search, reported
from fcdd_sweep.report.tables import write_tables
from fcdd_sweep.results.comparison_schemas import COMPARISONS, PUBLISHED
from fcdd_sweep.results.files import write_rows, write_text
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


def _tried(run: Run, search: SearchRecord | None) -> int:
    """Return the number of configs that were tried: of a search all that it suggested."""
    return len(run.configs) if search is None else search.tried or len(search.configs)


def _leaves_to_draw(run: Run, *, redraw: bool) -> list[str]:
    leaves = [trial.leaf for trial in run.trials if trial.is_done]
    if redraw:
        return leaves
    return without_pictures(run.path, leaves) if run.experiment.keep.pictures == "leaf" else []


def aggregate(
    run_dir: Location | str,
    redraw: bool = False,  # noqa: FBT001, FBT002 (part of the named interface)
    warn: Callable[[str], object] = _ignore,
    tell: Callable[[str], object] = _ignore,
    pictures: LeafPictures | None = None,
    self_contained: bool = False,  # noqa: FBT001, FBT002
) -> Location:
    """Build the report of a run, and the pictures of leaves that have none; the same files give the same report.

    A report that is up to date is left as it is, unless there were problems.

    Writes `trials.parquet`, `comparisons.parquet`, `published.parquet`, `summary.csv`, `summary.md`, `defects.csv`,
    `roc.pdf` and `pixel_roc.pdf` of the run and of its configs, `roc.pdf` and `heatmaps.png` of every class, and
    `report.html`. A run with baselines also gets the files of `report.page.comparison`; one with a search the tables
    and figures of `report.search.figures`, and test metrics of its confirmation only. With
    `evaluation.image_score: auto` it chooses the image score of each class and writes `image_scores.parquet`. Leaves
    whose decisions are no longer those that they were written with get a `decision.json`, by which their detectors
    decide; leaves that lack figures get them where their files allow it (`report.recomputed`). Trials that failed, are
    missing or cannot be read are named and left out.

    Args:
        run_dir: the directory of a run, OUTPUT/NAME, on this machine or in an object store.
        redraw: whether the figures of every finished trial are drawn again.
        warn: called with a sentence on each file that could not be read; the page has the same sentences.
        tell: called with a sentence on the image score of each class where `evaluation.image_score` is `auto`, and on
            pictures that take long to draw.
        pictures: what draws leaves of this run already, on this machine; closed at the end.
        self_contained: whether the page holds the full-size images, too, as with `report.self_contained`.
    Returns:
        Where `report.html` is.
    Raises:
        InputError: `run_dir` is not a run directory, a file in it cannot be written, or its store cannot be used.
        StorageError: the store was unreachable for too long.
    """
    run_dir = as_written(run_dir)
    with mirrored(run_dir, redrawn=(ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE, *SEARCH_PICTURES, IMAGE_SCORES)) as folder:
        if not (redraw or self_contained) and (told := sentences_of_current_report(folder)) is not None:
            for sentence in told:
                tell(sentence)
            return RunPaths(run_dir).report
        run = read_run(folder)
        with write_errors(folder):
            run = recompute(run)
        search = read_search(run)
        with write_errors(folder):
            write_decisions(run)
            tested = reported(run, search)
            comparisons = comparison_rows(run_entries(tested), _tried(run, search))
            write_rows(RunPaths(folder).comparisons, comparisons, COMPARISONS)
            published = published_rows(tested)
            write_rows(RunPaths(folder).published, published, PUBLISHED)
            notes = search_notes(search) if search else ()
            write_tables(run, tested, (*notes, *comparison_sentences(comparisons)))
            run = _compared(run)
            with pictures or LeafPictures(folder, run.experiment.heatmaps) as drawing:
                drawing.add(_leaves_to_draw(run, redraw=redraw))
                figures = draw_run(tested)
                figures = replace(figures, embed=self_contained or run.experiment.report.self_contained)
                search_figures = draw_search(search) if search else ()
                run = replace(run, problems=(*run.problems, *drawing.finish(tell)))
            sections = (comparison_section(comparisons), published_section(published))
            write_text(RunPaths(folder).report, report_page(run, figures, search, search_figures, sections))
        problems = [*run.problems, *(search.problems if search else ()), *figures.problems]
        choices = list(choice_sentences(run.score_choices))
        if not problems and not self_contained:  # what could not be read or drawn is tried again
            keep_state(folder, choices)
    for sentence in dict.fromkeys(problems):
        warn(sentence)
    for sentence in choices:
        tell(sentence)
    return RunPaths(run_dir).report

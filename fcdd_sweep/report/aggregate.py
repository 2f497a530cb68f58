"""Build a run's tables, figures and page from its files alone; needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.locations import as_written
from fcdd_sweep.report.comparison_text import comparison_sentences
from fcdd_sweep.report.comparisons import comparison_rows, run_entries, with_names
from fcdd_sweep.report.config_ranks import RankedConfig, ranked_configs
from fcdd_sweep.report.decisions import write_decisions
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, PIXEL_ROC_FILE, ROC_FILE, RunFigures, draw_run
from fcdd_sweep.report.leaf_drawing import PictureStyle
from fcdd_sweep.report.leaf_pictures import LeafPictures
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
from fcdd_sweep.report.search.figures import SEARCH_PICTURES, SearchPicture, draw_search
from fcdd_sweep.report.search.record import SearchRecord, read_search, reported, tried_configs
from fcdd_sweep.report.tables import write_tables
from fcdd_sweep.report.text import config_words
from fcdd_sweep.results.comparison_schemas import COMPARISONS, PUBLISHED
from fcdd_sweep.results.files import TableRow, write_rows, write_text
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


@dataclass(frozen=True)
class _Results:
    """What a report is made of.

    Attributes:
        run: with all of its trials.
        search: of the run, if it has one.
        tested: the run with the trials whose test metrics are shown.
        comparisons, published: rows of the tables of these names, about `tested`.
        ranked: the configs of `tested`.
    """

    run: Run
    search: SearchRecord | None
    tested: Run
    comparisons: list[TableRow]
    published: list[TableRow]
    ranked: list[RankedConfig]

    @property
    def worded(self) -> list[TableRow]:
        """The comparisons with configs by their values: `learning rate 0.1, limit 8`."""
        names = {config: config_words(config, self.tested.parameters(config)) for config in self.tested.configs}
        return with_names(self.comparisons, names)


def _results(folder: Path) -> _Results:
    """Read a run, and complete and decide its leaves."""
    run = recompute(read_run(folder))
    search = read_search(run)
    if not run.experiment.problem:
        write_decisions(run)
    tested = reported(run, search)
    comparisons = comparison_rows(run_entries(tested), tried_configs(run, search))
    return _Results(
        run, search, tested, comparisons, published_rows(tested), ranked_configs(tested, comparisons=comparisons)
    )


def _write_tables(results: _Results) -> None:
    paths = RunPaths(results.run.path)
    write_rows(paths.comparisons, results.comparisons, COMPARISONS)
    write_rows(paths.published, results.published, PUBLISHED)
    notes = search_notes(results.search) if results.search else ()
    write_tables(results.run, results.tested, (*notes, *comparison_sentences(results.worded)))


def _draw(
    results: _Results, drawing: LeafPictures, tell: Callable[[str], object], *, redraw: bool
) -> tuple[RunFigures, Sequence[SearchPicture], list[str]]:
    """Draw the run, its search, and the leaves that lack pictures; return sentences on leaves that cannot be drawn."""
    run = results.run
    done = [trial for trial in run.trials if trial.is_done]
    known = not run.experiment.problem  # else the look of pictures is unknown, and those of trials are left alone
    kept = done if known and run.experiment.keep.pictures == "leaf" else []
    if redraw and known:
        drawing.add([trial.leaf for trial in done])
    drawing.add_stale(kept)
    figures = draw_run(results.tested, results.ranked, anew=redraw)
    search_figures = draw_search(results.search) if results.search else ()
    drawing.finish(tell)
    drawing.add_stale(kept, again=True)  # drawn during the run, by decisions that have changed since
    return figures, search_figures, drawing.finish(tell)


def _write_page(
    results: _Results, figures: RunFigures, search_figures: Sequence[SearchPicture], *, self_contained: bool
) -> None:
    run = results.run
    figures = replace(figures, embed=self_contained or run.experiment.report.self_contained)
    sections = (comparison_section(results.worded), published_section(results.published))
    page = report_page(run, results.ranked, figures, results.search, search_figures, sections)
    write_text(RunPaths(run.path).report, page)


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
        redraw: whether all figures are drawn again, those of finished trials included.
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
        told = None if redraw or self_contained else sentences_of_current_report(folder)
        if told is None:
            with write_errors(folder):
                results = _results(folder)
                _write_tables(results)
                run = _compared(results.run)
                with pictures or LeafPictures(folder, PictureStyle.of(run.experiment)) as drawing:
                    figures, search_figures, undrawn = _draw(results, drawing, tell, redraw=redraw)
                results = replace(results, run=replace(run, problems=(*run.problems, *undrawn)))
                _write_page(results, figures, search_figures, self_contained=self_contained)
            told = list(choice_sentences(run.score_choices))
            in_search = results.search.problems if results.search else ()
            problems = list(dict.fromkeys([*results.run.problems, *in_search, *figures.problems]))
            if not problems and not self_contained:  # what could not be read or drawn is tried again
                keep_state(folder, told)
            for sentence in problems:
                warn(sentence)
    for sentence in told:
        tell(sentence)
    return RunPaths(run_dir).report

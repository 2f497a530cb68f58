"""From a run's files to its tables, plots and page. Needs neither torch nor Ray, and no trial's help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.report.comparison import combine
from fcdd_sweep.report.outputs import told_when_unwritable
from fcdd_sweep.report.page import report_page
from fcdd_sweep.report.pictures import draw_run
from fcdd_sweep.report.records import Run, read_run
from fcdd_sweep.report.tables import write_tables
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import write_text


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
    run_dir: Path,
    redraw: bool = False,  # noqa: FBT001, FBT002 (part of the named interface)
    tell: Callable[[str], object] = _nobody,
) -> Path:
    """Sum up a run; the same files give the same report.

    Writes `trials.parquet`, `summary.csv`, `summary.md`, `defects.csv`, `roc.pdf` and `pixel_roc.pdf` of the run and of
    its configs, `roc.pdf` and `heatmaps.png` of every class, and `report.html`; where the run has baselines, also
    what `report.comparison` makes of both. Trials that failed, are missing or
    cannot be read are named; the others go on.

    Args:
        run_dir: what a sweep wrote, OUTPUT/NAME.
        redraw: draw the pictures of every finished trial again, too.
        tell: hears a sentence on each file that could not be read, as the page tells it.
    Returns:
        The path of `report.html`.
    Raises:
        InputError: `run_dir` is no run, or a file in it cannot be written.
    """
    run = read_run(Path(run_dir))
    with told_when_unwritable(run.path):
        write_tables(run)
        run = _compared(run)
        pictures = draw_run(run, redraw=redraw)
        page = write_text(run.path / tree.REPORT, report_page(run, pictures))
    for sentence in dict.fromkeys([*run.problems, *pictures.problems]):
        tell(sentence)
    return page

"""The commands on the report of a run, each a function of its parsed arguments that returns an exit code."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fcdd_sweep.commands import ExitCode, printed
from fcdd_sweep.config.errors import InputError, Problem

if TYPE_CHECKING:
    from fcdd_sweep.report.run_files import Run

KINDS_OF_FIGURES = ("roc", "loss", "heatmaps")


def aggregate_command(options: Namespace) -> int:
    """Build the report of a run from its files."""
    from fcdd_sweep.report.aggregate import aggregate
    from fcdd_sweep.report.result_table import result_lines
    from fcdd_sweep.report.terminal import terminal_width

    page = aggregate(
        options.run_dir,
        options.redraw,
        lambda sentence: print(sentence, file=sys.stderr),
        print,
        self_contained=options.self_contained,
    )
    for line in result_lines(options.run_dir, terminal_width(sys.stdout)):
        print(line)
    print(f"report: {page}")
    return ExitCode.DONE


def compare_command(options: Namespace) -> int:
    """Compare several runs."""
    from fcdd_sweep.report.page.comparison import compare_runs

    page, sentences = compare_runs(options.run_dirs, options.output)
    for sentence in sentences:
        print(sentence)
    print(f"comparison: {page}")
    return printed()


def figures_command(options: Namespace) -> int:
    """Draw the figures of a run into a folder."""
    from fcdd_sweep.report.figures.export_figures import export_figures
    from fcdd_sweep.report.run_files import write_errors

    run = _local_run(options)
    folder = run.path / "figures" if options.output is None else options.output.expanduser()
    with write_errors(folder):
        written, problems = export_figures(run, folder, options.style or run.experiment.report.style, options.only)
    for sentence in problems:
        print(sentence, file=sys.stderr)
    for path in written:
        print(path)
    if not written:
        print("nothing is drawn: no trial has finished", file=sys.stderr)
    return ExitCode.DONE if written else ExitCode.SOME_FAILED


def tables_command(options: Namespace) -> int:
    """Print the tables of a run: configs, if there are several, and classes."""
    from fcdd_sweep.report.paper_tables import paper_tables

    print(paper_tables(_local_run(options), options.form))
    return printed()


def _local_run(options: Namespace) -> Run:
    """Return the run with the trials whose test metrics may be shown.

    Raises:
        InputError: it is in an object store, or no run.
    """
    from fcdd_sweep.report.run_files import read_run
    from fcdd_sweep.report.search.record import read_search, reported

    if not isinstance(options.run_dir, Path):
        step = "Copy the run to this machine first"
        what = "is in an object store, which this command does not read"
        raise InputError(Problem(str(options.run_dir), what, next_step=step))
    run = read_run(options.run_dir)
    for sentence in run.problems:
        print(sentence, file=sys.stderr)
    return reported(run, read_search(run))

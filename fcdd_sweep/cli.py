"""The command line: its arguments, and errors as messages and exit codes (`commands.ExitCode`)."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fcdd_sweep import commands, detector_commands, output, report_commands
from fcdd_sweep.commands import ExitCode
from fcdd_sweep.config.errors import InputError, Problem, RunnerLostError, grouped_lines
from fcdd_sweep.config.locations import RemotePath, StorageError, as_written, local_path
from fcdd_sweep.config.nearest import closest

_EXAMPLES = """examples:
  python -m fcdd_sweep init ~/parts --run
  python -m fcdd_sweep experiments/digits.yaml
  python -m fcdd_sweep experiments/digits.yaml --set training.epochs=3 --set seeds=1 --dry-run
  python -m fcdd_sweep experiments/folder.yaml --set dataset.root=~/parts
  python -m fcdd_sweep predict results/digits/normal_3/it_0 photo.png --output predictions

exit codes: 0 all done, 1 some trials failed or are missing, 2 bad input, 129 terminal closed, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors of the user and of storage become messages."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    output.escape_names()
    try:
        options = make_parser().parse_args(_with_command(given))
        return int(options.command(options))
    except InputError as error:
        print(_error_text(error), file=sys.stderr)
        return ExitCode.BAD_INPUT
    except StorageError as error:
        step = "Finished trials are kept: rerun the same command once storage is reachable."
        print(f"error: {error}. {step}", file=sys.stderr)
        return ExitCode.SOME_FAILED
    except RunnerLostError as error:
        step = "Finished trials are kept: rerun the same command to continue; others resume from their checkpoints."
        print(f"error: {error}. {step}", file=sys.stderr)
        return ExitCode.SOME_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _with_command(given: list[str]) -> list[str]:
    """Return the arguments with the command `run` where none is named: `python -m fcdd_sweep experiments/x.yaml`."""
    given = [_local_word(word, after) for word, after in zip(given, [*given[1:], ""], strict=False)]
    if not given or given[0] in COMMANDS or given[0] in ("-h", "--help", "--version"):
        return given or ["--help"]
    _refuse_misspelled(given[0])
    return ["run", *given]


def _local_word(word: str, after: str) -> str:
    """Return `--local` with its number, 1 where none follows: the file after it is no number."""
    return "--local=1" if word == "--local" and not after.lstrip("-").isdigit() else word


def _refuse_misspelled(word: str) -> None:
    """Raise an InputError for a first word that is no file and resembles a command, whatever follows it."""
    path, near = Path(word), closest(word, COMMANDS)
    if near and not path.exists() and path.suffix == "" and len(path.parts) == 1:
        raise InputError(Problem(word, "is neither an experiment file nor a command", ", ".join(COMMANDS), near))


def _error_text(error: InputError) -> str:
    if len(error.problems) == 1:
        return f"error: {error}"
    return "\n".join(
        [f"error: {len(error.problems):,} problems:", *(f"  - {line}" for line in grouped_lines(error.problems))]
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; parsed options hold the command's function as `command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fcdd_sweep",
        description="Class x seed x config sweeps for FCDD, the explainable deep one-class classifier.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sentence = f"{command.summary[0].upper()}{command.summary[1:]}."
        subparser = subparsers.add_parser(name, help=command.summary, description=sentence)
        subparser.set_defaults(command=command.run)
        command.add_arguments(subparser)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"fcdd_sweep {version('fcdd_sweep')}"


def _location(text: str) -> Path | RemotePath:
    try:
        return as_written(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _path(text: str) -> Path:
    try:
        local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}. Allowed: a number of seconds, at least 0.5")
    return seconds


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text!r}. Allowed: a number")
    return value


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}. Allowed: a whole number, at least 1")
    return int(text)


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="an experiment file, such as x.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, such as training.epochs=3"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="parent of run directories, a folder or s3://BUCKET/FOLDER; as --set output=DIR"
    )
    _add_layout(parser)


def _add_layout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help="how folders of own images are read: auto, labels, classes, mvtec, good_bad, flat; as --set "
        "dataset.options.layout=NAME",
    )
    parser.add_argument(
        "--group",
        metavar="PATTERN",
        help=r"regular expression on file names, such as '^(part\d+)_': images with the same first group stay together "
        "where folders have no split; as --set dataset.options.group=PATTERN",
    )


def _add_run_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=_location, metavar="RUN_DIR", help="a run directory, such as results/digits")


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and exit")


def _add_execution(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--local",
        nargs="?",
        type=_at_least_one,
        const=1,
        default=0,
        metavar="N",
        help="run without Ray: in this process, or in N processes of this machine",
    )
    where.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS"),
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, HOST:PORT of its head, or ray://HOST:PORT from outside (default: "
        "$RAY_ADDRESS, or else a new Ray on this machine)",
    )
    parser.add_argument(
        "--changed-data",
        choices=("stop", "keep", "redo"),
        default="stop",
        help="what to do about finished trials whose data has changed since, or that ran on a GPU with other draws "
        "(default: stop)",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    _add_experiment(parser)
    _add_dry_run(parser)
    parser.add_argument(
        "--probe-cost",
        action="store_true",
        help="with --dry-run: measure a short training to estimate time, device-hours and disk space",
    )
    parser.add_argument("--show-config", action="store_true", help="print the resolved experiment, and exit")
    _add_execution(parser)


def _add_init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=_path, metavar="DIR", help="a folder of images, or a CSV or Parquet table")
    parser.add_argument(
        "-o", dest="output_file", type=_path, metavar="FILE", help="the file to write (default: NAME_OF_DIR.yaml)"
    )
    reading = "how files are read, such as images.bit_depth=12"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=reading)
    parser.add_argument("--run", dest="run_now", action="store_true", help="run the experiment at once")
    parser.add_argument("--output", metavar="DIR", help="parent of run directories, with --run (default: results)")
    _add_layout(parser)
    _add_execution(parser)


def _add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=_path, default=Path("results"), metavar="DIR", help="where results would go (default: results)"
    )
    parser.add_argument("--no-ray", action="store_true", help="do not start Ray")


def _add_no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def _add_status_arguments(parser: argparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="repeat every so many seconds (default: 5) until the sweep ends; Ctrl-C leaves",
    )


def _add_aggregate_arguments(parser: argparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--redraw", action="store_true", help="draw the figures of every trial again, too")
    what = "embed the full-size images in report.html; otherwise it links them"
    parser.add_argument("--self-contained", action="store_true", help=what)


def _add_figures_arguments(parser: argparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    what = "screen, or paper: 3.3 in wide, 8 pt, no titles (default: report.style of the run)"
    parser.add_argument("--style", choices=("screen", "paper"), help=what)
    what = "kinds of figures, separated by commas: roc, loss, heatmaps (default: all)"
    parser.add_argument("--only", type=_kinds, default=report_commands.KINDS_OF_FIGURES, metavar="KINDS", help=what)
    what = "folder of the figures (default: RUN_DIR/figures)"
    parser.add_argument("--output", type=_path, metavar="DIR", help=what)


def _kinds(text: str) -> tuple[str, ...]:
    given = tuple(part.strip() for part in text.split(","))
    allowed = report_commands.KINDS_OF_FIGURES
    if wrong := [kind for kind in given if kind not in allowed]:
        raise argparse.ArgumentTypeError(f"found {wrong[0]!r}. Allowed: {', '.join(allowed)}")
    return given


def _add_tables_arguments(parser: argparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    kind = parser.add_mutually_exclusive_group()
    for name, what in {"markdown": "print Markdown (default)", "latex": "print LaTeX", "csv": "print CSV"}.items():
        kind.add_argument(f"--{name}", dest="form", action="store_const", const=name, default="markdown", help=what)


def _add_baselines_arguments(parser: argparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of both baselines, or of one: ae.training.learning_rate=0.001",
    )
    _add_dry_run(parser)
    _add_execution(parser)


def _add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    what = "run directories, such as results/digits; runs of baselines and of searches, too"
    parser.add_argument("run_dirs", type=_location, nargs="+", metavar="RUN_DIR", help=what)
    what = "folder for comparison.html and its tables (default: comparison)"
    parser.add_argument("--output", type=_path, default=Path("comparison"), metavar="DIR", help=what)


def _add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "a trial's folder or snapshot.pt, or the folder of a class, whose seeds vote, or of a run with one class"
    add("target", type=_location, metavar="TRIAL", help=what)
    add("images", type=_path, nargs="*", metavar="IMAGE_OR_DIR", help="images, or folders of images")
    add("--output", type=_path, metavar="DIR", help="folder for predictions.parquet, predictions.csv and heatmaps/")
    what = "a folder with good and bad images, or a CSV or Parquet table path,label[,mask]: score it, and compare"
    add("--labels", type=_path, metavar="SOURCE", help=what)
    add("--watch", type=_path, metavar="DIR", help="score images as they arrive in a folder, until Ctrl+C")
    add("--threshold", type=_number, metavar="VALUE", help="call images with a higher score anomalous")
    add("--tile", type=_at_least_one, metavar="SIZE", help="score images in tiles of so many pixels a side")
    what = "in tiles, keep the pixels of images instead of bringing them to the trained size; without decisions"
    add("--native-scale", action="store_true", help=what)
    what = "which images to draw (default: auto, the first 200, then anomalous ones)"
    add("--pictures", choices=("auto", "all", "anomalous", "none"), default="auto", help=what)
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to run (default: auto)")
    what = "images scored together (default: by their size, 64 at most)"
    add("--batch-size", type=_at_least_one, metavar="N", help=what)


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trial", type=_location, metavar="LEAF", help="a trial's folder, or its snapshot.pt")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write an ONNX file")
    parser.add_argument("--torch", type=Path, metavar="FILE", help="write a program for torch.export.load, say x.pt2")
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="IMAGE_OR_DIR",
        help="images to check the file on, 100 at most (default: test images of the data set)",
    )


class Command(NamedTuple):
    """A command: what adds its arguments to a parser, what runs it, and its summary."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    summary: str


COMMANDS = {
    "init": Command(
        _add_init_arguments,
        commands.init_command,
        "write an experiment file for a folder of images, with reasons and its cost; --run runs it",
    ),
    "doctor": Command(_add_doctor_arguments, commands.doctor_command, "check this installation and this machine"),
    "run": Command(
        _add_run_arguments,
        commands.run_command,
        "run the missing trials of an experiment (the default when no command is named)",
    ),
    "validate": Command(
        _add_experiment, commands.validate_command, "check an experiment file and its data; start nothing"
    ),
    "list": Command(
        _add_no_arguments, commands.list_command, "list data sets, networks, anomaly modes and sources, presets"
    ),
    "status": Command(
        _add_status_arguments,
        commands.status_command,
        "count a run's planned, done, failed, missing and running trials",
    ),
    "aggregate": Command(
        _add_aggregate_arguments, report_commands.aggregate_command, "rebuild a run's report from its files"
    ),
    "figures": Command(
        _add_figures_arguments, report_commands.figures_command, "draw a run's figures for the screen or for a paper"
    ),
    "tables": Command(
        _add_tables_arguments, report_commands.tables_command, "print a run's tables as Markdown, LaTeX or CSV"
    ),
    "baselines": Command(
        _add_baselines_arguments, commands.baselines_command, "run HSC and AE on a run's classes and seeds, and compare"
    ),
    "compare": Command(
        _add_compare_arguments,
        report_commands.compare_command,
        "compare the configs of several runs, joined by class and seed",
    ),
    "predict": Command(
        _add_predict_arguments,
        detector_commands.predict_command,
        "score new images with a trained detector, decide, and draw heatmaps",
    ),
    "export": Command(
        _add_export_arguments,
        detector_commands.export_command,
        "write a trial's detector as one ONNX file, checked against torch",
    ),
}

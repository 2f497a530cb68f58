"""The command line: arguments, progress, exit codes; nothing else.

Exit codes: 0 all done, 1 some trials failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fcdd_sweep.config.errors import InputError, Problem, closest
from fcdd_sweep.config.locations import RemotePath, StorageError, as_written, parse_location
from fcdd_sweep.config.text import count_noun

if TYPE_CHECKING:
    from rich.console import Console

    from fcdd_sweep.config.schema import Experiment
    from fcdd_sweep.data.registry import DataSetInfo
    from fcdd_sweep.planning.plan import Plan
    from fcdd_sweep.sweep.session import SweepResult


DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_EXAMPLES = """examples:
  python -m fcdd_sweep experiments/digits.yaml
  python -m fcdd_sweep experiments/digits.yaml --set training.epochs=3 --set seeds=1 --dry-run
  python -m fcdd_sweep experiments/folder.yaml --set dataset.root=~/parts
  python -m fcdd_sweep predict results/digits/normal_3/it_0/snapshot.pt photo.png --output predictions
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = make_parser().parse_args(_with_command(given))
        return int(options.command(options))
    except InputError as error:
        print(_told(error), file=sys.stderr)
        return BAD_INPUT
    except StorageError as error:
        step = "What is finished is kept: the same command goes on when the storage is there again."
        print(f"error: {error}. {step}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _with_command(given: list[str]) -> list[str]:
    """`run` is the command when none is named: `python -m fcdd_sweep experiments/x.yaml`."""
    if not given or given[0] in COMMANDS or given[0] in ("-h", "--help", "--version"):
        return given or ["--help"]
    _refuse_misspelled(given[0])
    return ["run", *given]


def _told(error: InputError) -> str:
    if len(error.problems) == 1:
        return f"error: {error}"
    return "\n".join([f"{len(error.problems)} problems:", *(f"  - {problem}" for problem in error.problems)])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fcdd_sweep",
        description="Class x seed x config sweeps for FCDD, the explainable deep one-class classifier.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (add_arguments, command, summary) in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        add_arguments(sub)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"fcdd_sweep {version('fcdd_sweep')}"


def _experiment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="an experiment file, such as x.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key: training.epochs=3"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="where runs are kept, a folder or s3://BUCKET/FOLDER; --set output=DIR"
    )


def _place(text: str) -> Path | RemotePath:
    try:
        return as_written(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _experiment_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    parser.add_argument(
        "--probe-cost", action="store_true", help="with --dry-run: a short training first, for times, hours and disk"
    )
    parser.add_argument("--show-config", action="store_true", help="print the resolved experiment, and stop")
    _running_arguments(parser)


def _running_arguments(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--local", action="store_true", help="run in this process, without Ray")
    place.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS"),
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, HOST:PORT of its head, or ray://HOST:PORT from outside (default: "
        "$RAY_ADDRESS, else a Ray of our own)",
    )
    parser.add_argument(
        "--changed-data",
        choices=("stop", "keep", "redo"),
        default="stop",
        help="what to do with finished trials whose data has changed since (default: stop)",
    )


def _run(options: argparse.Namespace) -> int:
    from fcdd_sweep.config.loading import dump_experiment, load_experiment
    from fcdd_sweep.planning.describe import describe
    from fcdd_sweep.planning.plan import plan_file

    if _from_outside(options) and not (options.show_config or options.dry_run):  # the data lies there, not here
        text = dump_experiment(load_experiment(options.experiment, _overrides(options)))
        return _on_head(options, ["run", options.experiment.name], {options.experiment.name: text})
    experiment, planned = plan_file(options.experiment, _overrides(options))
    if options.show_config:
        print(dump_experiment(experiment), end="")
        return DONE
    if options.probe_cost and not options.dry_run:
        raise InputError(Problem("--probe-cost", "it belongs to a dry run", next_step="Say --dry-run --probe-cost"))
    if options.dry_run:
        print(describe(planned, experiment))
        _print_costs(planned, experiment, probed=options.probe_cost)
        return DONE
    from fcdd_sweep.progress import make_progress
    from fcdd_sweep.run import run_experiment

    with make_progress(_console()) as progress:
        result = run_experiment(
            planned,
            local=options.local,
            address=options.address,
            changed_data=options.changed_data,
            progress=progress,
        )
    return _ended(result)


def _print_costs(planned: Plan, experiment: Experiment, *, probed: bool) -> None:
    from fcdd_sweep.sweep.cost import measured_lines, probed_lines

    if probed:
        from fcdd_sweep.sweep.cost import probe_cost

        probes = probe_cost(planned, lambda sentence: print(sentence, file=sys.stderr))
        print("\n".join(probed_lines(planned, probes)))
    else:
        print("".join(f"{line}\n" for line in measured_lines(planned, experiment)), end="")


def _from_outside(options: argparse.Namespace) -> bool:
    return not options.local and (options.address or "").startswith("ray://")


def _on_head(options: argparse.Namespace, command: Sequence[str], files: dict[str, str]) -> int:
    """Run a command where a cluster's head is that was named by `ray://`."""
    from fcdd_sweep.runners.ray_client import run_on_head

    arguments = [*command, "--changed-data", options.changed_data]
    return run_on_head(options.address, arguments, files, lambda line: print(line, flush=True))


def _ended(result: SweepResult, page: Path | RemotePath | None = None) -> int:
    """Tell how a sweep ended; `page` is to be opened beside its report."""
    planned = count_noun(result.planned, "trial")
    summary = f"{result.done} of {planned} done, {result.failed} failed, {result.missing} missing"
    if result.interrupted:
        print(f"interrupted: {summary}\nThe same command goes on: finished trials are kept, others from checkpoints.")
        return INTERRUPTED
    if result.failed:
        print(f"Tracebacks of failed trials: {result.run_dir / '.attempts' / 'TRIAL_ID' / 'N' / 'error.txt'}")
        print(f"What is known of lost workers: {result.run_dir / 'failures.parquet'}")
    print(f"report: {result.report}")
    if page:
        print(f"comparison: {page}")
    print(summary)
    return SOME_FAILED if result.failed or result.missing else DONE


def _refuse_misspelled(word: str) -> None:
    """A first word that is neither a file nor a command is more likely a misspelled command, whatever follows it."""
    path, near = Path(word), closest(word, COMMANDS)
    if near and not path.exists() and path.suffix == "" and len(path.parts) == 1:
        raise InputError(Problem(word, "this is neither an experiment file nor a command", ", ".join(COMMANDS), near))


def _overrides(options: argparse.Namespace) -> list[str]:
    output = [] if options.output is None else [f"output={options.output}"]
    return [*options.set, *output]


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _validate(options: argparse.Namespace) -> int:
    from fcdd_sweep.planning.describe import amount_text
    from fcdd_sweep.planning.plan import plan_file

    experiment, planned = plan_file(options.experiment, _overrides(options))
    for note in planned.notes:
        print(note)
    trials = amount_text(planned, experiment) if experiment.search else count_noun(len(planned.specs), "trial")
    print(f"{options.experiment}: valid, {trials}")
    return DONE


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """`list` takes none."""


def _list(options: argparse.Namespace) -> int:
    from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES, SOURCES
    from fcdd_sweep.config.presets import PRESETS
    from fcdd_sweep.data.registry import DATA_SETS
    from fcdd_sweep.networks.registry import NETWORKS

    _print_section("data sets", {name: _data_set_text(info) for name, info in DATA_SETS.items()})
    for method in ("fcdd", "hsc", "ae"):
        titles = {name: info.title for name, info in NETWORKS.items() if info.method == method}
        _print_section(f"networks of method {method}", titles)
    _print_section("anomaly modes", {name: info.title for name, info in MODES.items()})
    _print_section("anomaly sources", SOURCES | REAL_SOURCES)
    _print_section("presets", {name: preset.title for name, preset in PRESETS.items()})
    return DONE


def _data_set_text(info: DataSetInfo) -> str:
    options = [f"option {name} (default {option.default}): {option.meaning}" for name, option in info.options.items()]
    title = f"{info.title}; for outlier exposure alone" if info.exposure_only else info.title
    return f"\n{'':24}".join([title, *options])


def _print_section(title: str, entries: dict[str, str]) -> None:
    print(title)
    for name, text in entries.items():
        print(f"  {name:21} {text}")
    print()


def _baselines_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=_place, metavar="RUN_DIR", help="the folder of a run of FCDD")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of both baselines, or of one: ae.training.learning_rate=0.001",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    _running_arguments(parser)


def _baselines(options: argparse.Namespace) -> int:
    from fcdd_sweep.planning.describe import describe
    from fcdd_sweep.planning.plan import plan
    from fcdd_sweep.sweep.baselines import baselines_of, run_baselines

    if options.dry_run:
        experiment, _ = baselines_of(options.run_dir, options.set)
        print(describe(plan(experiment), experiment))
        return DONE
    if _from_outside(options):
        settings = [word for text in options.set for word in ("--set", text)]
        return _on_head(options, ["baselines", str(parse_location(options.run_dir)), *settings], {})
    from fcdd_sweep.progress import make_progress

    with make_progress(_console()) as progress:
        result = run_baselines(
            options.run_dir,
            options.set,
            local=options.local,
            address=options.address,
            changed_data=options.changed_data,
            progress=progress,
        )
    return _ended(result.sweep, result.comparison)


def _aggregate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=_place, metavar="RUN_DIR", help="a run's folder, such as results/digits")
    parser.add_argument("--redraw", action="store_true", help="draw every trial's pictures again, too")


def _aggregate(options: argparse.Namespace) -> int:
    from fcdd_sweep.report.aggregate import aggregate

    page = aggregate(options.run_dir, options.redraw, tell=lambda sentence: print(sentence, file=sys.stderr))
    print(f"report: {page}")
    return DONE


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=_place, metavar="RUN_DIR", help="a run's folder, such as results/digits")

    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="show it again every so many seconds (5) until the sweep has ended; Ctrl-C leaves",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed is a number of seconds, at least 0.5")
    return seconds


def _status(options: argparse.Namespace) -> int:
    from fcdd_sweep.report.status import status_text, watch

    if options.watch is None:
        print(status_text(options.run_dir))
        return DONE
    clear = "\033[H\033[2J" if sys.stdout.isatty() else ""
    try:
        watch(options.run_dir, options.watch, lambda text: print(f"{clear}{text}\n", flush=True))
    except KeyboardInterrupt:
        pass  # how one leaves; the sweep goes on
    return DONE


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshot", type=_place, metavar="SNAPSHOT", help="a trial's snapshot.pt")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_DIR", help="images, or folders of images")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where scores and heatmaps go")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    parser.add_argument("--batch-size", type=_at_least_one, default=64, metavar="N", help="images at a time (64)")


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed is a whole number, at least 1")
    return int(text)


def _predict(options: argparse.Namespace) -> int:
    from fcdd_sweep.predict import predict

    result = predict(
        options.snapshot, options.images, options.output, device=options.device, batch_size=options.batch_size
    )
    for problem in result.unreadable:
        print(f"skipped {problem}", file=sys.stderr)
    print(f"scores: {result.scores}\nheatmaps: {result.heatmaps}")
    print(f"{count_noun(result.count, 'image')} scored, {len(result.unreadable)} skipped")
    return SOME_FAILED if result.unreadable else DONE


Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int], str]
COMMANDS: dict[str, Command] = {
    "run": (_run_arguments, _run, "run an experiment, or what is missing of it (the command when none is named)"),
    "validate": (_experiment_arguments, _validate, "check an experiment file and its data, and start nothing"),
    "list": (_no_arguments, _list, "show data sets, networks, anomaly modes and sources, presets"),
    "status": (
        _status_arguments,
        _status,
        "show what is planned, done, failed, missing, running and to go; --watch: live",
    ),
    "aggregate": (_aggregate_arguments, _aggregate, "build the report again from a run's files"),
    "baselines": (_baselines_arguments, _baselines, "run HSC and AE on a run's classes and seeds, and compare"),
    "predict": (_predict_arguments, _predict, "score new images with a trained snapshot, and draw heatmaps"),
}

"""The commands of the command line, each a function of its parsed arguments that returns an exit code.

The commands on trained detectors are in `detector_commands.py`. Each command imports what it needs when it is called:
`--help` and `list` need neither torch nor Ray.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcdd_sweep.config.errors import InputError, Problem, dotted
from fcdd_sweep.config.locations import RemotePath, parse_location
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.output import is_unwritable, output_error

if TYPE_CHECKING:
    from rich.console import Console

    from fcdd_sweep.config.schema import Experiment
    from fcdd_sweep.data.registry import DataSetInfo
    from fcdd_sweep.planning.plan import Plan
    from fcdd_sweep.sweep.session import SweepResult


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    SOME_FAILED = 1
    """Some trials failed or are missing, some images could not be read, or what was asked for could not be printed."""
    BAD_INPUT = 2
    """Nothing was started."""
    HUNG_UP = 129
    """Stopped by a terminal that was closed, as shells count it: 128 + SIGHUP."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C or SIGTERM, as shells count it: 128 + SIGINT."""


_NAME_WIDTH = 21
"""Least width of names in `list`, by which its tables are aligned."""


def run_command(options: Namespace) -> int:
    """Run an experiment, or print its plan or its resolved file."""
    from fcdd_sweep.config.loading import dump_experiment, load_experiment
    from fcdd_sweep.planning.plan import plan_file

    if options.probe_cost and not options.dry_run:
        raise InputError(Problem("--probe-cost", "works with --dry-run only", next_step="Use --dry-run --probe-cost"))
    if _from_outside(options) and not (options.show_config or options.dry_run):  # the data is there, not here
        text = dump_experiment(load_experiment(options.experiment, _overrides(options)))
        return _run_on_head(options, ["run", options.experiment.name], {options.experiment.name: text})
    experiment, planned = plan_file(options.experiment, _overrides(options))
    if options.show_config:
        print(dump_experiment(experiment), end="")
        return printed()
    if options.dry_run:
        if not _from_outside(options):
            _print_closed_output(experiment)
            if experiment.search is not None:
                from fcdd_sweep.run import check_own_study

                check_own_study(planned)
        _print_plan(planned, experiment, probe=options.probe_cost)
        return printed()
    return _run_here(planned, options)


def _run_here(planned: Plan, options: Namespace) -> int:
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
    return _report_result(result)


def init_command(options: Namespace) -> int:
    """Write an experiment file for a folder of images, say what it will cost, and run it if asked to."""
    from fcdd_sweep.own_images import choices_for, experiment_text, inspect_images, run_name, too_little
    from fcdd_sweep.planning.plan import plan_file

    root = options.images.expanduser().absolute()
    _refuse_results(root)
    name, given = run_name(root), _given_keys(options.set)
    path = Path(f"{name}.yaml") if options.output_file is None else options.output_file
    _refuse_existing(path)
    found = inspect_images(root, _layout_options(options))
    few = too_little(found)
    print("\n".join([str(root), *found.lines, *(f"note: {note}" for note in few)]), flush=True)
    head = [f"Written by `fcdd-sweep init {root}`. Each line may be changed: docs/settings.md has all keys.", *few]
    _write_new(path, experiment_text(choices_for(found, name, given), head))
    try:
        _, planned = plan_file(path, [] if options.output is None else [f"output={options.output}"])
        _print_cost(planned, found.total)
    except InputError:  # images that do not decode, for one
        path.unlink()
        raise
    print(f"written: {path}")
    if options.run_now:
        return _run_here(planned, options)
    print(f"to run it: fcdd-sweep {shlex.quote(str(path))}    what it would do: --dry-run")
    return printed()


def _given_keys(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values of `init --set` by key; other keys are the file's, which says why they have their values."""
    from fcdd_sweep.config.loading import read_override
    from fcdd_sweep.own_images import GIVEN_KEYS

    given = {dotted(key): value for key, value in map(read_override, overrides)}
    if others := [key for key in given if key not in GIVEN_KEYS]:
        what = f"init does not take {', '.join(others)}"
        step = "Change other keys in the file that init writes"
        raise InputError(Problem("--set", what, ", ".join(GIVEN_KEYS), step))
    return given


_MOST_PROBED = 2000
"""Nominal training images up to which `init` measures a short training."""


def _print_cost(planned: Plan, images: int) -> None:
    if images > _MOST_PROBED:
        print("cost: not measured, as there are many images; --dry-run --probe-cost measures it")
        return
    from fcdd_sweep.sweep.cost import probe_cost, probed_lines

    probes = probe_cost(planned, lambda sentence: print(sentence, file=sys.stderr))
    print("\n".join(probed_lines(planned, probes)), flush=True)


def _refuse_results(folder: Path) -> None:
    """Raise an InputError for a folder that a run made: its images are pictures of results."""
    from fcdd_sweep.results.tree import METRICS, PLAN

    if any(os.path.isfile(folder / name) for name in (METRICS, PLAN)):  # noqa: PTH113 (no error where it is forbidden)
        raise InputError(Problem(str(folder), "holds results of a run", "a folder of photographs"))


def _refuse_existing(path: Path) -> None:
    if path.exists():
        step = f"Start it: fcdd-sweep {path}. Or name another file with -o, or remove this one"
        raise InputError(Problem(str(path), "is there already, and init overwrites no file", next_step=step))


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        what, step = f"cannot be written ({error.strerror})", "Name another file with -o"
        raise InputError(Problem(str(path), what, next_step=step)) from error


def doctor_command(options: Namespace) -> int:
    """Check this installation and this machine."""
    from fcdd_sweep.doctor import Severity, findings

    worst = Severity.OK
    for finding in findings(options.output, ray=not options.no_ray):
        print(finding, flush=True)
        worst = max(worst, finding.severity)
    return printed() if worst < Severity.PROBLEM else ExitCode.SOME_FAILED


def _print_plan(planned: Plan, experiment: Experiment, *, probe: bool) -> None:
    from fcdd_sweep.planning.describe import describe
    from fcdd_sweep.sweep.cost import measured_lines, probe_cost, probed_lines
    from fcdd_sweep.sweep.unplanned import unplanned_in_run

    print(describe(planned, experiment))
    for note in unplanned_in_run(experiment.run_dir, planned.specs) if experiment.search is None else ():
        print(f"note: {note}")
    if probe:
        probes = probe_cost(planned, lambda sentence: print(sentence, file=sys.stderr))
        lines = probed_lines(planned, probes)
    else:
        lines = measured_lines(planned, experiment)
    print("".join(f"{line}\n" for line in lines), end="")


def _print_closed_output(experiment: Experiment) -> None:
    """Print that this machine cannot write the results: another one may, such as a cluster's head.

    Raises:
        InputError: a file is in the way of the results.
    """
    from fcdd_sweep.results.lease import closed_folder

    if closed := closed_folder(experiment.run_dir):
        print(f"results cannot be written to {experiment.run_dir} on this machine: {closed} is not writable here")


def validate_command(options: Namespace) -> int:
    """Check an experiment file and its data."""
    from fcdd_sweep.planning.describe import amount_text
    from fcdd_sweep.planning.plan import plan_file

    experiment, planned = plan_file(options.experiment, _overrides(options))
    _print_closed_output(experiment)
    for note in planned.notes:
        print(note)
    trials = amount_text(planned, experiment) if experiment.search else count_noun(len(planned.specs), "trial")
    print(f"{options.experiment}: valid, {trials}")
    return printed()


def list_command(options: Namespace) -> int:
    """Print data sets, networks, anomaly modes and sources, and presets."""
    from fcdd_sweep.anomalies.registry import MODES, REAL_SOURCES, SOURCES
    from fcdd_sweep.config.presets import PRESETS
    from fcdd_sweep.data.registry import DATA_SETS
    from fcdd_sweep.networks.registry import NETWORKS

    networks = {
        f"networks of method {method}": {name: info.title for name, info in NETWORKS.items() if info.method == method}
        for method in ("fcdd", "hsc", "ae")
    }
    tables = {
        "data sets": {name: _data_set_text(info) for name, info in DATA_SETS.items()},
        **networks,
        "anomaly modes": {name: info.title for name, info in MODES.items()},
        "anomaly sources": SOURCES | REAL_SOURCES,
        "presets": {name: preset.title for name, preset in PRESETS.items()},
    }
    print("\n\n".join(_titled_table(title, entries) for title, entries in tables.items()))
    return printed()


def _data_set_text(info: DataSetInfo) -> str:
    options = [
        f"option {name} (default {option.default or repr(option.default)}): {option.meaning}"
        for name, option in info.options.items()
    ]
    title = f"{info.title}; for outlier exposure only" if info.exposure_only else info.title
    return "\n".join([title, *options])


def _titled_table(title: str, entries: Mapping[str, str]) -> str:
    from fcdd_sweep.report.terminal import table_text, terminal_width

    width = terminal_width(sys.stdout)
    return f"{title}\n{table_text(list(entries.items()), names=2, indent=2, least=_NAME_WIDTH, width=width)}"


def status_command(options: Namespace) -> int:
    """Print the status of a run, once or repeatedly."""
    from fcdd_sweep.report.status import status_text, watch
    from fcdd_sweep.report.terminal import terminal_width

    width = terminal_width(sys.stdout)
    if options.watch is None:
        print(status_text(options.run_dir, width))
        return printed()
    clear = "\033[H\033[2J" if width else ""

    def print_status(text: str) -> bool:
        print(f"{clear}{text}\n", flush=True)
        return output_error() is None

    try:
        watch(options.run_dir, options.watch, print_status, width=width)
    except KeyboardInterrupt:
        pass  # ends watching, not the sweep
    return printed()


def baselines_command(options: Namespace) -> int:
    """Run the baselines of a run, and compare them with it."""
    from fcdd_sweep.planning.describe import describe
    from fcdd_sweep.planning.plan import plan
    from fcdd_sweep.sweep.baselines import baselines_of, run_baselines

    if options.dry_run:
        experiment, _ = baselines_of(options.run_dir, options.set)
        print(describe(plan(experiment), experiment))
        return printed()
    if _from_outside(options):
        settings = [word for text in options.set for word in ("--set", text)]
        return _run_on_head(options, ["baselines", str(parse_location(options.run_dir)), *settings], {})
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
    return _report_result(result.sweep, result.comparison)


def printed() -> int:
    """Return the exit code of a command whose only result is what it printed."""
    return ExitCode.SOME_FAILED if is_unwritable() else ExitCode.DONE


def _report_result(result: SweepResult, comparison: Path | RemotePath | None = None) -> int:
    """Print how a sweep ended and where its report is, and return the exit code.

    Args:
        result: of the sweep.
        comparison: a second page to open.
    """
    planned = count_noun(result.planned, "trial")
    summary = f"{result.done} of {planned} done, {result.failed} failed, {result.missing} missing"
    if result.interrupted:
        print(f"interrupted: {summary}")
        print("Rerun the same command to continue: finished trials are kept, others resume from their checkpoints.")
        return ExitCode.HUNG_UP if result.hung_up else ExitCode.INTERRUPTED
    for line in [*_result_lines(result), *_failure_lines(result)]:
        print(line)
    print(f"report: {result.report}")
    if comparison:
        print(f"comparison: {comparison}")
    print(summary)
    return ExitCode.SOME_FAILED if result.failed or result.missing else ExitCode.DONE


def _result_lines(result: SweepResult) -> list[str]:
    from fcdd_sweep.report.result_table import result_lines
    from fcdd_sweep.report.terminal import terminal_width

    return result_lines(result.run_dir, terminal_width(sys.stdout))


_MOST_TRACEBACKS = 3
"""Tracebacks whose paths are printed; `status` lists more."""


def _failure_lines(result: SweepResult) -> list[str]:
    """Return where to read about failed trials: files that exist."""
    from fcdd_sweep.results.attempts import traceback_file
    from fcdd_sweep.results.storage import is_file
    from fcdd_sweep.results.tree import RunPaths

    kept = [(trial_id, attempt) for trial_id, attempt in result.failures if attempt]
    found = [traceback_file(result.run_dir, *failure) for failure in kept[:_MOST_TRACEBACKS]]
    lines = [f"traceback: {path}" for path in found if path is not None]
    if len(kept) > _MOST_TRACEBACKS:
        lines.append(f"and {len(kept) - _MOST_TRACEBACKS} more: python -m fcdd_sweep status {result.run_dir}")
    failures = RunPaths(result.run_dir).failures
    if result.failures and is_file(failures):
        lost = len(result.failures) - len(kept)
        what = f", {count_noun(lost, 'lost worker')} without a traceback included" if lost else ""
        lines.append(f"every failed attempt{what}: {failures}")
    return lines


def _from_outside(options: Namespace) -> bool:
    return not options.local and (options.address or "").startswith("ray://")


def _run_on_head(options: Namespace, command: Sequence[str], files: dict[str, str]) -> int:
    """Run a command on the head of the cluster at `ray://HOST:PORT`."""
    from fcdd_sweep.runners.ray_client import run_on_head

    arguments = [*command, "--changed-data", options.changed_data]
    return run_on_head(options.address, arguments, files, lambda line: print(line, flush=True))


def _layout_options(options: Namespace) -> dict[str, str]:
    """Return the options of the data set that have a command-line option of their own."""
    return {name: value for name in ("layout", "group") if (value := getattr(options, name)) is not None}


def _overrides(options: Namespace) -> list[str]:
    output = [] if options.output is None else [f"output={options.output}"]
    # as JSON, which is YAML: a pattern may begin with a bracket
    layout = [f"dataset.options.{name}={json.dumps(value)}" for name, value in _layout_options(options).items()]
    return [*options.set, *layout, *output]


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)

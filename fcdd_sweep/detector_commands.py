"""The commands on trained detectors, `predict` and `export`, as in `commands.py`."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from fcdd_sweep.commands import ExitCode, printed
from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.text import count_noun

if TYPE_CHECKING:
    from fcdd_sweep.export import Export
    from fcdd_sweep.prediction.predict import PredictionResult
    from fcdd_sweep.prediction.targets import HowToPredict


def predict_command(options: Namespace) -> int:
    """Score new images with trained detectors: given ones, labelled ones, or those that arrive in a folder."""
    from fcdd_sweep.prediction.predict import predict
    from fcdd_sweep.prediction.targets import HowToPredict

    if options.watch is not None and (options.images or options.labels):
        what = "predicts on images as they arrive, and cannot be used with images or --labels"
        raise InputError(Problem("--watch", what, next_step="Predict on them in a command of their own"))
    if not (options.images or options.labels or options.watch):
        step = "Name images or folders, --labels SOURCE or --watch DIR"
        raise InputError(Problem("predict", "no images are given", next_step=step))
    how = HowToPredict(
        device=options.device,
        batch_size=options.batch_size,
        tile=options.tile,
        native_scale=options.native_scale,
        threshold=options.threshold,
        pictures=options.pictures,
    )
    if options.watch is not None:
        return _watch_folder(options, how)
    result = predict(options.target, options.images, options.output, how, options.labels)
    for problem in result.unreadable:
        print(f"skipped {problem}", file=sys.stderr)
    for problem in result.unread_maps:
        print(f"left out {problem}", file=sys.stderr)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    _print_predictions(result)
    return ExitCode.SOME_FAILED if result.unreadable or result.unread_maps else printed()


def _print_predictions(result: PredictionResult) -> None:
    from fcdd_sweep.prediction.outputs import TITLES
    from fcdd_sweep.report.terminal import table_text, terminal_width

    print(table_text([TITLES, *result.rows], names=3, width=terminal_width(sys.stdout)))
    if len(result.rows) < result.count:
        print(f"the {len(result.rows)} images with the highest scores of {result.count:,}")
    print()
    if result.basis:
        print(f"decisions: {result.basis}")
    for line in [] if result.evaluation is None else result.evaluation.lines:
        print(line)
    print(f"device: {result.device}")
    if result.output is not None:
        print(f"predictions: {result.scores}")
        if result.heatmaps.is_dir():
            print(f"heatmaps: {result.heatmaps}")
    without = f", {count_noun(len(result.unread_maps), 'map')} left out" if result.unread_maps else ""
    anomalous = "no decisions" if result.anomalous is None else f"{result.anomalous:,} anomalous"
    print(f"{count_noun(result.count, 'image')} scored, {anomalous}, {len(result.unreadable)} skipped{without}")


def _watch_folder(options: Namespace, how: HowToPredict) -> int:
    from fcdd_sweep.prediction.watch import watch_folder

    seen = watch_folder(options.target, options.watch, options.output, how, lambda line: print(line, flush=True))
    print(f"{count_noun(seen.count, 'image')} scored, {seen.anomalous:,} anomalous, {seen.skipped} skipped")
    return ExitCode.SOME_FAILED if seen.skipped else printed()


def export_command(options: Namespace) -> int:
    """Export a trial's detector as an ONNX file, a program of torch, or both."""
    from fcdd_sweep.export import export_onnx, export_torch

    wanted = {"onnx": (export_onnx, options.onnx), "torch": (export_torch, options.torch)}
    if options.onnx is None and options.torch is None:
        raise InputError(Problem("export", "there is no file to write", "--onnx FILE or --torch FILE"))
    for name, (write, target) in wanted.items():
        if target is not None:
            _print_export(name, write(options.trial, target, options.images))
    return ExitCode.DONE


def _print_export(name: str, result: Export) -> None:
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"checked on {result.images}")
    found = result.differences
    print(f"largest difference to torch: {found.score:.1e} of the largest score, ", end="")
    print(f"{found.heatmap:.1e} of the largest heatmap value; {count_noun(found.labels, 'decision')} differ")
    print(f"{name}: {result.path}")

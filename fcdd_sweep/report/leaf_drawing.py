"""Draw the pictures of one leaf: in this process, or as a process of its own that draws many, one after the other.

Pictures are derived files: they are drawn aside, from a leaf that is whole, and renamed into it, so that a drawing that
is cut off leaves nothing behind. Whatever fails is returned as a sentence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.config.schema import Experiment, Heatmaps
from fcdd_sweep.report.class_scores import DECIDED, trial_of_leaf
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.run_files import Trial
from fcdd_sweep.results.files import leave_pandas_out, text_or_empty, write_text
from fcdd_sweep.results.tree import ATTEMPTS, LAST_PICTURE, PICTURES, TrialPaths

PREFIX = "pictures-"
"""Of folders in which leaves are drawn."""
_NICENESS = 19
"""Of processes that draw: they use what trials leave."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class PictureStyle:
    """How the pictures of a run's trials look.

    Attributes:
        heatmaps: how heatmaps are shown.
        style: look of plots, `report.style`.
    """

    heatmaps: Heatmaps
    style: Literal["screen", "paper"]

    @classmethod
    def of(cls, experiment: Experiment | ExperimentFile) -> PictureStyle:
        """Return that of an experiment."""
        return cls(experiment.heatmaps, experiment.report.style)

    def record(self, trial: Trial) -> dict[str, Any]:
        """Return what the pictures of a finished trial depend on besides its tables: style, and what decides."""
        decided = {name: trial.metrics.get(name) for name in DECIDED}
        shown = self.heatmaps.model_dump(exclude={"kernel_std_px"})  # which is the trial's own
        return {"style": self.style, "heatmaps": shown, **decided}


def draw_into_leaf(run_dir: Path, leaf: str, style: PictureStyle) -> str:
    """Draw the pictures of a finished trial and move them into its leaf, those of an earlier drawing away.

    Args:
        run_dir: the run.
        leaf: the trial's folder below it.
        style: of the pictures.
    Returns:
        Why they could not be drawn; an empty text when they were.
    """
    try:
        attempts = run_dir / ATTEMPTS
        attempts.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=attempts, ignore_cleanup_errors=True) as folder:
            _draw(run_dir / leaf, Path(folder), style)
    except Exception as error:  # a picture is not worth a sweep
        return short_error(error)
    return ""


def _draw(leaf: Path, folder: Path, style: PictureStyle) -> None:
    from fcdd_sweep.report.figures.trial_figures import draw_trial  # imports matplotlib, which few commands need

    sources = {path.name for path in leaf.iterdir() if path.suffix not in (".pdf", ".png")} - {PICTURES}
    for name in sources:
        (folder / name).symlink_to((leaf / name).absolute())
    trial = trial_of_leaf(folder)
    draw_trial(trial, style.heatmaps, style.style)
    write_text(folder / PICTURES, json.dumps(style.record(trial)) + "\n")
    drawn = sorted({path.name for path in folder.iterdir()} - sources, key=lambda name: (name == LAST_PICTURE, name))
    for name in drawn:
        shutil.move(folder / name, leaf / name)
    for path in leaf.iterdir():
        if path.name not in sources and path.name not in drawn:
            path.unlink()


def has_pictures(trial: Trial, style: PictureStyle) -> bool:
    """Return whether a finished trial has its pictures, drawn in this style and by its present decisions."""
    assert trial.folder is not None
    if not (trial.folder / LAST_PICTURE).is_file():
        return False
    try:
        return bool(json.loads(text_or_empty(TrialPaths(trial.folder).pictures)) == style.record(trial))
    except ValueError:
        return False  # of an earlier version, or damaged


class DrawingProcess:
    """A process that draws leaves one after the other, at the lowest priority, without torch and without Ray.

    It is started as a command, not by `multiprocessing`: that would run the user's main program again. It ends when
    this object is closed, and by itself when this process is gone.
    """

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve_drawings; serve_drawings()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
            start_new_session=True,  # Ctrl-C is the driver's
            text=True,
        )

    def draw(self, run_dir: Path, leaf: str, style: PictureStyle) -> str:
        """Return what `draw_into_leaf` returns there.

        Raises:
            OSError: the process has died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(run_dir), leaf, style.heatmaps.model_dump(), style.style]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise OSError(f"the process that drew them has died (exit code {self._process.wait()})")
        return str(json.loads(answer))

    def close(self) -> None:
        """End the process, also while it draws."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()


def serve_drawings() -> None:
    """Draw the leaves that standard input names, a line each, and answer each by a line; the process's whole work."""
    os.nice(_NICENESS)
    leave_pandas_out()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        run_dir, leaf, heatmaps, style = json.loads(line)
        answers.write(json.dumps(draw_into_leaf(Path(run_dir), leaf, PictureStyle(Heatmaps(**heatmaps), style))) + "\n")
        answers.flush()

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
from pathlib import Path

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.results.files import leave_pandas_out
from fcdd_sweep.results.tree import ATTEMPTS, LAST_PICTURE

PREFIX = "pictures-"
"""Of folders in which leaves are drawn."""
_NICENESS = 19
"""Of processes that draw: they use what trials leave."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def draw_into_leaf(run_dir: Path, leaf: str, display: Heatmaps) -> str:
    """Draw the pictures of a finished trial and move them into its leaf, those of an earlier drawing away.

    Args:
        run_dir: the run.
        leaf: the trial's folder below it.
        display: how heatmaps are shown.
    Returns:
        Why they could not be drawn; an empty text when they were.
    """
    try:
        attempts = run_dir / ATTEMPTS
        attempts.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=attempts, ignore_cleanup_errors=True) as folder:
            _draw(run_dir / leaf, Path(folder), display)
    except Exception as error:  # a picture is not worth a sweep
        return short_error(error)
    return ""


def _draw(leaf: Path, folder: Path, display: Heatmaps) -> None:
    from fcdd_sweep.report.figures.trial_figures import draw_trial  # imports matplotlib, which few commands need

    sources = {path.name for path in leaf.iterdir() if path.suffix not in (".pdf", ".png")}
    for name in sources:
        (folder / name).symlink_to((leaf / name).absolute())
    draw_trial(folder, display)
    drawn = sorted({path.name for path in folder.iterdir()} - sources, key=lambda name: (name == LAST_PICTURE, name))
    for name in drawn:
        shutil.move(folder / name, leaf / name)
    for path in leaf.iterdir():
        if path.name not in sources and path.name not in drawn:
            path.unlink()


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

    def draw(self, run_dir: Path, leaf: str, display: Heatmaps) -> str:
        """Return what `draw_into_leaf` returns there.

        Raises:
            OSError: the process has died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(run_dir), leaf, display.model_dump()]) + "\n")
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
        run_dir, leaf, display = json.loads(line)
        answers.write(json.dumps(draw_into_leaf(Path(run_dir), leaf, Heatmaps(**display))) + "\n")
        answers.flush()

"""Predict on new images of a folder as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.files import file_stamp
from fcdd_sweep.data.decoding.folders import Folder, no_folder
from fcdd_sweep.data.decoding.pixels import may_have_pages, pages_note
from fcdd_sweep.prediction.outputs import check_output
from fcdd_sweep.prediction.predict import device_text
from fcdd_sweep.prediction.sink import Sink
from fcdd_sweep.prediction.targets import HowToPredict, load_target
from fcdd_sweep.report.text import score_text
from fcdd_sweep.results.storage import Location
from fcdd_sweep.training.prediction import ImagePrediction

WAIT_S = 1.0
"""Seconds between two looks at a folder; a file that did not change between them is complete."""


@dataclass
class Watched:
    """How many images were predicted on, and what became of them."""

    count: int = 0
    anomalous: int = 0
    skipped: int = 0


class NewFiles:
    """The image files that appear below a folder, each once it is complete, and again when it has changed since.

    Attributes:
        folder: the folder.
        unread: why the folder could not be read at the last look, which then changed nothing; empty where it could.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unread = ""
        self._passed_over: _PassedOver = {}
        self._done = self._stamps()
        self._before: dict[Path, str] = {}
        self._passed_before: _PassedOver = {}
        self._said = set[object]()

    def __len__(self) -> int:
        """The number of images that were there from the beginning, or have been taken."""
        return len(self._done)

    def take(self) -> list[Path]:
        """Return the files that are new and did not change since the last look."""
        now = self._stamps()
        if self.unread:
            return []
        new = {path: stamp for path, stamp in now.items() if self._done.get(path) != stamp}
        complete = [path for path, stamp in new.items() if self._before.get(path) == stamp]
        self._before = new
        if now:  # an empty folder may be the place of a share that is away
            self._done = {path: stamp for path, stamp in self._done.items() if path in now}
        self._done.update({path: now[path] for path in complete})
        return complete

    def take_passed_over(self) -> list[Problem | str]:
        """Return what is passed over, once each: problems, and sentences on what is no image; as of the last looks."""
        found = {key: what for key, what in self._passed_over.items() if key in self._passed_before}
        self._passed_before = self._passed_over
        new = [what for key, what in found.items() if key not in self._said]
        self._said |= found.keys()
        return new

    def _stamps(self) -> dict[Path, str]:
        found, top = {}, Folder(self.folder)
        self.unread, self._passed_over = _why_unread(top), _passed_over(top)
        for path in top.all_images:
            try:
                found[path] = file_stamp(path)
            except OSError:  # removed or renamed meanwhile
                continue
        return found


_PassedOver = dict[object, Problem | str]


def _passed_over(folder: Folder) -> _PassedOver:
    """Return what below a folder is not read, by its path, and of files that are no images by their ending."""
    found: _PassedOver = {fault.path: fault.problem() for fault in folder.all_faults if fault.path != folder.path}
    for link in folder.repeated_links:
        found[link] = f"{link} is not read, as it is a link to a folder that is read already or holds it."
    for path in folder.all_others:
        ending = path.suffix.lower()
        kind = f"Files that end in {ending}" if ending else "Files without an ending"
        found.setdefault(ending, f"{kind} are not read, such as {path}: the endings are not those of images.")
    return found


def _why_unread(folder: Folder) -> str:
    """Return why a folder cannot be listed; empty where it can."""
    own = (fault for fault in folder.faults if fault.path == folder.path)
    return "".join(f"{fault.path} cannot be read ({fault.detail})" for fault in own) or no_folder(folder.path)


def watch_folder(
    place: Location,
    folder: Path,
    output: Path | None,
    how: HowToPredict,
    say: Callable[[str], None],
    wait: Callable[[float], None] = time.sleep,
) -> Watched:
    """Predict on the images that appear below a folder, until Ctrl+C.

    Images that are there already are passed over. `predictions.csv` has each row at once, `predictions.parquet` appears
    at the end.

    Args:
        place: as of `predict`.
        folder: the folder.
        output: folder for tables and pictures; None: write nothing.
        how: how images are scored.
        say: called with a line for each image.
        wait: called with the seconds between two looks.
    Raises:
        InputError: there is no such detector or folder, the folder cannot be read, or the output
            has predictions already or is in the folder.
    """
    if reason := _why_unread(Folder(folder)):
        raise InputError(Problem(str(folder), reason, "the folder that new images are written to"))
    if output is not None:
        check_output(output, [folder])
    target, seen = load_target(place, how), Watched()
    new = NewFiles(folder)
    for note in target.notes:
        say(f"note: {note}")
    say(f"device: {device_text(target.first, how.device)}")
    there = f"{count_noun(len(new), 'image')} that {'is' if len(new) == 1 else 'are'} there already"
    say(f"watching {printable(str(folder))}, without {there}; Ctrl+C ends it")

    def failed(error: DataError) -> None:
        seen.skipped += 1
        say(f"skipped {error}")

    was_read = True
    with ExitStack() as stack:
        sink = None if output is None else stack.enter_context(Sink(output, target.first, how.pictures, live=True))
        try:
            while True:
                arrived = new.take()
                if was_read == bool(new.unread):
                    was_read = not was_read
                    say(printable(f"{folder} is read again" if was_read else f"waiting, as {new.unread}"))
                for passed in new.take_passed_over():
                    if isinstance(passed, Problem):
                        failed(DataError(passed))
                    else:
                        say(printable(f"note: {passed}"))
                for prediction in target.predictor.stream(arrived, batch_size=1, on_error=failed):
                    seen.count += 1
                    seen.anomalous += prediction.label == 1
                    say(line_of(prediction))
                    if note := _note_on_pages(prediction):
                        say(f"note: {note}")
                    if sink is not None:
                        sink.add(prediction, folder)
                wait(WAIT_S)
        except KeyboardInterrupt:
            pass
    return seen


def _note_on_pages(prediction: ImagePrediction) -> str:
    path = prediction.path
    return "" if path is None or not may_have_pages(path) else pages_note([path])


def line_of(prediction: ImagePrediction) -> str:
    """Return a prediction as one line."""
    parts = [prediction.label_text, f"score {score_text(prediction.score)}"]
    if prediction.threshold is not None:
        parts.append(f"threshold {score_text(prediction.threshold)}")
    elif prediction.decision.p_value is not None:
        parts.append(f"p-value {prediction.decision.p_value:.3g}")
    if prediction.agreement is not None:
        parts.append(f"{prediction.agreement:.0%} of seeds agree")
    if prediction.n_regions is not None:
        parts.append(count_noun(prediction.n_regions, "region"))
    if prediction.agrees is False:
        parts.append("the heatmap disagrees")
    return f"{prediction.name}: {', '.join(parts)}"

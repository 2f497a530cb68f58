"""Predict on image files: tables and pictures, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.prediction.found_images import FoundFiles, find_files
from fcdd_sweep.prediction.labels import Evaluator, LabelEvaluation, LabelledImage, LabelledSet, read_labels
from fcdd_sweep.prediction.outputs import PREDICTIONS, ShownRows, check_output
from fcdd_sweep.prediction.pictures import HEATMAPS
from fcdd_sweep.prediction.sink import Sink
from fcdd_sweep.prediction.targets import HowToPredict, Target, load_target
from fcdd_sweep.prediction.trained_on import unseen_images
from fcdd_sweep.results.storage import Location
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.device import no_gpu_reason
from fcdd_sweep.training.prediction import ImagePrediction

_NAMED = 4
DEFAULT = HowToPredict()


@dataclass(frozen=True)
class PredictionResult:
    """What `predict` found.

    Attributes:
        count: number of images scored.
        anomalous: how many of them are called anomalous; None without decisions.
        rows: of the table for the terminal, see `outputs.ShownRows`.
        unreadable: a sentence for each image that cannot be decoded, and on links and folders that cannot be read.
        device: what scored them, such as `cuda`; with the reason where `auto` fell back to the CPU.
        basis: what the decisions rest on, or why there are none.
        notes: sentences on the images as a whole, and on files and pages that are passed over.
        output: folder of `predictions.parquet`, `predictions.csv` and `heatmaps/`; None: nothing is written.
        evaluation: of the labelled images; None without labels.
        unread_maps: a sentence for each map of a labelled image that cannot be used; its image is scored.
    """

    count: int
    anomalous: int | None
    rows: tuple[tuple[str, ...], ...]
    unreadable: tuple[str, ...]
    device: str
    basis: str
    notes: tuple[str, ...] = ()
    output: Path | None = None
    evaluation: LabelEvaluation | None = None
    unread_maps: tuple[str, ...] = ()

    @property
    def scores(self) -> Path:
        """The table of all images, `predictions.parquet`."""
        assert self.output is not None
        return self.output / PREDICTIONS

    @property
    def heatmaps(self) -> Path:
        """The folder of pictures."""
        assert self.output is not None
        return self.output / HEATMAPS


@dataclass
class _Seen:
    """What becomes of the files: problems of the unreadable ones and of maps, and the share of clipped values."""

    unreadable: list[Problem]
    unread_maps: list[Problem] = field(default_factory=list)
    evaluator: Evaluator | None = None
    shown: ShownRows = field(default_factory=ShownRows)
    count: int = 0
    anomalous: int = 0
    undecided: int = 0
    basis: str = ""
    clipped: int = 0
    most_clipped: float = 0.0
    clipped_names: list[str] = field(default_factory=list)

    def failed(self, error: DataError) -> None:
        self.unreadable += error.problems

    def without_map(self, error: DataError) -> None:
        self.unread_maps += error.problems

    def add(self, prediction: ImagePrediction) -> int | None:
        """Take a prediction into account, and return the label that is known of its image."""
        self.shown.add(prediction)
        self.count += 1
        self.basis = prediction.basis
        self.anomalous += prediction.label == 1
        self.undecided += prediction.label is None
        if prediction.clipped:
            self.clipped += 1
            self.most_clipped = max(self.most_clipped, prediction.clipped)
            self.clipped_names = [*self.clipped_names, prediction.name][:_NAMED]
        return None if self.evaluator is None else self.evaluator.add(prediction)

    def notes(self, detector: Detector) -> tuple[str, ...]:
        if not self.clipped:
            return ()
        return (
            f"{self.clipped} of {self.count} images have values outside of the trained range, which are clipped "
            f"({detector.value_range}), at most {self.most_clipped:.2%} of an image: {name_list(self.clipped_names)}.",
        )


def predict(
    place: Location,
    paths: Sequence[Path],
    output: Path | None = None,
    how: HowToPredict = DEFAULT,
    labels: Path | None = None,
) -> PredictionResult:
    """Score image files, one batch at a time, and write tables and pictures as they come.

    All pictures share the color range of the trial's test set.

    Args:
        place: a snapshot, or the folder of a trial, a class or a run, on this machine or in an object store.
        paths: images, or folders that are searched for images.
        output: folder for `predictions.parquet`, `predictions.csv` and `heatmaps/`; None: write nothing.
        how: how images are scored and drawn.
        labels: a folder or table of images to score as well, and to compare with what it says of them.
    Raises:
        InputError: there is no such detector or image, no image can be read, or the output has predictions already
            or is in a folder of images.
    """
    found, target, known = _checked(paths, place, output, how, labels)
    labelled: tuple[LabelledImage, ...] = ()
    trained: list[str] = []
    if known is not None:
        labelled, trained = unseen_images(known.of_class(target.first.normal_class), target)
    tops = {file: top for top, file in found.files}
    only_labelled = [image.path for image in labelled if image.path not in tops]
    every = [*(file for _, file in found.files), *only_labelled]
    tops |= dict.fromkeys(only_labelled, Path() if known is None else known.top)
    if not every:
        raise InputError(found.problems or Problem(", ".join(map(str, paths)), "no image found"))
    unread = (*found.problems, *(() if known is None else known.problems))
    seen = _Seen(list(dict.fromkeys(unread)))
    if known is not None:
        seen.evaluator = Evaluator(labelled, target.first.settings.images, seen.without_map)
    with ExitStack() as stack:
        sink = None if output is None else stack.enter_context(Sink(output, target.first, how.pictures))
        for prediction in target.predictor.stream(every, batch_size=how.batch_size, on_error=seen.failed):
            given = seen.add(prediction)
            if sink is not None and prediction.path is not None:
                sink.add(prediction, tops[prediction.path], given)
        if not seen.count:
            raise InputError(seen.unreadable)
    evaluation = None if seen.evaluator is None else seen.evaluator.result(seen.basis)
    if evaluation is not None and output is not None:
        evaluation.write(output)
    of_labels = () if known is None else known.notes
    rule = () if sink is None or not sink.artist.rule else (sink.artist.rule,)
    return PredictionResult(
        count=seen.count,
        anomalous=None if seen.undecided == seen.count else seen.anomalous,
        rows=tuple(seen.shown.rows),
        unreadable=tuple(map(str, seen.unreadable)),
        device=device_text(target.first, how.device),
        basis=seen.basis,
        notes=(*target.notes, *found.notes, *of_labels, *trained, *seen.notes(target.first), *rule),
        output=output,
        evaluation=evaluation,
        unread_maps=tuple(map(str, seen.unread_maps)),
    )


def _checked(
    paths: Sequence[Path], place: Location, output: Path | None, how: HowToPredict, labels: Path | None
) -> tuple[FoundFiles, Target, LabelledSet | None]:
    """Return files, detector and labels; raise one error with the problems of all, those of the output among them."""
    found, target, known, errors = None, None, None, list[InputError]()
    try:
        found = find_files(paths)
    except InputError as error:
        errors.append(error)
    try:
        target = load_target(place, how)
    except InputError as error:
        errors.append(error)
    try:
        known = None if labels is None else read_labels(labels)
    except InputError as error:
        errors.append(error)
    try:
        if output is not None:
            check_output(output, paths if labels is None else [*paths, labels])
    except InputError as error:
        errors.append(error)
    if len(errors) > 1:
        raise InputError(problem for error in errors for problem in error.problems)
    if found is None or target is None or errors:
        raise errors[0]
    return found, target, known


def device_text(detector: Detector, wanted: str) -> str:
    """Return the device of a detector, with the reason where `auto` fell back to the CPU."""
    used = detector.device.type
    if wanted == "auto" and used == "cpu":
        return f"{used}, as torch sees no GPU ({no_gpu_reason()})"
    return used

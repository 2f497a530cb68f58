"""Labels of images, and how predictions compare with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Images
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.datasets.image_table import is_table, read_image_table
from fcdd_sweep.data.datasets.part_trees import FoundImages, find_parts
from fcdd_sweep.data.decoding.files import file_record
from fcdd_sweep.data.decoding.folders import Folder, no_folder, problems_of_faults
from fcdd_sweep.data.decoding.pixels import Decoding, read_mask, stored_orientation
from fcdd_sweep.data.decoding.survey import rule_of_maps
from fcdd_sweep.metrics.decision import Alarms, confusion
from fcdd_sweep.metrics.ranking import Ranking, auroc, cell_counts, rank
from fcdd_sweep.report.figures.roc import RocFigure, RocLine, draw_roc
from fcdd_sweep.report.figures.style import save
from fcdd_sweep.report.tables import write_csv
from fcdd_sweep.report.text import metric_text
from fcdd_sweep.results import files
from fcdd_sweep.results.prediction_schemas import EVALUATION, ROC_POINTS
from fcdd_sweep.training.prediction import ImagePrediction, ImageView
from fcdd_sweep.training.predictor import OnError

EVALUATION_CSV, ROC_CSV, ROC_PNG = "evaluation.csv", "roc.csv", "roc.png"
_WORDS = (
    "folders good (ok, normal) beside bad (defect, ng) or types of defects; one folder per class, also for the "
    "detector's; or a table with columns path, label, mask"
)
_SILENT = "its folders do not say which images are nominal and which anomalous"
_BINS = 1 << 21
"""Of heatmap values in `PixelCounts`."""
_KEPT_BITS = 23 - 13
"""Bits of a float32's fraction that a bin does not tell apart: bins are 0.01% wide."""


@dataclass(frozen=True)
class LabelledImage:
    """An image of which something is known.

    Attributes:
        path: the file.
        label: 1 anomalous, 0 nominal.
        class_name: of its class.
        masks: the files of its ground-truth maps.
    """

    path: Path
    label: int
    class_name: str
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LabelledSet:
    """The images of a folder or table, with their labels.

    Attributes:
        source: the folder or table.
        notes: how it was read, and what is passed over.
        problems: what cannot be read.
        one_vs_rest: whether images of all other classes are anomalous; their labels are those of `of_class`.
    """

    source: Path
    images: tuple[LabelledImage, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    one_vs_rest: bool = False

    @property
    def top(self) -> Path:
        """The folder that the images are below."""
        return self.source.parent if self.source.is_file() else self.source

    def of_class(self, name: str) -> tuple[LabelledImage, ...]:
        """Return the images that a detector of a class is tested on; those of a single class whatever its name.

        Raises:
            DataError: there are several classes, and none has the name.
        """
        classes = sorted({image.class_name for image in self.images})
        if len(classes) == 1:
            return self.images
        if name not in classes and self.one_vs_rest:
            what = f"{_SILENT}, and none of them ({', '.join(classes)}) is named as the detector's class, {name}"
            raise DataError(Problem(str(self.source), what, _WORDS))
        if self.one_vs_rest:
            return tuple(replace(image, label=int(image.class_name != name)) for image in self.images)
        if name not in classes:
            what = f"holds the classes {', '.join(classes)}, but the detector was trained on {name}"
            raise DataError(Problem(str(self.source), what, next_step="Name the folder of one class"))
        return tuple(image for image in self.images if image.class_name == name)


def read_labels(source: Path) -> LabelledSet:
    """Return the labelled images of a folder or a table; those of a training half are passed over.

    Raises:
        DataError: it is neither, or its folders say nothing of labels; names all problems.
    """
    if is_table(source):
        found: FoundImages | None = read_image_table(source)
    elif reason := no_folder(source):
        raise DataError(Problem(str(source), reason, _WORDS))
    else:
        found = find_parts(source, "auto") or find_parts(source, "mvtec")
    if found is not None and found.problems:
        raise DataError(found.problems)
    if found is None or all(image.path.parent == source for image in found.images):
        return _classes_below(source)
    used = [image for image in found.images if image.is_test is not False]
    images = tuple(
        LabelledImage(each.path, int(bool(each.defect)), each.class_name, found.maps.get(each.path, ()))
        for each in used
    )
    passed = len(found.images) - len(used)
    verb = "is" if passed == 1 else "are"
    skipped = (f"{count_noun(passed, 'image')} of the training half {verb} passed over.",) if passed else ()
    if not images:
        raise DataError(Problem(str(source), "holds training images only", _WORDS))
    faults = () if source.is_file() else problems_of_faults(Folder(source).all_faults)
    notes = (f"Labels read from {found.layout}.", *found.gaps, *skipped)
    return LabelledSet(source, images, notes, tuple(faults))


def _classes_below(source: Path) -> LabelledSet:
    """Return the images of a folder with a folder for each class.

    Raises:
        DataError: it has none, or images beside them.
    """
    folder = Folder(source)
    classes = {child.name: child.all_images for child in folder.folders if child.all_images}
    if len(classes) < 2 or folder.images:
        raise DataError(Problem(str(source), _SILENT, _WORDS))
    images = tuple(LabelledImage(path, 0, name) for name, paths in classes.items() for path in paths)
    note = "Labels read from one folder per class: the detector's class is nominal, all others are anomalous."
    return LabelledSet(source, images, (note,), tuple(problems_of_faults(folder.all_faults)), one_vs_rest=True)


@dataclass
class PixelCounts:
    """Numbers of nominal and anomalous pixels by heatmap value, in bins 0.01% wide: exact AUROC to about 1e-4."""

    positive: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    negative: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))

    def add(self, heatmap: npt.NDArray[np.float32], positive: npt.NDArray[Any], total: npt.NDArray[Any]) -> None:
        """Count the pixels that each cell of a heatmap stands for."""
        values = np.ascontiguousarray(np.maximum(heatmap, 0), np.float32).view(np.uint32).ravel()
        bins = (values >> _KEPT_BITS).astype(np.int64)
        for counts, weights in ((self.positive, positive), (self.negative, total - positive)):
            counts += np.bincount(bins, weights.ravel(), minlength=_BINS)

    def auroc(self) -> float:
        used = np.flatnonzero(self.positive + self.negative)
        if not len(used):
            return float("nan")
        return auroc(used.astype(np.float64), self.positive[used], self.negative[used])


class Evaluator:
    """Compares predictions with labels, one at a time.

    Images whose maps cannot be read are left out of the pixel metrics.
    """

    def __init__(self, images: Sequence[LabelledImage], settings: Images, on_error: OnError) -> None:
        self._on_error = on_error
        self._known: Mapping[Path, LabelledImage] = {image.path: image for image in images}
        with_masks = [image for image in images if image.masks]
        records = [
            file_record(image.path.parent, image.path, class_name="", is_test=True, defect="x", masks=image.masks)
            for image in with_masks
        ]
        rule = rule_of_maps(records, settings) if records else None
        self._decoding = None if rule is None else Decoding(maps=rule, max_megapixels=settings.max_megapixels)
        self._pixels = None if rule is None else PixelCounts()
        self._n_masks = 0
        self._facts: list[tuple[int, float, int | None, bool | None, float | None]] = []

    def add(self, prediction: ImagePrediction) -> int | None:
        """Take a prediction into account, and return the label that is known; None for an image without one."""
        image = None if prediction.path is None else self._known.get(prediction.path)
        if image is None:
            return None
        self._facts.append((image.label, prediction.score, prediction.label, prediction.agrees, prediction.threshold))
        if self._pixels is not None and (image.masks or not image.label):
            try:
                self._count_pixels(self._pixels, image, prediction.view)
            except DataError as error:
                self._on_error(error)
        return image.label

    def _count_pixels(self, counts: PixelCounts, image: LabelledImage, view: ImageView) -> None:
        top, bottom, left, right = view.box
        seen = self._mask(image, view.size)[top:bottom, left:right]
        if view.heatmap.shape == seen.shape:
            positive, total = seen.astype(np.int64), np.ones(seen.shape, np.int64)
        else:
            positive, total = cell_counts(seen, len(view.heatmap))
        counts.add(view.heatmap, positive, total)
        self._n_masks += bool(image.masks)

    def _mask(self, image: LabelledImage, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        united = np.zeros(size, np.bool_)
        assert self._decoding is not None
        for path in image.masks:
            mask = read_mask(path, self._decoding, stored_orientation(image.path), size)
            if mask.shape != size:
                shape, wanted = (f"{width}x{height}" for height, width in (mask.shape, size))
                what = f"the map has {shape} pixels, but its image {image.path} has {wanted}"
                raise DataError(Problem(str(path), what, next_step="Save the map at the size of its image"))
            united |= mask
        return united

    def result(self, basis: str) -> LabelEvaluation | None:
        """Return the comparison; None when no labelled image was scored.

        Args:
            basis: what the decisions rest on.
        """
        if not self._facts:
            return None
        label, score = (np.array([fact[i] for fact in self._facts]) for i in (0, 1))
        label = label.astype(np.int8)
        ranking, called = rank(score, label), [fact[2] for fact in self._facts]
        agrees, thresholds = [fact[3] for fact in self._facts], {fact[4] for fact in self._facts}
        row: dict[str, Any] = {
            "n_images": len(label),
            "n_nominal": int((label == 0).sum()),
            "n_anomalous": int(label.sum()),
            "image_auroc": ranking.auroc(),
            "image_ap": ranking.average_precision(),
            "n_masks": self._n_masks,
            "pixel_auroc": float("nan") if self._pixels is None else self._pixels.auroc(),
            "threshold": thresholds.pop() if len(thresholds) == 1 else None,
            "basis": basis,
            "agreement": None if None in agrees else float(np.mean(np.array(agrees, bool))),
        }
        if None not in called:
            decided = np.array(called, np.bool_)
            counts, shares = confusion(decided, label == 1)
            row |= counts | shares
            row |= dict(zip(_ALARMS, Alarms.of(decided[label == 0]), strict=True))
        nulls = dict.fromkeys(EVALUATION.names)
        return LabelEvaluation(files.nulled(nulls | row), ranking)


_ALARMS = ("false_alarm_rate", "false_alarm_low", "false_alarm_high")


@dataclass(frozen=True)
class LabelEvaluation:
    """How predictions compare with labels.

    Attributes:
        row: the columns of `evaluation.csv`; None where undefined.
        ranking: of the image scores.
    """

    row: Mapping[str, Any]
    ranking: Ranking

    def write(self, output: Path) -> None:
        """Write `evaluation.csv` and, where both labels occur, `roc.csv` and `roc.png`."""
        write_csv(output / EVALUATION_CSV, files.table_from_rows([self.row], EVALUATION))
        if not self.ranking.is_defined:
            return
        roc = self.ranking.roc
        columns = zip(roc.x, roc.y, self.ranking.pr.y, roc.threshold, strict=True)
        points = [dict(zip(ROC_POINTS.names, point, strict=True)) for point in columns]
        write_csv(output / ROC_CSV, files.table_from_rows(points, ROC_POINTS))
        label = f"images: AUROC {metric_text(self.row['image_auroc'])}"
        line = RocLine(label, roc.x, roc.y)
        title = f"{self.row['n_nominal']} nominal, {count_noun(self.row['n_anomalous'], 'anomalous image')}"
        save(draw_roc(RocFigure(title, (line,))), output / ROC_PNG)

    @property
    def lines(self) -> list[str]:
        """The comparison as lines of text."""
        row = self.row
        images = count_noun(row["n_images"], "labelled image")
        pixels = f"; pixel AUROC {metric_text(row['pixel_auroc'])}" if row["n_masks"] else ""
        lines = [
            f"{images}, {row['n_nominal']} nominal, {row['n_anomalous']} anomalous",
            f"image AUROC {metric_text(row['image_auroc'])}, average precision {metric_text(row['image_ap'])}{pixels}",
        ]
        if row["true_positives"] is None:
            return [*lines, "no decisions to compare"]
        found = f"{row['true_positives']} of {row['n_anomalous']} anomalous images are called anomalous"
        wrong = f"{row['false_positives']} of {row['n_nominal']} nominal ones"
        shares = ", ".join(f"{name} {metric_text(row[name])}" for name in ("precision", "recall", "f1", "accuracy"))
        rate, low, high = (metric_text(row[name]) for name in _ALARMS)
        return [*lines, f"{found}, and {wrong}", f"{shares}", f"false-alarm rate {rate}, 95% interval {low} to {high}"]

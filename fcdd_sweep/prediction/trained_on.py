"""Images of a labelled set that its detectors were trained or calibrated on, by the split of their own data set."""

from __future__ import annotations

from fcdd_sweep.config.errors import DataError, Problem, short_error
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.scanning import scan_dataset
from fcdd_sweep.prediction.labels import LabelledImage
from fcdd_sweep.prediction.targets import Target
from fcdd_sweep.report.run_files import UNREADABLE
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import SCORES

_LEFT_TEST = ("used_in_training", "validation")
"""Values of `split` in `scores.parquet` of images that a trial took from its test set."""


def unseen_images(images: tuple[LabelledImage, ...], target: Target) -> tuple[tuple[LabelledImage, ...], list[str]]:
    """Return the images that are not for training in the data set of the detectors, and sentences on the others.

    Files are compared, not their contents: copies are not recognized.

    Raises:
        DataError: all images are for training.
    """
    settings = target.first.settings
    dataset = settings.dataset.model_copy(update={"download": False})
    if dataset.root is None:  # its images are in no files of the user's
        return images, []
    scan = scan_dataset(dataset, settings.images)
    if not scan.is_whole:
        why = "; ".join(f"{problem.where}: {problem.what}" for problem in scan.problems) or scan.to_fetch
        what = "Whether the detector was trained on some of the labelled images is not known"
        return images, [printable(f"{what}, as its data set cannot be read here ({why}).")]
    taken, unknown = _taken_from_test(target)
    trained = {
        record.file.resolve()
        for record in scan.records
        if record.file is not None and (not record.is_test or record.path in taken)
    }
    unseen = tuple(image for image in images if image.path.resolve() not in trained)
    passed = len(images) - len(unseen)
    if images and not unseen:
        what = "all labelled images are for training or calibration in the data set of the detector"
        raise DataError(Problem(str(dataset.root), what, next_step="Name images that it was not trained on"))
    verb = "is" if passed == 1 else "are"
    sentence = f"{count_noun(passed, 'image')} that the detector was trained or calibrated on {verb} passed over."
    return unseen, [*([sentence] if passed else []), *unknown]


def _taken_from_test(target: Target) -> tuple[set[str], list[str]]:
    """Return the paths in the data set of what the trials took from their test sets, and sentences on those that are
    not known."""
    taken, unknown = set[str](), list[str]()
    for snapshot in target.snapshots:
        scores = snapshot.parent / SCORES
        try:
            table = files.read_table(scores)
            rows = list(zip(table["split"].to_pylist(), table["path"].to_pylist(), strict=True))
        except UNREADABLE as error:
            what = "Whether images that the detector took from its test set are among the labelled ones is not known"
            unknown.append(printable(f"{what}, as {scores} cannot be read ({short_error(error)})."))
        else:
            taken |= {path for split, path in rows if split in _LEFT_TEST}
    return taken, unknown

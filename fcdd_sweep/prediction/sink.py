"""Where predictions go: tables, and pictures of those that get one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from fcdd_sweep.prediction.found_images import PictureNames
from fcdd_sweep.prediction.outputs import PredictionFiles, make_folder, row_of
from fcdd_sweep.prediction.pictures import HEATMAPS, Artist, Wanted
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.prediction import ImagePrediction


class Sink:
    """The files in an output folder, a context; see `PredictionFiles` and `Artist`."""

    def __init__(self, output: Path, detector: Detector, pictures: Wanted, *, live: bool = False) -> None:
        make_folder(output)
        if pictures != "none":
            make_folder(output / HEATMAPS)
        self.artist = Artist(detector, output, pictures)
        self._tables = PredictionFiles(output, live=live)
        self._names = PictureNames()

    def __enter__(self) -> Self:
        self._tables.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._tables.__exit__(*error)

    def add(self, prediction: ImagePrediction, top: Path, given_label: int | None = None) -> None:
        """Write a prediction on a file.

        Args:
            prediction: of one image.
            top: the given path that the file was found at.
            given_label: what is known of the image.
        """
        assert prediction.path is not None
        path = self._names.path(top, prediction.path)
        heatmap = path.as_posix() if self.artist.draw(prediction, path) else None
        normal_class = self.artist.detector.normal_class
        self._tables.add(row_of(prediction, normal_class=normal_class, heatmap=heatmap, given_label=given_label))

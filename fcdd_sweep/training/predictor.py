"""Prediction on images in any form: paths, Pillow's images, arrays, batches of torch, lists and streams of them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import printable
from fcdd_sweep.data.decoding.folders import images_at, no_folder
from fcdd_sweep.data.decoding.given import GivenImage
from fcdd_sweep.training.prediction import ImagePrediction

OnError = Callable[[DataError], None]
_NO_IMAGES = (bytes, bytearray, memoryview, Mapping)
"""Types that can be iterated over, but hold no images; neither do open files."""
_KINDS = "paths, images of Pillow, arrays, tensors, and lists or iterators of them"


class ReadImage(NamedTuple):
    """An image that is ready to be scored.

    Attributes:
        name, path, clipped: as in `ImagePrediction`.
        raw: (C, R, R) uint8 at the detector's load size, or (C, H, W) where it is scored at its own scale.
        size: height and width of the image as it was given.
    """

    name: str
    path: Path | None
    raw: npt.NDArray[np.uint8]
    size: tuple[int, int]
    clipped: float = 0.0


class Predictor(ABC):
    """What predicts: a detector, several of them, or one that looks at images in tiles."""

    @property
    @abstractmethod
    def images_together(self) -> int:
        """How many images are scored together unless a caller says otherwise."""

    @abstractmethod
    def read(self, image: GivenImage, name: str) -> ReadImage:
        """Return an image ready to be scored; raise a `DataError` where that is impossible."""

    @abstractmethod
    def predict_batch(self, images: Sequence[ReadImage]) -> list[ImagePrediction]:
        """Return the predictions on one or more images."""

    def predict(self, images: Any, *, batch_size: int | None = None, on_error: OnError | None = None) -> Any:
        """Return what there is to say about images of any size and number.

        An image is brought to the size and the colors of the training images as a training image is. A path, its image
        in Pillow and its pixels in an array give the same prediction.

        Args:
            images: one image: a path, an image of Pillow, an array (H, W) or (H, W, 3), a tensor (C, H, W) or (H, W);
                a batch: an array (N, H, W, C) or (N, C, H, W), a tensor (N, C, H, W); a folder; a list of these; or an
                iterator of these, such as a loader of torch. Values as `data.decoding.given` says.
            batch_size: images scored together; None: by their size.
            on_error: called for each image that cannot be read, which is left out; None: raise.
        Returns:
            An `ImagePrediction` for one image, a list of them for a batch, a folder or a list; for an iterator an
            iterator, which reads at most one batch ahead.
        Raises:
            DataError: images cannot be read; names all of them, in a stream the first.
            TypeError: what is given is no image.
        """
        if isinstance(images, str | os.PathLike | Image.Image | np.ndarray | Tensor):
            single = _is_single(images)
            found = self._all([images], batch_size, on_error)
            return found[0] if single and found else None if single else found
        if isinstance(images, _NO_IMAGES) or hasattr(images, "read"):
            raise TypeError(f"found {type(images).__name__}. Allowed: {_KINDS}")
        if isinstance(images, Sequence):
            return self._all(images, batch_size, on_error)
        if not isinstance(images, Iterable):
            raise TypeError(f"found {type(images).__name__}. Allowed: {_KINDS}")
        return self.stream(images, batch_size=batch_size, on_error=on_error)

    def stream(
        self, images: Iterable[Any], *, batch_size: int | None = None, on_error: OnError | None = None
    ) -> Iterator[ImagePrediction]:
        """Yield predictions in the order of the images; at most one batch of images is in memory. See `predict`."""
        size = self.images_together if batch_size is None else batch_size
        waiting: list[ReadImage] = []
        for name, image in _one_by_one(images):
            try:
                if isinstance(image, DataError):
                    raise image
                waiting.append(self.read(image, name))
            except DataError as error:
                if on_error is None:
                    raise
                on_error(error)
            if len(waiting) >= size:
                yield from self.predict_batch(waiting)
                waiting = []
        if waiting:
            yield from self.predict_batch(waiting)

    def _all(self, images: Sequence[Any], batch_size: int | None, on_error: OnError | None) -> list[ImagePrediction]:
        errors: list[DataError] = []
        found = list(self.stream(images, batch_size=batch_size, on_error=on_error or errors.append))
        if errors:
            raise DataError(problem for error in errors for problem in error.problems)
        return found


def _is_single(given: Any) -> bool:
    if isinstance(given, str | os.PathLike):
        return bool(no_folder(Path(given)))
    return isinstance(given, Image.Image) or given.ndim < 4


def _one_by_one(images: Iterable[Any]) -> Iterator[tuple[str, GivenImage | DataError]]:
    """Yield each image with its name; batches and folders image by image, what a folder cannot show as an error."""
    count = 0
    for item in images:
        for name, image in _unpacked(item):
            yield name or f"image {count}", image
            count += 1


def _unpacked(item: Any) -> Iterator[tuple[str, GivenImage | DataError]]:
    if isinstance(item, str | os.PathLike):
        yield from _at_path(Path(item))
    elif isinstance(item, Image.Image):
        file = getattr(item, "filename", "")
        yield printable(os.fsdecode(file)) if isinstance(file, str | bytes) else "", item
    elif isinstance(item, Tensor):
        yield from (("", each) for each in _arrays_of(item))
    elif isinstance(item, np.ndarray):
        yield from (("", each) for each in (_channels_last(item) if item.ndim == 4 else item[None]))
    elif isinstance(item, tuple | list) and item and isinstance(item[0], Tensor | np.ndarray):
        yield from _unpacked(item[0])  # of a loader: images, labels
    else:
        raise TypeError(f"found {type(item).__name__}. Allowed: {_KINDS}")


def _at_path(path: Path) -> Iterator[tuple[str, Path | DataError]]:
    name = printable(str(path))
    if no_folder(path):
        yield name, path
        return
    found = images_at(path)
    if not found.images and not found.problems:
        yield name, DataError(Problem(str(path), "no image found"))
    for problem in found.problems:
        yield name, DataError(problem)
    for file in found.images:
        yield printable(str(file)), file


def _arrays_of(tensor: Tensor) -> Iterator[npt.NDArray[Any]]:
    """Yield the images of a tensor (H, W), (C, H, W) or (N, C, H, W) as (H, W) or (H, W, C)."""
    plain = tensor.detach().cpu()
    plain = plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain
    if plain.ndim == 2:
        yield plain.numpy()
    elif plain.ndim in (3, 4):
        yield from np.moveaxis(plain.numpy()[None] if plain.ndim == 3 else plain.numpy(), 1, -1)
    else:
        axes = "(H, W), (C, H, W) or (N, C, H, W)"
        raise DataError(Problem("tensor", f"found the axes {tuple(tensor.shape)}", axes))


def _channels_last(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return batch if batch.shape[-1] in (1, 3, 4) or batch.shape[1] not in (1, 3, 4) else np.moveaxis(batch, 1, -1)

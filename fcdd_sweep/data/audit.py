"""Images that leak from training into the test, and images that are both nominal and anomalous.

In one-vs-rest an image of two classes is both: each class takes the other for its anomalies.

Decoded images are compared: identical ones at any number of images, nearly identical ones (saved again, in another
format or size) of up to `NEAR_LIMIT` images. Nothing is left out for it: notes name the pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fcdd_sweep.data.corpus import Corpus

NEAR_LIMIT = 5_000
"""Of more images only identical ones are looked for."""
AUDIT_VERSION = 2
"""Raised by hand when other pairs or texts are found for the same images."""
_SIDE = 32
NEAR = 2.5
"""Largest difference of 255 levels between the means of two images' cells, of `_SIDE` x `_SIDE` cells or fewer."""
_NAMED = 3
Kinds = npt.NDArray[np.int64]
"""(N,) number of the kind that an image is of."""
Pairs = dict[int, int]
"""By image, its partner of a kind with a smaller number."""


def leak_notes(corpus: Corpus) -> tuple[str, ...]:
    """Return sentences on identical and nearly identical images that should have nothing in common."""
    digests = [hashlib.sha256(image.tobytes()).digest() for image in corpus.images]
    means = _cells(corpus.images) if len(digests) <= NEAR_LIMIT else None
    kinds: list[tuple[str, Kinds]] = [("both in training and in test", corpus.is_test.astype(np.int64))]
    if corpus.protocol == "defects":
        kinds.append(("both nominal and anomalous", corpus.is_anomalous.astype(np.int64)))
    else:
        kinds.append(("in two classes, so both nominal and anomalous", corpus.class_index))
    notes = [note for what, kind in kinds for note in _notes_of(corpus, what, _pairs(digests, means, kind))]
    if means is None:
        notes.append(f"Nearly identical images were not looked for, as there are more than {NEAR_LIMIT:,} images.")
    return tuple(notes)


def _notes_of(corpus: Corpus, what: str, pairs: tuple[Pairs, Pairs]) -> Iterator[str]:
    for word, found in zip(("identical", "nearly identical"), pairs, strict=True):
        if found:
            shown = ", ".join(f"{corpus.path[a]} and {corpus.path[b]}" for b, a in list(found.items())[:_NAMED])
            more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            pair = "pair of images is" if len(found) == 1 else "pairs of images are"
            yield f"{len(found)} {word} {pair} {what}: {shown}{more}."


def _pairs(digests: list[bytes], means: npt.NDArray[np.float32] | None, kind: Kinds) -> tuple[Pairs, Pairs]:
    """Return identical and nearly identical pairs of images of two kinds, for each image of the later kind."""
    first: dict[bytes, int] = {}
    for i in np.argsort(kind, kind="stable").tolist():
        first.setdefault(digests[i], i)
    same = {i: first[digest] for i, digest in enumerate(digests) if kind[first[digest]] < kind[i]}
    if means is None:
        return same, {}
    brightness = means.mean(1)
    order = np.argsort(brightness, kind="stable")
    sorted_brightness = brightness[order]
    near: Pairs = {}
    for i in np.flatnonzero(kind > kind.min(initial=0)).tolist():
        if i in same:
            continue
        low, high = np.searchsorted(sorted_brightness, [brightness[i] - NEAR, brightness[i] + NEAR])
        close = order[low:high]
        close = close[kind[close] < kind[i]]
        differences = np.abs(means[close] - means[i]).max(1, initial=0)
        if len(close) and differences.min() <= NEAR:
            near[i] = int(close[differences.argmin()])
    return same, near


def _cells(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return (N, cells) the means of each image's cells over pixels and channels, from (N, C, H, W)."""
    side = min(_SIDE, images.shape[-1])
    edges = np.arange(side) * images.shape[-1] // side
    sizes = np.diff([*edges, images.shape[-1]])
    found = np.empty((len(images), side * side), np.float32)
    for i, image in enumerate(images):
        gray = image.mean(0, dtype=np.float32)
        found[i] = (np.add.reduceat(np.add.reduceat(gray, edges, 0), edges, 1) / np.outer(sizes, sizes)).ravel()
    return found

"""Writers of image trees as users have them: whole, untidy and broken."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

Size = tuple[int, int]
T = TypeVar("T")
_NOBODY = 65534


def pixels(size: Size = (20, 24), mode: str = "RGB", seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth ramp with a little noise, (H, W) or (H, W, channels) uint8; `seed` makes them differ."""
    height, width = size
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 80, width))
    noisy = ramp[..., None] + rng.integers(0, 50, (height, width, len(mode)))
    return noisy.astype(np.uint8).squeeze(axis=2) if len(mode) == 1 else noisy.astype(np.uint8)


def write_image(path: Path, size: Size = (20, 24), mode: str = "RGB", seed: int = 0) -> Path:
    """An image file of the kind that the ending says; `size` is height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(size, mode, seed)).save(path)
    return path


def write_images(folder: Path, n: int, size: Size = (20, 24), suffix: str = ".png", seed: int = 0) -> list[Path]:
    """`n` images `000`, `001`, ... in a folder."""
    return [write_image(folder / f"{i:03}{suffix}", size, seed=seed * 1000 + i) for i in range(n)]


def write_mask(path: Path, size: Size = (20, 24), box: tuple[int, int, int, int] = (4, 5, 10, 12)) -> Path:
    """A map, 255 within `box` (top, left, bottom, right) and 0 elsewhere."""
    top, left, bottom, right = box
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def write_mvtec(
    root: Path,
    classes: Sequence[str] = ("bottle", "carpet"),
    size: Size = (20, 24),
    train: int = 4,
    test: int = 2,
    defects: Sequence[str] = ("crack", "hole"),
) -> Path:
    """The layout of MVTec-AD: `test` nominal images, and as many of each defect with their maps."""
    for number, name in enumerate(classes):
        write_images(root / name / "train" / "good", train, size, seed=10 * number + 1)
        write_images(root / name / "test" / "good", test, size, seed=10 * number + 2)
        for kind, defect in enumerate(defects):
            for image in write_images(root / name / "test" / defect, test, size, seed=10 * number + 3 + kind):
                write_mask(root / name / "ground_truth" / defect / f"{image.stem}_mask.png", size)
    return root


def write_class_first(root: Path, classes: Sequence[str] = ("bolt", "nut"), normal: str = "normal") -> Path:
    """CLASS/{train,test}/{normal,anomalous}, the defects in folders below `anomalous`."""
    for number, name in enumerate(classes):
        write_images(root / name / "train" / normal, 3, seed=10 * number)
        write_images(root / name / "train" / "anomalous", 1, seed=10 * number + 1)
        write_images(root / name / "test" / normal, 2, seed=10 * number + 2)
        write_images(root / name / "test" / "anomalous" / "bent", 2, seed=10 * number + 3)
        write_images(root / name / "test" / "anomalous" / "rust", 1, seed=10 * number + 4)
    return root


def write_split_first(root: Path, classes: Sequence[str] = ("bolt", "nut"), *, maps: bool = False) -> Path:
    """{train,test}/CLASS/{normal,anomalous}, with maps in `test_maps` on demand."""
    for number, name in enumerate(classes):
        write_images(root / "train" / name / "nominal", 3, seed=10 * number)
        write_images(root / "test" / name / "nominal", 2, seed=10 * number + 1)
        for image in write_images(root / "test" / name / "anomalous", 2, seed=10 * number + 2):
            if maps:
                write_mask(root / "test_maps" / name / "anomalous" / image.name)
    return root


def write_one_vs_rest(root: Path, classes: Sequence[str] = ("cat", "dog", "owl"), *, split: bool = True) -> Path:
    """{train,test}/CLASS/*, or CLASS/* alone."""
    for number, name in enumerate(classes):
        if split:
            write_images(root / "train" / name, 4, seed=10 * number)
            write_images(root / "test" / name, 2, seed=10 * number + 1)
        else:
            write_images(root / name, 12, seed=10 * number)
    return root


def write_habits(root: Path) -> Path:
    """A class-first tree as people keep them; `Schraube groß` has anomalies and maps, `plain` has none."""
    odd = root / "Schraube groß"
    write_image(odd / "Train" / "good" / "IMG 001.JPG", (30, 40), seed=1)
    write_image(odd / "Train" / "good" / "scan.TIFF", (24, 24), "L", seed=2)
    write_image(odd / "Train" / "good" / "nested" / "süß.webp", (16, 50), seed=3)
    write_image(odd / "Train" / "good" / "old.bmp", (12, 12), seed=4)
    write_image(odd / "Train" / "good" / "export.png", (20, 20), "RGBA", seed=5)
    write_image(odd / "test" / "good" / "a.jpeg", (31, 17), seed=6)
    write_image(odd / "test" / "anomalous" / "Kratzer tief" / "b.PNG", (18, 22), seed=7)
    write_image(odd / "test" / "anomalous" / "c.jpg", (18, 22), "L", seed=8)
    write_mask(odd / "test_maps" / "anomalous" / "Kratzer tief" / "b.bmp", (18, 22))
    write_images(root / "plain" / "train" / "normal", 2, seed=9)
    write_images(root / "plain" / "test" / "normal", 1, seed=10)
    for junk in ("Thumbs.db", ".DS_Store", "._IMG 001.JPG", "notes.txt"):
        (odd / "Train" / "good" / junk).write_bytes(b"no image")
    write_image(odd / "Train" / "good" / ".trash" / "gone.png")
    write_image(root / ".thumbnails" / "x.png")
    (root / "readme.md").write_text("about these images")
    return root


def corrupt(path: Path) -> Path:
    """Replace a file's content by what is no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is not an image")
    return path


def truncate(path: Path, share: float = 0.5) -> Path:
    """Cut a file, as a copy that broke off would leave it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def as_nobody(question: Callable[[], T]) -> T:
    """The answer of a function in a child process that permissions bind: tests may run as root."""
    if os.getuid():
        return question()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        sender.send(question())

    process = context.Process(target=child)
    process.start()
    sender.close()
    answer: T = receiver.recv()
    process.join()
    return answer


def reachable_folder() -> Path:
    """A new folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="fcdd-test-"))
    folder.chmod(0o755)
    return folder

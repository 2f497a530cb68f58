"""Photograph pages of reports in a headless Chromium: any page, or those of made runs for the documentation.

    python benchmarks/report_pictures.py PAGE.html FOLDER       the page at 1400 px, on a phone, in dark mode and on A4
    python benchmarks/report_pictures.py --docs [FOLDER]        docs/report.png, report_grid.png and report_search.png

Needs Chromium; pages of A4 need `pdftoppm` (poppler), too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from fcdd_sweep.report.aggregate import aggregate
from tests.browsers import chromium
from tests.fake_search import FakeSearch, searched_run
from tests.fakes import EXPERIMENT, FakeRun

ROOT = Path(__file__).parent.parent
WIDE, PHONE, DOCS = 1400, 420, 1000
"""Widths in pixels."""
_TALL = 12_000
"""Height of a window in which a whole page fits; what is empty below it is cut off."""
_DARK = ("@media (prefers-color-scheme: dark)", "@media all")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000")
CLASSES, SEEDS = [f"texture {i}" for i in range(10)], range(3)
CONFIGS = {
    f"learning_rate-{rate}_limit-{limit}": {"training.learning_rate": rate, "anomalies.limit": limit}
    for rate, limit in ((0.1, 8), (0.01, 8), (0.001, 8), (0.01, 1), (0.01, 64))
}


def browse(*options: str) -> None:
    """Run Chromium without a window; raise where it fails."""
    program = chromium()
    if program is None:
        raise SystemExit("no Chromium on this machine")
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *_OPTIONS, f"--user-data-dir={profile}", *options]
        subprocess.run(command, check=True, capture_output=True, timeout=300)


def changed_copy(page: Path, *changes: tuple[str, str]) -> Path:
    """Return a copy beside a page, in which texts are replaced."""
    text = page.read_text(encoding="utf-8")
    for old, new in changes:
        text = text.replace(old, new)
    copy = page.with_name(f"{page.stem}-changed.html")
    copy.write_text(text, encoding="utf-8")
    return copy


def photograph(page: Path, path: Path, width: int = WIDE, height: int = _TALL, *, dark: bool = False) -> Path:
    """Write a picture of a page at a width in pixels, of the whole page or of its first screen of this height."""
    shown = changed_copy(page, _DARK) if dark else page
    browse(f"--window-size={max(width, 500)},{height}", f"--screenshot={path}", _framed(shown, width, height).as_uri())
    with Image.open(path) as picture:
        cut = picture.convert("RGB").crop((0, 0, width, picture.height))
    used = _used_height(cut) if height == _TALL else height
    cut.crop((0, 0, width, used)).save(path, optimize=True)
    return path


def _framed(page: Path, width: int, height: int) -> Path:
    """Return a page with a frame of this width: windows are not narrower than 500 px."""
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<body style="margin:0;background:#fff"><iframe src="{page.name}" '
        f'style="border:0;width:{width}px;height:{height}px"></iframe>'
    )
    return frame


def _used_height(picture: Image.Image) -> int:
    """Return the rows down to the last in which the right part of the picture is not of one color."""
    pixels = np.asarray(picture.convert("L"))[:, picture.width // 4 : picture.width - 20]
    used = np.flatnonzero(pixels.min(axis=1) != pixels.max(axis=1))
    return min(picture.height, int(used[-1]) + 40) if len(used) else picture.height


def printed(page: Path, folder: Path) -> list[Path]:
    """Write the pages that are printed on A4 as pictures; return their paths."""
    document = folder / f"{page.parent.name}.pdf"
    browse("--no-pdf-header-footer", f"--print-to-pdf={document}", page.as_uri())
    subprocess.run(["pdftoppm", "-r", "60", "-png", str(document), str(folder / "a4")], check=True)
    return sorted(folder.glob("a4-*.png"))


def made_run(path: Path, configs: dict[str, dict[str, float]] | None, tell: Callable[[str], object]) -> Path:
    """Return the report of a run of ten classes and three seeds whose AUROCs differ by config, class and seed."""
    run = FakeRun(path, f"{EXPERIMENT}keep: {{pictures: none}}\n").plan(CLASSES, SEEDS, configs)
    rng = np.random.default_rng(0)
    for number, config in enumerate(configs or {"": {}}):
        for place, name in enumerate(CLASSES):
            for seed in SEEDS:
                wrong = 1 + number + place % 3 + int(rng.integers(0, 3))
                run.finish(config, name, seed, wrong=wrong, threshold=0.45, size=64)
        tell(f"{path.name}: config {number + 1} made")
    report = aggregate(run.write(), warn=tell)
    return Path(str(report))


def made_search(path: Path) -> Path:
    """Return the report of a search of 20 configs."""
    return Path(str(aggregate(searched_run(path, FakeSearch().confirm().prune_curves().weigh()))))


def photograph_for_docs(page: Path, path: Path, height: int, *, dark: bool) -> Path:
    """Write a picture of the first screen of a page, which is smaller than it looks in a browser."""
    photograph(page, path, WIDE, height * WIDE // DOCS, dark=dark)
    with Image.open(path) as picture:
        small = picture.resize((DOCS, height), Image.Resampling.LANCZOS)
    small.save(path, optimize=True)
    return path


def draw_for_docs(docs: Path) -> None:
    """Write the pictures of the documentation."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        pages = {
            "report": (made_run(runs / "textures", None, print), 900, False),
            "report_grid": (made_run(runs / "grid", CONFIGS, print), 1500, False),
            "report_search": (made_search(runs / "search"), 900, True),
        }
        for name, (page, height, dark) in pages.items():
            path = photograph_for_docs(page, docs / f"{name}.png", height, dark=dark)
            print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--docs", action="store_true", help="the pictures of the documentation, of made runs")
    options = parser.parse_args()
    if options.docs:
        draw_for_docs(options.folder or options.page or ROOT / "docs")
        return
    if options.page is None or options.folder is None:
        parser.error("give a page and a folder, or --docs")
    options.folder.mkdir(parents=True, exist_ok=True)
    page, folder = options.page.absolute(), options.folder.absolute()
    photograph(page, folder / "wide.png")
    photograph(page, folder / "phone.png", PHONE)
    photograph(page, folder / "dark.png", dark=True)
    for path in [folder / "wide.png", folder / "phone.png", folder / "dark.png", *printed(page, folder)]:
        print(path)


if __name__ == "__main__":
    main()

"""A page in a headless Chromium: its size at several widths, its images, and what its console says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
A4_PX = 710
"""Width that is printed on A4 between margins of 11 mm."""
_HARNESS = """<!doctype html><meta charset="utf-8"><body><script>
const widths = %s, found = {};
const outside = (page, width) => Array.from(page.querySelectorAll("body *")).filter((e) => {
  const box = e.getBoundingClientRect();
  const scrolls = e.parentElement.closest(".wide, nav, pre");
  return box.width && box.right > width + 1 && !scrolls;
}).map((e) => `${e.tagName} ${e.getAttribute("class")} ${e.textContent.slice(0, 20)}`);
function measured(page, width) {
  const rows = Array.from(page.querySelectorAll("table.metrics")).slice(0, 1).map((t) => {
    const cell = Array.from(t.querySelectorAll("th")).find((th) => th.textContent.includes("AUROC"));
    return Math.round(cell.getBoundingClientRect().right);
  });
  const tables = Array.from(page.querySelectorAll(".wide")).filter((w) => w.scrollWidth > w.clientWidth + 1);
  const images = Array.from(page.images);
  images.forEach((image) => { image.loading = "eager"; });
  return { over: page.documentElement.scrollWidth - width, outside: outside(page, width).slice(0, 5), auroc: rows[0],
    images: images.length, broken: images.filter((i) => i.complete && !i.naturalWidth).length,
    cut: tables.length, sortable: page.querySelectorAll("th button").length,
    height: page.documentElement.scrollHeight };
}
let waiting = widths.length;
for (const [name, file, width, open] of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.addEventListener("load", () => setTimeout(() => {
    const page = frame.contentDocument;
    if (open) for (const d of page.querySelectorAll("details")) d.open = true;
    found[name] = measured(page, width);
    if (--waiting === 0) {
      const out = document.createElement("pre");
      out.id = "found";
      out.textContent = JSON.stringify(found);
      document.body.append(out);
    }
  }, 300));
  frame.src = file;
  document.body.append(frame);
}
</script>"""


def chromium() -> str | None:
    """The browser's program, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def printed_copy(page: Path, path: Path) -> Path:
    """A copy that shows on a screen what is printed."""
    text = page.read_text().replace("@media print", "@media all")
    path.write_text(text)
    return path


def measure(views: list[tuple[str, Path, int, bool]], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What each view of a page measures, by its name, and the lines of the console.

    A view is a name, a page, a width in pixels, and whether everything folded is open.
    """
    harness = folder / "harness.html"
    given = [(name, page.as_uri(), width, is_open) for name, page, width, is_open in views]
    harness.write_text(_HARNESS % json.dumps(given))
    command = [
        chromium(),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"),
        *(
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=8000",
            "--window-size=1600,1000",
            "--hide-scrollbars",
        ),
        f"--user-data-dir={folder / 'profile'}",
        *("--dump-dom", harness.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    text = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert text, result.stderr[-2000:]
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(text[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")), console

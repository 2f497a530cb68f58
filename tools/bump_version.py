"""Set the project's version and date the changelog's section "Unreleased".

python tools/bump_version.py 0.2.0
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION_LINE = re.compile(r'^version = "(\d+)\.(\d+)\.(\d+)"$', flags=re.MULTILINE)
UNRELEASED = "## Unreleased\n"


def bump(root: Path, version: str, date: dt.date) -> None:
    """Write the version into `pyproject.toml` and, with the date, above the unreleased changes of `CHANGELOG.md`.

    Nothing is written unless both files can be changed.

    Raises:
        ValueError: the version is not three numbers or is lower than the current one, or there is nothing to release.
    """
    project, changelog = root / "pyproject.toml", root / "CHANGELOG.md"
    settings, changes = project.read_text(encoding="utf-8"), changelog.read_text(encoding="utf-8")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"a version is three numbers, such as 0.2.0; found {version!r}")
    current = VERSION_LINE.search(settings)
    if current is None:
        raise ValueError(f'{project} has no line version = "X.Y.Z"')
    if tuple(map(int, version.split("."))) < tuple(map(int, current.groups())):
        raise ValueError(f"{version} is lower than the current version {'.'.join(current.groups())}")
    if f"## {version} " in changes:
        raise ValueError(f"{changelog} already has a section for {version}")
    if not unreleased(changes):
        raise ValueError(f'{changelog} has no changes under "{UNRELEASED.strip()}"')
    dated = changes.replace(UNRELEASED, f"{UNRELEASED}\n## {version} ({date.isoformat()})\n", 1)
    project.write_text(VERSION_LINE.sub(f'version = "{version}"', settings, count=1), encoding="utf-8")
    changelog.write_text(dated, encoding="utf-8")


def unreleased(changes: str) -> str:
    """Return the text of the section "Unreleased", without its title; empty when there is none."""
    return changes.partition(UNRELEASED)[2].partition("\n## ")[0].strip()


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description='Set the version and date the changelog\'s section "Unreleased".')
    parser.add_argument("version", help="the new version, such as 0.2.0")
    options = parser.parse_args(arguments)
    try:
        bump(ROOT, options.version, dt.datetime.now(tz=dt.UTC).date())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

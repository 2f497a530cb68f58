"""The process of the command line: `python -m fcdd_sweep EXPERIMENT.yaml`, or `fcdd-sweep EXPERIMENT.yaml`."""

import sys
from pathlib import Path

_OLDEST = (3, 11, 4)
_BAD_INPUT = 2
"""As in `commands.ExitCode`, which may not be importable."""


def start() -> int:
    """Run the command of `sys.argv` and return its exit code.

    A Python that cannot run it gets one sentence: `python -m` works in any checkout, with whatever Python is active.
    """
    if sys.version_info < _OLDEST:
        return _refuse(f"fcdd_sweep needs Python {_text(_OLDEST)} or newer, and {sys.executable} is {_text()}")
    try:
        from fcdd_sweep import cli, output

        output.guard()
        return cli.main()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fcdd_sweep."):
            raise
        missing = error.name if error.name == "fcdd_sweep" else f"{error.name}, which fcdd_sweep needs,"
        return _refuse(f"{missing} is not installed for {sys.executable}")


def _refuse(what: str) -> int:
    print(f"error: {what}. {_next_step(Path(__file__).resolve().parent.parent)}", file=sys.stderr)
    return _BAD_INPUT


def _text(version: tuple[int, ...] = sys.version_info[:3]) -> str:
    return ".".join(map(str, version))


def _next_step(root: Path) -> str:
    """Return how to get a Python that has all that is needed; `root` is the folder that holds the package."""
    environment = root / ".venv"
    if not (root / "pyproject.toml").is_file():
        return "Install the wheel of fcdd_sweep again, with all that it requires"
    if Path(sys.prefix).resolve() != environment and (environment / ".installed").is_file():
        return f"Activate the environment that has it: . {environment}/bin/activate"
    return f"Install it: make -C {root} setup, then activate it: . {environment}/bin/activate"


if __name__ == "__main__":
    raise SystemExit(start())

"""The process of the command line, in a Python that may lack what it needs."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fcdd_sweep import __main__ as process
from fcdd_sweep.commands import ExitCode

ROOT = Path(__file__).parent.parent


def python(executable, *arguments, checkout=ROOT):
    """Run a Python in which a checkout can be imported, as in the checkout's folder; gives exit code and stderr."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    ended = subprocess.run([executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True)
    return ended.returncode, ended.stderr


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "fcdd_sweep", tmp_path / "checkout" / "fcdd_sweep")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.mark.slow
def test_a_python_without_the_dependencies_is_reported_how_to_get_them(checkout, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = tmp_path / "bare" / "bin" / "python"
    code, reported = python(bare, "-m", "fcdd_sweep", "list", checkout=checkout)
    assert code == ExitCode.BAD_INPUT and reported.count("\n") == 1
    assert ", which fcdd_sweep needs, is not" in reported
    assert f"is not installed for {bare}. Install it: make -C {checkout} setup" in reported
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".installed").touch()
    code, reported = python(bare, "-m", "fcdd_sweep", "list", checkout=checkout)
    assert code == ExitCode.BAD_INPUT and reported.count("\n") == 1
    assert reported.endswith(f"Activate the environment that has it: . {checkout}/.venv/bin/activate\n")


WITHOUT_DISTRIBUTION = """
import importlib.metadata, sys
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
sys.argv = ["fcdd-sweep", "list"]
from fcdd_sweep.__main__ import start
raise SystemExit(start())
"""


@pytest.mark.slow
def test_a_python_without_the_distribution_is_reported_how_to_get_it():
    code, reported = python(sys.executable, "-c", WITHOUT_DISTRIBUTION)
    assert code == ExitCode.BAD_INPUT and reported.count("\n") == 1
    assert reported.startswith(f"error: fcdd_sweep is not installed for {sys.executable}. ")


def test_a_python_that_is_too_old_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(process.sys, "version_info", (3, 10, 1))
    assert process.start() == ExitCode.BAD_INPUT
    assert "fcdd_sweep needs Python 3.11.4 or newer" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_bug(monkeypatch):
    def broken():
        raise ModuleNotFoundError("no", name="fcdd_sweep.gone")

    monkeypatch.setattr("fcdd_sweep.output.guard", lambda: None)
    monkeypatch.setattr("fcdd_sweep.cli.main", broken)
    with pytest.raises(ModuleNotFoundError):
        process.start()


def test_the_next_step_fits_where_the_package_lies(tmp_path, monkeypatch):
    assert "wheel" in process._next_step(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert f"make -C {tmp_path} setup" in process._next_step(tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert process._next_step(tmp_path).startswith("Activate")
    monkeypatch.setattr(process.sys, "prefix", str(tmp_path / ".venv"))
    assert f"make -C {tmp_path} setup" in process._next_step(tmp_path)


def test_the_console_script_is_this_process():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"fcdd-sweep": f"{process.start.__module__}:{process.start.__name__}"}

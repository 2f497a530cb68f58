"""Imports go one way, and heavy packages stay in their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fcdd_sweep"
BASE = {"config", "metrics"}
STUFF = {"data", "anomalies", "networks"} | BASE
MAY_IMPORT = {
    "config": set(),
    "metrics": {"config"},
    "results": {"config"},
    "data": BASE,
    "anomalies": {"data"} | BASE,
    "networks": BASE,
    "training": STUFF,
    "planning": STUFF,
    "report": {"results"} | BASE,
    "runners": {"planning", "training", "results"} | STUFF,
    "sweep": {"runners", "planning", "training", "report", "results"} | STUFF,
    "search": {"sweep", "runners", "planning", "training", "report", "results"} | STUFF,
    "run": {"search", "sweep", "runners", "planning", "results", "config"},
    "prediction": {"training", "report", "results", "data"} | BASE,
    "own_images": {"planning"} | STUFF,
    "doctor": {"runners", "config"},
    "export": {"prediction", "training", "results", "data"} | BASE,
    "progress": {"sweep", "runners", "results", "config"},
    "api": {"run", "progress", "search", "sweep", "report", "planning", "config"},
    "output": set(),
    "commands": {
        "run",
        "progress",
        "output",
        "prediction",
        "export",
        "own_images",
        "doctor",
        "search",
        "sweep",
        "runners",
        "planning",
        "report",
    }
    | {"results"}
    | STUFF,
    "detector_commands": {"commands", "prediction", "export", "report", "config"},
    "report_commands": {"commands", "report", "results", "config"},
    "cli": {"commands", "detector_commands", "report_commands", "config"},
}
"""Which rooms a room may import from besides itself. From `run` on they are single files."""
HEAVY = {
    "ray": ["runners/ray_"],
    "optuna": ["search/"],
    "torch": [
        *("networks/build", "networks/layer_modules", "networks/backbones", "networks/pretrained", "training/"),
        *("anomalies/", "runners/trial_data", "sweep/trial", "export", "doctor"),
    ],
    "tensorboardX": ["sweep/trackers"],
    "mlflow": ["sweep/trackers"],
    "wandb": ["sweep/trackers"],
    "onnxruntime": ["export"],
    "torchvision": ["data/", "networks/backbones", "networks/pretrained"],
}
"""Where a package may be imported, by the beginning of the file's path."""


def imports(path):
    """Every module that a file imports, at its top or inside functions, but for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "__main__.py")]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    used = {name.split(".")[1] for name in imports(path) if name.startswith("fcdd_sweep.")}
    above = used - MAY_IMPORT[room] - {room}
    assert not above, f"{room} must not import {sorted(above)}"


def module_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imported_modules():
    """By module, the modules of the package that it imports, at its top or inside functions."""
    modules = {module_of(path): path for path in files()}
    graph = {}
    for module, path in modules.items():
        used = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[module] = used & modules.keys()
    return graph


def circle_in(graph):
    """A circle of a graph as a list of its nodes, or an empty list."""
    done, way = set(), []

    def visit(node):
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        way.append(node)
        for other in sorted(graph[node]):
            if found := visit(other):
                return found
        way.pop()
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node))), [])


def test_no_modules_import_each_other_in_a_circle():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle_in(imported_modules()) == []


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_in_their_rooms(package):
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in files()
        if any(name.split(".")[0] == package for name in imports(path))
    }
    assert [name for name in found if not name.startswith(tuple(HEAVY[package]))] == []


_BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
{statement}
"""


def blocked(statement, *packages):
    """Run a statement in a fresh Python in which some packages cannot be imported."""
    program = _BLOCK.format(packages=packages, statement=statement)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    "statement",
    [
        "import fcdd_sweep; fcdd_sweep.Run, fcdd_sweep.InputError, fcdd_sweep.load_experiment",
        "import fcdd_sweep.report.aggregate, fcdd_sweep.report.figures.trial_figures, fcdd_sweep.report.status",
        "import fcdd_sweep.config.loading, fcdd_sweep.planning.plan",
        "import fcdd_sweep.cli; fcdd_sweep.cli.main(['list'])",
    ],
)
@pytest.mark.slow
def test_reports_and_plans_need_neither_torch_nor_ray(statement):
    result = blocked(statement, "torch", "torchvision", "ray", "optuna")
    assert result.returncode == 0, result.stderr


_FORKS = """
import os, sys, traceback
import torch  # takes most of the time of either case, so it is imported once
for statement, packages in {cases!r}:
    if not os.fork():
        class Block:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in packages:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Block())
        try:
            exec(statement)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
WITH_TORCH = {
    "training and sweeps in process need neither Ray nor Optuna": (
        "import fcdd_sweep.training.trainer, fcdd_sweep.sweep.sweep, fcdd_sweep.run, fcdd_sweep.prediction.predict",
        ("ray", "optuna"),
    ),
    "a worker starts without torchvision, which few networks need": (
        "import fcdd_sweep.runners.ray_worker",
        ("torchvision", "sklearn", "matplotlib"),
    ),
    "a blocked package really is blocked": ("import scipy", ("scipy",)),
}


@pytest.fixture(scope="module")
def with_torch():
    """Return the exit codes of `WITH_TORCH`, each case in a fork of one process that imported torch, and stderr."""
    program = _FORKS.format(cases=list(WITH_TORCH.values()))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return dict(zip(WITH_TORCH, map(int, result.stdout.split()), strict=True)), result.stderr


@pytest.mark.parametrize("case", WITH_TORCH)
@pytest.mark.slow
def test_importing_with_torch(case, with_torch):
    codes, said = with_torch
    assert codes[case] == (1 if case == "a blocked package really is blocked" else 0), said


def test_a_blocked_package_really_is_blocked():
    result = blocked("import torch", "torch")
    assert result.returncode != 0 and "torch" in result.stderr

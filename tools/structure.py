"""Print figures on the structure of the package: files, functions, importers, circles, and what a TrialSpec visits.

    python tools/structure.py [CHECKOUT]

A module's importers are the other modules of the package that import it, at their top or inside functions. A
`TrialSpec` visits every file that names the type or has a parameter `spec` or `specs`.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path


def modules_of(root: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of every module, by dotted name without the package's; `__init__` files are left out."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(root.rglob("*.py"))
        if not path.name.startswith("__")
    }


def imports_of(trees: dict[str, ast.Module], package: str) -> dict[str, set[str]]:
    """Return by module the modules that it imports."""
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        used = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
                module = node.module.removeprefix(f"{package}.")
                used |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        graph[name] = (used & trees.keys()) - {name}
    return graph


def tested_by(checkout: Path, trees: dict[str, ast.Module], package: str) -> set[str]:
    """Return the modules that a file below `tests` imports, at its top or inside functions."""
    texts = [path.read_text() for path in (checkout / "tests").rglob("*.py")]
    used = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(package):
                module = node.module.removeprefix(package).removeprefix(".")
                used |= {module, *(f"{module}.{alias.name}".removeprefix(".") for alias in node.names)}
    return used & trees.keys()


def circles_of(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, by Tarjan's algorithm (1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def names_spec(tree: ast.Module) -> bool:
    """Whether a module names `TrialSpec`, or has a parameter `spec` or `specs`."""
    named = any(isinstance(node, ast.Name) and node.id == "TrialSpec" for node in ast.walk(tree))
    return named or any(
        argument.arg in ("spec", "specs")
        for function in functions_of(tree)
        for argument in [*function.args.args, *function.args.kwonlyargs]
    )


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main() -> None:
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    root = checkout / "fcdd_sweep"
    trees = modules_of(root)
    graph = imports_of(trees, root.name)
    sizes = {name: len((root / f"{name.replace('.', '/')}.py").read_text().splitlines()) for name in trees}
    lengths = [(node.end_lineno or 0) - node.lineno + 1 for tree in trees.values() for node in functions_of(tree)]
    arguments = [
        len([a for a in [*node.args.args, *node.args.kwonlyargs] if a.arg not in ("self", "cls")])
        for tree in trees.values()
        for node in functions_of(tree)
    ]
    importers = {name: [other for other in graph if name in graph[other]] for name in graph}
    single = [name for name, others in importers.items() if len(others) == 1]
    circles = circles_of(graph)
    print(f"modules: {len(trees)}; without package files, of {len(list(root.rglob('*.py')))} Python files")
    print(f"lines of a module: median {statistics.median(sizes.values()):.0f}, longest {max(sizes.values())}")
    short, long = sum(size < 60 for size in sizes.values()), sum(size > 400 for size in sizes.values())
    print(f"modules under 60 lines: {short}; over 400: {long}")
    print(
        f"lines of a function: median {statistics.median(lengths):.0f}, 90th percentile {percentile(lengths, 0.9)}, "
        f"longest {max(lengths)}, of {len(lengths)}; more than six arguments: {sum(count > 6 for count in arguments)}"
    )
    print(f"modules with one importer: {len(single)}")
    print(f"modules that no test imports: {len(trees.keys() - tested_by(checkout, trees, root.name))}")
    print(f"import circles: {len(circles)} {circles if circles else ''}".rstrip())
    print(f"modules that a TrialSpec visits: {sum(names_spec(tree) for tree in trees.values())}")


if __name__ == "__main__":
    main()

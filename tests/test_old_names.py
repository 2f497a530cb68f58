"""Old names stay out of the code: one word for one meaning, by kind and scope.

Identifiers are checked, never prose, and an ordinary word keeps its other uses (`seeds`, a trial's `leaf`, the mode
`noise`). Each row reads: kind, scope, old name, new name. The new names are for the reader; they may change again.
"""

import argparse
import ast
import functools
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import pyarrow as pa
import pytest
from pydantic import BaseModel

from fcdd_sweep import cli
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.results import schemas, search_schemas

PACKAGE = Path(__file__).parent.parent / "fcdd_sweep"


class OldName(NamedTuple):
    """One row of the table.

    Attributes:
        kind: a key of `CHECKERS`.
        scope: `module`: unused; `class`, `function`, `constant`, `word`: pattern of files below the package, `**` for
            all; `key`: unused; `value`: the dotted key that must not accept it; `column`: the table; `option`: the
            command.
        old: what must not come back.
        new: what stands in its place.
    """

    kind: str
    scope: str
    old: str
    new: str


TABLE = (Path(__file__).parent / "old_names.txt").read_text()


def table(text: str) -> list[OldName]:
    """Parse rows: kind, scope and old name end at the first space, the rest is the new name."""
    return [OldName(*line.split(maxsplit=3)) for line in text.splitlines() if line]


ROWS = table(TABLE)


def files_in(package: Path, scope: str) -> list[Path]:
    """Return the package's files that a scope matches: `**`, `room/*` or `room/**`."""
    pattern = scope if scope.endswith(".py") else f"{scope}/*.py" if scope.endswith("**") else f"{scope}.py"
    return sorted(package.glob(pattern))


@functools.cache
def defined(path: Path) -> dict[str, set[str]]:
    """Return the names that a file defines, by kind. Type aliases count as classes and as constants."""
    tree = ast.parse(path.read_text())
    found: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found["class"].add(node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found["function"].add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found["class"] |= {alias.asname for alias in node.names if alias.asname}
    for name in assigned(tree):
        found["class"].add(name)
        found["constant"].add(name)
    return found


def assigned(tree: ast.Module) -> set[str]:
    """Return the names that a module assigns at its top."""
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


@functools.cache
def identifiers(path: Path) -> set[str]:
    """Return every identifier of a file: names, attributes, parameters, keywords, functions and classes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                found.add(value)
    return found


@functools.cache
def words(identifier: str) -> set[str]:
    """Return the words of an identifier in lower case: `ColourScale` and `colour_scale` hold `colour`."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)
    return {part.lower() for part in parts}


def schema_keys(model: type[BaseModel], above: str = "") -> dict[str, list[Any]]:
    """Return the dotted keys of a model and the models in it, each with the literal values that it accepts."""
    found: dict[str, list[Any]] = {}
    for name, field in model.model_fields.items():
        key = above + (field.alias or name)
        kinds = [field.annotation, *annotations_in(field.annotation)]
        found.setdefault(key, []).extend(
            value for kind in kinds if str(get_origin(kind)) == "typing.Literal" for value in get_args(kind)
        )
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                for inner, values in schema_keys(kind, f"{key}.").items():
                    found.setdefault(inner, []).extend(values)
    return found


def annotations_in(annotation: Any) -> list[Any]:
    """Return every type inside a union, list, dict or annotated type."""
    inner = [kind for kind in get_args(annotation) if not isinstance(kind, str | int)]
    return [each for kind in inner for each in (kind, *annotations_in(kind))]


def tables() -> dict[str, list[str]]:
    """Return the columns of every table that the package declares, by the table's name in lower case."""
    declared = {**vars(schemas), **vars(search_schemas)}
    found = {name.lower(): value.names for name, value in declared.items() if isinstance(value, pa.Schema)}
    fixed = {"trials": schemas.trials_schema({}), "search_configs": search_schemas.search_configs_schema({})}
    return found | {name: schema.names for name, schema in fixed.items()}


def options_of(parser: argparse.ArgumentParser, command: str) -> set[str]:
    """Return the options of one command of the program."""
    (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {option for action in commands.choices[command]._actions for option in action.option_strings}


def has_module(package: Path, row: OldName) -> bool:
    return (package / f"{row.old}.py").exists() or (package / row.old / "__init__.py").exists()


def has_definition(package: Path, row: OldName) -> bool:
    return any(row.old in defined(path)[row.kind] for path in files_in(package, row.scope))


def has_word(package: Path, row: OldName) -> bool:
    return any(row.old in words(name) for path in files_in(package, row.scope) for name in identifiers(path))


def has_key(package: Path, row: OldName) -> bool:
    return row.old in schema_keys(Experiment)


def has_value(package: Path, row: OldName) -> bool:
    return row.old in map(str, schema_keys(Experiment)[row.scope])


def has_column(package: Path, row: OldName) -> bool:
    if "." not in row.scope:
        return row.old in tables()[row.scope]
    table, column = row.scope.split(".")  # a value of a column: the column's meaning lists them in backticks
    schema: pa.Schema = getattr(schemas, table.upper())
    return f"`{row.old}`" in schema.field(column).metadata[b"meaning"].decode()


def has_option(package: Path, row: OldName) -> bool:
    return row.old in options_of(cli.make_parser(), row.scope)


CHECKERS = {
    "module": has_module,
    "class": has_definition,
    "constant": has_definition,
    "function": has_definition,
    "word": has_word,
    "key": has_key,
    "value": has_value,
    "column": has_column,
    "option": has_option,
}


def returned(package: Path, rows: list[OldName]) -> list[OldName]:
    """Return the rows whose old name is in use."""
    return [row for row in rows if CHECKERS[row.kind](package, row)]


@pytest.mark.parametrize("kind", CHECKERS)
def test_no_old_name_returned(kind):
    rows = [row for row in ROWS if row.kind == kind]
    assert rows
    found = [f"{row.scope} {row.old}: use {row.new}" for row in returned(PACKAGE, rows)]
    assert not found, "\n".join(found)


def test_each_row_is_written_once_and_matches_files():
    keys = [(row.kind, row.scope, row.old) for row in ROWS]
    assert len(set(keys)) == len(keys)
    for row in ROWS:
        if row.kind in ("class", "constant", "function", "word"):
            assert files_in(PACKAGE, row.scope), f"no file matches {row.scope}"


MADE_MODULE = '''
"""A verdict in prose about parcels, colours and the judge counts for nothing."""
import json as Judge

Pixels = list
FIGURES: tuple = ()


class Parcel:
    seeds = leaf = noise = 0

    def hand_in(self, colour_map):
        return self.greyLevel
'''


def test_an_old_name_that_returns_is_found(tmp_path):
    (tmp_path / "data" / "decoding").mkdir(parents=True)
    (tmp_path / "data" / "decoding" / "made.py").write_text(MADE_MODULE)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "parcels.py").write_text("")
    (tmp_path / "report" / "pictures").mkdir(parents=True)
    (tmp_path / "report" / "pictures" / "__init__.py").write_text("")
    in_files = [row for row in ROWS if row.kind in ("module", "class", "constant", "function", "word")]
    assert {(row.kind, row.old) for row in returned(tmp_path, in_files)} == {
        ("module", "sweep/parcels"),
        ("module", "report/pictures"),
        ("class", "Parcel"),
        ("class", "Judge"),
        ("class", "Pixels"),
        ("constant", "FIGURES"),
        ("function", "hand_in"),
        ("word", "colour"),
        ("word", "grey"),
        ("word", "parcel"),
    }


def test_a_scope_limits_where_a_name_is_looked_for(tmp_path):
    (tmp_path / "anomalies").mkdir()
    (tmp_path / "anomalies" / "made.py").write_text("def render(): ...\ndef fit(): ...\n")
    assert returned(tmp_path, ROWS) == []
    (tmp_path / "data" / "datasets").mkdir(parents=True)
    (tmp_path / "data" / "datasets" / "made.py").write_text("def render(): ...\n")
    assert [row.new for row in returned(tmp_path, ROWS)] == ["render_defect"]


def test_a_key_value_column_or_option_that_is_in_use_is_found():
    used = table("""
key - images.load_size x
key - search.prune.keep_fraction x
key - evaluation.validation.anomalies.from_test x
value keep.maps shown x
value images.color gray x
value schema 2 x
column scores.split reserved x
column defects n_images x
column search_configs failure_policy x
column trials normal_class x
option run --probe-cost x
""")
    assert returned(PACKAGE, used) == used


SHARED_NAMES = {
    "scan": "the protocol of data-set modules: each finds its own images",
    "fetch": "the protocol of data-set modules: each downloads its own files",
    "expose": "the protocol of data-set modules: each hands out its own images as outlier exposure",
    "exposure_problems": "the protocol of data-set modules: each says what it lacks as outlier exposure",
    "logger": "each module logs under its own name",
    "run_experiment": "api calls that of `run` with the display of the command line",
    "run_search": "api calls that of `search` with the display of the command line",
    "run_sweep": "api calls that of `sweep` with the display of the command line",
    "Run": "frames gives programs a run as tables, run_files its reports as objects",
    "FloatArray": "an array of real numbers everywhere; metrics of heatmaps take float32 as well",
}
"""Public names that several modules define, and why."""


def public_names(package: Path) -> dict[str, set[str]]:
    """Return the files that define each public name at their top; a table's schema and its file share a name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = assigned(tree) | {
            node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for name in names:
            if not name.startswith("_"):
                found[name].add(path.relative_to(package).as_posix())
    return found


TABLES_AND_FILES = {f"results/{name}.py" for name in ("schemas", "search_schemas", "comparison_schemas", "tree")}
"""`schemas.HISTORY` is the columns of the file `tree.HISTORY`: the module makes the difference clear."""


def test_no_public_name_has_two_meanings():
    shared = {
        name: sorted(files)
        for name, files in public_names(PACKAGE).items()
        if len(files) > 1 and name not in SHARED_NAMES and not files <= TABLES_AND_FILES and not same_value(name, files)
    }
    assert shared == {}


def same_value(name: str, files: set[str]) -> bool:
    """Return whether all files define the name by the same statement, such as one type alias or type variable."""
    statements = set()
    for file in files:
        for node in ast.parse((PACKAGE / file).read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else ()
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                statements.add(ast.unparse(node))
    return len(statements) == 1 and all(name in assigned(ast.parse((PACKAGE / file).read_text())) for file in files)


def test_two_meanings_of_a_name_are_noticed(tmp_path):
    (tmp_path / "a.py").write_text("class Pool: ...\n_Own = 1\n")
    (tmp_path / "b.py").write_text("Pool = int\n_Own = 2\n")
    assert public_names(tmp_path) == {"Pool": {"a.py", "b.py"}}


REPEATED_FILES = {
    "__init__.py": "Python's own",
    "registry.py": "each room's table of names: data sets, networks, anomaly sources",
    "loading.py": "config reads experiment files, data reads corpora",
    "layers.py": "config lays presets, file and overrides over each other, networks have layers",
    "plan.py": "planning makes trials of an experiment, search makes trials of one suggested config",
    "describe.py": "networks describes a network, planning a plan",
    "files.py": "decoding reads image files, results reads and writes tables and texts",
    "tables.py": "report makes tables of a run, search those of a study",
    "text.py": "config words its messages, report its numbers",
    "style.py": "figures has the look of all plots, report/search what its own share",
    "page.py": "each writes the page, or the section of it, of its room",
}
"""File names that several rooms may use: the folder makes it clear which is meant."""


def test_no_file_name_repeats_without_a_reason():
    rooms: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        rooms[path.name].append(path.relative_to(PACKAGE).as_posix())
    repeated = {name: paths for name, paths in rooms.items() if len(paths) > 1 and name not in REPEATED_FILES}
    assert repeated == {}

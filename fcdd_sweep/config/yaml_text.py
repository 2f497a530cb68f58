"""Reading YAML 1.2 into plain values with the line of every key, and writing it."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fcdd_sweep.config.errors import ExperimentError, Key, Problem, dotted
from fcdd_sweep.config.fields import LARGEST_INTEGER

_ESCAPE_STEP = "In double quotes a backslash begins an escape such as \\n: put Windows paths in single quotes"
ENDINGS = (".yaml", ".yml")
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
_MERGE_TAG = _TAG + "merge"
_TOO_DEEP = ("lists or mappings are nested too deeply to be read", "values a few levels deep")

_MOST_VALUES = 1_000_000
_TOO_MANY = (
    "with its aliases (`*NAME`) written out, the text up to here has too many values to be read",
    f"at most {_MOST_VALUES:,} keys and values",
    "Write values out instead of aliases of lists of aliases",
)


@dataclass(frozen=True)
class YamlDocument:
    """A YAML file that is a mapping: plain values, and the line (1 for the first) of every key and list item."""

    tree: dict[str, Any]
    lines: dict[Key, int]


def read_document(path: Path) -> YamlDocument:
    """Return the mapping in a YAML file.

    Raises:
        ExperimentError: the file is missing, not UTF-8, not valid YAML, or not a mapping; a key is given twice or is
            not text; a value is not plain.
    """
    text = _read_text(path)
    try:
        with _reused_anchors_refused(str(path)):
            return _document(text, str(path))
    except YAMLError as error:
        raise ExperimentError(_syntax_problem(error, str(path))) from None
    except RecursionError:
        raise ExperimentError(Problem(str(path), *_TOO_DEEP)) from None


def parse_value(text: str, where: str) -> Any:
    """Return the value of `KEY=VALUE` on the command line, read as YAML.

    Raises:
        ExperimentError: the text is not valid YAML, or not a plain value.
    """
    try:
        with _reused_anchors_refused(where):
            node = _reader().compose(text)
            if node is not None and _too_many_values_at(node):
                raise ExperimentError(Problem(where, *_TOO_MANY))
            problems = list(_tree_problems(node, (), lambda key, line: where))
            if problems:
                raise ExperimentError(problems)
            return _reader().load(text)
    except YAMLError as error:
        what = _syntax_problem(error, where).what
        raise ExperimentError(
            Problem(where, what, next_step="Put quotes around text with special characters")
        ) from None
    except RecursionError:
        raise ExperimentError(Problem(where, *_TOO_DEEP)) from None


def to_yaml(plain: dict[str, Any]) -> str:
    """Return plain values as YAML 1.2, in their order; reading it returns the same values."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 1_000_000
    stream = io.StringIO()
    writer.dump(plain, stream)
    return stream.getvalue()


def _reader() -> YAML:
    return YAML(typ="safe", pure=True)


@contextlib.contextmanager
def _reused_anchors_refused(where: str) -> Iterator[None]:
    """Turn the warning of an anchor that is defined twice into an ExperimentError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReusedAnchorWarning)
        try:
            yield
        except ReusedAnchorWarning as warning:
            name, first, second = re.findall(r"anchor '(.*)'|, line (\d+),", str(warning))
            what = f"the anchor {name[0]!r} is defined twice, in lines {first[1]} and {second[1]}"
            raise ExperimentError(Problem(where, what, next_step="Give one of them another name")) from None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ExperimentError(Problem(str(path), "there is no such file", next_step=_near_files(path))) from None
    except IsADirectoryError:
        names = ", ".join(sorted(file.name for file in _yaml_files(path))[:8])
        step = f"Name one of its files: {names}" if names else "Name an experiment file"
        raise ExperimentError(Problem(str(path), "this is a folder, not an experiment file", next_step=step)) from None
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.object[error.start]:#04x} at position {error.start})"
        raise ExperimentError(Problem(str(path), what, next_step="Save it as UTF-8")) from None
    except OSError as error:
        raise ExperimentError(Problem(str(path), f"the file cannot be read: {error.strerror}")) from None


def _yaml_files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix in ENDINGS] if folder.is_dir() else []


def _near_files(path: Path) -> str:
    files = {file.name: file for file in _yaml_files(path.parent)}
    near = difflib.get_close_matches(path.name, files, n=3, cutoff=0.5)
    if near:
        return f"Closest: {', '.join(str(files[name]) for name in near)}"
    names = ", ".join(sorted(files)[:8])
    return f"Experiment files in {path.parent}: {names}" if names else f"there is no experiment file in {path.parent}"


def _document(text: str, path: str) -> YamlDocument:
    node = _reader().compose(text)
    if node is None:
        raise ExperimentError(
            Problem(path, "the file is empty", next_step="The shortest file has `schema: 2`, `name` and `preset`")
        )
    if not isinstance(node, MappingNode):
        found = "a list" if isinstance(node, SequenceNode) else "a single value"
        where = f"{path}:{node.start_mark.line + 1}"
        raise ExperimentError(Problem(where, f"found {found} at the top level", "keys and values such as `schema: 2`"))
    if line := _too_many_values_at(node):
        raise ExperimentError(Problem(f"{path}:{line}", *_TOO_MANY))
    problems = list(_tree_problems(node, (), lambda key, line: _place(path, line, key)))
    if problems:
        raise ExperimentError(problems)
    return YamlDocument(_reader().load(text), dict(_lines(node, ())))


def _place(path: str, line: int, key: Key) -> str:
    return f"{path}:{line}: {dotted(key)}" if key else f"{path}:{line}"


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _too_many_values_at(root: Node) -> int:
    """Return the line at which the keys and values that a text stands for become more than `_MOST_VALUES`; else 0.

    An alias counts as what it stands for: a few lines of lists of aliases stand for more than any memory holds.
    """
    sizes: dict[int, int] = {}

    def size(node: Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0  # a value that refers to itself is found later
            sizes[id(node)] = 1 + sum(map(size, _below(node)))
        return sizes[id(node)]

    if size(root) <= _MOST_VALUES:
        return 0
    node, counted = root, 0
    while True:
        counted += 1
        for below in _below(node):
            if counted + size(below) > _MOST_VALUES:
                break
            counted += size(below)
        else:
            return _line(node)
        if below.start_mark.index <= node.start_mark.index:  # an alias: its value was written earlier
            return _line(node)
        node = below


def _below(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _tree_problems(node: Node | None, key: Key, where: Any, above: tuple[int, ...] = ()) -> Iterator[Problem]:
    """Yield problems of values that are not plain and of keys that are given twice."""
    if node is None:
        return
    if id(node) in above:
        yield Problem(where(key, _line(node)), "the value refers to itself", next_step="Write the value out")
        return
    if node.tag not in _PLAIN_TAGS:
        yield _odd_value(node, where(key, _line(node)))
    elif node.tag == _TAG + "int" and _too_large(node.value):
        digits = len(node.value.strip("+-"))
        yield Problem(
            where(key, _line(node)), f"found a whole number of {digits:,} digits", f"at most {LARGEST_INTEGER}"
        )
    elif isinstance(node, MappingNode):
        yield from _mapping_problems(node, key, where, (*above, id(node)))
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _tree_problems(item, (*key, index), where, (*above, id(node)))


def _mapping_problems(node: MappingNode, key: Key, where: Any, above: tuple[int, ...]) -> Iterator[Problem]:
    first_line: dict[str, int] = {}
    for name, value in node.value:
        if name.tag == _MERGE_TAG:
            continue
        if name.tag != _TAG + "str":
            written = name.value if isinstance(name, ScalarNode) else "a list or mapping"
            yield Problem(
                where(key, _line(name)), f"a key must be text, but found {written}", next_step="Put it in quotes"
            )
            continue
        if name.value in first_line:
            what = f"the key is given twice, first in line {first_line[name.value]}"
            yield Problem(where((*key, name.value), _line(name)), what, next_step="Keep one of them")
        first_line.setdefault(name.value, _line(name))
        yield from _tree_problems(value, (*key, name.value), where, above)


def _too_large(written: str) -> bool:
    """Return whether an integer does not fit into 64 bits, which tables and generators hold."""
    digits = written.strip("+-").replace("_", "").lstrip("0") or "0"
    if digits[0] in "xo":
        return int(digits[1:] or "0", 16 if digits[0] == "x" else 8) > LARGEST_INTEGER
    return len(digits) > len(str(LARGEST_INTEGER)) or int(digits) > LARGEST_INTEGER


def _odd_value(node: Node, where: str) -> Problem:
    if node.tag == _TAG + "timestamp":
        return Problem(where, f"found the date {node.value}", next_step="Put it in quotes if it is meant as text")
    tag = str(node.tag).replace(_TAG, "!!")
    return Problem(where, f"found a value with the tag {tag}", "plain text, numbers, true, false, lists and mappings")


def _lines(node: Node, key: Key) -> Iterator[tuple[Key, int]]:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if name.tag != _MERGE_TAG:
                yield (*key, name.value), _line(name)
                yield from _lines(value, (*key, name.value))
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield (*key, index), _line(item)
            yield from _lines(item, (*key, index))


def _syntax_problem(error: YAMLError, path: str) -> Problem:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Problem(path, f"not valid YAML: {str(error).splitlines()[0]}")
    mark = error.problem_mark
    where = f"{path}:{mark.line + 1}:{mark.column + 1}"
    what = str(error.problem).splitlines()[0]
    if "'\\t'" in what:
        return Problem(where, "found a tab character", "spaces: YAML indents with spaces only")
    if what == "but found another document":
        return Problem(where, "found a second document after `---`", "one document per file")
    step = {
        "mapping values are not allowed here": "Check the indentation, and put quotes around text that holds `: `",
        "found unexpected end of stream": "A quote that was opened is not closed",
    }.get(what, _ESCAPE_STEP if "escape" in what or "hexadecimal" in what else "")
    return Problem(where, f"not valid YAML: {what}", next_step=step)

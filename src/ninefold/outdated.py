"""Find the lines of a project that are written for an older engine."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from ninefold import renamed
from ninefold.errors import NinefoldError
from ninefold.renamed import Change

PARAMS, PIPELINE, PIN = "params.yaml", "dvc.yaml", "ninefold.yaml"
ENGINE = "${ninefold.code}"  # defined in PIN: what a stage depends on for the engine
DEPENDENCY = re.compile(r"(?m)^[^#\n]*?[\s\[\"'](src/ninefold(?:/[\w./]*)?)(?![\w:])")
CODE = ("src/project/**/*.py", "tests/project/**/*.py", "notebooks/*.ipynb")
MAGIC = re.compile(r"(?m)^([ \t]*)(?:[%!?].*|[^#\n]*\?)$")  # lines of IPython, which are not Python


def refuse(root: Path, error: type[NinefoldError] = NinefoldError) -> None:
    """Raise an error if a project is written for an older engine: it lists the lines that have to change."""
    if changes := needed(root):
        by_command = any(change.file == PARAMS for change in changes)
        command = ["run `ninefold migrate`, which shows the changes first"] if by_command else []
        raise error("\n".join([*map(str, changes), *command]))


def needed(root: Path) -> list[Change]:
    """Return the lines of a project that have to change."""
    changes = in_params(read(root / PARAMS))
    pipeline = read(root / PIPELINE) if (root / PIN).exists() else ""
    how = f'write "{ENGINE}", in quotes, once for each stage, and {PIN} below vars'
    for each in DEPENDENCY.finditer(pipeline):
        line = f"line {pipeline.count(chr(10), 0, each.start(1)) + 1}"
        changes.append(Change(PIPELINE, line, each[1], ENGINE, how=how))
    for place in (place for pattern in CODE for place in sorted(root.glob(pattern))):
        changes += in_code(place.relative_to(root).as_posix(), read(place))
    return changes


def in_params(text: str) -> list[Change]:
    """Return the old keys in a ``params.yaml``; none if it is not valid YAML, which `ninefold.params` refuses."""
    try:  # the loader in C takes 2 ms, not 25
        keys = list(_keys(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), ()))
    except yaml.YAMLError:
        return []
    old = {tuple(key.old.split(".")): key for key in renamed.KEYS}
    return [Change(PARAMS, f"line {n}", old[key].old, old[key].new, old[key]) for n, key in keys if key in old]


def in_code(file: str, text: str) -> list[Change]:
    """Return the old names of the engine that a ``.py`` or ``.ipynb`` file imports or uses."""
    if not any(name.old.rpartition(".")[2].rstrip("*") in text for name in renamed.NAMES):
        return []
    cells = {"": text}
    if not file.endswith(".py"):
        try:
            numbered = enumerate(json.loads(text)["cells"], 1)
            cells = {f"cell {n}, ": "".join(cell["source"]) for n, cell in numbered if cell["cell_type"] == "code"}
        except (ValueError, KeyError, TypeError):
            return []  # not a notebook, which `ninefold.reports.runner.read` refuses
    imports: dict[str, str] = {}  # local name -> full name
    found: dict[tuple[str, str], Change] = {}
    for cell, code in cells.items():
        with suppress(SyntaxError):  # Python says it better
            for line, full in _used(ast.parse(MAGIC.sub(r"\1pass", code)), imports):
                new, entry = renamed.new_name(full)
                if entry:
                    where = f"{cell}line {line}"
                    found.setdefault((where, entry.old), Change(file, where, full, new, entry, "change it by hand"))
    return list(found.values())


def read(place: Path) -> str:
    """Return a text with the line ends of Unix, empty if there is no file; bytes that are not UTF-8 are preserved."""
    return (place.read_bytes() if place.exists() else b"").decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")


def _keys(node: yaml.Node | None, above: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield from _keys(value, (*above, str(key.value)))  # first: a key may move out of one that is removed
        yield key.start_mark.line + 1, (*above, str(key.value))


def _used(tree: ast.Module, imports: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of what code imports, or uses of an imported module; `imports` grows by it."""
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for name in node.names:
                first = name.name if name.asname or module else name.name.partition(".")[0]
                imports[name.asname or first] = f"{module}{first}"
                yield node.lineno, f"{module}{name.name}"
    for node in nodes:
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if not renamed.new_name(imports.get(first, ""))[1]:  # else its import has to change
                yield node.lineno, f"{imports.get(first, first)}.{rest}"

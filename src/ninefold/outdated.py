"""Find the lines of a project that are written for an older engine, and rename what its Python code uses.

An import binds the same name in the file as before, so that the rest of the code stays as it is.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ninefold import renamed
from ninefold.errors import NinefoldError
from ninefold.renamed import Change

PARAMS, PIPELINE, PIN = "params.yaml", "dvc.yaml", "ninefold.yaml"
ENGINE = "${ninefold.code}"  # defined in PIN: what a stage depends on for the engine
DEPENDENCY = re.compile(r"""(?m)^ *- *["']?(src/ninefold(?:/[^\s"']*)?)["']? *(?:#.*)?$""")
IN_BRACKETS = re.compile(r"(?m)^ *deps: *\[[^]]*?(src/ninefold[\w./]*)")
CODE = ("src/project/**/*.py", "tests/project/**/*.py", "notebooks/*.ipynb")
CUT = "\n\0\n"  # between the cells of a notebook
TEXT = re.compile(r'''("""|\'\'\')[\s\S]*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#.*''')  # strings and comments
FROM = re.compile(r"(?m)^([ \t]*)from (ninefold[\w.]*) import (\([^)]*\)|[^(;\n]*\w)")
ITEM = re.compile(r"(\w+)(?:\s+as\s+(\w+))?")
IMPORT = re.compile(r"(?m)^([ \t]*)import (ninefold[\w.]*)(?: as (\w+))?")
DOTTED = re.compile(r"(?<![\w.])(?<!from )[^\W\d]\w*(?:\.\w+)+")


def refuse(root: Path, error: type[NinefoldError] = NinefoldError) -> None:
    """Raise an error if a project is written for an older engine: it lists the lines that have to change."""
    if changes := needed(root):
        raise error("\n".join([*map(str, changes), "run `ninefold migrate`, which shows the changes first"]))


def needed(root: Path) -> list[Change]:
    """Return the lines of a project that have to change."""
    changes = in_params(read(root / PARAMS))
    pipeline = read(root / PIPELINE) if (root / PIN).exists() else ""
    if lines := list(DEPENDENCY.finditer(pipeline)):
        old = lines[0][1] + (f" (and {len(lines) - 1} more)" if lines[1:] else "")
        changes.append(Change(PIPELINE, _line(pipeline, lines[0].start()), old, ENGINE))
    for each in IN_BRACKETS.finditer(pipeline):
        where, how = _line(pipeline, each.start(1)), f'write "{ENGINE}", in quotes, by hand'
        changes.append(Change(PIPELINE, where, each[1], ENGINE, how=how))
    for place in (place for pattern in CODE for place in sorted(root.glob(pattern))):
        changes += in_code(place.relative_to(root).as_posix(), read(place))[1]
    return changes


def in_params(text: str) -> list[Change]:
    """Return the old keys in a ``params.yaml``; none if it is not valid YAML, which `ninefold.params` refuses."""
    try:  # the loader in C takes 2 ms, not 25
        keys = list(_keys(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), ()))
    except yaml.YAMLError:
        return []
    old = {tuple(key.old.split(".")): key for key in renamed.KEYS}
    return [Change(PARAMS, f"line {n}", old[key].old, old[key].new, old[key]) for n, key in keys if key in old]


def in_code(file: str, text: str) -> tuple[str, list[Change]]:
    """Return the text of a ``.py`` or ``.ipynb`` file with the new names, and the changes."""
    if not any(name.old.rpartition(".")[2].rstrip("*") in text for name in renamed.NAMES):
        return text, []
    if file.endswith(".py"):
        code = _Code(file, text)
        return code.new, code.changes
    try:
        notebook = json.loads(text)
        cells = {f"cell {n}, ": cell for n, cell in enumerate(notebook["cells"], 1) if cell["cell_type"] == "code"}
        code = _Code(file, CUT.join("".join(cell["source"]) for cell in cells.values()), list(cells))
    except (ValueError, KeyError, TypeError):
        return text, []  # not a notebook, which `ninefold.reports.runner.read` refuses
    for cell, source in zip(cells.values(), code.new.split(CUT), strict=False):
        cell["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + text[len(text.rstrip()) :], code.changes


def read(place: Path) -> str:
    """Return a text with the line ends of Unix, empty if there is no file; bytes that are not UTF-8 are preserved."""
    return (place.read_bytes() if place.exists() else b"").decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n")


def _line(text: str, place: int) -> str:
    return f"line {text.count(chr(10), 0, place) + 1}"


def _keys(node: yaml.Node | None, above: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield from _keys(value, (*above, str(key.value)))  # first: a key may move out of one that is removed
        yield key.start_mark.line + 1, (*above, str(key.value))


class _Code:
    """Python code, what it imports of the engine, and what has to change in it."""

    def __init__(self, file: str, text: str, cells: Sequence[str] = ("",)) -> None:
        self.file, self.text, self.cells = file, text, cells
        self.code = TEXT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        self.changes: list[Change] = []
        self.edits: set[tuple[int, int, str]] = set()
        self.imports: dict[str, str] = {}  # local name -> full name
        for match in FROM.finditer(self.code):
            self._import(match)
        for match in IMPORT.finditer(self.code):
            self.imports.setdefault(match[3] or "ninefold", match[2] if match[3] else "ninefold")
        for match in DOTTED.finditer(self.code):
            self._dotted(match)
        self.new = text
        for start, end, new in sorted(self.edits, reverse=True):
            self.new = self.new[:start] + new + self.new[end:]

    def _change(self, place: int, old: str, problem: str = "") -> None:
        *before, cell = self.text[:place].split(CUT)
        new, entry = renamed.new_name(old)
        how = f"change it by hand{problem and ': '}{problem}" if problem or not new else ""
        self.changes.append(Change(self.file, self.cells[len(before)] + _line(cell, len(cell)), old, new, entry, how))

    def _import(self, match: re.Match[str]) -> None:
        """Change ``from module import name``."""
        names = {local or name: f"{match[2]}.{name}" for name, local in ITEM.findall(match[3])}
        self.imports |= names
        old = [full for full in names.values() if renamed.new_name(full)[1]]
        lines: dict[str, list[str]] = {}
        for local, full in names.items():
            module, _, name = _new(full).rpartition(".")
            lines.setdefault(module, []).append(name if name == local else f"{name} as {local}")
        text = "\n".join(f"{match[1]}from {module} import {', '.join(each)}" for module, each in lines.items())
        self.edits |= {(*match.span(), text)} if old else set()
        for full in old:
            problem = "a comment is in this import" if "#" in self.text[slice(*match.span())] else ""
            self._change(match.start(), full, problem)

    def _dotted(self, match: re.Match[str]) -> None:
        """Change ``module.name`` if its module stays, and a full name if it is that of a module; else it is for the user."""
        root, _, rest = match[0].partition(".")
        base = self.imports.get(root, root)
        full = f"{base}.{rest}"
        entry = renamed.new_name(full)[1]
        if not entry or (entry.new and len(entry.old) <= len(base)):  # not old, or it is enough to change the import
            return
        if not entry.new:
            self._change(match.start(), full)
            return
        new, problem = entry.new, ""
        text = new if root == "ninefold" else f"{root}.{new.rpartition('.')[2]}"
        if root == "ninefold":
            is_there = re.search(rf"\bimport (?:{new.rpartition('.')[0]}|{entry.old})\b", self.code)
            problem = "" if is_there else "its module is not imported"
        elif entry.old.rpartition(".")[0] != base or _new(base) != new.rpartition(".")[0]:
            problem = "import it from there"
        self.edits.add((match.start(), match.end() - len(full) + len(entry.old), text))
        self._change(match.start(), entry.old, problem)


def _new(full: str) -> str:
    return renamed.new_name(full)[0] or full

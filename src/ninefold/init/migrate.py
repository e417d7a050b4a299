"""Change a project that is written for an older engine: keys of ``params.yaml``, lines of ``dvc.yaml``.

`ninefold.renamed` lists what was renamed. Names in Python code are for the user to change. Nothing is written before the whole change is known to work.
"""

import difflib
import functools
import operator
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pandas as pd
from ruamel.yaml import YAML, RoundTripConstructor, RoundTripRepresenter
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError as RoundTripError
from yaml import YAMLError

from ninefold import artifacts, outdated, params
from ninefold.errors import NinefoldError
from ninefold.outdated import ENGINE, PARAMS, PIN, PIPELINE
from ninefold.renamed import Change


class _Null(str):
    """A missing value as it was written: ``null``, ``~`` or nothing."""


COMMENT = re.compile(r"(?m)^ *(#.*)")  # with a line of its own
NULL = "tag:yaml.org,2002:null"
Constructor: Any = type("Constructor", (RoundTripConstructor,), {})  # DVC uses that of ruamel.yaml in the same process
Representer: Any = type("Representer", (RoundTripRepresenter,), {})
Constructor.add_constructor(NULL, lambda _, node: _Null(node.value))
Representer.add_representer(_Null, lambda representer, null: representer.represent_scalar(NULL, str(null)))


def round_trip(width: int = 4096) -> YAML:
    """Return the reader and writer of YAML that keeps comments, quotes, order, and missing values as they were written."""
    yaml = YAML()
    yaml.Constructor, yaml.Representer = Constructor, Representer
    yaml.preserve_quotes, yaml.width = True, width
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def with_line_ends(text: str, old: bytes) -> str:
    """Return the new text of a file with the line ends of the old one."""
    return text.replace("\n", "\r\n") if b"\r\n" in old else text


@dataclass(frozen=True)
class Edit:
    """A file of the project, by its path from the root: its bytes, and its new text."""

    file: str
    old: bytes
    new: str


def plan() -> list[Edit]:
    """Return the files of the project that change; raise `NinefoldError` if a line has to be changed by hand."""
    changes, edits = outdated.needed(params.root()), []
    if by_hand := [str(change) for change in changes if change.how]:
        raise NinefoldError("\n".join([*by_hand, "change these lines first; nothing was changed"]))
    for file in dict.fromkeys(change.file for change in changes):
        old, text = artifacts.path(file).read_bytes(), outdated.read(artifacts.path(file))
        if file == PARAMS:
            new = functools.reduce(_moved, [change for change in changes if change.file == PARAMS], text)
        else:
            new = _pipeline(text)
        edits.append(Edit(file, old, with_line_ends(new, old)))
    return edits


def diff(edits: Sequence[Edit]) -> str:
    """Return the changes as a unified diff."""
    texts = ((edit.file, edit.old.decode(errors="replace").splitlines(), edit.new.splitlines()) for edit in edits)
    changes = (difflib.unified_diff(old, new, file, file, lineterm="") for file, old, new in texts)
    return "\n".join(line for lines in changes for line in lines)


def apply(edits: Sequence[Edit]) -> None:
    """Write all files or, if one cannot be written or is no longer as `plan` read it, none."""
    for edit in edits:
        if artifacts.path(edit.file).read_bytes() != edit.old:
            raise NinefoldError(f"{edit.file}: was changed meanwhile; run `ninefold migrate` again")
    with ExitStack() as undo:
        for edit in edits:
            artifacts.write_text(edit.new, artifacts.path(edit.file))
            undo.callback(artifacts.path(edit.file).write_bytes, edit.old)
        undo.pop_all()


def _moved(text: str, change: Change) -> str:
    """Return the text of a ``params.yaml`` with a key in its new place."""
    yaml, stream = round_trip(), StringIO()
    try:
        values, expected = yaml.load(text), YAML().load(text)
        _move(values, change)
        _move(expected, change)
        yaml.dump(values, stream)
        if params.parse(stream.getvalue()) != expected or COMMENT.findall(stream.getvalue()) != COMMENT.findall(text):
            raise ValueError("its lines, or the comments after it, cannot be moved alone")
    except (ValueError, YAMLError, RoundTripError) as error:
        how = f"{'write it there' if change.new else 'delete it'} by hand: {error}; nothing was changed"
        raise NinefoldError(f"{change}; {how}") from None
    return stream.getvalue()


def _move(values: Any, change: Change) -> None:
    """Move a key within nested mappings; within one mapping it keeps its place."""
    *above, name = change.old.split(".")
    home, inner = functools.reduce(operator.getitem, above, values), values
    place = list(home).index(name)
    comment, value = home.ca.items.pop(name, None), home.pop(name)
    if not change.new or not change.entry:
        return
    *above, name = change.new.split(".")
    for parent in above:
        if parent not in inner:
            inner.insert(place if inner is home else len(inner), parent, CommentedMap())
        if not isinstance(inner := inner[parent], CommentedMap):
            raise ValueError(f"{parent} is not a mapping")
    if name in inner and change.entry.longest:
        inner[name] = max(inner[name], value, key=pd.Timedelta)
        return
    if name in inner:
        raise ValueError(f"{change.new} is there already")
    for key, added in change.entry.add.items():
        if not isinstance(value, CommentedMap):
            raise ValueError("it is not a mapping")
        value.insert(0, key, added)
    end = len(inner) - isinstance([None, *inner.values()][-1], list | dict)  # which holds the next section's comments
    inner.insert(place if inner is home else end, name, value)
    if comment:
        inner.ca.items[name] = comment


def _pipeline(text: str) -> str:
    """Return the text of a ``dvc.yaml`` whose stages depend on the engine as a whole."""
    lines, known = [], False
    for line in text.splitlines(keepends=True):
        new = outdated.DEPENDENCY.sub(lambda match: match[0].replace(match[1], ENGINE), line)
        known = known and "deps:" not in line
        if not (known and ENGINE in new):
            lines.append(new)
        known = known or ENGINE in new
    new = "".join(lines)
    if not re.search("(?m)^vars:", new):
        new = re.sub("(?m)^stages:", f"vars:\n  - {PIN}\nstages:", new)
    if PIN not in (params.parse(new).get("vars") or []):
        new, count = re.subn(r"(?m)^(vars:.*\n)( *)- ", rf"\1\2- {PIN}\n\2- ", new)
        if not count:
            raise NinefoldError(f"{PIPELINE}, line 1: add {PIN} to `vars` by hand; nothing was changed")
    return new

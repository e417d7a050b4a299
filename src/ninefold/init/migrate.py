"""Move the keys of a ``params.yaml`` that is written for an older engine. Lines of other files are for the user to change.

`ninefold.renamed` lists what was renamed. Nothing is written before the whole change is known to work.
"""

import difflib
import functools
import operator
import re
from io import StringIO
from typing import Any

import pandas as pd
from ruamel.yaml import YAML, RoundTripConstructor, RoundTripRepresenter
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError as RoundTripError
from yaml import YAMLError

from ninefold import artifacts, outdated, params
from ninefold.errors import NinefoldError
from ninefold.outdated import PARAMS
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


def write(new: str) -> None:
    """Write the new text of ``params.yaml``, with the line ends of the old one."""
    place = artifacts.path(PARAMS)
    artifacts.write_text(new.replace("\n", "\r\n") if b"\r\n" in place.read_bytes() else new, place)


def plan() -> str:
    """Return the new text of ``params.yaml``; raise `NinefoldError` if a line of the project has to be changed by hand."""
    changes = outdated.needed(params.root())
    if by_hand := [str(change) for change in changes if change.how]:
        raise NinefoldError("\n".join([*by_hand, "change these lines first; nothing was changed"]))
    return functools.reduce(_moved, changes, outdated.read(artifacts.path(PARAMS)))


def diff(new: str) -> str:
    """Return the changes of ``params.yaml`` as a unified diff; "" if there are none."""
    old = outdated.read(artifacts.path(PARAMS)).splitlines()
    return "\n".join(difflib.unified_diff(old, new.splitlines(), PARAMS, PARAMS, lineterm=""))


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

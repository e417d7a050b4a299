"""Assumptions of `ninefold init`: a sentence each, with the keys of ``params.yaml`` that change what it says."""

import shlex
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import yaml

from ninefold.sentences import render

KINDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("assumptions.yaml").read_text("utf-8"))
CODES = {kind: f"NF{number:03}" for number, kinds in enumerate(KINDS["order"], 1) for kind in kinds}
LONGEST, MOST = 30, 45  # letters that are shown of a name, and of several


class Assumption(str):
    """What was assumed of columns or of a table: a block of ``templates/sentences/init.md.j2``, its keys behind a colon.

    `kind` names the block, `values` fill it; of several `names`, these are the first's. `table` is "*" until it is known.
    """

    kind: str
    names: tuple[str, ...]
    values: dict[str, Any]
    table: str
    code: str  # of its section in docs/checks.md; they rise from those that do most harm if they are wrong

    def __new__(cls, kind: str, names: Iterable[str], values: dict[str, Any], table: str = "*") -> Self:
        """Return the assumption, its sentence rendered."""
        names, values = tuple(names), {**values, "source": f"collection.tables.{table}"}
        if names:
            first, key = listed(names[:1]), f"processing.tables.{table}.columns.{names[0]}"
            values |= {"name": listed(names), "command": shlex.quote(names[0]), "key": key}
            values |= {**KINDS["several"], "of": f"{first} "} if names[1:] else KINDS["one"]
        new = super().__new__(cls, render("init", kind, **values))
        new.kind, new.names, new.values, new.table = kind, names, values, table
        new.code = CODES[kind]
        return new

    def of(self, table: str, names: Iterable[str] = ()) -> Self:
        """Return the assumption with its keys in a table, and on more columns."""
        return type(self)(self.kind, [*self.names, *names], self.values, table)


def joined(assumptions: Iterable[Assumption]) -> list[Assumption]:
    """Return assumptions by how much harm a wrong one does, most first; those that say the same of columns are one."""
    groups, same = dict[Any, list[Assumption]](), KINDS["joined"]
    for each in sorted(assumptions, key=lambda each: each.code):
        alike = (each.kind, each.table, each.values.get(same[each.kind])) if each.kind in same else each
        groups.setdefault(alike, []).append(each)
    return [one.of(one.table, (name for each in more for name in each.names)) for one, *more in groups.values()]


def listed(names: Sequence[str]) -> str:
    """Return names, shortened, as many as fit, and how many there are in all if some do not."""
    words = [" ".join(name.split()) or repr(name) for name in names]
    words = [word if len(word) <= LONGEST else f"{word[: LONGEST - 3]}..." for word in words]
    fit = sum(letters <= MOST for letters in accumulate(len(word) + 2 for word in words)) or 1
    return ", ".join(words[:fit]) + (f", ... ({len(words)} in all)" if words[fit:] else "")

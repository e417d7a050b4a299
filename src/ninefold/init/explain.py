"""Explain what the columns of a table were taken for, why, and where ``params.yaml`` says so: ``ninefold init --explain``."""

from collections.abc import Sequence

import pandas as pd

from ninefold import artifacts, collection
from ninefold.errors import DataError
from ninefold.init import drafting, inference, sampling
from ninefold.init.assumptions import Assumption
from ninefold.init.proposal import Proposal, Wish, find
from ninefold.init.propose import propose
from ninefold.params import FILE, load, parse
from ninefold.sentences import render


def project(names: Sequence[str]) -> str:
    """Return what columns of the project's tables are; without names a line for each column, and every assumption.

    The source is read and looked at again; the roles are those of ``params.yaml`` as it stands. Raises `DataError` if the
    source cannot be read, or a column is not known.
    """
    collected, text = load("collection"), artifacts.path(FILE).read_text("utf-8")
    problem, tables, rows, notes = load("problem"), collected.tables, dict[str, pd.DataFrame](), list[Assumption]()
    main, joins = problem.table, [join.table for join in load("features").joins]
    for name in [main, *(name for name in tables if name in joins)]:
        rows[name], more = sampling.sample(collection.whole(name, collected), name)
        notes += more
    related = {name: frame for name, frame in rows.items() if name != main}
    try:
        p = propose(main, rows[main], Wish(problem.target), related)
    except DataError:  # the target may be one of src/project: all that is known are the columns
        columns = inference.describe(rows[main])
        p = Proposal(main, len(rows[main]), columns, next(iter(columns.values())))
        p.warnings = [note.of(main) for column in columns.values() for note in column.warnings]
    how = {name: {"source": "", "options": tables[name].options.model_dump()} for name in p.tables()}
    p.add(notes)
    p.warnings += [Assumption("options", (), each, name) for name, each in how.items() if each["options"]]
    begun = "" if tables[main].source else f"{render('init', 'not_begun', table=main)}\n\n"
    return begun + explain(names, p, drafting.draft(p, how)[FILE] if p.task else text, text)


def explain(names: Sequence[str], p: Proposal, proposed: str, text: str) -> str:
    """Return what columns are; `proposed` is the ``params.yaml`` that init would write for a proposal, `text` that at hand."""
    context = {"p": p, "was": parse(proposed), "now": parse(text), "notes": p.warnings, "whole": not names}
    contract = context["now"]["processing"]["tables"].get(p.table, {"columns": {}})["columns"]
    columns = {name: (p.table, name, [name]) for name in [*p.columns, *contract]}
    joined = [(f"{one.name}.{name}", one, name) for one in p.related for name in one.columns]
    columns |= {shown: (one.name, name, [shown, one.renamed.get(name)]) for shown, one, name in joined}
    chosen = [find([*columns], name, "--explain", p.table) for name in names] or columns
    context["columns"] = {name: columns[name] for name in chosen}
    return drafting.filled("explain.txt.j2", context).removesuffix("\n")

"""Sentences and tables of stage 03: what the contract says, and what the lake holds."""

import ibis.expr.types as ir
import pandas as pd

from ninefold.processing.contract import Contract, Params
from ninefold.sentences import render


def left_out(raw: dict[str, ir.Table], params: Params) -> str:
    """Return, as a sentence, the raw columns that no contract names and the lake therefore does not hold."""
    extra = {name: [each for each in raw[name].columns if each not in params.tables[name].columns] for name in raw}
    return render("processing", "left_out", extra={name: names for name, names in extra.items() if names})


def promises(contract: Contract) -> pd.DataFrame:
    """Return the contract of one table for reading: ``column``, ``type``, ``may be missing``, ``values``."""
    rows = []
    for name, column in contract.columns.items():
        bounds = {"at least": column.min, "at most": column.max}
        values = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        values += ["one of " + ", ".join(map(str, column.allowed))] if column.allowed else []
        values += [column.written()] if column.format or column.decimal or column.thousands else []
        values += [f"{alias!r} stands for {meant or 'not known'}" for alias, meant in column.aliases.items()]
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])

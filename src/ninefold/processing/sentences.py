"""Sentences, queries and tables of stage 03: what the contract says, and what the lake holds."""

from __future__ import annotations

import ibis.expr.types as ir
import pandas as pd

from ninefold import display
from ninefold.problem import Problem
from ninefold.processing import warehouse
from ninefold.processing.contract import Contract, Params


def left_out(raw: dict[str, ir.Table], params: Params) -> str:
    """Return, as a sentence, the raw columns that no contract names and the lake therefore does not hold."""
    extra = {name: [each for each in raw[name].columns if each not in params.tables[name].columns] for name in raw}
    parts = [f"{display.code(name)}: {', '.join(map(display.code, names))}" for name, names in extra.items() if names]
    return f"Raw columns that no contract names, which stay in `data/raw` only: {'; '.join(parts) or 'none'}."


def describe_missing(shares: pd.DataFrame) -> str:
    """Return how many columns have gaps, and which is the widest."""
    if shares.empty:
        return "No column of the lake has a gap."
    worst, few = shares.iloc[0], (shares["missing"] < 0.05).sum()
    return (
        f"Columns with gaps: {len(shares):,}, of which {few} lack less than 5 % of the values; the widest is "
        f"{display.code(worst['table'] + '.' + worst['column'])} with {worst['missing']:.1%} missing."
    )


def query(contract: Contract, problem: Problem) -> str:
    """Return a question to the lake in SQL: the target by month; without a time by class, or by deciles of a quantity.

    The level of a month is the mean of `decisions.event`.
    """
    table, target = f"lake.{warehouse.identifier(problem.table)}", warehouse.identifier(problem.target)
    if problem.time:
        return (
            f"SELECT strftime({warehouse.identifier(problem.time)}, '%Y-%m') AS month, count(*) AS rows,\n"
            f"  avg({_event(contract, problem)}) AS level\nFROM {table} GROUP BY 1 ORDER BY 1"
        )
    if problem.is_class:
        return (
            f"SELECT CAST({target} AS VARCHAR) AS class, count(*) AS rows, "
            f"count(*) / sum(count(*)) OVER () AS share\nFROM {table} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
    return (
        "SELECT decile, count(*) AS rows, min(value) AS lowest, avg(value) AS mean, max(value) AS highest\n"
        f"FROM (SELECT {target} AS value, ntile(10) OVER (ORDER BY {target}) AS decile FROM {table} "
        f"WHERE {target} IS NOT NULL)\nGROUP BY 1 ORDER BY 1"
    )


def grouping(contract: Contract, problem: Problem) -> str:
    """Return a column to compare rows by: the first of text that is neither target nor the whole key, else any other."""
    taken = {"rows", "level", problem.target, problem.time, *(problem.key if len(problem.key) == 1 else [])}
    other = [name for name in contract.columns if name not in taken]
    texts = [name for name in other if contract.columns[name].type == "string"]
    return next(iter([*texts, *other, *problem.key]))


def promises(contract: Contract) -> pd.DataFrame:
    """Return the contract of one table for reading: ``column``, ``type``, ``may be missing``, ``values``."""
    rows = []
    for name, column in contract.columns.items():
        bounds = {"at least": column.min, "at most": column.max}
        values = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        values += ["one of " + ", ".join(map(str, column.allowed))] if column.allowed else []
        values += [column.written()] if column.format or column.decimal or column.thousands else []
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])


def _event(contract: Contract, problem: Problem) -> str:
    """Return in SQL what a row's target is as `decisions.event` sees it, missing where it is not known."""
    target, is_float = warehouse.identifier(problem.target), contract.columns[problem.target].type == "float64"
    if not problem.is_class:
        return f"CASE WHEN isfinite({target}) THEN {target} END" if is_float else target
    text, events = f"CAST({target} AS VARCHAR)", {name: int(name == problem.focus) for name in problem.classes}
    if is_float:  # 1.0 is the class 1
        text = f"regexp_replace({text}, '[.]0$', '')"
        events = {name.removesuffix(".0"): event for name, event in events.items()}
    cases = " ".join(f"WHEN {warehouse.literal(name)} THEN {event}" for name, event in events.items())
    return f"CASE {text} {cases} END"

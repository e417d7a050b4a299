"""Columns of related tables: by key, or the newest row at or before the decision."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import pandas as pd

from ninefold import engine
from ninefold.errors import DataError
from ninefold.features.declarations import Join, Params, require_columns
from ninefold.problem import Problem


def join_related(tables: dict[str, ir.Table], params: Params, problem: Problem) -> ir.Table:
    """Return the events with the columns of related tables that ``features.joins`` declares, a row per event.

    Raises
    ------
    DataError
        If a table or a column is missing, a key matches several rows, or a name is already used.
    """
    events = tables[problem.table]
    for number, join in enumerate(params.joins):
        events = _joined(events, tables, join, number, problem)
    return events


def asof_join(left: ir.Table, right: ir.Table, keys: dict[str, str], on: tuple[str, str]) -> ir.Table:
    """Join to each row of `left` the newest row of `right` with the same keys, at or before its time.

    Parameters
    ----------
    left, right : Table
        Without a column of the same name. `right` has one row per key and time.
    keys : dict of str to str
        Columns of `left` -> of `right`.
    on : pair of str
        The column of time in `left` and in `right`.
    """
    if engine.of(left) == engine.SPARK:
        from ninefold import spark

        return spark.asof_join(left, right, keys, on)
    same = [left[mine] == right[theirs] for mine, theirs in keys.items()]
    return left.asof_join(right, on=left[on[0]] >= right[on[1]], predicates=same)


def _joined(events: ir.Table, tables: dict[str, ir.Table], join: Join, number: int, problem: Problem) -> ir.Table:
    where = f"params.yaml, features.joins[{number}]"
    related, keys, new = _related(tables, join, where), join.keys(), join.renamed()
    require_columns(events, list(keys), f"features.joins[{number}].by")
    existing = {name.casefold() for name in events.columns}  # the engine ignores case in names
    if repeated := [name for name in new.values() if name.casefold() in existing]:
        raise DataError(
            f"{where}.columns: the events have {', '.join(repeated)} already; give another name, {{old: new}}"
        )
    inner = {name: f"@{number} {name}" for name in (*keys.values(), *([join.as_of] if join.as_of else []))}
    right = related.select([related[name].name(to) for each in (inner, new) for name, to in each.items()])
    pairs = {mine: inner[theirs] for mine, theirs in keys.items()}
    for mine, theirs in keys.items():
        _require_same_type(events[mine], right[inner[theirs]], f"{where}.by: {mine} and {join.table}'s {theirs}")
    if join.as_of is None:
        same = [events[mine] == right[theirs] for mine, theirs in pairs.items()]
        return events.left_join(right, same).drop(*inner.values())
    if not problem.time:
        raise DataError(f"{where}.as_of: needs problem.time, the moment of the decision; there is none")
    moment = f"@{number} moment"
    horizon = engine.interval(pd.Timedelta(problem.horizon))
    left = events.mutate((events[problem.time] - horizon).name(moment))
    _require_same_type(
        left[moment], right[inner[join.as_of]], f"{where}.as_of: the time and {join.table}'s {join.as_of}"
    )
    return asof_join(left, right, pairs, (moment, inner[join.as_of])).drop(moment, *inner.values())


def _related(tables: dict[str, ir.Table], join: Join, where: str) -> ir.Table:
    """Return the table that a join names, after a check that its key matches one row."""
    if join.table not in tables:
        raise DataError(f"{where}.table: found {join.table!r}, expected a table of the lake: {', '.join(tables)}")
    related, key = tables[join.table], [*join.keys().values(), *([join.as_of] if join.as_of else [])]
    if missing := sorted({name for name in (*key, *join.renamed()) if name not in related.columns}):
        raise DataError(
            f"{where}: {', '.join(missing)} is no column of {join.table}; found {', '.join(related.columns)}"
        )
    related = related.filter(*(related[name].notnull() for name in key))  # a missing key matches no row
    rows, distinct = (int(table.count().execute()) for table in (related, related.select(*key).distinct()))
    if rows != distinct:
        raise DataError(
            f"{where}.by: {', '.join(key)} names {distinct:,} rows of {join.table}, which has {rows:,}; expected one row "
            "for each key: add the columns that tell them apart, or `as_of` for their time"
        )
    return related


def _require_same_type(mine: ir.Value, theirs: ir.Value, where: str) -> None:
    try:
        mine == theirs  # noqa: B015
    except ibis.IbisError:
        raise DataError(
            f"{where}: found {mine.type()} and {theirs.type()}, expected one type; see processing.tables"
        ) from None

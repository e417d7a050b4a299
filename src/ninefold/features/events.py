"""The events and their feature table: columns of related tables, what `project.features` builds, history over past rows."""

from collections.abc import Callable

import ibis
import ibis.expr.types as ir
import pandas as pd

from ninefold import artifacts, engine, hooks, spark
from ninefold.engine import PERIOD, ROW
from ninefold.engine_params import microseconds
from ninefold.errors import DataError
from ninefold.features.declarations import Join, Params, Window, kinds, require_columns, windows
from ninefold.problem import Problem, decisions
from ninefold.sentences import render
from ninefold.timestamps import MICROSECONDS

LAKE, FEATURES = "data/lake", "data/features"


def read(connection: ibis.BaseBackend, problem: Problem) -> dict[str, ir.Table]:
    """Return the tables of the lake, lazily; the problem's table with the partition of its rows, ``@period``."""
    main = engine.read(connection, f"{LAKE}/{problem.table}", numbered=True)
    return {**engine.tables(connection, LAKE), problem.table: main.drop(ROW)}


def build(tables: dict[str, ir.Table], params: Params, problem: Problem) -> ir.Table:
    """Return the events with own columns, declared joins, and ``project.features.build``; `DataError` if a column is missing."""
    joined = engine.settle(join_related(tables, params, problem))
    try:
        events = builder()({**tables, problem.table: joined}, problem)
    except (AttributeError, KeyError, ibis.IbisError) as error:
        columns = "; ".join(f"{name}: {', '.join(engine.columns(table))}" for name, table in tables.items())
        raise DataError(f"project.features.build: {error}; the lake has {columns}") from None
    if PERIOD in joined.columns and PERIOD not in events.columns:
        place = joined.select(PERIOD, *(joined[name].name(f"@ {name}") for name in problem.key))
        same = [events[name].identical_to(place[f"@ {name}"]) for name in problem.key]
        events = events.left_join(place, same).drop(*(f"@ {name}" for name in problem.key))
    return engine.settle(events)


def builder() -> Callable[..., ir.Table]:
    """Return ``project.features.build``; where it is absent, the events stay as they are."""
    return hooks.project("features", "build", lambda tables, problem: tables[problem.table])


def assemble(events: ir.Table, params: Params, problem: Problem, period: bool = False) -> ir.Table:
    """Return the feature table: key, time, entity, keys of the history, encoded target, then the features.

    Numbers, history and dates (days since 1970-01-01) are float64, categories and texts string; missing stays missing. With
    `period`, the rows' partition comes last. `DataError` if a column is missing or of the wrong type, or the target is one.
    """
    keys = [name for history in params.history for by in history.by for name in by]
    head = [name for name in (*problem.key, problem.time, *(problem.group or []), *keys) if name]
    by_kind = kinds(params, problem.horizon)
    require_columns(events, [*head, problem.target, *by_kind], "features")
    if problem.target in by_kind:
        raise DataError(f"params.yaml, features: {problem.target} is the target itself; no feature may be made of it")
    if problem.time and by_kind.get(problem.time, "date") != "date":
        raise DataError(f"params.yaml, features: {problem.time} is the time of the events; name it in features.dates")
    # A feature may also be part of the key; it is stored once, with the feature's type. The event's own time stays a
    # timestamp, by which rows are split; the model turns it into days itself.
    values: dict[str, ir.Value] = {name: events[name] for name in head if name != problem.target}
    values[problem.target] = decisions.outcome(events[problem.target], problem)
    values |= {name: _cast(events[name], kind, name) for name, kind in by_kind.items() if name != problem.time}
    return events.select([value.name(name) for name, value in values.items()] + [PERIOD] * period)


def order(problem: Problem) -> list[str]:
    """Return the columns that fix the order of the rows: the time, if there is one, then the key."""
    return list(dict.fromkeys(name for name in (problem.time, *problem.key) if name))


def join_related(tables: dict[str, ir.Table], params: Params, problem: Problem) -> ir.Table:
    """Return the events with the columns of related tables that ``features.joins`` declares, a row per event."""
    events = tables[problem.table]
    for number, join in enumerate(params.joins):
        related = _related(events, tables, join, number, problem)
        inner, moment = {name: f"@{number} {name}" for name in join.key()}, f"@{number} moment"
        named = [related[name].name(to) for each in (inner, join.renamed()) for name, to in each.items()]
        right, pairs = related.select(named), {mine: inner[theirs] for mine, theirs in join.keys().items()}
        if join.as_of:
            decided = events[problem.time] - pd.Timedelta(problem.horizon)
            events = events.mutate(decided.name(moment))
            events = asof_join(events, right, pairs, (moment, inner[join.as_of])).drop(moment)
        else:
            events = events.left_join(right, [events[mine] == right[theirs] for mine, theirs in pairs.items()])
        events = events.drop(*inner.values())
    return events


def asof_join(left: ir.Table, right: ir.Table, keys: dict[str, str], on: tuple[str, str]) -> ir.Table:
    """Join to each row of `left` the newest row of `right` with the same `keys`, at or before its time; `on` are the times."""
    if engine.of(left) == engine.SPARK:
        return spark.asof_join(left, right, keys, on)
    same = [left[mine] == right[theirs] for mine, theirs in keys.items()]
    return left.asof_join(right, on=left[on[0]] >= right[on[1]], predicates=same)


def add_history(events: ir.Table, params: Params, problem: Problem) -> ir.Table:
    """Add the history features to the events; raise `DataError` without time, or if a column is missing or not numeric."""
    every = windows(params, problem.horizon)
    if every and not problem.time:
        raise DataError("params.yaml, features.history: needs problem.time, the order of the past; there is none")
    require_columns(events, [name for window in every for name in (window.of, *window.by)], "features.history")
    added = []
    for window in every:
        values, span = number(events, window.of, problem), (window.start, window.end)
        value = over_past(values, window.how, window.by, events[problem.time], span)
        added.append(fill(value, window).name(window.name))
    return events.mutate(added) if added else events


def over_past(
    values: ir.NumericValue, how: str, by: list[str], time: ir.TimestampValue, window: tuple[pd.Timedelta, pd.Timedelta]
) -> ir.NumericValue:
    """Return for each row the `aggregate` over the rows with the same `by` in ``[time - window[0], time - window[1]]``."""
    exact = how == "count" or (how in ("mean", "sum") and values.type().is_integer())
    if exact and engine.of(values) == engine.SPARK:
        return spark.over_past(values, how, by, time, window)
    past = ibis.range_window(preceding=tuple(map(ibis.literal, window)), group_by=by, order_by=time)
    return aggregate(values, how).over(past)


def aggregate(values: ir.NumericValue, how: str) -> ir.NumericValue:
    """Return the ``mean``, ``sum``, ``count``, ``min``, ``max`` or ``std`` (n - 1) of values, without missing ones."""
    return values.std(how="sample") if how == "std" else getattr(values, how)()


def fill(value: ir.NumericValue, window: Window) -> ir.FloatingValue:
    """Return an aggregate as float64, with the prior of its window where there is no value."""
    value = value.cast("float64")
    value = value.nullif(0) if window.how == "count" else value  # null where there is no value, as the others are
    return value if window.prior is None else value.fill_null(window.prior)


def number(events: ir.Table, of: str, problem: Problem) -> ir.NumericValue:
    """Return a column as int64 or float64; a target of classes as 1 for the class in focus, else 0."""
    column = events[of]
    if of == problem.target and problem.is_class:
        return (column.cast("string") == problem.focus).cast("int64")
    if not column.type().is_numeric() and not column.type().is_boolean():
        raise DataError(f"params.yaml, features.history: {of} is {column.type()}, expected a number to average")
    return column.cast("float64" if column.type().is_floating() or column.type().is_decimal() else "int64")


def _cast(column: ir.Value, kind: str, name: str) -> ir.Value:
    if kind in ("categorical", "text"):
        return column.cast("string")
    if kind != "date":
        return column.cast("float64")
    if not column.type().is_timestamp() and not column.type().is_date():
        raise DataError(f"params.yaml, features.dates: {name} is {column.type()}, expected a timestamp")
    return microseconds(column).cast("float64") / MICROSECONDS


def _related(events: ir.Table, tables: dict[str, ir.Table], join: Join, number: int, problem: Problem) -> ir.Table:
    """Return the rows of a join's table that have a key; raise `DataError` if the join cannot be made."""
    where, key, keys = f"params.yaml, features.joins[{number}]", join.key(), join.keys()
    if join.table not in tables:
        raise DataError(f"{where}.table: found {join.table!r}, expected a table of the lake: {', '.join(tables)}")
    related = tables[join.table]
    artifacts.require(related, dict.fromkeys([*key, *join.renamed()]), f"{where}: table {join.table}")
    related = related.filter(*(related[name].notnull() for name in key))  # a missing key matches no row
    rows, distinct = (int(table.count().execute()) for table in (related, related.select(*key).distinct()))
    if rows != distinct:
        facts = {"where": where, "key": key, "table": join.table, "rows": rows, "distinct": distinct}
        raise DataError(render("features", "repeated", **facts))
    require_columns(events, list(keys), f"features.joins[{number}].by")
    existing = {name.casefold() for name in events.columns}  # the engine ignores case in names
    if repeated := [name for name in join.renamed().values() if name.casefold() in existing]:
        columns = f"the events have {', '.join(repeated)} already"
        raise DataError(f"{where}.columns: {columns}; give another name, {{old: new}}")
    compared = {f"by: {mine} and {join.table}'s {theirs}": (mine, theirs) for mine, theirs in keys.items()}
    if join.as_of:
        if not problem.time:
            raise DataError(f"{where}.as_of: needs problem.time, the moment of the decision; there is none")
        compared[f"as_of: the time and {join.table}'s {join.as_of}"] = problem.time, join.as_of
    for what, (mine, theirs) in compared.items():
        one, other = events[mine], related[theirs]
        try:
            one == other  # noqa: B015
        except ibis.IbisError:
            types = f"found {one.type()} and {other.type()}, expected one type"
            raise DataError(f"{where}.{what}: {types}; see processing.tables") from None
    return related

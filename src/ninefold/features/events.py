"""The events and their feature table: what `project.features` builds, and the columns as the model takes them."""

from __future__ import annotations

from collections.abc import Iterable

import ibis
import ibis.expr.types as ir

from ninefold import engine, hooks
from ninefold.engine import PERIOD, ROW
from ninefold.engine_params import microseconds
from ninefold.errors import DataError
from ninefold.features.declarations import Params, kinds, require_columns
from ninefold.features.joins import join_related
from ninefold.problem import Problem, decisions
from ninefold.timestamps import MICROSECONDS

LAKE, FEATURES = "data/lake", "data/features"


def read(connection: ibis.BaseBackend, problem: Problem) -> dict[str, ir.Table]:
    """Return the tables of the lake, lazily; the problem's table with the partition of its rows, ``@period``."""
    main = engine.read(connection, f"{LAKE}/{problem.table}", numbered=True)
    return {**engine.tables(connection, LAKE), problem.table: main.drop(ROW)}


def build(tables: dict[str, ir.Table], params: Params, problem: Problem) -> ir.Table:
    """Return the events with what is known of each by itself: own columns, the declared joins, ``project.features``.

    Parameters
    ----------
    tables : dict of str to Table
        The typed tables: the lake's, or any that keep the same contract.
    params : Params
    problem : Problem

    Raises
    ------
    DataError
        If a column is missing.
    """
    make = hooks.project("features", "build", own_columns)
    joined = engine.settle(join_related(tables, params, problem))
    try:
        events = make({**tables, problem.table: joined}, problem)
    except (AttributeError, KeyError, ibis.IbisError) as error:
        columns = "; ".join(f"{name}: {', '.join(engine.columns(table))}" for name, table in tables.items())
        raise DataError(f"project.features.build: {error}; the lake has {columns}") from None
    if PERIOD in joined.columns and PERIOD not in events.columns:
        place = joined.select(PERIOD, *(joined[name].name(f"@ {name}") for name in problem.key))
        same = [events[name].identical_to(place[f"@ {name}"]) for name in problem.key]
        events = events.left_join(place, same).drop(*(f"@ {name}" for name in problem.key))
    return engine.settle(events)


def own_columns(tables: dict[str, ir.Table], problem: Problem) -> ir.Table:
    """Return the events as they are: the default if ``project.features.build`` is absent."""
    return tables[problem.table]


def assemble(events: ir.Table, params: Params, problem: Problem, keep: Iterable[str] = ()) -> ir.Table:
    """Return the feature table: key, time, entity, keys of the history, target, then the features, as the model takes them.

    The target is encoded (see `decisions.outcome`). Numbers, history and dates (days since 1970-01-01) are float64,
    categories and texts string; missing stays missing. Columns to `keep` come last.

    Raises
    ------
    DataError
        If a column is missing or of the wrong type, or the target is a feature.
    """
    keys = [name for history in params.history for by in history.by for name in by]
    columns = [*problem.key, problem.time, *(problem.group or []), *keys]
    head = list(dict.fromkeys(name for name in columns if name and name != problem.target))
    by_kind = kinds(params, problem.horizon)
    require_columns(events, [*head, problem.target, *by_kind], "features")
    if problem.target in by_kind:
        raise DataError(f"params.yaml, features: {problem.target} is the target itself; no feature may be made of it")
    if problem.time and by_kind.get(problem.time, "date") != "date":
        raise DataError(f"params.yaml, features: {problem.time} is the time of the events; name it in features.dates")
    # A feature may also be part of the key; it is stored once, with the feature's type. The event's own time stays a
    # timestamp, by which rows are split; the model turns it into days itself.
    values: dict[str, ir.Value] = {name: events[name] for name in head}
    values[problem.target] = decisions.outcome(events[problem.target], problem)
    values |= {name: _cast(events[name], kind, name) for name, kind in by_kind.items() if name != problem.time}
    return events.select([value.name(name) for name, value in values.items()] + [events[name] for name in keep])


def order(problem: Problem) -> list[str]:
    """Return the columns that fix the order of the rows: the time, if there is one, then the key."""
    return list(dict.fromkeys([*([problem.time] if problem.time else []), *problem.key]))


def _cast(column: ir.Value, kind: str, name: str) -> ir.Value:
    if kind in ("categorical", "text"):
        return column.cast("string")
    if kind != "date":
        return column.cast("float64")
    if not column.type().is_timestamp() and not column.type().is_date():
        raise DataError(
            f"params.yaml, features.dates: {name} is {column.type()}, expected a timestamp; see its contract"
        )
    return microseconds(column).cast("float64") / MICROSECONDS

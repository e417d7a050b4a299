"""History features: aggregates over past rows whose values were known at the decision."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import pandas as pd

from ninefold import engine
from ninefold.errors import DataError
from ninefold.features.declarations import Params, Window, require_columns, windows
from ninefold.problem import Problem


def add_history(events: ir.Table, params: Params, problem: Problem) -> ir.Table:
    """Add the history features to the events.

    Parameters
    ----------
    events : Table
        With the time (timestamp, UTC), the keys and the columns that `params.history` names.

    Raises
    ------
    DataError
        If the problem has no time, or a column is missing or not numeric.
    """
    every = windows(params, problem.horizon)
    if every and not problem.time:
        raise DataError("params.yaml, features.history: needs problem.time, the order of the past; there is none")
    require_columns(events, [name for window in every for name in (window.of, *window.by)], "history")
    if not every:
        return events
    time = events[problem.time]
    return events.mutate(
        [
            fill(
                over_past(number(events, window.of, problem), window.how, window.by, time, (window.start, window.end)),
                window,
            ).name(window.name)
            for window in every
        ]
    )


def over_past(
    values: ir.NumericValue, how: str, by: list[str], time: ir.TimestampValue, window: tuple[pd.Timedelta, pd.Timedelta]
) -> ir.NumericValue:
    """Return for each row the `aggregate` over the rows with the same `by` in ``[time - start, time - end]``.

    Parameters
    ----------
    values : NumericValue
    how : str
        See `aggregate`.
    by : list of str
    time : TimestampValue
    window : pair of Timedelta
        ``start`` and ``end``.
    """
    start, end = (engine.interval(side) for side in window)
    whole = how == "count" or (how in ("mean", "sum") and values.type().is_integer())
    if whole and engine.of(values) == engine.SPARK:
        from ninefold import spark

        return spark.over_past(values, how, by, time, window)
    return aggregate(values, how).over(ibis.range_window(preceding=(start, end), group_by=by, order_by=time))


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

"""Rows after ``collection.as_of``, read, judged by the contract and given features as stages 02, 03 and 06 do it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import collection, engine, features, processing
from ninefold.collection import datetimes
from ninefold.errors import DataError
from ninefold.monitoring.answers import PERIOD
from ninefold.monitoring.params import Params
from ninefold.problem import Problem

DAYS = {"day": 1, "week": 7, "month": 30}  # in a period
MOST_PERIODS = 400
LATEST = pd.Timestamp("2262-01-01")


def periods(params: Params, collected: collection.Params, problem: Problem) -> pd.DataFrame:
    """Return the periods to replay: ``period`` ("2013-10", or the first day), ``start`` and ``end`` (UTC).

    They begin after `collected.as_of` and end with `params.replay_until`, or with the source. Without time, or if
    nothing follows, there are none.

    Raises
    ------
    DataError
        If there are more than `MOST_PERIODS`.
    """
    none = collection.periods(collected).iloc[:0]
    if not problem.time or collected.tables[problem.table].time is None or collected.as_of is None:
        return none
    start = collected.as_of + timedelta(days=1)
    last = params.replay_until
    if last is None:
        time = newest(collected, problem, pd.Timestamp(start))
        last = None if pd.isna(time) else time.date()
    if last is None or last < start:
        return none
    table = cut(start, last, params.period)
    if len(table) > MOST_PERIODS:
        raise DataError(
            f"params.yaml, monitoring.replay_until: from collection.as_of ({collected.as_of}) to {last} there are "
            f"{len(table)} {params.period}s, expected at most {MOST_PERIODS}; set replay_until to the last day to replay"
        )
    return table


def newest(collected: collection.Params, problem: Problem, start: pd.Timestamp) -> pd.Timestamp:
    """Return the time of the last row in the source from `start` on; NaT if there is none."""
    source = collected.tables[problem.table]
    rows = collection.reader(collected)(problem.table, start, LATEST)
    return datetimes.parse_series(rows[source.time], source.format).max()


def cut(first: date, last: date, unit: str) -> pd.DataFrame:
    """Cut the days from `first` to `last` into days, weeks or months: ``period``, ``start`` and ``end`` (UTC).

    A week is seven days from `first` on, so that each has all weekdays; a rest of less than half a week belongs to the
    last one. Days and weeks are named by their first day.
    """
    end = pd.Timestamp(last) + pd.Timedelta(days=1)
    if unit == "month":
        months = pd.period_range(first, last, freq="M")
        starts = [max(month.start_time, pd.Timestamp(first)) for month in months]
        names = months.astype(str).tolist()
    else:
        starts = list(pd.date_range(first, last, freq=f"{DAYS[unit]}D"))
        if len(starts) > 1 and 2 * (end - starts[-1]).days < DAYS[unit]:
            starts.pop()
        names = [f"{start:%Y-%m-%d}" for start in starts]
    return pd.DataFrame({"period": names, "start": starts, "end": [*starts[1:], end]})


def period_of(times: pd.Series, calendar: pd.DataFrame) -> pd.Series:
    """Return the period of each time: the first for earlier times, the last for later or missing ones."""
    names = calendar["period"].to_numpy(dtype="object")
    position = np.searchsorted(calendar["start"].to_numpy(), times.to_numpy(), side="right") - 1
    return pd.Series(names[np.maximum(position, 0)], index=times.index, dtype="object")


def replay(calendar: pd.DataFrame, earlier: dict[str, Any], problem: Problem) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the feature table of the rows that arrived in the periods of `calendar`.

    Parameters
    ----------
    calendar : DataFrame
        Of `periods`.
    earlier : dict of str to Section
        The params of ``collection``, ``processing`` and ``features``.
    problem : Problem

    Returns
    -------
    frame : DataFrame
        The feature table by time, and ``@period``.
    volume : DataFrame
        A row per period, up to the last in which anything arrived: ``period``, ``start``, ``end``, ``raw``,
        ``quarantined``, ``ready`` (rows, int64). A row without a readable time counts in the last period.
    """
    if calendar.empty:
        return features.load().iloc[:0].assign(**{PERIOD: ""}), calendar.assign(raw=0, quarantined=0, ready=0)
    connection = engine.connect()
    tables = _checked_tables(calendar, earlier, connection)
    frame = _feature_table(tables, earlier, problem, connection)
    arrived = tables[problem.table].select(problem.time, processing.RULE).to_pandas()
    period = period_of(arrived[problem.time], calendar)
    frame = frame.assign(**{PERIOD: period_of(frame[problem.time], calendar)})
    counts = {"raw": period, "quarantined": period[arrived[processing.RULE].notna()], "ready": frame[PERIOD]}
    rows = {name: calendar["period"].map(found.value_counts()).fillna(0) for name, found in counts.items()}
    volume = calendar.assign(**rows).astype(dict.fromkeys(rows, "int64"))
    return frame, volume[: int(volume["raw"].to_numpy().nonzero()[0].max(initial=-1)) + 1]


def _checked_tables(
    calendar: pd.DataFrame, earlier: dict[str, Any], connection: ibis.BaseBackend
) -> dict[str, ir.Table]:
    """Return the tables of these periods, typed, with the contract rule that a row breaks; those without time whole.

    A row whose key is in the lake already breaks the rule ``unique``, as if both had arrived together.
    """
    sources, contract = earlier["collection"].tables, earlier["processing"]
    read, lake = collection.reader(earlier["collection"]), engine.tables(connection, features.LAKE)
    start, end = calendar["start"].iloc[0], calendar["end"].iloc[-1]
    raw = {}
    for name in contract.tables:
        rows = read(name, start, end) if sources[name].time else read(name, None, None)
        raw[name] = engine.table(connection, rows.astype("str"), period=calendar["period"].iloc[-1])
    known = {name: lake[name] for name in contract.tables if sources[name].time}
    tables = processing.judge(processing.convert(raw, contract), contract, known)
    return {name: engine.keep(table.drop(engine.ROW, engine.PERIOD)) for name, table in tables.items()}


def _feature_table(
    tables: dict[str, ir.Table], earlier: dict[str, Any], problem: Problem, connection: ibis.BaseBackend
) -> pd.DataFrame:
    """Return the features of the rows that keep the contract, by time; their history reaches back into the lake.

    Tables without time are those of the lake: known when the model was deployed, and nothing later.
    """
    sources, params = earlier["collection"].tables, features.declared(earlier["features"], problem)
    lake = engine.tables(connection, features.LAKE)
    sound = {
        name: table.filter(table[processing.RULE].isnull()).drop(processing.RULE).cast(lake[name].schema())
        for name, table in tables.items()
    }
    for name in (name for name in lake if sources[name].time):
        lake[name] = lake[name].union(sound[name])
    new, events = sound[problem.table], features.build(lake, params, problem)
    first = new[problem.time].min().execute()
    recent = (
        events if pd.isna(first) else events.filter(events[problem.time] >= first - features.reach(params, problem))
    )
    rows = features.add_history(engine.settle(recent), params, problem)
    rows = rows.semi_join(new, [rows[name].identical_to(new[name]) for name in problem.key])
    return features.assemble(rows, params, problem).order_by(features.order(problem)).to_pandas()

"""Rows that arrived since the model was built, with its answers, and when their labels were received.

They are those after ``collection.as_of``, as stages 02, 03 and 06 make them, or those of the prediction log.
"""

from __future__ import annotations

from datetime import date
from typing import Any, TypeAlias

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import collection, engine, features, processing, timestamps
from ninefold.collection import datetimes
from ninefold.errors import DataError
from ninefold.monitoring import labels, production
from ninefold.monitoring.answers import AT_CLOSE, LATER, NEVER, OPEN, PERIOD, STATES, STATUS, outcomes, predict
from ninefold.monitoring.params import Params
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle

Record: TypeAlias = dict[str, Any]  # what is known of a period, as plain values
Parts: TypeAlias = dict[str, pd.DataFrame]  # train, validation, holdout
Arrived: TypeAlias = tuple[pd.DataFrame, pd.DataFrame]  # rows with their answers, and their volume
DAYS = {"day": 1, "week": 7, "month": 30}  # in a period
MOST_PERIODS = 400
LATEST = pd.Timestamp("2262-01-01")


def read_arrivals(params: Params, earlier: Record, bundle: Bundle) -> Arrived:
    """Return rows with their answers, and volume: of `replay`, by the params of three `earlier` stages, or of `from_log`."""
    if params.source == "log":
        return from_log(params, bundle)
    frame, volume = replay(periods(params, earlier["collection"], bundle.problem), earlier, bundle.problem)
    return predict(frame, bundle), volume


def from_log(params: Params, bundle: Bundle) -> Arrived:
    """Return the decisions of the service and of batch runs, each once, with the outcomes received.

    A row belongs to the period of its time, or without one of its answer. Periods reach to today, so that silence
    shows. A label counts at the close of its period if it was known by then: by its ``known_at``, but not before
    ``problem.label_delay`` after the event, as those that come sooner may be of one kind. The frame is of
    `production.served` and `labels.join`, with ``@period`` and ``@status``; the volume as of `replay`: the service
    refuses rows that break its schema, so that none is quarantined.
    """
    problem, like = bundle.problem, features.load().iloc[:0]
    table = production.served(bundle, like=like)
    if not table.empty:
        table, _ = labels.join(table, labels.load(), problem)
        table = table[table[labels.LABEL] != "superseded"].reset_index(drop=True)
    if table.empty:
        return predict(like.assign(**{PERIOD: "", STATUS: ""}), bundle), _volume(cut(pd.NaT, pd.NaT, params.period))
    moment, label = table[production.MOMENT], table[labels.LABEL]
    times = table[problem.time].fillna(moment) if problem.time else moment
    days = timestamps.local(times, problem.timezone)
    calendar = cut(days.min().date(), max(days.max().date(), date.today()), params.period, problem.timezone)
    period = period_of(times, calendar)
    due = times + pd.Timedelta(problem.label_delay)
    late = due.clip(lower=table[labels.KNOWN_AT].fillna(due)) > period.map(calendar.set_index("period")["end"])
    unknown = (label != "known") | (due > calendar["end"].max())
    status = np.select([label == "never", unknown, late], [NEVER, OPEN, LATER], AT_CLOSE)
    return table.assign(**{PERIOD: period, STATUS: status}), _volume(calendar, raw=period, ready=period)


def add_label_status(frame: pd.DataFrame, volume: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Add ``@status``, one of `STATES`, where rows of the log have it already: when the label is known, after its delay."""
    if params.source == "log":
        return frame
    if frame.empty:
        return frame.assign(**{STATUS: ""})
    known_at = frame[problem.time] + pd.Timedelta(problem.label_delay)
    late = known_at > frame[PERIOD].map(volume.set_index("period")["end"])
    conditions = [known_at > volume["end"].max(), frame[problem.target].isna(), late]
    return frame.assign(**{STATUS: np.select(conditions, [OPEN, NEVER, LATER], AT_CLOSE)})


def label_counts(frame: pd.DataFrame, volume: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return per period how many labels were received when, and the mean of `decisions.event` at its close and in the end."""
    counts = pd.crosstab(frame[PERIOD], frame[STATUS]).reindex(index=volume["period"], columns=STATES, fill_value=0)
    table = volume[["period", "raw", "quarantined"]].assign(predictions=counts.sum(axis=1).to_numpy())
    table = table.join(counts, on="period")
    for name, states in {"level at close": [AT_CLOSE], "level in the end": [AT_CLOSE, LATER]}.items():
        rows = frame[frame[STATUS].isin(states) & frame[problem.target].notna()]
        event = pd.Series(decisions.event(outcomes(rows, problem), problem), rows.index)
        table[name] = table["period"].map(event.groupby(rows[PERIOD]).mean()).astype("float64")
    return table


def periods(params: Params, collected: collection.Params, problem: Problem) -> pd.DataFrame:
    """Return the periods to replay (`cut`), from the UTC day after `as_of` on; none without time, `DataError` for too many."""
    first, last = pd.Timestamp(collected.as_of) + pd.Timedelta(days=1), pd.NaT
    if problem.time and collected.tables[problem.table].time and collected.as_of:
        last = pd.Timestamp(params.replay_until) if params.replay_until else newest(collected, problem, first)
        last = last if params.replay_until else timestamps.local(pd.Series(last), problem.timezone).iloc[0]
    table = cut(first, last, params.period, problem.timezone)
    table["start"] = table["start"].where(table.index > 0, first)
    if len(table) > MOST_PERIODS:
        raise DataError(
            f"params.yaml, monitoring.replay_until: from collection.as_of ({collected.as_of}) to {last:%Y-%m-%d} there are "
            f"{len(table)} {params.period}s, expected at most {MOST_PERIODS}; set replay_until to the last day to replay"
        )
    return table


def newest(collected: collection.Params, problem: Problem, start: pd.Timestamp) -> pd.Timestamp:
    """Return the time of the last row in the source from `start` on; NaT if there is none."""
    source = collected.tables[problem.table]
    rows = collection.reader(collected)(problem.table, start, LATEST)
    return datetimes.parse_series(rows[source.time], source.format).max()


def cut(first: date, last: date, unit: str, timezone: str = "UTC") -> pd.DataFrame:
    """Cut the local days from `first` to `last` into days, weeks or months: ``period``, ``start`` and ``end`` (UTC).

    Months are named as ``2013-10``, days and weeks by their first day. A week is seven days from `first` on, so that each
    has all weekdays; a rest of less than half a week belongs to the last one. There are none if `last` is before `first` or NaT.
    """
    days = (pd.date_range(first, last) if first <= last else pd.DatetimeIndex([])).as_unit("us")
    starts = days[:: DAYS[unit]]
    if unit == "month":
        starts = days[days.is_month_start | (days == days.min())]
    elif len(starts) > 1 and 2 * (len(days) - DAYS[unit] * (len(starts) - 1)) < DAYS[unit]:
        starts = starts[:-1]
    ends = starts[1:].append(days[-1:] + pd.Timedelta(days=1))
    names = starts.strftime("%Y-%m" if unit == "month" else "%Y-%m-%d")
    start, end = (timestamps.midnight(pd.Series(each), timezone) for each in (starts, ends))
    return pd.DataFrame({"period": names, "start": start, "end": end})


def period_of(times: pd.Series, calendar: pd.DataFrame) -> pd.Series:
    """Return the period of each time: the first for earlier times, the last for later or missing ones."""
    position = np.searchsorted(calendar["start"].to_numpy(), times.to_numpy(), side="right") - 1
    return pd.Series(calendar["period"].to_numpy("object")[np.maximum(position, 0)], times.index, dtype="object")


def replay(calendar: pd.DataFrame, earlier: Record, problem: Problem) -> Arrived:
    """Return the feature table of the rows that arrived in the periods of `calendar`, with ``@period``; and their volume.

    The volume has a row per period, up to the last in which anything arrived: ``period``, ``start``, ``end``, ``raw``,
    ``quarantined``, ``ready`` (rows, int64). A row without a readable time counts in the last period.
    """
    if calendar.empty:
        return features.load().iloc[:0].assign(**{PERIOD: ""}), _volume(calendar)
    connection, sources, contract = engine.connect(), earlier["collection"].tables, earlier["processing"]
    read, lake = collection.reader(earlier["collection"]), engine.tables(connection, features.LAKE)
    start, end, last = calendar["start"].iloc[0], calendar["end"].iloc[-1], calendar["period"].iloc[-1]
    raw = {}
    for name in contract.tables:
        rows = read(name, start, end) if sources[name].time else read(name, None, None)
        raw[name] = engine.table(connection, rows.astype("str"), period=last)
    known = {name: lake[name] for name in contract.tables if sources[name].time}  # for ``unique``
    checked = processing.judge(processing.convert(raw, contract), contract, known)
    tables = {name: table.drop(engine.ROW, engine.PERIOD).cache() for name, table in checked.items()}
    frame = _feature_table(tables, earlier, problem, connection)
    frame[PERIOD] = period_of(frame[problem.time], calendar)
    arrived = tables[problem.table].select(problem.time, processing.RULE).to_pandas()
    period = period_of(arrived[problem.time], calendar)
    quarantined = period[arrived[processing.RULE].notna()]
    volume = _volume(calendar, raw=period, quarantined=quarantined, ready=frame[PERIOD])
    return frame, volume[: int(volume["raw"].to_numpy().nonzero()[0].max(initial=-1)) + 1]


def _volume(calendar: pd.DataFrame, **periods: pd.Series) -> pd.DataFrame:
    """Return the calendar with the rows of each period: ``raw``, ``quarantined`` and ``ready``."""
    counts = pd.DataFrame({name: each.value_counts() for name, each in periods.items()}, calendar["period"])
    counts = counts.reindex(columns=["raw", "quarantined", "ready"]).fillna(0).astype("int64")
    return calendar.join(counts, on="period")


def _feature_table(
    tables: dict[str, ir.Table], earlier: Record, problem: Problem, connection: ibis.BaseBackend
) -> pd.DataFrame:
    """Return the features of the rows that keep the contract, by time; history and tables without time are the lake's."""
    sources, params = earlier["collection"].tables, features.declared(earlier["features"], problem)
    lake = engine.tables(connection, features.LAKE)
    sound = {
        name: table.filter(table[processing.RULE].isnull()).drop(processing.RULE).cast(lake[name].schema())
        for name, table in tables.items()
    }
    lake |= {name: lake[name].union(sound[name]) for name in lake if sources[name].time}
    new, events = sound[problem.table], features.build(lake, params, problem)
    first = new[problem.time].min().execute()
    if not pd.isna(first):
        events = events.filter(events[problem.time] >= first - features.reach(params, problem))
    rows = features.add_history(engine.settle(events), params, problem)
    rows = rows.semi_join(new, [rows[name].identical_to(new[name]) for name in problem.key])
    return features.assemble(rows, params, problem).order_by(features.order(problem)).to_pandas()

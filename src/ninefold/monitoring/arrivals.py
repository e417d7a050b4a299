"""Rows that arrived since the model was built, with its answers, and when their labels were received.

They are those after ``collection.as_of``, as stages 02, 03 and 06 make them, or those of the prediction log.
"""

from datetime import date
from typing import Any, TypeAlias

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import collection, engine, features, processing, timestamps
from ninefold.collection import datetimes
from ninefold.errors import DataError
from ninefold.monitoring import labels, production
from ninefold.monitoring.answers import AT_CLOSE, LATER, NEVER, OPEN, PERIOD, STATES, STATUS, outcomes, predict
from ninefold.monitoring.params import Params
from ninefold.monitoring.texts import say
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle

Record: TypeAlias = dict[str, Any]  # what is known of a period, as plain values
Reports: TypeAlias = dict[str, Record]  # of `period_report`, by period
Parts: TypeAlias = dict[str, pd.DataFrame]  # train, validation, holdout
Tables: TypeAlias = dict[str, ir.Table]
Arrived: TypeAlias = tuple[pd.DataFrame, pd.DataFrame]  # rows with their answers, and their volume
DAYS = {unit: days for unit, (*_, days) in timestamps.GRAINS.items()}  # in a period
CALENDAR = {"month": "%Y-%m", "quarter": "%Y-Q%q", "year": "%Y"}  # the names of periods that the calendar cuts
MOST_PERIODS = 400
LATEST = pd.Timestamp("2262-01-01")
VOLUME = ("raw", "quarantined", "ready", "too_early", "too_late")  # rows of a period


def read_arrivals(params: Params, earlier: Record, bundle: Bundle) -> Arrived:
    """Return rows with their answers, and volume: of `replay`, by the params of three `earlier` stages, or of `from_log`."""
    if params.source == "log":
        return from_log(params, bundle)
    problem = bundle.problem
    grain = timestamps.grain(problem.local_times(features.load([problem.time]))) if problem.time else "day"
    frame, volume = replay(periods(params, earlier["collection"], problem, grain), earlier, problem)
    return predict(frame, bundle), volume


def from_log(params: Params, bundle: Bundle) -> Arrived:
    """Return the decisions of the service and of batch runs, each once, with the outcomes received.

    A row belongs to the period of its time, or of its answer if that is missing or redacted. Periods reach to the current
    one, so that silence shows. Set apart are rows ``too_early`` (before the first row of the feature table, or more than
    `MOST_PERIODS` ago) and ``too_late`` (after the current period), which count in the period of their answer. A label
    counts at the close of its period if it was known by then: by its ``known_at``, but not before ``problem.label_delay``
    after the event, as those that come sooner may be of one kind. The frame is of `production.served` and `labels.join`,
    with ``@period`` and ``@status``; the volume as of `replay`, none quarantined: the service refuses such rows.
    """
    problem, known = bundle.problem, features.load()
    table = production.served(bundle, like=known.iloc[:0])
    if not table.empty:
        table, _ = labels.join(table, labels.load(), problem)
        table = table[table[labels.LABEL] != "superseded"].reset_index(drop=True)
    if table.empty:
        empty = known.iloc[:0].assign(**{PERIOD: "", STATUS: ""})
        return predict(empty, bundle), _volume(cut(pd.NaT, pd.NaT, params.period))
    moment, now = table[production.MOMENT], timestamps.now()
    times, earliest = moment, now - MOST_PERIODS * pd.Timedelta(days=DAYS[params.period])
    if problem.time:
        is_redacted = problem.time in bundle.described["log"]["redact"]
        table[problem.time] = times = moment if is_redacted else table[problem.time].fillna(moment)
        earliest = max(earliest, known[problem.time].min())
    early = times < earliest
    first, today = timestamps.local(pd.Series([min(now, times[~early].min()), now]), problem.timezone)
    calendar = cut(first, today, params.period, problem.timezone)
    late = times >= calendar["end"].iloc[-1]
    answered = period_of(moment, calendar)
    fits = ~early & ~late
    table = table[fits].assign(**{PERIOD: period_of(times[fits], calendar)})
    due, label = times[table.index] + pd.Timedelta(problem.label_delay), table[labels.LABEL]
    after = due.clip(lower=table[labels.KNOWN_AT].fillna(due)) > table[PERIOD].map(calendar.set_index("period")["end"])
    status = np.select([label == "never", (label != "known") | (due > now), after], [NEVER, OPEN, LATER], AT_CLOSE)
    inside = {"raw": table[PERIOD], "ready": table[PERIOD]}
    volume = _volume(calendar, **inside, too_early=answered[early], too_late=answered[late])
    return table.assign(**{STATUS: status}).reset_index(drop=True), volume


def label_status(frame: pd.DataFrame, volume: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return when the label of each row of a replay is known, after its delay: one of `STATES`."""
    known_at = frame[problem.time] + pd.Timedelta(problem.label_delay)
    late = known_at > frame[PERIOD].map(volume.set_index("period")["end"])
    conditions = [known_at > min(volume["end"].max(), timestamps.now()), frame[problem.target].isna(), late]
    return np.select(conditions, [OPEN, NEVER, LATER], AT_CLOSE)


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


def periods(params: Params, collected: collection.Params, problem: Problem, grain: str = "day") -> pd.DataFrame:
    """Return the periods to replay, see `cut`, and after the last how many rows are ``too_late``; none without time.

    They begin with the UTC day after ``collection.as_of``. Without `params.replay_until` they reach to the newest row that
    is not of the future; where times stand for months or the like (`grain`), to the end of that. Too many raise DataError.
    """
    first, last, times = pd.Timestamp(collected.as_of) + pd.Timedelta(days=1), pd.NaT, pd.Series(dtype="datetime64[us]")
    if problem.time and collected.tables[problem.table].time and collected.as_of:
        times = times if params.replay_until else source_times(collected, problem, first)
        newest = timestamps.local(times[times <= timestamps.now()], problem.timezone).max()
        last = pd.Timestamp(params.replay_until or timestamps.last_day(newest, grain))
    table = cut(first, last, params.period, problem.timezone)
    table["start"] = table["start"].where(table.index > 0, first)
    table["too_late"] = np.where(table["end"] == table["end"].max(), (times >= table["end"].max()).sum(), 0)
    if len(table) > MOST_PERIODS:
        facts = {"as_of": collected.as_of, "last": last, "count": len(table), "most": MOST_PERIODS}
        raise DataError(say("too_many_periods", **facts, period=params.period))
    return table


def source_times(collected: collection.Params, problem: Problem, start: pd.Timestamp) -> pd.Series:
    """Return the times of the rows in the source from `start` on: datetime64[us], NaT where none can be read."""
    source = collected.tables[problem.table]
    rows = collection.reader(collected)(problem.table, start, LATEST)
    return datetimes.parse_series(rows[source.time], source.format)


def cut(first: date, last: date, unit: str, timezone: str = "UTC") -> pd.DataFrame:
    """Cut local days into periods: ``period``, ``start`` and ``end`` (UTC), and whether it is ``closed``.

    Names are ``2013-10``, ``2013-Q4`` and ``2013``, or the first day of a day or week; weeks begin with `first`. The last
    period ends with `last`, and a rest of less than half a week belongs to the week before; but while the last one is not
    over, it is as long as the others, and not ``closed``. There are none if `last` is before `first` or NaT.
    """
    now = timestamps.local(pd.Series([timestamps.now()]), timezone).iloc[0]
    first, last = pd.Timestamp(first).floor("D"), min(pd.Timestamp(last), now)
    days = (pd.date_range(first, last) if first <= last else pd.DatetimeIndex([])).as_unit("us")
    if unit in CALENDAR:
        starts = days[getattr(days, f"is_{unit}_start") | (days == days.min())]
        end = (starts[-1:].to_period(timestamps.GRAINS[unit][0]) + 1).start_time.as_unit("us")
    else:
        starts = days[:: int(DAYS[unit])]
        end = starts[-1:] + pd.Timedelta(days=DAYS[unit])
    if (end <= now).all():
        if unit not in CALENDAR and len(starts) > 1 and 2 * (days >= starts[-1]).sum() < DAYS[unit]:
            starts = starts[:-1]
        end = days[-1:] + pd.Timedelta(days=1)
    ends = starts[1:].append(end)
    named = starts.to_period(timestamps.GRAINS[unit][0]) if unit in CALENDAR else starts
    names = named.strftime(CALENDAR.get(unit, "%Y-%m-%d"))
    start, end = (timestamps.midnight(pd.Series(each), timezone) for each in (starts, ends))
    return pd.DataFrame({"period": names, "start": start, "end": end, "closed": ends <= now})


def period_of(times: pd.Series, calendar: pd.DataFrame) -> pd.Series:
    """Return the period of each time: the first for earlier times, the last for later or missing ones."""
    position = np.searchsorted(calendar["start"].to_numpy(), times.to_numpy(), side="right") - 1
    return pd.Series(calendar["period"].to_numpy("object")[np.maximum(position, 0)], times.index, dtype="object")


def replay(calendar: pd.DataFrame, earlier: Record, problem: Problem) -> Arrived:
    """Return the features of the rows that arrived in the periods of `calendar`, ``@period`` and ``@status``; and their volume.

    The volume has a row per period, up to the last in which anything arrived: ``period``, ``start``, ``end``, ``raw``,
    ``closed``, and `VOLUME` (rows, int64). A row without a readable time counts in the last period.
    """
    if calendar.empty:
        return features.load().iloc[:0].assign(**{PERIOD: "", STATUS: ""}), _volume(calendar)
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
    frame = _feature_table(tables, lake, earlier, problem)
    frame[PERIOD] = period_of(frame[problem.time], calendar)
    arrived = tables[problem.table].select(problem.time, processing.RULE).to_pandas()
    period, is_broken = period_of(arrived[problem.time], calendar), arrived[processing.RULE].notna()
    volume = _volume(calendar, raw=period, quarantined=period[is_broken], ready=frame[PERIOD])
    volume = volume[: int(volume["raw"].to_numpy().nonzero()[0].max(initial=-1)) + 1]
    return frame.assign(**{STATUS: label_status(frame, volume, problem) if len(frame) else ""}), volume


def _volume(calendar: pd.DataFrame, **periods: pd.Series) -> pd.DataFrame:
    """Return the calendar with the rows of each period, `VOLUME`."""
    counts = pd.DataFrame({name: each.value_counts() for name, each in periods.items()}, calendar["period"])
    counts = counts.reindex(columns=[name for name in VOLUME if name not in calendar]).fillna(0).astype("int64")
    return calendar.join(counts, on="period")


def _feature_table(tables: Tables, lake: Tables, earlier: Record, problem: Problem) -> pd.DataFrame:
    """Return the features of the rows that keep the contract, by time; history and tables without time are the lake's."""
    sources, params = earlier["collection"].tables, features.declared(earlier["features"], problem)
    rule = processing.RULE
    valid = {name: table.filter(table[rule].isnull()).drop(rule) for name, table in tables.items()}
    sound = {name: table.cast(lake[name].schema()) for name, table in valid.items()}
    grown = {name: lake[name].union(sound[name]) for name in lake if sources[name].time}
    new, events = sound[problem.table], features.build(lake | grown, params, problem)
    first = new[problem.time].min().execute()
    if not pd.isna(first):
        events = events.filter(events[problem.time] >= first - features.reach(params, problem))
    rows = features.add_history(engine.settle(events), params, problem)
    rows = rows.semi_join(new, [rows[name].identical_to(new[name]) for name in problem.key])
    return features.assemble(rows, params, problem).order_by(features.order(problem)).to_pandas()

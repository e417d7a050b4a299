"""Values as they were known at a moment: for the service, and as proofs that no feature sees the future.

The history of a moment is computed twice: with windows for the feature table, and without them for the service; the two
have to agree. And features that are built again without the future have to stay the same.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import artifacts, engine
from ninefold.features.declarations import Params, Window, kinds, windows
from ninefold.features.events import FEATURES, LAKE, aggregate, assemble, build, fill, number, read
from ninefold.params import load
from ninefold.problem import Problem

ONLINE = "data/online"
MOMENTS = 24
MOMENT = "@moment"
PROOFS = (0.3, 0.6, 0.9)  # where in the sample the future is removed
ROWS = 10_000  # without time, so many rows are built again
Moments = list[datetime]


@dataclass(frozen=True)
class PointInTime:
    """The events and their feature table, with what computes both again as of a moment."""

    events: ir.Table
    table: ir.Table
    params: Params
    problem: Problem

    def past(self, window: Window, row: pd.Series) -> pd.DataFrame:
        """Return the rows that a history feature of a row of the feature table aggregates, by time: keys, time, value."""
        events, time = self.events, self.problem.time
        key = {name: ibis.literal(None if pd.isna(row[name]) else row[name]) for name in window.by}
        same = [events[name].identical_to(value.cast(events[name].type())) for name, value in key.items()]
        begin, end = ((row[time] - side).to_pydatetime() for side in (window.start, window.end))
        known = events.filter(*same, events[time].between(begin, end)).order_by(time)
        shown = {name: known[name] for name in (*window.by, time)} | {window.of: number(known, window.of, self.problem)}
        return known.select([value.name(name) for name, value in shown.items()]).to_pandas()

    def save(self, high_cardinality: list[str]) -> None:
        """Write ``data/online/``: the history values at `moment_of`, and the model's columns, with those of high cardinality."""
        moment = moment_of(self.problem)
        folder, stores, online = artifacts.output(ONLINE), [], self._snapshots([moment] if moment else [])
        for window in windows(self.params, self.problem.horizon):
            file = re.sub(r"[^\w-]", "_", window.name)  # which any system accepts
            file += "" if file == window.name else f"-{hashlib.sha256(window.name.encode()).hexdigest()[:8]}"
            artifacts.write_table(online[window.name].drop(columns=MOMENT), folder / f"{file}.parquet")
            prior = {} if window.prior is None else {"prior": window.prior}
            stores.append({"feature": window.name, "by": window.by, "file": f"{file}.parquet", **prior})
        wide = {name: {"wide": True} for name in high_cardinality}
        by_kind = kinds(self.params, self.problem.horizon)
        columns = [{"name": name, "kind": kind, **wide.get(name, {})} for name, kind in by_kind.items()]
        described = {"moment": moment.isoformat() if moment else None, "stores": stores, "features": columns}
        artifacts.write_json(described, folder / "online.json")

    def online_difference(self, sample: pd.DataFrame, count: int = MOMENTS) -> float:
        """Return the largest difference, relative above 1, of online and offline history; inf where one has no value.

        They are compared at `count` moments, spread over a sample of the feature table without its first decile.
        """
        largest, due_at = 0.0, Moments()
        if self.problem.time and len(sample):
            times = np.sort(sample[self.problem.time].unique())
            chosen = times[np.unique(np.linspace(len(times) // 10, len(times) - 1, count).astype(int))]
            due_at = [moment.to_pydatetime() for moment in pd.to_datetime(chosen)]
        for offline, online in self._histories(due_at):
            if (np.isnan(offline) != np.isnan(online)).any():
                return float("inf")
            difference = np.abs(offline - online) / np.maximum(np.abs(offline), 1)
            largest = max(largest, float(np.nanmax(difference, initial=0.0)))
        return largest

    def future_difference(self, sample: pd.DataFrame) -> int:
        """Return how many values at a few moments change when the future of each moment is removed.

        Removed are all later rows, and of the earlier ones what was not known at the decision (`Problem.known_before`): for
        ``project.features.build``, and the history of what it returns, the target and the columns that stage 05 declares known
        later, which are known as late as the target, or ``known_after`` of a history of them. Without time, all of these.
        """
        due_at = Moments()
        if self.problem.time and len(sample):
            due_at = [sample[self.problem.time].iloc[int(len(sample) * share)].to_pydatetime() for share in PROOFS]
        return self._changed_history(due_at) + self._changed_build(sample, due_at)

    def _snapshots(self, due_at: Moments) -> dict[str, pd.DataFrame]:
        """Return by history feature, without windows, for events due at moments: ``@moment``, keys, ``value``."""
        events, time, result = self.events, self.problem.time, dict[str, pd.DataFrame]()
        stamps = pd.DataFrame({MOMENT: pd.to_datetime(pd.Series(due_at)).astype("datetime64[us]")})
        every = windows(self.params, self.problem.horizon)
        if stamps.empty or not every:
            return {}
        due = engine.table(events.get_backend(), stamps)
        first = stamps[MOMENT].min() - max(window.start for window in every)
        near = events.filter(events[time].between(first.to_pydatetime(), max(due_at)))
        past = near.select(*dict.fromkeys(name for each in every for name in (*each.by, time, each.of))).cache()
        for window in every:
            start, end = (due[MOMENT] - side for side in (window.start, window.end))
            known = past.inner_join(due, [past[time] >= start, past[time] <= end])
            value = fill(aggregate(number(known, window.of, self.problem), window.how), window)
            keys = [MOMENT, *window.by]
            result[window.name] = known.group_by(keys).aggregate(value.name("value")).order_by(keys).to_pandas()
        return result

    def _histories(self, due_at: Moments) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the values of each history feature for the rows due at some moments: in the feature table, by `_snapshots`."""
        table, time = self.table, self.problem.time
        every = windows(self.params, self.problem.horizon) if due_at else []
        online = self._snapshots(due_at)
        due = table.filter(table[time].isin(due_at)).to_pandas() if every else pd.DataFrame()
        for window in every:
            keys = [MOMENT, *window.by]
            due[MOMENT] = due[time].astype("datetime64[us]")
            values = online[window.name].astype(due.dtypes[keys].to_dict())
            both = due[[*keys, window.name]].merge(values, on=keys, how="left")
            served = both["value"].fillna(np.nan if window.prior is None else window.prior)
            yield both[window.name].to_numpy("float64"), served.to_numpy("float64")

    def _changed_history(self, due_at: Moments) -> int:
        """Return how many history values, of the rows due at some moments, differ from those by `_snapshots` of the events."""
        pairs = self._histories(due_at)
        return sum(int((~np.isclose(*pair, rtol=1e-9, atol=1e-9, equal_nan=True)).sum()) for pair in pairs)

    def _changed_build(self, sample: pd.DataFrame, due_at: Moments) -> int:
        """Return how many values change that are built again; 0 if there is no lake to build them from."""
        params, problem, table = self.params, self.problem, self.table
        by_kind, time = kinds(params, problem.horizon), problem.time
        names = [name for name, kind in by_kind.items() if kind != "history" and name not in (time, *problem.key)]
        if sample.empty or not engine.periods(f"{LAKE}/{problem.table}"):
            return 0
        connection = table.get_backend()
        tables, plain, changed = read(connection, problem), params.model_copy(update={"history": []}), 0
        moments: Sequence[datetime | None] = due_at or [None]
        for at in moments:
            past = engine.settle(_without_future(tables[problem.table], at, params, problem))
            events = build({**_until(tables, at), problem.table: past}, plain, problem)
            changed += replace(self, events=events)._changed_history([at] if at else [])
            rebuilt = assemble(events, plain, problem)
            if time:
                # None of these rows may see what is hidden.
                since = problem.known_before(pd.Timestamp(at)).to_pydatetime()
                now = table.filter(table[time].between(since, at)).to_pandas()
                rebuilt = rebuilt.filter(rebuilt[time] >= since)
            else:
                now = sample.head(ROWS)
                rebuilt = rebuilt.semi_join(engine.table(connection, now[problem.key]), problem.key)
            changed += _differing(now, rebuilt.to_pandas(), names, problem)
        return changed


def moment_of(problem: Problem) -> datetime | None:
    """Return the first midnight (UTC) after the last event, for which the online values hold; None without time."""
    if not problem.time:
        return None
    spans = [engine.span(FEATURES, period, problem.time) for period in engine.periods(FEATURES)]
    last = max(span[1] for span in spans if span)
    return (last.normalize() + pd.Timedelta(days=1)).to_pydatetime()


def _until(tables: dict[str, ir.Table], at: datetime | None) -> dict[str, ir.Table]:
    """Return the tables up to a moment, where ``collection.tables`` names their time; the others whole."""
    times = {name: table.time for name, table in load("collection").tables.items() if at and table.time}
    timed = {name: time for name, time in times.items() if name in tables and time in tables[name].columns}
    return {**tables, **{name: tables[name].filter(tables[name][time] <= at) for name, time in timed.items()}}


def _without_future(main: ir.Table, at: datetime | None, params: Params, problem: Problem) -> ir.Table:
    """Return the rows up to a moment, without the target and columns known later where they were not known by then."""
    time, file, known = problem.time, "data/exploration.json", ibis.literal(False)
    late = artifacts.read_json(file)["known_later"] if artifacts.path(file).is_file() else []
    main, hidden = main if at is None else main.filter(main[time] <= at), []
    for name in sorted((set(main.columns) & {problem.target, *late}) - {time, *problem.key}):
        if at is not None:
            delays = [each.known_after for each in params.history if each.of == name and each.known_after]
            last = problem.known_before(pd.Timestamp(at), min(delays, key=pd.Timedelta, default=None))
            known = (main[time] <= last.to_pydatetime()) & (main[time] < at)
        hidden.append(ibis.cases((known, main[name]), else_=ibis.null()).name(name))
    return main.mutate(hidden) if hidden else main


def _differing(now: pd.DataFrame, then: pd.DataFrame, names: list[str], problem: Problem) -> int:
    """Return how many values of the same rows differ, and how many rows are in the first alone."""
    columns = [*problem.key, *names]
    then = then[columns].astype(now.dtypes[problem.key].to_dict())
    both = now[columns].merge(then, on=problem.key, suffixes=("", "@then"))
    changed = len(now) - len(both)
    for name in names:
        one, other = both[name], both[f"{name}@then"]
        if pd.api.types.is_numeric_dtype(one):
            same = np.isclose(one, other.astype("float64"), rtol=1e-9, atol=1e-9, equal_nan=True)
        else:
            same = ((one == other) | (one.isna() & other.isna())).to_numpy(dtype=bool)
        changed += int((~same).sum())
    return changed

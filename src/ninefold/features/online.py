"""Values for the service: the history of each key at a moment, and the proof that it equals the feature table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import artifacts, engine
from ninefold.features.declarations import Params, kinds, windows
from ninefold.features.events import FEATURES
from ninefold.features.histories import aggregate, fill, number
from ninefold.problem import Problem

ONLINE = "data/online"
MOMENTS = 24
MOMENT = "@moment"


def snapshot(events: ir.Table, params: Params, problem: Problem, moment: datetime | None) -> dict[str, pd.DataFrame]:
    """Return the history values for events due at `moment`, per key: what an online store holds for them.

    Returns
    -------
    dict of str to DataFrame
        Feature -> its key columns and ``value`` (float64).
    """
    if moment is None:
        return {}
    values = snapshots(events, params, problem, [moment])
    return {name: table.drop(columns=MOMENT) for name, table in values.items()}


def snapshots(
    events: ir.Table, params: Params, problem: Problem, due_at: Iterable[datetime]
) -> dict[str, pd.DataFrame]:
    """Return the history values for events due at each of some moments, per key.

    They are computed without windows, from the events whose values were known by the decision for that moment, so that
    they also prove the windows.

    Returns
    -------
    dict of str to DataFrame
        Feature -> ``@moment`` (timestamp), its key columns and ``value`` (float64), in their order.
    """
    result = dict[str, pd.DataFrame]()
    stamps = pd.DataFrame({MOMENT: pd.to_datetime(pd.Series(list(due_at))).astype("datetime64[us]")})
    every = windows(params, problem.horizon)
    if not every or stamps.empty:
        return result
    due, time = engine.table(events.get_backend(), stamps), problem.time
    for window in every:
        first, last = stamps[MOMENT].min() - window.start, stamps[MOMENT].max() - window.end
        past = events.filter(events[time].between(first.to_pydatetime(), last.to_pydatetime()))
        past = past.select(*dict.fromkeys([*window.by, time, window.of]))
        start, end = (due[MOMENT] - engine.interval(side) for side in (window.start, window.end))
        known = past.inner_join(due, [past[time] >= start, past[time] <= end])
        value = fill(aggregate(number(known, window.of, problem), window.how), window)
        keys = [MOMENT, *window.by]
        result[window.name] = known.group_by(keys).aggregate(value.name("value")).order_by(keys).to_pandas()
    return result


def online_difference(
    events: ir.Table, table: ir.Table, due_at: Iterable[datetime], params: Params, problem: Problem
) -> float:
    """Return the largest difference between online and offline history values, for the rows due at some moments.

    It is relative where the value is above 1, as sums may be large, and infinite where only one of both has a value.

    Parameters
    ----------
    events : Table
        From `build`.
    table : Table
        The feature table.
    due_at : iterable of datetime
        See `sampled_moments`.
    """
    due_at, every = list(due_at), windows(params, problem.horizon)
    if not every or not due_at:
        return 0.0
    due = table.filter(table[problem.time].isin(due_at)).to_pandas()
    due[MOMENT] = due[problem.time].astype("datetime64[us]")
    online, largest = snapshots(events, params, problem, due_at), 0.0
    for window in every:
        values, keys = online[window.name], [MOMENT, *window.by]
        both = due[[*keys, window.name]].merge(with_types_of(due, values, keys), on=keys, how="left")
        served = both["value"].fillna(np.nan if window.prior is None else window.prior).to_numpy("float64")
        offline = both[window.name].to_numpy("float64")
        if (np.isnan(offline) != np.isnan(served)).any():
            return float("inf")
        difference = np.abs(offline - served) / np.maximum(np.abs(offline), 1)
        largest = max(largest, float(np.nanmax(difference, initial=0.0)))
    return largest


def with_types_of(like: pd.DataFrame, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return a table whose columns have the types that they have in another."""
    return table.astype({column: like[column].dtype for column in columns})


def sampled_moments(sample: pd.DataFrame, problem: Problem, count: int = MOMENTS) -> list[datetime]:
    """Return `count` moments at which events are due, spread over a sample of the feature table without its first decile."""
    if not problem.time or sample.empty:
        return []
    times = np.sort(sample[problem.time].unique())
    chosen = times[np.unique(np.linspace(len(times) // 10, len(times) - 1, count).astype(int))]
    return [moment.to_pydatetime() for moment in pd.to_datetime(chosen)]


def moment_of(problem: Problem) -> datetime | None:
    """Return the first midnight (UTC) after the last event, for which the online values hold; None without time."""
    if not problem.time:
        return None
    spans = [engine.span(FEATURES, period, problem.time) for period in engine.periods(FEATURES)]
    last = max(span[1] for span in spans if span)
    return (last.normalize() + pd.Timedelta(days=1)).to_pydatetime()


def save_online(
    online: dict[str, pd.DataFrame],
    high_cardinality: list[str],
    params: Params,
    problem: Problem,
    moment: datetime | None,
) -> None:
    """Write ``data/online/``: the history values of one moment, and the model's columns."""
    folder, stores = artifacts.output(ONLINE), []
    for window in windows(params, problem.horizon):
        file = f"{_file_name(window.name)}.parquet"
        artifacts.write_table(online[window.name], folder / file)
        store = {"feature": window.name, "by": window.by, "file": file}
        stores.append(store if window.prior is None else {**store, "prior": window.prior})
    columns = model_columns(params, problem, high_cardinality)
    described = {"moment": moment.isoformat() if moment else None, "stores": stores, "features": columns}
    artifacts.write_json(described, folder / "online.json")


def model_columns(params: Params, problem: Problem, high_cardinality: list[str]) -> list[dict[str, Any]]:
    """Return the model's columns, in order, each with its ``name`` and ``kind``: see `FeatureSchema`."""
    return [
        {"name": name, "kind": kind, **({"wide": True} if name in high_cardinality else {})}
        for name, kind in kinds(params, problem.horizon).items()
    ]


def _file_name(feature: str) -> str:
    """Return a feature's name as a file name that any system accepts."""
    plain = re.sub(r"[^\w-]", "_", feature)
    return plain if plain == feature else f"{plain}-{hashlib.sha256(feature.encode()).hexdigest()[:8]}"

"""What the service did in each period: requests, errors, slow answers, and training-serving skew of its features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts, features
from ninefold.monitoring.answers import PERIOD
from ninefold.monitoring.params import Params
from ninefold.monitoring.production import identity, query_log, without_zone
from ninefold.problem import Problem
from ninefold.serving import LOG, Bundle
from ninefold.timestamps import as_days

ROUTES = ("/predict", "/v2/models/{name}/infer", "/review/record")  # those that decide
TOLERANCE = 1e-9  # of the larger value; of dates, of a day
PERIODS = {"minute": "min", "hour": "h", "day": "D", "week": "W", "month": "M"}
COLUMNS = ["minute", "route", "status", "requests", "seconds", "slow"]


def service_reports(
    frame: pd.DataFrame, volume: pd.DataFrame, params: Params, bundle: Bundle
) -> dict[str, dict[str, Any]]:
    """Return the service's own figures of each period; none of a replay, which has no service.

    Returns
    -------
    dict
        Period -> ``service``: ``requests``, ``errors`` (status 500 and more), ``slow``, ``refused``; ``skew``: the
        ``feature``, ``rows`` and ``share`` of features that were served with other values than the feature table's.
    """
    if params.source != "log" or volume.empty:
        return {}
    days, offline = traffic(routes=ROUTES), features.load()
    names = [name for name in bundle.features if name not in bundle.described["log"]["redact"]]
    reports = {}
    for span in volume.itertuples():
        part = days[(days["period"] >= span.start) & (days["period"] < span.end)]
        skewed = skew(frame[frame[PERIOD] == span.period], offline, bundle.problem, names)
        skewed = skewed[skewed["differ"] > 0].sort_values("share", ascending=False)
        counts = {name: int(part[name].sum()) for name in ("requests", "errors", "slow", "refused")}
        reports[span.period] = {"service": counts, "skew": skewed[["feature", "rows", "share"]].to_dict("records")}
    return reports


def traffic(
    place: Path | None = None,
    by: str = "day",
    since: datetime | None = None,
    until: datetime | None = None,
    routes: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return the requests per period, how they ended, and how long they took.

    Parameters
    ----------
    place : Path, optional
        The log; default: the project's. Without one there is no row.
    by : str
        minute, hour, day, week (from Monday on) or month.
    since, until : datetime, optional
        Only the minutes from `since` on and before `until`.
    routes : collection of str, optional
        Only these: probes of ``/health`` would hide errors elsewhere.

    Returns
    -------
    DataFrame
        ``period`` (its start, datetime64[us], UTC); ``requests``, ``refused`` (status 400-499), ``errors`` (500 and
        more), ``slow`` (over the latency budget), int64; ``mean_s`` (seconds), ``error_rate`` and ``slow_rate`` (0-1).
        Periods without a request are absent.
    """
    query = f"SELECT {', '.join(COLUMNS)} FROM traffic"
    rows = pd.DataFrame(query_log(place or artifacts.path(LOG), "traffic", query), columns=COLUMNS)
    minute = pd.to_datetime(rows["minute"].astype("int64"), unit="m").astype("datetime64[us]")
    status, requests = rows["status"].astype("int64"), rows["requests"].astype("int64")
    table = pd.DataFrame(
        {
            "period": minute.dt.to_period(PERIODS[by]).dt.start_time.astype("datetime64[us]"),
            "requests": requests,
            "refused": requests.where(status.between(400, 499), 0),
            "errors": requests.where(status >= 500, 0),
            "slow": rows["slow"].astype("int64"),
            "seconds": rows["seconds"].astype("float64"),
        }
    )
    selected = pd.Series(True, index=rows.index) if routes is None else rows["route"].isin(list(routes))
    if since is not None:
        selected &= minute >= without_zone(since)
    if until is not None:
        selected &= minute < without_zone(until)
    table = table[selected].groupby("period", as_index=False).sum()
    total = table["requests"].where(table["requests"] > 0)
    rates = {"mean_s": table["seconds"] / total, "error_rate": table["errors"] / total}
    return table.drop(columns="seconds").assign(**rates, slow_rate=table["slow"] / total)


def skew(table: pd.DataFrame, offline: pd.DataFrame, problem: Problem, features: Sequence[str]) -> pd.DataFrame:
    """Return training-serving skew: each feature as served against the same row of the feature table.

    Rows are the same if key and time are. Values differ if they are further apart than `TOLERANCE`, or one is missing.

    Parameters
    ----------
    table : DataFrame
        Of `production.served`, typed like `offline`.
    offline : DataFrame
        The feature table.
    problem : Problem
    features : sequence of str
        Without redacted ones, which cannot be compared.

    Returns
    -------
    DataFrame
        ``feature``; ``rows`` compared, and how many ``differ`` (int64); the ``share`` of these (0-1; NaN without rows);
        the ``largest`` difference of numbers (float64, dates in days); key and time (``whom``, JSON) of the row where it
        is, and its values, ``served`` and ``offline``, as text.
    """
    own = identity(problem)
    known = np.flatnonzero(table[own].notna().all(axis=1))
    left = table[own].iloc[known].assign(**{"@left": known})
    right = offline[own].assign(**{"@right": np.arange(len(offline))}).drop_duplicates(own, keep="last")
    pairs = left.merge(right, on=own)
    keys = pairs[own].reset_index(drop=True)
    rows = [
        {"feature": name} | _difference(table[name].iloc[pairs["@left"]], offline[name].iloc[pairs["@right"]], keys)
        for name in features
    ]
    columns = {"rows": "int64", "differ": "int64", "share": "float64", "largest": "float64"}
    names = ["feature", *columns, "whom", "served", "offline"]
    return pd.DataFrame(rows, columns=names).astype(columns)


def _difference(served: pd.Series, offline: pd.Series, keys: pd.DataFrame) -> dict[str, Any]:
    """Return how far two columns are apart, row by row, and the row with the largest difference."""
    served, offline = served.reset_index(drop=True), offline.reset_index(drop=True)
    differs, size = _compare(served, offline)
    rows, count = len(served), int(differs.sum())
    summary = {"rows": rows, "differ": count, "share": count / rows if rows else np.nan, "largest": np.nan}
    if not count:
        return summary
    sizes = np.where(differs & np.isfinite(size), size, -1.0)
    at = int(sizes.argmax()) if sizes.max() >= 0 else int(differs.argmax())
    if sizes.max() >= 0:
        summary["largest"] = float(sizes[at])
    whom = keys.iloc[[at]].to_json(orient="records", date_format="iso")[1:-1]
    return summary | {"whom": whom, "served": _text(served[at]), "offline": _text(offline[at])}


def _compare(served: pd.Series, offline: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return, per row, whether two values differ, and by how much (NaN where they are not numbers)."""
    one_missing = (served.isna() != offline.isna()).to_numpy()
    both = (served, offline)
    if any(pd.api.types.is_datetime64_any_dtype(each) for each in both):
        before, after = (as_days(each).to_numpy() for each in both)
        size, limit = np.abs(before - after), TOLERANCE
    elif all(pd.api.types.is_numeric_dtype(each) for each in both):
        before, after = (each.to_numpy("float64", na_value=np.nan) for each in both)
        size, limit = np.abs(before - after), TOLERANCE * np.maximum(np.abs(before), np.abs(after))
    else:
        both_known = (served.notna() & offline.notna()).to_numpy()
        unlike = served.astype("str").to_numpy(object) != offline.astype("str").to_numpy(object)
        return one_missing | (both_known & unlike), np.full(len(served), np.nan)
    return one_missing | (size > limit), size


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)

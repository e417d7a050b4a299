"""What production asked and was answered, as stage 09 reads it: served rows, traffic, training-serving skew, batch runs.

Reads: the prediction log ``data/predictions/log.sqlite``, and what `ninefold.serving.log.export` wrote of it beside it,
``lake/day=2026-01-31/*.parquet``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ninefold.core import io, texts
from ninefold.core.errors import DataError
from ninefold.core.moments import as_days, utc
from ninefold.serving import log as logs
from ninefold.serving.bundle import Bundle

REQUEST_ID, ROW, MOMENT, VERSION, ROLE = "@request_id", "@row", "@moment", "@version", "@role"
META = (REQUEST_ID, ROW, MOMENT, VERSION, ROLE)  # beside the user's columns, of which none may be called so
TOLERANCE = 1e-9
PERIODS = {"minute": "min", "hour": "h", "day": "D", "week": "W", "month": "M"}
COUNTS = ("requests", "refused", "errors", "slow")
NUMERIC = r"[+-]?\d{1,18}"


class Layout(NamedTuple):
    """What one version's exported columns are called: of `META`, of its fields, and of its answers."""

    meta: dict[str, str]
    fields: list[str]
    answers: dict[str, str]


def identity(stated: Mapping[str, Any]) -> list[str]:
    """Return the columns that tell which case a row is: the key and the time of the problem, each once."""
    return list(dict.fromkeys([*stated["key"], *([stated["time"]] if stated["time"] else [])]))


def served(
    bundle: Bundle,
    place: Path | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    like: pd.DataFrame | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return what was answered, a row each, with the features as the model saw them, in the order of the answers.

    What the log has new is exported first. Rows of every version that ever answered are in it; a field that a version did
    not have is missing there.

    Parameters
    ----------
    bundle : Bundle
        Tells the problem, and which fields are redacted: these hold text, and no values.
    place : Path, optional
        The log; default: the project's.
    since, until : datetime, optional
        Only what was answered from `since` on and before `until`; without a zone they are UTC.
    like : DataFrame, optional
        A feature table, may be empty: key and time get its types. Where a key cannot be one (a caller may send anything),
        it is missing. Without it keys stay as the log has them, and the time is datetime64[us], UTC.
    columns : sequence of str, optional
        Only these fields, beside what identifies a row; default: all.

    Returns
    -------
    DataFrame
        The fields; ``@request_id`` (str), ``@row`` (int64), ``@moment`` (datetime64[us], UTC), ``@version``, ``@role``
        (champion where the log says nothing); the answers as `monitoring.predict` names them, ``@probability`` ...
        ``@action``, ``@expected_payoff``. Of quantities ``@quantile`` and ``@loss`` are there, too: they are the action
        and the negative expected payoff.
    """
    place = place or io.path(logs.LOG)
    folder = place.parent / "lake"
    if place.is_file():
        logs.export(place, folder)
    bounds = [None if at is None else _plain(at) for at in (since, until)]
    wanted = None if columns is None else [*identity(bundle.stated), *columns]
    ours = _layout([field["name"] for field in bundle.signature], bundle.added)
    layouts = _logged(place)
    parts = []
    for version, files in _files(folder, *bounds).items():
        layout = layouts.get(version, ours)
        part = _read(files, layout, wanted, *bounds)
        parts.append(_identified(part, bundle, like))
    table = pd.concat(parts, ignore_index=True) if parts else _none(bundle, wanted)
    table = table.sort_values(MOMENT, kind="stable", ignore_index=True)
    if bundle.stated["task"] == "regression":
        table = table.assign(**{"@quantile": table["@action"], "@loss": -table["@expected_payoff"]})
    return table


def traffic(
    place: Path | None = None,
    by: str = "day",
    since: datetime | None = None,
    until: datetime | None = None,
    routes: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return what the service did, per period: requests, how they ended, and how long they took.

    Parameters
    ----------
    place : Path, optional
        The log, in whose table ``traffic`` the service counts; default: the project's. Without one nothing is known.
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
    rows = _traffic(place or io.path(logs.LOG))
    moment = pd.to_datetime(rows["minute"].astype("int64"), unit="m").astype("datetime64[us]")
    kept = pd.Series(True, index=rows.index) if routes is None else rows["route"].isin(list(routes))
    if since is not None:
        kept &= moment >= _plain(since)
    if until is not None:
        kept &= moment < _plain(until)
    status, count = rows["status"].astype("int64"), rows["requests"].astype("int64")
    table = pd.DataFrame(
        {
            "period": moment.dt.to_period(PERIODS[by]).dt.start_time.astype("datetime64[us]"),
            "requests": count,
            "refused": count.where(status.between(400, 499), 0),
            "errors": count.where(status >= 500, 0),
            "slow": rows["slow"].astype("int64"),
            "seconds": rows["seconds"].astype("float64"),
        }
    )
    table = table[kept].groupby("period", as_index=False).sum()
    total = table["requests"].where(table["requests"] > 0)
    rates = {"mean_s": table["seconds"] / total, "error_rate": table["errors"] / total}
    return table.drop(columns="seconds").assign(**rates, slow_rate=table["slow"] / total)


def skew(
    table: pd.DataFrame, offline: pd.DataFrame, stated: Mapping[str, Any], features: Sequence[str]
) -> pd.DataFrame:
    """Return training-serving skew: each feature as served against the same row as the pipeline builds it.

    Rows are the same if key and time are; `offline` holds each once. Values differ if they are further apart than 1e-9
    of the larger one (dates: of a day), or one alone is missing.

    Parameters
    ----------
    table : DataFrame
        What `served` returned, typed like `offline`. Redacted features cannot be compared: leave them out.
    offline : DataFrame
        The feature table.
    stated : dict
    features : sequence of str

    Returns
    -------
    DataFrame
        ``feature``; ``rows`` compared and how many ``differ`` (int64), the ``share`` of them (0-1; missing without rows);
        the ``largest`` difference of numbers (float64, dates in days); ``whom``: key and time, as JSON, of the row where it
        is, and its values as ``served`` and ``offline`` have them, as text.
    """
    own = identity(stated)
    known = table[own].notna().all(axis=1)
    left = table.loc[known, own].assign(**{"@left": np.flatnonzero(known)})
    right = offline[own].assign(**{"@right": np.arange(len(offline))})
    pairs = left.merge(right.drop_duplicates(own, keep="last"), on=own)
    one, other = pairs["@left"].to_numpy(), pairs["@right"].to_numpy()
    kept = pairs[own].reset_index(drop=True)
    found = [_compared(name, table[name].iloc[one], offline[name].iloc[other], kept) for name in features]
    return _as_table(found, "feature")


def recompute(table: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Return whether `bundle` gives today what it gave then: its logged answers against those to the logged features.

    This finds a service that ran other code or another model than its version says.

    Parameters
    ----------
    table : DataFrame
        What `served` returned; rows of other versions are left out. None are compared if a feature is redacted.
    bundle : Bundle

    Returns
    -------
    DataFrame
        As `skew`, with ``answer`` for ``feature``.
    """
    hidden = set(bundle.described["log"]["redact"]) & set(bundle.features)
    rows = table[(table[VERSION] == bundle.version) & (not hidden)].reset_index(drop=True)
    again = bundle.decide(rows) if len(rows) else pd.DataFrame(columns=bundle.answers, dtype="float64")
    whom = rows[[REQUEST_ID, ROW]].set_axis(["request_id", "row"], axis=1)
    found = [_compared(name, rows[f"@{name}"], again[name], whom) for name in bundle.answers]
    return _as_table(found, "answer")


def _layout(fields: list[str], answers: dict[str, str]) -> Layout:
    taken = {*fields, *answers.values()}
    return Layout({name: _free(name[1:], taken) for name in META}, fields, answers)


def _free(name: str, taken: set[str]) -> str:
    return _free(f"{name}_logged", taken) if name in taken else name  # as `log.export` calls them


def _logged(place: Path) -> dict[str, Layout]:
    """Return the layout of each version that the log knows; none without a log: only its exports were brought here."""
    found = _rows(place, "bundles", "SELECT version, described FROM bundles")
    described = {version: json.loads(text) for version, text in found}
    return {version: _layout(list(each["fields"]), each["columns"]) for version, each in described.items()}


def _traffic(place: Path) -> pd.DataFrame:
    columns = ["minute", "route", "status", "requests", "seconds", "slow"]
    return pd.DataFrame(_rows(place, "traffic", f"SELECT {', '.join(columns)} FROM traffic"), columns=columns)


def _rows(place: Path, table: str, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds in the log; nothing if there is no log, or no such table in it."""
    if not place.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", uri=True, timeout=logs.BUSY)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                return []
            return connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{place}: the prediction log cannot be read ({error}); put back a copy of it") from None


def _files(folder: Path, since: pd.Timestamp | None, until: pd.Timestamp | None) -> dict[str, list[Path]]:
    """Return the exported files of the days wanted, by version, the first request first."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("day=*/[!.]*.parquet"), key=lambda file: file.name):
        day = pd.Timestamp(file.parent.name.removeprefix("day="))
        if (since is None or day >= since.normalize()) and (until is None or day < until):
            found.setdefault(file.stem.split("-", 2)[2], []).append(file)
    return found


def _read(
    files: list[Path],
    layout: Layout,
    wanted: list[str] | None,
    since: pd.Timestamp | None,
    until: pd.Timestamp | None,
) -> pd.DataFrame:
    """Return the rows of one version under the names of `served`."""
    try:
        schema = pa.unify_schemas([pq.read_schema(files[0]), pq.read_schema(files[-1])])  # the role came later
        moment, data = layout.meta[MOMENT], ds.dataset(files, schema=schema)
        fields = [name for name in layout.fields if wanted is None or name in wanted]
        called = {name: name for name in fields} | {f"@{name}": column for name, column in layout.answers.items()}
        called = {name: column for name, column in {**called, **layout.meta}.items() if column in schema.names}
        kept = ds.scalar(True)
        if since is not None:
            kept &= ds.field(moment) >= pa.scalar(since.to_pydatetime(), pa.timestamp("us"))
        if until is not None:
            kept &= ds.field(moment) < pa.scalar(until.to_pydatetime(), pa.timestamp("us"))
        found = data.to_table({name: ds.field(column) for name, column in called.items()}, filter=kept)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{files[0].parent.parent}: an exported file is damaged ({error}); put back a copy") from None
    frame = found.to_pandas()
    frame[ROLE] = (frame[ROLE] if ROLE in frame else pd.Series(None, frame.index, dtype="str")).fillna(logs.CHAMPION)
    return frame


def _identified(frame: pd.DataFrame, bundle: Bundle, like: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of one version with key and time as `like` has them; redacted ones stay text."""
    redacted = set(bundle.described["log"]["redact"])
    typed = {}
    for name in identity(bundle.stated):
        column = frame[name] if name in frame else pd.Series(None, frame.index, dtype="str")
        if name in redacted:
            typed[name] = column.astype("str")
        elif like is not None:
            typed[name] = _as(column, like[name].dtype)
        else:
            typed[name] = _as(column, np.dtype("datetime64[us]")) if name == bundle.stated["time"] else column
    return frame.assign(**typed)


def _as(column: pd.Series, kind: Any) -> pd.Series:
    """Return a column of the log as another type, missing where a value cannot be one."""
    if pd.api.types.is_datetime64_any_dtype(kind):
        moments = column if pd.api.types.is_datetime64_any_dtype(column) else texts.moments(column.fillna(""))
        return moments.astype("datetime64[us]")
    if pd.api.types.is_float_dtype(kind):
        return pd.to_numeric(column, errors="coerce").astype(kind)
    if pd.api.types.is_integer_dtype(kind):
        text = column.astype("str").str.replace(r"\.0+$", "", regex=True)
        whole = text.str.fullmatch(NUMERIC).fillna(False).astype(bool)
        numbers = pd.Series(pd.NA, index=column.index, dtype="Int64")
        numbers[whole] = text[whole].astype("int64")
        return numbers.astype(kind) if whole.all() else numbers
    return column.astype("str")


def _none(bundle: Bundle, wanted: list[str] | None) -> pd.DataFrame:
    fields = {field["name"]: field["type"] for field in bundle.signature if wanted is None or field["name"] in wanted}
    kinds = {name: {"number": "float64", "date": "datetime64[us]"}.get(kind, "str") for name, kind in fields.items()}
    kinds |= {f"@{name}": "float64" for name in bundle.answers}
    kinds |= {REQUEST_ID: "str", ROW: "int64", MOMENT: "datetime64[us]", VERSION: "str", ROLE: "str"}
    return _identified(pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()}), bundle, None)


def _compared(name: str, one: pd.Series, other: pd.Series, whom: pd.DataFrame) -> tuple[Any, ...]:
    """Return how far two columns, row beside row, are apart, and the row where they are the furthest."""
    one, other = one.reset_index(drop=True), other.reset_index(drop=True)
    differ, size = _differences(one, other)
    rows, count = len(one), int(differ.sum())
    largest = float(np.nanmax(size[differ])) if np.isfinite(size[differ]).any() else float("nan")
    at = (
        int(np.nanargmax(np.where(differ, size, -1.0))) if largest == largest else int(differ.argmax()) if count else -1
    )
    said = (None, None, None)
    if count:
        said = (
            whom.iloc[[at]].to_json(orient="records", date_format="iso")[1:-1],
            *(_text(each[at]) for each in (one, other)),
        )
    return (name, rows, count, count / rows if rows else float("nan"), largest, *said)


def _differences(one: pd.Series, other: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return, per row, whether two values differ, and by how much (NaN where that is no number)."""
    lone = (one.isna() != other.isna()).to_numpy()
    dates = any(pd.api.types.is_datetime64_any_dtype(each) for each in (one, other))
    if dates or all(pd.api.types.is_numeric_dtype(each) for each in (one, other)):
        a, b = (
            as_days(each).to_numpy() if dates else each.to_numpy("float64", na_value=np.nan) for each in (one, other)
        )
        size = np.abs(a - b)
        limit = TOLERANCE * (1.0 if dates else np.maximum(np.abs(a), np.abs(b)))
        return lone | (size > limit), size
    both = (one.notna() & other.notna()).to_numpy()
    apart = one.astype("str").to_numpy(object) != other.astype("str").to_numpy(object)
    return lone | (both & apart), np.full(len(one), np.nan)


def _as_table(found: list[tuple[Any, ...]], first: str) -> pd.DataFrame:
    columns = [first, "rows", "differ", "share", "largest", "whom", "served", "offline"]
    kinds = {"rows": "int64", "differ": "int64", "share": "float64", "largest": "float64"}
    return pd.DataFrame(found, columns=columns).astype(kinds)


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _plain(at: datetime) -> pd.Timestamp:
    """Return a moment in UTC, without its zone."""
    return utc(pd.Series([pd.Timestamp(at)])).iloc[0]

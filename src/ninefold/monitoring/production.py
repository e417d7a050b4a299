"""Rows that the service and batch runs answered, the service's traffic, and training-serving skew of its features.

Reads: ``data/predictions/log.sqlite``, and its exports (`log_export`) beside it, ``lake/day=2026-01-31/*.parquet``.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ninefold import artifacts, engine, features
from ninefold.collection import datetimes, failing
from ninefold.errors import DataError
from ninefold.monitoring.answers import PERIOD, identity
from ninefold.monitoring.params import Params
from ninefold.monitoring.texts import say
from ninefold.problem import Problem
from ninefold.serving import BUSY, LOG, Bundle, fields, hot_swap, log_export
from ninefold.timestamps import as_days

REQUEST_ID, ROW, MOMENT, VERSION, ROLE = "@request_id", "@row", "@moment", "@version", "@role"
META = (REQUEST_ID, ROW, MOMENT, VERSION, ROLE)  # no user's column has @
TOLERANCE = 1e-9  # of the larger value; of dates, of a day
COUNTS = ["requests", "errors", "slow", "refused"]
TRAFFIC = Path(__file__).with_name("traffic.sql").read_text("utf-8")


def read_bundle(params: Params) -> Bundle:
    """Return the bundle to monitor: of the log the one in production, of a replay the newest, which would answer.

    `DataError` if the feature table lacks columns of the one in production, with whose rows the log is compared.
    """
    if params.source != "log":
        return Bundle.load()
    bundle = hot_swap.load()
    columns = [pq.read_schema(file).names for file in engine.parts(features.FEATURES)[:1]]
    if missing := [name for names in columns for name in bundle.features if name not in names]:
        raise DataError(say("lacks_features", table=features.FEATURES, missing=missing, version=bundle.version))
    return bundle


def served(
    bundle: Bundle, place: Path | None = None, like: pd.DataFrame | None = None, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the answered rows with the features as the model saw them, in the order of the answers; without any, no column.

    What is new in the log (`place`; default: the project's) is exported first. A field that a version did not have is missing
    in its rows; redacted ones are text. Key and time get the types of `like`, a feature table, and a key that does not fit is
    missing; without it keys are as in the log, the time datetime64[us] (UTC). `columns`: the fields beside these (default:
    all). Further ones are ``@request_id`` (str), ``@row`` (int64), ``@moment`` (as the time), ``@version``, ``@role``, answers.
    """
    place = place or artifacts.path(LOG)
    folder = log_export.lake(place)
    if place.is_file():
        log_export.export(place)
    versions: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("day=*/[!.]*.parquet"), key=lambda file: file.name):
        versions.setdefault(file.stem.split("-", 2)[2], []).append(file)
    if not versions:
        return pd.DataFrame()
    bundles = query_log(place, "SELECT version, described FROM bundles")
    layouts = {version: json.loads(text) for version, text in bundles}
    current = {"fields": [field["name"] for field in bundle.signature], "columns": bundle.added}  # for exports alone
    names = None if columns is None else {*identity(bundle.problem), *columns}
    parts = [_read(files, layouts.get(version, current), names) for version, files in versions.items()]
    table = pd.concat([_typed(part, bundle, like) for part in parts])
    table = table.sort_values(MOMENT, kind="stable", ignore_index=True)
    if bundle.problem.task == "regression":
        table = table.assign(**{"@quantile": table["@action"], "@loss": -table["@expected_payoff"]})
    return table


def query_log(place: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the result of a query; nothing if there is no log; raise DataError if it is damaged."""
    if not place.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{place}: the prediction log cannot be read ({error}); put back a copy of it") from None


def _read(files: list[Path], layout: dict[str, Any], only: set[str] | None) -> pd.DataFrame:
    """Return the rows of one version under the names of `served`; `layout` has its fields, and answers -> exported."""
    names = {name: name for name in layout["fields"] if only is None or name in only}
    names |= {f"@{name}": column for name, column in layout["columns"].items()}
    used = {*layout["fields"], *layout["columns"].values()}
    names |= {name: fields.free(name[1:], "_logged", used) for name in META}  # as `log_export` calls them
    remedy = "an exported file is damaged; put back a copy"
    with failing(str(files[0].parent.parent), "read", remedy, OSError, pa.ArrowException):
        exported = ds.dataset(files)
        columns = {name: ds.field(column) for name, column in names.items() if column in exported.schema.names}
        return exported.to_table(columns).to_pandas()


def _typed(frame: pd.DataFrame, bundle: Bundle, like: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of one version with key and time as `like` has them; redacted ones stay text."""
    redacted, time = bundle.described["log"]["redact"], bundle.problem.time
    for name in identity(bundle.problem):
        column = frame.get(name, pd.Series(None, frame.index, dtype="str"))
        if name in redacted:
            column = column.astype("str")
        elif like is not None or name == time:
            column = _cast(column, np.dtype("datetime64[us]") if like is None else like[name].dtype)
        frame[name] = column
    return frame


def _cast(column: pd.Series, dtype: Any) -> pd.Series:
    """Return a column of the log as another type, missing where a value does not fit."""
    if pd.api.types.is_datetime64_any_dtype(dtype):
        moments = column if pd.api.types.is_datetime64_any_dtype(column) else datetimes.parse_series(column.fillna(""))
        return moments.astype("datetime64[us]")
    if pd.api.types.is_float_dtype(dtype):
        return pd.to_numeric(column, errors="coerce").astype(dtype)
    if pd.api.types.is_integer_dtype(dtype):
        text = column.astype("str").str.replace(r"^\+|\.0+$", "", regex=True)
        whole = text.str.fullmatch(r"-?\d{1,18}").fillna(False).astype(bool)
        numbers = text.where(whole).astype("Int64")
        return numbers.astype(dtype) if whole.all() else numbers
    return column.astype("str")


def service_reports(frame: pd.DataFrame, volume: pd.DataFrame, params: Params, bundle: Bundle) -> dict[str, Any]:
    """Return the service's own figures of each period, ``service`` (`COUNTS`) and ``skew``; none of a replay."""
    if params.source != "log" or volume.empty:
        return {}
    minutes, offline, redacted = traffic(artifacts.path(LOG)), features.load(), set(bundle.described["log"]["redact"])
    names = [name for name in bundle.features if name not in redacted]
    if redacted & set(identity(bundle.problem)):  # no row can be found again
        frame = frame.iloc[:0].astype(offline[identity(bundle.problem)].dtypes)
    reports = {}
    for span in volume.itertuples():
        counts = minutes.loc[(minutes["minute"] >= span.start) & (minutes["minute"] < span.end), COUNTS].sum()
        skewed = skew(frame[frame[PERIOD] == span.period], offline, bundle.problem, names)
        skewed = skewed[skewed["share"] > 0].sort_values("share", ascending=False)
        reports[span.period] = {"service": counts.astype(int).to_dict(), "skew": skewed.to_dict("records")}
    return reports


def traffic(place: Path) -> pd.DataFrame:
    """Return the requests for decisions in a log: their ``minute`` (datetime64, UTC), and of each `COUNTS` (int64)."""
    rows = pd.DataFrame(query_log(place, TRAFFIC), columns=["minute", *COUNTS]).astype("int64")
    return rows.assign(minute=pd.to_datetime(rows["minute"], unit="m"))


def skew(table: pd.DataFrame, offline: pd.DataFrame, problem: Problem, features: Sequence[str]) -> pd.DataFrame:
    """Return training-serving skew: ``feature``, ``rows`` compared (int64), and the ``share`` of these (0-1) that differ.

    Compared are rows of the same key and time; values differ if further apart than `TOLERANCE`, or one is missing.
    """
    own = identity(problem)
    left = table[own].assign(**{"@left": np.arange(len(table))}).dropna(subset=own)
    right = offline[own].assign(**{"@right": np.arange(len(offline))}).drop_duplicates(own, keep="last")
    pairs = left.merge(right, on=own)
    left, right = table.iloc[pairs["@left"]], offline.iloc[pairs["@right"]]
    shares = [pd.Series(_differ(left[name], right[name]), dtype="float64").mean() for name in features]
    return pd.DataFrame({"feature": list(features), "rows": len(pairs), "share": shares})


def _differ(served: pd.Series, offline: pd.Series) -> np.ndarray:
    """Return, row by row, whether two values differ."""
    is_date = any(pd.api.types.is_datetime64_any_dtype(each) for each in (served, offline))
    if is_date or all(pd.api.types.is_numeric_dtype(each) for each in (served, offline)):
        before, after = (as_days(each).to_numpy() for each in (served, offline))
        relative, absolute = (0.0, TOLERANCE) if is_date else (TOLERANCE, 0.0)
        return ~np.isclose(before, after, rtol=relative, atol=absolute, equal_nan=True)
    before, after = (each.astype("str").reset_index(drop=True) for each in (served, offline))
    return (before.ne(after) & (before.notna() | after.notna())).to_numpy()

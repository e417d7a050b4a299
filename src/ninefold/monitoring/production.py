"""Rows that the service and batch runs answered, as the prediction log and its exports hold them.

Reads: ``data/predictions/log.sqlite``, and what `ninefold.serving.log_export` wrote beside it,
``lake/day=2026-01-31/*.parquet``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ninefold import artifacts
from ninefold.collection import datetimes
from ninefold.errors import DataError
from ninefold.problem import Problem
from ninefold.serving import BUSY, CHAMPION, LOG, Bundle, log_export
from ninefold.timestamps import utc

REQUEST_ID, ROW, MOMENT, VERSION, ROLE = "@request_id", "@row", "@moment", "@version", "@role"
META = {
    REQUEST_ID: "str",
    ROW: "int64",
    MOMENT: "datetime64[us]",
    VERSION: "str",
    ROLE: "str",
}  # no user's column has @
WHOLE_NUMBER = r"[+-]?\d{1,18}"


class Layout(NamedTuple):
    """Names of the exported columns of one version: ours -> exported (`META`), its fields, answers -> exported."""

    meta: dict[str, str]
    fields: list[str]
    answers: dict[str, str]


class Selection(NamedTuple):
    """Fields to read (None: all), and the first and the last moment (UTC, without a zone)."""

    fields: list[str] | None
    since: pd.Timestamp | None
    until: pd.Timestamp | None


def identity(problem: Problem) -> list[str]:
    """Return the columns that identify a case: the key and the time of the problem, each once."""
    return list(dict.fromkeys([*problem.key, *([problem.time] if problem.time else [])]))


def served(
    bundle: Bundle,
    place: Path | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    like: pd.DataFrame | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the answered rows with the features as the model saw them, in the order of the answers.

    What is new in the log is exported first. The table has the rows of every version that ever answered; a field that a
    version did not have is missing there.

    Parameters
    ----------
    bundle : Bundle
        Of the problem; redacted fields are text without values.
    place : Path, optional
        The log; default: the project's.
    since, until : datetime, optional
        Only answers from `since` on and before `until`; without a zone they are UTC.
    like : DataFrame, optional
        A feature table, may be empty: key and time get its types, and a key that does not fit is missing. Without it
        keys stay as they are in the log, and the time is datetime64[us], UTC.
    columns : sequence of str, optional
        Only these fields, beside key and time; default: all.

    Returns
    -------
    DataFrame
        The fields; ``@request_id`` (str), ``@row`` (int64), ``@moment`` (datetime64[us], UTC), ``@version``, ``@role``
        (champion where the log has none); the answers, ``@probability`` ... ``@action``, ``@expected_payoff``. Of
        quantities ``@quantile`` and ``@loss`` too: the action and the negative expected payoff.
    """
    place = place or artifacts.path(LOG)
    folder = place.parent / "lake"
    if place.is_file():
        log_export.export(place, folder)
    fields = None if columns is None else [*identity(bundle.problem), *columns]
    selection = Selection(fields, *(None if at is None else without_zone(at) for at in (since, until)))
    current, layouts = _layout([field["name"] for field in bundle.signature], bundle.added), _layouts(place)
    parts = [
        _typed(_read(files, layouts.get(version, current), selection), bundle, like)
        for version, files in _exports(folder, selection).items()
    ]
    table = pd.concat(parts, ignore_index=True) if parts else _no_rows(bundle, fields)
    table = table.sort_values(MOMENT, kind="stable", ignore_index=True)
    if bundle.problem.task == "regression":
        table = table.assign(**{"@quantile": table["@action"], "@loss": -table["@expected_payoff"]})
    return table


def query_log(place: Path, table: str, query: str) -> list[tuple[Any, ...]]:
    """Return the result of a query; nothing if there is no log, or no such table in it.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    if not place.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                return []
            return connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{place}: the prediction log cannot be read ({error}); put back a copy of it") from None


def without_zone(at: datetime) -> pd.Timestamp:
    """Return a moment in UTC, without its zone."""
    return utc(pd.Series([pd.Timestamp(at)])).iloc[0]


def _layout(fields: list[str], answers: dict[str, str]) -> Layout:
    names_in_use = {*fields, *answers.values()}
    return Layout({name: _free(name[1:], names_in_use) for name in META}, fields, answers)


def _free(name: str, names_in_use: set[str]) -> str:
    return _free(f"{name}_logged", names_in_use) if name in names_in_use else name  # as `log_export` calls them


def _layouts(place: Path) -> dict[str, Layout]:
    """Return the layout of each version in the log; none where only exports were copied here."""
    rows = query_log(place, "bundles", "SELECT version, described FROM bundles")
    described = {version: json.loads(text) for version, text in rows}
    return {version: _layout(list(each["fields"]), each["columns"]) for version, each in described.items()}


def _exports(folder: Path, selection: Selection) -> dict[str, list[Path]]:
    """Return the exported files of the selected days by version, the first request first."""
    files: dict[str, list[Path]] = {}
    since, until = selection.since, selection.until
    for file in sorted(folder.glob("day=*/[!.]*.parquet"), key=lambda file: file.name):
        day = pd.Timestamp(file.parent.name.removeprefix("day="))
        if (since is None or day >= since.normalize()) and (until is None or day < until):
            files.setdefault(file.stem.split("-", 2)[2], []).append(file)
    return files


def _read(files: list[Path], layout: Layout, selection: Selection) -> pd.DataFrame:
    """Return the rows of one version under the names of `served`."""
    try:
        schema = pa.unify_schemas([pq.read_schema(files[0]), pq.read_schema(files[-1])])  # old files lack the role
        names = {name: name for name in layout.fields if selection.fields is None or name in selection.fields}
        names |= {f"@{name}": column for name, column in layout.answers.items()} | layout.meta
        moment, condition = ds.field(layout.meta[MOMENT]), ds.scalar(True)
        if selection.since is not None:
            condition &= moment >= pa.scalar(selection.since.to_pydatetime(), pa.timestamp("us"))
        if selection.until is not None:
            condition &= moment < pa.scalar(selection.until.to_pydatetime(), pa.timestamp("us"))
        columns = {name: ds.field(column) for name, column in names.items() if column in schema.names}
        frame = ds.dataset(files, schema=schema).to_table(columns, filter=condition).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{files[0].parent.parent}: an exported file is damaged ({error}); put back a copy") from None
    frame[ROLE] = (frame[ROLE] if ROLE in frame else pd.Series(None, frame.index, dtype="str")).fillna(CHAMPION)
    return frame


def _typed(frame: pd.DataFrame, bundle: Bundle, like: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of one version with key and time as `like` has them; redacted ones stay text."""
    redacted = set(bundle.described["log"]["redact"])
    for name in identity(bundle.problem):
        column = frame[name] if name in frame else pd.Series(None, frame.index, dtype="str")
        if name in redacted:
            column = column.astype("str")
        elif like is not None:
            column = _cast(column, like[name].dtype)
        elif name == bundle.problem.time:
            column = _cast(column, np.dtype("datetime64[us]"))
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
        text = column.astype("str").str.replace(r"\.0+$", "", regex=True)
        whole = text.str.fullmatch(WHOLE_NUMBER).fillna(False).astype(bool)
        numbers = pd.Series(pd.NA, index=column.index, dtype="Int64")
        numbers[whole] = text[whole].astype("int64")
        return numbers.astype(dtype) if whole.all() else numbers
    return column.astype("str")


def _no_rows(bundle: Bundle, fields: list[str] | None) -> pd.DataFrame:
    types = {"number": "float64", "date": "datetime64[us]"}
    dtypes = {field["name"]: types.get(field["type"], "str") for field in bundle.signature}
    dtypes = {name: dtype for name, dtype in dtypes.items() if fields is None or name in fields}
    dtypes |= {f"@{name}": "float64" for name in bundle.answers} | META
    return _typed(pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()}), bundle, None)

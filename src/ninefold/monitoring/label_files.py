"""Read files of outcomes, and check them: a wrong value is refused with its place and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts
from ninefold.collection import datetimes, sources
from ninefold.errors import DataError
from ninefold.monitoring.production import REQUEST_ID, ROW, identity
from ninefold.problem import Problem
from ninefold.serving import Bundle, as_text, key, pseudonym

OUTCOME, KNOWN_AT = "@outcome", "@known_at"
MISSING = ("", "NA", "N/A", "NaN", "nan", "NaT", "null", "NULL", "None")
TRUTH = {"true": "1", "false": "0"}
WHOLE = r"^([+-]?\d+)\.0+$"
LARGEST = 1e30
TIME = "a date or time in ISO format, such as 2024-02-29T12:30:00 (UTC where it names no other zone)"


def read(source: str, bundle: Bundle, place: Path, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return a file of outcomes as it is stored, each different row once.

    Parameters
    ----------
    source : str
        With the target; ``request_id`` and, if a request had several rows, ``row`` (from 0), or key and time of the
        problem; and, if known, ``known_at``, the moment at which the outcome was known. An empty target says that the
        outcome never becomes known.
    bundle : Bundle
        Of the problem, with the redacted fields.
    place : Path
        The prediction log, beside which the key of redacted values lies.
    options : dict, optional
        How to read it, see `ninefold.collection.sources.read`.

    Returns
    -------
    DataFrame
        ``@request_id`` (str) and ``@row`` (int64), or the key (text, as in the log, redacted as there) and the time
        (datetime64[us], UTC); ``@outcome``, the name of the class (str) or float64; ``@known_at`` (datetime64[us], UTC).

    Raises
    ------
    DataError
        Naming file, row and column, what was found and what was expected.
    """
    table, where, problem = sources.read(source, options), sources.masked(source), bundle.problem
    own = identity(problem)
    by_id = "request_id" in table and "request_id" not in own
    if not by_id and (missing := [name for name in own if name not in table]):
        raise DataError(
            f"{where}: found the columns {', '.join(table.columns)}, and neither request_id nor {', '.join(missing)}; "
            f"expected request_id (and row), or {', '.join(own)}: by these an outcome is joined to its prediction; rename "
            "the columns"
        )
    artifacts.require(table, [problem.target], where)
    columns = _ids(table, where) if by_id else _keys(table, where, bundle, place)
    columns[OUTCOME] = _outcomes(table[problem.target], where, problem)
    known_at = _moments(table["known_at"], where) if "known_at" in table else pd.Series(pd.NaT, index=table.index)
    columns[KNOWN_AT] = known_at.astype("datetime64[us]")
    rows = pd.DataFrame(columns)
    return rows.sort_values(list(rows.columns), ignore_index=True).drop_duplicates(ignore_index=True)


def _ids(table: pd.DataFrame, where: str) -> dict[str, pd.Series]:
    name = table["request_id"].str.strip()
    _require(table["request_id"], name == "", where, "the id of the request, as the answer gave it")
    columns = {REQUEST_ID: name}
    if "row" in table:
        number = table["row"].str.strip().str.replace(WHOLE, r"\1", regex=True).replace("", "0")
        wrong = ~number.str.fullmatch(r"\d{1,9}")
        _require(table["row"], wrong, where, "the number of the row in its request, from 0")
        return columns | {ROW: number.astype("int64")}
    return columns | {ROW: pd.Series(0, index=table.index, dtype="int64")}


def _keys(table: pd.DataFrame, where: str, bundle: Bundle, place: Path) -> dict[str, pd.Series]:
    """Return key and time as the log has them, redacted ones hashed by its key."""
    problem, redacted = bundle.problem, set(bundle.described["log"]["redact"])
    kinds = {field["name"]: field["type"] for field in bundle.signature}
    secret = key(place) if redacted & set(identity(problem)) else b""
    columns = {}
    for name in identity(problem):
        kind, column = kinds.get(name, "any"), table[name]
        if name == problem.time:
            _require(column, column.str.strip().isin(MISSING), where, TIME)
        if name in redacted:
            plain = _plain(column, "any" if kind == "date" else kind, where)
            hashed = {value: pseudonym(value, secret) for value in plain.dropna().unique()}
            columns[name] = plain.map(hashed)
        else:
            columns[name] = _moments(column, where) if name == problem.time else _plain(column, kind, where)
    without_key = pd.DataFrame(columns)[problem.key].isna().all(axis=1)
    _require(table[problem.key[0]], without_key, where, "what identifies the row")
    return columns


def _plain(column: pd.Series, kind: str, where: str) -> pd.Series:
    """Return a key as the text by which it is joined, see `log_entry.as_text`; missing where it is empty."""
    if kind == "date":
        moments = _moments(column, where)
        return moments.dt.strftime("%Y-%m-%dT%H:%M:%S.%f").astype("str")
    if kind == "number":
        numbers = _numbers(column, where)
        return numbers.map({value: as_text(value) for value in numbers.dropna().unique()}).astype("str")
    text = column if kind == "string" else column.str.replace(WHOLE, r"\1", regex=True)
    return text.where(text != "").astype("str")


def _outcomes(column: pd.Series, where: str, problem: Problem) -> pd.Series:
    if not problem.is_class:
        return _numbers(column, where)
    classes = {text: _class(text, problem.classes) for text in column.unique()}
    wrong = column.isin([text for text, name in classes.items() if name == ""])
    _require(column, wrong, where, f"one of {', '.join(problem.classes)}, or nothing where it never becomes known")
    return column.map(classes).astype("str")


def _class(text: str, names: list[str]) -> str | None:
    """Return the class that a text names, None if it says that there is none, "" if it is neither."""
    if text in names:
        return text
    bare = text.strip()
    whole = {re.sub(WHOLE, r"\1", name): name for name in names}  # 1.0 is the class 1
    truth = TRUTH.get(bare.lower(), bare) if names == ["0", "1"] else bare
    return whole.get(re.sub(WHOLE, r"\1", truth), None if bare in MISSING else "")


def _numbers(column: pd.Series, where: str) -> pd.Series:
    bare = column.str.strip()
    numbers = pd.to_numeric(bare, errors="coerce").astype("float64")
    wrong = (numbers.isna() & ~bare.isin(MISSING)) | (numbers.abs() > LARGEST)
    _require(column, wrong, where, "a finite number, or nothing where it is not known")
    return numbers


def _moments(column: pd.Series, where: str) -> pd.Series:
    bare = column.str.strip()
    moments = datetimes.parse_series(bare).astype("datetime64[us]")
    _require(column, moments.isna() & ~bare.isin(MISSING), where, TIME)
    return moments


def _require(column: pd.Series, wrong: pd.Series, where: str, expected: str) -> None:
    """Raise a DataError for the first wrong row."""
    if wrong.any():
        row, others = int(np.flatnonzero(wrong)[0]), int(wrong.sum()) - 1
        raise DataError(
            f"{where}: row {row} (of the data, from 0), column {column.name!r}: found {column.iloc[row]!r}"
            f"{f', and {others:,} more such rows' if others else ''}, expected {expected}; correct the file and deliver it again: "
            "nothing of it was stored"
        )

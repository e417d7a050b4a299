"""Score a chunk of a table with a bundle: its columns checked and typed, forecast, action and payoff beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.errors import DataError
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import DATE, FIRST_DAY, LAST_DAY, days
from ninefold.timestamps import MICROSECONDS

NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "NaT", "null", "NULL", "None")  # texts of a CSV file for a missing number
LARGEST = 1e30
EXPECTED = {"number": "a finite number", "string": "text", "date": f"{DATE}, or days since 1970-01-01"}

Converted = tuple[pd.Series, pd.Series]  # values, and which of them are wrong


class Scores(NamedTuple):
    """A chunk with the columns `Bundle.added`, its categories not seen in training, its features as the model saw them."""

    table: pa.Table
    unseen: list[dict[str, Any]]
    features: pd.DataFrame


def score(table: pa.Table, bundle: Bundle, source: str | Path, first: int = 0) -> Scores:
    """Score a chunk.

    Parameters
    ----------
    table : pa.Table
        With the columns that `check_columns` demands.
    bundle : Bundle
    source : str or Path
        Its name in messages.
    first : int
        The number of rows before the chunk.

    Raises
    ------
    DataError
        If a value cannot be one of its feature's.
    """
    columns = set(table.column_names)
    fields = [field for field in bundle.signature if field["kind"] != "identity" and field["name"] in columns]
    frame = pd.DataFrame({field["name"]: typed(table[field["name"]], field, source, first) for field in fields})
    answers, unseen = pd.DataFrame(columns=bundle.answers), []
    if table.num_rows:
        # Without any field of the model in the table, its rows still count.
        frame = bundle.look_up(frame if fields else pd.DataFrame(index=range(table.num_rows)))
        answers, unseen = bundle.decide(frame), bundle.unseen(frame)
    for name, (column, kind) in zip(bundle.answers, added_types(bundle).items(), strict=True):
        table = table.append_column(column, pa.array(answers[name], kind))
    return Scores(table, unseen, frame)


def added_types(bundle: Bundle) -> dict[str, pa.DataType]:
    """Return the columns that `score` adds, and their types."""
    text = "action" if bundle.problem.is_class else None
    return {column: pa.string() if name == text else pa.float64() for name, column in bundle.added.items()}


def check_columns(columns: list[str], bundle: Bundle, source: str | Path) -> list[str]:
    """Return the history columns that are absent, which will be looked up.

    Raises
    ------
    DataError
        If another feature or a lookup key is absent, a name stands there twice, or an answer's name is in use.
    """
    needed = [field["name"] for field in bundle.signature if field["kind"] not in ("history", "identity")]
    if missing := [name for name in needed if name not in columns]:
        raise DataError(f"{source}: lacks {', '.join(missing)}, which the model needs; found {', '.join(columns)}")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{source}: {', '.join(twice)} stands there twice; expected every column once")
    if present := [name for name in bundle.added.values() if name in columns]:
        raise DataError(f"{source}: already has {', '.join(present)}; drop or rename what would be overwritten")
    return [name for name in bundle.online if name not in columns]


def typed(column: pa.ChunkedArray, field: dict[str, Any], source: str | Path, first: int) -> pd.Series:
    """Return a column as its feature's type: float64 (a date: days since 1970-01-01) or string, missing where it is.

    Raises
    ------
    DataError
        Naming row and column, if a value is of another type, not finite, no date, or a missing key.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    converted = _converted(column, field)
    if converted is None:
        raise DataError(f"{source}: column {field['name']!r} is {column.type}, expected {EXPECTED[field['type']]}")
    values, wrong = converted
    is_key = field["required"] and not field.get("nullable")
    if is_key:
        wrong |= values.isna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        purpose = ", by which history is looked up" if is_key else ""
        raise DataError(
            f"{source}: row {first + row} (of the data, from 0), column {field['name']!r}: found "
            f"{column[row].as_py()!r}, expected {EXPECTED[field['type']]}{purpose}"
        )
    return values


def _converted(column: pa.ChunkedArray, field: dict[str, Any]) -> Converted | None:
    """Return a column as its field's type, and which values are wrong; None if its own type has no such values."""
    expected, kind = field["type"], column.type
    textual, numeric = _is_text(kind) or pa.types.is_null(kind), _is_number(kind)
    if expected == "string":
        is_text = textual or pa.types.is_integer(kind)
        return _texts(column.cast(pa.string()).to_pandas(), "" in field.get("known", ())) if is_text else None
    if textual:
        texts = column.cast(pa.string()).to_pandas().astype("str").str.strip()
        texts = texts.where(~texts.isin(NO_NUMBER))
        return _numbers(texts) if expected == "number" else _dates(texts)
    if expected == "date" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        unit = pa.timestamp("us", tz=getattr(kind, "tz", None))
        moments = column.cast(unit, safe=False).cast(pa.int64()).to_pandas().astype("float64")
        return _within_years(moments / MICROSECONDS)
    if not numeric or (expected == "date" and pa.types.is_boolean(kind)):
        return None
    values = column.cast(pa.float64(), safe=False).to_pandas()
    return _within_years(values) if expected == "date" else (values, values.abs() > LARGEST)


def _numbers(texts: pd.Series) -> Converted:
    values = pd.to_numeric(texts, errors="coerce").astype("float64")
    return values, (values.isna() & texts.notna()) | (values.abs() > LARGEST)


def _texts(texts: pd.Series, empty: bool) -> Converted:
    """Return texts, missing where they are empty, unless that is a category of its own; none is wrong."""
    values = texts.astype("str")
    return values if empty else values.where(values != ""), pd.Series(False, index=texts.index)


def _dates(texts: pd.Series) -> Converted:
    """Return texts, ISO dates or days since 1970-01-01, as days (float64), and which of them are neither."""
    moments = texts.map({text: _day(text) for text in texts.dropna().unique()}).astype("float64")
    values, wrong = _within_years(moments.where(moments.notna(), pd.to_numeric(texts, errors="coerce")))
    return values, wrong | (values.isna() & texts.notna())


def _day(text: str) -> float:
    try:
        return days(text)
    except ValueError:
        return float("nan")


def _within_years(values: pd.Series) -> Converted:
    return values, (values < FIRST_DAY) | (values >= LAST_DAY)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)

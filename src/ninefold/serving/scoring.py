"""Score a chunk of a table with a bundle: its columns checked and typed, forecast, action and payoff beside them."""

import uuid
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.errors import DataError
from ninefold.params import LARGEST
from ninefold.serving.bundle import Bundle
from ninefold.serving.chunks import Tables
from ninefold.serving.fields import DATE, FIRST_DAY, LAST_DAY, NO_NUMBER, days, look_up, names
from ninefold.serving.log import Log
from ninefold.timestamps import MICROSECONDS

EXPECTED = {"number": "a finite number", "string": "text", "date": f"{DATE}, or days since 1970-01-01"}


class Scores(NamedTuple):
    """A chunk with its answers, these alone, the `Bundle.warnings` of it, its features as the model saw them."""

    table: pa.Table
    answers: pd.DataFrame
    warnings: list[dict[str, Any]]
    features: pd.DataFrame


def scored(tables: Tables, bundle: Bundle, source: str | Path, done: dict[str, Any], log: Log | None = None) -> Tables:
    """Yield the tables of `source` with their answers; count ``rows``, ``warnings`` by field and ``looked_up`` in `done`."""
    run = f"batch-{uuid.uuid4()}"
    for table in tables:
        done["looked_up"] = check_columns(table.column_names, bundle, source)
        scores = score(table, bundle, source, done["rows"])
        if log and table.num_rows:
            identity = [name for name in names(bundle.signature, "identity") if name in table.column_names]
            rows = scores.features.join(table.select(identity).to_pandas())
            log.record(rows, scores.answers, bundle, run, done["rows"])
        yield scores.table
        done["rows"] += table.num_rows
        for each in scores.warnings:
            done["warnings"][each["field"]] += each["rows"]


def score(table: pa.Table, bundle: Bundle, source: str | Path, first: int = 0) -> Scores:
    """Score a chunk of `source`, after `first` rows, with the columns that `check_columns` demands."""
    columns = set(table.column_names)
    fields = [field for field in bundle.signature if field["kind"] != "identity" and field["name"] in columns]
    frame = pd.DataFrame({field["name"]: typed(table[field["name"]], field, source, first) for field in fields})
    answers, warnings = pd.DataFrame(columns=bundle.answers), []
    if table.num_rows:
        # Without any field of the model in the table, its rows still count.
        frame = look_up(frame if fields else pd.DataFrame(index=range(table.num_rows)), bundle.online)
        answers, warnings = bundle.decide(frame)[bundle.answers], bundle.warnings(frame)
    for name, (column, kind) in zip(bundle.answers, added_types(bundle).items(), strict=True):
        table = table.append_column(column, pa.array(answers[name], kind))
    return Scores(table, answers, warnings, frame)


def added_types(bundle: Bundle) -> dict[str, pa.DataType]:
    """Return the columns that `score` adds, and their types."""
    texts = ["action"] * bundle.problem.is_class
    return {column: pa.string() if name in texts else pa.float64() for name, column in bundle.added.items()}


def check_columns(columns: list[str], bundle: Bundle, source: str | Path) -> list[str]:
    """Return the history columns to look up; `DataError` if others are absent, twice there, or in an answer's place."""
    needed = [field["name"] for field in bundle.signature if field["kind"] not in ("history", "identity")]
    if missing := [name for name in needed if name not in columns]:
        raise DataError(f"{source}: lacks {', '.join(missing)}, which the model needs; found {', '.join(columns)}")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{source}: {', '.join(twice)} stands there twice; expected every column once")
    if present := [name for name in bundle.added.values() if name in columns]:
        raise DataError(f"{source}: already has {', '.join(present)}; drop or rename what would be overwritten")
    return [name for name in bundle.online if name not in columns]


def typed(column: pa.ChunkedArray, field: dict[str, Any], source: str | Path, first: int) -> pd.Series:
    """Return a column as float64 (a date: days since 1970-01-01) or string; `DataError` names the first wrong value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    converted, expected, name = _converted(column, field), EXPECTED[field["type"]], repr(field["name"])
    if converted is None:
        raise DataError(f"{source}: column {name} is {column.type}, expected {expected}")
    values, wrong = converted
    if field["required"] and not field.get("nullable"):
        wrong, expected = wrong | values.isna(), f"{expected}, by which history is looked up"
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        where = f"row {first + row} (of the data, from 0), column {name}"
        raise DataError(f"{source}: {where}: found {column[row].as_py()!r}, expected {expected}")
    return values


def _converted(column: pa.ChunkedArray, field: dict[str, Any]) -> tuple[pd.Series, pd.Series] | None:
    """Return a column as its field's type, and which values are wrong; None if its own type has no such values."""
    expected, kind, test = field["type"], column.type, pa.types
    is_text = test.is_string(kind) or test.is_large_string(kind) or test.is_string_view(kind) or test.is_null(kind)
    is_number = test.is_integer(kind) or test.is_floating(kind) or test.is_decimal(kind)
    if expected == "string":
        if not (is_text or test.is_integer(kind)):
            return None
        texts = column.cast(pa.string()).to_pandas().astype("str")
        values = texts if "" in field.get("known", ()) else texts.where(texts != "")
        return values, pd.Series(False, index=texts.index)
    unreadable: Any = False
    if is_text:
        texts = column.cast(pa.string()).to_pandas().astype("str").str.strip()
        texts = texts.where(~texts.isin(NO_NUMBER))
        values = pd.to_numeric(texts, errors="coerce").astype("float64")
        if expected == "date":
            values = texts.map(cache(_day), na_action="ignore").astype("float64").fillna(values)
        unreadable = values.isna() & texts.notna()
    elif expected == "date" and (test.is_timestamp(kind) or test.is_date(kind)):
        unit = pa.timestamp("us", tz=getattr(kind, "tz", None))
        values = column.cast(unit, safe=False).cast(pa.int64()).to_pandas().astype("float64") / MICROSECONDS
    elif is_number or (test.is_boolean(kind) and expected == "number"):
        values = column.cast(pa.float64(), safe=False).to_pandas()
    else:
        return None
    wrong = (values < FIRST_DAY) | (values >= LAST_DAY) if expected == "date" else values.abs() > LARGEST
    return values, wrong | unreadable


def _day(text: str) -> float:
    try:
        return days(text)
    except ValueError:
        return float("nan")

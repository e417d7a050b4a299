"""Score a table of any size with a bundle: its rows, chunk by chunk, with forecast, action and payoff beside them."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.core import decisions, params
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.moments import MICROSECONDS
from ninefold.serving.batch_io import CHUNK, SUFFIXES, as_csv, ends, progress, readable, reader
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log, record
from ninefold.serving.signature import DATE, FIRST_DAY, LAST_DAY, days, names

__all__ = [
    "CHUNK",
    "SUFFIXES",
    "check_columns",
    "describe",
    "predict",
    "readable",
    "reader",
    "score",
    "through_file",
    "typed",
]

NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "NaT", "null", "NULL", "None")  # texts of a CSV file that mean: not known
LARGEST = 1e30
EXPECTED = {"number": "a finite number", "string": "text", "date": f"{DATE}, or days since 1970-01-01"}

Converted = tuple[pd.Series, pd.Series]


def predict(
    source: str | Path,
    target: str | Path,
    bundle: Bundle,
    rows: int = CHUNK,
    query: str | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """Write the rows of `source`, each with the answer of `bundle`, to `target`; whole or not at all.

    Columns that are no features pass through untouched. A feature that is missing in a row stays missing; a history
    column that is absent altogether is looked up by its keys.

    Parameters
    ----------
    source, target : str or Path
        Files or tables of databases, see `ninefold.serving.batch_io.ends`. In a project whose engine is Spark, Parquet to
        Parquet is scored there, see `ninefold.serving.batch_spark.predict`.
    bundle : Bundle
    rows : int
        Held in memory at once.
    query : str, optional
        What to read of the database `source`, instead of a table.
    log : Log, optional
        Where every answer is on disk before the table appears: it is decided by, and stage 09 judges it. Not on Spark.

    Returns
    -------
    dict
        ``rows``; ``looked_up``, the history columns that were absent; ``unseen``, rows per field whose category was
        not in training; ``wrote``, where to.

    Raises
    ------
    DataError
        Naming the source, the column and the row, for whatever cannot be scored.
    LogError
        If an answer could not be logged.
    """
    if query is None and log is None and _on_spark(str(source), str(target)):
        from ninefold.serving import batch_spark

        return batch_spark.predict(Path(source), Path(target), bundle)
    given, wanted = ends(str(source), str(target), query, list(bundle.added.values()))
    done: dict[str, Any] = {"rows": 0, "looked_up": [], "unseen": {}, "wrote": wanted.where}
    number = f"batch-{uuid.uuid4()}"
    with wanted.write() as put, progress(given.where) as advance:
        for table, share in given.read(rows):
            done["looked_up"] = check_columns(table.column_names, bundle, given.where)
            scored, unseen, frame = _scored(table, bundle, given.where, done["rows"])
            put(scored)
            if log:
                _keep(scored, frame, bundle, log, number, done["rows"])
            done["rows"] += table.num_rows
            for each in unseen:
                done["unseen"][each["field"]] = done["unseen"].get(each["field"], 0) + each["rows"]
            advance(done["rows"], share)
    return done


def score(table: pa.Table, bundle: Bundle, source: str | Path, first: int = 0) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return a chunk with the columns `Bundle.added`, and the categories not seen in training.

    Raises
    ------
    DataError
        If a value cannot be one of its feature's; `first` is the number of rows before the chunk.
    """
    return _scored(table, bundle, source, first)[:2]


def _scored(
    table: pa.Table, bundle: Bundle, source: str | Path, first: int
) -> tuple[pa.Table, list[dict[str, Any]], pd.DataFrame]:
    """Return what `score` does, and the features as the model saw them."""
    found = set(table.column_names)
    fields = [field for field in bundle.signature if field["kind"] != "identity" and field["name"] in found]
    frame = pd.DataFrame({field["name"]: typed(table[field["name"]], field, source, first) for field in fields})
    answers, unseen = pd.DataFrame(columns=bundle.answers), []
    if table.num_rows:
        # Without any field of the model in the table, its rows still count.
        frame = bundle.look_up(frame if fields else pd.DataFrame(index=range(table.num_rows)))
        answers, unseen = bundle.decide(frame), bundle.unseen(frame)
    for name, (column, kind) in zip(bundle.answers, added_types(bundle).items(), strict=True):
        table = table.append_column(column, pa.array(answers[name], kind))
    return table, unseen, frame


def _keep(scored: pa.Table, frame: pd.DataFrame, bundle: Bundle, log: Log, number: str, first: int) -> None:
    """Log a chunk that was scored, with what identifies its rows."""
    own = [name for name in names(bundle.signature, "identity") if name in scored.column_names]
    answers = scored.select(list(bundle.added.values())).to_pandas().set_axis(bundle.answers, axis=1)
    record(frame.join(scored.select(own).to_pandas()), answers, bundle, log, number, first)


def added_types(bundle: Bundle) -> dict[str, pa.DataType]:
    """Return the columns that `score` adds, and their types."""
    text = "action" if decisions.is_class(bundle.stated) else None
    return {column: pa.string() if name == text else pa.float64() for name, column in bundle.added.items()}


def check_columns(found: list[str], bundle: Bundle, source: str | Path) -> list[str]:
    """Return the history columns that are absent, which will be looked up.

    Raises
    ------
    DataError
        If another feature or a lookup key is absent, a name stands there twice, or an answer's name is taken.
    """
    needed = [field["name"] for field in bundle.signature if field["kind"] not in ("history", "identity")]
    if lost := [name for name in needed if name not in found]:
        raise DataError(f"{source}: lacks {', '.join(lost)}, which the model needs; found {', '.join(found)}")
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise DataError(f"{source}: {', '.join(twice)} stands there twice; expected every column once")
    if taken := [name for name in bundle.added.values() if name in found]:
        raise DataError(f"{source}: already has {', '.join(taken)}; drop or rename what would be overwritten")
    return [name for name in bundle.online if name not in found]


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
    missed = field["required"] and not field.get("nullable")
    if missed:
        wrong |= values.isna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        found = f"row {first + row} (of the data, from 0), column {field['name']!r}: found {column[row].as_py()!r}"
        needed = ", by which history is looked up" if missed else ""
        raise DataError(f"{source}: {found}, expected {EXPECTED[field['type']]}{needed}")
    return values


def through_file(rows: pd.DataFrame, suffix: str, bundle: Bundle) -> pd.DataFrame:
    """Return what `predict` answers to rows in a file of the suffix: the columns `Bundle.answers`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"rows{suffix}", Path(folder) / f"scored{suffix}"
        rows = rows.drop(columns=[name for name in bundle.added.values() if name in rows])
        source.write_bytes(as_csv(rows).encode()) if suffix == ".csv" else rows.to_parquet(source, index=False)
        predict(source, target, bundle)
        wanted = list(bundle.added.values())
        if suffix == ".csv":
            scored = pd.read_csv(target, usecols=wanted, dtype="str", keep_default_na=False)
            text = {bundle.added["action"]} if decisions.is_class(bundle.stated) else set()
            scored = scored.astype({name: "float64" for name in wanted if name not in text})
        else:
            scored = pd.read_parquet(target, columns=wanted)
    return scored[wanted].set_axis(bundle.answers, axis=1)


def describe(done: dict[str, Any], bundle: Bundle) -> str:
    """Return what `predict` did, for the command line."""
    looked = f"; {len(done['looked_up'])} history columns looked up as of {bundle.moment}" if done["looked_up"] else ""
    unseen = "".join(f"; {rows:,} rows with a {field} not seen in training" for field, rows in done["unseen"].items())
    renamed = "".join(
        f"; the answer's {name} is in {column}, for {name} is a field of the model"
        for name, column in bundle.added.items()
        if name != column
    )
    return f"scored {done['rows']:,} rows with {bundle.name} {bundle.version}{looked}{unseen}{renamed}; wrote {done['wrote']}"


def _on_spark(source: str, target: str) -> bool:
    """Return whether the engine of the project that stands here is Spark, and both ends are Parquet."""
    if Path(target).suffix.lower() != ".parquet" or not (Path(source).is_dir() or source.lower().endswith(".parquet")):
        return False
    try:
        params.root()
    except ParamsError:  # a bundle needs no project
        return False
    return params.load("engine").backend == "pyspark"


def _converted(column: pa.ChunkedArray, field: dict[str, Any]) -> Converted | None:
    """Return a column as its field's type, and which values are none; None if its own type allows no such thing."""
    wanted, found = field["type"], column.type
    textual, numeric = _is_text(found) or pa.types.is_null(found), _is_number(found)
    if wanted == "string" and (textual or pa.types.is_integer(found)):
        return _texts(column.cast(pa.string()).to_pandas(), "" in field.get("known", ()))
    if wanted != "string" and textual:
        texts = column.cast(pa.string()).to_pandas()
        return _numbers(texts) if wanted == "number" else _dates(texts)
    if wanted == "date" and (pa.types.is_timestamp(found) or pa.types.is_date(found)):
        return _within_years(_days_of(column))
    if wanted == "date" and numeric and not pa.types.is_boolean(found):
        return _within_years(column.cast(pa.float64(), safe=False).to_pandas())
    if wanted == "number" and numeric:
        values = column.cast(pa.float64(), safe=False).to_pandas()
        return values, values.abs() > LARGEST
    return None


def _numbers(texts: pd.Series) -> Converted:
    """Return texts as float64, and which of them are neither a finite number nor a way to say missing."""
    plain = _plain(texts)
    values = pd.to_numeric(plain, errors="coerce").astype("float64")
    return values, (values.isna() & plain.notna()) | (values.abs() > LARGEST)


def _texts(texts: pd.Series, empty: bool) -> Converted:
    """Return texts, missing where they are empty, unless that is a category of its own; none is wrong."""
    values = texts.astype("str")
    return values if empty else values.where(values != ""), pd.Series(False, index=texts.index)


def _dates(texts: pd.Series) -> Converted:
    """Return texts, ISO dates or days since 1970-01-01, as days (float64), and which of them are neither."""
    plain = _plain(texts)
    written = {text: _day(text) for text in plain.dropna().unique()}
    values = plain.map(written).astype("float64")
    values, wrong = _within_years(values.where(values.notna(), pd.to_numeric(plain, errors="coerce")))
    return values, wrong | (values.isna() & plain.notna())


def _day(text: str) -> float:
    try:
        return days(text)
    except ValueError:
        return float("nan")


def _days_of(column: pa.ChunkedArray) -> pd.Series:
    unit = pa.timestamp("us", tz=getattr(column.type, "tz", None))
    return column.cast(unit, safe=False).cast(pa.int64()).to_pandas().astype("float64") / MICROSECONDS


def _within_years(values: pd.Series) -> Converted:
    return values, (values < FIRST_DAY) | (values >= LAST_DAY)


def _plain(texts: pd.Series) -> pd.Series:
    plain = texts.astype("str").str.strip()
    return plain.where(~plain.isin(NO_NUMBER))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)

"""Score a table of any size with a bundle: CSV or Parquet in, the same rows with forecast, action and payoff out."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from ninefold.core import decisions
from ninefold.core.errors import DataError
from ninefold.core.moments import MICROSECONDS
from ninefold.serving.bundle import Bundle
from ninefold.serving.signature import DATE, FIRST_DAY, LAST_DAY, days

CHUNK = 50_000
SUFFIXES = (".csv", ".parquet")
NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "NaT", "null", "NULL", "None")  # texts of a CSV file that mean: not known
LARGEST = 1e30
EXPECTED = {"number": "a finite number", "string": "text", "date": f"{DATE}, or days since 1970-01-01"}

Chunks = Iterator[tuple[pa.Table, float]]
Converted = tuple[pd.Series, pd.Series]


def predict(source: Path, target: Path, bundle: Bundle, chunk: int = CHUNK) -> dict[str, Any]:
    """Write the rows of `source`, each with the answer of `bundle`, to `target`; whole or not at all.

    Columns that are no features pass through untouched. A feature that is missing in a row stays missing; a history
    column that is absent altogether is looked up by its keys.

    Parameters
    ----------
    source, target : Path
        Each ``.csv`` or ``.parquet``.
    bundle : Bundle
    chunk : int
        Rows held in memory at once.

    Returns
    -------
    dict
        ``rows``; ``looked_up``, the history columns that were absent; ``unseen``, rows per field whose category was
        not in training.

    Raises
    ------
    DataError
        Naming the file, the column and the row, for whatever cannot be scored.
    """
    read, write = reader(source), _writer(target)
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: is the input; give another OUT")
    done: dict[str, Any] = {"rows": 0, "looked_up": [], "unseen": {}}
    with _whole(target) as temporary, write(temporary) as put, _progress(source) as advance:
        for table, share in readable(source, read(source, chunk)):
            done["looked_up"] = check_columns(table.column_names, bundle, source)
            scored, unseen = score(table, bundle, source, done["rows"])
            put(scored)
            done["rows"] += table.num_rows
            for each in unseen:
                done["unseen"][each["field"]] = done["unseen"].get(each["field"], 0) + each["rows"]
            advance(share)
    return done


def score(table: pa.Table, bundle: Bundle, source: Path, first: int = 0) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return a chunk with the columns `Bundle.added`, and the categories not seen in training.

    Raises
    ------
    DataError
        If a value cannot be one of its feature's; `first` is the number of rows before the chunk.
    """
    found = set(table.column_names)
    fields = [field for field in bundle.signature if field["kind"] != "identity" and field["name"] in found]
    frame = pd.DataFrame({field["name"]: typed(table[field["name"]], field, source, first) for field in fields})
    answers, unseen = pd.DataFrame(columns=bundle.answers), []
    if table.num_rows:
        # Without any field of the model in the table, its rows still count.
        frame = bundle.look_up(frame if fields else pd.DataFrame(index=range(table.num_rows)))
        answers, unseen = bundle.decide(frame), bundle.unseen(frame)
    for name, column in bundle.added.items():
        text = name == "action" and decisions.is_class(bundle.stated)
        table = table.append_column(column, pa.array(answers[name], pa.string() if text else pa.float64()))
    return table, unseen


def check_columns(found: list[str], bundle: Bundle, source: Path) -> list[str]:
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


def typed(column: pa.ChunkedArray, field: dict[str, Any], source: Path, first: int) -> pd.Series:
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
        source.write_bytes(_as_csv(rows).encode()) if suffix == ".csv" else rows.to_parquet(source, index=False)
        predict(source, target, bundle)
        wanted = list(bundle.added.values())
        if suffix == ".csv":
            scored = pd.read_csv(target, usecols=wanted, dtype="str", keep_default_na=False)
            text = {bundle.added["action"]} if decisions.is_class(bundle.stated) else set()
            scored = scored.astype({name: "float64" for name in wanted if name not in text})
        else:
            scored = pd.read_parquet(target, columns=wanted)
    return scored[wanted].set_axis(bundle.answers, axis=1)


def describe(done: dict[str, Any], target: Path, bundle: Bundle) -> str:
    """Return what `predict` did, for the command line."""
    looked = f"; {len(done['looked_up'])} history columns looked up as of {bundle.moment}" if done["looked_up"] else ""
    unseen = "".join(f"; {rows:,} rows with a {field} not seen in training" for field, rows in done["unseen"].items())
    renamed = "".join(
        f"; the answer's {name} is in {column}, for {name} is a field of the model"
        for name, column in bundle.added.items()
        if name != column
    )
    return f"scored {done['rows']:,} rows with {bundle.name} {bundle.version}{looked}{unseen}{renamed}; wrote {target}"


def _read_parquet(source: Path, chunk: int) -> Chunks:
    file = pq.ParquetFile(source)
    total, done = file.metadata.num_rows, 0
    if not total:
        yield file.schema_arrow.empty_table(), 1.0
    for batch in file.iter_batches(batch_size=chunk):
        done += batch.num_rows
        yield pa.Table.from_batches([batch]), done / total


def _read_csv(source: Path, chunk: int) -> Chunks:
    # All text, so that what is no feature is written as it was read.
    with source.open(encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream), None)
    if not header:
        raise DataError(f"{source}: is empty, expected a header with the names of the columns")
    options: dict[str, Any] = {"dtype": "str", "keep_default_na": False, "chunksize": chunk, "encoding": "utf-8-sig"}
    with source.open("rb") as raw, pd.read_csv(raw, header=0, names=header, **options) as reader:
        for frame in reader:
            if not isinstance(frame.index, pd.RangeIndex):
                raise DataError(f"{source}: rows have more values than the header has names ({len(header)})")
            yield pa.Table.from_pandas(frame, preserve_index=False), raw.tell() / source.stat().st_size


def readable(source: Path, chunks: Chunks) -> Chunks:
    """Yield chunks of a file; what goes wrong within it is a `DataError` that names it."""
    try:
        yield from chunks
    except (OSError, ValueError) as error:  # those of pandas and pyarrow derive from these
        raise DataError(f"{source}: not readable as {source.suffix}: {str(error).strip()}") from None


@contextmanager
def _write_parquet(target: Path) -> Iterator[Callable[[pa.Table], None]]:
    writer: pq.ParquetWriter | None = None

    def put(table: pa.Table) -> None:
        nonlocal writer
        writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield put
    finally:
        if writer:
            writer.close()


@contextmanager
def _write_csv(target: Path) -> Iterator[Callable[[pa.Table], None]]:
    with target.open("w", encoding="utf-8", newline="") as stream:

        def put(table: pa.Table) -> None:
            # Arrow's types keep whole numbers whole where some are missing.
            frame = table.to_pandas(types_mapper=pd.ArrowDtype)
            stream.write(_as_csv(frame, header=not stream.tell()))

        yield put


def _as_csv(frame: pd.DataFrame, header: bool = True) -> str:
    text = frame.to_csv(index=False, header=header, lineterminator="\n")
    if "\r" in text:  # a carriage return ends a line too, but alone it is not a reason to quote for Python 3.11's csv
        text = frame.to_csv(index=False, header=header, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text


def reader(source: Path) -> Callable[[Path, int], Chunks]:
    """Return what reads a file of this kind in chunks.

    Raises
    ------
    DataError
        If it is not there, or neither CSV nor Parquet.
    """
    if not source.is_file():
        raise DataError(f"{source}: not found; IN is a .csv or .parquet file")
    return _by_suffix(source, "IN", _read_csv, _read_parquet)


def _writer(target: Path) -> Any:
    if target.is_dir():
        raise DataError(f"{target}: is a folder; OUT is a .csv or .parquet file")
    return _by_suffix(target, "OUT", _write_csv, _write_parquet)


def _by_suffix(place: Path, which: str, text: Any, parquet: Any) -> Any:
    if place.suffix.lower() not in SUFFIXES:
        raise DataError(f"{place}: {which} ends in {place.suffix or 'nothing'!r}, expected {' or '.join(SUFFIXES)}")
    return text if place.suffix.lower() == ".csv" else parquet


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, which takes its place at the end; on failure nothing is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _progress(source: Path) -> Iterator[Callable[[float], None]]:
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"scoring {source.name}", total=1.0)
        yield lambda share: bar.update(task, completed=share)


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

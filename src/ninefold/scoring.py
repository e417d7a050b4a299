"""Score a table of any size with a bundle: CSV or Parquet in, the same rows with probability, action and payoff out."""

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

from ninefold.core.errors import DataError
from ninefold.deployment import Bundle

CHUNK = 50_000
ADDED = ("probability", "action", "expected_payoff")
SUFFIXES = (".csv", ".parquet")
NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")  # texts of a CSV file that mean: not known
LARGEST = 1e30

Chunks = Iterator[tuple[pa.Table, float]]


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
    read, write = _reader(source), _writer(target)
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: is the input; give another OUT")
    done: dict[str, Any] = {"rows": 0, "looked_up": [], "unseen": {}}
    with _whole(target) as temporary, write(temporary) as put, _progress(source) as advance:
        for table, share in _readable(source, read(source, chunk)):
            done["looked_up"] = check_columns(table.column_names, bundle, source)
            scored, unseen = score(table, bundle, source, done["rows"])
            put(scored)
            done["rows"] += table.num_rows
            for each in unseen:
                done["unseen"][each["field"]] = done["unseen"].get(each["field"], 0) + each["rows"]
            advance(share)
    return done


def score(table: pa.Table, bundle: Bundle, source: Path, first: int = 0) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return a chunk with ``probability``, ``action`` and ``expected_payoff``, and the categories not seen in training.

    Raises
    ------
    DataError
        If a value cannot be one of its feature's; `first` is the number of rows before the chunk.
    """
    fields = [
        field for field in bundle.signature if field["kind"] != "identity" and field["name"] in table.column_names
    ]
    frame = pd.DataFrame({field["name"]: typed(table[field["name"]], field, source, first) for field in fields})
    if not len(frame):
        empty = {"probability": pa.float64(), "action": pa.string(), "expected_payoff": pa.float64()}
        decided: dict[str, Any] = {name: pa.array([], kind) for name, kind in empty.items()}
        unseen = []
    else:
        frame = bundle.look_up(frame)
        answers, unseen = bundle.decide(frame), bundle.unseen(frame)
        decided = {name: pa.array(answers[name], from_pandas=True) for name in ADDED}
        decided["action"] = decided["action"].cast(pa.string())
    for name in ADDED:
        table = table.append_column(name, decided[name])
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
    if taken := [name for name in ADDED if name in found]:
        raise DataError(f"{source}: already has {', '.join(taken)}; drop or rename what would be overwritten")
    return [name for name in bundle.online if name not in found]


def typed(column: pa.ChunkedArray, field: dict[str, Any], source: Path, first: int) -> pd.Series:
    """Return a column as its feature's type: float64 or string, missing where it is missing.

    Raises
    ------
    DataError
        Naming row and column, if a value is of another type, not finite, or a missing key.
    """
    kind = "number" if field["type"] == "number" else "text"
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind == "number" and _is_text(column.type):
        values, wrong = _parse(column.to_pandas())
    elif kind == "number" and _is_number(column.type):
        values = column.cast(pa.float64(), safe=False).to_pandas()
        wrong = values.abs() > LARGEST
    elif kind == "text" and (
        _is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)
    ):
        values = column.cast(pa.string()).to_pandas().astype("str")
        values = values.where(values != "")
        wrong = pd.Series(False, index=values.index)
    else:
        raise DataError(f"{source}: column {field['name']!r} is {column.type}, expected {kind}")
    if field["required"]:
        wrong |= values.isna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        found = f"row {first + row} (of the data, from 0), column {field['name']!r}: found {column[row].as_py()!r}"
        needed = ", by which history is looked up" if field["required"] else ""
        raise DataError(f"{source}: {found}, expected {'a finite number' if kind == 'number' else 'text'}{needed}")
    return values


def through_file(rows: pd.DataFrame, suffix: str, bundle: Bundle) -> pd.DataFrame:
    """Return what `predict` answers to rows in a file of the suffix: ``probability``, ``action``, ``expected_payoff``."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"rows{suffix}", Path(folder) / f"scored{suffix}"
        rows.to_csv(source, index=False) if suffix == ".csv" else rows.to_parquet(source, index=False)
        predict(source, target, bundle)
        scored = pd.read_csv(target, float_precision="round_trip") if suffix == ".csv" else pd.read_parquet(target)
    return scored[list(ADDED)]


def describe(done: dict[str, Any], target: Path, bundle: Bundle) -> str:
    """Return what `predict` did, for the command line."""
    looked = f"; {len(done['looked_up'])} history columns looked up as of {bundle.moment}" if done["looked_up"] else ""
    unseen = "".join(f"; {rows:,} rows with a {field} not seen in training" for field, rows in done["unseen"].items())
    return f"scored {done['rows']:,} rows with {bundle.name} {bundle.version}{looked}{unseen}; wrote {target}"


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


def _readable(source: Path, chunks: Chunks) -> Chunks:
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
            frame.to_csv(stream, index=False, header=not stream.tell(), lineterminator="\n")

        yield put


def _reader(source: Path) -> Callable[[Path, int], Chunks]:
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


def _parse(texts: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return texts as float64, and which of them are neither a finite number nor a way to say missing."""
    plain = texts.str.strip()
    plain = plain.where(~plain.isin(NO_NUMBER))
    values = pd.to_numeric(plain, errors="coerce").astype("float64")
    return values, (values.isna() & plain.notna()) | (values.abs() > LARGEST)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)

"""Tables of any size in chunks: CSV and Parquet files, read and written; a file is written whole or not at all."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold import artifacts
from ninefold.collection import databases
from ninefold.errors import DataError

CHUNK = 50_000  # rows
SUFFIXES = (".csv", ".parquet")
FORMATS = ".csv, .parquet, FILE.duckdb::TABLE, FILE.sqlite::TABLE or URL::TABLE"

Chunks = Iterator[tuple[pa.Table, float | None]]  # and the share of the rows read so far, None if it is not known
Put = Callable[[pa.Table], None]


class Source(NamedTuple):
    """The input of a batch: its name in messages, and a function that reads it in chunks of at most so many rows."""

    where: str
    read: Callable[[int], Chunks]


class Target(NamedTuple):
    """The output of a batch: its name in messages, and a context whose function appends a chunk."""

    where: str
    write: Callable[[], AbstractContextManager[Put]]


class TableSource(NamedTuple):
    """A table or a query of a database to read, and its name in messages; without both, the database's only table."""

    where: str
    name: str | None
    query: str | None


class TableTarget(NamedTuple):
    """A table of a database to write, and its name in messages; one that exists needs the columns `answers`."""

    where: str
    name: str
    answers: Collection[str]

    def require_result(self, is_table: bool, columns: list[str]) -> None:
        """Raise `DataError` unless the table that is there already is an earlier result."""
        if not is_table:
            raise DataError(f"{self.where}: is a view, expected a table; give another OUT")
        if missing := [name for name in self.answers if name not in columns]:
            raise DataError(
                f"{self.where}: is there already and no earlier result, as it lacks {', '.join(missing)}; give another "
                "OUT, or drop it"
            )


def choose_table(where: str, name: str | None, tables: list[str]) -> str:
    """Return `name` if there is such a table; where no name is given, the only table there is."""
    if name is None and len(tables) == 1:
        return tables[0]
    if name is None:
        listed = ", ".join(tables) or "(none)"
        raise DataError(f"{where}: names no table, expected {where}::TABLE, or --query; found the tables {listed}")
    if name not in tables:
        raise databases.no_table(where, name, tables, key="")
    return name


def source(place: str) -> Source:
    """Return the source of a file or a folder of Parquet files."""
    file = Path(place)
    read = reader(file)
    return Source(place, lambda rows: readable(file, read(file, rows)))


def target(place: str) -> Target:
    """Return the target of a file; an earlier one is replaced."""
    file = Path(place)
    if file.is_dir():
        raise DataError(f"{file}: is a folder; OUT is {FORMATS}")
    write = _write_csv if _suffix(file, "OUT") == ".csv" else write_parquet
    return Target(place, lambda: _whole_file(file, write))


def reader(source: Path) -> Callable[[Path, int], Chunks]:
    """Return the function that reads a file of this kind in chunks.

    Raises
    ------
    DataError
        If it is not there, or neither CSV nor Parquet.
    """
    if source.is_dir():
        if not parts(source):
            raise DataError(f"{source}: is a folder without a .parquet file; IN is {FORMATS}")
        return read_parquet
    if not source.is_file():
        raise DataError(f"{source}: not found; IN is {FORMATS}")
    return _read_csv if _suffix(source, "IN") == ".csv" else read_parquet


def readable(source: Path, chunks: Chunks) -> Chunks:
    """Yield the chunks of a file; an error of pandas or pyarrow becomes a `DataError` that names the file."""
    try:
        yield from chunks
    except (OSError, ValueError) as error:  # those of pandas and pyarrow derive from these
        kind = source.suffix or "Parquet"
        raise DataError(f"{source}: not readable as {kind}: {str(error).strip()}") from None


def parts(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder in the order of their names, without hidden ones."""
    files = folder.rglob("*.parquet")
    return sorted(file for file in files if not any(part[0] in "._" for part in file.relative_to(folder).parts))


def read_parquet(source: Path, rows: int) -> Chunks:
    """Yield the rows of a Parquet file, or of the files of a folder; without rows, one empty table."""
    files = parts(source) if source.is_dir() else [source]
    footers = [footer(file) for file in files]
    (schema, _), total, done = footers[0], sum(count for _, count in footers), 0
    if not total:
        yield schema.empty_table(), 1.0
    for file, (columns, _) in zip(files, footers, strict=True):
        if differing := sorted(set(columns.names) ^ set(schema.names)):
            raise DataError(f"{file}: has other columns than {files[0]}: {', '.join(differing)} stand in one only")
        for table, _ in readable(file, _batches(file, rows)):
            done += table.num_rows
            yield table.select(schema.names).cast(schema), done / total


def footer(file: Path) -> tuple[pa.Schema, int]:
    """Return the columns and the number of rows of a Parquet file; a `DataError` names one that is damaged."""
    try:
        with pq.ParquetFile(file) as opened:
            return opened.schema_arrow, opened.metadata.num_rows
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as {file.suffix}: {str(error).strip()}") from None


@contextmanager
def write_parquet(target: Path) -> Iterator[Put]:
    """Give a function that appends rows to a new Parquet file."""
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
def spool() -> Iterator[tuple[Put, Callable[[], pa.RecordBatchReader]]]:
    """Give a function that appends rows to a temporary file, and one that reads all of them back."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file, writer = Path(folder) / "rows.arrow", None
        options = pa.ipc.IpcWriteOptions(compression="zstd")

        def put(table: pa.Table) -> None:
            nonlocal writer
            table = decoded(table)
            writer = writer or stack.enter_context(pa.ipc.new_stream(str(file), table.schema, options=options))
            writer.write_table(table)

        def read() -> pa.RecordBatchReader:
            stack.close()
            return pa.ipc.open_stream(stack.enter_context(pa.OSFile(str(file))))

        yield put, read


def as_csv(frame: pd.DataFrame, header: bool = True) -> str:
    """Return a table as CSV, from which any text is read back unchanged."""
    text = frame.to_csv(index=False, header=header, lineterminator="\n")
    if "\r" in text:  # a carriage return ends a line too, but alone it is not a reason to quote for Python 3.11's csv
        text = frame.to_csv(index=False, header=header, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text


def decoded(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, whose values differ from chunk to chunk."""
    types = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)))


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, which replaces it at the end, file or folder; on failure nothing is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = (target.with_name(f".{target.name}.{os.getpid()}.{state}") for state in ("tmp", "old"))
    try:
        yield new
        if target.exists() and (target.is_dir() or new.is_dir()):
            os.replace(target, old)
        os.replace(new, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        for place in (new, old, new.with_name(f"{new.name}.wal")):  # DuckDB's
            artifacts.remove(place)


def _batches(file: Path, rows: int) -> Chunks:
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch]), None


def _read_csv(source: Path, rows: int) -> Chunks:
    # All text, so that what is no feature is written as it was read.
    with source.open(encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream), None)
    if not header:
        raise DataError(f"{source}: is empty, expected a header with the names of the columns")
    options: dict[str, Any] = {"dtype": "str", "keep_default_na": False, "chunksize": rows, "encoding": "utf-8-sig"}
    with source.open("rb") as raw, pd.read_csv(raw, header=0, names=header, **options) as frames:
        for frame in frames:
            if not isinstance(frame.index, pd.RangeIndex):
                raise DataError(f"{source}: rows have more values than the header has names ({len(header)})")
            yield pa.Table.from_pandas(frame, preserve_index=False), raw.tell() / source.stat().st_size


@contextmanager
def _write_csv(target: Path) -> Iterator[Put]:
    with target.open("w", encoding="utf-8", newline="") as stream:

        def put(table: pa.Table) -> None:
            # Arrow's types keep whole numbers whole where some are missing.
            frame = table.to_pandas(types_mapper=pd.ArrowDtype)
            stream.write(as_csv(frame, header=not stream.tell()))

        yield put


@contextmanager
def _whole_file(target: Path, write: Callable[[Path], AbstractContextManager[Put]]) -> Iterator[Put]:
    with whole(target) as temporary, write(temporary) as put:
        yield put


def _suffix(place: Path, which: str) -> str:
    if place.suffix.lower() not in SUFFIXES:
        raise DataError(f"{place}: {which} ends in {place.suffix or 'nothing'!r}, expected {FORMATS}")
    return place.suffix.lower()

"""Tables of any size in chunks: CSV and Parquet files, read and written; a file is written whole or not at all."""

import csv
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold import artifacts
from ninefold.collection import ONE_TABLE, databases, demand_columns, failing, files
from ninefold.errors import DataError

CHUNK = 50_000  # rows
SUFFIXES = (".csv", ".parquet")
FORMATS = ".csv, .parquet, FILE.duckdb::TABLE, FILE.sqlite::TABLE or URL::TABLE"

Tables = Iterator[pa.Table]  # one at least, which may be empty


class DatabaseTable(NamedTuple):
    """A table or a query of a database to read, or a table to write; `where` is its name in messages."""

    where: str
    name: str
    query: str | None = None
    answers: Collection[str] = ()

    def choose(self, tables: list[str]) -> str:
        """Return the table to read, of those there are; without a name the only one."""
        if self.name and self.name not in tables:
            raise databases.no_table(self.where, self.name, tables, key="")
        if not self.name and len(tables) != 1:
            expected = f"expected {self.where}::TABLE, or --query; found the tables {', '.join(tables) or '(none)'}"
            raise DataError(f"{self.where}: names no table, {expected}")
        return self.name or tables[0]

    def require_result(self, is_table: bool, columns: list[str]) -> None:
        """Raise `DataError` unless the table is an earlier result, which has the columns `answers`."""
        missing = ", ".join(name for name in self.answers if name not in columns)
        wrong = f"is there already and no earlier result, as it lacks {missing}" if missing else ""
        wrong = wrong if is_table else "is a view, expected a table"
        if wrong:
            raise DataError(f"{self.where}: {wrong}; give another OUT, or drop it")


def read_file(place: Path, rows: int) -> Tables:
    """Yield the rows of a CSV or Parquet file, or of a folder of Parquet files; without rows, one empty table."""
    if place.is_file() and require_suffix(place, "IN") == ".csv":
        with _readable(place):
            yield from _read_csv(place, rows)
    else:
        files = parquet_files(place)
        schema = shared_schema(files)
        for file in files:
            yield from read_parquet(file, schema, rows)


def write_file(place: Path, tables: Tables) -> None:
    """Write tables to a CSV file, from which any text is read back unchanged, or Parquet; an earlier one is replaced."""
    if place.is_dir():
        raise DataError(f"{place}: is a folder; OUT is {FORMATS}")
    suffix = require_suffix(place, "OUT")
    with artifacts.replacing(place) as temporary:
        if suffix == ".parquet":
            _write_all(tables, lambda schema: pq.ParquetWriter(temporary, schema, compression="zstd"))
            return
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            for table in tables:
                # Types of Arrow keep whole numbers whole where some are missing.
                frame = table.to_pandas(types_mapper=pd.ArrowDtype)
                write = partial(frame.to_csv, index=False, header=not stream.tell(), lineterminator="\n")
                # A carriage return ends a line too, but alone it is not a reason to quote for Python 3.11's csv.
                stream.write(write(quoting=csv.QUOTE_ALL) if "\r" in (text := write()) else text)


def require_suffix(place: Path, which: str) -> str:
    """Return the suffix of a file, `which` is IN or OUT; a `DataError` names one that is neither CSV nor Parquet."""
    if place.suffix.lower() not in SUFFIXES:
        raise DataError(f"{place}: {which} ends in {place.suffix or 'nothing'!r}, expected {FORMATS}")
    return place.suffix.lower()


def parquet_files(place: Path) -> list[Path]:
    """Return a file, or the Parquet files of a folder by name, without hidden ones; `DataError` if there is none."""
    if place.is_file():
        return [place]
    if visible := [file for file in files.inside(place) if file.suffix == ".parquet"]:
        return visible
    wrong = "is a folder without a .parquet file" if place.is_dir() else "not found"
    raise DataError(f"{place}: {wrong}; IN is {FORMATS}")


def footer(file: Path) -> pq.FileMetaData:
    """Return the metadata of a Parquet file; a `DataError` names one that is damaged."""
    with _readable(file):
        return pq.read_metadata(file)


def shared_schema(files: list[Path]) -> pa.Schema:
    """Return the schema of the first of some Parquet files; a `DataError` names one that has other columns."""
    schemas = {file: footer(file).schema.to_arrow_schema() for file in files}
    for file, schema in schemas.items():
        demand_columns(schema.names, schemas[files[0]].names, str(file), f"in {files[0]}", ONE_TABLE)
    return schemas[files[0]]


def read_parquet(file: Path, schema: pa.Schema, rows: int, groups: list[int] | None = None) -> Tables:
    """Yield an empty table, and the rows of a Parquet file, or of some of its row groups, with the columns of a schema."""
    yield schema.empty_table()
    with _readable(file), pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(rows, groups):
            yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


@contextmanager
def spooled(tables: Tables) -> Iterator[pa.RecordBatchReader]:
    """Take all tables to a temporary file, and give a reader of their rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "rows.arrow")
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        _write_all(map(_decoded, tables), lambda schema: pa.ipc.new_stream(file, schema, options=options))
        with pa.OSFile(file) as rows:
            yield pa.ipc.open_stream(rows)


def _readable(source: Path) -> AbstractContextManager[None]:
    # The errors of pandas and pyarrow derive from these.
    return failing(str(source), f"read as {source.suffix}", "write the file again", OSError, ValueError)


def _read_csv(source: Path, rows: int) -> Tables:
    # All text, so that what is no feature is written as it was read.
    from ninefold.collection import strict_records  # with DuckDB, which a service does not need

    with source.open(encoding="utf-8-sig", newline="") as stream:
        records = strict_records(str(source), stream)
        _, header = next(records, (1, []))
        if not header:
            raise DataError(f"{source}: is empty, expected a header with the names of the columns")
        for line, record in records:  # pandas would take what is behind a quote, and fill up short rows
            if len(record) not in (0, len(header)):
                expected = f"expected {len(header)}, as in its first line; fix the line"
                raise DataError(f"{source}: line {line}: found {len(record)} fields, {expected}")
    form: dict[str, Any] = {"dtype": "str", "keep_default_na": False, "encoding": "utf-8-sig"}
    with pd.read_csv(source, header=0, names=header, chunksize=rows, **form) as frames:
        yield from (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)


def _write_all(tables: Tables, writer: Callable[[pa.Schema], Any]) -> None:
    first = next(tables)
    with writer(first.schema) as opened:
        for table in chain([first], tables):
            if table.num_rows:
                opened.write_table(table)


def _decoded(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, whose values differ from chunk to chunk."""
    types = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)))

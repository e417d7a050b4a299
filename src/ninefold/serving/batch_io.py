"""Where batches come from and go to, chunk by chunk: CSV, Parquet, a table of a database; what is written is whole or absent."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ninefold.core import databases
from ninefold.core.errors import DataError

CHUNK = 50_000
SUFFIXES = (".csv", ".parquet")
FORMS = ".csv, .parquet, FILE.duckdb::TABLE, FILE.sqlite::TABLE or URL::TABLE"

Chunks = Iterator[tuple[pa.Table, float | None]]  # and the share of the whole that has been read, None if not known
Put = Callable[[pa.Table], None]


class Source(NamedTuple):
    """What is scored: what errors call it, and what yields chunks of so many rows."""

    where: str
    read: Callable[[int], Chunks]


class Target(NamedTuple):
    """Where the answers go: what the user is told, and a context that gives what adds a chunk."""

    where: str
    write: Callable[[], AbstractContextManager[Put]]


def ends(given: str, wanted: str, query: str | None = None, answers: Collection[str] = ()) -> tuple[Source, Target]:
    """Return the two ends of a batch.

    Parameters
    ----------
    given, wanted : str
        A ``.csv`` or ``.parquet`` file, a table of a DuckDB or SQLite file (``shop.duckdb::orders``), or of a database by
        its URL (``postgresql://ann:${PASSWORD}@host/shop::orders``). `given` may be a folder of Parquet files, too, and
        needs no ``::TABLE`` where a database has but one. Of CSV every column that passes through is text, in a table too.
    query : str, optional
        What to read of the database `given`, instead of a table.
    answers : collection of str
        The columns that an earlier result has. A file is replaced, a table of a database only if it is such a result.

    Raises
    ------
    DataError
        If `given` is not there, either is of no known kind, or both are the same. Shows no password.
    """
    if query is not None and not is_database(given):
        raise DataError(f"{given}: is no database, expected one beside a query; found {query!r}")
    if not (is_database(given) or is_database(wanted)):
        if Path(given).resolve() == Path(wanted).resolve():
            raise DataError(f"{wanted}: is the input; give another OUT")
        return _source(given), _target(wanted)
    try:
        from ninefold.serving import batch_databases as tables  # with DuckDB, which a packed service does without
    except ImportError as error:
        package = error.name
        raise DataError(
            f"{databases.masked(wanted)}: needs the Python package {package}; run `pip install {package}`"
        ) from None
    source = tables.source(given, query, wanted) if is_database(given) else _source(given)
    target = tables.target(wanted, answers, given) if is_database(wanted) else _target(wanted)
    return source, target


def is_database(given: str) -> bool:
    """Return whether a text names a database: a URL, a file with a database's suffix, or anything with ``::TABLE``."""
    place, name = databases.split(given)
    return "://" in given or name is not None or Path(place).suffix.lower() in (*databases.SQLITE, *databases.DUCKDB)


def reader(source: Path) -> Callable[[Path, int], Chunks]:
    """Return what reads a file of this kind in chunks.

    Raises
    ------
    DataError
        If it is not there, or neither CSV nor Parquet.
    """
    if source.is_dir():
        if not parts(source):
            raise DataError(f"{source}: is a folder without a .parquet file; IN is {FORMS}")
        return _read_folder
    if not source.is_file():
        raise DataError(f"{source}: not found; IN is {FORMS}")
    return _by_suffix(source, "IN", _read_csv, read_parquet)


def parts(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder in the order of their names, without hidden ones."""
    found = folder.rglob("*.parquet")
    return sorted(file for file in found if not any(part[0] in "._" for part in file.relative_to(folder).parts))


def readable(source: Path, chunks: Chunks) -> Chunks:
    """Yield chunks of a file; what goes wrong within it is a `DataError` that names it."""
    try:
        yield from chunks
    except (OSError, ValueError) as error:  # those of pandas and pyarrow derive from these
        kind = source.suffix or "Parquet"
        raise DataError(f"{source}: not readable as {kind}: {str(error).strip()}") from None


def as_csv(frame: pd.DataFrame, header: bool = True) -> str:
    """Return a table as CSV that gives back any text."""
    text = frame.to_csv(index=False, header=header, lineterminator="\n")
    if "\r" in text:  # a carriage return ends a line too, but alone it is not a reason to quote for Python 3.11's csv
        text = frame.to_csv(index=False, header=header, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text


@contextmanager
def progress(where: str) -> Iterator[Callable[[int, float | None], None]]:
    """Show a bar where a person looks on; give what tells it the rows that are done, and their share if that is known."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        said = f"scoring {where.rpartition('/')[2]}"
        task = bar.add_task(said, total=None)

        def advance(rows: int, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, completed=share or 0.0, total=total, description=f"{said}, {rows:,} rows")

        yield advance


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, which takes its place at the end; on failure nothing is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)  # DuckDB's


def read_parquet(source: Path, rows: int) -> Chunks:
    """Yield a Parquet file in chunks; of one without rows its columns."""
    with pq.ParquetFile(source) as file:
        total, done = file.metadata.num_rows, 0
        if not total:
            yield file.schema_arrow.empty_table(), 1.0
        for batch in file.iter_batches(batch_size=rows):
            done += batch.num_rows
            yield pa.Table.from_batches([batch]), done / total


def _read_folder(source: Path, rows: int) -> Chunks:
    """Yield the files of a folder one after another; all have the columns and types of the first."""
    files = parts(source)
    schema, total, done = pq.read_schema(files[0]), sum(pq.read_metadata(file).num_rows for file in files), 0
    if not total:
        yield schema.empty_table(), 1.0
    for file in files:
        found = pq.read_schema(file)
        if differ := sorted(set(found.names) ^ set(schema.names)):
            raise DataError(f"{file}: has other columns than {files[0]}: {', '.join(differ)} stand in one only")
        for part, _ in readable(file, read_parquet(file, rows)):
            done += part.num_rows
            if part.num_rows:
                yield part.select(schema.names).cast(schema), done / total


def _read_csv(source: Path, rows: int) -> Chunks:
    # All text, so that what is no feature is written as it was read.
    with source.open(encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream), None)
    if not header:
        raise DataError(f"{source}: is empty, expected a header with the names of the columns")
    options: dict[str, Any] = {"dtype": "str", "keep_default_na": False, "chunksize": rows, "encoding": "utf-8-sig"}
    with source.open("rb") as raw, pd.read_csv(raw, header=0, names=header, **options) as found:
        for frame in found:
            if not isinstance(frame.index, pd.RangeIndex):
                raise DataError(f"{source}: rows have more values than the header has names ({len(header)})")
            yield pa.Table.from_pandas(frame, preserve_index=False), raw.tell() / source.stat().st_size


@contextmanager
def write_parquet(target: Path) -> Iterator[Put]:
    """Give what adds rows to a new Parquet file."""
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
def _write_csv(target: Path) -> Iterator[Put]:
    with target.open("w", encoding="utf-8", newline="") as stream:

        def put(table: pa.Table) -> None:
            # Arrow's types keep whole numbers whole where some are missing.
            frame = table.to_pandas(types_mapper=pd.ArrowDtype)
            stream.write(as_csv(frame, header=not stream.tell()))

        yield put


@contextmanager
def _file(target: Path, write: Any) -> Iterator[Put]:
    with whole(target) as temporary, write(temporary) as put:
        yield put


def _source(given: str) -> Source:
    source = Path(given)
    read = reader(source)
    return Source(given, lambda rows: readable(source, read(source, rows)))


def _target(wanted: str) -> Target:
    target = Path(wanted)
    if target.is_dir():
        raise DataError(f"{target}: is a folder; OUT is {FORMS}")
    write = _by_suffix(target, "OUT", _write_csv, write_parquet)
    return Target(wanted, lambda: _file(target, write))


def _by_suffix(place: Path, which: str, text: Any, parquet: Any) -> Any:
    if place.suffix.lower() not in SUFFIXES:
        raise DataError(f"{place}: {which} ends in {place.suffix or 'nothing'!r}, expected {FORMS}")
    return text if place.suffix.lower() == ".csv" else parquet

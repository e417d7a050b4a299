"""Tables of databases as the two ends of a batch: DuckDB in its own batches, all others by SQL; a table is written whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Full, Queue
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa

from ninefold.core import databases
from ninefold.core.errors import DataError
from ninefold.core.tabular import line
from ninefold.serving import batch_io
from ninefold.serving.batch_io import Chunks, Put, Source, Target
from ninefold.serving.batch_sql import chosen, decoded, demand_result, read_sql, temporary, write_sql

MEMORY = "512MB"  # that DuckDB may take beside the model


def source(given: str, query: str | None, wanted: str) -> Source:
    """Return what reads a table, or a query, of a database; `wanted` is where the answers go.

    Raises
    ------
    DataError
        If it is a file that is not there, or no database.
    """
    (place, name), where = databases.split(given), databases.masked(given)
    if query is not None and name is not None:
        raise DataError(f"{where}: names a table and stands beside a query, expected one of them; drop ::{name}")
    options = {"query": query} if name is None else {"table": name}
    if "://" in place:
        return Source(where, lambda rows: read_sql(where, place, options, rows))
    file = Path(place)
    if not file.is_file():
        raise DataError(f"{file}: not found; IN is {batch_io.FORMS}")
    if _is_duckdb(file):
        shared = file.resolve() == Path(databases.split(wanted)[0]).resolve()
        return Source(where, lambda rows: read_duckdb(where, file, options, rows, shared))
    url = databases.sqlite_url(file, where)
    return Source(where, lambda rows: read_sql(where, url, options, rows))


def target(wanted: str, answers: Collection[str], given: str) -> Target:
    """Return what writes a table of a database; a file that is not there is made. `given` is what is scored.

    Raises
    ------
    DataError
        If no table is named, it is the input, or a file would be of no known kind.
    """
    (place, name), where = databases.split(wanted), databases.masked(wanted)
    if name is None:
        raise DataError(f"{where}: names no table; OUT is {batch_io.FORMS}")
    if wanted == given:
        raise DataError(f"{where}: is the input; give another OUT")
    if "://" in place:
        write = partial(write_sql, where, place, name, answers)
        return Target(where, partial(_later, write) if place.startswith("sqlite") and _is_sqlite(given) else write)
    file = Path(place)
    if file.is_dir() or (not file.exists() and file.suffix.lower() not in (*databases.SQLITE, *databases.DUCKDB)):
        raise DataError(f"{file}: is no database; OUT is {batch_io.FORMS}")
    if not file.exists():
        return Target(where, partial(_new_file, where, file, name, answers))
    if _is_duckdb(file):
        return Target(where, partial(write_duckdb, where, file, name, answers))
    write = partial(write_sql, where, _writable(file), name, answers)
    return Target(where, partial(_later, write) if _is_sqlite(given) else write)


def read_duckdb(where: str, place: Path, options: dict[str, Any], rows: int, shared: bool = False) -> Chunks:
    """Yield a table or a query of a DuckDB file in chunks, each with the share that has been read, None if not known.

    Parameters
    ----------
    where : str
        What errors call it.
    place : Path
    options : dict
        ``table`` or ``query``; neither: the only table.
    rows : int
        Of a chunk, at most.
    shared : bool
        Whether this process writes to the same file, which DuckDB then lets it open in one way only.
    """
    with _duckdb_errors(where, "read"), _duckdb(place, read_only=not shared) as connection:
        query, total = options.get("query"), 0
        if query is None:
            name = chosen(where, options.get("table"), list(_duckdb_tables(connection)))
            query = f"SELECT * FROM {_quoted(name)}"
            total = connection.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchall()[0][0]
        relation = connection.sql(query)
        if relation is None:
            raise DataError(f"{where}: the query gives no rows, expected a SELECT")
        yield from _counted(relation.to_arrow_reader(rows), total)


@contextmanager
def write_duckdb(where: str, place: Path, name: str, answers: Collection[str]) -> Iterator[Put]:
    """Give what adds rows to a new table of a DuckDB file; one transaction, which ends with its name.

    Raises
    ------
    DataError
        If `name` is there already and lacks the columns `answers`, so is no earlier result; or DuckDB refuses.
    """
    with _duckdb_errors(where, "written"), _duckdb(place, read_only=False) as connection:
        kinds = {found.lower(): kind for found, kind in _duckdb_tables(connection).items()}
        old = name.lower() in kinds
        if old:
            found = [row[0] for row in connection.execute(f"DESCRIBE {_quoted(name)}").fetchall()]
            demand_result(where, kinds[name.lower()] != "VIEW", found, answers)
        interim = _quoted(temporary(name))
        connection.execute("BEGIN")  # closed before its end, the connection takes all back
        with _filling(connection, interim) as put:
            yield put
        if old:
            connection.execute(f"DROP TABLE {_quoted(name)}")
        connection.execute(f"ALTER TABLE {interim} RENAME TO {_quoted(name)}")
        connection.execute("COMMIT")


@contextmanager
def _filling(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[Put]:
    """Give what adds rows to a new table, by one statement that awaits them in a thread of its own.

    Of many statements DuckDB 2 keeps some 230 bytes a row in memory until their transaction ends (measured).
    """
    waiting: Queue[pa.Table | None] = Queue(maxsize=1)
    statement: Future[Any] | None = None

    def send(rows: pa.Table | None) -> None:
        while statement is not None and not statement.done():
            with suppress(Full):
                waiting.put(rows, timeout=1)
                return
        if statement is not None:
            statement.result()  # says why it ended before its rows

    def put(rows: pa.Table) -> None:
        nonlocal statement
        rows = decoded(rows)
        if statement is None:
            batches = (batch for part in iter(waiting.get, None) for batch in part.to_batches())
            connection.register("@rows", pa.RecordBatchReader.from_batches(rows.schema, batches))
            statement = thread.submit(connection.execute, f'CREATE TABLE {table} AS SELECT * FROM "@rows"')
        send(rows)

    with ThreadPoolExecutor(1) as thread:
        try:
            yield put
        finally:
            send(None)
    if statement:
        statement.result()


@contextmanager
def _new_file(where: str, file: Path, name: str, answers: Collection[str]) -> Iterator[Put]:
    with batch_io.whole(file) as place:
        writes = write_duckdb(where, place, name, answers) if _is_duckdb(file) else None
        with writes or write_sql(where, _writable(place), name, answers) as put:
            yield put


@contextmanager
def _later(write: Callable[[], AbstractContextManager[Put]]) -> Iterator[Put]:
    """Give what keeps rows in a file and writes them at the end: SQLite ends no transaction while somebody reads."""
    with write() as add, tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.parquet"
        with batch_io.write_parquet(kept) as put:
            yield put
        for part, _ in batch_io.read_parquet(kept, batch_io.CHUNK):
            add(part)


def _writable(file: Path) -> str:
    return f"sqlite:///file:{quote(str(file.absolute()))}?mode=rwc&uri=true"


def _is_duckdb(file: Path) -> bool:
    return databases.is_duckdb(file) if file.is_file() else file.suffix.lower() in databases.DUCKDB


def _is_sqlite(given: str) -> bool:
    place = databases.split(given)[0]
    return place.startswith("sqlite") if "://" in place else batch_io.is_database(given) and not _is_duckdb(Path(place))


@contextmanager
def _duckdb(place: Path, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(place), read_only=read_only) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        yield connection


@contextmanager
def _duckdb_errors(where: str, done: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise DataError(
            f"{where}: cannot be {done} ({line(error)}); see to the file, who else has it open, and the query"
        ) from None


def _duckdb_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the tables and views of the default schema, and which of both each is."""
    query = (
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 1"
    )
    return dict(connection.execute(query).fetchall())


def _counted(reader: pa.RecordBatchReader, total: int) -> Chunks:
    done = 0
    for batch in reader:
        done += batch.num_rows
        yield pa.Table.from_batches([batch]), min(done / total, 1.0) if total else None
    if not done:
        yield reader.schema.empty_table(), 1.0


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))

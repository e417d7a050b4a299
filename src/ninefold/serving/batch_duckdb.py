"""Tables of DuckDB files in chunks: read as DuckDB streams them, written in one statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from ninefold.collection import line
from ninefold.errors import DataError
from ninefold.serving.chunks import Chunks, Put, TableSource, TableTarget, choose_table, spool

MEMORY = "512MB"  # that DuckDB may take beside the model


def read_duckdb(place: Path, source: TableSource, rows: int) -> Chunks:
    """Yield a table or a query of a DuckDB file in chunks of at most `rows`, each with the share that has been read."""
    with _connection(place, source.where, "read") as connection:
        query, total = source.query, 0
        if query is None:
            name = _quoted(choose_table(source.where, source.name, list(_tables(connection))))
            query = f"SELECT * FROM {name}"
            total = connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
        relation = connection.sql(query)
        if relation is None:
            raise DataError(f"{source.where}: the query gives no rows, expected a SELECT")
        reader, done = relation.to_arrow_reader(rows), 0
        for batch in reader:
            done += batch.num_rows
            yield pa.Table.from_batches([batch]), min(done / total, 1.0) if total else None
        if not done:
            yield reader.schema.empty_table(), 1.0


@contextmanager
def write_duckdb(place: Path, target: TableTarget) -> Iterator[Put]:
    """Give a function that appends rows; at the end one statement writes all of them.

    Of many statements DuckDB 2 keeps some 230 bytes a row in memory until their transaction ends (measured).

    Raises
    ------
    DataError
        If the table exists and is no earlier result, or DuckDB refuses.
    """
    if place.exists():
        with _connection(place, target.where, "written") as connection:
            kinds = {name.lower(): kind for name, kind in _tables(connection).items()}
            if kind := kinds.get(target.name.lower()):
                described = connection.execute(f"DESCRIBE {_quoted(target.name)}").fetchall()
                target.require_result(kind != "VIEW", [row[0] for row in described])
    with spool() as (put, rows):
        yield put
        with _connection(place, target.where, "written", read_only=False) as connection:
            connection.register("@rows", rows())
            connection.execute(f'CREATE OR REPLACE TABLE {_quoted(target.name)} AS SELECT * FROM "@rows"')


@contextmanager
def _connection(place: Path, where: str, purpose: str, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection; an error of DuckDB becomes a `DataError` that says what could not be done."""
    try:
        with duckdb.connect(str(place), read_only=read_only) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET memory_limit = '{MEMORY}'")
            yield connection
    except duckdb.Error as error:
        raise DataError(
            f"{where}: cannot be {purpose} ({line(error)}); see to the file, who else has it open, and the query"
        ) from None


def _tables(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the type of each table and view of the default schema."""
    query = (
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 1"
    )
    return dict(connection.execute(query).fetchall())


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))

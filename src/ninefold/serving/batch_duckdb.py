"""Tables of DuckDB files in chunks: read as DuckDB streams them, written in one statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from ninefold.collection import databases, failing
from ninefold.errors import DataError
from ninefold.serving.chunks import DatabaseTable, Tables, spooled

MEMORY = "512MB"  # that DuckDB may take beside the model
OWN = "table_schema = current_schema() AND lower(table_name) = lower(?)"  # names differ by more than case
KIND = f"SELECT table_type FROM information_schema.tables WHERE {OWN}"


def read(place: str, source: DatabaseTable, rows: int) -> Tables:
    """Yield a table or a query of a DuckDB file in chunks of at most `rows`."""
    with _connection(place, source.where, "read") as connection:
        names = {} if source.query else databases.duckdb_tables(connection)
        relation = connection.sql(source.query or f"SELECT * FROM {names[source.choose(list(names))]}")
        if relation is None:
            raise DataError(f"{source.where}: the query gives no rows, expected a SELECT")
        reader = relation.to_arrow_reader(rows)
        yield reader.schema.empty_table()
        yield from (pa.Table.from_batches([batch]) for batch in reader)


def write(place: str, target: DatabaseTable, tables: Tables) -> None:
    """Write tables in one statement: of many, DuckDB 2 keeps some 230 bytes a row in memory to the end (measured)."""
    quoted = '"{}"'.format(target.name.replace('"', '""'))
    if Path(place).exists():
        with _connection(place, target.where, "written") as connection:
            if kind := connection.execute(KIND, [target.name]).fetchone():
                target.require_result(kind[0] != "VIEW", connection.table(quoted).columns)
    with spooled(tables) as rows, _connection(place, target.where, "written", read_only=False) as connection:
        connection.register("@rows", rows)
        connection.execute(f'CREATE OR REPLACE TABLE {quoted} AS SELECT * FROM "@rows"')


@contextmanager
def _connection(place: str, where: str, purpose: str, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    remedy = "see to the file, who else has it open, and the query"
    with failing(where, purpose, remedy, duckdb.Error), duckdb.connect(place, read_only) as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'; SET TimeZone = 'UTC'")
        yield connection

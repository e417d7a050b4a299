"""Databases: a SQLite or DuckDB file, or the URL of a SQL server, read as text; no error shows a password."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lazy_loader
import pandas as pd
import pyarrow as pa

from ninefold.collection.tabular import failing, from_arrow, only, table, texts
from ninefold.errors import SECRET, DataError
from ninefold.errors import masked as masked_text
from ninefold.sentences import render

SQLITE, DUCKDB = (".sqlite", ".sqlite3", ".db", ".db3"), (".duckdb", ".ddb")  # suffixes of their files
CHUNK = 50_000  # rows at a time
VARIABLE = re.compile(r"\$\{(\w+)\}")
sa = lazy_loader.load("sqlalchemy")  # slow, and DuckDB files do without it


def read(source: str, place: Path | None, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Yield the table or the query of the options as text: of a SQL server (`place` None), or a SQLite or DuckDB file."""
    if {"table", "query"} <= options.keys():
        raise DataError(f"{masked(source)}: options: found table and query, expected one of them; drop the other")
    query = options.get("query")
    if place and is_duckdb(place):
        with _duckdb(source, place) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            if query is None:
                names = duckdb_tables(connection)
                name = options.get("table") or only(names, "table", source)
                if name not in names:
                    raise no_table(source, name, list(names))
                query = f"SELECT * FROM {names[name]}"
            yield from_arrow(connection.sql(query).to_arrow_table())
        return
    with Database(sqlite_url(place, source) if place else source, masked(source)) as database:
        query = query or database.select(options.get("table"))
        with database.errors(), database.result(query) as result:
            header = list(result.keys())
            chunks = [[texts(column) for column in zip(*rows, strict=True)] for rows in result.partitions(CHUNK)]
    columns = ([part[place] for part in chunks] for place in range(len(header)))
    yield table(header, [pa.chunked_array(column, pa.string()) for column in columns])


def split(source: str) -> tuple[str, str | None]:
    """Return the database and the table (None if there is none) of ``FILE.db::TABLE`` or ``dialect://host/db::TABLE``."""
    place, mark, name = source.rpartition("::")
    if not mark or "]" in name:  # the address [::1]
        return source, None
    return place, name or None


def tables(source: str, place: Path | None = None) -> dict[str, str]:
    """Return tables and views by name, or ``schema.table`` where it is not the default -> their names in DuckDB's SQL."""
    if place and is_duckdb(place):
        with _duckdb(source, place) as connection:
            return duckdb_tables(connection)
    with Database(sqlite_url(place, source) if place else source, masked(source)) as database:
        return {name: name for name in database.tables()}


def duckdb_tables(connection: Any) -> dict[str, str]:
    """Return the tables and views of a DuckDB file by name, quoted for a query; of another schema ``schema.table``."""
    name = "CASE WHEN table_schema = current_schema() THEN '' ELSE table_schema || '.' END || table_name"
    mark = """format('"{}"."{}"', replace(table_schema, '"', '""'), replace(table_name, '"', '""'))"""
    return dict(connection.execute(f"SELECT {name}, {mark} FROM information_schema.tables ORDER BY 1").fetchall())


def masked(source: str) -> str:
    """Return a source as it may be shown: a password in its URL, spaces and quotes included, is replaced by ``***``."""
    hidden = re.sub(r"(://[^:/@]*:)(?!\$\{\w+\}@|\d+(?:/|$)).*@", r"\1***@", source)  # nor is a port a password
    return masked_text(re.sub(rf"(?i)({SECRET}=)(?!\$\{{)[^&]*", r"\1***", hidden))


def sqlite_url(place: Path, where: str) -> str:
    """Return the URL by which a SQLite file is read."""
    with place.open("rb") as stream:
        if stream.read(15) != b"SQLite format 3":
            raise DataError(f"{where}: found neither a SQLite nor a DuckDB file; give the file the suffix of its kind")
    return f"sqlite:///file:{quote(str(place.absolute()))}?mode=ro&uri=true"


def is_duckdb(place: Path) -> bool:
    """Return whether a file is DuckDB's, by its first bytes."""
    with place.open("rb") as stream:
        return stream.read(12)[8:] == b"DUCK"


@contextmanager
def _duckdb(where: str, place: Path) -> Iterator[Any]:
    """Open a DuckDB file to read it."""
    import duckdb

    remedy = "check options.query; or fetch or write the file again"
    with failing(where, "read as DuckDB", remedy, duckdb.Error), duckdb.connect(place, read_only=True) as connection:
        yield connection


def no_table(where: str, name: str, tables: list[str], key: str = "options.table: ") -> DataError:
    """Return the error of a table that is missing; `key` names the option that asks for it."""
    return DataError(f"{where}: {key}found no table {name!r}, expected one of {', '.join(tables) or '(none)'}")


class Database(AbstractContextManager["Database"]):
    """A SQL database behind SQLAlchemy; its errors are `DataError` and hold no password."""

    def __init__(self, source: str, where: str | None = None, key: str = "options.table: ") -> None:
        self.where, self.key = where or masked(source), key
        self.url = _resolved(source, self.where)
        try:
            self.engine = sa.create_engine(self.url)
        except sa.exc.NoSuchModuleError:
            raise DataError(render("collection", "no_driver", where=self.where, dialect=self.url.drivername)) from None
        except ImportError as error:
            package = "psycopg[binary]" if error.name == "psycopg" else error.name
            raise DataError(f"{self.where}: needs the package {package}; run `pip install '{package}'`") from None

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()

    def tables(self) -> list[str]:
        """Return the names of the tables and views of the default schema."""
        with self.errors():
            inspector = sa.inspect(self.engine)
            return sorted([*inspector.get_table_names(), *inspector.get_view_names()])

    def find(self, name: str) -> tuple[str | None, str]:
        """Return the schema (None: the default) and name of a table or view; a `DataError` lists those there are."""
        with self.errors():
            inspector = sa.inspect(self.engine)
            schema, table = None, name
            if not inspector.has_table(table) and "." in name:
                schema, _, table = name.partition(".")
            if not inspector.has_table(table, schema=schema):
                raise no_table(self.where, name, self.tables(), self.key)
        return schema, table

    def select(self, name: str | None) -> str:
        """Return the query for a whole table, by its primary key if it has one, so that the order repeats."""
        schema, table = self.find(name or only(self.tables(), "table", self.where))
        with self.errors():
            inspector = sa.inspect(self.engine)
            has_key = table in inspector.get_table_names(schema=schema)
            key = inspector.get_pk_constraint(table, schema=schema)["constrained_columns"] if has_key else []
        mark = self.engine.dialect.identifier_preparer.quote_identifier
        order = f" ORDER BY {', '.join(map(mark, key))}" if key else ""
        return f"SELECT * FROM {'.'.join(mark(part) for part in (schema, table) if part)}{order}"

    @contextmanager
    def result(self, query: str) -> Iterator[Any]:
        """Give the rows of a query as they come, through a cursor on the server where the database has one."""
        with self.engine.connect() as connection:
            # no_parameters: a per cent sign in the query is one
            ready = connection.execution_options(stream_results=True, no_parameters=True)
            yield ready.exec_driver_sql(query)

    def errors(self, action: str = "read") -> AbstractContextManager[None]:
        """Turn what SQLAlchemy and its drivers raise into a `DataError` that says what failed, without secrets."""
        kinds = (sa.exc.SQLAlchemyError, getattr(self.engine.dialect.dbapi, "Error", ValueError), ValueError, OSError)
        hidden = (value for key, value in self.url.query.items() if re.search(rf"(?i){SECRET}$", key))
        secrets = [str(value) for value in (self.url.password, *hidden) if value]
        return failing(self.where, action, "check address, rights and query", *kinds, hide=secrets)


def _resolved(source: str, where: str) -> Any:
    """Return the URL with the values of its environment variables; those before the ``@`` are quoted for a URL."""
    scheme, _, rest = source.partition("://")
    if scheme in ("http", "https", "ftp"):
        raise DataError(f"{where}: a web address is not read, as it may give something else tomorrow; download it")
    if lost := [name for name in VARIABLE.findall(rest) if name not in os.environ]:
        raise DataError(f"{where}: the environment variable {lost[0]} is not set; set it to what the URL needs")
    login, at, place = rest.rpartition("@")
    login = VARIABLE.sub(lambda name: quote(os.environ[name[1]], safe=""), login)
    place = VARIABLE.sub(lambda name: os.environ[name[1]], place)
    try:
        url = sa.make_url(f"{scheme}://{login}{at}{place}")
    except (sa.exc.ArgumentError, ValueError):
        raise DataError(f"{where}: not a valid URL, expected dialect://user:password@host/database") from None
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url

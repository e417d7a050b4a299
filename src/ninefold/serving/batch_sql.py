"""Tables of SQL databases in chunks, by SQLAlchemy: typed as they are declared, and written whole or not at all."""

import os
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa

from ninefold.collection import Database, databases, plain
from ninefold.errors import DataError
from ninefold.serving.chunks import DatabaseTable, Tables, spooled

ZONED = pa.timestamp("us", "UTC")
ARROW = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    bytes: pa.binary(),
    date: pa.date32(),
    time: pa.time64("us"),
}


def read(place: str, source: DatabaseTable, rows: int) -> Tables:
    """Yield a table or a query of a SQL database or a SQLite file in chunks of at most `rows`, all by one statement.

    A table's columns have the types that it declares, or text. Columns of a query, and those to which SQLite gives no type,
    have the type of their values in the first chunk.
    """
    url = place if "://" in place else databases.sqlite_url(Path(place), source.where)
    with Database(url, source.where, key="") as database:
        declared: dict[str, pa.DataType | None] = {}
        if (query := source.query) is None:
            name = source.name or source.choose(database.tables())
            query, (schema, table) = database.select(name), database.find(name)
            with database.errors():
                columns = sa.inspect(database.engine).get_columns(table, schema=schema)
            dialect = database.engine.dialect.name
            declared = {each["name"]: _arrow_type(each["type"], dialect) for each in columns}
        with database.errors(), database.result(query) as result:
            names, described, done = list(result.keys()), result.cursor.description, 0
            types = [declared.get(name) for name in names]
            for part in result.partitions(rows):
                values = [list(column) for column in zip(*part, strict=True)]
                types = [kind or _inferred(*each) for kind, *each in zip(types, values, described, strict=True)]
                arrays = [_array(source.where, done, *each) for each in zip(names, values, types, strict=True)]
                done += len(part)
                yield pa.table(arrays, names)
            if not done:
                fields = [(name, kind or pa.string()) for name, kind in zip(names, types, strict=True)]
                yield pa.schema(fields).empty_table()


def write(place: str, target: DatabaseTable, tables: Tables) -> None:
    """Write tables to a table of a SQL database or SQLite file in one transaction (in MySQL a kill leaves a table)."""
    url = place if "://" in place else f"sqlite:///file:{quote(str(Path(place).absolute()))}?mode=rwc&uri=true"
    with Database(url, target.where, key="") as database:
        with database.errors("written"):
            inspector, (before, _, after) = sa.inspect(database.engine), target.name.partition(".")
            is_plain = not after or inspector.has_table(target.name) or before not in inspector.get_schema_names()
            schema, table = (None, target.name) if is_plain else (before, after)
            if exists := inspector.has_table(table, schema=schema):
                columns = [column["name"] for column in inspector.get_columns(table, schema=schema)]
                target.require_result(table in inspector.get_table_names(schema=schema), columns)
        database.engine.dispose()  # no server closes an idle connection meanwhile
        with spooled(tables) as rows, database.errors("written"), database.engine.connect() as connection:
            _replace(connection, sa.table(table, schema=schema), exists, rows)


def _replace(connection: sa.Connection, target: Any, exists: bool, rows: pa.RecordBatchReader) -> None:
    dialect = connection.dialect
    if dialect.name == "sqlite":  # its driver would begin no transaction before a CREATE
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    columns = [sa.Column(field.name, _sql_type(field.type, dialect.name)) for field in rows.schema]
    temporary = f"@{target.name[:40]}.{os.getpid()}"  # PostgreSQL cuts names after 63 bytes
    table = sa.Table(temporary, sa.MetaData(), *columns, schema=target.schema)
    mark = dialect.identifier_preparer
    try:
        table.create(connection)
        for batch in rows:
            _append(connection, table, batch)
        ready = connection.execution_options(no_parameters=True)
        if exists:
            ready.exec_driver_sql(f"DROP TABLE {mark.format_table(target)}")
        ready.exec_driver_sql(f"ALTER TABLE {mark.format_table(table)} RENAME TO {mark.quote_identifier(target.name)}")
        connection.commit()
    except BaseException:
        with suppress(sa.exc.SQLAlchemyError):
            connection.rollback()
            table.drop(connection, checkfirst=True)
            connection.commit()
        raise


def _arrow_type(kind: Any, dialect: str) -> pa.DataType | None:
    """Return the Arrow type of a declared one; None if each value has a type of its own."""
    types: dict[Any, Any] = {sa.Integer: pa.int64(), sa.Float: pa.float64(), sa.LargeBinary: pa.binary()}
    if dialect == "sqlite":  # which stores texts and numbers only, whatever was declared
        types |= {sa.Boolean: pa.int64(), sa.Numeric: None, sa.types.NullType: None}
    else:
        types |= {sa.Numeric: _decimal(getattr(kind, "precision", None), getattr(kind, "scale", None))}
        types |= {sa.DateTime: ZONED if getattr(kind, "timezone", False) else pa.timestamp("us")}
        types |= {sa.Boolean: pa.bool_(), sa.Date: pa.date32()}
    return next((arrow for each, arrow in types.items() if isinstance(kind, each)), pa.string())


def _decimal(precision: int | None, scale: int | None) -> pa.DataType:
    return pa.decimal128(precision, scale or 0) if precision and precision <= 38 else pa.string()


def _inferred(values: list[Any], described: tuple[Any, ...]) -> pa.DataType:
    """Return the type of values of a column that declares none: text, unless all are of one other kind."""
    kinds = {type(value) for value in values if value is not None}
    kinds -= {int} if float in kinds else set()
    kind = kinds.pop() if len(kinds) == 1 else str
    if kind is datetime:
        return ZONED if any(value is not None and value.tzinfo for value in values) else pa.timestamp("us")
    return _decimal(*described[4:6]) if kind is Decimal else ARROW.get(kind, pa.string())


def _array(where: str, first: int, name: str, values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array(_texts(values), kind)
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        if len(values) > 1:
            for row, value in enumerate(values):
                _array(where, first + row, name, [value], kind)
        raise DataError(
            f"{where}: row {first} (of the data, from 0), column {name!r}: found {values[0]!r}, expected {kind}, which "
            "the table declares or the rows before it have; fix it, or CAST the column in a --query"
        ) from None


def _sql_type(kind: pa.DataType, dialect: str) -> Any:
    """Return the type of a column in a SQL database; text where not all databases have one."""
    test = pa.types
    types: dict[Any, Any] = {test.is_boolean: sa.Boolean(), test.is_integer: sa.BigInteger()}
    types |= {test.is_floating: sa.Double(), test.is_binary: sa.LargeBinary()}
    if dialect != "sqlite":
        types[test.is_decimal] = sa.Numeric(getattr(kind, "precision", None), getattr(kind, "scale", None))
        types[test.is_timestamp] = sa.DateTime(timezone=getattr(kind, "tz", None) is not None)
        types[test.is_date] = sa.Date()
    return next((sql for is_kind, sql in types.items() if is_kind(kind)), sa.Text())


def _append(connection: sa.Connection, table: sa.Table, rows: pa.RecordBatch) -> None:
    """Add rows; PostgreSQL copies them, which is faster than to insert them."""
    columns = [
        _texts(array.to_pylist()) if isinstance(column.type, sa.Text) else array.to_pylist()
        for column, array in zip(table.columns, rows.columns, strict=True)
    ]
    values = list(zip(*columns, strict=True))
    if connection.dialect.name == "postgresql":
        driver = cast(Any, connection.connection.driver_connection)
        name = connection.dialect.identifier_preparer.format_table(table)
        with driver.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)
    elif values:
        connection.execute(table.insert(), [dict(zip(rows.schema.names, row, strict=True)) for row in values])


def _texts(values: list[Any]) -> list[Any]:
    return [value if value is None or type(value) is str else plain(value) for value in values]

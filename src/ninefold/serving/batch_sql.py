"""Tables of SQL databases in chunks, by SQLAlchemy: typed as they are declared, and written whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv

from ninefold.collection import Database, plain
from ninefold.errors import DataError
from ninefold.serving.chunks import Chunks, Put, TableSource, TableTarget, choose_table, spool

ZONED = pa.timestamp("us", "UTC")
TYPES = {sa.Integer: pa.int64(), sa.Boolean: pa.bool_(), sa.Float: pa.float64(), sa.LargeBinary: pa.binary()}
INFERRED = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({date}): pa.date32(),
    frozenset({time}): pa.time64("us"),
    frozenset({bytes}): pa.binary(),
}
NOT_OF_TYPE = (pa.ArrowException, TypeError, ValueError, OverflowError)


def read_sql(url: str, source: TableSource, rows: int) -> Chunks:
    """Yield a table or a query of a SQL database in chunks of at most `rows`, all by one statement.

    A table's columns have the types that it declares; text stands for what Arrow has no type for, numbers without a
    declared precision among them. Columns of a query, and those to which SQLite gives no type, have the type of their
    values in the first chunk.
    """
    with Database(url, source.where, key="") as database:
        query, declared, total = source.query, dict[str, pa.DataType | None](), 0
        if query is None:
            name = source.name or choose_table(source.where, None, database.tables())
            query = database.select(name)
            declared, total = _declared(database, name)
        with database.errors(), database.result(query) as result:
            names, described, done = list(result.keys()), result.cursor.description, 0
            types = [declared.get(name) for name in names]
            for part in result.partitions(rows):
                columns = [list(values) for values in zip(*part, strict=True)]
                types = [kind or _inferred(*each) for kind, *each in zip(types, columns, described, strict=True)]
                arrays = [
                    _array(values, kind, source.where, name, done)
                    for name, values, kind in zip(names, columns, types, strict=True)
                ]
                done += len(part)
                yield pa.table(arrays, names), min(done / total, 1.0) if total else None
            if not done:
                schema = [(name, kind or pa.string()) for name, kind in zip(names, types, strict=True)]
                yield pa.schema(schema).empty_table(), 1.0


@contextmanager
def write_sql(url: str, target: TableTarget) -> Iterator[Put]:
    """Give a function that appends rows; at the end one transaction writes all of them, in PostgreSQL by COPY.

    A database that commits each CREATE TABLE at once (MySQL, Oracle) keeps the table under its temporary name if the
    run is killed meanwhile.

    Raises
    ------
    DataError
        If the table exists and is no earlier result, or the database refuses.
    """
    with Database(url, target.where, key="") as database:
        with database.errors("written"), database.engine.connect() as connection:
            schema, name, exists = _find(connection, target)
        database.engine.dispose()  # no server closes an idle connection meanwhile
        with spool() as (put, rows):
            yield put
            with database.errors("written"), database.engine.connect() as connection:
                _replace(connection, sa.table(name, schema=schema), exists, rows())


def write_sqlite(file: Path, target: TableTarget) -> AbstractContextManager[Put]:
    """Return what `write_sql` does for a SQLite file, which may be new."""
    return write_sql(f"sqlite:///file:{quote(str(file.absolute()))}?mode=rwc&uri=true", target)


def _replace(connection: sa.Connection, target: Any, exists: bool, rows: pa.RecordBatchReader) -> None:
    """Write rows to a new table under a temporary name, which then takes the place of `target`."""
    dialect = connection.dialect
    if dialect.name == "sqlite":  # its driver would begin no transaction before a CREATE
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    types = [_sql_type(field.type, dialect.name) for field in rows.schema]
    columns = [sa.Column(name, kind) for name, kind in zip(rows.schema.names, types, strict=True)]
    temporary = f"@{target.name[:40]}.{os.getpid()}"  # PostgreSQL cuts names after 63 bytes
    table = sa.Table(temporary, sa.MetaData(), *columns, schema=target.schema)
    mark = dialect.identifier_preparer
    try:
        table.create(connection)
        for batch in rows:
            _append(connection, table, pa.Table.from_batches([batch]))
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


def _find(connection: sa.Connection, target: TableTarget) -> tuple[str | None, str, bool]:
    """Return the schema and the name of the table to write, and whether an earlier result is there."""
    inspector = sa.inspect(connection)
    schema, name = None, target.name
    before, dot, after = name.partition(".")
    if dot and after and not inspector.has_table(name) and before in inspector.get_schema_names():
        schema, name = before, after
    exists = inspector.has_table(name, schema=schema)
    if exists:
        columns = [column["name"] for column in inspector.get_columns(name, schema=schema)]
        target.require_result(name in inspector.get_table_names(schema=schema), columns)
    return schema, name, exists


def _declared(database: Database, name: str) -> tuple[dict[str, pa.DataType | None], int]:
    """Return the types of a table's columns, None where it declares none, and the number of its rows."""
    schema, table = database.find(name)
    with database.errors(), database.engine.connect() as connection:
        columns = sa.inspect(connection).get_columns(table, schema=schema)
        counted = sa.select(sa.func.count()).select_from(sa.table(table, schema=schema))
        total = connection.execute(counted).scalar_one()
    return {each["name"]: _arrow_type(each["type"], database.engine.dialect.name) for each in columns}, total


def _arrow_type(kind: Any, dialect: str) -> pa.DataType | None:
    """Return the Arrow type of a declared one; None if each value has a type of its own."""
    types: dict[Any, pa.DataType | None] = {**TYPES}
    if dialect == "sqlite":  # which stores texts and numbers only, whatever was declared
        types |= {sa.Boolean: pa.int64(), sa.Numeric: None, sa.types.NullType: None}
    else:
        types |= {
            sa.Numeric: _decimal(getattr(kind, "precision", None), getattr(kind, "scale", None)),
            sa.DateTime: ZONED if getattr(kind, "timezone", False) else pa.timestamp("us"),
            sa.Date: pa.date32(),
        }
    return next((arrow for each, arrow in types.items() if isinstance(kind, each)), pa.string())


def _decimal(precision: int | None, scale: int | None) -> pa.DataType:
    return pa.decimal128(precision, scale or 0) if precision and precision <= 38 else pa.string()


def _inferred(values: list[Any], described: tuple[Any, ...]) -> pa.DataType:
    """Return the type of values of a column that declares none: text, unless all are of one other kind."""
    kinds = frozenset(type(value) for value in values if value is not None)
    if kinds == {datetime}:
        return ZONED if any(value is not None and value.tzinfo for value in values) else pa.timestamp("us")
    if kinds == {Decimal}:
        return _decimal(*described[4:6])
    return INFERRED.get(kinds, pa.string())


def _array(values: list[Any], kind: pa.DataType, where: str, name: str, first: int) -> pa.Array:
    """Return values of a database as Arrow's; `first` is the number of rows before them."""
    if pa.types.is_string(kind):
        values = [value if value is None or type(value) is str else plain(value) for value in values]
    try:
        return pa.array(values, kind)
    except NOT_OF_TYPE:
        row = next(number for number, value in enumerate(values) if not _fits(value, kind))
        raise DataError(
            f"{where}: row {first + row} (of the data, from 0), column {name!r}: found {values[row]!r}, expected {kind}, "
            "which the table declares or the rows before it have; mend it, or CAST the column in a --query"
        ) from None


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except NOT_OF_TYPE:
        return False
    return True


def _sql_type(kind: pa.DataType, dialect: str) -> Any:
    """Return the type of a column in a SQL database; text where not all databases have one."""
    test = pa.types
    types = [
        (test.is_boolean, sa.Boolean()),
        (test.is_integer, sa.BigInteger()),
        (test.is_floating, sa.Double()),
        (test.is_binary, sa.LargeBinary()),
    ]
    if dialect != "sqlite":
        types += [
            (test.is_decimal, sa.Numeric(getattr(kind, "precision", None), getattr(kind, "scale", None))),
            (test.is_timestamp, sa.DateTime(timezone=getattr(kind, "tz", None) is not None)),
            (test.is_date, sa.Date()),
        ]
    return next((found for is_kind, found in types if is_kind(kind)), sa.Text())


def _append(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    texts = [isinstance(column.type, sa.Text) for column in table.columns]
    arrays = [_texts(column) if text else column for column, text in zip(rows.columns, texts, strict=True)]
    if connection.dialect.name == "postgresql":
        _copy(connection, connection.dialect.identifier_preparer.format_table(table), arrays)
    elif rows.num_rows:
        values = zip(*(array.to_pylist() for array in arrays), strict=True)
        connection.execute(table.insert(), [dict(zip(rows.column_names, row, strict=True)) for row in values])


def _copy(connection: sa.Connection, name: str, arrays: list[Any]) -> None:
    """Send rows to PostgreSQL as CSV: texts in quotes, so that an empty one is not taken for a missing one."""
    content = io.BytesIO()
    rows = pa.table([_copied(array) for array in arrays], [str(place) for place in range(len(arrays))])
    csv.write_csv(rows, content, csv.WriteOptions(include_header=False))
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv)") as copy:
        copy.write(content.getbuffer())


def _copied(array: Any) -> Any:
    if pa.types.is_binary(array.type):
        return pa.array([None if value is None else f"\\x{value.hex()}" for value in array.to_pylist()], pa.string())
    return array.cast(pa.string()) if pa.types.is_decimal(array.type) else array


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if value is None else plain(value) for value in column.to_pylist()], pa.string())

"""Tables of SQL databases in chunks, by SQLAlchemy: typed as they declare, and written whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import csv

from ninefold.core import databases
from ninefold.core.databases import Database
from ninefold.core.errors import DataError
from ninefold.core.tabular import plain
from ninefold.serving.batch_io import Chunks, Put

ZONED = pa.timestamp("us", "UTC")
INFERRED = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({date}): pa.date32(),
    frozenset({time}): pa.time64("us"),
    frozenset({bytes}): pa.binary(),
}


def read_sql(where: str, url: str, options: dict[str, Any], rows: int) -> Chunks:
    """Yield a table or a query of a SQL database in chunks, as `read_duckdb` does; all in one statement.

    A table's columns have the types that it declares; text stands for what Arrow has no type for, numbers without a declared
    precision among them. Those of a query, and of columns that SQLite gives no type, have that of the values of the first chunk.
    """
    with Database(url, where, key="") as database:
        query, declared, total = options.get("query"), dict[str, pa.DataType | None](), 0
        if query is None:
            name = options.get("table") or chosen(where, None, database.tables())
            query = database.select(name)
            declared, total = _declared(database, name)
        with database.errors(), database.result(query) as result:
            names, described, first = list(result.keys()), result.cursor.description, 0
            types = [declared.get(name) for name in names]
            for part in result.partitions(rows):
                columns = [list(values) for values in zip(*part, strict=True)]
                types = [kind or _inferred(*each) for kind, *each in zip(types, columns, described, strict=True)]
                arrays = [_array(*each, where, first) for each in zip(names, columns, types, strict=True)]
                first += len(part)
                yield pa.table(arrays, names), min(first / total, 1.0) if total else None
            if not first:
                schema = [(name, kind or pa.string()) for name, kind in zip(names, types, strict=True)]
                yield pa.schema(schema).empty_table(), 1.0


@contextmanager
def write_sql(where: str, url: str, name: str, answers: Collection[str]) -> Iterator[Put]:
    """Give what adds rows to a new table of a SQL database, as `write_duckdb` does; PostgreSQL takes them by COPY.

    Where a database keeps no CREATE TABLE back until the end of its transaction (MySQL, Oracle), a run that is killed leaves the
    table under its temporary name.
    """
    import sqlalchemy as sa

    with Database(url, where, key="") as database, _connected(database) as connection:
        mark, made = database.engine.dialect.identifier_preparer, None
        with database.errors("written"):
            schema, target, old = _place(where, connection, name, answers)

        def put(table: pa.Table) -> None:
            nonlocal made
            with database.errors("written"):
                table = _storable(table, connection.dialect.name)
                if made is None:
                    columns = [sa.Column(field.name, _sql_type(field.type)) for field in table.schema]
                    made = sa.Table(temporary(target), sa.MetaData(), *columns, schema=schema)
                    made.create(connection)
                _add(connection, made, table)

        try:
            yield put
            with database.errors("written"):
                ready = connection.execution_options(no_parameters=True)
                if old:
                    ready.exec_driver_sql(f"DROP TABLE {mark.format_table(sa.table(target, schema=schema))}")
                if made is not None:
                    renamed = f"{mark.format_table(made)} RENAME TO {mark.quote_identifier(target)}"
                    ready.exec_driver_sql(f"ALTER TABLE {renamed}")
                connection.commit()
        except BaseException:
            with suppress(sa.exc.SQLAlchemyError):
                connection.rollback()
                if made is not None:
                    made.drop(connection, checkfirst=True)
                    connection.commit()
            raise


def chosen(where: str, name: str | None, found: list[str]) -> str:
    """Return the table that is asked for, or the only one.

    Raises
    ------
    DataError
        Listing the tables, if it is not among them, or none is named where there are several.
    """
    if name is None and len(found) == 1:
        return found[0]
    if name is None:
        listed = ", ".join(found) or "(none)"
        raise DataError(f"{where}: names no table, expected {where}::TABLE, or --query; found the tables {listed}")
    if name not in found:
        raise databases.no_table(where, name, found, key="")
    return name


def demand_result(where: str, is_table: bool, found: list[str], answers: Collection[str]) -> None:
    """Demand that a table which is there already is an earlier result: only such a one is replaced."""
    if not is_table:
        raise DataError(f"{where}: is a view, expected a table; give another OUT")
    if lost := [name for name in answers if name not in found]:
        raise DataError(
            f"{where}: is there already and no earlier result, as it lacks {', '.join(lost)}; give another OUT, or drop it"
        )


def temporary(name: str) -> str:
    """Return the name under which a table is written."""
    return f"@{name[:40]}.{os.getpid()}"  # PostgreSQL cuts names after 63 bytes


def decoded(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, whose values differ from chunk to chunk."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, kinds, strict=True)))


@contextmanager
def _connected(database: Database) -> Iterator[Any]:
    with database.errors("written"):
        connection = database.engine.connect()
    with connection:
        with database.errors("written"):
            if connection.dialect.name == "sqlite":  # its driver would begin no transaction before a CREATE
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _place(where: str, connection: Any, name: str, answers: Collection[str]) -> tuple[str | None, str, bool]:
    """Return the schema and the name of the table to write, and whether an earlier result is there."""
    import sqlalchemy as sa

    looked = sa.inspect(connection)
    schema, table = None, name
    before, dot, after = name.partition(".")
    if dot and after and not looked.has_table(name) and before in looked.get_schema_names():
        schema, table = before, after
    old = looked.has_table(table, schema=schema)
    if old:
        found = [column["name"] for column in looked.get_columns(table, schema=schema)]
        demand_result(where, table in looked.get_table_names(schema=schema), found, answers)
    return schema, table, old


def _declared(database: Database, name: str) -> tuple[dict[str, pa.DataType | None], int]:
    """Return the types of a table's columns, None where it declares none, and the number of its rows."""
    import sqlalchemy as sa

    schema, table = database.find(name)
    with database.errors(), database.engine.connect() as connection:
        columns = sa.inspect(connection).get_columns(table, schema=schema)
        counted = sa.select(sa.func.count()).select_from(sa.table(table, schema=schema))
        total = connection.execute(counted).scalar_one()
    return {each["name"]: _arrow_type(each["type"], database.engine.dialect.name) for each in columns}, total


def _arrow_type(kind: Any, dialect: str) -> pa.DataType | None:
    """Return the Arrow type of a declared one; None if each value has a type of its own."""
    import sqlalchemy as sa

    if dialect == "sqlite":  # which stores texts and numbers only, whatever was declared
        known = {sa.Integer: pa.int64(), sa.Boolean: pa.int64(), sa.Float: pa.float64(), sa.LargeBinary: pa.binary()}
        known |= dict.fromkeys((sa.Numeric, sa.types.NullType))
    else:
        zoned = ZONED if getattr(kind, "timezone", False) else pa.timestamp("us")
        known = {sa.Integer: pa.int64(), sa.Boolean: pa.bool_(), sa.Float: pa.float64(), sa.LargeBinary: pa.binary()}
        known |= {
            sa.Numeric: _decimal(getattr(kind, "precision", None), getattr(kind, "scale", None)),
            sa.DateTime: zoned,
            sa.Date: pa.date32(),
        }
    return next((arrow for each, arrow in known.items() if isinstance(kind, each)), pa.string())


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


def _array(name: str, values: list[Any], kind: pa.DataType, where: str, first: int) -> pa.Array:
    """Return values of a database as Arrow's; `first` is the number of rows before them."""
    if pa.types.is_string(kind):
        values = [value if value is None or type(value) is str else plain(value) for value in values]
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        row = next(number for number, value in enumerate(values) if not _fits(value, kind))
        raise DataError(
            f"{where}: row {first + row} (of the data, from 0), column {name!r}: found {values[row]!r}, expected {kind}, "
            "which the table declares or the rows before it have; mend it, or CAST the column in a --query"
        ) from None


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _storable(table: pa.Table, dialect: str) -> pa.Table:
    """Return a table whose types every SQL database has; all else is text."""
    is_of = pa.types
    kept: tuple[Callable[[pa.DataType], bool], ...] = (
        is_of.is_boolean,
        is_of.is_integer,
        is_of.is_floating,
        is_of.is_binary,
    )
    if dialect != "sqlite":
        kept = (*kept, is_of.is_decimal, is_of.is_timestamp, is_of.is_date)
    columns = {}
    for name, column in zip(table.column_names, decoded(table).columns, strict=True):
        if any(test(column.type) for test in kept):
            columns[name] = column
        else:
            columns[name] = pa.array(
                [None if value is None else plain(value) for value in column.to_pylist()], pa.string()
            )
    return pa.table(columns)


def _sql_type(kind: pa.DataType) -> Any:
    import sqlalchemy as sa

    if pa.types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    known = {
        pa.types.is_boolean: sa.Boolean(), pa.types.is_integer: sa.BigInteger(), pa.types.is_floating: sa.Double(),
        pa.types.is_date: sa.Date(), pa.types.is_binary: sa.LargeBinary(),
    }  # fmt: skip
    return next((found for test, found in known.items() if test(kind)), sa.Text())


def _add(connection: Any, made: Any, table: pa.Table) -> None:
    names = table.column_names
    if connection.dialect.name == "postgresql":
        _copy(connection, connection.dialect.identifier_preparer.format_table(made), table)
    elif table.num_rows:
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        connection.execute(made.insert(), [dict(zip(names, row, strict=True)) for row in rows])


def _copy(connection: Any, name: str, table: pa.Table) -> None:
    """Send rows to PostgreSQL as CSV: texts in quotes, so that an empty one is not taken for a missing one."""
    arrays = [_copied(column) for column in table.columns]
    content = io.BytesIO()
    csv.write_csv(pa.table(arrays, table.column_names), content, csv.WriteOptions(include_header=False))
    with (
        connection.connection.driver_connection.cursor() as cursor,
        cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv)") as copy,
    ):
        copy.write(content.getbuffer())


def _copied(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_binary(column.type):
        return pa.array([None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()], pa.string())
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column

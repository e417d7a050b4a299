"""The engine behind Ibis, DuckDB or Spark; reads and writes folders of Parquet partitions.

The same expressions give equal results on both. Where the two differ is here, in `ninefold.spark` (which imports PySpark
when params ask for it) and in `ninefold.collection.datetimes`.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold import artifacts, engine_params, hooks, spark
from ninefold.engine_params import DUCKDB, PERIOD, ROW, SPARK, STAMP, ZONED, Params
from ninefold.errors import DataError
from ninefold.params import load, root

Span = tuple[pd.Timestamp, pd.Timestamp]


def connect(params: Params | None = None) -> ibis.BaseBackend:
    """Return the engine that section ``engine`` of ``params.yaml`` names, in UTC: a new DuckDB, or the Spark session.

    Raises `ParamsError` if Spark is named and not installed, or cannot start.
    """
    params = params or load("engine")
    if params.backend == SPARK:
        return spark.connect(params)
    limits = params.model_dump(include={"memory_limit", "threads"}, exclude_none=True)
    return ibis.duckdb.connect(temp_directory=str(root() / params.temp_folder), **limits)


def local() -> ibis.BaseBackend:
    """Return a new DuckDB in memory, in UTC, whatever engine the params name."""
    return ibis.duckdb.connect()  # which sets the time zone


def of(expression: ir.Expr) -> str:
    """Return the name of the engine of an expression; ``duckdb`` if it belongs to none."""
    try:
        return str(expression.get_backend().name)
    except ibis.IbisError:
        return DUCKDB


def identity(connection: ibis.BaseBackend) -> str:
    """Return the engine's name, its version, and the digest of the code of this module and its kin."""
    code = hooks.digest(sys.modules[__name__], engine_params, *([spark] if connection.name == SPARK else []))
    return f"{connection.name} {connection.version} {code}"


def read(connection: ibis.BaseBackend, name: str, numbered: bool = False) -> ibis.Table:
    """Return a folder of Parquet files as one lazy table; `numbered` as `scan` does.

    `name` is relative to the project's root. Raises `DataError` if the folder is missing or empty, or its files are damaged
    or differ in their columns.
    """
    folder = artifacts.pending(name)
    if not (files := parts(folder)):
        raise DataError(f"{name}: holds no Parquet file; run the stage that writes it with `dvc repro`")
    names = [set(artifacts.parquet_metadata(file).schema.to_arrow_schema().names) for file in files]
    for file, own in zip(files, names, strict=True):
        if differ := sorted(own ^ names[0]):
            where, first = (each.relative_to(folder) for each in (file, files[0]))
            raise DataError(f"{name}: {where} and {first} differ in their columns: {', '.join(differ)}")
    return scan(connection, files, numbered)


def scan(connection: ibis.BaseBackend, files: list[Path], numbered: bool = False) -> ibis.Table:
    """Return Parquet files of the same columns as one lazy table.

    If `numbered`, with ``@row``, the number of a row in its file (from 0), and ``@period``, the partition: ``2013-01`` for
    ``period=2013-01/`` and for ``2013-01.parquet``.
    """
    pattern = r"period=([^/\\]+)[/\\]" if files[0].parent.name.startswith("period=") else r"([^/\\]+)\.parquet$"
    if connection.name == SPARK:
        return spark.scan(connection, files, pattern if numbered else None)
    paths = [str(file) for file in files]
    if not numbered:
        return connection.read_parquet(paths, hive_partitioning=False)
    table = connection.read_parquet(paths, hive_partitioning=False, file_row_number=True, filename="@file")
    place = table["file_row_number"].name(ROW), table["@file"].re_extract(pattern, 1).name(PERIOD)
    return table.mutate(*place).drop("file_row_number", "@file")


def tables(connection: ibis.BaseBackend, name: str) -> dict[str, ibis.Table]:
    """Return every table of a folder such as ``data/lake``: a subfolder each, name to lazy Ibis table."""
    folders = sorted(folder for folder in artifacts.existing(name).iterdir() if folder.is_dir())
    return {folder.name: read(connection, f"{name}/{folder.name}") for folder in folders}


def table(connection: ibis.BaseBackend, rows: pd.DataFrame, period: str | None = None) -> ibis.Table:
    """Return a table in memory as a lazy one; with a period it has ``@row`` and ``@period``, as from `scan`."""
    if period is not None:
        rows = rows.copy()
        rows[ROW], rows[PERIOD] = range(len(rows)), period
    if connection.name == SPARK:
        return spark.table(connection, rows)
    return connection.create_table(ibis.util.gen_name("table"), rows)


def columns(table: ibis.Table) -> list[str]:
    """Return the columns of a table without ``@row`` and ``@period``."""
    return [name for name in table.columns if name not in (ROW, PERIOD)]


def local_time(time: ir.TimestampValue, zone: str) -> ir.TimestampValue:
    """Return times in UTC in the local time of a zone (an IANA name), by the engine's own time zone database."""
    if of(time) == SPARK:
        return _from_utc_timestamp(time.cast(STAMP), zone).cast(STAMP)
    return _timezone(zone, time.cast(ZONED))


@ibis.udf.scalar.builtin(name="timezone")  # type: ignore[untyped-decorator]
def _timezone(zone: str, time: ZONED) -> STAMP:
    """Return a time in a zone, without the zone (DuckDB)."""


@ibis.udf.scalar.builtin(name="from_utc_timestamp")  # type: ignore[untyped-decorator]
def _from_utc_timestamp(time: STAMP, zone: str) -> STAMP:
    """Return a time in UTC in a zone, without the zone (Spark)."""


def reads(expression: ir.Expr) -> set[str]:
    """Return the names of the engine's tables that an expression reads."""
    return {table.name for table in expression.op().find(ops.PhysicalTable)}


def row_by_row(expression: ibis.Table, sources: set[str]) -> bool:
    """Return whether each row of an expression depends on one row alone of the tables `sources`.

    False if these are aggregated, numbered, sorted, united, joined to themselves or queried in SQL, which cannot be
    analysed. If true, partitions can be computed one by one.
    """
    values = (ops.WindowFunction, ops.Reduction, ops.Analytic, ops.Subquery)
    tables = (ops.Aggregate, ops.Limit, ops.Sort, ops.Distinct, ops.Set, ops.Sample, ops.SQLStringView)
    gathering = [reads(node.to_expr()) for node in expression.op().find((*values, *tables))]
    if any(not below or below & sources for below in gathering):
        return False
    # A random number, for one. Ibis takes every function of the engine that it does not know for impure.
    if any(not isinstance(node, ops.ScalarUDF) for node in expression.op().find(ops.Impure)):
        return False
    joins = [(chain.first, *(link.table for link in chain.rest)) for chain in expression.op().find(ops.JoinChain)]
    return all(sum(bool(reads(side.to_expr()) & sources) for side in sides) <= 1 for sides in joins)


@contextmanager
def in_one_thread(connection: ibis.BaseBackend, enabled: bool) -> Iterator[None]:
    """Let DuckDB use one thread if `enabled`: several add rows of the same time in any order, and sums differ by it."""
    if not enabled or connection.name == SPARK:
        yield
        return
    before = connection.raw_sql("SELECT current_setting('threads')").fetchone()[0]
    connection.raw_sql("SET threads = 1")
    try:
        yield
    finally:
        connection.raw_sql(f"SET threads = {before}")


def settle(expression: ibis.Table) -> ibis.Table:
    """Return a table whose columns later expressions refer to by name.

    Ibis repeats the expression of a column wherever the column is used. DuckDB computes such repeats once; Spark does
    not, until the code it generates is too long to compile.
    """
    return spark.settle(expression) if of(expression) == SPARK else expression


def parts(folder: str | Path, period: str | None = None) -> list[Path]:
    """Return the Parquet files of a folder, or of one partition of it, sorted by name.

    `folder` is a name relative to the project's root, or a path: that of an earlier run's output, for one.
    """
    place = artifacts.pending(folder) if isinstance(folder, str) else folder
    return sorted((place if period is None else place / f"period={period}").rglob("*.parquet"))


def fingerprint(folder: str | Path, period: str) -> str:
    """Return the digest of the bytes of a partition; empty if it has no file."""
    sums = [artifacts.sha256(file) for file in parts(folder, period)]
    return hashlib.sha256("".join(sums).encode()).hexdigest() if len(sums) > 1 else "".join(sums)


def periods(name: str) -> list[str]:
    """Return the partitions of a folder that `write` wrote, in order."""
    return sorted(folder.name.removeprefix("period=") for folder in artifacts.pending(name).glob("period=*"))


def span(name: str, period: str, column: str) -> Span | None:
    """Return the first and last value of a column of times in a partition, from the file footers; None without rows."""
    times: list[pd.Timestamp] = []
    for file in parts(name, period):
        footer = artifacts.parquet_metadata(file)
        index = footer.schema.to_arrow_schema().get_field_index(column)
        groups = (footer.row_group(number).column(index).statistics for number in range(footer.num_row_groups))
        known = [group for group in groups if group and group.has_min_max]
        times += [pd.Timestamp(time) for group in known for time in (group.min, group.max)]
    return (min(times), max(times)) if times else None


def count(name: str, period: str | None = None) -> int:
    """Return the number of rows in a folder of Parquet files, or in one partition of it, from their footers."""
    return sum(artifacts.parquet_metadata(file).num_rows for file in parts(name, period))


def write(table: ibis.Table, folder: Path, order_by: list[str], periods: Iterable[str]) -> None:
    """Write some partitions of a table into its folder, ``period=2013-01/part-0.parquet`` and so on; results repeat.

    Its column ``@period`` names the partition, and is not stored; one without rows gets a file with the columns alone.
    `order_by` fixes the order of the rows, as several threads would write in any order. DuckDB streams its rows in batches
    into one file per partition, with the same bytes at each run. Spark writes all at once, in as many files as it has tasks.
    """
    schema = pa.schema([field.with_nullable(True) for field in table.drop(PERIOD).schema().to_pyarrow()])
    on_spark = of(table) == SPARK
    if on_spark:
        spark.write(table, folder, order_by)
    for period in periods:
        place = folder / f"period={period}"
        if on_spark and place.exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        rows = table.filter(table[PERIOD] == period).drop(PERIOD).order_by(order_by)
        with pq.ParquetWriter(place / "part-0.parquet", schema, compression="zstd") as writer:
            if on_spark:  # which writes no file without rows
                continue
            # Ibis 12's own way to batches asks for a method that DuckDB 2 no longer has.
            for batch in rows.get_backend().con.sql(ibis.to_sql(rows, dialect="duckdb")).to_arrow_reader():
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))


def carry(name: str, periods: Iterable[str]) -> None:
    """Add partitions of an earlier run to the pending output, as links to the same files where the disk has links."""
    for period in periods:
        for file in parts(artifacts.path(name), period):
            target = artifacts.pending(name) / f"period={period}" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            artifacts.link(file, target)

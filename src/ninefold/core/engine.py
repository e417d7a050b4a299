"""The engine behind Ibis: DuckDB, embedded, or Spark; reads and writes folders of Parquet partitions.

The same expressions run on both, with equal results. What the two do not share stands here and in `texts`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ninefold.core import io
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.params import Section, load, root

DUCKDB, SPARK = "duckdb", "pyspark"
ROW, PERIOD = "@row", "@period"
STAMP = dt.Timestamp(scale=6)
GROUP = 1_048_576  # rows of a row group
Span = tuple[pd.Timestamp, pd.Timestamp]


class Spark(Section):
    """Where Spark runs, and its own settings."""

    master: str = "local[*]"
    conf: dict[str, str | int | float | bool] = Field(default_factory=dict)


class Params(Section):
    """Section ``engine`` of ``params.yaml``."""

    backend: Literal["duckdb", "pyspark"] = "duckdb"
    memory_limit: str | None = Field(default=None, pattern=r"^\d+(\.\d+)? ?[MG]i?B$")
    threads: int | None = Field(default=None, ge=1)
    temp_folder: str = "data/.temp"
    spark: Spark = Spark()


def connect(params: Params | None = None) -> ibis.BaseBackend:
    """Return the engine that section ``engine`` of ``params.yaml`` names, in UTC: a fresh DuckDB, or the Spark session.

    Raises
    ------
    ParamsError
        If Spark is asked for and not installed, or cannot start.
    """
    params = params or load("engine")
    return _spark(params) if params.backend == SPARK else local(params)


def local(params: Params | None = None) -> ibis.BaseBackend:
    """Return a fresh DuckDB in memory, in UTC: for small tables, whatever engine the params name."""
    engine = ibis.duckdb.connect()
    engine.raw_sql("SET TimeZone = 'UTC'")
    if params:
        engine.raw_sql(f"SET temp_directory = '{root() / params.temp_folder}'")
        if params.memory_limit:
            engine.raw_sql(f"SET memory_limit = '{params.memory_limit}'")
        if params.threads:
            engine.raw_sql(f"SET threads = {params.threads}")
    return engine


def of(expression: ir.Expr) -> str:
    """Return the name of the engine that an expression belongs to; of one that belongs to none, DuckDB."""
    try:
        return expression.get_backend().name
    except ibis.IbisError:
        return DUCKDB


def identity(connection: ibis.BaseBackend) -> str:
    """Return the engine's name and version, such as ``duckdb 2.0.0``."""
    return f"{connection.name} {connection.version}"


def read(
    connection: ibis.BaseBackend, name: str, periods: Iterable[str] | None = None, numbered: bool = False
) -> ibis.Table:
    """Return a folder of Parquet files as one lazy Ibis table.

    Parameters
    ----------
    connection : BaseBackend
    name : str
        The folder, relative to the project's root.
    periods : iterable of str, optional
        Only these partitions; default: all.
    numbered : bool
        Add ``@row`` and ``@period``, as `scan` does.

    Raises
    ------
    DataError
        If the folder is missing, empty, or its files are damaged or differ in their columns.
    """
    place = io.pending(name)
    files = parts(name) if periods is None else [file for one in periods for file in parts(name, one)]
    if not files:
        raise DataError(f"{name}: holds no Parquet file; run the stage that writes it with `dvc repro`")
    found = [set(io.parquet_metadata(file).schema.to_arrow_schema().names) for file in files]
    for file, columns in zip(files, found, strict=True):
        if differ := sorted(columns ^ found[0]):
            where, first = (one.relative_to(place) for one in (file, files[0]))
            raise DataError(f"{name}: {where} and {first} differ in their columns: {', '.join(differ)}")
    return scan(connection, files, numbered)


def scan(connection: ibis.BaseBackend, files: list[Path], numbered: bool = False) -> ibis.Table:
    """Return Parquet files of the same columns as one lazy table.

    Parameters
    ----------
    connection : BaseBackend
    files : list of Path
    numbered : bool
        Add ``@row``, the place of a row in its file (from 0), and ``@period``, the partition: of ``period=2013-01/`` and of
        ``2013-01.parquet`` both ``2013-01``.
    """
    paths = [str(file) for file in files]
    if connection.name != SPARK:
        options = {"file_row_number": True, "filename": "@file"} if numbered else {}
        table = connection.read_parquet(paths, hive_partitioning=False, **options)
        if not numbered:
            return table
        period = table["@file"].re_extract(_named(files), 1)
        return table.mutate(**{ROW: table["file_row_number"], PERIOD: period}).drop("file_row_number", "@file")
    frame = _session().read.parquet(*paths)
    if numbered:
        from pyspark.sql import functions

        period = functions.regexp_extract(functions.url_decode("_metadata.file_path"), _named(files), 1)
        frame = frame.select("*", functions.col("_metadata.row_index").alias(ROW), period.alias(PERIOD))
    return _view(connection, frame)


def tables(connection: ibis.BaseBackend, name: str) -> dict[str, ibis.Table]:
    """Return every table of a folder such as ``data/lake``: a subfolder each, name to lazy Ibis table."""
    place = io.pending(name)
    if not place.is_dir():
        raise DataError(f"{name}: not found; run the stages before this one with `dvc repro`")
    folders = sorted(folder for folder in place.iterdir() if folder.is_dir())
    return {folder.name: read(connection, f"{name}/{folder.name}") for folder in folders}


def table(connection: ibis.BaseBackend, rows: pd.DataFrame, period: str | None = None) -> ibis.Table:
    """Return a table in memory as a lazy one; with a period it is numbered, as by `scan`."""
    if period is not None:
        rows = rows.assign(**{ROW: range(len(rows)), PERIOD: period})
    if connection.name != SPARK:
        return connection.create_table(ibis.util.gen_name("table"), rows)
    return _view(connection, _session().createDataFrame(pa.Table.from_pandas(rows, preserve_index=False)))


def columns(table: ibis.Table) -> list[str]:
    """Return the columns of a table but those that tell where its rows lie."""
    return [name for name in table.columns if name not in (ROW, PERIOD)]


def microseconds(time: ir.TimestampValue) -> ir.IntegerValue:
    """Return times as whole microseconds since 1970-01-01 (int64)."""
    return time.cast(STAMP).delta(ibis.timestamp("1970-01-01"), unit="microsecond")


def interval(span: pd.Timedelta) -> ir.IntervalScalar:
    """Return a span of whole seconds as the engine adds it to times."""
    return ibis.interval(seconds=int(span.total_seconds()))


def reads(expression: ir.Expr) -> set[str]:
    """Return the names of the tables of the engine that an expression reads."""
    return _reads(expression.op())


def row_by_row(expression: ibis.Table, of_rows: set[str]) -> bool:
    """Return whether each row of an expression is made of one row alone of the tables `of_rows`.

    So it is where these are neither aggregated, numbered, sorted, united, joined to themselves nor asked in SQL, which
    cannot be seen into: their rows may then be taken in parts.
    """
    values = (ops.WindowFunction, ops.Reduction, ops.Analytic, ops.Subquery)
    tables = (ops.Aggregate, ops.Limit, ops.Sort, ops.Distinct, ops.Set, ops.Sample, ops.SQLStringView)
    touched = [node for node in expression.op().find((*values, *tables)) if not _reads(node) or _reads(node) & of_rows]
    # A random number, for one. Ibis takes every function of the engine for impure that it does not know itself.
    touched += [node for node in expression.op().find(ops.Impure) if not isinstance(node, ops.ScalarUDF)]
    sides = [(chain.first, *(link.table for link in chain.rest)) for chain in expression.op().find(ops.JoinChain)]
    return not touched and all(sum(bool(_reads(side) & of_rows) for side in joined) <= 1 for joined in sides)


def keep(expression: ibis.Table) -> ibis.Table:
    """Return a table computed once, held by the engine, which spills to disk what memory cannot hold."""
    return expression.cache()


@contextmanager
def in_one_thread(connection: ibis.BaseBackend, wanted: bool) -> Iterator[None]:
    """Let DuckDB use one thread, if so wanted: several add up rows of the same moment in any order, and sums differ by it."""
    if not wanted or connection.name == SPARK:
        yield
        return
    before = connection.raw_sql("SELECT current_setting('threads')").fetchone()[0]
    connection.raw_sql("SET threads = 1")
    try:
        yield
    finally:
        connection.raw_sql(f"SET threads = {before}")


def settle(expression: ibis.Table) -> ibis.Table:
    """Return a table whose columns later expressions take by name.

    Ibis would put what a column is made of into each place that names it. DuckDB finds such repeats and computes them
    once; Spark does not, until the code that it writes for them is too long to compile.
    """
    if of(expression) != SPARK:
        return expression
    return _view(expression.get_backend(), _session().sql(ibis.to_sql(expression, dialect="pyspark")))


def parts(name: str, period: str | None = None) -> list[Path]:
    """Return the Parquet files of a folder, or of one partition of it, in the order of their names."""
    return parts_of(io.pending(name), period)


def parts_of(folder: Path, period: str | None = None) -> list[Path]:
    """Return the same of a folder by its path: of that which an earlier run left, for one."""
    return sorted((folder if period is None else folder / _partition(period)).rglob("*.parquet"))


def fingerprint(name: str, period: str) -> str:
    """Return the digest of the bytes of a partition, empty if it has no file."""
    return fingerprint_of(io.pending(name), period)


def fingerprint_of(folder: Path, period: str) -> str:
    """Return the same of a folder by its path."""
    sums = [io.sha256(file) for file in parts_of(folder, period)]
    if len(sums) < 2:
        return "".join(sums)
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def periods(name: str) -> list[str]:
    """Return the partitions of a folder that `write` wrote, in order."""
    place = io.pending(name)
    return sorted(folder.name.removeprefix("period=") for folder in place.glob("period=*")) if place.is_dir() else []


def span(name: str, period: str, column: str) -> Span | None:
    """Return the first and the last value of a column of times in a partition, from the feet of its files; None of no rows."""
    ends = []
    for file in parts(name, period):
        foot = io.parquet_metadata(file)
        place = foot.schema.to_arrow_schema().get_field_index(column)
        found = [foot.row_group(number).column(place).statistics for number in range(foot.num_row_groups)]
        ends += [end for one in found if one is not None and one.has_min_max for end in (one.min, one.max)]
    stamps = [pd.Timestamp(end) for end in ends]
    return (min(stamps), max(stamps)) if stamps else None


def count(name: str, period: str | None = None) -> int:
    """Return the number of rows in a folder of Parquet files, or in one partition of it, from their footers."""
    return sum(io.parquet_metadata(file).num_rows for file in parts(name, period))


def write(table: ibis.Table, folder: Path, order_by: list[str], periods: Iterable[str]) -> None:
    """Write partitions, ``period=2013-01/part-0.parquet`` and so on, in a fixed order of rows, so that results repeat.

    DuckDB hands its rows over in batches, so that no more than a few of them are in memory; a file per partition, the
    same bytes at each run. Spark writes all partitions at once, in as many files as it has tasks.

    Parameters
    ----------
    table : ibis.Table
        What to write; its column ``@period`` names the partition, and is not stored.
    folder : Path
        Of the whole table; written whole by the caller's `io.output`.
    order_by : list of str
        Columns that fix the order of the rows; several threads would write in any order.
    periods : iterable of str
        The partitions to write; of one without rows a file with the columns alone.
    """
    stored = table.drop(PERIOD).schema().to_pyarrow()
    schema = pa.schema([field.with_nullable(True) for field in stored])
    spark = of(table) == SPARK
    if spark:
        _write_spark(table, folder, order_by)
    for period in periods:
        place = folder / _partition(period)
        if spark and place.exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        rows = table.filter(table[PERIOD] == period).drop(PERIOD).order_by(order_by)
        with pq.ParquetWriter(place / "part-0.parquet", schema, compression="zstd") as writer:
            for batch in () if spark else _grouped(_batches(rows), schema):  # of no rows Spark writes nothing
                writer.write_table(batch, row_group_size=GROUP)


def carry(name: str, periods: Iterable[str]) -> None:
    """Put partitions of an earlier run into the pending output, as links to the same files where the disk has links."""
    for period in periods:
        source, target = io.path(name) / _partition(period), io.pending(name) / _partition(period)
        if not source.is_dir():
            continue
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(source.glob("*.parquet")):
            io.link(file, target / file.name)


def asof_join(left: ibis.Table, right: ibis.Table, keys: dict[str, str], moment: str, time: str) -> ibis.Table:
    """Join to each row of `left` the newest row of `right` with the same keys, at or before its moment.

    Parameters
    ----------
    left, right : ibis.Table
        Without a column of the same name. `right` has one row for each of its keys and `time`.
    keys : dict of str to str
        Columns of `left` -> of `right`.
    moment, time : str
        The column of time in `left` and in `right`.
    """
    if of(left) != SPARK:
        same = [left[mine] == right[theirs] for mine, theirs in keys.items()]
        return left.asof_join(right, on=left[moment] >= right[time], predicates=same)
    # Spark has no such join: each row of `right` holds from its time to the next one's.
    until = right[time].lead().over(group_by=list(keys.values()), order_by=time)
    spans = right.mutate(**{"@until": until})
    same = [left[mine] == spans[theirs] for mine, theirs in keys.items()]
    open_end = spans["@until"].isnull() | (left[moment] < spans["@until"])
    return left.left_join(spans, [*same, left[moment] >= spans[time], open_end]).drop("@until")


def _reads(node: ops.Node) -> set[str]:
    return {found.name for found in node.find(ops.PhysicalTable)}


def taken(values: ir.NumericValue, how: str) -> ir.NumericValue:
    """Return the ``mean``, ``sum``, ``count``, ``min``, ``max`` or ``std`` (n - 1) of values, passing over missing ones."""
    return values.std(how="sample") if how == "std" else getattr(values, how)()


def over_past(
    values: ir.NumericValue, how: str, by: list[str], time: ir.TimestampValue, window: tuple[pd.Timedelta, pd.Timedelta]
) -> ir.NumericValue:
    """Return for each row what `how` takes of the values of rows with the same `by` in ``[time - start, time - end]``.

    Parameters
    ----------
    values : NumericValue
    how : str
        See `taken`.
    by : list of str
    time : TimestampValue
    window : pair of Timedelta
        ``start`` and ``end``.
    """
    start, end = window
    if of(values) == SPARK and how in ("mean", "sum", "count") and (values.type().is_integer() or how == "count"):
        return _by_difference(values, how, by, time, window)
    span = ibis.range_window(preceding=(interval(start), interval(end)), group_by=by, order_by=time)
    return taken(values, how).over(span)


def _by_difference(
    values: ir.NumericValue, how: str, by: list[str], time: ir.TimestampValue, window: tuple[pd.Timedelta, pd.Timedelta]
) -> ir.NumericValue:
    """Return the same for whole numbers, exactly: Spark goes over a window anew for each row, but adds up a past once."""
    micros = microseconds(time)
    start, end = (int(side / pd.Timedelta("1us")) for side in window)
    until = ibis.range_window(preceding=(None, end), group_by=by, order_by=micros)
    older = ibis.range_window(preceding=(None, start + 1), group_by=by, order_by=micros)
    count = values.count().over(until) - values.count().over(older)
    if how == "count":
        return count
    total = values.sum().over(until).fill_null(0) - values.sum().over(older).fill_null(0)
    held = ibis.cases((count > 0, total))
    return held if how == "sum" else held.cast("float64") / count


def _partition(period: str) -> str:
    return f"period={period}"


def _named(files: list[Path]) -> str:
    return r"period=([^/\\]+)[/\\]" if files[0].parent.name.startswith("period=") else r"([^/\\]+)\.parquet$"


def _batches(table: ibis.Table) -> Iterator[pa.RecordBatch]:
    # Ibis 12's own way to batches asks for a method that DuckDB 2 no longer has.
    yield from table.get_backend().con.sql(ibis.to_sql(table, dialect="duckdb")).to_arrow_reader(GROUP)


def _grouped(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows in tables of `GROUP` rows, the last shorter, so that the size of the batches leaves no trace."""
    held: list[pa.Table] = []
    waiting = 0
    for batch in batches:
        part = pa.Table.from_batches([batch]).cast(schema)
        while waiting + part.num_rows >= GROUP:
            yield pa.concat_tables([*held, part.slice(0, GROUP - waiting)])
            part, held, waiting = part.slice(GROUP - waiting), [], 0
        held, waiting = [*held, part], waiting + part.num_rows
    if waiting:
        yield pa.concat_tables(held)


def _write_spark(table: ibis.Table, folder: Path, order_by: list[str]) -> None:
    from pyspark.sql import functions

    frame = _session().sql(ibis.to_sql(table.order_by([PERIOD, *order_by]), dialect="pyspark"))
    stamps = [name for name, kind in table.schema().items() if kind.is_timestamp()]
    frame = frame.withColumns({name: functions.col(f"`{name}`").cast("timestamp_ntz") for name in stamps})
    written = folder / ".spark"
    frame.write.mode("overwrite").option("compression", "zstd").partitionBy(PERIOD).parquet(str(written))
    for partition in written.glob(f"{PERIOD}=*"):
        place = folder / _partition(unquote(partition.name.removeprefix(f"{PERIOD}=")))
        place.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(sorted(partition.glob("part-*.parquet"))):
            os.replace(file, place / f"part-{number}.parquet")
    shutil.rmtree(written)


def _session() -> Any:
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    assert session is not None, "connect() starts the session"
    return session


def _view(connection: ibis.BaseBackend, frame: Any) -> ibis.Table:
    name = ibis.util.gen_name("view")
    frame.createOrReplaceTempView(name)
    return connection.table(name)


def _spark(params: Params) -> ibis.BaseBackend:
    where = "params.yaml: engine.backend: found pyspark"
    instead = "or set engine.backend: duckdb"
    try:
        import pyspark
        from pyspark.sql import SparkSession
    except ImportError:
        raise ParamsError(f"{where}, which is not installed; run `make spark`, {instead}") from None
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java", path=f"{home}/bin" if home else None):
        looked = f"JAVA_HOME ({home})" if home else "the PATH"
        raise ParamsError(
            f"{where}, which needs Java 17 or newer; found none on {looked}; install it, such as "
            f"`apt install openjdk-17-jre-headless`, {instead}"
        )
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    temp = root() / params.temp_folder
    temp.mkdir(parents=True, exist_ok=True)
    conf: dict[str, Any] = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": f"{temp}/warehouse",
        "spark.local.dir": str(temp),
        "spark.sql.execution.arrow.pyspark.enabled": True,
        "spark.ui.showConsoleProgress": False,
        "spark.log.level": "ERROR",
    }
    if params.spark.master.startswith("local"):
        conf |= {"spark.ui.enabled": False, "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
        conf |= {"spark.sql.shuffle.partitions": 8}
        if params.memory_limit:
            conf["spark.driver.memory"] = _java_size(params.memory_limit)
    conf |= params.spark.conf
    builder = SparkSession.builder.master(params.spark.master).appName("ninefold")
    for key, value in conf.items():
        builder = builder.config(key, value)
    try:
        connection = ibis.pyspark.connect(builder.getOrCreate())
    except Exception as error:  # the gateway, Java and Spark raise their own
        first = str(error).strip().splitlines()[0]
        raise ParamsError(
            f"{where} {pyspark.__version__}, which did not start with master {params.spark.master} ({first}); see "
            f"what Java printed above, mend engine.spark, {instead}"
        ) from None
    return connection


def _java_size(limit: str) -> str:
    """Return a size, such as 4GB or 512MiB, as Java takes it: in whole megabytes."""
    size = float(limit.rstrip("GMiB ")) * (1024 if "G" in limit else 1)
    return f"{int(size)}m"

"""What only Spark needs: the session, reading, writing, and what it lacks of DuckDB; PySpark is imported when params ask for it."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from ninefold.engine_params import PERIOD, ROW, Params, microseconds
from ninefold.errors import ParamsError
from ninefold.params import root
from ninefold.sentences import render


def connect(params: Params) -> ibis.BaseBackend:
    """Start the Spark session, or return the active one; see `ninefold.engine.connect`."""
    try:
        import pyspark
        from pyspark.sql import SparkSession
    except ImportError:
        raise ParamsError(render("spine", "no_spark")) from None
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java", path=f"{home}/bin" if home else None):
        raise ParamsError(render("spine", "no_java", home=home))
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(params.spark.master).appName("ninefold").config(map=_settings(params))
    try:
        return ibis.pyspark.connect(builder.getOrCreate())
    except Exception as error:  # the gateway, Java and Spark raise their own
        facts = {"version": pyspark.__version__, "first": str(error).strip().splitlines()[0]}
        raise ParamsError(render("spine", "no_session", master=params.spark.master, **facts)) from None


def _settings(params: Params) -> dict[str, Any]:
    temp = root() / params.temp_folder
    temp.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"spark.local.dir": str(temp), "spark.sql.warehouse.dir": f"{temp}/warehouse"}
    settings |= {"spark.sql.session.timeZone": "UTC", "spark.sql.execution.arrow.pyspark.enabled": True}
    settings |= {"spark.ui.showConsoleProgress": False, "spark.log.level": "ERROR"}
    if params.spark.master.startswith("local"):
        settings |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
        settings |= {"spark.ui.enabled": False, "spark.sql.shuffle.partitions": 8}
        if params.memory_limit:
            settings["spark.driver.memory"] = java_size(params.memory_limit)
    return settings | params.spark.conf


def java_size(limit: str) -> str:
    """Return a size such as 4GB or 512MiB in whole megabytes, as Java reads it."""
    return f"{int(float(limit.rstrip('GMiB ')) * (1024 if 'G' in limit else 1))}m"


def session() -> Any:
    """Return the active Spark session."""
    from pyspark.sql import SparkSession

    return SparkSession.active()


def scan(connection: ibis.BaseBackend, files: list[Path], pattern: str | None) -> ibis.Table:
    """Return Parquet files as a lazy table; with a pattern of the period in a path, with ``@row`` and ``@period``."""
    from pyspark.sql import functions

    frame = session().read.parquet(*map(str, files))
    if pattern is not None:
        period = functions.regexp_extract(functions.url_decode("_metadata.file_path"), pattern, 1)
        frame = frame.select("*", functions.col("_metadata.row_index").alias(ROW), period.alias(PERIOD))
    return _view(connection, frame)


def table(connection: ibis.BaseBackend, rows: pd.DataFrame) -> ibis.Table:
    """Return a table in memory as a lazy one."""
    return _view(connection, session().createDataFrame(pa.Table.from_pandas(rows, preserve_index=False)))


def settle(expression: ibis.Table) -> ibis.Table:
    """Return a table as a view; see `ninefold.engine.settle`."""
    return _view(expression.get_backend(), session().sql(ibis.to_sql(expression, dialect="pyspark")))


def write(table: ibis.Table, folder: Path, order_by: list[str]) -> None:
    """Write the partitions that have rows; see `ninefold.engine.write`."""
    from pyspark.sql import functions

    frame = session().sql(ibis.to_sql(table.order_by([PERIOD, *order_by]), dialect="pyspark"))
    times = [name for name, kind in table.schema().items() if kind.is_timestamp()]
    frame = frame.withColumns({name: functions.col(f"`{name}`").cast("timestamp_ntz") for name in times})
    temporary = folder / ".spark"
    frame.write.mode("overwrite").option("compression", "zstd").partitionBy(PERIOD).parquet(str(temporary))
    for partition in temporary.glob(f"{PERIOD}=*"):
        place = folder / f"period={unquote(partition.name.removeprefix(f'{PERIOD}='))}"
        place.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(sorted(partition.glob("part-*.parquet"))):
            os.replace(file, place / f"part-{number}.parquet")
    shutil.rmtree(temporary)


def asof_join(left: ibis.Table, right: ibis.Table, keys: dict[str, str], on: tuple[str, str]) -> ibis.Table:
    """Join the newest row at or before a time; Spark has no such join. See `ninefold.features.events`."""
    moment, time = on
    until = right[time].lead().over(group_by=list(keys.values()), order_by=time)
    spans = right.mutate(until.name("@until"))  # each row holds from its time to the next one's
    same = [left[mine] == spans[theirs] for mine, theirs in keys.items()]
    before_end = spans["@until"].isnull() | (left[moment] < spans["@until"])
    return left.left_join(spans, [*same, left[moment] >= spans[time], before_end]).drop("@until")


def over_past(
    values: ir.NumericValue, how: str, by: list[str], time: ir.TimestampValue, window: tuple[pd.Timedelta, pd.Timedelta]
) -> ir.NumericValue:
    """Return ``mean``, ``sum`` or ``count`` of whole numbers as differences of running sums, which are exact.

    Spark computes a window again for each row, but a running sum once. See `ninefold.features.events`.
    """
    micros = microseconds(time)
    start, end = (int(side / pd.Timedelta("1us")) for side in window)
    until = ibis.range_window(preceding=(None, end), group_by=by, order_by=micros)
    before = ibis.range_window(preceding=(None, start + 1), group_by=by, order_by=micros)
    count = values.count().over(until) - values.count().over(before)
    if how == "count":
        return count
    total = values.sum().over(until).fill_null(0) - values.sum().over(before).fill_null(0)
    total = ibis.cases((count > 0, total))
    return total if how == "sum" else total.cast("float64") / count


def _view(connection: ibis.BaseBackend, frame: Any) -> ibis.Table:
    name = ibis.util.gen_name("view")
    frame.createOrReplaceTempView(name)
    return connection.table(name)

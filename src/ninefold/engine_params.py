"""Section ``engine`` of ``params.yaml``, and the names that DuckDB and Spark share."""

from typing import Literal

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from pydantic import Field

from ninefold.params import Section

DUCKDB, SPARK = "duckdb", "pyspark"
ROW, PERIOD = "@row", "@period"
STAMP = dt.Timestamp(scale=6)
ZONED = dt.Timestamp(timezone="UTC", scale=6)


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


def microseconds(time: ir.TimestampValue) -> ir.IntegerValue:
    """Return times as whole microseconds since 1970-01-01 (int64)."""
    return time.cast(STAMP).delta(ibis.timestamp("1970-01-01"), unit="microsecond")

"""The engine behind Ibis: DuckDB, embedded; reads and writes folders of Parquet partitions."""

from __future__ import annotations

from pathlib import Path

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold.core import io
from ninefold.core.errors import DataError
from ninefold.core.moments import MICROSECONDS

STAMP = dt.Timestamp(scale=6)
ZONED = dt.Timestamp(timezone="UTC", scale=6)
UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "seconds": 1_000_000, "days": MICROSECONDS}  # in microseconds
FORMATS = ("iso", *UNITS, "year")


@ibis.udf.scalar.builtin
def trim(text: str) -> str:  # type: ignore[empty-body]
    """Return a text without spaces at its ends (DuckDB's own, which is four times as fast as Ibis's `strip`)."""


@ibis.udf.scalar.builtin
def try_strptime(text: str, format: str) -> STAMP:  # type: ignore[valid-type]
    """Return the time that a text holds in a format, or null (DuckDB)."""


@ibis.udf.scalar.builtin(name="try_strptime")
def try_strptime_zoned(text: str, format: str) -> ZONED:  # type: ignore[valid-type]
    """Return the time that a text holds in a format with an offset (``%z``), or null (DuckDB)."""


@ibis.udf.scalar.builtin
def make_timestamp(microseconds: int) -> STAMP:  # type: ignore[valid-type]
    """Return the time so many microseconds after 1970 (DuckDB)."""


@ibis.udf.scalar.builtin
def make_date(year: int, month: int, day: int) -> dt.Date:
    """Return the day of a calendar date (DuckDB)."""


def connect() -> ibis.BaseBackend:
    """Return a fresh engine: DuckDB in memory, in UTC."""
    engine = ibis.duckdb.connect()
    engine.raw_sql("SET TimeZone = 'UTC'")
    return engine


def read(engine: ibis.BaseBackend, name: str) -> ibis.Table:
    """Return a folder of Parquet files as one lazy Ibis table.

    Raises
    ------
    DataError
        If the folder is missing, empty, or its files are damaged or differ in their columns.
    """
    place = io.pending(name)
    files = sorted(str(file) for file in place.rglob("*.parquet"))
    if not files:
        raise DataError(f"{name}: holds no Parquet file; run the stage that writes it with `dvc repro`")
    found = [set(io.parquet_metadata(Path(file)).schema.to_arrow_schema().names) for file in files]
    for file, columns in zip(files, found, strict=True):
        if differ := sorted(columns ^ found[0]):
            where, first = (Path(one).relative_to(place) for one in (file, files[0]))
            raise DataError(f"{name}: {where} and {first} differ in their columns: {', '.join(differ)}")
    return engine.read_parquet(files, hive_partitioning=False)


def tables(engine: ibis.BaseBackend, name: str) -> dict[str, ibis.Table]:
    """Return every table of a folder such as ``data/lake``: a subfolder each, name to lazy Ibis table."""
    place = io.pending(name)
    if not place.is_dir():
        raise DataError(f"{name}: not found; run the stages before this one with `dvc repro`")
    return {folder.name: read(engine, f"{name}/{folder.name}") for folder in sorted(place.iterdir()) if folder.is_dir()}


def count(name: str) -> int:
    """Return the number of rows in a folder of Parquet files, from their footers."""
    return sum(io.parquet_metadata(file).num_rows for file in io.pending(name).rglob("*.parquet"))


def moment(text: ir.StringValue, form: str | None = None) -> ir.TimestampValue:
    """Return the times that texts hold, in UTC, null where a text holds none. Years are 1 to 9999.

    Parameters
    ----------
    text : StringValue
    form : str, optional
        ``iso`` (the default: 2013-09-30, 2013-09-30T17:00:00, with or without an offset), ``epoch_s``, ``epoch_ms``,
        ``seconds`` or ``days`` (numbers counted from 1970-01-01), ``year``, or a format of `strptime` (DuckDB's, which
        are C's).
    """
    form = form or "iso"
    if form == "iso":
        found = trim(text).try_cast(ZONED).cast(STAMP)  # a cast to a time without a zone would drop the offset
    elif form in UNITS:
        micros = text.try_cast("float64") * UNITS[form]
        found = make_timestamp(ibis.cases((micros.abs() < 3e17, micros.round().cast("int64"))))
    elif form == "year":
        year = text.try_cast("float64")
        known = (year >= 1) & (year <= 9999) & (year == year.floor())
        found = make_date(ibis.cases((known, year.cast("int64"))), 1, 1).cast(STAMP)
    else:
        found = try_strptime_zoned(text, form).cast(STAMP) if "%z" in form.lower() else try_strptime(text, form)
    first, last = ibis.timestamp("0001-01-01"), ibis.timestamp("9999-12-31 23:59:59")
    return ibis.cases((found.between(first, last), found))  # "infinity" is a time to DuckDB


def moments(texts: pd.Series, form: str | None = None) -> pd.Series:
    """Return the times that texts hold as a pandas Series (datetime64[us], UTC without a zone), NaT where none."""
    table = ibis.memtable(pd.DataFrame({"text": texts.astype("str").to_numpy(), "place": range(len(texts))}))
    found = table.select("place", moment=moment(table["text"], form)).order_by("place")
    return pd.Series(connect().to_pyarrow(found)["moment"].to_pandas().to_numpy("datetime64[us]"), index=texts.index)


def known_format(form: str) -> str:
    """Return a format of times as it is.

    Raises
    ------
    ValueError
        If it is none of `FORMATS`, nor one of `strptime`.
    """
    if form in FORMATS:
        return form
    if "%" not in form:
        raise ValueError(f'one of {", ".join(FORMATS)}, or a format such as "%d/%m/%Y"')
    try:
        duckdb.connect().execute("SELECT try_strptime('', ?)", [form])
    except duckdb.Error as error:
        raise ValueError(f"a format of strptime ({str(error).splitlines()[0]})") from None
    return form


def write(table: ibis.Table, folder: Path, order_by: list[str], period: str | None = None) -> int:
    """Write a table as ``period=2013-01/part.parquet`` and so on, in a fixed order, so that bytes repeat.

    Parameters
    ----------
    table : ibis.Table
        What to write.
    folder : Path
        Where to; written whole by the caller's `io.output`.
    order_by : list of str
        Columns that fix the order of the rows; several threads would write in any order.
    period : str, optional
        A timestamp column; one partition per calendar month (UTC). Without it, or without rows, a single ``part.parquet``.

    Returns
    -------
    int
        The number of rows written.
    """
    arrow = table.order_by(order_by).to_pyarrow()
    if period is None or not arrow.num_rows:
        write_part(arrow, folder / "part.parquet")
        return arrow.num_rows
    months = pa.compute.strftime(arrow[period], format="%Y-%m")
    for month in sorted(set(months.to_pylist()), key=str):
        mask = pa.compute.equal(months, month) if month is not None else pa.compute.is_null(months)
        write_part(arrow.filter(mask), folder / f"period={month or 'unknown'}" / "part.parquet")
    return arrow.num_rows


def write_part(arrow: pa.Table, file: Path) -> None:
    """Write one Parquet file (zstd). The same table gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow.replace_schema_metadata(None), file, compression="zstd")

"""The engine behind Ibis: DuckDB, embedded; reads and writes folders of Parquet partitions."""

from __future__ import annotations

from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold.core import io
from ninefold.core.errors import DataError


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

"""Read the prediction log: export it as Parquet, each row once; delete what is old; return it as a table."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.serving.fields import EPOCH, days
from ninefold.serving.log import connect
from ninefold.serving.log_entry import LogError, microseconds
from ninefold.timestamps import MICROSECONDS

ROWS_A_FILE = 200_000
META = {
    "request_id": pa.string(),
    "row": pa.int64(),
    "moment": pa.timestamp("us"),
    "version": pa.string(),
    "role": pa.string(),
}
SELECT = """
SELECT r.request_id, p.row, r.moment, r.version, r.role, p.inputs, p.outputs
FROM requests r JOIN predictions p ON p.request = r.number
"""
NEW = "SELECT number, rows FROM requests WHERE number > (SELECT coalesce(max(last), 0) FROM exports) ORDER BY number LIMIT ?"
OLD = "SELECT number FROM requests WHERE moment < ? AND number <= (SELECT max(last) FROM exports WHERE done)"


def export(place: Path, folder: Path) -> int:
    """Write the rows that are new since the last time as Parquet; return how many.

    ``folder/day=2026-01-31/<first>-<last>-<version>.parquet``, by day of the answer (UTC), a file per bundle: `META`, the
    fields, the answers, typed by the bundle's signature (number: float64; date: timestamp in UTC; string, any, redacted:
    string). Where names meet, an answer is called as `Bundle.added` has it, and one of `META` gets ``_logged`` after it.

    Every row goes into one file exactly once, wherever this is interrupted: what a file is to hold is noted in the log
    before it is written, an unfinished one is written again, the same, and files appear whole, after they are on disk.

    Raises
    ------
    DataError
        If there is no log, it is none of ours, or another export runs.
    """
    written = 0
    with _existing(place) as connection, _alone(place):
        while span := _plan(connection):
            rows = _rows(connection, " WHERE r.number BETWEEN ? AND ? ORDER BY p.request, p.row", span)
            for (day, version), group in rows.groupby([rows["moment"] // MICROSECONDS, "version"]):
                name = f"day={EPOCH + timedelta(days=int(day)):%Y-%m-%d}/{span[0]:012}-{span[1]:012}-{version}.parquet"
                _write_parquet(_typed(group, _described(connection, version)), folder / name)
            connection.execute("UPDATE exports SET done = 1 WHERE first = ?", span[:1])
            written += len(rows)
    return written


def prune(place: Path, keep: str, now: datetime | None = None) -> int:
    """Delete the requests that are older than `keep`, such as ``90d``, and were exported; return how many.

    What was not exported stays, however old. The room is used again, and what is left of it given back.

    Raises
    ------
    DataError
        If there is no log, it is none of ours, or an export runs.
    """
    before = microseconds((now or datetime.now(UTC)) - pd.Timedelta(keep))
    with _existing(place) as connection, _alone(place):
        result = connection.execute(OLD, (before,)).fetchall()
        for start in range(0, len(result), 1000):  # short transactions: the service writes in between
            some = result[start : start + 1000]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM predictions WHERE request = ?", some)
            connection.executemany("DELETE FROM requests WHERE number = ?", some)
            connection.execute("COMMIT")
        connection.execute("DELETE FROM traffic WHERE minute < ?", (before // 60_000_000,))
        connection.execute("PRAGMA incremental_vacuum").fetchall()
    return len(result)


def read(place: Path, since: datetime | None = None, until: datetime | None = None) -> pd.DataFrame:
    """Return the log's rows in the order of writing, answered from `since` on and before `until`, as `export` types them.

    What `prune` deleted is in the exported files alone. Fields that a bundle did not have are missing in its rows.

    Raises
    ------
    DataError
        If there is no log, or it is none of ours.
    """
    first, last = (None if at is None else microseconds(at) for at in (since, until))
    bounds = (-(2**63) if first is None else first, 2**63 - 1 if last is None else last)
    with _existing(place) as connection:
        rows = _rows(connection, " WHERE r.moment >= ? AND r.moment < ? ORDER BY p.request, p.row", bounds)
        tables = [
            _typed(group, _described(connection, version)).to_pandas().set_axis(group.index)
            for version, group in rows.groupby("version", sort=False)
        ]
    if not tables:
        return pa.table({name: pa.array([], kind) for name, kind in META.items()}).to_pandas()
    return pd.concat(tables).sort_index()


@contextmanager
def _existing(place: Path) -> Iterator[sqlite3.Connection]:
    if not place.is_file():
        raise DataError(f"{place}: no prediction log there; `ninefold serve` writes one, or name its --log")
    try:
        with closing(connect(place)) as connection:
            yield connection
    except LogError as error:
        raise DataError(str(error)) from None
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"{place}: the prediction log cannot be read, exported or cleared ({error})") from None


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    busy = f"{place}: another export or clean-up of it runs; wait for its end"
    with artifacts.alone(place.with_suffix(".lock"), busy):
        yield


def _plan(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Return the first and last request of the next files: those that were begun, or new ones; None if there are none."""
    if begun := connection.execute("SELECT first, last FROM exports WHERE NOT done").fetchone():
        return (int(begun[0]), int(begun[1]))
    connection.execute("BEGIN IMMEDIATE")  # numbers are in the order of commits, so that none comes in between later
    first, last, total = 0, 0, 0
    for number, rows in connection.execute(NEW, (ROWS_A_FILE,)):
        if first and total + rows > ROWS_A_FILE:
            break
        first, last, total = first or number, number, total + rows
    if first:
        connection.execute("INSERT INTO exports (first, last) VALUES (?, ?)", (first, last))
    connection.execute("COMMIT")
    return (first, last) if first else None


def _rows(connection: sqlite3.Connection, where: str, bounds: tuple[int, ...]) -> pd.DataFrame:
    result = connection.execute(SELECT + where, bounds).fetchall()
    return pd.DataFrame(result, columns=[*META, "inputs", "outputs"], dtype=object)


def _described(connection: sqlite3.Connection, version: str) -> dict[str, Any]:
    result = connection.execute("SELECT described FROM bundles WHERE version = ?", (version,)).fetchone()
    return dict(json.loads(result[0]))


def _typed(rows: pd.DataFrame, described: dict[str, Any]) -> pa.Table:
    """Return rows of one bundle with a column per field and answer."""
    exported = {*described["fields"], *described["columns"].values()}
    columns = {_free(name, exported): pa.array(rows[name].tolist(), kind) for name, kind in META.items()}
    columns |= _parsed(rows["inputs"].tolist(), described["fields"])
    answers = _parsed(rows["outputs"].tolist(), described["answers"])
    return pa.table(columns | {described["columns"][name]: column for name, column in answers.items()})


def _parsed(lines: list[str], kinds: dict[str, str]) -> dict[str, pa.ChunkedArray]:
    """Return JSON objects as columns; Arrow reads a million of them in seconds."""
    schema = pa.schema([(name, pa.float64() if kind == "number" else pa.string()) for name, kind in kinds.items()])
    block = max(1 << 20, 2 * max(map(len, lines)) * 4)  # holds any line; a character has 4 bytes at most
    table = pyarrow.json.read_json(
        pa.BufferReader("\n".join(lines).encode()),
        read_options=pyarrow.json.ReadOptions(block_size=min(block, 2**31 - 1)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return {name: _moments(table[name]) if kind == "date" else table[name] for name, kind in kinds.items()}


def _moments(texts: pa.ChunkedArray) -> pa.Array:
    counted = [None if text is None else round(days(text) * MICROSECONDS) for text in texts.to_pylist()]
    return pa.array(counted, pa.timestamp("us"))


def _free(name: str, exported: set[str]) -> str:
    return _free(f"{name}_logged", exported) if name in exported else name


def _write_parquet(table: pa.Table, place: Path) -> None:
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd")
    artifacts.write_durable(stream.getvalue(), place)
    artifacts.sync(place.parent.parent)  # the folder of the day may be new

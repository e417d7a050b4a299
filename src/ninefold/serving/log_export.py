"""Export the prediction log as Parquet, each row once; delete what is old, there too."""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.serving.fields import EPOCH, days, free
from ninefold.serving.log import SQL, LogError, connect, microseconds
from ninefold.timestamps import MICROSECONDS

ROWS_A_FILE = 200_000
TEXT = pa.string()
META = {"request_id": TEXT, "row": pa.int64(), "moment": pa.timestamp("us"), "version": TEXT, "role": TEXT}
PAGES = 1000  # of the file that are given back at once


def lake(place: Path) -> Path:
    """Return the folder of the export of the log at `place`, which monitoring reads."""
    return place.parent / "lake"


def export(place: Path, folder: Path | None = None) -> int:
    """Write the rows that are new since the last time as Parquet to `lake`; return how many.

    With another `folder`, copy the files there that it lacks, and return how many rows these have.

    ``day=2026-01-31/<first>-<last>-<version>.parquet``, by day of the answer (UTC), a file per bundle: `META`, the
    fields, the answers, typed by the bundle's signature (number: float64; date: timestamp in UTC; string, any, redacted:
    string). Where names meet, an answer is called as `Bundle.added` has it, and one of `META` gets ``_logged`` after it.

    Every row is in one file exactly once, even after an interruption: the requests of the next files are noted in the log
    first, and files are replaced whole. `DataError` if there is no log, it is none of ours, or another export runs.
    """
    written = 0
    with opened(place, alone=True) as connection:
        while True:
            # Numbers are in the order of commits, so that none comes in between later.
            connection.execute(SQL["plan"], {"most": ROWS_A_FILE})
            if (span := connection.execute(SQL["begun"]).fetchone()) is None:
                if folder is None or folder.resolve() == lake(place).resolve():
                    return written
                return _copy(lake(place), folder)
            rows = pd.read_sql(SQL["rows"], connection, params=span)
            for (day, version), group in rows.groupby([rows["moment"] // MICROSECONDS, "version"]):
                name = f"day={EPOCH + timedelta(days=int(day)):%Y-%m-%d}/{span[0]:012}-{span[1]:012}-{version}.parquet"
                _write_parquet(_typed(connection, group), lake(place) / name)
            connection.execute("UPDATE exports SET done = 1 WHERE first = ?", span[:1])
            written += len(rows)


def prune(place: Path, keep: str, now: datetime | None = None) -> int:
    """Delete requests older than `keep`, such as ``90d``, and the export's days before; return how many requests."""
    oldest = (now or datetime.now(UTC)) - pd.Timedelta(keep)
    before, deleted = microseconds(oldest), 0
    with opened(place) as connection:
        while old := connection.execute(SQL["old"], (before,)).fetchall():
            started = time.monotonic()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM predictions WHERE request = ?", old)
            connection.executemany("DELETE FROM requests WHERE number = ?", old)
            connection.execute("COMMIT")
            deleted += len(old)
            time.sleep(time.monotonic() - started)  # the service writes in between
        connection.execute("DELETE FROM traffic WHERE minute < ?", (before // 60_000_000,))
        for _ in range(0, connection.execute("PRAGMA freelist_count").fetchone()[0], PAGES):
            connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
    for day in lake(place).glob("day=*"):
        if day.name < f"day={oldest.astimezone(UTC):%Y-%m-%d}":
            shutil.rmtree(day, ignore_errors=True)  # another clean-up may be faster
    return deleted


@contextmanager
def opened(place: Path, alone: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a log that exists; with `alone`, no other process exports it meanwhile; `DataError` if it is none, or damaged."""
    if not place.is_file():
        raise DataError(f"{place}: no prediction log there; `ninefold serve` writes one, or name its --log")
    busy = f"{place}: another export or clean-up of it runs; wait for its end"
    lock = artifacts.alone(place.with_suffix(".lock"), busy) if alone else nullcontext()
    try:
        with lock, closing(connect(place)) as connection:
            yield connection
    except LogError as error:
        raise DataError(str(error)) from None
    except (sqlite3.Error, OSError) as error:  # that of pandas holds the whole query, and has SQLite's as its cause
        why = error.__cause__ or error
        raise DataError(f"{place}: the prediction log cannot be read, exported or cleared ({why})") from None


def _typed(connection: sqlite3.Connection, rows: pd.DataFrame) -> pa.Table:
    """Return rows of one bundle with a column per field and answer."""
    bundle = "SELECT described FROM bundles WHERE version = ?"
    described = json.loads(connection.execute(bundle, rows["version"].iloc[:1].tolist()).fetchone()[0])
    used = {*described["fields"], *described["columns"].values()}
    columns = {free(name, "_logged", used): pa.array(rows[name].tolist(), kind) for name, kind in META.items()}
    columns |= _parsed(rows["inputs"].tolist(), described["fields"])
    answers = _parsed(rows["outputs"].tolist(), described["answers"])
    return pa.table(columns | {described["columns"][name]: column for name, column in answers.items()})


def _parsed(lines: list[str], kinds: dict[str, str]) -> dict[str, pa.ChunkedArray]:
    """Return JSON objects as columns; Arrow reads a million of them in seconds."""
    types = [(name, pa.float64() if kind == "number" else TEXT) for name, kind in kinds.items()]
    block = max(1 << 20, 2 * max(map(len, lines)) * 4)  # any line fits; a character has 4 bytes at most
    table = pyarrow.json.read_json(
        pa.BufferReader("\n".join(lines).encode()),
        pyarrow.json.ReadOptions(block_size=min(block, 2**31 - 1)),
        pyarrow.json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore"),
    )
    return {name: _moments(table[name]) if kind == "date" else table[name] for name, kind in kinds.items()}


def _moments(texts: pa.ChunkedArray) -> pa.Array:
    counts = [None if text is None else round(days(text) * MICROSECONDS) for text in texts.to_pylist()]
    return pa.array(counts, META["moment"])


def _copy(source: Path, folder: Path) -> int:
    rows = 0
    for file in sorted(source.glob("day=*/[!.]*.parquet")):
        if not (copy := folder / file.relative_to(source)).exists():
            artifacts.write_durable(file.read_bytes(), copy)
            rows += pq.read_metadata(file).num_rows
    return rows


def _write_parquet(table: pa.Table, place: Path) -> None:
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd")
    artifacts.write_durable(stream.getvalue(), place)
    artifacts.sync(place.parent.parent)  # the folder of the day may be new

"""Take files as they land, in micro-batches, through the same contract and expressions as stages 02 and 03.

Reads: a folder in which files of tables land: ``DIR/<table>/<file>``, or ``DIR/<table>-<anything>.csv`` and its kin.
Writes: ``data/stream/``: ``landing/``, each file taken, as it came, which stage 02 collects from, too; ``raw/``, ``lake/`` and
``quarantine/``, what became of them; ``ledger.json``, what was taken, repeated or refused.

A file is taken once its name is final, its size rests and its end is whole. The rename into ``landing/`` is what commits it;
all else is made of that folder, and made again after a crash: so nothing is lost, and nothing counts twice.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
from pydantic import BaseModel

from ninefold import artifacts, collection, engine
from ninefold.collection import deliveries, demand_columns, sources
from ninefold.collection import files as places
from ninefold.errors import DataError
from ninefold.params import load
from ninefold.processing import stage
from ninefold.processing.lake import Places

STREAM = "data/stream"
LANDING, LEDGER = collection.LANDING, f"{STREAM}/ledger.json"
NEW = f"{LANDING}/.new"  # files that are being copied
RAW, LOG, CHECKPOINT = f"{STREAM}/raw", f"{STREAM}/log", f"{STREAM}/checkpoint"
PLACES = Places(RAW, f"{STREAM}/lake", f"{STREAM}/quarantine", f"{STREAM}/state.json", beside=stage.PLACES)
UNDATED = "undated"  # the partition of rows whose time cannot be read
UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~")
PATIENCE = 60.0  # seconds that a file without its end is waited for
FILES = 200  # of a micro-batch


class Entry(BaseModel):
    """What became of a file: its state when it was looked at, and why it was not taken, if it was not."""

    size: int
    changed: int
    sha256: str
    rows: int = 0
    repeats: str | None = None
    refused: str | None = None

    def is_of(self, state: places.State) -> bool:
        """Return whether the file has not changed since."""
        return (self.size, self.changed) == state


class Follower:
    """A folder whose files are taken: `ledger` holds what became of them, `waiting` why others are not taken yet."""

    def __init__(self, folder: Path, connection: ibis.BaseBackend, say: Callable[[str], None] = print) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: not found; expected the folder in which files land")
        self.folder, self.connection, self.say = folder.resolve(), connection, say
        self.params = {"collection": load("collection"), "processing": load("processing")}
        listed = artifacts.published(LEDGER) or {}
        self.ledger = {name: Entry.model_validate(entry) for name, entry in listed.items()}
        self.waiting: dict[str, str] = {}
        self._seen: dict[str, tuple[places.State, float]] = {}
        self._landed = {table: _landed(table) for table in self.params["processing"].tables}
        artifacts.remove(artifacts.path(NEW))

    def poll(self) -> list[str]:
        """Take what is ready, at most `FILES` of them; return the names of the files that landed."""
        ready: list[tuple[str, Path, str]] = []
        self.waiting = {}
        for name, file, table in self._candidates():
            if len(ready) < FILES and self._is_ready(name, file, table):
                ready.append((name, file, table))
        landed = [name for name, file, table in ready if self._take(name, file, table)]
        if ready:
            self._write_ledger()
        return landed

    def bring_up(self) -> pd.DataFrame:
        """Bring raw partitions, lake and quarantine of the stream up to what landed; return the rows of each table.

        Returns
        -------
        DataFrame
            ``table``, ``raw``, ``lake``, ``quarantine`` (rows, int64).
        """
        processing_params = self.params["processing"]
        raw = self._collect()
        stage.lake_of(PLACES, raw, processing_params, self.connection).update()
        artifacts.publish()
        kinds = (RAW, PLACES.lake, PLACES.quarantine)
        rows = [(name, *(engine.count(f"{kind}/{name}") for kind in kinds)) for name in raw]
        return pd.DataFrame(rows, columns=["table", "raw", "lake", "quarantine"])

    def _candidates(self) -> Iterator[tuple[str, Path, str]]:
        """Yield each file whose name is final: its name below the folder, its path, and the table that it belongs to."""
        tables = sorted(self.params["processing"].tables, key=len, reverse=True)
        for file in places.inside(self.folder):
            name = file.relative_to(self.folder).as_posix()
            if file.name.endswith(UNFINISHED):
                self.waiting[name] = "its name says that it is being written"
                continue
            top, _, below = name.partition("/")
            begun = [
                one for one in tables if name.startswith(one) and name[len(one) : len(one) + 1] in ("-", "_", ".", "@")
            ]
            if below and top in tables:
                yield name, file, top
            elif not below and begun:
                yield name, file, begun[0]
            else:
                self.waiting[name] = (
                    f"belongs to no table; expected <table>/<file> or <table>-<anything> of {', '.join(tables)}"
                )

    def _is_ready(self, name: str, file: Path, table: str) -> bool:
        """Return whether a file is to be looked at: it is new or changed, its size rests, and its end is whole."""
        try:
            state = places.state_of(file)
        except OSError:  # taken away meanwhile
            return False
        if (entry := self.ledger.get(name)) and entry.is_of(state):
            return False
        before, since = self._seen.get(name, (None, 0.0))
        if before != state:
            self._seen[name] = (state, time.monotonic())
            self.waiting[name] = "still changing"
            return False
        if what := unfinished(file, self.params["collection"].tables[table]):
            if time.monotonic() - since < PATIENCE:
                self.waiting[name] = what
                return False
            self._refuse(name, state, artifacts.sha256(file), f"{name}: {what}; deliver it whole")
            return False
        return True

    def _take(self, name: str, file: Path, table: str) -> bool:
        """Put a file into the landing folder, unless it repeats another or cannot be read; return whether it landed."""
        below = name.removeprefix(f"{table}/")
        target, copy = artifacts.path(LANDING) / table / below, artifacts.path(NEW) / table / below
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            state = places.state_of(file)
            shutil.copyfile(file, copy)
            if places.state_of(file) != state:
                raise OSError("it changed while it was read")
        except OSError as error:
            self.waiting[name] = f"cannot be read yet ({error})"
            return False
        entry = Entry(size=state.size, changed=state.changed, sha256=artifacts.sha256(copy))
        twin = self._landed[table].get(entry.sha256)
        if twin not in (None, below) and not target.exists():
            self.ledger[name] = entry.model_copy(update={"repeats": twin})
            self.say(f"passed over {name}: it repeats {twin}")
            copy.unlink()
            return False
        try:
            entry.rows = self._prove(copy, entry.sha256, table)
        except DataError as error:
            self._refuse(name, state, entry.sha256, str(error).replace(str(copy), name))
            copy.unlink()
            return False
        artifacts.sync(copy)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(copy, target)
        artifacts.sync(target.parent)
        self._landed[table] = {
            **{sha: one for sha, one in self._landed[table].items() if one != below},
            entry.sha256: below,
        }
        self.ledger[name] = entry
        return True

    def _prove(self, copy: Path, sha256: str, table: str) -> int:
        """Return the rows of a file, having shown that it can be read and has the columns of those that landed before."""
        source = self.params["collection"].tables[table]
        rows, _ = collection.read_landed(table, source, str(copy), sha256)
        if self._landed[table]:
            name, sha = min((name, sha) for sha, name in self._landed[table].items())
            known, _ = collection.read_landed(table, source, f"{LANDING}/{table}/{name}", sha)
            than = f"in {name}, which landed before"
            demand_columns(rows.columns, known.columns, str(copy), than, "mend its first line")
        return len(rows)

    def _refuse(self, name: str, state: places.State, sha: str, reason: str) -> None:
        self.ledger[name] = Entry(size=state.size, changed=state.changed, sha256=sha, refused=reason)
        self._write_ledger()
        self.say(f"refused {reason}")

    def _write_ledger(self) -> None:
        listed = {name: entry.model_dump(exclude_defaults=True) for name, entry in sorted(self.ledger.items())}
        artifacts.write_json(listed, artifacts.path(LEDGER))

    def _collect(self) -> dict[str, dict[str, str]]:
        """Write the raw partitions of which files changed, keep the others; return the SHA-256 of all."""
        before = artifacts.published(f"{RAW}/manifest.json") or {}
        folder, found = artifacts.output(RAW), dict[str, Any]()
        for table, source in self.params["collection"].tables.items():
            where = f"{LANDING}/{table}"
            if not artifacts.path(where).is_dir():
                continue
            read = partial(collection.read_landed, table, source)
            known = [deliveries.File(**one) for one in before.get(table, {}).get("files", [])]
            files = deliveries.index(where, read, known)
            months = sorted({month for one in files for month in one.months})
            held, parts = before.get(table, {}).get("partitions", {}), dict[str, Any]()
            for month in months:
                period = collection.WHOLE if not source.time else month or UNDATED
                holding = deliveries.holding(files, [month])
                made_of, file = deliveries.digest(holding), folder / table / f"{period}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                old = artifacts.path(RAW) / table / f"{period}.parquet"
                if held.get(period, {}).get("files") == made_of and old.exists():
                    artifacts.link(old, file)
                else:
                    rows, times = deliveries.rows(where, holding, read)
                    own = times.dt.strftime("%Y-%m").fillna(deliveries.UNDATED) == month
                    artifacts.write_table(rows[own].astype("str").reset_index(drop=True), file)
                parts[period] = {"files": made_of, "sha256": artifacts.sha256(file)}
            if parts:
                listed = [one.model_dump(exclude_defaults=True) for one in files]
                found[table] = {"partitions": parts, "files": listed}
        artifacts.write_json(found, folder / "manifest.json")
        return {
            table: {period: part["sha256"] for period, part in one["partitions"].items()}
            for table, one in found.items()
        }


def unfinished(file: Path, source: collection.Source) -> str | None:
    """Return why the end of a file shows that it is still being written, if it does."""
    kind = sources.KINDS.get(file.suffix.lower())
    size = file.stat().st_size
    if not size:
        return "empty so far"
    with file.open("rb") as stream:
        stream.seek(max(size - 4, 0))
        end = stream.read()
    if kind == "parquet":
        return None if end == b"PAR1" else "its Parquet footer is not there yet"
    ended = source.options.final_newline is False or end.rstrip(b"\0").endswith((b"\n", b"\r", b"]"))
    if kind in ("csv", "json") and not ended:
        return "its last line has no end yet"
    if file.suffix.lower() in places.PACKED:
        try:
            list(places.files(str(file)))
        except DataError:
            return "its packing is not whole yet"
    return None


def run(folder: Path, follow: bool, every: float = 1.0) -> None:
    """Take what lies in a folder; with `follow` go on until stopped, looking every so many seconds.

    Raises
    ------
    DataError
        If the folder is not there, or another process takes files into this project.
    """
    connection = engine.connect()
    with _alone():
        follower = Follower(folder, connection, say=_say)
        _run_on_spark(follower, follow, every) if connection.name == engine.SPARK else _run(follower, follow, every)


def _run(follower: Follower, follow: bool, every: float) -> None:
    """Look, take, bring up, report; what an interrupted run left undone comes first."""
    follower.bring_up()

    def commit(landed: list[str]) -> None:
        if landed:
            _report(follower, follower.bring_up(), landed)

    _look(follower, follow, every, commit)


def _run_on_spark(follower: Follower, follow: bool, every: float) -> None:
    """Do the same as Structured Streaming: what lands is logged, and the log is a stream with a checkpoint."""
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    assert session is not None
    log = artifacts.path(LOG)
    log.mkdir(parents=True, exist_ok=True)

    def take_batch(batch: Any, number: int) -> None:
        if names := [row["name"] for row in batch.collect()]:
            _report(follower, follower.bring_up(), names)

    stream = session.readStream.schema("name string, sha256 string").json(str(log))
    writer = stream.writeStream.foreachBatch(take_batch).option("checkpointLocation", str(artifacts.path(CHECKPOINT)))
    follower.bring_up()
    query = writer.trigger(processingTime=f"{max(every, 0.1)} seconds").start() if follow else None

    def commit(landed: list[str]) -> None:
        _log_landed(log, follower)
        if query is not None and query.exception() is not None:
            raise DataError(f"the stream stopped: {str(query.exception()).splitlines()[0]}")

    try:
        _look(follower, follow, every, commit)
        if query is None:
            writer.trigger(availableNow=True).start().awaitTermination()
    finally:
        if query is not None:
            query.stop()


def _look(follower: Follower, follow: bool, every: float, commit: Callable[[list[str]], None]) -> None:
    """Look for files again and again, hand over what landed, and say what is waited for, once."""
    told: dict[str, str] = {}
    quiet = 0
    while follow or quiet < 2:  # a file is taken when two looks find it the same
        landed = follower.poll()
        quiet = 0 if landed else quiet + 1
        commit(landed)
        for name, why in follower.waiting.items():
            if why != told.get(name) and why != "still changing":
                follower.say(f"waiting for {name}: {why}")
        told = dict(follower.waiting)
        if follow or quiet < 2:
            time.sleep(every if not landed else 0)


def _log_landed(log: Path, follower: Follower) -> None:
    """Append each landed file to the log that Spark reads, once."""
    for name, entry in follower.ledger.items():
        if entry.repeats or entry.refused:
            continue
        line = log / f"{entry.sha256[:16]}-{name.replace('/', '-')}.json"
        if not line.exists():
            artifacts.write_text(json.dumps({"name": name, "sha256": entry.sha256}) + "\n", line)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of the stream, which dies with the process."""
    busy = f"{STREAM}: another `ninefold ingest` takes files into this project; stop it first"
    with artifacts.alone(artifacts.path(f"{STREAM}/.lock"), busy):
        yield


def _landed(table: str) -> dict[str, str]:
    """Return the files of a table that landed: SHA-256 -> name."""
    folder = artifacts.path(LANDING) / table
    files = places.inside(folder) if folder.is_dir() else []
    return {artifacts.sha256(file): file.relative_to(folder).as_posix() for file in files}


def _report(follower: Follower, counts: pd.DataFrame, landed: list[str]) -> None:
    rows = sum(follower.ledger[name].rows for name in landed if name in follower.ledger)
    first = ", ".join(landed[:3]) + (", ..." if len(landed) > 3 else "")
    follower.say(f"took {len(landed)} file{'' if len(landed) == 1 else 's'}, {rows:,} rows: {first}")
    for row in counts.itertuples():
        follower.say(f"  {row.table}: {row.lake:,} rows in the lake, {row.quarantine:,} in quarantine")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

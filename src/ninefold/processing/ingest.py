"""Take files as they land, in micro-batches, through the same contract and expressions as stages 02 and 03.

Reads: a folder in which files of tables land: ``DIR/<table>/<file>``, or ``DIR/<table>-<anything>.csv`` and its kin.
Writes: ``data/stream/``: ``landing/``, each file taken, as it came, which stage 02 collects from, too; ``raw/``, ``lake/`` and
``quarantine/``, what became of them; ``ledger.json``, what was taken, repeated or refused.

A file is taken once its name is final, its size rests and its end is whole. The rename into ``landing/`` is what commits it;
all else is made of that folder, and made again after a crash: so nothing is lost, and nothing counts twice.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
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
from ninefold.processing.lake import Lake, Places

STREAM = "data/stream"
LANDING, LEDGER = collection.LANDING, f"{STREAM}/ledger.json"
NEW = f"{LANDING}/.new"  # files that are being copied
RAW, LOCK = f"{STREAM}/raw", f"{STREAM}/.lock"
PLACES = Places(RAW, f"{STREAM}/lake", f"{STREAM}/quarantine", f"{STREAM}/state.json", beside=stage.PLACES)
UNDATED = "undated"  # the partition of rows whose time cannot be read
UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~")
CHANGING = "still changing"
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


class Follower:
    """A folder whose files are taken: `ledger` holds what became of them, `waiting` why others are not taken yet."""

    def __init__(self, folder: Path, connection: ibis.BaseBackend, say: Callable[[str], None] = print) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: not found; expected the folder in which files land")
        self.folder, self.connection, self.say = folder.resolve(), connection, say
        self.sources, self.params = load("collection").tables, load("processing")
        listed = artifacts.published(LEDGER) or {}
        self.ledger = {name: Entry.model_validate(entry) for name, entry in listed.items()}
        self.waiting: dict[str, str] = {}
        self._states: dict[str, tuple[tuple[int, int], float]] = {}
        self._landed: dict[str, dict[str, str]] = {table: {} for table in self.params.tables}  # files, name -> SHA-256
        for table, landed in self._landed.items():
            place = artifacts.path(LANDING) / table
            landed |= {file.relative_to(place).as_posix(): artifacts.sha256(file) for file in places.inside(place)}
        artifacts.remove(artifacts.path(NEW))

    def poll(self) -> list[str]:
        """Take what is ready, at most `FILES` of them; return the names of the files that landed."""
        self.waiting, before = {}, dict(self.ledger)
        ready = list(islice((one for one in self._candidates() if self._is_ready(*one)), FILES))
        landed = [one[0] for one in ready if self._take(*one)]
        if self.ledger != before:
            listed = {name: entry.model_dump(exclude_defaults=True) for name, entry in sorted(self.ledger.items())}
            artifacts.write_json(listed, artifacts.path(LEDGER))
        return landed

    def bring_up(self) -> pd.DataFrame:
        """Bring raw partitions, lake and quarantine of the stream up to what landed; return `Places.counts`."""
        raw = self._collect()
        Lake(PLACES, raw, self.params, self.connection).update()
        artifacts.publish()
        return PLACES.counts(raw)

    def report(self, landed: list[str]) -> None:
        """Bring all up to what landed, and say what was taken."""
        counts = self.bring_up()
        rows = sum(self.ledger[name].rows for name in landed if name in self.ledger)
        first = ", ".join(landed[:3]) + (", ..." if len(landed) > 3 else "")
        self.say(f"took {len(landed)} file{'' if len(landed) == 1 else 's'}, {rows:,} rows: {first}")
        for row in counts.itertuples():
            self.say(f"  {row.table}: {row.lake:,} rows in the lake, {row.quarantine:,} in quarantine")

    def _candidates(self) -> Iterator[tuple[str, Path, str]]:
        """Yield each file whose name is final: its name below the folder, its path, and the table that it belongs to."""
        tables = sorted(self.params.tables, key=len, reverse=True)
        for file in places.inside(self.folder):
            name = file.relative_to(self.folder).as_posix()
            top, _, below = name.partition("/")
            begun = [one for one in tables if top.startswith(tuple(one + sign for sign in "-_.@"))]
            table = top if below else next(iter(begun), "")
            if file.name.endswith(UNFINISHED):
                self.waiting[name] = "its name says that it is being written"
            elif table in tables:
                yield name, file, table
            else:
                expected = f"<table>/<file> or <table>-<anything> of {', '.join(tables)}"
                self.waiting[name] = f"belongs to no table; expected {expected}"

    def _is_ready(self, name: str, file: Path, table: str) -> bool:
        """Return whether to take a file: it is new or changed, its size rests, and its end is whole, or was waited for."""
        try:
            state = places.state_of(file)
        except OSError:  # taken away meanwhile
            return False
        if (entry := self.ledger.get(name)) and (entry.size, entry.changed) == state:
            return False
        before, since = self._states.get(name, (None, 0.0))
        if before != state:
            self._states[name] = (state, time.monotonic())
            self.waiting[name] = CHANGING
        elif (what := unfinished(file, self.sources[table])) and time.monotonic() - since < PATIENCE:
            self.waiting[name] = what
        return name not in self.waiting

    def _take(self, name: str, file: Path, table: str) -> bool:
        """Put a file into the landing folder, unless it repeats another or cannot be read; return whether it landed."""
        below, landed = name.removeprefix(f"{table}/"), self._landed[table]
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
        entry = Entry(size=state[0], changed=state[1], sha256=artifacts.sha256(copy))
        twin = next((one for one, sha in landed.items() if sha == entry.sha256 and one != below), None)
        if twin and not target.exists():
            entry.repeats = twin
            self.say(f"passed over {name}: it repeats {twin}")
        else:
            try:
                entry.rows = self._prove(copy, entry.sha256, table)
            except DataError as error:
                entry.refused = str(error).replace(str(copy), name)
                self.say(f"refused {entry.refused}")
        if entry.repeats or entry.refused:
            copy.unlink()
        else:
            artifacts.sync(copy)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(copy, target)
            artifacts.sync(target.parent)
            landed[below] = entry.sha256
        self.ledger[name] = entry
        return not entry.repeats and not entry.refused

    def _prove(self, copy: Path, sha256: str, table: str) -> int:
        """Return the rows of a file, having shown that it is whole and readable, and has the columns of those before it."""
        source = self.sources[table]
        if what := unfinished(copy, source):
            raise DataError(f"{copy}: {what}; deliver it whole")
        rows, _ = collection.read_landed(source, str(copy), sha256)
        if self._landed[table]:
            name, sha = min(self._landed[table].items())
            known, _ = collection.read_landed(source, f"{LANDING}/{table}/{name}", sha)
            than = f"in {name}, which landed before"
            demand_columns(rows.columns, known.columns, str(copy), than, "fix its first line")
        return len(rows)

    def _collect(self) -> dict[str, dict[str, str]]:
        """Write the raw partitions of which files changed, keep the others; return the SHA-256 of all."""
        known = artifacts.published(f"{RAW}/manifest.json") or {}
        folder, manifest, sums = artifacts.output(RAW), dict[str, Any](), dict[str, dict[str, str]]()
        for table, source in self.sources.items():
            where, read = f"{LANDING}/{table}", partial(collection.read_landed, source)
            before = [deliveries.File(**one) for one in known.get(table, {"files": []})["files"]]
            files, sums[table] = deliveries.index(where, read, before), {}
            for month in sorted({month for one in files for month in one.months}):
                period = collection.WHOLE if not source.time else month or UNDATED
                holding = deliveries.holding(files, [month])
                old, file = (place / table / f"{period}.parquet" for place in (artifacts.path(RAW), folder))
                file.parent.mkdir(parents=True, exist_ok=True)
                if old.exists() and holding == deliveries.holding(before, [month]):
                    artifacts.link(old, file)
                else:
                    rows, times = deliveries.rows(where, holding, read)
                    own = deliveries.months(times) == month
                    artifacts.write_table(rows[own].astype("str").reset_index(drop=True), file)
                sums[table][period] = artifacts.sha256(file)
            manifest[table] = {"files": [one.model_dump(exclude_defaults=True) for one in files]}
        artifacts.write_json(manifest, folder / "manifest.json")
        return {table: parts for table, parts in sums.items() if parts}


def unfinished(file: Path, source: collection.Source) -> str | None:
    """Return why the end of a file shows that it is still being written, if it does."""
    kind, size = sources.KINDS.get(file.suffix.lower()), file.stat().st_size
    if not size:
        return "empty so far"
    with file.open("rb") as stream:
        stream.seek(max(size - 4, 0))
        end = stream.read()
    if kind == "parquet" and end != b"PAR1":
        return "its Parquet footer is not there yet"
    ended = source.options.final_newline is False or end.rstrip(b"\0").endswith((b"\n", b"\r", b"]"))
    if kind in ("csv", "json") and not ended:
        return "its last line has no end yet"
    try:
        list(places.files(str(file)) if file.suffix.lower() in places.PACKED else ())
    except DataError:
        return "its packing is not whole yet"
    return None


def run(folder: Path, follow: bool, every: float = 1.0) -> None:
    """Take what lies in a folder; with `follow` look again `every` s, until stopped; `DataError` if another does."""
    connection = engine.connect()
    busy = f"{STREAM}: another `ninefold ingest` takes files into this project; stop it first"
    with artifacts.alone(artifacts.path(LOCK), busy):
        follower = Follower(folder, connection, lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", flush=True))
        follower.bring_up()  # what an interrupted run left undone
        said, quiet = dict[str, str](), 0
        while follow or quiet < 2:  # a file is taken when two looks find it the same
            landed = follower.poll()
            quiet = 0 if landed else quiet + 1
            if landed:
                follower.report(landed)
            for name, why in follower.waiting.items():
                if why not in (said.get(name), CHANGING):  # once
                    follower.say(f"waiting for {name}: {why}")
            said = follower.waiting
            if not landed and (follow or quiet < 2):
                time.sleep(every)

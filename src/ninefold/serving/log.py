"""Write the prediction log: what was asked and answered is on disk before it is answered.

`log_entry` says what is written of a request; `log_export` reads the log, exports it, and deletes what is old.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ninefold import artifacts
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.log_entry import CHAMPION, Entry, Layout, LogError, encode, microseconds

LOG = "data/predictions/log.sqlite"
BUSY = 5.0  # seconds to wait for another process that writes to the same log
ROWS_A_REQUEST = 1000  # of a table that was answered at once
TICK = 2.0  # seconds between two writes of the traffic
OURS, FORMAT = 0x4E696E65, 2  # as SQLite's application_id and user_version
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS bundles (version TEXT PRIMARY KEY, described TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (number INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL,
    moment INTEGER NOT NULL, version TEXT NOT NULL, rows INTEGER NOT NULL, role TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS requests_by_id ON requests (request_id);
CREATE INDEX IF NOT EXISTS requests_by_moment ON requests (moment);
CREATE TABLE IF NOT EXISTS predictions (request INTEGER NOT NULL, row INTEGER NOT NULL, inputs TEXT NOT NULL,
    outputs TEXT NOT NULL, PRIMARY KEY (request, row));
CREATE TABLE IF NOT EXISTS exports (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS trials (number INTEGER PRIMARY KEY, moment INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS traffic (minute INTEGER NOT NULL, route TEXT NOT NULL, status INTEGER NOT NULL,
    requests INTEGER NOT NULL, seconds REAL NOT NULL, slow INTEGER NOT NULL, PRIMARY KEY (minute, route, status));
PRAGMA application_id = {OURS};
PRAGMA user_version = {FORMAT};
COMMIT;
"""
FOUND = """
SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id, pragma_user_version
"""
COUNTED = """
INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (minute, route, status) DO UPDATE SET
requests = requests + excluded.requests, seconds = seconds + excluded.seconds, slow = slow + excluded.slow
"""
Waiting = tuple[Entry | None, Future[None]]
Counts = dict[tuple[int, str, int], list[float]]  # (minute, route, status) -> requests, seconds, slow ones


class Log:
    """A prediction log, open for writing: SQLite in WAL mode, synced at every commit.

    One thread writes. What waits when it begins a commit shares that commit and its sync, so that many callers at once
    cost little more than one. Several processes may write to one log, on a disk of this machine (WAL needs it).

    After a failed write (disk full, no right to write, a damaged file) the next one opens the log anew: it recovers by
    itself. A log that was moved or removed meanwhile is made again, and what was written to the lost one is repeated.

    How many requests there were, by minute, route and status, is written every `TICK` s, without anybody waiting for it:
    who is killed loses the last counts, and no answer.

    Attributes
    ----------
    place : Path
        Made if absent, for this user alone (mode 0600). ``-wal`` and ``-shm`` beside it belong to it.
    commits : int
        How many commits there were.
    shown : set
        Versions of bundles, with the digest of tables whose answers were written whole: not to be written again.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.commits = place, 0
        self.shown: set[tuple[str, str]] = set()
        self._line: list[Waiting] = []
        self._changed = threading.Condition()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] = (0, 0)
        self._layouts: dict[str, Layout] = {}
        self._counts: Counts = {}
        self._counted = time.monotonic()
        self._open = True
        self._failure: str | None = f"the prediction log {place} was not opened yet"
        self._thread = threading.Thread(target=self._write, name="prediction log", daemon=True)
        self._thread.start()
        self.failure()

    def entry(
        self,
        request_id: str,
        moment: datetime,
        bundle: Bundle,
        rows: Sequence[Mapping[str, Any]],
        answers: Sequence[Mapping[str, Any]],
        role: str = CHAMPION,
    ) -> Entry:
        """Return what is to be written of a request.

        Parameters
        ----------
        request_id : str
        moment : datetime
            With a zone.
        bundle : Bundle
            That answered.
        rows : sequence of mapping
            Fields of the bundle's signature, see `Layout.inputs`.
        answers : sequence of mapping
            As `Bundle.answer` has them: of each row the columns ``bundle.answers``.
        role : str
            `CHAMPION`, `CANARY` or `SHADOW`.

        Raises
        ------
        LogError
            If the key of the hashes cannot be read or made.
        """
        layout = self._layout(bundle)
        texts = [(layout.inputs(row), encode(answer)) for row, answer in zip(rows, answers, strict=True)]
        return Entry(request_id, microseconds(moment), bundle.version, layout.described, role, texts)

    def submit(self, entry: Entry | None) -> Future[None]:
        """Put an entry in line; the future is done when it is on disk, or holds the `LogError`. None is a trial."""
        done: Future[None] = Future()
        with self._changed:
            if self._open:
                self._line.append((entry, done))
                self._changed.notify()
            else:
                done.set_exception(LogError(f"the prediction log {self.place} is closed: the service is stopping"))
        return done

    def record(
        self,
        frame: pd.DataFrame,
        answers: pd.DataFrame,
        bundle: Bundle,
        name: str,
        first: int = 0,
        moment: datetime | None = None,
    ) -> str:
        """Write a table that was answered at once, a request for each `ROWS_A_REQUEST` rows; return the first one's id.

        Parameters
        ----------
        frame : DataFrame
            The features as the model saw them, history looked up; beside them, what identifies a row, where it is known.
        answers : DataFrame
            The columns ``bundle.answers`` of the same rows.
        bundle : Bundle
        name : str
            Of the run. Ids are ``<name>-<number of the row in the run>``, so that a run that was ended and repeated gives
            the same ones; rows count from 0 in each request.
        first : int
            The number of rows of the run before this table.
        moment : datetime, optional
            With a zone; default: now.

        Raises
        ------
        LogError
            If it is not on disk.
        """
        absent = [field["name"] for field in bundle.signature if field["name"] not in frame]
        whole = frame.copy(deep=False)
        whole[absent] = None
        rows = as_rows(whole, bundle.signature)
        given = answers[bundle.answers].astype(object).where(answers[bundle.answers].notna(), None).to_dict("records")
        moment = moment or datetime.now(UTC)
        for start in range(0, len(rows), ROWS_A_REQUEST):
            part = slice(start, start + ROWS_A_REQUEST)
            self.submit(self.entry(f"{name}-{first + start:09}", moment, bundle, rows[part], given[part])).result()
        return f"{name}-{first:09}"

    def count(self, route: str, status: int, seconds: float, slow: bool) -> None:
        """Count a request that was answered or refused; `slow`: over its latency budget."""
        with self._changed:
            counts = self._counts.setdefault((int(time.time() // 60), route, status), [0, 0.0, 0])
            counts[:] = counts[0] + 1, counts[1] + seconds, counts[2] + slow

    def waiting(self) -> int:
        """Return how many requests wait to be written."""
        return len(self._line)

    def failure(self, bundle: Bundle | None = None) -> str | None:
        """Return why nothing, or nothing of `bundle`, can be written, or None. After a failure it tries again, up to `BUSY` s."""
        if self._failure:
            with suppress(LogError, Late):
                self.submit(None).result(timeout=BUSY)
        if bundle is not None and not self._failure:
            try:
                self._layout(bundle)
            except LogError as error:
                return str(error)
        return self._failure

    def close(self) -> None:
        """Write what waits, and close; what comes later is refused."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _layout(self, bundle: Bundle) -> Layout:
        if bundle.version not in self._layouts:
            self._layouts[bundle.version] = Layout.of(bundle, self.place)
        return self._layouts[bundle.version]

    def _write(self) -> None:
        while (batch := self._next()) is not None:
            if batch or self._counts:
                self._write_batch(batch)
        self._disconnect()

    def _next(self) -> list[Waiting] | None:
        """Return all that waits, as soon as there is something, or nothing after `TICK` s; None once all of a closed log is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or not self._open, TICK)
            if not self._line and not self._open and not self._counts:
                return None
            batch, self._line = self._line, []
        return batch

    def _write_batch(self, batch: list[Waiting]) -> None:
        wanted = [(entry, done) for entry, done in batch if done.set_running_or_notify_cancel()]
        try:
            self._commit([entry for entry, _ in wanted])
        except Exception as error:  # whatever it was: nobody may wait for ever, or be answered
            self._disconnect()
            advice = "make room or mend its rights, or serve with another --log"
            failed = f"the prediction log {self.place} cannot be written ({error}); {advice}"
            self._failure = str(error) if isinstance(error, LogError) else failed
            for _, done in wanted:
                done.set_exception(LogError(self._failure))
        else:
            self._failure = None
            for _, done in wanted:
                done.set_result(None)

    def _commit(self, entries: list[Entry | None]) -> None:
        counts = self._due()
        for _ in range(2):
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            for entry in entries:
                _insert(connection, entry)
            connection.executemany(COUNTED, ((*key, *values) for key, values in counts.items()))
            connection.execute("COMMIT")
            self.commits += 1
            if self._in_place():
                return
            self._disconnect()  # the file was taken away: once more, to a new one
        raise LogError(
            f"the prediction log {self.place} was taken away twice while it was written; leave it in its place"
        )

    def _due(self) -> Counts:
        """Return the counts that are to be written now; a write that fails loses them."""
        with self._changed:
            if self._open and time.monotonic() < self._counted + TICK:
                return {}
            counts, self._counts, self._counted = self._counts, {}, time.monotonic()
        return counts

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None or not self._in_place():
            self._disconnect()
            self._connection = connect(self.place)
            found = self.place.stat()
            self._file = (found.st_dev, found.st_ino)
        return self._connection

    def _in_place(self) -> bool:
        try:
            found = self.place.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def connect(place: Path) -> sqlite3.Connection:
    """Open a log for writing; make it if there is none.

    Raises
    ------
    LogError
        If it is another program's file, of another format, or on a disk of another machine.
    sqlite3.Error, OSError
        If it cannot be opened.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(place, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        program, version, tables = connection.execute(FOUND).fetchone()  # at one moment: another may be making it
        ours = program == OURS
        if tables and not ours:
            raise LogError(f"{place}: found another program's database, expected a prediction log; name another place")
        if ours and version != FORMAT:
            raise LogError(
                f"{place}: found a prediction log of format {version}, expected format {FORMAT}; export it (`ninefold log`) "
                "with the version of ninefold that wrote it, then move it away: a new one is made"
            )
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works for a new one, before WAL
        if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
            raise LogError(f"{place}: found journal mode {mode}, expected wal; put the log on a disk of this machine")
        connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk
        connection.execute("PRAGMA fullfsync = ON")  # on macOS, too
        if not ours:
            connection.executescript(SCHEMA)
            artifacts.sync(place.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _insert(connection: sqlite3.Connection, entry: Entry | None) -> None:
    if entry is None:  # a trial
        connection.execute("INSERT OR REPLACE INTO trials VALUES (1, ?)", (microseconds(datetime.now(UTC)),))
        return
    connection.execute("INSERT OR IGNORE INTO bundles VALUES (?, ?)", (entry.version, entry.described))
    number = connection.execute(
        "INSERT INTO requests (request_id, moment, version, rows, role) VALUES (?, ?, ?, ?, ?)",
        (entry.request_id, entry.moment, entry.version, len(entry.rows), entry.role),
    ).lastrowid
    rows = ((number, at, *texts) for at, texts in enumerate(entry.rows))
    connection.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?)", rows)

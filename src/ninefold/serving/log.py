"""The prediction log: what was asked and answered, on disk before it is answered; exported once, kept for a time."""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from ninefold.core import decisions, io
from ninefold.core.errors import DataError, NinefoldError
from ninefold.core.moments import MICROSECONDS
from ninefold.serving.bundle import Bundle
from ninefold.serving.signature import EPOCH, as_rows, days

LOG = "data/predictions/log.sqlite"
BUSY = 5.0  # seconds to wait for another process that writes to the same log
ROWS_A_FILE = 200_000
ROWS_A_REQUEST = 1000  # of a table that was answered at once
TICK = 2.0  # seconds between two writes of the traffic
OURS, FORMAT = 0x4E696E65, 2  # as SQLite's application_id and user_version
CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"  # what the bundle that answered was; a shadow's is not given
META = {
    "request_id": pa.string(),
    "row": pa.int64(),
    "moment": pa.timestamp("us"),
    "version": pa.string(),
    "role": pa.string(),
}
TRAFFIC = """
CREATE TABLE IF NOT EXISTS traffic (minute INTEGER NOT NULL, route TEXT NOT NULL, status INTEGER NOT NULL,
    requests INTEGER NOT NULL, seconds REAL NOT NULL, slow INTEGER NOT NULL, PRIMARY KEY (minute, route, status));
"""
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS bundles (version TEXT PRIMARY KEY, described TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (number INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL,
    moment INTEGER NOT NULL, version TEXT NOT NULL, rows INTEGER NOT NULL, role TEXT NOT NULL DEFAULT 'champion');
CREATE INDEX IF NOT EXISTS requests_by_id ON requests (request_id);
CREATE INDEX IF NOT EXISTS requests_by_moment ON requests (moment);
CREATE TABLE IF NOT EXISTS predictions (request INTEGER NOT NULL, row INTEGER NOT NULL, inputs TEXT NOT NULL,
    outputs TEXT NOT NULL, PRIMARY KEY (request, row));
CREATE TABLE IF NOT EXISTS exports (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS trials (number INTEGER PRIMARY KEY, moment INTEGER NOT NULL);
{TRAFFIC}
PRAGMA application_id = {OURS};
PRAGMA user_version = {FORMAT};
COMMIT;
"""
UPGRADE = f"""
BEGIN IMMEDIATE;
ALTER TABLE requests ADD COLUMN role TEXT NOT NULL DEFAULT 'champion';
{TRAFFIC}
PRAGMA user_version = {FORMAT};
COMMIT;
"""
SELECT = """
SELECT r.request_id, p.row, r.moment, r.version, r.role, p.inputs, p.outputs
FROM requests r JOIN predictions p ON p.request = r.number
"""
COUNTED = """
INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (minute, route, status) DO UPDATE SET
requests = requests + excluded.requests, seconds = seconds + excluded.seconds, slow = slow + excluded.slow
"""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class LogError(NinefoldError):
    """The log cannot be written: what was asked must not be answered."""


class Entry(NamedTuple):
    """A request as it is written: JSON texts of the inputs and outputs of every row, redacted where it was asked."""

    request_id: str
    moment: int
    version: str
    described: str
    role: str
    rows: list[tuple[str, str]]


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
        self._line: list[tuple[Entry | None, Future[None]]] = []
        self._changed = threading.Condition()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] = (0, 0)
        self._layouts: dict[str, _Layout] = {}
        self.shown: set[tuple[str, str]] = set()
        self._counts: dict[tuple[int, str, int], list[float]] = {}
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
            That answered; its ``log.redact`` names the fields whose values are hashed, see `pseudonym`.
        rows : sequence of mapping
            Fields of the bundle's signature; absent ones become null, and other ones are left out. What identifies a row
            (type ``any``) becomes text, see `as_text`.
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
        texts = [(layout.inputs(row), _encode(answer)) for row, answer in zip(rows, answers, strict=True)]
        return Entry(request_id, _microseconds(moment), bundle.version, layout.described, role, texts)

    def submit(self, entry: Entry) -> Future[None]:
        """Put an entry in line; the future is done when it is on disk, or holds the `LogError`."""
        return self._submit(entry)

    def count(self, route: str, status: int, seconds: float, slow: bool) -> None:
        """Count a request that was answered or refused; `slow`: over its latency budget."""
        with self._changed:
            counts = self._counts.setdefault((int(time.time() // 60), route, status), [0, 0.0, 0])
            counts[:] = counts[0] + 1, counts[1] + seconds, counts[2] + slow

    def append(
        self,
        request_id: str,
        moment: datetime,
        bundle: Bundle,
        rows: Sequence[Mapping[str, Any]],
        answers: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a request, see `entry`, and return when it is on disk.

        Raises
        ------
        LogError
            If it is not.
        """
        self.submit(self.entry(request_id, moment, bundle, rows, answers)).result()

    def waiting(self) -> int:
        """Return how many requests wait to be written."""
        return len(self._line)

    def failure(self, bundle: Bundle | None = None) -> str | None:
        """Return why nothing, or nothing of `bundle`, can be written, or None. After a failure it tries again, up to `BUSY` s."""
        if self._failure:
            with suppress(LogError, Late):
                self._submit(None).result(timeout=BUSY)
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

    def _layout(self, bundle: Bundle) -> _Layout:
        if bundle.version not in self._layouts:
            self._layouts[bundle.version] = _Layout.of(bundle, self.place)
        return self._layouts[bundle.version]

    def _submit(self, entry: Entry | None) -> Future[None]:
        done: Future[None] = Future()
        with self._changed:
            if self._open:
                self._line.append((entry, done))
                self._changed.notify()
            else:
                done.set_exception(LogError(f"the prediction log {self.place} is closed: the service is stopping"))
        return done

    def _write(self) -> None:
        while (batch := self._next()) is not None:
            if batch or self._counts:
                self._write_batch(batch)
        self._disconnect()

    def _next(self) -> list[tuple[Entry | None, Future[None]]] | None:
        """Return all that waits, as soon as there is something, or nothing after `TICK` s; None once all of a closed log is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or not self._open, TICK)
            if not self._line and not self._open and not self._counts:
                return None
            batch, self._line = self._line, []
        return batch

    def _write_batch(self, batch: list[tuple[Entry | None, Future[None]]]) -> None:
        wanted = [(entry, done) for entry, done in batch if done.set_running_or_notify_cancel()]
        try:
            self._commit([entry for entry, _ in wanted])
        except Exception as error:  # whatever it was: nobody may wait for ever, or be answered
            self._disconnect()
            self._failure = (
                f"the prediction log {self.place} cannot be written ({error}); make room or mend its rights, "
                "or serve with another --log"
            )
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
        raise LogError("taken away while it was written")

    def _due(self) -> dict[tuple[int, str, int], list[float]]:
        """Return the counts that are to be written now; a write that fails loses them."""
        with self._changed:
            if self._open and time.monotonic() < self._counted + TICK:
                return {}
            counts, self._counts, self._counted = self._counts, {}, time.monotonic()
        return counts

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None or not self._in_place():
            self._disconnect()
            self._connection = _open(self.place)
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


class _Layout(NamedTuple):
    """How rows of one bundle are written."""

    described: str
    kinds: dict[str, str]
    redacted: frozenset[str]
    key: bytes

    @classmethod
    def of(cls, bundle: Bundle, place: Path) -> _Layout:
        redacted = frozenset(bundle.described["log"]["redact"])
        kinds = {field["name"]: field["type"] for field in bundle.signature}
        fields = {name: "any" if name in redacted else kind for name, kind in kinds.items()}
        text = {"action"} if decisions.is_class(bundle.stated) else set()
        answers = {name: "any" if name in text else "number" for name in bundle.answers}
        described = {"model": bundle.name, "fields": fields, "answers": answers, "columns": bundle.added}
        return cls(_encode(described), kinds, redacted, key(place) if redacted else b"")

    def inputs(self, row: Mapping[str, Any]) -> str:
        """Return a row as JSON."""
        kept: dict[str, Any] = {}
        for name, kind in self.kinds.items():
            value = row.get(name)
            if value is not None and name in self.redacted:
                value = pseudonym(value, self.key)
            elif value is not None and kind == "any":
                value = as_text(value)
            kept[name] = value
        return _encode(kept)


def record(
    frame: pd.DataFrame,
    answers: pd.DataFrame,
    bundle: Bundle,
    log: Log,
    name: str,
    first: int = 0,
    moment: datetime | None = None,
    role: str = CHAMPION,
) -> str:
    """Write a table that was answered at once to the prediction log, and return the id of the first request that it is there.

    It makes a request for each `ROWS_A_REQUEST` rows.

    Parameters
    ----------
    frame : DataFrame
        The features as the model saw them, history looked up; beside them, what identifies a row, where it is known.
    answers : DataFrame
        The columns ``bundle.answers`` of the same rows.
    bundle : Bundle
    log : Log
    name : str
        Of the run. The id is ``<name>-<first>``, so that a run that was ended and repeated gives the same ids; rows count
        from 0 in each request.
    first : int
        The number of rows of the run before this table.
    moment : datetime, optional
        With a zone; default: now.
    role : str
        `CHAMPION`, `CANARY` or `SHADOW`: of a shadow's answers nothing is decided.

    Raises
    ------
    LogError
        If it is not on disk.
    """
    absent = [field["name"] for field in bundle.signature if field["name"] not in frame]
    rows = as_rows(frame.assign(**dict.fromkeys(absent, None)), bundle.signature)
    given = answers[bundle.answers].astype(object).where(answers[bundle.answers].notna(), None).to_dict("records")
    moment = moment or datetime.now(UTC)
    for start in range(0, len(rows), ROWS_A_REQUEST):
        part = slice(start, start + ROWS_A_REQUEST)
        entry = log.entry(f"{name}-{first + start:09}", moment, bundle, rows[part], given[part], role)
        log.submit(entry).result()
    return f"{name}-{first:09}"


def filled(rows: Sequence[Mapping[str, Any]], bundle: Bundle) -> list[dict[str, Any]]:
    """Return rows with the history that `Bundle.answer` looks up for them; what is not known of it is None."""
    found = []
    for row in rows:
        looked_up = {name: store.of(tuple(map(row.get, store.by))) for name, store in bundle.online.items()}
        found.append({**{name: None if value != value else value for name, value in looked_up.items()}, **row})
    return found


def as_text(value: Any) -> str:
    """Return a value as the text by which it is joined: 7, 7.0 and "7" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else _encode(value)


def pseudonym(value: Any, secret: bytes) -> str:
    """Return what a redacted value is replaced by: the first 128 bits of its HMAC-SHA-256 (RFC 2104), hexadecimal.

    Equal values, of whichever column, give equal pseudonyms, so that joins and counts still work: whoever holds the key
    hashes the other table's column with it. Who has the log or an export, but not the key, can neither read a value nor
    test a guess. It does not hide which rows have the same value, how frequent it is, or that it is missing; columns that
    are not redacted may still name a person, and so may request ids. Who has the key can test guesses. What was written
    before a column was redacted stays as it is. Without its key, a pseudonym can never be led back.
    """
    return hmac.new(secret, as_text(value).encode(), "sha256").hexdigest()[:32]


def key(place: Path) -> bytes:
    """Return the key of the pseudonyms of the log at `place`; make it (32 random bytes, mode 0600) if there is none.

    It lies beside the log as ``log.key``: keep copies of it elsewhere than copies of the log.

    Raises
    ------
    LogError
        If it cannot be read or made, or is none.
    """
    file = place.with_suffix(".key")
    try:
        if not file.exists():
            _make_key(file)
        content = bytes.fromhex(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise LogError(f"{file}: no key can be read there ({error}); put back the copy that you keep") from None
    if len(content) != 32:
        raise LogError(f"{file}: {len(content)} bytes, expected 32; put back the copy that you keep")
    return content


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
    before = _microseconds((now or datetime.now(UTC)) - pd.Timedelta(keep))
    with _existing(place) as connection, _alone(place):
        found = connection.execute(
            "SELECT number FROM requests WHERE moment < ? AND number <= (SELECT max(last) FROM exports WHERE done)",
            (before,),
        ).fetchall()
        for start in range(0, len(found), 1000):  # short transactions: the service writes in between
            some = found[start : start + 1000]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM predictions WHERE request = ?", some)
            connection.executemany("DELETE FROM requests WHERE number = ?", some)
            connection.execute("COMMIT")
        connection.execute("DELETE FROM traffic WHERE minute < ?", (before // 60_000_000,))
        connection.execute("PRAGMA incremental_vacuum").fetchall()
    return len(found)


def read(place: Path, since: datetime | None = None, until: datetime | None = None) -> pd.DataFrame:
    """Return the log's rows in the order of writing, answered from `since` on and before `until`, as `export` types them.

    What `prune` deleted is in the exported files alone. Fields that a bundle did not have are missing in its rows.

    Raises
    ------
    DataError
        If there is no log, or it is none of ours.
    """
    bounds = tuple(
        default if at is None else _microseconds(at) for at, default in ((since, -(2**63)), (until, 2**63 - 1))
    )
    with _existing(place) as connection:
        rows = _rows(connection, " WHERE r.moment >= ? AND r.moment < ? ORDER BY p.request, p.row", bounds)
        tables = [
            _typed(group, _described(connection, version)).to_pandas().set_axis(group.index)
            for version, group in rows.groupby("version", sort=False)
        ]
    if not tables:
        return pa.table({name: pa.array([], kind) for name, kind in META.items()}).to_pandas()
    return pd.concat(tables).sort_index()


def _insert(connection: sqlite3.Connection, entry: Entry | None) -> None:
    if entry is None:  # a trial
        connection.execute("INSERT OR REPLACE INTO trials VALUES (1, ?)", (_microseconds(datetime.now(UTC)),))
        return
    connection.execute("INSERT OR IGNORE INTO bundles VALUES (?, ?)", (entry.version, entry.described))
    number = connection.execute(
        "INSERT INTO requests (request_id, moment, version, rows, role) VALUES (?, ?, ?, ?, ?)",
        (entry.request_id, entry.moment, entry.version, len(entry.rows), entry.role),
    ).lastrowid
    rows = ((number, at, *texts) for at, texts in enumerate(entry.rows))
    connection.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?)", rows)


def _open(place: Path) -> sqlite3.Connection:
    """Open a log for writing; make it if there is none."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(place, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if found != OURS and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LogError("another program's database; choose another place")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works for a new one, before WAL
        if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
            raise LogError(f"journal mode {mode}, expected wal, which needs a disk of this machine")
        connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk
        connection.execute("PRAGMA fullfsync = ON")  # on macOS, too
        if found != OURS:
            connection.executescript(SCHEMA)
            io.sync(place.parent)
        elif (version := connection.execute("PRAGMA user_version").fetchone()[0]) == 1:
            connection.executescript(UPGRADE)
        elif version != FORMAT:
            raise LogError(f"format {version}, expected {FORMAT}; move it away, and a new one is made")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _existing(place: Path) -> Iterator[sqlite3.Connection]:
    if not place.is_file():
        raise DataError(f"{place}: no prediction log there; `ninefold serve` writes one, or name its --log")
    try:
        with closing(_open(place)) as connection:
            yield connection
    except (sqlite3.Error, LogError, OSError) as error:
        raise DataError(f"{place}: the prediction log cannot be read, exported or cleared ({error})") from None


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the lock of exporting and pruning, which dies with the process."""
    with place.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"{place}: another export or clean-up of it runs; wait for its end") from None
        yield


def _plan(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Return the first and last request of the next files: those that were begun, or new ones; None if there are none."""
    begun = connection.execute("SELECT first, last FROM exports WHERE NOT done").fetchone()
    if begun:
        return (int(begun[0]), int(begun[1]))
    connection.execute(
        "BEGIN IMMEDIATE"
    )  # numbers are given in the order of commits, so that none comes in between later
    new = connection.execute(
        "SELECT number, rows FROM requests WHERE number > (SELECT coalesce(max(last), 0) FROM exports) ORDER BY number LIMIT ?",
        (ROWS_A_FILE,),
    )
    first, last, total = 0, 0, 0
    for number, rows in new:
        if first and total + rows > ROWS_A_FILE:
            break
        first, last, total = first or number, number, total + rows
    if first:
        connection.execute("INSERT INTO exports (first, last) VALUES (?, ?)", (first, last))
    connection.execute("COMMIT")
    return (first, last) if first else None


def _rows(connection: sqlite3.Connection, where: str, bounds: tuple[int, ...]) -> pd.DataFrame:
    found = connection.execute(SELECT + where, bounds).fetchall()
    return pd.DataFrame(found, columns=[*META, "inputs", "outputs"], dtype=object)


def _described(connection: sqlite3.Connection, version: str) -> dict[str, Any]:
    found = connection.execute("SELECT described FROM bundles WHERE version = ?", (version,)).fetchone()
    return dict(json.loads(found[0]))


def _typed(rows: pd.DataFrame, described: dict[str, Any]) -> pa.Table:
    """Return rows of one bundle with a column per field and answer."""
    taken = {*described["fields"], *described["columns"].values()}
    columns = {_free(name, taken): pa.array(rows[name].tolist(), kind) for name, kind in META.items()}
    columns |= _parsed(rows["inputs"].tolist(), described["fields"])
    answers = _parsed(rows["outputs"].tolist(), described["answers"])
    return pa.table(columns | {described["columns"][name]: column for name, column in answers.items()})


def _parsed(lines: list[str], kinds: dict[str, str]) -> dict[str, pa.ChunkedArray]:
    """Return JSON objects as columns; Arrow reads a million of them in seconds."""
    schema = pa.schema([(name, pa.float64() if kind == "number" else pa.string()) for name, kind in kinds.items()])
    content = "\n".join(lines).encode()
    block = max(1 << 20, 2 * max(map(len, lines)) * 4)  # holds any line; a character has 4 bytes at most
    table = pyarrow.json.read_json(
        pa.BufferReader(content),
        read_options=pyarrow.json.ReadOptions(block_size=min(block, 2**31 - 1)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return {name: _moments(table[name]) if kind == "date" else table[name] for name, kind in kinds.items()}


def _moments(texts: pa.ChunkedArray) -> pa.Array:
    counted = [None if text is None else round(days(text) * MICROSECONDS) for text in texts.to_pylist()]
    return pa.array(counted, pa.timestamp("us"))


def _free(name: str, taken: set[str]) -> str:
    return _free(f"{name}_logged", taken) if name in taken else name


def _write_parquet(table: pa.Table, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.tmp")
    with temporary.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, place)
    for folder in (place.parent, place.parent.parent):
        io.sync(folder)


def _make_key(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
        stream.flush()
        os.fsync(stream.fileno())
    with suppress(FileExistsError):  # another process was first: its key counts
        os.link(temporary, file)
    temporary.unlink()
    io.sync(file.parent)


def _microseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)

"""The prediction log: every answer is on disk before it is returned, as JSON in which redacted values are keyed hashes."""

import hmac
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from ninefold import artifacts
from ninefold.collection import plain
from ninefold.errors import NinefoldError
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import EPOCH, as_rows, with_history

LOG = "data/predictions/log.sqlite"
BUSY = 5.0  # seconds to wait for another process that writes to the same log
ROWS_A_REQUEST = 1000  # of a table that was answered at once
TICK = 2.0  # seconds after which the traffic is written, if nothing else is
OURS, FORMAT = 0x4E696E65, 2  # as SQLite's application_id and user_version
SQL: dict[str, str] = yaml.safe_load(Path(__file__).with_name("log.yaml").read_text("utf-8"))
CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"  # role of the bundle; a shadow's answer is not returned
KEY_BYTES = 32
Rows = Sequence[Mapping[str, Any]]
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class LogError(NinefoldError):
    """The log cannot be written: what was asked must not be answered."""


class Entry(NamedTuple):
    """A request as it is written; `rows` are JSON texts of the inputs and outputs of every row."""

    request_id: str
    moment: int  # microseconds since 1970, UTC
    version: str
    described: str
    role: str
    rows: list[tuple[str, str]]


class Layout:
    """How rows of a bundle are written to the log at `place`; its ``log.redact`` names the redacted fields."""

    def __init__(self, bundle: Bundle, place: Path) -> None:
        self.kinds = {field["name"]: field["type"] for field in bundle.signature}
        self.redacted = frozenset(bundle.described["log"]["redact"])
        self.key = key(place) if self.redacted else b""
        fields = {name: "any" if name in self.redacted else kind for name, kind in self.kinds.items()}
        answers = dict.fromkeys(bundle.answers, "number") | ({"action": "any"} if bundle.problem.is_class else {})
        self.described = encode({"model": bundle.name, "fields": fields, "answers": answers, "columns": bundle.added})

    def inputs(self, row: Mapping[str, Any]) -> str:
        """Return a row as JSON: absent fields are null, others left out; what identifies a row is text, see `as_text`."""
        values = {name: row.get(name) for name in self.kinds}
        for name, value in values.items():
            if value is not None and name in self.redacted:
                values[name] = pseudonym(value, self.key)
            elif value is not None and self.kinds[name] == "any":
                values[name] = as_text(value)
        return encode(values)


class Log:
    """A prediction log, open for writing: SQLite in WAL mode, synced at every commit.

    One thread writes all that waits in one commit, so that many callers at once cost little more than one. Several
    processes may write to one log, on a disk of this machine (WAL needs it). After a failed write the next one opens the
    log again; a log that was moved or removed is made again. Counts of requests are written with the next commit: a
    process that is killed loses the last ones.
    `place` is made if absent, for this user alone (mode 0600); ``-wal`` and ``-shm`` beside it belong to it.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.commits = place, 0
        self.shown: set[tuple[str, str]] = set()  # versions of bundles, digests of tables: written whole, so not again
        self.queue: list[tuple[Entry | None, Future[None]]] = []  # requests that wait to be written
        self._changed = threading.Condition()
        self._connection: sqlite3.Connection | None = None
        self._file: Any = None
        self._layouts: dict[str, Layout] = {}
        self._counts: list[tuple[Any, ...]] = []  # rows of the table traffic
        self._open = True
        self._failure: str | None = f"the prediction log {place} was not opened yet"
        self._thread = threading.Thread(target=self._write, name="prediction log", daemon=True)
        self._thread.start()
        self.failure()

    def entry(
        self, request_id: str, moment: datetime, bundle: Bundle, rows: Rows, answers: Rows, role: str = CHAMPION
    ) -> Entry:
        """Return what is to be written of a request that `bundle` answered at `moment` (with a zone) in a `role`.

        `rows` have fields of the bundle's signature (the history that `Bundle.answer` looks up for them is written, too),
        `answers` are the records of `Bundle.answer`. `LogError` if the key of the hashes cannot be read or made.
        """
        layout = self._layout(bundle)
        inputs = [layout.inputs(with_history(row, bundle.online)) for row in rows]
        texts = list(zip(inputs, map(encode, answers), strict=True))
        return Entry(request_id, microseconds(moment), bundle.version, layout.described, role, texts)

    def submit(self, entry: Entry | None) -> Future[None]:
        """Queue an entry; the future is done when it is on disk, or has the `LogError`. None tries whether one can write."""
        done: Future[None] = Future()
        with self._changed:
            if self._open:
                self.queue.append((entry, done))
                self._changed.notify()
            else:
                done.set_exception(LogError(f"the prediction log {self.place} is closed: the service is stopping"))
        return done

    def record(self, frame: pd.DataFrame, answers: pd.DataFrame, bundle: Bundle, name: str, first: int = 0) -> str:
        """Write a table that was answered at once, a request for each `ROWS_A_REQUEST` rows; return the first one's id.

        `frame` has the features as the model saw them, history looked up, and what identifies a row, where it is known;
        `answers` the columns ``bundle.answers``. Ids are ``<name>-<number of the row in the run>``, and begin at `first`.
        `LogError` if it is not on disk.
        """
        rows = as_rows(frame.reindex(columns=[field["name"] for field in bundle.signature]), bundle.signature)
        values = answers[bundle.answers].astype(object).where(answers[bundle.answers].notna(), None).to_dict("records")
        moment = datetime.now(UTC)
        for start in range(0, len(rows), ROWS_A_REQUEST):
            part = slice(start, start + ROWS_A_REQUEST)
            self.submit(self.entry(f"{name}-{first + start:09}", moment, bundle, rows[part], values[part])).result()
        return f"{name}-{first:09}"

    def count(self, route: str, status: int, seconds: float, slow: bool) -> None:
        """Count a request that was answered or refused; `slow`: over its latency budget."""
        with self._changed:
            self._counts.append((int(time.time() // 60), route, status, 1, seconds, slow))

    def failure(self, bundle: Bundle | None = None) -> str | None:
        """Return why nothing, or nothing of `bundle`, can be written; None if it can. After a failure it tries again."""
        try:
            if self._failure:
                self.submit(None).result(timeout=BUSY)
            if bundle is not None:
                self._layout(bundle)
        except LogError as error:
            return str(error)
        except TimeoutError:
            return self._failure
        return None

    def close(self) -> None:
        """Write what waits, and close; what comes later is refused."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _layout(self, bundle: Bundle) -> Layout:
        if bundle.version not in self._layouts:
            self._layouts[bundle.version] = Layout(bundle, self.place)
        return self._layouts[bundle.version]

    def _write(self) -> None:
        """Write all that waits in one commit, at least every `TICK` s, until all of a closed log is written."""
        while self._open or self.queue or self._counts:
            with self._changed:
                self._changed.wait_for(lambda: self.queue or not self._open, TICK)
                (queue, self.queue), (counts, self._counts) = (self.queue, []), (self._counts, [])
            batch = [(entry, done) for entry, done in queue if done.set_running_or_notify_cancel()]
            if batch or counts:
                try:
                    self._commit([entry for entry, _ in batch], counts)
                    self._failure = None
                except Exception as error:  # whatever it was: nobody may wait for ever, or be answered
                    self._disconnect()
                    advice = "make room or fix its rights, or serve with another --log"
                    failed = f"the prediction log {self.place} cannot be written ({error}); {advice}"
                    self._failure = str(error) if isinstance(error, LogError) else failed
            for _, done in batch:
                done.set_exception(LogError(self._failure)) if self._failure else done.set_result(None)
        self._disconnect()

    def _commit(self, entries: list[Entry | None], counts: list[tuple[Any, ...]]) -> None:
        if self._connection is None or not self._in_place():
            self._disconnect()
            self._connection, self._file = connect(self.place), self.place.stat()
        self._connection.execute("BEGIN IMMEDIATE")
        for entry in entries:
            if entry is None:  # whether one can write
                trial = "INSERT OR REPLACE INTO trials VALUES (1, ?)"
                self._connection.execute(trial, (microseconds(datetime.now(UTC)),))
                continue
            self._connection.execute("INSERT OR IGNORE INTO bundles VALUES (?, ?)", (entry.version, entry.described))
            request = (entry.request_id, entry.moment, entry.version, len(entry.rows), entry.role)
            number = self._connection.execute(SQL["request"], request).lastrowid
            rows = ((number, row, *texts) for row, texts in enumerate(entry.rows))
            self._connection.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?)", rows)
        self._connection.executemany(SQL["traffic"], counts)
        self._connection.execute("COMMIT")
        self.commits += 1
        if not self._in_place():  # the entries are in no file
            raise LogError(f"the prediction log {self.place} was taken away while it was written; leave it there")

    def _in_place(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(self.place.stat(), self._file)
        return False

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def connect(place: Path) -> sqlite3.Connection:
    """Open a log, made if absent; `LogError` if it is another program's, of another format, or on a remote disk."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():  # closing any descriptor of it would drop the locks that SQLite holds in this process
        artifacts.private(place, "ab").close()
    connection = sqlite3.connect(place, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        program, version, tables = connection.execute(SQL["kind"]).fetchone()  # at one moment: another may be making it
        if tables and program != OURS:
            raise LogError(f"{place}: found another program's database, expected a prediction log; name another place")
        if program == OURS and version != FORMAT:
            advice = "export it (`ninefold log`) with the version of ninefold that wrote it, then move it away"
            raise LogError(f"{place}: found a prediction log of format {version}, expected format {FORMAT}; {advice}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works for a new one, before WAL
        if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
            raise LogError(f"{place}: found journal mode {mode}, expected wal; put the log on a disk of this machine")
        connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk
        connection.execute("PRAGMA fullfsync = ON")  # on macOS, too
        if program != OURS:
            connection.executescript(SQL["schema"].format(program=OURS, format=FORMAT))
            artifacts.sync(place.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def as_text(value: Any) -> str:
    """Return a value as the text by which it is joined: 7, 7.0, "7" and a decimal 7.00 are the same."""
    if isinstance(value, float | Decimal) and value % 1 == 0:
        value = int(value)
    return encode(value) if isinstance(value, float | list | dict) else plain(value)


def pseudonym(value: Any, secret: bytes) -> str:
    """Return what replaces a redacted value: the first 128 bits of its HMAC-SHA-256 (RFC 2104), hexadecimal.

    Equal values, of whichever column, give equal pseudonyms, so that joins and counts still work. Without the key nobody
    can read a value or test a guess. What was written before a column was redacted stays as it is.
    """
    return hmac.new(secret, as_text(value).encode(), "sha256").hexdigest()[:32]


def key(place: Path) -> bytes:
    """Return the key of a log's pseudonyms, ``log.key``, made (mode 0600) if there is none; `LogError` if it is none."""
    file = place.with_suffix(".key")
    try:
        if not file.exists():
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            artifacts.write_durable(secrets.token_hex(KEY_BYTES).encode(), temporary)
            with suppress(FileExistsError):  # another process was first: its key counts
                os.link(temporary, file)
            temporary.unlink()
            artifacts.sync(file.parent)
        content = bytes.fromhex(file.read_text(encoding="ascii"))
        if len(content) != KEY_BYTES:
            raise ValueError(f"{len(content)} bytes, expected {KEY_BYTES}")
    except (OSError, ValueError) as error:
        raise LogError(f"{file}: no key can be read there ({error}); put back the copy that you keep") from None
    return content


def microseconds(moment: datetime) -> int:
    """Return a moment with a zone as microseconds since 1970, UTC."""
    return (moment.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)

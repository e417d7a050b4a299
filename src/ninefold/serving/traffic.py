"""What goes through the service now: answers of the last hour and day from the prediction log, requests from the meters."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from pydantic import BaseModel, Field

from ninefold.core import decisions
from ninefold.serving.log import SHADOW, Log
from ninefold.serving.operations import Meters
from ninefold.serving.signature import EPOCH

MINUTE, HOUR, DAY = 60_000_000, 60, 24 * 60  # microseconds; minutes
WAIT = 2.0  # seconds that a look waits for what is new to be counted
ROUTES = frozenset({"/predict", "/v2/models/{name}/infer"})  # that ask for answers
LAST = "SELECT number, request_id, moment FROM requests"
REQUESTS = """
SELECT moment / ?, count(*) FROM requests WHERE number > ? AND moment >= ? AND role != 'shadow' GROUP BY 1
"""
ROWS = """
SELECT r.moment / ?, r.version, r.role, {action}, count(*), count({level}), total({level})
FROM requests r JOIN predictions p ON p.request = r.number WHERE r.number > ? AND r.moment >= ? GROUP BY 1, 2, 3, 4
"""


class Share(BaseModel):
    """Rows that one version answered with one action, in one role."""

    version: str
    role: str = Field(
        description="champion, canary or shadow; a shadow's answers are not given, and no part of the sums"
    )
    action: str | None = Field(description="null where actions are quantities")
    rows: int
    mean_forecast: float | None = Field(
        description="the mean probability of the event (of several classes: the one in focus), or the mean prediction"
    )


class Traffic(BaseModel):
    """What was answered in a span of time, by the prediction log."""

    requests: int
    rows: int
    mean_forecast: float | None
    by: list[Share]


class Measured(BaseModel):
    """The requests for answers since this process started."""

    requests: int
    refused: int = Field(description="answered with 4xx")
    errors: int = Field(description="answered with 5xx")
    p95_ms: float | None = Field(description="time within which 95 % of the requests were answered, interpolated")


class Tally:
    """A prediction log, counted by minute in a thread of its own: each look reads what is new since the last."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._thread, self._adding = ThreadPoolExecutor(1, "tally"), threading.Lock()
        self._counting: Future[None] | None = None
        self._forget()

    def now(self, moment: datetime, stated: dict[str, Any]) -> tuple[Traffic, Traffic] | None:
        """Return what was answered in the last hour, and in the last day, to the minute; None while the first look takes long.

        Raises
        ------
        sqlite3.Error
            If the log cannot be read.
        """
        last = int((moment.replace(tzinfo=None) - EPOCH) / timedelta(minutes=1))
        if self._counting is None or self._counting.done():
            self._counting = self._thread.submit(self._count, last - DAY, stated)
        with suppress(TimeoutError):
            self._counting.result(WAIT)
        with self._adding:
            return (self._sum(last - HOUR), self._sum(last - DAY)) if self._counted else None

    def _forget(self) -> None:
        self._counted = False
        self._last: tuple[int, str, int] | None = None  # the last request counted
        self._requests: dict[int, int] = defaultdict(int)
        self._rows: dict[tuple[int, str, str, str | None], list[float]] = defaultdict(lambda: [0, 0, 0.0])

    def _count(self, before: int, stated: dict[str, Any]) -> None:
        """Add what was written since the last time, and drop what is older than `before`."""
        address = f"file:{quote(str(self.place))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=1, isolation_level=None)) as connection:
            connection.execute("BEGIN")  # what follows sees one state of the log
            newest = connection.execute(f"{LAST} ORDER BY number DESC LIMIT 1").fetchone()
            last = self._last
            if last and connection.execute(f"{LAST} WHERE number = ?", last[:1]).fetchone() != last:
                last = None  # another log stands there
            span = (MINUTE, last[0] if last else 0, before * MINUTE)
            requests = connection.execute(REQUESTS, span).fetchall()
            rows = connection.execute(ROWS.format(**_columns(connection, stated)), span).fetchall()
        with self._adding:
            if last is None:
                self._forget()
            self._add(requests, rows, before)
            self._last, self._counted = newest, True

    def _add(self, requests: list[Any], rows: list[Any], before: int) -> None:
        for minute, count in requests:
            self._requests[minute] += count
        for minute, version, role, action, *numbers in rows:
            sums = self._rows[minute, version, role, action]
            sums[:] = [have + more for have, more in zip(sums, numbers, strict=True)]
        for minute in [minute for minute in self._requests if minute <= before]:
            del self._requests[minute]
        for key in [key for key in self._rows if key[0] <= before]:
            del self._rows[key]

    def _sum(self, since: int) -> Traffic:
        shares: dict[tuple[str, str, str | None], list[float]] = defaultdict(lambda: [0, 0, 0.0])
        for (minute, *key, action), numbers in self._rows.items():
            if minute > since:
                sums = shares[key[0], key[1], action]
                sums[:] = [have + more for have, more in zip(sums, numbers, strict=True)]
        ordered = sorted(shares.items(), key=lambda each: (*each[0][1::-1], -each[1][0], each[0][2] or ""))
        by = [
            Share(version=version, role=role, action=action, rows=int(sums[0]), mean_forecast=_mean(*sums[1:]))
            for (version, role, action), sums in ordered
        ]
        given = [sums for (_, role, _), sums in shares.items() if role != SHADOW]
        rows, known, total = (sum(sums[place] for sums in given) for place in range(3))
        requests = sum(count for minute, count in self._requests.items() if minute > since)
        return Traffic(requests=requests, rows=int(rows), mean_forecast=_mean(known, total), by=by)


_tallies: WeakKeyDictionary[Log, Tally] = WeakKeyDictionary()


def tally_of(log: Log) -> Tally:
    """Return the tally of a log, the same one also when another bundle takes over."""
    return _tallies.setdefault(log, Tally(log.place))


def measured(meters: Meters) -> Measured:
    """Return what the meters of this process say of the requests for answers."""
    counts: dict[str, int] = defaultdict(int)
    for sample in _samples(meters.requests, "_total"):
        counts[sample.labels["status"][:1]] += int(sample.value)
    bounds: dict[float, float] = defaultdict(float)
    for sample in _samples(meters.seconds, "_bucket"):
        bounds[float(sample.labels["le"])] += sample.value
    p95 = quantile(0.95, sorted(bounds.items()))
    return Measured(
        requests=sum(counts.values()),
        refused=counts["4"],
        errors=counts["5"],
        p95_ms=None if p95 is None else 1000 * p95,
    )


def quantile(share: float, bounds: list[tuple[float, float]]) -> float | None:
    """Return a quantile of a histogram as Prometheus estimates it, linear within a bucket; None of nothing.

    Parameters
    ----------
    share : float
        0-1.
    bounds : list of (float, float)
        The upper bound of each bucket, the last infinite, and how many are at most that.
    """
    if not bounds or not bounds[-1][1]:
        return None
    wanted, low, below = share * bounds[-1][1], 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted:
            within = (wanted - below) / (count - below) if count > below else 1.0
            return low if bound == float("inf") else low + (bound - low) * within
        low, below = bound, count
    return low


def _samples(metric: Any, ending: str) -> Iterable[Any]:
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith(ending) and sample.labels.get("route") in ROUTES:
                yield sample


def _columns(connection: sqlite3.Connection, stated: dict[str, Any]) -> dict[str, str]:
    """Return the SQL of what is counted of an answer; names that SQLite's paths cannot quote are found by Python."""
    action = "json_extract(p.outputs, '$.action')" if decisions.is_class(stated) else "NULL"
    name = decisions.forecast_columns(stated)[0]
    if stated["task"] == "multiclass":
        name = f"probability_{stated['focus']}"
    if not {'"', "\\", "'"} & set(name):
        return {"action": action, "level": f"""json_extract(p.outputs, '$."{name}"')"""}
    connection.create_function("level", 1, lambda outputs: json.loads(outputs).get(name), deterministic=True)
    return {"action": action, "level": "level(p.outputs)"}


def _mean(known: float, total: float) -> float | None:
    return total / known if known else None

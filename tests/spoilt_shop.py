"""The raw files of a shop: orders of three months, customers to whom they refer, and one file that is to be spoilt."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MONTHS = ("2020-01", "2020-02", "2020-03")
SIZE, LEAST = 14, 12  # orders of a month, and the fewest that are believable
CSV, JSON, PARQUET = ("csv",), ("jsonl",), ("parquet",)
TEXTS, FORMATS = (*CSV, *JSON), (*CSV, *JSON, *PARQUET)
Row = dict[str, Any]
COLUMNS = {
    "id": {"type": "int64", "min": 1},
    "placed": {"type": "timestamp"},
    "customer": {"type": "string"},
    "quantity": {"type": "int64", "min": 1, "max": 20},
    "status": {"type": "string", "allowed": ["open", "paid", "sent"]},
    "note": {"type": "string", "nullable": True},
    "returned": {"type": "int64", "nullable": True, "allowed": [0, 1]},
    "amount": {"type": "float64", "min": 0.01, "max": 1000},
}
NOTES = [None, "Grüße", 'fine, "quick" and cheap', "leave it\nat the door", None, "call: 0123, please", "no"]
CITIES = ["Zürich", "Köln", "Wien", "Bern", "Ulm", "Graz", "Genève", "Berlin"]
CUSTOMERS = [
    {"customer": f"c{number}", "country": ("CH", "DE", "AT")[number % 3], "city": city}
    for number, city in enumerate(CITIES)
]


def order(rng: random.Random, number: int, month: str, day: int) -> Row:
    """Return a sound order."""
    return {
        "id": number,
        "placed": dt.datetime.fromisoformat(f"{month}-{2 * day + 1:02d}T{rng.randrange(24):02d}:30:00"),
        "customer": rng.choice(CUSTOMERS)["customer"],
        "quantity": rng.randint(2, 20),
        "status": rng.choice(["open", "paid", "sent"]),
        "note": NOTES[day % len(NOTES)],
        "returned": rng.choice([0, 1, None]),
        "amount": rng.randint(100, 900) + rng.choice([0.25, 0.5, 0.75]),
    }


RNG = random.Random(7)
ORDERS = {
    month: [order(RNG, 1001 + SIZE * number + day, month, day) for day in range(SIZE)]
    for number, month in enumerate(MONTHS)
}
SOUND = {row["id"]: row for rows in ORDERS.values() for row in rows}


def text(value: Any) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, dt.datetime) else str(value)


def as_csv(rows: list[Row], newline: str = "\n", delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=newline, delimiter=delimiter)
    writer.writerows([list(rows[0]), *([text(value) for value in row.values()] for row in rows)])
    return stream.getvalue().encode()


def as_jsonl(rows: list[Row]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False, default=text)}\n" for row in rows).encode()


def as_parquet(rows: list[Row], most: int = SIZE * 9) -> bytes:
    """Return the first of some rows as Parquet, typed; a column that holds other things, too, is one of texts."""
    arrays = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        mixed = len({type(value) for value in values} - {type(None)}) > 1
        arrays[name] = pa.array([None if value is None else text(value) for value in values] if mixed else values)
    stream = io.BytesIO()
    pq.write_table(pa.table(arrays).slice(0, most), stream)
    return stream.getvalue()


WRITE: dict[str, Callable[..., bytes]] = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


@dataclass
class Expected:
    """What becomes of a file: a message that names some texts refuses it; or it is read, but for some orders."""

    refused: tuple[str, ...] | None = None
    gone: set[int] = field(default_factory=set)  # orders that are not in the lake
    rules: Counter[str] = field(default_factory=Counter)  # that rows break
    raw: int = 0  # how many raw orders there are more than sound ones
    customers: set[str] = field(default_factory=set)  # that are not in the lake


def refused(*named: str) -> Expected:
    return Expected(refused=named)


def kept(*gone: int, rules: dict[str, int] | None = None, **how: Any) -> Expected:
    return Expected(gone=set(gone), rules=Counter(rules or {}), **how)


class Case:
    """One file to be spoilt: its month, its format, where it stands, and its rows, which may be changed."""

    def __init__(self, folder: Path, name: str, seed: int, form: str, month: str | None) -> None:
        self.rng, self.seed = random.Random(f"{name} {seed}"), seed
        self.folder, self.format = folder / "data/source/orders", form
        self.month = month or self.rng.choice(MONTHS)
        self.file = f"{self.month}.{form}"
        self.rows = [dict(row) for row in ORDERS[self.month]]
        self.everyone = [row["id"] for row in self.rows]

    @property
    def name(self) -> str:
        return f"data/source/orders/{self.file}"

    @property
    def empty(self) -> str:
        """Return how the gate of stage 02 names a month without rows."""
        return f"orders {self.month} (0)"

    @property
    def untimed(self) -> Expected:
        """Return what is expected of a file of which no time can be read: all its rows come with the last month."""
        return refused(f"`placed: not timestamp` by {SIZE}" if self.month == MONTHS[-1] else self.empty)

    def row(self) -> Row:
        return self.rng.choice(self.rows)

    def other(self) -> Row:
        """Return an order of another month."""
        return self.rng.choice(ORDERS[self.rng.choice([month for month in MONTHS if month != self.month])])

    def whole(self, rows: list[Row] | None = None) -> bytes:
        """Return rows, by default those of the file, as it is written."""
        return WRITE[self.format](self.rows if rows is None else rows)

    def encoded(self, *encodings: str) -> bytes:
        return self.whole().decode().encode(self.rng.choice(encodings))

    def copied(self, content: bytes) -> bytes:
        """Put a second file beside; return the content of the first."""
        (self.folder / f"{self.month} (1).{self.format}").write_bytes(content)
        return self.whole()

    def records(self) -> list[bytes]:
        """Return the records of the CSV file, the names first; one may have several lines."""
        whole = [as_csv([row]) for row in self.rows]
        head = whole[0].split(b"\n", 1)[0] + b"\n"
        return [head, *(one[len(head) :] for one in whole)]

    def cut(self, content: bytes) -> bytes:
        return content[: self.rng.randrange(len(content))]

    def inserted(self, *wrong: bytes) -> bytes:
        """Return the content with something wrong before a letter of ASCII."""
        whole, new = self.whole(), self.rng.choice(wrong)
        place = self.rng.choice([place for place in range(1, len(whole)) if whole[place] < 0x80])
        return whole[:place] + new + whole[place:]

    def edited(self, change: Callable[[bytes, int], bytes], quoted: bool = False) -> bytes:
        """Return the CSV file with one record changed: by the record, and the place of a comma before any quote."""
        parts = self.records()
        number = self.rng.choice([one for one in range(1, SIZE) if not quoted or b'"' in parts[one]])
        commas = [place for place, byte in enumerate(parts[number].partition(b'"')[0]) if byte == ord(",")]
        parts[number] = change(parts[number], self.rng.choice(commas))
        return b"".join(parts)

"""Two hundred spoilt raw files: each is refused with its place and a remedy, or its rows are quarantined; none crashes.

A shop delivers its orders month by month, into a folder, and has a file of customers to which they refer. Each case spoils
one file in one way, drawn from its seed; stages 02 and 03 run up to their gates, as in the notebooks. Then the lake holds
the sound orders as they were, every one and value by value, and every other raw row is in quarantine under the rule
expected; or the message names what is expected to be named, and the lake is as it was before. What says the same in another
way, such as UTF-16 or other line ends, changes nothing.

What no file can tell is not among the cases, or is counted as what it is:

- A sound value in place of another (125 for 175), also where two columns that baseline the same were swapped. The columns
  that are swapped here baseline different things.
- Rows that are missing whole, as where a CSV file was cut exactly between two lines. The gate of stage 02 sees it once
  fewer than ``min_rows`` of a month are left.
- Of two rows with one key and other content, which is the sound one: the first is kept.
- A time outside the days that are collected is a row of other days, and left out, as such rows are.
- A letter or a quote more or less inside a free text, if the line keeps its fields.
"""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io as buffers
import json
import lzma
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project, statement

from ninefold import artifacts, collection, engine, gate
from ninefold.errors import NinefoldError
from ninefold.params import load
from ninefold.processing import stage as processing

MONTHS = ("2020-01", "2020-02", "2020-03")
SIZE, LEAST = 14, 12  # orders of a month, and the fewest that are believable
FORMATS = ("csv", "jsonl", "parquet")
Row = dict[str, Any]
Spoil = Callable[["Case"], "Refused | Kept"]
PROBLEM = statement(table="orders", time="placed", target="returned", key=["id"], group=None)
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
CUSTOMERS = [
    {"customer": f"c{number}", "country": ("CH", "DE", "AT")[number % 3], "city": city}
    for number, city in enumerate(["Zürich", "Köln", "Wien", "Bern", "Ulm", "Graz", "Genève", "Berlin"])
]
REMEDY = re.compile("mend|fetch|set |drop|write|move|rename|give|lower|widen|convert|save|add |collect|take")


def orders() -> dict[str, list[Row]]:
    """Return the sound orders, by month."""
    rng, found, number = random.Random(7), dict[str, list[Row]](), 1000
    for month in MONTHS:
        found[month] = []
        for day in range(SIZE):
            number += 1
            row = {
                "id": number,
                "placed": dt.datetime.fromisoformat(f"{month}-{2 * day + 1:02d}T{rng.randrange(24):02d}:30:00"),
            }
            row |= {"customer": rng.choice(CUSTOMERS)["customer"], "quantity": rng.randint(2, 20)}
            row |= {"status": rng.choice(["open", "paid", "sent"]), "note": NOTES[day % len(NOTES)]}
            row |= {
                "returned": rng.choice([0, 1, None]),
                "amount": rng.randint(100, 900) + rng.choice([0.25, 0.5, 0.75]),
            }
            found[month].append(row)
    return found


ORDERS = orders()
SOUND = {row["id"]: row for rows in ORDERS.values() for row in rows}


def text(value: Any) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, dt.datetime) else str(value)


def as_csv(rows: list[Row], newline: str = "\n", delimiter: str = ",") -> bytes:
    stream = buffers.StringIO()
    writer = csv.writer(stream, lineterminator=newline, delimiter=delimiter)
    writer.writerows([list(rows[0]), *([text(value) for value in row.values()] for row in rows)])
    return stream.getvalue().encode()


def as_jsonl(rows: list[Row]) -> bytes:
    lines = [json.dumps(row, ensure_ascii=False, default=text) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()


def as_parquet(rows: list[Row], **options: Any) -> bytes:
    """Return rows as Parquet, typed; a column that holds other things, too, is one of texts."""
    arrays = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values} - {type(None)}
        arrays[name] = pa.array(
            values if len(kinds) < 2 else [None if value is None else text(value) for value in values]
        )
    stream = buffers.BytesIO()
    pq.write_table(pa.table(arrays), stream, **options)
    return stream.getvalue()


WRITE: dict[str, Callable[[list[Row]], bytes]] = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


class Refused:
    """What is expected of a file that is refused: the message names all of these."""

    def __init__(self, *named: str) -> None:
        self.named = named


class Kept:
    """What is expected of a file that is read: the orders that are not in the lake, and the rules that rows broke."""

    def __init__(self, *gone: int, raw: int = 0, **how: Any) -> None:
        self.gone, self.raw = set(gone), raw  # orders; how many raw orders there are more than sound ones
        self.rules: Counter[str] = Counter(how.get("rules", {}))
        self.or_refused: bool = how.get("or_refused", False)
        self.customers: set[str] = how.get("customers", set())  # that are not in the lake


class Case:
    """One file to be spoilt: its month, its format, and where it stands."""

    def __init__(self, folder: Path, spoil: Spoil, seed: int, form: str, month: str | None) -> None:
        self.rng, self.seed = random.Random(f"{spoil.__name__} {seed}"), seed
        self.folder, self.format = folder / "data/source/orders", form
        self.month = month or self.rng.choice(MONTHS)
        self.rows = [dict(row) for row in ORDERS[self.month]]

    @property
    def file(self) -> Path:
        return self.folder / f"{self.month}.{self.format}"

    @property
    def name(self) -> str:
        return f"data/source/orders/{self.file.name}"

    @property
    def empty(self) -> str:
        """Return how the gate of stage 02 names a month without rows."""
        return f"orders {self.month} (0)"

    def write(self, content: bytes | None = None) -> None:
        self.file.write_bytes(WRITE[self.format](self.rows) if content is None else content)

    def row(self) -> Row:
        return self.rng.choice(self.rows)

    def set(self, column: str, value: Any, rule: str) -> Kept:
        """Spoil one cell."""
        row = self.row()
        key, row[column] = row["id"], value
        self.write()
        return Kept(key, rules={f"{column}: {rule}": 1})

    def line_of(self, record: int) -> int:
        """Return the line on which a record of the CSV file begins; the names are record 0."""
        return 1 + sum(one.count(b"\n") for one in records(self)[:record])


def records(case: Case) -> list[bytes]:
    """Return the records of a CSV file, the names first; one may have several lines."""
    whole = [as_csv([row]) for row in case.rows]
    head = whole[0].split(b"\n", 1)[0] + b"\n"
    return [head, *(one[len(head) :] for one in whole)]


def a_word_for_a_number(case: Case) -> Kept:
    column = case.rng.choice(["id", "quantity", "amount", "returned"])
    return case.set(
        column, case.rng.choice(["two", "Zürich", "-", "?", "true", "#DIV/0!"]), f"not {COLUMNS[column]['type']}"
    )


def letters_in_a_number(case: Case) -> Kept:
    column = case.rng.choice(["quantity", "amount"])
    wrong = ["1O", "12a", "€5", "1_0", "0x1F", "5-", "--5", "1.2.3", "１２", "1 2", "12,5", "1e", "5%", "\ufeff5"]
    return case.set(column, case.rng.choice(wrong), f"not {COLUMNS[column]['type']}")


def a_fraction_for_a_whole_number(case: Case) -> Kept:
    return case.set(case.rng.choice(["quantity", "id"]), case.rng.choice([2.5, 1e-9, 7.0000001]), "not int64")


def infinity_or_nan(case: Case) -> Kept:
    if case.format == "csv" or case.rng.random() < 0.5:
        return case.set("amount", case.rng.choice(["inf", "-Infinity", "nan", "NaN", "1e999", "+inf"]), "not float64")
    value, rule = case.rng.choice(
        [(float("inf"), "not float64"), (float("-inf"), "not float64"), (float("nan"), "missing")]
    )
    return case.set("amount", value, rule)


def an_impossible_time(case: Case) -> Kept:
    wrong = ["02-30T10:00:00", "13-01", "01-32", "00-10", "01-05T25:00:00", "01-05T10:61:00", "01-05T10:00:00+99:00"]
    return case.set("placed", f"2020-{case.rng.choice(wrong)}", "not timestamp")


def a_time_in_another_format(case: Case) -> Kept:
    wrong = ["05/01/2020", "5 Jan 2020", "20200105", "01-05-2020 12:00", "43835", "1578225600", "2020/01/05", "12:30"]
    return case.set("placed", case.rng.choice([*wrong, "2020-01-05T12", "2020-W01-5", "yesterday"]), "not timestamp")


def an_empty_cell(case: Case) -> Kept:
    column = case.rng.choice([name for name, one in COLUMNS.items() if not one.get("nullable")])
    if case.format == "jsonl" and case.rng.random() < 0.5:
        row = case.row()
        key = row["id"]
        del row[column]
        case.write()
        return Kept(key, rules={f"{column}: missing": 1})
    return case.set(column, case.rng.choice([None, "NA"]), "missing")


def a_number_out_of_bounds(case: Case) -> Kept:
    wrong = [
        ("quantity", 0, "under 1"),
        ("quantity", -3, "under 1"),
        ("quantity", 2**62, "over 20"),
        ("id", -7, "under 1"),
    ]
    wrong += [("amount", 0.0, "under 0.01"), ("amount", 1000.01, "over 1000"), ("amount", 1e300, "over 1000")]
    return case.set(*case.rng.choice(wrong))


def a_number_too_large(case: Case) -> Kept:
    column = case.rng.choice(["quantity", "id"])
    return case.set(column, case.rng.choice(["9" * 19, "9" * 40, "1e30"]), "not int64")


def a_value_not_allowed(case: Case) -> Kept:
    if case.rng.random() < 0.3:
        return case.set("returned", case.rng.choice([2, -1]), "not allowed")
    return case.set("status", case.rng.choice(["lost", "PAID", "paid ", "päid", "0", "null", "nan"]), "not allowed")


def an_unknown_customer(case: Case) -> Kept:
    return case.set("customer", case.rng.choice(["nobody", "C1", "c1 ", "c99", "0", "nan"]), "not in customers")


def a_row_twice(case: Case) -> Kept:
    copies = [case.row() for _ in range(case.rng.randint(1, 3))]
    for copy in copies:
        case.rows.insert(case.rng.randint(0, len(case.rows)), dict(copy))
    case.write()
    return Kept(raw=len(copies), rules={"unique: id": len(copies)})


def a_key_twice_with_other_content(case: Case) -> Kept:
    place = case.rng.randrange(SIZE)
    copy = case.rows[place] | {"amount": 1.5, "status": "open", "quantity": 1}
    case.rows.insert(case.rng.randint(place + 1, SIZE), copy)
    case.write()
    return Kept(raw=1, rules={"unique: id": 1})


def a_row_of_another_file(case: Case) -> Kept:
    other = ORDERS[case.rng.choice([month for month in MONTHS if month != case.month])]
    case.rows.insert(case.rng.randint(0, SIZE), dict(case.rng.choice(other)))
    case.write()
    return Kept(raw=1, rules={"unique: id": 1})


SWAPS = {  # two columns that baseline different things -> the rule that a row with both swapped breaks first
    ("customer", "status"): "status: not allowed",
    ("quantity", "amount"): "quantity: not int64",
    ("id", "customer"): "id: not int64",
    ("amount", "status"): "amount: not float64",
    ("returned", "amount"): "returned: not int64",
    ("id", "quantity"): "quantity: over 20",
}


def two_cells_swapped(case: Case) -> Kept:
    (one, other), rule = case.rng.choice(list(SWAPS.items()))
    row = case.row()
    key, row[one], row[other] = row["id"], row[other], row[one]
    case.write()
    return Kept(key, rules={rule: 1})


def two_columns_swapped(case: Case) -> Kept:
    (one, other), rule = case.rng.choice(list(SWAPS.items()))
    for row in case.rows:
        row[one], row[other] = row[other], row[one]
    case.write()
    return Kept(*(row["id"] for row in ORDERS[case.month]), rules={rule: SIZE})


def two_names_swapped(case: Case) -> Kept:
    (one, other), rule = case.rng.choice(list(SWAPS.items()))
    case.rows = [{{one: other, other: one}.get(name, name): value for name, value in row.items()} for row in case.rows]
    case.write()
    return Kept(*(row["id"] for row in ORDERS[case.month]), rules={rule: SIZE})


def the_time_swapped(case: Case) -> Refused:
    other = case.rng.choice(["customer", "amount", "status"])
    for row in case.rows:
        row["placed"], row[other] = text(row[other]), text(row["placed"])
    case.write()
    return untimed(case)


def untimed(case: Case) -> Refused:
    """Return what is expected of a file of which no time can be read: all its rows come with the last month."""
    return Refused(f"`placed: not timestamp` by {SIZE}" if case.month == MONTHS[-1] else case.empty)


def columns_in_another_order(case: Case) -> Kept:
    names = list(COLUMNS)
    case.rng.shuffle(names)
    case.rows = [{name: row[name] for name in names} for row in case.rows]
    case.write()
    return Kept()


def a_column_missing(case: Case) -> Refused:
    column = case.rng.choice(list(COLUMNS))
    for row in case.rows:
        del row[column]
    case.write()
    return Refused(f"{case.month}.{case.format}", column)


def a_column_more(case: Case) -> Refused:
    for row in case.rows:
        row["discount"] = 5
    case.write()
    return Refused(f"{case.month}.{case.format}", "discount")


def a_column_renamed(case: Case) -> Refused:
    column = case.rng.choice(list(COLUMNS))
    new = case.rng.choice([column.upper(), f"{column}_2", "x", f"{column}."])
    case.rows = [{new if name == column else name: value for name, value in row.items()} for row in case.rows]
    case.write()
    return Refused(f"{case.month}.{case.format}", column, new)


def a_file_of_another_table(case: Case) -> Refused:
    case.rows = CUSTOMERS
    case.write()
    return Refused(f"{case.month}.{case.format}", "placed")


def a_file_without_rows(case: Case) -> Refused:
    if case.format == "jsonl":
        case.write(b"\n")
        return Refused(case.name, "no row")
    stream = buffers.BytesIO()
    pq.write_table(pq.read_table(buffers.BytesIO(as_parquet(case.rows))).slice(0, 0), stream)
    case.write(records(case)[0] if case.format == "csv" else stream.getvalue())
    return Refused(case.empty)


def a_file_of_no_bytes(case: Case) -> Refused:
    case.write(b"")
    return Refused(case.name, "empty file")


def a_file_of_random_bytes(case: Case) -> Refused:
    case.write(case.rng.randbytes(case.rng.randint(1, 3000)))
    return Refused(case.name)


def a_wrong_suffix(case: Case) -> Refused:
    wrong = {"csv", "jsonl", "parquet", "tsv", "psv", "xlsx", "db", "csv.gz", "zip", "csv.zst", "bak", "log"} - {
        case.format
    }
    case.file.unlink()
    new = case.folder / f"{case.month}.{case.rng.choice(sorted(wrong))}"
    new.write_bytes(WRITE[case.format](case.rows))
    return Refused(new.name)


def a_file_twice(case: Case) -> Kept:
    shutil.copy(case.file, case.folder / f"{case.month} (1).{case.format}")
    return Kept()


def a_file_twice_in_another_order(case: Case) -> Kept:
    copy = WRITE[case.format](case.rows[::-1])
    (case.folder / f"{case.month} (1).{case.format}").write_bytes(copy)
    return Kept(raw=SIZE, rules={"unique: id": SIZE})


def cut_anywhere(case: Case) -> Refused | Kept:
    whole = WRITE[case.format](case.rows)
    place = case.rng.randrange(len(whole))
    case.write(whole[:place])
    if case.format == "parquet":
        return Refused(case.name)
    return cut(case, place)


def cut_between_rows(case: Case) -> Refused | Kept:
    left = case.rng.randint(LEAST - 4, SIZE - 1)
    parts = records(case)[: left + 1] if case.format == "csv" else [as_jsonl(case.rows[:left])]
    case.write(b"".join(parts))
    return cut(case, sum(map(len, parts)))


def cut(case: Case, place: int) -> Refused | Kept:
    """Return what is expected of a text of which only so many bytes are left."""
    parts = records(case) if case.format == "csv" else [as_jsonl([row]) for row in case.rows]
    ends = {sum(map(len, parts[:number])): number for number in range(1, len(parts) + 1)}
    if case.format == "csv":
        ends = {end: number - 1 for end, number in ends.items()}  # the names are no row
    else:
        ends |= {end - 1: number for end, number in ends.items()}  # the newline adds nothing to an object
    if place not in ends:
        return Refused(case.name)
    left = ends[place]
    if left < LEAST:
        return Refused(f"orders {case.month} ({left})")
    return Kept(*(row["id"] for row in case.rows[left:]), raw=left - SIZE)


def cut_within_the_last_field(case: Case) -> Refused:
    parts = records(case)[: case.rng.randint(2, SIZE + 1)]
    field = len(parts[-1].rsplit(b",", 1)[1])  # such as 125.5 and the newline
    case.write(b"".join(parts)[: -case.rng.randint(1, field)])
    return Refused(case.name, "newline")


def cut_within_a_quoted_field(case: Case) -> Refused:
    quoted = [number for number, part in enumerate(records(case)) if b'"' in part]
    parts = records(case)[: case.rng.choice(quoted) + 1]
    start, end = parts[-1].index(b'"'), parts[-1].rindex(b'"')
    case.write(b"".join(parts[:-1]) + parts[-1][: case.rng.randint(start + 1, end)])
    return Refused(case.name)


def cut_and_packed(case: Case) -> Refused:
    suffix, pack = case.rng.choice([("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zst)])
    whole = pack(as_csv(case.rows))
    case.file.unlink()
    new = case.folder / f"{case.month}.csv.{suffix}"
    new.write_bytes(whole[: case.rng.randrange(len(whole))])
    return Refused(f"{case.month}.csv")


def zst(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


def a_byte_that_is_no_utf8(case: Case) -> Refused:
    if case.format == "parquet":
        notes = pa.array([f"note {row['id']}".encode() + b"\xff" for row in case.rows])
        table = pq.read_table(buffers.BytesIO(as_parquet(case.rows)))
        unsound = pa.StringArray.from_buffers(len(notes), notes.buffers()[1], notes.buffers()[2])
        stream = buffers.BytesIO()
        pq.write_table(table.set_column(table.column_names.index("note"), "note", unsound), stream)
        case.write(stream.getvalue())
        return Refused(case.name, "UTF8")
    whole = WRITE[case.format](case.rows)
    starts = [place for place in range(len(whole)) if whole[place] < 0x80]
    place = case.rng.choice(starts)
    case.write(whole[:place] + case.rng.choice([b"\xff", b"\xc3", b"\xfc", b"\xed\xa0\x80"]) + whole[place:])
    line = whole[:place].count(b"\n") + 1
    return Refused(case.name, f"line {line}: ")


def another_code_page(case: Case) -> Refused:
    encoding = case.rng.choice(["cp1252", "cp1250", "latin-1", "cp850"])
    case.write(WRITE[case.format](case.rows).decode().encode(encoding))
    return Refused(case.name, "not utf-8", "encoding")


def utf16(case: Case) -> Refused | Kept:
    encoding = case.rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    case.write(WRITE[case.format](case.rows).decode().encode(encoding))
    known = case.format == "jsonl" or encoding in ("utf-16", "utf-32")
    return Kept() if known else Refused(case.name, f"encoding: {encoding}")


def utf16_cut(case: Case) -> Refused:
    whole = as_csv(case.rows).decode().encode("utf-16")
    case.write(whole[: case.rng.randrange(len(whole) // 4, len(whole) // 2) * 2 + 1])
    return Refused(case.name)


def a_byte_order_mark(case: Case) -> Kept:
    case.write(b"\xef\xbb\xbf" + WRITE[case.format](case.rows))
    return Kept()


def zero_bytes(case: Case) -> Refused | Kept:
    if case.format == "parquet":
        whole = bytearray(as_parquet(case.rows, write_page_checksum=True))
        place, length = case.rng.randrange(len(whole)), case.rng.randint(1, 64)
        whole[place : place + length] = bytes(len(whole[place : place + length]))
        case.write(bytes(whole))
        return Kept(or_refused=True)  # some bytes say nothing
    whole = WRITE[case.format](case.rows)
    place = case.rng.randrange(1, len(whole))
    case.write(whole[:place] + bytes(case.rng.randint(1, 20)) + whole[place + case.rng.randint(0, 20) :])
    return Refused(case.name)


def other_line_ends(case: Case) -> Kept:
    case.write(as_csv(case.rows, newline="\r\n").replace(b"\r\n", case.rng.choice([b"\r\n", b"\r"])))
    return Kept()


def blank_lines(case: Case) -> Kept:
    parts = records(case)
    for _ in range(case.rng.randint(1, 4)):
        parts.insert(case.rng.randint(0, len(parts)), b"\n")
    case.write(b"".join(parts))
    return Kept()


def another_delimiter(case: Case) -> Refused:
    delimiter = case.rng.choice([";", "\t", "|"])
    case.write(as_csv([{**row, "note": None} for row in case.rows], delimiter=delimiter))
    return Refused(case.name, repr(delimiter)[1:-1])


def a_delimiter_more(case: Case) -> Refused:
    parts, number = records(case), case.rng.randint(1, SIZE)
    place = case.rng.choice([found.start() for found in re.finditer(rb",", parts[number].partition(b'"')[0])])
    line = case.line_of(number)
    parts[number] = parts[number][:place] + b"," + parts[number][place:]
    case.write(b"".join(parts))
    return Refused(case.name, f"line {line}: ", "fields")


def a_delimiter_less(case: Case) -> Refused:
    parts, number = records(case), case.rng.randint(1, SIZE)
    line = case.line_of(number)
    parts[number] = parts[number].replace(b",", b"", 1)
    case.write(b"".join(parts))
    return Refused(case.name, f"line {line}: ", "fields")


def two_lines_joined(case: Case) -> Refused:
    parts, number = records(case), case.rng.randint(1, SIZE - 1)
    line = case.line_of(number)
    parts[number] = parts[number][:-1]
    case.write(b"".join(parts))
    return Refused(case.name, f"line {line}: ", "fields")


def a_line_broken(case: Case) -> Refused:
    parts, number = records(case), case.rng.randint(1, SIZE)
    line = case.line_of(number)
    place = case.rng.choice([found.start() for found in re.finditer(rb",", parts[number].partition(b'"')[0])])
    parts[number] = parts[number][:place] + b"\n" + parts[number][place:]
    case.write(b"".join(parts))
    return Refused(case.name, f"line {line}: ", "fields")


def a_quote_opened(case: Case) -> Refused:
    """Open a quote that takes all up to the next one; each line keeps its fields where that stands before a comma."""
    parts, number = records(case), case.rng.randint(1, SIZE)
    if case.seed % 3:
        text_of_it = "call" if case.seed % 3 == 1 else "Grüße"  # that, or what comes after it, has quote and comma
        number = next(place for place, part in enumerate(parts) if text_of_it in part.decode())
    line = parts[number]
    starts = [0, *(found.end() for found in re.finditer(rb",", line.partition(b'"')[0]))]
    starts = [place for place in starts if line[place : place + 1] != b'"']
    status = next(found.start() for found in re.finditer(rb"(open|paid|sent),", line))
    place = status if case.seed % 3 else case.rng.choice(starts)
    parts[number] = line[:place] + b'"' + line[place:]
    case.write(b"".join(parts))
    return Refused(case.name)


def a_quote_not_closed(case: Case) -> Refused:
    parts = records(case)
    number = case.rng.choice([number for number, part in enumerate(parts) if b'"' in part])
    place = parts[number].rindex(b'"')
    parts[number] = parts[number][:place] + parts[number][place + 1 :]
    case.write(b"".join(parts))
    return Refused(case.name)


def the_names_again(case: Case) -> Refused:
    parts = records(case)
    number = case.rng.randint(1, SIZE + 1)
    line = case.line_of(number)
    case.write(b"".join([*parts[:number], case.rng.choice([b"", b"\xef\xbb\xbf"]), parts[0], *parts[number:]]))
    return Refused(case.name, f"line {line}: ", "names")


def unsound_json(case: Case) -> Refused | Kept:
    lines = [as_jsonl([row]) for row in case.rows]
    number = case.rng.randrange(SIZE)
    key, line = case.rows[number]["id"], lines[number]
    spoilt: list[tuple[bytes, Refused | Kept]] = [
        (line.replace(b"}\n", b', "amount": 5}\n'), Refused(case.name, f"line {number + 1}: ", "amount")),
        (line.replace(b"}\n", b"},\n"), Refused(case.name, f"line {number + 1}: ")),
        (line.replace(b'"', b"'"), Refused(case.name, f"line {number + 1}: ")),
        (b"[1, 2]\n", Refused(case.name)),
        (b"null\n", Refused(case.name)),
        (re.sub(rb'"note": [^}]+?, "ret', rb'"note": "\\ud800", "ret', line), Refused(case.name, "note")),
        (
            re.sub(rb'"amount": \S+}', b'"amount": ' + b"9" * 5000 + b"}", line),
            Refused(case.name, f"line {number + 1}: "),
        ),
        (
            re.sub(rb'"amount": \S+}', b'"amount": ' + b"[" * 99999 + b"}", line),
            Refused(case.name, f"line {number + 1}: "),
        ),
        (re.sub(rb'"amount": \S+}', b'"amount": {"value": 5}}', line), Kept(key, rules={"amount: not float64": 1})),
        (re.sub(rb'"amount": \S+}', b'"amount": true}', line), Kept(key, rules={"amount: not float64": 1})),
        (re.sub(rb'"amount": \S+}', b'"amount": NaN}', line), Kept(key, rules={"amount: missing": 1})),
    ]
    lines[number], expected = spoilt[case.seed % len(spoilt)]
    case.write(b"".join(lines))
    return expected


def another_type(case: Case) -> Refused | Kept:
    """Write a column of a Parquet file in another type: what it means stays, or is refused."""
    everyone = [row["id"] for row in case.rows]
    changes: list[tuple[str, Callable[[Any], Any], Refused | Kept]] = [
        ("id", float, Kept()),
        ("quantity", str, Kept()),
        ("amount", lambda value: f"{value:e}", Kept()),
        ("placed", lambda value: value.isoformat(" "), Kept()),
        ("placed", lambda value: int(value.timestamp() * 1000), untimed(case)),
        ("quantity", lambda value: value > 5, Kept(*everyone, rules={"quantity: not int64": SIZE})),
        ("amount", lambda value: [value], Kept(*everyone, rules={"amount: not float64": SIZE})),
        ("status", lambda value: value.encode(), Kept()),
        ("status", lambda value: value.encode("utf-16"), Kept(*everyone, rules={"status: not allowed": SIZE})),
        ("customer", lambda value: None, Kept(*everyone, rules={"customer: missing": SIZE})),
    ]
    column, change, expected = changes[case.seed % len(changes)]
    case.rows = [{**row, column: change(row[column])} for row in case.rows]
    case.write()
    return expected


def a_time_of_other_days(case: Case) -> Kept:
    row = case.row()
    key, row["placed"] = (
        row["id"],
        case.rng.choice(["1920-01-05T10:00:00", "2120-01-05T10:00:00", "0202-01-05T10:00:00"]),
    )
    case.write()
    return Kept(key, raw=-1)


def customers(case: Case) -> Refused | Kept:
    """Spoil the file of customers: orders of one who is not in the lake are quarantined, too."""
    name, sound = "data/source/customers.csv", as_csv(CUSTOMERS)
    row = case.rng.choice(CUSTOMERS)
    key = row["customer"]
    mine = [one["id"] for one in SOUND.values() if one["customer"] == key]

    def changed(**values: str) -> bytes:
        return as_csv([{**one, **(values if one is row else {})} for one in CUSTOMERS])

    def without(rule: str) -> Kept:
        return Kept(*mine, customers={key}, rules={rule: 1, "customer: not in customers": len(mine)})

    renamed = [{("town" if name == "city" else name): value for name, value in one.items()} for one in CUSTOMERS]
    spoilt: list[tuple[bytes, Refused | Kept]] = [
        (changed(country=case.rng.choice(["XX", "ch", "D"])), without("country: not allowed")),
        (changed(city=""), without("city: missing")),
        (as_csv([*CUSTOMERS, {**row, "city": "Rom"}]), Kept(rules={"unique: customer": 1})),
        (sound[: -case.rng.randint(1, 4)], Refused(name, "newline")),
        (sound + as_csv(CUSTOMERS[:2]), Refused(name, "line 10: ", "names")),
        (as_csv(renamed), Refused("data/raw/customers", "lacks city")),
        (as_csv(ORDERS[case.month]), Refused("data/raw/customers", "lacks country, city")),
        (sound.replace("Köln".encode(), "Köln".encode("cp1252")), Refused(name, "line 3: ")),
    ]
    content, expected = spoilt[case.seed % len(spoilt)]
    (case.folder.parent / "customers.csv").write_bytes(content)
    return expected


TEXTS, CSV, JSON, PARQUET = ("csv", "jsonl"), ("csv",), ("jsonl",), ("parquet",)
Kinds = list[tuple[Spoil, tuple[str, ...], int]]  # function, formats, how many cases
FEW: Kinds = [  # that concern few rows, so that the three months of a shop can have one each, which saves time
    (a_word_for_a_number, FORMATS, 3),
    (letters_in_a_number, FORMATS, 6),
    (a_fraction_for_a_whole_number, FORMATS, 3),
    (infinity_or_nan, FORMATS, 3),
    (an_impossible_time, FORMATS, 3),
    (a_time_in_another_format, FORMATS, 3),
    (a_time_of_other_days, FORMATS, 3),
    (an_empty_cell, FORMATS, 6),
    (a_number_out_of_bounds, FORMATS, 3),
    (a_number_too_large, FORMATS, 3),
    (a_value_not_allowed, FORMATS, 3),
    (an_unknown_customer, FORMATS, 3),
    (a_row_twice, FORMATS, 3),
    (a_key_twice_with_other_content, FORMATS, 3),
    (two_cells_swapped, FORMATS, 3),
    (columns_in_another_order, FORMATS, 3),
    (a_file_twice, FORMATS, 3),
    (a_byte_order_mark, TEXTS, 4),
    (other_line_ends, CSV, 3),
    (blank_lines, CSV, 3),
]
MANY: Kinds = [
    (a_row_of_another_file, FORMATS, 3),
    (two_columns_swapped, FORMATS, 3),
    (two_names_swapped, FORMATS, 3),
    (the_time_swapped, FORMATS, 3),
    (a_column_missing, FORMATS, 3),
    (a_column_more, FORMATS, 3),
    (a_column_renamed, FORMATS, 3),
    (a_file_of_another_table, FORMATS, 3),
    (a_file_without_rows, FORMATS, 3),
    (a_file_of_no_bytes, FORMATS, 3),
    (a_file_of_random_bytes, FORMATS, 3),
    (a_wrong_suffix, FORMATS, 3),
    (a_file_twice_in_another_order, FORMATS, 3),
    (cut_anywhere, FORMATS, 9),
    (a_byte_that_is_no_utf8, FORMATS, 3),
    (zero_bytes, FORMATS, 3),
    (cut_between_rows, TEXTS, 6),
    (another_code_page, TEXTS, 4),
    (utf16, TEXTS, 4),
    (cut_within_the_last_field, CSV, 3),
    (cut_within_a_quoted_field, CSV, 3),
    (cut_and_packed, CSV, 3),
    (utf16_cut, CSV, 3),
    (another_delimiter, CSV, 3),
    (a_delimiter_more, CSV, 3),
    (a_delimiter_less, CSV, 3),
    (two_lines_joined, CSV, 3),
    (a_line_broken, CSV, 3),
    (a_quote_opened, CSV, 3),
    (a_quote_not_closed, CSV, 3),
    (the_names_again, CSV, 3),
    (customers, CSV, 8),
    (unsound_json, JSON, 11),
    (another_type, PARQUET, 10),
]


def cases(kinds: Kinds) -> Iterator[tuple[Spoil, int, str]]:
    """Yield each case: what spoils a file, its seed, the format of the file."""
    for spoil, formats, times in kinds:
        yield from ((spoil, seed, formats[seed % len(formats)]) for seed in range(times))


def shops_to_spoil() -> Iterator[Any]:
    """Yield the cases that one shop has at once, as a parameter."""
    found = [[case] for case in cases(MANY)]
    for form in FORMATS:
        few = [case for case in cases(FEW) if case[2] == form]
        found += [few[place : place + len(MONTHS)] for place in range(0, len(few), len(MONTHS))]
    for number, together in enumerate(found):
        yield pytest.param(number, together, id="+".join(f"{spoil.__name__}-{seed}" for spoil, seed, _ in together))


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where the shop stands as it was before anything was spoilt, by format; nothing at first."""
    return {one: tmp_path_factory.mktemp("shops") / one for one in FORMATS}


@pytest.fixture
def shop(project: Project, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> Project:
    """Make the tiny project into the shop, without its files."""
    monkeypatch.setattr(gate.display, "checks", lambda rows: None)
    project.set("collection.as_of", "2020-03-31")
    project.set("collection.tables", {"orders": {"time": "placed", "min_rows": LEAST}, "customers": {"min_rows": 6}})
    project.set("processing.max_quarantined", 0.2)
    people = {"customer": {"type": "string"}, "country": {"type": "string", "allowed": ["CH", "DE", "AT"]}}
    people |= {"city": {"type": "string"}}
    refers = [{"table": "customers", "by": ["customer"]}]
    contracts = {"orders": {"unique": ["id"], "references": refers, "columns": COLUMNS}}
    contracts |= {"customers": {"unique": ["customer"], "columns": people}}
    project.set("processing.tables", contracts)
    return project


def run(validated: bool = True) -> None:
    """Run stages 02 and 03 as their notebooks do."""
    params, kept = load("collection"), collection.verified_manifest()
    wanted = collection.plan(params)
    manifest = collection.collect(params, collection.missing(wanted, kept), kept)
    collection.last_part(manifest, "orders")
    gate.close("collection", collection.checks(manifest, params), collection.metrics(manifest, params), "Done.")
    contract, connection = load("processing"), engine.connect()
    processing.read(contract, connection)
    processing.check_problem(contract, PROBLEM)
    counts = processing.update(contract, connection)
    broken, fresh = processing.broken_rules(connection, contract), processing.newest(connection, contract)
    # The test looks at every value, pandera, which takes a third of the time, at some of the lakes.
    validation = processing.validate(connection, contract) if validated else pd.DataFrame({"failures": [0]})
    checks = processing.checks(counts, validation, broken, fresh, contract)
    gate.close("processing", checks, processing.metrics(counts, pd.DataFrame()), "Done.")


def lake(table: str, key: str) -> dict[Any, Row]:
    """Return the rows of a table of the lake by their key, as they were before they were written."""
    rows = artifacts.read_table(f"data/lake/{table}").to_dict("records")
    found = {row[key]: {name: None if pd.isna(value) else value for name, value in row.items()} for row in rows}
    assert len(found) == len(rows)
    return found


def prepare(shop: Project, sound: Path, form: str) -> None:
    """Lay out the shop with its files, and the lake that was made of them."""
    if not sound.exists():
        folder = shop.folder / "data/source/orders"
        folder.mkdir(parents=True)
        (folder.parent / "customers.csv").write_bytes(as_csv(CUSTOMERS))
        for month, rows in ORDERS.items():
            (folder / f"{month}.{form}").write_bytes(WRITE[form](rows))
        run()
        assert lake("orders", "id") == SOUND
        shutil.copytree(shop.folder, sound)
    else:
        shutil.copytree(sound, shop.folder, dirs_exist_ok=True)


@pytest.mark.parametrize(("number", "together"), shops_to_spoil())
def test_a_spoilt_file_is_refused_or_its_rows_are_quarantined(
    shop: Project,
    shops: dict[str, Path],
    number: int,
    together: list[tuple[Spoil, int, str]],
    record_property: Callable[[str, Any], None],
) -> None:
    form = together[0][2]
    prepare(shop, shops[form], form)
    if number % 2:  # half of the files come to a shop that has no lake yet
        for name in ("raw", "lake", "quarantine", "state"):
            artifacts.remove(shop.folder / "data" / name)
    before = shop.bytes("data/lake")
    months = MONTHS if len(together) > 1 else [None]
    spoilt = [
        (spoil, spoil(Case(shop.folder, spoil, seed, form, month)))
        for (spoil, seed, _), month in zip(together, months, strict=False)
    ]
    error = None
    try:
        run(validated=number % 3 == 0)
    except NinefoldError as found:
        error = str(found)
    for spoil, one in spoilt:
        record_property(spoil.__name__, outcome(one, error))
    expected = spoilt[0][1] if len(spoilt) == 1 else together_kept([one for _, one in spoilt if isinstance(one, Kept)])
    if error is not None:
        assert shop.bytes("data/lake") == before
        assert REMEDY.search(error), error
        assert [part for part in named(expected) if part not in error] == [], error
    else:
        assert isinstance(expected, Kept), "expected it to be refused"
        compare(expected)


def compare(expected: Kept) -> None:
    """Hold raw data, lake and quarantine to what is expected."""
    assert not too_many(expected)
    sound = {key: row for key, row in SOUND.items() if key not in expected.gone}
    assert lake("orders", "id") == sound
    people = {row["customer"]: row for row in CUSTOMERS if row["customer"] not in expected.customers}
    assert lake("customers", "customer") == people
    held = {name: quarantined(name) for name in ("orders", "customers")}
    assert Counter(rule for rules in held.values() for rule in rules) == expected.rules
    raw = sum(len(artifacts.read_table(f"data/raw/orders/{month}.parquet")) for month in MONTHS)
    assert raw == len(SOUND) + expected.raw == len(sound) + len(held["orders"])


def quarantined(table: str) -> list[str]:
    """Return the rule that each row in quarantine broke."""
    there = any(artifacts.path(f"data/quarantine/{table}").rglob("*.parquet"))
    return artifacts.read_table(f"data/quarantine/{table}")["broken_rule"].tolist() if there else []


def together_kept(every: list[Kept]) -> Kept:
    """Return what is expected of several files at once."""
    gone = [key for one in every for key in one.gone]
    rules = sum((one.rules for one in every), Counter[str]())
    return Kept(*gone, raw=sum(one.raw for one in every), rules=rules)


def too_many(expected: Kept) -> bool:
    """Return whether the gate of stage 03 refuses what is quarantined: a fifth of the rows is the most."""
    rows = len(SOUND) + len(CUSTOMERS) + expected.raw + expected.rules["unique: customer"]
    return sum(expected.rules.values()) > 0.2 * rows


def named(expected: Refused | Kept) -> tuple[str, ...]:
    """Return what a message is expected to name: of too many broken rows the rule that most of them broke."""
    if isinstance(expected, Refused):
        return expected.named
    assert too_many(expected) or expected.or_refused, "expected no error"
    return () if expected.or_refused else (f"`{expected.rules.most_common(1)[0][0]}` by",)


def outcome(expected: Refused | Kept, error: str | None) -> str:
    """Return what became of a file, in a word, for the record."""
    if error is not None or isinstance(expected, Refused):
        return "refused"
    return "quarantined" if expected.rules else "left out" if expected.gone else "harmless"


def test_columns_may_be_called_as_the_engine_calls_its_own(shop: Project) -> None:
    folder = shop.folder / "data/source/orders"
    folder.mkdir(parents=True)
    (folder.parent / "customers.csv").write_bytes(as_csv(CUSTOMERS))
    for month, rows in ORDERS.items():
        (folder / f"{month}.csv").write_bytes(as_csv([row | {"filename": "x", "file_row_number": 1} for row in rows]))
    run()
    assert lake("orders", "id") == SOUND


def test_there_are_two_hundred_cases() -> None:
    assert len([*cases(FEW), *cases(MANY)]) == 200

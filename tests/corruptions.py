"""The raw files of a shop, and ways to spoil one of them, each with what is expected of it; `test_corruptions.py` tries them.

What no file can tell is not among the cases, or is counted as what it is: a sound value in place of another (125 for 175);
rows that are missing whole, as where a CSV file was cut between two lines (the gate of stage 02 sees it once fewer than
``min_rows`` are left); of two rows with one key the sound one: the first is kept; a time outside the days that are collected
is a row of other days, and left out; a letter or a quote more or less inside a free text, if the line keeps its fields.
"""

import csv
import datetime as dt
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
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
    "id": {"type": "int64", "min": 1}, "placed": {"type": "timestamp"}, "customer": {"type": "string"},
    "quantity": {"type": "int64", "min": 1, "max": 20},
    "status": {"type": "string", "allowed": ["open", "paid", "sent"]}, "note": {"type": "string", "nullable": True},
    "returned": {"type": "int64", "nullable": True, "allowed": [0, 1]},
    "amount": {"type": "float64", "min": 0.01, "max": 1000},
}  # fmt: skip
NOTES = [None, "Grüße", 'fine, "quick" and cheap', "leave it\nat the door", None, "call: 0123, please", "no"]
CITIES = ["Zürich", "Köln", "Wien", "Bern", "Ulm", "Graz", "Genève", "Berlin"]
COUNTRIES = ("CH", "DE", "AT") * 3
CUSTOMERS = [{"customer": f"c{at}", "country": COUNTRIES[at], "city": city} for at, city in enumerate(CITIES)]


def order(rng: random.Random, number: int, month: str, day: int) -> Row:
    return {
        "id": number,
        "placed": dt.datetime.fromisoformat(f"{month}-{2 * day + 1:02d}T{rng.randrange(24):02d}:30:00"),
        "customer": rng.choice(CUSTOMERS)["customer"], "quantity": rng.randint(2, 20),
        "status": rng.choice(["open", "paid", "sent"]), "note": NOTES[day % len(NOTES)],
        "returned": rng.choice([0, 1, None]), "amount": rng.randint(100, 900) + rng.choice([0.25, 0.5, 0.75]),
    }  # fmt: skip


RNG = random.Random(7)
ORDERS = {
    month: [order(RNG, 1001 + SIZE * number + day, month, day) for day in range(SIZE)]
    for number, month in enumerate(MONTHS)
}
SOUND = {row["id"]: row for rows in ORDERS.values() for row in rows}


def text(value: Any) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, dt.datetime) else str(value)


def as_csv(rows: list[Row], newline: str = "\n") -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=newline)
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

    def row(self) -> Row:
        return self.rng.choice(self.rows)

    def whole(self, rows: list[Row] | None = None) -> bytes:
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


def zst(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


Spoil = Callable[[Case], Any]  # returns what is expected, after the content where this is not that of the rows
Way = tuple[str, Spoil, tuple[str, ...], int]  # name, function, formats, how many cases
FEW: list[Way] = []  # that concern few rows, so that a shop can have one each month
MANY: list[Way] = []


def spoils(formats: tuple[str, ...] = FORMATS, times: int = 3, few: bool = False) -> Callable[[Spoil], Spoil]:
    def register(spoil: Spoil) -> Spoil:
        (FEW if few else MANY).append((spoil.__name__, spoil, formats, times))
        return spoil

    return register


def cases(ways: list[Way]) -> Iterator[tuple[str, Spoil, int, str]]:
    """Yield each case: what spoils a file, its seed, the format of the file."""
    for name, spoil, formats, times in ways:
        yield from ((name, spoil, seed, formats[seed % len(formats)]) for seed in range(times))


def apply(folder: Path, name: str, spoil: Spoil, seed: int, form: str, month: str | None) -> Expected:
    case = Case(folder, name, seed, form, month)
    (case.folder / case.file).unlink()
    result = spoil(case)
    content, expected = result if isinstance(result, tuple) else (case.whole(), result)
    (case.folder / case.file).write_bytes(content)
    return expected


def not_typed(columns: str, values: list[Any]) -> list[tuple[str, Any, str]]:
    return [(column, value, f"not {COLUMNS[column]['type']}") for column in columns.split() for value in values]


NUMBERS = ["1O", "12a", "€5", "1_0", "0x1F", "5-", "--5", "1.2.3", "１２", "1 2", "12,5", "1e", "5%", "\ufeff5"]
NO_DAYS = ["02-30T10:00:00", "13-01", "01-32", "00-10", "01-05T25:00:00", "01-05T10:61:00", "01-05T10:00:00+99:00"]
OTHER_TIMES = ["05/01/2020", "5 Jan 2020", "20200105", "01-05-2020 12:00", "43835", "1578225600", "2020/01/05", "12:30"]
BOUNDS = [("quantity", 0, "under 1"), ("quantity", -3, "under 1"), ("quantity", 2**62, "over 20")]
BOUNDS += [("id", -7, "under 1"), ("amount", 0.0, "under 0.01")]
BOUNDS += [("amount", 1000.01, "over 1000"), ("amount", 1e29, "over 1000")]
STATUSES = ["lost", "PAID", "paid ", "päid", "0", "null", "nan"]
CELLS: dict[str, tuple[int, list[tuple[str, Any, str]]]] = {  # how many cases; column, wrong value, the rule it breaks
    "a_word_for_a_number": (6, not_typed("id quantity amount", ["two", "Zürich", "-", "?", "true", "#DIV/0!"])),
    "letters_in_a_number": (9, not_typed("quantity amount", NUMBERS)),
    "a_fraction_for_a_whole_number": (6, not_typed("quantity id", [2.5, 1e-9, 7.0000001])),
    "infinity": (6, not_typed("amount", ["inf", "-Infinity", "nan", "NaN", "1e999", "+inf", float("inf")])),
    "an_impossible_time": (6, not_typed("placed", [f"2020-{day}" for day in NO_DAYS])),
    "a_time_in_another_format": (6, not_typed("placed", [*OTHER_TIMES, "2020-01-05T12", "2020-W01-5", "yesterday"])),
    "an_empty_cell": (6, [(name, None, "missing") for name, one in COLUMNS.items() if not one.get("nullable")]),
    "a_text_for_missing": (6, [(name, "NA", "missing") for name, one in COLUMNS.items() if not one.get("nullable")]),
    "a_number_out_of_bounds": (6, BOUNDS),
    "a_number_too_large": (6, not_typed("quantity id", ["9" * 19, "9" * 40, "1e30"])),
    "a_value_not_allowed": (6, [("returned", 2, "not allowed"), *(("status", one, "not allowed") for one in STATUSES)]),
    "a_customer": (6, [("customer", one, "not in customers") for one in ("nobody", "C1", "c1 ", "c99", "0", "nan")]),
}


def spoil_a_cell(wrong: list[tuple[str, Any, str]], case: Case) -> Expected:
    (column, value, rule), row = case.rng.choice(wrong), case.row()
    key, row[column] = row["id"], value
    return kept(key, rules={f"{column}: {rule}": 1})


FEW += [(name, partial(spoil_a_cell, wrong), FORMATS, times) for name, (times, wrong) in CELLS.items()]


def ended(rows: list[Row], newline: bytes) -> bytes:
    return as_csv(rows, "\r\n").replace(b"\r\n", newline)


HARMLESS: dict[str, tuple[tuple[str, ...], int, Callable[[Case], bytes]]] = {  # formats, how many cases, the content
    "a_byte_order_mark": (TEXTS, 4, lambda case: b"\xef\xbb\xbf" + case.whole()),
    "other_line_ends": (CSV, 3, lambda case: ended(case.rows, (b"\r\n", b"\r")[case.seed % 2])),
    "a_file_twice": (FORMATS, 3, lambda case: case.copied(case.whole())),
    "utf_16": (TEXTS, 3, lambda case: case.encoded("utf-16", "utf-32")),
    "columns_sorted": (FORMATS, 3, lambda case: case.whole([dict(sorted(row.items())) for row in case.rows])),
}
FEW += [(name, lambda case, of=of: (of(case), kept()), forms, times) for name, (forms, times, of) in HARMLESS.items()]
ENDS = [b', "id": 5}', b"},", b""]  # of an object
REFUSED: dict[str, tuple[tuple[str, ...], Callable[[Case], bytes]]] = {
    "a_column_more": (FORMATS, lambda case: case.whole([row | {"discount": 5} for row in case.rows])),
    "a_file_of_another_table": (FORMATS, lambda case: case.whole(CUSTOMERS)),
    "a_file_of_no_bytes": (FORMATS, lambda case: b""),
    "a_file_of_random_bytes": (FORMATS, lambda case: case.rng.randbytes(case.rng.randint(1, 3000))),
    "a_byte_that_is_no_utf_8": (TEXTS, lambda case: case.inserted(b"\xff", b"\xc3", b"\xfc", b"\xed\xa0\x80")),
    "zero_bytes": (TEXTS, lambda case: case.inserted(bytes(1), bytes(20))),
    "another_code_page": (TEXTS, lambda case: case.encoded("cp1252", "cp1250", "latin-1", "cp850")),
    "utf_16_without_a_mark": (CSV, lambda case: case.encoded("utf-16-le", "utf-16-be")),
    "utf_16_cut": (CSV, lambda case: case.encoded("utf-16")[: case.rng.randint(400, 700) * 2 + 1]),
    "a_parquet_file_cut": (PARQUET, lambda case: case.cut(case.whole())),
    "cut_within_the_last_field": (CSV, lambda case: case.whole()[: -case.rng.randint(1, 5)]),
    "another_delimiter": (CSV, lambda case: case.whole().replace(b",", case.rng.choice([b";", b"\t", b"|"]))),
    "a_delimiter_more": (CSV, lambda case: case.edited(lambda line, comma: line[:comma] + b"," + line[comma:])),
    "a_delimiter_less": (CSV, lambda case: case.edited(lambda line, comma: line[:comma] + line[comma + 1 :])),
    "two_lines_joined": (CSV, lambda case: case.edited(lambda line, comma: line[:-1])),
    "a_line_broken": (CSV, lambda case: case.edited(lambda line, comma: line[:comma] + b"\n" + line[comma:])),
    "a_quote_opened": (CSV, lambda case: case.edited(lambda line, comma: line[: comma + 1] + b'"' + line[comma + 1 :])),
    "a_quote_not_closed": (CSV, lambda case: case.edited(lambda line, _: b"".join(line.rpartition(b'"')[::2]), True)),
    "an_object_spoilt": (JSON, lambda case: case.whole().replace(b"}", case.rng.choice(ENDS), 1)),
    "rows_that_are_no_objects": (JSON, lambda case: case.rng.choice([b"[1, 2]", b"null"]) + b"\n" + case.whole()),
    "the_names_again": (CSV, lambda case: case.edited(lambda line, comma: line + case.records()[0])),
}
MANY += [(name, lambda case, of=of: (of(case), refused(case.file)), forms, 3) for name, (forms, of) in REFUSED.items()]


@spoils(few=True)
def a_time_of_other_days(case: Case) -> Expected:
    row = case.row()
    row["placed"] = case.rng.choice(["1920-01-05T10:00:00", "2120-01-05T10:00:00", "0202-01-05T10:00:00"])
    return kept(row["id"], raw=-1)


@spoils(few=True)
def a_row_twice(case: Case) -> Expected:
    copies = [case.row() for _ in range(case.rng.randint(1, 3))]
    for copy in copies:
        case.rows.insert(case.rng.randint(0, len(case.rows)), dict(copy))
    return kept(raw=len(copies), rules={"unique: id": len(copies)})


@spoils(few=True)
def a_key_twice_with_other_content(case: Case) -> Expected:
    place = case.rng.randrange(SIZE)
    copy = case.rows[place] | {"amount": 1.5, "status": "open", "quantity": 1}
    case.rows.insert(case.rng.randint(place + 1, SIZE), copy)
    return kept(raw=1, rules={"unique: id": 1})


SWAPS = {  # two columns that mean different things -> the rule that a row with both swapped breaks first
    ("customer", "status"): "status: not allowed", ("quantity", "amount"): "quantity: not int64",
    ("id", "customer"): "id: not int64", ("amount", "status"): "amount: not float64",
    ("returned", "amount"): "returned: not int64", ("id", "quantity"): "quantity: over 20",
}  # fmt: skip


@spoils(times=6)
def two_columns_swapped(case: Case) -> Expected:
    (one, other), rule = case.rng.choice(list(SWAPS.items()))
    for row in case.rows:
        row[one], row[other] = row[other], row[one]
    return kept(*case.everyone, rules={rule: SIZE})


@spoils(times=9)
def a_column_renamed_or_missing(case: Case) -> Expected:
    column = case.rng.choice(list(COLUMNS))
    new = case.rng.choice([None, column.upper(), f"{column}_2", "x", f"{column}."])
    names = {name: new if name == column else name for name in COLUMNS}
    case.rows = [{names[name]: value for name, value in row.items() if names[name]} for row in case.rows]
    return refused(case.file, column, new or column)


@spoils()
def a_file_without_rows(case: Case) -> Any:
    if case.format == "jsonl":
        return b"\n", refused(case.name, "no row")
    content = case.records()[0] if case.format == "csv" else as_parquet(case.rows, most=0)
    return content, refused(f"orders {case.month} (0)")


@spoils()
def a_wrong_suffix(case: Case) -> Expected:
    wrong = ["csv", "jsonl", "parquet", "tsv", "psv", "xlsx", "db", "csv.gz", "zip", "csv.zst", "bak", "log"]
    case.file = f"{case.month}.{case.rng.choice([one for one in wrong if one != case.format])}"
    return refused(case.file)


@spoils(TEXTS, 16)
def cut_anywhere(case: Case) -> Any:
    content = case.cut(case.whole())
    if case.seed % 3:  # at the end of a line
        content = content[: content.rfind(b"\n") + 1]
    return content, cut(case, len(content))


def cut(case: Case, place: int) -> Expected:
    parts = case.records() if case.format == "csv" else [as_jsonl([row]) for row in case.rows]
    ends = {sum(map(len, parts[:number])): number for number in range(1, len(parts) + 1)}
    if case.format == "csv":
        ends = {end: number - 1 for end, number in ends.items()}  # the names are no row
    else:
        ends |= {end - 1: number for end, number in ends.items()}  # the newline adds nothing to an object
    if place not in ends:
        return refused(case.name)
    left = ends[place]
    return kept(*case.everyone[left:], raw=left - SIZE) if left >= LEAST else refused(f"orders {case.month} ({left})")

"""Ways to spoil a raw file of a shop, each with what is expected of it; `test_corruptions.py` tries them.

What no file can tell is not among the cases, or is counted as what it is: a sound value in place of another (125 for 175);
rows that are missing whole, as where a CSV file was cut between two lines (the gate of stage 02 sees it once fewer than
``min_rows`` are left); of two rows with one key the sound one: the first is kept; a time outside the days that are collected
is a row of other days, and left out; a letter or a quote more or less inside a free text, if the line keeps its fields.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from spoilt_shop import (
    COLUMNS,
    CSV,
    CUSTOMERS,
    FORMATS,
    JSON,
    LEAST,
    PARQUET,
    SIZE,
    SOUND,
    TEXTS,
    Case,
    Expected,
    as_csv,
    as_jsonl,
    as_parquet,
    kept,
    refused,
)


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
    """List a way to spoil a file."""

    def register(spoil: Spoil) -> Spoil:
        (FEW if few else MANY).append((spoil.__name__, spoil, formats, times))
        return spoil

    return register


def cases(ways: list[Way]) -> Iterator[tuple[str, Spoil, int, str]]:
    """Yield each case: what spoils a file, its seed, the format of the file."""
    for name, spoil, formats, times in ways:
        yield from ((name, spoil, seed, formats[seed % len(formats)]) for seed in range(times))


def apply(folder: Path, name: str, spoil: Spoil, seed: int, form: str, month: str | None) -> Expected:
    """Spoil one file; return what is expected of it."""
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
BOUNDS = [
    ("quantity", 0, "under 1"),
    ("quantity", -3, "under 1"),
    ("quantity", 2**62, "over 20"),
    ("id", -7, "under 1"),
]
BOUNDS += [("amount", 0.0, "under 0.01"), ("amount", 1000.01, "over 1000"), ("amount", 1e300, "over 1000")]
STATUSES = ["lost", "PAID", "paid ", "päid", "0", "null", "nan"]
CELLS: dict[str, tuple[int, list[tuple[str, Any, str]]]] = {  # how many cases; column, wrong value, the rule it breaks
    "a_word_for_a_number": (6, not_typed("id quantity amount", ["two", "Zürich", "-", "?", "true", "#DIV/0!"])),
    "letters_in_a_number": (9, not_typed("quantity amount", NUMBERS)),
    "a_fraction_for_a_whole_number": (3, not_typed("quantity id", [2.5, 1e-9, 7.0000001])),
    "infinity": (3, not_typed("amount", ["inf", "-Infinity", "nan", "NaN", "1e999", "+inf", float("inf")])),
    "an_impossible_time": (3, not_typed("placed", [f"2020-{day}" for day in NO_DAYS])),
    "a_time_in_another_format": (3, not_typed("placed", [*OTHER_TIMES, "2020-01-05T12", "2020-W01-5", "yesterday"])),
    "an_empty_cell": (6, [(name, None, "missing") for name, one in COLUMNS.items() if not one.get("nullable")]),
    "a_text_for_missing": (2, [(name, "NA", "missing") for name, one in COLUMNS.items() if not one.get("nullable")]),
    "a_number_out_of_bounds": (6, BOUNDS),
    "a_number_too_large": (3, not_typed("quantity id", ["9" * 19, "9" * 40, "1e30"])),
    "a_value_not_allowed": (3, [("returned", 2, "not allowed"), *(("status", one, "not allowed") for one in STATUSES)]),
    "a_customer": (3, [("customer", one, "not in customers") for one in ("nobody", "C1", "c1 ", "c99", "0", "nan")]),
}


def spoil_a_cell(wrong: list[tuple[str, Any, str]]) -> Spoil:
    def spoil(case: Case) -> Expected:
        column, value, rule = case.rng.choice(wrong)
        row = case.row()
        key, row[column] = row["id"], value
        return kept(key, rules={f"{column}: {rule}": 1})

    return spoil


FEW += [(name, spoil_a_cell(wrong), FORMATS, times) for name, (times, wrong) in CELLS.items()]


HARMLESS: dict[str, tuple[tuple[str, ...], int, Callable[[Case], bytes]]] = {  # formats, how many cases, the content
    "a_byte_order_mark": (TEXTS, 4, lambda case: b"\xef\xbb\xbf" + case.whole()),
    "other_line_ends": (
        CSV,
        3,
        lambda case: as_csv(case.rows, "\r\n").replace(b"\r\n", [b"\r\n", b"\r"][case.seed % 2]),
    ),
    "a_file_twice": (FORMATS, 3, lambda case: case.copied(case.whole())),
    "columns_sorted": (FORMATS, 3, lambda case: case.whole([dict(sorted(row.items())) for row in case.rows])),
}
FEW += [(name, lambda case, of=of: (of(case), kept()), forms, times) for name, (forms, times, of) in HARMLESS.items()]
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
    "an_object_spoilt": (
        JSON,
        lambda case: case.whole().replace(b"}", case.rng.choice([b', "id": 5}', b"},", b""]), 1),
    ),
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


@spoils(CSV, few=True)
def blank_lines(case: Case) -> Any:
    parts = case.records()
    for _ in range(case.rng.randint(1, 4)):
        parts.insert(case.rng.randint(0, len(parts)), b"\n")
    return b"".join(parts), kept()


SWAPS = {  # two columns that mean different things -> the rule that a row with both swapped breaks first
    ("customer", "status"): "status: not allowed",
    ("quantity", "amount"): "quantity: not int64",
    ("id", "customer"): "id: not int64",
    ("amount", "status"): "amount: not float64",
    ("returned", "amount"): "returned: not int64",
    ("id", "quantity"): "quantity: over 20",
}


@spoils(few=True)
def two_cells_swapped(case: Case) -> Expected:
    (one, other), rule = case.rng.choice(list(SWAPS.items()))
    row = case.row()
    key, row[one], row[other] = row["id"], row[other], row[one]
    return kept(key, rules={rule: 1})


@spoils(times=6)
def two_columns_swapped(case: Case) -> Expected:
    (one, other), rule = case.rng.choice(list(SWAPS.items()))
    for row in case.rows:
        row[one], row[other] = row[other], row[one]
    return kept(*case.everyone, rules={rule: SIZE})


@spoils()
def the_time_swapped(case: Case) -> Expected:
    case.rows = [row | {"placed": row["status"], "status": str(row["placed"])} for row in case.rows]
    return case.untimed


@spoils()
def a_row_of_another_file(case: Case) -> Expected:
    case.rows.insert(case.rng.randint(0, SIZE), case.other())
    return kept(raw=1, rules={"unique: id": 1})


@spoils()
def a_file_twice_in_another_order(case: Case) -> Any:
    return case.copied(case.whole(case.rows[::-1])), kept(raw=SIZE, rules={"unique: id": SIZE})


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
    return case.records()[0] if case.format == "csv" else as_parquet(case.rows, most=0), refused(case.empty)


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
    """Return what is expected of a text of which only so many bytes are left."""
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


@spoils(CSV)
def cut_and_packed(case: Case) -> Any:
    suffix, pack = case.rng.choice([("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zst)])
    whole = pack(case.whole())
    case.file += f".{suffix}"
    return whole[: case.rng.randrange(len(whole))], refused(f"{case.month}.csv")


@spoils(TEXTS, 3, few=True)
def utf_16(case: Case) -> Any:
    return case.encoded("utf-16", "utf-32"), kept()


@spoils(CSV, 2)
def a_quote_opened_where_each_line_keeps_its_fields(case: Case) -> Any:
    """It takes all up to the next one: a note has quote and comma, or what comes after it."""
    parts, note = case.records(), ["call", "Grüße"][case.seed]
    number = next(place for place, part in enumerate(parts) if note in part.decode())
    parts[number] = re.sub(rb"(open|paid|sent),", rb'"\1,', parts[number], count=1)
    return b"".join(parts), refused(case.name)


@spoils(CSV, 5)
def customers(case: Case) -> Expected:
    """Spoil the file of customers: orders of one who is not in the lake are quarantined, too."""
    name, sound, row = "data/source/customers.csv", as_csv(CUSTOMERS), case.rng.choice(CUSTOMERS)
    mine = [one["id"] for one in SOUND.values() if one["customer"] == row["customer"]]

    def changed(**values: str) -> bytes:
        return as_csv([{**one, **(values if one is row else {})} for one in CUSTOMERS])

    def without(rule: str) -> Expected:
        return kept(*mine, customers={row["customer"]}, rules={rule: 1, "customer: not in customers": len(mine)})

    content, expected = [
        (changed(country=case.rng.choice(["XX", "ch", "D"])), without("country: not allowed")),
        (changed(city=""), without("city: missing")),
        (as_csv([*CUSTOMERS, {**row, "city": "Rom"}]), kept(rules={"unique: customer": 1})),
        (sound + as_csv(CUSTOMERS[:2]), refused(name, "line 10: ", "names")),
        (sound.replace(b"city", b"town", 1), refused("data/raw/customers", "lacks city")),
    ][case.seed % 5]
    (case.folder.parent / "customers.csv").write_bytes(content)
    return expected

"""Read delimited text (CSV and its kin), and sniff how it is written: encoding, delimiter, quotes, names.

pyarrow reads, the checks here refuse what it would let pass. DuckDB's strict reader was tried in its place: it drops
spaces after a closing quote and gaps in a single column, and refuses files that mix two kinds of line ends.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ninefold.collection import encodings, tabular
from ninefold.collection.encodings import SAMPLE
from ninefold.errors import DataError

DELIMITERS = {".csv": ",", ".txt": ",", ".data": ",", ".dat": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
csv.field_size_limit(1 << 30)
NUMBER = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*")


def read(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    """Return a text as a table, or raise a `DataError` if it cannot be a whole one.

    Then a row is longer or shorter than the first line, a quote takes lines with it, the names stand once more below, or
    the last line has no newline (unless ``options`` has ``final_newline: False``): if a file was cut off, ``12`` may be left
    of ``125``, and nothing else shows it.
    """
    text = _Text(where, content, options)
    first = text.first_record()
    places = [str(place) for place in range(len(first))]
    if len(first) == 1 and "delimiter" not in options:
        guess = sniff(where, content, {"header": True, **options}).get("delimiter")
        if guess and guess in first[0]:
            raise DataError(
                f"{where}: found one column, named {first[0][:60]!r}, whose delimiter seems to be {guess!r}; "
                f'set options: {{delimiter: "{guess}"}}'
            )
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # a block has to hold the longest row
            pyarrow.csv.ReadOptions(column_names=places, encoding=text.encoding, block_size=1 << 24),
            pyarrow.csv.ParseOptions(
                delimiter=text.delimiter,
                quote_char=text.quote,
                escape_char=text.escape or False,
                newlines_in_values=True,
                ignore_empty_lines=len(first) > 1,
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _explained(text, len(first), error) from None
    _demand_closed_quotes(text, table)
    if options.get("final_newline", True) and not encodings.ends_in_newline(content, text.encoding):
        last = ", ".join(column[-1].as_py() for column in table.columns)
        raise DataError(
            f"{where}: found no newline after its last line, which ends with {last[-60:]!r}, expected one: without it, a "
            "file that was cut off looks whole; fetch the file anew, or, if it is whole, end it with a newline or set "
            "options: {final_newline: false}"
        )
    if options.get("header", True):
        _demand_names_once(text, table.slice(1), first)
        return tabular.table(first, table.slice(1).columns)
    return tabular.table([""] * len(first), table.columns)


def sniff(where: str, content: pa.Buffer, known: dict[str, Any]) -> dict[str, Any]:
    """Return encoding, delimiter, quote, escape and whether it ends in a newline, where they are not the default.

    A `DataError` says that the file is empty or no text, or that its first line looks like a row.
    """
    if not content.size:
        raise DataError(f"{where}: found an empty file, expected a table; fetch it anew, or remove it")
    guess = known.get("encoding") or encodings.guess(bytes(content))
    encoding = encodings.known(where, content, {"encoding": guess})
    sample = bytes(content[: SAMPLE - SAMPLE % 4]).decode(encoding, errors="replace").removeprefix("\ufeff")
    sample = sample if content.size < SAMPLE else sample[: sample.rfind("\n") + 1] or sample
    default = {"encoding": "utf-8", "quote": '"', "final_newline": True, "delimiter": _default_delimiter(where)}
    delimiter = known.get("delimiter") or _sniff_delimiter(sample) or _default_delimiter(where)
    quote, escape, named = _sniff_quotes(sample, delimiter)
    guesses = {"encoding": guess, "delimiter": delimiter, "quote": quote, "escape": escape}
    guesses |= {"final_newline": encodings.ends_in_newline(content, encoding), **known}
    options = {key: value for key, value in guesses.items() if value is not None and value != default.get(key)}
    if not named and "header" not in known:
        _demand_names(_Text(where, content, options | {"encoding": guess}))
    return options


class _Text:
    """A delimited text and how it is written; its lines are those of the standard library's reader, which is slow."""

    def __init__(self, where: str, content: pa.Buffer, options: dict[str, Any]) -> None:
        self.where, self.content, self.encoding = where, content, encodings.known(where, content, options)
        signs = {"delimiter": _default_delimiter(where), "quote": '"', "escape": None, **options}
        self.delimiter, self.quote, self.escape = (signs[key] for key in ("delimiter", "quote", "escape"))
        for key in ("delimiter", "quote", "escape"):
            if signs[key] is not None and (not isinstance(signs[key], str) or len(signs[key].encode()) != 1):
                raise DataError(f"{where}: options: found {signs[key]!r} as {key}, expected one plain character")

    def lines(self) -> Iterator[str]:
        coding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        return io.TextIOWrapper(pa.BufferReader(self.content), encoding=coding, errors="replace", newline="")

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record with the number of the line on which it begins, without blank lines."""
        signs = {"delimiter": self.delimiter, "quotechar": self.quote, "escapechar": self.escape}
        reader, start = csv.reader(self.lines(), **signs), 1
        for record in reader:
            if record:
                yield start, record
            start = reader.line_num + 1

    def first_record(self) -> list[str]:
        try:
            return next(record for _, record in self.records())
        except StopIteration:
            raise DataError(f"{self.where}: found blank lines only, expected names and rows; fetch it anew") from None
        except (csv.Error, UnicodeError) as error:
            raise DataError(f"{self.where}: line 1 cannot be read ({error}), expected names; mend it") from None


def _default_delimiter(where: str) -> str:
    return DELIMITERS[PurePosixPath(where).suffix.lower()]


def _sniff_delimiter(sample: str) -> str | None:
    """Return the delimiter by which most lines have as many fields as the first, and of equals the one of most fields."""
    best: list[tuple[float, int, str]] = []
    for delimiter in ",;\t|":
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        with suppress(csv.Error):
            first, *others = [len(record) for record in islice(reader, 1000) if record] or [0]
            if first > 1:
                best.append((sum(width == first for width in others) / max(len(others), 1), first, delimiter))
    return max(best)[2] if best else None


def _sniff_quotes(sample: str, delimiter: str) -> tuple[str | None, str | None, bool]:
    """Return quote and escape (None for the default), and whether the first line holds names, by DuckDB's sniffer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sample.csv"
        file.write_text(sample, encoding="utf-8", newline="")
        query = "SELECT Quote, Escape, HasHeader FROM sniff_csv(?, delim = ?, all_varchar = true, comment = '')"
        try:
            row = duckdb.connect().execute(query, [str(file), delimiter]).fetchone()
        except duckdb.Error:  # lines that differ in their fields, which `read` refuses
            row = None
    quote, escape, named = row or ("", "", True)
    quote, escape = (value if value not in ("(empty)", "", "\0") else None for value in (quote, escape))
    return quote, None if escape == quote else escape, named


def _demand_names(text: _Text) -> None:
    """Refuse a first line that holds values: numbers that are neither years nor evenly spaced, as names would be."""
    first = text.first_record()
    numbers = [float(field) for field in first if NUMBER.fullmatch(field)]
    steps = {round(after - before, 6) for before, after in pairwise(numbers)}
    years = all(1000 <= number < 3000 and number.is_integer() for number in numbers)
    if numbers and not years and not (len(numbers) > 2 and len(steps) == 1 and 0 not in steps):
        raise DataError(
            f"{text.where}: the first line looks like a row ({', '.join(first)[:80]}), expected the names of the columns; "
            "put a line of names first, or set options: {header: false}, which names them column_1, column_2 ..., "
            "or options: {header: true} if these are the names"
        )


def _demand_closed_quotes(text: _Text, table: pa.Table) -> None:
    """Refuse text behind a closing quote (but spaces), and a quote that is never closed: pyarrow takes both into the value.

    There can be one only where another quote stands in a value, the last line has an odd number of them, or `_text_behind`.
    """
    quote, last = text.quote, table.column(table.num_columns - 1)[-1].as_py()
    if not re.search(re.escape(quote.encode()), text.content):
        return
    end = re.split(rb"[\r\n]", bytes(text.content[-SAMPLE:]).replace(b"\0", b"").rstrip(b"\r\n"))[-1]
    inside = any(pc.any(pc.match_substring(column, quote)).as_py() for column in table.columns)
    if not (end.count(quote.encode()) % 2 or "\n" in last or inside or _text_behind(text)):
        return
    for _ in strict_records(text.where, text.lines(), text.delimiter, quote, text.escape):
        pass


def strict_records(
    where: str, lines: Iterable[str], delimiter: str = ",", quote: str = '"', escape: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield each record, with the number of the line on which it begins; blank lines have no field.

    Raises `DataError` at text behind a closing quote (but spaces, which are dropped), and at a quote that is never closed.
    """
    spaces = re.compile(rf"{re.escape(quote)}[ \t]+(?={re.escape(delimiter)}|[\r\n]|$)")
    trimmed = (spaces.sub(lambda _: quote, line) if quote in line else line for line in lines)
    reader, start = csv.reader(trimmed, delimiter=delimiter, quotechar=quote, escapechar=escape, strict=True), 1
    try:
        for record in reader:
            yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        problem, remedy = (
            f"found a quote ({quote}) that is never closed",
            "if the file was cut off there, fetch it anew",
        )
        row = f"in the row that begins in line {start}"
        if "end of data" not in str(error):
            problem = f"line {reader.line_num}: found text behind a closing quote ({quote})"
            row += "; a quote is missing or too many, or not doubled within a field"
            remedy = "set options.escape or options.quote"
        raise DataError(f"{where}: {problem}, {row}; mend the row, or {remedy}") from None


def _text_behind(text: _Text) -> bool:
    """Return whether text may follow a closing quote where no value holds a quote: then every second one closes a field."""
    if text.encoding.startswith(("utf-16", "utf-32")):  # whose bytes are no characters
        return True
    content = np.frombuffer(text.content, dtype="uint8")
    closing = np.flatnonzero(content == ord(text.quote))[1::2] + 1
    behind = content[closing[closing < len(content)]]
    return bool((~np.isin(behind, [*b"\r\n", ord(text.delimiter)])).any())


def _demand_names_once(text: _Text, rows: pa.Table, first: list[str]) -> None:
    """Refuse the line of names among the rows, where two files were joined; one name alone may be a value."""
    for column, name in list(zip(rows.column_names, first, strict=True))[:0:-1]:
        rows = rows.filter(pc.equal(rows.column(column), name))
        if not rows.num_rows:
            return
    if len(first) > 1 and first[0] in (field.lstrip("\ufeff") for field in rows.column(0).to_pylist()):
        places = (line for line, record in text.records() if record[1:] == first[1:])
        next(places)
        raise DataError(
            f"{text.where}: line {next(places)}: found the names of the columns again, expected a row; if two files were "
            "joined there, drop that line"
        )


def _explained(text: _Text, width: int, error: Exception) -> DataError:
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        return encodings.undecodable(text.where, text.content, text.encoding)
    try:
        for line, record in text.records():
            if len(record) != width:
                return DataError(
                    f"{text.where}: line {line}: found {len(record)} fields, expected {width}, as in its first line; the "
                    f"delimiter is {text.delimiter!r}; mend the line, or set options.delimiter or options.quote"
                )
    except csv.Error as problem:
        return DataError(f"{text.where}: cannot be read ({problem}); mend the file")
    return DataError(f"{text.where}: cannot be read as delimited text ({tabular.line(error)}); mend the file")

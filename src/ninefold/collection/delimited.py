"""Read delimited text (CSV and its kin), and sniff how it is written: encoding, delimiter, quotes, names.

pyarrow reads, the checks here refuse what it would let pass. DuckDB's strict reader was tried in its place: it drops
spaces after a closing quote and gaps in a single column, and refuses files that mix two kinds of line ends.
"""

import csv
import io
import re
import tempfile
from collections import Counter
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

from ninefold.collection import encodings, layout, tabular
from ninefold.collection.encodings import SAMPLE
from ninefold.errors import DataError

DELIMITERS = {".csv": ",", ".txt": ",", ".data": ",", ".dat": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
csv.field_size_limit(1 << 30)
NUMBER = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*")
SEP = re.compile(r'\ufeff?"?sep=([^"\r\n])"?[\r\n]')  # the delimiter, as Excel reads and writes it
MARK = re.compile(rb"(?<=\n)\xef\xbb\xbf")  # of UTF-8, where two files were joined


def read(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    """Return a text as a table; raise `DataError` if it cannot be a whole one.

    Then a row is longer or shorter than the first line, a quote takes lines with it, the names stand once more below, or the
    last line has no newline (unless ``final_newline`` is False): of a file that was cut off, ``12`` may be left of ``125``.
    """
    text = _Text(where, content, options)
    first, named = text.first_record(), int(options.get("header", 1))
    places, gapless = [str(place) for place in range(len(first))], len(first) > 1 or text.is_cut
    signs = {"delimiter": text.delimiter, "quote_char": text.quote, "escape_char": text.escape or False}
    if len(first) == 1 and "delimiter" not in options:
        guess = sniff(where, content, {"header": True, **options}).get("delimiter")
        if guess and guess in first[0]:
            raise DataError(
                f"{where}: found one column, named {first[0][:60]!r}, whose delimiter seems to be {guess!r}; "
                f'set options: {{delimiter: "{guess}"}}'
            )
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text.content),
            # a block has to hold the longest row
            pyarrow.csv.ReadOptions(column_names=places, encoding=text.encoding, block_size=1 << 24),
            pyarrow.csv.ParseOptions(**signs, newlines_in_values=True, ignore_empty_lines=gapless),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise encodings.undecodable(where, text.content, text.encoding) from None
        _demand_whole_rows(text, len(first))
        raise DataError(f"{where}: cannot be read as delimited text ({tabular.line(error)}); mend the file") from None
    if _may_be_torn(text, table):  # pyarrow takes what is behind a quote into the value
        _demand_whole_rows(text, len(first))
    if options.get("final_newline", True) and not text.ends:
        last = ", ".join(column[-1].as_py() for column in table.columns)
        raise DataError(
            f"{where}: found no newline after its last line, which ends with {last[-60:]!r}, expected one: without it, a "
            "file that was cut off looks whole; fetch the file anew, or, if it is whole, end it with a newline or set "
            "options: {final_newline: false}"
        )
    header = [list(row.values()) for row in table.slice(0, named).to_pylist()]
    if named:
        _demand_names_once(text, table.slice(named), first)
    return tabular.table(layout.names(header) if header else [""] * len(first), table.slice(named).columns)


def sniff(where: str, content: pa.Buffer, known: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """Return the options that are not the default: encoding, signs, what stands around the table, the end of the last line.

    Warnings are added to `notes`. A `DataError` says that the file is no text, or that its first line looks like a row.
    """
    notes = [] if notes is None else notes
    guess = known.get("encoding") or encodings.guess(bytes(content))
    text = _Text(where, content, {**known, "encoding": guess})
    sample = bytes(text.content[:SAMPLE]).decode(text.encoding, errors="replace").removeprefix("\ufeff")
    sample = sample if text.content.size < SAMPLE else sample[: sample.rfind("\n") + 1] or sample
    lines, around = sample.splitlines(), dict[str, Any]()
    comments = next((place for place, line in enumerate(lines) if not line.startswith(("#", "%"))), 0)
    body = "\n".join([*lines[comments:], ""]) if comments else sample
    stated = SEP.match(sample)
    delimiter = known.get("delimiter") or (stated and stated[1]) or _sniff_delimiter(body) or _default_delimiter(where)
    if comments and lines[comments - 1].count(delimiter) == lines[comments].count(delimiter) > 0:
        around, body = {"skip": comments - 1 or None}, "\n".join([*lines[comments - 1 :], ""])
        notes.append(f"the names are those behind {lines[0][0]!r} in line {comments}: {layout.KEY}skip")
    elif comments:
        around, shown = {"comment": lines[0][0]}, lines[0][:60]
        notes.append(f"lines such as {shown!r} are left out as comments: {layout.KEY}comment")
    default = {"encoding": "utf-8", "quote": '"', "final_newline": True, "delimiter": _default_delimiter(where)}
    quote, escape, named = _sniff_quotes(body, delimiter)
    guesses = {"encoding": guess, "delimiter": delimiter, "quote": quote, "escape": escape, **around}
    guesses |= {"final_newline": text.ends, **known}
    options = {key: value for key, value in guesses.items() if value is not None and value != default.get(key)}
    text = _Text(where, content, {**options, "encoding": guess})
    if MARK.search(content):
        notes.append(f"{where}: byte order marks within the text are left out, as where files were joined")
    if not {"skip", "header", "footer"} & known.keys():
        first = list(islice(text.records(), 1000))
        last = bytes(text.content[max(text.content.size - SAMPLE, 0) :]).decode(text.encoding, errors="replace")
        found, more = layout.find(where, first, text.fields(last.splitlines()[-layout.BELOW :]))
        options, notes[len(notes) :] = {**found, **options}, more
    if not named and not {"header", "skip"} & options.keys():
        _demand_names(text)
    return options


class _Text:
    """A delimited text and how it is written; its lines are those of the standard library's reader, which is slow."""

    def __init__(self, where: str, content: pa.Buffer, options: dict[str, Any]) -> None:
        self.where, self.content, self.encoding = where, content, encodings.known(where, content, options)
        signs = {"delimiter": _default_delimiter(where), "quote": '"', "escape": None, "comment": None, **options}
        for key in ("delimiter", "quote", "escape", "comment"):
            if signs[key] is not None and (not isinstance(signs[key], str) or len(signs[key].encode()) != 1):
                raise DataError(f"{where}: options: found {signs[key]!r} as {key}, expected one plain character")
        self.delimiter, self.quote, self.escape = (signs[key] for key in ("delimiter", "quote", "escape"))
        is_wide = self.encoding.startswith(("utf-16", "utf-32"))  # whose bytes are no characters
        stated = SEP.match(bytes(content[:16]).decode(errors="replace"))
        self.is_cut = bool({"skip", "comment", "footer"} & options.keys() or MARK.search(content) or stated)
        if is_wide or self.is_cut:
            try:
                text = self._rows(str(content, self.encoding).removeprefix("\ufeff"), options)
            except UnicodeDecodeError:
                raise encodings.undecodable(where, content, self.encoding) from None
            self.content, self.encoding = pa.py_buffer(text.encode()), "utf-8"
        self.ends = (is_wide and text[-1:] in ("\n", "\r")) or bytes(content[-1:]) in (b"\n", b"\r")

    def _rows(self, text: str, options: dict[str, Any]) -> str:
        """Return a text whose lines that are no rows are empty, so that all others keep their numbers."""
        text, skip = text.replace("\n\ufeff", "\n"), options.get("skip", 0)
        if stated := SEP.match(text):
            self.delimiter, self.is_cut, skip = stated[1], True, max(skip, 1)
        if sign := options.get("comment"):
            quote = re.escape(self.quote)
            text = re.sub(rf"(?m)({quote}[^{quote}]*{quote})|^{re.escape(sign)}.*", lambda match: match[1] or "", text)
        lines = list(io.StringIO(text, newline=""))
        last = self.fields(lines[-layout.BELOW :])
        del lines[len(lines) - len(last) + layout.end(last, options.get("footer")) :]
        return "".join(["\n"] * skip + lines[skip:])

    def fields(self, lines: list[str]) -> list[list[str]]:
        """Return the fields of lines that are rows."""
        return [next(csv.reader([line], delimiter=self.delimiter, quotechar=self.quote), []) for line in lines]

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
    """Return the delimiter by which most lines have equally many fields, and of equals the one of most fields."""
    best: list[tuple[float, int, str]] = []
    for delimiter in ",;\t|":
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        with suppress(csv.Error):
            widths = [len(record) for record in islice(reader, 1000) if record] or [0]
            width, lines = Counter(widths).most_common(1)[0]
            if width > 1:
                best.append((lines / len(widths), width, delimiter))
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


def _may_be_torn(text: _Text, table: pa.Table) -> bool:
    """Return whether text may stand behind a closing quote, or a quote may not be closed: reading line by line is slow.

    Only where another quote stands in a value, the last line has an odd number of them, or, as every second one closes a
    field, something else than a delimiter or a line end comes behind one of these.
    """
    quote, last = text.quote, table.column(table.num_columns - 1)[-1].as_py()
    if not re.search(re.escape(quote.encode()), text.content):
        return False
    end = re.split(rb"[\r\n]", bytes(text.content[-SAMPLE:]).rstrip(b"\r\n"))[-1]
    inside = any(pc.any(pc.match_substring(column, quote)).as_py() for column in table.columns)
    if end.count(quote.encode()) % 2 or "\n" in last or inside:
        return True
    content = np.frombuffer(text.content, dtype="uint8")
    closing = np.flatnonzero(content == ord(quote))[1::2] + 1
    behind = content[closing[closing < len(content)]]
    return bool((~np.isin(behind, [*b"\r\n", ord(text.delimiter)])).any())


def _demand_whole_rows(text: _Text, width: int) -> None:
    """Refuse a row of another width, text behind a closing quote (but spaces), and a quote that is never closed."""
    for line, record in strict_records(text.where, text.lines(), text.delimiter, text.quote, text.escape):
        if record and len(record) != width:
            raise DataError(
                f"{text.where}: line {line}: found {len(record)} fields, expected {width}, as in its first line; the "
                f"delimiter is {text.delimiter!r}; mend the line, or set options.delimiter or options.quote; lines that "
                "are no rows: options.skip, options.comment, options.footer"
            )


def strict_records(
    where: str, lines: Iterable[str], delimiter: str = ",", quote: str = '"', escape: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins; `DataError` at an unclosed quote, or text behind a quote."""
    spaces = re.compile(rf"{re.escape(quote)}[ \t]+(?={re.escape(delimiter)}|[\r\n]|$)")
    trimmed = (spaces.sub(lambda _: quote, line) if quote in line else line for line in lines)
    reader, start = csv.reader(trimmed, delimiter=delimiter, quotechar=quote, escapechar=escape, strict=True), 1
    try:
        for record in reader:
            yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        row = f"in the row that begins in line {start}"
        problem = f"found a quote ({quote}) that is never closed, {row}"
        remedy = "if the file was cut off there, fetch it anew"
        if "end of data" not in str(error):
            problem = f"line {reader.line_num}: found text behind a closing quote ({quote}), {row}"
            remedy = "set options.escape or options.quote"
            problem += "; a quote is missing or too many, or not doubled within a field"
        raise DataError(f"{where}: {problem}; mend the row, or {remedy}") from None


def _demand_names_once(text: _Text, rows: pa.Table, first: list[str]) -> None:
    """Refuse the line of names among the rows, where two files were joined; one name alone may be a value."""
    for column, name in zip(rows.column_names, first, strict=True):
        rows = rows.filter(pc.equal(rows.column(column), name))
    if len(first) > 1 and rows.num_rows:
        again = [line for line, record in text.records() if record == first][1]
        raise DataError(
            f"{text.where}: line {again}: found the names of the columns again, expected a row; if two files were joined "
            "there, drop that line"
        )

"""Read delimited text (CSV and its kin), and sniff how it is written: encoding, delimiter, quotes, names.

pyarrow reads, the checks here refuse what it would let pass. DuckDB's strict reader was tried in its place: it drops
spaces after a closing quote and gaps in a single column, and refuses files that mix two kinds of line ends.
"""

import codecs
import csv
import io
import os
import re
import tempfile
import weakref
from collections import Counter, deque
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
from ninefold.collection.encodings import CHUNK, SAMPLE, piece
from ninefold.errors import DataError
from ninefold.sentences import render

DELIMITERS = {".csv": ",", ".txt": ",", ".data": ",", ".dat": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
csv.field_size_limit(1 << 30)
NUMBER = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*")
GAP = re.compile(rb"\n[\s,;|\"]*\n[^\n]")  # a line of no more than blanks and delimiters
RULE = re.compile(r"[|+\s]*[-=]{4}[-=|+\s]*")  # a line of dashes
SEP = re.compile(r'\ufeff?"?sep=([^"\r\n])"?[\r\n]')  # the delimiter, as Excel reads and writes it


def read(where: str, place: Path, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Yield a text file as parts of a table, some `CHUNK` bytes each; raise `DataError`, at its end, if it is no whole one.

    Then a row has another width than the first, a quote takes lines with it, the names stand below again, or the last line has
    no newline (unless ``final_newline`` is False): of a file that was cut off, ``12`` may be left of ``125``.
    """
    text = _Text(where, place, options)
    first, named = text.first_record(), int(options.get("header", 1))
    if len(first) == 1 and "delimiter" not in options:
        guess = sniff(where, place, {"header": True, **options}, []).get("delimiter")
        if guess and guess in first[0]:
            raise DataError(render("collection", "other_delimiter", where=where, name=first[0][:60], guess=guess))
    under, units = options.get("skip_below", 0), list[str]()
    places, names, last = list(map(str, range(len(first)))), list[str](), [""]
    signs = {"delimiter": text.delimiter, "quote_char": text.quote, "escape_char": text.escape or False}
    how = (
        pyarrow.csv.ReadOptions(column_names=places, encoding=text.encoding, block_size=CHUNK),  # of the longest row
        pyarrow.csv.ParseOptions(**signs, newlines_in_values=True, ignore_empty_lines=len(first) > 1 or text.is_cut),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False),
    )
    try:
        for batch in pyarrow.csv.open_csv(pa.OSFile(str(text.place)), *how):
            table = pa.Table.from_batches([batch])
            last = [column[-1].as_py() for column in table.columns] if len(table) else last
            if not names:
                top = [list(row.values()) for row in table.slice(0, named + under).to_pylist()]
                names, units = layout.names(top[:named]) if named else [""] * len(first), layout.units(top[named:])
                table = table.slice(named + under)
            again = table if named and len(first) > 1 else table[:0]  # one name may be a value
            for column, name in zip(places, first, strict=True):
                again = again.filter(pc.equal(again.column(column), name))
            if again.num_rows:
                line = [line for line, record in text.records() if record == first][1]
                raise DataError(render("collection", "names_again", where=where, line=line))
            yield tabular.table(names, table.columns, units)
    except (pa.ArrowInvalid, UnicodeError) as error:
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise encodings.undecodable(where, text.place, text.encoding) from None
        _demand_whole_rows(text, len(first))
        raise DataError(f"{where}: cannot be read as delimited text ({tabular.line(error)}); fix the file") from None
    # pyarrow takes what stands behind a closing quote into the value.
    if not _quotes_are_regular(text):
        _demand_whole_rows(text, len(first))
    if options.get("final_newline", True) and not text.ends:
        raise DataError(render("collection", "no_newline", where=where, end=", ".join(last)[-60:]))


def sniff(where: str, place: Path, known: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the options that are not the default: encoding, signs, what stands around the table, the end of the last line.

    Warnings are added to `notes`. A `DataError` says that the file is no text, or that its first line looks like a row.
    """
    scan = encodings.scan(place)
    guess = known.get("encoding") or encodings.guess(place, scan)
    text = _Text(where, place, {**known, "encoding": guess}, scan)
    sample = piece(text.place).decode(text.encoding, errors="replace").removeprefix("\ufeff")
    sample = sample if text.size < SAMPLE else sample[: sample.rfind("\n") + 1] or sample
    lines, around = sample.splitlines(), dict[str, Any]()
    odd = piece(place, max(scan.start - 40, 0)) if guess[:3] != "utf" else b""
    if (word := re.search(rb"\w*[\x80-\xff][\w\x80-\xff]*", odd)) and "encoding" not in known:
        notes.append(f"the text is read as {guess}, such as {word[0].decode(guess, 'replace')!r}: {layout.KEY}encoding")
    rule = next((place for place, line in enumerate(lines[: layout.ABOVE]) if RULE.fullmatch(line)), None)
    if rule is not None and "|" in "".join(lines[rule + 1 : rule + 2]) and "comment" not in known:
        raise DataError(render("collection", "ruled", where=where, lines=lines, rule=rule))
    comments = next((place for place, line in enumerate(lines) if not line.startswith(("#", "%"))), 0)
    body = "\n".join([*lines[comments:], ""]) if comments else sample
    usual = DELIMITERS[PurePosixPath(where).suffix.lower()]
    delimiter = known.get("delimiter") or _sniff_delimiter(body) or usual
    if comments and lines[comments - 1].count(delimiter) == lines[comments].count(delimiter) > 0:
        around, body = {"skip": comments - 1 or None}, "\n".join([*lines[comments - 1 :], ""])
        notes.append(f"the names are those behind {lines[0][0]!r} in line {comments}: {layout.KEY}skip")
    elif comments:
        around, shown = {"comment": lines[0][0]}, lines[0][:60]
        notes.append(f"lines such as {shown!r} are left out as comments: {layout.KEY}comment")
    default = {"encoding": "utf-8", "quote": '"', "final_newline": True, "delimiter": usual}
    quote, escape, named = _sniff_quotes(body, delimiter)
    guesses = {"encoding": guess, "delimiter": delimiter, "quote": quote, "escape": escape, **around}
    guesses |= {"final_newline": text.ends, **known}
    options = {key: value for key, value in guesses.items() if value is not None and value != default.get(key)}
    text = _Text(where, place, {**options, "encoding": guess}, scan)
    if scan.is_joined:
        notes.append(f"{where}: byte order marks within the text are left out, as where files were joined")
    last = piece(text.place, max(text.size - SAMPLE, 0)).decode(text.encoding, errors="replace")
    first, last_rows = list(islice(text.records(), 1000)), text.fields(last.splitlines()[-layout.BELOW :])
    every = text.records() if GAP.search(np.memmap(text.place, mode="r").data) else ()
    found, more = layout.find(where, first, last_rows, known, every)
    options, notes[len(notes) :] = {**found, **options}, more
    if not named and not {"header", "skip"} & options.keys():
        _demand_names(text)
    return options


class _Text:
    """A delimited text and how it is written; its lines are those of the standard library's reader, which is slow."""

    def __init__(self, where: str, place: Path, options: dict[str, Any], scan: encodings.Scan | None = None) -> None:
        scan = scan or encodings.scan(place)
        self.where, self.place = where, place
        self.encoding = encodings.known(where, place, options.get("encoding"), scan)
        if self.encoding == "utf-8" and scan.error:
            raise encodings.undecodable(where, place, self.encoding)
        usual = {"delimiter": DELIMITERS[PurePosixPath(where).suffix.lower()], "quote": '"'}
        signs = {"escape": None, "comment": None, **usual, **options}
        for key in ("delimiter", "quote", "escape", "comment"):
            if signs[key] is not None and (not isinstance(signs[key], str) or len(signs[key].encode()) != 1):
                raise DataError(f"{where}: options: found {signs[key]!r} as {key}, expected one plain character")
        self.delimiter, self.quote, self.escape = (signs[key] for key in ("delimiter", "quote", "escape"))
        stated = SEP.match(piece(place, 0, 16).decode(errors="replace"))
        self.is_cut = bool({"skip", "comment", "footer"} & options.keys() or scan.is_joined or stated)
        self.ends = piece(place, max(place.stat().st_size - 1, 0)) in (b"\n", b"\r")
        if self.is_cut or encodings.is_wide(self.encoding):
            handle, name = tempfile.mkstemp()
            weakref.finalize(self, os.unlink, name)
            try:
                with open(handle, "w", encoding="utf-8", newline="") as file:
                    file.writelines(self._rows(options))
            except UnicodeDecodeError:
                raise encodings.undecodable(where, place, self.encoding) from None
            self.place, self.encoding = Path(name), "utf-8"
        self.size = self.place.stat().st_size

    def _rows(self, options: dict[str, Any]) -> Iterator[str]:
        """Yield the lines of a text; those that are no rows are empty, so that all others keep their numbers."""
        skip, sign, quoted, line = options.get("skip", 0), options.get("comment"), False, ""
        waiting = deque[str]()  # the last lines, among which a footer may begin
        footer, is_behind, blank = options.get("footer"), False, f"{self.delimiter} \r\n"
        most = max(layout.BELOW, footer if isinstance(footer, int) else 0)
        with self.place.open(encoding=self.encoding, newline="") as lines:
            for number, whole in enumerate(lines):
                line = whole.removeprefix("\ufeff")
                if number == 0 and (stated := SEP.match(line)):
                    self.delimiter, self.is_cut, skip = stated[1], True, max(skip, 1)
                if sign and line.startswith(sign) and not quoted:
                    line = line[len(line.rstrip("\r\n")) :]
                if is_behind and isinstance(footer, str) and layout.end([[], *self.fields([line])], footer) == 1:
                    break
                quoted ^= line.count(self.quote) % 2 == 1
                is_behind = number > skip and not quoted and not line.strip(blank)
                waiting.append("\n" if number < skip else line)
                if len(waiting) > most:
                    yield waiting.popleft()
        self.ends = line[-1:] in ("\n", "\r")
        rest = list(islice(waiting, layout.end(self.fields(list(waiting)), footer)))
        while footer and rest and not rest[-1].strip(blank):
            rest.pop()
        yield from rest

    def fields(self, lines: list[str]) -> list[list[str]]:
        """Return the fields of lines that are rows."""
        return [next(csv.reader([line], delimiter=self.delimiter, quotechar=self.quote), []) for line in lines]

    def lines(self) -> Iterator[str]:
        coding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        with self.place.open(encoding=coding, errors="replace", newline="") as lines:
            yield from lines

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record, of a blank line an empty one, with the number of the line on which it begins."""
        signs = {"delimiter": self.delimiter, "quotechar": self.quote, "escapechar": self.escape}
        reader, start = csv.reader(self.lines(), **signs), 1
        for record in reader:
            yield start, record
            start = reader.line_num + 1

    def first_record(self) -> list[str]:
        if record := next((record for _, record in self.records() if record), None):
            return record
        raise DataError(f"{self.where}: found blank lines only, expected names and rows; fetch it again")


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
        raise DataError(render("collection", "no_names", where=text.where, first=", ".join(first)[:80]))


def _quotes_are_regular(text: _Text) -> bool:
    """Return whether each quote begins or ends a field, or is doubled within one, so that all readers agree on the fields."""
    if text.escape or (text.encoding != "utf-8" and text.delimiter > "@"):  # which may be the second byte of a letter
        return False
    mark = len(codecs.BOM_UTF8) if piece(text.place).startswith(codecs.BOM_UTF8) else 0
    raw, count = np.memmap(text.place, mode="r", offset=mark), 0
    signs = np.frombuffer(f"{text.delimiter}{text.quote}\r\n".encode(), np.uint8)
    for start in range(0, len(raw), CHUNK):
        quotes = start + np.flatnonzero(raw[start : start + CHUNK] == ord(text.quote))
        first, last = quotes[count % 2 :: 2] - 1, quotes[1 - count % 2 :: 2] + 1  # around what is quoted
        if not np.isin(raw.take(np.concatenate([first, last]), mode="clip"), signs).all():
            return False
        count += len(quotes)
    return count % 2 == 0


def _demand_whole_rows(text: _Text, width: int) -> None:
    """Refuse a row of another width, text behind a closing quote (but spaces), and a quote that is never closed."""
    for line, record in strict_records(text.where, text.lines(), text.delimiter, text.quote, text.escape):
        if record and len(record) != width:
            raise DataError(render("collection", "other_width", text=text, line=line, record=record, width=width))


def strict_records(
    where: str, lines: Iterable[str], delimiter: str = ",", quote: str = '"', escape: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins; `DataError` at an unclosed quote, or text behind a quote."""
    blank = " \t".replace(delimiter, "")
    spaces = re.compile(rf"{re.escape(quote)}[{blank}]+(?={re.escape(delimiter)}|[\r\n]|$)")
    trimmed = (spaces.sub(lambda _: quote, line) if quote in line else line for line in lines)
    reader, start = csv.reader(trimmed, delimiter=delimiter, quotechar=quote, escapechar=escape, strict=True), 1
    try:
        for record in reader:
            yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        facts = {"where": where, "quote": quote, "start": start, "line": reader.line_num}
        raise DataError(render("collection", "quotes", **facts, is_open="end of data" in str(error))) from None

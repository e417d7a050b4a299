"""Read delimited text (CSV and its kin), and sniff how it is written: encoding, delimiter, quotes, names."""

from __future__ import annotations

import codecs
import csv
import io as buffers
import re
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from ninefold.core import tabular
from ninefold.core.errors import DataError

DELIMITERS = {".csv": ",", ".txt": ",", ".data": ",", ".dat": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MAGIC = {b"PAR1": "Parquet", b"PK\x03\x04": "zip or Excel", b"\x1f\x8b": "gzip", b"SQLite format 3": "SQLite"}
LATIN = ["cp1252", "cp1250", "cp1254", "cp1257", "cp850"]
SAMPLE = 1 << 20


def read(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    """Return a text as a table; a row that is longer or shorter than the first line is an error."""
    encoding = _encoding(where, content, options)
    dialect = _dialect(where, options)
    first = _first_record(where, content, encoding, dialect)
    width = len(first)
    if width == 1 and "delimiter" not in options:
        _demand_no_other_delimiter(where, content, options, first[0])
    places = [str(place) for place in range(width)]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # a block has to hold the longest row
            read_options=pyarrow.csv.ReadOptions(column_names=places, encoding=encoding, block_size=1 << 24),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=dialect["delimiter"],
                quote_char=dialect["quotechar"],
                escape_char=dialect["escapechar"] or False,
                newlines_in_values=True,
                ignore_empty_lines=width > 1,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _explained(where, content, encoding, dialect, width, error) from None
    last, end = table.column(width - 1)[-1].as_py(), bytes(content[-64:]).replace(b"\0", b"").rstrip()
    if "\n" in last and not end.endswith(dialect["quotechar"].encode()):
        raise DataError(
            f"{where}: found a quote ({dialect['quotechar']}) that is never closed; look for it before {last[:40]!r}"
        )
    if options.get("header", True):
        return tabular.table(first, table.slice(1).columns)
    return tabular.table([""] * width, table.columns)


def sniff(where: str, content: pa.Buffer, known: dict[str, Any]) -> dict[str, Any]:
    """Return encoding, delimiter, quote and escape of a text where they are not the default."""
    if not content.size:
        raise DataError(f"{where}: found an empty file, expected a table")
    guess = known.get("encoding") or _guess_encoding(bytes(content))
    encoding = _encoding(where, content, {"encoding": guess})
    sample = bytes(content[: SAMPLE - SAMPLE % 4]).decode(encoding, errors="replace").removeprefix("\ufeff")
    sample = sample if content.size < SAMPLE else sample[: sample.rfind("\n") + 1] or sample
    default = {"encoding": "utf-8", "delimiter": DELIMITERS[PurePosixPath(where).suffix.lower()], "quote": '"'}
    delimiter = known.get("delimiter") or _sniff_delimiter(sample) or default["delimiter"]
    mark, escape, named = _sniff_quotes(sample, delimiter)
    found = {"encoding": guess, "delimiter": delimiter, "quote": mark, "escape": escape, **known}
    options = {key: value for key, value in found.items() if value is not None and value != default.get(key)}
    if not named and "header" not in known:
        _demand_names(where, content, encoding, _dialect(where, options))
    return options


def _sniff_delimiter(sample: str) -> str | None:
    """Return the delimiter by which most lines have as many fields as the first, and of equals the one of most fields."""
    best: tuple[float, int, str | None] = (-1, 0, None)
    for delimiter in ",;\t|":
        try:
            reader = csv.reader(buffers.StringIO(sample, newline=""), delimiter=delimiter)
            widths = [len(record) for record, _ in zip(reader, range(1000), strict=False) if record]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            share = sum(width == widths[0] for width in widths[1:]) / max(len(widths) - 1, 1)
            best = max(best, (share, widths[0], delimiter))
    return best[2]


def _sniff_quotes(sample: str, delimiter: str) -> tuple[str | None, str | None, bool]:
    """Return quote and escape (None for the default), and whether the first line holds names, by DuckDB's sniffer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sample.csv"
        file.write_text(sample, encoding="utf-8", newline="")
        query = "SELECT Quote, Escape, HasHeader FROM sniff_csv(?, delim = ?, all_varchar = true, comment = '')"
        try:
            row = duckdb.connect().execute(query, [str(file), delimiter]).fetchone()
        except duckdb.Error:  # lines that differ in their fields, of which `read` will tell
            row = None
    mark, escape, named = row or ("", "", True)
    mark, escape = (value if value not in ("(empty)", "", "\0") else None for value in (mark, escape))
    return mark, None if escape == mark else escape, named


def _demand_names(where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any]) -> None:
    """Refuse a first line that holds values: numbers that are neither years nor evenly spaced, as names would be."""
    first = _first_record(where, content, encoding, dialect)
    numbers = [float(text) for text in first if re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", text)]
    steps = {round(after - before, 6) for before, after in pairwise(numbers)}
    years = all(1000 <= number < 3000 and number.is_integer() for number in numbers)
    if numbers and not years and not (len(numbers) > 2 and len(steps) == 1 and 0 not in steps):
        raise DataError(
            f"{where}: the first line looks like a row ({', '.join(first)[:80]}), expected the names of the columns; "
            "put a line of names first, or set options: {header: false}, which names them column_1, column_2 ..., "
            "or options: {header: true} if these are the names"
        )


def _guess_encoding(content: bytes) -> str:
    """Return the encoding of a text: by its byte order mark, UTF-8 if it is that, else the likeliest."""
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    if b"\0" in content[:SAMPLE]:
        return _wide(content[:SAMPLE]) or "utf-8"
    try:
        content.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        from charset_normalizer import from_bytes

        foreign = b"\n".join(line for line in content[error.start :].splitlines()[:20_000] if not line.isascii())
        sample = content[max(error.start - 4096, 0) : error.start] + foreign[:SAMPLE]
        runs = re.findall(rb"[\x80-\xff]+", sample)
        alone = sum(len(run) == 1 for run in runs) > len(runs) / 2  # letters among ASCII: no encoding of two bytes
        # One-byte code pages that differ little look alike; of equals the most used one is taken.
        matches = list(from_bytes(sample, cp_isolation=LATIN if alone else None))
        best = [
            match for match in matches if (match.chaos, match.coherence) == (matches[0].chaos, matches[0].coherence)
        ]
        alike = {name for match in best for name in match.could_be_from_charset}
        return "cp1252" if "cp1252" in alike or not best else best[0].encoding


def _encoding(where: str, content: pa.Buffer, options: dict[str, Any]) -> str:
    """Return the encoding that is asked for, or that a byte order mark tells, or UTF-8; refuse what is no text."""
    head = bytes(content[:SAMPLE])
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{where}: found a {kind} file, expected text; give the file the suffix of its kind")
    marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    encoding = options.get("encoding", marked or "utf-8")
    try:
        encoding = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(f"{where}: options.encoding: found {encoding!r}, expected a name such as cp1252") from None
    if b"\0" in head and not encoding.startswith(("utf-16", "utf-32")):
        guess = _wide(head)
        if guess is None:
            raise DataError(f"{where}: found bytes that are no text, expected a table as text; is the suffix right?")
        raise DataError(f"{where}: found text that is not {encoding}; set options: {{encoding: {guess}}}")
    return "utf-8" if encoding == "utf-8-sig" else encoding


def _wide(head: bytes) -> str | None:
    """Return the UTF-16 of text without a byte order mark, told by which of two bytes is mostly zero."""
    half = len(head) / 2
    if head[1::2].count(0) > 0.5 * half > head[0::2].count(0) * 10:
        return "utf-16-le"
    return "utf-16-be" if head[0::2].count(0) > 0.5 * half > head[1::2].count(0) * 10 else None


def _dialect(where: str, options: dict[str, Any]) -> dict[str, Any]:
    default = DELIMITERS[PurePosixPath(where).suffix.lower()]
    dialect = {
        "delimiter": options.get("delimiter", default),
        "quotechar": options.get("quote", '"'),
        "escapechar": options.get("escape"),
    }
    for key, value in dialect.items():
        if value is not None and (not isinstance(value, str) or len(value.encode()) != 1):
            raise DataError(f"{where}: options: found {value!r} as {key}, expected one plain character")
    return dialect


def _records(content: pa.Buffer, encoding: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of the line on which it begins; blank lines are none."""
    csv.field_size_limit(1 << 30)
    coding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = buffers.TextIOWrapper(pa.BufferReader(content), encoding=coding, errors="replace", newline="")
    reader = csv.reader(text, **dialect)
    start = 1
    for record in reader:
        if record:
            yield start, record
        start = reader.line_num + 1


def _first_record(where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any]) -> list[str]:
    try:
        _, first = next(_records(content, encoding, dialect))
    except StopIteration:
        raise DataError(f"{where}: found blank lines only, expected a line of names and rows below it") from None
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"{where}: line 1 cannot be read ({error}), expected the names of the columns") from None
    return first


def _demand_no_other_delimiter(where: str, content: pa.Buffer, options: dict[str, Any], name: str) -> None:
    guess = sniff(where, content, {"header": True, **options}).get("delimiter")
    if guess and guess in name:
        raise DataError(
            f"{where}: found one column, named {name[:60]!r}, whose delimiter seems to be {guess!r}; "
            f'set options: {{delimiter: "{guess}"}}'
        )


def _explained(
    where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any], width: int, error: Exception
) -> DataError:
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        guess = _guess_encoding(bytes(content))
        return DataError(f"{where}: found text that is not {encoding}; set options: {{encoding: {guess}}}")
    try:
        for line, record in _records(content, encoding, dialect):
            if len(record) != width:
                return DataError(
                    f"{where}: line {line}: found {len(record)} fields, expected {width}, as in its first line; "
                    f"the delimiter is {dialect['delimiter']!r}; mend the line, or set options.delimiter or options.quote"
                )
    except csv.Error as problem:
        return DataError(f"{where}: cannot be read ({problem}); mend the file")
    return DataError(f"{where}: cannot be read as delimited text ({tabular.line(error)}); mend the file")

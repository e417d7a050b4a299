"""Read delimited text (CSV and its kin), and sniff how it is written: encoding, delimiter, quotes, names."""

from __future__ import annotations

import codecs
import csv
import io as buffers
import re
import tempfile
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
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
CUT = ("unexpected end of data", "truncated data", "incomplete multibyte sequence")  # what decoders say of an end
SAMPLE = 1 << 20


def read(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    """Return a text as a table.

    An error is what cannot be a whole table: a row that is longer or shorter than the first line, a quote that takes
    lines with it, the names once more below, and a last line without a newline (unless ``options`` has ``final_newline:
    False``): of a file that was cut off, ``12`` may be left of ``125``, and nothing else would tell.
    """
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
    _demand_closed_quotes(where, content, encoding, dialect, table)
    if options.get("final_newline", True):
        _demand_last_newline(where, content, encoding, table)
    if options.get("header", True):
        _demand_names_once(where, content, encoding, dialect, table.slice(1), first)
        return tabular.table(first, table.slice(1).columns)
    return tabular.table([""] * width, table.columns)


def sniff(where: str, content: pa.Buffer, known: dict[str, Any]) -> dict[str, Any]:
    """Return encoding, delimiter, quote, escape and whether it ends in a newline, where they are not the default."""
    if not content.size:
        raise DataError(f"{where}: found an empty file, expected a table; fetch it anew, or take it away")
    guess = known.get("encoding") or _guess_encoding(bytes(content))
    encoding = _encoding(where, content, {"encoding": guess})
    sample = bytes(content[: SAMPLE - SAMPLE % 4]).decode(encoding, errors="replace").removeprefix("\ufeff")
    sample = sample if content.size < SAMPLE else sample[: sample.rfind("\n") + 1] or sample
    default: dict[str, Any] = {"encoding": "utf-8", "quote": '"', "final_newline": True}
    default |= {"delimiter": DELIMITERS[PurePosixPath(where).suffix.lower()]}
    delimiter = known.get("delimiter") or _sniff_delimiter(sample) or default["delimiter"]
    mark, escape, named = _sniff_quotes(sample, delimiter)
    found = {"encoding": guess, "delimiter": delimiter, "quote": mark, "escape": escape}
    found = {**found, "final_newline": ends_in_newline(content, encoding), **known}
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
        b"a".decode(encoding, "replace")
        encoding = codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise DataError(f"{where}: options.encoding: found {encoding!r}, expected a name such as cp1252") from None
    if not encoding.startswith(("utf-16", "utf-32")) and _has(content, b"\0"):
        guess = _wide(head)
        if guess is None:
            before = next(block for block in _blocks(content) if b"\0" in block).partition(b"\0")[0][-20:]
            raise DataError(
                f"{where}: found bytes that are no text (a zero after {before.decode(errors='replace')!r}), expected a "
                "table as text; is the suffix right? If so, fetch the file anew"
            )
        raise DataError(f"{where}: found text that is not {encoding}; set options: {{encoding: {guess}}}")
    if _is_one_byte(encoding) and _is_utf8(content):
        raise DataError(
            f"{where}: found text that is utf-8, expected {encoding}, as options.encoding says; write the file anew as "
            f"{encoding}, or, if all of the table is so, set options: {{encoding: utf-8}}"
        )
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


def _blocks(content: pa.Buffer) -> Iterator[bytes]:
    """Yield the bytes of a file, a part at a time."""
    for start in range(0, content.size, SAMPLE):
        yield content[start : start + SAMPLE].to_pybytes()


def _has(content: pa.Buffer, byte: bytes) -> bool:
    return any(byte in block for block in _blocks(content))


def _is_one_byte(encoding: str) -> bool:
    """Return whether an encoding has a byte for each letter, as cp1252 has: text in UTF-8 would pass for it."""
    return not encoding.startswith("utf") and len(bytes(range(128, 256)).decode(encoding, "replace")) == 128


def _is_utf8(content: pa.Buffer) -> bool:
    """Return whether a text is UTF-8, with letters beyond ASCII; of another encoding such letters are none by chance."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        texts = [decoder.decode(block).isascii() for block in _blocks(content)]
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return not all(texts)


def ends_in_newline(content: pa.Buffer, encoding: str) -> bool:
    """Return whether the last line of a text ends."""
    unit = {"utf-16": 2, "utf-32": 4}.get(encoding[:6], 1)
    return bytes(content[-unit:]).strip(b"\0") in (b"\n", b"\r")


def _text(content: pa.Buffer, encoding: str) -> buffers.TextIOWrapper:
    """Return the lines of a text, for the standard library's reader: it is slow, and knows them."""
    csv.field_size_limit(1 << 30)
    coding = "utf-8-sig" if encoding == "utf-8" else encoding
    return buffers.TextIOWrapper(pa.BufferReader(content), encoding=coding, errors="replace", newline="")


def _records(content: pa.Buffer, encoding: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of the line on which it begins; blank lines are none."""
    reader = csv.reader(_text(content, encoding), **dialect)
    start = 1
    for record in reader:
        if record:
            yield start, record
        start = reader.line_num + 1


def _first_record(where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any]) -> list[str]:
    try:
        _, first = next(_records(content, encoding, dialect))
    except StopIteration:
        raise DataError(f"{where}: found blank lines only, expected names and rows; fetch it anew") from None
    except (csv.Error, UnicodeError) as error:
        raise DataError(
            f"{where}: line 1 cannot be read ({error}), expected the names of the columns; mend it"
        ) from None
    return first


def _demand_no_other_delimiter(where: str, content: pa.Buffer, options: dict[str, Any], name: str) -> None:
    guess = sniff(where, content, {"header": True, **options}).get("delimiter")
    if guess and guess in name:
        raise DataError(
            f"{where}: found one column, named {name[:60]!r}, whose delimiter seems to be {guess!r}; "
            f'set options: {{delimiter: "{guess}"}}'
        )


def _demand_closed_quotes(
    where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any], table: pa.Table
) -> None:
    """Refuse a quote too many or too few: it takes fields, or lines, up to the next one or to the end, into one field.

    Where it does, another quote stands in a value, or the last line has an odd number of them; only then it is worth the
    time to read all with the standard library's reader, which is strict.
    """
    quote, last = dialect["quotechar"], table.column(table.num_columns - 1)[-1].as_py()
    if not _has(content, quote.encode()):
        return
    end = re.split(rb"[\r\n]", bytes(content[-SAMPLE:]).replace(b"\0", b"").rstrip(b"\r\n"))[-1]
    inside = any(pc.any(pc.match_substring(column, quote)).as_py() for column in table.columns)
    if not end.count(quote.encode()) % 2 and "\n" not in last and not inside:
        return
    held = deque([""], maxlen=1)  # the line at which the reader is

    def lines() -> Iterator[str]:
        for line in _text(content, encoding):
            held.append(line)
            yield line

    spaces = re.compile(rf"{re.escape(quote)}[ \t]+({re.escape(dialect['delimiter'])}|[\r\n]|$)")
    reader, start = csv.reader(lines(), **dialect, strict=True), 1
    while True:
        try:
            next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = f"in the row that begins in line {start}"
            if "end of data" in str(error):
                raise DataError(
                    f"{where}: found a quote ({quote}) that is never closed, {row}; mend that row, or, if the file was "
                    "cut off there, fetch it anew"
                ) from None
            if reader.line_num > start or not spaces.search(held[0]):
                raise DataError(
                    f"{where}: line {reader.line_num}: found text behind a closing quote ({quote}), {row}; a quote is "
                    "missing or too many, or those within a field are not doubled; mend the row, or set options.escape "
                    "or options.quote"
                ) from None
        start = reader.line_num + 1


def _demand_last_newline(where: str, content: pa.Buffer, encoding: str, table: pa.Table) -> None:
    """Refuse a text whose last line does not end, as that of a file that was cut off."""
    if not ends_in_newline(content, encoding):
        last = ", ".join(column[-1].as_py() for column in table.columns)
        raise DataError(
            f"{where}: found no newline after its last line, which ends with {last[-60:]!r}, expected one: without it, a "
            "file that was cut off looks whole; fetch the file anew, or, if it is whole, end it with a newline or set "
            "options: {final_newline: false}"
        )


def _demand_names_once(
    where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any], rows: pa.Table, first: list[str]
) -> None:
    """Refuse the line of names among the rows, where two files were joined; one name alone may be a value."""
    for column, name in list(zip(rows.column_names, first, strict=True))[:0:-1]:
        rows = rows.filter(pc.equal(rows.column(column), name))
        if not rows.num_rows:
            return
    if len(first) > 1 and first[0] in (text.lstrip("\ufeff") for text in rows.column(0).to_pylist()):
        places = (line for line, record in _records(content, encoding, dialect) if record[1:] == first[1:])
        next(places)
        raise DataError(
            f"{where}: line {next(places)}: found the names of the columns again, expected a row; if two files were "
            "joined there, drop that line"
        )


def undecodable(where: str, content: pa.Buffer, encoding: str) -> DataError:
    """Return what is wrong with a text that cannot be decoded: the line, whether it was cut off, what to set."""
    raw, end = bytes(content), ""
    try:
        raw.decode(encoding)
        line, cut, mixed = 1, False, False
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(encoding, "ignore")
        line, end = before.count("\n") + 1, before[-20:]
        cut, mixed = error.end == len(raw) and error.reason in CUT, encoding == "utf-8" and not before.isascii()
    if cut:
        return DataError(
            f"{where}: line {line}: ends within a letter, after {end!r}, as a file does that was cut off; fetch it anew"
        )
    guess = _guess_encoding(raw)
    found = f"{where}: line {line}: found text that is not {encoding}"
    if mixed or guess == encoding:
        return DataError(f"{found}, as the text before it is; mend that line, after {end!r}, or fetch the file anew")
    return DataError(f"{found}; set options: {{encoding: {guess}}}, or write the file anew as {encoding}")


def _explained(
    where: str, content: pa.Buffer, encoding: str, dialect: dict[str, Any], width: int, error: Exception
) -> DataError:
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        return undecodable(where, content, encoding)
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

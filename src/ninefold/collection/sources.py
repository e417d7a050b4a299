"""Read a table wherever it lies, all text, exactly as the source has it.

A source is a file (CSV and its kin, JSON, Parquet, Excel, each also packed), a folder of such files, a SQLite or DuckDB
file, the URL of a SQL database, or files in cloud storage. Typed values become text without loss.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ninefold import artifacts
from ninefold.collection import databases, delimited, encodings, files, workbooks
from ninefold.collection.databases import masked
from ninefold.collection.files import PACKED
from ninefold.collection.tabular import ONE_TABLE, demand_columns, failing, from_arrow, line, only, table, texts
from ninefold.errors import DataError
from ninefold.sentences import render

FORMATS = yaml.safe_load(Path(__file__).with_name("formats.yaml").read_text("utf-8"))
KINDS = dict.fromkeys(delimited.DELIMITERS, "csv")
KINDS |= {suffix: kind for kind, form in FORMATS.items() for suffix in form["suffixes"]}


def read(source: str, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return a whole table as text: every column of dtype str, ``""`` for what is missing; names as of `tabular.names`.

    `source` is a path (relative to the project), an address in the cloud (``s3://bucket/key``, ``gs://bucket/key``,
    ``abfss://container@account.dfs.core.windows.net/path``), or the URL of a SQL database, in which ``${NAME}`` stands for an
    environment variable, so that no password is written down.

    `options`, where they are not the default: of text ``delimiter``, ``encoding``, ``quote``, ``escape``, ``final_newline``
    (False: files that do not end in a newline are whole, too), ``comment`` (the sign of lines to leave out); of Excel
    ``sheet``; of both ``skip`` (lines above the names), ``header`` (2: two rows of names; False: the first line is a row),
    ``skip_below`` (rows below the names), ``footer`` (how many lines, or the first words of what stands below the rows); of
    JSON ``encoding``; of databases ``table`` or ``query``. Raises `DataError` if the source cannot be read as a table.
    """
    return pd.concat(list(parts(source, options)), ignore_index=True)


def parts(source: str, options: dict[str, Any] | None = None, may_be_empty: bool = False) -> Iterator[pd.DataFrame]:
    """Yield the table that `read` returns in parts, those of a text file small: it may be larger than the memory.

    What is wrong with a file may be found after parts of it were yielded. If it `may_be_empty`, names alone will do.
    """
    first, columns, rows = "", pd.Index([]), 0
    for where, place in _files(source):
        for part in READERS[_kind(where, place, options or {})](where, place, options or {}):
            first, columns = (first, columns) if first else (where, part.columns)
            demand_columns(part.columns, columns, where, f"in {first}", ONE_TABLE)
            rows += len(part)
            yield part[columns]
    if not rows and not may_be_empty:
        names = ", ".join(columns[:10])
        raise DataError(f"{masked(source)}: found names ({names}) and no row, expected rows below; fetch it again")


def sniff(source: str, options: dict[str, Any] | None = None, notes: list[str] | None = None) -> dict[str, Any]:
    """Return the options that `read` needs for a source, those alone that are not the default.

    `options` are known already: they are kept, and not guessed. Warnings of what was guessed are added to `notes`. Raises
    `DataError` if the source cannot be read, its first line looks like a row instead of names, or it holds several sheets
    or tables and none is named; the message lists them.
    """
    known, told, guesses, ends = options or {}, list[str](), dict[str, Any](), False
    for where, place in _files(source):
        kind, of_file = _kind(where, place, known), dict[str, Any]()
        if kind == "csv":
            of_file = delimited.sniff(where, place, known, told)
            ends = ends or of_file.get("final_newline", True)
        elif kind == "excel":
            of_file = workbooks.sniff(where, place, known, told)
        elif kind == "parquet":
            told += _unusual(where, place)
        elif kind == "database" and not known:
            of_file = {"table": only(databases.tables(where, place), "table", masked(where))}
        guesses = {**of_file, **guesses}
    if ends:
        guesses.pop("final_newline", None)  # where some files end in a newline, one that does not was cut off
    if notes is not None:
        notes += list(dict.fromkeys(told))[:10]
    return {**guesses, **known}


def fingerprint(source: str) -> str | None:
    """Return the SHA-256 of a local file, or of the names and contents of a folder; None for all else, or if absent."""
    if not files.is_local(source):
        return None
    place = files.local(source)
    if not place.is_dir():
        return artifacts.sha256(place) if place.is_file() else None
    lines = [f"{file.relative_to(place).as_posix()} {artifacts.sha256(file)}\n" for file in files.inside(place)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(source: str) -> Iterable[tuple[str, Any]]:
    """Return the names and places of a source's files; a SQL server stands for one, without a place."""
    is_server = not files.is_local(source) and not source.startswith(files.CLOUD)
    return [(source, None)] if is_server else files.files(source)


def _kind(where: str, place: Path | None, options: dict[str, Any]) -> str:
    """Return the kind of a file or a SQL server, which has to accept the options."""
    suffix = PurePosixPath(where).suffix.lower() if place else ".db"
    if suffix not in KINDS:
        known = f"{', '.join(KINDS)}, or one of these packed: {', '.join(PACKED)}"
        raise DataError(f"{where}: found the suffix {suffix or '(none)'!r}, expected one of {known}; convert it")
    kind = KINDS[suffix]
    if unknown := [key for key in options if key not in FORMATS[kind]["options"]]:
        known, what = ", ".join(FORMATS[kind]["options"]) or "none", "this kind of file" if place else "a database"
        raise DataError(f"{masked(where)}: options: found {', '.join(unknown)}, expected for {what}: {known}")
    return kind


def _read_json(where: str, place: Path, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    raw = place.read_bytes()
    likely = options.get("encoding") or json.detect_encoding(raw)
    encoding = encodings.known(where, place, likely, encodings.scan(place))
    try:
        rows = _objects(where, raw.decode(encoding).removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise encodings.undecodable(where, place, encoding) from None
    if other := next((place for place, row in enumerate(rows, 1) if not isinstance(row, dict)), None):
        raise DataError(f"{where}: item {other}: found no object, expected an object for every row; fix the file")
    columns = {key: pa.nulls(0) for row in rows for key in row}
    if not columns:
        raise DataError(f"{where}: found no row, expected an array of objects, or an object a line; fetch it again")
    for key in columns:
        try:
            key.encode()
            columns[key] = texts([row.get(key) for row in rows])
        except UnicodeEncodeError:  # JSON can write one half of a pair alone
            raise DataError(f"{where}: {key!r}: found half a letter (such as \\ud800); fix the file") from None
    yield table(list(columns), list(columns.values()))


def _objects(where: str, text: str) -> list[Any]:
    """Return the items of a JSON array, or of a text with an object a line."""
    is_array = text.lstrip().startswith("[")
    items: list[Any] = []
    for number, content in enumerate([text] if is_array else text.split("\n"), start=1):
        try:
            if content.strip():
                items.append(json.loads(content, object_pairs_hook=_once))
        except (ValueError, RecursionError) as error:
            place = number + getattr(error, "lineno", 1) - 1
            reason = f"{error.msg}, character {error.colno}" if isinstance(error, json.JSONDecodeError) else line(error)
            raise DataError(render("collection", "no_json", where=where, line=place, reason=reason)) from None
    return items[0] if is_array else items


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; refuse a key that stands in it twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError(f"{Counter(key for key, _ in pairs).most_common(1)[0][0]!r} twice in an object")
    return result


def _read_parquet(where: str, place: Path, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    errors = (pa.ArrowException, OSError, ValueError, OverflowError)
    with failing(where, "read as Parquet", "fetch or write the file again", *errors):
        typed = pq.ParquetFile(place, page_checksum_verification=True).read()
        typed.validate(full=True)  # such as that texts are UTF-8
        yield from_arrow(typed)


def _unusual(where: str, place: Path) -> list[str]:
    """Return a warning for each column of a Parquet file whose type becomes another one as text."""
    with failing(where, "read as Parquet", "fetch or write the file again", pa.ArrowException, OSError):
        schema = pq.read_schema(place)
    ordered = "categories, whose order is lost; if it matters, write their places in it, as numbers"
    kinds = {one.name: ordered for one in schema if pa.types.is_dictionary(one.type) and one.type.ordered}
    kinds |= {one.name: "durations, read as numbers of seconds" for one in schema if pa.types.is_duration(one.type)}
    return [f"{name} holds {kind}: features" for name, kind in kinds.items()]


READERS: dict[str, Callable[..., Iterator[pd.DataFrame]]] = {
    "csv": delimited.read, "json": _read_json, "parquet": _read_parquet, "excel": workbooks.read, "database": databases.read,
}  # fmt: skip

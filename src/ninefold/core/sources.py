"""Read a table wherever it lies, all text, exactly as the source has it.

A source is a file (CSV and its kin, JSON, Parquet, Excel, each also packed), a folder of such files, a SQLite or DuckDB
file, the URL of a SQL database, or any of the files on S3. What is typed there becomes text without loss.
"""

from __future__ import annotations

import hashlib
import io as buffers
import json
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ninefold.core import databases, delimited, io, places
from ninefold.core.databases import masked
from ninefold.core.errors import DataError
from ninefold.core.places import PACKED, local
from ninefold.core.tabular import ONE_TABLE, demand_columns, from_arrow, line, names, only, plain, table, texts

__all__ = ["PACKED", "fingerprint", "local", "masked", "names", "read", "read_part", "sniff", "tables"]

KINDS = {
    **dict.fromkeys(delimited.DELIMITERS, "csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".xlsx", ".xlsm"), "excel"),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db", ".db3", ".duckdb", ".ddb"), "database"),
}
ACCEPTED = {
    "csv": ("delimiter", "encoding", "quote", "escape", "header", "final_newline"),
    "json": ("encoding",),
    "parquet": (),
    "excel": ("sheet",),
    "database": databases.OPTIONS,
}


def read(source: str, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return a whole table as text.

    Parameters
    ----------
    source : str
        A path (relative to the project), ``s3://bucket/key``, or the URL of a SQL database. ``${NAME}`` in a URL stands
        for an environment variable, so that no password is written down.
    options : dict, optional
        How to read it, where that is not the default. Text: ``delimiter``, ``encoding``, ``quote``, ``escape``,
        ``header`` (False: the first line is a row), ``final_newline`` (False: files that do not end in a newline are
        whole, too). JSON: ``encoding``. Excel: ``sheet``. SQL: ``table`` or ``query``.

    Returns
    -------
    DataFrame
        Every column of dtype str; what is missing is ``""``. Names are cleaned by `names`.

    Raises
    ------
    DataError
        If the source cannot be read as a table; says where, what was found and what to do.
    """
    options = {key: value for key, value in (options or {}).items() if value is not None}
    if _is_url(source):
        return _filled(databases.read_url(source, options), source)
    parts = [(where, _read_one(where, content, options)) for where, content in places.files(source)]
    first, whole = parts[0]
    for where, part in parts[1:]:
        demand_columns(part.columns, whole.columns, where, f"in {first}", ONE_TABLE)
    if len(parts) > 1:
        whole = pd.concat([part[whole.columns] for _, part in parts], ignore_index=True)
    return _filled(whole, source)


def read_part(file: str, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return one file of a folder as `read` would return it, were it alone; it may hold no row.

    Raises
    ------
    DataError
        If it cannot be read as a table.
    """
    given = {key: value for key, value in (options or {}).items() if value is not None}
    where, content = next(places.files(file))
    return _read_one(where, content, given)


def sniff(source: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the options that `read` needs for a source, those alone that are not the default.

    Parameters
    ----------
    source : str
        As for `read`.
    options : dict, optional
        What is known already; it is kept, and not guessed.

    Raises
    ------
    DataError
        If the source cannot be read, its first line looks like a row instead of names, or it holds several sheets or
        tables and none is named; the message lists them.
    """
    known = {key: value for key, value in (options or {}).items() if value is not None}
    if _is_url(source):
        return known or {"table": only(tables(source), "table", masked(source))}
    found: dict[str, Any] = {}
    ends = False
    for where, content in places.files(source):
        kind = _kind(where)
        _accept(where, kind, known)
        if kind == "csv":
            found = {**delimited.sniff(where, content, known), **found}
            ends = ends or delimited.ends_in_newline(content, found.get("encoding", "utf-8"))
        elif kind == "excel" and "sheet" not in known:
            found = {"sheet": only(_sheets(where, content), "sheet", where)} | found
        elif kind == "database" and not known:
            found = {"table": only(tables(source), "table", where)}
    if ends:
        found.pop("final_newline", None)  # where some files end in a newline, one that does not was cut off
    return {**found, **known}


def tables(source: str) -> list[str]:
    """Return the tables (and views) of a database, or the sheets of an Excel file; none for any other source.

    Raises
    ------
    DataError
        If the source cannot be opened.
    """
    if _is_url(source):
        return databases.tables(source)
    where, content = next(places.files(source))
    if _kind(where) == "excel":
        return _sheets(where, content)
    return databases.tables_of_file(where, places.local(source)) if _kind(where) == "database" else []


def fingerprint(source: str) -> str | None:
    """Return the SHA-256 of a local file, or of the names and contents of a folder; None for all else, or if absent."""
    if "://" in source and not source.startswith("file://"):
        return None
    place = places.local(source)
    if not place.is_dir():
        return io.sha256(place) if place.is_file() else None
    lines = [f"{file.relative_to(place).as_posix()} {io.sha256(file)}\n" for file in places.inside(place)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_url(source: str) -> bool:
    return "://" in source and not source.startswith(("s3://", "file://"))


def _filled(table: pd.DataFrame, source: str) -> pd.DataFrame:
    if table.empty:
        columns = ", ".join(map(str, table.columns[:10]))
        raise DataError(
            f"{masked(source)}: found names ({columns}) and no row, expected rows below them; fetch it anew"
        )
    return table


def _kind(where: str) -> str:
    suffix = PurePosixPath(where).suffix.lower()
    if suffix not in KINDS:
        known = f"{', '.join(KINDS)}, or one of these packed: {', '.join(PACKED)}"
        raise DataError(
            f"{where}: found the suffix {suffix or '(none)'!r}, expected one of {known}; rename or convert it"
        )
    return KINDS[suffix]


def _accept(where: str, kind: str, options: dict[str, Any]) -> None:
    if unknown := [key for key in options if key not in ACCEPTED[kind]]:
        known = ", ".join(ACCEPTED[kind]) or "none"
        raise DataError(f"{where}: options: found {', '.join(unknown)}, expected for this kind of file: {known}")


def _read_one(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    kind = _kind(where)
    _accept(where, kind, options)
    if not content.size:
        raise DataError(f"{where}: found an empty file, expected a table; fetch it anew, or take it away")
    if kind == "database":
        return _read_database(where, options)
    return {"csv": delimited.read, "json": _read_json, "parquet": _read_parquet, "excel": _read_excel}[kind](
        where, content, options
    )


def _read_database(where: str, options: dict[str, Any]) -> pd.DataFrame:
    place = places.local(where)
    if where.startswith("s3://") or not place.is_file():
        raise DataError(f"{where}: a database file is read from a local disk only, unpacked; copy it there")
    return databases.read_file(where, place, options)


def _read_json(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    raw = bytes(content)
    encoding = options.get("encoding") or json.detect_encoding(raw)
    try:
        rows = _objects(where, raw.decode(encoding))
    except UnicodeDecodeError:
        raise delimited.undecodable(where, content, encoding) from None
    except (UnicodeError, LookupError) as error:
        raise DataError(f"{where}: cannot be decoded ({line(error)}); set options.encoding") from None
    if strange := next((place for place, row in enumerate(rows, 1) if not isinstance(row, dict)), None):
        raise DataError(f"{where}: item {strange}: found no object, expected an object for every row; mend the file")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        raise DataError(f"{where}: found no row, expected an array of objects, or an object a line; fetch it anew")
    return table(keys, [_column(where, key, [row.get(key) for row in rows]) for key in keys])


def _column(where: str, name: str, values: list[Any]) -> pa.Array:
    try:
        name.encode()
        return texts(values)
    except UnicodeEncodeError:  # JSON can write one half of a pair alone
        raise DataError(f"{where}: {name!r}: found half a letter (such as \\ud800); mend the file") from None


def _objects(where: str, text: str) -> list[Any]:
    """Return the items of a JSON array, or of a text with an object a line."""
    is_array = text.lstrip().startswith("[")
    lines = [(1, text)] if is_array else list(enumerate(text.split("\n"), start=1))
    found: list[Any] = []
    for number, written in lines:
        if not written.strip():
            continue
        try:
            found.append(json.loads(written, object_pairs_hook=_once))
        except (ValueError, RecursionError) as error:
            place = number + getattr(error, "lineno", 1) - 1
            said = f"{error.msg}, character {error.colno}" if isinstance(error, json.JSONDecodeError) else line(error)
            raise DataError(
                f"{where}: line {place}: not JSON ({said}), expected an array of objects, or an object a line; mend that "
                "line, or, if the file was cut off there, fetch it anew"
            ) from None
    return found[0] if is_array else found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} twice in an object")
    return found


def _read_parquet(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    try:
        found = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
        found.validate(full=True)  # such as that texts are UTF-8
        return from_arrow(found)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: cannot be read as Parquet ({line(error)}); fetch or write the file anew") from None


def _sheets(where: str, content: pa.Buffer) -> list[str]:
    return [sheet.title for sheet in _workbook(where, content).worksheets]


def _workbook(where: str, content: pa.Buffer) -> Any:
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    try:
        return load_workbook(buffers.BytesIO(content), read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets the errors of zip, XML and its own pass through
        raise _no_workbook(where, error) from None


def _no_workbook(where: str, error: Exception) -> DataError:
    return DataError(f"{where}: cannot be read as Excel ({line(error)}); save it anew as .xlsx")


def _read_excel(where: str, content: pa.Buffer, options: dict[str, Any]) -> pd.DataFrame:
    book = _workbook(where, content)
    title = options.get("sheet") or only(_sheets(where, content), "sheet", where)
    sheet = next((sheet for sheet in book.worksheets if sheet.title == title), None)
    if sheet is None:
        raise DataError(f"{where}: found no sheet {title!r}, expected one of {', '.join(_sheets(where, content))}")
    try:
        sheet.reset_dimensions()  # what the file says of its size is often wrong
        rows = [row for row in sheet.iter_rows(values_only=True) if any(value is not None for value in row)]
    except Exception as error:  # a sheet is unpacked and parsed only now
        raise _no_workbook(where, error) from None
    if not rows:
        raise DataError(f"{where}: found the sheet {title!r} empty, expected a row of names and rows below it")
    width = max(place + 1 for row in rows for place in range(len(row) - 1, -1, -1)[:1])
    rows = [(*row, *[None] * (width - len(row))) for row in rows]
    columns = [texts(column) for column in zip(*rows[1:], strict=True)] or [pa.array([], pa.string())] * width
    header = [plain(value) for value in rows[0]]
    used = [
        place for place in range(width) if header[place].strip() or pc.any(pc.not_equal(columns[place], "")).as_py()
    ]
    return table([header[place] for place in used], [columns[place] for place in used])

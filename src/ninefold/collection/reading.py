"""Read the rows of a raw table: from its source, whole or month by month, and from the files that landed for it."""

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import pandas as pd

from ninefold import artifacts, hooks
from ninefold.collection import datetimes, deliveries, files, sources
from ninefold.collection.settings import Params, Source
from ninefold.collection.tabular import demand_columns
from ninefold.errors import DataError
from ninefold.params import load

SOURCE, LANDING = "data/source", "data/stream/landing"
MANIFEST = "data/raw/manifest.json"


def read_file(
    table: str, start: pd.Timestamp | None, end: pd.Timestamp | None, params: Params | None = None
) -> pd.DataFrame:
    """Read a table from its ``source`` as text: the default where ``project.collection.read`` is absent.

    These are the rows with ``start <= time < end`` (UTC), or all where both are None; `params` defaults to ``params.yaml``.
    A row whose timestamp cannot be read is in no month; it comes with the last one, so that the next stage can check it.
    Raises `DataError` if the source cannot be read, or lacks the column of time.
    """
    params = params or load("collection")
    if table not in params.tables:
        raise DataError(f"collection.tables: found no {table!r}, expected one of {', '.join(params.tables)}")
    source = params.tables[table]
    folder = _folder(table, source)
    if folder and start is not None and end is not None:
        parts = folders(table, params)[folder]
        parts = deliveries.holding(parts, _months(start, end, params)) or parts[:1]  # for its columns, if none has rows
        rows, times = deliveries.rows(folder, parts, partial(read_landed, source))
    else:
        rows, times = _read_whole(table, source, source_digest(table, source))
    return rows if start is None or not source.time else rows[_inside(times, start, end, params)]


@lru_cache(maxsize=8)
def read_landed(source: Source, file: str, sha256: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows of a table's file, all text, and their times (datetime64[us], NaT where none can be read)."""
    return _with_times(sources.read_part(file, source.options.model_dump()), source, file)


def reader(params: Params) -> Callable[..., pd.DataFrame]:
    """Return the function that reads a raw table: ``project.collection.read``, else `read_file` with `params`."""
    return hooks.project("collection", "read", partial(read_file, params=params))


def read_partition(part: Any, params: Params) -> pd.DataFrame:
    """Return the rows of a partition: of the source, which a file ``2013-03.csv`` replaces, and of landed files."""
    table, folder = part.table, f"{LANDING}/{part.table}"
    start, end = (part.start, part.end) if pd.notna(part.start) else (None, None)
    months = [deliveries.UNDATED] if start is None else _months(start, end, params)
    landed = deliveries.holding(folders(table, params).get(folder, []), months)
    parts = [] if deliveries.whole(landed, part.period) else [reader(params)(table, start, end)]
    if not landed:
        return parts[0]
    rows, times = deliveries.rows(folder, landed, partial(read_landed, params.tables[table]))
    if start is not None:
        rows = rows[_inside(times, start, end, params)]
    if parts:
        where, remedy = f"{folder}/{landed[0].name}", "mend the file's first line, or remove it"
        demand_columns(rows.columns, parts[0].columns, where, f"the source of {table} has", remedy)
        rows = rows[parts[0].columns]
    return pd.concat([*parts, rows], ignore_index=True)


def recipe(table: str, params: Params, period: str, last: bool) -> str:
    """Return a digest of what else decides on a partition: how it is read, from which files, if it is the last one."""
    source = params.tables[table]
    months = [period, *([deliveries.UNDATED] if last else [])] if source.time else [deliveries.UNDATED]
    digests = [deliveries.digest(deliveries.holding(parts, months)) for parts in folders(table, params).values()]
    own = _has_own_reader()
    if own and not any(digests):
        return ""
    how = {} if own else source.model_dump(mode="json", exclude={"min_rows"}) | {"last": last and bool(source.time)}
    return hashlib.sha256(json.dumps([how, digests], sort_keys=True).encode()).hexdigest()[:16]


def source_digest(table: str, source: Source) -> str:
    """Return the SHA-256 of a table's local source; empty if there is none, or it is a folder read file by file."""
    where = _place(table, source)
    return "" if not where or _folder(table, source) else sources.fingerprint(where) or ""


def location(table: str, source: Source) -> str:
    """Return where the default reader reads a table: ``source``, or the one file of its name; else `DataError`."""
    if source.source:
        return source.source
    names = sorted(file.name for file in artifacts.path(SOURCE).glob("*") if file.suffix != ".dvc")
    names = [name for name in names if name == table or name.startswith(f"{table}.")]
    if not names:
        raise DataError(
            f"{SOURCE}/{table}.csv: not found; put the file there, or write project.collection.read, or name where it "
            f"lies: collection.tables.{table}.source"
        )
    if len(names) > 1:
        raise DataError(f"{SOURCE}: found {', '.join(names)}, expected one; name it: collection.tables.{table}.source")
    return f"{SOURCE}/{names[0]}"


def folders(table: str, params: Params) -> dict[str, list[deliveries.File]]:
    """Return the folders from which a table is read file by file -> their files: its source, if it is one, and landed."""
    source = params.tables[table]
    places = [place for place in (_folder(table, source), f"{LANDING}/{table}") if place]
    states = {place: deliveries.glance(place) for place in places if files.local(place).is_dir()}
    return {place: _indexed(table, source, place, state) for place, state in states.items()}


@lru_cache(maxsize=1)  # a table is read month by month; more than one would fill the memory
def _read_whole(table: str, source: Source, state: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return all rows of a table's source, numbered if so set, and their times; `state` is part of the cache's key."""
    rows = sources.read(location(table, source), source.options.model_dump())
    if source.number in rows:
        raise DataError(f"collection.tables.{table}.number: the source has a column {source.number!r}; choose another")
    if source.number:
        rows.insert(0, source.number, pd.Series(range(1, len(rows) + 1), dtype="int64").astype("str"))
    rows, times = _with_times(rows, source, f"collection.tables.{table}")
    _refuse_untimed(table, source, rows, times)
    return rows, times


def _with_times(rows: pd.DataFrame, source: Source, where: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return rows and their times; all NaT where the table has no time."""
    if source.time is None:
        return rows, pd.Series(pd.NaT, rows.index, dtype="datetime64[us]")
    artifacts.require(rows, [source.time], where)
    return rows, datetimes.parse_series(rows[source.time], source.format)


@lru_cache(maxsize=64)
def _indexed(table: str, source: Source, folder: str, state: str) -> list[deliveries.File]:
    """Return the index of a folder; `state` is part of the cache's key."""
    read = partial(read_landed, source)
    known = (artifacts.published(MANIFEST) or {}).get("files", {}).get(f"{table} in {folder}", [])
    index = deliveries.index(folder, read, [deliveries.File(**file) for file in known])
    if not index and not folder.startswith(LANDING):
        raise DataError(f"{folder}: found an empty folder, expected the files of a table in it")
    dated = any(set(file.months) - {deliveries.UNDATED} for file in index)
    if source.time and not dated and not folder.startswith(LANDING):
        _refuse_untimed(table, source, *deliveries.rows(folder, index[:1], read))
    return index


def _has_own_reader() -> bool:
    return hooks.project("collection", "read", read_file) is not read_file


def _place(table: str, source: Source) -> str | None:
    """Return where the default reader reads a table; None if it does not, or there is nothing."""
    try:
        return None if _has_own_reader() else location(table, source)
    except DataError:
        return None


def _folder(table: str, source: Source) -> str | None:
    """Return the folder from which the default reader reads a table file by file; None if it does not."""
    where = _place(table, source) if source.time and not source.number else None
    return where if where and files.is_local(where) and files.local(where).is_dir() else None


def _months(start: pd.Timestamp, end: pd.Timestamp, params: Params) -> list[str]:
    """Return the calendar months of a span; for the last one also that of rows without a readable timestamp."""
    months = pd.period_range(start, end - pd.Timedelta("1us"), freq="M").astype(str).tolist()
    return [*months, *([deliveries.UNDATED] if _is_last(end, params) else [])]


def _inside(times: pd.Series, start: Any, end: Any, params: Params) -> pd.Series:
    return ((times >= start) & (times < end)) | (times.isna() & _is_last(end, params))


def _is_last(end: pd.Timestamp, params: Params) -> bool:
    return params.as_of is not None and end == pd.Timestamp(params.as_of) + pd.Timedelta(days=1)


def _refuse_untimed(table: str, source: Source, rows: pd.DataFrame, times: pd.Series) -> None:
    """Refuse a table with a column of time in which no row has a readable one."""
    if source.time is None or times.notna().any():
        return
    first = ", ".join(f"row {number} {text!r}" for number, text in enumerate(rows[source.time].head(3), start=1))
    raise DataError(
        f"collection.tables.{table}.time: found no time in column {source.time!r} of any of {len(rows):,} rows, such "
        f"as {first}; expected them in the format {source.format or 'iso'}; set collection.tables.{table}.format to "
        'how the source writes them, such as "%d/%m/%Y"'
    )

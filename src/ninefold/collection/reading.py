"""Read the rows of a raw table: from its source, whole or month by month, and from the files that landed for it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from ninefold import artifacts, hooks
from ninefold.collection import datetimes, deliveries, files, sources
from ninefold.collection.deliveries import File, Part
from ninefold.collection.settings import Params, Source
from ninefold.collection.tabular import demand_columns
from ninefold.errors import DataError
from ninefold.params import load
from ninefold.sentences import render

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
        months = _months(start, end, params)
        parts = deliveries.holding(parts, months) or parts[:1]  # for its columns, if none has rows
        rows, times = deliveries.rows(folder, parts, partial(read_landed, source))
    else:
        rows, times = _read_whole(table, source, source_digest(table, source))
    return rows if start is None or not source.time else rows[_inside(times, start, end, params)]


@lru_cache(maxsize=8)
def read_landed(source: Source, file: str, sha256: str) -> Part:
    """Return the rows of a table's file, all text, and their times (datetime64[us], NaT where none can be read)."""
    return deliveries.concat(_landed(source, file))


def reader(params: Params) -> Callable[..., pd.DataFrame]:
    """Return the function that reads a raw table: ``project.collection.read``, else `read_file` with `params`."""
    return hooks.project("collection", "read", partial(read_file, params=params))


def whole(table: str, params: Params) -> Iterator[pd.DataFrame]:
    """Yield all rows of a table's source in parts, of a text file small, without the number that `Source.number` adds."""
    source = params.tables[table]
    if _has_own_reader():
        yield reader(params)(table, None, None).drop(columns=source.number or [], errors="ignore")
    else:
        yield from sources.parts(location(table, source), source.options.model_dump())


def pieces(table: str, parts: list[Any], params: Params) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of some partitions of a table in pieces, each with its period: these may be more than fit in memory.

    They are those of the source, which a file ``2013-03.csv`` replaces, then those of landed files.
    """
    folder, columns = f"{LANDING}/{table}", dict[str, pd.Index]()
    landed = _by_file(table, folder, parts, params)
    called = [(PurePosixPath(file.name).name.split(".")[0], own) for file, own in landed if not file.repeats]
    replaced = [part for part in parts if any(part.period == name and part in own for name, own in called)]
    own = [part for part in parts if part not in replaced]
    for period, rows in _of_source(table, own, params) if own else ():
        yield period, rows[columns.setdefault(period, rows.columns)]
    for file, holding in landed:
        for period, rows in _split(_landed(params.tables[table], f"{folder}/{file.name}"), holding, params):
            known, remedy = columns.setdefault(period, rows.columns), "fix the file's first line, or remove it"
            demand_columns(rows.columns, known, f"{folder}/{file.name}", f"the source of {table} has", remedy)
            yield period, rows[known]


def _of_source(table: str, parts: list[Any], params: Params) -> Iterator[tuple[str, pd.DataFrame]]:
    source, folder = params.tables[table], _folder(table, params.tables[table])
    if _has_own_reader():
        for part in parts:
            span = (part.start, part.end) if pd.notna(part.start) else (None, None)
            yield part.period, reader(params)(table, *span)
    elif folder:
        for file, holding in _by_file(table, folder, parts, params, least=1):
            yield from _split(_landed(source, f"{folder}/{file.name}"), holding, params)
    else:
        yield from _split(_whole(table, source), parts, params)


def _by_file(table: str, folder: str, parts: list[Any], params: Params, least: int = 0) -> list[tuple[File, list[Any]]]:
    """Return the files of a folder, each with the partitions that it holds rows of; none holds rows: the first `least`."""
    files = folders(table, params).get(folder, [])
    months = [_months(part.start, part.end, params) for part in parts]
    held = [deliveries.holding(files, each) or files[:least] for each in months]
    pairs = [(file, [part for part, own in zip(parts, held, strict=True) if file in own]) for file in files]
    return [(file, own) for file, own in pairs if own]


def _split(rows: Iterator[Part], parts: list[Any], params: Params) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of each partition; of each at least the columns."""
    for number, (some, times) in enumerate(rows):
        for part in parts:
            own = some if pd.isna(part.start) else some[_inside(times, part.start, part.end, params)]
            if len(own) or not number:
                yield part.period, own


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
        raise DataError(render("collection", "no_source", folder=SOURCE, table=table))
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
def _read_whole(table: str, source: Source, state: str) -> Part:
    """Return all rows of a table's source, and their times; `state` is part of the cache's key."""
    return deliveries.concat(_whole(table, source))


def _whole(table: str, source: Source) -> Iterator[Part]:
    """Yield the rows of a table's source, numbered if so set, and their times."""
    where, count, is_timed, first = f"collection.tables.{table}", 0, source.time is None, pd.DataFrame()
    for rows in sources.parts(location(table, source), source.options.model_dump()):
        if source.number in rows:
            raise DataError(f"{where}.number: the source has a column {source.number!r}; choose another")
        if source.number:
            numbers = pd.Series(range(count + 1, count + len(rows) + 1), dtype="int64")
            rows.insert(0, source.number, numbers.astype("str"))
        part = _with_times(rows, source, where)
        first, count = rows if first.empty else first, count + len(rows)
        is_timed = is_timed or part[1].notna().any()
        yield part
    if not is_timed:
        raise _untimed(table, source, first, count)


def _landed(source: Source, file: str) -> Iterator[Part]:
    """Yield the rows of a file, which may hold none, and their times."""
    for rows in sources.parts(file, source.options.model_dump(), may_be_empty=True):
        yield _with_times(rows, source, file)


def _with_times(rows: pd.DataFrame, source: Source, where: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return rows and their times; all NaT where the table has no time."""
    if source.time is None:
        return rows, pd.Series(pd.NaT, rows.index, dtype="datetime64[us]")
    artifacts.require(rows, [source.time], where)
    return rows, datetimes.parse_series(rows[source.time], source.format)


@lru_cache(maxsize=64)
def _indexed(table: str, source: Source, folder: str, state: str) -> list[deliveries.File]:
    """Return the index of a folder; `state` is part of the cache's key."""
    known = (artifacts.published(MANIFEST) or {}).get("files", {}).get(f"{table} in {folder}", [])

    def read(file: str, _: str) -> Part:  # no row, but the times of all: a file may be larger than the memory
        return deliveries.concat((rows[:0], times) for rows, times in _landed(source, file))

    index = deliveries.index(folder, read, [File(**file) for file in known])
    if not index and not folder.startswith(LANDING):
        raise DataError(f"{folder}: found an empty folder, expected the files of a table in it")
    dated = any(set(file.months) - {deliveries.UNDATED} for file in index)
    if source.time and not dated and not folder.startswith(LANDING):
        rows, _ = deliveries.rows(folder, index[:1], partial(read_landed, source))
        raise _untimed(table, source, rows, len(rows))
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


def _months(start: Any, end: Any, params: Params) -> list[str]:
    """Return the calendar months of a span; for the last one, and for none, also that of rows without a readable timestamp."""
    if pd.isna(start):
        return [deliveries.UNDATED]
    months = pd.period_range(start, end - pd.Timedelta("1us"), freq="M").astype(str).tolist()
    return [*months, *([deliveries.UNDATED] if _is_last(end, params) else [])]


def _inside(times: pd.Series, start: Any, end: Any, params: Params) -> pd.Series:
    return ((times >= start) & (times < end)) | (times.isna() & _is_last(end, params))


def _is_last(end: pd.Timestamp, params: Params) -> bool:
    return params.as_of is not None and end == pd.Timestamp(params.as_of) + pd.Timedelta(days=1)


def _untimed(table: str, source: Source, rows: pd.DataFrame, count: int) -> DataError:
    """Return what is wrong with a table of so many rows, of which none has a time that can be read; `rows`: its first."""
    facts = {"table": table, "source": source, "texts": rows[source.time].head(3).tolist(), "count": count}
    return DataError(render("collection", "no_time", **facts))

"""Score a table of any size with a bundle: its rows, chunk by chunk, with forecast, action and payoff beside them."""

from __future__ import annotations

import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ninefold import params
from ninefold.collection import databases
from ninefold.errors import DataError, ParamsError
from ninefold.serving import chunks
from ninefold.serving.bundle import Bundle
from ninefold.serving.chunks import (
    CHUNK,
    FORMATS,
    SUFFIXES,
    Put,
    Source,
    TableSource,
    TableTarget,
    Target,
    as_csv,
    readable,
    reader,
)
from ninefold.serving.fields import names
from ninefold.serving.log import Log
from ninefold.serving.scoring import Scores, check_columns, score, typed

__all__ = [
    "CHUNK",
    "SUFFIXES",
    "check_columns",
    "describe",
    "predict",
    "readable",
    "reader",
    "through_file",
    "typed",
]


def predict(
    source: str | Path,
    target: str | Path,
    bundle: Bundle,
    rows: int = CHUNK,
    query: str | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """Write the rows of `source`, each with the answer of `bundle`, to `target`; whole or not at all.

    Columns that are no features pass through untouched. A feature that is missing in a row stays missing; a history
    column that is absent altogether is looked up by its keys.

    Parameters
    ----------
    source, target : str or Path
        A ``.csv`` or ``.parquet`` file, a table of a DuckDB or SQLite file (``shop.duckdb::orders``), or of a database
        by its URL (``postgresql://ann:${PASSWORD}@host/shop::orders``). `source` may be a folder of Parquet files, too,
        and needs no ``::TABLE`` where a database has but one. A `target` that exists is replaced, a table of a database
        only if it is an earlier result. Of CSV every column that passes through is text. In a project whose engine is
        Spark, Parquet to Parquet is scored there, see `ninefold.serving.batch_spark.predict`.
    bundle : Bundle
    rows : int
        In memory at once.
    query : str, optional
        What to read of the database `source`, instead of a table.
    log : Log, optional
        The prediction log, in which every answer is on disk before the table appears. Not on Spark.

    Returns
    -------
    dict
        ``rows``; ``looked_up``, the history columns that were absent; ``unseen``, rows per field whose category was
        not in training; ``wrote``, where to.

    Raises
    ------
    DataError
        Naming the source, the column and the row, for whatever cannot be scored. Shows no password.
    LogError
        If an answer could not be logged.
    """
    if query is None and log is None and _on_spark(str(source), str(target)):
        from ninefold.serving import batch_spark

        return batch_spark.predict(Path(source), Path(target), bundle)
    start, end = _source(str(source), query), _target(str(target), tuple(bundle.added.values()))
    if _same(str(source), str(target)):
        raise DataError(f"{end.where}: is the input; give another OUT")
    looked_up: list[str] = []
    done, unseen, run = 0, Counter[str](), f"batch-{uuid.uuid4()}"
    with end.write() as put, progress(start.where) as advance:
        for table, share in start.read(rows):
            looked_up = check_columns(table.column_names, bundle, start.where)
            scores = score(table, bundle, start.where, done)
            put(scores.table)
            if log:
                _record(scores, bundle, log, run, done)
            done += table.num_rows
            for each in scores.unseen:
                unseen[each["field"]] += each["rows"]
            advance(done, share)
    return {"rows": done, "looked_up": looked_up, "unseen": dict(unseen), "wrote": end.where}


def through_file(rows: pd.DataFrame, suffix: str, bundle: Bundle) -> pd.DataFrame:
    """Return what `predict` answers to rows in a file of the suffix: the columns `Bundle.answers`."""
    columns = list(bundle.added.values())
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"rows{suffix}", Path(folder) / f"scored{suffix}"
        rows = rows.drop(columns=columns, errors="ignore")
        source.write_bytes(as_csv(rows).encode()) if suffix == ".csv" else rows.to_parquet(source, index=False)
        predict(source, target, bundle)
        if suffix == ".csv":
            scored = pd.read_csv(target, usecols=columns, dtype="str", keep_default_na=False)
            text = {bundle.added["action"]} if bundle.problem.is_class else set()
            scored = scored.astype({name: "float64" for name in columns if name not in text})
        else:
            scored = pd.read_parquet(target, columns=columns)
    return scored[columns].set_axis(bundle.answers, axis=1)


def describe(done: dict[str, Any], bundle: Bundle) -> str:
    """Return what `predict` did, for the command line."""
    looked = f"; {len(done['looked_up'])} history columns looked up as of {bundle.moment}" if done["looked_up"] else ""
    unseen = "".join(f"; {rows:,} rows with a {field} not seen in training" for field, rows in done["unseen"].items())
    renamed = "".join(
        f"; the answer's {name} is in {column}, for {name} is a field of the model"
        for name, column in bundle.added.items()
        if name != column
    )
    return (
        f"scored {done['rows']:,} rows with {bundle.name} {bundle.version}{looked}{unseen}{renamed}; "
        f"wrote {done['wrote']}"
    )


@contextmanager
def progress(where: str) -> Iterator[Callable[[int, float | None], None]]:
    """Show a progress bar on a terminal; give the function that takes the rows done, and their share if it is known."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        title = f"scoring {where.rpartition('/')[2]}"
        task = bar.add_task(title, total=None)

        def advance(rows: int, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, completed=share or 0.0, total=total, description=f"{title}, {rows:,} rows")

        yield advance


def _record(scores: Scores, bundle: Bundle, log: Log, run: str, first: int) -> None:
    """Log the answers of a chunk, with what identifies its rows."""
    identity = [name for name in names(bundle.signature, "identity") if name in scores.table.column_names]
    answers = scores.table.select(list(bundle.added.values())).to_pandas().set_axis(bundle.answers, axis=1)
    log.record(scores.features.join(scores.table.select(identity).to_pandas()), answers, bundle, run, first)


def _source(place: str, query: str | None) -> Source:
    """Return what reads a file, or a table or a query of a database."""
    if not _is_database(place):
        if query is not None:
            raise DataError(f"{place}: is no database, expected one beside a query; found {query!r}")
        return chunks.source(place)
    (url, name), where = databases.split(place), databases.masked(place)
    if query is not None and name is not None:
        raise DataError(f"{where}: names a table and stands beside a query, expected one of them; drop ::{name}")
    table = TableSource(where, name, query)
    if "://" not in url:
        file = Path(url)
        if not file.is_file():
            raise DataError(f"{file}: not found; IN is {FORMATS}")
        if databases.is_duckdb(file):
            with _package(where):
                from ninefold.serving.batch_duckdb import read_duckdb
            return Source(where, partial(read_duckdb, file, table))
        url = databases.sqlite_url(file, where)
    with _package(where):
        from ninefold.serving.batch_sql import read_sql
    return Source(where, partial(read_sql, url, table))


def _target(place: str, answers: Collection[str]) -> Target:
    """Return what writes a file, or a table of a database."""
    if not _is_database(place):
        return chunks.target(place)
    (url, name), where = databases.split(place), databases.masked(place)
    if name is None:
        raise DataError(f"{where}: names no table; OUT is {FORMATS}")
    table = TableTarget(where, name, answers)
    if "://" in url:
        with _package(where):
            from ninefold.serving.batch_sql import write_sql
        return Target(where, partial(write_sql, url, table))
    file = Path(url)
    if file.is_dir() or (not file.exists() and file.suffix.lower() not in (*databases.SQLITE, *databases.DUCKDB)):
        raise DataError(f"{file}: is no database; OUT is {FORMATS}")
    is_duckdb = databases.is_duckdb(file) if file.exists() else file.suffix.lower() in databases.DUCKDB
    write: Callable[[Path, TableTarget], AbstractContextManager[Put]]
    with _package(where):
        if is_duckdb:
            from ninefold.serving.batch_duckdb import write_duckdb as write
        else:
            from ninefold.serving.batch_sql import write_sqlite as write
    return Target(where, lambda: write(file, table) if file.exists() else _new_file(file, table, write))


@contextmanager
def _new_file(
    file: Path, table: TableTarget, write: Callable[[Path, TableTarget], AbstractContextManager[Put]]
) -> Iterator[Put]:
    with chunks.whole(file) as temporary, write(temporary, table) as put:
        yield put


@contextmanager
def _package(where: str) -> Iterator[None]:
    """Name the package that reads or writes this database, if it is not installed: a service does without."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"{where}: needs the Python package {error.name}; run `pip install {error.name}`") from None


def _is_database(place: str) -> bool:
    """Return whether a text names a database: a URL, a file with a database's suffix, or anything with ``::TABLE``."""
    file, name = databases.split(place)
    return "://" in place or name is not None or Path(file).suffix.lower() in (*databases.SQLITE, *databases.DUCKDB)


def _same(source: str, target: str) -> bool:
    """Return whether both ends are the same file, or the same table."""
    if _is_database(source) or _is_database(target):
        return source == target
    return Path(source).resolve() == Path(target).resolve()


def _on_spark(source: str, target: str) -> bool:
    """Return whether the engine of the project is Spark, and both ends are Parquet."""
    if Path(target).suffix.lower() != ".parquet" or not (Path(source).is_dir() or source.lower().endswith(".parquet")):
        return False
    try:
        params.root()
    except ParamsError:  # a bundle needs no project
        return False
    return params.load("engine").backend == "pyspark"

"""Score a table of any size with a bundle: its rows, chunk by chunk, with forecast, action and payoff beside them."""

import importlib
import tempfile
from collections import Counter
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.progress import track

from ninefold import artifacts, params
from ninefold.collection import databases
from ninefold.errors import DataError
from ninefold.serving import chunks, log_export
from ninefold.serving.bundle import Bundle
from ninefold.serving.chunks import CHUNK, FORMATS, DatabaseTable, Tables
from ninefold.serving.log import Log
from ninefold.serving.scoring import added_types, scored


def predict(
    source: str | Path, target: str | Path, bundle: Bundle, query: str | None = None, log: Log | None = None
) -> dict[str, Any]:
    """Write the rows of `source`, each with the answer of `bundle`, to `target`; whole or not at all.

    Both are a ``.csv`` or ``.parquet`` file, a table of a DuckDB or SQLite file (``shop.duckdb::orders``), or of a database
    by its URL (``postgresql://ann:${PASSWORD}@host/shop::orders``). `source` may be a folder of Parquet files, too, and needs
    no ``::TABLE`` where a database has but one, or where a `query` says what to read. A `target` that exists is replaced, a
    table of a database only if it is an earlier result. In a `log`, every answer is on disk before the table appears.
    Columns that are no features pass through untouched, those of a CSV file as text. A history column that is absent
    altogether is looked up by its keys. In a project whose engine is Spark, Parquet to Parquet is scored there, without log.

    The result has ``rows``; ``looked_up``, the history columns that were absent; ``warnings``, rows per field whose category
    was not in training or whose number is outside the contract; ``wrote``, where to. A `DataError` names source, column and
    row of what cannot be scored.
    """
    start, end = databases.masked(str(source)), databases.masked(str(target))
    if Path(source).resolve() == Path(target).resolve():  # of two tables, too
        raise DataError(f"{end}: is the input; give another OUT")
    is_parquet = Path(source).is_dir() or Path(source).suffix.lower() == ".parquet"
    is_plain = is_parquet and Path(target).suffix.lower() == ".parquet" and query is None and log is None
    if is_plain and params.in_project() and params.load("engine").backend == "pyspark":  # a bundle needs no project
        from ninefold.serving import batch_spark

        return batch_spark.predict(Path(source), Path(target), bundle)
    done: dict[str, Any] = {"rows": 0, "warnings": Counter(), "wrote": end}
    tables = scored(_read(str(source), query), bundle, start, done, log)
    console, title = Console(stderr=True), f"scoring {start.rpartition('/')[2]}"
    shown = track(tables, title, console=console, transient=True, disable=not console.is_terminal)
    _write(str(target), list(bundle.added.values()), iter(shown))
    if log:
        log_export.prune(log.place, bundle.described["log"]["keep"])
    return {**done, "warnings": dict(done["warnings"])}


def through_file(rows: pd.DataFrame, suffix: str, bundle: Bundle) -> pd.DataFrame:
    """Return what `predict` answers to rows in a file of the suffix: the columns `Bundle.answers`."""
    columns = list(bundle.added.values())
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"rows{suffix}", Path(folder) / f"scored{suffix}"
        rows = rows.drop(columns=columns, errors="ignore")
        chunks.write_file(source, iter([pa.Table.from_pandas(rows, preserve_index=False)]))
        predict(source, target, bundle)
        tables = [table.select(columns) for table in chunks.read_file(target, CHUNK)]
    return pa.concat_tables(tables).cast(pa.schema(added_types(bundle))).to_pandas().set_axis(bundle.answers, axis=1)


def describe(done: dict[str, Any], bundle: Bundle) -> str:
    """Return what `predict` did, for the command line."""
    facts = [f"scored {done['rows']:,} rows with {bundle.name} {bundle.version}"]
    if done["looked_up"]:
        facts.append(f"{len(done['looked_up'])} history columns looked up as of {bundle.moment}")
    reasons = ("outside the contract", "not seen in training")
    warned = done["warnings"].items()
    facts += [f"{rows:,} rows with a {field} {reasons[field in bundle.known]}" for field, rows in warned]
    renamed = [(name, column) for name, column in bundle.added.items() if name != column]
    facts += [f"the answer's {name} is in {column}, for {name} is a field of the model" for name, column in renamed]
    return "; ".join([*facts, f"wrote {done['wrote']}"])


def _read(place: str, query: str | None) -> Tables:
    """Return the rows of a file, or of a table or a query of a database, in chunks."""
    (base, name), where, database = databases.split(place), databases.masked(place), _database(place)
    if database is None and query is not None:
        raise DataError(f"{place}: is no database, expected one beside a query; found {query!r}")
    if database is None:
        return chunks.read_file(Path(place), CHUNK)
    if query is not None and name is not None:
        raise DataError(f"{where}: names a table and stands beside a query, expected one of them; drop ::{name}")
    if "://" not in base and not Path(base).is_file():
        raise DataError(f"{base}: not found; IN is {FORMATS}")
    return database.read(base, DatabaseTable(where, name or "", query), CHUNK)


def _write(place: str, answers: Collection[str], tables: Tables) -> None:
    """Write tables to a file, or to a table of a database; one that is there has to have the columns `answers`."""
    (base, name), where, database = databases.split(place), databases.masked(place), _database(place)
    if database is None:
        return chunks.write_file(Path(place), tables)
    if name is None:
        raise DataError(f"{where}: names no table; OUT is {FORMATS}")
    file = Path(base)
    is_new = "://" not in base and not file.is_file()
    if is_new and (file.is_dir() or file.suffix.lower() not in (*databases.SQLITE, *databases.DUCKDB)):
        raise DataError(f"{base}: is no database; OUT is {FORMATS}")
    with artifacts.replacing(file) if is_new else nullcontext(base) as file_or_url:
        database.write(str(file_or_url), DatabaseTable(where, name, answers=answers), tables)


def _database(place: str) -> Any:
    """Return the module for a database (a URL, a file of such a suffix, or ``::TABLE``); None for a file."""
    base, name = databases.split(place)
    file, suffix, is_url = Path(base), Path(base).suffix.lower(), "://" in base
    if not (is_url or name is not None or suffix in (*databases.SQLITE, *databases.DUCKDB)):
        return None
    is_duckdb = not is_url and (databases.is_duckdb(file) if file.is_file() else suffix in databases.DUCKDB)
    try:
        return importlib.import_module(f"{__package__}.batch_{'duckdb' if is_duckdb else 'sql'}")
    except ImportError as error:
        where = databases.masked(place)
        raise DataError(f"{where}: needs the Python package {error.name}; run `pip install {error.name}`") from None

"""The files of the project as one database of views, open to plain SQL: raw, lake, quarantine, features, metrics.

Nothing is copied: each view reads the Parquet and JSON files as they now stand.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from ninefold import artifacts
from ninefold.collection import failing
from ninefold.errors import DataError

FILE = "data/warehouse.duckdb"
STORAGE = "v1.2.0"  # which older versions of DuckDB read as well
METRICS = "reports/metrics"
SCHEMAS = {f"data/{name}": name for name in ("raw", "lake", "quarantine", "features", "online", "predictions")}
SCHEMAS |= {"data/monitoring": "predictions", "data/stream/lake": "stream"}
SCHEMAS |= {"data/stream/quarantine": "stream_quarantine"}
FILENAME = "@file"
ROWS = 40  # of an answer, as `as_text` writes it
literal = duckdb.ConstantExpression  # whose text is that of a value in SQL


def connect(*schemas: str) -> duckdb.DuckDBPyConnection:
    """Return a database in memory, in UTC, with the views over the files as they now stand, pending outputs included.

    It is DuckDB, whatever engine ``engine.backend`` names. A stage asks for the schemas of what it declares; default: all.
    Raises `DataError` if there is nothing to read, or a file is damaged.
    """
    connection = duckdb.connect()
    _create(connection, _views(artifacts.pending, schemas))
    return connection


def refresh() -> Path:
    """Write ``data/warehouse.duckdb``, which holds the views and no data; return its path.

    The paths in it are absolute, so that it opens from any folder. It takes the place of the earlier file at once: who has
    that open goes on reading it. Raises `DataError` if no stage has run yet, or a file is damaged.
    """
    place = artifacts.path(FILE)
    with artifacts.replacing(place) as temporary:
        with duckdb.connect(temporary, config={"storage_compatibility_version": STORAGE}) as connection:
            _create(connection, _views(artifacts.path))
        artifacts.remove(place.with_name(f"{place.name}.wal"))  # of a reader that wrote into the earlier file
    return place


def found() -> bool:
    """Return whether there is anything to read."""
    return bool(_views(artifacts.path))


def describe() -> str:
    """Refresh the warehouse; return its views with their rows as a text, and how else it is opened."""
    names, rows = outline()
    place, first = os.path.relpath(artifacts.path(FILE)), rows[-1][0]
    return (
        f"{as_text(names, rows, limit=len(rows))}\n\n"
        f'ninefold sql "SELECT * FROM {first}"\n'
        f"duckdb -readonly {place}\n"
        f'python -c "import duckdb; print(duckdb.connect({place!r}, read_only=True).sql({f"FROM {first}"!r}))"'
    )


def outline() -> tuple[list[str], list[tuple[Any, ...]]]:
    """Refresh the warehouse; return ``view``, ``rows``, ``columns``, a line per view, as `ask` returns an answer."""
    with _clear_errors(), _open() as connection:
        rows = [(name, *connection.sql(f"FROM {name}").shape) for name in _views(artifacts.path)]
    return ["view", "rows", "columns"], rows


def ask(query: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Refresh the warehouse, ask it in SQL; return the columns' names and the rows; `DataError` if it cannot answer."""
    with _clear_errors():
        connection = _open()
        described = connection.execute(query).description
    return [column[0] for column in described or []], _rows(connection) if described else iter(())


def as_text(names: list[str], rows: Iterable[tuple[Any, ...]], limit: int = ROWS) -> str:
    """Return an answer as a text: a table of the first rows, numbers to the right, and how many rows there are."""
    left = iter(rows)
    first = list(islice(left, limit))
    count, columns = len(first) + sum(1 for _ in left), []
    for name, values in zip(names, zip(*first, strict=True) if first else [()] * len(names), strict=True):
        texts = [name, *map(_text, values)]
        are_numbers = all(value is None or isinstance(value, int | float) for value in values)
        columns.append([f"{text:{'>' if are_numbers else '<'}{max(map(len, texts))}}" for text in texts])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    cut = f", of which the first {limit} are shown" if count > limit else ""
    return "\n".join([*lines, f"({count:,} row{'' if count == 1 else 's'}{cut})"])


def identifier(name: str) -> str:
    """Return a name as SQL takes it, in quotes where it needs them."""
    word = duckdb.token_type.identifier
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and duckdb.tokenize(name) == [(0, word)]
    return name if plain else '"{}"'.format(name.replace('"', '""'))


def _views(at: Callable[[str], Path], schemas: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """Return the views of some schemas, or all: name in SQL -> its query, and the folder that it reads, lying `at`."""
    views = dict[str, tuple[str, str]]()
    for folder, schema in SCHEMAS.items():
        whole = "events" if schema == "features" else "all"  # the table whose partitions the folder itself holds
        tables = _tables(at(folder), whole) if not schemas or schema in schemas else ()
        views |= {f"{schema}.{identifier(name)}": (_over(place), folder) for name, place in tables}
    if (not schemas or "metrics" in schemas) and any(at(METRICS).glob("*.json")):
        files = literal(f"{escape(at(METRICS).as_posix())}/*.json")
        for name in ("figures", "gates"):
            query = Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
            views[f"metrics.{name}"] = query.format(files=files), METRICS
    return views


def _tables(folder: Path, whole: str) -> Iterator[tuple[str, Path]]:
    """Yield every table of a folder: a subfolder, a file, or the folder itself where it holds the partitions."""
    inside = sorted(folder.glob("[!.]*"))  # none, if there is no folder
    if any(place.name.startswith("period=") for place in inside):
        yield whole, folder
    for place in inside:
        if place.suffix == ".parquet":
            yield place.stem, place
        elif place.is_dir() and "=" not in place.name and any(place.rglob("*.parquet")):
            yield place.name, place


def _over(place: Path) -> str:
    """Return the query over a table's files, with the partition as the text ``period`` (``@period`` beside one's own)."""
    if place.is_file():
        return f"SELECT * FROM read_parquet({literal(escape(place.as_posix()))}, hive_partitioning = false)"
    parted = any(place.glob("period=*"))
    pattern = r"period=([^/\\]+)[/\\][^/\\]+$" if parted else r"([^/\\]+)\.parquet$"
    files = f"{escape(place.as_posix())}/{'period=*/*.parquet' if parted else '**/*.parquet'}"
    first = next(iter(sorted(place.rglob("*.parquet"))))
    own = {name.lower() for name in artifacts.parquet_metadata(first).schema.to_arrow_schema().names}
    # By the file's name, not as DuckDB would read folders: it takes every a=b of the path for a column, above the project too.
    return (
        f"SELECT * EXCLUDE ({identifier(FILENAME)}), regexp_extract({identifier(FILENAME)}, {literal(pattern)}, 1) "
        f"AS {identifier('@period') if 'period' in own else 'period'} "
        f"FROM read_parquet({literal(files)}, hive_partitioning = false, filename = {literal(FILENAME)})"
    )


def _create(connection: duckdb.DuckDBPyConnection, views: dict[str, tuple[str, str]]) -> None:
    if not views:
        raise DataError("data: holds no table yet, so there is nothing to ask; run the pipeline with `dvc repro`")
    connection.execute("SET TimeZone = 'UTC'")
    for name, (query, folder) in views.items():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
        with failing(f"{folder}: {name}", "read", artifacts.RESTORE, duckdb.Error):
            connection.execute(f"CREATE VIEW {name} AS {query}")


def _open() -> duckdb.DuckDBPyConnection:
    """Refresh the warehouse and open it."""
    connection = duckdb.connect(refresh(), read_only=True)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise DataError(f"the query cannot be answered: {str(error).strip()}") from None


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    with _clear_errors(), connection:
        while some := connection.fetchmany(10_000):
            yield from some


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)

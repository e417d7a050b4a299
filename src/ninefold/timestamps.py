"""Timestamps as days since 1970-01-01, the form in which models, keys and callers have them; and in local time."""

import numpy as np
import pandas as pd

MICROSECONDS = 86_400_000_000  # of a day


def as_days(column: pd.Series) -> pd.Series:
    """Return a column of timestamps as days since 1970-01-01 (float64, missing stays missing); numbers as they are."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        return column.astype("float64")
    days = local(column, "UTC").astype("datetime64[us]").astype("int64").astype("float64") / MICROSECONDS
    return days.where(column.notna())


def now() -> pd.Timestamp:
    """Return the present time in UTC, without a time zone: the one clock by which a period is open, or a row of the future."""
    return pd.Timestamp.now("UTC").tz_localize(None)


def local(column: pd.Series, timezone: str) -> pd.Series:
    """Return timestamps in the local time of a zone (an IANA name), without a zone; those without one are in UTC."""
    zoned = column.dt.tz_localize("UTC") if column.dt.tz is None else column
    return zoned.dt.tz_convert(timezone).dt.tz_localize(None)


def midnight(column: pd.Series, timezone: str) -> pd.Series:
    """Return when the days of local times begin, in UTC; where a clock skips or repeats midnight, the day's first moment."""
    first = np.ones(len(column), dtype=bool)
    zoned = column.dt.normalize().dt.tz_localize(timezone, ambiguous=first, nonexistent="shift_forward")
    return local(zoned, "UTC")

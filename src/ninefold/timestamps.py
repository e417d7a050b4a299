"""Timestamps as days since 1970-01-01, the form in which models, keys and callers have them; and in local time."""

import numpy as np
import pandas as pd

MICROSECONDS = 86_400_000_000  # of a day
# How fine times are -> pandas' name of that period, and how many days one lasts: at least, and on average.
GRAINS = {
    "hour": ("D", 0, 1.0), "day": ("D", 1, 1.0), "week": ("W", 7, 7.0), "month": ("M", 28, 30.4375), "quarter": ("Q", 90, 91.3125),
    "year": ("Y", 365, 365.25),
}  # fmt: skip


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


def grain(times: pd.Series) -> str:
    """Return how fine times are, one of `GRAINS`: ``month`` if all are first or all are last days of months, and so on.

    Times of one weekday are weeks. Of fewer than three different days nothing can be told but whether they have hours.
    """
    days = times.dropna().dt.normalize()
    if (times.dropna() != days).any():
        return "hour"
    days = days.drop_duplicates()
    for unit in ("year", "quarter", "month") if len(days) > 2 else ():
        if any(getattr(days.dt, f"is_{unit}_{end}").all() for end in ("start", "end")):
            return unit
    return "week" if len(days) > 2 and days.dt.day_of_week.nunique() == 1 else "day"


def coarser(times: pd.Series, least: str) -> str:
    """Return the `grain` of times, but none finer than `least`: by which of `GRAINS` they are best counted."""
    return max(least, grain(times), key=list(GRAINS).index)


def last_day(time: pd.Timestamp, unit: str) -> pd.Timestamp:
    """Return the last day of what a time stands for: of its day, week, month, quarter or year; NaT of none."""
    return time if pd.isna(time) else time.to_period(GRAINS[unit][0]).end_time.normalize()


def days_of(time: pd.Series) -> float:
    """Return how many days a time stands for on average: one, or those of a week, month, quarter or year."""
    return GRAINS[grain(time)][2]

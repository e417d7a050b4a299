"""What the local time of a row tells: weekday, hour, month, and in which periods to follow an outcome."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ninefold.problem import Problem

WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MOST_PERIODS = 130  # points that a line over time can show
SPAN = {"D": ("day", 1), "W": ("week", 7), "M": ("month", 30.4), "Y": ("year", 365.25)}


def local(frame: pd.DataFrame, problem: Problem, timezone: str) -> pd.Series:
    """Return the local time of each row; dates without hours are dates everywhere, and no table's time is missing."""
    if not problem.time:
        return pd.Series(pd.NaT, frame.index, dtype="datetime64[us]")
    times = frame[problem.time]
    if (times == times.dt.normalize()).all():
        return times
    return times.dt.tz_localize("UTC").dt.tz_convert(timezone).dt.tz_localize(None)


def finest(clock: pd.Series) -> str:
    """Return the finest part of the clock that the times tell: ``hour``, ``day``, ``month``, ``year``, or ``none``."""
    if clock.isna().all():
        return "none"
    if (clock - clock.dt.normalize()).nunique() > 2:  # two: one time of the day, in summer and in winter
        return "hour"
    if (clock.dt.day == 1).all() or clock.dt.is_month_end.all():
        return "year" if clock.dt.month.nunique() == 1 else "month"
    return "day"


def parts(clock: pd.Series) -> dict[str, Any]:
    """Return what the local time tells of a row."""
    unit, groups = finest(clock), {}
    if unit in ("hour", "day"):
        groups["weekday"] = pd.Categorical.from_codes(clock.dt.weekday, WEEKDAYS, ordered=True)
    if unit == "hour":
        groups["hour"] = clock.dt.hour
    if unit in ("day", "month"):
        groups["month"] = clock.dt.month
    return groups


def scales(clock: pd.Series) -> list[tuple[list[str], list[Any]]]:
    """Return the pairs of scales that the local time tells, the finest first: their names, their values by row."""
    unit = finest(clock)
    if unit in ("year", "none"):
        return []
    day = pd.Categorical.from_codes(clock.dt.weekday, WEEKDAYS, ordered=True)
    month = pd.Categorical.from_codes(clock.dt.month - 1, MONTHS, ordered=True)
    groups: list[tuple[list[str], list[Any]]] = [(["year", "month"], [clock.dt.year, month])]
    if unit != "month":
        groups.insert(0, (["weekday", "month"], [day, month]))
    if unit == "hour":
        groups.insert(0, (["weekday", "hour"], [day, clock.dt.hour]))
    return groups


def period(clock: pd.Series, rows: int) -> str:
    """Return the finest period that gives a readable line: enough rows in most, few holes, not too many points."""
    days = (clock.max() - clock.min()).days + 1
    for unit, (_, length) in SPAN.items():
        counts = clock.dt.to_period(unit).value_counts()
        holes = len(counts) < 0.5 * days / length
        if (unit != "D" or days <= 28) and len(counts) <= MOST_PERIODS and counts.median() >= rows and not holes:
            return unit
    return "Y" if days > 2 * 365 else "M" if days > 60 else "W" if days > 14 else "D"

"""Recognize columns of times, and their format."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from ninefold.collection import datetimes
from ninefold.init.columns import TIME_NAME, Column

_DAYS = {
    r"\d{1,2}/\d{1,2}/\d{4}": ("%d/%m/%Y", "%m/%d/%Y"),
    r"\d{1,2}-\d{1,2}-\d{4}": ("%d-%m-%Y", "%m-%d-%Y"),
    r"\d{1,2}\.\d{1,2}\.\d{4}": ("%d.%m.%Y", "%m.%d.%Y"),
    r"\d{1,2}/\d{1,2}/\d{2}": ("%d/%m/%y", "%m/%d/%y"),
    r"\d{1,2}-\d{1,2}-\d{2}": ("%d-%m-%y", "%m-%d-%y"),
    r"\d{1,2}\.\d{1,2}\.\d{2}": ("%d.%m.%y",),
    r"\d{4}\.\d{1,2}\.\d{1,2}": ("%Y.%m.%d",),
    r"\d{8}": ("%Y%m%d",),
    r"\d{4}-\d{2}": ("%Y-%m",),
    r"\d{4}/\d{2}": ("%Y/%m",),
    r"\d{1,2}[- ][A-Za-z]{3}[- ]\d{4}": ("%d-%b-%Y", "%d %b %Y"),
    r"\d{1,2}[- ][A-Za-z]{3}[- ]\d{2}": ("%d-%b-%y", "%d %b %y"),
    r"\d{1,2} [A-Za-z]{3,9} \d{4}": ("%d %B %Y",),
    r"[A-Za-z]{3} \d{1,2},? \d{4}": ("%b %d, %Y", "%b %d %Y"),
    r"[A-Za-z]{3,9} \d{1,2},? \d{4}": ("%B %d, %Y", "%B %d %Y"),
    r"\d{1,2}/[A-Za-z]{3}/\d{4}": ("%d/%b/%Y",),
    r"[A-Za-z]{3}[- ]\d{4}": ("%b-%Y", "%b %Y"),
}
_CLOCKS = {
    "": ("",),
    r",? \d{1,2}:\d{2}": (" %H:%M", ", %H:%M"),
    r",? \d{1,2}:\d{2}:\d{2}": (" %H:%M:%S", ", %H:%M:%S"),
    r" \d{1,2}:\d{2}:\d{2}\.\d+": (" %H:%M:%S.%f",),
    r" \d{1,2}:\d{2} ?[APap][Mm]": (" %I:%M %p", " %I:%M%p"),
    r" \d{1,2}:\d{2}:\d{2} ?[APap][Mm]": (" %I:%M:%S %p", " %I:%M:%S%p"),
    r"T\d{1,2}:\d{2}:\d{2}": ("T%H:%M:%S",),
    r":\d{2}:\d{2}:\d{2} [+-]\d{4}": (":%H:%M:%S %z",),
    r" ?\d{4}": (" %H%M", "%H%M"),
    r" ?\d{6}": (" %H%M%S", "%H%M%S"),
}
_ISO = re.compile(r"\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]+\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?\s*")


def as_time(column: Column) -> Column:
    """Return a column of numbers as times: year, yyyymmdd, or seconds, milliseconds or days since 1970."""
    low, high = column.bounds()
    whole = column.type == "int64"
    if whole and low >= 1000 and high <= 2999:
        form = "year"
    elif whole and low >= 19_000_101 and high <= 29_991_231:
        form = "%Y%m%d"
    elif low >= 3e8 and high < 5e9:
        form = "epoch_s"
    elif low >= 3e11 and high < 5e12:
        form = "epoch_ms"
    else:
        form = "days" if high - low <= 40_000 and abs(high) < 1e5 else "seconds"
    times = datetimes.parse_series(pd.Series(column.texts), form).to_numpy("datetime64[us]").copy()
    times[column.gap] = np.datetime64("NaT")
    warning = f"{column.name} holds numbers; they are read as {form}: processing.tables.*.columns.{column.name}.format"
    column = replace(column, kind="timestamp", type="timestamp", format=form, decimal=None, thousands=None)
    return replace(column, values=times, warnings=(warning,))


def timestamp(column: Column, enough: float) -> Column | None:
    """Return the column as times if at least this share of its rows holds some."""
    counts, known = column.counts, column.texts[~column.gap]
    sample = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), 500)).astype(int))]
    sample = np.array([text.strip() for text in sample], dtype=object)
    forms = _candidates(sample, min(enough, 0.9))
    best, values, fits = "", np.array([]), 0
    total = int(counts[~column.gap].sum())
    tried = {}
    for form in forms:
        parsed = _moments(column, form)
        tried[form] = (parsed, int(counts[~np.isnat(parsed)].sum()))
        if tried[form][1] > fits:
            best, (values, fits) = form, tried[form]
    if not fits or fits < enough * total:
        return None
    warnings: tuple[str, ...] = ()
    twin = _swapped(best)
    if twin in tried and tried[twin][1] == fits:
        if _steady(tried[twin][0][column.codes]) > _steady(values[column.codes]):
            best, twin, values = twin, best, tried[twin][0]
        if not (tried[best][0] == tried[twin][0]).all():
            warnings = (
                f"{column.name} may be day or month first; read as {best}: processing.tables.*.columns.{column.name}.format",
            )
    if fits < total:
        lost = column.texts[np.isnat(values) & ~column.gap][0]
        warnings += (f"{column.name}: {total - fits:,} values are no times, such as {lost!r}; their rows go to quarantine: processing.tables",)  # fmt: skip
    named = None if best == "iso" else best
    return replace(column, kind="timestamp", type="timestamp", values=values, format=named, warnings=warnings)


def _candidates(sample: np.ndarray, share: float) -> list[str]:
    """Return the formats of time whose shape at least this share of a sample has."""
    enough = share * len(sample)
    if sum(_ISO.fullmatch(text) is not None for text in sample) >= enough:
        return ["iso"]
    forms = []
    for day, days in _DAYS.items():
        if sum(re.match(day, text) is not None for text in sample) < enough:
            continue
        for clock, clocks in _CLOCKS.items():
            if sum(re.fullmatch(day + clock, text) is not None for text in sample) >= enough:
                forms += [first + second for first in days for second in clocks]
    return forms


def _moments(column: Column, form: str) -> np.ndarray:
    parsed = datetimes.parse_series(pd.Series(column.texts), form).to_numpy("datetime64[us]").copy()
    wrong = (parsed < np.datetime64("1000-01-01")) | (parsed > np.datetime64("2999-12-31"))  # "1/2/20" has no year 20
    parsed[wrong | column.gap] = np.datetime64("NaT")
    return parsed


def _swapped(form: str) -> str:
    return form.replace("%d", "@").replace("%m", "%d").replace("@", "%m")


def _steady(times: np.ndarray) -> float:
    """Return how often a time is not before that of the row above: files are often in the order of time."""
    known = times[~np.isnat(times)]
    return float((known[1:] >= known[:-1]).mean()) if len(known) > 1 else 0.0


def dates_in_numbers(column: Column) -> Column:
    """Return numbers as times where their name and all their values say so."""
    low, high = column.bounds()
    if column.type != "int64" or column.decimal or column.thousands or not TIME_NAME.search(column.name):
        return column
    if (low >= 19_000_101 and high <= 29_991_231) or (low >= 3e8 and high < 5e9) or (low >= 3e11 and high < 5e12):
        times = as_time(column)
        if not times.stray.any():
            return times
    return column

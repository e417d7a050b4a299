"""Tell what the columns of a table of texts are: numbers, times, categories, free text, names of rows, or nothing of use."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ninefold.collection import datetimes
from ninefold.init.columns import ID_NAME, MISSING, SAMPLED, STRAY_TIMES, TIME_NAME, Column, blanked
from ninefold.init.numbers import like_neighbours, number, without_signs

NUMBERED_NAME = re.compile(r"(^|[\W_])(nr|no|num|number|ref|reference|code|sku|serial|ticket|invoice)$|(?-i:^column_\d+$)", re.I)  # fmt: skip
_DAYS = (
    "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y",
    "%d.%m.%y", "%Y.%m.%d", "%Y%m%d", "%Y-%m", "%Y/%m", "%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%d %b %y", "%d %B %Y",
    "%b %d, %Y", "%b %d %Y", "%B %d, %Y", "%B %d %Y", "%d/%b/%Y", "%b-%Y", "%b %Y",
)  # fmt: skip
_CLOCKS = (
    "", " %H:%M", ", %H:%M", " %H:%M:%S", ", %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M%p", " %I:%M:%S %p", " %I:%M:%S%p",
    "T%H:%M:%S", ":%H:%M:%S %z", " %H%M", "%H%M", " %H%M%S", "%H%M%S",
)  # fmt: skip
_SHAPES = {"Y": r"\d{4}", "b": "[A-Za-z]{3}", "B": "[A-Za-z]{3,9}", "f": r"\d+", "p": "[APap][Mm]", "z": r"[+-]\d{4}"}
_ISO = r"\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]+\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?\s*"
# Of numbers that are times, the least and the first beyond, and how they are read; of the first two, whole ones.
_COUNTED = ((1000, 3000, "year"), (19_000_101, 29_991_232, "%Y%m%d"), (3e8, 5e9, "epoch_s"), (3e11, 5e12, "epoch_ms"))


def describe(frame: pd.DataFrame, timed: str | None = None, target: str | None = None) -> dict[str, Column]:
    """Return what every column of a table is, by its name in the source; `frame` is all text.

    The column `timed` holds times, even where these look like numbers. In texts of `target`, "none" and "-" are values.
    """
    columns = {name: _describe(name, frame[name], name == timed, name == target) for name in frame.columns}
    if any(column.decimal == "," for column in columns.values()):
        columns = {name: like_neighbours(column) for name, column in columns.items()}
    first: dict[Any, str] = {}
    for name in sorted(columns, key=lambda name: name not in (target, timed)):  # of copies, these are kept
        column = columns[name]
        if column.kind not in ("constant", "missing"):
            twin = first.setdefault((column.codes.tobytes(), *column.texts), name)
            if twin not in (name, target):  # a copy of the target is a leak, which stage 05 has to see
                columns[name] = replace(column, kind="duplicate", of=twin)
    return columns


def _describe(name: str, texts: pd.Series, timed: bool, target: bool) -> Column:
    codes, distinct = pd.factorize(texts.fillna(""))
    codes, known = codes.astype("int32"), distinct.to_numpy(dtype=object)
    plain = np.array([text.strip().lower() for text in known], dtype=object)
    gap = np.isin(plain.astype(str), sorted(MISSING))
    base = Column(name, name, "category", "string", codes, known, gap, blanked(known, gap))
    if gap.all():
        return replace(base, kind="missing")
    column = number(base, plain) or _timestamp(base, 0.5 if timed else 1 - STRAY_TIMES)
    if column is None and target:  # of texts, these are names like others
        gap = np.isin(plain.astype(str), sorted(MISSING - {"none", "-"}))
        base = replace(base, gap=gap, values=blanked(known, gap))
    column = column or without_signs(base) or _texts(base)
    if column.kind == "number":
        column = _as_time(column) if timed else _dates_in_numbers(column)
    if column.distinct <= 1 and column.complete:
        return replace(column, kind="constant")
    if column.kind == "number" and not timed and not target and _names_rows(column):
        return replace(column, kind="identifier")
    return column


def _texts(column: Column) -> Column:
    """Return a column of texts as names of rows, as free text or as categories."""
    known = column.texts[~column.gap]
    sample = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), SAMPLED)).astype(int))]
    words, length = np.mean([(len(text.split()), len(text)) for text in sample], axis=0) if len(known) else (0, 0)
    share = len(known) / max(len(column.codes) - column.missing, 1)
    if len(known) >= 20 and ((words >= 3 and share >= 0.3) or (words >= 6 and len(known) >= 50)):
        return replace(column, kind="text")
    if len(known) >= 20 and share >= 0.95 and (words < 3 or length < 40):
        return replace(column, kind="identifier")
    return column


def _names_rows(column: Column) -> bool:
    """Return whether whole numbers only name the row: none comes back, and their name or their order says so."""
    if column.type != "int64" or column.decimal or re.search(r"year|month|day|week|hour|date|time", column.name, re.I):
        return False
    rows = len(column.codes) - column.missing
    if column.distinct < max(10, 0.98 * rows):
        return False
    low, high = column.bounds()
    every = column.distinct == rows == len(column.codes)
    # From 1 on without a gap, or rising from row to row with few gaps: rows were numbered, and some taken out.
    rising = every and high - low < 3 * rows and bool((np.diff(column.rows()) > 0).all())
    in_order = column.distinct == rows == high - low + 1 or rising
    return bool(in_order or ID_NAME.search(column.name) or NUMBERED_NAME.search(column.name))


def _as_time(column: Column) -> Column:
    """Return a column of numbers as times: year, yyyymmdd, or seconds, milliseconds or days since 1970."""
    low, high = column.bounds()
    kinds = _COUNTED if column.type == "int64" else _COUNTED[2:]
    forms = [form for least, most, form in kinds if least <= low and high < most]
    form = [*forms, "days" if high - low <= 40_000 and abs(high) < 1e5 else "seconds"][0]
    warning = f"{column.name} holds numbers; they are read as {form}: processing.tables.*.columns.{column.name}.format"
    how: dict[str, Any] = {"kind": "timestamp", "type": "timestamp", "format": form, "decimal": None, "thousands": None}
    return replace(column, values=_parse(column, form), warnings=(warning,), **how)


def _dates_in_numbers(column: Column) -> Column:
    """Return numbers as times where their name and all their values say so."""
    low, high = column.bounds()
    whole = column.type == "int64" and not column.decimal and not column.thousands
    if whole and TIME_NAME.search(column.name) and any(least <= low and high < most for least, most, _ in _COUNTED[1:]):
        times = _as_time(column)
        return column if times.stray.any() else times
    return column


def _timestamp(column: Column, enough: float) -> Column | None:
    """Return the column as times if at least this share of its rows holds some."""
    counts, known = column.counts, column.texts[~column.gap]
    sample = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), 500)).astype(int))]
    parsed = {form: _parse(column, form) for form in _candidates([text.strip() for text in sample], min(enough, 0.9))}
    for values in parsed.values():  # "1/2/20" has no year 20
        values[(values < np.datetime64("1000-01-01")) | (values > np.datetime64("2999-12-31"))] = np.datetime64("NaT")
    rows = {form: int(counts[~np.isnat(values)].sum()) for form, values in parsed.items()}
    best, total = max(rows, key=lambda form: rows[form], default=""), int(counts[~column.gap].sum())
    if not rows or not rows[best] or rows[best] < enough * total:
        return None
    twin, warnings = best.translate(str.maketrans("dm", "md")), column.warnings
    if twin != best and rows.get(twin) == rows[best]:
        if _steady(parsed[twin][column.codes]) > _steady(parsed[best][column.codes]):
            best, twin = twin, best
        if not np.array_equal(parsed[best], parsed[twin], equal_nan=True):
            key = f"processing.tables.*.columns.{column.name}.format"
            warnings += (f"{column.name} may be day or month first; read as {best}: {key}",)
    values = parsed[best]
    if rows[best] < total:
        lost = column.texts[np.isnat(values) & ~column.gap][0]
        warnings += (f"{column.name}: {total - rows[best]:,} values are no times, such as {lost!r}; their rows go to quarantine: processing.tables",)  # fmt: skip
    how: dict[str, Any] = {"kind": "timestamp", "type": "timestamp", "format": None if best == "iso" else best}
    return replace(column, values=values, warnings=warnings, **how)


def _candidates(sample: list[str], share: float) -> list[str]:
    """Return the formats of time whose shape at least this share of a sample has."""

    def fit(shape: str) -> bool:
        return sum(re.fullmatch(shape, text) is not None for text in sample) >= share * len(sample)

    if fit(_ISO):
        return ["iso"]
    clocks = {form: _shape(form) for form in _CLOCKS}
    days = {form: shape for form in _DAYS if fit(rf"{(shape := _shape(form))}.*")}
    return [day + clock for day in days for clock in clocks if fit(days[day] + clocks[clock])]


def _shape(form: str) -> str:
    """Return the regular expression of the texts that a format may read; digits without signs between them are fixed."""
    one = r"\d{2}" if re.search("%Y%m|%H%M|^%Y.%m$", form) else r"\d{1,2}"
    shapes = {**dict.fromkeys("dmHI", one), **dict.fromkeys("yMS", r"\d{2}"), **_SHAPES}
    return re.sub(r"%(\w)", lambda match: shapes[match[1]], re.escape(form))


def _parse(column: Column, form: str) -> np.ndarray:
    times = datetimes.parse_series(pd.Series(column.texts), form).to_numpy("datetime64[us]").copy()
    times[column.gap] = np.datetime64("NaT")
    return times


def _steady(times: np.ndarray) -> float:
    """Return how often a time is not before that of the row above: files are often in the order of time."""
    known = times[~np.isnat(times)]
    return float((known[1:] >= known[:-1]).mean()) if len(known) > 1 else 0.0

"""A column of a table: its kind, type, values, missing values and bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

# Texts that mean "not known": always, and where all else is a number or a time.
MISSING = {"", "na", "n/a", "#n/a", "#na", "null", "none", "nan", "<na>", "nat", "?", "-"}
STRAY_TIMES = 0.05
SAMPLED = 20_000  # distinct texts whose words are counted
ID_NAME = re.compile(
    r"(^|[\W_])(id|ids|uuid|guid|key|index|idx|rownum|row_?names?|unnamed)([\W_\d]*)$|[a-z](Id|ID|Key)$", re.I
)
CAMEL_ID = re.compile(r"[a-z](Id|ID|Key)$")
CODE_NAME = re.compile(r"(^|[\W_])(zip|zipcode|postal|postcode|plz|phone|tel|iban|ean|isbn)", re.I)
TIME_NAME = re.compile(
    r"date|time|timestamp|created|recorded|placed|ordered|started|opened|when|datum|zeit|fecha|moment|(^|[\W_])(dt|ts|day|month)($|[\W_\d])|_(at|on)$",
    re.I,
)
OTHER_TIME = re.compile(
    r"birth|dob|expir|valid|until|end|close|deliver|update|modif|due|return|last|resolv|cancel|renew", re.I
)
SHARE_NAME = re.compile(r"share|ratio|rate|prob|fraction|proportion|(^|[\W_])(pct|perc|percent|percentage)($|[\W_])", re.I)  # fmt: skip
UNITS = (
    (r"eur|euro", "euro"), (r"usd|dollars?", "US dollars"), (r"gbp", "pounds sterling"), (r"chf", "Swiss francs"),
    (r"kg", "kilograms"), (r"lbs?", "pounds"), (r"grams?", "grams"), (r"km", "kilometres"), (r"miles?|mi", "miles"),
    (r"cm", "centimetres"), (r"mm", "millimetres"), (r"metres?|meters?", "metres"), (r"sqm|m2", "square metres"),
    (r"sqft|sf", "square feet"), (r"kmh|kph", "km/h"), (r"mph", "miles per hour"), (r"kwh", "kWh"), (r"kw", "kW"),
    (r"temp_c|celsius", "degrees Celsius"), (r"temp_f|fahrenheit", "degrees Fahrenheit"), (r"hpa|mbar", "hPa"),
    (r"pct|percent|perc|percentage", "per cent"), (r"ms", "milliseconds"), (r"secs?|seconds?", "seconds"),
    (r"mins?|minutes?", "minutes"), (r"hrs?|hours?", "hours"), (r"days?", "days"), (r"months?", "months"),
    (r"years?|yrs?", "years"), (r"lat|latitude|lon|lng|longitude", "degrees"),
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """What one column is. Its texts are kept once each; `codes` tells the text of every row."""

    name: str  # in the project; another than in the source where signs have to be taken off its numbers
    raw: str
    kind: str  # number | category | text | timestamp | identifier | constant | missing | duplicate
    type: str  # of the contract: string | int64 | float64 | timestamp
    codes: np.ndarray = field(repr=False)
    texts: np.ndarray = field(repr=False)
    gap: np.ndarray = field(repr=False)  # per text: whether it means "not known"
    values: np.ndarray = field(repr=False)  # per text: number, time or text; NaN, NaT or None where it is none
    format: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    of: str | None = None  # the column that this one is a copy of
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> np.ndarray:
        """Return how many rows hold each text."""
        return np.bincount(self.codes, minlength=len(self.texts))

    @property
    def missing(self) -> int:
        """Return how many rows do not know the value."""
        return int(self.counts[self.gap].sum())

    @property
    def nullable(self) -> bool:
        """Return whether the contract has to allow gaps."""
        return self.missing > 0 or self.raw != self.name

    @property
    def distinct(self) -> int:
        """Return how many different values are known."""
        known = ~self.gap & ~pd.isna(self.values)
        return len(np.unique(self.values[known].astype(str if self.type == "string" else self.values.dtype)))

    @property
    def stray(self) -> np.ndarray:
        """Return, per row, whether it holds a value that is not of the type."""
        if self.raw != self.name:
            return np.zeros(len(self.codes), dtype=bool)
        return (~self.gap & pd.isna(self.values))[self.codes]

    def rows(self) -> np.ndarray:
        """Return the value of every row; NaN, NaT or None where it is not known."""
        return self.values[self.codes]

    def sizes(self) -> dict[Any, int]:
        """Return how many rows hold each value, in the order of the values."""
        known = ~self.gap & ~pd.isna(self.values)
        totals = pd.Series(self.counts[known]).groupby(list(self.values[known])).sum()
        return {value: int(size) for value, size in totals.sort_index().items()}

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest number."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))


def missing_texts(columns: Iterable[Column]) -> list[str]:
    """Return the texts of the source that mean "not known", as they stand there."""
    texts = {str(text) for column in columns for text in column.texts[column.gap]}
    return ["", *sorted(texts - {""})]


def with_missing(column: Column, missing: list[str]) -> Column:
    """Return a column in which just the texts of `missing` mean "not known", as for all columns of a project."""
    gap = np.isin(column.texts.astype(str), missing)
    if (gap == column.gap).all():
        return column
    if column.type == "string":
        return replace(column, gap=gap, values=blanked(column.texts, gap))
    values = column.values.copy()
    values[gap] = np.datetime64("NaT") if column.type == "timestamp" else np.nan
    return replace(column, gap=gap, values=values)


def blanked(texts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return texts with None where nothing is known."""
    values = texts.copy()
    values[gap] = None
    return values


def unit(name: str) -> str:
    """Return the unit that a column's name tells, else an empty text."""
    for pattern, word in UNITS:
        if re.search(rf"(^|[\W_])({pattern})$", name, re.I):
            return word
    return ""


def widened(column: Column) -> dict[str, float]:
    """Return bounds that future values should keep: far wider than those seen; what is never negative stays so."""
    low, high = column.bounds()
    if re.search(r"(^|[\W_])(lat|latitude)$", column.name, re.I) and abs(low) <= 90 >= abs(high):
        return {"min": -90, "max": 90}
    if re.search(r"(^|[\W_])(lon|lng|long|longitude)$", column.name, re.I) and abs(low) <= 180 >= abs(high):
        return {"min": -180, "max": 180}
    if SHARE_NAME.search(column.name) and low >= 0 and high <= 100:
        return {"min": 0, "max": 1 if high <= 1 else 100}
    if column.type == "int64" and low >= 1000 and high <= 2999 and re.search(r"year|yr", column.name, re.I):
        return {"min": _rounded(low - 100, -10), "max": _rounded(high + 100, 10)}
    span = (high - low) or abs(high) or 1.0
    bottom = 0.0 if low >= 0 else -_nice(2 * span - low)
    top = 0.0 if high <= 0 else _nice(high + 2 * span)
    return {"min": bottom, "max": top}


def is_id(name: str) -> bool:
    """Return whether a column's name says that it holds names of things, not quantities."""
    return bool(ID_NAME.search(name) or CAMEL_ID.search(name) or CODE_NAME.search(name))


def _nice(value: float) -> float:
    """Return a number rounded up to one or two digits, so that it reads as a limit."""
    if value <= 0:
        return 0.0
    scale = 10.0 ** np.floor(np.log10(value))
    step = next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= step * scale * (1 + 1e-12))
    return float(f"{step * scale:.10g}")


def _rounded(value: float, step: int) -> float:
    return float(np.ceil(value / step) * step)

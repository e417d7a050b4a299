"""A column of a table: its kind, type, values, missing values and bounds."""

from __future__ import annotations

import re
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
CODE_NAME = re.compile(r"(^|[\W_])(zip|zipcode|postal|postcode|plz|phone|tel|iban|ean|isbn)", re.I)
TIME_NAME = re.compile(r"date|time|timestamp|created|recorded|placed|ordered|started|opened|when|datum|zeit|fecha|moment|(^|[\W_])(dt|ts|day|month)($|[\W_\d])|_(at|on)$", re.I)  # fmt: skip
OTHER_TIME = re.compile(r"birth|dob|expir|valid|until|end|close|deliver|update|modif|due|return|last|resolv|cancel|renew", re.I)  # fmt: skip
SHARE_NAME = re.compile(r"share|ratio|rate|prob|fraction|proportion|(^|[\W_])(pct|perc|percent|percentage)($|[\W_])", re.I)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """What one column is. Its texts are kept once each; `codes` gives the text of every row."""

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
        """How many rows hold each text."""
        return np.bincount(self.codes, minlength=len(self.texts))

    @property
    def missing(self) -> int:
        """Return how many rows do not know the value."""
        return int(self.counts[self.gap].sum())

    @property
    def distinct(self) -> int:
        """Return how many different values are known."""
        known = self.values[self._known]
        return len(np.unique(known.astype(str) if self.type == "string" else known))

    @property
    def stray(self) -> np.ndarray:
        """Return, per row, whether it holds a value that is not of the type."""
        return (~self.gap & pd.isna(self.values) & (self.raw == self.name))[self.codes]

    @property
    def complete(self) -> bool:
        """Return whether every row holds a value of the type."""
        return not self.missing and not self.stray.any()

    @property
    def _known(self) -> np.ndarray:
        return ~self.gap & ~pd.isna(self.values)

    def rows(self) -> np.ndarray:
        """Return the value of every row; NaN, NaT or None where it is not known."""
        return self.values[self.codes]

    def times(self) -> np.ndarray:
        """Return the known times of the rows."""
        return self.rows()[~np.isnat(self.rows())]

    def sizes(self) -> dict[Any, int]:
        """Return how many rows hold each value, in the order of the values."""
        totals = pd.Series(self.counts[self._known]).groupby(list(self.values[self._known])).sum()
        return {value: int(size) for value, size in totals.sort_index().items()}

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest number."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))

    def as_text(self) -> Column:
        """Return the column as text."""
        kind = "category" if self.kind in ("number", "timestamp") else self.kind
        values = blanked(self.texts, self.gap)
        return replace(self, kind=kind, type="string", values=values, format=None, decimal=None, thousands=None)

    def with_missing(self, missing: list[str]) -> Column:
        """Return the column in which just the texts of `missing` mean "not known", as for all columns of a project."""
        gap = np.isin(self.texts.astype(str), missing)
        if (gap == self.gap).all():
            return self
        values = blanked(self.texts, gap) if self.type == "string" else self.values.copy()
        if self.type != "string":
            values[gap] = np.datetime64("NaT") if self.type == "timestamp" else np.nan
        return replace(self, gap=gap, values=values)


def blanked(texts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return texts with None where nothing is known."""
    return np.where(gap, np.array(None), texts)


def widened(column: Column) -> dict[str, float]:
    """Return bounds that future values should keep: far wider than those seen; what is never negative stays so."""
    low, high = column.bounds()
    for names, most in (("lat|latitude", 90), ("lon|lng|long|longitude", 180)):
        if re.search(rf"(^|[\W_])({names})$", column.name, re.I) and abs(low) <= most >= abs(high):
            return {"min": -most, "max": most}
    if SHARE_NAME.search(column.name) and low >= 0 and high <= 100:
        return {"min": 0, "max": 1 if high <= 1 else 100}
    if column.type == "int64" and low >= 1000 and high <= 2999 and re.search(r"year|yr", column.name, re.I):
        return {"min": np.floor((low - 100) / 10) * 10, "max": np.ceil((high + 100) / 10) * 10}
    span = (high - low) or abs(high) or 1.0
    return {"min": 0.0 if low >= 0 else -_nice(2 * span - low), "max": 0.0 if high <= 0 else _nice(high + 2 * span)}


def is_id(name: str) -> bool:
    """Return whether a column's name says that it holds names of things, not quantities."""
    return bool(ID_NAME.search(name) or CODE_NAME.search(name))


def _nice(value: float) -> float:
    """Return a number rounded up to one or two digits, so that it reads as a limit."""
    if value <= 0:
        return 0.0
    scale = 10.0 ** np.floor(np.log10(value))
    step = next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= step * scale * (1 + 1e-12))
    return float(f"{step * scale:.10g}")

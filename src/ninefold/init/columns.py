"""A column of a table: its kind, type, values, missing values and bounds."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import yaml

from ninefold.init.assumptions import Assumption

WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text("utf-8"))
NAMES = {kind: re.compile(pattern, re.I) for kind, pattern in WORDS["names"].items()}
MISSING = {*WORDS["gaps"]}
STRAY_TIMES = 0.05
SAMPLED = 20_000  # distinct texts whose words are counted


@dataclass(frozen=True)
class Column:
    """What one column is. Its texts are kept once each; `codes` gives the text of every row."""

    name: str
    kind: str  # number | category | text | timestamp | identifier | nested | constant | missing | duplicate
    type: str  # of the contract: string | int64 | float64 | timestamp
    codes: np.ndarray = field(repr=False)
    texts: np.ndarray = field(repr=False)
    gap: np.ndarray = field(repr=False)  # per text: whether it means "not known"
    values: np.ndarray = field(repr=False)  # per text: number, time or text; NaN, NaT or None where it is none
    format: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    aliases: dict[str, str | None] = field(default_factory=dict)  # of the contract: text -> what it stands for
    of: str | None = None  # the column that this one is a copy of
    stated: str | None = None  # the unit that stands below its name in the source
    warnings: tuple[Assumption, ...] = ()

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
        return (~self.gap & pd.isna(self.values))[self.codes]

    @property
    def complete(self) -> bool:
        """Return whether every row holds a value of the type."""
        return not self.missing and not self.stray.any()

    @property
    def _known(self) -> np.ndarray:
        return ~self.gap & ~pd.isna(self.values)

    @property
    def unit(self) -> str | None:
        """Return the unit that its texts name, ``kg``, ``%`` or a currency, or the source; that of durations is ``min``."""
        form = self.format or ""
        signs: list[str] = next((note.values["signs"] for note in self.warnings if note.kind == "signs"), [])
        named = [form[7:]] if form.startswith("amount ") else ["min"] if form in ("h:m", "m:s") else signs
        return named[0] if len(named) == 1 else self.stated if self.type in ("int64", "float64") else None

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

    def as_text(self) -> Self:
        """Return the column as text."""
        kind = "category" if self.kind in ("number", "timestamp") else self.kind
        values = meant(self.texts, self.gap, self.aliases)
        return replace(self, kind=kind, type="string", values=values, format=None, decimal=None, thousands=None)

    def with_missing(self, missing: list[str]) -> Self:
        """Return the column in which just the texts of `missing`, and null aliases, mean "not known"."""
        known = {text: text for text in self.texts[~np.isin(self.texts.astype(str), missing)]} | self.aliases
        gap = np.array([known.get(text) is None for text in self.texts], bool)
        if self.type == "string":
            return replace(self, gap=gap, values=meant(self.texts, gap, self.aliases))
        none = np.array("NaT" if self.type == "timestamp" else np.nan, self.values.dtype)
        return replace(self, gap=gap, values=np.where(gap, none, self.values))

    def with_aliases(self, aliases: dict[str, str | None]) -> Self:
        """Return the column with more aliases."""
        return replace(self, aliases=self.aliases | aliases).with_missing(list(self.texts[self.gap]))

    def warned(self, sentence: str, /, **values: Any) -> Self:
        """Return the column with a warning, a sentence of ``templates/sentences/init.md.j2``."""
        return replace(self, warnings=(*self.warnings, Assumption(sentence, [self.name], values)))

    def example(self, which: np.ndarray, most: int = 1) -> str:
        """Return the first rows with some of the texts, each with its number: "row 3 '02/01/2023'"."""
        rows = np.flatnonzero(which[self.codes])[:most]
        return ", ".join(f"row {row + 1} {self.texts[self.codes[row]]!r}" for row in rows)


def meant(texts: np.ndarray, gap: np.ndarray, aliases: dict[str, str | None]) -> np.ndarray:
    """Return what texts stand for, None where nothing is known."""
    known = np.array([aliases.get(text, text) for text in texts], dtype=object) if aliases else texts
    return np.where(gap, np.array(None), known)


def widened(column: Column) -> dict[str, float]:
    """Return bounds that future values should keep: far wider than those seen; what is never negative stays so."""
    low, high = column.bounds()
    for kind, most in (("latitude", 90), ("longitude", 180)):
        if called(column.name, kind) and abs(low) <= most >= abs(high):
            return {"min": -most, "max": most}
    if called(column.name, "share") and low >= 0 and high <= 100:
        return {"min": 0, "max": 1 if high <= 1 else 100}
    if column.type == "int64" and low >= 1000 and high <= 2999 and re.search(r"year|yr", column.name, re.I):
        return {"min": np.floor((low - 100) / 10) * 10, "max": np.ceil((high + 100) / 10) * 10}
    span = (high - low) or abs(high) or 1.0
    return {"min": 0.0 if low >= 0 else -_nice(2 * span - low), "max": 0.0 if high <= 0 else _nice(high + 2 * span)}


def called(name: str, *kinds: str) -> bool:
    """Return whether a column's name is one of some kinds of ``words.yaml``."""
    return any(NAMES[kind].search(name) for kind in kinds)


def _nice(value: float) -> float:
    """Return a number rounded up to one or two digits, so that it reads as a limit."""
    if value <= 0:
        return 0.0
    scale = 10.0 ** np.floor(np.log10(value))
    step = next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= step * scale * (1 + 1e-12))
    return float(f"{step * scale:.10g}")

"""Recognize columns of numbers, whatever their decimal sign and currency."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa

from ninefold.collection import numbers as readers
from ninefold.init.columns import MISSING, SAMPLED, Column

MISSING_NUMBERS = {"unknown", "unk", "missing", "nil", "not available", "n.a.", "nd", "tbd", ".", "--", "#ref!", "#value!", "#div/0!"}  # fmt: skip
SENTINELS = {-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
STRAY = 0.01  # so many values of a number may be no numbers; they go to quarantine
SIGNS = r"[$€£¥₹%]|\b(?:USD|EUR|GBP|CHF|JPY|INR)\b"
KEY = "processing.tables.*.columns.{}.thousands"
Style = tuple[str | None, str | None]  # the signs of decimals and between thousands


def sentinel(column: Column) -> float | None:
    """Return a number such as -999 that stands alone, far from all others, and may mean "not known"."""
    known = np.unique(column.values[~np.isnan(column.values)])
    if len(known) < 10:
        return None
    for extreme, others in ((known[0], known[1:]), (known[-1], known[:-1])):
        often, away = column.counts[column.values == extreme].sum(), min(abs(others - extreme))
        lone = often >= max(3, 0.002 * len(column.codes)) and away > 0.5 * (others[-1] - others[0])
        if extreme in SENTINELS and lone:
            return float(extreme)
    return None


def number(column: Column, plain: np.ndarray) -> Column | None:
    """Return the column as numbers if all but a few texts are some, in the notation that fits most of them."""
    soft = column.gap | np.isin(plain.astype(str), sorted(MISSING_NUMBERS))
    counts, warnings = column.counts, column.warnings
    if soft.all():
        return None
    parsed = {style: _parse(column.texts, style, soft) for style in _styles(column.texts[~soft])}
    rows = {style: int(counts[~np.isnan(values)].sum()) for style, values in parsed.items()}
    best = max(rows, key=lambda style: rows[style])
    values, fits, known = parsed[best], rows[best], int(counts[~soft].sum())
    stray = np.isnan(values) & ~soft
    words = [text for text in column.texts[stray] if not re.search(r"\d", text)]
    if fits >= 0.8 * known and 0 < stray.sum() == len(words) <= 3 and fits < (1 - STRAY) * known:
        # A few words that come back in a column of numbers say why a number is missing.
        named = ", ".join(repr(word) for word in words)
        warnings += (f"{column.name} holds {named} among its numbers; taken as not known: processing.missing",)
        soft, known, stray = soft | stray, fits, np.zeros_like(stray)
    if not fits or fits < (1 - STRAY) * known:
        return None
    if best == (None, None) and any(re.fullmatch(r"\s*0\d+\s*", text) for text in column.texts[~soft]):
        return None  # with a zero in front it is a code
    texts, real = column.texts[~soft & ~stray], values[~np.isnan(values)]
    small, written = np.abs(real).max() < 2**53, not any((best[0] or ".") in text for text in texts)
    whole = bool((real % 1 == 0).all()) and small and (written or len(np.unique(real)) <= 2)
    if not whole and not small and written:
        return None  # digits that a float would lose: a name, not a quantity
    if stray.any():
        lost = int(counts[stray].sum())
        warnings += (f"{column.name}: {lost:,} values are no numbers, such as {column.texts[stray][0]!r}; their rows go to quarantine: processing.tables",)  # fmt: skip
    if best == (None, ",") and _thousands_only(texts, ","):
        warnings += (f"{column.name} is read with commas between thousands: {KEY.format(column.name)}",)
    signs: dict[str, Any] = {"decimal": best[0], "thousands": best[1], "type": "int64" if whole else "float64"}
    return replace(column, kind="number", values=values, gap=soft, warnings=warnings, **signs)


def _styles(texts: np.ndarray) -> list[Style]:
    """Return the notations that the first numbers may have."""
    some = " ".join(texts[:2000])
    if "," in some:
        spaced: list[Style] = [(",", " "), (",", "'")] if re.search("[ '\u00a0\u202f]", some) else []
        commas: list[Style] = [(",", None), (",", ".")]
        only = _thousands_only(texts, ",")
        return [(None, None), *([(None, ","), *commas] if only else [*commas, (None, ",")]), *spaced]
    if re.search(r"\d[ '\u00a0\u202f]\d{3}", some):
        return [(None, None), (None, " "), (None, "'")]
    return [(None, None), *([(",", ".")] if re.search(r"\d\.\d{3}\.\d{3}", some) else [])]


@functools.cache
def _query(decimal: str | None, thousands: str | None) -> str:
    """Return the SQL by which stage 03 reads numbers in a notation."""
    texts = ibis.table({"v": "string"}, name="texts")
    none = "\x1f" if decimal else None  # `plain_number` takes no sign at all for a space
    value = readers.number(readers.plain_number(texts["v"], decimal, thousands or none))
    return str(ibis.to_sql(texts.select(x=value), dialect="duckdb"))


def _parse(texts: np.ndarray, style: Style, gap: np.ndarray) -> np.ndarray:
    """Return the numbers that stage 03 makes of texts in a notation, NaN where one holds none or is not known."""
    read: Any = duckdb.from_arrow(pa.table({"v": pa.array(texts, pa.string())})).query("texts", _query(*style))
    values = np.ma.filled(read.fetchnumpy()["x"].astype("float64"), np.nan)
    values[gap] = np.nan
    return values


def _thousands_only(texts: np.ndarray, sign: str) -> bool:
    """Return whether every sign is followed by just three digits, as between thousands."""
    marked = [text.strip() for text in texts[:SAMPLED] if sign in text]
    return bool(marked) and all(re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+(\.\d*)?", text) for text in marked)


def like_neighbours(column: Column) -> Column:
    """Return a column of numbers such as 1.234 as it is read among columns with decimal commas."""
    if column.kind != "number" or column.decimal or column.thousands or not _thousands_only(column.texts, "."):
        return column
    values = _parse(column.texts, (",", "."), column.gap)
    if (np.isnan(values) & ~column.gap).any():
        return column
    why = f"is read with points between thousands, as other columns have decimal commas: {KEY.format(column.name)}"
    how: dict[str, Any] = {"type": "int64", "decimal": ",", "thousands": "."}
    return replace(column, values=values, warnings=(*column.warnings, f"{column.name} {why}"), **how)


def without_signs(column: Column) -> Column | None:
    """Return a column such as "$ 1,200" or "45 %" as numbers under another name, without the signs."""
    sample = column.texts[~column.gap][:SAMPLED]
    if any(np.mean([bool(re.search(shape, text)) for text in sample]) < 0.9 for shape in (SIGNS, r"\d")):
        return None
    bare = np.array([re.sub(SIGNS, "", text).strip() for text in column.texts], dtype=object)
    plain = np.char.lower(bare.astype(str))
    parsed = number(replace(column, texts=bare, gap=np.isin(plain, sorted(MISSING))), plain)
    if parsed is None:
        return None
    name = f"{column.name}_number"
    warning = f"{column.name} holds signs such as {sample[0]!r}; project/processing.py makes {name} of it"
    return replace(parsed, name=name, raw=column.name, texts=column.texts, type="float64", warnings=(warning,))

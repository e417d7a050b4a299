"""Recognize columns of numbers, whatever their decimal sign and currency."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold.init.columns import MISSING, SAMPLED, Column

MISSING_NUMBERS = {"unknown", "unk", "missing", "nil", "not available", "n.a.", "nd", "tbd", ".", "--", "#ref!", "#value!", "#div/0!"}  # fmt: skip
SENTINELS = {-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
STRAY = 0.01  # so many values of a number may be no numbers; they go to quarantine
SIGNS = r"[$€£¥₹%]|\b(?:USD|EUR|GBP|CHF|JPY|INR)\b"


def sentinel(column: Column) -> float | None:
    """Return a number such as -999 that stands alone, far from all others, and may mean "not known"."""
    known = np.unique(column.values[~np.isnan(column.values)])
    if len(known) < 10:
        return None
    for extreme, others in ((known[0], known[1:]), (known[-1], known[:-1])):
        if extreme not in SENTINELS:
            continue
        often = column.counts[column.values == extreme].sum()
        away = min(abs(others - extreme))
        if often >= max(3, 0.002 * len(column.codes)) and away > 0.5 * (others[-1] - others[0]):
            return float(extreme)
    return None


def number(column: Column, plain: np.ndarray, connection: Any) -> Column | None:
    """Return the column as numbers if all but a few texts are some, in the notation that fits most of them."""
    soft = column.gap | np.isin(plain.astype(str), sorted(MISSING_NUMBERS))
    counts = column.counts
    styles: list[tuple[str | None, str | None]] = [(None, None)]
    if soft.all():
        return None
    some = " ".join(column.texts[~soft][:2000])
    if "," in some:
        thousands = _thousands_only(column.texts[~soft], ",")
        comma: list[tuple[str | None, str | None]] = [(",", None), (",", "."), (None, ",")]
        styles += [(None, ","), *comma[:2]] if thousands else comma
        styles += [(",", " "), (",", "'")] if " " in some or "'" in some or "\u00a0" in some or "\u202f" in some else []
    elif re.search(r"\d[ '\u00a0\u202f]\d{3}", some):
        styles += [(None, " "), (None, "'")]
    elif len(re.findall(r"\.", some)) and re.search(r"\d\.\d{3}\.\d{3}", some):
        styles += [(",", ".")]
    best, values, fits = styles[0], np.array([]), -1
    for style in styles:
        parsed = _parse(column.texts, style, connection)
        parsed[soft] = np.nan
        if (rows := int(counts[~np.isnan(parsed)].sum())) > fits:
            best, values, fits = style, parsed, rows
    known = int(counts[~soft].sum())
    stray = np.isnan(values) & ~soft
    words = [text for text in column.texts[stray] if not re.search(r"\d", text)]
    if fits >= 0.8 * known and 0 < stray.sum() == len(words) <= 3 and fits < (1 - STRAY) * known:
        # A few words that come back in a column of numbers say why a number is missing.
        named = ", ".join(repr(word) for word in words)
        warning = f"{column.name} holds {named} among its numbers; taken as not known: processing.missing"
        column, soft, known = replace(column, warnings=(*column.warnings, warning)), soft | stray, fits
        stray = np.zeros_like(stray)
    if not fits or fits < (1 - STRAY) * known:
        return None
    if best == (None, None) and any(re.fullmatch(r"\s*0\d+\s*", text) for text in column.texts[~soft]):
        return None  # with a zero in front it is a code
    whole = bool((values[~np.isnan(values)] % 1 == 0).all() and np.nanmax(np.abs(values)) < 2**53)
    mark = best[0] or "."
    written = not any(mark in text for text in column.texts[~soft & ~stray])
    number = "int64" if whole and (written or len(np.unique(values[~np.isnan(values)])) <= 2) else "float64"
    if number == "float64" and np.nanmax(np.abs(values)) >= 2**53 and written:
        return None  # digits that a float would lose: a name, not a quantity
    warnings = column.warnings
    if stray.any():
        rows = int(counts[stray].sum())
        warnings += (f"{column.name}: {rows:,} values are no numbers, such as {column.texts[stray][0]!r}; their rows go to quarantine: processing.tables",)  # fmt: skip
    if best == (None, ",") and _thousands_only(column.texts[~soft & ~stray], ","):
        warnings += (
            f"{column.name} is read with commas between thousands: processing.tables.*.columns.{column.name}.thousands",
        )
    return replace(
        column,
        kind="number",
        type=number,
        values=values,
        gap=soft,
        warnings=warnings,
        decimal=best[0],
        thousands=best[1],
    )


def _parse(texts: np.ndarray, style: tuple[str | None, str | None], connection: Any) -> np.ndarray:
    """Return the numbers that texts hold in a notation, NaN where one holds none: what stage 03 makes of them."""
    decimal, thousands = style
    text, fits = "v", "true"
    if decimal or thousands:
        point = re.escape(decimal or ".")
        signs = " \u00a0\u2009\u202f" if thousands == " " else thousands or ""
        mark = f"[{re.escape(signs)}]" if signs else ""
        grouped = rf"|\d{{1,3}}({mark}\d{{2,3}})*{mark}\d{{3}}" if mark else ""
        shape = rf"\s*[+-]?((\d+{grouped})({point}\d*)?|{point}\d+)([eE][+-]?\d+)?\s*"
        fits = f"regexp_full_match(v, '{shape.replace(chr(39), chr(39) * 2)}')"
        for sign in signs:
            text = f"replace({text}, '{sign.replace(chr(39), chr(39) * 2)}', '')"
        text = f"replace({text}, '{decimal or '.'}', '.')"
    table = pa.table({"v": pa.array(texts, pa.string())})
    connection.register("texts", table)
    result = connection.execute(f"SELECT CASE WHEN {fits} THEN try_cast({text} AS DOUBLE) END AS x FROM texts")
    values = result.fetchnumpy()["x"]
    values = np.ma.filled(values.astype("float64"), np.nan) if np.ma.isMaskedArray(values) else values.astype("float64")
    values[np.isinf(values)] = np.nan
    return values


def _thousands_only(texts: np.ndarray, sign: str) -> bool:
    """Return whether every sign is followed by just three digits, as between thousands."""
    marked = [text.strip() for text in texts[:SAMPLED] if sign in text]
    return bool(marked) and all(re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+(\.\d*)?", text) for text in marked)


def same_signs(columns: dict[str, Column], connection: Any) -> dict[str, Column]:
    """Return the columns, numbers such as 1.234 read like their neighbours, where those have decimal commas."""
    if not any(column.decimal == "," for column in columns.values()):
        return columns
    changed = dict(columns)
    for name, column in columns.items():
        if column.kind != "number" or column.decimal or column.thousands or not _thousands_only(column.texts, "."):
            continue
        values = _parse(column.texts, (",", "."), connection)
        values[column.gap] = np.nan
        warning = f"{name} is read with points between thousands, as other columns have decimal commas: processing.tables.*.columns.{name}.thousands"
        if not (np.isnan(values) & ~column.gap).any():
            changed[name] = replace(
                column, type="int64", values=values, decimal=",", thousands=".", warnings=(*column.warnings, warning)
            )
    return changed


def without_signs(column: Column, connection: Any) -> Column | None:
    """Return a column such as "$ 1,200" or "45 %" as numbers under another name, without the signs."""
    known = column.texts[~column.gap]
    share = sum(re.search(SIGNS, text) is not None for text in known[:SAMPLED]) / min(len(known), SAMPLED)
    if share < 0.9 or sum(bool(re.search(r"\d", text)) for text in known[:SAMPLED]) < 0.9 * min(len(known), SAMPLED):
        return None
    bare = np.array([re.sub(SIGNS, "", text).strip() for text in column.texts], dtype=object)
    gap = np.isin(np.char.lower(bare.astype(str)), sorted(MISSING))
    parsed = number(replace(column, texts=bare, gap=gap), np.char.lower(bare.astype(str)), connection)
    if parsed is None:
        return None
    name = f"{column.name}_number"
    warning = f"{column.name} holds signs such as {known[0]!r}; project/processing.py makes {name} of it"
    return replace(parsed, name=name, raw=column.name, texts=column.texts, type="float64", warnings=(warning,))

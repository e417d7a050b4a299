"""Tell what the columns of a table are: numbers, times, categories, free text, names of rows, or nothing of use.

A table comes as text (see ``ninefold.collection.sources``). Whatever is said of a column holds for every row of it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.init.columns import CAMEL_ID, ID_NAME, MISSING, SAMPLED, STRAY_TIMES, Column, blanked
from ninefold.init.numbers import number, same_signs, without_signs
from ninefold.init.times import as_time, dates_in_numbers, timestamp

FEW = 20  # values that a contract lists
NUMBERED_NAME = re.compile(r"(^|[\W_])(nr|no|num|number|ref|reference|code|sku|serial|ticket|invoice)$", re.I)


def describe(frame: pd.DataFrame, timed: str | None = None, target: str | None = None) -> dict[str, Column]:
    """Return what every column of a table is, by its name in the source.

    Parameters
    ----------
    frame : DataFrame
        All text; what is missing is ``""`` or one of `MISSING`.
    timed : str, optional
        A column known to hold the time of a row, even where it looks like a number.
    target : str, optional
        The column to predict: "none" and "-" are values of it, if it holds texts.
    """
    connection = duckdb.connect()
    columns = {name: _describe(name, frame[name], connection, name == timed, name == target) for name in frame.columns}
    columns = same_signs(columns, connection)
    first: dict[Any, list[str]] = {}
    names = sorted(columns, key=lambda name: name not in (target, timed))  # of copies, these are kept
    for name in names:
        column = columns[name]
        alike = first.setdefault((len(column.texts), hash(column.codes.tobytes())), [])
        if column.kind in ("constant", "missing"):
            continue
        twin = next((other for other in alike if (columns[other].texts == column.texts).all()), None)
        if twin == target and twin is not None:
            continue  # a leak, which stage 05 has to see
        if twin:
            columns[name] = replace(column, kind="duplicate", of=twin)
        else:
            alike.append(name)
    return columns


def _describe(name: str, texts: pd.Series, connection: Any, timed: bool, target: bool) -> Column:
    coded = pa.array(texts, type=pa.string(), from_pandas=True).fill_null("").dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    codes, distinct = coded.indices.to_numpy(), coded.dictionary
    known = distinct.to_numpy(zero_copy_only=False).astype(object)
    plain = np.array([text.strip().lower() for text in known], dtype=object)
    gap = np.isin(plain.astype(str), sorted(MISSING))
    base = Column(name, name, "category", "string", codes, known, gap, blanked(known, gap))
    if gap.all():
        return replace(base, kind="missing")
    column = number(base, plain, connection) or timestamp(base, 0.5 if timed else 1 - STRAY_TIMES)
    if column is None and target:  # of texts, these are names like others
        gap = np.isin(plain.astype(str), sorted(MISSING - {"none", "-"}))
        base = replace(base, gap=gap, values=blanked(known, gap))
    column = column or without_signs(base, connection) or _texts(base)
    if timed and column.kind == "number":
        column = as_time(column)
    if column.kind == "number":
        column = dates_in_numbers(column)
    if column.distinct <= 1 and not column.missing and not column.stray.any():
        return replace(column, kind="constant")
    if column.kind == "number" and not timed and not target and _names_rows(column):
        return replace(column, kind="identifier")
    return column


def _texts(column: Column) -> Column:
    """Return a column of texts as names of rows, as free text or as categories."""
    known = column.texts[~column.gap]
    rows = int(column.counts[~column.gap].sum())
    sample = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), SAMPLED)).astype(int))]
    words = float(np.mean([len(text.split()) for text in sample])) if len(sample) else 0.0
    length = float(np.mean([len(text) for text in sample])) if len(sample) else 0.0
    share = len(known) / max(rows, 1)
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
    named = ID_NAME.search(column.name) or CAMEL_ID.search(column.name) or NUMBERED_NAME.search(column.name)
    return bool(named or in_order or re.fullmatch(r"column_\d+", column.name))

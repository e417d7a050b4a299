"""Tell what the columns of a table of texts are: numbers, times, categories, free text, names of rows, or nothing of use."""

import re
from dataclasses import replace
from itertools import product
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd

from ninefold.init import spelling, times
from ninefold.init.columns import MISSING, SAMPLED, Column, called, meant
from ninefold.init.numbers import asked, like_neighbours, number, signed, with_codes
from ninefold.init.proposal import LEAST_ROWS
from ninefold.metrics import subsample

NESTED = r"\s*(\{.*\}|\[(\s*[\d\"'{\[-].*)?\])\s*"  # objects and lists, as JSON or as Python writes them


def describe(frame: pd.DataFrame, timed: str | None = None, target: str | None = None) -> dict[str, Column]:
    """Return what every column of a table is, by its name in the source; `frame` is all text.

    The column `timed` holds times, even where these look like numbers. In texts of `target`, "none" and "-" are values.
    """
    columns = {name: _read(name, frame[name], name == timed, name == target) for name in frame.columns}
    unsure = [name for name, column in columns.items() if any(note.kind == "ambiguous" for note in column.warnings)]
    sure = ("%d.", *(column.format[:3] for name, column in columns.items() if column.format and name not in unsure))
    for name in unsure:  # other columns of the table may tell whether days or months are first
        columns[name] = _read(name, frame[name], name == timed, name == target, first=sure)
    for name, unit in frame.attrs.get("units", {}).items():
        columns[name] = replace(columns[name], stated=unit)
    if any(column.decimal == "," for column in columns.values()):
        columns = {name: like_neighbours(column) for name, column in columns.items()}
    for name, read in columns.items():
        columns[name] = column = asked(with_codes(read)) if read.kind == "number" else read
        is_constant = column.distinct <= 1 and column.complete
        if is_constant or (column.kind == "number" and name not in (timed, target) and _names_rows(column)):
            columns[name] = replace(column, kind="constant" if is_constant else "identifier")
    codes = {text for column in columns.values() if column.type != "string" for text in column.texts[column.gap]}
    columns = {name: spelling.values_like_missing(column, codes, name == target) for name, column in columns.items()}
    columns |= times.like_serials(columns) | _continued(columns, target) | spelling.totals(columns)
    first: dict[Any, str] = {}
    for name in sorted(columns, key=lambda name: name not in (target, timed)):  # of copies, these are kept
        column = columns[name]
        if column.kind not in ("constant", "missing"):
            twin = first.setdefault((column.codes.tobytes(), *column.texts), name)
            if twin not in (name, target):  # a copy of the target is a leak, which stage 05 has to see
                columns[name] = replace(column, kind="duplicate", of=twin)
    return columns


def _continued(columns: dict[str, Column], target: str | None) -> dict[str, Column]:
    """Return columns that are blank just where another repeats its value of the row above, or goes on; with a warning."""
    gaps = {name: column.gap[column.codes] for name, column in columns.items() if column.missing}
    steps = {name: np.diff(column.codes) for name, column in columns.items() if name not in (target, *gaps)}
    ways = {"repeats that of": np.equal, "goes on from": np.greater}
    for (by, step), (how, is_so) in product(steps.items(), ways.items()):
        again = np.r_[False, is_so(step, 0)]
        if again.sum() >= LEAST_ROWS and (~again).sum() > 3:
            such = [name for name, gap in gaps.items() if gap[again].mean() > 0.98 and not gap[0]]
            if any(gaps[name][~again].mean() < 0.5 for name in such):
                return {name: columns[name].warned("continued", rows=int(again.sum()), by=by, how=how) for name in such}
    return {}


def _read(name: str, texts: pd.Series, timed: bool, target: bool, first: tuple[str, ...] = ("%d.",)) -> Column:
    """Return a column as numbers, times or texts."""
    codes, distinct = pd.factorize(texts.fillna(""))
    codes, known = codes.astype("int32"), distinct.to_numpy(dtype=object)
    plain = np.array([text.strip().lower() for text in known], dtype=object)
    gap = np.isin(plain.astype(str), sorted(MISSING))
    base = Column(name, "category", "string", codes, known, gap, meant(known, gap, {}))
    if gap.all():
        return replace(base, kind="missing")
    column = number(base, plain)
    if column is None or (column.type == "float64" and (timed or called(name, "time"))):  # 01.2015 is a month, too
        base = times.from_texts(base, timed, first)
        column = base if base.kind == "timestamp" else column
    is_period = any(note.kind == "like_periods" for note in base.warnings)  # Autumn is no unit of 2020
    column = column or (None if is_period else signed(base, plain))
    if column is None and target:  # of texts, these are names like others
        gap = np.isin(plain.astype(str), sorted(MISSING - {"none", "-"}))
        base = replace(base, gap=gap, values=meant(known, gap, {}))
    column = column or _texts(spelling.one_spelling(base, target))
    return times.from_numbers(column, timed) if column.kind == "number" and not target else column


def _texts(column: Column) -> Column:
    """Return a column of texts as names of rows, as free text or as categories; with a warning if it may be something else."""
    known = column.texts[~column.gap]
    sample = known[subsample(len(known), SAMPLED)]
    words, length = np.mean([(len(text.split()), len(text)) for text in sample], axis=0) if len(known) else (0, 0)
    share = len(known) / max(len(column.codes) - column.missing, 1)
    kind = "category"
    if len(known) >= 20 and ((words >= 3 and share >= 0.3) or (words >= 6 and len(known) >= 50)):
        kind = "text"
    elif len(known) >= 20 and share >= 0.95 and (words < 3 or length < 40) and not called(column.name, "place"):
        kind = "identifier"
    least, digit = (3, r".*\d") if called(column.name, "time", "period") else (20, r"\W*\d")
    alike = len(known) >= least and np.mean([bool(re.match(digit, text)) for text in sample]) >= 0.9
    many = kind == "identifier" or (kind == "category" and len(known) >= 50 and share >= 0.1)
    is_code = called(column.name, "id", "code", "numbered") and not called(column.name, "place")
    measured = spelling.measured(column) if kind != "text" and not is_code else None
    wide = next((text for text in sample if re.search("[０-９]", text)), None)
    if any(note.kind == "like_periods" for note in column.warnings):
        return replace(column, kind="category")
    if len(sample) and np.mean([bool(re.fullmatch(NESTED, text, re.DOTALL)) for text in sample]) >= 0.9:
        kind, column = "nested", column.warned("nested", text=sample[0])
    elif wide and np.mean([bool(re.fullmatch(r"[\d.,%/:+\- ]+", normalize("NFKC", text))) for text in sample]) > 0.9:
        column = column.warned("wide_digits", text=wide, plain=normalize("NFKC", wide))
    elif measured:
        column, kind = measured, "category"
    elif (alike or many) and not is_code:
        column = column.warned("texts", known=known, kind=kind)
    return replace(column, kind=kind)


def _names_rows(column: Column) -> bool:
    """Return whether whole numbers only name the row: none comes back, and their name or their order says so."""
    if column.type != "int64" or column.decimal or called(column.name, "part_of_time"):
        return False
    rows = len(column.codes) - column.missing
    if column.distinct < max(10, 0.98 * rows):
        return False
    low, high = column.bounds()
    every = column.distinct == rows == len(column.codes)
    # From 1 on without a gap, or rising from row to row with few gaps: rows were numbered, and some taken out.
    rising = every and high - low < 3 * rows and bool((np.diff(column.rows()) > 0).all())
    in_order = column.distinct == rows == high - low + 1 or rising
    is_long = every and low >= 1e9 and f"{low:.0e}"[1:] == f"{high:.0e}"[1:]  # of one length, as of a waybill
    return in_order or is_long or called(column.name, "id", "numbered")

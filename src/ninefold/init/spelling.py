"""Texts that stand for something else than they seem to: classes in several spellings, and missing codes that are values."""

import re
import unicodedata

import numpy as np
import pandas as pd

from ninefold.collection import layout
from ninefold.init.columns import WORDS, Column

TOTAL = re.compile(r"((?P<by>.+?)[\s:–-]+)??(TOTAL)([\s:–-]+(?P<of>.+))?".replace("TOTAL", layout.TOTAL.pattern), re.I)
MOST, FEW = 100, 2000  # texts of a column whose spellings are compared, and of one that may name parts of a total
FREQUENT = 0.05  # share of rows from which on a missing code may be a value
LETTERS = {*(word for words in WORDS["sexes"] for word in words), *WORDS["events"], *WORDS["no_events"]}
UNKNOWN = {*WORDS["unanswered"], *WORDS["missing"], "-1", "-9", "-99", "-999"} - {"nd"}  # which may be North Dakota
UNIT = r"^\s*[-+<>~]?\s*\d[\d.,']*\s*((?:[^\W\d]|[°%µ²³])[^\d]{0,11})\s*$"
PLAIN = r"(?:\d{1,3}(?:[.,' ]\d{3})+|\d+)(?:[.,]\d+)?"  # a number
MARKED = rf"^(\W{{0,3}}){PLAIN}(\D{{0,3}})$"
RANGE = r"^\D{0,3}(\d+(?:[.,]\d+)?)\s*[^\W\d]{0,3}\s*(?:-|–|to|bis)\s*\D{0,3}(\d+(?:[.,]\d+)?)\D{0,8}$"


def folded(text: str) -> str:
    """Return a text in lower case, without accents and without blanks at its ends or twice."""
    signs = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(sign for sign in signs if not unicodedata.combining(sign)).split())


def one_spelling(column: Column, target: bool) -> Column:
    """Return texts in which those that differ in case, blanks, accents (of a target: t, true) stand for the most frequent.

    Of other columns, many texts and single letters but those of a gender or an answer are left as they are: they may be codes.
    """
    if not target and len(column.texts) > MOST:
        return column
    sizes = pd.Series(column.counts, index=column.texts)[~column.gap].sort_values(ascending=False, kind="stable")
    names = [folded(text) for text in sizes.index]
    whole = {name[:1]: name for name in names if name in WORDS["answers"] and target}
    if target or {*names} <= LETTERS:
        names = [whole.get(name, name) for name in names]
    else:
        names = [name if len(name) > 1 else text.strip() for name, text in zip(names, sizes.index, strict=True)]
    for _, group in sizes.groupby(names, sort=False) if len({*names}) > 1 or (target and len(names) == 1) else ():
        best = group.groupby(group.index.str.strip(), sort=False).sum().idxmax()
        if [best] != list(group.index):  # of a target, one text in blanks, too
            shown = ", ".join(f"{text!r} ({size:,})" for text, size in group.head(5).items())
            aliases: dict[str, str | None] = {text: best for text in group.index if text != best}
            column = column.with_aliases(aliases)
            column = column.warned("spellings", shown=shown, best=best) if len(group) > 1 else column
    return column


def values_like_missing(column: Column, codes: set[str], is_target: bool) -> Column:
    """Return categories in which a frequent missing code that looks like the others is one of them; with a warning.

    So is a word such as unknown, and -1, but for a target. `codes` are missing codes of numbers and times of the same table:
    such a code is that of the export.
    """
    shapes = {_shape(text) for text in column.texts[~column.gap]} if column.kind == "category" else set()
    for text, size, is_gap in zip(column.texts, column.counts, column.gap, strict=True) if shapes else ():
        share, is_value = size / len(column.codes), not is_gap or shapes == {_shape(text)}
        words = ({*WORDS["values"]} - codes) | {"-"} | ({"nan"} if is_value and text.isupper() else set())  # of codes
        is_word = not is_gap and not is_target and folded(text) in UNKNOWN
        if is_word or (is_gap and share >= FREQUENT and text.strip().lower() in words):
            told = column.with_aliases({text: text if is_value else None})
            column = told.warned("like_missing", text=text, share=share, is_value=is_value)
    return column


def measured(column: Column) -> Column | None:
    """Return texts with a warning if they are numbers in several units, ranges that come back, such as 10-20, or numbers with marks; else None."""
    texts, rows = pd.Series(column.texts, dtype="str")[~column.gap], pd.Series(column.counts)[~column.gap]
    units = rows.groupby(texts.str.extract(UNIT)[0].str.strip(" .")).sum().sort_values(ascending=False)
    is_known = units.index.str.lower().isin(WORDS["units"]).any()
    if is_known and 2 <= len(units) <= 6 and units.sum() >= 0.9 * rows.sum():
        return column.warned("units", units=units.to_dict())
    ends = texts.str.extract(RANGE).replace({r"[.,](?=\d{3}\b)": "", ",": "."}, regex=True).astype("float64")
    is_range, is_none = ends[0] < ends[1], (ends[0] > ends[1]).mean() > 0.05  # such as 2-1, a score
    if not is_none and rows.sum() >= 2 * len(rows) and rows[is_range].sum() >= 0.5 * rows.sum():
        return column.warned("ranges", text=texts[is_range].iloc[0])
    marks = texts.str.strip().str.extract(MARKED)
    is_marked = (marks != "").any(axis=1) & marks[0].notna()
    is_number = marks[0].notna() & (~is_marked | texts.str.contains(r"\d[.,]\d"))
    if is_marked.any() and rows[marks[0].notna()].sum() > 0.9 * rows.sum() and 2 * rows[is_number].sum() > rows.sum():
        shown = {"text": texts[is_marked].iloc[0], "plain": next(iter(texts[~is_marked]), "")}
        return column.warned("marks", rows=int(rows[is_marked].sum()), **shown)
    return None


def totals(columns: dict[str, Column]) -> dict[str, Column]:
    """Return columns of texts that name totals, of another text, with blanks beside it, or above all other rows, in few rows; with a warning."""
    texts, told = [column for column in columns.values() if column.type == "string"], dict[str, Column]()
    parts = {folded(text) for column in texts if len(column.texts) <= FEW for text in column.texts[~column.gap]}
    blank = [column.gap[column.codes] for column in columns.values() if 2 * column.missing < len(column.codes)]
    for column in texts:
        named = (re.sub(r"^\s*\*+\s*", "total ", text) for text in column.texts)  # * North, of SAP
        found = (layout.TOTAL.search(text) and TOTAL.fullmatch(folded(text).strip(" :")) for text in named)
        of = pd.Series([match and (match["of"] or match["by"] or "") for match in found], dtype=object)[column.codes]
        bare = (of == "").to_numpy()
        numbers = (pd.Series(each.rows()) for each in columns.values() if each.kind == "number")
        is_largest = bare.any() and any(values[bare].min() > values[~bare].max() for values in numbers)
        rows = of.isin(parts).to_numpy() | (bare & (is_largest or np.any(blank, axis=0)))
        if 0 < 2 * rows.sum() < len(rows):
            shown = [f"row {row + 1} {column.texts[column.codes[row]]!r}" for row in np.flatnonzero(rows)[:3]]
            told[column.name] = column.warned("totals", rows=int(rows.sum()), shown=shown)
    return told


def _shape(text: str) -> str:
    """Return the kinds of signs of a text: capitals, small letters, digits."""
    return re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub(r"\d", "9", text)))

"""Recognize columns of numbers, whatever their decimal sign and currency."""

import functools
import re
from dataclasses import replace
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa

from ninefold.collection import numbers as readers
from ninefold.init.columns import SAMPLED, WORDS, Column, called

DIGITS = 17  # that a float64 tells apart; more are those of two numbers, or of a name
FAR = 0.15  # of the median: a 0 that lies so far below all others may be a missing value
STRAY = 0.01  # so many values of a number may be no numbers; they go to quarantine
BARE = re.compile(r"^\D*?(?=[.,]?\d)|\D+$")  # what stands before and after a number
Style = tuple[str | None, str | None]  # the signs of decimals and between thousands


def without_sentinel(column: Column) -> Column:
    """Return numbers in which one such as -999, far from all others, means "not known", or a spike alone below 0; with a warning."""
    known = np.unique(column.values[~np.isnan(column.values)])
    for extreme, others in ((known[0], known[1:]), (known[-1], known[:-1])) if len(known) >= 10 else ():
        texts = column.values == extreme
        often, away = int(column.counts[texts].sum()), min(abs(others - extreme)) > 0.5 * (others[-1] - others[0])
        spike = extreme < 0 <= others[0] and often > column.counts[column.values == others[0]].sum()
        if extreme in WORDS["sentinels"] and often >= max(3, 0.002 * len(column.codes)) and (away or spike):
            column = column.warned("sentinel", value=extreme, rows=often)
            return column.with_aliases(dict.fromkeys(map(str, column.texts[texts])))
    return _with_far_codes(_without_survey_codes(column, known), known)


def _with_far_codes(column: Column, known: np.ndarray) -> Column:
    """Return numbers with a warning of an extreme that comes back, farther from all others than these from one another: 32767, say."""
    ends = known[[0, -1]][np.diff(known)[[0, -1]] > known[-2] - known[1]] if len(known) >= 10 else known[:0]
    texts, others = np.isin(column.values, ends), known[~np.isin(known, ends)]
    rows = int(column.counts[texts].sum())
    if column.aliases or rows < max(3, 0.005 * len(column.codes)):
        return column
    codes = tuple(f"{end:.12g}" for end in ends)
    told = column.warned("maybe_missing", is_far=True, rows=rows, codes=codes, low=others[0], high=others[-1])
    return told.with_aliases({text: text for text in map(str, column.texts[texts])})


def _without_survey_codes(column: Column, known: np.ndarray) -> Column:
    """Return whole numbers in which 9 or -99, say, beyond a gap, means "not known", or may do so; with a warning.

    It does where the others are a scale from 0 or 1 on and the gap is wide. It may where it is far more frequent than each of
    the others, and so may 0 where it lies far below them, as of a height.
    """
    last = next((n for n, value in enumerate(known[::-1]) if value not in WORDS["survey_codes"]), 0)
    cut = len(known) - last + int(np.argmax(np.diff(known[len(known) - last - 1 :]))) if last else len(known)
    below = int(np.isin(known, WORDS["survey_codes_below"]).sum())
    is_zero = len(known) >= 10 and known[0] == 0 and bool(known[1] > FAR * np.median(known))
    if is_zero or (below and (known[below:] >= 0).all()):
        codes, others = known[: below or 1], known[below or 1 :]
    else:
        others, codes = known[:cut], known[cut:]
    gap = np.abs(np.subtract.outer(codes, others)).min(initial=np.inf)
    if len(others) < 2 or not len(codes) or gap < 2:
        return column
    texts, sizes, span = np.isin(column.values, codes), column.sizes(), others[-1] - others[0]
    rows = int(column.counts[texts].sum())
    is_scale = others[0] in (0, 1) and span == len(others) - 1 and len(others) < 10
    is_code = is_scale and gap >= max(3, 0.5 * span)
    often = is_scale or is_zero or rows > 2 * len(codes) * max(sizes[value] for value in others)
    if not often or rows < max(3, (0.02 if 0 < codes[0] < 10 else 0.005) * len(column.codes)):
        return column
    such = {"is_far": False, "rows": rows, "codes": tuple(map(int, codes)), "low": others[0], "high": others[-1]}
    column = column.warned("survey_codes", **such) if is_code else column.warned("maybe_missing", **such)
    return column.with_aliases({text: None if is_code else text for text in map(str, column.texts[texts])})


def number(column: Column, plain: np.ndarray, form: str | None = None) -> Column | None:
    """Return the column as numbers if all but a few texts are some, in the notation that fits most of them.

    `form`: one of `readers.FORMATS`, by which signs or units are read, too.
    """
    soft = column.gap | np.isin(plain.astype(str), WORDS["missing"])
    counts = column.counts
    if soft.all():
        return None
    bare = column.texts if form is None else np.array([BARE.sub("", text) for text in column.texts], dtype=object)
    styles: list[Style] = _styles(bare[~soft]) if not form or form.startswith("amount") else [(None, None)]
    parsed = {style: _parse(column.texts, style, soft, form) for style in styles}
    rows = {style: int(counts[~np.isnan(values)].sum()) for style, values in parsed.items()}
    best = max(rows, key=lambda style: rows[style])
    values, fits, known = parsed[best], rows[best], int(counts[~soft].sum())
    stray = np.isnan(values) & ~soft
    words = [text for text in column.texts[stray] if not re.search(r"\d", text)]
    if fits >= 0.8 * known and 0 < stray.sum() == len(words) <= 3 and fits < (1 - STRAY) * known:
        # A few words that come back in a column of numbers say why a number is missing.
        column = column.warned("words_among_numbers", words=words)
        soft, known, stray = soft | stray, fits, np.zeros_like(stray)
    if not fits or fits < (1 - STRAY) * known:
        return None
    kind = _type(column.texts[~soft & ~stray], values[~np.isnan(values)], best)
    if form and (kind or not form.startswith("amount")):
        kind = "float64"
    if kind is None:
        return None
    if stray.any():
        column = column.warned("no_numbers", rows=int(counts[stray].sum()), text=column.texts[stray][0])
    written = bare[~soft & ~stray]
    whole = [text.strip() for text in written if "." not in text]
    are_small = all(re.fullmatch(r"[+-]?\d{1,3}", text) for text in whole) if whole else len(bare) >= 50
    if best == (None, None) and form not in readers.FORMATS[1:] and are_small and _thousands_only(written, "."):
        column = column.warned("maybe_points", text=next(text for text in written if "." in text), whole=whole[:1])
    if best == (None, ",") and _thousands_only(written, ","):
        column = column.warned("commas")
    signs: dict[str, Any] = {"decimal": best[0], "thousands": best[1], "format": form}
    return replace(column, kind="number", values=values, gap=soft, type=kind, **signs)


def _type(texts: np.ndarray, real: np.ndarray, style: Style) -> str | None:
    """Return the type of numbers; None for codes such as 007 or +49 30 123, and for digits that a float would lose: names, not quantities."""
    if style[0] is None and any(re.fullmatch(r"\s*(0\d+|(0\d+|\+\d+)( \d+)+)\s*", text) for text in texts):
        return None
    if np.median([len(re.sub(r"\D", "", text).strip("0")) for text in texts[:SAMPLED]]) > DIGITS:
        return None
    small, written = np.abs(real).max() < 2**53, not any((style[0] or ".") in text for text in texts)
    whole = bool((real % 1 == 0).all()) and small and (written or len(np.unique(real)) <= 2)
    return "int64" if whole else None if not small and written else "float64"


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
def _query(form: str | None, decimal: str | None, thousands: str | None) -> str:
    """Return the SQL by which stage 03 reads numbers in a notation."""
    texts = ibis.table({"v": "string"}, name="texts")
    value = readers.quantity(texts["v"], form, decimal, thousands)
    return str(ibis.to_sql(texts.select(x=value), dialect="duckdb"))


def _parse(texts: np.ndarray, style: Style, gap: np.ndarray, form: str | None = None) -> np.ndarray:
    """Return the numbers that stage 03 makes of texts in a notation, NaN where one holds none or is not known."""
    read: Any = duckdb.from_arrow(pa.table({"v": pa.array(texts, pa.string())})).query("texts", _query(form, *style))
    values = np.ma.filled(read.fetchnumpy()["x"].astype("float64"), np.nan)
    values[gap] = np.nan
    return values


def _thousands_only(texts: np.ndarray, sign: str) -> bool:
    """Return whether every sign is followed by just three digits, as between thousands."""
    marked = [text.strip() for text in texts[:SAMPLED] if sign in text]
    return bool(marked) and all(re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+(\.\d*)?", text) for text in marked)


def like_neighbours(column: Column) -> Column:
    """Return a column of numbers such as 1.234 as it is read among columns with decimal commas."""
    bare = np.array([BARE.sub("", text) for text in column.texts[~column.gap]], dtype=object)
    if column.kind != "number" or column.decimal or column.thousands or not _thousands_only(bare, "."):
        return column
    values = _parse(column.texts, (",", "."), column.gap, column.format)
    if (np.isnan(values) & ~column.gap).any():
        return column
    row = int(np.flatnonzero(~np.isnan(values))[0])
    how: dict[str, Any] = {"type": "float64" if column.format else "int64", "decimal": ",", "thousands": "."}
    told = replace(column, warnings=()).warned("points", text=column.texts[row], value=values[row])
    return replace(told, values=values, **how)


def signed(column: Column, plain: np.ndarray) -> Column | None:
    """Return a column such as "$ 1,200", "45 %", "(12.50)", "14:05" or "1h 30m" as numbers, with a warning that says so."""
    sample = [text for text in column.texts[~column.gap][:SAMPLED] if text.strip()]
    if np.mean([bool(re.search(r"\d\D|\D\d", text)) for text in sample]) < 0.5:
        return None
    units = {match[1] if (match := re.search(r"\d\s*([^\W\d].*|[°µ].*)$", text)) else "" for text in sample}
    unit = f"amount {units.pop().strip()}" if len(units) == 1 and units != {""} else ""
    ways = "amount", _of_durations(sample, column.name), unit
    tried = ((form, number(column, plain, form)) for form in ways if form)
    form, found = next((pair for pair in tried if pair[1] is not None), ("", None))
    if found is None:
        return None
    row = int(np.flatnonzero(~np.isnan(found.values))[0])
    signs = sorted({sign for text in sample for sign in re.findall(r"[^\s\d.,'()+\-\u2212]+", text)} - {"DR", "CR"})
    signs = [sign for sign in signs if not re.fullmatch("|".join(readers.SCALES), sign)]
    if "%" in signs and (bare := [text for text in sample if re.search("[1-9]", text) and "%" not in text]):
        found = found.warned("mixed_shares", text=next(text for text in sample if "%" in text), other=bare[0])
    if form == unit:
        return found.warned("unit", text=column.texts[row], value=found.values[row], form=form)
    if form == "amount" and any(re.fullmatch("[A-Z]{3}", sign) and sign not in WORDS["currencies"] for sign in signs):
        return None
    return found.warned("signs", form=form, text=column.texts[row], value=found.values[row], signs=signs)


def _of_durations(sample: list[str], name: str) -> str:
    """Return the format of clock times or durations; "" for texts such as "5 m", which may be lengths.

    Of two numbers such as 45:10 the first is minutes where a third stands elsewhere, or where it is beyond the hours of a
    day, unless the name of the column says hours.
    """
    short = [int(text.split(":")[0]) for text in sample if re.fullmatch(r"\s*\+?\d+:[0-5]\d\s*", text)]
    if not any(re.search(r"\d:\d|\d\s*[^\W\d_]{2}|\d\s*[hH]|[tT]\d|\d\s*[a-z]\s*\d", text) for text in sample):
        return ""
    long = any(re.search(r"\d:\d\d:\d\d", text) for text in sample)
    return "m:s" if short and (long or 24 < max(short) < 60) and not called(name, "hours") else "h:m"

"""Recognize columns of numbers, whatever their decimal sign and currency."""

import functools
import re
from dataclasses import replace
from itertools import product
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.collection import numbers as readers
from ninefold.init.columns import SAMPLED, WORDS, Column, called

DIGITS = 17  # that a float64 tells apart; more are those of two numbers, or of a name
FAR = 0.15  # of the median: a 0 that lies so far below all others may be a missing value
STRAY = 0.01  # so many values of a number may be no numbers; they go to quarantine
MOST_DASHES = 0.02  # share of rows in which - is read as not known without a word
BARE = re.compile(r"^\D*?(?=[.,]?\d)|\D+$")  # what stands before and after a number
# How many codes there may be at each end, most first.
ENDS = sorted(product(range(6), repeat=2), key=sum, reverse=True)[:-1]
Style = tuple[str | None, str | None]  # the signs of decimals and between thousands


def with_codes(column: Column) -> Column:
    """Return numbers in which codes at the ends, such as -999 or 65535, mean "not known", or may do so; with warnings."""
    sizes = pd.Series(column.counts).groupby(column.values).sum()
    for low, high in ENDS:
        others = sizes.iloc[low : max(len(sizes) - high, 0)]
        ends = [end for end in (sizes.iloc[:low], sizes.iloc[low + len(others) :]) if len(end)]
        means = [_means(end, others, len(column.codes)) for end in ends] if len(others) > 1 else [None]
        if None in means:
            continue
        for end, is_read in zip(ends, means, strict=True):
            if not is_read and called(column.name, "id", "entity"):
                continue
            facts = {"codes": tuple(f"{code:.12g}" for code in end.index), "rows": int(end.sum())}
            facts |= {"low": others.index[0], "high": others.index[-1]}
            texts = map(str, column.texts[np.isin(column.values, end.index)])
            column = column.with_aliases({text: None if is_read else text for text in texts})
            column = column.warned("sentinel", **facts) if is_read else column.warned("maybe_missing", **facts)
        break
    return column


def _means(codes: pd.Series, others: pd.Series, total: int) -> bool | None:
    """Return True if numbers at one end are read as "not known", False if that is asked, None if there is no evidence for it.

    `codes`, `others`: rows by value, of `total` rows. Known codes are read beyond a scale, far from all others, or often and
    alone below 0. It is asked of others below 0, of those that are far more frequent, of a 0 far below all others, as of a
    height, of -1 or 0 apart from few others, and of what comes back, and is farther from all others than these from one another.
    """
    values, rest, often, rows = codes.index.to_numpy(), others.index.to_numpy(), codes.to_numpy(), others.to_numpy()
    is_word = np.isin(values, WORDS["codes"]).all()
    is_sure = is_word and np.isin(values, WORDS["sentinels"]).any()
    if often.sum() < max(3, (0.02 if 0 < values[0] < 10 else 0.002 if is_sure else 0.005) * total):
        return None
    span, gap = rest[-1] - rest[0], np.abs(np.subtract.outer(values[[0, -1]], rest[[0, -1]])).min()
    is_scale = rest[0] in (0, 1) and (span == len(rest) - 1 < 9 or (gap > 2 * span <= 60 and (rest % 1 == 0).all()))
    is_many = len(rest) >= 8 or gap > 100 * span
    is_far, is_below = is_many and often.min() >= 3, is_many and is_sure and values[-1] < 0 <= rest[0]
    is_read = (is_word and is_scale and gap >= max(3, 0.5 * span)) or (is_sure and is_far and gap > 0.5 * span)
    if is_read or (is_below and often.sum() > len(values) * rows[0]):
        return True
    is_frequent = is_word and (is_scale or often.sum() > 2 * len(values) * rows.max())
    is_apart = len(rest) >= 3 and ((is_sure and values[-1] < 0 < rest[0]) or ([*values] == [0] and gap > 2 * span))
    is_zero = is_many and [*values] == [0] and rest[0] > FAR * np.median(rest)
    comes_back = is_far and gap > len(values) * span and (2 * often.min() >= np.median(rows) or gap > 100 * span)
    return False if is_below or is_apart or (gap >= 2 and (is_frequent or is_zero)) or comes_back else None


def number(column: Column, plain: np.ndarray, form: str | None = None) -> Column | None:
    """Return the column as numbers if all but a few texts are some, in the notation that fits most of them.

    `form`: one of `readers.FORMATS`, by which signs or units are read, too.
    """
    soft = column.gap | np.isin(plain.astype(str), WORDS["missing"])
    if soft.all():
        return None
    bare = column.texts if form is None else np.array([BARE.sub("", text) for text in column.texts], dtype=object)
    styles: list[Style] = _styles(bare[~soft]) if not form or form.startswith("amount") else [(None, None)]
    parsed = {style: _parse(column.texts, style, soft, form) for style in styles}
    rows = {style: int(column.counts[~np.isnan(values)].sum()) for style, values in parsed.items()}
    best = max(rows, key=lambda style: rows[style])
    values, fits, known = parsed[best], rows[best], int(column.counts[~soft].sum())
    stray = np.isnan(values) & ~soft
    words = [text for text in column.texts[stray] if not re.search(r"\d", text)]
    if fits >= 0.8 * known and 0 < stray.sum() == len(words) <= 3 and fits < (1 - STRAY) * known:
        # A few words that come back in a column of numbers say why a number is missing.
        column = column.warned("words_among_numbers", words=words)
        soft, known, stray = soft | stray, fits, np.zeros_like(stray)
    if not fits or fits < (1 - STRAY) * known:
        return None
    if said := [text for text in column.texts[soft & ~column.gap] if text not in words]:
        column = column.warned("words_among_numbers", words=said)
    kind = _type(column.texts[~soft & ~stray], values[~np.isnan(values)], best)
    if form and (kind or not form.startswith("amount")):
        kind = "float64"
    if kind is None:
        return None
    if stray.any():
        column = column.warned("no_numbers", rows=int(column.counts[stray].sum()), text=column.texts[stray][0])
    written = bare[~soft & ~stray]
    whole = [text.strip() for text in written if "." not in text]
    are_small = all(re.fullmatch(r"[+-]?\d{1,3}", text) for text in whole) if whole else len(bare) >= 50
    if best == (None, None) and form not in readers.FORMATS[1:] and are_small and _thousands_only(written, "."):
        column = column.warned("maybe_points", text=next(text for text in written if "." in text), whole=whole[:1])
    dashes = column.counts[plain == "-"].sum() / len(column.codes)
    if dashes > MOST_DASHES:
        text = column.texts[plain == "-"][0]
        column = column.with_aliases({text: None}).warned("dashes", share=dashes, text=text)
    if np.mean([bool(re.fullmatch(r"\s*\d([.,]\d{1,6})?E\+?1\d\s*", text)) for text in written]) > 0.5:
        column = column.warned("shortened", text=written[0])
    if best == (None, ",") and _thousands_only(written, ","):
        column = column.warned("commas")
    signs: dict[str, Any] = {"decimal": best[0], "thousands": best[1], "format": form}
    return replace(column, kind="number", values=values, gap=soft, type=kind, **signs)


def _type(texts: np.ndarray, real: np.ndarray, style: Style) -> str | None:
    """Return the type of numbers; None for codes such as 007, 005.1 or +49 30 123, and for digits that a float would lose: names, not quantities."""
    if style[0] is None and any(re.fullmatch(r"\s*(0\d+(\.\d+)?|(0\d+|\+\d+)( \d+)+)\s*", text) for text in texts):
        return None
    if np.median([len(re.sub(r"\D", "", text).strip("0")) for text in texts[:SAMPLED]]) > DIGITS:
        return None
    small, written = np.abs(real).max() < 2**53, not any((style[0] or ".") in text for text in texts)
    whole = bool((real % 1 == 0).all()) and small and (written or len(np.unique(real)) <= 2)
    return "int64" if whole else None if not small and written else "float64"


def _styles(texts: np.ndarray) -> list[Style]:
    """Return the notations that the first numbers may have."""
    some = "\n".join(texts[:2000])
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
    """Return a column of numbers such as 1.234 or 1,000 as it is read among columns with decimal commas."""
    bare = np.array([BARE.sub("", text) for text in column.texts[~column.gap]], dtype=object)
    has_commas = (column.decimal, column.thousands) == (None, ",")
    if column.kind != "number" or not (
        has_commas or (not column.decimal and not column.thousands and _thousands_only(bare, "."))
    ):
        return column
    values = _parse(column.texts, (",", "."), column.gap, column.format)
    if (np.isnan(values) & ~np.isnan(column.values)).any():
        return column
    row = int(np.flatnonzero(~np.isnan(values))[0])
    how: dict[str, Any] = {
        "type": "float64" if column.format or has_commas else "int64",
        "decimal": ",",
        "thousands": ".",
    }
    kept = tuple(each for each in column.warnings if each.kind not in ("maybe_points", "commas"))
    column = replace(column, values=values, warnings=kept, **how)
    return column.warned("points", text=column.texts[row], value=values[row])


def signed(column: Column, plain: np.ndarray) -> Column | None:
    """Return a column such as "$ 1,200", "45 %", "(12.50)", "14:05" or "1h 30m" as numbers, with a warning that says so."""
    sample = [text for text in column.texts[~column.gap][:SAMPLED] if text.strip()]
    units = {match[1] if (match := re.search(r"\d\s*([^\W\d].*|[°µ€$£%].*)$", text)) else "" for text in sample}
    is_ledger = units == {"H", "S"}  # Haben and Soll, credit and debit, of which systems make different signs
    if (
        is_ledger
        or called(column.name, "place")
        or np.mean([bool(re.search(r"\d\D|\D\d", text)) for text in sample]) < 0.5
    ):
        return None
    unit = f"amount {units.pop().strip()}" if len(units) == 1 and units != {""} else ""
    durations, unsure = _of_durations(sample, column.name)
    tried = ((form, number(column, plain, form)) for form in ("amount", durations, unit) if form)
    form, found = next((pair for pair in tried if pair[1] is not None), ("", None))
    if found is None:
        return None
    known = np.flatnonzero(~np.isnan(found.values))
    row = known[np.argmax(found.values[known] < 0)]  # of numbers below 0 the first, if there is one
    written = [str(text) for text in found.texts[known[:SAMPLED]]]  # without words that say why a number is missing
    signs = sorted({sign for text in written for sign in re.findall(r"[^\s\d.,'()+\-\u2212]+", text)})
    signs = [sign for sign in signs if not re.fullmatch("(?i:dr|cr)|" + "|".join(readers.SCALES), sign)]
    if "%" in signs and (bare := [text for text in written if re.search("[1-9]", text) and "%" not in text]):
        found = found.warned("mixed_shares", text=next(text for text in sample if "%" in text), other=bare[0])
    if form == durations and unsure:
        return found.warned("clock", form=form, text=unsure, value=found.values[column.texts == unsure][0])
    if form == unit:
        return found.warned("unit", text=column.texts[row], value=found.values[row], form=form)
    if form == "amount" and any(re.fullmatch("[A-Z]{3}", sign) and sign not in WORDS["currencies"] for sign in signs):
        return None
    return found.warned("signs", form=form, text=column.texts[row], value=found.values[row], signs=signs)


def _of_durations(sample: list[str], name: str) -> tuple[str, str | None]:
    """Return the format of clock times or durations, and a text that may mean another one; "" for "5 m", which may be a length.

    Of 45:10, 45 is minutes where the name says so, where 1:05:30 stands elsewhere and has fewer hours, or if no day has so many.
    """
    short = {int(text.split(":")[0]): text for text in sample if re.fullmatch(r"\s*\+?\d+:[0-5]\d\s*", text)}
    if not any(re.search(r"\d:\d|\d\s*[^\W\d_]{2}|\d\s*[hH]|[tT]\d|\d\s*[a-z]\s*\d", text) for text in sample):
        return "", None
    if not short or called(name, "hours", "minutes"):
        return "m:s" if short and not called(name, "hours") else "h:m", None
    long = [int(match[1]) for text in sample if (match := re.match(r"\s*\+?(\d+):\d\d:\d\d", text))]
    least, most, hours = min(short), max(short), max(long, default=np.inf)
    if most > hours or (not long and 24 < most < 60):
        return "m:s", None if least > hours or most > 24 else short[least]
    return "h:m", None if most == 23 or 12 <= most <= hours < 24 else short[least]


def asked(column: Column) -> Column:
    """Return whole numbers with a warning where they may be times of day such as 1730, or names of things.

    Of times, many lie in several hundreds, none in the upper 40 of one. Names are few, far apart in uneven steps, not rounded,
    and none is rare; or they are dense in a narrow range far from 0, and come back. Of 2,500 columns of whole numbers in public
    tables, the first was said of one that is neither.
    """
    if column.type != "int64" or called(column.name, "id", "code", "entity", "coded", "version", "number"):
        return column
    known = column.rows()
    values, rows = np.unique(known[~np.isnan(known)], return_counts=True)
    low, span = values[0], np.ptp(values)
    if len(values) >= 50 and low >= 3000 and 5 * span < low and span < 2 * len(values) and 2 * len(values) < len(known):
        return column.warned("maybe_names", values=values[[0, -1]])
    if len(values) < 3 or not 0 <= values[0] <= values[-1] < 10_000:
        return column
    minutes, steps, is_spread = values[values >= 100] % 100, np.diff(values), len(np.unique(values // 100)) >= 5
    if is_spread and len(minutes) >= 20 and values[-1] <= 2400 and minutes.max() < 60 and (minutes % 50).any():
        return column.warned("like_clock", text=f"{values[-1]:.0f}")
    is_even = (np.diff(steps) >= 0).all() or (np.diff(steps) <= 0).all() or np.gcd.reduce(steps.astype(int)) > 1
    is_far = len(values) <= 20 and np.ptp(values) >= 5 * len(values) and (values % 5 == 0).mean() <= 0.5
    if is_far and not is_even and rows.min() >= 0.01 * rows.sum() and not called(column.name, "count", "part_of_time"):
        return column.warned("maybe_names", values=values[:4])
    return column

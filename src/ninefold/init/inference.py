"""Tell what the columns of a table are: numbers, times, categories, free text, names of rows, or nothing of use.

A table comes as text (see ``ninefold.core.sources``). Whatever is said of a column holds for every row of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.core import texts

# Texts that mean "not known": always, and where all else is a number or a time.
MISSING = {"", "na", "n/a", "#n/a", "#na", "null", "none", "nan", "<na>", "nat", "?", "-"}
MISSING_NUMBERS = {"unknown", "unk", "missing", "nil", "not available", "n.a.", "nd", "tbd", ".", "--", "#ref!", "#value!", "#div/0!"}  # fmt: skip
SENTINELS = {-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
STRAY = 0.01  # so many values of a number may be no numbers; they go to quarantine
STRAY_TIMES = 0.05
FEW = 20  # values that a contract lists
SAMPLED = 20_000  # distinct texts whose words are counted
SIGNS = r"[$€£¥₹%]|\b(?:USD|EUR|GBP|CHF|JPY|INR)\b"

WORDY = r"(^|[^a-z]){}([^a-z]|$)"
ID_NAME = re.compile(
    r"(^|[\W_])(id|ids|uuid|guid|key|index|idx|rownum|row_?names?|unnamed)([\W_\d]*)$|[a-z](Id|ID|Key)$", re.I
)
CAMEL_ID = re.compile(r"[a-z](Id|ID|Key)$")
NUMBERED_NAME = re.compile(r"(^|[\W_])(nr|no|num|number|ref|reference|code|sku|serial|ticket|invoice)$", re.I)
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

_DAYS = {
    r"\d{1,2}/\d{1,2}/\d{4}": ("%d/%m/%Y", "%m/%d/%Y"),
    r"\d{1,2}-\d{1,2}-\d{4}": ("%d-%m-%Y", "%m-%d-%Y"),
    r"\d{1,2}\.\d{1,2}\.\d{4}": ("%d.%m.%Y", "%m.%d.%Y"),
    r"\d{1,2}/\d{1,2}/\d{2}": ("%d/%m/%y", "%m/%d/%y"),
    r"\d{1,2}-\d{1,2}-\d{2}": ("%d-%m-%y", "%m-%d-%y"),
    r"\d{1,2}\.\d{1,2}\.\d{2}": ("%d.%m.%y",),
    r"\d{4}\.\d{1,2}\.\d{1,2}": ("%Y.%m.%d",),
    r"\d{8}": ("%Y%m%d",),
    r"\d{4}-\d{2}": ("%Y-%m",),
    r"\d{4}/\d{2}": ("%Y/%m",),
    r"\d{1,2}[- ][A-Za-z]{3}[- ]\d{4}": ("%d-%b-%Y", "%d %b %Y"),
    r"\d{1,2}[- ][A-Za-z]{3}[- ]\d{2}": ("%d-%b-%y", "%d %b %y"),
    r"\d{1,2} [A-Za-z]{3,9} \d{4}": ("%d %B %Y",),
    r"[A-Za-z]{3} \d{1,2},? \d{4}": ("%b %d, %Y", "%b %d %Y"),
    r"[A-Za-z]{3,9} \d{1,2},? \d{4}": ("%B %d, %Y", "%B %d %Y"),
    r"\d{1,2}/[A-Za-z]{3}/\d{4}": ("%d/%b/%Y",),
    r"[A-Za-z]{3}[- ]\d{4}": ("%b-%Y", "%b %Y"),
}
_CLOCKS = {
    "": ("",),
    r",? \d{1,2}:\d{2}": (" %H:%M", ", %H:%M"),
    r",? \d{1,2}:\d{2}:\d{2}": (" %H:%M:%S", ", %H:%M:%S"),
    r" \d{1,2}:\d{2}:\d{2}\.\d+": (" %H:%M:%S.%f",),
    r" \d{1,2}:\d{2} ?[APap][Mm]": (" %I:%M %p", " %I:%M%p"),
    r" \d{1,2}:\d{2}:\d{2} ?[APap][Mm]": (" %I:%M:%S %p", " %I:%M:%S%p"),
    r"T\d{1,2}:\d{2}:\d{2}": ("T%H:%M:%S",),
    r":\d{2}:\d{2}:\d{2} [+-]\d{4}": (":%H:%M:%S %z",),
    r" ?\d{4}": (" %H%M", "%H%M"),
    r" ?\d{6}": (" %H%M%S", "%H%M%S"),
}
_ISO = re.compile(r"\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]+\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?\s*")


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
    doubts: tuple[str, ...] = ()

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
        found = pd.Series(self.counts[known]).groupby(list(self.values[known])).sum()
        return {value: int(size) for value, size in found.sort_index().items()}

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest number."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))


def describe(frame: pd.DataFrame, timed: str | None = None, target: str | None = None) -> dict[str, Column]:
    """Return what every column of a table is, by its name in the source.

    Parameters
    ----------
    frame : DataFrame
        All text; what is missing is ``""`` or one of `MISSING`.
    timed : str, optional
        A column known to hold the time of a row, even where it looks like a number.
    target : str, optional
        The column to foresee: "none" and "-" are values of it, if it holds texts.
    """
    connection = duckdb.connect()
    found = {name: _describe(name, frame[name], connection, name == timed, name == target) for name in frame.columns}
    found = _same_signs(found, connection)
    first: dict[Any, list[str]] = {}
    names = sorted(found, key=lambda name: name not in (target, timed))  # of copies, these are kept
    for name in names:
        column = found[name]
        alike = first.setdefault((len(column.texts), hash(column.codes.tobytes())), [])
        if column.kind in ("constant", "missing"):
            continue
        twin = next((other for other in alike if (found[other].texts == column.texts).all()), None)
        if twin == target and twin is not None:
            continue  # a leak, which stage 05 has to see
        if twin:
            found[name] = replace(column, kind="duplicate", of=twin)
        else:
            alike.append(name)
    return found


def as_time(column: Column) -> Column:
    """Return a column of numbers as times: year, yyyymmdd, or seconds, milliseconds or days since 1970."""
    low, high = column.bounds()
    whole = column.type == "int64"
    if whole and low >= 1000 and high <= 2999:
        form = "year"
    elif whole and low >= 19_000_101 and high <= 29_991_231:
        form = "%Y%m%d"
    elif low >= 3e8 and high < 5e9:
        form = "epoch_s"
    elif low >= 3e11 and high < 5e12:
        form = "epoch_ms"
    else:
        form = "days" if high - low <= 40_000 and abs(high) < 1e5 else "seconds"
    times = texts.moments(pd.Series(column.texts), form).to_numpy("datetime64[us]").copy()
    times[column.gap] = np.datetime64("NaT")
    doubt = f"{column.name} holds numbers; they are read as {form}: processing.tables.*.columns.{column.name}.format"
    column = replace(column, kind="timestamp", type="timestamp", format=form, decimal=None, thousands=None)
    return replace(column, values=times, doubts=(doubt,))


def missing_texts(columns: Iterable[Column]) -> list[str]:
    """Return the texts of the source that mean "not known", as they stand there."""
    found = {str(text) for column in columns for text in column.texts[column.gap]}
    return ["", *sorted(found - {""})]


def agreed(column: Column, missing: list[str]) -> Column:
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
    column = _number(base, plain, connection) or _timestamp(base, 0.5 if timed else 1 - STRAY_TIMES)
    if column is None and target:  # of texts, these are names like others
        gap = np.isin(plain.astype(str), sorted(MISSING - {"none", "-"}))
        base = replace(base, gap=gap, values=blanked(known, gap))
    column = column or _signed(base, connection) or _texts(base)
    if timed and column.kind == "number":
        column = as_time(column)
    if column.kind == "number":
        column = _dates_in_numbers(column)
    if column.distinct <= 1 and not column.missing and not column.stray.any():
        return replace(column, kind="constant")
    if column.kind == "number" and not timed and not target and _names_rows(column):
        return replace(column, kind="identifier")
    return column


def _number(column: Column, plain: np.ndarray, connection: Any) -> Column | None:
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
        doubt = f"{column.name} holds {named} among its numbers; taken as not known: processing.missing"
        column, soft, known = replace(column, doubts=(*column.doubts, doubt)), soft | stray, fits
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
    doubts = column.doubts
    if stray.any():
        rows = int(counts[stray].sum())
        doubts += (f"{column.name}: {rows:,} values are no numbers, such as {column.texts[stray][0]!r}; their rows go to quarantine: processing.tables",)  # fmt: skip
    if best == (None, ",") and _thousands_only(column.texts[~soft & ~stray], ","):
        doubts += (
            f"{column.name} is read with commas between thousands: processing.tables.*.columns.{column.name}.thousands",
        )
    return replace(
        column, kind="number", type=number, values=values, gap=soft, doubts=doubts, decimal=best[0], thousands=best[1]
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
    found = connection.execute(f"SELECT CASE WHEN {fits} THEN try_cast({text} AS DOUBLE) END AS x FROM texts")
    values = found.fetchnumpy()["x"]
    values = np.ma.filled(values.astype("float64"), np.nan) if np.ma.isMaskedArray(values) else values.astype("float64")
    values[np.isinf(values)] = np.nan
    return values


def _thousands_only(texts: np.ndarray, sign: str) -> bool:
    """Return whether every sign is followed by just three digits, as between thousands."""
    marked = [text.strip() for text in texts[:SAMPLED] if sign in text]
    return bool(marked) and all(re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+(\.\d*)?", text) for text in marked)


def _same_signs(found: dict[str, Column], connection: Any) -> dict[str, Column]:
    """Return the columns, numbers such as 1.234 read like their neighbours, where those have decimal commas."""
    if not any(column.decimal == "," for column in found.values()):
        return found
    changed = dict(found)
    for name, column in found.items():
        if column.kind != "number" or column.decimal or column.thousands or not _thousands_only(column.texts, "."):
            continue
        values = _parse(column.texts, (",", "."), connection)
        values[column.gap] = np.nan
        doubt = f"{name} is read with points between thousands, as other columns have decimal commas: processing.tables.*.columns.{name}.thousands"
        if not (np.isnan(values) & ~column.gap).any():
            changed[name] = replace(
                column, type="int64", values=values, decimal=",", thousands=".", doubts=(*column.doubts, doubt)
            )
    return changed


def _timestamp(column: Column, enough: float) -> Column | None:
    """Return the column as times if at least this share of its rows holds some."""
    counts, known = column.counts, column.texts[~column.gap]
    sample = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), 500)).astype(int))]
    sample = np.array([text.strip() for text in sample], dtype=object)
    forms = _candidates(sample, min(enough, 0.9))
    best, values, fits = "", np.array([]), 0
    total = int(counts[~column.gap].sum())
    tried = {}
    for form in forms:
        parsed = _moments(column, form)
        tried[form] = (parsed, int(counts[~np.isnat(parsed)].sum()))
        if tried[form][1] > fits:
            best, (values, fits) = form, tried[form]
    if not fits or fits < enough * total:
        return None
    doubts: tuple[str, ...] = ()
    twin = _swapped(best)
    if twin in tried and tried[twin][1] == fits:
        if _steady(tried[twin][0][column.codes]) > _steady(values[column.codes]):
            best, twin, values = twin, best, tried[twin][0]
        if not (tried[best][0] == tried[twin][0]).all():
            doubts = (
                f"{column.name} may be day or month first; read as {best}: processing.tables.*.columns.{column.name}.format",
            )
    if fits < total:
        lost = column.texts[np.isnat(values) & ~column.gap][0]
        doubts += (f"{column.name}: {total - fits:,} values are no times, such as {lost!r}; their rows go to quarantine: processing.tables",)  # fmt: skip
    named = None if best == "iso" else best
    return replace(column, kind="timestamp", type="timestamp", values=values, format=named, doubts=doubts)


def _candidates(sample: np.ndarray, share: float) -> list[str]:
    """Return the formats of time whose shape at least this share of a sample has."""
    enough = share * len(sample)
    if sum(_ISO.fullmatch(text) is not None for text in sample) >= enough:
        return ["iso"]
    forms = []
    for day, days in _DAYS.items():
        if sum(re.match(day, text) is not None for text in sample) < enough:
            continue
        for clock, clocks in _CLOCKS.items():
            if sum(re.fullmatch(day + clock, text) is not None for text in sample) >= enough:
                forms += [first + second for first in days for second in clocks]
    return forms


def _moments(column: Column, form: str) -> np.ndarray:
    parsed = texts.moments(pd.Series(column.texts), form).to_numpy("datetime64[us]").copy()
    wrong = (parsed < np.datetime64("1000-01-01")) | (parsed > np.datetime64("2999-12-31"))  # "1/2/20" has no year 20
    parsed[wrong | column.gap] = np.datetime64("NaT")
    return parsed


def _swapped(form: str) -> str:
    return form.replace("%d", "@").replace("%m", "%d").replace("@", "%m")


def _steady(times: np.ndarray) -> float:
    """Return how often a time is not before that of the row above: files are often in the order of time."""
    known = times[~np.isnat(times)]
    return float((known[1:] >= known[:-1]).mean()) if len(known) > 1 else 0.0


def _dates_in_numbers(column: Column) -> Column:
    """Return numbers as times where their name and all their values say so."""
    low, high = column.bounds()
    if column.type != "int64" or column.decimal or column.thousands or not TIME_NAME.search(column.name):
        return column
    if (low >= 19_000_101 and high <= 29_991_231) or (low >= 3e8 and high < 5e9) or (low >= 3e11 and high < 5e12):
        times = as_time(column)
        if not times.stray.any():
            return times
    return column


def _signed(column: Column, connection: Any) -> Column | None:
    """Return a column such as "$ 1,200" or "45 %" as numbers under another name, without the signs."""
    known = column.texts[~column.gap]
    share = sum(re.search(SIGNS, text) is not None for text in known[:SAMPLED]) / min(len(known), SAMPLED)
    if share < 0.9 or sum(bool(re.search(r"\d", text)) for text in known[:SAMPLED]) < 0.9 * min(len(known), SAMPLED):
        return None
    bare = np.array([re.sub(SIGNS, "", text).strip() for text in column.texts], dtype=object)
    gap = np.isin(np.char.lower(bare.astype(str)), sorted(MISSING))
    number = _number(replace(column, texts=bare, gap=gap), np.char.lower(bare.astype(str)), connection)
    if number is None:
        return None
    name = f"{column.name}_number"
    doubt = f"{column.name} holds signs such as {known[0]!r}; project/processing.py makes {name} of it"
    return replace(number, name=name, raw=column.name, texts=column.texts, type="float64", doubts=(doubt,))


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

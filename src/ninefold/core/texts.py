"""Texts as values: the numbers and moments that texts hold, the same on every engine, null where they hold none."""

from __future__ import annotations

import re

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pandas as pd

from ninefold.core import engine
from ninefold.core.engine import STAMP
from ninefold.core.errors import DataError
from ninefold.core.moments import MICROSECONDS

ZONED = dt.Timestamp(timezone="UTC", scale=6)
UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "seconds": 1_000_000, "days": MICROSECONDS}  # in microseconds
FORMATS = ("iso", *UNITS, "year")
NUMBER = r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*"
DIGITS = r"\s*[+-]?\d+\s*"
WHOLE = r"\s*([+-]?\d+)\.0*\s*"
EXPONENT = r".*[eE].*"
ISO = r"\d{4}-\d{1,2}-\d{1,2}([T ]([01]?\d|2[0-3]):\d{1,2}(:\d{1,2}(\.\d+)?)?(Z| UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)?)?"  # UTC if none
# Spark reads a time with a zone as 17:00:00+02:00 alone.
FOR_SPARK = {r"([+-]\d\d)(\d\d)$": "$1:$2", r"(\d[T ]\d+:\d+)([^\d:])": "$1:00$2"}
SPACES = " \u00a0\u2009\u202f"  # all that stand between thousands where a space does
EXACT = 2**53  # below it a float64 holds every whole number
# Directives of `strptime` -> letters of Spark's patterns; and of those that are numbers, where another one touches them.
SPARK = {
    "Y": "yyyy",
    "m": "M",
    "d": "d",
    "H": "H",
    "I": "h",
    "M": "m",
    "S": "s",
    "f": "SSSSSSSSS",
    "p": "a",
    "b": "MMM",
}
SPARK |= {"B": "MMMM", "j": "D", "z": "[XXX][XX][X]"}
WIDE = {"Y": "yyyy", "m": "MM", "d": "dd", "H": "HH", "I": "hh", "M": "mm", "S": "ss", "j": "DDD"}


@ibis.udf.scalar.builtin
def trim(text: str) -> str:  # type: ignore[empty-body]
    """Return a text without spaces at its ends (the engine's own, which is four times as fast as Ibis's `strip`)."""


@ibis.udf.scalar.builtin
def try_strptime(text: str, format: str) -> STAMP:
    """Return the time that a text holds in a format, or null (DuckDB)."""


@ibis.udf.scalar.builtin(name="try_strptime")
def try_strptime_zoned(text: str, format: str) -> ZONED:  # type: ignore[valid-type]
    """Return the time that a text holds in a format with an offset (``%z``), or null (DuckDB)."""


@ibis.udf.scalar.builtin
def try_to_timestamp(text: str, format: str) -> STAMP:
    """Return the time that a text holds in a pattern, or null (Spark)."""


@ibis.udf.scalar.builtin
def make_timestamp(microseconds: int) -> STAMP:
    """Return the time so many microseconds after 1970 (DuckDB)."""


@ibis.udf.scalar.builtin
def timestamp_micros(microseconds: int) -> STAMP:
    """Return the time so many microseconds after 1970 (Spark)."""


def matches(text: ir.StringValue, pattern: str) -> ir.BooleanValue:
    """Return whether whole texts have a pattern."""
    return text.re_search(rf"\A({pattern})\z")


def whole_number(text: ir.StringValue) -> ir.IntegerValue:
    """Return the whole numbers that texts hold (int64), also as "2.0" or "1e3"; "1.7" is none."""
    value = number(text)
    near = matches(text, EXPONENT) & (value % 1 == 0) & (value.abs() < EXACT)
    return ibis.cases(
        (matches(text, DIGITS), text.try_cast("int64")),
        (matches(text, WHOLE), text.re_extract(WHOLE, 1).try_cast("int64")),
        (near, ibis.cases((near, value)).cast("int64")),
    )


def number(text: ir.StringValue) -> ir.FloatingValue:
    """Return the numbers that texts hold (float64); neither "nan" nor "inf" is one."""
    value = ibis.cases((matches(text, NUMBER), text.try_cast("float64")))
    return ibis.cases((value.abs() < float("inf"), value))


def plain_number(text: ir.StringValue, decimal: str | None, thousands: str | None) -> ir.StringValue:
    """Return numbers as `number` reads them, null where a text has other signs than those stated."""
    if not decimal and not thousands:
        return text
    decimal, thousands = decimal or ".", thousands or ""
    signs = SPACES if thousands in SPACES else thousands
    mark = f"[{re.escape(signs)}]" if signs else ""
    grouped = rf"|\d{{1,3}}({mark}\d{{2,3}})*{mark}\d{{3}}" if mark else ""
    shape = rf"\s*[+-]?((\d+{grouped})({re.escape(decimal)}\d*)?|{re.escape(decimal)}\d+)([eE][+-]?\d+)?\s*"
    plain = text
    for sign in signs:
        plain = plain.replace(sign, "")
    return ibis.cases((matches(text, shape), plain.replace(decimal, ".")))


def moment(text: ir.StringValue, form: str | None = None) -> ir.TimestampValue:
    """Return the times that texts hold, in UTC, null where a text holds none. Years are 1 to 9999.

    Parameters
    ----------
    text : StringValue
    form : str, optional
        ``iso`` (the default: 2013-09-30, 2013-09-30T17:00:00, with or without an offset), ``epoch_s``, ``epoch_ms``,
        ``seconds`` or ``days`` (numbers counted from 1970-01-01), ``year``, or a format of `strptime` (DuckDB's, which
        are C's).

    Raises
    ------
    DataError
        If the engine cannot read the format.
    """
    form, spark = form or "iso", engine.of(text) == engine.SPARK
    if form == "iso":
        text = written = trim(text)
        for pattern, replacement in FOR_SPARK.items() if spark else ():
            written = written.re_replace(pattern, replacement)
        found = ibis.cases((matches(text, ISO), written.try_cast(ZONED))).cast(STAMP)  # of no zone it drops offsets
    elif form in UNITS:
        micros = number(text) * UNITS[form]
        counted = ibis.cases((micros.abs() < 3e17, micros.round().cast("int64")))
        found = timestamp_micros(counted) if spark else make_timestamp(counted)
    elif form == "year":
        year = number(text)
        known = (year >= 1) & (year <= 9999) & (year % 1 == 0)
        found = ibis.date(ibis.cases((known, year.cast("int64"))), 1, 1).cast(STAMP)
    else:
        if shape := _shape(form):
            text = ibis.cases((matches(text, shape), text))
        if spark:
            found = try_to_timestamp(text, spark_pattern(form))
        else:
            found = try_strptime_zoned(text, form).cast(STAMP) if "%z" in form.lower() else try_strptime(text, form)
    first, last = ibis.timestamp("0001-01-01"), ibis.timestamp("9999-12-31 23:59:59")
    return ibis.cases((found.between(first, last), found))


def moments(texts: pd.Series, form: str | None = None) -> pd.Series:
    """Return the times that texts hold as a pandas Series (datetime64[us], UTC without a zone), NaT where none."""
    table = ibis.memtable(pd.DataFrame({"text": texts.astype("str").to_numpy(), "place": range(len(texts))}))
    found = table.select("place", moment=moment(table["text"], form)).order_by("place")
    parsed = engine.local().to_pyarrow(found)["moment"].to_pandas()
    return pd.Series(parsed.to_numpy("datetime64[us]"), index=texts.index)


def known_format(form: str) -> str:
    """Return a format of times as it is.

    Raises
    ------
    ValueError
        If it is none of `FORMATS`, nor one of `strptime`.
    """
    if form in FORMATS:
        return form
    if "%" not in form:
        raise ValueError(f'one of {", ".join(FORMATS)}, or a format such as "%d/%m/%Y"')
    try:
        duckdb.connect().execute("SELECT try_strptime('', ?)", [form])
    except duckdb.Error as error:
        raise ValueError(f"a format of strptime ({str(error).splitlines()[0]})") from None
    if not re.search("%[YyGcx]", form):
        raise ValueError("a format with a year, %Y or %y: a time of day is no moment")
    return form


def spark_pattern(form: str) -> str:
    """Return a format of `strptime` as Spark writes it (https://spark.apache.org/docs/latest/sql-ref-datetime-pattern.html).

    Raises
    ------
    DataError
        If Spark has no such directive.
    """
    pattern = ""
    for directive, literal, tight in _parts(form):
        if literal:
            pattern += re.sub(r"[^\W\d_]+|[\[\]{}#]", lambda found: f"'{found.group()}'", literal.replace("'", "''"))
        elif directive == "%":
            pattern += "%"
        elif directive not in SPARK:
            raise DataError(
                f"the format {form!r}: Spark cannot read %{directive}, expected of {', '.join(f'%{key}' for key in SPARK)}; "
                "set engine.backend: duckdb, or derive the time in project.processing.refine"
            )
        else:
            pattern += (WIDE if tight else SPARK)[directive]
    return pattern


def _parts(form: str) -> list[tuple[str, str, bool]]:
    """Return the directives and literals of a format, and whether a directive is a number beside which another stands."""
    parts = re.findall(r"%(.)|([^%]+)", form)
    numbers = [directive in WIDE for directive, _ in parts]
    beside = [before or after for before, after in zip([False, *numbers], [*numbers[1:], False], strict=False)]
    return [(*part, number and near) for part, number, near in zip(parts, numbers, beside, strict=True)]


def _shape(form: str) -> str | None:
    """Return the pattern of the texts of a format in which numbers touch, which must have all their digits."""
    parts = _parts(form)
    if not any(tight for _, _, tight in parts):
        return None
    return "".join(
        re.escape(text) if text else rf"\d{{{len(WIDE[key])}}}" if tight else ".*?" for key, text, tight in parts
    )

"""Read timestamps from text, in any format: the same on every engine, in UTC, null where a text holds none."""

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
from pydantic import AfterValidator

from ninefold import engine
from ninefold.collection.numbers import matches, number
from ninefold.engine_params import STAMP, ZONED
from ninefold.errors import DataError
from ninefold.params import Text
from ninefold.sentences import render
from ninefold.timestamps import MICROSECONDS

# In microseconds:
UNITS = {"epoch_s": 1e6, "epoch_ms": 1e3, "epoch_us": 1, "epoch_ns": 1e-3, "seconds": 1e6, "days": MICROSECONDS}
EXCEL = 25_569  # days from 1899-12-30, from which spreadsheets count, to 1970
FORMATS = ("iso", *UNITS, "excel", "year", "quarter", "iso_week")
OR = " | "  # between the formats of a column that is written in several
ISO = r"\d{4}-\d{1,2}-\d{1,2}([T ]([01]?\d|2[0-3]):\d{1,2}(:\d{1,2}(\.\d+)?)?(Z| UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)?)?"
_SIGNS = r"[\s/._'-]*"
QUARTER = rf"(?i)(FY ?)?(\d{{4}}|\d\d){_SIGNS}Q ?[1-4]|(Q ?[1-4]|[1-4]Q){_SIGNS}(FY ?)?(\d{{4}}|\d\d)"
ISO_WEEK = r"(?i)\d{4}[\s/-]?(W|KW|CW) ?\d{1,2}(-?[1-7])?|(W|KW|CW) ?\d{1,2}[\s/-]+\d{4}"
SEASON = r"(\d{4})\s?[/-]\s?(?:\d\d)?(\d\d)"
WEEKDAY = r"(?i)^\s*(mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]?\s*"
# Spark reads a time with a zone as 17:00:00+02:00 alone.
FOR_SPARK = {r"([+-]\d\d)(\d\d)$": "$1:$2", r"(\d[T ]\d+:\d+)([^\d:])": "$1:00$2"}
# Directives of `strptime` -> letters of Spark's patterns; WIDE has those for numbers that touch another number.
LETTERS = ("yyyy", "M", "d", "H", "h", "m", "s", "SSSSSSSSS", "a", "MMM", "MMMM", "D", "[XXX][XX][X]")
SPARK = dict(zip("YmdHIMSfpbBjz", LETTERS, strict=True))
WIDE = {"Y": "yyyy", "m": "MM", "d": "dd", "H": "HH", "I": "hh", "M": "mm", "S": "ss", "j": "DDD"}


def known_format(form: str) -> str:
    """Return a format of timestamps unchanged; raise `ValueError` if it is neither of `FORMATS` nor of `strptime`.

    A column that is written in several has them all, with " | " between: ``iso | %d/%m/%Y``.
    """
    if OR in form:
        return OR.join(known_format(each) for each in form.split(OR))
    if form in FORMATS:
        return form
    if "%" not in form:
        raise ValueError(f'one of {", ".join(FORMATS)}, or a format such as "%d/%m/%Y"')
    try:
        duckdb.connect().execute("SELECT try_strptime('', ?)", [form])
    except duckdb.Error as error:
        raise ValueError(f"a format of strptime ({str(error).splitlines()[0]})") from None
    if not re.search("%[YyGcx]", form):
        raise ValueError("a format with a year, %Y or %y: a time of day alone is no timestamp")
    return form


Format = Annotated[Text, AfterValidator(known_format)]


@ibis.udf.scalar.builtin
def trim(text: str) -> str:  # type: ignore[empty-body]
    """Return a text without spaces at its ends (the engine's own, which is four times as fast as Ibis's `strip`)."""


@ibis.udf.scalar.builtin
def try_strptime(text: str, format: str) -> ZONED:
    """Return the time that a text holds in a format, or null (DuckDB); without a zone if the format has no ``%z``."""


@ibis.udf.scalar.builtin
def try_to_timestamp(text: str, format: str) -> STAMP:
    """Return the time that a text holds in a pattern, or null (Spark)."""


def parse(text: ir.StringValue, form: str | None = None) -> ir.TimestampValue:
    """Return the timestamps that texts hold, in UTC, null where a text holds none. Years are 1 to 9999.

    `form` is one of `FORMATS`, or a format of `strptime` (DuckDB's, which are C's); of several, with " | " between, the first
    that a text fits: ``iso`` (the default: 2013-09-30, 2013-09-30T17:00:00, with or without an offset), ``epoch_s`` to
    ``epoch_ns``, ``seconds`` or ``days`` (numbers counted from 1970-01-01), ``excel`` (days of a spreadsheet, from 1899-12-30),
    ``year`` (2013, 2013/14), ``quarter`` (2013Q4, Q4 2013, 4Q13: its first day), ``iso_week`` (2013-W40, 2013W40, 2013-40,
    2013-W40-3: its Monday, or that day). The name of a weekday in front (``%a``) is passed over. Raises `DataError` if the engine cannot read a format.
    """
    first, last = ibis.timestamp("0001-01-01"), ibis.timestamp("9999-12-31 23:59:59")
    values = [_parse(text, each) for each in (form or "iso").split(OR)]
    return ibis.coalesce(*(ibis.cases((value.between(first, last), value)) for value in values))


def _parse(text: ir.StringValue, form: str) -> ir.TimestampValue:
    if form in READERS:
        return READERS[form](trim(text))
    if weekday := re.match(r"%[aA][.,]?\s*", form):
        text, form = text.re_replace(WEEKDAY, "").re_replace(r"\s+", " "), form[weekday.end() :]
    if shape := _shape(form):
        text = ibis.cases((matches(text, shape), text))
    if engine.of(text) == engine.SPARK:
        return try_to_timestamp(text, spark_pattern(form))
    return try_strptime(text, form).cast(STAMP)


def _iso(text: ir.StringValue) -> ir.TimestampValue:
    written = text
    for pattern, replacement in FOR_SPARK.items() if engine.of(text) == engine.SPARK else ():
        written = written.re_replace(pattern, replacement)
    # A cast to a type without zone would drop the offset.
    return ibis.cases((matches(text, ISO), written.try_cast(ZONED))).cast(STAMP)


def _counted(text: ir.StringValue, unit: float) -> ir.TimestampValue:
    return _after(ibis.timestamp("1970-01-01"), number(text) * unit)


def _excel(text: ir.StringValue) -> ir.TimestampValue:
    """Return the times of a spreadsheet, to the millisecond: the fraction of a day has no more digits."""
    return _after(ibis.timestamp("1970-01-01"), ((number(text) - EXCEL) * (MICROSECONDS / 1000)).round() * 1000)


def _year(text: ir.StringValue) -> ir.TimestampValue:
    """Return the first day of years, also of those that end in the next one, such as 2015/16."""
    first, second = (text.re_extract(SEASON, group).try_cast("int64") for group in (1, 2))
    year = ibis.coalesce(number(text), ibis.cases((matches(text, SEASON) & (second == (first + 1) % 100), first)))
    return _first_of(year, 1, (year >= 1) & (year <= 9999) & (year % 1 == 0))


def _after(start: ir.TimestampValue, micros: ir.NumericValue) -> ir.TimestampValue:
    """Return the time so many microseconds after another; null where a timestamp cannot hold it."""
    return start + ibis.cases((micros.abs() < 3e17, micros.round().cast("int64"))).as_interval("us")


def _first_of(year: ir.NumericValue, month: ir.IntegerValue | int, known: ir.BooleanValue) -> ir.TimestampValue:
    """Return the first moment of a month where the year is known, else null."""
    return ibis.date(ibis.cases((known, year.cast("int64"))), month, 1).cast(STAMP)


def _quarter(text: ir.StringValue) -> ir.TimestampValue:
    """Return the first day of the quarters that texts name; of years of two digits, as C does, those from 69 on are of 1900."""
    known = matches(text, QUARTER)
    year = ibis.coalesce(_digits(text, rf"(\d{{4}}|\d\d){_SIGNS}[Qq]"), _digits(text, r"(\d{4}|\d\d)$"))
    year = year + ibis.cases((year < 69, 2000), (year < 100, 1900), else_=0)
    number = ibis.coalesce(_digits(text, r"[Qq] ?([1-4])(?:\D|$)"), _digits(text, r"([1-4])[Qq]"))
    return _first_of(year, number * 3 - 2, known)


def _iso_week(text: ir.StringValue) -> ir.TimestampValue:
    """Return the Monday, or the day that is named, of the ISO weeks that texts name; null of a week 53 that a year lacks."""
    week = _digits(text, r"(?:[Ww] ?|^\d{4}[\s/-]?)(\d{1,2})")
    day = _digits(text, r"[Ww] ?\d\d-?([1-7])$").fill_null(1)
    year = ibis.coalesce(_digits(text, r"^(\d{4})"), _digits(text, r"(\d{4})$"))
    start = _first_of(year, 1, matches(text, rf"{ISO_WEEK}|\d{{4}}[\s/-]?\d\d") & week.between(1, 53))
    # In days after 1 January; week 1 has the first Thursday of the year.
    thursday = (week - 1) * 7 + 6 - (start.day_of_week.index() + 3) % 7
    known = _after(start, thursday * MICROSECONDS).year() == year
    return _after(start, ibis.cases((known, (thursday - 4 + day) * MICROSECONDS)))


def _digits(text: ir.StringValue, pattern: str) -> ir.IntegerValue:
    """Return the number that the group of a pattern holds, null where texts have none."""
    return text.re_extract(pattern, 1).try_cast("int64")


READERS: dict[str, Callable[[ir.StringValue], ir.TimestampValue]] = {
    "iso": _iso, **{name: partial(_counted, unit=unit) for name, unit in UNITS.items()},
    "excel": _excel, "year": _year, "quarter": _quarter, "iso_week": _iso_week,
}  # fmt: skip


def parse_series(texts: pd.Series, form: str | None = None) -> pd.Series:
    """Return the timestamps that texts hold as a Series (datetime64[us], UTC without a zone), NaT where none."""
    columns = pd.DataFrame({"text": texts.astype("str").to_numpy(), "place": range(len(texts))})
    table = ibis.memtable(columns, schema={"text": "string", "place": "int64"})  # without rows, no type is known
    values = table.select("place", value=parse(table["text"], form)).order_by("place")
    parsed = engine.local().to_pyarrow(values)["value"].to_pandas()
    return pd.Series(parsed.to_numpy("datetime64[us]"), index=texts.index)


def spark_pattern(form: str) -> str:
    """Return a format of `strptime` as Spark writes it (https://spark.apache.org/docs/latest/sql-ref-datetime-pattern.html).

    Raises `DataError` if Spark has no such directive.
    """
    pattern = ""
    for directive, literal, tight in _parts(form):
        if literal:
            pattern += re.sub(r"[^\W\d_]+|[\[\]{}#]", r"'\g<0>'", literal.replace("'", "''"))
        elif directive == "%":
            pattern += "%"
        elif directive not in SPARK:
            raise DataError(render("collection", "spark_format", form=form, directive=directive, known=SPARK))
        else:
            pattern += (WIDE if tight else SPARK)[directive]
    return pattern


def _parts(form: str) -> list[tuple[str, str, bool]]:
    """Return the directives and literals of a format, and whether a directive is a number that touches another one."""
    parts = re.findall(r"%(.)|([^%]+)", form)
    numbers = [directive in WIDE for directive, _ in parts]
    beside = [before or after for before, after in zip([False, *numbers], [*numbers[1:], False], strict=False)]
    return [(*part, number and near) for part, number, near in zip(parts, numbers, beside, strict=True)]


def _shape(form: str) -> str | None:
    """Return the pattern of texts in a format in which numbers touch: these must have all their digits."""
    parts = _parts(form)
    if not any(tight for _, _, tight in parts):
        return None
    digits = (rf"\d{{{len(WIDE[key])}}}" if tight else ".*?" for key, _, tight in parts)
    return "".join(re.escape(part[1]) or pattern for part, pattern in zip(parts, digits, strict=True))

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
from ninefold.collection.numbers import WORDS, matches, number, whole_number
from ninefold.engine_params import STAMP, ZONED
from ninefold.errors import DataError
from ninefold.params import Text
from ninefold.sentences import render
from ninefold.timestamps import MICROSECONDS

COUNTED = WORDS["counted"]
PARTS = {name: (months, WORDS["part"].replace("WORD", word)) for name, (months, word) in WORDS["parts"].items()}
FORMATS = ("iso", *COUNTED, "year", *PARTS, "term", "iso_week", "era")
OR = " | "  # between the formats of a column that is written in several
SPAN = re.compile(r"(\w+|.*%\w)(.+)\.{3}")  # a format, a sign, and "..." for what is behind the sign
ISO = r"\d{4}-\d{1,2}-\d{1,2}([T ]([01]?\d|2[0-3]):\d{1,2}(:\d{1,2}(\.\d+)?)?(Z| UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)?)?"
ERA = WORDS["era"].replace("NAMES", "|".join(WORDS["eras"]))
ISO_WEEK = r"(?i)\d{4}[\s/-]?(W|KW|CW) ?\d{1,2}(-?[1-7])?|(W|KW|CW) ?\d{1,2}[\s/-]+\d{4}"
SEASON = r"(\d{4})\s?[/-]\s?(?:\d\d)?(\d\d)"
WEEKDAY = r"(?i)^\s*(mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]?\s*"
FOR_SPARK, SPARK, WIDE = (WORDS[name] for name in ("for_spark", "spark", "spark_wide"))
PART = re.compile("((%[YmdHIMSj](?=%[YmdHIMSj])|(?<=%[YmdHIMSj])%[YmdHIMSj])|%.|[^%]+)")  # second: if it touches one


def known_format(form: str) -> str:
    """Return a format of timestamps unchanged; raise `ValueError` if it is neither of `FORMATS` nor of `strptime`.

    A column that is written in several has them all, with " | " between: ``iso | %d/%m/%Y``.
    """
    if OR in form:
        return OR.join(known_format(each) for each in form.split(OR))
    if SPAN.sub(r"\1", form) in FORMATS:
        return form
    if "%" not in form:
        raise ValueError(f'one of {", ".join(FORMATS)}, or a format such as "%d/%m/%Y"')
    try:
        duckdb.connect().execute("SELECT try_strptime('', ?)", [form])
    except duckdb.Error as error:
        raise ValueError(f"a format of strptime ({str(error).splitlines()[0]})") from None
    if not re.search("%[YyGcx]", form):
        raise ValueError("a format with a year, %Y or %y: a time of day alone is no timestamp")
    if re.search(r"%(\w).*%\1", form):
        raise ValueError('a format with nothing twice; for a span of time, its beginning: "%Y-%m-%d %H:%M - ..."')
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
    that a text fits: ``iso`` (the default, with or without an offset), ``epoch_s`` to ``epoch_ns``, ``seconds``, ``days`` (numbers counted
    from 1970-01-01), ``excel`` (days from 1899-12-30), ``ticks``, ``filetime``, ``webkit`` (of .NET, Windows, Chrome), ``year`` (2013/14),
    ``quarter`` (2013Q4, 4Q13, 2013T4: its first day), ``half_year`` (2013H2, S2 2013), ``term`` (2013-2014 T1), ``iso_week`` (2013-W40,
    2013-W40-3: its Monday, or that day), ``era`` (平成30年4月, 112/01/02). What ``...`` stands for is passed over, as in ``iso - ...``, and
    so is a weekday in front (``%a``). Raises `DataError` if the engine cannot read a format.
    """
    first, last = ibis.timestamp("0001-01-01"), ibis.timestamp("9999-12-31 23:59:59")
    values = [_parse(text, each) for each in (form or "iso").split(OR)]
    return ibis.coalesce(*(ibis.cases((value.between(first, last), value)) for value in values))


def _parse(text: ir.StringValue, form: str) -> ir.TimestampValue:
    if span := SPAN.fullmatch(form):
        text, form = text.re_extract(rf"^(.*){re.escape(span[2])}", 1), span[1]
    if form in READERS:
        return READERS[form](trim(text))
    if weekday := re.match(r"%[aA][.,]?\s*", form):
        text, form = text.re_replace(WEEKDAY, "").re_replace(r"\s+", " "), form[weekday.end() :]
    if re.fullmatch("%[dmy](%[dmyYHMS])+", form):  # spreadsheets drop the zero in front
        text = ibis.cases((matches(text, r"(\d\d)*\d"), ibis.literal("0") + text), else_=text)
    if shape := _shape(form):
        text = ibis.cases((matches(text, shape), text))
    if engine.of(text) == engine.SPARK:
        return try_to_timestamp(text, spark_pattern(form))
    if "%f" in form:  # of which DuckDB reads no more than six
        text = text.re_replace(r"([.,]\d{6})\d+", r"\1")
    return try_strptime(text, form).cast(STAMP)


def _iso(text: ir.StringValue) -> ir.TimestampValue:
    written = text
    for pattern, replacement in FOR_SPARK.items() if engine.of(text) == engine.SPARK else ():
        written = written.re_replace(pattern, replacement)
    # A cast to a type without zone would drop the offset.
    return ibis.cases((matches(text, ISO), written.try_cast(ZONED))).cast(STAMP)


def _counted(text: ir.StringValue, unit: float, before: int, step: int) -> ir.TimestampValue:
    """Return times counted in a unit, so many of them before 1970, to so many microseconds; a float64 may not hold the number."""
    whole, value = whole_number(text), number(text)
    value = ibis.cases((value >= 0, value)) if before else value  # such counts begin long before 1970, and not below 0
    count = ibis.coalesce(ibis.cases((whole > 0, (whole - before) * unit)), (value - before) * unit)
    return _after(ibis.timestamp("1970-01-01"), count, step)


def _year(text: ir.StringValue) -> ir.TimestampValue:
    """Return the first day of years, also of those that end in the next one, such as 2015/16."""
    first, second = (text.re_extract(SEASON, group).try_cast("int64") for group in (1, 2))
    year = ibis.coalesce(number(text), ibis.cases((matches(text, SEASON) & (second == (first + 1) % 100), first)))
    return _first_of(year, 1, (year >= 1) & (year <= 9999) & (year % 1 == 0))


def _after(start: ir.TimestampValue, micros: ir.NumericValue, step: int = 1) -> ir.TimestampValue:
    """Return the time so many microseconds after another, to so many; null where a timestamp cannot hold it."""
    return start + ibis.cases((micros.abs() < 3e17, (micros / step).round().cast("int64") * step)).as_interval("us")


def _first_of(year: ir.NumericValue, month: ir.IntegerValue | int, known: ir.BooleanValue) -> ir.TimestampValue:
    """Return the first moment of a month where the year is known, else null."""
    return ibis.date(ibis.cases((known, year.cast("int64"))), month, 1).cast(STAMP)


def _part(text: ir.StringValue, name: str, later: int = 0) -> ir.TimestampValue:
    """Return the first day of the parts of years that texts name, so many months later; as in C, years from 69 on are of 1900."""
    months, pattern = PARTS[name]
    first, *numbers, last = (text.re_extract(pattern, group).try_cast("int64") for group in range(1, 6))
    year, number = ibis.coalesce(first, last), ibis.coalesce(*numbers)
    year = year + ibis.cases((year < 69, 2000), (year < 100, 1900), else_=0)
    month = (number - 1) * months + later
    return _first_of(year + month // 12, month % 12 + 1, number * months <= 12)


def _term(text: ir.StringValue) -> ir.TimestampValue:
    """Return the first day of the terms of school years: of two or three, from September on."""
    season, first = (text.re_extract(SEASON, group) for group in (0, 1))
    text = ibis.cases((_year(season).notnull(), text.replace(season, first)))
    return ibis.coalesce(_part(text, "quarter", 8), _part(text, "half_year", 8))


def _era(text: ir.StringValue) -> ir.TimestampValue:
    """Return the first day of what texts name by the year of an era: a year, month or day."""
    era, year, month, day = (text.re_extract(ERA, group) for group in range(1, 5))
    first = ibis.cases(*((matches(era, name), before) for name, before in WORDS["eras"].items()))
    year = (first + year.replace("元", "1").try_cast("int64")).cast("string")
    parts = [year, *(part.nullif("").fill_null("1") for part in (month, day))]
    return ibis.cases((matches(text, ERA), _iso(ibis.literal("-").join(parts))))


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
    "iso": _iso, "year": _year, "term": _term, "iso_week": _iso_week, "era": _era,
    **{name: partial(_counted, unit=unit, before=before, step=step) for name, (unit, before, step) in COUNTED.items()},
    **{name: partial(_part, name=name) for name in PARTS},
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
    for part, tight in PART.findall(form):
        directive = part[1:]
        if part[0] != "%":
            pattern += re.sub(r"[^\W\d_]+|[\[\]{}#]", r"'\g<0>'", part.replace("'", "''"))
        elif directive == "%":
            pattern += "%"
        elif directive not in SPARK:
            raise DataError(render("collection", "spark_format", form=form, directive=directive, known=SPARK))
        else:
            pattern += (WIDE if tight else SPARK)[directive]
    return pattern


def _shape(form: str) -> str | None:
    """Return the pattern of texts in a format in which numbers touch: these must have all their digits."""
    parts = PART.findall(form)
    digits = {part: rf"\d{{{len(WIDE[part[1]])}}}" if tight else ".*?" for part, tight in parts if part[0] == "%"}
    return "".join(digits.get(part, re.escape(part)) for part, _ in parts) if any(tight for _, tight in parts) else None

"""Read timestamps from text, in any format: the same on every engine, in UTC, null where a text holds none."""

from __future__ import annotations

import re
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
from ninefold.timestamps import MICROSECONDS

UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "seconds": 1_000_000, "days": MICROSECONDS}  # in microseconds
FORMATS = ("iso", *UNITS, "year")
ISO = r"\d{4}-\d{1,2}-\d{1,2}([T ]([01]?\d|2[0-3]):\d{1,2}(:\d{1,2}(\.\d+)?)?(Z| UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)?)?"
# Spark reads a time with a zone as 17:00:00+02:00 alone.
FOR_SPARK = {r"([+-]\d\d)(\d\d)$": "$1:$2", r"(\d[T ]\d+:\d+)([^\d:])": "$1:00$2"}
# Directives of `strptime` -> letters of Spark's patterns; WIDE has those for numbers that touch another number.
LETTERS = ("yyyy", "M", "d", "H", "h", "m", "s", "SSSSSSSSS", "a", "MMM", "MMMM", "D", "[XXX][XX][X]")
SPARK = dict(zip("YmdHIMSfpbBjz", LETTERS, strict=True))
WIDE = {"Y": "yyyy", "m": "MM", "d": "dd", "H": "HH", "I": "hh", "M": "mm", "S": "ss", "j": "DDD"}


def known_format(form: str) -> str:
    """Return a format of timestamps unchanged; raise `ValueError` if it is neither of `FORMATS` nor of `strptime`."""
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

    `form` is ``iso`` (the default: 2013-09-30, 2013-09-30T17:00:00, with or without an offset), ``epoch_s``, ``epoch_ms``,
    ``seconds`` or ``days`` (numbers counted from 1970-01-01), ``year``, or a format of `strptime` (DuckDB's, which are C's).
    Raises `DataError` if the engine cannot read the format.
    """
    form, spark = form or "iso", engine.of(text) == engine.SPARK
    if form == "iso":
        text = written = trim(text)
        for pattern, replacement in FOR_SPARK.items() if spark else ():
            written = written.re_replace(pattern, replacement)
        # A cast to a type without zone would drop the offset.
        value = ibis.cases((matches(text, ISO), written.try_cast(ZONED))).cast(STAMP)
    elif form in UNITS:
        micros = number(text) * UNITS[form]
        counted = ibis.cases((micros.abs() < 3e17, micros.round().cast("int64")))
        value = ibis.timestamp("1970-01-01") + counted.as_interval("us")
    elif form == "year":
        year = number(text)
        known = (year >= 1) & (year <= 9999) & (year % 1 == 0)
        value = ibis.date(ibis.cases((known, year.cast("int64"))), 1, 1).cast(STAMP)
    else:
        if shape := _shape(form):
            text = ibis.cases((matches(text, shape), text))
        value = try_to_timestamp(text, spark_pattern(form)) if spark else try_strptime(text, form).cast(STAMP)
    first, last = ibis.timestamp("0001-01-01"), ibis.timestamp("9999-12-31 23:59:59")
    return ibis.cases((value.between(first, last), value))


def parse_series(texts: pd.Series, form: str | None = None) -> pd.Series:
    """Return the timestamps that texts hold as a Series (datetime64[us], UTC without a zone), NaT where none."""
    table = ibis.memtable(pd.DataFrame({"text": texts.astype("str").to_numpy(), "place": range(len(texts))}))
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
            pattern += re.sub(
                r"[^\W\d_]+|[\[\]{}#]", lambda letters: f"'{letters.group()}'", literal.replace("'", "''")
            )
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
    return "".join(
        re.escape(text) if text else rf"\d{{{len(WIDE[key])}}}" if tight else ".*?" for key, text, tight in parts
    )

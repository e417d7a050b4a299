"""Read numbers from text, such as ``1,5`` or ``1.234,50``: the same on every engine, null where a text holds none."""

from __future__ import annotations

import re

import ibis
import ibis.expr.types as ir

NUMBER = r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*"
DIGITS = r"\s*[+-]?\d+\s*"
WHOLE = r"\s*([+-]?\d+)\.0*\s*"
EXPONENT = r".*[eE].*"
SPACES = " \u00a0\u2009\u202f"  # each may separate thousands where a space does
EXACT = 2**53  # below it a float64 holds every whole number


def matches(text: ir.StringValue, pattern: str) -> ir.BooleanValue:
    """Return whether whole texts match a pattern."""
    return text.re_search(rf"\A({pattern})\z")


def number(text: ir.StringValue) -> ir.FloatingValue:
    """Return the numbers that texts hold (float64); neither "nan" nor "inf" is one."""
    value = ibis.cases((matches(text, NUMBER), text.try_cast("float64")))
    return ibis.cases((value.abs() < float("inf"), value))


def whole_number(text: ir.StringValue) -> ir.IntegerValue:
    """Return the whole numbers that texts hold (int64), also as "2.0" or "1e3"; "1.7" is none."""
    value = number(text)
    near = matches(text, EXPONENT) & (value % 1 == 0) & (value.abs() < EXACT)
    return ibis.cases(
        (matches(text, DIGITS), text.try_cast("int64")),
        (matches(text, WHOLE), text.re_extract(WHOLE, 1).try_cast("int64")),
        (near, ibis.cases((near, value)).cast("int64")),
    )


def plain_number(text: ir.StringValue, decimal: str | None, thousands: str | None) -> ir.StringValue:
    """Return numbers as `number` reads them, such as "1.5" for "1,5"; null where a text has other signs.

    `decimal` None stands for a point, `thousands` None for nothing between them; a space also for non-breaking and thin ones.
    """
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

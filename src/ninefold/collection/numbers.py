"""Read numbers from text, such as ``1,5`` or ``1.234,50``: the same on every engine, null where a text holds none."""

import re
from pathlib import Path

import ibis
import ibis.expr.types as ir
import yaml

from ninefold.params import LARGEST

NUMBER = r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*"
WHOLE = r"\s*([+-]?\d+)\.0*\s*"
SPACES = " \u00a0\u2009\u202f"  # each may separate thousands where a space does
BLANKS = rf"[\s{SPACES}]+$"
EXACT = 2**53  # below it a float64 holds every whole number
FORMATS = ("amount", "h:m", "m:s", "hhmm")  # signs around a number; durations, of 1:30 hours or minutes first; 1730
WORDS = yaml.safe_load(Path(__file__).with_name("units.yaml").read_text("utf-8"))
CURRENCY, SPANS, SCALES = WORDS["currency"], WORDS["minutes"], WORDS["scales"]
AMOUNT = WORDS["amount"].replace("CURRENCY", CURRENCY).replace("SPACES", SPACES).replace("SCALES", "|".join(SCALES))
COUNT, UNIT_ENDS = r"(\d+(?:[.,]\d+)?)", r"(?:[^a-zí]|\z)"
CLOCK = r"([+-]?)(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?\s*(?:([ap])\.?m\.?)?"


def matches(text: ir.StringValue, pattern: str) -> ir.BooleanValue:
    """Return whether whole texts match a pattern."""
    return text.re_search(rf"\A({pattern})\z")


def number(text: ir.StringValue) -> ir.FloatingValue:
    """Return the numbers that texts hold (float64); neither "nan" nor "inf" is one, nor what is beyond 1e30."""
    value = ibis.cases((matches(text, NUMBER), text.try_cast("float64")))
    return ibis.cases((value.abs() <= LARGEST, value))


def whole_number(text: ir.StringValue) -> ir.IntegerValue:
    """Return the whole numbers that texts hold (int64), also as "2.0" or "1e3"; "1.7" is none."""
    value = number(text)
    near = text.re_search("[eE]") & (value % 1 == 0) & (value.abs() < EXACT)
    return ibis.cases(
        (matches(text, r"\s*[+-]?\d+\s*"), text.try_cast("int64")),
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
    signs = SPACES if thousands and thousands in SPACES else thousands
    mark = f"[{re.escape(signs)}]" if signs else ""
    grouped = rf"|\d{{1,3}}({mark}\d{{2,3}})*{mark}\d{{3}}" if mark else ""
    shape = rf"\s*[+-]?((\d+{grouped})({re.escape(decimal)}\d*)?|{re.escape(decimal)}\d+)([eE][+-]?\d+)?\s*"
    plain = text
    for sign in signs:
        plain = plain.replace(sign, "")
    return ibis.cases((matches(text, shape), plain.replace(decimal, ".")))


def quantity(
    text: ir.StringValue, form: str | None = None, decimal: str | None = None, thousands: str | None = None
) -> ir.FloatingValue:
    """Return the numbers that texts hold (float64), null where one holds none.

    `form` is one of `FORMATS`, None of plain numbers: ``amount`` drops currencies and %, "(1,234.50)", "1,234-", "1,234 DR" or "1,234 Dr" are
    negative, 1.2k is 1200; ``amount kg`` are those that end with the unit; others are times and durations, see `minutes`.
    """
    form, _, unit = (form or "").partition(" ")
    if unit:
        text = text.re_replace(BLANKS, "")
        text = ibis.cases((text.endswith(unit), text.left(text.length() - len(unit)).re_replace(BLANKS, "")))
    if form == "amount":
        before, sign, plain, scale, after = (text.re_extract(AMOUNT, group) for group in range(1, 6))
        value = number(plain_number(plain, decimal, thousands))
        value *= ibis.cases(*((matches(scale, unit), factor) for unit, factor in SCALES.items()), else_=1)
        negative = ibis.or_(*(each.re_search(r"[-\x{2212}(Dd]") for each in (before, sign, after)))
        whole = matches(text, AMOUNT) & (text.contains("(") == text.contains(")"))
        return ibis.cases((whole, ibis.cases((negative, -value), else_=value)))
    return minutes(text, form) if form else number(plain_number(text, decimal, thousands))


def minutes(text: ir.StringValue, form: str = "h:m") -> ir.FloatingValue:
    """Return clock times and durations in minutes (float64): 14:05, 2:05 pm, 1h 30m, 14h05, 2 days 03:04:05, PT1H30M.

    Two numbers such as 1:30 are hours and minutes, with `form` ``m:s`` minutes and seconds; with ``hhmm``, 930 is 9:30. A day
    before a clock time has its own sign, as Python writes it: "-1 day, 23:59:00" is one minute below zero.
    """
    text = text.strip().lower()
    if form == "hhmm":
        digits = text.lpad(4, "0")
        text = ibis.cases((matches(text, r"\d{1,4}"), digits.left(2) + ":" + digits.right(2)), else_=text)
    is_iso = matches(text, r"[+-]?p.*\d.*") & ~matches(text, "[^t]*[my].*")  # months have no fixed length
    iso, clock = text.replace("p", "").replace("t", " "), matches(text, r"\d+\s*h\s*[0-5]\d")
    text = ibis.cases((is_iso, iso), (clock, text + "m"), else_=text)
    spans = "".join(rf"(?:{COUNT}\s*(?:{unit})\.?[\s,]*(?:(?:and|und|et|y)\s+)?)?" for unit in SPANS)
    total: ir.FloatingValue = ibis.literal(0.0)
    for unit, length in SPANS.items():
        counted = text.re_extract(rf"{COUNT}\s*(?:{unit}){UNIT_ENDS}", 1).replace(",", ".")
        total += counted.try_cast("float64").fill_null(0.0) * length
    minus, hours, sixtieths, seconds, half = (text.re_extract(CLOCK, group) for group in range(1, 6))
    first, second, third = (each.try_cast("float64").fill_null(0.0) for each in (hours, sixtieths, seconds))
    first = ibis.cases((half == "p", first % 12 + 12), (half == "a", first % 12), else_=first)
    is_short = ((seconds + half).fill_null("") == "") & (form == "m:s")
    clock = ibis.cases((is_short, first + second / 60), else_=first * 60 + second + third / 60)
    total = ibis.cases((text.startswith("-"), -total), else_=total)
    total += ibis.cases((minus == "-", -clock), else_=clock)
    return ibis.cases((matches(text, rf"[+-]?\s*{spans}(?:{CLOCK})?") & text.re_search(r"\d"), total))

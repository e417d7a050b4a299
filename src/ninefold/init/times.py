"""Recognize columns of times: texts in one or several formats, and numbers that count days, seconds, months or years."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ninefold import timestamps
from ninefold.collection import datetimes
from ninefold.init.columns import STRAY_TIMES, WORDS, Column, called
from ninefold.metrics import subsample

SAMPLE, RARE = 500, 0.02  # distinct texts whose forms are looked at; share of them below which a form is a stray one
LIKELY = 0.5  # share of the rows from which on a column that is no time is said to be nearly one
STEADY = 0.95  # share of rows in order of time from which on this settles which of two readings is right
LONE = np.timedelta64(40 * 365, "D")  # a last day of December or first of January so far from all other times is none
EXCEL, YEAR = np.datetime64("1899-12-30"), 366  # day 0 of Excel; days
FORMS, EXCHANGED = WORDS["times"], str.maketrans("dm", "md")
PERIODS = FORMS["periods"].replace("PART", FORMS["parts"])
ZONES = re.compile(FORMS["zones"])
PARTS = {name: pattern for name, (_, pattern) in datetimes.PARTS.items()}
PATTERNS = {"iso": datetimes.ISO, **PARTS, **FORMS["digits"], "era": FORMS["era_begins"] + f"(?:{datetimes.ERA})"}
PATTERNS["term"] = "|".join(pattern.replace(r"(\d{4}|\d\d)", datetimes.SEASON) for pattern in PARTS.values())
PATTERNS["iso_week"] = rf"{datetimes.ISO_WEEK}|\d{{4}}[\s/-](1[3-9]|[2-4]\d|5[0-3])"


def from_texts(column: Column, named: bool, first: tuple[str, ...] = ("%d.",)) -> Column:
    """Return a column of texts as times, or as it is, with a warning where many of its texts look like times.

    `named`: the user says that it holds times; then half of the rows are enough. A format that begins as one of `first`
    is preferred to that with day and month exchanged.
    """
    says = named or called(column.name, "time", "period")
    known = column.texts[~column.gap]
    sample = [text.strip() for text in known[subsample(len(known), SAMPLE)]]
    ends = {text[-6:] for text in sample if re.search(FORMS["ends"], text)}
    mark = "~" if len(ends) > 5 else "-"  # more than offsets from UTC: 00:13-00:38 is a span of time
    likely = [re.sub(FORMS["ends"], mark, text) for text in sample if says or not re.fullmatch(FORMS["unsure"], text)]
    votes = Counter(form for text in likely for form in forms(text))
    for why, pattern in FORMS["unread"].items():
        other = [text for text in sample if re.search(pattern, text) and re.search(r"\d", text)]
        if other and len(other) >= LIKELY * len(sample) > max(votes.values(), default=0):
            return column.warned("unread", text=other[0], why=why)
    if votes["year"] > (1 - RARE) * len(sample):  # 2011/12 in all rows is no month, and no week
        votes = Counter(year=votes["year"])
    votes["iso_week"] *= votes["iso_week"] > LIKELY * len(sample)  # a 13th month is no week
    likely = [form.replace(mark, "-") for form, count in votes.most_common(12) if count >= RARE * len(sample)]
    dated, parsed = _without_open_ends(column, {form: _parse(column, form) for form in likely})
    none = {form: np.isnat(values).sum() for form, values in parsed.items()}
    others = ((form, form.translate(EXCHANGED)) for form in none if form.startswith(first))
    wrong = [other for form, other in others if none[form] <= none.get(other, -1) and not other.startswith(first)]
    parsed = {form: values for form, values in parsed.items() if form not in wrong}
    dated, values, chosen = _combined(dated, parsed)
    stray = np.isnat(values) & ~dated.gap
    lost, total = (int(column.counts[which].sum()) for which in (stray, ~dated.gap))
    if lost > LIKELY * total or not chosen:
        return _like_periods(column)
    such = {"rows": lost, "such": column.example(stray, 2)}
    if lost > STRAY_TIMES * total and not named:
        is_version = not says and all("%y" in form for form in chosen)  # 1.12.10 may be one
        return column if is_version else column.warned("nearly_times", forms=chosen, **such)
    return _as_times(dated.warned("no_times", **such) if lost else dated, values, chosen)


def from_numbers(column: Column, named: bool) -> Column:
    """Return a column of numbers as times where they are plausible ones and its name, or the user (`named`), says so.

    A warning tells of numbers that look like times, and whose names do not say so.
    """
    rows, number = column.counts * ~(column.gap | np.isin(column.values, FORMS["open"])), column.values
    inside = {form: rows[(number >= least) & (number < most)].sum() for form, (least, most) in FORMS["counted"].items()}
    form = max(inside, key=lambda form: inside[form])
    fits = inside[form] >= (LIKELY if named else 1 - STRAY_TIMES) * rows.sum()
    form = "iso_week" if form == "%Y%m" and rows[number % 100 > 12].sum() > LIKELY * rows.sum() else form
    low, high = column.bounds()
    if not fits and column.type == "int64" and (named or called(column.name, "time")):
        dated = from_texts(column, named)
        if dated.kind == "timestamp" and "1900" <= str(dated.times().min()) <= str(dated.times().max()) < "2101":
            return dated
    if not named:
        # Small numbers may well be quantities, unless the name speaks of dates.
        is_small = form in ("year", "days", "excel")
        name = re.sub("(?<!date)time(?!stamp)", "", column.name, flags=re.I) if is_small else column.name
        whole = column.type == "int64" or form in ("excel", "epoch_s")
        known = column.values[~column.gap]
        if whole and not fits and len(known) > 10 and np.all((known // 100 % 100 <= 12) & (known % 100 <= 31)):
            values = _parse(column, "%y%m%d")
            is_day = not np.isnat(values[~column.gap]).any()
            return column.warned("like_times", form="%y%m%d", **_first(column.texts, values)) if is_day else column
        if not fits or not whole or column.decimal or column.thousands:
            return column
        if not called(name, "time") and not (form in ("%Y%m", "iso_week") and called(name, "period")):
            is_long = form.startswith(("%Y%m%d", "%Y%j", "iso_week")) and column.distinct > 10
            if not is_long or np.isnat(values := _parse(column, form)[~column.gap]).any():
                return column
            return column.warned("like_times", form=form, **_first(column.texts[~column.gap], values))
    elif not fits:
        form = "days" if high - low <= 40_000 and abs(high) < 1e5 else "seconds"
    dated, parsed = _without_open_ends(column, {form: _parse(column, form)})
    values = parsed[form]
    lost = column.counts[np.isnat(values) & ~dated.gap].sum()
    # Seconds from an unknown start: from the first of all, or from row to row.
    is_other = not fits and form == "seconds" and low > 0.01 * high and _steady(values[column.codes]) <= STEADY
    return column if is_other or lost > LIKELY * rows.sum() * named else _as_times(dated, values, [form])


def like_serials(columns: dict[str, Column]) -> dict[str, Column]:
    """Return numbers among the days of Excel that a column of the table holds, with a warning."""
    days = [column.times() for column in columns.values() if column.format == "excel"]
    if not days:
        return {}
    low, high = ((end - EXCEL) / np.timedelta64(1, "D") for end in (min(map(np.min, days)), max(map(np.max, days))))
    found = {}
    for name, column in columns.items():
        if column.type != "int64" or column.distinct <= 10:
            continue
        least, most = column.bounds()
        if low - YEAR < least and most < high + YEAR:
            first = _first(column.texts, _parse(column, "excel"))
            found[name] = column.warned("like_times", form="excel", **first)
    return found


def forms(text: str) -> list[str]:
    """Return the formats in which a text may be written as a time, the likeliest first; none if it is no time."""
    matching = [form for form, pattern in PATTERNS.items() if re.fullmatch(pattern, text)]
    if (season := re.fullmatch(datetimes.SEASON, text)) and (int(season[1]) + 1 - int(season[2])) % 100 == 0:
        matching.insert(0, "year")
    if matching not in ([], ["year"], ["era"]) or not re.fullmatch(r"(?=.*\d\d)[^%|]{2,50}", text):
        return matching
    if (span := re.fullmatch(FORMS["span"], text)) and (re.fullmatch(FORMS["clock"], span[3]) or forms(span[3])):
        matching += [f"{form}{span[2]}..." for form in forms(span[1])]
    for pattern, directive in FORMS["tokens"]:
        text = re.sub(pattern, directive, text, count=1, flags=re.I)
    bare = ZONES.sub("", text) if "%M" in text else text
    if set(re.findall(r"[^\W\d_]+", re.sub(r"%\w", " ", bare))) - {*FORMS["letters"]}:
        return matching
    # The other runs of digits: a day, and perhaps a clock such as 1700 behind it.
    lengths = ["2" if len(run) < 3 else str(len(run)) for run in re.findall(r"\d+", text)]
    lengths = ["b", *lengths] if re.search("%[bB]", text) else lengths
    orders = FORMS["runs"].get(" ".join(lengths), [])
    if not orders and lengths:
        clock, fewer = FORMS["clocks"].get(lengths[-1]), FORMS["runs"].get(" ".join(lengths[:-1]), [])
        orders = [f"{order} {last}" for order in fewer if (last := "f" if order.endswith("S") else clock)]
    literals, hour = re.split(r"\d+", text), "%I" if "%p" in text else "%H"
    runs = [[*re.sub(r"(\w)", r"%\1", order).split(), ""] for order in orders]
    written = ("".join(map("".join, zip(literals, run, strict=True))).replace("%H", hour) for run in runs)
    return [*matching, *(form for form in written if not re.search(FORMS["unsound"], form))]


def _combined(column: Column, parsed: dict[str, np.ndarray]) -> tuple[Column, np.ndarray, list[str]]:
    """Return the column with warnings, its times (NaT where none), and up to three formats, the most frequent first.

    Of formats that read equally many rows the one is taken in whose reading rows are in order of time most often. A format
    that reads a text otherwise than one before is no second one of the column.
    """
    values, examples = np.full(len(column.texts), "NaT", "datetime64[us]"), dict[str, str]()
    rows = column.counts * ~column.gap
    while len(examples) < 3:
        filled = {form: np.where(np.isnat(values), each, values) for form, each in parsed.items()}
        agree = {form: (each == filled[form])[~np.isnat(each)].all() for form, each in parsed.items()}
        more = {form: int(rows[~np.isnat(filled[form])].sum()) for form in parsed if agree[form]}
        if max(more.values(), default=0) <= rows[~np.isnat(values)].sum():
            break
        steady = {form: _steady(filled[form][column.codes]) for form in more if more[form] == max(more.values())}
        best = max(steady, key=lambda form: (not _future(filled[form]).any(), steady[form]))
        odd = [form for form in steady if not np.array_equal(filled[form], filled[best], equal_nan=True)]
        least = STEADY if steady[best] < 1 else 1  # no other order is perfect by chance
        odd = [form for form in odd if steady[form] >= least or steady[best] <= STEADY]
        if odd:
            differ = filled[best] != filled[odd[0]]
            both = differ & ~np.isnat(filled[best]) & ~np.isnat(filled[odd[0]])
            differ = both if both.any() else differ
            days = [np.datetime_as_string(filled[form][differ][0], "D") for form in (best, *odd)]
            column = column.warned("ambiguous", days=days, best=best, such=column.example(differ))
        examples[best] = column.example(np.isnat(values) & ~np.isnat(parsed[best]))
        values = filled[best]
    return column.warned("several", examples=examples) if len(examples) > 1 else column, values, list(examples)


def _without_open_ends(column: Column, parsed: dict[str, np.ndarray]) -> tuple[Column, dict[str, np.ndarray]]:
    """Return a column in which 9999-12-31 and the like are not known, and its times, NaT where they are no plausible ones."""
    lone = np.zeros(len(column.texts), dtype=bool)
    for values in parsed.values():
        each = values.astype("datetime64[D]")
        days = np.unique(each[~np.isnat(each)])
        for end, beside in ((-1, -2), (0, 1), (-2, -3)) if len(days) > 3 else ():
            if re.search("^9999|12-31$|01-01$", str(days[end])) and abs(days[end] - days[beside]) > LONE:
                lone |= each == days[end]
    if lone.any():
        column = column.warned("open_ends", rows=column.counts[lone].sum(), such=column.example(lone, 2))
        column = replace(column, gap=column.gap | lone)
    for values in parsed.values():  # "1/2/20" has no year 20
        bad = (values < np.datetime64("1000-01-01")) | (values > np.datetime64("2999-12-31"))
        values[column.gap | bad] = np.datetime64("NaT")
    return column, parsed


def _as_times(column: Column, values: np.ndarray, chosen: list[str]) -> Column:
    """Return a column as times, with warnings of what is odd about them."""
    form = datetimes.OR.join(chosen)
    if zones := sorted({zone[1] for each in chosen if (zone := ZONES.search(each))}):
        column = column.warned("zones", zones=zones)
    is_counted = column.type != "string" or chosen[0] in FORMS["counted"]
    column = column.warned("counted", form=form, **_first(column.texts, values)) if is_counted else column
    known = np.flatnonzero(~np.isnat(values))[:SAMPLE]
    for pattern, meaning in () if is_counted else FORMS["meanings"].items():
        if such := [place for place in known if re.search(pattern, f"{form} of {column.texts[place]}")]:
            column = column.warned("meaning", meaning=meaning, **_first(column.texts[such], values[such]))
    future = _future(values)
    if future.any() and not called(column.name, "other_time"):
        first = np.datetime_as_string(values[column.codes][future[column.codes]][0], "D")
        column = column.warned("future", rows=column.counts[future].sum(), such=column.example(future), day=first)
    has_zone = zones or re.search("%z|UTC|GMT|Z$|epoch|seconds", form)
    if not has_zone and (back := _set_back(values[column.codes])) is not None:
        column = column.warned("set_back", row=back + 1, time=pd.Timestamp(values[column.codes[back]]))
    column = replace(column, kind="timestamp", type="timestamp", decimal=None, thousands=None, values=values)
    return replace(column, format=None if form == "iso" else form)


def _like_periods(column: Column) -> Column:
    """Return a column with a warning if its texts come back, and look like terms, weeks or other parts of several years."""
    known = column.texts[~column.gap]
    parts = [re.fullmatch(PERIODS, text.strip()) for text in known]
    years = {part["year"] or part["last"] for part in parts if part}
    is_period = len(years) > 1 and None not in parts and len(known) <= LIKELY * (len(column.codes) - column.missing)
    return column.warned("like_periods", text=known[0]) if is_period else column


def _first(texts: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """Return the first text that is a time, and its day."""
    place = int(np.flatnonzero(~np.isnat(values))[0])
    return {"text": texts[place], "day": np.datetime_as_string(values[place], "D")}


def _future(values: np.ndarray) -> np.ndarray:
    return values > (timestamps.now() + pd.Timedelta(days=366)).to_datetime64()


def _set_back(times: np.ndarray) -> int | None:
    """Return the row at which a clock is set back an hour, in a table that is in order but for such nights; else None."""
    known = np.flatnonzero(~np.isnat(times))
    steps = np.diff(times[known])
    back = np.flatnonzero(steps <= np.timedelta64(0))
    if not len(back) or len(back) > max(0.01 * len(known), 2) or steps[back].min() <= -np.timedelta64(1, "h"):
        return None
    night = pd.Series(times[known[back + 1]]).dt
    is_change = (night.day_of_week == 6) & (night.hour < 4) & night.month.isin([3, 4, 9, 10, 11])
    return int(known[back[0] + 1]) if is_change.all() else None


def _parse(column: Column, form: str) -> np.ndarray:
    times = datetimes.parse_series(pd.Series(column.texts), form).to_numpy("datetime64[us]").copy()
    times[column.gap] = np.datetime64("NaT")
    return times


def _steady(times: np.ndarray) -> float:
    """Return how often a time is not before that of the row above: files are often in the order of time."""
    known = times[~np.isnat(times)]
    return float((known[1:] >= known[:-1]).mean()) if len(known) > 1 else 0.0

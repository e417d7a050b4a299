"""Times in the forms in which analysts bring them: found, read in one way, and said where that may be wrong."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest

from ninefold.init.columns import Column
from ninefold.init.inference import describe

DAYS = pd.date_range("2023-01-01", periods=400, freq="17h")
MONTHS = pd.Series(pd.date_range("2015-01-01", periods=80, freq="MS").repeat(5))
QUARTERS = {
    "": "{1}Q{0}",
    "first": "Q{0} {1}",
    "short": "{0}Q{2}",
    "slash": "{1}/Q{0}",
    "fiscal": "FY{2}-Q{0}",
    "T": "{1}T{0}",
}


def described(texts: Iterable[str], name: str = "when", timed: bool = False) -> Column:
    return describe(pd.DataFrame({name: list(texts)}), name if timed else None)[name]


@pytest.mark.parametrize(("written", "read_as"), [
    ("%Y-%m-%d %H:%M:%S UTC", None), ("%Y-%m-%dT%H:%M:%SZ", None), ("%a, %d %b %Y %H:%M:%S +0000", "%a, %d %b %Y %H:%M:%S %z"),
    ("%G-W%V-%u", "iso_week"), ("%GW%V%u", "iso_week"), ("[%d/%b/%Y:%H:%M:%S +0000]", "[%d/%b/%Y:%H:%M:%S %z]"),
    ("%Y-%m-%d-%H.%M.%S.000000000", "%Y-%m-%d-%H.%M.%S.%f"), ("%Y-%m-%d %H:%M - 23:59", "iso - ..."), *((form, form) for form in (
        "%Y/%m/%d", "%a %b %d %H:%M:%S %Y", "%a %d %b %Y %H:%M", "%A, %d %B %Y", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%j", "%Y-%j",
        "%d.%m.%Y, %H:%M", "%d/%m/%Y %H:%M GMT", "%m/%d/%Y %I:%M:%S%p", "%d%b%Y", "%d/%m/%Y %H%M", "%H:%M %d/%m/%Y", "%Y-%m-%d-%H.%M.%S", "%Y年%m月%d日",
    )),
])  # fmt: skip
def test_a_time_is_read_in_the_form_of_the_source(written: str, read_as: str | None) -> None:
    column = described(DAYS.strftime(written))
    assert (column.kind, column.format, column.stray.any()) == ("timestamp", read_as, False)
    assert (column.times() == DAYS.floor("D" if "H" not in written and "I" not in written else "min").to_numpy()).all()


@pytest.mark.parametrize("form", ["%B %Y", *"%Y-%m %m/%Y %Y%m %b-%y %m.%Y %YM%m %Y %G-%V %G%V".split(), *QUARTERS])  # noqa: SIM905
def test_months_quarters_and_years_are_times(form: str) -> None:
    quarters = [QUARTERS.get(form, "").format(t.quarter, t.year, f"{t.year % 100:02d}") for t in MONTHS]
    column = described(quarters if form in QUARTERS else MONTHS.dt.strftime(form))
    counted = {"%Y": ("Y", "year"), **dict.fromkeys(["%G-%V", "%G%V"], ("W", "iso_week"))}
    unit, read_as = ("Q", "quarter") if form in QUARTERS else counted.get(form, ("M", form))
    assert column.format == read_as
    assert (column.times() == MONTHS.dt.to_period(unit).dt.start_time.to_numpy()).all()
    assert any("fiscal" in text for text in column.warnings) == (form == "fiscal")


@pytest.mark.parametrize(("form", "read_as", "month"), [
    ("{0}/{1:02d}", "year", "01"), ("{0}-{2}", "year", "01"), ("{0}-{2} T2", "term", "12"), ("{0}H2", "half_year", "07"), ("{0}T4", "quarter", "10"), ("平成{3}年4月", "era", "04"),
])  # fmt: skip
def test_years_and_their_parts_are_times(form: str, read_as: str, month: str) -> None:
    column = described((form.format(y, (y + 1) % 100, y + 1, y - 1988) for y in range(1999, 2023)), "season")
    assert (column.kind, column.format) == ("timestamp", read_as)
    assert list(column.times().astype("datetime64[M]").astype(str)) == [f"{y}-{month}" for y in range(1999, 2023)]


@pytest.mark.parametrize(("form", "start", "unit"), [
    ("epoch_s", "1970", "s"), ("epoch_ms", "1970", "ms"), ("epoch_us", "1970", "us"), ("epoch_ns", "1970", "ns"),
    ("days", "1970", "D"), ("excel", "1899-12-30", "D"),
])  # fmt: skip
def test_counted_times_need_a_name_that_says_so(form: str, start: str, unit: str) -> None:
    counts = ((DAYS - pd.Timestamp(start)) // pd.Timedelta(1, unit)).astype(str)
    column = described(counts)
    assert (column.format, column.times().max()) == (form, DAYS.floor(unit)[-1])
    assert [described(counts, name).kind != "timestamp" for name in ("x", "price")] == [True, True]
    assert described(counts, "x", timed=True).format == form
    assert described((5000 * np.arange(400)).astype(str), "x", timed=True).format == "seconds"
    assert described((10**6 + np.arange(400) % 7 * 900).astype(str), "x", timed=True).format is None


@pytest.mark.parametrize(("form", "texts"), [
    ("%d%m%Y", [f"{day.day}{day:%m%Y}" for day in DAYS]), ("era", [f"{day.year - 1911}/{day:%m/%d}" for day in DAYS]), ("%Y-%j", DAYS.strftime("%Y-%j")),
    ("iso-...", [f"{day:%Y-%m-%d} 00:00-{day:%H}:30" for day in DAYS]), ("ticks", (DAYS.as_unit("us").asi8 * 10 + 621_355_968 * 10**9).astype(str)),
])  # fmt: skip
def test_what_may_be_another_thing_is_a_time_if_its_name_says_so_and_told(form: str, texts: Iterable[str]) -> None:
    column, other = (described(texts, name) for name in ("date", "invoice"))
    assert (column.format, len(column.warnings), other.kind == "timestamp") == (form, 1, form == "iso-...")
    assert (column.times().astype("datetime64[D]") == DAYS.floor("D").to_numpy()).all()


def test_what_may_be_read_otherwise_is_said() -> None:
    iso, slashed = DAYS.strftime("%Y-%m-%d"), DAYS.strftime("%d/%m/%Y")
    both = described(np.where(np.arange(400) % 7, iso, slashed))
    assert (both.format, both.times().max()) == ("iso | %d/%m/%Y", DAYS[-1].floor("D"))
    assert "row 2 '2023-01-01', row 1 '01/01/2023'" in both.warnings[0]
    mixed = described(np.where(np.arange(400) % 3, slashed, DAYS.strftime("%m/%d/%Y")))
    assert (mixed.kind, "it is read as text" in mixed.warnings[0]) == ("category", True)
    days = [f"{1 + row % 12:02d}.{1 + row % 11:02d}.2023" for row in range(400)]
    assert (described(days).format, described(days).warnings) == ("%d.%m.%Y", ())
    paid = describe(pd.DataFrame({"when": [day.replace(".", "/") for day in days], "paid": slashed}))["when"]
    assert (paid.format, paid.warnings) == ("%d/%m/%Y", ())
    for written, end in ((iso, "9999-12-31"), (DAYS.strftime("%Y%m%d"), "99991231")):
        ended = described(np.where(np.arange(400) % 4, written, end))
        assert (ended.missing, ended.times().max()) == (100, DAYS[-1].floor("D"))
        assert "9999" in ended.warnings[0]
    periods = [f"{2010 + row // 13}-{row % 13 + 1:02d}" for row in range(130)]
    assert "it is read as text" in described(periods).warnings[0]
    clock = pd.date_range("2025-10-25", periods=400, freq="15min", tz="Europe/Berlin").tz_localize(None)
    assert "problem.timezone" in described(clock.strftime("%Y-%m-%d %H:%M")).warnings[0]
    assert not described((clock + pd.Timedelta("2D")).sort_values().strftime("%Y-%m-%d %H:%M")).warnings
    assert "CET" in described(DAYS.strftime("%Y-%m-%d %H:%M CET")).warnings[0]
    assert "far in the future" in described((DAYS + pd.Timedelta("25000D")).strftime("%Y-%m-%d")).warnings[0]
    assert "English" in described([f"{day.day}. März {day.year}" for day in DAYS]).warnings[0]
    later = describe(pd.DataFrame({"when": 45000 + np.arange(400), "sold": 45010 + np.arange(400)}).astype("str"))[
        "sold"
    ]
    assert "like times" in later.warnings[0]
    assert "lacks a year" in described(DAYS.strftime("%b %d %H:%M:%S")).warnings[0]


@pytest.mark.parametrize(("form", "read_as"), [
    ("{1}/{2} Aut", "as text"), ("{0:03d}/{1}", "as text"), ("P{0:02d} {1}", "as text"), ("FY{2} P{0}", "as text"), ("WS {1}/{2}", "as text"), ("{1}-0{0:02d}", "as text"),
    ("{2}{0:02d}{0:02d}", "as numbers"), ("{1}0{0:02d}", "as numbers"), ("Golf {1}", ""), ("size {0}", ""), ("{0},5", ""),
])  # fmt: skip
def test_what_looks_like_a_time_and_is_not_read_as_one_is_said(form: str, read_as: str) -> None:
    texts = [form.format(1 + row % 12, 2010 + row // 48, f"{10 + row // 48}") for row in range(400)]
    column = described(texts, "sold")
    assert column.kind != "timestamp"
    assert (read_as in " ".join(column.warnings), len(column.warnings)) == (True, int(read_as != ""))


@pytest.mark.parametrize("form", ["{0}.{1}.{2}", "{3}-{4}", "{0}/{1}", "10.{3}.{1}.{2}", "0{4}{0}", "{0}:{1}0", "B {3}", "Q{0}", "{3}.{0}", "T{0}-{1}", "2023-{3}"])  # fmt: skip
def test_what_is_no_time_is_none(form: str) -> None:
    draw = np.random.default_rng(0)
    rows = np.column_stack([draw.integers(1, 40, (400, 3)), draw.integers(100, 9999, (400, 2))])
    texts = [form.format(*row) for row in rows]
    assert all(described(texts, name).kind != "timestamp" for name in ("x", "opened"))

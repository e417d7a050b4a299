"""The contract: how text becomes values, which rule a row breaks, and contracts that are refused."""

import re
from typing import Any

import pandas as pd
import pytest
from conftest import Project
from processing_runs import PROBLEM, collect, lake_ids, refer, run, spoil

from ninefold import artifacts, engine
from ninefold.errors import ParamsError
from ninefold.params import load
from ninefold.processing import stage as processing
from ninefold.processing.contract import Column, cast


@pytest.mark.parametrize(("column", "value", "rule", "shown"), [
    ("amount", "1,5", "amount: not float64", "id 2, amount 1,5"),  # as the source wrote it
    ("customer", "NA", "customer: missing", "id 2, customer missing"),
    ("id", "", "id: missing", "id missing"),
    ("id", "1", "unique: id", "id 1"),
])  # fmt: skip
def test_a_row_that_breaks_a_rule_is_quarantined_with_the_rule(
    project: Project, orders: pd.DataFrame, column: str, value: str, rule: str, shown: str
) -> None:
    collect(project, spoil(orders, column, value))
    counts, broken = run()
    assert counts.loc[0, ["raw", "lake", "quarantine"]].tolist() == [6, 5, 1]
    name = None if rule.startswith("unique") else column
    example = f"row 2 of 2020-01: {shown}"
    assert broken.to_numpy().tolist() == [["orders", name, rule, 1, example]]
    assert artifacts.read_table("data/quarantine/orders")["broken_rule"].tolist() == [rule]
    assert set(lake_ids()) == {1, 3, 4, 5, 6}


ISO, DAY = {"type": "timestamp"}, {"type": "timestamp", "format": "%d/%m/%Y"}
SIGNS, MINUTES = {"type": "float64", "format": "amount", "thousands": ","}, {"type": "float64", "format": "h:m"}
COMMA, DOTS = {"type": "float64", "decimal": ","}, {"type": "float64", "decimal": ",", "thousands": "."}


@pytest.mark.parametrize(("column", "text", "value"), [
    (DAY, "05/01/2020", "2020-01-05"), (DAY, "32/01/2020", None),
    ({**ISO, "format": "%Y-%m-%d %H:%M %z"}, "2020-01-05 10:00 +0200", "2020-01-05 08:00"),
    ({**ISO, "format": "epoch_s"}, "1600000000", "2020-09-13 12:26:40"),
    ({**ISO, "format": "epoch_ms"}, "1600000000123", "2020-09-13 12:26:40.123"),
    ({**ISO, "format": "seconds"}, "1.5", "1970-01-01 00:00:01.5"), ({**ISO, "format": "iso - ..."}, "2020-01-05 10:00 - 11:00", "2020-01-05 10:00"),
    ({**ISO, "format": "days"}, "0.5", "1970-01-01 12:00"), ({**ISO, "format": "days"}, "1e99", None),
    ({**ISO, "format": "year"}, "2013", "2013-01-01"), ({**ISO, "format": "year"}, "2013.5", None),
    (ISO, "2020-01-05T10:00:00+02:00", "2020-01-05 08:00"), (ISO, " 2020-01-05 ", "2020-01-05"),
    (ISO, "infinity", None), (COMMA, "1,5", 1.5), (COMMA, "1.5", None), (COMMA, "-1,5e3", -1500.0),
    (COMMA, "nan", None), (DOTS, "1.234.567,5", 1234567.5), (DOTS, "1234,5", 1234.5),
    ({"type": "float64", "thousands": ","}, "12,34,567.5", 1234567.5),
    ({"type": "float64", "thousands": ","}, "1,23", None),
    ({"type": "float64", "thousands": " "}, "1\u202f234.5", 1234.5),
    ({"type": "int64", "decimal": ",", "thousands": "."}, "1.234", 1234),
    ({"type": "int64", "decimal": ","}, "7,5", None), (COMMA, "1 2", None),
    (SIGNS, "(1,234.50)", -1234.5), (SIGNS, "1,234-", -1234), (SIGNS, "-$5", -5), (SIGNS, "US$ 1,000", 1000),
    (SIGNS, "45 %", 45), (SIGNS, "(5", None), (SIGNS, "5 kg", None), (SIGNS, "5,-", None),
    (MINUTES, "14:05", 845), (MINUTES, "2:05 pm", 845), (MINUTES, "14h05", 845), (MINUTES, "1h 30m", 90), (MINUTES, "PT1H30M", 90),
    (MINUTES, "2 days 03:04:30", 3064.5), (MINUTES, "-1 day, 23:59:00", -1), (MINUTES, "P1M", None), (MINUTES, "5", None),
    ({**MINUTES, "format": "m:s"}, "14:30", 14.5), ({**MINUTES, "format": "m:s"}, "1:14:30", 74.5), ({**MINUTES, "format": "hhmm"}, "905", 545),
])  # fmt: skip
def test_values_are_read_as_the_contract_says_they_are_written(column: Any, text: Any, value: Any) -> None:
    table = engine.local().create_table("t", pd.DataFrame({"text": [text]}))
    (read,) = table.select(value=cast(table["text"], Column(**column))).to_pandas()["value"]
    assert pd.isna(read) if value is None else read == (pd.Timestamp(value) if isinstance(value, str) else value)


def test_a_reference_may_be_of_several_columns(project: Project, orders: pd.DataFrame) -> None:
    columns = {"name": {"type": "string"}, "status": {"type": "string"}}
    project.set("processing.tables.customers", {"unique": ["name", "status"], "columns": columns})
    refer(project, {"customer": "name", "status": "status"})
    customers = pd.DataFrame({"name": ["ann", "ann", "bob"], "status": ["paid", "open", "open"]})
    collect(project, orders, customers)  # all orders of bob are paid, which no customer of that name is
    broken = run()[1]
    assert broken[["column", "rule", "rows"]].to_numpy().tolist() == [[None, "customer, status: not in customers", 3]]
    assert broken["examples"].iloc[0].startswith("row 2 of 2020-01: id 2, customer bob, status paid; row 1 of 2020-02")
    assert lake_ids() == [1, 3, 5]


@pytest.mark.parametrize("by", [["customer"], {"customer": "customer", "status": "city"}, {"customer": "city"}])
def test_a_missing_value_refers_to_nothing_and_is_not_met_by_one(project: Project, orders: Any, by: Any) -> None:
    for column in ("customer", "status"):
        project.set(f"processing.tables.orders.columns.{column}.nullable", True)
    refer(project, by)
    rows = orders.head(3).assign(customer=["", "ann", "zoe"], status=["paid", "", "paid"])
    collect(project, rows, pd.DataFrame({"customer": ["ann", "eve"], "city": ["ann", ""]}))
    run()
    assert (lake_ids(), lake_ids("quarantine")) == ([1, 2], [3])


def refers(by: Any, table: str = "customers") -> list[dict[str, Any]]:
    return [{"table": table, "by": by}]


ORDERS, FOUND = "orders.references", "processing.tables.orders.references"
AMOUNT, STATUS = "orders.columns.amount", "orders.columns.status"


@pytest.mark.parametrize(("path", "value", "message"), [
    ("orders.unique", ["number"], "unique to name columns of the contract; number is none"),
    (f"{AMOUNT}.min", 2000, "min <= max, found 2000 > 1000"),
    (f"{STATUS}.max", 3, "no max for type string; it is for int64 and float64"),
    (f"{AMOUNT}.type", "decimal", "found \"decimal\", expected 'string', 'int64', 'float64' or 'timestamp'"),
    (AMOUNT, {"type": "string", "format": "iso"}, "no format for type string"),
    (AMOUNT, {"type": "float64", "thousands": "."}, "decimal and thousands to differ, found '.' for both"),
    (AMOUNT, {"type": "timestamp", "format": "%Q"}, "a format of strptime"), (AMOUNT, {"type": "timestamp", "format": "%Y %H - %H"}, "nothing twice"),
    ("customers.columns.broken_rule", {"type": "string"}, "expected other names than broken_rule"),
    ("orders.newest", {"amount": "1h"}, "newest to name timestamps; amount is none"),
    ("orders.newest", {"moment": "1h"}, "newest to name columns of the contract; moment is none"),
    ("orders.newest", {"placed": "soon"}, 'processing.tables.orders.newest.placed: found "soon"'),
    ("customers.references", refers(["customer"], "orders"), "orders -> customers -> orders; leave one out"),
    (ORDERS, refers({"customer": "status"}, "orders"), "found a circle, orders -> orders;"),
    (ORDERS, refers(["status"], "shops"), f"{FOUND}[0].table: found 'shops', expected one"),
    (ORDERS, refers(["status"]), f"{FOUND}[0].by: status is no column of customers; f"),
    (ORDERS, refers({"shop": "city"}), "references to name columns of the contract; shop"),
    (ORDERS, refers({"id": "city"}), "id is int64, customers.city is string; expected"),
    (ORDERS, refers([]), f"{FOUND}.0.by"),
    (ORDERS, [{"table": "customers"}], f"{FOUND}.0.by: missing"),
])  # fmt: skip
def test_a_contract_without_sense_is_refused_with_its_path(project: Any, path: str, value: Any, message: str) -> None:
    refer(project, ["customer"])
    project.set(f"processing.tables.{path}", value)
    with pytest.raises(ParamsError, match=re.escape(message)) as error:
        load("processing")
    assert "processing.tables" in str(error.value)


@pytest.mark.parametrize(("changed", "message"), [
    ({"table": "visits"}, "table: found 'visits', expected one of processing.tables: orders, customers"),
    ({"time": "moment"}, "time: moment not among the columns of processing.tables.orders"),
    ({"key": ["id", "shop"]}, "key: shop not among the columns of processing.tables.orders"),
    ({"target": "late"}, "target: late not among the columns of processing.tables.orders"),
    ({"time": None, "group": ["house"]}, "group: house not among the columns of processing.tables.orders"),
])  # fmt: skip
def test_a_contract_without_what_the_problem_names_is_refused(project: Project, changed: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=f"^problem.{message}$"):
        processing.check_problem(load("processing"), PROBLEM.changed(**changed))
    for column in ({"type": "int64"}, {"type": "timestamp", "nullable": True}):  # a time is needed in every row
        project.set("processing.tables.orders.columns.placed", column)
        with pytest.raises(ParamsError, match=r"columns.placed: found type .*, expected type timestamp, not nullable"):
            processing.check_problem(load("processing"), PROBLEM)

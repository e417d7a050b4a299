"""Stage 03: types, the contract, lake and quarantine, and that what is made by parts is what would be made at once."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import ibis
import ibis.expr.operations as ops
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement

from ninefold import artifacts, collection, engine, gate
from ninefold.collection import datetimes, numbers
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.params import load
from ninefold.problem.statement import Problem
from ninefold.processing import contract as contracts
from ninefold.processing import figures, lake, warehouse
from ninefold.processing import stage as processing

MONTHS = ("2020-01", "2020-02")
CUSTOMERS = pd.DataFrame({"customer": ["ann", "bob"], "city": ["Bern", ""]})
PROBLEM = statement(
    table="orders", unit="order", units="orders", time="placed", target="returned", key=["id"], group=None
).changed(classes=["0", "1"], focus="1")


def collect(project: Project, orders: pd.DataFrame, customers: pd.DataFrame = CUSTOMERS) -> None:
    for month, rows in orders.groupby(orders["placed"].str[:7]):
        project.raw("orders", str(month), rows)
    project.raw("customers", "all", customers)


def run() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the stage up to its gate; return where the rows went, and the rules that any of them broke."""
    params, connection = load("processing"), engine.connect()
    processing.check_problem(params, PROBLEM)
    counts = processing.update(params, connection)
    rules = processing.broken_rules(connection, params)
    return counts, rules[rules["rows"] > 0]


def close(counts: pd.DataFrame) -> None:
    params, connection = load("processing"), engine.connect()
    validation = processing.validate(connection, params)
    shares, broken = processing.missing_shares(connection), processing.broken_rules(connection, params)
    checks = processing.checks(counts, validation, broken, processing.newest(connection, params), params)
    gate.close("processing", checks, processing.metrics(counts, shares), "Done.")


def start_anew(project: Project) -> None:
    """Delete what the stage has made."""
    artifacts.discard()
    for name in ("lake", "quarantine", "state"):
        artifacts.remove(project.folder / "data" / name)


def spoil(orders: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """Return the orders with one wrong value, in the second row."""
    spoiled = orders.copy()
    spoiled.loc[1, column] = value
    return spoiled


def test_clean_text_becomes_typed_rows_and_none_is_held_back(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders)
    counts, broken = run()
    assert counts.to_dict("list") == {
        "table": ["orders", "customers"],
        "raw": [6, 2],
        "lake": [6, 2],
        "quarantine": [0, 0],
    }
    assert broken.empty
    lake = artifacts.read_table("data/lake/orders")
    assert lake["id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert lake["placed"].iloc[0] == pd.Timestamp("2020-01-05 12:00")
    assert lake["amount"].isna().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("id", "two", "id: not int64"),
        ("id", "2.7", "id: not int64"),
        ("amount", "much", "amount: not float64"),
        ("amount", "inf", "amount: not float64"),
        ("amount", "nan", "amount: not float64"),
        ("placed", "2020-01-32T12:00:00", "placed: not timestamp"),
        ("id", "0", "id: under 1"),
        ("amount", "1000.01", "amount: over 1000"),
        ("amount", "-0.01", "amount: under 0"),
        ("status", "lost", "status: not allowed"),
        ("returned", "2", "returned: not allowed"),
        ("customer", "", "customer: missing"),
        ("id", "NA", "id: missing"),
    ],
)
def test_a_row_that_breaks_a_rule_is_kept_apart_with_the_rule(
    project: Project, orders: pd.DataFrame, column: str, value: str, rule: str
) -> None:
    collect(project, spoil(orders, column, value))
    counts, broken = run()
    assert counts.loc[0, ["raw", "lake", "quarantine"]].tolist() == [6, 5, 1]
    assert broken[["table", "rule", "rows"]].to_numpy().tolist() == [["orders", rule, 1]]
    assert artifacts.read_table("data/quarantine/orders")["broken_rule"].tolist() == [rule]


@pytest.mark.parametrize(("column", "value"), [("amount", "0"), ("amount", "1000"), ("id", "2.0"), ("amount", "1e2")])
def test_a_value_on_its_bound_or_written_otherwise_is_sound(
    project: Project, orders: pd.DataFrame, column: str, value: str
) -> None:
    collect(project, spoil(orders, column, value))
    assert run()[0].loc[0, "quarantine"] == 0


def test_an_example_shows_the_key_and_the_value_that_broke_the_rule(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders, "amount", "5000"))
    _, broken = run()
    assert broken["examples"].tolist() == ["row 2 of 2020-01: id 2, amount 5000.0"]
    assert broken["column"].tolist() == ["amount"]
    assert "The rule broken most often is `amount: over 1000`" in figures.describe_broken(broken)


def test_of_rows_with_the_same_key_one_is_kept(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders, "id", "1"))
    counts, broken = run()
    assert counts.loc[0, ["lake", "quarantine"]].tolist() == [5, 1]
    assert broken["rule"].tolist() == ["unique: id"]
    assert artifacts.read_table("data/lake/orders")["id"].tolist() == [1, 3, 4, 5, 6]


def test_a_sound_row_is_not_held_back_for_a_broken_one_with_its_key(project: Project, orders: pd.DataFrame) -> None:
    twin = orders.head(1).assign(placed="2020-01-01T00:00:00", status="lost")
    collect(project, pd.concat([twin, orders], ignore_index=True))
    counts, broken = run()
    assert counts.loc[0, ["lake", "quarantine"]].tolist() == [6, 1]
    assert broken["rule"].tolist() == ["status: not allowed"]


def test_broken_rows_with_the_same_key_keep_the_rule_that_they_broke(project: Project, orders: pd.DataFrame) -> None:
    broken_pair = pd.concat([orders.head(1)] * 2).assign(status="lost")
    collect(project, pd.concat([orders, broken_pair], ignore_index=True))
    assert run()[1][["rule", "rows"]].to_numpy().tolist() == [["status: not allowed", 2]]


def test_only_the_first_broken_rule_is_named(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(spoil(orders, "id", "x"), "status", "lost"))
    assert run()[1]["rule"].tolist() == ["id: not int64"]


def test_every_row_is_in_the_lake_or_in_quarantine(project: Project, orders: pd.DataFrame) -> None:
    rows = pd.concat([spoil(orders, "amount", "x"), orders.tail(2), orders.head(1).assign(id="")], ignore_index=True)
    collect(project, rows)
    counts, _ = run()
    assert (counts["raw"] == counts["lake"] + counts["quarantine"]).all()
    assert counts.loc[0, ["raw", "lake", "quarantine"]].tolist() == [9, 5, 4]


def test_rows_that_the_user_drops_fail_the_gate(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders)
    project.functions["processing", "refine"] = lambda tables: {
        **tables,
        "orders": tables["orders"].filter(ibis._.id > 2),
    }
    with pytest.raises(GateFailed, match="rows neither in lake nor quarantine: found 2, expected <= 0"):
        close(run()[0])


def test_a_missing_column_is_one_clear_message(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.drop(columns=["status", "amount"]))
    expected = (
        "data/raw/orders: lacks amount, status, which processing.tables.orders expects; "
        "found id, placed, customer, returned; mend the names at the source, or the contract"
    )
    with pytest.raises(DataError, match=f"^{expected}$"):
        run()


@pytest.mark.parametrize("lost", ["orders", "visits"])
def test_a_column_or_table_that_the_user_expects_and_is_not_there_is_named(
    project: Project, orders: pd.DataFrame, lost: str
) -> None:
    collect(project, orders)
    project.functions["processing", "refine"] = lambda tables: {
        "orders": tables[lost].mutate(x=tables[lost].no_such_column)
    }
    with pytest.raises(DataError, match=r"project.processing.refine: .* not found; the raw tables have orders: id"):
        run()


def test_a_table_that_was_not_collected_is_named(project: Project, orders: pd.DataFrame) -> None:
    project.raw("orders", "2020-01", orders)
    with pytest.raises(DataError, match=r"data/raw: lacks customers, which processing.tables names; found orders"):
        run()


def test_a_column_may_be_derived_by_the_user(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.drop(columns="returned"))
    project.functions["processing", "refine"] = lambda tables: {
        **tables,
        "orders": tables["orders"].mutate(returned=(ibis._.amount > 30).cast("int64")),
    }
    run()
    assert artifacts.read_table("data/lake/orders")["returned"].astype(object).where(
        lambda v: v.notna(), None
    ).tolist() == [
        0,
        0,
        None,
        1,
        1,
        1,
    ]


def crowd(orders: pd.DataFrame) -> pd.DataFrame:
    """Return 3,000 orders of distinct ids."""
    copies = [orders.assign(id=orders["id"] + f"{copy:03}", amount=str(copy)) for copy in range(500)]
    return pd.concat(copies, ignore_index=True)


def test_the_same_raw_data_gives_the_same_bytes(project: Project, orders: pd.DataFrame) -> None:
    many = crowd(orders)
    doubled = pd.concat([many, many.head(900).assign(amount="7"), many.head(900).assign(amount="8")], ignore_index=True)
    collect(project, doubled.sample(frac=1, random_state=1))
    results = []
    for _ in range(2):
        start_anew(project)
        close(run()[0])
        results.append(project.bytes("data") | project.bytes("reports/metrics"))
    assert results[0] == results[1]


def test_rows_of_their_own_keys_give_the_same_lake_in_any_order(project: Project, orders: pd.DataFrame) -> None:
    results = []
    for seed in (1, 2):
        collect(project, crowd(orders).sample(frac=1, random_state=seed))
        close(run()[0])
        results.append(project.bytes("data/lake") | project.bytes("reports/metrics"))
    assert results[0] == results[1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_rows_with_the_same_key_the_first_by_month_and_place_is_kept(
    project: Project, orders: pd.DataFrame, seed: int
) -> None:
    many = crowd(orders)
    doubled = pd.concat([many, many.head(900).assign(amount="700"), many.tail(900).assign(placed="2020-01-01")])
    shuffled = doubled.sample(frac=1, random_state=seed)
    collect(project, shuffled)
    counts, _ = run()
    in_order = shuffled.sort_values("placed", key=lambda placed: placed.str[:7], kind="stable")
    first = in_order.drop_duplicates("id").set_index("id")["amount"].astype("float64")
    lake = artifacts.read_table("data/lake/orders")
    assert counts.loc[0, ["raw", "lake", "quarantine"]].tolist() == [4800, 3000, 1800]
    assert dict(zip(lake["id"].astype("str"), lake["amount"], strict=True)) == first.to_dict()


def test_a_table_is_partitioned_as_its_raw_data_is(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders)
    close(run()[0])
    assert list(project.bytes("data/lake")) == [
        "data/lake/customers/period=all/part-0.parquet",
        "data/lake/orders/period=2020-01/part-0.parquet",
        "data/lake/orders/period=2020-02/part-0.parquet",
    ]
    lake = {period: artifacts.read_table(f"data/lake/orders/period={period}")["id"].tolist() for period in MONTHS}
    assert lake == {"2020-01": [1, 2, 3], "2020-02": [4, 5, 6]}


def test_a_row_in_quarantine_says_where_it_came_from(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.assign(status=["paid", "lost", "open", "paid", "open", "lost"]))
    run()
    held = artifacts.read_table("data/quarantine/orders")
    assert held[["id", "broken_rule", "raw_period", "raw_row"]].to_numpy().tolist() == [
        [2, "status: not allowed", "2020-01", 2],
        [6, "status: not allowed", "2020-02", 3],
    ]
    for row in held.itertuples():
        raw = artifacts.read_table(f"data/raw/orders/{row.raw_period}.parquet")
        assert raw["id"].iloc[row.raw_row - 1] == str(row.id)


def test_every_rule_is_listed_those_that_were_broken_most_often_first(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.orders.references", [{"table": "customers", "by": ["customer"]}])
    rows = orders.assign(status=["lost"] * 4 + ["paid"] * 2, amount=["1", "1", "1", "1", "-1", "1"])
    collect(project, rows)
    run()
    params = load("processing")
    rules = processing.broken_rules(engine.connect(), params)
    expected = [(name, rule) for name, contract in params.tables.items() for rule in contract.rules()]
    assert set(zip(rules["table"], rules["rule"], strict=True)) == set(expected)
    assert len(rules) == len(expected)
    assert rules["rule"].head(2).tolist() == ["status: not allowed", "amount: under 0"]
    assert rules["rows"].tolist() == [4, 1] + [0] * (len(rules) - 2)
    assert rules["examples"].iloc[0] == (
        "row 1 of 2020-01: id 1, status lost; row 2 of 2020-01: id 2, status lost; row 3 of 2020-01: id 3, status lost"
    )
    assert set(rules["examples"].iloc[2:]) == {""}
    assert {"customer: not in customers", "unique: id", "id: not int64"} <= set(rules["rule"])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("amount", [-1.0, 5.0]),
        ("amount", [1.0, 1001.0]),
        ("status", ["open", "lost"]),
        ("returned", [0, 5]),
        ("id", [7, 7]),
        ("customer", ["ann", None]),
    ],
)
def test_pandera_finds_what_the_judge_would_have_held_back(project: Project, column: str, values: list[Any]) -> None:
    sound = {
        "id": [1, 2],
        "placed": pd.to_datetime(["2020-01-01", "2020-01-02"]).as_unit("us"),
        "customer": ["ann", "bob"],
        "amount": [1.0, 2.0],
        "status": ["open", "paid"],
        "returned": [0, 1],
    }
    part = "period=all/part-0.parquet"
    artifacts.write_table(CUSTOMERS, project.folder / f"data/lake/customers/{part}")
    failures = []
    for table in (sound, {**sound, column: values}):
        artifacts.write_table(pd.DataFrame(table), project.folder / f"data/lake/orders/{part}")
        failures.append(processing.validate(engine.connect(), load("processing"))["failures"].tolist())
    assert failures[0] == [0, 0]
    assert failures[1][0] == 0
    assert failures[1][1] > 0


def test_pandera_agrees_with_the_judge_on_what_is_in_the_lake(project: Project, orders: pd.DataFrame) -> None:
    collect(project, pd.concat([spoil(spoil(orders, "amount", "-3"), "id", "x"), orders.head(2)], ignore_index=True))
    run()
    assert processing.validate(engine.connect(), load("processing"))["failures"].sum() == 0


def test_too_many_rows_in_quarantine_fail_the_gate_and_keep_the_earlier_lake(project: Project, orders: Any) -> None:
    collect(project, orders)
    close(run()[0])
    before = project.bytes("data/lake") | project.bytes("data/quarantine")
    project.set("processing.max_quarantined", 0.1)
    collect(project, spoil(orders, "amount", "-3"))
    with pytest.raises(GateFailed, match=r"quarantined share: found 0.125, expected <= 0.1"):
        close(run()[0])
    assert project.bytes("data/lake") | project.bytes("data/quarantine") == before


def test_a_rule_that_every_row_breaks_fails_the_gate_and_not_the_reader(project: Project, orders: Any) -> None:
    project.set("processing.tables.orders.columns.id.min", 100)
    collect(project, orders)
    with pytest.raises(GateFailed, match="rows in the smallest table: found 0, expected >= 1"):
        close(run()[0])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("unique", ["number"], "unique to name columns of the contract; number is none"),
        ("columns.amount.min", 2000, "min <= max, found 2000 > 1000"),
        ("columns.status.max", 3, "no min or max for type string"),
        ("columns.amount.type", "decimal", "found \"decimal\", expected 'string', 'int64', 'float64' or 'timestamp'"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(project: Project, path: str, value: Any, message: str) -> None:
    project.set(f"processing.tables.orders.{path}", value)
    with pytest.raises(ParamsError) as error:
        load("processing")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": "visits"}, "problem.table: found 'visits', expected one of processing.tables: orders, customers"),
        ({"time": "moment"}, "problem.time: moment not among the columns of processing.tables.orders"),
        ({"key": ["id", "shop"]}, "problem.key: shop not among the columns of processing.tables.orders"),
        ({"target": "late"}, "problem.target: late not among the columns of processing.tables.orders"),
    ],
)
def test_a_contract_without_what_the_problem_names_is_refused(project: Project, changed: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=f"^{message}$"):
        processing.check_problem(load("processing"), PROBLEM.changed(**changed))


def test_the_texts_say_where_the_rows_went_and_where_the_gaps_are(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders, "amount", "-3"))
    counts, broken = run()
    connection, params = engine.connect(), load("processing")
    assert figures.describe_counts(counts) == "Of 8 raw rows, 7 are in the lake and 1 in quarantine (12 %)."
    assert figures.describe_broken(broken).startswith("Rows quarantined: 1; rules broken: 1 of 1.")
    none = processing.broken_rules(connection, params).assign(rows=0)
    assert figures.describe_broken(none) == "Every row keeps its contract, of 16 rules; the quarantine is empty."
    shares = processing.missing_shares(connection)
    assert shares["missing"].tolist() == [0.5, 0.2, 0.2]
    assert "the widest is `customers.city` with 50.0% missing" in figures.describe_missing(shares)
    assert figures.left_out(processing.read(params, connection), params) == "Every raw column is part of a contract."
    values = figures.promises(params.tables["orders"]).set_index("column")["values"]
    assert values["amount"] == "at least 0, at most 1000"
    assert values["status"] == "one of open, paid"
    assert values["customer"] == "any"


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ({"type": "timestamp", "format": "%d/%m/%Y"}, "05/01/2020", "2020-01-05"),
        ({"type": "timestamp", "format": "%d/%m/%Y"}, "32/01/2020", None),
        ({"type": "timestamp", "format": "%d.%m.%y %I:%M %p"}, "05.01.20 3:04 PM", "2020-01-05 15:04"),
        ({"type": "timestamp", "format": "%Y-%m-%d %H:%M %z"}, "2020-01-05 10:00 +0200", "2020-01-05 08:00"),
        ({"type": "timestamp", "format": "epoch_s"}, "1600000000", "2020-09-13 12:26:40"),
        ({"type": "timestamp", "format": "epoch_ms"}, "1600000000123", "2020-09-13 12:26:40.123"),
        ({"type": "timestamp", "format": "seconds"}, "1.5", "1970-01-01 00:00:01.5"),
        ({"type": "timestamp", "format": "days"}, "0.5", "1970-01-01 12:00"),
        ({"type": "timestamp", "format": "days"}, "1e99", None),
        ({"type": "timestamp", "format": "year"}, "2013", "2013-01-01"),
        ({"type": "timestamp", "format": "year"}, "2013.5", None),
        ({"type": "timestamp"}, "2020-01-05T10:00:00+02:00", "2020-01-05 08:00"),
        ({"type": "timestamp"}, " 2020-01-05 ", "2020-01-05"),
        ({"type": "timestamp"}, "infinity", None),
        ({"type": "timestamp"}, "05/01/2020", None),
        ({"type": "float64", "decimal": ","}, "1,5", 1.5),
        ({"type": "float64", "decimal": ","}, "1.5", None),
        ({"type": "float64", "decimal": ","}, "-1,5e3", -1500.0),
        ({"type": "float64", "decimal": ",", "thousands": "."}, "1.234.567,5", 1234567.5),
        ({"type": "float64", "decimal": ",", "thousands": "."}, "1234,5", 1234.5),
        ({"type": "float64", "decimal": ",", "thousands": "."}, "1.5", None),
        ({"type": "float64", "thousands": ","}, "1,234.5", 1234.5),
        ({"type": "float64", "thousands": ","}, "12,34,567.5", 1234567.5),
        ({"type": "float64", "thousands": ","}, "1,23", None),
        ({"type": "float64", "thousands": " "}, "1\u202f234.5", 1234.5),
        ({"type": "float64", "thousands": "'"}, "1'234", 1234.0),
        ({"type": "int64", "decimal": ",", "thousands": "."}, "1.234", 1234),
        ({"type": "int64", "decimal": ","}, "7,0", 7),
        ({"type": "int64", "decimal": ","}, "7,5", None),
        ({"type": "float64"}, "1,5", None),
        ({"type": "float64", "decimal": ","}, "nan", None),
    ],
)
def test_values_are_read_as_the_contract_says_they_are_written(
    project: Project, column: dict[str, str], text: str, value: Any
) -> None:
    project.raw("t", "all", pd.DataFrame({"id": ["1", "2"], "v": [text, ""]}))
    contract = {"unique": ["id"], "columns": {"id": {"type": "int64"}, "v": {**column, "nullable": True}}}
    project.set("processing.tables", {"t": contract})
    processing.update(load("processing"), engine.connect())
    lake = artifacts.read_table("data/lake/t")
    expected = pd.Timestamp(value) if column["type"] == "timestamp" and value else value
    assert lake["v"].astype(object).tolist()[0] == expected if value is not None else lake["id"].tolist() == [2]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"type": "string", "format": "iso"}, "no format for type string"),
        ({"type": "string", "decimal": ","}, "no decimal or thousands for type string"),
        ({"type": "float64", "thousands": "."}, "decimal and thousands to differ, found '.' for both"),
        ({"type": "timestamp", "format": "%Q"}, "a format of strptime"),
    ],
)
def test_a_way_of_writing_that_makes_no_sense_is_refused(project: Project, column: Any, message: str) -> None:
    project.set("processing.tables.orders.columns.amount", column)
    with pytest.raises(ParamsError, match=message):
        load("processing")


@pytest.mark.parametrize("name", ["broken_rule", "@event"])
def test_names_that_the_machinery_uses_are_refused(project: Project, name: str) -> None:
    project.set("processing.tables.customers.columns", {"customer": {"type": "string"}, name: {"type": "string"}})
    with pytest.raises(ParamsError, match=f"expected other names than {name}"):
        load("processing")


NAMES = [
    "sepal.length (cm)",
    "select",
    "a:b",
    'quo"te',
    "größe",
    "it's",
    "self",
    "order",
    "%s",
    "$a$",
    "a`b",
    "x: missing",
]


@pytest.mark.parametrize("time", [None, "on: the day"])
@pytest.mark.parametrize("name", NAMES)
def test_a_column_may_have_any_name(project: Project, name: str, time: str | None) -> None:
    rows = pd.DataFrame(
        {"on: the day": ["2020-01-05", "2020-02-05", "?"], name: ["1", "x", "3"], "y": ["a b", "c", "c"]}
    )
    project.raw("t", "all", rows)
    columns = {"on: the day": {"type": "timestamp"}, name: {"type": "float64", "max": 2}, "y": {"type": "string"}}
    project.set("processing.tables", {"t": {"unique": [name], "columns": columns}})
    problem = PROBLEM.changed(table="t", time=time, target="y", key=[name], classes=["a b", "c"], focus="c")
    params, connection = load("processing"), engine.connect()
    processing.check_problem(params, problem)
    counts = processing.update(params, connection)
    assert counts.loc[0, ["lake", "quarantine"]].tolist() == [1, 2]
    broken = processing.broken_rules(connection, params).set_index("rule")
    assert broken.loc[f"{name}: not float64", "examples"] == f"row 2: {name} x"
    assert broken.loc[f"{name}: not float64", "column"] == name
    assert broken.loc["on: the day: not timestamp", "examples"] == f"row 3: {name} 3, on: the day ?"
    assert processing.validate(connection, params)["failures"].tolist() == [0]
    answer = warehouse.connect("lake").sql(figures.query(params.tables["t"], problem)).df()
    assert answer["rows"].tolist() == [1]
    assert figures.describe_answer(answer, problem)


def judged_badly(project: Project, orders: pd.DataFrame) -> str:
    collect(project, orders)
    project.set("processing.max_quarantined", 0.01)
    with pytest.raises(GateFailed) as error:
        close(run()[0])
    return str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "found", "remedy"),
    [
        (
            "placed",
            ["05/01/2020"] * 6,
            "`placed: not timestamp` by 6 of 6 rows of orders, such as row 1 of 05-01: id 1, placed 05/01/2020; row 2 of",
            "times in the format iso (2013-09-30 or 2013-09-30T17:00:00); set processing.tables.orders.columns.placed.format",
        ),
        (
            "amount",
            ["1,5", "2,5", "3,5", "4,5", "5,5", "6"],
            "`amount: not float64` by 5 of 6 rows of orders, such as row 1 of 2020-01: id 1, amount 1,5; row 2 of 2020-01: "
            "id 2, amount 2,5; row 3 of 2020-01: id 3, amount 3,5, expected",
            "numbers with decimal '.'; set processing.tables.orders.columns.amount.decimal and thousands",
        ),
        (
            "status",
            ["lost", "paid"] * 3,
            "`status: not allowed` by 3 of 6 rows of orders, such as row 1 of 2020-01: id 1, status lost; row 3 of "
            "2020-01: id 3, status lost; row 2 of 2020-02: id 5, status lost",
            "values within allowed open, paid; if these are sound, widen processing.tables.orders.columns.status.allowed",
        ),
        (
            "customer",
            [""] * 6,
            "`customer: missing` by 6 of 6 rows of orders, such as row 1 of 2020-01: id 1, customer missing; row 2 of",
            "if it may be missing, set processing.tables.orders.columns.customer.nullable: true",
        ),
        (
            "amount",
            ["-1"] * 6,
            "`amount: under 0` by 6 of 6 rows of orders, such as row 1 of 2020-01: id 1, amount -1.0",
            "values within min 0; if these are sound, widen processing.tables.orders.columns.amount.min",
        ),
        (
            "id",
            ["1"] * 6,
            "`unique: id` by 5 of 6 rows of orders, such as row 2 of 2020-01: id 1; row 3 of 2020-01: id 1; row 1 of "
            "2020-02: id 1",
            "rows that differ in processing.tables.orders.unique; name more columns there",
        ),
        (
            "customer",
            ["zoe", "bob"] * 3,
            "`customer: not in customers` by 3 of 6 rows of orders, such as row 1 of 2020-01: id 1, customer zoe; row 3 of",
            "values that stand in customers; collect the rows that it lacks, or leave out processing.tables.orders.references[0]",
        ),
    ],
)
def test_a_gate_that_rows_fail_names_the_worst_rule_with_examples_and_the_remedy(
    project: Project, orders: pd.DataFrame, column: str, values: list[str], found: str, remedy: str
) -> None:
    if column == "placed":
        for name in ("orders", "customers"):
            (project.folder / f"data/raw/{name}").mkdir(parents=True)
        rows = orders.assign(placed=values)
        project.raw("orders", "05-01", rows)
        project.raw("customers", "all", CUSTOMERS)
        with pytest.raises(GateFailed) as error:
            close(run()[0])
        message = str(error.value)
    else:
        project.set("processing.tables.orders.references", [{"table": "customers", "by": ["customer"]}])
        message = judged_badly(project, orders.assign(**{column: values}))
    assert f"rule broken most often: found {found}" in message
    assert remedy in message


@pytest.mark.parametrize("column", [{"type": "int64"}, {"type": "string"}, {"type": "timestamp", "nullable": True}])
def test_the_time_of_the_problem_is_a_timestamp_in_every_row(project: Project, column: dict[str, Any]) -> None:
    project.set("processing.tables.orders.columns.placed", column)
    with pytest.raises(ParamsError, match=r"columns.placed: found type .*, expected type timestamp, not nullable"):
        processing.check_problem(load("processing"), PROBLEM)


def test_the_groups_of_the_problem_are_columns_of_its_table(project: Project) -> None:
    problem = PROBLEM.changed(time=None, group=["customer"])
    processing.check_problem(load("processing"), problem)
    with pytest.raises(ParamsError, match=r"^problem.group: house not among the columns"):
        processing.check_problem(load("processing"), problem.changed(group=["house"]))


def answered(problem: Problem) -> pd.DataFrame:
    """Return what the lake, pending as it is, answers to the stage's question."""
    contract = load("processing").tables[problem.table]
    return warehouse.connect("lake").sql(figures.query(contract, problem)).df()


@pytest.mark.parametrize(
    ("changed", "columns", "text"),
    [
        (
            {},
            ["month", "rows", "level"],
            "The share of events of the orders is 33.3% in 2020-02, the lowest month, and 50.0%",
        ),
        ({"time": None}, ["class", "rows", "share"], "50.0% have `returned` = `0`, the most frequent class"),
        (
            {"task": "multiclass", "target": "status", "classes": ["open", "paid"], "focus": "paid"},
            ["month", "rows", "level"],
            'The share of "paid" of the orders is 66.7% in 2020-01',
        ),
        (
            {"task": "regression", "target": "amount"},
            ["month", "rows", "level"],
            "The mean amount of the orders is 15.25 in",
        ),
        (
            {"task": "regression", "target": "amount", "time": None},
            ["decile", "rows", "lowest", "mean", "highest"],
            "The lowest decile of `amount` reaches from 10.5 to 10.5, the highest from 60 to 60",
        ),
    ],
)
def test_the_lake_is_asked_what_fits_the_problem(
    project: Project, orders: pd.DataFrame, changed: dict[str, Any], columns: list[str], text: str
) -> None:
    collect(project, orders)
    run()
    problem = PROBLEM.changed(**changed)
    answer = answered(problem)
    assert list(answer) == columns
    assert text in figures.describe_answer(answer, problem)
    assert figures.query_caption(problem).startswith("Orders ")


@pytest.mark.parametrize(
    ("column", "values", "classes", "focus"),
    [
        ({"type": "int64"}, "012", ["0", "1"], "1"),  # 2 is none of the classes
        ({"type": "float64"}, "010", ["0", "1"], "1"),
        ({"type": "float64"}, ["0", "2.0", "2.5"], ["0.0", "2.0", "2.5"], "2.0"),
        ({"type": "string"}, "nyn", ["n", "y"], "y"),
        ({"type": "string"}, ["it's", "so", "?"], ["so", "it's", "other"], "it's"),
        ({"type": "int64"}, "121", ["no", "yes"], "yes"),  # a column that never holds a class
        ({"type": "float64"}, "125", None, None),
        ({"type": "int64"}, "125", None, None),
    ],
)
def test_the_query_means_by_the_target_what_every_stage_means(
    project: Project, orders: pd.DataFrame, column: dict[str, Any], values: Any, classes: Any, focus: Any
) -> None:
    project.set("processing.tables.orders.columns.returned", {**column, "nullable": True})
    collect(project, orders.assign(returned=[*values, *values]).pipe(spoil, "returned", ""))
    run()
    task = "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"
    problem = PROBLEM.changed(task=task, classes=classes, focus=focus)
    lake = processing.view(engine.tables(engine.connect(), "data/lake")["orders"], problem)
    months = lake.group_by(lake["placed"].strftime("%Y-%m").name("month"))
    expected = months.agg(rows=lake.count(), level=lake[processing.EVENT].mean()).order_by("month").to_pandas()
    pd.testing.assert_frame_equal(answered(problem), expected, check_dtype=False)


def test_an_unknown_target_is_said_to_be_unknown(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.assign(returned=""))
    run()
    for time in ("placed", None):
        problem = PROBLEM.changed(time=time)
        assert (
            figures.describe_answer(answered(problem), problem)
            == "The target `returned` is not known of any of the orders."
        )


def test_rows_are_grouped_by_a_column_of_few_values() -> None:
    kinds = {"id": "string", "n": "int64", "level": "string", "city": "string", "y": "string"}
    contract = contracts.Contract(unique=["id"], columns={name: {"type": kind} for name, kind in kinds.items()})
    assert figures.grouping(contract, PROBLEM.changed(target="y", time=None)) == "city"
    assert figures.grouping(contract, PROBLEM.changed(target="city", time=None, key=["id", "n"])) == "id"


def refer(project: Project, by: Any, table: str = "customers") -> None:
    project.set("processing.tables.orders.references", [{"table": table, "by": by}])


def test_a_value_that_another_table_lacks_breaks_the_reference(project: Project, orders: pd.DataFrame) -> None:
    refer(project, ["customer"])
    collect(project, spoil(orders, "customer", "zoe"))
    counts, broken = run()
    assert counts.loc[0, ["lake", "quarantine"]].tolist() == [5, 1]
    assert broken[["table", "column", "rule", "rows"]].to_numpy().tolist() == [
        ["orders", "customer", "customer: not in customers", 1]
    ]
    assert broken["examples"].tolist() == ["row 2 of 2020-01: id 2, customer zoe"]


def test_the_other_table_may_call_the_column_otherwise(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.customers", {"unique": ["name"], "columns": {"name": {"type": "string"}}})
    refer(project, {"customer": "name"})
    collect(project, spoil(orders, "customer", "zoe"), CUSTOMERS.rename(columns={"customer": "name"}))
    assert run()[1][["rule", "rows"]].to_numpy().tolist() == [["customer: not in customers", 1]]
    assert artifacts.read_table("data/lake/orders")["customer"].tolist() == ["ann", "ann", "bob", "ann", "bob"]


def test_a_reference_may_be_of_several_columns(project: Project, orders: pd.DataFrame) -> None:
    columns = {"name": {"type": "string"}, "status": {"type": "string"}}
    project.set("processing.tables.customers", {"unique": ["name", "status"], "columns": columns})
    refer(project, {"customer": "name", "status": "status"})
    customers = pd.DataFrame({"name": ["ann", "ann", "bob"], "status": ["paid", "open", "open"]})
    collect(project, orders, customers)  # of bob, who is held, all orders are paid, which is held of ann
    broken = run()[1]
    assert broken[["column", "rule", "rows"]].to_numpy().tolist() == [[None, "customer, status: not in customers", 3]]
    assert (
        broken["examples"]
        .iloc[0]
        .startswith("row 2 of 2020-01: id 2, customer bob, status paid; row 1 of 2020-02: id 4")
    )
    assert artifacts.read_table("data/lake/orders")["id"].tolist() == [1, 3, 5]


@pytest.mark.parametrize("by", [["customer"], {"customer": "customer", "status": "city"}])
def test_a_missing_value_refers_to_nothing(project: Project, orders: pd.DataFrame, by: Any) -> None:
    for column in ("customer", "status"):
        project.set(f"processing.tables.orders.columns.{column}.nullable", True)
    refer(project, by)
    rows = orders.head(3).assign(customer=["", "ann", "zoe"], status=["paid", "", "paid"])
    collect(project, rows, pd.DataFrame({"customer": ["ann", "eve"], "city": ["Bern", ""]}))
    run()
    assert artifacts.read_table("data/lake/orders")["id"].tolist() == [1, 2]
    assert artifacts.read_table("data/quarantine/orders")["id"].tolist() == [3]


def test_missing_values_of_both_tables_do_not_meet(project: Project, orders: pd.DataFrame) -> None:
    refer(project, {"customer": "city"})
    collect(project, orders.assign(customer="Bern").pipe(spoil, "customer", ""))
    assert run()[1]["rule"].tolist() == ["customer: missing"]
    project.set("processing.tables.orders.columns.customer.nullable", True)
    assert run()[1].empty


def test_a_reference_to_a_row_in_quarantine_breaks(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.customers.columns.city.nullable", False)
    refer(project, ["customer"])
    collect(project, orders)  # bob has no city
    counts, broken = run()
    assert counts["quarantine"].tolist() == [3, 1]
    assert broken["rule"].tolist() == ["customer: not in customers", "city: missing"]
    assert artifacts.read_table("data/lake/orders")["customer"].tolist() == ["ann", "ann", "ann"]


def test_a_row_that_breaks_its_reference_takes_no_key(project: Project, orders: pd.DataFrame) -> None:
    refer(project, ["customer"])
    twins = orders.head(2).assign(id="1", customer=["zoe", "bob"])
    collect(project, twins)
    assert run()[1]["rule"].tolist() == ["customer: not in customers"]
    assert artifacts.read_table("data/lake/orders")["customer"].tolist() == ["bob"]


ONE = [{"table": "customers", "by": ["customer"]}]


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (
            {"orders": ONE, "customers": [{"table": "orders", "by": ["customer"]}]},
            "processing.tables.orders.references: found a circle, orders -> customers -> orders; leave one out",
        ),
        (
            {"orders": [{"table": "orders", "by": {"customer": "status"}}]},
            "processing.tables.orders.references: found a circle, orders -> orders; leave one out",
        ),
        (
            {"orders": [*ONE, {"table": "shops", "by": ["status"]}]},
            "processing.tables.orders.references[1].table: found 'shops', expected one of processing.tables: orders, "
            "customers",
        ),
        (
            {"orders": [{"table": "customers", "by": ["status"]}]},
            "processing.tables.orders.references[0].by: status is no column of customers; found customer, city",
        ),
        (
            {"orders": [{"table": "customers", "by": {"shop": "city"}}]},
            "references to name columns of the contract; shop is none",
        ),
        (
            {"orders": [{"table": "customers", "by": {"id": "customer"}}]},
            "processing.tables.orders.references[0].by: id is int64, customers.customer is string; expected the same type",
        ),
        ({"orders": [{"table": "customers", "by": []}]}, "processing.tables.orders.references.0.by"),
        ({"orders": [{"table": "customers"}]}, "processing.tables.orders.references.0.by: missing"),
    ],
)
def test_a_reference_that_cannot_be_is_refused_with_its_path(
    project: Project, references: dict[str, Any], message: str
) -> None:
    for name, listed in references.items():
        project.set(f"processing.tables.{name}.references", listed)
    with pytest.raises(ParamsError) as error:
        load("processing")
    assert message in str(error.value)


def arrive_by_time(project: Project, orders: pd.DataFrame) -> None:
    """Let stage 02 collect the orders, up to the end of 2020-02-29."""
    months = {month: rows for month, rows in orders.groupby(orders["placed"].str[:7])}
    project.functions["collection", "read"] = lambda table, start, end: (
        CUSTOMERS if table == "customers" else months.get(f"{start:%Y-%m}", orders.head(0))
    )
    params = load("collection")
    collection.collect(params, collection.plan(params), collection.verified_manifest().head(0))
    artifacts.publish()


FRESH = "orders.placed: hours before the end that its newest is"


def test_data_as_new_as_agreed_passes_the_gate(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.orders.newest", {"placed": "12h"})
    arrive_by_time(project, orders)
    close(run()[0])
    checks = artifacts.read_json("reports/metrics/03_processing.json")["gate"]["checks"]
    assert checks[-1] == {"name": FRESH, "value": 12.0, "limit": "<= 12", "passed": True}


def test_data_older_than_agreed_fails_the_gate(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.orders.newest", {"placed": "1d"})
    arrive_by_time(project, orders.head(5))  # the last of 2020-02-10T12:00
    with pytest.raises(GateFailed, match=rf"1 of 5 checks failed: {FRESH}: found 468.0, expected <= 24"):
        close(run()[0])


def test_only_sound_rows_make_a_table_new(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.orders.newest", {"placed": "24h"})
    arrive_by_time(project, orders.assign(status=["paid"] * 5 + ["lost"]))
    with pytest.raises(GateFailed, match=f"{FRESH}: found 468.0"):
        close(run()[0])
    arrive_by_time(project, orders.assign(status="lost"))
    with pytest.raises(GateFailed, match=f"{FRESH}: found None, expected <= 24"):
        close(run()[0])


def test_a_table_without_time_is_as_new_as_all_that_was_collected(project: Project, orders: pd.DataFrame) -> None:
    columns = {"customer": {"type": "string"}, "city": {"type": "timestamp", "nullable": True}}
    project.set("processing.tables.customers", {"unique": ["customer"], "newest": {"city": "24h"}, "columns": columns})
    arrive_by_time(project, orders)
    project.raw("customers", "all", pd.DataFrame({"customer": ["ann", "bob"], "city": ["2020-02-29", "NA"]}))
    artifacts.remove(project.folder / "data/raw/manifest.json")
    parts = [("orders", "2020-02", "2020-03-01T00:00:00"), ("customers", "all", "")]
    record = [
        {
            "table": table,
            "period": period,
            "end": end,
            "sha256": artifacts.sha256(artifacts.path(f"data/raw/{table}/{period}.parquet")),
        }
        for table, period, end in parts
    ]
    artifacts.write_json({"partitions": record}, project.folder / "data/raw/manifest.json")
    run()
    found = processing.newest(engine.connect(), load("processing"))
    assert found[["table", "column", "hours", "limit"]].to_numpy().tolist() == [["customers", "city", 24.0, 24.0]]


@pytest.mark.parametrize(
    ("newest", "message"),
    [
        ({"amount": "1h"}, "newest to name timestamps; amount is none"),
        ({"moment": "1h"}, "newest to name columns of the contract; moment is none"),
        ({"placed": "soon"}, 'processing.tables.orders.newest.placed: found "soon"'),
    ],
)
def test_a_freshness_that_makes_no_sense_is_refused(project: Project, newest: dict[str, str], message: str) -> None:
    project.set("processing.tables.orders.newest", newest)
    with pytest.raises(ParamsError) as error:
        load("processing")
    assert message in str(error.value)
    assert "processing.tables.orders" in str(error.value)


def test_freshness_without_any_time_is_refused(project: Project, orders: pd.DataFrame) -> None:
    project.set("processing.tables.orders.newest", {"placed": "1d"})
    collect(project, orders)
    counts, _ = run()
    with pytest.raises(ParamsError, match=r"^processing.tables.orders.newest: nothing was collected by time"):
        close(counts)


@pytest.mark.parametrize(
    ("column", "value", "example"),
    [
        ("amount", "1,5", "row 2 of 2020-01: id 2, amount 1,5"),  # as the source wrote it
        ("amount", "2000", "row 2 of 2020-01: id 2, amount 2000.0"),
        ("customer", "NA", "row 2 of 2020-01: id 2, customer missing"),
        ("id", "x", "row 2 of 2020-01: id x"),
        ("id", "NA", "row 2 of 2020-01: id missing"),
        ("status", "lost", "row 2 of 2020-01: id 2, status lost"),
        ("id", "1", "row 2 of 2020-01: id 1"),
    ],
)
def test_an_example_says_where_the_row_stands_and_what_it_holds(
    project: Project, orders: pd.DataFrame, column: str, value: str, example: str
) -> None:
    collect(project, spoil(orders, column, value))
    assert run()[1]["examples"].tolist() == [example]


def test_an_example_of_a_table_without_months_names_the_row_alone(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders, CUSTOMERS.assign(customer=["ann", ""]))
    assert run()[1]["examples"].tolist() == ["row 2: customer missing"]


def test_examples_are_the_first_three_rows(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.assign(amount="-1"))
    (text,) = run()[1]["examples"]
    assert [part.partition(":")[0] for part in text.split("; ")] == [f"row {row} of 2020-01" for row in (1, 2, 3)]


MADE = ("lake", "quarantine", "state")


def made(project: Project) -> dict[str, bytes]:
    """Return every byte that the stage has made."""
    return {name: content for folder in MADE for name, content in project.bytes(f"data/{folder}").items()}


def inodes(project: Project) -> dict[str, int]:
    return {
        str(file.relative_to(project.folder / "data")): file.stat().st_ino
        for folder in ("lake", "quarantine")
        for file in (project.folder / "data" / folder).rglob("*.parquet")
    }


def advance() -> str:
    """Bring lake and quarantine up to the raw data, and publish them; return what was made and kept."""
    processing.update(load("processing"), engine.connect())
    artifacts.publish()
    return artifacts.path("reports/timings/03_processing.txt").read_text().strip()


def prove(project: Project) -> None:
    """Prove that lake and quarantine are what they would be if all was made from nothing, and that no row was lost."""
    found, aside = made(project), project.folder / "aside"
    aside.mkdir()
    for name in MADE:
        (project.folder / "data" / name).rename(aside / name)
    advance()
    assert made(project) == found
    start_anew(project)
    for name in MADE:
        (aside / name).rename(project.folder / "data" / name)
    aside.rmdir()
    for table in load("processing").tables:
        periods = [file.stem for file in engine.parts(f"data/raw/{table}")]
        assert engine.periods(f"data/lake/{table}") == periods
        assert set(engine.periods(f"data/quarantine/{table}")) <= set(periods)
        for period in periods:
            counts = [engine.count(f"data/{where}/{table}", period) for where in ("lake", "quarantine")]
            assert sum(counts) == len(artifacts.read_table(f"data/raw/{table}/{period}.parquet"))


def kept(project: Project, before: dict[str, int]) -> set[str]:
    """Return the partitions of the lake that still are the very same files."""
    now = inodes(project)
    return {
        f"{name.split('/')[1]} {name.split('/')[2].removeprefix('period=')}"
        for name, number in before.items()
        if name.startswith("lake/") and now.get(name) == number
    }


def moves(project: Project, change: Callable[[], Any]) -> tuple[str, set[str]]:
    """Let something change; return what the next run says that it made, and which partitions of the lake it kept."""
    before = inodes(project)
    change()
    told = advance()
    held = kept(project, before)
    prove(project)
    return told, held


def ids(where: str = "lake", period: str | None = None) -> list[int]:
    files = engine.parts(f"data/{where}/orders", period)
    return sorted(int(number) for file in files for number in pd.read_parquet(file)["id"])


@pytest.fixture
def year(project: Project, orders: pd.DataFrame) -> pd.DataFrame:
    """Return four months of orders that refer to customers, of which the stage has made the lake."""
    project.set("processing.max_quarantined", 1)
    refer(project, ["customer"])
    later = orders.assign(
        id=["7", "8", "9", "10", "11", "12"],
        placed=orders["placed"].str.replace("-02-", "-04-").str.replace("-01-", "-03-"),
    )
    rows = pd.concat([orders, later], ignore_index=True)
    collect(project, rows)
    advance()
    prove(project)
    assert ids() == list(range(1, 13))
    return rows


EVERYTHING = {"customers all", *(f"orders 2020-0{month}" for month in range(1, 5))}


def month(number: int, *rows: dict[str, str]) -> pd.DataFrame:
    """Return a month of orders."""
    sound = {"placed": f"2020-0{number}-07", "customer": "ann", "amount": "5", "status": "paid", "returned": "0"}
    return pd.DataFrame([{"id": "99", **sound, **row} for row in rows])[["id", *sound]]


def test_a_run_without_news_makes_nothing(project: Project, year: pd.DataFrame) -> None:
    before = made(project)
    assert moves(project, lambda: None) == ("made 0 partitions, kept 5", EVERYTHING)
    assert made(project) == before


def test_a_new_month_makes_that_month_alone(project: Project, year: pd.DataFrame) -> None:
    told, held = moves(project, lambda: project.raw("orders", "2020-05", month(5, {"id": "13"}, {"id": "x"})))
    assert (told, held) == ("made 1 partition, kept 5", EVERYTHING)
    assert ids(period="2020-05") == [13]


def test_a_month_that_comes_late_makes_that_month_alone(project: Project, year: pd.DataFrame) -> None:
    told, held = moves(project, lambda: project.raw("orders", "2019-12", month(1, {"id": "13"})))
    assert (told, held) == ("made 1 partition, kept 5", EVERYTHING)


def test_an_empty_month_is_a_partition_too(project: Project, year: pd.DataFrame) -> None:
    empty = year.head(0)
    assert moves(project, lambda: project.raw("orders", "2020-05", empty)) == ("made 1 partition, kept 5", EVERYTHING)
    assert moves(project, lambda: project.raw("orders", "2020-02", empty)) == (
        "made 1 partition, kept 5",
        EVERYTHING - {"orders 2020-02"} | {"orders 2020-05"},
    )


def test_a_corrected_month_makes_that_month_alone(project: Project, year: pd.DataFrame) -> None:
    february = year[year["placed"].str.startswith("2020-02")]
    told, held = moves(project, lambda: project.raw("orders", "2020-02", february.assign(amount="77")))
    assert (told, held) == ("made 1 partition, kept 4", EVERYTHING - {"orders 2020-02"})
    assert set(artifacts.read_table("data/lake/orders/period=2020-02")["amount"]) == {77.0}


def test_a_month_that_is_gone_leaves_lake_and_quarantine(project: Project, year: pd.DataFrame) -> None:
    project.raw("orders", "2020-02", month(2, {"id": "4"}, {"id": "x"}))
    advance()
    assert engine.periods("data/quarantine/orders") == ["2020-02"]
    told, held = moves(project, lambda: artifacts.remove(project.folder / "data/raw/orders/2020-02.parquet"))
    assert (told, held) == ("made 0 partitions, kept 4", EVERYTHING - {"orders 2020-02"})
    assert engine.periods("data/lake/orders") == ["2020-01", "2020-03", "2020-04"]
    assert engine.parts("data/quarantine/orders") == []


def test_a_corrected_month_takes_the_key_of_a_later_one_and_frees_it_again(project: Project, year: Any) -> None:
    february = year[year["placed"].str.startswith("2020-02")]
    told, held = moves(project, lambda: project.raw("orders", "2020-02", february.replace({"id": {"4": "7"}})))
    assert (told, held) == ("made 2 partitions, kept 3", EVERYTHING - {"orders 2020-02", "orders 2020-03"})
    assert ids(period="2020-02") == [5, 6, 7]
    assert ids("quarantine") == ids("quarantine", "2020-03") == [7]
    told, held = moves(project, lambda: project.raw("orders", "2020-02", february))
    assert (told, held) == ("made 2 partitions, kept 3", EVERYTHING - {"orders 2020-02", "orders 2020-03"})
    assert ids() == list(range(1, 13))


def test_a_month_that_is_gone_frees_its_keys(project: Project, year: pd.DataFrame) -> None:
    project.raw("orders", "2020-04", month(4, {"id": "1"}, {"id": "10"}))
    advance()
    assert ids("quarantine", "2020-04") == [1]
    told, held = moves(project, lambda: artifacts.remove(project.folder / "data/raw/orders/2020-01.parquet"))
    assert told == "made 1 partition, kept 3"
    assert held == {"customers all", "orders 2020-02", "orders 2020-03"}
    assert ids(period="2020-04") == [1, 10]


def test_a_key_passes_from_month_to_month(project: Project, year: pd.DataFrame) -> None:
    for number in (2, 3, 4):
        project.raw("orders", f"2020-0{number}", month(number, {"id": "1"}, {"id": f"{number}0"}))
    advance()
    assert [ids("quarantine", f"2020-0{number}") for number in (2, 3, 4)] == [[1]] * 3
    _, held = moves(project, lambda: project.raw("orders", "2020-01", month(1, {"id": "8"})))
    assert ids(period="2020-02") == [1, 20]
    assert ids("quarantine") == [1, 1]
    assert held == {"customers all"}
    moves(project, lambda: project.raw("orders", "2020-02", month(2, {"id": "20"})))
    assert ids(period="2020-03") == [1, 30]


def test_months_corrected_at_once_respect_the_kept_ones_between_them(project: Project, year: pd.DataFrame) -> None:
    for number in (2, 3, 4):
        project.raw("orders", f"2020-0{number}", month(number, {"id": "1"}, {"id": f"{number}0"}))
    advance()

    def correct() -> None:
        project.raw("orders", "2020-01", month(1, {"id": "8"}))  # frees 1, which February takes, not March
        project.raw("orders", "2020-03", month(3, {"id": "1"}, {"id": "20"}))  # which is February's, too

    moves(project, correct)
    assert [ids(period=f"2020-0{number}") for number in (1, 2, 3, 4)] == [[8], [1, 20], [], [40]]


def test_a_key_with_a_missing_part_is_a_key_as_well(project: Project, year: pd.DataFrame) -> None:
    project.set("processing.tables.orders.columns.status", {"type": "string", "nullable": True})
    project.set("processing.tables.orders.unique", ["customer", "status"])
    for number in range(1, 5):
        project.raw("orders", f"2020-0{number}", month(number, {"id": str(number), "status": ["", "paid"][number % 2]}))
    advance()
    assert (ids(), ids("quarantine")) == ([1, 2], [3, 4])
    _, held = moves(project, lambda: project.raw("orders", "2020-02", month(2, {"id": "2", "status": "open"})))
    assert held == {"customers all", "orders 2020-01", "orders 2020-03"}
    assert (ids(), ids("quarantine")) == ([1, 2, 4], [3])
    _, held = moves(project, lambda: project.raw("orders", "2020-02", month(2, {"id": "5", "status": ""})))
    assert held == {"customers all", "orders 2020-01", "orders 2020-03"}
    assert (ids(), ids("quarantine")) == ([1, 5], [3, 4])
    _, held = moves(project, lambda: project.raw("orders", "2020-02", month(2, {"id": "6", "status": ""})))
    assert held == {"customers all", "orders 2020-01", "orders 2020-03", "orders 2020-04"}


def test_rows_whose_reference_is_gone_leave_kept_months_and_come_back_with_it(project: Project, year: Any) -> None:
    project.raw("orders", "2020-03", month(3, {"id": "7"}))  # of ann alone
    advance()
    told, held = moves(project, lambda: project.raw("customers", "all", CUSTOMERS.head(1)))
    assert (told, held) == ("made 4 partitions, kept 1", {"orders 2020-03"})
    assert set(artifacts.read_table("data/quarantine/orders")["broken_rule"]) == {"customer: not in customers"}
    assert ids("quarantine") == [2, 4, 6, 10, 12]
    told, held = moves(project, lambda: project.raw("customers", "all", CUSTOMERS))
    assert (told, held) == ("made 4 partitions, kept 1", {"orders 2020-03"})
    assert engine.parts("data/quarantine/orders") == []


def test_a_change_of_the_other_table_that_concerns_no_reference_makes_no_order_again(
    project: Project, year: Any
) -> None:
    customers = pd.DataFrame({"customer": ["ann", "bob", "eve"], "city": ["Rome", "Oslo", "Bern"]})
    told, held = moves(project, lambda: project.raw("customers", "all", customers))
    assert (told, held) == ("made 1 partition, kept 4", EVERYTHING - {"customers all"})


def test_a_row_held_back_for_a_later_rule_breaks_its_reference_first(project: Project, year: pd.DataFrame) -> None:
    """Its key was taken already; now what it refers to is gone, too, and that rule is looked at before."""
    project.raw("orders", "2020-04", month(4, {"id": "1", "customer": "bob"}, {"id": "10"}))
    for number in (1, 2, 3):
        project.raw("orders", f"2020-0{number}", month(number, {"id": str(number)}))
    advance()
    assert artifacts.read_table("data/quarantine/orders")["broken_rule"].tolist() == ["unique: id"]
    _, held = moves(project, lambda: project.raw("customers", "all", CUSTOMERS.head(1)))
    assert held == {"orders 2020-01", "orders 2020-02", "orders 2020-03"}
    assert artifacts.read_table("data/quarantine/orders")["broken_rule"].tolist() == ["customer: not in customers"]


def test_a_row_that_breaks_two_references_is_held_back_for_the_first(project: Project, year: pd.DataFrame) -> None:
    cities = {"unique": ["city"], "columns": {"city": {"type": "string"}}}
    project.set("processing.tables.cities", cities)
    both = [{"table": "customers", "by": ["customer"]}, {"table": "cities", "by": {"status": "city"}}]
    project.set("processing.tables.orders.references", both)
    project.raw("cities", "all", pd.DataFrame({"city": ["open"]}))
    advance()
    assert set(artifacts.read_table("data/quarantine/orders")["broken_rule"]) == {"status: not in cities"}
    moves(project, lambda: project.raw("customers", "all", CUSTOMERS.head(1)))
    moves(project, lambda: project.raw("cities", "all", pd.DataFrame({"city": ["open", "paid"]})))
    assert set(artifacts.read_table("data/quarantine/orders")["broken_rule"]) == {"customer: not in customers"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tables.orders.columns.amount.max", 30),
        ("tables.orders.columns.amount.type", "string"),
        ("tables.orders.unique", ["customer"]),
        ("tables.orders.references", []),
    ],
)
def test_a_changed_contract_makes_its_table_anew(project: Project, year: pd.DataFrame, path: str, value: Any) -> None:
    if path.endswith("type"):
        project.set("processing.tables.orders.columns.amount", {"type": "string", "nullable": True})
    told, held = moves(project, lambda: project.set(f"processing.{path}", value))
    assert (told, held) == ("made 4 partitions, kept 1", {"customers all"})


def test_other_texts_for_missing_make_all_anew(project: Project, year: pd.DataFrame) -> None:
    told, held = moves(project, lambda: project.set("processing.missing", ["", "NA", "60"]))
    assert (told, held) == ("made 5 partitions, kept 0", set())


def refine(project: Project, body: str) -> None:
    """Write the user's `refine`: what becomes of the orders, as an expression of `orders` and `customers`."""
    file = project.folder / "refine.py"
    file.write_text(
        "import ibis\n\n\ndef refine(tables):\n    orders, customers = tables['orders'], tables['customers']\n"
        f"    return {{**tables, 'orders': {body}}}\n"
    )
    project.functions["processing", "refine"] = runpy.run_path(str(file))["refine"]


def test_changed_code_of_the_user_makes_all_anew(project: Project, year: pd.DataFrame) -> None:
    for amount in ("orders.amount + 1", "orders.amount + 2"):
        told, held = moves(project, lambda amount=amount: refine(project, f"orders.mutate(amount={amount})"))
        assert (told, held) == ("made 5 partitions, kept 0", set())
    assert artifacts.read_table("data/lake/orders")["amount"].iloc[0] == 12.5
    told, held = moves(project, lambda: project.raw("orders", "2020-05", month(5, {"id": "13"})))
    assert (told, held) == ("made 1 partition, kept 5", EVERYTHING)


WHOLE = [
    "orders.mutate(amount=orders.count().over(ibis.window(group_by='customer')).cast('float64'))",
    "orders.mutate(amount=orders.amount - orders.amount.mean())",
    "orders.left_join(orders.group_by('customer').agg(n=ibis._.count()), 'customer').mutate(amount=ibis._.n * 1.0)",
    "orders.left_join(orders.view().select(id='id', other='amount'), 'id').drop('id_right').mutate(amount=ibis._.other)",
    "orders.union(orders).distinct()",
]


@pytest.mark.parametrize("body", WHOLE)
def test_where_rows_depend_on_each_other_any_change_makes_the_table_anew(
    project: Project, year: pd.DataFrame, body: str
) -> None:
    project.set("processing.tables.orders.columns.amount", {"type": "float64", "nullable": True})
    refine(project, body)
    advance()
    prove_kept = moves(project, lambda: None)
    assert prove_kept == ("made 0 partitions, kept 5", EVERYTHING)
    news = month(5, {"id": "13"}, {"id": "14", "amount": "500"})
    told, held = moves(project, lambda: project.raw("orders", "2020-05", news))
    assert (told, held) == ("made 5 partitions, kept 1", {"customers all"})
    told, held = moves(project, lambda: artifacts.remove(project.folder / "data/raw/orders/2020-05.parquet"))
    assert (told, held) == ("made 4 partitions, kept 1", {"customers all"})
    project.raw("orders", "2020-03", month(3, {"id": "7"}))
    advance()
    moves(project, lambda: project.raw("customers", "all", CUSTOMERS.head(1)))


WITH_CITY = "orders.left_join(customers.select('customer', 'city'), 'customer').drop('customer_right')"


def test_types_are_given_row_by_row_in_whatever_form_values_are_written() -> None:
    """Among them are functions of the engine that Ibis does not know, and may take for anything."""
    table = engine.local().create_table("orders", pd.DataFrame({"text": ["1"]}))
    for form in (*datetimes.FORMATS, "%d.%m.%Y", "%Y %z"):
        assert engine.row_by_row(table.mutate(at=datetimes.parse(table["text"], form)), {"orders"}), form
    assert engine.row_by_row(table.mutate(n=numbers.whole_number(table["text"])), {"orders"})
    assert not engine.row_by_row(table.mutate(n=ibis.random()), {"orders"})


def test_sql_of_the_user_is_taken_to_gather_rows() -> None:
    table = engine.local().create_table("orders", pd.DataFrame({"id": [1, 2]}))
    asked = ops.SQLStringView(
        parent=table.op(), query="SELECT max(id) AS id FROM orders", schema=table.schema()
    ).to_expr()
    assert engine.row_by_row(table.mutate(id=table["id"] + 1), {"orders"})
    assert not engine.row_by_row(asked, {"orders"})


def test_a_column_from_another_table_is_made_anew_with_that_table(project: Project, year: pd.DataFrame) -> None:
    project.set("processing.tables.orders.columns.city", {"type": "string", "nullable": True})
    refine(project, WITH_CITY)
    advance()
    told, held = moves(project, lambda: project.raw("orders", "2020-05", month(5, {"id": "13"})))
    assert (told, held) == ("made 1 partition, kept 5", EVERYTHING)
    told, held = moves(project, lambda: project.raw("customers", "all", CUSTOMERS.assign(city="Rome")))
    assert held == set()
    assert set(artifacts.read_table("data/lake/orders")["city"]) == {"Rome"}


@pytest.mark.parametrize("body", [None, WITH_CITY])
def test_a_lake_beside_another_follows_the_tables_that_it_does_not_hold(
    project: Project, year: pd.DataFrame, body: str | None
) -> None:
    """As that of `ninefold ingest`, whose orders refer to the customers of data/lake."""
    if body:
        project.set("processing.tables.orders.columns.city", {"type": "string", "nullable": True})
        refine(project, body)
    advance()
    places = lake.Places(
        "data/s/raw", "data/s/lake", "data/s/quarantine", "data/s/state.json", beside=processing.PLACES
    )
    rows = month(6, {"id": "20"}, {"id": "21", "customer": "bob"})
    artifacts.write_table(rows.astype("str"), artifacts.path("data/s/raw/orders/2020-06.parquet"))

    def stream() -> tuple[int, dict[str, bytes]]:
        raw = {"orders": {"2020-06": artifacts.sha256(artifacts.path("data/s/raw/orders/2020-06.parquet"))}}
        count = processing.lake_of(places, raw, load("processing"), engine.connect()).update()
        artifacts.publish()
        return count, project.bytes("data/s/lake") | project.bytes("data/s/quarantine")

    assert stream()[0] == 1
    assert stream()[0] == 0
    project.raw("customers", "all", CUSTOMERS.head(1).assign(city="Rome"))
    advance()
    count, found = stream()
    assert (count, engine.count("data/s/lake/orders"), engine.count("data/s/quarantine/orders")) == (1, 1, 1)
    for name in ("lake", "quarantine", "state.json"):
        artifacts.remove(artifacts.path("data/s") / name)
    assert stream() == (1, found)


def damage(project: Project, name: str, how: str) -> None:
    file = project.folder / "data" / name
    if how == "lost":
        artifacts.remove(file)
    elif how == "cut":
        content = file.read_bytes()
        artifacts.remove(file)
        file.write_bytes(content[:100])
    elif how == "replaced":
        artifacts.write_table(pd.read_parquet(file).head(1), file)
    else:
        shutil.copy2(file, file.with_name("part-9.parquet"))


@pytest.mark.parametrize("how", ["lost", "cut", "replaced", "doubled"])
@pytest.mark.parametrize(
    "name", ["lake/orders/period=2020-02/part-0.parquet", "quarantine/orders/period=2020-01/part-0.parquet"]
)
def test_a_lake_damaged_by_hand_is_made_again(project: Project, year: pd.DataFrame, name: str, how: str) -> None:
    project.raw("orders", "2020-01", month(1, {"id": "1"}, {"id": "x"}, {"id": "y"}))
    advance()
    sound = made(project)
    told, _ = moves(project, lambda: damage(project, name, how))
    assert told == "made 5 partitions, kept 0"
    assert made(project) == sound


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"tables": {"orders": 1}}', '{"tables": {"orders": {"periods": {}}}}']
)
def test_a_lost_or_damaged_memory_of_the_last_run_makes_all_again(
    project: Project, year: pd.DataFrame, text: str | None
) -> None:
    state = project.folder / "data/state/processing.json"
    told, _ = moves(project, lambda: state.unlink() if text is None else state.write_text(text))
    assert told in ("made 5 partitions, kept 0", "made 4 partitions, kept 1")


def test_strange_files_in_the_lake_do_not_stay(project: Project, year: pd.DataFrame) -> None:
    place = project.folder / "data/lake"
    shutil.copytree(place / "orders/period=2020-01", place / "orders/period=2019-01")
    shutil.copytree(place / "orders", place / "visits")
    moves(project, lambda: None)
    assert sorted(folder.name for folder in place.iterdir()) == ["customers", "orders"]


def test_a_gate_that_failed_leaves_nothing_behind(project: Project, year: pd.DataFrame) -> None:
    before = made(project)
    project.raw("orders", "2020-05", month(5, {"id": "13"}))
    project.set("processing.tables.customers.columns.city", {"type": "int64"})
    with pytest.raises(GateFailed):
        close(run()[0])
    assert made(project) == before
    project.set("processing.tables.customers.columns.city", {"type": "string", "nullable": True})
    assert moves(project, lambda: None) == ("made 1 partition, kept 5", EVERYTHING)


def test_a_stage_run_twice_before_its_gate_gives_the_same(project: Project, year: pd.DataFrame) -> None:
    """As in a notebook, whose cells may be run again: the outputs of the first time are pending."""
    project.raw("orders", "2020-02", month(2, {"id": "7"}))
    run()
    run()
    assert artifacts.path("reports/timings/03_processing.txt").read_text().startswith("made 2 partitions")
    artifacts.publish()
    prove(project)


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_how_many_rows_are_judged_at_once_leaves_no_trace(
    project: Project, year: pd.DataFrame, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.raw("orders", "2020-02", month(2, {"id": "1"}, {"id": "7"}, {"id": "4"}, {"id": "4"}))
    advance()
    whole = made(project)
    monkeypatch.setattr(lake, "BATCH", batch)
    start_anew(project)
    advance()
    assert made(project) == whole


class Shop:
    """A shop whose months arrive in any order, are corrected, and vanish; its orders and payments refer to each other.

    What ought to become of each row is told by plain Python, row by row, with no engine.
    """

    def __init__(self, project: Project, seed: int) -> None:
        self.project, self.draw = project, np.random.default_rng(seed)
        self.raw: dict[str, dict[str, pd.DataFrame]] = {"payments": {}, "orders": {}, "customers": {}}
        text, whole = {"type": "string"}, {"type": "int64"}
        gaps = {"type": "string", "nullable": True}
        tables = {  # each refers to one further down, so that they cannot be made in this order
            "payments": {
                "unique": ["order", "part"],
                "references": [{"table": "orders", "by": {"order": "id", "by": "customer"}}],
                "columns": {"order": {**whole, "nullable": True}, "part": gaps, "by": gaps},
            },
            "orders": {
                "unique": ["id"],
                "references": [
                    {"table": "customers", "by": ["customer"]},
                    {"table": "customers", "by": {"giver": "customer"}},
                ],
                "columns": {"id": whole, "customer": text, "giver": gaps, "amount": {"type": "float64", "min": 0}},
            },
            "customers": {"unique": ["customer"], "columns": {"customer": text, "age": {**whole, "min": 0}}},
        }
        project.set("processing", {"missing": ["", "NA"], "max_quarantined": 1, "tables": tables})
        self.arrive("customers", "all")
        for number in self.draw.permutation(range(1, 6)):
            for table in ("orders", "payments") if number % 2 else ("orders",):
                self.arrive(table, f"2020-{number:02}")

    def month(self) -> str:
        return f"2020-{self.draw.integers(1, 7):02}"

    def of(self, values: str, size: int) -> list[str]:
        return ["" if value == "_" else value for value in self.draw.choice(list(values), size)]

    def arrive(self, table: str, period: str) -> None:
        """Let one month of a table arrive: the same as before, a correction, or for the first time."""
        size = int(self.draw.integers(0, 5))
        if table == "customers":
            rows = {"customer": self.of("abcdeabcde_", 6), "age": self.of("1234567x_", 6)}
        elif table == "orders":
            people = {"customer": self.of("abcdeabcdef_", size), "giver": self.of("abc___", size)}
            numbers = [str(number) for number in self.draw.integers(1, 10, size)]
            rows = {"id": numbers, **people, "amount": self.of("12345678x", size)}
        else:
            numbers = [str(number) for number in self.draw.integers(1, 10, size)]
            rows = {"order": numbers, "part": self.of("xy__", size), "by": self.of("abc__", size)}
        self.raw[table][period] = pd.DataFrame(rows, dtype="str")
        self.project.raw(table, period, self.raw[table][period])

    def change(self) -> None:
        """Let something happen, or nothing."""
        for _ in range(self.draw.integers(0, 3)):
            table = str(self.draw.choice(["orders", "orders", "payments", "customers"]))
            months = sorted(self.raw[table])
            if table == "customers":
                self.arrive(table, "all")
            elif self.draw.random() < 0.2 and len(months) > 1:
                gone = str(self.draw.choice(months))
                del self.raw[table][gone]
                (self.project.folder / f"data/raw/{table}/{gone}.parquet").unlink()
            else:
                self.arrive(table, str(self.draw.choice(months)) if self.draw.random() < 0.3 else self.month())

    def expected(self) -> dict[tuple[str, str, int], str]:
        """Return which rule each row breaks, none being empty; by table, month and number of the row."""
        found: dict[tuple[str, str, int], str] = {}
        people: set[str] = set()
        for place, row in self.rows("customers"):
            broken = {
                "age: not int64": row["age"] == "x",
                "customer: missing": not row["customer"],
                "age: missing": not row["age"],
                "unique: customer": row["customer"] in people,
            }
            found[place] = next((rule for rule, breaks in broken.items() if breaks), "")
            people |= set() if found[place] else {row["customer"]}
        taken: dict[str, str] = {}
        for place, row in self.rows("orders"):
            broken = {
                "amount: not float64": row["amount"] == "x",
                "customer: missing": not row["customer"],
                "customer: not in customers": row["customer"] not in people,
                "giver: not in customers": row["giver"] not in {"", *people},
                "unique: id": row["id"] in taken,
            }
            found[place] = next((rule for rule, breaks in broken.items() if breaks), "")
            taken |= {} if found[place] else {row["id"]: row["customer"]}
        paid: set[tuple[str, str]] = set()
        for place, row in self.rows("payments"):
            lost = row["by"] and taken.get(row["order"]) != row["by"]
            twice = (row["order"], row["part"]) in paid
            found[place] = "order, by: not in orders" if lost else "unique: order, part" if twice else ""
            paid |= set() if found[place] else {(row["order"], row["part"])}
        return found

    def rows(self, table: str) -> Iterator[tuple[tuple[str, str, int], dict[str, str]]]:
        for period in sorted(self.raw[table]):
            for number, row in enumerate(self.raw[table][period].to_dict("records"), start=1):
                yield (table, period, number), row

    def held_back(self) -> dict[tuple[str, str, int], str]:
        """Return the same of the quarantine, as it was made."""
        found = {}
        for table in self.raw:
            for file in engine.parts(f"data/quarantine/{table}"):
                for row in pd.read_parquet(file).itertuples():
                    assert file.parent.name == f"period={row.raw_period}"
                    found[table, row.raw_period, row.raw_row] = row.broken_rule
        return found


@pytest.mark.parametrize("seed", range(25))
def test_whatever_arrives_in_whatever_order_parts_make_the_same_as_the_whole(
    project: Project, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(project, seed)
    for step in range(3):
        if step:
            shop.change()
        monkeypatch.setattr(lake, "BATCH", int(shop.draw.choice([3, 1000])))
        advance()
        expected = shop.expected()
        assert shop.held_back() == {place: rule for place, rule in expected.items() if rule}
        for table in shop.raw:
            sound = sum(not rule for (name, _, _), rule in expected.items() if name == table)
            assert engine.count(f"data/lake/{table}") == sound
        if step:
            monkeypatch.setattr(lake, "BATCH", int(shop.draw.choice([3, 1000])))
            prove(project)

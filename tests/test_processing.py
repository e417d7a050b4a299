from __future__ import annotations

from typing import Any

import ibis
import pandas as pd
import pytest
from conftest import Project

from ninefold import processing
from ninefold.core import engine, gate, io
from ninefold.core.errors import DataError, GateFailed, ParamsError
from ninefold.core.params import load

CUSTOMERS = pd.DataFrame({"customer": ["ann", "bob"], "city": ["Bern", ""]})
STATED = {"table": "orders", "units": "orders", "time": "placed", "target": "returned", "key": ["id"]}


def collect(project: Project, orders: pd.DataFrame, customers: pd.DataFrame = CUSTOMERS) -> None:
    for month, rows in orders.groupby(orders["placed"].str[:7]):
        project.raw("orders", str(month), rows)
    project.raw("customers", "all", customers)


def run() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the stage up to its gate; return where the rows went, and which rules they broke."""
    params, connection = load("processing"), engine.connect()
    judged = processing.judge(processing.convert(processing.read(params, connection), params), params)
    counts = processing.write(judged, params, processing.partition_columns(params, STATED))
    return counts, processing.broken_rules(connection, params)


def close(counts: pd.DataFrame) -> None:
    params, connection = load("processing"), engine.connect()
    validation = processing.validate(connection, params)
    shares = processing.missing_shares(connection)
    gate.close("processing", processing.checks(counts, validation, params), processing.metrics(counts, shares), "Done.")


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
    lake = io.read_table("data/lake/orders")
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
    assert io.read_table("data/quarantine/orders")["broken_rule"].tolist() == [rule]


@pytest.mark.parametrize(("column", "value"), [("amount", "0"), ("amount", "1000"), ("id", "2.0"), ("amount", "1e2")])
def test_a_value_on_its_bound_or_written_otherwise_is_sound(
    project: Project, orders: pd.DataFrame, column: str, value: str
) -> None:
    collect(project, spoil(orders, column, value))
    assert run()[0].loc[0, "quarantine"] == 0


def test_an_example_shows_the_key_and_the_value_that_broke_the_rule(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders, "amount", "5000"))
    _, broken = run()
    assert broken["first example"].tolist() == ["id 2, amount 5000.0"]
    assert "The rule broken most often is `amount: over 1000`" in processing.describe_broken(broken)


def test_of_rows_with_the_same_key_one_is_kept(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders, "id", "1"))
    counts, broken = run()
    assert counts.loc[0, ["lake", "quarantine"]].tolist() == [5, 1]
    assert broken["rule"].tolist() == ["unique: id"]
    assert io.read_table("data/lake/orders")["id"].tolist() == [1, 3, 4, 5, 6]


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
        "found id, placed, customer, returned"
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
    assert io.read_table("data/lake/orders")["returned"].astype(object).where(lambda v: v.notna(), None).tolist() == [
        0,
        0,
        None,
        1,
        1,
        1,
    ]


def test_the_same_raw_data_gives_the_same_bytes_in_any_order_of_rows(project: Project, orders: pd.DataFrame) -> None:
    many = pd.concat([orders.assign(id=orders["id"] + str(copy), amount=str(copy)) for copy in range(500)])
    doubled = pd.concat([many, many.head(900).assign(amount="7"), many.head(900).assign(amount="8")], ignore_index=True)
    project.set("processing.max_quarantined", 1)
    results = []
    for seed in (1, 2):
        collect(project, doubled.sample(frac=1, random_state=seed))
        close(run()[0])
        results.append(project.bytes("data/lake") | project.bytes("data/quarantine") | project.bytes("reports/metrics"))
    assert results[0] == results[1]


def test_a_table_is_partitioned_by_the_month_of_its_time(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders)
    close(run()[0])
    assert list(project.bytes("data/lake")) == [
        "data/lake/customers/part.parquet",
        "data/lake/orders/period=2020-01/part.parquet",
        "data/lake/orders/period=2020-02/part.parquet",
    ]


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
    io.write_table(CUSTOMERS, project.folder / "data/lake/customers/part.parquet")
    failures = []
    for table in (sound, {**sound, column: values}):
        io.write_table(pd.DataFrame(table), project.folder / "data/lake/orders/part.parquet")
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
        processing.partition_columns(load("processing"), {**STATED, **changed})


def test_the_texts_say_where_the_rows_went_and_where_the_gaps_are(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders, "amount", "-3"))
    counts, broken = run()
    connection, params = engine.connect(), load("processing")
    assert processing.describe_counts(counts) == "Of 8 raw rows, 7 are in the lake and 1 in quarantine (12 %)."
    assert processing.describe_broken(broken.head(0)) == "Every row keeps its contract; the quarantine is empty."
    shares = processing.missing_shares(connection)
    assert shares["missing"].tolist() == [0.5, 0.2, 0.2]
    assert "the widest is customers.city with 50.0% missing" in processing.describe_missing(shares)
    assert processing.left_out(processing.read(params, connection), params) == "Every raw column is part of a contract."
    values = processing.promises(params.tables["orders"]).set_index("column")["values"]
    assert values["amount"] == "at least 0, at most 1000"
    assert values["status"] == "one of open, paid"
    assert values["customer"] == "any"


def test_the_months_with_the_lowest_and_highest_share_are_named() -> None:
    monthly = pd.DataFrame({"month": ["2020-01", "2020-02", "2020-03"], "share": [0.2, None, 0.1]})
    text = processing.describe_months(monthly, STATED)
    assert "10.0% of the orders of 2020-03, the lowest month, and for 20.0% of those of 2020-01" in text
    assert "not known" in processing.describe_months(monthly.assign(share=float("nan")), STATED)

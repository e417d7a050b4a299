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
STATED = {
    "table": "orders",
    "units": "orders",
    "time": "placed",
    "target": "returned",
    "key": ["id"],
    "group": None,
    "task": "binary",
    "classes": ["0", "1"],
    "focus": "1",
}


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
    shares, broken = processing.missing_shares(connection), processing.broken_rules(connection, params)
    checks = processing.checks(counts, validation, broken, params)
    gate.close("processing", checks, processing.metrics(counts, shares), "Done.")


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
    assert broken["examples"].tolist() == ["id 2, amount 5000.0"]
    assert broken["column"].tolist() == ["amount"]
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
    assert "the widest is `customers.city` with 50.0% missing" in processing.describe_missing(shares)
    assert processing.left_out(processing.read(params, connection), params) == "Every raw column is part of a contract."
    values = processing.promises(params.tables["orders"]).set_index("column")["values"]
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
    params, connection = load("processing"), engine.connect()
    processing.write(
        processing.judge(processing.convert(processing.read(params, connection), params), params), params, {}
    )
    lake = io.read_table("data/lake/t")
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
    stated = {**STATED, "table": "t", "time": time, "target": "y", "key": [name], "classes": ["a b", "c"], "focus": "c"}
    params, connection = load("processing"), engine.connect()
    judged = processing.judge(processing.convert(processing.read(params, connection), params), params)
    counts = processing.write(judged, params, processing.partition_columns(params, stated))
    assert counts.loc[0, ["lake", "quarantine"]].tolist() == [1, 2]
    broken = processing.broken_rules(connection, params).set_index("rule")
    assert broken.loc[f"{name}: not float64", "examples"] == f"row 2: {name} x"
    assert broken.loc[f"{name}: not float64", "column"] == name
    assert broken.loc["on: the day: not timestamp", "examples"] == f"row 3: {name} 3, on: the day ?"
    assert processing.validate(connection, params)["failures"].tolist() == [0]
    lake = engine.tables(connection, "data/lake")["t"]
    connection.create_view("t", processing.view(lake, stated))
    answer = connection.raw_sql(processing.query(stated)).df()
    assert answer["rows"].tolist() == [1]
    assert processing.describe_answer(answer, stated)


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
            "`status: not allowed` by 3 of 6 rows of orders, such as id 1, status lost; id 3, status lost; id 5, status lost",
            "values within allowed open, paid; if these are sound, widen processing.tables.orders.columns.status.allowed",
        ),
        (
            "customer",
            [""] * 6,
            "`customer: missing` by 6 of 6 rows of orders, such as id 1, customer missing; id 2",
            "if it may be missing, set processing.tables.orders.columns.customer.nullable: true",
        ),
        (
            "amount",
            ["-1"] * 6,
            "`amount: under 0` by 6 of 6 rows of orders, such as id 1, amount -1.0",
            "values within min 0; if these are sound, widen processing.tables.orders.columns.amount.min",
        ),
        (
            "id",
            ["1"] * 6,
            "`unique: id` by 5 of 6 rows of orders, such as id 1; id 1; id 1",
            "rows that differ in processing.tables.orders.unique; name more columns there",
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
        message = judged_badly(project, orders.assign(**{column: values}))
    assert f"rule broken most often: found {found}" in message
    assert remedy in message


@pytest.mark.parametrize("column", [{"type": "int64"}, {"type": "string"}, {"type": "timestamp", "nullable": True}])
def test_the_time_of_the_problem_is_a_timestamp_in_every_row(project: Project, column: dict[str, Any]) -> None:
    project.set("processing.tables.orders.columns.placed", column)
    with pytest.raises(ParamsError, match=r"columns.placed: found type .*, expected type timestamp, not nullable"):
        processing.partition_columns(load("processing"), STATED)


def test_without_a_time_a_table_is_partitioned_by_one_of_its_key_or_not_at_all(project: Project) -> None:
    stated = {**STATED, "time": None, "group": ["customer"]}
    assert processing.partition_columns(load("processing"), stated) == {"orders": None, "customers": None}
    project.set("processing.tables.orders.unique", ["id", "placed"])
    assert processing.partition_columns(load("processing"), stated) == {"orders": "placed", "customers": None}
    with pytest.raises(ParamsError, match=r"^problem.group: house not among the columns"):
        processing.partition_columns(load("processing"), {**stated, "group": ["house"]})


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
            ["tenth", "rows", "lowest", "mean", "highest"],
            "The lowest tenth of `amount` reaches from 10.5 to 10.5, the highest from 60 to 60",
        ),
    ],
)
def test_the_lake_is_asked_what_fits_the_problem(
    project: Project, orders: pd.DataFrame, changed: dict[str, Any], columns: list[str], text: str
) -> None:
    collect(project, orders)
    run()
    stated, connection = {**STATED, **changed}, engine.connect()
    connection.create_view("orders", processing.view(engine.tables(connection, "data/lake")["orders"], stated))
    answer = connection.raw_sql(processing.query(stated)).df()
    assert list(answer) == columns
    assert text in processing.describe_answer(answer, stated)
    assert processing.query_caption(stated).startswith("Orders ")


def test_an_unknown_target_is_said_to_be_unknown(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.assign(returned=""))
    run()
    for time in ("placed", None):
        stated, connection = {**STATED, "time": time}, engine.connect()
        connection.create_view("orders", processing.view(engine.tables(connection, "data/lake")["orders"], stated))
        answer = connection.raw_sql(processing.query(stated)).df()
        assert processing.describe_answer(answer, stated) == "The target `returned` is not known of any of the orders."


def test_rows_are_grouped_by_a_column_of_few_values() -> None:
    kinds = {"id": "string", "n": "int64", "level": "string", "city": "string", "y": "string"}
    contract = processing.Contract(unique=["id"], columns={name: {"type": kind} for name, kind in kinds.items()})
    assert processing.grouping(contract, {"target": "y", "time": None, "key": ["id"]}) == "city"
    assert processing.grouping(contract, {"target": "city", "time": None, "key": ["id", "n"]}) == "id"

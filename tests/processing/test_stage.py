"""Stage 03: text becomes typed rows in the lake or rows in quarantine, and its gate, tables and sentences say so."""

from typing import Any

import ibis
import pandas as pd
import pytest
from conftest import Project
from processing_runs import CUSTOMERS, PROBLEM, close, collect, refer, run, spoil, start_anew

from ninefold import artifacts, collection, engine
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.params import load
from ninefold.problem import decisions
from ninefold.processing import stage as processing


def test_clean_text_becomes_typed_rows(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders)
    counts, broken = run()
    assert counts.to_numpy().tolist() == [["orders", 6, 6, 0], ["customers", 2, 2, 0]]
    assert broken.empty
    lake = artifacts.read_table("data/lake/orders")
    assert lake["id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert lake["placed"].iloc[0] == pd.Timestamp("2020-01-05 12:00")
    assert lake["amount"].isna().tolist() == [False, False, True, False, False, False]
    start_anew(project)  # a value on its bound, or written otherwise, is sound as well
    collect(project, spoil(orders, "id", "2.0").assign(amount=["0", "1000", "1e2", "1", "2", "3"]))
    assert run()[0].loc[0, "quarantine"] == 0


def refine(project: Project, change: Any) -> None:
    project.functions["processing", "refine"] = lambda tables: {**tables, "orders": change(tables)}


def test_the_user_may_derive_a_column_but_drop_no_row(project: Project, orders: pd.DataFrame) -> None:
    collect(project, orders.drop(columns="returned"))
    refine(project, lambda tables: tables["orders"].mutate(returned=(ibis._.amount > 30).cast("int64")))
    run()
    assert artifacts.read_table("data/lake/orders")["returned"].fillna(9).tolist() == [0, 0, 9, 1, 1, 1]
    collect(project, orders)
    refine(project, lambda tables: tables["orders"].filter(ibis._.id > 2))
    with pytest.raises(GateFailed, match="rows neither in lake nor quarantine: found 2, expected <= 0"):
        close(run()[0])


def test_a_missing_table_or_column_is_one_clear_message(project: Project, orders: pd.DataFrame) -> None:
    project.raw("orders", "2020-01", orders)
    with pytest.raises(DataError, match=r"data/raw: lacks customers, which processing.tables names; found orders"):
        run()
    collect(project, orders.drop(columns=["status", "amount"]))
    lacks = "data/raw/orders: lacks amount, status, which processing.tables.orders expects; found id, placed, customer"
    with pytest.raises(DataError, match=f"^{lacks}, returned; fix the names at the source, or the contract$"):
        run()
    collect(project, orders)
    for lost in ("orders", "visits"):
        refine(project, lambda tables, lost=lost: tables[lost].mutate(x=tables[lost].no_such_column))
        with pytest.raises(DataError, match=r"project.processing.refine: .* not found; the raw tables have orders: id"):
            run()


def test_every_rule_is_listed_those_that_were_broken_most_often_first(project: Project, orders: pd.DataFrame) -> None:
    refer(project, ["customer"])
    collect(project, orders.assign(status=["lost"] * 4 + ["paid"] * 2, amount=["1", "1", "1", "1", "-1", "1"]))
    run()
    params = load("processing")
    rules = processing.broken_rules(engine.connect(), params)
    expected = {(name, rule) for name, contract in params.tables.items() for rule in contract.rules()}
    assert set(zip(rules["table"], rules["rule"], strict=True)) == expected
    assert rules["rule"].head(2).tolist() == ["status: not allowed", "amount: under 0"]
    assert rules["rows"].tolist() == [4, 1] + [0] * (len(expected) - 2)
    shown = [f"row {row} of 2020-01: id {row}, status lost" for row in (1, 2, 3)]
    assert rules["examples"].tolist()[::2][:2] == ["; ".join(shown), ""]


@pytest.mark.parametrize(("column", "values", "first"), [
    ("amount", [1.0, 2.0], "none"), ("amount", [-1.0, 5.0], "amount: under 0"),
    ("amount", ["1", "2"], "amount is string"), ("status", ["open", "lost"], "status: not allowed"),
    ("id", [7, 7], "unique: id"), ("customer", ["ann", None], "customer: missing"),
    ("customer", ["ann", "zoe"], "customer: not in customers"),
])  # fmt: skip
def test_the_lake_is_checked_as_it_is_stored(project: Project, column: str, values: list[Any], first: str) -> None:
    days = pd.to_datetime(["2020-01-01", "2020-01-02"]).as_unit("us")
    sound = {"id": [1, 2], "placed": days, "customer": ["ann", "bob"], "amount": [1.0, 2.0], "status": ["open", "paid"]}
    project.lake("customers", CUSTOMERS)
    project.lake("orders", pd.DataFrame({**sound, "returned": [0, 1], column: values}))
    refer(project, ["customer"])
    checked = processing.validate(engine.connect(), load("processing"))
    failures = int(first != "none")
    assert checked.to_numpy().tolist() == [["orders", 6, 0, failures, first], ["customers", 2, 0, 0, "none"]]
    project.lake("orders", pd.DataFrame({**sound, "returned": [0, 1]}).iloc[[0, 1, 1]].assign(id=[1, 2, 3]))
    assert processing.validate(engine.connect(), load("processing"))["copies"].tolist() == [1, 0]


def test_too_many_rows_of_a_table_in_quarantine_and_none_in_the_lake_fail_the_gate(project: Any, orders: Any) -> None:
    project.set("processing.max_quarantined", 0.1)
    collect(project, spoil(orders, "amount", "-3"))
    with pytest.raises(GateFailed, match=r"quarantined share: found 0.125, expected <= 0.1"):
        close(run()[0])
    project.set("processing.tables.orders.columns.id.min", 100)
    with pytest.raises(GateFailed, match="rows in the smallest table: found 0, expected >= 1"):
        close(run()[0])
    project.set("processing.max_quarantined", 0.001)  # of each table, however large the others are
    counts = pd.DataFrame({"table": ["orders", "customers"], "raw": [1000, 10_000_000], "quarantine": [900, 5000]})
    counts["lake"] = counts["raw"] - counts["quarantine"]
    broken = pd.DataFrame({
        "table": counts["table"], "column": ["amount", "city"], "rule": ["amount: under 0", "city: missing"],
        "rows": [900, 5000], "examples": ["row 1", "row 2"],
    })  # fmt: skip
    sound, fresh = pd.DataFrame({"failures": [0, 0]}), pd.DataFrame()
    failed = [
        each for each in processing.checks(counts, sound, broken, load("processing"), newest=fresh) if not each.passed
    ]
    assert [each.name for each in failed] == ["quarantined share of orders", "rule broken most often"]
    assert failed[0].value == 0.9
    assert "`amount: under 0` by 900 of 1,000 rows of orders" in str(failed[1].value)
    counts["quarantine"] = [1, 5000]
    counts["lake"] = counts["raw"] - counts["quarantine"]
    assert all(check.passed for check in processing.checks(counts, sound, broken, load("processing"), newest=fresh))


@pytest.mark.parametrize(("column", "values", "found", "remedy"), [
    ("returned", "2020-1-5 5/1/20", "returned: not timestamp` by 3", "set PATH.format to how the source"),
    ("amount", "1,5 1", "amount: not float64` by 3", "with decimal '.'; set PATH.decimal and thousands"),
    ("status", "lost paid", "status: not allowed` by 3", "within allowed open, paid; if .* widen PATH.allowed"),
    ("customer", "NA ann", "customer: missing` by 3", "if it may be missing, set PATH.nullable: true"),
    ("amount", "-1 1", "amount: under 0` by 3", "values within min 0; if these are sound, widen PATH.min"),
    ("id", "1 1", "unique: id` by 5", "rows that differ in processing.tables.orders.unique; name more"),
    ("customer", "zoe bob", "customer: not in customers` by 3", "leave out processing.tables.orders.references.0"),
])  # fmt: skip
def test_a_gate_that_rows_fail_names_the_worst_rule_with_examples_and_the_remedy(
    project: Project, orders: pd.DataFrame, column: str, values: str, found: str, remedy: str
) -> None:
    refer(project, ["customer"])
    if column == "returned":
        project.set("processing.tables.orders.columns.returned", {"type": "timestamp"})
    project.set("processing.max_quarantined", 0.01)
    collect(project, orders.assign(**{column: values.split() * 3}))
    remedy = remedy.replace("PATH", f"processing.tables.orders.columns.{column}")
    message = f"rule broken most often: found `{found} of 6 rows of orders, such as row . of 2020-01: id .*{remedy}"
    with pytest.raises(GateFailed, match=message):
        close(run()[0])


def test_the_texts_say_where_the_rows_went_and_where_the_gaps_are(project: Project, orders: pd.DataFrame) -> None:
    collect(project, spoil(orders.assign(extra="x"), "amount", "-3"))
    counts, _ = run()
    assert counts[["raw", "lake", "quarantine"]].sum().tolist() == [8, 7, 1]
    connection, params = engine.connect(), load("processing")
    shares = pd.Series({"customers.city": 0.5, "orders.amount": 0.04, "orders.id": 0.0})
    assert processing.metrics(counts, shares)["columns_with_gaps"] == 2
    assert processing.left_out(processing.read(params, connection), params).endswith("only: `orders`: `extra`.")
    values = processing.promises(params.tables["orders"]).set_index("column")["values"]
    assert values[["amount", "status", "customer"]].tolist() == ["at least 0, at most 1000", "one of open, paid", "any"]


@pytest.mark.parametrize(("kind", "values", "classes", "events"), [
    ("int64", "012", ["0", "1"], [0, 0, 1]),  # 2 is none of the classes
    ("float64", ["0", "2.5", "2.0"], ["0.0", "2.5", "2.0"], [0, 1, 0, 0, 1]),
    ("string", ["it's", "so", "?"], ["so", "other", "it's"], [1, 1, 0]),
    ("int64", "121", ["no", "yes"], []),  # a column that never holds a class
    ("float64", "125", None, [1, 5, 1, 2, 5]),
    ("int64", "125", None, [1, 5, 1, 2, 5]),
])  # fmt: skip
def test_the_view_means_by_the_target_what_every_stage_means(
    project: Project, orders: pd.DataFrame, kind: str, values: Any, classes: Any, events: list[float]
) -> None:
    project.set("processing.tables.orders.columns.returned", {"type": kind, "nullable": True})
    collect(project, orders.assign(returned=[*values, *values]).pipe(spoil, "returned", ""))
    run()
    task = "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"
    problem = PROBLEM.changed(task=task, classes=classes, focus=classes and classes[-1])
    orders = engine.tables(engine.connect(), "data/lake")["orders"].order_by("id")
    known = decisions.outcome(orders["returned"], problem).execute().dropna().to_numpy()
    assert decisions.event(known, problem).tolist() == events


def arrive_by_time(project: Project, orders: pd.DataFrame) -> None:
    """Let stage 02 collect the orders, up to the end of 2020-02-29."""
    months = {month: rows for month, rows in orders.groupby(orders["placed"].str[:7])}
    project.functions["collection", "read"] = lambda table, start, end: (
        CUSTOMERS if table == "customers" else months.get(f"{start:%Y-%m}", orders.head(0))
    )
    params = load("collection")
    collection.collect(params, collection.plan(params), collection.verified_manifest().head(0))
    artifacts.publish()


def test_sound_rows_alone_make_a_table_new_or_else_all_that_was_collected(project: Project, orders: Any) -> None:
    project.set("processing.tables.orders.newest", {"placed": "12h"})
    collect(project, orders)
    with pytest.raises(ParamsError, match=r"^processing.tables.orders.newest: nothing was collected by time"):
        close(run()[0])
    artifacts.remove(project.folder / "data/raw")
    name = "orders.placed: hours before the end that its newest is"
    arrive_by_time(project, orders)
    close(run()[0])
    checks = artifacts.read_json("reports/metrics/03_processing.json")["gate"]["checks"]
    assert checks[-1] == {"code": "NF305", "name": name, "value": 12.0, "limit": "<= 12", "passed": True}
    for statuses, hours in ((["paid"] * 5 + ["lost"], "468"), (["lost"] * 6, "None")):
        arrive_by_time(project, orders.assign(status=statuses))
        with pytest.raises(GateFailed, match=f"{name}: found {hours}, expected <= 12"):
            close(run()[0])
    columns = {"customer": {"type": "string"}, "city": {"type": "timestamp", "nullable": True}}
    project.set("processing.tables.customers", {"unique": ["customer"], "newest": {"city": "24h"}, "columns": columns})
    arrive_by_time(project, orders)
    project.lake("customers", pd.DataFrame({"customer": ["ann"], "city": [pd.Timestamp("2020-02-29")]}))
    newest = processing.newest(engine.connect(), load("processing"))
    assert newest[["table", "column", "hours", "limit"]].iloc[-1].tolist() == ["customers", "city", 24.0, 24.0]

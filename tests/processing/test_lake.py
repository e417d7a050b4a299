"""What is made by parts is what would be made at once, and only what a change concerns is made again."""

import runpy
import shutil
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from conftest import Project
from processing_runs import CUSTOMERS, advance, close, collect, lake_ids, made, prove, refer, run

from ninefold import artifacts, engine
from ninefold.errors import GateFailed
from ninefold.params import load
from ninefold.processing import lake
from ninefold.processing import stage as processing

EVERYTHING = {"customers all", *(f"orders 2020-0{number}" for number in range(1, 5))}


def inodes(project: Project) -> dict[str, int]:
    files = (project.folder / "data/lake").rglob("*.parquet")
    return {f"{file.parts[-3]} {file.parts[-2].removeprefix('period=')}": file.stat().st_ino for file in files}


def after(project: Project, change: Callable[[], Any]) -> tuple[str, set[str]]:
    """Let something change; return what the next run says that it made, and the partitions of the lake made again."""
    before = inodes(project)
    change()
    note = advance()
    now = inodes(project)
    prove(project)
    return note.partition(",")[0], {name for name in EVERYTHING if now.get(name) != before.get(name)}


def month(number: int, *rows: dict[str, str]) -> pd.DataFrame:
    sound = {"placed": f"2020-0{number}-07", "customer": "ann", "amount": "5", "status": "paid", "returned": "0"}
    return pd.DataFrame([{"id": "99", **sound, **row} for row in rows])[["id", *sound]]


@pytest.fixture
def year(project: Project, orders: pd.DataFrame) -> pd.DataFrame:
    """Return four months of orders that refer to customers, of which the stage has made the lake."""
    project.set("processing.max_quarantined", 1)
    refer(project, ["customer"])
    times = orders["placed"].str.replace("-02-", "-04-").str.replace("-01-", "-03-")
    rows = pd.concat([orders, orders.assign(id=["7", "8", "9", "10", "11", "12"], placed=times)], ignore_index=True)
    collect(project, rows)
    advance()
    assert lake_ids() == list(range(1, 13))
    return rows


FEBRUARY = "orders 2020-02"


@pytest.mark.parametrize(("period", "rows", "note", "again"), [
    (None, None, "made 0 partitions", set()),
    ("2020-05", month(5, {"id": "13"}, {"id": "x"}), "made 1 partition", set()),  # new
    ("2019-12", month(1, {"id": "13"}), "made 1 partition", set()),  # that comes late
    ("2020-05", month(5, {}).head(0), "made 1 partition", set()),
    ("2020-02", month(2, {}).head(0), "made 1 partition", {FEBRUARY}),
    ("2020-02", month(2, {"id": "4"}, {"id": "x"}), "made 1 partition", {FEBRUARY}),  # corrected
    ("2020-02", month(2, {"id": "7"}), "made 2 partitions", {FEBRUARY, "orders 2020-03"}),  # takes a later key
    ("2020-02", None, "made 0 partitions", {FEBRUARY}),  # gone
])  # fmt: skip
def test_only_the_months_that_a_change_concerns_are_made_again(
    project: Project, year: pd.DataFrame, period: str | None, rows: pd.DataFrame | None, note: str, again: set[str]
) -> None:
    before, file = made(project), project.folder / f"data/raw/orders/{period}.parquet"

    def change() -> None:
        if rows is not None:
            project.raw("orders", str(period), rows)
        elif period:
            artifacts.remove(file)

    def undo() -> None:
        if file.exists():
            artifacts.remove(file)
        for number, original in year.groupby(year["placed"].str[:7]):
            project.raw("orders", str(number), original)

    assert after(project, change) == (note, again)
    after(project, undo)
    assert made(project) == before


def test_rows_whose_reference_is_gone_leave_kept_months_and_come_back_with_it(project: Project, year: Any) -> None:
    project.raw("orders", "2020-03", month(3, {"id": "7"}))  # of ann alone
    advance()
    for customers, broken in ((CUSTOMERS.head(1), [2, 4, 6, 10, 12]), (CUSTOMERS, [])):
        note, again = after(project, lambda rows=customers: project.raw("customers", "all", rows))
        assert (note, again) == ("made 4 partitions", EVERYTHING - {"orders 2020-03"})
        files = engine.parts("data/quarantine/orders")
        assert [int(number) for file in files for number in pd.read_parquet(file)["id"]] == broken
    others = pd.DataFrame({"customer": ["ann", "bob", "eve"], "city": ["Rome", "Oslo", "Bern"]})  # who concern no order
    assert after(project, lambda: project.raw("customers", "all", others))[1] == {"customers all"}


def refine(project: Project, body: str) -> None:
    """Write the user's `refine`: what becomes of the orders, as an expression of `orders` and `customers`."""
    file, known = project.folder / "refine.py", "orders, customers = tables['orders'], tables['customers']"
    made_of = f"return {{**tables, 'orders': {body}}}"
    file.write_text(f"import ibis\n\n\ndef refine(tables):\n    {known}\n    {made_of}\n")
    project.functions["processing", "refine"] = runpy.run_path(str(file))["refine"]


@pytest.mark.parametrize(("path", "value", "kept"), [
    ("tables.orders.columns.amount.max", 30, {"customers all"}),
    ("tables.orders.unique", ["customer"], {"customers all"}),
    ("tables.orders.references", [], {"customers all"}),
    ("missing", ["", "NA", "60"], set()),
    ("refine", "orders.mutate(amount=orders.amount + 1)", set()),
])  # fmt: skip
def test_a_changed_contract_or_code_makes_its_tables_anew(
    project: Project, year: pd.DataFrame, path: str, value: Any, kept: set[str]
) -> None:
    change = refine if path == "refine" else lambda project, value: project.set(f"processing.{path}", value)
    assert after(project, lambda: change(project, value))[1] == EVERYTHING - kept
    assert after(project, lambda: project.raw("orders", "2020-05", month(5, {"id": "13"})))[1] == set()


@pytest.mark.parametrize("body", [
    "orders.mutate(amount=orders.count().over(ibis.window(group_by='customer')).cast('float64'))",
    "orders.left_join(orders.group_by('customer').agg(n=ibis._.count()), 'customer').mutate(amount=ibis._.n * 1.0)",
    "orders.left_join(orders.view().select(id='id', other='amount'), 'id').drop('id_right').mutate(amount=ibis._.other)",
])  # fmt: skip
def test_where_rows_depend_on_each_other_any_change_makes_the_table_anew(project: Any, year: Any, body: Any) -> None:
    project.set("processing.tables.orders.columns.amount", {"type": "float64", "nullable": True})
    refine(project, body)
    advance()
    assert after(project, lambda: None) == ("made 0 partitions", set())
    news = month(5, {"id": "13"}, {"id": "14", "amount": "500"})
    assert after(project, lambda: project.raw("orders", "2020-05", news))[1] == EVERYTHING - {"customers all"}
    gone = project.folder / "data/raw/orders/2020-05.parquet"
    assert after(project, lambda: artifacts.remove(gone))[1] == EVERYTHING - {"customers all"}


WITH_CITY = "orders.left_join(customers.select('customer', 'city'), 'customer').drop('customer_right')"


def test_a_column_from_another_table_is_made_anew_with_that_table(project: Project, year: pd.DataFrame) -> None:
    project.set("processing.tables.orders.columns.city", {"type": "string", "nullable": True})
    refine(project, WITH_CITY)
    advance()
    assert after(project, lambda: project.raw("orders", "2020-05", month(5, {"id": "13"})))[1] == set()
    assert after(project, lambda: project.raw("customers", "all", CUSTOMERS.assign(city="Rome")))[1] == EVERYTHING
    assert set(artifacts.read_table("data/lake/orders")["city"]) == {"Rome"}


@pytest.mark.parametrize("body", [None, WITH_CITY])
def test_a_lake_beside_another_follows_the_tables_that_it_does_not_hold(project: Project, year: Any, body: Any) -> None:
    """As that of `ninefold ingest`, whose orders refer to the customers of data/lake."""
    if body:
        project.set("processing.tables.orders.columns.city", {"type": "string", "nullable": True})
        refine(project, body)
    advance()
    kinds = ("data/s/raw", "data/s/lake", "data/s/quarantine", "data/s/state.json")
    places, file = lake.Places(*kinds, beside=processing.PLACES), artifacts.path("data/s/raw/orders/2020-06.parquet")
    artifacts.write_table(month(6, {"id": "20"}, {"id": "21", "customer": "bob"}).astype("str"), file)

    def stream() -> tuple[int, dict[str, bytes]]:
        raw = {"orders": {"2020-06": artifacts.sha256(file)}}
        count = lake.Lake(places, raw, load("processing"), engine.connect()).update()
        artifacts.publish()
        return count, project.bytes("data/s/lake") | project.bytes("data/s/quarantine")

    assert (stream()[0], stream()[0]) == (1, 0)
    project.raw("customers", "all", CUSTOMERS.head(1).assign(city="Rome"))
    advance()
    count, files = stream()
    assert (count, engine.count("data/s/lake/orders"), engine.count("data/s/quarantine/orders")) == (1, 1, 1)
    for kind in kinds[1:]:
        artifacts.remove(artifacts.path(kind))
    assert stream() == (1, files)


@pytest.mark.parametrize("how", ["lost", "cut", "replaced", "doubled", "stray"])
@pytest.mark.parametrize("name", ["lake/orders/period=2020-02", "quarantine/orders/period=2020-01"])
def test_a_lake_damaged_by_hand_is_made_again(project: Project, year: pd.DataFrame, name: str, how: str) -> None:
    project.raw("orders", "2020-01", month(1, {"id": "1"}, {"id": "x"}, {"id": "y"}))
    advance()
    sound, folder = made(project), project.folder / "data" / name

    def damage() -> None:
        content, file = (folder / "part-0.parquet").read_bytes(), folder / "part-0.parquet"
        if how in ("lost", "cut", "replaced"):
            artifacts.remove(file)  # a link, whose other names are to stay as they are
        if how == "cut":
            file.write_bytes(content[:100])
        elif how == "replaced":
            artifacts.write_table(pd.DataFrame({"id": [1]}), file)
        elif how == "doubled":
            (folder / "part-9.parquet").write_bytes(content)
        elif how == "stray":
            shutil.copytree(folder, folder.with_name("period=2019-01"))
            shutil.copytree(folder.parent, folder.parent.with_name("visits"))

    after(project, damage)
    assert made(project) == sound


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"tables": {"orders": 1}}', '{"tables": {"orders": {"periods": {}}}}']
)
def test_a_lost_or_damaged_memory_of_the_last_run_makes_all_again(project: Project, year: Any, text: Any) -> None:
    state = project.folder / "data/state/processing.json"
    note, _ = after(project, lambda: state.unlink() if text is None else state.write_text(text))
    assert note in ("made 5 partitions", "made 4 partitions")


def test_a_gate_that_failed_leaves_nothing_behind(project: Project, year: pd.DataFrame) -> None:
    before = made(project)
    project.raw("orders", "2020-05", month(5, {"id": "13"}))
    project.set("processing.tables.customers.columns.city", {"type": "int64"})
    with pytest.raises(GateFailed):
        close(run()[0])
    assert made(project) == before
    project.set("processing.tables.customers.columns.city", {"type": "string", "nullable": True})
    assert after(project, run) == ("made 1 partition", set())  # a stage run twice before its gate gives the same

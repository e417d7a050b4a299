"""The warehouse: the project's files in plain SQL, never copied, always as they now stand."""

import csv
import io as buffers
import shutil
from typing import Any

import duckdb
import pandas as pd
import pytest
from conftest import Project
from processing_runs import advance, collect, spoil
from typer.testing import CliRunner, Result

from ninefold import artifacts, cli, engine
from ninefold.errors import DataError
from ninefold.params import load
from ninefold.processing import stage as processing
from ninefold.processing import warehouse

VIEWS = ["raw.customers", "raw.orders", "lake.customers", "lake.orders", "quarantine.orders", "features.events"]
VIEWS += ["online.late_by_customer_7d", "predictions.drift", "metrics.figures", "metrics.gates"]


def record(slug: str, checks: list[dict[str, Any]], **metrics: Any) -> None:
    gate = {"passed": True, "checks": checks}
    artifacts.write_json({"gate": gate, "metrics": metrics}, artifacts.path(f"reports/metrics/{slug}.json"))


@pytest.fixture
def shop(project: Project, orders: pd.DataFrame) -> Project:
    """Return the tiny project after a run: one order is in quarantine."""
    collect(project, spoil(orders, "status", "lost"))
    advance()
    frame = pd.DataFrame({"id": [1, 3], "amount": [10.5, None], "returned": [0, 1]})
    for period, rows in zip(("2020-01", "2020-02"), (frame, frame.assign(id=[4, 5])), strict=True):
        artifacts.write_table(rows, artifacts.path(f"data/features/period={period}/part-0.parquet"))
    artifacts.write_table(frame, artifacts.path("data/online/late_by_customer_7d.parquet"))
    artifacts.write_table(frame, artifacts.path("data/monitoring/drift.parquet"))
    artifacts.write_json([{"period": "2020-03"}], artifacts.path("data/monitoring/periods.json"))
    gate = {"name": "holdout ROC AUC", "value": 0.75, "limit": ">= 0.67", "passed": True}
    tail = [{"name": f"check {number}", "value": "none", "limit": "none", "passed": True} for number in range(11)]
    record("07_training", [gate, *tail], holdout={"roc_auc": {"value": 0.75, "low": 0.7}}, model="blend", folds=3)
    policies = {"always act": -1, "a.b": 1}
    record("05b_seasonality", [gate], periods=[{"period": "2020-03", "gain": None}], policies=policies)
    return project


def asked(query: str) -> list[tuple[Any, ...]]:
    return list(warehouse.ask(query)[1])


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, arguments)


def test_the_views_show_what_the_files_hold_and_copy_nothing(shop: Project) -> None:
    with duckdb.connect(warehouse.refresh(), read_only=True) as opened:
        shown = opened.sql("SELECT * EXCLUDE period FROM lake.orders").df()
        assert opened.sql("FROM duckdb_tables()").fetchall() == []
    pd.testing.assert_frame_equal(shown, artifacts.read_table("data/lake/orders"), check_dtype=False)
    assert asked("SELECT id, broken_rule, raw_row FROM quarantine.orders") == [(2, "status: not allowed", 2)]
    periods = [(str(number), "2020-01" if number < 4 else "2020-02") for number in range(1, 7)]
    assert asked("SELECT id, period FROM raw.orders ORDER BY ALL") == periods


def test_the_views_stay_true_after_later_runs_of_which_a_stage_sees_its_own_before_its_gate(shop: Project) -> None:
    with duckdb.connect(warehouse.refresh(), read_only=True) as opened:
        later = pd.DataFrame([{"id": "7", "placed": "2020-03-01", "customer": "ann", "amount": "1", "status": "paid"}])
        shop.raw("orders", "2020-03", later.assign(returned="1"))
        artifacts.remove(artifacts.path("data/raw/orders/2020-01.parquet"))
        processing.update(load("processing"), engine.connect())
        last = "SELECT max(id) FROM lake.orders"
        assert warehouse.connect("lake").sql(last).fetchall() == [(7,)]
        assert opened.sql(last).fetchall() == asked(last) == [(6,)]  # pending is not yet the lake
        artifacts.publish()
        record("07_training", [], holdout={"roc_auc": {"value": 0.8}})
        assert opened.sql("SELECT id, period FROM lake.orders WHERE id IN (1, 7)").fetchall() == [(7, "2020-03")]
        assert opened.sql("SELECT value FROM metrics.figures WHERE stage = 'training'").fetchall() == [(0.8,)]


def test_figures_are_a_line_each_with_their_path_and_gates_one_for_every_check_in_their_order(shop: Project) -> None:
    assert asked("SELECT stage, name, value, text FROM metrics.figures") == [
        ("05b_seasonality", "periods[0].period", None, "2020-03"), ("05b_seasonality", "periods[0].gain", None, None),
        ("05b_seasonality", "policies.always act", -1.0, "-1"), ("05b_seasonality", "policies.a.b", 1.0, "1"),
        ("training", "holdout.roc_auc.value", 0.75, "0.75"), ("training", "holdout.roc_auc.low", 0.7, "0.7"),
        ("training", "model", None, "blend"), ("training", "folds", 3.0, "3"),
    ]  # fmt: skip
    rows = asked("SELECT * FROM metrics.gates WHERE stage = 'training'")
    assert rows[0] == ("training", "holdout ROC AUC", "0.75", ">= 0.67", True)
    assert [row[1] for row in rows[1:]] == [f"check {number}" for number in range(11)]
    assert warehouse.ask("FROM metrics.gates")[0] == ["stage", "check", "value", "limit", "passed"]


@pytest.mark.parametrize("name", ["it's", "a=b", "[1]*", 'say "so"', "period=9"])
def test_the_project_may_lie_in_a_folder_of_any_name(shop: Any, tmp_path: Any, name: Any, monkeypatch: Any) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "other/data")  # which a pattern would match as well
    folder = tmp_path / name
    folder.mkdir()
    for part in ("data", "reports", "params.yaml"):
        (tmp_path / part).rename(folder / part)
    monkeypatch.chdir(folder)
    names, rows = warehouse.ask("SELECT * FROM lake.orders ORDER BY id")
    assert names == ["id", "placed", "customer", "amount", "status", "returned", "period"]
    assert [(row[0], row[-1]) for row in rows] == [(1, "2020-01"), (3, "2020-01"), *((n, "2020-02") for n in (4, 5, 6))]
    assert [row[1] for row in warehouse.outline()[1]] == [2, 6, 2, 5, 1, 4, 2, 2, 8, 13]
    monkeypatch.chdir("/")
    with duckdb.connect(folder / warehouse.FILE, read_only=True) as opened:
        assert opened.sql("SELECT count(*) FROM lake.orders").fetchall() == [(5,)]


@pytest.mark.parametrize("name", ["it's", 'a"b', "order", "Big Table", "größe", "x_1"])
def test_a_table_may_have_any_name_and_so_may_a_column(shop: Project, name: str) -> None:
    shop.lake(name, pd.DataFrame({"select": [1], "%s": ["x"], "Period": [7]}))  # which stays what it is
    called = "lake.x_1" if name == "x_1" else 'lake."{}"'.format(name.replace('"', '""'))
    assert called in [row[0] for row in warehouse.outline()[1]]
    names, rows = warehouse.ask(f"FROM {called}")
    assert (names, list(rows)) == (["select", "%s", "Period", "@period"], [(1, "x", 7, "all")])


def test_an_open_reader_does_not_disturb_the_last_stage_which_refreshes_the_warehouse(shop: Project) -> None:
    place = warehouse.refresh()
    with duckdb.connect(place) as opened:  # not only for reading, which locks the file
        opened.execute("PRAGMA disable_checkpoint_on_shutdown")
        opened.execute("CREATE TABLE mine AS SELECT 1 AS x")
        shop.lake("news", pd.DataFrame({"id": [1]}))
        assert command("site").exit_code == 0
        assert opened.sql("SELECT x, (SELECT count(*) FROM lake.orders) FROM mine").fetchall() == [(1, 5)]
    with duckdb.connect(place, read_only=True) as opened:
        assert opened.sql("SELECT id FROM lake.news").fetchall() == [(1,)]
    assert [file.name for file in place.parent.iterdir() if "warehouse" in file.name] == ["warehouse.duckdb"]


def test_before_any_run_there_is_nothing_to_ask(project: Project) -> None:
    for ask in (warehouse.refresh, warehouse.connect, warehouse.outline, lambda: warehouse.ask("SELECT 1")):
        with pytest.raises(DataError, match=r"^data: holds no table yet.*`dvc repro`"):
            ask()
    done = command("sql")
    assert (done.exit_code, done.stderr[:31]) == (1, "error: data: holds no table yet")
    assert command("site").exit_code == 0
    assert not artifacts.path(warehouse.FILE).exists()


def test_a_damaged_file_is_named_where_its_schema_is_opened_and_the_earlier_warehouse_stays(shop: Project) -> None:
    before = warehouse.refresh().read_bytes()
    broken = artifacts.path("data/monitoring/broken.parquet")
    broken.write_bytes(b"")
    opened = warehouse.connect("lake", "quarantine")  # the schemas that a stage names, and no other
    assert opened.sql("SELECT count(*) FROM quarantine.orders").fetchall() == [(1,)]
    with pytest.raises(DataError, match=r"data/monitoring.*broken"):
        warehouse.connect()
    broken.unlink()
    file = artifacts.path("data/lake/orders/period=2020-01/part-0.parquet")
    artifacts.remove(file)
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"data/lake/orders/period=2020-01/part-0.parquet: damaged .*dvc checkout"):
        warehouse.refresh()
    assert artifacts.path(warehouse.FILE).read_bytes() == before
    assert [file.name for file in artifacts.path("data").glob(".warehouse*")] == []


def test_the_command_prints_a_table_and_cuts_a_long_one_but_writes_the_whole_as_csv(shop: Project) -> None:
    shop.set("engine", {"backend": "pyspark", "spark": {"master": "spark://nowhere:7077"}})  # any engine will do
    done = command("sql", "SELECT id, customer, amount, returned FROM lake.orders ORDER BY id LIMIT 3")
    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        "id  customer  amount  returned",
        " 1  ann         10.5         0",
        " 3  ann",
        " 4  bob           40         0",
        "(3 rows)",
    ]
    long = command("sql", "SELECT i FROM range(30000) AS t(i)").stdout
    assert long.splitlines()[-2:] == ["39", "(30,000 rows, of which the first 40 are shown)"]
    query = "SELECT id, placed, amount, 'a, \"b\"' AS text FROM lake.orders, range(100) ORDER BY id"
    rows = list(csv.reader(buffers.StringIO(command("sql", "--csv", query).stdout)))
    assert rows[:2] == [["id", "placed", "amount", "text"], ["1", "2020-01-05 12:00:00", "10.5", 'a, "b"']]
    assert ["3", "2020-01-31 12:00:00", "", 'a, "b"'] in rows
    assert len(rows) == 501


def test_the_command_without_a_query_lists_the_views_and_says_how_to_open_them(shop: Project) -> None:
    lines = command("sql").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(VIEWS)]] == VIEWS
    assert lines[4].split() == ["lake.orders", "5", "7"]
    assert "duckdb -readonly data/warehouse.duckdb" in lines
    (script,) = [line for line in lines if line.startswith("python -c")]
    exec(script.removeprefix('python -c "').removesuffix('"'))


@pytest.mark.parametrize(("query", "message"), [
    ("SELECT nothing FROM lake.orders", "Binder Error: Referenced column"),
    ("SELECT CAST(customer AS INTEGER) FROM lake.orders", "Conversion Error: Could not convert string"),
    ("DROP VIEW lake.orders", "read-only"),
])  # fmt: skip
def test_an_error_of_sql_is_one_clear_message(shop: Project, query: Any, message: Any) -> None:
    done = command("sql", query)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: the query cannot be answered: ")
    assert (message in done.stderr, "Traceback" in done.stderr) == (True, False)

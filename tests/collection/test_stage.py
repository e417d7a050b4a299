"""Stage 02: what is collected, when again, and what its gate and texts say."""

import os
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from conftest import Project, statement
from processing_runs import CUSTOMERS
from processing_runs import run_collection as collect

from ninefold import artifacts, collection
from ninefold.collection import delimited, stage
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.params import load


@pytest.fixture
def asked(project: Project, orders: pd.DataFrame) -> list[tuple[str, str]]:
    """Give the project a source, and return what is asked of it: table and first day."""
    calls: list[tuple[str, str]] = []

    def read(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
        calls.append((table, "" if start is None else f"{start:%Y-%m-%d}"))
        if start is None or end is None:
            return CUSTOMERS
        return orders[(orders["placed"] >= start.isoformat()) & (orders["placed"] < end.isoformat())]

    project.functions["collection", "read"] = read
    return calls


def test_raw_data_is_the_text_of_the_source_by_month_and_read_once(project: Project, asked: Any, orders: Any) -> None:
    first, before = collect(), project.bytes("data/raw") | project.bytes("reports/metrics")
    rows = first[["table", "period", "rows"]].to_numpy().tolist()
    assert rows == [["orders", "2020-01", 3], ["orders", "2020-02", 3], ["customers", "all", 2]]
    assert raw("2020-01").to_dict("list") == orders.head(3).to_dict("list")
    assert len(asked) == 3
    assert artifacts.path("reports/timings/02_collection.txt").read_text() == "collected 3 partitions, kept 0\n"
    pd.testing.assert_frame_equal(first, collect())
    assert len(asked) == 3
    assert project.bytes("data/raw") | project.bytes("reports/metrics") == before


@pytest.mark.parametrize(("key", "first", "last"), [("as_of", "02-10", "02-29"), ("start", "01-10", "01-01")])
def test_a_month_that_was_not_whole_is_read_again(project: Any, asked: Any, key: str, first: str, last: str) -> None:
    month = f"2020-{first[:2]}"
    project.set("collection.tables.orders.min_rows", 3)
    for day, rows in ((first, 2), (last, 3)):
        project.set(f"collection.{key}", f"2020-{day}")
        asked.clear()
        collect()
        assert len(raw(month)) == rows  # fewer than the least of a whole month
    assert asked == [("orders", f"{month}-01")]


def test_many_runs_end_in_the_same_bytes_as_one(project: Project, asked: Any) -> None:
    project.set("collection.tables.orders.min_rows", 1)
    for day in ("2020-01-15", "2020-01-31", "2020-02-10", "2020-02-29"):
        project.set("collection.as_of", day)
        many = collect()
    by_many = project.bytes("data/raw")
    for file in by_many:
        os.unlink(project.folder / file)
    once = collect()
    assert project.bytes("data/raw") == by_many
    pd.testing.assert_frame_equal(once, many)


def test_a_changed_or_lost_partition_is_refused_and_nothing_overwritten(project: Project, asked: Any) -> None:
    collect()
    file = project.folder / "data/raw/orders/2020-01.parquet"
    for problem in ("is missing", "was changed"):
        file.unlink(missing_ok=True)
        if problem == "was changed":
            artifacts.write_table(CUSTOMERS, file)
        before = project.bytes("data/raw")
        with pytest.raises(DataError, match=rf"data/raw/orders/2020-01.parquet: {problem} since it was collected"):
            collect()
        assert project.bytes("data/raw") == before


def test_a_month_that_is_too_small_fails_the_gate_which_names_it_and_keeps_all(project: Project, asked: Any) -> None:
    collect()
    before = project.bytes("data/raw")
    project.set("collection.tables.orders.min_rows", 4)
    with pytest.raises(GateFailed, match="orders: fewest rows in a whole month: found 3, expected >= 4"):
        collect()
    project.set("collection.tables.orders.min_rows", 2)
    project.set("collection.as_of", "2020-03-31")
    few = r"partitions too small: found orders 2020-03 \(0\), expected as many rows as min_rows says; fetch what is missing"
    with pytest.raises(GateFailed, match=f"partitions with rows: found 3, expected >= 4.*{few}"):
        collect()
    assert project.bytes("data/raw") == before
    project.set("collection.tables.orders.min_rows", 0)
    manifest = collect()
    assert manifest["rows"].tolist() == [3, 3, 0, 2]
    assert len(collection.last_part(manifest, "orders")) == 3
    with pytest.raises(ParamsError, match=r"problem.table: found 'visits', expected one of collection.tables: orders"):
        collection.last_part(manifest, "visits")


def test_a_source_without_its_time_or_of_anything_but_text_is_refused(project: Project, asked: Any) -> None:
    for rows, message in (
        ({"day": ["2020-01-01"]}, r"collection.tables.orders: lacks placed; found day"),
        ({"placed": ["2020-01-01"], "amount": [1.5]}, r"found amount \(floating\), expected text alone"),
    ):
        project.functions["collection", "read"] = lambda *_, rows=rows: pd.DataFrame(rows)
        with pytest.raises(DataError, match=message):
            collect()


@pytest.fixture
def file(project: Project, orders: pd.DataFrame) -> Callable[[pd.DataFrame], None]:
    """Give the project files in place of a function; return what writes the orders again."""
    put = project.folder / "data/source/orders.csv"
    put.parent.mkdir(parents=True)
    CUSTOMERS.to_csv(put.with_name("customers.csv"), index=False)
    orders.to_csv(put, index=False)
    return lambda rows: rows.to_csv(put, index=False)


def raw(period: str) -> pd.DataFrame:
    return artifacts.read_table(f"data/raw/orders/{period}.parquet")


def test_without_a_function_of_the_user_the_file_of_its_name_or_in_the_params_is_read(project: Project) -> None:
    with pytest.raises(DataError, match=r"data/source/customers.csv: not found; put the file there, or write project"):
        collection.read_file("customers", None, None)
    artifacts.write_text("a,b\n01,NA\n", project.folder / "data/source/customers.csv")
    assert collection.read_file("customers", None, None).to_dict("list") == {"a": ["01"], "b": ["NA"]}
    artifacts.write_text("a\n1\n", project.folder / "data/source/customers.tsv")
    with pytest.raises(DataError, match=r"data/source: found customers.csv, customers.tsv, expected one; name it"):
        collection.read_file("customers", None, None)
    (project.folder / "data/source/orders").mkdir()
    with pytest.raises(DataError, match=r"data/source/orders: found an empty folder, expected the files of a table"):
        collection.plan(load("collection"))
    artifacts.write_text("n;x\n1;2,5\n", project.folder / "elsewhere/c.txt")
    project.set("collection.tables.customers", {"source": "elsewhere/c.txt", "options": {"delimiter": ";"}})
    assert collection.read_file("customers", None, None).to_dict("list") == {"n": ["1"], "x": ["2,5"]}


def test_rows_of_the_span_are_collected_by_month_as_offset_and_format_say(project: Any, file: Any, orders: Any) -> None:
    file(orders.replace({"placed": {"2020-02-01T12:00:00": "2020-02-01T00:30:00+02:00"}}))
    assert collect()["rows"].tolist() == [4, 2, 2]
    file(orders.assign(placed=pd.to_datetime(orders["placed"]).dt.strftime("%d.%m.%Y %H:%M")))
    project.set("collection.tables.orders.format", "%d.%m.%Y %H:%M")
    assert collect()["rows"].tolist() == [3, 3, 2]
    project.set("collection.start", "2020-01-10")
    project.set("collection.as_of", "2020-02-10")
    assert collection.periods(load("collection"))["end"].tolist() == [*pd.to_datetime(["2020-02-01", "2020-02-11"])]
    assert collect()["rows"].tolist() == [2, 2, 2]
    project.set("collection.tables.orders.format", "%d/%m/%Y")
    message = r"no time in column 'placed' of any of 6 rows, such as row 1 '05.01.2020 12:00'.* format %d/%m/%Y; set"
    with pytest.raises(DataError, match=message):
        collection.read_file("orders", None, None)


@pytest.mark.parametrize("times", [["", "2020-01-32"], ["2020-01-05T12:00:00+99:00", "2020-01-05T12:00:00-02:60"]])
def test_rows_whose_time_cannot_be_read_come_with_the_last_month(
    project: Project, file: Any, orders: pd.DataFrame, times: list[str]
) -> None:
    file(orders.assign(placed=[*times, *orders["placed"][2:]]))
    project.set("collection.as_of", "2020-01-31")
    project.set("collection.tables.orders.min_rows", 1)
    assert collect()["rows"].tolist() == [3, 2]
    project.set("collection.as_of", "2020-02-29")
    assert collect()["rows"].tolist() == [1, 5, 2]
    assert sorted(raw("2020-02")["id"]) == ["1", "2", "4", "5", "6"]


def test_only_the_partitions_that_differ_change_when_the_source_does(project: Project, file: Any, orders: Any) -> None:
    first, before = collect(), project.bytes("data/raw")
    assert first["rows"].tolist() == [3, 3, 2]
    assert collect().equals(first)
    assert project.bytes("data/raw") == before
    file(orders.replace({"amount": {"60": "61"}}))
    second, after = collect(), project.bytes("data/raw")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"data/raw/orders/2020-02.parquet", "data/raw/manifest.json"}
    source = project.folder / "data/source/orders.csv"
    assert second["source"][0] == artifacts.sha256(source) != first["source"][0]
    source.unlink()
    assert collect().equals(second)  # what was collected stays when the source is gone


def test_a_table_is_collected_anew_when_it_is_read_otherwise(project: Project, file: Any) -> None:
    collect()
    project.set("collection.tables.orders.min_rows", 1)
    params = load("collection")
    assert collection.missing(collection.plan(params), collection.verified_manifest()).empty
    project.set("collection.tables.orders.number", "row")
    assert list(collect()["rows"]) == [3, 3, 2]
    assert raw("2020-02")["row"].tolist() == ["4", "5", "6"]
    project.set("collection.tables.orders.number", "id")
    with pytest.raises(DataError, match=r"collection.tables.orders.number: the source has a column 'id'"):
        collect()


def test_a_table_that_comes_in_pieces_is_stored_in_the_same_bytes(project: Any, file: Any, monkeypatch: Any) -> None:
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta([n * 7 % 60 for n in range(300)], unit="D")
    rows = pd.DataFrame({"id": range(300), "placed": days, "amount": 2}).astype("str")
    file(rows.replace({"placed": {"2020-01-08": "unknown"}}))
    project.set("collection.tables.orders.number", "row")
    monkeypatch.setattr(stage, "ROW_GROUP", 32)
    monkeypatch.setattr(stage, "MOST_ROWS", 100)
    collect()
    before = project.bytes("data/raw")
    monkeypatch.setattr(delimited, "CHUNK", 256)
    for name in before:
        os.unlink(project.folder / name)
    manifest, last = collect(), raw("2020-02")
    assert project.bytes("data/raw") == before
    assert last["row"].astype(int).is_monotonic_increasing  # with rows of unknown time, in the order of the file
    assert set(last["placed"]) > {"unknown"}
    pd.testing.assert_frame_equal(collection.last_part(manifest, "orders"), last.head(100))


@pytest.mark.parametrize(("path", "value", "message"), [
    ("tables.orders.format", "%Q", "expected a format of strptime"),
    ("tables.orders.format", "never", r"expected one of iso, epoch_s, .*, or a format such as \"%d/%m/%Y\""),
    ("tables.orders.format", "%H:%M", "expected a format with a year, %Y or %y: a time of day alone is no"),
    ("tables.customers.format", "iso", "expected time to name the column whose format is given"),
    ("tables.orders.options", {"separator": ";"}, "options.separator: unknown key"),
    ("tables", {"a/b": {}}, "expected names that can be those of a folder; a/b cannot"),
    ("start", None, r"expected start and as_of, days such as \"2013-09-30\", as table orders has a time"),
    ("as_of", "2019-12-31", r"expected as_of on or after start \(2020-01-01\)"),
    ("as_of", "31.01.2020", r'as_of: found "31.01.2020", expected a day written as "2013-12-31"'),
    ("tables.customers.source", "postgresql://u:topsecret@host/db", r"u:\*\*\*@host/db: found a password"),
    ("tables.customers.source", "mssql:///?odbc_connect=PWD%3Dtopsecret", r"PWD%3D\*\*\*: found a password"),
])  # fmt: skip
def test_params_that_make_no_sense_are_refused(project: Project, path: str, value: Any, message: str) -> None:
    project.set(f"collection.{path}", value)
    with pytest.raises(ParamsError, match=message) as error:
        load("collection")
    assert "topsecret" not in str(error.value)


def test_tables_without_time_need_no_days_and_no_text_speaks_of_any(project: Project, file: Any) -> None:
    project.set("collection.tables", {"orders": {"min_rows": 7}, "customers": {}})
    for day in ("start", "as_of"):
        del project.params["collection"][day]
    project.set("collection.tables.orders.min_rows", 7)
    with pytest.raises(GateFailed, match="orders: rows: found 6, expected >= 7"):
        collect()
    project.set("collection.tables.orders.min_rows", 6)
    manifest, params, problem = collect(), load("collection"), statement()
    conclusion = "6 orders are collected; related tables: 1, partitions: 2."
    assert collection.conclusion(manifest, params, problem) == conclusion
    texts = [*collection.headline(manifest, params, problem).values()]
    assert not [text for text in texts if "None" in text or "NaT" in text]


def test_the_texts_say_what_arrived(project: Project, asked: Any) -> None:
    manifest, params, problem = collect(), load("collection"), statement()
    whole = "6 orders from 2020-01-01 to 2020-02-29 are collected; related tables: 1, partitions: 3."
    assert collection.conclusion(manifest, params, problem) == whole
    assert collection.headline(manifest, params, problem) == {"orders": "6", "until": "2020-02-29"}

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from conftest import Project, statement

from ninefold import artifacts, collection, gate
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.params import load

CUSTOMERS = pd.DataFrame({"customer": ["ann", "bob"], "city": ["Bern", ""]})
Run = Callable[[], pd.DataFrame]


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


@pytest.fixture
def run(project: Project, asked: list[tuple[str, str]]) -> Run:
    """Return the stage as one call: collect, check, publish."""

    def collect() -> pd.DataFrame:
        asked.clear()
        params, kept = load("collection"), collection.verified_manifest()
        manifest = collection.collect(params, collection.missing(collection.plan(params), kept), kept)
        gate.close("collection", collection.checks(manifest, params), collection.metrics(manifest, params), "Done.")
        return manifest

    return collect


def test_there_is_a_partition_per_month_and_one_for_a_table_without_time(project: Project) -> None:
    planned = collection.plan(load("collection"))
    assert list(zip(planned["table"], planned["period"], strict=True)) == [
        ("orders", "2020-01"),
        ("orders", "2020-02"),
        ("customers", "all"),
    ]


def test_nothing_after_the_stated_day_is_asked_for(project: Project) -> None:
    project.set("collection.as_of", "2020-02-10")
    periods = collection.periods(load("collection"))
    assert periods["end"].tolist() == [pd.Timestamp("2020-02-01"), pd.Timestamp("2020-02-11")]


def test_raw_data_is_kept_as_text_exactly_as_the_source_has_it(project: Project, run: Run, orders: Any) -> None:
    run()
    first = artifacts.read_table("data/raw/orders/2020-01.parquet")
    assert first.to_dict("list") == orders.head(3).to_dict("list")


def test_a_second_run_asks_the_source_for_nothing_and_gives_the_same_bytes(project: Project, run: Run, asked) -> None:
    first, before = run(), project.bytes("data/raw") | project.bytes("reports/metrics")
    assert len(asked) == 3
    second = run()
    assert asked == []
    assert project.bytes("data/raw") | project.bytes("reports/metrics") == before
    pd.testing.assert_frame_equal(first, second)


def test_only_new_months_are_added_when_the_stated_day_moves_on(project: Project, run: Run, asked) -> None:
    project.set("collection.as_of", "2020-01-31")
    run()
    before = project.bytes("data/raw/orders")
    project.set("collection.as_of", "2020-02-29")
    run()
    assert asked == [("orders", "2020-02-01")]
    assert project.bytes("data/raw/orders").items() > before.items()


def test_an_unfinished_month_is_collected_again(project: Project, run: Run, asked) -> None:
    project.set("collection.as_of", "2020-02-10")
    run()
    assert len(artifacts.read_table("data/raw/orders/2020-02.parquet")) == 2
    project.set("collection.as_of", "2020-02-29")
    run()
    assert asked == [("orders", "2020-02-01")]
    assert len(artifacts.read_table("data/raw/orders/2020-02.parquet")) == 3


def test_an_earlier_start_collects_its_month_again(project: Project, run: Run, asked) -> None:
    project.set("collection.start", "2020-01-10")
    run()
    assert len(artifacts.read_table("data/raw/orders/2020-01.parquet")) == 2
    project.set("collection.start", "2020-01-01")
    run()
    assert asked == [("orders", "2020-01-01")]
    assert len(artifacts.read_table("data/raw/orders/2020-01.parquet")) == 3


def test_many_runs_end_in_the_same_bytes_as_one(project: Project, run: Run) -> None:
    for day in ("2020-01-15", "2020-01-31", "2020-02-10", "2020-02-29"):
        project.set("collection.as_of", day)
        project.set("collection.tables.orders.min_rows", 1)
        many = run()
    by_many = project.bytes("data/raw")
    for file in by_many:
        os.unlink(project.folder / file)
    once = run()
    assert project.bytes("data/raw") == by_many
    pd.testing.assert_frame_equal(once, many)
    pd.testing.assert_frame_equal(collection.tables(once), collection.tables(many))


def test_how_many_partitions_were_new_is_noted_and_not_printed(project: Project, run: Run, capsys: Any) -> None:
    run()
    assert (project.folder / "reports/timings/02_collection.txt").read_text() == "collected 3 partitions, kept 0\n"
    assert capsys.readouterr().err == ""


def test_a_changed_partition_is_refused_and_nothing_is_overwritten(project: Project, run: Run, orders: Any) -> None:
    run()
    artifacts.write_table(orders.head(1), project.folder / "data/raw/orders/2020-01.parquet")
    before = project.bytes("data/raw")
    with pytest.raises(DataError, match=r"data/raw/orders/2020-01.parquet: was changed since it was collected"):
        run()
    assert project.bytes("data/raw") == before


def test_a_lost_partition_is_refused(project: Project, run: Run) -> None:
    run()
    os.unlink(project.folder / "data/raw/customers/all.parquet")
    with pytest.raises(DataError, match=r"data/raw/customers/all.parquet: is missing since it was collected"):
        run()


def test_a_month_that_is_too_small_fails_the_gate_and_keeps_the_earlier_data(project: Project, run: Run) -> None:
    project.set("collection.as_of", "2020-01-31")
    run()
    before = project.bytes("data/raw")
    project.set("collection.as_of", "2020-02-29")
    project.set("collection.tables.orders.min_rows", 4)
    with pytest.raises(GateFailed, match="orders: fewest rows in a whole month: found 3, expected >= 4"):
        run()
    assert project.bytes("data/raw") == before


def test_the_gate_names_what_is_too_small(project: Project, run: Run) -> None:
    project.set("collection.as_of", "2020-03-31")
    few = r"partitions too small: found orders 2020-03 \(0\), expected as many rows as min_rows says; fetch what is missing"
    with pytest.raises(GateFailed, match=few):
        run()


def test_an_unfinished_month_is_not_held_to_the_size_of_a_whole_one(project: Project, run: Run) -> None:
    project.set("collection.as_of", "2020-02-10")
    project.set("collection.tables.orders.min_rows", 3)
    manifest = run()
    assert manifest.loc[manifest["period"] == "2020-02", "rows"].tolist() == [2]


def test_a_month_without_rows_fails_the_gate(project: Project, run: Run) -> None:
    project.set("collection.as_of", "2020-03-31")
    project.set("collection.tables.orders.min_rows", 1)
    with pytest.raises(GateFailed, match="partitions with rows: found 3, expected >= 4"):
        run()


def test_a_month_without_rows_passes_where_none_are_demanded(project: Project, run: Run) -> None:
    project.set("collection.as_of", "2020-03-31")
    project.set("collection.tables.orders.min_rows", 0)
    manifest = run()
    assert manifest["rows"].tolist() == [3, 3, 0, 2]
    assert len(collection.last_part(manifest, "orders")) == 3


def test_a_table_without_its_time_column_is_refused(project: Project, run: Run) -> None:
    project.set("collection.tables.orders.time", "moment")
    with pytest.raises(DataError, match=r"collection.tables.orders: lacks moment; found id, placed"):
        run()


def test_a_source_that_gives_anything_but_text_is_refused(project: Project, run: Run) -> None:
    project.functions["collection", "read"] = lambda *_: pd.DataFrame({"placed": ["2020-01-01"], "amount": [1.5]})
    with pytest.raises(DataError, match=r"collection.tables.orders: found amount \(floating\), expected text alone"):
        run()


@pytest.fixture
def file(project: Project, orders: pd.DataFrame) -> Callable[[pd.DataFrame], None]:
    """Give the project files in place of a function; return what writes the orders anew."""
    put = project.folder / "data/source/orders.csv"
    put.parent.mkdir(parents=True)
    CUSTOMERS.to_csv(put.with_name("customers.csv"), index=False)
    orders.to_csv(put, index=False)
    return lambda rows: rows.to_csv(put, index=False)


@pytest.fixture
def run_file(project: Project, file: Any) -> Run:
    """Return the stage as one call, on files."""

    def collect() -> pd.DataFrame:
        params, kept = load("collection"), collection.verified_manifest()
        manifest = collection.collect(params, collection.missing(collection.plan(params), kept), kept)
        gate.close("collection", collection.checks(manifest, params), collection.metrics(manifest, params), "Done.")
        return manifest

    return collect


def raw(period: str) -> pd.DataFrame:
    return artifacts.read_table(f"data/raw/orders/{period}.parquet")


def test_without_a_function_of_the_user_a_csv_file_is_read_as_text(project: Project) -> None:
    artifacts.write_text("a,b\n01,NA\n", project.folder / "data/source/customers.csv")
    assert collection.read_file("customers", None, None).to_dict("list") == {"a": ["01"], "b": ["NA"]}


def test_a_missing_source_is_named_with_the_remedy(project: Project) -> None:
    with pytest.raises(DataError, match=r"data/source/customers.csv: not found; put the file there, or write project"):
        collection.read_file("customers", None, None)


def test_two_files_of_one_name_are_refused(project: Project) -> None:
    for suffix in ("csv", "parquet"):
        artifacts.write_text("a\n1\n", project.folder / f"data/source/customers.{suffix}")
    with pytest.raises(DataError, match=r"data/source: found customers.csv, customers.parquet, expected one; name it"):
        collection.read_file("customers", None, None)


def test_a_file_is_cut_into_months_by_its_time(run_file: Run, orders: pd.DataFrame) -> None:
    assert run_file()["rows"].tolist() == [3, 3, 2]
    assert raw("2020-02").to_dict("list") == orders.tail(3).to_dict("list")


def test_rows_outside_the_span_are_not_collected(project: Project, run_file: Run) -> None:
    project.set("collection.start", "2020-01-10")
    project.set("collection.as_of", "2020-02-10")
    assert run_file()["rows"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("form", "write"),
    [
        ("%d.%m.%Y %H:%M", lambda times: times.dt.strftime("%d.%m.%Y %H:%M")),
        ("epoch_s", lambda times: (times.astype("int64") // 10**6).astype(str)),
        ("epoch_ms", lambda times: (times.astype("int64") // 10**3).astype(str)),
        ("days", lambda times: (times.astype("int64") / 86_400_000_000).astype(str)),
        ("iso", lambda times: times.dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")),
    ],
)
def test_times_are_read_in_the_format_of_the_source(
    project: Project, run_file: Run, file: Any, orders: pd.DataFrame, form: str, write: Callable[[pd.Series], pd.Series]
) -> None:
    file(orders.assign(placed=write(pd.to_datetime(orders["placed"]).astype("datetime64[us]"))))
    project.set("collection.tables.orders.format", form)
    assert run_file()["rows"].tolist() == [3, 3, 2]


def test_an_offset_decides_on_the_month(run_file: Run, file: Any, orders: pd.DataFrame) -> None:
    file(orders.assign(placed=orders["placed"].replace("2020-02-01T12:00:00", "2020-02-01T00:30:00+02:00")))
    assert run_file()["rows"].tolist() == [4, 2, 2]


@pytest.mark.parametrize("offset", ["+99:00", "+15:00", "-02:60"])
def test_an_offset_that_no_place_has_is_no_time(run_file: Run, file: Any, orders: pd.DataFrame, offset: str) -> None:
    file(orders.assign(placed=orders["placed"].replace("2020-01-05T12:00:00", f"2020-01-05T12:00:00{offset}")))
    assert run_file()["rows"].tolist() == [2, 4, 2]  # a time that cannot be read comes with the last month


def test_rows_whose_time_cannot_be_read_come_with_the_last_month(
    project: Project, run_file: Run, file: Any, orders: pd.DataFrame
) -> None:
    file(orders.assign(placed=["", "2020-01-32", *orders["placed"][2:]]))
    project.set("collection.as_of", "2020-01-31")
    project.set("collection.tables.orders.min_rows", 1)
    assert run_file()["rows"].tolist() == [3, 2]
    project.set("collection.as_of", "2020-02-29")
    assert run_file()["rows"].tolist() == [1, 5, 2]
    assert sorted(raw("2020-02")["id"]) == ["1", "2", "4", "5", "6"]


def test_a_column_without_any_time_is_refused_with_the_remedy(project: Project, file: Any) -> None:
    project.set("collection.tables.orders.format", "%d/%m/%Y")
    message = r"no time in column 'placed' of any of 6 rows, such as row 1 '2020-01-05T12:00:00'.* format %d/%m/%Y; set"
    with pytest.raises(DataError, match=message):
        collection.read_file("orders", None, None)


def test_only_the_partitions_that_differ_change_when_the_source_does(
    project: Project, run_file: Run, file: Any, orders: pd.DataFrame
) -> None:
    first = run_file()
    before = project.bytes("data/raw")
    assert run_file().equals(first)
    assert project.bytes("data/raw") == before
    file(orders.replace({"amount": {"60": "61"}}))
    second = run_file()
    after = project.bytes("data/raw")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"data/raw/orders/2020-02.parquet", "data/raw/manifest.json"}
    assert (
        second["source"].tolist()[0]
        == artifacts.sha256(project.folder / "data/source/orders.csv")
        != first["source"][0]
    )


def test_what_was_collected_stays_when_the_source_is_gone(project: Project, run_file: Run) -> None:
    first = run_file()
    (project.folder / "data/source/orders.csv").unlink()
    assert run_file().equals(first)


def test_a_table_is_collected_anew_when_it_is_read_otherwise(project: Project, run_file: Run) -> None:
    run_file()
    project.set("collection.tables.orders.min_rows", 1)
    params = load("collection")
    assert collection.missing(collection.plan(params), collection.verified_manifest()).empty
    project.set("collection.tables.orders.number", "row")
    assert list(run_file()["rows"]) == [3, 3, 2]
    assert raw("2020-02")["row"].tolist() == ["4", "5", "6"]


def test_a_number_does_not_hide_a_column(project: Project, file: Any) -> None:
    project.set("collection.tables.orders.number", "id")
    with pytest.raises(DataError, match=r"collection.tables.orders.number: the source has a column 'id'"):
        collection.read_file("orders", None, None)


def test_a_source_is_read_as_its_options_say(project: Project) -> None:
    artifacts.write_text("n;x\n1;2,5\n", project.folder / "elsewhere/c.txt")
    project.set("collection.tables.customers", {"source": "elsewhere/c.txt", "options": {"delimiter": ";"}})
    assert collection.read_file("customers", None, None).to_dict("list") == {"n": ["1"], "x": ["2,5"]}


def test_a_source_without_a_last_newline_is_read_if_it_is_said_to_be_whole(project: Project) -> None:
    artifacts.write_text("a,b\n1,2", project.folder / "data/source/customers.csv")
    with pytest.raises(DataError, match=r"data/source/customers.csv: found no newline after its last line"):
        collection.read_file("customers", None, None)
    project.set("collection.tables.customers", {"options": {"final_newline": False}})
    assert collection.read_file("customers", None, None).to_dict("list") == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tables.orders.format", "%Q", "expected a format of strptime"),
        ("tables.orders.format", "never", r"expected one of iso, epoch_s, .*, or a format such as \"%d/%m/%Y\""),
        (
            "tables.orders.format",
            "%H:%M",
            "expected a format with a year, %Y or %y: a time of day alone is no timestamp",
        ),
        ("tables.customers.format", "iso", "expected time to name the column whose format is given"),
        ("tables.orders.options", {"separator": ";"}, "options.separator: unknown key"),
        ("tables", {"a/b": {}}, "expected names that can be those of a folder; a/b cannot"),
        ("start", None, r"expected start and as_of, days such as \"2013-09-30\", as table orders has a time"),
    ],
)
def test_params_that_make_no_sense_are_refused(project: Project, path: str, value: Any, message: str) -> None:
    project.set(f"collection.{path}", value)
    with pytest.raises(ParamsError, match=message):
        load("collection")


def test_a_password_in_the_params_is_refused_and_not_shown(project: Project) -> None:
    project.set("collection.tables.customers.source", "postgresql://u:topsecret@host/db")
    with pytest.raises(ParamsError, match=r"postgresql://u:\*\*\*@host/db: found a password") as error:
        load("collection")
    assert "topsecret" not in str(error.value)


def test_tables_without_time_need_no_days_and_no_text_speaks_of_any(project: Project, file: Any, run_file: Run) -> None:
    project.set("collection.tables", {"orders": {}, "customers": {}})
    for day in ("start", "as_of"):
        del project.params["collection"][day]
    project.set("collection.tables.orders.min_rows", 7)
    with pytest.raises(GateFailed, match="orders: rows: found 6, expected >= 7"):
        run_file()
    project.set("collection.tables.orders.min_rows", 6)
    manifest, params, problem = run_file(), load("collection"), statement()
    texts = [
        collection.describe_plan(collection.plan(params), params),
        collection.describe_volume(manifest, params),
        collection.conclusion(manifest, params, problem),
        str(collection.headline(manifest, params, problem)),
        str(collection.metrics(manifest, params)),
    ]
    assert not [text for text in texts if "None" in text or "NaT" in text]
    assert texts[0] == "2 partitions are due: one for every table, as none is cut by time."
    assert texts[2] == "6 orders have arrived, with 1 related table, in 2 immutable partitions."
    assert collection.plot_volume(manifest, params).axes[0].get_xlabel() == "rows"
    assert collection.periods(params).empty


@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("2019-12-31", r"expected as_of on or after start \(2020-01-01\)"),
        ("31.01.2020", r'as_of: found "31.01.2020", expected a day written as "2013-12-31"'),
    ],
)
def test_a_day_that_makes_no_sense_is_refused(project: Project, day: str, message: str) -> None:
    project.set("collection.as_of", day)
    with pytest.raises(ParamsError, match=message):
        load("collection")


def test_a_problem_about_a_table_that_was_not_collected_is_refused(run: Run) -> None:
    with pytest.raises(ParamsError, match=r"problem.table: found 'visits', expected one of collection.tables: orders"):
        collection.last_part(run(), "visits")


def test_the_texts_say_what_arrived(project: Project, run: Run) -> None:
    manifest, params = run(), load("collection")
    problem = statement()
    assert collection.conclusion(manifest, params, problem).startswith(
        "6 orders from 2020-01-01 to 2020-02-29 have arrived"
    )
    assert collection.headline(manifest, params, problem) == {"orders": "6", "until": "2020-02-29"}
    assert "A whole month of `orders` holds 3 to 3 rows" in collection.describe_volume(manifest, params)
    assert collection.describe_plan(collection.plan(params), params).endswith("Every month is finished.")
    project.set("collection.tables.orders.min_rows", 4)
    assert "too few in 2020-01, 2020-02" in collection.describe_volume(manifest, load("collection"))


def test_an_unfinished_month_is_said_to_be_one(project: Project) -> None:
    project.set("collection.as_of", "2020-02-10")
    params = load("collection")
    assert "The last month is unfinished" in collection.describe_plan(collection.plan(params), params)

"""Batch scoring: the same answers as the service, rows as they were, and OUT whole or not at all."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import CASES, expected, lay_out, pack
from conftest import Project
from fastapi.testclient import TestClient
from servers import postgres  # noqa: F401 -- a server of our own
from typer.testing import CliRunner

from ninefold import cli
from ninefold.errors import DataError
from ninefold.serving import app, batch, log_export
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.log import Log

KILLED = """
import os, sys
from pathlib import Path
import pyarrow as pa
from ninefold.serving import batch_duckdb, batch_sql
from ninefold.serving.chunks import TableTarget
file = Path(sys.argv[1])
target = TableTarget(f"{file}::out", "out", [])
append = batch_sql._append
batch_sql._append = lambda *arguments: append(*arguments) or os._exit(9)
write = batch_duckdb.write_duckdb if file.suffix == ".duckdb" else batch_sql.write_sqlite
with write(file, target) as put:
    put(pa.table({"id": range(200_000)}))
    if file.suffix == ".duckdb":
        os._exit(9)
"""


@pytest.fixture
def holdout(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return parts["holdout"].assign(note='007, x"y', count=pd.array([1, None] * 40, dtype="Int64"))


def write(rows: pd.DataFrame, place: Path) -> Path:
    rows.to_csv(place, index=False) if place.suffix == ".csv" else rows.to_parquet(place, index=False)
    return place


def read(place: Path) -> pd.DataFrame:
    return pd.read_csv(place, float_precision="round_trip") if place.suffix == ".csv" else pd.read_parquet(place)


@pytest.mark.parametrize("into", [".csv", ".parquet"])
@pytest.mark.parametrize("out_of", [".csv", ".parquet"])
def test_every_kind_of_file_gives_the_answers_of_the_service(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, out_of: str, into: str
) -> None:
    target = tmp_path / f"out{into}"
    done = batch.predict(write(holdout, tmp_path / f"in{out_of}"), target, bundle, rows=10)
    rows = as_rows(holdout, bundle.signature, without="identity")
    served = TestClient(app.create_app(bundle)).post("/predict", json={"rows": rows}).json()["predictions"]
    scored = read(target)
    assert done["rows"] == len(holdout)
    for name in bundle.answers:
        assert scored[name].tolist() == [each[name] for each in served]


def test_absent_history_is_looked_up_as_the_service_does(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    short = holdout.drop(columns="rate_by_customer_7d")
    done = batch.predict(write(short, tmp_path / "in.parquet"), tmp_path / "out.parquet", bundle)
    rows = as_rows(holdout, bundle.signature, without="history")
    assert done["looked_up"] == ["rate_by_customer_7d"]
    answered = bundle.predict(bundle.complete(rows))["probability"]
    assert np.array_equal(read(tmp_path / "out.parquet")["probability"], answered)
    assert "rate_by_customer_7d" not in read(tmp_path / "out.parquet")


def test_a_key_without_history_has_its_prior_in_a_file_too(project: Project, tmp_path: Path) -> None:
    bundle = pack(lay_out(model="linear", prior=0.95))
    rows = pd.DataFrame({"customer": ["eve", "ann", "eve"], "amount": 50.0, "items": 2.0, "channel": "web"})
    batch.predict(write(rows, tmp_path / "in.parquet"), tmp_path / "out.parquet", bundle)
    known = bundle.predict(rows.assign(rate_by_customer_7d=[0.95, 0.125, 0.95]))["probability"]
    assert known[0] != bundle.predict(rows.assign(rate_by_customer_7d=np.nan))["probability"][0]
    assert read(tmp_path / "out.parquet")["probability"].tolist() == known.tolist()


def test_parquet_passes_through_with_its_types(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    source = write(holdout, tmp_path / "in.parquet")
    batch.predict(source, tmp_path / "out.parquet", bundle)
    assert pq.read_table(tmp_path / "out.parquet").select(list(holdout)).equals(pq.read_table(source))


def test_csv_passes_through_letter_by_letter(bundle: Bundle, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('code,customer,channel,amount,items,x\n007,ann,,1.50,2,NA\n"a, ""b""",zé,web, NaN ,3,\n', "utf-8")
    batch.predict(source, target, bundle)
    lines = target.read_text("utf-8").splitlines()
    assert lines[0] == "code,customer,channel,amount,items,x,probability,action,expected_payoff"
    assert lines[1].startswith("007,ann,,1.50,2,NA,0.")
    assert lines[2].startswith('"a, ""b""",zé,web, NaN ,3,,0.')


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r\nb", "a\nb", "a\x00b", '"', "\ufeffx", "NA", "a\u2028b"])
def test_any_text_passes_through_csv_and_back(bundle: Bundle, tmp_path: Path, text: str) -> None:
    rows = pd.DataFrame(
        {"note": [text, "z"], "customer": [text, "ann"], "channel": "web", "amount": 1.5, "items": None}
    )
    batch.predict(write(rows, tmp_path / "in.parquet"), tmp_path / "1.csv", bundle)
    plain = pd.read_csv(tmp_path / "1.csv", dtype="str", keep_default_na=False)
    assert plain[["note", "customer"]].to_numpy().tolist() == [[text, text], ["z", "ann"]]
    answered = batch.through_file(rows, ".csv", bundle)
    assert answered["probability"].tolist() == read(tmp_path / "1.csv")["probability"].tolist()


def test_whole_numbers_stay_whole_on_the_way_to_csv(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    batch.predict(write(holdout, tmp_path / "in.parquet"), tmp_path / "out.csv", bundle)
    assert pd.read_csv(tmp_path / "out.csv", dtype="str", keep_default_na=False)["count"].tolist()[:2] == ["1", ""]


def test_chunks_do_not_change_the_file(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    source = write(holdout, tmp_path / "in.csv")
    for chunk in (7, 1000):
        batch.predict(source, tmp_path / f"{chunk}.csv", bundle, chunk)
    assert (tmp_path / "7.csv").read_bytes() == (tmp_path / "1000.csv").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_no_rows_in_no_rows_out(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    assert batch.predict(write(holdout.head(0), tmp_path / f"in{suffix}"), target, bundle)["rows"] == 0
    assert list(read(target)) == [*holdout, *bundle.answers]


def test_missing_columns_are_named(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    source = write(holdout.drop(columns=["amount", "customer"]), tmp_path / "in.csv")
    with pytest.raises(DataError, match=r"in\.csv: lacks amount, customer, which the model needs; found id"):
        batch.predict(source, tmp_path / "out.csv", bundle)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("amount", np.inf, "row 25 .*, column 'amount': found .*inf.*, expected a finite number"),
        ("customer", None, "row 25 .*, column 'customer': found .*, expected text, by which history is looked up"),
    ],
)
def test_a_wrong_value_is_named_and_earlier_results_stay(  # noqa: PLR0913, PLR0917
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, suffix: str, column: str, value: Any, says: str
) -> None:
    target = tmp_path / f"out{suffix}"
    target.write_text("of yesterday")
    holdout.loc[25, column] = value
    with pytest.raises(DataError, match=says):
        batch.predict(write(holdout, tmp_path / f"in{suffix}"), target, bundle, rows=10)
    assert target.read_text() == "of yesterday"
    assert not list(tmp_path.glob(".*tmp"))


def test_text_for_a_number_is_named(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    texts = holdout.astype({"amount": "object"})
    texts.loc[3, "amount"] = "dear"
    with pytest.raises(DataError, match=r"row 3 .*, column 'amount': found 'dear', expected a finite number"):
        batch.predict(write(texts, tmp_path / "in.csv"), tmp_path / "out.csv", bundle)
    times = holdout.assign(amount=holdout["placed"])
    with pytest.raises(DataError, match="column 'amount' is timestamp"):
        batch.predict(write(times, tmp_path / "in.parquet"), tmp_path / "out.csv", bundle)


def test_categories_and_whole_numbers_may_come_in_other_types(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path
) -> None:
    other = holdout.assign(customer=holdout["customer"].astype("category"), items=holdout["items"].astype("int8"))
    batch.predict(write(other, tmp_path / "in.parquet"), tmp_path / "out.parquet", bundle)
    assert np.array_equal(read(tmp_path / "out.parquet")["probability"], expected(holdout)["probability"])


def test_unseen_categories_are_counted(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    holdout.loc[[3, 30], "customer"] = "zed"
    done = batch.predict(write(holdout, tmp_path / "in.csv"), tmp_path / "out.csv", bundle, rows=10)
    assert done["unseen"] == {"customer": 2}
    assert "2 rows with a customer not seen in training" in batch.describe(done, bundle)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("in.csv", b"", "is empty"),
        ("in.csv", b"a,b\n\xff,1\n", "not readable as .csv"),
        ("in.csv", b"a,b\n1,2,3\n", "more values than the header"),
        ("in.csv", b"a,a\n1,2\n", "not readable as .csv: Duplicate names"),
        ("in.parquet", b"hello", "not readable as .parquet"),
        ("in.xlsx", b"", r"IN ends in '\.xlsx', expected \.csv, \.parquet, FILE\.duckdb::TABLE"),
    ],
)
def test_an_unreadable_file_is_refused(bundle: Bundle, tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        batch.predict(tmp_path / name, tmp_path / "out.csv", bundle)
    assert not (tmp_path / "out.csv").exists()


def test_what_would_be_overwritten_is_refused(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    source = write(holdout, tmp_path / "in.csv")
    before = source.read_bytes()
    with pytest.raises(DataError, match="is the input"):
        batch.predict(source, tmp_path / "." / "in.csv", bundle)
    with pytest.raises(DataError, match="already has action"):
        batch.predict(write(holdout.assign(action=1), tmp_path / "had.csv"), tmp_path / "out.csv", bundle)
    with pytest.raises(DataError, match="is a folder"):
        batch.predict(source, tmp_path, bundle)
    with pytest.raises(DataError, match=r"OUT ends in '\.txt'"):
        batch.predict(source, tmp_path / "out.txt", bundle)
    with pytest.raises(DataError, match="not found"):
        batch.predict(tmp_path / "none.csv", tmp_path / "out.csv", bundle)
    assert source.read_bytes() == before


def fill(place: str, rows: pd.DataFrame) -> str:
    """Make a table of a database file; return how it is named."""
    file, name = place.split("::")
    if file.endswith(".duckdb"):
        with duckdb.connect(file) as connection:
            connection.register("rows", rows)
            connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM rows')
    else:
        with closing(sqlite3.connect(file)) as connection, connection:
            rows.assign(placed=rows["placed"].astype("str")).to_sql(name, connection, index=False)
    return place


def fetch(place: str) -> pd.DataFrame:
    """Return a table of a database file, by the order of its ids."""
    file, name = place.split("::")
    if file.endswith(".duckdb"):
        with duckdb.connect(file, read_only=True) as connection:
            return connection.sql(f'SELECT * FROM "{name}" ORDER BY id').df()
    with closing(sqlite3.connect(file)) as connection:
        return pd.read_sql(f'SELECT * FROM "{name}" ORDER BY id', connection)


def listed(file: str) -> set[str]:
    """Return the tables of a database file, hidden ones too."""
    if file.endswith(".duckdb"):
        with duckdb.connect(file, read_only=True) as connection:
            return {name for (name,) in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()}
    with closing(sqlite3.connect(file)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.parametrize(
    ("out_of", "into"),
    [
        ("a.duckdb::the orders", "a.duckdb::out"),
        ("a.duckdb::the orders", "new.db::out"),
        ("a.duckdb::the orders", "out.csv"),
        ("b.sqlite::the orders", "b.sqlite::out"),
        ("b.sqlite::the orders", "new.duckdb::out"),
        ("in.parquet", "a.duckdb::out"),
        ("in.parquet", "b.sqlite::out"),
    ],
)
def test_tables_of_databases_have_the_answers_of_files(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, out_of: str, into: str
) -> None:
    fill("a.duckdb::the orders", holdout)
    fill("b.sqlite::the orders", holdout)
    write(holdout, tmp_path / "in.parquet")
    for _ in range(2):  # the second run replaces what the first wrote
        done = batch.predict(out_of, into, bundle, rows=30)
        assert (done["rows"], done["wrote"]) == (80, into)
    found = read(tmp_path / into) if into == "out.csv" else fetch(into)
    answered = expected(holdout)
    for name in bundle.answers:
        assert found[name].tolist() == answered[name].tolist()
    for name in ("id", "note", "amount", "channel", "count"):
        pd.testing.assert_series_equal(found[name].fillna(-1), holdout[name].fillna(-1), check_dtype=False)
    assert listed("a.duckdb") == {"the orders"} | ({"out"} if into.startswith("a.") else set())
    assert listed("b.sqlite") == {"the orders"} | ({"out"} if into.startswith("b.") else set())
    assert not list(tmp_path.glob(".*tmp*"))


@pytest.mark.parametrize("file", ["a.duckdb", "b.sqlite"])
def test_a_table_is_written_whole_or_not_at_all(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, file: str
) -> None:
    fill(f"{file}::orders", holdout)
    batch.predict(f"{file}::orders", f"{file}::out", bundle)
    before = fetch(f"{file}::out")
    holdout.loc[25, "amount"] = np.inf
    write(holdout, tmp_path / "in.parquet")
    for target in (f"{file}::out", f"new_{file}::out"):
        with pytest.raises(DataError, match=r"in\.parquet: row 25 .*, column 'amount'"):
            batch.predict(tmp_path / "in.parquet", target, bundle, rows=10)
    pd.testing.assert_frame_equal(fetch(f"{file}::out"), before)
    assert listed(file) == {"orders", "out"}
    assert not (tmp_path / f"new_{file}").exists()


def test_a_killed_run_leaves_nothing_in_a_database(project: Project, holdout: pd.DataFrame) -> None:
    files = ["a.duckdb", "b.sqlite"]
    for file in files:
        fill(f"{file}::orders", holdout)
        assert subprocess.run([sys.executable, "-c", KILLED, file], check=False).returncode == 9
    assert [listed(file) for file in files] == [{"orders"}, {"orders"}]


@pytest.mark.parametrize("file", ["a.duckdb", "b.sqlite"])
def test_a_table_that_is_no_earlier_result_is_never_replaced(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, file: str
) -> None:
    fill(f"{file}::orders", holdout)
    fill(f"{file}::customers", holdout)
    source = write(holdout, tmp_path / "in.csv")
    refused = [
        (
            "customers",
            r"customers: is there already and no earlier result, as it lacks probability, action, expected_pay",
        ),
        ("orders", "orders: is the input; give another OUT"),
    ]
    for name, says in refused:
        with pytest.raises(DataError, match=says):
            batch.predict(f"{file}::orders", f"{file}::{name}", bundle)
    with pytest.raises(DataError, match="names no table; OUT is"):
        batch.predict(source, file, bundle)
    with pytest.raises(DataError, match=r"names no table, .*::TABLE, or --query; found the tables customers, orders"):
        batch.predict(file, "out.csv", bundle)
    with pytest.raises(DataError, match="::no: found no table 'no', expected one of customers, orders"):
        batch.predict(f"{file}::no", "out.csv", bundle)
    pd.testing.assert_frame_equal(fetch(f"{file}::customers"), fetch(f"{file}::orders"))


@pytest.mark.parametrize("file", ["a.duckdb", "b.sqlite"])
def test_a_query_is_scored_too(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, file: str) -> None:
    fill(f"{file}::orders", holdout)
    query = "SELECT *, '50 %' AS note2 FROM orders WHERE id % 2 = 0 ORDER BY id"
    asked = ["predict", file, "out.parquet", "--query", query]
    done = CliRunner().invoke(cli.app, asked)
    assert done.exit_code == 0, done.output
    half = holdout[holdout["id"] % 2 == 0]
    assert read(tmp_path / "out.parquet")["probability"].tolist() == expected(half)["probability"].tolist()
    for wrong in ("SELECT * FROM nothing", "SELECT"):
        failed = CliRunner().invoke(cli.app, [*asked[:-1], wrong])
        assert failed.exit_code == 1
        assert f"error: {file}: cannot be read (" in failed.output
    with pytest.raises(DataError, match="is no database, expected one beside a query"):
        batch.predict(write(holdout, tmp_path / "in.csv"), "out.csv", bundle, query=query)


def test_text_in_a_column_of_numbers_of_sqlite_is_named(bundle: Bundle, holdout: pd.DataFrame) -> None:
    fill("b.sqlite::orders", holdout)
    with closing(sqlite3.connect("b.sqlite")) as connection, connection:
        connection.execute("UPDATE orders SET amount = 'dear' WHERE id = (SELECT min(id) + 3 FROM orders)")
    with pytest.raises(DataError, match=r"b\.sqlite::orders: row 3 .*, column 'amount': found 'dear', expected double"):
        batch.predict("b.sqlite::orders", "out.csv", bundle)


@pytest.mark.parametrize("file", ["a.duckdb", "b.sqlite"])
def test_no_rows_of_a_table_make_an_empty_table(bundle: Bundle, holdout: pd.DataFrame, file: str) -> None:
    fill(f"{file}::orders", holdout.head(0))
    assert batch.predict(f"{file}::orders", f"{file}::out", bundle)["rows"] == 0
    assert list(fetch(f"{file}::out")) == [*holdout, *bundle.answers]


def test_the_password_of_a_database_is_never_shown(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    write(holdout, tmp_path / "in.csv")
    place = "postgresql://ann:topsecret@127.0.0.1:1/shop::orders"
    for ends in ((place, "out.csv"), ("in.csv", place)):
        failed = CliRunner().invoke(cli.app, ["predict", *ends])
        assert failed.exit_code == 1
        assert "error: postgresql://ann:***@127.0.0.1:1/shop::orders: cannot be " in failed.output
        assert "topsecret" not in failed.output


def test_postgresql_is_read_and_written_in_one_transaction_each(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import psycopg

    url = request.getfixturevalue("postgres")
    with psycopg.connect(url.replace("${SHOP_PASSWORD}", "p%40ss%3Aw%2Frd%25"), autocommit=True) as connection:
        connection.execute(
            'CREATE TABLE "Orders" (id bigint PRIMARY KEY, placed timestamptz, amount numeric(9, 2), items smallint, '
            'customer text, channel text, "50 % off" boolean, day date, raw bytea, price numeric, extra jsonb)'
        )
        rows = holdout[["id", "placed", "amount", "items", "customer", "channel"]].astype("object")
        for row in rows.where(rows.notna(), None).itertuples(index=False):
            more = """, true, '2020-01-05', '\\xff00', 1.10, '{"a": "ü"}'"""
            connection.execute(f'INSERT INTO "Orders" VALUES (%s, %s, %s, %s, %s, %s{more})', tuple(row))
        connection.execute("""UPDATE "Orders" SET channel = '', "50 % off" = NULL WHERE id % 2 = 0""")
        batch.predict(f"{url}::Orders", f"{url}::out", bundle, rows=30)
        batch.predict(f"{url}::Orders", tmp_path / "out.parquet", bundle)
        query = 'SELECT "Orders".* FROM "Orders" JOIN out USING (id)'  # reads what is replaced
        assert batch.predict(url, f"{url}::public.out", bundle, rows=30, query=query)["rows"] == 80
        plain = "to_jsonb(a) - '{price,extra}'::text[] || jsonb_build_object('price', a.price::text, 'extra', a.extra::text)"
        same = f'SELECT count(*) FROM "Orders" AS a JOIN out AS b ON ({plain}) <@ to_jsonb(b)'
        assert connection.execute(same).fetchone() == (80,)
        scored = connection.execute("SELECT probability FROM out ORDER BY id").fetchall()
        assert [value for (value,) in scored] == read(tmp_path / "out.parquet")["probability"].tolist()
        assert pq.read_schema(tmp_path / "out.parquet").field("amount").type == pa.decimal128(9, 2)
        connection.execute('CREATE VIEW seen AS SELECT * FROM "Orders"')
        with pytest.raises(DataError, match="::seen: is a view, expected a table"):
            batch.predict(f"{url}::Orders", f"{url}::seen", bundle)
        connection.execute("""UPDATE "Orders" SET customer = NULL WHERE id = (SELECT max(id) FROM "Orders")""")
        with pytest.raises(DataError, match=r"SHOP_PASSWORD.*::Orders: row 79 .*, column 'customer': found None"):
            batch.predict(f"{url}::Orders", f"{url}::new", bundle, rows=30)
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        assert {name for (name,) in names} == {"Orders", "out"}


def test_a_folder_of_parquet_files_is_one_table(bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, part in enumerate((holdout[:30], holdout[:0], holdout[30:])):
        (folder / f"period={number}").mkdir(parents=True)
        write(part[part.columns[::-1]] if number else part, folder / f"period={number}/part-0.parquet")
    assert batch.predict(folder, "out.parquet", bundle, rows=7)["rows"] == 80
    pd.testing.assert_frame_equal(read(tmp_path / "out.parquet")[list(holdout)], holdout.reset_index(drop=True))
    write(holdout[["id"]], folder / "z.parquet")
    with pytest.raises(DataError, match=r"z\.parquet: has other columns than .*: amount, channel"):
        batch.predict(folder, "out.parquet", bundle)


@pytest.mark.parametrize("suffix", batch.SUFFIXES)
@pytest.mark.parametrize("case", CASES)
def test_through_a_file_the_answers_of_every_task_are_those_of_the_candidate(
    project: Project, case: str, suffix: str
) -> None:
    parts = lay_out(case)
    bundle = pack(parts)
    answered = batch.through_file(parts["holdout"], suffix, bundle)
    pd.testing.assert_frame_equal(answered, expected(parts["holdout"]), check_exact=True, check_dtype=False)


@pytest.mark.parametrize("suffix", batch.SUFFIXES)
def test_dates_come_as_moments_as_text_or_as_days(project: Project, tmp_path: Path, suffix: str) -> None:
    parts = lay_out("multiclass")
    bundle, rows = pack(parts), parts["holdout"].head(20).astype({"@x": "float64"})
    texts = [row["@x"] for row in as_rows(rows, bundle.signature)]
    moments = pd.to_datetime(pd.Series(texts), format="ISO8601")
    for number, dates in enumerate(
        (texts, moments, moments.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"), rows["@x"])
    ):
        source, target = tmp_path / f"in{number}{suffix}", tmp_path / f"out{number}{suffix}"
        batch.predict(write(rows.assign(**{"@x": dates}), source), target, bundle)
        assert np.array_equal(read(target)["probability_s/m"], expected(rows)["probability_s/m"])


@pytest.mark.parametrize("wrong", ["yesterday", "20240229", "2023-02-29", "1e30", "inf"])
def test_a_wrong_date_is_named(project: Project, tmp_path: Path, wrong: str) -> None:
    parts = lay_out("multiclass")
    bundle, rows = pack(parts), parts["holdout"].astype({"@x": "object"})
    rows.loc[4, "@x"] = wrong
    with pytest.raises(DataError, match=rf"row 4 .*, column '@x': found '{wrong}', expected a date or time in ISO"):
        batch.predict(write(rows, tmp_path / "in.csv"), tmp_path / "out.csv", bundle)
    with pytest.raises(DataError, match=r"row 0 .*, column '@x': found 1e\+30, expected a date"):
        batch.predict(write(rows.assign(**{"@x": 1e30}), tmp_path / "in.parquet"), tmp_path / "out.csv", bundle)
    with pytest.raises(DataError, match="column '@x' is bool"):
        batch.predict(write(rows.assign(**{"@x": True}), tmp_path / "in.parquet"), tmp_path / "out.csv", bundle)


@pytest.mark.parametrize("suffix", batch.SUFFIXES)
def test_an_answer_named_like_a_feature_is_written_beside_it(project: Project, tmp_path: Path, suffix: str) -> None:
    parts = lay_out("multiclass")
    bundle, source, target = pack(parts), tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    done = batch.predict(write(parts["holdout"], source), target, bundle)
    assert read(target)["action"].tolist() == parts["holdout"]["action"].tolist()
    assert read(target)["action_predicted"].tolist() == expected(parts["holdout"])["action"].tolist()
    assert "action is in action_predicted, for action is a field of the model" in batch.describe(done, bundle)
    with pytest.raises(DataError, match=r"already has probability_s/m, .*action_predicted, .*drop or rename"):
        batch.predict(target, tmp_path / "again.csv", bundle)


def test_the_action_on_a_quantity_is_a_number(project: Project, tmp_path: Path) -> None:
    parts = lay_out("regression")
    batch.predict(write(parts["holdout"].head(0), tmp_path / "in.parquet"), tmp_path / "out.parquet", pack(parts))
    assert pq.read_schema(tmp_path / "out.parquet").field("action").type == pa.float64()


def test_an_empty_text_is_missing_unless_it_is_a_category_of_its_own(project: Project) -> None:
    column = pa.chunked_array([pa.array(["", "x", None])])
    field: dict[str, Any] = {"name": "c", "type": "string", "required": False, "known": ["x"]}
    assert batch.typed(column, field, Path("in.csv"), 0).isna().tolist() == [True, False, True]
    assert batch.typed(column, {**field, "known": ["", "x"]}, Path("in.csv"), 0).isna().tolist() == [
        False,
        False,
        True,
    ]


def test_a_key_that_training_missed_too_may_be_missing(project: Project, tmp_path: Path) -> None:
    parts = lay_out()
    for part in ("train", "holdout"):
        parts[part].loc[2, "customer"] = None
    bundle = pack(parts)
    assert batch.predict(write(parts["holdout"], tmp_path / "in.csv"), tmp_path / "out.csv", bundle)["rows"] == 80


def test_dictionary_encoded_numbers_are_decoded() -> None:
    column = pa.chunked_array([pa.array([1.5, None, 1.5]).dictionary_encode()])
    field = {"name": "amount", "type": "number", "required": False}
    assert batch.typed(column, field, Path("in.parquet"), 0).tolist()[::2] == [1.5, 1.5]


def test_the_command_says_what_it_did_and_what_it_refused(
    bundle: Bundle, holdout: pd.DataFrame, tmp_path: Path
) -> None:
    write(holdout, tmp_path / "in.csv")
    done = CliRunner().invoke(cli.app, ["predict", "in.csv", "out.csv"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"scored {len(holdout)} rows with returns {bundle.version}")
    again = CliRunner().invoke(cli.app, ["predict", "out.csv", "out2.csv"])
    assert again.exit_code == 1
    assert "error: out.csv: already has probability, action, expected_payoff; drop or rename" in again.output
    (bundle.place / "bundle.json").write_text(json.dumps({}))
    changed = CliRunner().invoke(cli.app, ["predict", "in.csv", "out.csv"])
    assert changed.exit_code == 1
    assert "changed: bundle.json" in changed.output


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_batch_that_is_decided_by_is_in_the_log(
    suffix: str, bundle: Bundle, parts: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    rows = parts["holdout"].drop(columns=["returned", "rate_by_customer_7d"])
    place, log = tmp_path / f"in{suffix}", Log(tmp_path / "log.sqlite")
    rows.to_csv(place, index=False) if suffix == ".csv" else rows.to_parquet(place, index=False)
    batch.predict(place, tmp_path / "out.parquet", bundle, rows=30, log=log)
    log.close()
    found, scored = log_export.read(log.place), pd.read_parquet(tmp_path / "out.parquet")
    assert found["id"].tolist() == [str(value) for value in rows["id"]]
    assert found["action"].tolist() == scored["action"].tolist()
    assert np.allclose(found["probability"], scored["probability"], atol=1e-12)
    looked_up = bundle.look_up(rows)["rate_by_customer_7d"]
    assert np.allclose(found["rate_by_customer_7d"], looked_up, equal_nan=True)
    assert pd.to_datetime(found["placed"]).tolist() == rows["placed"].tolist()

"""Batch scoring: the same answers as the service, rows as they were, and OUT whole or not at all."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import append, expected, lay_out, logged_rows, pack, write
from fastapi.testclient import TestClient
from servers import postgres  # noqa: F401 -- a server of our own
from typer.testing import CliRunner

from ninefold import cli
from ninefold.errors import DataError
from ninefold.serving import app, batch
from ninefold.serving.bundle import Bundle
from ninefold.serving.chunks import SUFFIXES
from ninefold.serving.fields import as_rows, look_up
from ninefold.serving.log import Log, as_text

FILES = ["a.duckdb", "b.sqlite"]
KILLED = """
import os, sys
from contextlib import contextmanager
import pyarrow as pa
from ninefold.serving import batch_duckdb, batch_sql, chunks

@contextmanager
def dying(tables):
    table = next(tables)
    yield pa.RecordBatchReader.from_batches(table.schema, (batch or os._exit(9) for batch in [*table.to_batches(), None]))

backend = batch_duckdb if sys.argv[1] == "a.duckdb" else batch_sql
backend.spooled = dying
backend.write(sys.argv[1], chunks.DatabaseTable("out", "out"), iter([pa.table({"id": range(200_000)})]))
"""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "CHUNK", 7)


@pytest.fixture
def holdout(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return parts["holdout"].assign(note='007, x"y', count=pd.array([1, None] * 40, dtype="Int64"))


def read(place: str) -> pd.DataFrame:
    return pd.read_csv(place, float_precision="round_trip") if place.endswith(".csv") else pd.read_parquet(place)


def refused(says: str, source: str | Path, target: str, bundle: Bundle, **how: Any) -> None:
    with pytest.raises(DataError, match=says):
        batch.predict(source, target, bundle, **how)


def command(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["predict", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.mark.parametrize("into", SUFFIXES)
@pytest.mark.parametrize("out_of", SUFFIXES)
def test_files_have_the_answers_of_the_service(bundle: Bundle, holdout: pd.DataFrame, out_of: str, into: str) -> None:
    done = batch.predict(write(holdout, f"in{out_of}"), f"out{into}", bundle)
    rows = as_rows(holdout, bundle.signature, without="identity")
    served = TestClient(app.create_app(bundle)).post("/predict", json={"rows": rows}).json()["predictions"]
    assert done["rows"] == len(holdout)
    answers = pd.DataFrame(served)[bundle.answers]
    pd.testing.assert_frame_equal(read(f"out{into}")[bundle.answers], answers, check_exact=True)
    if (out_of, into) == (".parquet", ".parquet"):
        assert pq.read_table("out.parquet").select(list(holdout)).equals(pq.read_table("in.parquet"))
    if into == ".csv":  # a whole number stays one beside missing ones
        assert pd.read_csv("out.csv", dtype="str", keep_default_na=False)["count"].str.slice(0, 1).isin(["1", ""]).all()


def test_csv_passes_through_letter_by_letter(bundle: Bundle) -> None:
    rows = 'code,customer,channel,amount,items,x\n007,ann,,1.50,2,NA\n"a, ""b""",zé,web, NaN ,3,\n'
    Path("in.csv").write_text(rows, "utf-8")
    batch.predict("in.csv", "out.csv", bundle)
    lines = Path("out.csv").read_text("utf-8").splitlines()
    assert lines[0] == "code,customer,channel,amount,items,x,probability,action,expected_payoff"
    assert lines[1].startswith("007,ann,,1.50,2,NA,0.")
    assert lines[2].startswith('"a, ""b""",zé,web, NaN ,3,,0.')


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r\nb", "a\x00b", '"', "\ufeffx", "NA", "a\u2028b"])
def test_any_text_passes_through_csv_and_back(bundle: Bundle, text: str) -> None:
    texts = {"note": [text, "z"], "customer": [text, "ann"]}
    rows = pd.DataFrame({**texts, "channel": "web", "amount": 1.5, "items": None})
    batch.predict(write(rows, "in.parquet"), "out.csv", bundle)
    plain = pd.read_csv("out.csv", dtype="str", keep_default_na=False)
    assert plain[["note", "customer"]].to_dict("list") == texts
    assert batch.through_file(rows, ".csv", bundle)["probability"].tolist() == read("out.csv")["probability"].tolist()


@pytest.mark.parametrize(("name", "column", "value", "says"), [
    ("in.parquet", "amount", np.inf, "column 'amount': found inf, expected a finite number"),
    ("in.csv", "amount", "dear", "column 'amount': found 'dear', expected a finite number"),
    ("in.csv", "customer", None, "column 'customer': found '', expected text, by which history is looked up"),
])  # fmt: skip
def test_a_wrong_value_is_named_and_earlier_results_stay(
    bundle: Bundle, holdout: Any, name: str, column: str, value: Any, says: str
) -> None:
    target = Path(name).with_stem("out")
    target.write_text("of yesterday")
    rows = holdout.astype({"amount": "object"}) if value == "dear" else holdout
    rows.loc[25, column] = value
    refused(f"row 25 .*, {says}", write(rows, name), str(target), bundle)
    assert target.read_text() == "of yesterday"
    assert not list(Path().glob(".*tmp"))


def test_categories_and_whole_numbers_may_come_in_other_types(bundle: Bundle, holdout: pd.DataFrame) -> None:
    other = holdout.astype({"customer": "category", "amount": "category", "items": "int8"})
    batch.predict(write(other, "in.parquet"), "out.parquet", bundle)
    assert np.array_equal(read("out.parquet")["probability"], expected(holdout)["probability"])


def test_an_unreadable_file_is_refused(bundle: Bundle) -> None:
    for name, content, says in (
        ("in.csv", b"", "is empty"),
        ("in.csv", b"a,b\n\xff,1\n", "cannot be read as .csv"),
        ("in.csv", b"a,b\n1,2\n1,2,3\n", "in.csv: line 3: found 3 fields, expected 2"),
        ("in.csv", b"a,b\n1,2\n3", "in.csv: line 3: found 1 fields, expected 2"),
        ("in.csv", b'a,b\n1,2\n7,"12"5\n', "in.csv: line 3: found text behind a closing quote"),
        ("in.csv", b'a,b\n1,2\n7,"125\n', r"in.csv: found a quote \(\"\) that is never closed, in the row .* line 3"),
        ("in.csv", b"a,a\n1,2\n", r"cannot be read as .csv \(Duplicate names"),
        ("in.parquet", b"hello", "cannot be read as .parquet"),
        ("in.xlsx", b"", r"IN ends in '\.xlsx', expected \.csv, \.parquet, FILE\.duckdb::TABLE"),
    ):
        Path(name).write_bytes(content)
        refused(says, name, "out.csv", bundle)
    assert not Path("out.csv").exists()


def test_wrong_columns_and_what_would_be_overwritten_are_refused(bundle: Bundle, holdout: pd.DataFrame) -> None:
    source, had = write(holdout, "in.csv"), write(holdout.assign(action=1), "had.csv")
    before = Path(source).read_bytes()
    refused("is the input", source, "models/../in.csv", bundle)
    refused("already has action", had, "out.csv", bundle)
    refused("is a folder", source, "models", bundle)
    refused(r"OUT ends in '\.txt'", source, "out.txt", bundle)
    refused("not found", "none.csv", "out.csv", bundle)
    assert Path(source).read_bytes() == before
    short = write(holdout.drop(columns=["amount", "customer"]), "in.csv")
    refused(r"in\.csv: lacks amount, customer, which the model needs; found id", short, "out.csv", bundle)
    times = write(holdout.assign(amount=holdout["placed"]), "in.parquet")
    refused("column 'amount' is timestamp", times, "out.csv", bundle)


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


def ask(file: str, query: str = "SELECT * FROM out ORDER BY id") -> pd.DataFrame:
    """Return what a query of a database file gives."""
    with closing((duckdb if file.endswith(".duckdb") else sqlite3).connect(file)) as connection:
        cursor = connection.execute(query)
        return pd.DataFrame(cursor.fetchall(), columns=[each[0] for each in cursor.description])


def tables(file: str) -> set[str]:
    """Return the tables of a database file, hidden ones too."""
    return set(ask(file, "SELECT name FROM sqlite_master WHERE type = 'table'")["name"])


@pytest.mark.parametrize(("out_of", "into"), [
    ("a.duckdb::the orders", "a.duckdb::out"),
    ("a.duckdb::the orders", "new.db::out"),
    ("b.sqlite::the orders", "b.sqlite::out"),
    ("b.sqlite::the orders", "new.duckdb::out"),
    ("a.duckdb::the orders", "out.csv"),
    ("in.parquet", "b.sqlite::out"),
])  # fmt: skip
def test_databases_have_the_answers_of_files(bundle: Bundle, holdout: pd.DataFrame, out_of: str, into: str) -> None:
    for file in FILES:
        fill(f"{file}::the orders", holdout)
    write(holdout, "in.parquet")
    for _ in range(2):  # the second run replaces what the first wrote
        done = batch.predict(out_of, into, bundle)
        assert (done["rows"], done["wrote"]) == (80, into)
    base = into.split("::", maxsplit=1)[0]
    rows = read(into) if into == "out.csv" else ask(base)
    pd.testing.assert_frame_equal(rows[bundle.answers], expected(holdout).reset_index(drop=True), check_exact=True)
    for name in ("id", "note", "amount", "channel", "count"):
        pd.testing.assert_series_equal(rows[name].fillna(-1), holdout[name].fillna(-1), check_dtype=False)
    for file in FILES:
        assert tables(file) == {"the orders"} | ({"out"} if file == base else set())
    assert not list(Path().glob(".*tmp*"))


@pytest.mark.parametrize("file", FILES)
def test_a_table_is_written_whole_or_not_at_all(bundle: Bundle, holdout: pd.DataFrame, file: str) -> None:
    batch.predict(fill(f"{file}::orders", holdout), f"{file}::out", bundle)
    before = ask(file)
    holdout.loc[25, "amount"] = np.inf
    write(holdout, "in.parquet")
    for target in (f"{file}::out", f"new_{file}::out"):
        refused(r"in\.parquet: row 25 .*, column 'amount'", "in.parquet", target, bundle)
    assert subprocess.run([sys.executable, "-c", KILLED, file], check=False).returncode == 9
    pd.testing.assert_frame_equal(ask(file), before)
    assert tables(file) == {"orders", "out"}
    assert not Path(f"new_{file}").exists()


@pytest.mark.parametrize("file", FILES)
def test_a_table_that_is_no_earlier_result_is_never_replaced(bundle: Bundle, holdout: pd.DataFrame, file: str) -> None:
    orders, customers = fill(f"{file}::orders", holdout), fill(f"{file}::customers", holdout)
    write(holdout, "in.csv")
    lacks = "customers: is there already and no earlier result, as it lacks probability, action, expected_pay"
    refused(lacks, orders, customers, bundle)
    refused("orders: is the input; give another OUT", orders, orders, bundle)
    refused("names no table; OUT is", "in.csv", file, bundle)
    refused("names no table, .*::TABLE, or --query; found the tables customers, orders", file, "out.csv", bundle)
    refused("::no: found no table 'no', expected one of customers, orders", f"{file}::no", "out.csv", bundle)
    assert list(ask(file, "SELECT * FROM customers")) == list(holdout)


@pytest.mark.parametrize("file", FILES)
def test_a_query_is_scored_too(bundle: Bundle, holdout: pd.DataFrame, file: str) -> None:
    fill(f"{file}::orders", holdout)
    query = "SELECT *, '50 %' AS note2 FROM orders WHERE id % 2 = 0 ORDER BY id"
    assert command(file, "out.parquet", "--query", query)[0] == 0
    half = expected(holdout[holdout["id"] % 2 == 0])
    assert read("out.parquet")["probability"].tolist() == half["probability"].tolist()
    for wrong in ("SELECT * FROM nothing", "SELECT"):
        assert f"error: {file}: cannot be read (" in command(file, "out.parquet", "--query", wrong)[1]
    refused("is no database, expected one beside a query", write(holdout, "in.csv"), "out.csv", bundle, query=query)


def test_text_in_a_column_of_numbers_of_sqlite_is_named(bundle: Bundle, holdout: pd.DataFrame) -> None:
    place = fill("b.sqlite::orders", holdout)
    with closing(sqlite3.connect("b.sqlite")) as connection, connection:
        connection.execute("UPDATE orders SET amount = 'dear' WHERE id = (SELECT min(id) + 3 FROM orders)")
    refused(r"orders: row 3 .*, column 'amount': found 'dear', expected double", place, "out.csv", bundle)


@pytest.mark.parametrize("place", [*(f"in{suffix}" for suffix in SUFFIXES), *(f"{file}::in" for file in FILES)])
def test_no_rows_in_no_rows_out(bundle: Bundle, holdout: pd.DataFrame, place: str) -> None:
    (fill if "::" in place else lambda place, rows: write(rows, place))(place, holdout.head(0))
    target = place.replace("in", "out")
    assert batch.predict(place, target, bundle)["rows"] == 0
    rows = ask(place.partition("::")[0]) if "::" in place else read(target)
    assert list(rows) == [*holdout, *bundle.answers]


def test_the_password_of_a_database_is_never_shown(bundle: Bundle, holdout: pd.DataFrame) -> None:
    place = "postgresql://ann:topsecret@127.0.0.1:1/shop::orders"
    for ends in ((place, "out.csv"), (write(holdout, "in.csv"), place)):
        _, said = command(*ends)
        assert "error: postgresql://ann:***@127.0.0.1:1/shop::orders: cannot be " in said
        assert "topsecret" not in said


def test_postgresql_is_read_and_written_in_one_transaction_each(bundle: Bundle, holdout: Any, request: Any) -> None:
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
        batch.predict(f"{url}::Orders", f"{url}::out", bundle)
        batch.predict(f"{url}::Orders", "out.parquet", bundle)
        query = 'SELECT "Orders".* FROM "Orders" JOIN out USING (id)'  # reads what is replaced
        assert batch.predict(url, f"{url}::public.out", bundle, query=query)["rows"] == 80
        plain = "to_jsonb(a) - '{price,extra}'::text[] || jsonb_build_object('price', a.price::text, 'extra', a.extra::text)"
        same = f'SELECT count(*) FROM "Orders" AS a JOIN out AS b ON ({plain}) <@ to_jsonb(b)'
        assert connection.execute(same).fetchone() == (80,)
        scored = connection.execute("SELECT probability FROM out ORDER BY id").fetchall()
        assert [value for (value,) in scored] == read("out.parquet")["probability"].tolist()
        assert pq.read_schema("out.parquet").field("amount").type == pa.decimal128(9, 2)
        connection.execute('CREATE VIEW seen AS SELECT * FROM "Orders"')
        refused("::seen: is a view, expected a table", f"{url}::Orders", f"{url}::seen", bundle)
        connection.execute("""UPDATE "Orders" SET customer = NULL WHERE id = (SELECT max(id) FROM "Orders")""")
        says = "SHOP_PASSWORD.*::Orders: row 79 .*, column 'customer': found None"
        refused(says, f"{url}::Orders", f"{url}::new", bundle)
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {name for (name,) in names} == {"Orders", "out"}


def test_a_folder_of_parquet_files_is_one_table(bundle: Bundle, holdout: pd.DataFrame) -> None:
    for number, part in enumerate((holdout[:30], holdout[:0], holdout[30:])):
        folder = Path(f"in/period={number}")
        folder.mkdir(parents=True)
        write(part[part.columns[::-1]] if number else part, f"{folder}/part-0.parquet")
    assert batch.predict("in", "out.parquet", bundle)["rows"] == 80
    pd.testing.assert_frame_equal(read("out.parquet")[list(holdout)], holdout.reset_index(drop=True))
    write(holdout[["id"]], "in/z.parquet")
    refused(r"z\.parquet: found other columns than in .*: amount, channel", "in", "out.parquet", bundle)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_dates_of_any_kind_are_read_or_named_and_answers_named_like_features_are_beside(
    project: Any, suffix: str
) -> None:
    parts, target = lay_out("multiclass"), f"out{suffix}"
    bundle, rows = pack(parts), parts["holdout"].head(20).astype({"@x": "float64"})
    texts = [row["@x"] for row in as_rows(rows, bundle.signature)]
    moments = pd.to_datetime(pd.Series(texts), format="ISO8601")
    for dates in (texts, moments, moments.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"), rows["@x"]):
        done = batch.predict(write(rows.assign(**{"@x": dates}), f"in{suffix}"), target, bundle)
        assert np.array_equal(read(target)["probability_s/m"], expected(rows)["probability_s/m"])
    assert read(target)["action"].tolist() == rows["action"].tolist()
    assert read(target)["action_predicted"].tolist() == expected(rows)["action"].tolist()
    assert "action is in action_predicted, for action is a field of the model" in batch.describe(done, bundle)
    refused(r"already has probability_s/m, .*action_predicted, .*drop or rename", target, "again.csv", bundle)
    for wrong in ("yesterday", "20240229", "2023-02-29", "1e30", "inf"):
        says = rf"row 4 .*, column '@x': found '{wrong}', expected a date or time in ISO"
        refused(says, write(rows.assign(**{"@x": [*texts[:4], wrong, *texts[5:]]}), "in.csv"), "out.csv", bundle)
    for value, says in ((1e30, r"row 0 .*, column '@x': found 1e\+30, expected a date"), (True, "column '@x' is bool")):
        refused(says, write(rows.assign(**{"@x": value}), "in.parquet"), "out.csv", bundle)


def test_the_command_says_what_it_did_and_what_it_refused(bundle: Bundle, holdout: pd.DataFrame) -> None:
    holdout.loc[[3, 5, 30], "customer"] = ["zed", "max", "zed"]
    code, said = command(write(holdout, "in.csv"), "out.csv")
    assert (code, said.startswith(f"scored {len(holdout)} rows with returns {bundle.version}")) == (0, True)
    assert "3 rows with a customer not seen in training" in said
    holdout.loc[[2, 30], "amount"] = [-1, 99999]
    assert "2 rows with a amount outside the contract" in command(write(holdout, "in.csv"), "out.csv")[1]
    code, said = command("out.csv", "out2.csv")
    assert (code, "error: out.csv: already has probability, action, expected_payoff; drop or" in said) == (1, True)
    (bundle.place / "bundle.json").write_text(json.dumps({}))
    code, said = command("in.csv", "out.csv")
    assert (code, "changed: bundle.json" in said) == (1, True)


def test_keys_and_times_of_any_type_are_logged_as_the_text_by_which_labels_are_joined(bundle: Any, parts: Any) -> None:
    table = pa.Table.from_pandas(parts["holdout"].drop(columns="returned"), preserve_index=False)
    for name, kind in {"id": pa.decimal128(21, 2), "placed": pa.date32()}.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind, safe=False))
    pq.write_table(table, "in.parquet")
    with closing(Log(Path("log.sqlite").absolute())) as log:
        batch.predict("in.parquet", "out.parquet", bundle, log=log)
    logged = logged_rows(log.place)
    assert logged["id"].tolist() == parts["holdout"]["id"].astype("str").tolist()
    assert logged["placed"].tolist() == parts["holdout"]["placed"].dt.strftime("%Y-%m-%d").tolist()
    assert (as_text(Decimal("1.50")), as_text(Decimal("7.00")), as_text(True)) == ("1.50", "7", "true")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_batch_that_is_decided_by_is_in_the_log_and_deletes_old_answers(suffix: str, bundle: Any, parts: Any) -> None:
    history = "rate_by_customer_7d"
    rows = parts["holdout"].drop(columns=["returned", history])
    with closing(Log(Path("log.sqlite").absolute())) as log:
        append(log, bundle, bundle.described["example"], at=datetime(2020, 1, 1, tzinfo=UTC))
        done = batch.predict(write(rows, f"in{suffix}"), "out.parquet", bundle, log=log)
    logged, scored = logged_rows(log.place), read("out.parquet")
    assert done["looked_up"] == [history]
    assert history not in scored
    assert logged["id"].tolist() == [str(value) for value in rows["id"]]
    assert logged["action"].tolist() == scored["action"].tolist()
    assert np.allclose(logged["probability"], scored["probability"], atol=1e-12)
    assert np.allclose(logged[history], look_up(rows, bundle.online)[history], equal_nan=True)
    assert pd.to_datetime(logged["placed"]).tolist() == rows["placed"].tolist()

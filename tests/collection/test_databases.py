"""Databases are read as text: SQLite, DuckDB, PostgreSQL; no error shows a password."""

import gzip
import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest
from servers import postgres  # noqa: F401 -- a server of our own
from source_files import put, read

from ninefold.collection import databases, sources
from ninefold.errors import DataError


def fill(file: str) -> sqlite3.Connection:
    connection = sqlite3.connect(file)
    connection.execute('CREATE TABLE "order list" (id INTEGER PRIMARY KEY, "a:b" TEXT, x REAL, n INTEGER)')
    connection.executemany('INSERT INTO "order list" VALUES (?, ?, ?, ?)', [(2, "50 %", 1.0, None), (1, "", None, 7)])
    connection.commit()
    return connection


@pytest.mark.parametrize("by_url", [False, True])
def test_sqlite_is_read_by_file_and_by_url(by_url: bool) -> None:
    fill("t.db").close()
    source = f"sqlite:///{Path('t.db').absolute()}" if by_url else "t.db"
    sold = {"id": ["1", "2"], "a:b": ["", "50 %"], "x": ["", "1.0"], "n": ["7", ""]}
    assert sources.sniff(source) == {"table": "order list"}
    assert read(source, table="order list") == read(source) == sold
    query = "SELECT id, '%' AS p, '12:30' AS t FROM \"order list\" WHERE id = 2"
    assert read(source, query=query) == {"id": ["2"], "p": ["%"], "t": ["12:30"]}
    for options, message in (
        ({"table": "orders"}, r"options.table: found no table 'orders', expected one of order list"),
        ({"query": 'SELECT nope FROM "order list"'}, r"cannot be read .*no such column: nope"),
        ({"table": "order list", "query": "SELECT 1"}, "found table and query, expected one of them"),
    ):
        with pytest.raises(DataError, match=message):
            sources.read(source, options)
    with fill("t.sqlite") as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(DataError, match=r"t.sqlite: holds 2 tables: order list, other; name the one to read"):
        sources.sniff("t.sqlite")
    with pytest.raises(DataError, match=r"t.sqlite: found names \(x\) and no row"):
        sources.read("t.sqlite", {"table": "other"})


def test_duckdb_is_read() -> None:
    columns = "1 AS id, 1.0::DOUBLE AS x, TIMESTAMPTZ '2020-01-05 10:00+02' AS at"
    with duckdb.connect("t.duckdb") as connection:
        connection.execute(f"CREATE TABLE t AS SELECT {columns}")
    expected = {"id": ["1"], "x": ["1.0"], "at": ["2020-01-05T08:00:00Z"]}
    assert read(put("t.duckdb.gz", gzip.compress(Path("t.duckdb").read_bytes()))) == expected
    assert sources.sniff("t.duckdb") == sources.sniff("t.duckdb.gz") == {"table": "t"}
    assert read("t.duckdb", table="t") == read("t.duckdb", query="FROM t") == expected
    with pytest.raises(DataError, match=r"t.duckdb: options.table: found no table 'no', expected one of t"):
        sources.read("t.duckdb", {"table": "no"})
    with duckdb.connect("t.duckdb") as connection:
        connection.execute('CREATE SCHEMA "c""m"; CREATE TABLE "c""m".t AS FROM t; DROP TABLE t')
    assert read("t.duckdb", **sources.sniff("t.duckdb")) == read("t.duckdb", table='c"m.t') == expected
    put("cut.duckdb", Path("t.duckdb").read_bytes()[:5000])
    message = r"cut.duckdb: cannot be read as DuckDB \(.*; or fetch or write the file again"
    for function in (sources.read, sources.sniff):
        with pytest.raises(DataError, match=message):
            function("cut.duckdb")


@pytest.mark.parametrize("function", [sources.read, sources.sniff])
@pytest.mark.parametrize(("source", "message"), [
    ("nosuch://u:topsecret@host/db", "no installed driver reads"),
    ("mysql+pymysql://u:topsecret@host/db", "needs the package pymysql; run `pip install 'pymysql'`"),
    ("postgresql://u:${NO_SUCH}@host/db", "the environment variable NO_SUCH is not set"),
    ("postgresql://u:topsecret@127.0.0.1:1/db", "cannot be read"),
    ("postgresql://u:topsecret@host:port/db", "not a valid URL"),
    ("postgresql://u@127.0.0.1:1/db?password=topsecret", "cannot be read"),
    ("https://u:topsecret@host/t.csv", "a web address is not read"),
])  # fmt: skip
def test_no_error_shows_a_password(function: Any, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        function(source)
    assert "topsecret" not in str(error.value)


@pytest.fixture(scope="module")
def shop(postgres: str) -> str:  # noqa: F811
    """Fill the server with a table of many types, and one in a schema of its own."""
    import psycopg

    with psycopg.connect(postgres.replace("${SHOP_PASSWORD}", "p%40ss%3Aw%2Frd%25")) as connection:
        connection.execute("""
            CREATE TABLE "Orders" (id bigint PRIMARY KEY, n integer, x double precision, price numeric(9, 2),
            ok boolean, at timestamp, "at zone" timestamptz, day date, note text, extra jsonb, tags text[]);
            INSERT INTO "Orders" (id) VALUES (2);
            INSERT INTO "Orders" VALUES (1, 7, 0.1, 1.10, true, '2020-01-05 10:00', '2020-01-05 10:00+02',
            '2020-01-05', '50 % ü', '{"a": 1}', '{x,y}');
            CREATE SCHEMA east; CREATE TABLE east.stock AS SELECT 5 AS pieces
        """)
    return postgres


def test_postgresql_is_read_with_a_password_from_the_environment(shop: str) -> None:
    assert sources.sniff(shop) == {"table": "Orders"}
    first = {"n": "7", "x": "0.1", "price": "1.10", "ok": "true", "day": "2020-01-05", "note": "50 % ü"}
    first |= {"at": "2020-01-05T10:00:00", "at zone": "2020-01-05T08:00:00Z"}
    first |= {"extra": '{"a": 1}', "tags": '["x", "y"]'}
    assert read(shop, table="Orders") == {"id": ["1", "2"], **{name: [text, ""] for name, text in first.items()}}
    assert read(shop, table="east.stock") == {"pieces": ["5"]}
    query = "SELECT count(*)::int AS rows, '%' AS sign FROM \"Orders\""
    assert read(shop, query=query) == {"rows": ["2"], "sign": ["%"]}
    rows = databases.CHUNK * 2 + 1  # read in chunks
    frame = sources.read(shop, {"query": f"SELECT i FROM generate_series(1, {rows}) AS s(i)"})
    assert (len(frame), frame["i"].iloc[-1]) == (rows, str(rows))


def test_what_postgresql_refuses_is_said_without_the_password(shop: str) -> None:
    with pytest.raises(DataError, match=r"options.table: found no table 'orders', expected one of Orders"):
        sources.read(shop, {"table": "orders"})
    with pytest.raises(DataError, match='relation "nothing" does not exist'):
        sources.read(shop, {"query": "SELECT * FROM nothing"})
    with pytest.raises(DataError, match="password authentication failed") as error:
        sources.read(shop.replace("${SHOP_PASSWORD}", "wrongsecret"), {"table": "Orders"})
    assert "wrongsecret" not in str(error.value)


@pytest.mark.parametrize(("source", "shown"), [
    ("postgresql://u:secret@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:${PW}@host/db", "postgresql://u:${PW}@host/db"),
    ("postgresql://u:a@b@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:a/b@host/db", "postgresql://u:***@host/db"),
    ("postgresql://host:5432/db?user=a@b", "postgresql://host:5432/db?user=a@b"),
    ("mssql://host/db?user=u&Password=secret&x=1", "mssql://host/db?user=u&Password=***&x=1"),
    ("mssql:///?odbc_connect=UID%3Du%3BPWD%3Dsecret%3BX%3D1", "mssql:///?odbc_connect=UID%3Du%3BPWD%3D***%3BX%3D1"),
    ("https://host/t?sslpassword=a b&api_key=c", "https://host/t?sslpassword=***&api_key=***"),
    ("data/source/a:b@c.csv", "data/source/a:b@c.csv"),
])  # fmt: skip
def test_a_password_is_masked(source: Any, shown: Any) -> None:
    assert sources.masked(source) == shown

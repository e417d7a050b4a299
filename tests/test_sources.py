"""A table is read wherever it lies, all text, and nothing of it is changed, guessed or lost."""

from __future__ import annotations

import bz2
import datetime as dt
import decimal
import gzip
import json
import lzma
import os
import shutil
import socket
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ninefold.core import databases, sources
from ninefold.core.errors import DataError

PLAIN = {"id": ["01", "2"], "city": ["Köln", "NA"]}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(name: str, content: str | bytes, encoding: str = "utf-8") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return name


def read(source: str, **options: Any) -> dict[str, list[str]]:
    frame = sources.read(source, options)
    assert all(str(kind) == "str" for kind in frame.dtypes)
    return frame.to_dict("list")


# --- delimited text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_sniffed_reads_the_file(delimiter: str, encoding: str, newline: str) -> None:
    lines = ["id,city,price,note", "01,Köln,¤1,5¤,¤a, b;\tc|¤", "2,NA,¤2,25¤,¤two", "lines¤", "3,Zürich,7,- ¤¤x¤¤"]
    text = newline.join(lines).replace("¤¤x¤¤", "x").replace(",", "\0").replace("¤", '"')
    cells = text.replace('"1\x005"', '"1,5"').replace('"2\x0025"', '"2,25"').replace('"a\x00 b', '"a, b')
    source = put("t.csv", cells.replace("\0", delimiter) + newline, encoding)
    options = sources.sniff(source)
    assert set(options) <= {"delimiter", "encoding"}
    assert options.get("delimiter", ",") == delimiter
    assert read(source, **options) == {
        "id": ["01", "2", "3"],
        "city": ["Köln", "NA", "Zürich"],
        "price": ["1,5", "2,25", "7"],
        "note": ["a, b;\tc|", f"two{newline}lines", "- x"],
    }


def test_nothing_is_sniffed_where_the_default_will_do() -> None:
    assert sources.sniff(put("t.csv", "a,b\n1,2\n")) == {}
    assert sources.sniff(put("t.tsv", "a\tb\n1\t2\n")) == {}
    assert sources.sniff(put("bom.csv", "a,b\n1,ü\n", "utf-8-sig")) == {}
    assert sources.sniff(put("one.csv", "a\n1\n2\n")) == {}


def test_what_is_known_is_not_guessed() -> None:
    source = put("t.csv", "a;b,c\n1;2,3\n")
    assert sources.sniff(source, {"delimiter": ","}) == {"delimiter": ","}


def test_a_decimal_comma_does_not_look_like_a_delimiter() -> None:
    source = put("t.csv", "a;b\n1,5;2,5\n4,1;5,2\n")
    assert sources.sniff(source) == {"delimiter": ";"}
    assert read(source, delimiter=";") == {"a": ["1,5", "4,1"], "b": ["2,5", "5,2"]}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a,b\n'1, 2','3'\n'4','5'\n", {"quote": "'"}),
        ('a,b\n"1, \\"2\\"","3"\n"4","5"\n', {"escape": "\\"}),
    ],
)
def test_other_quotes_and_escapes_are_sniffed(text: str, options: dict[str, str]) -> None:
    source = put("t.csv", text)
    assert sources.sniff(source) == options
    assert read(source, **options)["b"] == ["3", "5"]
    assert read(source, **options)["a"][0].replace('"', "") == "1, 2"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("name,city\n" + "Bob,Bern\n" * 2000 + "Ann,Zürich\n", "cp1252"),
        ("Straße;Größe;Preis\nMüller;groß;10 €\n", "cp1252"),
        ("miasto,imię\nŁódź,Świętosława\nKraków,Żółw\n", "cp1250"),
        ("город,имя\nМосква,привет\nРоссия,улица\n", "cp1251"),
        ("名前,住所\n東京,日本語\n大阪,電話番号\n", "cp932"),
    ],
)
def test_the_likeliest_encoding_is_found(text: str, encoding: str) -> None:
    source = put("t.csv", text, encoding)
    assert sources.sniff(source)["encoding"] == encoding


def test_text_stays_as_it_is() -> None:
    cells = ["007", " x ", "1e5", "NULL", "", "true", "1.10"]
    source = put("t.csv", "a,b\n" + "".join(f"{cell},-\n" for cell in cells))
    assert read(source)["a"] == cells


def test_blank_lines_are_no_rows_but_a_single_column_may_have_gaps() -> None:
    assert read(put("two.csv", "\na,b\n\n1,2\n\n"))["a"] == ["1"]
    assert read(put("one.csv", "a\n1\n\n2\n"))["a"] == ["1", "", "2"]


def test_names_are_usable_and_otherwise_as_they_were() -> None:
    found = [" a ", "", "A", "a_2", "@x", "select", 'q"', "x.y", "broken_rule", "größe", "a", "file_row_number"]
    expected = ["a", "column_2", "A_3", "a_2", "_@x", "select", 'q"', "x.y", "_broken_rule", "größe", "a_4"]
    expected += ["_file_row_number"]
    assert sources.names(found) == expected


def test_a_file_without_names_gets_some_when_it_is_said_to_have_none() -> None:
    source = put("t.csv", "5.1,3.5,setosa\n4.9,3.0,setosa\n")
    with pytest.raises(DataError, match=r"first line looks like a row \(5.1, 3.5, setosa\), .* {header: false}"):
        sources.sniff(source)
    assert sources.sniff(source, {"header": False}) == {"header": False}
    assert list(read(source, header=False)) == ["column_1", "column_2", "column_3"]


@pytest.mark.parametrize("line", ["country,2019,2020", "label,0,1,2,3", "a,b"])
def test_years_and_positions_are_names(line: str) -> None:
    rows = ",".join("1" for _ in line.split(","))
    assert sources.sniff(put("t.csv", f"{line}\n{rows}\n{rows}\n")) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.csv", None, r"no.csv: not found; correct the path"),
        ("t.csv", "", r"t.csv: found an empty file"),
        ("t.csv", "\n\n", r"t.csv: found blank lines only"),
        ("t.csv", "a,b\n", r"t.csv: found names \(a, b\) and no row"),
        ("t.csv", 'a,b\n1,"x\ny"\n3,4,5\n', r"t.csv: line 4: found 3 fields, expected 2, as in its first line"),
        ("t.csv", "a,b\n1,2\n3\n", r"t.csv: line 3: found 1 fields, expected 2"),
        ("t.csv", 'a,b\n1,"x\n2,y\n', r't.csv: found a quote \("\) that is never closed'),
        ("t.csv", b"\x89PNG\r\n\x00\x01\x02", r"t.csv: found bytes that are no text"),
        ("t.csv", b"PK\x03\x04abc", r"t.csv: found a zip or Excel file, expected text"),
        ("t.csv", "a;b\n1;2\n", r"t.csv: found one column, named 'a;b', .*set options: {delimiter: \";\"}"),
        ("t.csv", "a,b\nü,1\n".encode("cp1252"), r"not utf-8; set options: {encoding: cp1252}"),
        ("t.xyz", "a,b\n", r"t.xyz: found the suffix '.xyz', expected one of .csv"),
        ("t.parquet", "PAR1 no", r"t.parquet: cannot be read as Parquet"),
        ("t.xlsx", "no", r"t.xlsx: cannot be read as Excel"),
        ("t.sqlite", "no database at all", r"t.sqlite: found neither a SQLite nor a DuckDB file"),
        ("t.json", "{", r"t.json: line 1: not JSON"),
        ("t.json", "[1, 2]", r"t.json: item 1: found no object"),
        ("t.csv.gz", b"no gzip", r"t.csv.gz: cannot be unpacked"),
        ("t.csv.gz", gzip.compress(b"a,b\n" * 999, mtime=0)[:-9], r"t.csv.gz: cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(name: str, content: Any, message: str) -> None:
    if content is not None:
        put(name, content)
    with pytest.raises(DataError, match=message):
        sources.read(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sheet": "x"}, "t.csv: options: found sheet, expected for this kind of file: delimiter, encoding"),
        ({"delimiter": ",,"}, "t.csv: options: found ',,' as delimiter, expected one plain character"),
        ({"encoding": "latin-99"}, "t.csv: options.encoding: found 'latin-99', expected a name such as cp1252"),
        ({"encoding": "rot13"}, "t.csv: options.encoding: found 'rot13', expected a name such as cp1252"),
        ({"encoding": "idna"}, "t.csv: options.encoding: found 'idna', expected a name such as cp1252"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sources.read(put("t.csv", "a,b\n1,2\n"), options)


NO_NEWLINE = r"t.csv: found no newline after its last line, which ends with '2, 12', .* options: {final_newline: false}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32", "cp1252"])
def test_a_text_that_does_not_end_in_a_newline_is_refused_unless_it_is_said_to_be_whole(encoding: str) -> None:
    options = {"encoding": encoding} if encoding in ("utf-16-be", "cp1252") else {}
    source = put("t.csv", "a,b\n1,125\n2,12", encoding)
    with pytest.raises(DataError, match=NO_NEWLINE):
        sources.read(source, options)
    assert sources.sniff(source, options)["final_newline"] is False
    assert read(source, **options, final_newline=False)["b"] == ["125", "12"]
    for newline in ("\n", "\r\n", "\r"):
        assert read(put("t.csv", f"a,b{newline}1,125{newline}", encoding), **options)["b"] == ["125"]


def test_of_a_folder_no_file_may_lack_the_newline_that_others_have() -> None:
    put("parts/a.csv", "a,b\n1,2")
    put("parts/b.csv", "a,b\n3,4")
    assert sources.sniff("parts") == {"final_newline": False}
    put("parts/c.csv", "a,b\n5,6\n")
    assert sources.sniff("parts") == {}
    with pytest.raises(DataError, match=r"parts/a.csv: found no newline after its last line"):
        sources.read("parts")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            '1,"x,2\n2,y,3\n3,"z",4\n',
            r"line 4: found text behind a closing quote \(\"\), in the row .* line 2; a quote",
        ),
        ('1,2,"x\n2,y,3\n3,4,"z"\n', r"line 4: found text behind a closing quote"),
        ('1,"x,"y, z"\n', r"line 2: found text behind a closing quote .*; mend the row, or set options.escape"),
        ('1,"say "yes" now",3\n', r"line 2: found text behind a closing quote"),
        ('1,2,"x', r"found a quote \(\"\) that is never closed, in the row that begins in line 2; .*fetch it anew"),
        ('1,2,"', r"found a quote \(\"\) that is never closed"),
        ('1,2,"x\n2,y,3\n', r"found a quote \(\"\) that is never closed, in the row that begins in line 2"),
    ],
)
def test_a_quote_that_takes_fields_or_lines_with_it_is_refused(rows: str, message: str) -> None:
    with pytest.raises(DataError, match=f"t.csv: {message}"):
        sources.read(put("t.csv", f"a,b,c\n{rows}"), {"final_newline": False})


def test_quotes_that_are_closed_are_no_trouble() -> None:
    rows = ['"x ""y"" z",2', '"two\n""lines""",2', '5" pipe,2', '"spaces" ,2', '"",""', '"""",2']
    found = read(put("t.csv", "a,b\n" + "\n".join(rows) + "\n"))
    assert found["a"] == ['x "y" z', 'two\n"lines"', '5" pipe', "spaces ", "", '"']


def test_the_names_once_more_below_are_refused() -> None:
    for again in ("a,b\n", "\ufeffa,b\n", '"a","b"\n'):
        with pytest.raises(DataError, match=r"t.csv: line 4: found the names of the columns again"):
            sources.read(put("t.csv", f'a,b\n"x\ny",1\n{again}z,2\n'))
    assert read(put("one.csv", "a\nb\na\n"))["a"] == ["b", "a"]
    assert read(put("none.csv", "a,b\na,b\n"), header=False)["column_1"] == ["a", "a"]


def test_a_zero_byte_is_found_wherever_it_is() -> None:
    source = put("t.csv", b"a,b\n" + b"1,xx\n" * 300_000 + b"2,\0\n")
    with pytest.raises(DataError, match=r"t.csv: found bytes that are no text \(a zero after '.*1,xx\\n2,'\)"):
        sources.read(source)


def test_utf_8_does_not_pass_for_a_code_page() -> None:
    source = put("t.csv", "a,b\nü,1\n")
    for encoding in ("cp1252", "cp1251", "ascii"):
        with pytest.raises(DataError, match=rf"t.csv: found text that is utf-8, expected {encoding}"):
            sources.read(source, {"encoding": encoding})
    assert read(put("t.csv", "a,b\nü,1\n", "cp1252"), encoding="cp1252")["a"] == ["ü"]
    assert read(put("t.csv", "a,b\nu,1\n"), encoding="cp1252")["a"] == ["u"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "a,b\nx,1\nü,1\n".encode("cp1252"),
            r"line 3: found text that is not utf-8; set options: {enc.*: cp1252}",
        ),
        (
            "t.csv",
            "a,b\nü,1\n".encode() + b"\xfc,1\n",
            r"line 3: found .* not utf-8, as the text before it is; mend that",
        ),
        ("t.csv", "a,b\nx,ü".encode()[:-1], r"line 2: ends within a letter, after 'a,b\\nx,', as a file .* cut off"),
        ("t.csv", "a,b\nx,y\n".encode("utf-16")[:-1], r"line 2: ends within a letter"),
        ("t.json", '{"a": 1}\n{"a": "ü"}\n'.encode("cp1252"), r"line 2: found text that is not utf-8; set options"),
        (
            "t.json",
            '{"a": 1}\n{"a": 2\n',
            r"line 2: not JSON \(.*, character 8\), expected .* cut off there, fetch it anew",
        ),
        ("t.json", '[{"a": 1},\n{"a" 2}]', r"line 2: not JSON"),
        ("t.json", '{"a": 1}\n{"a": 1, "a": 2}\n', r"line 2: not JSON \('a' twice in an object\)"),
        ("t.json", '{"a": 1}\n{"a": ' + "9" * 5000 + "}\n", r"line 2: not JSON \(Exceeds the limit"),
        ("t.json", '{"a": ' + "[" * 99_999 + "}\n", r"line 1: not JSON \(maximum recursion depth"),
        ("t.json", '{"a": "\\ud800"}\n', r"'a': found half a letter"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_damaged_is_named_by_its_line(name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"{name}: {message}"):
        sources.read(put(name, content))


# --- packed, and in folders


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_packed_files_are_read(suffix: str) -> None:
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst}[suffix]
    source = put(f"t.csv{suffix}", pack("id;city\n01;Köln\n2;NA\n".encode()))
    assert sources.sniff(source) == {"delimiter": ";"}
    assert read(source, delimiter=";") == PLAIN


def zst(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


def test_a_zip_with_one_file_is_read_and_one_with_more_refused() -> None:
    with zipfile.ZipFile("t.zip", "w") as archive:
        archive.writestr("inner.csv", "id,city\n01,Köln\n2,NA\n")
    assert read("t.zip") == PLAIN
    with zipfile.ZipFile("t.zip", "a") as archive:
        archive.writestr("other.csv", "x\n1\n")
    with pytest.raises(DataError, match=r"t.zip: found 2 files in it \(inner.csv, other.csv\), expected one"):
        sources.read("t.zip")


def test_a_folder_is_one_table_in_the_order_of_its_names() -> None:
    put("parts/b.csv", "city,id\nNA,2\n")
    put("parts/a.csv", "id,city\n01,Köln\n")
    put("parts/.DS_Store", b"\0")
    put("parts/_SUCCESS", "")
    assert read("parts") == PLAIN


def test_a_file_of_a_folder_that_differs_is_named() -> None:
    put("parts/a.csv", "id,city\n01,Köln\n")
    put("parts/sub/b.csv", "id,town\n2,Bern\n")
    with pytest.raises(DataError, match=r"parts/sub/b.csv: found other columns than in parts/a.csv: city, town"):
        sources.read("parts")
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty: found an empty folder"):
        sources.read("empty")


# --- files that know types


def test_typed_columns_become_text_without_loss() -> None:
    utc = dt.datetime(2020, 1, 5, 10, 30, tzinfo=dt.UTC)
    table = pa.table(
        {
            "int": pa.array([1, None, 2**62], pa.int64()),
            "float": pa.array([1.0, 0.1 + 0.2, None]),
            "float32": pa.array([0.1, None, 2.0], pa.float32()),
            "bool": [True, False, None],
            "time": pa.array([dt.datetime(2020, 1, 5), dt.datetime(2020, 1, 5, 1, 2, 3, 450000), None]),
            "zoned": pa.array([utc, None, utc], pa.timestamp("ms", "Europe/Berlin")),
            "day": [dt.date(2020, 1, 5), None, dt.date(1, 1, 1)],
            "decimal": [decimal.Decimal("1.10"), None, decimal.Decimal("-0.05")],
            "kind": pa.array(["a", None, "a"]).dictionary_encode(),
            "list": [[1, 2], [], None],
            "none": pa.nulls(3),
            "bytes": [b"ab", b"\xff", None],
        }
    )
    pq.write_table(table, "t.parquet")
    assert read("t.parquet") == {
        "int": ["1", "", "4611686018427387904"],
        "float": ["1.0", "0.30000000000000004", ""],
        "float32": ["0.1", "", "2.0"],
        "bool": ["true", "false", ""],
        "time": ["2020-01-05T00:00:00", "2020-01-05T01:02:03.450000", ""],
        "zoned": ["2020-01-05T10:30:00Z", "", "2020-01-05T10:30:00Z"],
        "day": ["2020-01-05", "", "0001-01-01"],
        "decimal": ["1.10", "", "-0.05"],
        "kind": ["a", "", "a"],
        "list": ["[1, 2]", "[]", ""],
        "none": ["", "", ""],
        "bytes": ["ab", "ff", ""],
    }


@pytest.mark.parametrize("lines", [True, False])
def test_json_is_read(lines: bool) -> None:
    rows = [{"id": 1, "x": 1.5, "ok": True, "in": {"a": [1]}}, {"id": 2, "x": None, "new": "ü"}]
    text = "\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows, indent=1)
    assert read(put("t.jsonl" if lines else "t.json", text)) == {
        "id": ["1", "2"],
        "x": ["1.5", ""],
        "ok": ["true", ""],
        "in": ['{"a": [1]}', ""],
        "new": ["", "ü"],
    }


def test_an_excel_sheet_is_read_and_one_of_several_asked_for() -> None:
    frame = pd.DataFrame(
        {"id": ["01", "2"], "n": [1, 2], "x": [1.5, None], "day": [dt.datetime(2020, 1, 5), None], "ok": [True, False]}
    )
    frame.to_excel("t.xlsx", sheet_name="Sales", index=False)
    expected = {
        "id": ["01", "2"],
        "n": ["1", "2"],
        "x": ["1.5", ""],
        "day": ["2020-01-05T00:00:00", ""],
        "ok": ["true", "false"],
    }
    assert sources.sniff("t.xlsx") == {"sheet": "Sales"}
    assert read("t.xlsx") == expected
    with pd.ExcelWriter("t.xlsx") as writer:
        frame.to_excel(writer, sheet_name="Sales", index=False, startrow=2)  # blank lines above
        frame.head(1).to_excel(writer, sheet_name="Notes", index=False)
    with pytest.raises(DataError, match=r"t.xlsx: holds 2 sheets: Sales, Notes; name the one to read"):
        sources.sniff("t.xlsx")
    with pytest.raises(DataError, match=r"t.xlsx: found no sheet 'Costs', expected one of Sales, Notes"):
        sources.read("t.xlsx", {"sheet": "Costs"})
    assert sources.sniff("t.xlsx", {"sheet": "Sales"}) == {"sheet": "Sales"}
    assert sources.tables("t.xlsx") == ["Sales", "Notes"]
    assert read("t.xlsx", sheet="Sales") == expected


def test_a_parquet_file_whose_bytes_changed_is_refused() -> None:
    content = pa.BufferOutputStream()
    table = pa.table({"a": ["Bern", "Genf"] * 50})
    pq.write_table(table, content, write_page_checksum=True, compression="none", use_dictionary=False)
    whole = content.getvalue().to_pybytes()
    with pytest.raises(DataError, match=r"t.parquet: cannot be read as Parquet \(.*CRC"):
        sources.read(put("t.parquet", whole.replace(b"\0\0\0Genf", b"\0\0\0Gxnf", 1)))
    bad = pa.array([b"Bern", b"\xff\xfe"])
    unsound = pa.StringArray.from_buffers(2, bad.buffers()[1], bad.buffers()[2])
    pq.write_table(pa.table({"a": unsound}), "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet: cannot be read as Parquet \(.*Invalid UTF8"):
        sources.read("t.parquet")


def test_a_sheet_that_is_damaged_within_its_workbook_is_refused() -> None:
    pd.DataFrame({"a": [1, 2]}).to_excel("sound.xlsx", index=False)
    with zipfile.ZipFile("sound.xlsx") as sound, zipfile.ZipFile("t.xlsx", "w") as damaged:
        for name in sound.namelist():
            damaged.writestr(name, sound.read(name)[:-30] if "worksheets/" in name else sound.read(name))
    with pytest.raises(DataError, match=r"t.xlsx: cannot be read as Excel .*save it anew"):
        sources.read("t.xlsx")


# --- databases


def fill(connection: sqlite3.Connection) -> None:
    connection.execute('CREATE TABLE "order list" (id INTEGER PRIMARY KEY, "a:b" TEXT, x REAL, n INTEGER)')
    connection.executemany('INSERT INTO "order list" VALUES (?, ?, ?, ?)', [(2, "50 %", 1.0, None), (1, "", None, 7)])
    connection.commit()


SOLD = {"id": ["1", "2"], "a:b": ["", "50 %"], "x": ["", "1.0"], "n": ["7", ""]}


def test_sqlite_is_read_by_file_and_by_url() -> None:
    with sqlite3.connect("t.db") as connection:
        fill(connection)
    assert sources.sniff("t.db") == {"table": "order list"}
    for source in ("t.db", f"sqlite:///{Path('t.db').absolute()}"):
        assert read(source, table="order list") == SOLD
        assert read(source) == SOLD
        assert read(source, query="SELECT id, '%' AS p, '12:30' AS t FROM \"order list\" WHERE id = 2") == {
            "id": ["2"],
            "p": ["%"],
            "t": ["12:30"],
        }
        with pytest.raises(DataError, match=r"options.table: found no table 'orders', expected one of order list"):
            sources.read(source, {"table": "orders"})
        with pytest.raises(DataError, match=r"cannot be read .*no such column: nope"):
            sources.read(source, {"query": 'SELECT nope FROM "order list"'})
        with pytest.raises(DataError, match="found table and query, expected one of them"):
            sources.read(source, {"table": "order list", "query": "SELECT 1"})


def test_several_tables_are_listed_and_one_has_to_be_named() -> None:
    with sqlite3.connect("t.sqlite") as connection:
        fill(connection)
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(DataError, match=r"t.sqlite: holds 2 tables: order list, other; name the one to read"):
        sources.sniff("t.sqlite")
    with pytest.raises(DataError, match=r"t.sqlite: found names \(x\) and no row"):
        sources.read("t.sqlite", {"table": "other"})


def test_duckdb_is_read() -> None:
    with duckdb.connect("t.duckdb") as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 1 AS id, 1.0::DOUBLE AS x, TIMESTAMPTZ '2020-01-05 10:00+02' AS at"
        )
    expected = {"id": ["1"], "x": ["1.0"], "at": ["2020-01-05T08:00:00Z"]}
    assert sources.sniff("t.duckdb") == {"table": "t"}
    assert read("t.duckdb", table="t") == read("t.duckdb", query="FROM t") == expected
    with pytest.raises(DataError, match=r"t.duckdb: options.table: found no table 'no', expected one of t"):
        sources.read("t.duckdb", {"table": "no"})
    put("cut.duckdb", Path("t.duckdb").read_bytes()[:5000])
    for function in (sources.read, sources.sniff):
        with pytest.raises(DataError, match=r"cut.duckdb: cannot be read as DuckDB \(.*; fetch or write the file anew"):
            function("cut.duckdb")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nosuch://u:topsecret@host/db", "no installed driver reads"),
        ("mysql+pymysql://u:topsecret@host/db", "needs the Python package pymysql; run `pip install 'pymysql'`"),
        ("postgresql://u:${NO_SUCH}@host/db", "the environment variable NO_SUCH is not set"),
        ("postgresql://u:topsecret@127.0.0.1:1/db", "cannot be read"),
        ("postgresql://u:topsecret@host:port/db", "found no URL that can be read"),
        ("postgresql://u@127.0.0.1:1/db?password=topsecret", "cannot be read"),
        ("https://u:topsecret@host/t.csv", "a web address is not read"),
    ],
)
def test_no_error_shows_a_password(source: str, message: str) -> None:
    for function in (sources.read, sources.sniff):
        with pytest.raises(DataError, match=message) as error:
            function(source)
        assert "topsecret" not in str(error.value)


def server_tool(name: str) -> str | None:
    found = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))]
    return next((place for place in found if place), None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL server of our own; return its URL, with the password in the environment."""
    initdb, control = server_tool("initdb"), server_tool("pg_ctl")
    if initdb is None or control is None:
        message = "no PostgreSQL server: install the Debian package postgresql"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    folder = Path("/tmp") / f"ninefold-postgres-{os.getpid()}"  # the server's socket needs a short path
    folder.mkdir()
    (folder / "password").write_text("p@ss:w/rd%")
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    if user:  # the server refuses to run as root
        shutil.chown(folder, **user)
        shutil.chown(folder / "password", **user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def run(*command: Any) -> None:
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    run(initdb, "-D", data, "-U", "owner", "-A", "scram-sha-256", f"--pwfile={folder}/password", "-N")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(control, "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    os.environ["SHOP_PASSWORD"] = "p@ss:w/rd%"
    yield f"postgresql://owner:${{SHOP_PASSWORD}}@127.0.0.1:{port}/postgres"
    run(control, "-D", data, "-m", "immediate", "-w", "stop")
    del os.environ["SHOP_PASSWORD"]
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shop(postgres: str) -> str:
    """Fill the server with a table of many types, and one in a schema of its own."""
    import psycopg

    url = postgres.replace("${SHOP_PASSWORD}", "p%40ss%3Aw%2Frd%25")
    with psycopg.connect(url) as connection:
        connection.execute(
            'CREATE TABLE "Orders" (id bigint PRIMARY KEY, n integer, x double precision, price numeric(9, 2), '
            'ok boolean, at timestamp, "at zone" timestamptz, day date, note text, extra jsonb, tags text[])'
        )
        connection.execute(
            """INSERT INTO "Orders" VALUES
            (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (1, 7, 0.1, 1.10, true, '2020-01-05 10:00', '2020-01-05 10:00+02', '2020-01-05', '50 % ü', '{"a": 1}', '{x,y}')
            """
        )
        connection.execute("CREATE SCHEMA east")
        connection.execute("CREATE TABLE east.stock AS SELECT 5 AS pieces")
    return postgres


def test_postgresql_is_read_with_a_password_from_the_environment(shop: str) -> None:
    assert sources.sniff(shop) == {"table": "Orders"}
    assert read(shop, table="Orders") == {
        "id": ["1", "2"],
        "n": ["7", ""],
        "x": ["0.1", ""],
        "price": ["1.10", ""],
        "ok": ["true", ""],
        "at": ["2020-01-05T10:00:00", ""],
        "at zone": ["2020-01-05T08:00:00Z", ""],
        "day": ["2020-01-05", ""],
        "note": ["50 % ü", ""],
        "extra": ['{"a": 1}', ""],
        "tags": ['["x", "y"]', ""],
    }
    assert read(shop, table="east.stock") == {"pieces": ["5"]}
    assert read(shop, query="SELECT count(*)::int AS rows, '%' AS sign FROM \"Orders\"") == {
        "rows": ["2"],
        "sign": ["%"],
    }


def test_what_postgresql_refuses_is_said_without_the_password(shop: str) -> None:
    with pytest.raises(DataError, match=r"options.table: found no table 'orders', expected one of Orders"):
        sources.read(shop, {"table": "orders"})
    with pytest.raises(DataError, match='relation "nothing" does not exist'):
        sources.read(shop, {"query": "SELECT * FROM nothing"})
    with pytest.raises(DataError, match="password authentication failed") as error:
        sources.read(shop.replace("${SHOP_PASSWORD}", "wrongsecret"), {"table": "Orders"})
    assert "wrongsecret" not in str(error.value)


def test_a_large_table_comes_in_chunks(shop: str) -> None:
    rows = databases.CHUNK * 2 + 1
    frame = sources.read(shop, {"query": f"SELECT i, i / 2.0 AS half FROM generate_series(1, {rows}) AS s(i)"})
    assert len(frame) == rows
    assert frame["i"].iloc[-1] == str(rows)


# --- S3


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve S3 from this process, by moto; return a client with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**values, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="shop")
    yield client
    server.stop()


def test_s3_is_read_by_file_and_by_folder(bucket: Any) -> None:
    bucket.put_object(Bucket="shop", Key="raw/a b/1.csv.gz", Body=gzip.compress("id;city\n01;Köln\n".encode()))
    bucket.put_object(Bucket="shop", Key="raw/a b/2.csv", Body=b"id;city\n2;NA\n")
    assert sources.sniff("s3://shop/raw/a b/1.csv.gz") == {"delimiter": ";"}
    assert read("s3://shop/raw/a b/2.csv", delimiter=";") == {"id": ["2"], "city": ["NA"]}
    assert read("s3://shop/raw/a b", delimiter=";") == PLAIN
    with pytest.raises(DataError, match=r"s3://shop/raw/no.csv: not found; correct the bucket and the key"):
        sources.read("s3://shop/raw/no.csv")


def test_s3_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "topsecret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"s3://shop/t.csv: .*AWS_ENDPOINT_URL") as error:
        sources.read("s3://shop/t.csv")
    assert "topsecret" not in str(error.value)


# --- what tells a changed source, and what may be shown


def test_the_fingerprint_follows_the_content() -> None:
    put("parts/a.csv", "a\n1\n")
    before = sources.fingerprint("parts/a.csv"), sources.fingerprint("parts")
    put("parts/a.csv", "a\n2\n")
    after = sources.fingerprint("parts/a.csv"), sources.fingerprint("parts")
    assert None not in before
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert sources.fingerprint("no.csv") is None
    assert sources.fingerprint("s3://shop/t.csv") is None


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("postgresql://u:secret@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:${PW}@host/db", "postgresql://u:${PW}@host/db"),
        ("postgresql://u:a@b@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:a/b@host/db", "postgresql://u:***@host/db"),
        ("postgresql://host:5432/db?user=a@b", "postgresql://host:5432/db?user=a@b"),
        ("mssql://host/db?user=u&Password=secret&x=1", "mssql://host/db?user=u&Password=***&x=1"),
        ("data/source/a:b@c.csv", "data/source/a:b@c.csv"),
    ],
)
def test_a_password_is_masked(source: str, shown: str) -> None:
    assert sources.masked(source) == shown


def test_many_rows_are_read_within_seconds() -> None:
    row = ",".join(["2013-01-01T10:00:00Z", "abc", "12.5"] * 6) + ",x\n"
    source = put("t.csv", ",".join(f"c{place}" for place in range(19)) + "\n" + row * 300_000)
    start = time.process_time()
    assert sources.read(source).shape == (300_000, 19)
    assert time.process_time() - start < 10

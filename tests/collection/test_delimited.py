"""Delimited text is read exactly as it is written, or refused with the line and the remedy."""

import csv
import gzip
import io
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from source_files import put, read

from ninefold.collection import delimited, encodings, sources, tabular
from ninefold.errors import DataError


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_sniffed_reads_the_file(delimiter: str, encoding: str, newline: str) -> None:
    rows = [("id", "city", "note"), ("01", "Köln", '"a, b;\tc|"'), ("2", "NA", f'"two{newline}lines"')]
    rows += [("3", "Zürich", "x")]
    source = put("t.csv", "".join(delimiter.join(row) + newline for row in rows), encoding)
    options = sources.sniff(source)
    assert set(options) <= {"delimiter", "encoding"}
    assert options.get("delimiter", ",") == delimiter
    notes = ["a, b;\tc|", f"two{newline}lines", "x"]
    assert read(source, **options) == {"id": ["01", "2", "3"], "city": ["Köln", "NA", "Zürich"], "note": notes}


@pytest.mark.parametrize("head", ["a,b", "\ufeffa,ü", "country,2019,2020", "label,0,1,2,3"])
def test_nothing_is_sniffed_where_the_default_will_do(head: str) -> None:
    row = ",".join("1" for _ in head.split(","))
    text = f"{head}\n{row}\n{row}\n"
    assert sources.sniff(put("t.csv", text)) == sources.sniff(put("t.tsv", text.replace(",", "\t"))) == {}
    assert sources.sniff(put("one.csv", "a\n1\n2\n")) == {}


def test_what_is_known_is_not_guessed_and_a_decimal_comma_is_no_delimiter() -> None:
    source = put("t.csv", "a;b\n1,5;2,5\n4,1;5,2\n")
    assert sources.sniff(source) == {"delimiter": ";"}
    assert sources.sniff(source, {"delimiter": ","}) == {"delimiter": ","}
    assert read(source, delimiter=";") == {"a": ["1,5", "4,1"], "b": ["2,5", "5,2"]}


@pytest.mark.parametrize(("text", "options", "cell"), [
    ("a,b\n'1, 2','3'\n'4','5'\n", {"quote": "'"}, "1, 2"),
    ('a,b\n"1, \\"2\\"","3"\n"4","5"\n', {"escape": "\\"}, '1, "2"'),
])  # fmt: skip
def test_other_quotes_and_escapes_are_sniffed(text: str, options: dict[str, str], cell: str) -> None:
    source = put("t.csv", text)
    assert sources.sniff(source) == options
    assert read(source, **options) == {"a": [cell, "4"], "b": ["3", "5"]}


def test_the_likeliest_encoding_is_found() -> None:
    for text, encoding in (
        ("name,city\n" + "Bob,Bern\n" * 2000 + "Ann,Zürich\n", "cp1252"),
        ("Straße;Größe;Preis\nMüller;groß;10 €\n", "cp1252"),
        ("miasto,imię\nŁódź,Świętosława\nKraków,Żółw\n", "cp1250"),
        ("Nr.;Kündigung;Status\n7;ja;gekündigt\n", "cp1252"),
        ("Nr.;Kündigung;Größe\n7;ja;schön\n", "cp850"),
        ("prénom;Réabonné\nélève;très âgé, où m² et °C\n", "cp1252"),
        ("şehir,yaş\nİstanbul,öğrenci\nIğdır,müşteri\n", "cp1254"),
        ("a,b\nit’s fine,x\n", "cp1252"),
        ("город,имя\nМосква,привет\nРоссия,улица\n", "cp1251"),
        ("名前,住所\n東京,日本語\n大阪,電話番号\n", "cp932"),
    ):
        notes: list[str] = []
        assert sources.sniff(put("t.csv", text, encoding), notes=notes)["encoding"] == encoding
        assert f"the text is read as {encoding}, such as" in notes[0]


PLAIN = "site,age,fee\neast,77,1.5\nwest,37,2.5\nsouth,5,3.5\n"


@pytest.mark.parametrize(("text", "options"), [
    ("sep=;\n" + PLAIN.replace(",", ";"), {"delimiter": ";"}),
    ("\ufeffsep=;\r\n" + PLAIN.replace(",", ";"), {"delimiter": ";"}),
    ("# of 2024\n" + PLAIN.replace("west", "# a, b, c\nwest") + "# end\n", {"comment": "#"}),
    ("Report, of May\n\nRegion:,East,\n" + PLAIN, {"skip": 3}),
    ("Report,,\n" + PLAIN + "Total,119,7.5\nSource: own\n", {"skip": 1, "footer": "Total"}),
    (PLAIN + "\nMade on 2024-05-01\n", {"footer": "Made on"}),
    (PLAIN.replace("east", "\ufeffeast"), {}),
    (PLAIN.replace("east", ",years,€\neast"), {"skip_below": 1}),
    (PLAIN.replace("east", 'place,"age,\nin years",fee\n"{""id"": 1}","{""id"": 2}","{}"\neast'), {"skip_below": 2}),
    (PLAIN + "\nBy day\nday,fees\n" + "".join(f"{n},2\n" for n in range(2)), {"footer": "By day"}),
    (PLAIN + ",,\nDay,fees,\n" + "".join(f"{n},2,\n" for n in range(40)), {"footer": "Day"}),
])  # fmt: skip
def test_what_is_no_row_is_left_out_and_told(text: str, options: dict[str, Any]) -> None:
    notes: list[str] = []
    for encoding in ("utf-8", "utf-16"):
        source = put("t.csv", text, encoding)
        found = sources.sniff(source, notes=notes)
        assert {key: value for key, value in found.items() if key != "encoding"} == options
        assert read(source, **found) == read(put("plain.csv", PLAIN))
    assert [each for each in options if each != "delimiter" and f"options.{each}" not in " ".join(notes)] == []


def test_where_the_names_are_is_not_guessed_without_evidence() -> None:
    with pytest.raises(DataError, match=r"t.csv: line 1: found 'My list', .* in line 2 \(a, b\), .*--option skip=1"):
        sources.sniff(put("t.csv", "My list\na,b\nx,y\nu,v\n"))
    source = put("t.csv", ",Person,,Sum\nsite,age,fee,x\n" + "".join(f"s{n},{n},{n}.5,1\n" for n in range(20)))
    assert sources.sniff(source) == {"header": 2}
    assert list(read(source, header=2)) == ["site", "Person age", "Person fee", "Sum x"]
    assert sources.sniff(source, {"skip": 1}) == {"skip": 1}
    rows = "".join(f"s{n},{n}.5,{n},1\n" for n in range(20))
    source = put("t.csv", "site,fee,fee,ok\n,2021,2022,\n,€,€,0/1\n" + rows)
    assert list(read(source, **sources.sniff(source))) == ["site", "fee 2021", "fee 2022", "ok"]
    with pytest.raises(DataError, match=r"t.csv: line 2: found a line of dashes, .*--option skip=2 --option comment=-"):
        sources.sniff(put("t.csv", "List\n-----\n|a |b |\n-----\n|x |1 |\n"))
    assert read(put("t.csv", PLAIN + "x\ny,1\n"), footer=2) == read(put("plain.csv", PLAIN))


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=8)
TRICKY = ("007", " x ", "1e5", "NULL", "", "true", "1.10")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32"]),
)
@example(rows=[(cell, "-") for cell in TRICKY], delimiter=",", newline="\n", encoding="utf-8")
def test_every_table_of_texts_is_read_back_exactly(rows: Any, delimiter: str, newline: str, encoding: str) -> None:
    stream, rows = io.StringIO(), [*rows, ("end", "end")]
    # Python 3.11 leaves a lone \r unquoted where lines end in \n.
    quoting = csv.QUOTE_MINIMAL if newline == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    writer.writerows([("first name", "second name"), *rows])
    frame = sources.read(put("t.csv", stream.getvalue(), encoding), {"delimiter": delimiter})
    assert list(frame.itertuples(index=False, name=None)) == rows


def test_blank_lines_are_no_rows_but_a_single_column_may_have_gaps() -> None:
    assert read(put("two.csv", "\na,b\n\n1,2\n\n"))["a"] == ["1"]
    assert read(put("one.csv", "a\n1\n\n2\n"))["a"] == ["1", "", "2"]


def test_names_are_usable_and_otherwise_as_they_were() -> None:
    found = [" a ", "", "A", "a_2", "@x", "select", 'q"', "x.y", "broken_rule", "größe", "a", "file_row_number"]
    expected = 'a column_2 A_3 a_2 _@x select q" x.y _broken_rule größe a_4 _file_row_number'
    assert tabular.names(found) == expected.split()


def test_a_file_without_names_gets_some_when_it_is_said_to_have_none() -> None:
    source = put("t.csv", "5.1,3.5,setosa\n4.9,3.0,setosa\n")
    with pytest.raises(DataError, match=r"first line looks like a row \(5.1, 3.5, setosa\), .* {header: false}"):
        sources.sniff(source)
    assert sources.sniff(source, {"header": False}) == {"header": False}
    assert list(read(source, header=False)) == ["column_1", "column_2", "column_3"]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("t.csv", "", r"found an empty file"),
    ("t.csv", "\n\n", r"found blank lines only"),
    ("t.csv", "a,b\n", r"found names \(a, b\) and no row"),
    ("t.csv", 'a,b\n1,"x\ny"\n3,4,5\n', r"line 4: found 3 fields, expected 2, as in its first line"),
    ("t.csv", "a,b\n1,2\n3\n", r"line 3: found 1 fields, expected 2"),
    ("t.csv", b"\x89PNG\r\n\x00\x01\x02", r"found bytes that are no text"),
    ("t.csv", b"PK\x03\x04abc", r"found a zip or Excel file, expected text"),
    ("t.csv", "a;b\n1;2\n", r"found one column, named 'a;b', .*set options: {delimiter: \";\"}"),
    ("t.csv", "a,b\nx,1\nü,1\n".encode("cp1252"), r"line 3: found text that is not utf-8; set .*: cp1252}"),
    ("t.csv", "a,b\nü,1\n".encode() + b"\xfc,1\n", r"line 3: found .* utf-8, as the text before it is; fix that"),
    ("t.csv", "a,b\nx,ü".encode()[:-1], r"line 2: ends within a letter, after 'a,b\\nx,', as a file .* cut off"),
    ("t.csv", "a,b\nx,y\n".encode("utf-16")[:-1], r"line 2: ends within a letter"),
    ("t.xyz", "a,b\n", r"found the suffix '.xyz', expected one of .csv"),
    ("t.parquet", "PAR1 no", r"cannot be read as Parquet"),
    ("t.xlsx", "no", r"cannot be read as Excel"),
    ("t.sqlite", "no database at all", r"found neither a SQLite nor a DuckDB file"),
    ("t.json", "[1, 2]", r"item 1: found no object"),
    ("t.json", '{"a": 1}\n{"a": "ü"}\n'.encode("cp1252"), r"line 2: found text that is not utf-8; set options"),
    ("t.json", '{"a": 1}\n{"a": 2\n', r"line 2: not JSON \(.*, character 8\), .* off there, fetch it again"),
    ("t.json", '[{"a": 1},\n{"a" 2}]', r"line 2: not JSON"),
    ("t.json", '{"a": 1}\n{"a": 1, "a": 2}\n', r"line 2: not JSON \('a' twice in an object\)"),
    ("t.json", '{"a": 1}\n{"a": ' + "9" * 5000 + "}\n", r"line 2: not JSON \(Exceeds the limit"),
    ("t.json", '{"a": ' + "[" * 99_999 + "}\n", r"line 1: not JSON \(maximum recursion depth"),
    ("t.json", '{"a": "\\ud800"}\n', r"'a': found half a letter"),
    ("t.csv.gz", b"no gzip", r"cannot be unpacked"),
    ("t.csv.gz", gzip.compress(b"a,b\n" * 999, mtime=0)[:-9], r"cannot be unpacked"),
], ids=lambda value: str(value)[:20])  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_line_and_the_remedy(name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"{name}: {message}"):
        sources.read(put(name, content))


@pytest.mark.parametrize(("options", "message"), [
    ({"sheet": "x"}, ": found sheet, expected for this kind of file: delimiter, encoding"),
    ({"delimiter": ",,"}, ": found ',,' as delimiter, expected one plain character"),
    ({"encoding": "latin-99"}, ".encoding: found 'latin-99', expected a name such as cp1252"),
    ({"encoding": "utf-16"}, r"|found text that is not utf-16; set options: {encoding: utf-8}"),
    ({"encoding": "rot13"}, ".encoding: found 'rot13', expected a name such as cp1252"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: Any, message: Any) -> None:
    with pytest.raises(DataError, match=f"t.csv: options{message}"):
        sources.read(put("t.csv", "a,b\n1,2\n"), options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32", "cp1252"])
def test_a_text_that_does_not_end_in_a_newline_is_refused_unless_it_is_said_to_be_whole(encoding: str) -> None:
    options = {"encoding": encoding} if encoding in ("utf-16-be", "cp1252") else {}
    source = put("t.csv", "a,b\n1,125\n2,12", encoding)
    message = "found no newline after its last line, which ends with '2, 12', .* options: {final_newline: false}"
    with pytest.raises(DataError, match=f"t.csv: {message}"):
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


@pytest.mark.parametrize(("rows", "message"), [
    ('1,"x,2\n2,y,3\n3,"z",4\n', r'line 4: found text behind a closing quote \("\), in the row .* line 2; a quote'),
    ('1,"x,"y, z"\n', r"line 2: found text behind a closing quote .*; fix the row, or set options.escape"),
    ('1,"say "yes" now",3\n', r"line 2: found text behind a closing quote"),
    ('1,2,3\n7,"12"5,1\n', r"line 3: found text behind a closing quote"),
    ('7,"1,\n2"5,1\n8,2,3\n', r"line 3: found text behind a closing quote .*, in the row that begins in line 2"),
    ('1,2,"x', r"found a quote \(\"\) that is never closed, in the row that begins in line 2; .*fetch it again"),
    ('1,2,"x\n2,y,3\n', r"found a quote \(\"\) that is never closed, in the row that begins in line 2"),
])  # fmt: skip
def test_a_quote_that_takes_fields_or_lines_with_it_is_refused(rows: Any, message: Any) -> None:
    with pytest.raises(DataError, match=f"t.csv: {message}"):
        sources.read(put("t.csv", f"a,b,c\n{rows}"), {"final_newline": False})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_behind_a_closing_quote_is_found_in_every_encoding_and_closed_quotes_are_fine(encoding: str) -> None:
    options = {"encoding": encoding, "delimiter": ";"}
    source = put("t.csv", 'a;b\nü;"x;"\n7;"12"5\n', encoding)
    with pytest.raises(DataError, match=r"t.csv: line 3: found text behind a closing quote"):
        sources.read(source, options)
    rows = ['"x ""y"" z";2', '"two\n""lines""";2', '5" pipe;2', '"spaces" ;2', '"";""', '"""";2', 'ü;"x;"']
    found = read(put("t.csv", "a;b\n" + "\n".join(rows) + "\n", encoding), **options)
    assert read(put("t.tsv", 'a\tb\n"1"\t\n5" \t2\n'))["b"] == ["", "2"]
    assert found["a"] == ['x "y" z', 'two\n"lines"', '5" pipe', "spaces ", "", '"', "ü"]
    assert found["b"] == ["2", "2", "2", "2", "", "2", "x;"]


@settings(max_examples=300, deadline=None)
@given(rows=st.text('"a,\n', max_size=14), chunk=st.integers(1, 9))
@example(rows='"a ""a""","a\n","",', chunk=3)
def test_quotes_that_are_taken_as_regular_are_so(rows: str, chunk: int) -> None:
    text = delimited._Text("t.csv", Path(put("t.csv", f"a,a\n{rows}\n")), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "CHUNK", chunk)
        is_regular = delimited._quotes_are_regular(text)
    assert is_regular == bool(re.fullmatch(r'(([^",\n]*|"([^"]|"")*")[,\n])*', "".join(text.lines())))


def test_the_names_once_more_below_are_refused() -> None:
    for again in ("a,b\n", "\ufeffa,b\n", '"a","b"\n'):
        with pytest.raises(DataError, match=r"t.csv: line 4: found the names of the columns again"):
            sources.read(put("t.csv", f'a,b\n"x\ny",1\n{again}z,2\n'))
    assert read(put("one.csv", "a\nb\na\n"))["a"] == ["b", "a"]
    assert read(put("none.csv", "a,b\na,b\n"), header=False)["column_1"] == ["a", "a"]


PIECES = "id,note\n" + "".join(f'{n},"ü {n}"\n' for n in range(99))


@pytest.mark.parametrize(("text", "options", "message"), [
    (PIECES, {}, ""),
    (PIECES, {"comment": "1"}, ""),
    ("\ufeff" + PIECES.replace("\n", "\r\n") + "Total,4851\r\n", {"footer": "Total"}, ""),
    (PIECES + '99,"x" y\n', {}, "line 101: found text behind a closing quote"),
    (PIECES + "id,note\n", {}, "line 101: found the names of the columns again"),
    (PIECES + "99,\0\n", {}, r"found bytes that are no text \(a zero after '.*\\n99,'\)"),
    (PIECES.encode() + b"99,\xfc\n", {}, r"line 101: found text that is not utf-8, as the text before it is"),
])  # fmt: skip
def test_a_file_larger_than_what_is_read_at_once_is_read_or_refused_alike(
    text: str | bytes, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put("t.csv", text)
    whole = message or read(source, **options)
    for module in (delimited, encodings):
        monkeypatch.setattr(module, "CHUNK", 37)
    with pytest.raises(DataError, match=message) if message else nullcontext():
        assert read(source, **options) == whole
        assert len(list(sources.parts(source, options))) > 10


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "ascii"])
def test_utf_8_does_not_pass_for_a_code_page(encoding: str) -> None:
    with pytest.raises(DataError, match=rf"t.csv: found text that is utf-8, expected {encoding}"):
        sources.read(put("t.csv", "a,b\nü,1\n"), {"encoding": encoding})
    assert read(put("t.csv", "a,b\nu,1\n"), encoding=encoding)["a"] == ["u"]

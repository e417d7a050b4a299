"""Files that have types become text without loss; what is damaged is refused."""

import datetime as dt
import decimal
import json
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook
from source_files import put, read

from ninefold.collection import sources
from ninefold.errors import DataError


def test_typed_columns_become_text_without_loss() -> None:
    utc, days = dt.datetime(2020, 1, 5, 10, 30, tzinfo=dt.UTC), [dt.date(2020, 1, 5), None, dt.date(1, 1, 1)]
    times = [dt.datetime(2020, 1, 5), dt.datetime(2020, 1, 5, 1, 2, 3, 450000), None]
    columns = {
        "int": (pa.array([1, None, 2**62], pa.int64()), ["1", "", "4611686018427387904"]),
        "float": (pa.array([1.0, 0.1 + 0.2, None]), ["1.0", "0.30000000000000004", ""]),
        "float32": (pa.array([0.1, None, 2.0], pa.float32()), ["0.1", "", "2.0"]),
        "bool": ([True, False, None], ["true", "false", ""]),
        "time": (times, ["2020-01-05T00:00:00", "2020-01-05T01:02:03.450000", ""]),
        "zoned": (pa.array([utc, None, None], pa.timestamp("ms", "Europe/Berlin")), ["2020-01-05T10:30:00Z", "", ""]),
        "day": (days, ["2020-01-05", "", "0001-01-01"]),
        "decimal": ([decimal.Decimal("1.10"), None, decimal.Decimal("-0.05")], ["1.10", "", "-0.05"]),
        "kind": (pa.DictionaryArray.from_arrays([0, None, 0], ["a"], ordered=True), ["a", "", "a"]),
        "list": ([[1, 2], [], None], ["[1, 2]", "[]", ""]),
        "none": (pa.nulls(3), ["", "", ""]),
        "bytes": ([b"ab", b"\xff", None], ["ab", "ff", ""]),
        "fixed": (pa.array([b"ab", b"\xff\xff", None], pa.binary(2)), ["ab", "ffff", ""]),
        "took": (pa.array([1_500, None, -1], pa.duration("ms")), ["1.5", "", "-0.001"]),
        "small": ([decimal.Decimal("1E-9"), None, decimal.Decimal("2.5")], ["0.000000001", "", "2.500000000"]),
    }
    pq.write_table(pa.table({name: values for name, (values, _) in columns.items()}), "t.parquet")
    assert read("t.parquet") == {name: texts for name, (_, texts) in columns.items()}
    assert (sources.sniff("t.parquet", notes=(notes := [])), [note.split()[0] for note in notes]) == (
        {},
        ["kind", "took"],
    )


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_json_is_read(name: str) -> None:
    rows = [{"id": 1, "x": 1.5, "ok": True, "in": {"a": [1]}}, {"id": 2, "x": None, "new": "ü"}]
    text = "\n".join(map(json.dumps, rows)) if name == "t.jsonl" else json.dumps(rows, indent=1)
    expected = {"id": ["1", "2"], "x": ["1.5", ""], "ok": ["true", ""], "in": ['{"a": [1]}', ""], "new": ["", "ü"]}
    assert read(put(name, text)) == expected


def test_an_excel_sheet_is_read_and_one_of_several_asked_for() -> None:
    frame = pd.DataFrame({"id": ["01", "2"], "n": [1, 2], "x": [1.5, None], "ok": [True, False]})
    frame = frame.assign(day=[dt.datetime(2020, 1, 5), None])
    expected = {"id": ["01", "2"], "n": ["1", "2"], "x": ["1.5", ""], "ok": ["true", "false"]}
    expected["day"] = ["2020-01-05T00:00:00", ""]
    frame.to_excel("t.xlsx", sheet_name="Sales", index=False)
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
    assert read("t.xlsx", sheet="Sales") == expected


def test_of_a_sheet_titles_merged_cells_and_totals_are_told() -> None:
    rows = "Report", "", "site,n", ",a,b", "east,1,2", ",3,4", "west,5,6", "Total,9,12"
    sheet = (book := Workbook()).active
    for row in rows:
        sheet.append([cell or None for cell in row.split(",")])
    for merged in ("A1:C1", "A3:A4", "B3:C3", "A5:A6"):
        sheet.merge_cells(merged)
    sheet.row_dimensions[7].hidden = True
    book.create_sheet("lists").sheet_state = "hidden"
    book.save("t.xlsx")
    found = sources.sniff("t.xlsx", notes=(notes := []))
    assert found == {"sheet": "Sheet", "skip": 2, "header": 2, "footer": "Total"}
    assert read("t.xlsx", **found) == {"site": ["east", "east", "west"], "n a": ["1", "3", "5"], "n b": ["2", "4", "6"]}
    for word in ("hidden sheets", "1 hidden rows", "merged", "skip", "header", "footer"):
        assert word in " ".join(notes)


def test_a_parquet_file_or_a_sheet_whose_bytes_changed_is_refused() -> None:
    table = pa.table({"a": ["Bern", "Genf"] * 50})
    pq.write_table(table, "t.parquet", write_page_checksum=True, compression="none", use_dictionary=False)
    with pytest.raises(DataError, match=r"t.parquet: cannot be read as Parquet \(.*CRC"):
        sources.read(put("t.parquet", Path("t.parquet").read_bytes().replace(b"\0\0\0Genf", b"\0\0\0Gxnf", 1)))
    bad = pa.array([b"Bern", b"\xff\xfe"])
    unsound = pa.StringArray.from_buffers(2, bad.buffers()[1], bad.buffers()[2])
    pq.write_table(pa.table({"a": unsound}), "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet: cannot be read as Parquet \(.*Invalid UTF8"):
        sources.read("t.parquet")
    pd.DataFrame({"a": [1, 2]}).to_excel("sound.xlsx", index=False)
    with zipfile.ZipFile("sound.xlsx") as sound, zipfile.ZipFile("t.xlsx", "w") as damaged:
        for name in sound.namelist():
            damaged.writestr(name, sound.read(name)[:-30] if "worksheets/" in name else sound.read(name))
    with pytest.raises(DataError, match=r"t.xlsx: cannot be read as Excel .*save it again"):
        sources.read("t.xlsx")

"""Read a sheet of an Excel workbook: merged cells, hidden rows and sheets, and what stands around its table."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from ninefold.collection import layout
from ninefold.collection.tabular import failing, only, plain, table, texts
from ninefold.errors import DataError

MERGED = re.compile(rb'<mergeCell ref="([A-Z]+)(\d+):[A-Z]+(\d+)"')
HIDDEN = re.compile(rb'<row (?=[^>]*hidden="(?:1|true)")[^>]*>')


def read(where: str, place: Path, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Yield a sheet as a table, all text; raise `DataError` if it is not there or holds no row."""
    rows = [row for _, row in _rows(where, place, options, [])]
    if not rows:
        raise DataError(f"{where}: found the sheet empty, expected a row of names and rows below it")
    named = int(options.get("header", 1))
    last = [list(map(plain, row)) for row in rows[-layout.BELOW :]]
    rows = rows[: len(rows) - len(last) + layout.end(last, options.get("footer"))]
    columns = [(list(map(plain, values[:named])), texts(values[named:])) for values in zip(*rows, strict=True)]
    columns = [each for each in columns if any(map(str.strip, each[0])) or pc.any(pc.not_equal(each[1], "")).as_py()]
    header = list(zip(*(names for names, _ in columns), strict=True))
    yield table(layout.names(header) if named else [""] * len(columns), [values for _, values in columns])


def sniff(where: str, place: Path, known: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the sheet, if it is the only one that is not hidden, and what stands around its table; add to `notes`."""
    with _workbook(where, place) as book:
        shown = [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
        hidden = [sheet.title for sheet in book.worksheets if sheet.title not in shown]
    options = {"sheet": known.get("sheet") or only(shown or hidden, "sheet", where)}
    if hidden and shown and options["sheet"] in shown:
        notes.append(f"{where}: hidden sheets are not read: {', '.join(hidden)}: {layout.KEY}sheet")
    rows = [(line, list(map(plain, row))) for line, row in _rows(where, place, options | known, notes)]
    if rows and not {"skip", "header", "footer"} & known.keys():
        around, more = layout.find(where, rows[:1000], [row for _, row in rows[-layout.BELOW :]])
        notes += more
        options |= around
    return options


@contextmanager
def _workbook(where: str, place: Path) -> Iterator[Any]:
    """Open a workbook, whose sheets are unpacked and parsed only as they are read."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    # openpyxl lets the errors of zip, XML and its own pass through
    with place.open("rb") as stream, failing(where, "read as Excel", "save it again as .xlsx", Exception):
        yield load_workbook(stream, read_only=True, data_only=True)


def _rows(where: str, place: Path, options: dict[str, Any], notes: list[str]) -> list[tuple[int, list[Any]]]:
    """Return the number (from 1) and the values of each row that is not blank, below those to skip; all of one length."""
    from openpyxl.utils import column_index_from_string  # type: ignore[import-untyped]

    with _workbook(where, place) as book:
        sheets = {sheet.title: sheet for sheet in book.worksheets}
        title = options.get("sheet") or only(list(sheets), "sheet", where)
        if title not in sheets:
            raise DataError(f"{where}: found no sheet {title!r}, expected one of {', '.join(sheets)}")
        sheets[title].reset_dimensions()  # what the file says of its size is often wrong
        rows = list(map(list, zip(*zip_longest(*sheets[title].iter_rows(values_only=True)), strict=True)))
        xml = book._archive.read(sheets[title]._worksheet_path)  # for what a read-only sheet does not tell
    if hidden := len(HIDDEN.findall(xml)):
        notes.append(f"{where}: {hidden} hidden rows are read like all others; delete them there if they are none")
    merged = []
    for left, *ends in MERGED.findall(xml):
        at, (top, low) = column_index_from_string(left.decode()) - 1, map(int, ends)
        if top < low and top <= len(rows) and at < len(rows[0]):
            merged.append(top)
            for row in rows[top:low]:
                row[at] = rows[top - 1][at]
    if merged:
        what = f"{len(merged)} cells merged over several rows"
        notes.append(f"{where}: {what} hold for each of them, such as row {merged[0]}")
    below = list(enumerate(rows, 1))[options.get("skip", 0) :]
    return [(number, row) for number, row in below if any(value is not None for value in row)]

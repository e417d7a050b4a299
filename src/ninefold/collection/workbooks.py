"""Read a sheet of an Excel workbook: merged cells, hidden rows and sheets, and what stands around its table."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ninefold.collection import layout
from ninefold.collection.tabular import failing, only, plain, table
from ninefold.errors import DataError

MERGED = re.compile(rb'<mergeCell ref="([A-Z]+)(\d+):[A-Z]+(\d+)"')
HIDDEN = re.compile(rb'<row (?=[^>]*hidden="(?:1|true)")[^>]*>')
# The sheet that was sniffed last: parsing takes long, and `read` comes next.
_sniffed: dict[tuple[Path, int, str | None], list[layout.Numbered]] = {}


def read(where: str, place: Path, options: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Yield a sheet as a table, all text; raise `DataError` if it is not there or holds no row."""
    known = _sniffed.pop((place, place.stat().st_mtime_ns, options.get("sheet")), None)
    rows = [row for _, row in (known or _rows(where, place, options, [])[1])[options.get("skip", 0) :]]
    rows, named = rows[: layout.end(rows, options.get("footer"))], int(options.get("header", 1))
    rows = [row for row in rows if layout.filled(row)]
    if not rows:
        raise DataError(f"{where}: found the sheet empty, expected a row of names and rows below it")
    columns, start = list(filter(layout.filled, zip(*rows, strict=True))), named + options.get("skip_below", 0)
    top = list(zip(*(each[:start] for each in columns), strict=True))
    names = layout.names(top[:named]) if named else [""] * len(columns)
    yield table(names, [pa.array(each[start:], pa.string()) for each in columns], layout.units(top[named:]))


def sniff(where: str, place: Path, known: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the sheet, if it is the only one that is not hidden, and what stands around its table; add to `notes`."""
    title, every = _rows(where, place, known, notes)
    _sniffed.clear()
    _sniffed[place, place.stat().st_mtime_ns, title] = every
    rows = every[known.get("skip", 0) :]
    around, more = layout.find(where, rows[:1000], [row for _, row in rows[-layout.BELOW :]], known, rows)
    notes += more
    return {"sheet": title} | around


def _rows(where: str, place: Path, options: dict[str, Any], notes: list[str]) -> tuple[str, list[layout.Numbered]]:
    """Return the sheet, and the number (from 1) and texts of its rows; all of one length, the last not blank."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]
    from openpyxl.utils import column_index_from_string  # type: ignore[import-untyped]

    # openpyxl lets the errors of zip, XML and its own pass through
    with place.open("rb") as stream, failing(where, "read as Excel", "save it again as .xlsx", Exception):
        book = load_workbook(stream, read_only=True, data_only=True)
        sheets = {sheet.title: sheet for sheet in book.worksheets}
        shown = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
        title = options.get("sheet") or only(shown or sheets, "sheet", where)
        if title not in sheets:
            raise DataError(f"{where}: found no sheet {title!r}, expected one of {', '.join(sheets)}")
        sheets[title].reset_dimensions()  # what the file says of its size is often wrong
        rows = list(map(list, zip(*zip_longest(*sheets[title].iter_rows(values_only=True)), strict=True)))
        xml = book._archive.read(sheets[title]._worksheet_path)  # for what a read-only sheet does not tell
    if title in shown and (others := [each for each in sheets if each not in shown]):
        notes.append(f"{where}: hidden sheets are not read: {', '.join(others)}: {layout.KEY}sheet")
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
    written: list[layout.Numbered] = [(number, list(map(plain, row))) for number, row in enumerate(rows, 1)]
    while written and not layout.filled(written[-1][1]):
        written.pop()
    return title, written

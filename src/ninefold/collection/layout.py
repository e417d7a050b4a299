"""What stands around a table in a file or a sheet: titles above its names, several rows of names, units, totals, notes."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from ninefold.errors import DataError
from ninefold.sentences import render

Rows = Sequence[Sequence[str]]
Numbered = tuple[int, Sequence[str]]  # a row, and the number of its line (from 1)
NUMBER = re.compile(r"\s*[-+(<>≤≥~]*\s?[$€£]?\s*[\d.,' /:-]*\d([eE][-+]?\d+)?\s*%?\)?\s*")  # or a date
WORD = re.compile(r"[^\W\d]|[%$€£°‰]|^\s*0[/-]1\s*$")
DASHES = " -–—()[]"  # of a unit that there is none
UNKNOWN = ("na", "n/a", "nan", "null", "none")
YEAR = re.compile(r"\s*[12]\d{3}\s*")
SUM = "(grand|sub|sous|overall|zwischen|teil)?[- ]?(totals?|totale|totaux|sum|summe|somme|suma|ergebnis|results?)"
TOTAL = re.compile(rf"{SUM}( g[eé]n[eé]ral)?|(ins)?gesamt\w*", re.I)
NOTE = re.compile(r"\W{0,3}[^\W\d].*[\s:]")
KEY = "collection.tables.*.options."
ABOVE, BELOW = 30, 20  # rows in which names, and a footer, are looked for
LONGEST = 12  # letters of a unit


def names(rows: Rows) -> list[str]:
    """Return one name for each column of several rows of names: above the last one, a name holds until the next."""
    above = [list(row) for row in rows[:-1]]
    for row in above:
        for place in range(1, len(row)):
            row[place] = row[place] if row[place].strip() else row[place - 1]
    columns = zip(*above, *rows[-1:], strict=True)
    return [" ".join(dict.fromkeys(filter(None, map(str.strip, parts)))) for parts in columns]


def units(rows: Rows) -> list[str]:
    """Return the units of the columns from the rows below the names, "" of a column without one; none if no row has units."""
    stripped = ([re.sub("^0/1$", "", cell.strip(DASHES)) for cell in row] for row in rows if filled(row))
    return next((row for row in stripped if not all(row) and max(map(len, row)) <= LONGEST), [])


def end(rows: Rows, footer: str | int | None) -> int:
    """Return how many rows are above a footer: a number of rows, or the first cell of a row near the end or behind a blank one."""
    if isinstance(footer, int):
        return max(len(rows) - footer, 0)
    for place, row in enumerate(map(filled, rows) if footer else ()):
        is_near = place >= len(rows) - BELOW or (place and not filled(rows[place - 1]))
        if is_near and row and (row[0].rstrip(": ") == footer or (not row[1:] and row[0].startswith(str(footer)))):
            return place
    return len(rows)


def find(
    where: str, first: Sequence[Numbered], last: Rows, known: Iterable[str] = (), every: Iterable[Numbered] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return the options that a table needs and are not `known`, and a warning for each; `DataError` if it is uncertain.

    `first` are its first rows, `last` the last; `every` all where some are blank, behind which another table may begin.
    """
    first, known = [each for each in first if filled(each[1])], {*known}
    lines, rows = [line for line, _ in first], [row for _, row in first]
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    at = next((place for place, row in enumerate(rows[:ABOVE]) if len(row) == width and not _is_title(row)), 0)
    at = 0 if {"skip", "header"} & known else at
    table = [row for row in rows[at:] if len(row) == width]
    if width < 2 or len(table) < 3:
        return {}, []
    facts = {"lines": lines, "rows": rows, "at": at, "table": table, "width": width}
    below, named = 0 if {"header", "skip_below"} & known else _below(table), 1
    if at and not below and not _are_names(table[0], table[1:]):
        raise DataError(render("collection", "unlike", where=where, **facts))
    while named <= below and _is_incomplete(table[:named], table[named]):
        named += 1
    under = [*takewhile(lambda row: _is_below(row, width), reversed(last))][::-1]
    cells = next(filter(None, map(filled, under)), [""])
    second = _second((each for each in every if each[0] > lines[at + below]), first[at + below + 1 :])
    footer = filled(second[1])[0].rstrip(": ") if second else re.split(r"[\d:]", cells[0])[0].strip()
    if not second and any(filled(row)[:1] == cells[:1] for row in table[: -2 * BELOW]):
        footer = ""
    found = {"skip": at and lines[at] - 1, "header": named - 1 and named, "skip_below": max(below + 1 - named, 0)}
    options = {key: value for key, value in (found | {"footer": footer}).items() if value and key not in known}
    facts |= {"is_a_table": second, "cells": cells, "names": names(table[:named]), "left": table[named : below + 1]}
    notes = render("collection", "layout", **facts, options=options, units=units(table[named : below + 1]), KEY=KEY)
    return options, [" ".join(note.split()) for note in notes.split("\0") if note.strip()]


def filled(row: Sequence[str]) -> list[str]:
    """Return what stands in a row."""
    return [cell.strip() for cell in row if cell.strip()]


def _is_title(row: Sequence[str]) -> bool:
    """Return whether hardly anything stands in a row: a title, or a word and what it is."""
    count, is_pair = len(filled(row)), bool(row[0].strip() and row[1:] and row[1].strip())
    few = 2 * count < len(row) or (len(row) > 2 and row[0].rstrip().endswith(":"))
    return few and (count < 2 or (count == 2 and is_pair))


def _is_below(row: Sequence[str], width: int) -> bool:
    cells = filled(row)
    note = width > 2 and len(cells) == 1 and NOTE.match(cells[0])
    return not cells or bool(note or TOTAL.fullmatch(cells[0].rstrip(": ")))


def _numeric(rows: Rows) -> list[bool]:
    """Return which columns hold numbers."""
    columns = [[cell for cell in column if cell.strip(DASHES)] for column in zip(*rows, strict=True)]
    return [len(cells) > 1 and sum(map(bool, map(NUMBER.fullmatch, cells))) > 0.8 * len(cells) for cells in columns]


def _are_names(row: Sequence[str], below: Rows, least: int = 1) -> bool:
    """Return whether words stand in a row above columns of numbers (so many at least), and in none of these a number."""
    heads = [cell for cell, is_number in zip(row, _numeric(below), strict=True) if is_number and cell.strip(DASHES)]
    words = [bool(WORD.search(cell)) and cell.strip().lower() not in UNKNOWN for cell in heads]
    return len(words) >= least and all(words) and not _is_again(row, below)


def _is_again(row: Sequence[str], rows: Rows) -> bool:
    """Return whether a cell of a row stands in others, too, in the same column."""
    return any(cell.strip(DASHES) and cell in cells for cell, cells in zip(row, zip(*rows, strict=True), strict=True))


def _below(table: Rows) -> int:
    """Return how many rows below the first are none of the table: more names, their meaning, units, ids of an export as JSON."""
    number, is_json = 0, [all(cell[:1] == "{" for cell in filled(row)) for row in table[:5]]
    for place in range(1, min(4, len(table) - 1)):
        row, others = table[place], table[place + 1 :]
        are_names = _are_names(row, others, 1 if len([cell for cell in row if cell.strip(DASHES)]) == 1 else 2)
        if number == place - 1 and (are_names or (place == 1 and _is_split(table[0], row, others))):
            number = place
        number = place if is_json[place : place + 2] == [True, False] else number
    return number


def _is_incomplete(above: Rows, row: Sequence[str]) -> bool:
    """Return whether rows of names need another one below: it fills a gap, or two columns are called alike."""
    called = names(above)
    fills = any(cell.strip() and not name for cell, name in zip(row, called, strict=True))
    return fills or len({*filter(None, called)}) < sum(map(bool, called))


def _is_split(above: Sequence[str], row: Sequence[str], below: Rows) -> bool:
    """Return whether names stand below others that have gaps, as merged cells do, or come back; years may be names."""
    gaps = [not cell.strip() or above.count(cell) > 1 for cell in above]
    pairs = zip(row, gaps, strict=True)
    words = all(YEAR.fullmatch(cell) or not (NUMBER.fullmatch(cell) if cell.strip() else gap) for cell, gap in pairs)
    return sum(gaps[1:]) > 1 and 3 * sum(gaps[1:]) >= len(row) and words and not _is_again(row, below)


def _second(rows: Iterable[Numbered], first: Sequence[Numbered]) -> Numbered | None:
    """Return the first row of another table behind a blank row: words, in its first row or below a title, and no values."""
    gap, begin = False, None
    for line, row in rows:
        cells = filled(row)
        if not cells:
            gap, begin = True, None
        elif gap:
            begin, gap = begin or (line, row), not cells[1:]
            if cells[1:] and not any(map(NUMBER.fullmatch, cells)):
                above = [each for number, each in first if number < line and len(each) == len(row)]
                if any(_numeric(above)) and not _is_again(row, above) if above else len(row) != len(first[0][1]):
                    return begin
    return None

"""What stands around a table in a file or a sheet: titles above its names, several rows of names, totals and notes below."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from ninefold.errors import DataError
from ninefold.sentences import render

Rows = Sequence[Sequence[str]]
NUMBER = re.compile(r"\s*[-+(]?[$€£]?\s*[\d.,' /:-]*\d\s*%?\)?\s*")  # or a date
WORD = re.compile(r"[^\W\d]|[%$€£°]")
UNKNOWN = ("na", "n/a", "nan", "null", "none")
YEAR = re.compile(r"\s*[12]\d{3}\s*")
TOTAL = re.compile(r"(grand |sub|overall )?totals?( g[eé]n[eé]ral)?|sum|summe|(ins)?gesamt\w*|somme|suma|totale", re.I)
NOTE = re.compile(r"[^\W\d]{2,}.*[\s:]")
KEY = "collection.tables.*.options."
ABOVE, BELOW = 30, 20  # rows in which names, and a footer, are looked for


def names(rows: Rows) -> list[str]:
    """Return one name for each column of several rows of names: above the last one, a name holds until the next."""
    filled = [list(row) for row in rows]
    for row in filled[:-1]:
        for place in range(1, len(row)):
            row[place] = row[place] if row[place].strip() else row[place - 1]
    return [" ".join(dict.fromkeys(filter(None, map(str.strip, parts)))) for parts in zip(*filled, strict=True)]


def end(rows: Rows, footer: str | None) -> int:
    """Return how many rows stand above the footer: a first cell that is, or a lone one that begins with, `footer`."""
    for place in range(max(0, len(rows) - BELOW), len(rows)):
        cells = _cells(rows[place])
        if footer and cells and (cells[0].rstrip(": ") == footer or (cells[1:] == [] and cells[0].startswith(footer))):
            return place
    return len(rows)


def find(where: str, first: Sequence[tuple[int, Sequence[str]]], last: Rows) -> tuple[dict[str, Any], list[str]]:
    """Return ``skip``, ``header`` and ``footer`` where a table needs them, and a warning for each.

    `first` are the first rows that are not blank, each with the number of its line (from 1); `last` are the last ones.
    Raises `DataError` if rows stand above the table, and it is not certain where its names are.
    """
    options, notes, lines, rows = dict[str, Any](), list[str](), [line for line, _ in first], [row for _, row in first]
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    at = next((place for place, row in enumerate(rows[:ABOVE]) if len(row) == width and not _is_title(row)), 0)
    table = [row for row in rows[at:] if len(row) == width]
    if width < 2 or len(table) < 3:
        return options, notes
    several = _are_names(table[1], table[2:], 2) or _is_split(table[0], table[1], table[2:])
    if at:
        options["skip"], above = lines[at] - 1, " | ".join(_cells(rows[0]))[:60]
        if not several and not _are_names(table[0], table[1:]):
            facts = {"where": where, "line": lines[0], "above": above, "width": width, "below": lines[at]}
            raise DataError(render("collection", "unlike", **facts, names=", ".join(table[0])[:60], **options))
        notes.append(f"{lines[at] - 1} lines above the names are skipped, such as {above!r}: {KEY}skip")
    if several:
        options["header"] = 3 if len(table) > 4 and _are_names(table[2], table[3:], 2) else 2
        shown = ", ".join(names(table[: options["header"]]))[:80]
        notes.append(f"{options['header']} rows hold the names of the columns ({shown}): {KEY}header")
    below = [*takewhile(lambda row: _is_below(row, width), reversed(last))][::-1]
    cells = next(filter(None, map(_cells, below)), [""])
    footer = re.split(r"[\d:]", cells[0])[0].strip()
    if footer and not any(_cells(row)[:1] == cells[:1] for row in table[: -2 * BELOW]):
        options["footer"] = footer
        notes.append(f"what stands below the table, from {cells[0][:60]!r} on, is left out: {KEY}footer")
    return options, notes


def _cells(row: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in row if cell.strip()]


def _is_title(row: Sequence[str]) -> bool:
    """Return whether hardly anything stands in a row: a title, or a word and what it is."""
    filled, is_pair = len(_cells(row)), bool(row[0].strip() and row[1:] and row[1].strip())
    few = 2 * filled < len(row) or (len(row) > 2 and row[0].rstrip().endswith(":"))
    return few and (filled < 2 or (filled == 2 and is_pair))


def _is_below(row: Sequence[str], width: int) -> bool:
    cells = _cells(row)
    note = width > 2 and len(cells) == 1 and NOTE.match(cells[0])
    return not cells or bool(note or TOTAL.fullmatch(cells[0].rstrip(": ")))


def _are_names(row: Sequence[str], below: Rows, least: int = 1) -> bool:
    """Return whether words stand in a row above columns of numbers (so many at least), and in none of these a number."""
    columns = [[cell for cell in column if cell.strip()] for column in zip(*below, strict=True)]
    numeric = [len(cells) > 1 and sum(map(bool, map(NUMBER.fullmatch, cells))) > 0.8 * len(cells) for cells in columns]
    heads = [cell for cell, is_number in zip(row, numeric, strict=True) if is_number and cell.strip()]
    again = any(cell.strip() and cell in cells for cell, cells in zip(row, columns, strict=True))
    words = [bool(WORD.search(cell)) and cell.strip().lower() not in UNKNOWN for cell in heads]
    return len(words) >= least and not again and all(words)


def _is_split(above: Sequence[str], row: Sequence[str], below: Rows) -> bool:
    """Return whether a row of names stands below another that has gaps, as one of merged cells has; years may be names."""
    gaps = sum(not cell.strip() for cell in above[1:])
    again = any(cell in cells for cell, cells in zip(row, zip(*below, strict=True), strict=True))
    words = all(cell.strip() and (YEAR.fullmatch(cell) or not NUMBER.fullmatch(cell)) for cell in row)
    return gaps > 1 and 3 * gaps >= len(row) and words and not again

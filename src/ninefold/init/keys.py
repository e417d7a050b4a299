"""Choose the time of a row, its key, and the entity whose rows stay together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from ninefold.errors import DataError
from ninefold.init.columns import OTHER_TIME, STRAY_TIMES, TIME_NAME, Column, is_id
from ninefold.init.proposal import ENTITY_NAME, Proposal


def read_time(p: Proposal, name: str) -> Column:
    """Return the column that the user names as the time of a row; refuse it if it cannot be read."""
    column = p.columns[name]
    bad = column.gap[column.codes] | column.stray
    if column.kind in ("duplicate", "constant", "missing"):
        raise DataError(f"{p.table}: the time {name} is the same in every row; init again without --time")
    if column.kind != "timestamp" or bad.mean() > STRAY_TIMES:
        first = np.flatnonzero(bad)[:3] if column.kind == "timestamp" else np.arange(3)
        shown = ", ".join(f"row {row + 1} {column.texts[column.codes[row]]!r}" for row in first)
        count = int(bad.sum()) if column.kind == "timestamp" else len(bad)
        raise DataError(
            f"{p.table}: the time {name} cannot be read in {count:,} of {len(bad):,} rows, such as {shown}; tried ISO "
            "(2013-09-30 17:00), day and month in either order (30/09/2013, 30.09.2013 17:00, 09/30/2013 5:00 PM), names of "
            "months (30 Sep 2013), 20130930, 2013, and numbers counted from 1970; write one of these, or init without --time"
        )
    days = np.unique(column.values[~np.isnat(column.values)].astype("datetime64[D]"))
    if len(days) < 3:
        raise DataError(f"{p.table}: the time {name} has {len(days)} different days, expected at least 3 to split by; init again without --time")  # fmt: skip
    return column


def guess_time(p: Proposal) -> Column | None:
    """Return the column that looks like the time of the event: by name, spread over many days, hardly ever missing."""
    best: tuple[int, Column] | None = None
    stamps = [column for column in p.columns.values() if column.kind == "timestamp"]
    for column in stamps:
        rows = column.rows()
        days, sizes = np.unique(rows[~np.isnat(rows)].astype("datetime64[D]"), return_counts=True)
        if np.isnat(rows).mean() > STRAY_TIMES or len(days) < 10 or sizes.max() > 0.2 * len(rows):
            continue
        if OTHER_TIME.search(column.name) or column.raw in p.left:
            continue
        score = 2 * bool(TIME_NAME.search(column.name)) + (len(stamps) == 1)
        if score and (best is None or score > best[0]):
            best = score, column
    if best is None:
        return None
    p.warnings.append(
        f"{best[1].name} is taken as the time of a row, by which the newest rows judge; if rows have no order, "
        "init again with --time none: problem.time"
    )
    return best[1]


def choose_key(p: Proposal, name_of_key: str | None) -> None:
    """Choose what identifies a row, and the entity whose rows stay in one part of the split."""
    names = [name_of_key] if name_of_key else [name for name, column in p.columns.items() if _identifies(column)]
    for name in names:
        column = p.columns[name]
        if column.kind in ("constant", "missing"):
            raise DataError(f"{p.table}: --id {name} is the same in every row; name another column, or none")
        if column.kind == "duplicate":  # of a column that is as good
            column = p.columns[name] = replace(column, kind="identifier")
        if _unique(column, p.rows) and column.name != p.target.name:
            p.key = [column.name]
            p.columns[name] = replace(column, kind="identifier")
            return
    if name_of_key:
        column = p.columns[name_of_key]
        full = not column.missing and not column.stray.any()
        if p.time is not None and full:
            both = pd.DataFrame({"id": column.codes, "time": p.time.rows()})
            if not both[both["time"].notna()].duplicated().any():
                p.key = [column.name, p.time.name]
        p.group = [column.name] if full else None
        if not full:
            p.warnings.append(f"--id {name_of_key} is missing in {column.missing:,} rows, so it is no key: problem.key")
    if not p.key:
        names_in_use = {name.lower() for name in p.columns}
        p.number = next(name for name in ("row", "row_number", "row_no_", "row__") if name not in names_in_use)
        p.key = [p.number]
    if p.time is None and p.group is None:
        _find_entity(p)


def _identifies(column: Column) -> bool:
    return column.kind == "identifier" or (column.kind in ("number", "category") and is_id(column.name))


def _unique(column: Column, rows: int) -> bool:
    whole = column.type in ("string", "int64") and not column.missing and not column.stray.any()
    return bool(whole and len(column.texts) == rows == column.distinct)


def _find_entity(p: Proposal) -> None:
    """Keep the rows of an entity that comes back together, where its name says that it is one."""
    for column in p.columns.values():
        fits = column.kind in ("category", "number") and column.type != "float64" and column.name != p.target.name
        if not fits or column.missing or not ENTITY_NAME.search(column.name):
            continue
        if 10 <= column.distinct <= 0.8 * p.rows:
            p.group = [column.name]
            p.warnings.append(
                f"{column.name} comes back ({p.rows / column.distinct:.1f} rows each), so its rows stay in one part of "
                "the split and it is no feature: problem.group"
            )
            return

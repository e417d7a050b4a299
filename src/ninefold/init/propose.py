"""Propose a project for a table: its task, key, time, split, contract, features and models."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd

from ninefold.errors import DataError
from ninefold.init import inference
from ninefold.init.columns import Column, is_id, missing_texts, with_missing
from ninefold.init.joins import join, plain
from ninefold.init.keys import choose_key, guess_time, read_time
from ninefold.init.numbers import sentinel
from ninefold.init.proposal import ENTITY_NAME, LEAST_ROWS, Proposal, Wish, feature_columns
from ninefold.init.splits import choose_split
from ninefold.init.tasks import as_class, choose_task

SAMPLE = 50_000


def propose(table: str, frame: pd.DataFrame, wish: Wish, related: dict[str, pd.DataFrame] | None = None) -> Proposal:
    """Return the project that a table is best begun with.

    Parameters
    ----------
    table : str
        Its name in the project.
    frame : DataFrame
        The whole table, all text.
    wish : Wish
    related : dict of str to DataFrame, optional
        Tables to join, by name.

    Raises
    ------
    DataError
        If a column is not there, the target cannot be predicted, or the time cannot be read; says what to do.
    """
    if len(frame) < LEAST_ROWS:
        raise DataError(f"{table}: found {len(frame)} rows, expected at least {LEAST_ROWS} to learn and judge from")
    names = list(frame.columns)
    target = find(names, wish.target, "--target", table)
    untimed = wish.time is not None and wish.time.lower() == "none" and wish.time not in names
    time = None if wish.time is None or untimed else find(names, wish.time, "--time", table)
    key = None if wish.key is None else find(names, wish.key, "--id", table)
    if target in (time, key):
        raise DataError(f"{table}: found --target {target} also as --time or --id, expected three different columns")
    columns = inference.describe(frame, time, target)
    p = Proposal(table, len(frame), columns, columns[target])
    choose_task(p, wish)
    p.time = read_time(p, time) if time else None if untimed else guess_time(p)
    choose_key(p, key)
    _set_aside(p)
    for name, other in (related or {}).items():
        join(p, name, other)
    _agree_on_missing(p)
    _choose_features(p)
    choose_split(p, time_is_named=time is not None)
    _choose_comparisons(p)
    _note_warnings(p)
    return p


def find(names: list[str], name: str, option: str, table: str) -> str:
    """Return the column that is meant.

    Raises
    ------
    DataError
        If there is none, with the closest names.
    """
    if name in names:
        return name
    alike = [name for name in names if name.strip().lower() == name.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; it has {', '.join(names[:30])}"
    raise DataError(f"{table}: found no column {name!r}, which {option} names{hint}")


def _set_aside(p: Proposal) -> None:
    """Note the columns that are no features, and why.

    What tells the target stays one: only a person can say whether it is known in time, and stage 05 stops to ask.
    """
    for column in p.columns.values():
        name = column.raw
        if column.kind == "duplicate":
            p.left.setdefault(name, f"a copy of {column.of}")
        elif column.kind in ("constant", "missing"):
            p.left.setdefault(name, "always the same" if column.kind == "constant" else "always missing")
        elif column.kind == "identifier":
            p.left.setdefault(name, "names the row")
    for column in p.contract().values():
        if column.name != p.target.name and _tells(column, p):
            p.leaks.append(column.name)
            p.warnings.append(
                f"{column.name} tells the target exactly, so stage 05 will stop. If it becomes known only later, take it "
                "out of section features and name it, with the reason: exploration.known_later"
            )


def _tells(column: Column, p: Proposal) -> bool:
    """Return whether a column is the target in other words: a value for each class, or a straight line."""
    target = p.target
    if p.task == "regression":
        if column.kind != "number":
            return False
        x, y = column.rows(), target.rows()
        both = ~np.isnan(x) & ~np.isnan(y)
        if both.sum() < LEAST_ROWS or x[both].std() == 0 or y[both].std() == 0:
            return False
        return bool(abs(np.corrcoef(x[both], y[both])[0, 1]) > 1 - 1e-9)
    if column.kind not in ("category", "number") or column.distinct != len(p.classes):
        return False
    both = ~column.gap[column.codes] & ~target.gap[target.codes]
    pairs = set(zip(column.codes[both].tolist(), target.codes[both].tolist(), strict=True))
    return bool(both.mean() > 0.5 and len(pairs) == len(p.classes))


def _agree_on_missing(p: Proposal) -> None:
    """Settle the texts that mean "not known", which are the same for all columns; no class is among them."""
    tables = [p.columns, *(one.columns for one in p.related)]
    used = [column for table in tables for column in table.values() if column.kind not in ("missing", "constant")]
    classes = {str(text) for text in p.target.texts[~p.target.gap]}
    p.missing = [text for text in missing_texts(used) if text not in classes]
    for table in tables:
        for name, column in table.items():
            table[name] = with_missing(column, p.missing)
    p.target = p.columns[p.target.raw]
    p.time = p.time and p.columns[p.time.raw]


def _choose_features(p: Proposal) -> None:
    kinds = {"number": "numeric", "category": "categorical", "text": "text", "timestamp": "dates"}
    p.features = {name: [] for name in kinds.values()}
    apart = {p.target.name, *(p.group or [])} | ({p.number} if p.number else set())
    if len(p.key) == 1:
        apart |= set(p.key)
    if p.time is not None:
        apart -= set(p.group or [])
    for name, column in feature_columns(p).items():
        if name in apart or column.kind not in kinds or column.raw in p.left:
            continue
        named = is_id(name) or ENTITY_NAME.search(name)
        entity = column.kind == "number" and column.type == "int64" and named and column.distinct > 2
        p.features["categorical" if entity else kinds[column.kind]].append(name)
    for name in p.features["categorical"]:  # numbers that name something are texts to the contract
        for table in (p.columns, *(one.columns for one in p.related)):
            for key, column in table.items():
                if column.name == name and column.type == "int64" and column.kind == "number" and name not in p.key:
                    table[key] = plain(column) if not _joined(p, column.name) else column
    if not any(p.features.values()):
        left = ", ".join(f"{name} ({why})" for name, why in p.left.items())
        raise DataError(f"{p.table}: found no column to predict {p.target.name} by; left out: {left or 'none'}")


def _joined(p: Proposal, name: str) -> bool:
    return any(name in one.by for one in p.related)


def _choose_comparisons(p: Proposal) -> None:
    """Choose up to six columns to compare outcomes by: those over whose values the outcome moves most."""
    target = p.target.rows()
    if p.classes:
        known = np.array([not pd.isna(value) for value in p.target.values])[p.target.codes]
        focus = np.array([not pd.isna(v) and as_class(v, p.target) == p.focus for v in p.target.values])
        outcome = np.where(known, focus[p.target.codes].astype("float64"), np.nan)
    else:
        outcome = target.astype("float64")
    places = np.unique(np.linspace(0, p.rows - 1, min(p.rows, SAMPLE)).astype(int))
    y, moved = pd.Series(outcome[places]), {}
    own = {column.name: column for column in p.columns.values()}
    for name in [*p.features["numeric"], *p.features["categorical"]]:
        if name not in own or (own[name].kind == "category" and not 2 <= own[name].distinct <= 60):
            continue
        values = pd.Series(own[name].rows()[places])
        if own[name].kind == "number" and values.nunique() > 20:
            values = pd.qcut(values, 6, labels=False, duplicates="drop")
        groups = y.groupby(values)
        sizes = groups.count()
        moved[name] = float((sizes * (groups.mean() - y.mean()) ** 2)[sizes >= 5].sum())
    ranked = sorted(moved, key=lambda name: -moved[name])[: 5 if p.time is not None else 6]
    p.by = [*(["weekday"] if p.time is not None and "weekday" not in own else []), *(n for n in own if n in ranked)]


def _note_warnings(p: Proposal) -> None:
    every = {**p.contract(), **feature_columns(p)}
    for column in dict.fromkeys(id(column) for column in every.values()):
        one = next(other for other in every.values() if id(other) == column)
        if one is p.time or one.kind in ("number", "category", "timestamp"):
            p.warnings += [warning for warning in one.warnings if one.raw not in p.left]
        lone = sentinel(one) if one.kind == "number" else None
        if lone is not None:
            p.warnings.append(f"{one.name} is {lone:g} in many rows, far from all others; if it means not known, add it: processing.missing")  # fmt: skip
    if p.time is not None and np.isnat(p.time.rows()).any() and not p.time.stray.any():
        rows = int(np.isnat(p.time.rows()).sum())
        p.warnings.append(
            f"{p.time.name} is missing in {rows:,} rows, which go to quarantine: processing.max_quarantined"
        )
    if p.task != "regression" and p.target.type == "string":
        alike = pd.Series(p.classes).groupby([name.strip().lower() for name in p.classes]).agg(list)
        for names in alike[alike.map(len) > 1]:
            p.warnings.append(f"{', '.join(map(repr, names))} are different classes; if they are one, mend the source: problem.classes")  # fmt: skip
    if p.target.missing:
        p.warnings.append(f"{p.target.name} is not known in {p.target.missing:,} rows; they are described, and not learned from: problem.target")  # fmt: skip

"""Propose a project for a table: its task, key, time, split, contract, features and models."""

from __future__ import annotations

import difflib
from dataclasses import replace

import numpy as np
import pandas as pd

from ninefold.errors import DataError
from ninefold.init import inference
from ninefold.init.columns import OTHER_TIME, STRAY_TIMES, TIME_NAME, Column, is_id
from ninefold.init.numbers import sentinel
from ninefold.init.proposal import ENTITY_NAME, LEAST_ROWS, Proposal, Related, Wish
from ninefold.init.tasks import choose_split, choose_task, encoded

SAMPLE = 50_000


def propose(table: str, frame: pd.DataFrame, wish: Wish, related: dict[str, pd.DataFrame] | None = None) -> Proposal:
    """Return the project that a table is best begun with; `frame` and the `related` tables to join are all text.

    Raises `DataError` if a column is not there, the target cannot be predicted, or the time cannot be read.
    """
    if len(frame) < LEAST_ROWS:
        raise DataError(f"{table}: found {len(frame)} rows, expected at least {LEAST_ROWS} to learn and judge from")
    names = list(frame.columns)
    untimed = wish.time is not None and wish.time.lower() == "none" and wish.time not in names
    target = find(names, wish.target, "--target", table)
    others = {"--time": None if untimed else wish.time, "--id": wish.key}
    time, key = (None if name is None else find(names, name, option, table) for option, name in others.items())
    if target in (time, key):
        raise DataError(f"{table}: found --target {target} also as --time or --id, expected three different columns")
    columns = inference.describe(frame, time, target)
    p = Proposal(table, len(frame), columns, columns[target])
    choose_task(p, wish)
    p.time = _read_time(p, time) if time else None if untimed else _guess_time(p)
    _choose_key(p, key)
    _set_aside(p)
    for name, other in (related or {}).items():
        _join(p, name, other)
    _agree_on_missing(p)
    _choose_features(p)
    choose_split(p, time_is_named=time is not None)
    _choose_comparisons(p)
    _note_warnings(p)
    return p


def find(names: list[str], name: str, option: str, table: str) -> str:
    """Return the column that is meant; raise `DataError` with the closest names if there is none."""
    alike = [each for each in names if each.strip().lower() == name.strip().lower()]
    if name in names or len(alike) == 1:
        return name if name in names else alike[0]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; it has {', '.join(names[:30])}"
    raise DataError(f"{table}: found no column {name!r}, which {option} names{hint}")


def _read_time(p: Proposal, name: str) -> Column:
    """Return the column that the user names as the time of a row; refuse it if it cannot be read."""
    column, where = p.columns[name], f"{p.table}: the time {name}"
    if column.kind in ("duplicate", "constant", "missing"):
        raise DataError(f"{where} is the same in every row; init again without --time")
    bad = column.gap[column.codes] | column.stray | (column.kind != "timestamp")
    if bad.mean() > STRAY_TIMES:
        shown = ", ".join(f"row {row + 1} {column.texts[column.codes[row]]!r}" for row in np.flatnonzero(bad)[:3])
        tried = "such as 2013-09-30 17:00, 30/09/2013, 09/30/2013 5:00 PM, 30 Sep 2013, 20130930, 2013, or counted from 1970"
        raise DataError(
            f"{where} cannot be read in {bad.sum():,} of {len(bad):,} rows, such as {shown}; expected times {tried}; write "
            "one of these, or init without --time"
        )
    days = len(np.unique(column.times().astype("datetime64[D]")))
    if days < 3:
        raise DataError(f"{where} has {days} different days, expected 3 or more to split by; init again without --time")
    return column


def _guess_time(p: Proposal) -> Column | None:
    """Return the column that looks like the time of the event: by name, spread over many days, hardly ever missing."""
    stamps = [column for column in p.columns.values() if column.kind == "timestamp"]
    scores = {}
    for column in stamps:
        _, sizes = np.unique(column.times().astype("datetime64[D]"), return_counts=True)
        missing = np.isnat(column.rows()).mean()
        if missing > STRAY_TIMES or len(sizes) < 10 or sizes.max() > 0.2 * p.rows or OTHER_TIME.search(column.name):
            continue
        scores[column.raw] = 2 * bool(TIME_NAME.search(column.name)) + (len(stamps) == 1)
    best = max(scores, key=lambda name: scores[name], default="")
    if not scores or not scores[best]:
        return None
    p.warnings.append(
        f"{best} is taken as the time of a row, by which the newest rows judge; if rows have no order, "
        "init again with --time none: problem.time"
    )
    return p.columns[best]


def _choose_key(p: Proposal, named: str | None) -> None:
    """Choose what identifies a row, and the entity whose rows stay in one part of the split."""
    kinds = {name: c.kind for name, c in p.columns.items() if is_id(c.name) or c.kind == "identifier"}
    names = [name for name, kind in kinds.items() if kind in ("identifier", "number", "category")]
    for name in [named] if named else names:
        column = p.columns[name]
        if column.kind in ("constant", "missing"):
            raise DataError(f"{p.table}: --id {name} is the same in every row; name another column, or none")
        if column.kind == "duplicate":  # of a column that is as good
            column = p.columns[name] = replace(column, kind="identifier")
        whole = column.type in ("string", "int64") and column.complete
        if whole and len(column.texts) == p.rows == column.distinct and column.name != p.target.name:
            p.key, p.columns[name] = [column.name], replace(column, kind="identifier")
            return
    if named and (column := p.columns[named]).complete:
        p.group = [column.name]
        if p.time is not None:
            both = pd.DataFrame({"id": column.codes, "time": p.time.rows()})
            p.key = [] if both[both["time"].notna()].duplicated().any() else [column.name, p.time.name]
    elif named:
        p.warnings.append(f"--id {named} is missing in {column.missing:,} rows, so it is no key: problem.key")
    if not p.key:
        in_use = {name.lower() for name in p.columns}
        p.number = next(name for name in ("row", "row_number", "row_no_", "row__") if name not in in_use)
        p.key = [p.number]
    if p.time is None and p.group is None:
        _find_entity(p)


def _find_entity(p: Proposal) -> None:
    """Keep the rows of an entity that comes back together, where its name says that it is one."""
    for column in p.columns.values():
        fits = column.kind in ("category", "number") and column.type != "float64" and column.name != p.target.name
        if not fits or column.missing or not ENTITY_NAME.search(column.name):
            continue
        if 10 <= column.distinct <= 0.8 * p.rows:
            p.group, rows = [column.name], f"{p.rows / column.distinct:.1f} rows each"
            p.warnings.append(f"{column.name} comes back ({rows}), so its rows stay in one part of the split and it is no feature: problem.group")  # fmt: skip
            return


def _join(p: Proposal, name: str, frame: pd.DataFrame) -> None:
    """Add a related table: its key is what both have in common and no two rows there share."""
    common = [column for column in frame.columns if column in p.columns]
    if not common:
        among = ", ".join(frame.columns[:20])
        raise DataError(
            f"--join {name}: found no column that {p.table} has too, among {among}; rename its key as in {p.table}"
        )
    by = [column for column in common if not frame[column].duplicated().any()][:1] or common
    keys, twice = ", ".join(by), frame.loc[frame.duplicated(by), by]
    if len(twice):
        raise DataError(f"--join {name}: several rows have the same {keys}, such as {twice.iloc[0].to_dict()}; expected one row for each; aggregate it first, or, where they hold from a time on, join it in params.yaml with features.joins and as_of")  # fmt: skip
    columns = inference.describe(frame)
    for key in by:
        columns[key], p.columns[key] = _same_type(columns[key], p.columns[key])
    frames = (pd.DataFrame({key: table[key].rows() for key in by}) for table in (p.columns, columns))
    mine, theirs = map(pd.MultiIndex.from_frame, frames)
    matched = float(mine.isin(theirs).mean())
    if not matched:
        raise DataError(f"--join {name}: no row of {p.table} has its {keys} there; do both write it alike?")
    if matched < 0.5:
        p.warnings.append(f"only {matched:.0%} of the rows find their {keys} in {name}: features.joins")
    kinds = ("number", "category", "text", "timestamp")
    useful = {column.name: column for key, column in columns.items() if key not in by and column.kind in kinds}
    if not useful:
        raise DataError(f"--join {name}: holds no column of use beside its key {keys}")
    in_use = {column.lower() for column in p.feature_columns()}
    renamed = {column: f"{name}_{column}" if column.lower() in in_use else column for column in useful}
    p.related.append(Related(name, {**{key: columns[key] for key in by}, **useful}, by, renamed))


def _same_type(one: Column, other: Column) -> tuple[Column, Column]:
    if one.type == other.type and one.format == other.format:
        return one, other
    if {one.type, other.type} == {"int64", "float64"}:
        return replace(one, type="float64"), replace(other, type="float64")
    return one.as_text(), other.as_text()


def _set_aside(p: Proposal) -> None:
    """Note the columns that are no features, and why.

    What tells the target stays one: only a person can say whether it is known in time, and stage 05 stops to ask.
    """
    reasons = {"constant": "always the same", "missing": "always missing", "identifier": "names the row"}
    for column in p.columns.values():
        if column.kind in reasons or column.of:
            p.left[column.raw] = reasons.get(column.kind, f"a copy of {column.of}")
    for column in p.contract().values():
        if column.name != p.target.name and _tells(column, p):
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
        pairs = pd.DataFrame({"x": column.rows(), "y": target.rows()}).dropna()
        if len(pairs) < LEAST_ROWS or pairs.nunique().min() < 2:
            return False
        return bool(abs(np.corrcoef(pairs["x"], pairs["y"])[0, 1]) > 1 - 1e-9)
    if column.kind not in ("category", "number") or column.distinct != len(p.classes):
        return False
    both = ~column.gap[column.codes] & ~target.gap[target.codes]
    pairs = set(zip(column.codes[both].tolist(), target.codes[both].tolist(), strict=True))
    return bool(both.mean() > 0.5 and len(pairs) == len(p.classes))


def _agree_on_missing(p: Proposal) -> None:
    """Settle the texts that mean "not known", which are the same for all columns; no class is among them."""
    tables = p.tables().values()
    used = [column for table in tables for column in table.values() if column.kind not in ("missing", "constant")]
    classes = {str(text) for text in p.target.texts[~p.target.gap]}
    texts = {str(text) for column in used for text in column.texts[column.gap]}
    p.missing = ["", *sorted(texts - classes - {""})]
    for table in tables:
        table |= {name: column.with_missing(p.missing) for name, column in table.items()}
    p.target = p.columns[p.target.raw]
    p.time = p.time and p.columns[p.time.raw]


def _choose_features(p: Proposal) -> None:
    kinds = {"number": "numeric", "category": "categorical", "text": "text", "timestamp": "dates"}
    p.features = {name: [] for name in kinds.values()}
    apart = {p.target.name, p.number, *(p.key if len(p.key) == 1 else []), *(p.group or [] if p.time is None else [])}
    for name, column in p.feature_columns().items():
        if name in apart or column.kind not in kinds or column.raw in p.left:
            continue
        named = is_id(name) or ENTITY_NAME.search(name)
        entity = column.kind == "number" and column.type == "int64" and named and column.distinct > 2
        p.features["categorical" if entity else kinds[column.kind]].append(name)
    to_text = set(p.features["categorical"]) - {*p.key, *(name for one in p.related for name in one.by)}
    for table in p.tables().values():
        for key, column in table.items():  # numbers that name something are texts to the contract
            if column.name in to_text and column.type == "int64" and column.kind == "number":
                table[key] = column.as_text()
    if not any(p.features.values()):
        left = ", ".join(f"{name} ({why})" for name, why in p.left.items())
        raise DataError(f"{p.table}: found no column to predict {p.target.name} by; left out: {left or 'none'}")


def _choose_comparisons(p: Proposal) -> None:
    """Choose up to six columns to compare outcomes by: those over whose values the outcome moves most."""
    outcome = encoded(p)
    if p.classes:
        outcome = np.where(np.isnan(outcome), np.nan, outcome == p.classes.index(str(p.focus)))
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
    for column in p.feature_columns().values():
        if column is p.time or column.kind in ("number", "category", "timestamp"):
            p.warnings += column.warnings if column.raw not in p.left else ()
        if column.kind == "number" and (lone := sentinel(column)) is not None:
            p.warnings.append(f"{column.name} is {lone:g} in many rows, far from all others; if it means not known, add it: processing.missing")  # fmt: skip
    if p.time is not None and np.isnat(p.time.rows()).any() and not p.time.stray.any():
        where = f"{np.isnat(p.time.rows()).sum():,} rows, which go to quarantine"
        p.warnings.append(f"{p.time.name} is missing in {where}: processing.max_quarantined")
    if p.task != "regression" and p.target.type == "string":
        alike = pd.Series(p.classes).groupby([name.strip().lower() for name in p.classes]).agg(list)
        for names in alike[alike.map(len) > 1]:
            p.warnings.append(f"{', '.join(map(repr, names))} are different classes; if they are one, mend the source: problem.classes")  # fmt: skip
    if p.target.missing:
        p.warnings.append(f"{p.target.name} is not known in {p.target.missing:,} rows; they are described, and not learned from: problem.target")  # fmt: skip

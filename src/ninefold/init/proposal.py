"""Propose a project for a table: the task, the key, the time, the split, the contract, the features and the models.

What cannot be known from a table, such as prices, is assumed; what could be otherwise is a numbered doubt.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ninefold import metrics
from ninefold.core.errors import DataError
from ninefold.init import inference
from ninefold.init.inference import Column

MOST_CLASSES = 30
FEW_VALUES = 20  # whole numbers, up to which they could be classes
LEAST_ROWS = 20
LEAST_CLASS = 3  # rows of a class, under which no part of the split can hold one
EVENTS = {"yes", "y", "true", "t", "1", "positive", "pos", "event", "fraud", "spam", "churn", "churned", "default", "late", "bad", "dead", "died", "sick", "malignant", "fail", "failed", "failure", "returned", "cancelled", "canceled", "left"}  # fmt: skip
NO_EVENTS = {"no", "n", "false", "f", "0", "negative", "neg", "none", "ham", "good", "ok", "benign", "healthy", "alive", "normal", "stayed", "on time", "retained", "pass", "passed"}  # fmt: skip
LABEL_NAME = re.compile(r"class|label|type|categor|species|grade|segment|cluster|kind|group|level|digit|cover", re.I)
COUNT_NAME = re.compile(r"count|number|num|qty|quantity|quality|rating|score|stars|age|days|n_|rings|rooms|visits|points", re.I)  # fmt: skip
ENTITY_NAME = re.compile(
    r"(^|[\W_])(customer|user|patient|client|subject|account|person|member|household|device|machine|store|shop|employee|"
    r"driver|vehicle|player|student|sensor|company|site|unit|engine)([\W_]?(id|no|nr|number|key|code|name))?$",
    re.I,
)
SPLITS = ((0.15, 0.20), (0.20, 0.25), (0.25, 0.30))  # validation and holdout: larger where outcomes are rare
ENOUGH = 5  # rows of the rarest class in each part, for which the rest is better left to training
PRIMARY = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
SAMPLE = 50_000


@dataclass(frozen=True)
class Wish:
    """What the user says of a table; the rest is found out."""

    target: str
    time: str | None = None  # "none": the table has no time
    key: str | None = None
    task: str = "auto"
    event: str | None = None
    without: tuple[str, ...] = ()


@dataclass
class Related:
    """A table to join: what identifies a row there, its columns, and what they are called beside the main table's."""

    name: str
    columns: dict[str, Column]
    by: list[str]
    renamed: dict[str, str]


@dataclass
class Proposal:
    """Everything that ``params.yaml`` and ``src/project`` are written from."""

    table: str
    rows: int
    columns: dict[str, Column]
    target: Column
    task: str = ""
    classes: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    focus: str | None = None
    time: Column | None = None
    months: int = 0
    partitioned: bool = False
    key: list[str] = field(default_factory=list)
    number: str | None = None
    group: list[str] | None = None
    features: dict[str, list[str]] = field(default_factory=dict)
    related: list[Related] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    quarantined: int = 0
    labelled: int = 0
    split: tuple[float, float] = SPLITS[0]
    parts: dict[str, int] = field(default_factory=dict)
    min_rarest: int = 20
    by: list[str] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def contract(self) -> dict[str, Column]:
        """Return the columns that the lake holds, by their names there."""
        useless = ("constant", "missing", "duplicate")
        return {column.name: column for column in self.columns.values() if column.kind not in useless}


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
        If a column is not there, the target cannot be foreseen, or the time cannot be read; says what to do.
    """
    if len(frame) < LEAST_ROWS:
        raise DataError(f"{table}: found {len(frame)} rows, expected at least {LEAST_ROWS} to learn and judge from")
    names = list(frame.columns)
    target = find(names, wish.target, "--target", table)
    untimed = wish.time is not None and wish.time.lower() == "none" and wish.time not in names
    time = None if wish.time is None or untimed else find(names, wish.time, "--time", table)
    key = None if wish.key is None else find(names, wish.key, "--id", table)
    dropped = [find(names, name, "leave out", table) for name in wish.without]
    if target in (time, key):
        raise DataError(f"{table}: found --target {target} also as --time or --id, expected three different columns")
    columns = inference.describe(frame, time, target)
    p = Proposal(table, len(frame), columns, columns[target])
    p.left |= {name: "asked for" for name in dropped}
    _choose_task(p, wish)
    p.time = _given_time(p, time) if time else None if untimed else _found_time(p)
    _choose_key(p, key)
    _set_aside(p)
    for name, other in (related or {}).items():
        _join(p, name, other)
    _agree_on_missing(p)
    _choose_features(p)
    _choose_split(p, given=time is not None)
    _choose_comparisons(p)
    _note_doubts(p)
    return p


def find(names: list[str], wanted: str, option: str, table: str) -> str:
    """Return the column that is meant.

    Raises
    ------
    DataError
        If there is none, with the closest names.
    """
    if wanted in names:
        return wanted
    alike = [name for name in names if name.strip().lower() == wanted.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    found = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; it has {', '.join(names[:30])}"
    raise DataError(f"{table}: found no column {wanted!r}, which {option} names{found}")


def feature_columns(p: Proposal) -> dict[str, Column]:
    """Return the columns that could be features, by their names beside the main table's own."""
    found = {column.name: column for column in p.columns.values()}
    for one in p.related:
        found |= {new: one.columns[old] for old, new in one.renamed.items()}
    return found


def share(p: Proposal) -> float:
    """Return the share of the event, or of the class in focus, among the rows with an outcome."""
    return p.sizes[str(p.focus)] / sum(p.sizes.values())


def spread(p: Proposal) -> float:
    """Return the standard deviation of a quantity."""
    return float(np.nanstd(p.target.rows()))


def _choose_task(p: Proposal, wish: Wish) -> None:
    """Settle the task, and of classes their order and which of them is looked at."""
    column, sizes = p.target, p.target.sizes()
    _demand_outcomes(p, sizes)
    numbers = column.kind in ("number", "identifier") and column.type != "string"
    p.task = wish.task if wish.task != "auto" else _task(p, column, sizes, numbers)
    if p.task not in PRIMARY:
        raise DataError(f"--task: found {p.task!r}, expected auto, {', '.join(PRIMARY)}")
    if p.task == "regression":
        if not numbers:
            shown = ", ".join(repr(text) for text in column.texts[~column.gap][:3])
            raise DataError(
                f"{p.table}: the target {column.name} holds texts such as {shown}, expected numbers for --task regression"
            )
        p.target = p.columns[column.raw] = replace(column, kind="number", type="float64")
        return
    if numbers and all(float(value).is_integer() for value in sizes):
        column = replace(column, type="int64")
    p.target = p.columns[column.raw] = replace(column, kind="category")
    p.sizes = {as_class(value, column): size for value, size in sizes.items()}
    p.classes = list(p.sizes)
    _demand_classes(p)
    if p.task == "binary":
        p.focus = _event(p, wish)
        p.classes = [next(name for name in p.classes if name != p.focus), p.focus]
    else:
        enough = [name for name, size in p.sizes.items() if size >= 0.05 * sum(p.sizes.values())]
        p.focus = min(reversed(enough or p.classes), key=lambda name: p.sizes[name])


def _demand_outcomes(p: Proposal, sizes: dict[Any, int]) -> None:
    """Refuse a target that is missing, always the same, or a time."""
    column = p.target
    if column.kind == "missing":
        raise DataError(f"{p.table}: the target {column.name} is missing in every row; choose a column that is known")
    if len(sizes) < 2:
        only = next(iter(sizes), "nothing")
        gaps = (
            f", and nothing in {column.missing:,} rows; write what these mean into the source" if column.missing else ""
        )
        raise DataError(f"{p.table}: the target {column.name} is always {only!r}{gaps}; there is nothing to foresee")
    if column.kind == "timestamp":
        raise DataError(
            f"{p.table}: the target {column.name} holds times, expected a class or a number; add a column "
            "such as the days until then, or whether it came within a week"
        )


def _demand_classes(p: Proposal) -> None:
    """Refuse too many classes, classes of too few rows, and any but two for a binary target."""
    name = p.target.name
    if p.task == "binary" and len(p.classes) != 2:
        raise DataError(
            f"{p.table}: the target {name} holds {len(p.classes)} values ({', '.join(p.classes[:10])}), expected "
            "two for --task binary; use --task multiclass, or add a column that says yes or no"
        )
    if len(p.classes) > MOST_CLASSES:
        raise DataError(
            f"{p.table}: the target {name} holds {len(p.classes):,} different values, such as "
            f"{', '.join(repr(each) for each in p.classes[:3])}, expected at most {MOST_CLASSES} classes; pool the rare "
            "ones into one class, or choose another target"
        )
    if rare := {each: size for each, size in p.sizes.items() if size < LEAST_CLASS}:
        listed = ", ".join(f"{each!r} ({size})" for each, size in rare.items())
        raise DataError(
            f"{p.table}: too few rows of some classes of the target {name}: {listed}; expected at least "
            f"{LEAST_CLASS} of each; pool them with others, blank them (rows without an outcome are not learned from), "
            "or drop their rows"
        )


def as_class(value: Any, column: Column) -> str:
    """Return a value of the target as the lake's value is written as text."""
    return str(int(value)) if column.type == "int64" else str(value)


def _task(p: Proposal, column: Column, sizes: dict[Any, int], numbers: bool) -> str:
    """Return the task that a target suggests.

    Two values: binary. Texts: multiclass. Whole numbers are classes if they run from 0 or 1 without a gap to at most 10
    values and either are called like classes, or are not called like counts and each has 5 % of the rows. All other
    numbers are quantities.
    """
    if len(sizes) == 2:
        return "binary"
    if not numbers:
        return "multiclass"
    values, total = list(sizes), sum(sizes.values())
    whole = all(float(value).is_integer() for value in values)
    if not whole or len(values) > FEW_VALUES:
        return "regression"
    run = values[0] in (0, 1) and len(values) <= 10 and values[-1] - values[0] == len(values) - 1
    even = min(sizes.values()) >= 0.05 * total and not COUNT_NAME.search(column.name)
    task = "multiclass" if run and (LABEL_NAME.search(column.name) or even) else "regression"
    other = "regression" if task == "multiclass" else "multiclass"
    p.doubts.append(
        f"{column.name} holds {len(values)} whole numbers, taken as "
        f"{'classes' if task == 'multiclass' else 'quantities'}; else init again with --task {other}: problem.task"
    )
    return task


def _event(p: Proposal, wish: Wish) -> str:
    """Return the class that is the event: the one asked for, the one whose word says so, else the rarer one."""
    if wish.event is not None:
        return find(p.classes, wish.event, "the event", f"{p.table}.{p.target.name}")
    words = {name: name.strip().lower() for name in p.classes}
    if "1" in words.values() and set(words.values()) != {"0", "1"}:
        words = dict.fromkeys(p.classes, "")  # of 1 and 2, neither says what it is
    yes = [name for name, word in words.items() if word in EVENTS]
    no = [name for name, word in words.items() if word in NO_EVENTS]
    if len(yes) == 1:
        return yes[0]
    if len(no) == 1:
        return next(name for name in p.classes if name != no[0])
    for one, other in (p.classes, reversed(p.classes)):
        if re.fullmatch(rf"(non|not|no|un)[\W_]*{re.escape(words[other])}", words[one]):
            return other
    rarer = min(reversed(p.classes), key=lambda name: p.sizes[name])
    p.doubts.append(f"the event is {rarer!r}, the rarer value of {p.target.name}: problem.classes (the second)")
    return rarer


def _given_time(p: Proposal, name: str) -> Column:
    column = p.columns[name]
    bad = column.gap[column.codes] | column.stray
    if column.kind in ("duplicate", "constant", "missing"):
        raise DataError(f"{p.table}: the time {name} is the same in every row; init again without --time")
    if column.kind != "timestamp" or bad.mean() > inference.STRAY_TIMES:
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


def _found_time(p: Proposal) -> Column | None:
    """Return the column that looks like the time of the event: by name, spread over many days, hardly ever missing."""
    best: tuple[int, Column] | None = None
    stamps = [column for column in p.columns.values() if column.kind == "timestamp"]
    for column in stamps:
        rows = column.rows()
        days, sizes = np.unique(rows[~np.isnat(rows)].astype("datetime64[D]"), return_counts=True)
        if np.isnat(rows).mean() > inference.STRAY_TIMES or len(days) < 10 or sizes.max() > 0.2 * len(rows):
            continue
        if inference.OTHER_TIME.search(column.name) or column.raw in p.left:
            continue
        score = 2 * bool(inference.TIME_NAME.search(column.name)) + (len(stamps) == 1)
        if score and (best is None or score > best[0]):
            best = score, column
    if best is None:
        return None
    p.doubts.append(
        f"{best[1].name} is taken as the time of a row, by which the newest rows judge; if rows have no order, "
        "init again with --time none: problem.time"
    )
    return best[1]


def _choose_key(p: Proposal, given: str | None) -> None:
    names = [given] if given else [name for name, column in p.columns.items() if _identifies(column)]
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
    if given:
        column = p.columns[given]
        full = not column.missing and not column.stray.any()
        if p.time is not None and full:
            both = pd.DataFrame({"id": column.codes, "time": p.time.rows()})
            if not both[both["time"].notna()].duplicated().any():
                p.key = [column.name, p.time.name]
        p.group = [column.name] if full else None
        if not full:
            p.doubts.append(f"--id {given} is missing in {column.missing:,} rows, so it is no key: problem.key")
    if not p.key:
        taken = {name.lower() for name in p.columns}
        p.number = next(name for name in ("row", "row_number", "row_no_", "row__") if name not in taken)
        p.key = [p.number]
    if p.time is None and p.group is None:
        _find_entity(p)


def _identifies(column: Column) -> bool:
    return column.kind == "identifier" or (column.kind in ("number", "category") and inference.is_id(column.name))


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
            p.doubts.append(
                f"{column.name} comes back ({p.rows / column.distinct:.1f} rows each), so its rows stay in one part of "
                "the split and it is no feature: problem.group"
            )
            return


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
            p.doubts.append(
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


def _join(p: Proposal, name: str, frame: pd.DataFrame) -> None:
    """Add a related table: its key is what both have in common and no two rows there share."""
    common = [column for column in frame.columns if column in p.columns]
    if not common:
        raise DataError(
            f"--join {name}: found no column that {p.table} has too, among {', '.join(frame.columns[:20])}; rename its key "
            f"as {p.table} calls it"
        )
    single = [column for column in common if not frame[column].duplicated().any()]
    by = single[:1] or common
    if frame.duplicated(by).any():
        twice = frame.loc[frame.duplicated(by), by].iloc[0].to_dict()
        raise DataError(f"--join {name}: several rows have the same {', '.join(by)}, such as {twice}; expected one row for each; aggregate it first, or, where they hold from a time on, join it in params.yaml with features.joins and as_of")  # fmt: skip
    columns = inference.describe(frame)
    for key in by:
        columns[key], p.columns[key] = _same_type(columns[key], p.columns[key])
    mine = pd.MultiIndex.from_frame(pd.DataFrame({key: p.columns[key].rows() for key in by}))
    theirs = pd.MultiIndex.from_frame(pd.DataFrame({key: columns[key].rows() for key in by}))
    matched = float(mine.isin(theirs).mean())
    if not matched:
        raise DataError(f"--join {name}: no row of {p.table} has its {', '.join(by)} there; do both write it alike?")
    if matched < 0.5:
        p.doubts.append(f"only {matched:.0%} of the rows find their {', '.join(by)} in {name}: features.joins")
    useful = [
        column for key, column in columns.items() if key not in by and column.kind in ("number", "category", "text", "timestamp")
    ]  # fmt: skip
    taken = {column.name.lower() for column in p.columns.values()} | {
        new.lower() for one in p.related for new in one.renamed.values()
    }
    renamed = {
        column.name: column.name if column.name.lower() not in taken else f"{name}_{column.name}" for column in useful
    }
    if not renamed:
        raise DataError(f"--join {name}: holds no column of use beside its key {', '.join(by)}")
    kept = {**{key: columns[key] for key in by}, **{column.name: column for column in useful}}
    p.related.append(Related(name, kept, by, renamed))


def _same_type(one: Column, other: Column) -> tuple[Column, Column]:
    if one.type == other.type and one.format == other.format:
        return one, other
    if {one.type, other.type} == {"int64", "float64"}:
        return replace(one, type="float64"), replace(other, type="float64")
    return tuple(_plain(column) for column in (one, other))  # type: ignore[return-value]


def _plain(column: Column) -> Column:
    kind = "category" if column.kind in ("number", "timestamp") else column.kind
    texts = inference.blanked(column.texts, column.gap)
    return replace(column, kind=kind, type="string", values=texts, format=None, decimal=None, thousands=None)


def _agree_on_missing(p: Proposal) -> None:
    """Settle the texts that mean "not known", which are the same for all columns; no class is among them."""
    tables = [p.columns, *(one.columns for one in p.related)]
    used = [column for table in tables for column in table.values() if column.kind not in ("missing", "constant")]
    classes = {str(text) for text in p.target.texts[~p.target.gap]}
    p.missing = [text for text in inference.missing_texts(used) if text not in classes]
    for table in tables:
        for name, column in table.items():
            table[name] = inference.agreed(column, p.missing)
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
        named = inference.is_id(name) or ENTITY_NAME.search(name)
        entity = column.kind == "number" and column.type == "int64" and named and column.distinct > 2
        p.features["categorical" if entity else kinds[column.kind]].append(name)
    for name in p.features["categorical"]:  # numbers that name something are texts to the contract
        for table in (p.columns, *(one.columns for one in p.related)):
            for key, column in table.items():
                if column.name == name and column.type == "int64" and column.kind == "number" and name not in p.key:
                    table[key] = _plain(column) if not _joined(p, column.name) else column
    if not any(p.features.values()):
        left = ", ".join(f"{name} ({why})" for name, why in p.left.items())
        raise DataError(f"{p.table}: found no column to foresee {p.target.name} by; left out: {left or 'none'}")


def _joined(p: Proposal, name: str) -> bool:
    return any(name in one.by for one in p.related)


def _choose_split(p: Proposal, given: bool) -> None:
    """Settle partitions and split: parts that hold enough of every class, as stage 04 will cut them."""
    bad = np.zeros(p.rows, dtype=bool)
    for column in p.contract().values():
        bad |= column.stray
    if p.time is not None:
        bad |= np.isnat(p.time.rows())
    p.quarantined = int(bad.sum())
    frame = _labelled(p, ~bad)
    p.labelled = len(frame)
    if p.labelled < LEAST_ROWS:
        raise DataError(
            f"{p.table}: the target {p.target.name} is known in {p.labelled} rows, expected at least {LEAST_ROWS}"
        )
    found = [counts for shares in SPLITS if (counts := _cut(frame, shares, p)) is not None]
    best = next((each for each in found if each[1].to_numpy().min() >= ENOUGH), None)
    best = best or max(found, key=lambda each: each[1].to_numpy().min(), default=None)
    least = 0 if best is None else int(best[1].to_numpy().min())
    if best is None or least < 1:
        if p.time is None or given:
            raise _no_split(p, best)
        _forget_time(p)
        _choose_split(p, given)
        return
    p.split, counts = best
    p.parts = {str(name): int(size) for name, size in counts.sum().items()}
    p.min_rarest = min(20, least)
    if least < 20:
        p.doubts.append(
            f"only {least} rows{' of the rarest class' if p.classes else ''} in the smallest part of the split, so all "
            "scores are uncertain: metrics.split.min_rarest"
        )
    if p.time is not None:
        times = p.time.rows()[~np.isnat(p.time.rows())]
        p.months = (pd.Period(times.max(), "M") - pd.Period(times.min(), "M")).n + 1
        p.partitioned = 2 <= p.months <= 240


def _cut(
    frame: pd.DataFrame, shares: tuple[float, float], p: Proposal
) -> tuple[tuple[float, float], pd.DataFrame] | None:
    """Return how many rows of each class fall into each part; None where a part would be empty."""
    stated = {
        "time": p.time and p.time.name, "group": p.group, "key": p.key, "target": p.target.name, "task": p.task,
        "classes": p.classes or None,
    }  # fmt: skip
    params = metrics.Params.model_validate(
        {
            "primary": PRIMARY[p.task],
            "split": {"validation": shares[0], "holdout": shares[1]},
            "bootstrap": {"replicates": 200, "level": 0.95, "seed": 1},
        }
    )
    try:
        part = metrics.part_of(frame, metrics.split(frame, params, stated), stated)
    except DataError:
        return None
    kinds = frame[p.target.name].astype(int) if p.classes else pd.Series(0, index=frame.index)
    kinds = pd.Categorical(kinds, range(max(len(p.classes), 1)))
    return shares, pd.crosstab(kinds, pd.Categorical(part, metrics.PARTS), dropna=False)


def _forget_time(p: Proposal) -> None:
    """Do without a time that was found, not asked for, as the split by it would lack a class somewhere."""
    name = p.time.name if p.time else ""
    p.doubts = [doubt for doubt in p.doubts if not doubt.startswith(f"{name} is taken as the time")]
    p.doubts.append(f"{name} is no time to split by: some classes would be in one part only: problem.time")
    p.time = None


def _no_split(p: Proposal, best: tuple[tuple[float, float], pd.DataFrame] | None) -> DataError:
    empty = list(np.flatnonzero((best[1].to_numpy() < 1).any(axis=1))) if best and p.classes else []
    what = f"{', '.join(repr(p.classes[row]) for row in empty)} of {p.target.name}" if len(empty) else "all rows"
    advice = "init again with --time none, or pool classes" if p.time else "pool classes, or init with another --id"
    return DataError(f"{p.table}: {what} would be missing in a part of the split; {advice}")


def _labelled(p: Proposal, sound: np.ndarray) -> pd.DataFrame:
    """Return the rows with an outcome, as ``metrics.labelled`` will: key, time, group, encoded target."""
    by_name = p.contract()
    columns = {name: np.arange(1, p.rows + 1) if name == p.number else by_name[name].rows() for name in p.key}
    columns |= {name: by_name[name].rows() for name in p.group or []}
    if p.time is not None:
        columns[p.time.name] = p.time.rows()
    if p.classes:
        position = {name: number for number, name in enumerate(p.classes)}
        texts = [np.nan if pd.isna(value) else position[as_class(value, p.target)] for value in p.target.values]
        columns[p.target.name] = np.array(texts, dtype="float64")[p.target.codes]
    else:
        columns[p.target.name] = p.target.rows()
    frame = pd.DataFrame(columns)
    return frame[sound & frame[p.target.name].notna()].reset_index(drop=True)


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


def _note_doubts(p: Proposal) -> None:
    every = {**p.contract(), **feature_columns(p)}
    for column in dict.fromkeys(id(column) for column in every.values()):
        one = next(other for other in every.values() if id(other) == column)
        if one is p.time or one.kind in ("number", "category", "timestamp"):
            p.doubts += [doubt for doubt in one.doubts if one.raw not in p.left]
        lone = inference.sentinel(one) if one.kind == "number" else None
        if lone is not None:
            p.doubts.append(f"{one.name} is {lone:g} in many rows, far from all others; if it means not known, add it: processing.missing")  # fmt: skip
    if p.time is not None and np.isnat(p.time.rows()).any() and not p.time.stray.any():
        rows = int(np.isnat(p.time.rows()).sum())
        p.doubts.append(
            f"{p.time.name} is missing in {rows:,} rows, which go to quarantine: processing.max_quarantined"
        )
    if p.task != "regression" and p.target.type == "string":
        alike = pd.Series(p.classes).groupby([name.strip().lower() for name in p.classes]).agg(list)
        for names in alike[alike.map(len) > 1]:
            p.doubts.append(f"{', '.join(map(repr, names))} are different classes; if they are one, mend the source: problem.classes")  # fmt: skip
    if p.target.missing:
        p.doubts.append(f"{p.target.name} is not known in {p.target.missing:,} rows; they are described, and not learned from: problem.target")  # fmt: skip

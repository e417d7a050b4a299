"""Choose the task of a target, its classes, and the event."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ninefold.errors import DataError
from ninefold.init.columns import Column
from ninefold.init.proposal import Proposal, Wish
from ninefold.problem import PRIMARY

MOST_CLASSES = 30
FEW_VALUES = 20  # whole numbers, up to which they could be classes
LEAST_CLASS = 3  # rows of a class, under which no part of the split can hold one
EVENTS = {"yes", "y", "true", "t", "1", "positive", "pos", "event", "fraud", "spam", "churn", "churned", "default", "late", "bad", "dead", "died", "sick", "malignant", "fail", "failed", "failure", "returned", "cancelled", "canceled", "left"}  # fmt: skip
NO_EVENTS = {"no", "n", "false", "f", "0", "negative", "neg", "none", "ham", "good", "ok", "benign", "healthy", "alive", "normal", "stayed", "on time", "retained", "pass", "passed"}  # fmt: skip
LABEL_NAME = re.compile(r"class|label|type|categor|species|grade|segment|cluster|kind|group|level|digit|cover", re.I)
COUNT_NAME = re.compile(r"count|number|num|qty|quantity|quality|rating|score|stars|age|days|n_|rings|rooms|visits|points", re.I)  # fmt: skip


def choose_task(p: Proposal, wish: Wish) -> None:
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
        p.focus = _event(p)
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
        raise DataError(f"{p.table}: the target {column.name} is always {only!r}{gaps}; there is nothing to predict")
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
    p.warnings.append(
        f"{column.name} holds {len(values)} whole numbers, taken as "
        f"{'classes' if task == 'multiclass' else 'quantities'}; else init again with --task {other}: problem.task"
    )
    return task


def _event(p: Proposal) -> str:
    """Return the class that is the event: the one whose word says so, else the rarer one."""
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
    p.warnings.append(f"the event is {rarer!r}, the rarer value of {p.target.name}: problem.classes (the second)")
    return rarer

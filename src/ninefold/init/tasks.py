"""Choose the task of a target, its classes, the event, and the shares of the split, so that each part holds every class."""

import functools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ninefold import metrics
from ninefold.errors import DataError
from ninefold.init.columns import WORDS, Column, called
from ninefold.init.proposal import LEAST_ROWS, SPLITS, Proposal, Wish
from ninefold.init.spelling import folded
from ninefold.problem import PRIMARY, Problem
from ninefold.sentences import render

MOST_CLASSES = 30
FEW_VALUES = 20  # whole numbers, up to which they could be classes
MOST_MONTHS = 1200  # that the raw table is cut into
PILED = 0.02  # share of rows at the least or the largest quantity, from which on it may stand for another thing
LEAST_CLASS = 3  # rows of a class, under which no part of the split can hold one
ENOUGH = 5  # rows of the rarest class in each part, for which the rest is better left to training


def choose_task(p: Proposal, wish: Wish) -> None:
    """Settle the task, and of classes their order and which of them is looked at."""
    column, sizes, where = p.target, p.target.sizes(), f"{p.table}: the target {p.target.name}"
    if column.kind == "missing":
        raise DataError(f"{where} is missing in every row; choose a column that is known")
    if len(sizes) < 2:
        facts = {"value": next(iter(sizes), "nothing"), "missing": column.missing, "rows": p.rows}
        raise DataError(render("init", "one_value", where=where, **facts))
    if column.kind == "timestamp":
        raise DataError(f"{where} holds times, expected a class or a number; add a column such as the days until then")
    numbers = column.kind in ("number", "identifier") and column.type != "string"
    p.task = wish.task if wish.task != "auto" else _task(p, column, sizes, numbers)
    if p.task not in PRIMARY:
        raise DataError(f"--task: found {p.task!r}, expected auto, {', '.join(PRIMARY)}")
    if p.task == "regression":
        if not numbers:
            shown = ", ".join(repr(text) for text in column.texts[~column.gap][:3])
            raise DataError(f"{where} holds texts such as {shown}, expected numbers for --task regression")
        p.target = p.columns[column.name] = replace(column, kind="number", type="float64")
        return
    if numbers and all(float(value).is_integer() for value in sizes):
        column = replace(column, type="int64")
    p.target = p.columns[column.name] = replace(column, kind="category")
    p.sizes = {_as_class(value, column): size for value, size in sizes.items()}
    p.classes = list(p.sizes)
    _demand_classes(p, where)
    if p.task == "binary":
        p.focus = _event(p)
        p.classes.sort(key=lambda name: name == p.focus)
    else:
        rest = [*({folded(name) for name in p.classes} - {*WORDS["events"], *WORDS["no_events"]})]
        is_short = len(p.classes) == 3 and len(rest) == 1 and re.fullmatch(r"\D{1,2}", rest[0])  # U beside Y and N
        unsure = [name for name in p.classes if folded(name) in [*WORDS["unanswered"], *(rest if is_short else [])]]
        if unsure:
            p.warn("unanswered", p.target.name, unsure=unsure)
        enough = [name for name, size in p.sizes.items() if size >= 0.05 * sum(p.sizes.values()) and name not in unsure]
        p.focus = min(reversed(enough or p.classes), key=lambda name: p.sizes[name])


def _demand_classes(p: Proposal, where: str) -> None:
    """Refuse too many classes, classes of too few rows, and any but two for a binary target."""
    values = f"{where} holds {len(p.classes):,} values, such as {', '.join(map(repr, p.classes[:3]))}"
    if p.task == "binary" and len(p.classes) != 2:
        raise DataError(f"{values}, expected two for --task binary; use --task multiclass, or a column of yes and no")
    if len(p.classes) > MOST_CLASSES:
        told = {note.kind for note in p.target.warnings}
        remedies = {
            "ranges": "write the middle of each range, as a number",
            "marks": "write them as numbers without marks",
        }
        remedy = next((remedies[kind] for kind in remedies if kind in told), "pool rare ones")
        raise DataError(f"{values}, expected at most {MOST_CLASSES} classes; {remedy}, or choose another target")
    if rare := ", ".join(f"{name!r} ({size})" for name, size in p.sizes.items() if size < LEAST_CLASS):
        raise DataError(render("init", "rare_classes", where=where, rare=rare, least=LEAST_CLASS))


def _as_class(value: Any, column: Column) -> str:
    """Return a value of the target as the lake's value is written as text."""
    return str(int(value)) if column.type == "int64" else str(value)


def _task(p: Proposal, column: Column, sizes: dict[Any, int], numbers: bool) -> str:
    """Return the task that a target suggests: binary of two values, multiclass of texts.

    Whole numbers are classes if they run from 0 or 1 without a gap to at most 10 values and either are called like classes,
    or are not called like counts and each has 5 % of the rows. All other numbers are quantities.
    """
    if len(sizes) == 2:
        return "binary"
    values = list(sizes)
    if not numbers:
        words = {folded(value) for value in values}
        numbered = {match[0] for value in values if (match := re.match(r"\W{0,2}\d+", value))}
        has_degrees = {re.sub(WORDS["degrees"], "", word) for word in words} < words
        if words <= {*WORDS["scale"]} or has_degrees or len(numbered) == len(values):
            p.warn("scale", column.name)
        return "multiclass"
    if len(values) > FEW_VALUES or not all(float(value).is_integer() for value in values):
        is_share, is_often_0 = values[0] >= 0 and values[-1] <= 1, sizes.get(0.0, 0) > 0.1 * sum(sizes.values())
        if is_share or is_often_0:
            p.warn("share", column.name, is_share=is_share)
        inner, total = max(sizes[value] for value in values[1:-1]), sum(sizes.values())
        for end in values[:: len(values) - 1]:
            if sizes[end] > max(5 * inner, PILED * total) and not (is_often_0 and end == 0):
                p.warn("piled", column.name, value=end, rows=sizes[end])
        return "regression"
    run = values[0] in (0, 1) and len(values) <= 10 and values[-1] - values[0] == len(values) - 1
    even = min(sizes.values()) >= 0.05 * sum(sizes.values()) and not called(column.name, "count")
    task = "multiclass" if run and (even or called(column.name, "label")) else "regression"
    p.warn("whole_numbers", column.name, task=task, values=values)
    return task


def _event(p: Proposal) -> str:
    """Return the class that is the event: the one whose word says so, else the rarer one."""
    words = {name: folded(name) for name in p.classes}
    if "1" in words.values() and set(words.values()) != {"0", "1"}:
        words = dict.fromkeys(p.classes, "")  # of 1 and 2, neither says what it is
    for events, place in ((WORDS["affirmations"] + WORDS["events"], 0), (WORDS["no_events"], 1)):
        said = sorted(p.classes, key=lambda name: words[name] not in events)
        if sum(word in events for word in words.values()) == 1:
            return said[place]
    for one, other in (p.classes, reversed(p.classes)):
        if re.fullmatch(rf"(non|not|no|un)[\W_]*{re.escape(words[other])}", words[one]):
            return other
    rarer = min(reversed(p.classes), key=lambda name: p.sizes[name])
    p.warn("rarer", p.target.name, rarer=rarer)
    return rarer


def choose_split(p: Proposal, time_is_named: bool) -> bool:
    """Settle partitions and split: parts that hold enough of every class and day or entity, as stage 04 will cut them.

    Return False, with a warning, if a time that is not named leaves too few of these, so that it is none to split by.
    """
    bad = functools.reduce(np.logical_or, (column.stray for column in p.contract().values()))
    if p.time is not None:
        bad |= np.isnat(p.time.rows())
    p.quarantined = int(bad.sum())
    frame = _labelled(p, ~bad)
    p.labelled = len(frame)
    if p.labelled < LEAST_ROWS:
        raise DataError(render("init", "few_labelled", p=p, least=LEAST_ROWS))
    cuts = {shares: cut for shares in SPLITS if (cut := _cut(frame, shares, p)) is not None}
    rows = {shares: int(counts.to_numpy().min()) for shares, (counts, _) in cuts.items()}
    few = {shares: clusters < metrics.LEAST_CLUSTERS for shares, (_, clusters) in cuts.items()}
    best = min(cuts, key=lambda each: (not rows[each], few[each], -min(rows[each], ENOUGH)), default=SPLITS[0])
    (counts, clusters), least = cuts.get(best, (pd.DataFrame(), 0)), rows.get(best, 0)
    if not least and p.time is not None and p.label_delay != "0h":  # of a few days, one is too many to purge
        p.label_delay = "0h"
        return choose_split(p, time_is_named)
    if p.time is not None and not time_is_named and (not least or few[best]):
        p.warn("no_split", p.time.name, clusters=clusters, least=metrics.LEAST_CLUSTERS)
        return False
    if not least:
        empty = counts.index[(counts < 1).any(axis=1)] if p.classes else []
        raise DataError(render("init", "empty_part", p=p, classes=[p.classes[row] for row in empty]))
    p.split, p.min_rarest = best, min(20, least)
    p.parts = {str(name): int(size) for name, size in counts.sum().items()}
    if few[best]:
        p.warn("few_clusters", clusters=clusters, least=metrics.LEAST_CLUSTERS)
    if least < 20:
        p.warn("few_rows", rows=least)
    if p.time is not None:
        months = int(np.ptp(p.time.times().astype("datetime64[M]")).astype(int)) + 1
        p.partitioned = months <= MOST_MONTHS
        if not p.partitioned:
            p.warn("many_months", p.time.name, months=months)
    return True


def _cut(frame: pd.DataFrame, shares: tuple[float, float], p: Proposal) -> tuple[pd.DataFrame, int] | None:
    """Return how many rows of each class fall into each part, and the clusters of the holdout; None if a part is empty."""
    time, target = p.time.name if p.time else None, p.target.name
    known: dict[str, Any] = {"group": p.group, "key": p.key, "task": p.task, "classes": p.classes}
    problem = Problem.model_construct(time=time, target=target, label_delay=p.label_delay, **known)
    split = {"validation": shares[0], "holdout": shares[1]}
    params = metrics.Params.model_validate({"primary": PRIMARY[p.task], "split": split, "level": 0.95})
    try:
        part = metrics.part_of(frame, metrics.split(frame, params, problem), problem)
    except DataError:
        return None
    kinds = frame[target].astype(int) if p.classes else pd.Series(0, index=frame.index)
    kinds = pd.Categorical(kinds, range(max(len(p.classes), 1)))
    clusters = metrics.count_clusters(metrics.clusters(frame[part == "holdout"], problem))
    return pd.crosstab(kinds, pd.Categorical(part, metrics.PARTS), dropna=False), clusters


def _labelled(p: Proposal, sound: np.ndarray) -> pd.DataFrame:
    """Return the rows with an outcome, as ``metrics.labelled`` will: key, time, group, encoded target."""
    by_name = p.contract()
    columns = {name: np.arange(1, p.rows + 1) if name == p.number else by_name[name].rows() for name in p.key}
    columns |= {name: by_name[name].rows() for name in p.group or []}
    columns |= {p.time.name: p.time.rows()} if p.time is not None else {}
    frame = pd.DataFrame({**columns, p.target.name: encoded(p)})
    return frame[sound & frame[p.target.name].notna()].reset_index(drop=True)


def encoded(p: Proposal) -> np.ndarray:
    """Return the position of each row's class, or its quantity, float64; NaN where it is not known."""
    if not p.classes:
        return p.target.rows().astype("float64")
    position = [np.nan if pd.isna(each) else p.classes.index(_as_class(each, p.target)) for each in p.target.values]
    return np.array(position, dtype="float64")[p.target.codes]

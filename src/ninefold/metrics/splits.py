"""Rows with a known outcome, and their split into train, validation and holdout."""

import ibis
import numpy as np
import pandas as pd

from ninefold import artifacts, engine
from ninefold.errors import DataError, ParamsError
from ninefold.metrics.plan import Params, Split
from ninefold.metrics.resampling import COPIES
from ninefold.params import load
from ninefold.problem import MEANING, Problem, decisions
from ninefold.sentences import render
from ninefold.timestamps import as_days, local, midnight

PARTS = ("train", "validation", "holdout")
PURGED = "purged"
SALT = "0123456789123456"  # 16 characters that fix the hash by which rows without time are split


def labelled(problem: Problem, columns: list[str] | None = None, copies: bool = False) -> pd.DataFrame:
    """Return the rows of the lake whose outcome is known, by time, the target encoded as by `decisions.outcome`.

    `columns` are those beside key, time, group and target, by default all; `DataError` if one, or any outcome, is missing.
    With `copies`, ``@copies`` (int64) is the same in rows that are equal in all but key, target, `exploration.known_later`.
    """
    where, target = f"data/lake/{problem.table}", problem.target
    table = engine.read(engine.local(), where)
    needed = [*problem.key, problem.time, *(problem.group or []), target, *(columns or [])]
    names = list(dict.fromkeys(name for name in needed if name))
    artifacts.require(table, names, where)
    other = {*table.columns} - {*problem.key, target, *(load("exploration").known_later if copies else ())}
    if copies and other:
        table = table.mutate(ibis.struct({name: table[name] for name in sorted(other)}).hash().name(COPIES))
        names.append(COPIES)
    table = table.mutate(decisions.outcome(table[target], problem).name(target))
    order = list(dict.fromkeys(name for name in (problem.time, *problem.key) if name))
    table = table.filter(*(table[name].notnull() for name in (target, problem.time) if name)).order_by(order)
    frame = (table if columns is None else table.select(*names)).to_pandas()
    if frame.empty:
        classes = f"; of classes {', '.join(problem.classes)}" if problem.classes else ""
        raise DataError(f"{where}: no row has an outcome in {target}{classes}; there is nothing to learn from")
    return frame


def outcomes(problem: Problem, params: Params) -> pd.DataFrame:
    """Return what `split` needs of the labelled rows; `ParamsError` if primary metric or time zone do not fit."""
    if params.primary not in (known := MEANING[problem.task]):
        expected = f"expected for task {problem.task}: {', '.join(known)}"
        raise ParamsError(f"metrics.primary: found {params.primary!r}, {expected}")
    frame, zone = labelled(problem, [], copies=not problem.time and not problem.group), problem.timezone
    if problem.time and zone != "UTC" and (frame[problem.time] == frame[problem.time].dt.normalize()).all():
        raise ParamsError(f"problem.timezone: found {zone!r}, expected UTC: {problem.time} holds dates without hours")
    return frame


def split(frame: pd.DataFrame, params: Params, problem: Problem) -> Split:
    """Return how rows are split: by time where local days begin, else by a hash of the entity, else by one of the key.

    Hashes are uniform, so that their boundaries are the shares themselves: a row stays in its part when others arrive. Copies
    (``@copies``) go with the first of them by key, unless different rows are so few, under the square root of all, that equal
    ones are to be expected. Raises `DataError` if a part would be empty.
    """
    share = [1 - params.split.holdout - params.split.validation, 1 - params.split.holdout]
    if problem.time:
        rows = problem.local_days(frame).value_counts().sort_index().cumsum() / len(frame)
        days = [rows.index[rows.searchsorted(part)].date().isoformat() for part in share]
        points = Split(by="time", validation=days[0], holdout=days[1])
    else:
        (validation, holdout), copies = (round(part, 9) for part in share), _copies(frame, problem)
        points = Split(by="group" if problem.group else "rows", validation=validation, holdout=holdout, copies=copies)
    if empty := [name for name in PARTS if name not in part_of(frame, points, problem)]:
        raise DataError(render("metrics", "empty", parts=empty, rows=len(frame), by=points.by))
    return points


def part_of(frame: pd.DataFrame, split: Split, problem: Problem, before: str = "holdout") -> np.ndarray:
    """Return the part of the split of each row: ``train``, ``validation`` or ``holdout``; or ``purged``.

    Purged rows lie `before` a part, but by `Problem.known_before` their outcome is not known when it begins: none is fitted
    to or chosen by. The rows need the time; or, where the split is not by time, the group or the key.
    """
    begins, by_time = [split.validation, split.holdout], split.by == "time"
    values = problem.local_times(frame) if by_time else entity_hash(frame, problem, split)
    number = np.searchsorted(pd.to_datetime(begins) if by_time else begins, values.to_numpy(), side="right")
    part = np.array(PARTS, dtype=object)[number]
    if by_time:
        begins_at = midnight(pd.Series([pd.Timestamp(getattr(split, before))]), problem.timezone)[0]  # in UTC
        late = local(frame[problem.time], "UTC") > problem.known_before(begins_at)
        part[(number < PARTS.index(before)) & late] = PURGED
    return part


def entity_hash(frame: pd.DataFrame, problem: Problem, split: Split | None = None) -> pd.Series:
    """Return a hash of the entity or key of each row (with a `split`, a copy's is its original's): float64, uniform over 0-1."""
    columns = [frame[name] for name in problem.group or problem.key]
    # As text, 1, 1.0 and "1" are the same, and so are a time and its days since 1970: a key may be a feature, too.
    plain = [as_days(each) if pd.api.types.is_datetime64_any_dtype(each) else each for each in columns]
    names = pd.concat([each.astype("str").str.removesuffix(".0").str.lower() for each in plain], axis=1)
    hashes = pd.util.hash_pandas_object(names, index=False, hash_key=SALT, categorize=False)
    own = pd.Series(hashes.to_numpy() / 2.0**64, index=frame.index)
    return own.map(dict(split.copies)).fillna(own) if split and split.copies else own


def _copies(frame: pd.DataFrame, problem: Problem) -> tuple[tuple[float, float], ...]:
    if COPIES not in frame or frame[COPIES].nunique() ** 2 < len(frame):
        return ()
    own = entity_hash(frame.sort_values(problem.key), problem)
    first = own.groupby(frame[COPIES]).transform("first")
    return tuple(zip(own[own != first].tolist(), first[own != first].tolist(), strict=True))

"""Choose the shares of the split, so that each part holds rows of every class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ninefold import metrics
from ninefold.errors import DataError
from ninefold.init.proposal import LEAST_ROWS, SPLITS, Proposal
from ninefold.init.tasks import as_class
from ninefold.problem import PRIMARY, Problem

ENOUGH = 5  # rows of the rarest class in each part, for which the rest is better left to training


def choose_split(p: Proposal, time_is_named: bool) -> None:
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
    candidates = [counts for shares in SPLITS if (counts := _cut(frame, shares, p)) is not None]
    best = next((each for each in candidates if each[1].to_numpy().min() >= ENOUGH), None)
    best = best or max(candidates, key=lambda each: each[1].to_numpy().min(), default=None)
    least = 0 if best is None else int(best[1].to_numpy().min())
    if best is None or least < 1:
        if p.time is None or time_is_named:
            raise _no_split(p, best)
        _forget_time(p)
        choose_split(p, time_is_named)
        return
    p.split, counts = best
    p.parts = {str(name): int(size) for name, size in counts.sum().items()}
    p.min_rarest = min(20, least)
    if least < 20:
        p.warnings.append(
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
    known: dict[str, Any] = {
        "time": p.time.name if p.time else None, "group": p.group, "key": p.key, "target": p.target.name, "task": p.task,
        "classes": p.classes,
    }  # fmt: skip
    problem = Problem.model_construct(**known)
    params = metrics.Params.model_validate(
        {
            "primary": PRIMARY[p.task],
            "split": {"validation": shares[0], "holdout": shares[1]},
            "bootstrap": {"replicates": 200, "level": 0.95, "seed": 1},
        }
    )
    try:
        part = metrics.part_of(frame, metrics.split(frame, params, problem), problem)
    except DataError:
        return None
    kinds = frame[p.target.name].astype(int) if p.classes else pd.Series(0, index=frame.index)
    kinds = pd.Categorical(kinds, range(max(len(p.classes), 1)))
    return shares, pd.crosstab(kinds, pd.Categorical(part, metrics.PARTS), dropna=False)


def _forget_time(p: Proposal) -> None:
    """Drop a time that was guessed, because a split by it would lack a class in some part."""
    name = p.time.name if p.time else ""
    p.warnings = [warning for warning in p.warnings if not warning.startswith(f"{name} is taken as the time")]
    p.warnings.append(f"{name} is no time to split by: some classes would be in one part only: problem.time")
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

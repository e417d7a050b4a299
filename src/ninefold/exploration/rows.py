"""The rows before the holdout: the user's columns, and what intervals and the leak screen need to know of each row."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts, timestamps
from ninefold.errors import DataError, ParamsError
from ninefold.exploration import univariate
from ninefold.exploration.params import Params, Related
from ninefold.metrics import COPIES, EvaluationPlan, clusters, entity_hash, labelled, part_of
from ninefold.problem import Problem, decisions

LABEL, CLUSTER = "label", "cluster"  # columns of `Rows.own`
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


class Rows:
    """A DataFrame of labelled rows, such as `read` returns, with the context that every analysis of it needs.

    `df` may get further columns at any time. `outcome` is the encoded target, `own` has the ``label`` (`decisions.event`,
    float64) and the ``cluster`` (int64 from 0) of each row, `clock` its local time, `part` its part of the split.
    """

    def __init__(self, df: pd.DataFrame, params: Params, problem: Problem, plan: EvaluationPlan) -> None:
        self.df, self.params, self.problem, self.plan, self.level = df, params, problem, plan, plan.level
        target = df[problem.target]
        self.outcome = (target.cat.codes if problem.task == "multiclass" else target).to_numpy()
        copies = {COPIES: entity_hash(df, problem, plan.split)} if plan.split.copies else {}
        label, cluster = decisions.event(self.outcome, problem), clusters(df.assign(**copies), problem)
        self.own = pd.DataFrame({LABEL: label, CLUSTER: cluster}, df.index)

    @cached_property
    def clock(self) -> pd.Series:
        """The local time of each row."""
        return self.problem.local_times(self.df)

    @cached_property
    def part(self) -> np.ndarray:
        """The part of the split of each row."""
        return part_of(self.df, self.plan.split, self.problem)

    @property
    def columns(self) -> list[str]:
        """The columns that could become features."""
        return [name for name in self.df if name != self.problem.target]

    @property
    def least(self) -> int:
        """The fewest rows of a group that is shown: ``min_rows``, or a hundredth of the rows, 10 to 500."""
        return self.params.min_rows or int(np.clip(len(self.df) // 100, 10, 500))


def read(params: Params, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the labelled rows before the holdout, with every column that could become a feature.

    The table's columns, of classes the target as 1 for the event, else 0, of several classes as a category of their names;
    ``weekday``, ``hour``, ``month`` of the local clock where its time tells them and it has none; ``<table>.<column>`` of
    each related table. Raises `DataError` if a table lacks a column that the params name, or a related one has several rows
    for one key.
    """
    if params.leak_score is not None and params.leak_score <= univariate.guess(problem):
        score = f"found {params.leak_score:g}, which guessing reaches"
        raise ParamsError(f"exploration.leak_score: {score}; expected more, such as 0.995, or null")
    frame = labelled(problem)
    frame = frame[part_of(frame, plan.split, problem) != "holdout"].reset_index(drop=True)
    if problem.task == "multiclass":
        frame[problem.target] = pd.Categorical.from_codes(frame[problem.target], problem.classes)
    parts = time_parts(problem.local_times(frame))
    calendar = {name: parts[name] for name in [*parts][:2] if name != "year" and name not in frame}
    frame = pd.concat([frame, pd.DataFrame(calendar, index=frame.index)], axis=1)
    for name, related in params.related.items():
        frame = _join(frame, name, related)
    for key in ("by", "known_later", "justified"):
        where = f"data/lake/{problem.table}, for exploration.{key}"
        artifacts.require(frame.drop(columns=problem.target), getattr(params, key), where)
    return frame


def time_parts(clock: pd.Series) -> dict[str, Any]:
    """Return what the local time tells of a row, by name, as fine as the times are: weekday, hour, month and year."""
    if clock.isna().all():
        return {}
    weekday = pd.Categorical.from_codes(clock.dt.day_of_week, WEEKDAYS, ordered=True)
    parts = {"weekday": weekday, "hour": clock.dt.hour, "month": clock.dt.month, "year": clock.dt.year}
    if (clock - clock.dt.normalize()).nunique() > 2:  # two: one time of the day, in summer and in winter
        return parts
    del parts["hour"]
    if timestamps.days_of(clock) > 1:  # all on one weekday, or days that stand for months
        del parts["weekday"]
        return parts if clock.dt.month.nunique() > 1 else {}
    return parts


def _join(frame: pd.DataFrame, name: str, related: Related) -> pd.DataFrame:
    where = f"data/lake/{name}"
    artifacts.require(frame, related.key, f"the rows, for exploration.related.{name}.key")
    table = artifacts.read_table(where, list(dict.fromkeys([*related.key, *related.columns])))
    if table.duplicated(related.key).any():
        key = ", ".join(related.key)
        raise DataError(f"{where}: has several rows for one {key}; exploration.related.{name}.key must identify a row")
    renamed = table[related.columns].add_prefix(f"{name}.")
    return frame.merge(pd.concat([table[related.key], renamed], axis=1), how="left", on=related.key)

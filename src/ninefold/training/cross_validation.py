"""Fit models and predict unseen rows: folds in order of time, by entity, or stratified by class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from ninefold.features import FeatureSchema
from ninefold.metrics import LEAST_CLUSTERS
from ninefold.problem import Problem, decisions
from ninefold.training.conformal import WithInterval

LEAST_STOPPING = 20  # rows of the rarest class, under which boosting does not stop early
FOLD = "@fold"  # the column that numbers the fold in which a row was predicted


class Fold(NamedTuple):
    """Positions of the rows that a model is fitted on, and of those that it then predicts."""

    fitted: np.ndarray
    unseen: np.ndarray


def fit(
    model: BaseEstimator, rows: pd.DataFrame, schema: FeatureSchema, problem: Problem, cores: int = -1
) -> BaseEstimator:
    """Return a copy of the model, fitted on the rows, in so many threads (-1: one per core)."""
    fresh, target = clone(model), rows[problem.target]
    for each in getattr(fresh, "models", [fresh]):
        stopping = [name for name in each.get_params() if name.endswith("classifier__early_stopping")]
        if stopping and target.value_counts().min() < LEAST_STOPPING:
            each.set_params(**dict.fromkeys(stopping, False))  # it would need validation rows of each class
    with parallel_config(backend="threading", n_jobs=cores):
        return fresh.fit(rows[schema.all], target)


def predict(model: BaseEstimator, rows: pd.DataFrame, schema: FeatureSchema, problem: Problem) -> pd.DataFrame:
    """Return the predictions of a fitted model, a row per row; see `decisions.forecast_columns`.

    Of a regressor without an interval, low, high and quantile are its prediction.
    """
    X, names = rows[schema.all], decisions.forecast_columns(problem)
    if problem.is_class:
        p = np.zeros((len(rows), len(problem.classes)))
        p[:, np.asarray(model.classes_, dtype=int)] = model.predict_proba(X)
        return pd.DataFrame(p[:, 1:] if problem.task == "binary" else p, columns=names)
    if isinstance(model, WithInterval):
        return model.forecast(X)
    value = np.asarray(model.predict(X), dtype="float64")
    return pd.DataFrame({name: 0.0 if name == "loss" else value for name in names})


def by_time(rows: pd.DataFrame, newest: int, count: int, gap: pd.Timedelta, problem: Problem) -> list[Fold]:
    """Return folds of which each is predicted from the rows before it, the oldest first (rolling origin).

    Tashman, Out-of-sample tests of forecasting accuracy, 2000.

    Parameters
    ----------
    rows : DataFrame
        With the time of the problem.
    newest : int
        Rows of the last fold, the newest ones; folds before it are about as long, and begin with a day.
    count : int
        Folds at most; one with fewer rows before it than in it, or one outcome there, is left out, and all before it.
    gap : Timedelta
        Rows so close before a fold are not fitted on: their outcomes are not known by then.
    """
    times = rows[problem.time]
    ordered = np.sort(times.to_numpy())
    days = times.dt.normalize().nunique() >= LEAST_CLUSTERS * (count + 1)
    ends, folds = [pd.Timestamp(ordered[-1]) + pd.Timedelta(1, "us")], []
    for number in range(1, count + 1):
        if number * newest >= len(rows):
            break
        start = pd.Timestamp(ordered[len(rows) - number * newest])
        start = start.normalize() if days and number > 1 else start  # the validation part begins as planned
        fitted = np.flatnonzero(times < start - gap)
        unseen = np.flatnonzero((times >= start) & (times < ends[-1]))
        if len(fitted) < len(unseen) or rows[problem.target].iloc[fitted].nunique() < 2 or not len(unseen):
            break
        folds.append(Fold(fitted, unseen))
        ends.append(start)
    return folds[::-1]


def at_random(rows: pd.DataFrame, count: int, seed: int, problem: Problem) -> list[Fold]:
    """Return folds in which every row is predicted once: entities stay whole, classes are stratified."""
    group = rows.groupby(problem.group, dropna=False).ngroup() if problem.group else None
    count = min(count, len(rows) if group is None else group.nunique())
    if problem.is_class:
        count = max(2, min(count, rows[problem.target].value_counts().min()))
        kind = StratifiedKFold if group is None else StratifiedGroupKFold
        split = kind(count, shuffle=True, random_state=seed).split(rows, rows[problem.target], group)
    elif group is None:
        split = KFold(count, shuffle=True, random_state=seed).split(rows)
    else:
        split = GroupKFold(count).split(rows, groups=group)
    return [Fold(*pair) for pair in split]


def unseen(rows: pd.DataFrame, folds: list[Fold]) -> pd.DataFrame:
    """Return the rows that the folds predict, in the order of `forecast`, with ``@fold``."""
    parts = pd.concat([rows.iloc[fold.unseen] for fold in folds], ignore_index=True)
    parts[FOLD] = np.repeat(np.arange(len(folds)), [len(fold.unseen) for fold in folds])
    return parts


def forecast(
    model: BaseEstimator,
    rows: pd.DataFrame,
    folds: list[Fold],
    schema: FeatureSchema,
    problem: Problem,
    cores: int = -1,
) -> pd.DataFrame:
    """Return the predictions for the unseen rows of each fold, by a copy of the model that is fitted on its other rows."""
    parts = [
        predict(fit(model, rows.iloc[fold.fitted], schema, problem, cores), rows.iloc[fold.unseen], schema, problem)
        for fold in folds
    ]
    return pd.concat(parts, ignore_index=True)


def subsample(folds: list[Fold], share: float) -> list[Fold]:
    """Return the folds with a share of their rows, every n-th."""
    step = max(round(1 / share), 1)
    return [Fold(fold.fitted[::step], fold.unseen[::step]) for fold in folds]


def growing(fold: Fold, shares: tuple[float, ...], seed: int, problem: Problem) -> Iterator[Fold]:
    """Yield a fold with growing shares of the rows to fit on: the newest ones where there is time, else random ones."""
    order = fold.fitted if problem.time else np.random.default_rng(seed).permutation(fold.fitted)
    for share in shares:
        yield Fold(np.sort(order[-max(int(len(order) * share), 1) :]), fold.unseen)

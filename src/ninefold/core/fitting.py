"""Fit models and forecast rows that they have not seen: folds in order of time, by entity, or within classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from ninefold.core import decisions
from ninefold.core.estimators import WithInterval
from ninefold.core.scores import LEAST_BLOCKS

LEAST_STOPPING = 20  # rows of the rarest class, under which boosting does not stop early
FOLD = "@fold"  # the column that numbers the fold in which a row was forecast


class Fold(NamedTuple):
    """Positions of the rows that a model is fitted on, and of those that it then forecasts."""

    fitted: np.ndarray
    unseen: np.ndarray


def fit(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any], cores: int = -1
) -> BaseEstimator:
    """Return a copy of the model, fitted on the rows; trees grow side by side on so many cores (-1: all)."""
    fresh, target = clone(model), rows[stated["target"]]
    for each in getattr(fresh, "models", [fresh]):
        stopping = [name for name in each.get_params() if name.endswith("classifier__early_stopping")]
        if stopping and target.value_counts().min() < LEAST_STOPPING:
            each.set_params(**dict.fromkeys(stopping, False))  # some rows of each class have to be held out for it
    with parallel_config(backend="threading", n_jobs=cores):
        return fresh.fit(rows[signed["all"]], target)


def predict(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> pd.DataFrame:
    """Return the forecast of a fitted model, a row per row.

    A regressor that has no intervals yet is taken at its word: low, high and quantile are its prediction.
    """
    X, names = rows[signed["all"]], decisions.forecast_columns(stated)
    if decisions.is_class(stated):
        p = np.zeros((len(rows), len(stated["classes"])))
        p[:, np.asarray(model.classes_, dtype=int)] = model.predict_proba(X)
        return pd.DataFrame(p[:, 1:] if stated["task"] == "binary" else p, columns=names)
    if isinstance(model, WithInterval):
        return model.forecast(X)
    value = np.asarray(model.predict(X), dtype="float64")
    return pd.DataFrame({name: 0.0 if name == "loss" else value for name in names})


def by_time(rows: pd.DataFrame, newest: int, count: int, gap: pd.Timedelta, stated: dict[str, Any]) -> list[Fold]:
    """Return folds of which each is forecast by what came before it, the oldest first (rolling origin).

    Tashman, Out-of-sample tests of forecasting accuracy, 2000.

    Parameters
    ----------
    rows : DataFrame
        With the time of the problem.
    newest : int
        The last fold are so many of the newest rows; those before it are about as long, and begin with a day.
    count : int
        Folds at most; one without as many rows before it as in it, or with one outcome there, is left out.
    gap : Timedelta
        What lies so close before a fold is not fitted on: its outcome is not known by then.
    """
    times = rows[stated["time"]]
    ordered = np.sort(times.to_numpy())
    days = times.dt.normalize().nunique() >= LEAST_BLOCKS * (count + 1)
    ends, found = [pd.Timestamp(ordered[-1]) + pd.Timedelta(1, "us")], []
    for number in range(1, count + 1):
        if number * newest >= len(rows):
            break
        start = pd.Timestamp(ordered[len(rows) - number * newest])
        start = (
            start.normalize() if days and number > 1 else start
        )  # that of the validation part is where it was agreed
        fitted = np.flatnonzero(times < start - gap)
        unseen = np.flatnonzero((times >= start) & (times < ends[-1]))
        if len(fitted) < len(unseen) or rows[stated["target"]].iloc[fitted].nunique() < 2 or not len(unseen):
            break
        found.append(Fold(fitted, unseen))
        ends.append(start)
    return found[::-1]


def at_random(rows: pd.DataFrame, count: int, seed: int, stated: dict[str, Any]) -> list[Fold]:
    """Return folds in which every row is forecast once: no entity in two of them, in each the classes in their shares."""
    group = rows.groupby(stated["group"], dropna=False).ngroup() if stated["group"] else None
    count = min(count, len(rows) if group is None else group.nunique())
    if decisions.is_class(stated):
        count = max(2, min(count, rows[stated["target"]].value_counts().min()))
        kind = StratifiedKFold if group is None else StratifiedGroupKFold
        split = kind(count, shuffle=True, random_state=seed).split(rows, rows[stated["target"]], group)
    elif group is None:
        split = KFold(count, shuffle=True, random_state=seed).split(rows)
    else:
        split = GroupKFold(count).split(rows, groups=group)
    return [Fold(*pair) for pair in split]


def unseen(rows: pd.DataFrame, folds: list[Fold]) -> pd.DataFrame:
    """Return the rows that the folds forecast, in the order in which `forecast` forecasts them, with ``@fold``."""
    parts = [rows.iloc[fold.unseen].assign(**{FOLD: number}) for number, fold in enumerate(folds)]
    return pd.concat(parts, ignore_index=True)


def forecast(
    model: BaseEstimator,
    rows: pd.DataFrame,
    folds: list[Fold],
    signed: dict[str, list[str]],
    stated: dict[str, Any],
    cores: int = -1,
) -> pd.DataFrame:
    """Return what copies of a model, each fitted on its fold, forecast for the rows that they have not seen."""
    found = [
        predict(fit(model, rows.iloc[fold.fitted], signed, stated, cores), rows.iloc[fold.unseen], signed, stated)
        for fold in folds
    ]
    return pd.concat(found, ignore_index=True)


def thinned(folds: list[Fold], share: float) -> list[Fold]:
    """Return the folds with a share of their rows, spread evenly over each."""
    step = max(round(1 / share), 1)
    return [Fold(fold.fitted[::step], fold.unseen[::step]) for fold in folds]


def growing(fold: Fold, shares: tuple[float, ...], seed: int, stated: dict[str, Any]) -> Iterator[Fold]:
    """Yield a fold with more and more of the rows to fit on: where there is time the newest ones, else drawn at random."""
    order = fold.fitted if stated["time"] else np.random.default_rng(seed).permutation(fold.fitted)
    for share in shares:
        yield Fold(np.sort(order[-max(int(len(order) * share), 1) :]), fold.unseen)

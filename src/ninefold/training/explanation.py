"""Explain single predictions: the contribution of each feature, by Shapley values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.problem import decisions

Predict = Callable[[pd.DataFrame], np.ndarray]

MOST_CELLS = 4_000_000  # of a table that is predicted at once, for the memory of a laptop
PERMUTATIONS = 4  # orders drawn for each background row
COLUMNS = ["row", "feature", "value", "contribution", "standard_error", "base"]


def explain(
    predict: Predict,
    rows: pd.DataFrame,
    background: pd.DataFrame,
    columns: Sequence[str],
    seed: int,
    dates: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the Shapley values of predictions: the contribution of each feature, for each of a few rows.

    An unknown feature has the value of a background row; the contribution is the change of the prediction when it becomes
    known, averaged over background rows and orders (Strumbelj and Kononenko, Explaining prediction models and individual
    predictions with feature contributions, 2014, section 3.2). Each order is followed by its reverse, as in shap's
    PermutationExplainer, which is exact for models whose features interact in pairs at most. ``base`` and the
    contributions of a row sum to its prediction.

    Parameters
    ----------
    predict : callable
        From a DataFrame of `columns` to the prediction of each row (float64, shape (n,)).
    rows : DataFrame
        A few rows to explain; each takes ``8 * len(background) * (len(columns) - 1)`` predictions.
    background : DataFrame
        About 100 rows to compare with, such as training rows.
    columns : sequence of str
        The features, in the model's order.
    seed : int
        Of the orders. They do not depend on `rows`: an explanation of a row does not depend on the others.
    dates : sequence of str
        Features that are days since 1970-01-01, to be shown as dates.

    Returns
    -------
    DataFrame
        A line per row and feature: ``row`` (int64, the position), ``feature``, ``value`` (as text), ``contribution``,
        ``standard_error`` (of sampling the orders alone), ``base`` (the mean prediction of the background).

    Raises
    ------
    DataError
        If a column is missing, there are no rows or no background, or a prediction is not finite.
    """
    _require(rows, background, columns)
    rows, others = (table[list(columns)].reset_index(drop=True) for table in (rows, background))
    predictions, base = _predicted(predict, rows), _predicted(predict, others)
    place = _places(len(others), len(columns), seed)
    tables = []
    for number in range(len(rows)):
        pool = pd.concat([others, rows.iloc[[number]]], ignore_index=True)
        steps = _contributions(predict, pool, np.tile(base, PERMUTATIONS), predictions[number], place)
        by_order = steps.reshape(PERMUTATIONS, len(others), len(columns))
        variance = by_order.var(axis=0, ddof=1).sum(axis=0) / (len(others) ** 2 * PERMUTATIONS)
        texts = [as_text(rows[name].iloc[number], name in dates) for name in columns]
        values = (number, list(columns), texts, steps.mean(axis=0), np.sqrt(variance), base.mean())
        tables.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True))))
    return pd.concat(tables, ignore_index=True)


def as_text(value: Any, date: bool = False) -> str:
    """Return a value of a feature as text; with `date`, of days since 1970-01-01."""
    if pd.isna(value):
        return "missing"
    if date and not isinstance(value, pd.Timestamp):
        value = pd.Timestamp(0) + pd.Timedelta(days=float(value)).round("s")
    if isinstance(value, pd.Timestamp):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix(" 00:00:00")
    if isinstance(value, str | bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else decisions.number(number)


def _require(rows: pd.DataFrame, background: pd.DataFrame, columns: Sequence[str]) -> None:
    for name, table in (("rows to explain", rows), ("background", background)):
        artifacts.require(table, columns, name)
        if not len(table):
            raise DataError(f"{name}: found no row, expected at least one; give rows of the feature table")
    if not columns:
        raise DataError("columns: found none, expected the features of the model; give them in its order")


def _places(others: int, features: int, seed: int) -> np.ndarray:
    """Return the place of each feature in each order: int64, shape (PERMUTATIONS * others, features)."""
    ordered = np.tile(np.arange(features), (PERMUTATIONS * others, 1))
    return np.random.default_rng(seed).permuted(ordered, axis=1)


def _contributions(
    predict: Predict, pool: pd.DataFrame, start: np.ndarray, end: float, place: np.ndarray
) -> np.ndarray:
    """Return the contribution of each feature, the mean of each order and its reverse: shape (orders, features).

    `pool` holds the background rows, and last the row to explain; `start` is the prediction of the background row of each
    order, `end` that of the row to explain.
    """
    orders, count = place.shape
    value = np.empty((orders, 2, count + 1))
    value[:, :, 0], value[:, :, -1] = start[:, None], end
    size = max(1, MOST_CELLS // max(1, 2 * (count - 1) * count))
    for first in range(0, orders if count > 1 else 0, size):
        some = np.arange(first, min(first + size, orders))
        table = _coalitions(pool, some % (len(pool) - 1), place[some])
        value[some, :, 1:-1] = _predicted(predict, table).reshape(len(some), 2, count - 1)
    step = np.diff(value, axis=2)
    forward = np.take_along_axis(step[:, 0], place, axis=1)
    backward = np.take_along_axis(step[:, 1], count - 1 - place, axis=1)
    return (forward + backward) / 2


def _coalitions(pool: pd.DataFrame, other: np.ndarray, place: np.ndarray) -> pd.DataFrame:
    """Return rows between a background row and the last of the pool: for each order ``n - 1``, and for its reverse."""
    count = place.shape[1]
    forward = place[:, None, :] < np.arange(1, count)[:, None]
    known = np.concatenate([forward, ~forward[:, ::-1]], axis=1)
    source = np.where(known, len(pool) - 1, other[:, None, None]).reshape(-1, count)
    return pd.DataFrame({name: pool[name].array.take(source[:, number]) for number, name in enumerate(pool)})


def _predicted(predict: Predict, table: pd.DataFrame) -> np.ndarray:
    values = np.asarray(predict(table), dtype="float64")
    if values.shape != (len(table),) or not np.isfinite(values).all():
        raise DataError(
            f"predict: found values of shape {values.shape}, of which {int(np.isfinite(values).sum()):,} are finite; "
            f"expected {len(table):,} finite numbers; correct the function that is explained"
        )
    return values

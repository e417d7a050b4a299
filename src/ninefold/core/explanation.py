"""Why a forecast is what it is: the share of each feature in it, against rows to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ninefold.core import decisions, io
from ninefold.core.errors import DataError

Predict = Callable[[pd.DataFrame], np.ndarray]

MOST_CELLS = 4_000_000  # of a table that is predicted at once: what a laptop's memory holds with ease
COLUMNS = ["row", "feature", "value", "contribution", "standard_error", "base"]


def explain(
    predict: Predict,
    rows: pd.DataFrame,
    background: pd.DataFrame,
    columns: Sequence[str],
    seed: int,
    permutations: int = 4,
    dates: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the Shapley values of forecasts: the contribution of each feature, for each of a few rows.

    A feature that is not yet known has the value of a background row; the contribution is the change of the forecast
    when it becomes known, averaged over background rows and over orders of becoming known. Sampled after Strumbelj and
    Kononenko, Explaining prediction models and individual predictions with feature contributions, 2014, section 3.2; each
    order is followed by its reverse, as shap's PermutationExplainer does, so that a model whose features interact in
    pairs at most is explained exactly. Every background row meets equally many orders, so that ``base`` and the
    contributions of a row sum to its forecast.

    Parameters
    ----------
    predict : callable
        From a DataFrame of `columns` to the forecast of each row (float64, shape (n,)).
    rows : DataFrame
        What to explain; a few rows, for each takes ``2 * permutations * len(background) * (len(columns) - 1)``
        predictions, in a call for all of them unless `MOST_CELLS` asks for several.
    background : DataFrame
        Real rows to compare with, about 100, which are like those that the model will meet.
    columns : sequence of str
        The features, in the model's order.
    seed : int
        Of the orders. They do not depend on `rows`: a row is explained alike whatever stands beside it.
    permutations : int
        Orders drawn for each background row, at least 2 (of one no spread can be told).
    dates : sequence of str
        Features that are kept as days since 1970-01-01, to be shown as dates.

    Returns
    -------
    DataFrame
        A line per row and feature: ``row`` (int64, the position), ``feature``, ``value`` (as text), ``contribution``,
        ``standard_error`` (of the sampling of orders alone, not of the choice of background rows), ``base`` (the mean
        forecast of the background).

    Raises
    ------
    DataError
        If a column is missing, there are no rows or no background, orders are too few, or a forecast is not finite.
    """
    _demand(rows, background, columns, permutations)
    told, others = (table[list(columns)].reset_index(drop=True) for table in (rows, background))
    forecast, known = _predicted(predict, told), _predicted(predict, others)
    place = _places(len(others), len(columns), permutations, seed)
    tables = []
    for number in range(len(told)):
        pool = pd.concat([others, told.iloc[[number]]], ignore_index=True)
        spread = _contributions(predict, pool, np.tile(known, permutations), forecast[number], place)
        by_order = spread.reshape(permutations, len(others), len(columns))
        variance = by_order.var(axis=0, ddof=1).sum(axis=0) / (len(others) ** 2 * permutations)
        shown = [as_text(told[name].iloc[number], name in dates) for name in columns]
        found = (number, list(columns), shown, spread.mean(axis=0), np.sqrt(variance), known.mean())
        tables.append(pd.DataFrame(dict(zip(COLUMNS, found, strict=True))))
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


def _demand(rows: pd.DataFrame, background: pd.DataFrame, columns: Sequence[str], permutations: int) -> None:
    for name, table in (("rows to explain", rows), ("background", background)):
        io.require(table, columns, name)
        if not len(table):
            raise DataError(f"{name}: found no row, expected at least one; give rows of the feature table")
    if not columns:
        raise DataError("columns: found none, expected the features of the model; give them in its order")
    if permutations < 2:
        raise DataError(f"permutations: found {permutations}, expected at least 2; draw more orders")


def _places(others: int, features: int, permutations: int, seed: int) -> np.ndarray:
    """Return the place of each feature in each order: int64, shape (permutations * others, features)."""
    ordered = np.tile(np.arange(features), (permutations * others, 1))
    return np.random.default_rng(seed).permuted(ordered, axis=1)


def _contributions(
    predict: Predict, pool: pd.DataFrame, start: np.ndarray, end: float, place: np.ndarray
) -> np.ndarray:
    """Return the contribution of each feature in each order and its reverse, their mean: shape (orders, features).

    `pool` holds the background rows, and last the row to explain; `start` is the forecast of the background row of each
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
    """Return rows between a background row and the last of the pool: the first features of an order known, then one more.

    For each order ``n - 1`` rows, and as many for its reverse; the kinds of the columns stay as they are.
    """
    count = place.shape[1]
    forward = place[:, None, :] < np.arange(1, count)[:, None]
    known = np.concatenate([forward, ~forward[:, ::-1]], axis=1)
    source = np.where(known, len(pool) - 1, other[:, None, None]).reshape(-1, count)
    return pd.DataFrame({name: pool[name].array.take(source[:, number]) for number, name in enumerate(pool)})


def _predicted(predict: Predict, table: pd.DataFrame) -> np.ndarray:
    found = np.asarray(predict(table), dtype="float64")
    if found.shape != (len(table),) or not np.isfinite(found).all():
        raise DataError(
            f"predict: found values of shape {found.shape}, of which {int(np.isfinite(found).sum()):,} are finite; "
            f"expected {len(table):,} finite numbers; mend the function that is explained"
        )
    return found

"""What a finished model relies on: permutation importance, and Shapley values of single predictions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance

from ninefold.errors import DataError
from ninefold.metrics import one_score
from ninefold.problem import RANKING, decisions
from ninefold.sentences import render
from ninefold.training import cross_validation
from ninefold.training.cross_validation import Folds

Predict = Callable[[pd.DataFrame], np.ndarray]

MOST_CELLS = 4_000_000  # of a table that is predicted at once, for the memory of a laptop
PERMUTATIONS = 4  # orders drawn for each background row
MOST_SHUFFLED = 150_000  # rows times features that permutation importance predicts at most, per repeat
BACKGROUND = 100  # training rows that an explained prediction is compared with


def importance(model: BaseEstimator, rows: pd.DataFrame, folds: Folds) -> pd.DataFrame:
    """Return permutation importance (Breiman, 2001), of the ranking score, by ``feature``: ``loss`` and its ``std``."""
    schema, problem, params = folds.schema, folds.problem, folds.params
    most = max(MOST_SHUFFLED // len(schema.all), 500)
    sample = rows.sample(min(len(rows), params.importance_rows, most), random_state=params.seed)

    def ranking(fitted: BaseEstimator, X: pd.DataFrame, y: pd.Series) -> float:
        predicted = cross_validation.predict(fitted, X, schema, problem)
        return one_score(RANKING[problem.task], y.to_numpy(), predicted, problem)

    options = {"scoring": ranking, "n_repeats": 3, "random_state": params.seed}
    losses = permutation_importance(model, sample[schema.all], sample[problem.target], **options)
    table = pd.DataFrame({"feature": schema.all, "loss": losses.importances_mean, "std": losses.importances_std})
    return table.sort_values("loss", ascending=False, ignore_index=True)


def explained(model: Any, rows: pd.DataFrame, folds: Folds) -> pd.DataFrame:
    """Return what each feature adds to the predictions of a few rows, against training rows; see `explanation.explain`."""
    train, schema, params, problem = folds.train, folds.schema, folds.params, folds.problem

    def expected(frame: pd.DataFrame) -> np.ndarray:
        return decisions.expected(cross_validation.predict(model, frame, schema, problem), problem)

    background = train.sample(min(BACKGROUND, len(train)), random_state=params.seed)
    return explain(expected, rows[schema.all], background[schema.all], params.seed, schema.dates)


def explain(
    predict: Predict, rows: pd.DataFrame, background: pd.DataFrame, seed: int, dates: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the Shapley values of predictions: the contribution of each column, for each of a few rows.

    An unknown feature has the value of a background row; the contribution is the change of the prediction when it becomes
    known, averaged over background rows and orders (Strumbelj and Kononenko, 2014, section 3.2). Each order is followed by
    its reverse, as in shap's PermutationExplainer, which is exact for models whose features interact in pairs at most.
    `predict` returns predictions, float64, shape (n,), ``8 * len(background) * (columns - 1)`` for each of `rows`; DataError
    if one is not finite. `dates` are columns of days since 1970-01-01. Columns: ``row`` (position), ``feature``, ``value``
    (text), ``contribution``, ``standard_error`` (of sampling the orders), ``base`` (the background's mean prediction).
    """
    rows, others = (table.reset_index(drop=True) for table in (rows, background))
    columns, predictions, base = list(rows), _predicted(predict, rows), _predicted(predict, others)
    # The place of each feature in each order, shape (orders, features).
    ordered = np.tile(np.arange(len(columns)), (PERMUTATIONS * len(others), 1))
    place, tables = np.random.default_rng(seed).permuted(ordered, axis=1), []
    for number in range(len(rows)):
        pool = pd.concat([others, rows.iloc[[number]]], ignore_index=True)
        steps = _changes(predict, pool, np.tile(base, PERMUTATIONS), predictions[number], place)
        by_order = steps.reshape(PERMUTATIONS, len(others), len(columns))
        variance = by_order.var(axis=0, ddof=1).sum(axis=0) / (len(others) ** 2 * PERMUTATIONS)
        texts = [as_text(rows[name].iloc[number], name in dates) for name in columns]
        table = {"row": number, "feature": columns, "value": texts, "contribution": steps.mean(axis=0)}
        tables.append(pd.DataFrame({**table, "standard_error": np.sqrt(variance), "base": base.mean()}))
    return pd.concat(tables, ignore_index=True)


def as_text(value: Any, date: bool = False) -> str:
    """Return a value of a feature as text; with `date`, of days since 1970-01-01."""
    if pd.isna(value):
        return "missing"
    if date and not isinstance(value, pd.Timestamp):
        value = pd.Timestamp(0) + pd.Timedelta(days=float(value)).round("s")
    if isinstance(value, pd.Timestamp):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix(" 00:00:00")
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else decisions.number(number)


def _changes(predict: Predict, pool: pd.DataFrame, start: np.ndarray, end: float, place: np.ndarray) -> np.ndarray:
    """Return the contributions, shape (orders, features); `pool` is the background, and last the row to explain."""
    orders, count = place.shape
    value = np.empty((orders, 2, count + 1))
    value[:, :, 0], value[:, :, -1] = start[:, None], end
    size = max(1, MOST_CELLS // max(1, 2 * (count - 1) * count))
    for first in range(0, orders if count > 1 else 0, size):
        some = np.arange(first, min(first + size, orders))
        forward = place[some, None, :] < np.arange(1, count)[:, None]
        known = np.concatenate([forward, ~forward[:, ::-1]], axis=1)
        source = np.where(known, len(pool) - 1, (some % (len(pool) - 1))[:, None, None]).reshape(-1, count)
        table = pd.DataFrame({name: pool[name].array.take(source[:, each]) for each, name in enumerate(pool)})
        value[some, :, 1:-1] = _predicted(predict, table).reshape(len(some), 2, count - 1)
    step = np.diff(value, axis=2)
    forward = np.take_along_axis(step[:, 0], place, axis=1)
    backward = np.take_along_axis(step[:, 1], count - 1 - place, axis=1)
    return (forward + backward) / 2


def _predicted(predict: Predict, table: pd.DataFrame) -> np.ndarray:
    values = np.asarray(predict(table), dtype="float64")
    if values.shape != (len(table),) or not np.isfinite(values).all():
        finite = int(np.isfinite(values).sum())
        raise DataError(render("training", "not_finite", shape=values.shape, finite=finite, rows=len(table)))
    return values

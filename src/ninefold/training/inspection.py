"""Inspect a finished model: permutation importance, scores by group, and what features add to single predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance

from ninefold.features import FeatureSchema
from ninefold.metrics import one_score
from ninefold.problem import RANKING, Problem, decisions
from ninefold.training import cross_validation, explanation
from ninefold.training.params import Params

MOST_SHUFFLED = 150_000  # rows times features that permutation importance predicts at most, per repeat
BACKGROUND = 100  # training rows that an explained prediction is compared with
LEAST_ROWS = 30  # of a group


def importance(
    model: BaseEstimator, rows: pd.DataFrame, schema: FeatureSchema, problem: Problem, params: Params
) -> pd.DataFrame:
    """Return, per feature, by how much the ranking score falls when its values are shuffled: ``feature``, ``loss``, ``std``.

    Permutation importance (Breiman, 2001) on at most `params.importance_rows` rows, of the score `metric_names.RANKING`.
    Features that carry the same information share it: a low value does not mean that a feature is of no use.
    """
    most = max(MOST_SHUFFLED // len(schema.all), 500)
    sample = rows.sample(min(len(rows), params.importance_rows, most), random_state=params.seed)
    metric = RANKING[problem.task]

    def ranking(fitted: BaseEstimator, X: pd.DataFrame, y: pd.Series) -> float:
        return one_score(metric, y.to_numpy(), cross_validation.predict(fitted, X, schema, problem), problem)

    losses = permutation_importance(
        model, sample[schema.all], sample[problem.target], scoring=ranking, n_repeats=3, random_state=params.seed
    )
    table = pd.DataFrame({"feature": schema.all, "loss": losses.importances_mean, "std": losses.importances_std})
    return table.sort_values("loss", ascending=False, ignore_index=True)


def by_group(holdout: pd.DataFrame, predicted: pd.DataFrame, schema: FeatureSchema, problem: Problem) -> pd.DataFrame:
    """Return how well the model ranks within groups of at least 30 rows, worst first: ``group``, ``rows``, the score.

    The groups are the values of the first categorical feature, or quarters of the first number.
    """
    name, metric = [*schema.categorical, *schema.numeric, problem.target][0], RANKING[problem.task]
    values = holdout[name]
    if name not in schema.categorical:
        quarters = ["lowest quarter", "second", "third", "highest quarter"]
        values = pd.cut(values.rank(method="first", pct=True), np.linspace(0, 1, 5), labels=quarters)
    target, rows = holdout[problem.target].to_numpy(), []
    for group, index in holdout.groupby(values, observed=True).indices.items():
        if len(index) >= LEAST_ROWS and len(np.unique(target[index])) > 1:
            score = one_score(metric, target[index], predicted.iloc[index].reset_index(drop=True), problem)
            rows.append((f"{name}: {group}", len(index), score))
    return pd.DataFrame(rows, columns=["group", "rows", metric]).sort_values(metric, ignore_index=True)


def extremes(holdout: pd.DataFrame, predicted: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return three rows: those of the lowest, the median and the highest prediction."""
    order = np.argsort(decisions.expected(predicted, problem), kind="stable")
    return holdout.iloc[order[[0, len(order) // 2, -1]]].reset_index(drop=True)


def explained(
    model: BaseEstimator,
    rows: pd.DataFrame,
    train: pd.DataFrame,
    schema: FeatureSchema,
    params: Params,
    problem: Problem,
) -> pd.DataFrame:
    """Return what each feature adds to the predictions of a few rows, against training rows; see `explanation.explain`."""
    background = train.sample(min(BACKGROUND, len(train)), random_state=params.seed)

    def expected(frame: pd.DataFrame) -> np.ndarray:
        return decisions.expected(cross_validation.predict(model, frame, schema, problem), problem)

    return explanation.explain(
        expected, rows[schema.all], background[schema.all], schema.all, params.seed, schema.dates
    )

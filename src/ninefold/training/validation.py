"""Validate candidates on rows that they have not seen: the folds, the predictions, the learning curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan, one_score
from ninefold.problem import Problem
from ninefold.training import cross_validation
from ninefold.training.cross_validation import FOLD, Fold
from ninefold.training.params import Params

MOST_FOLDED = 20_000  # rows without time; of more, the validation part alone tells models apart
MOST_CELLS = 1_000_000  # rows times features that are folded where there is no time, or fitting takes many minutes
SHARES = (0.125, 0.25, 0.5)  # of the rows, for the learning curve, beside all
Parts = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Task:
    """What candidates are validated on.

    Attributes
    ----------
    rows : DataFrame
        Training and validation rows.
    folds : list of Fold
    schema, params, problem, plan
    """

    rows: pd.DataFrame
    folds: list[Fold]
    schema: FeatureSchema
    params: Params
    problem: Problem
    plan: EvaluationPlan

    @classmethod
    def of(cls, parts: Parts, schema: FeatureSchema, params: Params, problem: Problem, plan: EvaluationPlan) -> Self:
        """Return the task of open rows by part."""
        return cls(*folded(parts, schema, params, problem), schema, params, problem, plan)


def folded(parts: Parts, schema: FeatureSchema, params: Params, problem: Problem) -> tuple[pd.DataFrame, list[Fold]]:
    """Return all open rows, and the folds in which models are compared.

    With time, each fold is predicted from the rows before it, and the validation part is the last. Without, every row is
    predicted by models that are fitted on the other folds; if there are many rows, the validation part from the training
    part.
    """
    rows, newest = open_rows(parts), len(parts["validation"])
    if problem.time:
        folds = cross_validation.by_time(rows, newest, params.folds, pd.Timedelta(params.gap), problem)
        if folds:
            return rows, folds
    elif params.folds > 1 and len(rows) <= MOST_FOLDED and len(rows) * len(schema.all) <= MOST_CELLS:
        return rows, cross_validation.at_random(rows, params.folds, params.seed, problem)
    positions = np.arange(len(rows))
    return rows, [Fold(positions[:-newest], positions[-newest:])]


def validate(
    estimators: dict[str, BaseEstimator],
    parts: Parts,
    schema: FeatureSchema,
    params: Params,
    problem: Problem,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the rows on which candidates are compared, and each candidate's predictions for them, fitted on other rows.

    Returns
    -------
    rows : DataFrame
        With ``@fold``. By time where there is time, else in random order, so that their halves are alike.
    forecasts : dict of str to DataFrame
        Name -> predictions for those rows.
    """
    every, folds = folded(parts, schema, params, problem)
    rows = cross_validation.unseen(every, folds)
    forecasts = {
        name: cross_validation.forecast(model, every, folds, schema, problem) for name, model in estimators.items()
    }
    if problem.time:
        return rows, forecasts
    order = np.random.default_rng(params.seed).permutation(len(rows))
    shuffled = {name: forecast.iloc[order].reset_index(drop=True) for name, forecast in forecasts.items()}
    return rows.iloc[order].reset_index(drop=True), shuffled


def newest(rows: pd.DataFrame, predicted: pd.DataFrame, problem: Problem) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows and predictions that calibrate a model: those of the last fold where there is time, else all."""
    if not problem.time:
        return rows, predicted
    last = (rows[FOLD] == rows[FOLD].max()).to_numpy()
    return rows[last].reset_index(drop=True), predicted[last].reset_index(drop=True)


def finish(estimator: BaseEstimator, parts: Parts, schema: FeatureSchema, problem: Problem) -> BaseEstimator:
    """Return the chosen model, fitted on all open rows, training and validation."""
    return cross_validation.fit(estimator, open_rows(parts), schema, problem)


def learning_curve(estimator: BaseEstimator, rows: pd.DataFrame, predicted: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the primary metric on the last fold by how many rows the model is fitted on: ``rows``, ``score``.

    The newest rows before the fold where there is time, else random ones. `rows` and `predicted` are what `validate`
    returned: they hold the fold's predictions from all rows.
    """
    problem, metric, target, points = task.problem, task.plan.primary.name, task.rows[task.problem.target], []
    for fold in cross_validation.growing(task.folds[-1], SHARES, task.params.seed, problem):
        if target.iloc[fold.fitted].nunique() > 1:
            forecast = cross_validation.forecast(estimator, task.rows, [fold], task.schema, problem)
            points.append((len(fold.fitted), one_score(metric, target.to_numpy()[fold.unseen], forecast, problem)))
    last = (rows[FOLD] == rows[FOLD].max()).to_numpy()
    full = one_score(metric, rows.loc[last, problem.target].to_numpy(), predicted[last], problem)
    return pd.DataFrame([*points, (len(task.folds[-1].fitted), full)], columns=["rows", "score"])


def open_rows(parts: Parts) -> pd.DataFrame:
    """Return training and validation rows, in this order."""
    return pd.concat([parts["train"], parts["validation"]], ignore_index=True)

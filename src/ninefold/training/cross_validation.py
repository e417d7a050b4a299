"""Fit candidates and predict rows that they have not seen: in order of time, by entity, or stratified by class."""

from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from ninefold import timestamps
from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.metrics import COPIES, FOLD, LEAST_CLUSTERS, EvaluationPlan, one_score
from ninefold.problem import Problem, decisions
from ninefold.training.conformal import WithInterval
from ninefold.training.estimators import of_all_classes
from ninefold.training.params import Params

LEAST_STOPPING = 20  # rows of the rarest class, under which boosting does not stop early: it validates on each class
MOST_FOLDED = 20_000  # rows without time; of more, the validation part alone tells models apart
MOST_CELLS = 1_000_000  # rows times features that are folded where there is no time, or fitting takes many minutes
SHARES = (0.125, 0.25, 0.5)  # of the rows, for the learning curve, beside all
Parts = dict[str, pd.DataFrame]


class Fold(NamedTuple):
    """Positions of the rows that a model is fitted on, and of those that it then predicts."""

    fitted: np.ndarray
    unseen: np.ndarray


class Task(NamedTuple):
    """What candidates are validated on: training and validation rows in their folds."""

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


def fit(
    model: BaseEstimator, rows: pd.DataFrame, schema: FeatureSchema, problem: Problem, cores: int = -1
) -> BaseEstimator:
    """Return a copy of the model, fitted on the rows, in so many threads (-1: one per core)."""
    fresh, target = clone(model), rows[problem.target]
    if problem.is_class and target.value_counts().min() < LEAST_STOPPING:
        for each in getattr(fresh, "models", [fresh]):
            stopping = [name for name in each.get_params() if name.endswith("classifier__early_stopping")]
            each.set_params(**dict.fromkeys(stopping, False))
    with parallel_config(backend="threading", n_jobs=cores):
        return fresh.fit(rows[schema.all], target)


def predict(model: BaseEstimator, rows: pd.DataFrame, schema: FeatureSchema, problem: Problem) -> pd.DataFrame:
    """Return the predictions of a fitted model, a row per row; see `decisions.forecast_columns`."""
    X = rows[schema.all]
    if not problem.is_class:
        value = np.asarray(model.predict(X), dtype="float64")
        return model.around(value) if isinstance(model, WithInterval) else decisions.forecast(value, problem)
    p = of_all_classes(model.predict_proba(X), model.classes_, len(problem.classes))
    return decisions.forecast(p, problem)


def by_time(rows: pd.DataFrame, newest: int, count: int, problem: Problem) -> list[Fold]:
    """Return folds of which each is predicted from the rows before it, the oldest first (rolling origin).

    Tashman, Out-of-sample tests of forecasting accuracy, 2000. The last fold is the `newest` rows; at most `count` - 1 before
    it are about as long, and begin with a local day; one with fewer rows before it than in it, or one outcome there, ends the
    list. Outcomes that `Problem.known_before` leaves out when a fold begins are not fitted on; `DataError` without two.
    """
    times, midnight = rows[problem.time], timestamps.midnight(problem.local_times(rows), problem.timezone)
    ordered, days = times.sort_values(), midnight.nunique() >= LEAST_CLUSTERS * (count + 1)
    end, folds = ordered.iloc[-1] + pd.Timedelta(1, "us"), list[Fold]()
    for number in range(1, min(count, (len(rows) - 1) // newest) + 1):
        row = ordered.index[len(rows) - number * newest]
        start = (midnight if days and number > 1 else times)[row]  # the validation part begins as planned
        fitted = (times < start) & (times <= problem.known_before(start))
        fold = Fold(np.flatnonzero(fitted), np.flatnonzero((times >= start) & (times < end)))
        known = rows[problem.target].iloc[fold.fitted].nunique()
        if number == 1 and known < 2:
            found = f"{known} different outcomes known by {start:%Y-%m-%d}, after a problem.label_delay of {problem.label_delay}"
            raise DataError(f"training rows: found {found}; expected two: collect more, or change metrics.split")
        if number > 1 and (len(fold.fitted) < len(fold.unseen) or known < 2 or not len(fold.unseen)):
            break
        folds.append(fold)
        end = start
    return folds[::-1]


def at_random(rows: pd.DataFrame, count: int, seed: int, problem: Problem) -> list[Fold]:
    """Return folds in which every row is predicted once: entities, or copies, stay whole, classes are stratified."""
    together = problem.group or [name for name in rows.columns if name == COPIES]
    group = rows.groupby(together, dropna=False).ngroup() if together else None
    count = min(count, len(rows) if group is None else group.nunique())
    if problem.is_class:
        count = max(2, min(count, rows[problem.target].value_counts().min()))
        kind = StratifiedKFold if group is None else StratifiedGroupKFold
        splitter = kind(count, shuffle=True, random_state=seed)
    else:
        splitter = KFold(count, shuffle=True, random_state=seed) if group is None else GroupKFold(count)
    return [Fold(*pair) for pair in splitter.split(rows, rows[problem.target], group)]


def folded(parts: Parts, schema: FeatureSchema, params: Params, problem: Problem) -> tuple[pd.DataFrame, list[Fold]]:
    """Return training and validation rows, and the folds: `by_time`, `at_random`, or the validation part alone."""
    rows, newest = pd.concat([parts["train"], parts["validation"]], ignore_index=True), len(parts["validation"])
    if problem.time:
        return rows, by_time(rows, newest, params.folds, problem)
    if params.folds > 1 and len(rows) <= MOST_FOLDED and len(rows) * len(schema.all) <= MOST_CELLS:
        return rows, at_random(rows, params.folds, params.seed, problem)
    positions = np.arange(len(rows))
    return rows, [Fold(positions[:-newest], positions[-newest:])]


def forecast(
    model: Any, rows: pd.DataFrame, folds: list[Fold], schema: FeatureSchema, problem: Problem, cores: int = -1
) -> pd.DataFrame:
    """Return the predictions for the unseen rows of each ``@fold``, by a copy of the model fitted on its other rows."""
    parts = []
    for number, (fitted, unseen) in enumerate(folds):
        fresh = fit(model, rows.iloc[fitted], schema, problem, cores)
        parts.append(predict(fresh, rows.iloc[unseen], schema, problem).assign(**{FOLD: number}))
    return pd.concat(parts, ignore_index=True)


def validate(
    estimators: dict[str, BaseEstimator], parts: Parts, schema: FeatureSchema, params: Params, problem: Problem
) -> tuple[pd.DataFrame, Parts]:
    """Return the rows on which candidates are compared, and the predictions of each candidate, with ``@fold``."""
    every, folds = folded(parts, schema, params, problem)
    rows = every.iloc[np.concatenate([fold.unseen for fold in folds])]
    order = np.arange(len(rows)) if problem.time else np.random.default_rng(params.seed).permutation(len(rows))
    forecasts = {name: forecast(model, every, folds, schema, problem) for name, model in estimators.items()}
    ordered = {name: each.iloc[order].reset_index(drop=True) for name, each in forecasts.items()}
    return rows.iloc[order].reset_index(drop=True), ordered


def newest(rows: pd.DataFrame, predicted: pd.DataFrame, problem: Problem) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows and predictions that calibrate a model: those of the last fold where there is time, else all."""
    last = _last_fold(predicted) if problem.time else np.ones(len(rows), dtype=bool)
    return rows[last].reset_index(drop=True), predicted[last].drop(columns=FOLD).reset_index(drop=True)


def finish(estimator: BaseEstimator, parts: Parts, schema: FeatureSchema, problem: Problem) -> BaseEstimator:
    """Return the chosen model, fitted on all open rows, training and validation."""
    return fit(estimator, pd.concat([parts["train"], parts["validation"]], ignore_index=True), schema, problem)


def learning_curve(estimator: BaseEstimator, rows: pd.DataFrame, predicted: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the primary metric on the last fold by how many rows the model is fitted on: ``rows``, ``score``."""
    problem, metric, target, points = task.problem, task.plan.primary.name, task.rows[task.problem.target], []
    whole, tested = task.folds[-1]
    order = whole if problem.time else np.random.default_rng(task.params.seed).permutation(whole)
    for share in SHARES:
        fitted = np.sort(order[-max(int(len(order) * share), 1) :])
        if target.iloc[fitted].nunique() > 1:
            predictions = forecast(estimator, task.rows, [Fold(fitted, tested)], task.schema, problem)
            points.append((len(fitted), one_score(metric, target.to_numpy()[tested], predictions, problem)))
    last = _last_fold(predicted)
    full = one_score(metric, rows.loc[last, problem.target].to_numpy(), predicted[last], problem)
    return pd.DataFrame([*points, (len(whole), full)], columns=["rows", "score"])


def _last_fold(predicted: pd.DataFrame) -> np.ndarray:
    return (predicted[FOLD] == predicted[FOLD].max()).to_numpy()

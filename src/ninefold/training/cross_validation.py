"""Fit candidates and predict rows that they have not seen: in order of time, by entity, or stratified by class."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

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


class Folds:
    """Training and validation rows in their folds: a cross-validator for the ``cv`` of scikit-learn's functions.

    `pairs` are the folds: `by_time` with a purge of ``problem.label_delay``, `at_random`, or the validation part alone.
    """

    def __init__(self, parts: Parts, schema: FeatureSchema, params: Params, problem: Problem) -> None:
        self.rows = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
        self.train, self.schema, self.params, self.problem = parts["train"], schema, params, problem
        rows, newest = self.rows, len(parts["validation"])
        if problem.time:
            self.pairs = by_time(rows, newest, params.folds, problem)
        elif params.folds > 1 and len(rows) <= MOST_FOLDED and len(rows) * len(schema.all) <= MOST_CELLS:
            self.pairs = at_random(rows, params.folds, params.seed, problem)
        else:
            positions = np.arange(len(rows))
            self.pairs = [Fold(positions[:-newest], positions[-newest:])]

    def __repr__(self) -> str:
        rows = ", ".join(f"{len(fold.fitted):,} -> {len(fold.unseen):,}" for fold in self.pairs)
        return f"Folds({rows} rows)"

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the positions in `rows` that a model is fitted on, and that it predicts; `X` has as many rows."""
        if X is not None and len(X) != len(self.rows):
            raise DataError(f"cv: found {len(X):,} rows to split, expected the {len(self.rows):,} of its rows")
        yield from self.pairs

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return len(self.pairs)

    @cached_property
    def rarest(self) -> float:
        """The rows of the rarest class that a model is fitted on in any fold; infinite for quantities."""
        target = self.rows[self.problem.target]
        counts = [target.iloc[fold.fitted].value_counts().min() for fold in self.pairs]
        return min(counts) if self.problem.is_class else np.inf

    @cached_property
    def order(self) -> np.ndarray:
        """The order of predicted rows: as they come where there is time, else at random, so that a half is a sample."""
        count = sum(len(fold.unseen) for fold in self.pairs)
        return np.arange(count) if self.problem.time else np.random.default_rng(self.params.seed).permutation(count)

    @cached_property
    def unseen(self) -> pd.DataFrame:
        """The rows that are predicted, on which candidates are compared."""
        positions = np.concatenate([fold.unseen for fold in self.pairs])
        return self.rows.iloc[positions[self.order]].reset_index(drop=True)

    def predictions(self, fitted: Iterable[BaseEstimator]) -> pd.DataFrame:
        """Return the predictions for `unseen`, with ``@fold``, by the models fitted on each fold, as of `cross_validate`."""
        return self._in_order(_unseen(fitted, self.rows, self.pairs, self.schema, self.problem))

    def validate(self, models: dict[str, BaseEstimator]) -> Parts:
        """Return the predictions for `unseen` by name, with ``@fold``, of copies of the models fitted on each fold."""
        rest = self.rows, self.pairs, self.schema, self.problem
        return {name: self._in_order(forecast(model, *rest)) for name, model in models.items()}

    def _in_order(self, predicted: pd.DataFrame) -> pd.DataFrame:
        return predicted.iloc[self.order].reset_index(drop=True)

    def newest(self, predicted: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows and predictions that calibrate a model: those of the last fold where there is time, else all."""
        last = _last_fold(predicted) if self.problem.time else np.ones(len(self.unseen), dtype=bool)
        return self.unseen[last].reset_index(drop=True), predicted[last].drop(columns=FOLD).reset_index(drop=True)


def fit(
    model: BaseEstimator, rows: pd.DataFrame, schema: FeatureSchema, problem: Problem, cores: int = -1
) -> BaseEstimator:
    """Return a copy of the model, fitted on the rows, in so many threads (-1: one per core)."""
    fresh, target = clone(model), rows[problem.target]
    if problem.is_class and target.value_counts().min() < LEAST_STOPPING:
        without_stopping(fresh)
    with parallel_config(backend="threading", n_jobs=cores):
        return fresh.fit(rows[schema.all], target)


def without_stopping(model: BaseEstimator) -> None:
    """Let a model, or the members of a blend, not stop early."""
    for each in getattr(model, "models", [model]):
        stopping = [name for name in each.get_params() if name.endswith("classifier__early_stopping")]
        each.set_params(**dict.fromkeys(stopping, False))


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
            outcomes = f"{known} different outcomes known by {start:%Y-%m-%d}, after a problem.label_delay of {problem.label_delay}"
            raise DataError(f"training rows: found {outcomes}; expected two: collect more, or change metrics.split")
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


def forecast(
    model: Any, rows: pd.DataFrame, folds: list[Fold], schema: FeatureSchema, problem: Problem, cores: int = -1
) -> pd.DataFrame:
    """Return the predictions for the unseen rows of each ``@fold``, by a copy of the model fitted on its other rows."""
    fitted = (fit(model, rows.iloc[fold.fitted], schema, problem, cores) for fold in folds)
    return _unseen(fitted, rows, folds, schema, problem)


def learning_curve(model: BaseEstimator, predicted: pd.DataFrame, folds: Folds, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the primary metric on the last fold by how many rows the model is fitted on: ``rows``, ``score``."""
    problem, metric, points, (whole, tested) = folds.problem, plan.primary.name, [], folds.pairs[-1]
    target = folds.rows[problem.target]
    order = whole if problem.time else np.random.default_rng(folds.params.seed).permutation(whole)
    for share in SHARES:
        fitted = np.sort(order[-max(int(len(order) * share), 1) :])
        if target.iloc[fitted].nunique() > 1:
            predictions = forecast(model, folds.rows, [Fold(fitted, tested)], folds.schema, problem)
            points.append((len(fitted), one_score(metric, target.to_numpy()[tested], predictions, problem)))
    last = _last_fold(predicted)
    full = one_score(metric, folds.unseen.loc[last, problem.target].to_numpy(), predicted[last], problem)
    return pd.DataFrame([*points, (len(whole), full)], columns=["rows", "score"])


def _unseen(
    fitted: Iterable[BaseEstimator], rows: pd.DataFrame, folds: list[Fold], schema: FeatureSchema, problem: Problem
) -> pd.DataFrame:
    parts = [
        predict(model, rows.iloc[fold.unseen], schema, problem).assign(**{FOLD: number})
        for number, (model, fold) in enumerate(zip(fitted, folds, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


def _last_fold(predicted: pd.DataFrame) -> np.ndarray:
    return (predicted[FOLD] == predicted[FOLD].max()).to_numpy()

"""A score that is nearly perfect: the columns that carry it are leaks until they are explained."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold.exploration import question
from ninefold.gate import Check, holds
from ninefold.metrics import one_score
from ninefold.problem import title
from ninefold.training import cross_validation, explanation
from ninefold.training.cross_validation import Folds

LIMIT = 0.99  # ROC AUC, or R²; decisions that pay are seldom so predictable


def check(model: BaseEstimator, predicted: pd.DataFrame, folds: Folds, holdout: pd.DataFrame | None = None) -> Check:
    """Return the check that a model is not too good on rows that it had not seen.

    `predicted`: of `folds.unseen`; or of the `holdout`, by the fitted `model`, once that is opened. It passes if each feature
    that carries the score is in ``training.justified``.
    """
    problem, limit = folds.problem, folds.params.perfect_score or LIMIT
    metric, rows = "roc_auc" if problem.is_class else "r2", folds.unseen if holdout is None else holdout
    score = one_score(metric, rows[problem.target].to_numpy(), predicted, problem)
    where = "unseen rows" if holdout is None else "the holdout"
    what, expected = f"NF707 {title(metric)} on {where}, too good to be true", f"under {limit:g}"
    if not score >= limit:
        return holds(what, True, score, expected)
    if holdout is None:
        fold = folds.pairs[-1]
        rows = folds.rows.iloc[fold.unseen].reset_index(drop=True)
        model = cross_validation.fit(model, folds.rows.iloc[fold.fitted], folds.schema, problem)
    names = carriers(model, rows, limit, folds)
    undecided = [name for name in names if name not in folds.params.justified]
    if not undecided:
        return holds(what, True, f"{score:.3f}, explained by {', '.join(names)}", f"{expected}, or explained")
    return holds(what, False, f"{score:.3f}, by {', '.join(undecided)}", f"{expected}; {question(undecided)}")


def carriers(model: BaseEstimator, rows: pd.DataFrame, limit: float, folds: Folds) -> list[str]:
    """Return the fewest features, the most important first, with which a fitted model reaches the limit, the others shuffled."""
    problem, order = folds.problem, list(explanation.importance(model, rows, folds)["feature"])
    random, shuffled = np.random.default_rng(folds.params.seed), rows.copy()
    target, metric = rows[problem.target].to_numpy(), "roc_auc" if problem.is_class else "r2"
    for name in order:
        shuffled[name] = rows[name].iloc[random.permutation(len(rows))].to_numpy()
    for count, name in enumerate(order, 1):
        shuffled[name] = rows[name]
        predicted = cross_validation.predict(model, shuffled, folds.schema, problem)
        if one_score(metric, target, predicted, problem) >= limit:
            return order[:count]
    return order

"""A score that is nearly perfect: the columns that carry it are leaks until they are explained."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold import gate
from ninefold.exploration import question
from ninefold.metrics import one_score
from ninefold.problem import title
from ninefold.training import cross_validation, explanation
from ninefold.training.cross_validation import Folds

LIMIT = 0.99  # ROC AUC, or R²; decisions that pay are seldom so predictable


def check(model: BaseEstimator, predicted: pd.DataFrame, folds: Folds) -> gate.Check:
    """Return the check that a model is not too good on rows that it had not seen (none of the holdout).

    `predicted`: of `folds.unseen`. It passes if each feature that carries the score is in ``training.justified``.
    """
    problem, limit = folds.problem, folds.params.perfect_score or LIMIT
    metric = "roc_auc" if problem.is_class else "r2"
    score = one_score(metric, folds.unseen[problem.target].to_numpy(), predicted, problem)
    what, expected = f"{title(metric)} on unseen rows, too good to be true", f"under {limit:g}"
    if not score >= limit:
        return gate.holds(what, True, score, expected)
    names = carriers(model, metric, limit, folds)
    undecided = [name for name in names if name not in folds.params.justified]
    if not undecided:
        return gate.holds(what, True, f"{score:.3f}, explained by {', '.join(names)}", f"{expected}, or explained")
    return gate.holds(what, False, f"{score:.3f}, by {', '.join(undecided)}", f"{expected}; {question(undecided)}")


def carriers(estimator: BaseEstimator, metric: str, limit: float, folds: Folds) -> list[str]:
    """Return the fewest features, the most important first, that reach the limit on the last fold while others are shuffled."""
    rows, fold, schema, problem = folds.rows, folds.pairs[-1], folds.schema, folds.problem
    model = cross_validation.fit(estimator, rows.iloc[fold.fitted], schema, problem)
    unseen = rows.iloc[fold.unseen].reset_index(drop=True)
    order = list(explanation.importance(model, unseen, folds)["feature"])
    random, shuffled = np.random.default_rng(folds.params.seed), unseen.copy()
    target = unseen[problem.target].to_numpy()
    for name in order:
        shuffled[name] = unseen[name].iloc[random.permutation(len(unseen))].to_numpy()
    for count, name in enumerate(order, 1):
        shuffled[name] = unseen[name]
        if one_score(metric, target, cross_validation.predict(model, shuffled, schema, problem), problem) >= limit:
            return order[:count]
    return order
